"""`avfs://` for fsspec: its own suite, and what is ours to promise."""

from __future__ import annotations

import pickle
import posixpath
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pytest
from fsspec.tests import abstract
from upath import UPath

from avfs_git import Home
from avfs_git.adapters.fsspec import AvfsFileSystem


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A home with a vault and two forks."""
    with Home(tmp_path / "home") as home:
        vault = home.create_vault("shop")
        vault.workspace().write_text("data/a.csv", "n\n1\n")
        vault.workspace().checkpoint("start")
        vault.fork("team/one")
        home.use_vault("shop")
    yield tmp_path / "home"
    AvfsFileSystem.clear_instance_cache()


def make(place: Path, **options: Any) -> AvfsFileSystem:
    """Make a filesystem of its own."""
    return AvfsFileSystem(home=str(place), skip_instance_cache=True, **options)


class Fixtures(abstract.AbstractFixtures):  # type: ignore[misc]  # fsspec has no types
    """What fsspec's suite asks of a filesystem."""

    @pytest.fixture
    def fs(self, place: Path) -> AvfsFileSystem:
        return make(place)

    @pytest.fixture
    def fs_path(self) -> str:
        return "work"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return posixpath.join


class TestCopy(abstract.AbstractCopyTests, Fixtures):  # type: ignore[misc]
    """Copies inside of the filesystem."""


class TestGet(abstract.AbstractGetTests, Fixtures):  # type: ignore[misc]
    """Copies out of it."""


class TestPut(abstract.AbstractPutTests, Fixtures):  # type: ignore[misc]
    """Copies into it."""


class TestOpen(abstract.AbstractOpenTests, Fixtures):  # type: ignore[misc]
    """Exclusive opening."""


class TestPipe(abstract.AbstractPipeTests, Fixtures):  # type: ignore[misc]
    """Exclusive writing."""


def test_addresses_name_vault_and_fork(place: Path) -> None:
    """A URL is opened by name, a slash in a fork's name is `%2F`, and the address leads back."""
    url = "avfs://shop/team%2Fone/data/a.csv"

    with fsspec.open(url, "rt", home=str(place)) as file:
        assert file.read() == "n\n1\n"
    fs, path = fsspec.core.url_to_fs(url, home=str(place))
    assert (path, fs.workspace.fork, fs.unstrip_protocol(path)) == ("data/a.csv", "team/one", url)
    for gone in ("avfs://none/main/x", "avfs://shop/none/x", "avfs://shop/main/none"):
        with pytest.raises(FileNotFoundError):
            fsspec.open(gone, home=str(place)).open()


