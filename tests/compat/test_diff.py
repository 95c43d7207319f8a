"""Diffs against `git diff`: which files, which renames, and the whole text of the patch."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avfs_git.gitstore.compare.renames import detect_renames
from avfs_git.gitstore.compare.textdiff import file_diff, quote_path
from avfs_git.gitstore.compare.treediff import diff_trees, status_letter
from avfs_git.gitstore.rules.attributes import TreeAttributes
from avfs_git.model import ChangedFile
from avfs_git.paths import ROOT, Oid, TreePath
from tests.support.objects import Files, MemorySource

FILE, EXEC, LINK, GITLINK = 0o100644, 0o100755, 0o120000, 0o160000


class Git:
    """A bare repository for objects, and git to compare them."""

    def __init__(self, git_dir: Path) -> None:
        self.git_dir = git_dir
        self.source = MemorySource()
        subprocess.run(["git", "init", "-q", "--bare", str(git_dir)], check=True)

    def run(self, *arguments: str) -> bytes:
        """Run git and return what it prints."""
        return subprocess.run(
            ["git", "--git-dir", str(self.git_dir), *arguments], check=True, capture_output=True
        ).stdout

    def diff(self, old: Oid, new: Oid, *options: str, context: int = 3) -> bytes:
        """Compare two trees."""
        # Not by -U, which asks for a patch as well.
        return self.run(
            "-c", f"diff.context={context}", "diff", "--no-color", "--full-index", "-M", *options, old.hex(), new.hex()
        )


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """An empty repository."""
    return Git(tmp_path / "objects.git")


def assert_same_diff(
    git: Git, old_files: Files, new_files: Files, *, context: int = 3, renames: bool = True
) -> list[ChangedFile]:
    """Compare two trees both ways and return the changes."""
    how = "-M" if renames else "--no-renames"
    git.source.objects.clear()
    old, new = git.source.add_tree(old_files), git.source.add_tree(new_files)
    git.source.write_to(git.git_dir)
    attributes = TreeAttributes(git.source, new)
    (git.git_dir / "info" / "attributes").write_bytes(attributes.read_file(ROOT))  # git reads no others without a tree
    plain = diff_trees(git.source, old, new)
    assert b"".join(as_name_status(change) for change in plain) == git.run(
        "diff", "--no-renames", "--name-status", "-z", old.hex(), new.hex()
    )
    changes = detect_renames(git.source, plain) if renames else plain
    assert b"".join(as_name_status(change) for change in changes) == git.diff(old, new, how, "--name-status", "-z")
    diffs = [file_diff(git.source, change, context=context, attributes=attributes) for change in changes]
    patch = b"".join(diff.patch for diff in diffs)
    assert without_headings(patch) == without_headings(git.diff(old, new, how, context=context))
    counted = [line.split(b"\t")[:2] for line in git.diff(old, new, how, "--numstat", context=context).splitlines()]
    assert [
        [b"-"] * 2 if diff.binary else [b"%d" % diff.additions, b"%d" % diff.deletions] for diff in diffs
    ] == counted
    for diff, change in zip(diffs, changes, strict=True):
        counts = file_diff(git.source, change, context=context, text=False, attributes=attributes)
        assert (counts.additions, counts.deletions, counts.binary) == (diff.additions, diff.deletions, diff.binary)
        if diff.patch and not diff.binary:
            assert patch_lines_of(diff.hunks) == body_of(diff.patch)
    return changes


def without_headings(patch: bytes) -> bytes:
    """Leave out what stands behind the numbers of hunks: libgit2 cuts some names otherwise."""
    return re.sub(rb"(?m)^(@@ [-+\d, ]+ @@).*$", rb"\1", patch)


def as_name_status(change: ChangedFile) -> bytes:
    """Write a change as `git diff --name-status -z` does."""
    old = b"" if change.old_path is None else change.old_path + b"\0"
    return status_letter(change).encode() + b"\0" + old + change.path + b"\0"


def body_of(patch: bytes) -> list[bytes]:
    """Take the lines of hunks out of a patch."""
    lines = []
    inside = False
    for line in patch.split(b"\n")[:-1]:
        if line.startswith(b"diff --git"):
            inside = False
        elif line.startswith(b"@@ "):
            inside = True
        if inside:
            lines.append(line)
    return lines


def patch_lines_of(hunks: object) -> list[bytes]:
    """Write structured hunks as lines again."""
    lines: list[bytes] = []
    assert isinstance(hunks, tuple)
    for hunk in hunks:
        old = f"{hunk.old_start}" + ("" if hunk.old_lines == 1 else f",{hunk.old_lines}")
        new = f"{hunk.new_start}" + ("" if hunk.new_lines == 1 else f",{hunk.new_lines}")
        lines.append(f"@@ -{old} +{new} @@".encode() + (b" " + hunk.heading if hunk.heading else b""))
        old_line, new_line = hunk.old_start, hunk.new_start
        for line in hunk.lines:
            assert line.old_line == (None if line.origin == "+" else old_line)
            assert line.new_line == (None if line.origin == "-" else new_line)
            old_line += line.origin != "+"
            new_line += line.origin != "-"
            lines.append(line.origin.encode() + line.content)
            if line.ends_without_newline:
                lines.append(b"\\ No newline at end of file")
        if hunk.old_lines:
            assert old_line == hunk.old_start + hunk.old_lines
        if hunk.new_lines:
            assert new_line == hunk.new_start + hunk.new_lines
    return lines


# --- generated trees -------------------------------------------------------------------------------------

NAMES = [
    b"a",
    b"b",
    b"c",
    b"a.b",
    b"a-b",
    b"README",
    b"main.py",
    b"with space",
    b"tab\there",
    b'quo"te',
    b"back\\slash",
    b"\xff\xfe",
]
NAMES += ["é".encode(), b"new\nline", b"\x01\x7f", b"long-" + b"name-" * 12]
DIRECTORIES = [
    b"",
    b"",
    b"src",
    b"src/lib",
    b"lib",
    b"src/lib/deep",
    b"d e",
    b"\xc3\xa9",
    b"a-very-long-directory-name/and-another-one",
]
WORDS = [
    b"def run(self):",
    b"    return 1",
    b"",
    b"}",
    b"    }",
    b"x = 1",
    b"class A:",
    b"\tindented",
    b"int main(void)",
    b"$name",
    b"_under ",
]
WORDS += [
    b"w" * 90,
    b"f" + b" " * 90 + b"g",
    b"crlf\r",
    b"page\x0c",
    b"long " * 30,
    b"\xff\x80",
    b"# comment",
    b"@@ -1 +1 @@",
    b"-- ",
    b"diff --git a b",
]


class Maker:
    """Makes a tree and an edited one, from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def path(self) -> bytes:
        """Make a path."""
        directory, name = self.random.choice(DIRECTORIES), self.random.choice(NAMES)
        return directory + b"/" + name if directory else name

    def text(self, lines: int | None = None) -> bytes:
        """Make some lines; the last may lack its newline."""
        count = self.random.choice([0, 1, 2, 5, 12, 40, 120]) if lines is None else lines
        parts = [
            self.random.choice(WORDS) if self.random.random() < 0.6 else b"line %d" % self.random.randrange(200)
            for _ in range(count)
        ]
        text = b"".join(part + b"\n" for part in parts)
        return text if self.random.random() < 0.7 else text[:-1]

    def content(self) -> tuple[int, bytes]:
        """Make a file of any kind."""
        choice = self.random.random()
        if choice < 0.7:
            return self.random.choice([FILE, FILE, FILE, EXEC]), self.text()
        if choice < 0.8:
            return FILE, self.text(3) + b"\0" + self.random.randbytes(self.random.randrange(60))
        if choice < 0.85:
            return FILE, self.text(900) + b"late\0nul\n"
        if choice < 0.95:
            return LINK, self.random.choice([b"target", b"../elsewhere", b"a\nb"])
        return GITLINK, bytes([self.random.randrange(4)]) * 19 + b"\1"

    def edit(self, content: bytes) -> bytes:
        """Change a few lines."""
        lines = content.split(b"\n")
        for _ in range(self.random.choice([1, 1, 2, 5])):
            at = self.random.randrange(len(lines))
            choice = self.random.random()
            if choice < 0.4:
                lines[at] = self.random.choice(WORDS)
            elif choice < 0.7:
                lines.insert(at, b"new %d" % self.random.randrange(100))
            elif choice < 0.85:
                lines[at : at + 3] = []
            else:
                lines[at:at] = lines[at : at + 6]
            lines = lines or [b""]
        return b"\n".join(lines)

    def put(self, files: dict[bytes, tuple[int, bytes]], path: bytes, file: tuple[int, bytes]) -> None:
        """Put a file somewhere, in place of whatever is in the way."""
        for other in list(files):
            if other.startswith(path + b"/") or path.startswith(other + b"/"):
                del files[other]
        files[path] = file

    def trees(self) -> tuple[Files, Files]:
        """Make the two trees."""
        old: dict[bytes, tuple[int, bytes]] = {}
        for _ in range(self.random.choice([0, 3, 8, 15])):
            self.put(old, self.path(), self.content())
        new = dict(old)
        for _ in range(self.random.choice([1, 3, 6, 12])):
            choice = self.random.random()
            if choice < 0.15 or not new:
                self.put(new, self.path(), self.content())
                continue
            path = self.random.choice(list(new))
            mode, content = new[path]
            if choice < 0.25:
                del new[path]
            elif choice < 0.5:
                new[path] = (mode, self.edit(content) or b"x") if mode in (FILE, EXEC) else self.content()
            elif choice < 0.6 and mode in (FILE, EXEC):
                new[path] = (FILE + EXEC - mode, content)
            elif choice < 0.65:
                new[path] = self.content()
            elif choice < 0.7:
                new[path] = (LINK, content.partition(b"\0")[0] or b"x") if mode == FILE else (FILE, content)
            else:
                del new[path]
                if mode in (FILE, EXEC) and self.random.random() < 0.7:
                    content = self.edit(content)
                    mode = self.random.choice([mode, mode, FILE, EXEC])
                self.put(new, self.path(), (mode, content))
                if self.random.random() < 0.2:
                    self.put(new, self.path(), (mode, content))
        return old, new


