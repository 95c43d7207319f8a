"""`avfs://VAULT/FORK/PATH` for fsspec, and so for pandas, dask, pyarrow and duckdb.

Decided here: what a path means to fsspec, and when written content is visible. A filesystem is one fork; a slash in its
name is `%2F` in a URL. A file that is opened for reading is read as it was then. A file that is written is there,
whole, when it is closed: before that, and after an error in its own `with` block, nothing has changed. What wraps it
(`fsspec.open`, text, compression) closes it after an error as after success, and cannot be told apart. A transaction
writes its files at its end, one after the other, and saves a checkpoint. A whole address has to name this vault and
fork. Nothing is cached, so that changes by other processes are seen. fsspec makes one filesystem a thread; threads may
share one.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote as percent
from urllib.parse import unquote

from fsspec.core import has_magic
from fsspec.spec import AbstractFileSystem
from fsspec.transaction import Transaction

from avfs_git.cli.environment import open_home
from avfs_git.errors import (
    ContentChanged,
    ForkNotFound,
    HostError,
    InvalidPath,
    PathEscapes,
    PathNotFound,
    PathUnsuitable,
    VaultNotFound,
)
from avfs_git.model import FileInfo, Kind
from avfs_git.sdk import Workspace

_PROTOCOL = "avfs://"
_IN_MEMORY = 8 << 20
"""Bytes of an open file that are kept in memory; a longer one is in a temporary file."""
_PIECE = 1 << 20
_TYPES = {Kind.DIRECTORY: "directory", Kind.FILE: "file"}


class CheckpointTransaction(Transaction):  # type: ignore[misc]  # fsspec has no types
    """Writes that belong together: the files at its end, one after the other, then one checkpoint."""

    def complete(self, commit: bool = True) -> None:
        """Write the files and save a checkpoint, or drop them."""
        fs = self.fs
        super().complete(commit=commit)
        if commit:
            fs.workspace.checkpoint(description="fsspec: end of a transaction")


class AvfsFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The files of a fork."""

    protocol = "avfs"
    root_marker = ""
    transaction_type = CheckpointTransaction

    def __init__(
        self, vault: str | None = None, fork: str | None = None, home: str | None = None, **options: Any
    ) -> None:
        """Use the files of a fork.

        Args:
            vault: The vault's name; the home's current vault by default.
            fork: The fork; the vault's default fork by default.
            home: The directory of the vaults; that of the command line by default.
            options: Those of every filesystem of fsspec.
        """
        super().__init__(**options)
        self._home = open_home(Path(home) if home is not None else None)
        with _translated():
            opened = self._home.open_vault(vault)
            self.workspace: Workspace = opened.workspace(fork)
        # fsspec asks the class and its objects; only these know which fork it is.
        self.__dict__["_strip_protocol"] = self._strip_own

    @property
    def fsid(self) -> str:
        """What tells this filesystem from others."""
        return f"avfs_{self.workspace.vault.path}@{self.workspace.fork}"

    # --- addresses -------------------------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(item) for item in path]
        text = path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else str(path)
        if text.startswith(_PROTOCOL):
            text = "/".join(text.removeprefix(_PROTOCOL).split("/")[2:])
        return text.strip("/")

    def _strip_own(self, path: Any) -> Any:
        """Strip the address of this fork.

        Raises:
            ValueError: If it is that of another one.
        """
        for one in path if isinstance(path, list) else [path]:
            named = self._get_kwargs_from_urls(os.fsdecode(one))
            own = {"vault": self.workspace.vault.name, "fork": self.workspace.fork}
            if not named.items() <= own.items():
                raise ValueError(
                    f"{one} is not in fork '{own['fork']}' of vault '{own['vault']}', which this filesystem shows"
                )
        return type(self)._strip_protocol(path)  # noqa: SLF001 - of this very class

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        if not path.startswith(_PROTOCOL):
            return {}
        vault, fork, *_ = [*path.removeprefix(_PROTOCOL).split("/"), "", ""]
        return {name: unquote(text) for name, text in (("vault", vault), ("fork", fork)) if text}

    def unstrip_protocol(self, name: str) -> str:
        """Give the whole address of a path."""
        path = self._strip_protocol(name)
        return (
            f"{_PROTOCOL}{percent(self.workspace.vault.name, safe='')}/{percent(self.workspace.fork, safe='')}/{path}"
        )

    # --- looking ---------------------------------------------------------------------------------------------

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Describe an entry; of a link, what it leads to."""
        with _translated(path):
            return self._describe(
                self.workspace.stat(self._strip_protocol(path), follow=True), self._strip_protocol(path)
            )

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List a directory, or describe one file."""
        place = self._strip_protocol(path)
        found = [self.info(place)]
        if found[0]["type"] == "directory":
            with _translated(path):
                entries = self.workspace.list_dir(place, sizes=detail)
            found = [self._describe_entry(entry) for entry in entries]
        return found if detail else [described["name"] for described in found]

    def _describe_entry(self, entry: FileInfo) -> dict[str, Any]:
        """Describe an entry of a directory: of a link what it leads to, if there is anything."""
        path = entry.path.decode("utf-8", "surrogateescape")
        if entry.kind is Kind.SYMLINK:
            try:
                return self.info(path)
            except OSError:
                pass  # it leads nowhere, or out
        return self._describe(entry, path)

    def _describe(self, info: FileInfo, path: str) -> dict[str, Any]:
        return {
            "name": path,
            "type": _TYPES.get(info.kind, "other"),
            "size": info.size if info.kind is Kind.FILE else 0,
            "mtime": info.mtime_ns / 1e9,
            "mode": info.mode,
            "islink": info.kind is Kind.SYMLINK,
        }

    def modified(self, path: str) -> datetime:
        """Say when a file was changed."""
        return datetime.fromtimestamp(self.info(path)["mtime"], tz=UTC)

    # --- changing --------------------------------------------------------------------------------------------

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Make a directory."""
        place = self._strip_protocol(path)
        if self.exists(place):
            raise FileExistsError(17, "it exists", path)
        with _translated(path):
            self.workspace.make_dir(place, parents=create_parents)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a directory with its parents."""
        place = self._strip_protocol(path)
        if not exist_ok and self.exists(place):
            raise FileExistsError(17, "it exists", path)
        with _translated(path):
            self.workspace.make_dir(place, parents=True)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        if not self.isdir(path):
            raise NotADirectoryError(20, "it is no directory", path)
        with _translated(path):
            self.workspace.remove(self._strip_protocol(path))

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        with _translated(path):
            self.workspace.remove(self._strip_protocol(path))

    def _rm(self, path: str) -> None:
        self.rm_file(path)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copy a file, or make a directory like another one."""
        source, destination = self._strip_protocol(path1), self._strip_protocol(path2)
        if self.isdir(source):
            self.makedirs(destination, exist_ok=True)
            return
        with _translated(path1):
            is_link = self.workspace.stat(source).kind is Kind.SYMLINK  # from the new place it could lead elsewhere
            if is_link or self.workspace.exists(destination):  # which keeps its mode, as with cp
                self.workspace.write_from(destination, self.workspace.open_read(source))
                return
            self._make_parent(destination)
            self.workspace.copy(source, destination)

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **options: Any) -> None:
        """Rename a file or directory in one step, with all that it has; fsspec moves lists and patterns one by one."""
        if not (isinstance(path1, str) and isinstance(path2, str)) or has_magic(path1) or maxdepth is not None:
            super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth, **options)
            return
        source, destination = self._strip_protocol(path1), self._strip_protocol(path2)
        if source == destination:
            return
        if path2.endswith("/"):
            destination = posixpath.join(destination, posixpath.basename(source))
        with _translated(path1):
            self.workspace.stat(source)
            self._make_parent(destination)
            self.workspace.move(source, destination, overwrite=True)

    def _make_parent(self, path: str) -> None:
        parent = posixpath.dirname(path)
        if not self.workspace.exists(parent):
            self.workspace.make_dir(parent, parents=True)

    def touch(self, path: str, truncate: bool = True, **_: Any) -> None:
        """Make an empty file, or with `truncate=False` set the time of a file to now."""
        place = self._strip_protocol(path)
        with _translated(path):
            if truncate or not self.workspace.exists(place):
                self.workspace.write(place, b"")
            else:
                self.workspace.touch(place)

    def _open(self, path: str, mode: str = "rb", *_: Any, autocommit: bool = True, **__: Any) -> IO[bytes]:
        place = self._strip_protocol(path)
        if self.isdir(place):
            raise IsADirectoryError(21, "it is a directory", path)
        if mode == "rb":
            return Reading(self, place)
        if mode in ("wb", "ab", "xb"):
            if mode == "xb" and self.exists(place):
                raise FileExistsError(17, "it exists", path)
            return Writing(self, place, mode, autocommit=autocommit)
        raise NotImplementedError(f"files of a fork cannot be opened with mode {mode!r}")


class Reading(tempfile.SpooledTemporaryFile[bytes]):
    """A file as it was when it was opened."""

    def __init__(self, fs: AvfsFileSystem, path: str) -> None:
        super().__init__(max_size=_IN_MEMORY)
        self.fs = fs
        self.path = path
        try:
            with _translated(path):
                for piece in fs.workspace.open_read(path):
                    self.write(piece)
        except BaseException:
            self.close()
            raise
        self.size = self.tell()
        self.seek(0)

    def __del__(self) -> None:
        # duckdb drops files without closing them; a file that is only read loses nothing by that.
        self.close()

    def writable(self) -> bool:
        """It is for reading."""
        return False


class Writing(tempfile.SpooledTemporaryFile[bytes]):
    """A file that is written when it is closed, or when its transaction ends."""

    def __init__(self, fs: AvfsFileSystem, path: str, mode: str, *, autocommit: bool) -> None:
        super().__init__(max_size=_IN_MEMORY)
        self.fs = fs
        self.path = path
        self.autocommit = autocommit
        self._kind = mode
        self._is_given_up = False

    def __exit__(self, *raised: object) -> None:
        self._is_given_up = raised[0] is not None
        self.close()

    def close(self) -> None:
        """Write the file, unless its transaction does it later, or its block failed."""
        if self.closed or not self.autocommit:
            return
        try:
            if not self._is_given_up:
                self.commit()
        finally:
            super().close()

    def commit(self) -> None:
        """Write the file into the workspace."""
        self.seek(0)
        with _translated(self.path):
            try:
                pieces = iter(lambda: self.read(_PIECE), b"")
                expect = "" if self._kind == "xb" else None
                self.fs.workspace.write_from(self.path, pieces, append=self._kind == "ab", expect=expect)
            except ContentChanged as error:
                raise FileExistsError(17, "it exists", self.path) from error
        if not self.autocommit:
            super().close()

    def discard(self) -> None:
        """Drop what was written."""
        super().close()


@contextmanager
def _translated(path: str | None = None) -> Iterator[None]:
    """Raise the errors that callers of a filesystem expect; others as they are."""
    try:
        yield
    except (PathNotFound, VaultNotFound, ForkNotFound) as error:
        raise FileNotFoundError(2, error.message, path) from error
    except PathEscapes as error:
        raise PermissionError(1, error.message, path) from error
    except InvalidPath as error:
        raise ValueError(error.message) from error
    except PathUnsuitable as error:
        raise OSError(22, error.message, path) from error
    except HostError as error:
        raise OSError(error.errno, error.message, path) from error