def test_a_file_is_there_when_it_is_closed(place: Path) -> None:
    """Not before, and not after an error; appending adds to what is there."""
    fs = make(place)

    with fs.open("new", "wb") as file:
        file.write(b"x" * (9 << 20))
        assert not fs.exists("new")
    assert fs.size("new") == 9 << 20
    with pytest.raises(ZeroDivisionError), fs.open("new", "wb") as file:
        file.write(str(1 // 0).encode())
    assert fs.size("new") == 9 << 20
    with fs.open("new", "ab") as file:
        file.write(b"z")
    assert fs.cat_file("new", start=(9 << 20) - 1) == b"xz"
    with fs.open("new", "rb") as file:
        fs.pipe_file("new", b"changed")
        assert len(file.read()) == (9 << 20) + 1


def test_a_transaction_is_one_checkpoint(place: Path) -> None:
    """Its files come together at its end; one that fails changes nothing."""
    fs = make(place)

    with fs.transaction:
        for name in ("one", "two"):
            with fs.open(name, "wb") as file:
                file.write(name.encode())
        assert not fs.exists("one")
    assert (fs.cat("one"), fs.cat("two")) == (b"one", b"two")
    assert fs.workspace.status().clean
    newest = fs.workspace.list_checkpoints(limit=1)[0]
    assert newest.message == "fsspec: end of a transaction"
    with pytest.raises(ZeroDivisionError), fs.transaction:
        _write_and_fail(fs)
    assert not fs.exists("three")
    assert fs.workspace.list_checkpoints(limit=1)[0] == newest


def test_what_is_written_before_an_error_is_taken_back(place: Path) -> None:
    """Where fsspec closes a file, or ends a transaction, without saying why: what the guide promises instead."""
    fs = make(place)

    with suppress(ZeroDivisionError), fs.open("data/a.csv", "w") as file:
        file.write("half")
        file.write(str(1 // 0))
    assert fs.cat("data/a.csv") == b"half"
    fs.workspace.undo()
    assert fs.cat("data/a.csv") == b"n\n1\n"

    with pytest.raises(OSError, match="below a path"), fs.transaction:
        fs.pipe(dict.fromkeys(("one", "data/a.csv/below", "two"), b"new"))
    assert (fs.exists("one"), fs.exists("two")) == (True, False)
    assert not fs.workspace.status().clean
    fs.workspace.undo()
    assert not fs.exists("one")


def _write_and_fail(fs: AvfsFileSystem) -> None:
    fs.pipe_file("three", b"3")
    raise ZeroDivisionError


def test_moves_and_copies_keep_what_a_file_has(place: Path) -> None:
    """Mode and tags go along; a directory is moved as it is, a file that is there is replaced, and one undo suffices."""
    fs = make(place)
    work = fs.workspace
    work.write("d/run.sh", b"#!/bin/sh\n", executable=True)
    work.tag("d/run.sh", "keep")
    work.make_dir("d/empty")
    work.symlink("d/link", b"run.sh")
    work.symlink("d/dangling", b"nowhere")
    work.checkpoint()

    fs.cp("d/run.sh", "new/copy.sh")
    fs.cp("d/link", "new/content")
    fs.mv("d", "e", recursive=True)
    fs.mv("e/run.sh", "data/a.csv")
    fs.rename("data/a.csv", "bin/")

    for path in ("new/copy.sh", "bin/a.csv"):
        assert (fs.cat(path), work.stat(path).mode & 0o777, work.read_meta(path).tags) == (
            b"#!/bin/sh\n",
            0o755,
            ("keep",),
        )
    assert fs.cat("new/content") == b"#!/bin/sh\n"
    assert work.stat("new/content").kind == "file"
    assert sorted(entry.path for entry in work.list_dir("e")) == [b"e/dangling", b"e/empty", b"e/link"]
    assert work.read_link("e/dangling") == b"nowhere"
    assert (fs.exists("d"), fs.ls("data")) == (False, [])
    with pytest.raises(FileNotFoundError):
        fs.mv("none", "made/none")
    assert not fs.exists("made")
    fs.pipe({"one/x": b"1", "one/y": b"2"})
    fs.mkdir("two")
    fs.mv("one/*", "two")
    fs.mv(["two/x"], ["z"])
    assert (fs.ls("two", detail=False), fs.cat("z")) == (["two/y"], b"1")
    work.undo()
    assert (fs.cat("data/a.csv"), fs.cat("d/link")) == (b"n\n1\n", b"#!/bin/sh\n")


def test_errors_are_those_of_a_filesystem(place: Path) -> None:
    """Callers of fsspec catch the errors of Python, and no path leads out."""
    fs = make(place)
    fs.workspace.symlink("out", b"/etc")
    fs.workspace.symlink("dangling", b"nowhere")

    for error, action in [
        (FileNotFoundError, lambda: fs.cat("none")),
        (FileNotFoundError, lambda: fs.ls("none")),
        (FileNotFoundError, lambda: fs.rm("none")),
        (FileExistsError, lambda: fs.mkdir("data")),
        (FileExistsError, lambda: fs.makedirs("data")),
        (NotADirectoryError, lambda: fs.rmdir("data/a.csv")),
        (OSError, lambda: fs.rmdir("data")),
        (OSError, lambda: fs.open("data", "rb")),
        (OSError, lambda: fs.pipe_file("data", b"")),
        (PermissionError, lambda: fs.cat("../x")),
        (PermissionError, lambda: fs.cat("out/passwd")),
        (ValueError, lambda: fs.cat("a\0b")),
        (NotImplementedError, lambda: fs.open("data/a.csv", "r+b")),
        (NotImplementedError, lambda: fs.created("data/a.csv")),
    ]:
        with pytest.raises(error):
            action()  # type: ignore[no-untyped-call]
    assert [(entry["name"], entry["type"]) for entry in fs.ls("")][:2] == [("dangling", "other"), ("data", "directory")]
    assert fs.cat("data/a.csv") == b"n\n1\n"


def test_others_changes_are_seen(place: Path) -> None:
    """Nothing is cached: what another process writes is listed and read."""
    fs = make(place)
    assert fs.ls("data", detail=False) == ["data/a.csv"]
    with Home(place) as home:
        home.open_vault("shop").workspace().write_text("data/b.csv", "2\n")

    assert fs.ls("data", detail=False) == ["data/a.csv", "data/b.csv"]
    assert fs.glob("**/*.csv") == ["data/a.csv", "data/b.csv"]
    assert fs.find("") == ["data/a.csv", "data/b.csv"]
    assert fs.modified("data/b.csv").year > 2000


def test_a_filesystem_can_be_sent_to_another_process(place: Path) -> None:
    """It is pickled by its options, as dask does."""
    fs = make(place, vault="shop", fork="team/one")

    again = pickle.loads(pickle.dumps(fs))

    assert again.workspace.fork == "team/one"
    assert again.cat("data/a.csv") == b"n\n1\n"


def test_the_address_of_another_fork_is_refused(place: Path) -> None:
    """Its path is not taken for one of this fork; the own address is."""
    fs = make(place, vault="shop", fork="team/one")
    for action in (fs.rm, fs.cat, fs.info, lambda path: fs.pipe(path, b"x"), lambda path: fs.cp("data/a.csv", path)):
        with pytest.raises(ValueError, match="not in fork 'team/one'"):
            action("avfs://shop/main/data/a.csv")

    assert fs.cat("avfs://shop/team%2Fone/data/a.csv") == b"n\n1\n"
    assert fs.ls("", detail=False) == ["data"]


def test_pathlib_by_address(place: Path) -> None:
    """`UPath` of universal_pathlib reads, writes, lists and walks by our addresses."""
    root = UPath("avfs://shop/main", home=str(place))

    made = root / "data" / "b.csv"
    made.write_text("2\n")

    assert made.read_text() == "2\n"
    assert sorted(path.name for path in (root / "data").iterdir()) == ["a.csv", "b.csv"]
    assert sorted(path.name for path in root.glob("**/*.csv")) == ["a.csv", "b.csv"]
    assert (made.parent.is_dir(), made.stat().st_size, made.suffix) == (True, 2, ".csv")
    made.unlink()
    assert not made.exists()
    assert [path.path for path in UPath("avfs://shop/team%2Fone/data", home=str(place)).iterdir()] == ["data/a.csv"]


def test_duckdb_reads_and_writes(place: Path) -> None:
    """A query reads files of a fork, and writes its result as one."""
    fs = make(place)
    fs.pipe_file("data/b.csv", b"n\n41\n")
    with duckdb.connect() as database:
        database.register_filesystem(fs)

        assert database.sql("SELECT sum(n) FROM read_csv('avfs://shop/main/data/*.csv')").fetchall() == [(42,)]
        database.sql("COPY (SELECT 7 AS n) TO 'avfs://shop/main/out.parquet' (FORMAT parquet)")
        assert database.sql("SELECT n FROM 'avfs://shop/main/out.parquet'").fetchall() == [(7,)]
    assert fs.workspace.read("out.parquet")[:4] == b"PAR1"


def test_pandas_reads_and_writes(place: Path) -> None:
    """By address, with the options of the filesystem."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed; `make frameworks` installs it")
    options = {"home": str(place)}

    frame = pandas.read_csv("avfs://shop/main/data/a.csv", storage_options=options)
    frame.to_csv("avfs://shop/main/data/c.csv", index=False, storage_options=options)

    assert frame["n"].tolist() == [1]
    assert make(place).cat("data/c.csv") == b"n\n1\n"