@pytest.mark.slow
@settings(suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**64), context=st.sampled_from([3, 3, 3, 1, 10]))
def test_diffs_of_generated_trees_are_those_of_git(git: Git, seed: int, context: int) -> None:
    """Names, numbers and the whole patch are what git prints."""
    assert_same_diff(git, *Maker(seed).trees(), context=context, renames=False)


@pytest.mark.slow
@settings(suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**64), context=st.sampled_from([3, 3, 1, 25]))
def test_patches_of_long_files_are_those_of_git(git: Git, seed: int, context: int) -> None:
    """Long files with many edits split into the same hunks."""
    maker = Maker(seed)
    content = maker.text(2000)
    edited = content
    for _ in range(maker.random.choice([2, 30, 300])):
        edited = maker.edit(edited)
    assert_same_diff(git, {b"long": (FILE, content)}, {b"long": (FILE, edited or b"x")}, context=context)


# --- single cases ----------------------------------------------------------------------------------------


A, B = b"one\ntwo\nthree\n", b"one\n2\nthree\n"
GITLINK_A, GITLINK_B = b"\x11" * 20, b"\x22" * 20


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param({b"a": (FILE, A)}, {b"a": (FILE, B)}, id="modified"),
        pytest.param({b"a": (FILE, A)}, {b"a": (EXEC, A)}, id="mode"),
        pytest.param({b"a": (FILE, A)}, {b"a": (EXEC, B)}, id="mode and content"),
        pytest.param({}, {b"a": (FILE, b"")}, id="empty file added"),
        pytest.param({b"a": (FILE, b"")}, {}, id="empty file deleted"),
        pytest.param({b"a": (FILE, b"")}, {b"b": (FILE, b"")}, id="empty file renamed"),
        pytest.param({b"a": (FILE, b"")}, {b"a": (FILE, A)}, id="empty file filled"),
        pytest.param({b"a": (FILE, b"x")}, {b"a": (FILE, b"x\n")}, id="newline added"),
        pytest.param({b"a": (FILE, b"x\ny")}, {b"a": (FILE, b"z\ny")}, id="no newline on both sides"),
        pytest.param({b"a": (FILE, b"\n")}, {b"a": (FILE, b"\n\n")}, id="only newlines"),
        pytest.param({b"a": (FILE, b"\0" * 10)}, {b"a": (FILE, b"\0" * 11)}, id="binary"),
        pytest.param({b"a b": (FILE, b"\0")}, {}, id="binary with a space deleted"),
        pytest.param({b"a": (FILE, b"\0" * 90)}, {b"b": (EXEC, b"\0" * 90)}, id="binary renamed"),
        pytest.param(
            {b"a": (FILE, b"x" * 8000 + b"\0")}, {b"a": (FILE, b"y" * 8000 + b"\0")}, id="NUL behind 8000 bytes"
        ),
        pytest.param({b"a": (LINK, b"x")}, {b"a": (LINK, b"y")}, id="link"),
        pytest.param({b"a": (LINK, b"x")}, {b"b": (LINK, b"x")}, id="link renamed"),
        pytest.param({b"a": (FILE, b"x")}, {b"a": (LINK, b"x")}, id="file to link of equal content"),
        pytest.param({b"a": (FILE, A)}, {b"a": (LINK, b"x")}, id="file to link"),
        pytest.param({b"a": (LINK, b"x")}, {b"a": (FILE, b"\0")}, id="link to binary"),
        pytest.param({b"m": (GITLINK, GITLINK_A)}, {b"m": (GITLINK, GITLINK_B)}, id="gitlink"),
        pytest.param({b"m": (GITLINK, GITLINK_A)}, {b"n": (GITLINK, GITLINK_A)}, id="gitlink renamed"),
        pytest.param({b"m": (FILE, A)}, {b"m": (GITLINK, GITLINK_A)}, id="file to gitlink"),
        pytest.param({b"m": (GITLINK, GITLINK_A)}, {b"m/a": (FILE, A)}, id="gitlink to directory"),
        pytest.param({b"a": (FILE, A)}, {b"a/b": (FILE, A)}, id="file into directory of its name"),
        pytest.param({b"a/b": (FILE, A)}, {b"a": (FILE, A)}, id="directory to file"),
        pytest.param({b"a": (FILE, A), b"b": (FILE, B * 9)}, {b"b": (FILE, A), b"a": (FILE, B * 9)}, id="swapped"),
        pytest.param({b"x/f": (FILE, A * 9)}, {b"y/f": (FILE, A * 9 + b"more\n")}, id="renamed directory"),
        pytest.param({b"a/b/c": (FILE, A)}, {b"a/c": (FILE, A)}, id="slash shared by both ends"),
        pytest.param({b"a/b/b/c": (FILE, A)}, {b"a/b/c": (FILE, A)}, id="overlapping ends"),
        pytest.param(
            {b"f": (FILE, A * 9)}, {b"\xc3\xa9": (EXEC, A * 9 + b"x")}, id="renamed to an odd name, mode and edit"
        ),
        pytest.param({b"a": (FILE, A)}, {b"a": (FILE, A)}, id="equal"),
    ],
)
def test_single_changes_are_told_as_git_does(git: Git, old: Files, new: Files) -> None:
    """Each kind of change has git's header, body and numbers, in both directions."""
    assert_same_diff(git, old, new)
    assert_same_diff(git, new, old)


