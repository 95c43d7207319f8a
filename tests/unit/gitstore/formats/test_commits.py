"""Commits: a round trip of what we write, tolerance for what others wrote."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from avfs_git.errors import InvalidInput, ObjectCorrupt
from avfs_git.gitstore.formats.commits import Commit, Links, Signature, parse_commit, parse_links, serialize_commit
from avfs_git.paths import Oid

TREE = Oid(bytes(range(20)))
PARENT = Oid(b"p" * 20)
SIDECAR = Oid(b"s" * 20)
OF = Oid(b"o" * 20)
ADA = Signature("Ada Author", "ada@example.org", 1_700_000_000, 90)
COMMIT = Commit(TREE, (PARENT, TREE), ADA, replace(ADA, offset_min=-330), "subject\n\nbody\n", SIDECAR)

HEAD = b"tree %b\n" % TREE.hex().encode()
PEOPLE = b"author A <a@b> 1 +0000\ncommitter C <c@d> 2 -0130\n"


def test_a_commit_is_written_as_git_has_it() -> None:
    """The sidecar stands in a header of its own after those of git."""
    assert serialize_commit(COMMIT).decode() == (
        f"tree {TREE.hex()}\nparent {PARENT.hex()}\nparent {TREE.hex()}\n"
        "author Ada Author <ada@example.org> 1700000000 +0130\n"
        "committer Ada Author <ada@example.org> 1700000000 -0530\n"
        f"avfs-sidecar {SIDECAR.hex()}\n\nsubject\n\nbody\n"
    )


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
signatures = st.builds(
    Signature,
    st.sampled_from(["Ada", "Żółć 鈴木"]),
    st.sampled_from(["a@b", "é@x"]),
    st.integers(0, 2**37),
    st.integers(-1439, 1439),
)


@given(
    st.builds(Commit, st.just(TREE), st.just((PARENT,)), signatures, signatures, text, st.sampled_from([None, SIDECAR]))
)
def test_commits_survive_writing_and_reading(commit: Commit) -> None:
    """What is written reads back the same."""
    assert parse_commit(serialize_commit(commit), OF) == commit


def test_foreign_headers_are_kept_and_written_again() -> None:
    """Signatures and headers of other programs pass through as they are, over several lines too."""
    extra = b"gpgsig -----BEGIN\n line\n \n end\nchange-id zyx\n"
    commit = parse_commit(HEAD + PEOPLE + extra + b"\nm", OF)

    assert commit.extra == ((b"gpgsig", b"-----BEGIN\nline\n\nend"), (b"change-id", b"zyx"))
    assert serialize_commit(commit) == HEAD + PEOPLE + extra + b"\nm"


def test_the_encoding_header_is_obeyed() -> None:
    """A message in another encoding is read in it and written in it."""
    data = HEAD + PEOPLE.replace(b"A <", b"\xe9 <") + b"encoding ISO-8859-1\n\ncaf\xe9\n"
    commit = parse_commit(data, OF)

    assert (commit.author.name, commit.message) == ("é", "café\n")
    assert serialize_commit(commit) == data


@pytest.mark.parametrize("encoding", [b"utf-16", b"utf-7", b"rot13", b"zlib", b"no-such", b"\xff", b""])
def test_an_encoding_that_could_hide_something_is_not_obeyed(encoding: bytes) -> None:
    """Unknown encodings, and those that do not keep ASCII, are read as UTF-8, nothing lost."""
    commit = parse_commit(HEAD + PEOPLE + b"encoding " + encoding + b"\n\ncaf\xe9\n", OF)

    assert commit.message == "caf\udce9\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"A U Thor <a@b> 5 +0100", Signature("A U Thor", "a@b", 5, 60)),
        (b"A <a@b> 5 -0030", Signature("A", "a@b", 5, -30)),
        (b" <a@b> 5 +0000", Signature("", "a@b", 5)),
        (b"A <a@b>", Signature("A", "a@b", 0)),
        (b"A <a@b> now", Signature("A", "a@b", 0)),
        (b"A <a@b> 5", Signature("A", "a@b", 5)),
        (b"A <a@b> 99999999999999999999999 +0000", Signature("A", "a@b", 0)),
        (b"A <a@b> 18446744073709551 +0000", Signature("A", "a@b", 0)),
        (b"A <a@b> 5 +9999", Signature("A", "a@b", 5)),
        (b"A", Signature("A", "", 0)),
        (b"\xff <\xfe> 5 +0000", Signature("\udcff", "\udcfe", 5)),
        (b"A <a@b>> 5 +0000", Signature("A", "a@b", 5)),
    ],
)
def test_a_broken_signature_is_read_as_far_as_it_goes(line: bytes, expected: Signature) -> None:
    """Authors of old and odd commits are shown as well as can be, and never stop a reading."""
    assert parse_commit(HEAD + b"author " + line + b"\ncommitter " + line + b"\n\nm", OF).author == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        PEOPLE + b"\nm",
        HEAD + b"\nm",
        HEAD + b"author A <a@b> 1 +0000\n\nm",
        b"tree nonsense\n" + PEOPLE + b"\nm",
        HEAD + b"parent 12\n" + PEOPLE + b"\nm",
        HEAD + PEOPLE + b"avfs-sidecar x\n\nm",
    ],
)
def test_what_is_no_commit_is_refused(data: bytes) -> None:
    """A commit without tree, author or committer, or with a link that is no id, is corrupt."""
    with pytest.raises(ObjectCorrupt):
        parse_commit(data, OF)


def test_a_commit_without_message_is_read() -> None:
    """Headers may be all there is."""
    assert parse_commit(HEAD + PEOPLE, OF).message == ""


@pytest.mark.parametrize(
    ("name", "email", "expected"),
    [
        ("A <B>", "x<y>@z\n", b"A B <xy@z>"),
        ("", "a@b", b"a@b <a@b>"),
        (" .,;<>\"'\\ ", "", b"unknown <>"),
        ("A\nB\0C", "a@b", b"ABC <a@b>"),
    ],
)
def test_names_that_git_cannot_keep_are_made_fit(name: str, email: str, expected: bytes) -> None:
    """Whatever a person is called, the line has the form that git demands."""
    person = Signature(name, email, -5, 99_999)

    assert b"\nauthor " + expected + b" 0 +2359\n" in serialize_commit(replace(COMMIT, author=person))


@pytest.mark.parametrize("message", ["a\0b", "\ud800"])
def test_a_message_that_git_cannot_keep_is_refused(message: str) -> None:
    """A NUL or half a character is an error of whoever wrote the message."""
    with pytest.raises(InvalidInput):
        serialize_commit(replace(COMMIT, message=message))


def test_bytes_that_are_no_text_come_back_as_they_were() -> None:
    """Surrogate escapes carry undecodable bytes through."""
    data = HEAD + PEOPLE + b"\nbytes \xff\xfe\n"

    assert serialize_commit(parse_commit(data, OF)) == data


@example(b"", b"avfs-sidecar", b"gpgsig x\n y\n")
@given(
    st.binary(max_size=60),
    st.binary(max_size=60),
    st.sampled_from([b"", b"gpgsig x\n y\n", b"encoding latin1\n", b"other x\n"]),
)
def test_links_are_those_of_the_whole_commit(before: bytes, after: bytes, more: bytes) -> None:
    """Whatever stands around them; what is no commit up to its committer is none in both."""
    for data in (
        serialize_commit(COMMIT),
        HEAD + before + PEOPLE + more + b"\n" + after,
        HEAD + b"parent %b\n" % PARENT.hex().encode() * 3 + PEOPLE + more + after,
        HEAD + b"author " + before + b"\ncommitter " + after + b" 12 +0000\n\n",
    ):
        try:
            links = parse_links(data, OF)
        except ObjectCorrupt:
            with pytest.raises(ObjectCorrupt):
                parse_commit(data, OF)
            continue
        try:
            commit = parse_commit(data, OF)
        except ObjectCorrupt:  # what is wrong stands behind the committer
            commit = parse_commit(data[: data.index(b"\n", data.index(b"\ncommitter ") + 1)], OF)
        assert links == Links(commit.parents, commit.committer.when_s)
