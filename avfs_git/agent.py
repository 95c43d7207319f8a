"""One object for an agent: a vault, a fork of it at a time, its files, its commands and its checkpoints.

    from avfs_git.agent import AVFS

    with AVFS("shop", home=home) as fs:
        fs.fork_vault("main", "fix-login")
        fs.write("/notes.txt", "plan")
        answer = fs.proxy_exec("make", "test")
        print(answer["result"]["exit_code"], answer["result"]["changed_files"])

Decided here: a small interface whose values are ready for a model: text, lists and dictionaries as `--json` gives them.
It calls `avfs_git.sdk` in this process. A command that fails, or that the policy refuses, is an answer and no error.
Errors are those of `avfs_git.errors`. Callers may use several threads; nothing is printed. Home, author and the user's
policy are those of the command line.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any, Unpack

from avfs_git.cli.environment import open_home
from avfs_git.errors import AvfsError, VaultNotFound
from avfs_git.host.files.closing import Closing
from avfs_git.model import Identity, Kind, TreeNode
from avfs_git.records import to_error, to_record, to_warning
from avfs_git.sdk import ExecOptions, GrepOptions, PathLike, Vault, Workspace

AVFSError = AvfsError
"""The base of all errors; `code` identifies the failure, `hint` says what to do."""
VaultNotFoundError = VaultNotFound

_SCHEMA_VERSION = 1
_MATCHES_MAX = 10_000


class AVFS(Closing):
    """A vault, and the fork in it that the agent works on."""

    def __init__(
        self,
        vault: str | Path | None = None,
        *,
        fork: str | None = None,
        home: Path | None = None,
        identity: Identity | None = None,
        policy: Path | None = None,
    ) -> None:
        """Use a vault; the first use opens it.

        Args:
            vault: The vault's name, or a path; the current vault of the home by default.
            fork: The fork; the default fork by default.
            home: The directory of the vaults; that of the command line by default.
            identity: Author of commits; the user by default.
            policy: The user's policy file for commands; the user's own by default.
        """
        self._avfs = open_home(home, identity=identity, policy=policy)
        self._name = vault
        self._fork = fork
        self._vault: Vault | None = None

    def close(self) -> None:
        """Close the vault. A second call does nothing."""
        self._vault = None
        self._avfs.close()

    @property
    def vault(self) -> Vault:
        """The vault, as an object of the Python API."""
        if self._vault is None:
            self._vault = self._avfs.open_vault(self._name)
        return self._vault

    @property
    def workspace(self) -> Workspace:
        """The workspace of the fork, as an object of the Python API."""
        return self.vault.workspace(self._fork)

    # --- vaults and forks ---------------------------------------------------------------------------------------

    def create_vault(self, name: str, *, source: str | Path | None = None) -> dict[str, Any]:
        """Make a vault, from a directory if one is given, and work in it.

        Raises:
            VaultExists: If the name is taken.
        """
        self._vault, self._name, self._fork = self._avfs.create_vault(name, source=source), name, None
        return _dictionary(self._vault.info())

    def use_vault(self, name: str, fork: str | None = None) -> dict[str, Any]:
        """Work in another vault, or in another fork.

        Raises:
            VaultNotFound: If there is no such vault.
        """
        self._vault, self._name, self._fork = self._avfs.open_vault(name), name, fork
        return _dictionary(self._vault.info())

    def list_vaults(self) -> list[str]:
        """Name the vaults of the home."""
        return [info.name for info in self._avfs.list_vaults()]

    def fork_vault(self, source: str | None, name: str) -> dict[str, Any]:
        """Make a fork of a fork, and work in it; None stands for the vault's own fork.

        Raises:
            ForkExists: If the name is taken.
        """
        self.vault.fork(name, source=source)
        self._fork = name
        return _dictionary(self.vault.fork_info(name))

    # --- files --------------------------------------------------------------------------------------------------

    def mkdir(self, path: PathLike) -> None:
        """Make a directory, with missing parents."""
        self.workspace.make_dir(path, parents=True)

    def write(self, path: PathLike, content: str | bytes) -> dict[str, Any]:
        """Write a file."""
        data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        return _dictionary(self.workspace.write(path, data))

    def cat(self, path: PathLike) -> str:
        """Read a file as text; bytes that are not UTF-8 become surrogates, which `write` accepts."""
        return self.read(path).decode("utf-8", "surrogateescape")

    def read(self, path: PathLike) -> bytes:
        """Read a file."""
        return self.workspace.read(path)

    def ls(self, path: PathLike = "/") -> list[dict[str, Any]]:
        """Describe the entries of a directory."""
        return [_dictionary(info) for info in self.workspace.list_dir(path)]

    def rm(self, path: PathLike, *, recursive: bool = False) -> None:
        """Remove a file, or with `recursive` a directory and everything in it."""
        self.workspace.remove(path, recursive=recursive)

    def cp(self, source: PathLike, destination: PathLike, *, recursive: bool = True) -> dict[str, Any]:
        """Copy a file or directory."""
        return _dictionary(self.workspace.copy(source, destination, recursive=recursive))

    def mv(self, source: PathLike, destination: PathLike) -> dict[str, Any]:
        """Rename a file or directory."""
        return _dictionary(self.workspace.move(source, destination))

    def tree(self, path: PathLike = "/") -> str:
        """List everything below a path, one name a line, indented by depth."""
        lines: list[str] = []
        pending: list[tuple[TreeNode, int]] = [(self.workspace.tree(path, sizes=False), 0)]
        while pending:
            node, depth = pending.pop()
            name = node.info.path.rpartition(b"/")[2].decode("utf-8", "replace")
            lines.append(f"{'  ' * depth}{name}{'/' if node.info.kind is Kind.DIRECTORY else ''}")
            pending += [(child, depth + 1) for child in reversed(node.children)]
        return "\n".join(lines) + "\n"

    def grep(self, pattern: str, path: PathLike = "/") -> list[dict[str, Any]]:
        """Find the lines that match a Perl-compatible regular expression in text files below a path; at most 10,000.

        Raises:
            InvalidInput: If the pattern is no regular expression.
        """
        return self._find(pattern, path, perl=True, ignored=True)

    def search(self, query: str, path: PathLike = "/") -> list[dict[str, Any]]:
        """Find the lines that contain a text, ignoring case, as `grep` does."""
        return self._find(query, path, fixed=True, ignore_case=True, ignored=True)

    def _find(self, pattern: str, path: PathLike, **options: Unpack[GrepOptions]) -> list[dict[str, Any]]:
        found = self.workspace.grep(pattern, [path], **options)
        matches = ((file.path, line) for file in found.files for line in file.lines)
        return [
            _dictionary(
                {"path": b"/" + at, "line": line.number, "text": line.text.rstrip(b"\r").decode("utf-8", "replace")}
            )
            for at, line in islice(matches, _MATCHES_MAX)
        ]

    # --- commands -----------------------------------------------------------------------------------------------

    def proxy_exec(
        self, *command: str, timeout: int | None = 300_000, **options: Unpack[ExecOptions]
    ) -> dict[str, Any]:
        """Run a command and commit its changes; the answer is the document that `avfs exec --json` gives.

        A command that fails has `success: false` and a `result`; a command that could not run has an `error`.

        Args:
            command: The program and its arguments.
            timeout: Time limit in milliseconds; None for no limit. It stands for the option `timeout_ms`.
            options: The other options of `Workspace.exec`, such as `shell`, `cwd`, `readonly`, `checkpoint`, `stdin`,
                `approve`.
        """
        request = {
            "command": list(command),
            "cwd": options.get("cwd", "/"),
            "readonly": options.get("readonly", False),
            "timeout": {"millis": timeout} if timeout else "none",
        }
        document = {"schema_version": _SCHEMA_VERSION, "kind": "proxy_exec_result", "request": to_record(request)}
        try:
            result = self.workspace.exec(*command, timeout_ms=timeout, **options)  # type: ignore[misc]  # Python refuses both
        except AvfsError as error:
            return {**document, "success": False, "result": None, "warnings": [], "error": to_error(error)}
        warnings = [to_warning(warning) for warning in result.warnings]
        return {**document, "success": result.success, "result": to_record(result), "warnings": warnings, "error": None}

    # --- checkpoints --------------------------------------------------------------------------------------------

    def checkpoint_save(self, name: str | None = None) -> dict[str, Any]:
        """Save a checkpoint, with a name if one is given."""
        return _dictionary(self.workspace.checkpoint(name))

    def checkpoint_restore(self, name: str) -> dict[str, Any]:
        """Restore the files of a checkpoint; uncommitted changes are saved first.

        Raises:
            CheckpointNotFound: If no checkpoint has the name.
        """
        return _dictionary(self.workspace.restore(name))

    def checkpoint_list(self) -> list[dict[str, Any]]:
        """List the checkpoints, newest first."""
        return [_dictionary(checkpoint) for checkpoint in self.workspace.list_checkpoints()]

    def undo(self) -> dict[str, Any]:
        """Undo the last operation on the fork."""
        return _dictionary(self.workspace.undo())

    # --- upkeep -------------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Describe the vault, with its size on disk."""
        return _dictionary(self.vault.info(sizes=True))

    def gc(self) -> dict[str, Any]:
        """Free space used by unreachable data."""
        return _dictionary(self.vault.gc())

    def compact(self) -> dict[str, Any]:
        """Free space used by unreachable data, and store the rest as deltas."""
        return _dictionary(self.vault.gc(compact=True))


def _dictionary(value: object) -> dict[str, Any]:
    """Spell a value as `--json` does."""
    record = to_record(value)
    assert isinstance(record, dict)  # noqa: S101 - values and mappings become objects
    return record
