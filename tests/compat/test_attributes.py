"""Attributes against `git check-attr`, and merges that obey them against `git merge-tree` in a checkout of our side."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avfs_git.gitstore.formats.trees import EMPTY_TREE, MODE_FILE, MODE_SYMLINK
from avfs_git.gitstore.merge.choose import make_engine
from avfs_git.gitstore.merge.engine import EngineName
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.rules.attributes import TreeAttributes, Value, read_info_attributes
from avfs_git.paths import Oid, TreePath
from tests.support.merges import Files, Histories, change, content, make_files, put

NAMES = [b"merge", b"conflict-marker-size", b"diff", b"text", b"mine"]
SHOWN: dict[bytes, Value] = {b"set": True, b"unset": False, b"unspecified": None}
PATTERNS = [
    b"*", b"one", b"t*", b"a/*", b"a/**", b"**/one", b"/one", b"b/in/deep/two", b"in/*", b'"t\\167o"', b"a/", b"!one", b"\\!x",
    b'"t\\wo"', b"?n*", b"[ot]*", b'"t wo"', b"#x", b"\\#x", b"[attr]", b"one\\ ", b"b/**/two", b".gitattributes",
]  # fmt: skip
VALUES = [
    b"merge=union", b"merge=binary", b"merge=text", b"-merge", b"merge", b"!merge", b"merge=mine", b"binary", b"-binary",
    b"!binary", b"conflict-marker-size=3", b"conflict-marker-size=12", b"conflict-marker-size=-4", b"conflict-marker-size",
    b"text", b"mine", b"-mine", b"merge=", b"mine=x=y", b"-text=1", b"diff",
]  # fmt: skip
BODY = b"2\n3\n4\n5\n"
BROKEN = [b"=x", b"--merge", b"me/rge", b"-", b"!"]


@pytest.fixture
def histories(tmp_path: Path) -> Histories:
    """A repository."""
    return Histories(tmp_path / "attributes.git")


def make_attributes(rng: random.Random) -> bytes:
    """Make up a file of attributes, with macros, quotes, blanks, and lines that make no sense."""
    lines = [b"\xef\xbb\xbf# a comment"] if rng.random() < 0.1 else []
    for _ in range(rng.randint(1, 6)):
        values = rng.choice([b" ", b"\t", b"  "]).join(rng.choice(VALUES) for _ in range(rng.randint(1, 3)))
        if rng.random() < 0.1:
            values += b" " + rng.choice(BROKEN)
        if rng.random() < 0.15:
            lines.append(rng.choice([b"[attr]mine ", b"[attr]binary ", b"[attr]-x ", b'"[attr] mine" ']) + values)
        else:
            lines.append(
                rng.choice([b"", b"", b" "]) + rng.choice(PATTERNS) + b" " + values + rng.choice([b"", b"\r", b"  "])
            )
    if rng.random() < 0.1:
        lines.append(b"* merge=union " + b" " * 2100)
    return b"\n".join(lines) + rng.choice([b"\n", b""])


def check_out(histories: Histories, commit: Oid, place: Path) -> list[str]:
    """Write a commit's attributes where git looks for them; return what makes git look there."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for line in histories.git.run("ls-tree", "-r", "-z", commit.hex()).split(b"\0"):
        about, _, path = line.partition(b"\t")
        if path.rpartition(b"/")[2] == b".gitattributes":
            file = place / os.fsdecode(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            data = histories.git.run("cat-file", "blob", about.split()[2].decode())
            file.symlink_to(os.fsdecode(data)) if about.startswith(b"120000") else file.write_bytes(data)
    return ["git", f"--git-dir={histories.git.git_dir}", f"--work-tree={place}", "-c", "core.bare=false"]


def write_info(histories: Histories, rng: random.Random) -> bytes:
    """Write the repository's own attributes, mostly none, and read them."""
    path = histories.git.git_dir / "info" / "attributes"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(make_attributes(rng) if rng.random() < 0.3 else b"")
    return read_info_attributes(histories.git.git_dir)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_attributes_are_those_that_git_tells(histories: Histories, tmp_path: Path, seed: int) -> None:
    """Which of several lines and files wins, what macros stand for, and what of a broken line counts."""
    rng = random.Random(seed)
    paths = [
        b"one",
        b"two",
        b"t wo",
        b"a/one",
        b"a/in/two",
        b"b/in/deep/two",
        b"b/in/one",
        b"#x",
        b"!x",
        b"one ",
        b"[attr]",
    ]
    files: Files = dict.fromkeys(paths, (MODE_FILE, b"x\n"))
    for directory in (b"", b"a/", b"a/in/", b"b/in/"):
        if rng.random() < 0.6:
            files[directory + b".gitattributes"] = (MODE_FILE, make_attributes(rng))
    if rng.random() < 0.1:
        files[b"b/.gitattributes"] = (MODE_SYMLINK, b"../.gitattributes")
    commit = histories.commit(files)
    info = write_info(histories, rng)

    attributes = TreeAttributes(histories.store, histories.store.read_commit(commit).tree, info)
    argv = [
        *check_out(histories, commit, tmp_path / "checkout"),
        "check-attr",
        "--stdin",
        "-z",
        *map(os.fsdecode, NAMES),
    ]
    done = subprocess.run(argv, check=True, input=b"\0".join(paths), capture_output=True, cwd=tmp_path / "checkout")
    words = done.stdout.split(b"\0")
    for path, name, value in zip(words[0::3], words[1::3], words[2::3], strict=False):
        found = attributes.find(TreePath(path), NAMES)[name]
        assert found == SHOWN.get(value, value), (path, name, files, info)


@pytest.mark.parametrize("name", list(EngineName))
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_merges_obey_attributes_as_those_of_git_do(
    histories: Histories, tmp_path: Path, name: EngineName, seed: int
) -> None:
    """Also for renamed files, and in merges of common ancestors; a program that is named is run by nobody."""
    rng = random.Random(seed)
    files = make_files(rng)
    sides = [change(rng, files), change(rng, files)]
    for directory in (b"", b"a/", b"b/in/"):
        if rng.random() < 0.6:
            said = (MODE_FILE, make_attributes(rng))
            for one in (files, *sides):
                put(
                    one,
                    directory + b".gitattributes",
                    said if rng.random() < 0.9 else (MODE_FILE, make_attributes(rng)),
                )
    base = histories.commit(files)
    for side in sides:
        for path, (mode, data) in side.items():
            if mode == MODE_FILE and rng.random() < 0.5 and not path.endswith(b".gitattributes"):
                lines = data.splitlines(keepends=True)
                lines[:1] = [b"%d\n" % rng.randrange(9)]
                side[path] = (mode, b"".join(lines))
    ours, theirs = (histories.commit(side, base) for side in sides)
    if rng.random() < 0.3:
        more = content(rng, 77)
        ours, theirs = (
            histories.commit(side | {b"more": (MODE_FILE, more)}, one, other)
            for side, one, other in ((sides[0], ours, theirs), (sides[1], theirs, ours))
        )
    info = write_info(histories, rng)
    place = tmp_path / "checkout"
    argv = check_out(histories, ours, place)
    if name is EngineName.LIBGIT2:
        argv += ["-c", "merge.directoryRenames=false"]
    argv += ["merge-tree", "--write-tree", ours.hex(), theirs.hex()]
    done = subprocess.run(argv, check=False, capture_output=True, cwd=place)
    if done.returncode not in (0, 1):
        return  # an assertion of git's own, which `test_merge` knows about

    engine = make_engine(name, DryWriter(histories.store), attributes=info)
    merged = engine.merge(ours, theirs, our_label=ours.hex().encode(), their_label=theirs.hex().encode())

    told = done.stdout.decode(errors="replace")
    if name is EngineName.GIT or not histories.is_slip(told, ours, theirs):
        assert merged.is_clean == (done.returncode == 0), told
        if merged.is_clean or name is EngineName.GIT:
            assert (merged.tree or EMPTY_TREE).hex() == told.partition("\n")[0], told


@pytest.mark.parametrize("name", list(EngineName))
def test_a_program_that_an_attribute_names_is_not_run(histories: Histories, tmp_path: Path, name: EngineName) -> None:
    """Even where the configuration says what to run; the file is merged by lines, and the result says so."""
    ran = tmp_path / "ran"
    histories.git.run("config", "merge.mine.driver", f"touch {ran}; true")
    attributes: Files = {b".gitattributes": (MODE_FILE, b"text merge=mine\n")}
    base = histories.commit(attributes | {b"text": (MODE_FILE, b"1\n" + BODY)})
    ours = histories.commit(attributes | {b"text": (MODE_FILE, b"ours\n" + BODY)}, base)
    theirs = histories.commit(attributes | {b"text": (MODE_FILE, b"1\n" + BODY + b"theirs\n")}, base)

    engine = make_engine(name, DryWriter(histories.store))
    merged = engine.merge(ours, theirs, our_label=b"ours", their_label=b"theirs")

    assert merged.drivers == {TreePath(b"text"): b"mine"}
    assert merged.is_clean
    assert not ran.exists()
