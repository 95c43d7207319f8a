"""Carrying files in and out: what comes along, and what hostile sources and archives cannot do."""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
from functools import partial
from pathlib import Path

import pytest

from avfs_git.errors import AvfsError, HostError, InvalidInput, PathUnsuitable
from avfs_git.sdk import Vault, Workspace
from avfs_git.vfs.layer.sidecar import TIME_MAX_NS, TIME_MIN_NS
from avfs_git.workspace.files import transfer
from tests.support.steps import make_lower
from tests.support.trees import Described, describe_dir, describe_tree

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")


def below(view: dict[bytes, Described]) -> dict[bytes, Described]:
    """Leave out the root, and which names are links of one file."""
    return {path: (*entry[:4], None, entry[5]) for path, entry in view.items() if path}


def shown(work: Workspace) -> dict[bytes, Described]:
    """Describe what a workspace shows."""
    return below(describe_tree(work._opened.read_view(), times=True))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with one of everything."""
    place = tmp_path / "source"
    place.mkdir()
    make_lower(place)
    (place / "odd").write_bytes(b"0600\n")
    (place / "odd").chmod(0o600)
    (place / "closed").mkdir(mode=0o500)
    os.setxattr(place / "c", b"user.d", b"of a directory")
    os.utime(place / "closed", ns=(1, 1_234_567_890_123_456_789))
    return place


def test_import_and_export_keep_everything(work: Workspace, source: Path, tmp_path: Path) -> None:
    """Kinds, content, modes, times to the nanosecond and user attributes make the round trip, also of directories."""
    before = describe_dir(source, times=True)
    result = work.import_path(source)
    assert not result.warnings
    assert describe_dir(source, times=True) == before
    assert shown(work) == below(before)
    work.checkpoint()
    out = work.export_path("/", tmp_path / "out")
    assert (out.files, out.directories) == (result.files, result.directories)
    assert below(describe_dir(tmp_path / "out", times=True)) == below(before)


def test_no_repository_outside_of_what_is_carried_comes_with_it(work: Workspace, tmp_path: Path) -> None:
    """Git in the workspace would move the branches, or write to the files, that a `.git` names."""
    source = tmp_path / "source"
    for name in ("linked", "inside", "common", "away", "own"):
        (source / name).mkdir(parents=True)
    pointers = {"linked": b"gitdir: /elsewhere/.git/worktrees/linked\n", "inside": b"gitdir: ../own/.git\n"}
    for name, text in pointers.items():
        (source / name / ".git").write_bytes(text)
    for name, (file, content) in {
        "common": ("commondir", "/x"),
        "away": ("config", "[core]\n\tworktree = /x\n"),
    }.items():
        (source / name / ".git").mkdir()
        (source / name / ".git" / file).write_text(content)
    (source / "own" / ".git").mkdir()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in pointers:
            tar.add(source / name / ".git", f"tar/{name}/.git")
    archive.seek(0)

    warned = {found.path for found in (*work.import_path(source).warnings, *work.import_tar(archive).warnings)}

    assert warned == {b"linked/.git", b"common/.git", b"away/.git", b"tar/linked/.git"}
    assert work.read("inside/.git") == work.read("tar/inside/.git") == pointers["inside"]
    assert work.exists("own/.git")
    assert not any(work.exists(os.fsdecode(path)) for path in warned if path)


def test_export_of_a_directory_gives_it_its_own_mode(work: Workspace, tmp_path: Path) -> None:
    """A destination that is made takes mode and time of what is exported; one that is there keeps its own."""
    work.write("d/a", b"1")
    work.chmod("d", 0o750)
    work.touch("d", mtime_ns=1_111_111_111_000_000_001)
    work.export_path("d", tmp_path / "new")
    found = (tmp_path / "new").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o750, 1_111_111_111_000_000_001)
    (tmp_path / "old").mkdir(mode=0o700)
    work.export_path("d", tmp_path / "old")
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o700


def test_tar_round_trip(vault: Vault, work: Workspace, source: Path) -> None:
    """Through a tar archive come kinds, content, modes, names in bytes, and times to the nanosecond."""
    work.import_path(source)
    work.touch("a/a", mtime_ns=1_700_000_000_123_456_789)
    archive = io.BytesIO()
    packed = work.export_tar("/", archive)
    other = vault.fork("other", source="main")
    other.remove("a", recursive=True)
    archive.seek(0)
    unpacked = other.import_tar(archive, "in/here")
    assert unpacked.files == packed.files
    expected = {path: (*entry[:3], entry[5]) for path, entry in shown(work).items()}
    unpacked_view = {path: entry for path, entry in shown(other).items() if path.startswith(b"in/here/")}
    found = {path.removeprefix(b"in/here/"): (*entry[:3], entry[5]) for path, entry in unpacked_view.items()}
    assert found == expected


def test_repository_of_the_imported_directory_stays_outside(work: Workspace, source: Path) -> None:
    """The root's own `.git` is not imported into the root; one further down is."""
    (source / ".git").mkdir()
    (source / ".git" / "HEAD").write_bytes(b"x")
    (source / "b" / ".git").mkdir()
    work.import_path(source)
    assert not work.exists(".git")
    assert work.exists("b/.git")