def test_every_byte_in_a_name_is_quoted_as_git_does(git: Git) -> None:
    """All bytes that a name may hold come out as `core.quotePath` writes them."""
    names = {
        b"n" + bytes([byte]) + b"m": (FILE, bytes([byte]) + b"\n") for byte in range(1, 256) if byte not in b"/\\~"
    }
    assert_same_diff(git, {}, names)
    assert quote_path(b"a\\b") == b'"a\\\\b"'


def test_paths_limit_a_diff_as_in_git(git: Git) -> None:
    """Only what is asked for is compared: files, whole directories, and nothing that lies below a file."""
    old = {b"a/b": (FILE, A), b"a/c/d": (FILE, A), b"e": (FILE, A), b"f/g": (FILE, A), b"h": (FILE, A)}
    new = {b"a/b": (FILE, B), b"a/c/d": (FILE, B), b"e/i": (FILE, A), b"f/g": (FILE, B), b"h": (FILE, B)}
    before, after = git.source.add_tree(old), git.source.add_tree(new)
    git.source.write_to(git.git_dir)
    for paths in (
        [b"a"],
        [b"a/c", b"h"],
        [b"a/b", b"a"],
        [b"e"],
        [b"e/i"],
        [b"h/x"],
        [b"nothing"],
        [b"a/c/d", b"f/g", b"a/b"],
    ):
        listed = diff_trees(git.source, before, after, paths=[TreePath(path) for path in paths])
        arguments = [
            "diff",
            "--no-renames",
            "--name-status",
            "-z",
            before.hex(),
            after.hex(),
            "--",
            *(path.decode() for path in paths),
        ]
        assert b"".join(as_name_status(change) for change in listed) == git.run(*arguments), paths
    assert diff_trees(git.source, before, after, paths=[TreePath(b"")]) == diff_trees(git.source, before, after)


