"""Text in files and looking for files: `read_text`, `write_text`, `edit`, `walk` and `glob`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import avfs_git
from avfs_git import Home, Workspace
from avfs_git.errors import ContentChanged, InvalidInput, PathEscapes, PathNotFound, PathUnsuitable
from avfs_git.model import FileInfo

FILES = ["README", "src/a.py", "src/b.txt", "src/deep/er/c.py", "src/deep/d.py", ".hidden/e.py", "docs/[x].md"]


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace with a few files."""
    with Home(tmp_path / "home") as home:
        work = home.create_vault("v").workspace()
        for name in FILES:
            work.write_text(name, f"one\ntwo of {name}\nthree\n")
        yield work


def names(found: Iterator[FileInfo]) -> list[str]:
    """List paths as text."""
    return [info.path.decode() for info in found]


def test_text_is_utf8_or_refused(work: Workspace) -> None:
    """What is written as text is read as text; other bytes are refused, with where they are."""
    work.write_text("t", "ä\n")
    work.write("bin", b"ab\xff")

    assert (work.read_text("t"), work.read("t")) == ("ä\n", b"\xc3\xa4\n")
    with pytest.raises(PathUnsuitable, match="'bin' is not text in UTF-8, at byte 2"):
        work.read_text("bin")
    with pytest.raises(InvalidInput, match="character 1"):
        work.write_text("t", "a\ud800")
    assert work.read_text("t") == "ä\n"


def test_an_edit_replaces_all_or_nothing(work: Workspace) -> None:
    """Edits apply in order; one that cannot be applied leaves the file as it was."""
    result = work.edit("README", ("one", "ONE"), ("ONE\n", "1\n"))

    assert (result.replacements, work.read_text("README")) == (2, "1\ntwo of README\nthree\n")
    assert result.patch == b"--- a/README\n+++ b/README\n@@ -1,3 +1,3 @@\n-one\n+1\n two of README\n three\n"
    assert result.file is not None
    for edits, reason in [
        ([("1", "x"), ("absent", "y")], "does not have the text 'absent'"),
        ([("", "y")], "does not have the text ''"),
        ([("e", "E")], r"has the text 'e' 2 times"),
    ]:
        with pytest.raises(PathUnsuitable, match=reason):
            work.edit("README", *edits)
    assert work.read_text("README") == "1\ntwo of README\nthree\n"
    assert work.edit("README", ("e", "E"), replace_all=True).replacements == 2
    with pytest.raises(InvalidInput):
        work.edit("README")


def test_a_dry_run_writes_nothing(work: Workspace) -> None:
    """What an edit would do is shown, and the operation log has no entry of it."""
    before = work.status()

    result = work.edit("README", ("three\n", "three"), dry_run=True)

    assert result.file is None
    assert result.patch.endswith(b"-three\n+three\n\\ No newline at end of file\n")
    assert work.status() == before


def test_an_edit_does_not_overwrite_what_another_writes(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes while it is edited keeps the other's content."""
    read = Workspace.read

    def read_late(self: Workspace, path: bytes) -> bytes:
        data = read(self, path)
        self.write(path, b"another's\n")
        return data

    monkeypatch.setattr(Workspace, "read", read_late)
    with pytest.raises(ContentChanged):
        work.edit("README", ("one", "two"))
    monkeypatch.undo()
    assert work.read("README") == b"another's\n"


def test_an_edit_follows_links_inside_only(work: Workspace) -> None:
    """A link to a file of the workspace is edited there, and stays a link."""
    work.symlink("link", b"README")
    work.symlink("out", b"/etc/passwd")

    work.edit("link", ("one", "ONE"))

    assert work.read_text("README").startswith("ONE")
    assert work.read_link("link") == b"README"
    with pytest.raises(PathEscapes):
        work.edit("out", ("root", "toor"))


def test_walk_visits_everything_once(work: Workspace) -> None:
    """Each directory comes before its entries, and a part can be walked."""
    found = names(work.walk())

    assert {name for name in found if work.stat(name).kind == "file"} == set(FILES)
    assert found.index("src") < found.index("src/deep") < found.index("src/deep/er/c.py")
    assert len(found) == len(set(found))
    assert names(work.walk("src/deep/er")) == ["src/deep/er/c.py"]
    with pytest.raises(PathNotFound):
        list(work.walk("nowhere"))


@pytest.mark.parametrize(
    ("pattern", "below", "found"),
    [
        ("*", "/", [".hidden", "README", "docs", "src"]),
        ("**/*.py", "/", [".hidden/e.py", "src/a.py", "src/deep/d.py", "src/deep/er/c.py"]),
        ("src/*.py", "/", ["src/a.py"]),
        ("src/**", "/", ["src/a.py", "src/b.txt", "src/deep", "src/deep/d.py", "src/deep/er", "src/deep/er/c.py"]),
        ("**/er/**/c.py", "/", ["src/deep/er/c.py"]),
        ("**/deep/**/*.py", "src", ["src/deep/d.py", "src/deep/er/c.py"]),
        ("**/**/d.py", "/", ["src/deep/d.py"]),
        ("docs/[[]x].md", "/", ["docs/[x].md"]),
        ("*.PY", "src", []),
        ("/src/?.txt/", "/", ["src/b.txt"]),
    ],
)
def test_glob(work: Workspace, pattern: str, below: str, found: list[str]) -> None:
    """A pattern matches as in git's `:(glob)`: `*` within a name, `**` over directories."""
    assert names(work.glob(pattern, below)) == found


def test_glob_reads_only_directories_that_may_match(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern without `**` costs the directories that it names."""
    listed = []
    list_dir = Workspace.list_dir

    def note(self: Workspace, path: str | bytes = "/") -> list[FileInfo]:
        listed.append(path)
        return list_dir(self, path)

    monkeypatch.setattr(Workspace, "list_dir", note)

    assert names(work.glob("src/*.py")) == ["src/a.py"]
    assert listed == ["/", b"src"]
    with pytest.raises(InvalidInput):
        list(work.glob("/"))


def test_the_default_home_is_that_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hermetic: Path
) -> None:
    """`Home()` is what the command line uses without variables; `open_home` is what it uses with them."""
    monkeypatch.setenv("HOME", str(tmp_path))

    assert Home().home == tmp_path / ".local/share/avfs"
    assert avfs_git.open_home().home == hermetic / "avfs"
    monkeypatch.delenv("AVFS_HOME")
    assert avfs_git.open_home().home == Home().home