def test_links_that_lead_out_come_along(work: Workspace, tmp_path: Path) -> None:
    """In both directions, and are named in a warning; nothing of what they lead to is read."""
    place = tmp_path / "source"
    (place / "d").mkdir(parents=True)
    (place / "d" / "up").symlink_to("../a")
    (place / "d" / "out").symlink_to("../../etc/passwd")
    (place / "absolute").symlink_to("/etc/passwd")
    (place / "round").symlink_to("d/../../x")
    os.mkfifo(place / "pipe")
    result = work.import_path(place)
    led_out = {("transfer.leads_out", path) for path in (b"d/out", b"absolute", b"round")}
    assert {(warning.code, warning.path) for warning in result.warnings} == {*led_out, ("transfer.left_out", b"pipe")}
    links = {b"d/up": b"../a", b"d/out": b"../../etc/passwd", b"absolute": b"/etc/passwd", b"round": b"d/../../x"}
    assert {path: work.read_link(path) for path in links} == links
    exported = work.export_path("", tmp_path / "out")
    assert {(warning.code, warning.path) for warning in exported.warnings} == led_out
    assert {path: os.readlink(os.fsencode(tmp_path / "out") + b"/" + path) for path in links} == links


def test_import_of_one_file(work: Workspace, tmp_path: Path) -> None:
    """A file goes to the path named, or into the directory that is there, with mode and time."""
    place = tmp_path / "f"
    place.write_bytes(b"1")
    place.chmod(0o750)
    os.utime(place, ns=(1, 1_234_567_890_123_456_789))
    work.make_dir("d")
    work.import_path(place, "d")
    work.import_path(place, "new/name")
    for path in ("d/f", "new/name"):
        info = work.stat(path)
        assert (work.read(path), info.mode & 0o777, info.mtime_ns) == (b"1", 0o750, 1_234_567_890_123_456_789)
    with pytest.raises(AvfsError):
        work.import_path(tmp_path / "missing")
    with pytest.raises(InvalidInput):
        work.import_path(tmp_path, recursive=False)


def test_depth_is_limited(work: Workspace, source: Path, tmp_path: Path) -> None:
    """`max_depth` counts levels below the root of what is carried."""
    work.import_path(source, max_depth=1)
    assert work.exists("a/a")
    assert not work.exists("a/b/a")
    work.import_path(source)
    work.export_path("/", tmp_path / "out", max_depth=0)
    assert (tmp_path / "out" / "a").is_dir()
    assert not (tmp_path / "out" / "a" / "a").exists()


def test_export_overwrites_only_when_asked(work: Workspace, tmp_path: Path) -> None:
    """What is at the destination stays, unless it is to be replaced; it is replaced itself, never what it links to."""
    work.write("a", b"new")
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "precious").write_bytes(b"old")
    (out / "a").symlink_to(tmp_path / "precious")
    with pytest.raises(PathUnsuitable):
        work.export_path("/", out)
    work.export_path("/", out, overwrite=True)
    assert (out / "a").read_bytes() == b"new"
    assert not (out / "a").is_symlink()
    assert (tmp_path / "precious").read_bytes() == b"old"