def test_no_tree_on_either_side_is_the_empty_tree(git: Git) -> None:
    """None stands for a tree without entries."""
    tree = git.source.add_tree({b"a/b": (FILE, A), b"c": (EXEC, B)})
    empty = git.source.add_tree({})
    assert diff_trees(git.source, None, tree) == diff_trees(git.source, empty, tree)
    assert diff_trees(git.source, tree, None) == diff_trees(git.source, tree, empty)
    assert diff_trees(git.source, None, None) == diff_trees(git.source, None, empty) == []


_RULES = b"""[attr]made -diff
*.lock -diff
*.gen made
*.bin diff
*.raw binary
*.py diff=python
*.txt -text
*.any !diff
*.any2 diff=unknown
"""
_NAMES = (
    "a.lock",
    "a.gen",
    "a.bin",
    "a.raw",
    "a.py",
    "a.txt",
    "a.any",
    "a.any2",
    "dir/b.lock",
    "plain",
    "with space.lock",
)


@pytest.mark.parametrize("old", [None, b"1\n2\n3\n", b"1\n\0\n3\n", b""], ids=["none", "text", "binary", "empty"])
@pytest.mark.parametrize("new", [None, b"1\n9\n3\n", b"9\n\0\n3\n", b""], ids=["none", "text", "binary", "empty"])
@pytest.mark.parametrize("kinds", [(FILE, FILE), (FILE, EXEC), (FILE, LINK), (LINK, FILE), (LINK, LINK)])
def test_the_attribute_diff_decides_what_is_text(
    git: Git, old: bytes | None, new: bytes | None, kinds: tuple[int, int]
) -> None:
    """Of regular files, by the rules of the newer tree; a driver leaves it to the content."""
    if LINK in kinds and b"" in (old, new):
        pytest.skip("no link leads to nothing")
    before, after = (
        {name.encode(): (mode, content) for name in _NAMES if content is not None}
        for mode, content in zip(kinds, (old, new), strict=True)
    )
    rules = {b".gitattributes": (FILE, _RULES)}

    assert_same_diff(git, {**before, **rules}, {**after, **rules})


@pytest.mark.parametrize(("old", "new"), [("a.lock", "a"), ("a", "a.lock"), ("a.lock", "b.lock"), ("a.bin", "a.raw")])
@pytest.mark.parametrize("is_changed", [True, False])
def test_the_attribute_diff_of_renamed_files(git: Git, old: str, new: str, *, is_changed: bool) -> None:
    """Each name has its own."""
    text = b"".join(b"%d\n" % number for number in range(40))
    rules = {b".gitattributes": (FILE, _RULES)}
    after = text.replace(b"7\n", b"seven\n", 1) if is_changed else text

    (change,) = assert_same_diff(git, {old.encode(): (FILE, text), **rules}, {new.encode(): (FILE, after), **rules})
    assert change.old_path == old.encode()
