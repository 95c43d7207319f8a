"""Full text search by `Workspace.search` and `Vault.search`: what a file scan finds, whatever happens to the index."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avfs_git import Home, Vault, Workspace
from avfs_git.errors import CheckpointNotFound, InvalidInput, PathNotFound
from avfs_git.model import SearchResult


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault with files that are committed, changed, new, removed, binary and ignored."""
    with Home(tmp_path / "home") as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        work.write(".gitignore", b"*.log\n")
        work.write("a", b"first line\nparse_tree(x)\nlast line\n")
        work.write("src/b.py", b"class HTTPServer:\n    def parseTree(self): ...\n")
        work.write("src/long", b"filler " * 3000 + b"needle\n")
        work.write("gone", b"needle tree\n")
        work.checkpoint("first")
        work.remove("gone")
        work.write("src/new.txt", "Größe Café needle\n".encode())
        work.write("bin", b"\0needle\n")
        work.write("x.log", b"needle\n")
        yield vault


def names(result: SearchResult) -> list[str]:
    """Give the paths of the files, sorted."""
    return sorted(os.fsdecode(hit.path) for hit in result.hits)


def index_of(vault: Vault) -> Path:
    """Name the file of the index."""
    return vault.path / "avfs" / "cache" / "search"


def test_words_and_parts_of_identifiers_are_found(work: Workspace) -> None:
    """Case and accents do not count; all words have to be there; a star stands for any end."""
    assert (
        names(work.search("tree"))
        == names(work.search("TREE parse"))
        == names(work.search("pars*"))
        == ["a", "src/b.py"]
    )
    assert names(work.search("parsetree")) == ["src/b.py"]
    assert names(work.search("parse_tree, line")) == ["a"]
    assert (
        names(work.search("server")) == names(work.search("http")) == names(work.search("httpserver")) == ["src/b.py"]
    )
    assert names(work.search("grosse")) == ["src/new.txt"]
    assert names(work.search("cafe")) == names(work.search("GRÖẞE")) == ["src/new.txt"]
    assert names(work.search("serv")) == names(work.search("tree needle")) == []


def test_the_workspace_a_checkpoint_and_all_forks_are_searched(vault: Vault, work: Workspace) -> None:
    """What is not committed counts; binary, ignored and removed files do not."""
    found = work.search("needle")
    assert (found.fork, found.state, found.total, found.unsearched) == ("main", "workspace", 2, ())
    assert names(found) == ["src/long", "src/new.txt"]
    past = work.search("needle", at="first")
    assert names(past) == ["gone", "src/long"]
    assert past.state == work.list_checkpoints()[0].id
    vault.fork("other").write("only/there", b"needle")
    assert {result.fork: names(result) for result in vault.search("needle", ["only"])} == {"other": ["only/there"]}
    assert len(vault.search("needle")) == 2
    assert names(work.search("tree", ["src", "gone"], at="first")) == ["gone", "src/b.py"]


def test_below_an_empty_directory_nothing_is_found(work: Workspace) -> None:
    """As in one with ignored files alone: something is there. No git tree has it."""
    work.make_dir("d/e", parents=True)
    work.write("logs/y.log", b"needle\n", parents=True)
    for path in ("d", "d/e", "logs", "x.log"):
        assert work.search("needle", [path]).hits == ()
        assert work.grep("needle", [path]).files == ()
    work.checkpoint("empty")
    for at in (None, "empty"):
        assert work.search("needle", ["d"], at=at).hits == ()
        assert work.grep("needle", ["d", "logs"], at=at).files == ()
    work.remove("d", recursive=True)
    for find in (work.search, work.grep):
        with pytest.raises(PathNotFound):
            find("needle", ["d"])
        with pytest.raises(PathNotFound):
            find("needle", ["d"], at="first")


def test_the_best_file_comes_first_with_its_best_line(work: Workspace) -> None:
    """A short file with the words beats a long one; the line that has most of them is shown, a long one in part."""
    found = work.search("needle")
    assert [hit.path for hit in found.hits] == [b"src/new.txt", b"src/long"]
    assert found.hits[0].score > found.hits[1].score
    assert [hit.path for hit in work.search("needle", limit=1).hits] == [b"src/new.txt"]
    assert work.search("needle", limit=1).total == 2

    line = work.search("tree last parse").hits[0].line
    assert line is not None
    assert (line.number, line.column, line.text) == (2, 1, b"parse_tree(x)")
    assert [line.text[span.begin : span.end] for span in line.spans] == [b"parse_tree"]
    long = found.hits[1].line
    assert long is not None
    assert len(long.text) <= 300
    assert long.column == 7 * 3000 + 1
    assert [long.text[span.begin : span.end] for span in long.spans] == [b"needle"]
    assert work.search("cafe").hits[0].line is None  # written with an accent