def test_export_goes_through_no_link_at_the_destination(work: Workspace, tmp_path: Path) -> None:
    """A directory that is a symbolic link at the destination is not followed out of it."""
    work.write("d/a", b"new")
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (out / "d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AvfsError):
        work.export_path("/", out, overwrite=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def _member(
    name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", data: bytes = b"", mode: int = 0o644
) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size, member.mode = kind, link, len(data), mode
    return member, data


def _archive(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    out.seek(0)
    return out


def test_hostile_archive(work: Workspace, tmp_path: Path) -> None:
    """Members that lead out, by name or through links, are left out and named; nothing outside is touched."""
    (tmp_path / "outside").write_bytes(b"precious")
    archive = _archive(
        _member("../escape", data=b"x"),
        _member("/absolute", data=b"inside after all"),
        _member("d/../../escape", data=b"x"),
        _member("link", tarfile.SYMTYPE, link="../.."),
        _member("rooted", tarfile.SYMTYPE, link=str(tmp_path)),
        _member("link/through", data=b"x"),
        _member("rooted/outside", data=b"x"),
        _member("rooted", data=b"x"),
        _member("good", tarfile.SYMTYPE, link="d"),
        _member("d/a", data=b"1", mode=0o6755),
        _member("good/through", data=b"by a link inside"),
        _member("hard", tarfile.LNKTYPE, link="d/a"),
        _member("hard-out", tarfile.LNKTYPE, link="../outside"),
        _member("device", tarfile.CHRTYPE),
        _member("pipe", tarfile.FIFOTYPE),
        _member("nul\0name", data=b"x"),
        _member("x" * 300, data=b"x"),
    )
    result = work.import_tar(archive)
    left = {warning.path for warning in result.warnings if warning.code == "transfer.left_out"}
    assert {
        b"../escape",
        b"d/../../escape",
        b"hard-out",
        b"device",
        b"pipe",
        b"link/through",
        b"rooted/outside",
    } <= left
    assert work.read_link("link") == b"../.."
    assert work.read("d/through") == b"by a link inside"
    assert work.read("hard") == b"1"
    assert work.read("absolute") == b"inside after all"
    assert work.stat("d/a").mode & 0o7777 == 0o755
    assert (tmp_path / "outside").read_bytes() == b"precious"
    assert not (tmp_path / "escape").exists()
    assert work.checkpoint().outcome == "created"


def test_archive_over_what_is_there(work: Workspace) -> None:
    """A file takes the place of a file or link.

    A member that would take a directory's place is an error, or is left out.
    """
    work.write("a", b"old")
    work.symlink("b", b"a")
    work.import_tar(_archive(_member("a", data=b"new"), _member("c", tarfile.SYMTYPE, link="a")))
    work.import_tar(_archive(_member("c", tarfile.SYMTYPE, link="b")))
    assert work.read("a") == b"new"
    assert work.read_link("c") == b"b"


def test_what_is_no_archive(work: Workspace) -> None:
    """Garbage and an archive that ends early are one clear error."""
    for data in (b"garbage" * 200, b"", _archive(_member("a", data=b"x" * 5000)).getvalue()[:2000]):
        with pytest.raises(AvfsError):
            work.import_tar(io.BytesIO(data))


@pytest.mark.parametrize("damage", ["a header", "cut in a header", "cut between files"])
def test_an_archive_that_is_damaged_is_no_shorter_one(work: Workspace, damage: str) -> None:
    """The files after the damage are missing: that is an error, and says that the others are there."""
    whole = bytearray(_archive(_member("a", data=b"x"), _member("b", data=b"x"), _member("c", data=b"x")).getvalue())
    second = 2 * tarfile.BLOCKSIZE
    if damage == "a header":
        whole[second + 5] ^= 1
    else:
        del whole[second + (100 if damage == "cut in a header" else 0) :]

    with pytest.raises(InvalidInput, match="no tar archive that can be read") as refused:
        work.import_tar(io.BytesIO(whole))
    assert "What was imported before that stays" in str(refused.value.hint)
    assert work.read("a") == b"x"


@pytest.mark.parametrize("text", ["1e300", "-1e300", "inf", "-inf", "nan", "9" * 18, "-" + "9" * 18 + ".5", "1e15"])
def test_a_time_that_no_file_can_have_is_the_nearest(work: Workspace, text: str) -> None:
    """An archive may name any number."""
    file, data = _member("a", data=b"x")
    file.pax_headers = {"mtime": text}
    work.import_tar(_archive((file, data), _member("b", data=b"y")))

    assert (work.read("a"), work.read("b")) == (b"x", b"y")
    assert TIME_MIN_NS <= work.stat("a").mtime_ns <= TIME_MAX_NS
    assert work.checkpoint().outcome == "created"


def test_a_hard_link_of_an_archive_takes_nothing_away(work: Workspace) -> None:
    """A link to itself, as GNU tar writes it, leaves the file; so does one to something that is not there."""
    work.write("old", b"kept")
    result = work.import_tar(
        _archive(
            _member("a", data=b"1"),
            _member("a", tarfile.LNKTYPE, link="a"),
            _member("old", tarfile.LNKTYPE, link="nowhere"),
        )
    )

    assert work.read("a") == b"1"
    assert work.read("old") == b"kept"
    assert [warning.path for warning in result.warnings] == [b"old"]


def test_an_export_that_fails_leaves_what_it_would_replace(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk the file at the destination stays, and nothing stands beside it."""
    work.write("file", b"new")
    (tmp_path / "out").mkdir()
    kept = tmp_path / "out" / "file"
    kept.write_bytes(b"the user's own")

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(transfer, "write_all", full)
        with pytest.raises(HostError):
            work.export_path("file", kept, overwrite=True)

    assert [(place.name, place.read_bytes()) for place in kept.parent.iterdir()] == [("file", b"the user's own")]
    work.export_path("file", kept, overwrite=True)
    assert kept.read_bytes() == b"new"


def test_a_link_that_cannot_be_made_takes_nothing_away(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk the file whose place a symbolic link is to take stays."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").symlink_to("elsewhere")
    work.write("file", b"not saved yet")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "symlink", full)
        archive = _archive(_member("file", tarfile.SYMTYPE, link="elsewhere"))
        for carry in (partial(work.import_path, source, "/", recursive=True), partial(work.import_tar, archive)):
            with pytest.raises(HostError):
                carry()
            assert work.read("file") == b"not saved yet"
    work.import_path(source, "/", recursive=True)

    assert work.read_link("file") == b"elsewhere"
    assert [info.path for info in work.list_dir()] == [b"file"]