def test_what_cannot_be_searched_is_refused_or_named(work: Workspace) -> None:
    """A query without words, a path or a state that is not there; a text that is too large."""
    for words in ("", "(*)", " ".join(map(str, range(33)))):
        with pytest.raises(InvalidInput):
            work.search(words)
    with pytest.raises(InvalidInput):
        work.search("x", limit=0)
    with pytest.raises(PathNotFound):
        work.search("x", ["nowhere"])
    with pytest.raises(CheckpointNotFound):
        work.search("x", at="nothing")
    work.write("huge", b"needle " * (3 << 20 >> 3) + b"needle")
    assert [(file.path, file.reason) for file in work.search("needle").unsearched] == [(b"huge", "large")]
    assert work.search("needle", ["src"]).unsearched == ()
    assert work.search('NEAR needle" OR').hits == ()  # words, not the language of SQLite


@pytest.mark.parametrize("harm", ["removed", "garbage", "cut", "empty", "older", "collected", "directory"])
def test_an_index_that_is_gone_or_damaged_changes_no_answer(vault: Vault, work: Workspace, harm: str) -> None:
    """It is made again, closed to other users; what cannot be replaced is passed over."""
    expected = work.search("needle")
    path = index_of(vault)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    data = path.read_bytes()
    path.unlink()
    match harm:
        case "garbage":
            path.write_bytes(b"no database" * 1000)
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "empty":
            path.touch()
        case "older":
            with sqlite3.connect(path) as other:
                other.executescript("CREATE TABLE blobs (x); PRAGMA user_version = 77")
            other.close()
        case "collected":  # the tree whose files it lists
            path.write_bytes(data)
            with sqlite3.connect(path) as other:
                other.execute("INSERT INTO base VALUES (?)", (bytes(20),))
                other.execute("INSERT INTO files SELECT CAST('nowhere' || id AS BLOB), id FROM blobs")
            other.close()
        case "directory":
            path.mkdir()
    for _ in range(2):
        assert [hit.path for hit in work.search("needle").hits] == [hit.path for hit in expected.hits]
    if harm != "directory":
        assert path.read_bytes().startswith(b"SQLite format 3\0")


def test_a_busy_index_and_a_killed_writer_change_no_answer(vault: Vault, work: Workspace) -> None:
    """While another process writes, and after it was killed in the middle."""
    expected = names(work.search("needle"))
    killed = """
import os, sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("PRAGMA cache_size = 1")
other.execute("BEGIN EXCLUSIVE")
other.execute("DELETE FROM blobs")
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", killed, str(index_of(vault))], check=False)
    assert names(work.search("needle")) == expected

    with closing(sqlite3.connect(index_of(vault), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        work.write("more", b"needle")
        assert names(work.search("needle")) == sorted([*expected, "more"])
    assert names(work.search("needle")) == sorted([*expected, "more"])


def test_two_processes_search_at_once(vault: Vault) -> None:
    """Each changes its own fork meanwhile, in part so much that the index lists the files of that fork."""
    search = """
import sys
from pathlib import Path
from avfs_git import Home

home, fork = sys.argv[1:]
with Home(Path(home)) as home:
    work = home.open_vault("v").workspace(fork)
    for turn in range(6):
        expected = {b"src/long", b"src/new.txt"}
        for number in range(4, 80 if turn % 2 else 8):
            word = "needle" if number % 4 else "other"
            work.write(f"many/{number}", f"{word} {fork} turn{turn} file{number}".encode())
            expected |= {b"many/%d" % number} if number % 4 else set()
        found = {hit.path for hit in work.search("needle", limit=1000).hits}
        assert found >= expected, expected - found
        assert all(b"needle" in work.read(path) for path in found), found
        work.checkpoint()
        past = work.search_history(f"needle {fork} turn{turn - 1}").removed if turn else ()
        assert len(past) >= (3 if turn else 0), past
"""
    vault.workspace().checkpoint()
    home = str(vault.path.parents[1])
    forks = [vault.fork(name).fork for name in ("ours", "theirs")]
    running = [subprocess.Popen([sys.executable, "-c", search, home, fork], stderr=subprocess.PIPE) for fork in forks]
    said = [process.communicate()[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0], said


def test_gc_empties_an_index_of_collected_contents(vault: Vault, work: Workspace) -> None:
    """Words of contents that were never committed do not stay."""
    for number in range(9):
        work.write("draft", b"secretword%d" % number)
        assert work.search(f"secretword{number}").total == 1
    work.remove("draft")
    vault.gc()
    assert b"secretword" not in index_of(vault).read_bytes()
    assert names(work.search("needle")) == ["src/long", "src/new.txt"]


def test_the_history_tells_which_commit_removed_a_content(vault: Vault, work: Workspace) -> None:
    """A file that is removed, or loses the words, is found with the last commit that had it.

    One that is moved is not.
    """
    work.checkpoint("second")
    work.write("a", b"nothing is left\n")
    work.move("src/b.py", "moved.py")
    work.checkpoint("third")
    ids = {label: checkpoint.id for checkpoint in work.list_checkpoints() for label in checkpoint.labels}

    gone = work.search_history("tree")
    assert [(file.path, file.last_commit, file.removed_by.id) for file in gone.removed] == [
        (b"a", ids["second"], ids["third"]),
        (b"gone", ids["first"], ids["second"]),
    ]
    assert gone.total == 2
    assert gone.state == ids["third"]
    line = gone.removed[0].line
    assert line is not None
    assert (line.number, line.text) == (2, b"parse_tree(x)")
    assert [file.path for file in work.search_history("tree", ["gone", "src"]).removed] == [b"gone"]
    assert [file.path for file in work.search_history("tree", at="second").removed] == [b"gone"]
    assert len(work.search_history("tree", limit=1).removed) == 1
    assert work.search_history("server").removed == work.search_history("nowhere").removed == ()

    work.write("back", b"needle tree\n")
    work.checkpoint("fourth")
    assert [file.path for file in work.search_history("tree").removed] == [b"a"]
    index_of(vault).write_bytes(b"damaged" * 1000)
    assert [file.path for file in work.search_history("tree").removed] == [b"a"]


def test_the_history_of_a_merge_names_what_the_merge_dropped(vault: Vault, work: Workspace) -> None:
    """What another fork removed was removed there, not by the merge."""
    work.checkpoint("base")
    other = vault.fork("other")
    other.remove("a")
    removal = other.checkpoint("removal").checkpoint
    assert removal is not None
    work.write("c", b"own\n")
    work.checkpoint("own")
    assert work.search_history("parse_tree").removed == ()
    work.merge("other")
    found = work.search_history("parse_tree").removed
    assert [(file.path, file.removed_by.id, file.removed_by.fork) for file in found] == [(b"a", removal.id, "other")]


WORDS = [
    "tree",
    "parseTree",
    "parse_tree",
    "Tree2D",
    "x",
    "über",
    "U\u0308ber",
    "__init__",
    "a.b",
    "42",
    "\0",
    "\xff",
    "ǅ",
    "HTTP",
]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
MANY = [f"many/{number % 7}/{number}" for number in range(70)]
PATHS = ["p", "d/q", "d/e/r", *MANY]
STEPS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(PATHS[:4]), TEXTS),
    st.tuples(st.just("remove"), st.sampled_from([*PATHS[:4], "many", "d"]), st.just("")),
    st.tuples(st.sampled_from(["write many", "checkpoint", "undo", "switch", "damage", "gc"]), st.just(""), TEXTS),
    st.tuples(st.just("search"), st.just(""), st.sampled_from(WORDS)),
)


def scan(work: Workspace, query: str) -> list[str]:
    """Find the files that have a word, by reading them all."""

    def terms(text: str) -> set[str]:
        plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
        found = set()
        for word in re.findall(r"\w+", plain):
            spaced = re.sub(
                r"([A-Z]+)([A-Z][a-z])|([a-z0-9])(?=[A-Z])|([A-Za-z])(?=[0-9])|([0-9])(?=[A-Za-z])",
                r"\1\3\4\5 \2",
                word,
            )
            found |= {part.casefold() for part in [word, *spaced.replace("_", " ").split()]}
        return found

    wanted = {word.casefold() for word in re.findall(r"\w+", "".join(
        char for char in unicodedata.normalize("NFKD", query) if not unicodedata.combining(char)))}  # fmt: skip
    contents = {path: work.read(path) for path in PATHS if work.exists(path)}
    return sorted(
        path
        for path, data in contents.items()
        if b"\0" not in data and wanted <= terms(data.decode("utf-8", "replace"))
    )


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(steps=st.lists(STEPS, max_size=8), query=st.sampled_from([word for word in WORDS if re.search(r"\w", word)]))
def test_a_search_equals_a_scan(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]], query: str
) -> None:
    """After any sequence of operations, with one index for all states that there were, in two forks."""
    with Home(tmp_path_factory.mktemp("home")) as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        others = [work, vault.fork("other")]
        undoable = {"main": 0, "other": 0}
        for step, path, text in steps:
            if step == "write":
                work.write(path, text.encode("utf-8", "surrogateescape"))
            elif step == "write many":
                for number, name in enumerate(MANY):
                    work.write(name, f"{text} word{number}".encode("utf-8", "surrogateescape"))
            elif step == "remove":
                work.remove(path, missing_ok=True, recursive=True)
            elif step == "checkpoint":
                undoable[work.fork] += work.checkpoint().checkpoint is not None
            elif step == "undo" and undoable[work.fork]:  # else the fork is undone
                undoable[work.fork] -= 1
                vault.undo(fork=work.fork)
            elif step == "switch":
                others.reverse()
                work = others[0]
            elif step == "damage" and index_of(vault).exists():
                index_of(vault).write_bytes(index_of(vault).read_bytes()[:9000])
            elif step == "gc":
                vault.gc()
            elif re.search(r"\w", text):
                assert names(work.search(text, limit=100)) == scan(work, text)
        for each in others:
            assert names(each.search(query, limit=100)) == scan(each, query)
            if each.list_checkpoints() and each.status().clean:
                assert names(each.search(query, at=each.fork, limit=100)) == scan(each, query)
            past = each.search_history(query, limit=1000)
            assert past.total == len(past.removed)
            for file in past.removed:
                assert os.fsdecode(file.path) in names(each.search(query, at=file.last_commit, limit=1000))
                assert os.fsdecode(file.path) not in names(each.search(query, at=file.removed_by.id, limit=1000))
