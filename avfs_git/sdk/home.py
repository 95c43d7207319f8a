"""A home: the vaults of one user, by name.

Decided here: where vaults are stored, and which of them is current. Callers may use several threads and processes. The
next deletion completes one that a crash interrupted.
"""

from __future__ import annotations

import os
import shlex
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from avfs_git.errors import (
    AvfsError,
    HostError,
    InvalidInput,
    InvalidName,
    LeftInForce,
    MountPointUnusable,
    NoVaultChosen,
    VaultExists,
    VaultNotFound,
    quote,
)
from avfs_git.faults import reach
from avfs_git.host.files.closing import Closing
from avfs_git.host.files.durable import check_directory, fsync_dir, host_errors, is_directory
from avfs_git.host.files.seal import Seal
from avfs_git.host.locks.flocks import directory_held
from avfs_git.host.locks.locks import LOCK_TIMEOUT_S, Holder
from avfs_git.host.mounts.mounts import find_cover
from avfs_git.host.userhome import expand_user
from avfs_git.model import CloneResult, Identity, SessionInfo, VaultInfo, Warning
from avfs_git.paths import check_fork_name, check_vault_name, host_path, suggest_vault_name
from avfs_git.sdk.dispatch import Dispatch
from avfs_git.sdk.given import checked
from avfs_git.sdk.parts import (
    aftermath,
    atomic,
    clones,
    cloning,
    create,
    mountsource,
    nursery_client,
    point,
    remotegit,
    removal,
    renaming,
    stop,
    tree,
)
from avfs_git.sdk.repository.programs import Programs
from avfs_git.sdk.vault import Session, Vault
from avfs_git.workspace.exchange.source import is_source
from avfs_git.workspace.vault import known
from avfs_git.workspace.vault.format import SEAL_KEY, VAULTS, VaultLayout, read_current, write_current
from avfs_git.workspace.vault.vault import Caller, OpenVault

if TYPE_CHECKING:
    from avfs_git.sdk.options import FetchOptions

_SUFFIX = ".git"
_DEFAULT = "~/.local/share/avfs"


@checked
class Home(Closing):
    """A directory with the vaults of one user, and which of them is current."""

    def __init__(
        self,
        home: Path | None = None,
        *,
        identity: Caller | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        remote_environment: Mapping[str, str] | None = None,
        policy: Path | None = None,
        runs_hooks: bool = True,
        on_wait: Callable[[str, Holder | None], object] | None = None,
        on_warnings: Callable[[Sequence[Warning]], object] | None = None,
    ) -> None:
        """Use a home; the first vault makes its directory.

        Args:
            home: The directory; by default `~/.local/share/avfs`. A relative path is resolved now.
            identity: Author of commits, unless a vault's settings name one; or a function that finds it for a vault's
                repository, called before the first commit or session there.
            clock_ns: Gives the time of commits and operations, in nanoseconds since the epoch.
            lock_timeout_s: How long to wait for other processes, in seconds.
            remote_environment: Variables for git's remotes, such as `os.environ`: only those for credentials, ssh,
                proxies and git's own configuration are used; of the latter also the user's ignore rules. Git asks for
                passwords on the terminal only if `GIT_TERMINAL_PROMPT=1` is among them.
            policy: The user's policy file for commands, which need not exist.
            runs_hooks: Run the hooks of a vault's owner.
            on_wait: Called with a fork and the process that holds it, if known, when a change waits for that process.
            on_warnings: Called with warnings that no result carries, such as of files that were left out.
        """
        self.home = (host_path(home) if home is not None else expand_user(Path(_DEFAULT))).absolute()
        self._seal = Seal(self.home / SEAL_KEY)
        self._remote_environment = remote_environment
        self._policy = None if policy is None else host_path(policy).absolute()
        self._runs_hooks = runs_hooks
        self._on_wait = on_wait
        self._on_warnings = on_warnings
        self._identity = identity
        self._clock_ns = clock_ns
        self._lock_timeout_s = lock_timeout_s
        self._opened: list[Vault] = []

    def __repr__(self) -> str:
        return f"<Home {str(self.home)!r}>"

    def close(self) -> None:
        """Close all vaults that this object opened. A second call does nothing."""
        while self._opened:
            self._opened.pop().close()

    @property
    def _vaults(self) -> Path:
        return self.home / VAULTS

    def _path_of(self, name: str) -> Path:
        return self._vaults / (check_vault_name(name) + _SUFFIX)

    def _open(self, path: Path, name: str) -> Vault:
        is_foreign = known.check_trust(self.home, path, self._seal)
        core = OpenVault(
            path,
            name=name,
            identity=self._identity,
            clock_ns=self._clock_ns,
            remote_environment=self._remote_environment,
            is_trusted=True,
            is_foreign=is_foreign,
        )
        dispatch = Dispatch(
            core,
            lock_timeout_s=self._lock_timeout_s,
            mounts=self.home / "mounts",
            remote_environment=self._remote_environment,
            seal=self._seal,
            programs=Programs(core, self.home, self._seal, runs_hooks=self._runs_hooks),
            user_policy=self._policy,
            on_wait=self._on_wait,
            on_warnings=self._on_warnings,
        )
        vault = Vault(dispatch, is_current=lambda: self._is_current(name))
        self._opened.append(vault)
        return vault

    def _mark(self, path: Path, warnings: list[Warning]) -> None:
        trust = f"`avfs vault trust {shlex.quote(os.fspath(path))}`"
        with aftermath.aftermath(warnings, f"to give it hooks of git's, {trust}"):
            known.mark_made(path, self._seal)

    def trust_vault(self, path: str | Path) -> tuple[Path, ...]:
        """Trust a vault: its hooks and configuration may run programs, even another user's. List the trusted vaults.

        Raises:
            VaultNotFound: If there is no such directory.
            HostError: If the disk refuses.
        """
        directory = host_path(path)
        if not is_directory(directory):
            raise VaultNotFound(os.fspath(directory.absolute()))
        return known.change_trusted(self.home, directory.resolve(), trusted=True)

    def distrust_vault(self, path: str | Path) -> tuple[Path, ...]:
        """Take back what `trust_vault` did; the path need not be there. List all that are trusted."""
        return known.change_trusted(self.home, host_path(path).resolve(), trusted=False)

    def trusted_vaults(self) -> tuple[Path, ...]:
        """List the trusted vaults, including vaults of other users."""
        return tuple(known.read_trusted(self.home))

    def create_vault(
        self, name: str, *, source: str | Path | None = None, branch: str = "main", shared: bool = False
    ) -> Vault:
        """Make a vault.

        Args:
            name: The vault's name.
            source: A directory to import; it is only read. Of a git repository, history, branches, and uncommitted,
                untracked and ignored files are imported.
            branch: Name of the first fork, if the source has no branch.
            shared: Share the vault with the group of this process (`core.sharedRepository = group`). Its owner trusts
                it; other members must call `trust_vault`.

        Raises:
            VaultExists: If the name is taken.
            NotAVault: If the source is a repository that cannot be used.
            HostError: If the source or the disk cannot be used; nothing is left behind.
        """
        path = self._path_of(name)
        created = create.create_vault(
            path,
            source=host_path(source) if source is not None else None,
            branch=branch,
            identity=self._identity,
            clock_ns=self._clock_ns,
            environment=self._remote_environment,
            shared=shared,
        )
        warnings = list(created.warnings)
        if shared:
            with aftermath.aftermath(warnings, f"`avfs vault trust {shlex.quote(os.fspath(path))}`"):
                self.trust_vault(path)  # what members make in it belongs to them
            with (
                aftermath.aftermath(warnings, "its members cannot pass to it"),
                host_errors(f"let others pass to '{path}'"),
            ):
                for place in (self.home, self._vaults):
                    place.chmod(stat.S_IMODE(place.stat().st_mode) | 0o011)
        return self._open_made(path, name, warnings)

    def clone_vault(
        self,
        url: str,
        name: str,
        *,
        branch: str | None = None,
        lazy: bool = False,
        **options: Unpack[FetchOptions],
    ) -> CloneResult:
        """Clone another repository into a new vault, with the remote `origin`.

        Args:
            url: A path, a URL (file, git, http, https, ssh), or `[user@]host:path`.
            name: The vault's name.
            branch: The branch that becomes the first fork; the remote's default branch if not given.
            lazy: Make a partial clone, if the server supports it: contents of files are fetched when they are needed.
            options: What to fetch beside branches; see `FetchOptions`.

        Raises:
            VaultExists: If the name is taken.
            InvalidInput: If the URL cannot be used.
            RemoteError: If the remote cannot be reached or read; nothing is left behind.
        """
        path = self._path_of(name)
        cloned = cloning.clone_vault(
            path,
            url,
            branch=branch,
            lazy=lazy,
            access=remotegit.Access(self._remote_environment),
            identity=self._identity,
            clock_ns=self._clock_ns,
            **options,
        )
        vault = self._open_made(path, name, list(cloned.warnings))
        return CloneResult(
            vault=vault.info(),
            url=vault.list_remotes()[0].url,
            fork=cloned.fork,
            head=cloned.head.hex() if cloned.head is not None else None,
            branches=cloned.branches,
            messages=cloned.messages,
            warnings=vault.warnings,
        )

    def _open_made(self, path: Path, name: str, warnings: list[Warning]) -> Vault:
        """Open a vault that was made just now; the first vault of a home becomes the current one."""
        self._mark(path, warnings)
        vault = self._open(path, name)
        with aftermath.aftermath(warnings, f"choose it with `avfs vault use {name}`"):
            if self.current_vault() is None:
                self._write_current(name)
        vault.warnings = tuple(warnings)
        return vault

    def open_vault(self, name: str | Path | None = None) -> Vault:
        """Open a vault.

        Args:
            name: A vault of this home; a path to any bare repository; or None for the current vault.

        Raises:
            NoVaultChosen: If no vault is named and none is current.
            VaultNotFound: If there is no such vault.
            VaultUntrusted: If the vault belongs to another user, or could run programs and is outside of this home.
            NotAVault: If the directory is no usable repository.
        """
        if name is None and (name := self.current_vault()) is None:
            raise NoVaultChosen
        if (
            isinstance(name, str)
            and not any(separator in name for separator in (os.sep, "\0"))
            and name not in (".", "..")
        ):
            path = self._path_of(name)
            if is_directory(path):
                return self._open(path, name)
            raise VaultNotFound(name)
        path = Path(name)
        if "\0" in str(name) or not is_directory(path):
            raise VaultNotFound(str(name))
        whole = path.resolve()
        in_home = whole.parent == self._vaults.resolve() and whole.suffix == _SUFFIX
        return self._open(whole, whole.stem if in_home else str(whole))

    def has_vault(self, name: str | Path | None) -> bool:
        """Whether this home has a vault with a name."""
        try:
            return isinstance(name, str) and is_directory(self._path_of(name))
        except InvalidInput:
            return False

    def list_vaults(self) -> list[VaultInfo]:
        """Describe the vaults of this home, sorted by name; `problem` says why one cannot be opened."""
        entries: list[str] = []
        with host_errors(f"read '{self._vaults}'"), suppress(FileNotFoundError):  # of a home without vaults
            entries = sorted(entry.name for entry in self._vaults.iterdir())
        names = [
            entry.removesuffix(_SUFFIX) for entry in entries if entry.endswith(_SUFFIX) and not entry.startswith(".")
        ]
        return [self._describe(name) for name in names]

    @contextmanager
    def _opened_briefly(self, name: str) -> Iterator[Vault]:
        """Open a vault for a block."""
        with self.open_vault(name) as vault:
            yield vault
        self._opened.remove(vault)

    def _describe(self, name: str) -> VaultInfo:
        try:
            with self._opened_briefly(name) as vault:
                return vault.info()
        except AvfsError as error:
            path, made = self._vaults / f"{name}{_SUFFIX}", 0
            with suppress(OSError):
                made = path.stat().st_mtime_ns
            return VaultInfo(
                name, path, self._is_current(name), None, 0, made, problem=error.message, problem_code=error.code
            )

    def current_vault(self) -> str | None:
        """The name of the vault that `open_vault` opens by default, or None."""
        return read_current(self.home)

    def _is_current(self, name: str) -> bool:
        """Whether a vault is the current one, as far as can be told."""
        with suppress(HostError):
            return self.current_vault() == name
        return False

    def _write_current(self, name: str) -> None:
        with host_errors("choose the current vault"):
            write_current(self.home, name)

    def use_vault(self, name: str) -> VaultInfo:
        """Make a vault the current one."""
        with self._opened_briefly(check_vault_name(name)) as vault:
            self._write_current(name)
            return vault.info()

    def rename_vault(self, name: str, new: str) -> VaultInfo:
        """Rename a vault. Its hooks stay enabled and trusted, and it stays the current one.

        Open approvals are void, because each is for a vault at a place. After a crash the vault has the old name or the
        new one.

        Raises:
            VaultNotFound: If there is no such vault.
            VaultExists: If the new name is taken.
            InvalidInput: If it has the forks of a directory, which finds the vault by its name.
            WorkspaceMounted: If one of its forks is mounted.
            WorkspaceBusy: If another process holds one of its workspaces, or maintains the vault for a minute.
            HostError: If the disk fails; the vault has the old name.
        """
        path, place = self._path_of(name), self._path_of(new)
        if not is_directory(path):
            raise VaultNotFound(name)
        warnings: list[Warning] = []
        notes = renaming.VaultNotes(self.home, self._seal, path, place)
        with host_errors(f"rename '{path}'"), directory_held(self._vaults), self._opened_briefly(name) as vault:
            if os.path.lexists(place):
                raise VaultExists(new)
            if (origin := VaultLayout(path).read_origin()) is not None:
                raise InvalidInput(f"{quote(name)} has the forks of '{origin}', which finds the vault by this name")
            vault.check_unmounted()
            reach("vault.renaming")
            with vault._unmaintained(), vault._idle():  # noqa: SLF001 - the two are one interface
                vault.check_unmounted()  # a fork without a workspace had nothing to hold
                notes.copy()
                reach("vault.rename_prepared")
                path.rename(place)
                try:
                    reach("vault.has_new_name")
                    fsync_dir(self._vaults)
                except BaseException:
                    place.rename(path)
                    raise
            with aftermath.aftermath(warnings, f"what was noted for vault {quote(name)} stays"):
                notes.drop()
        if warnings and self._on_warnings is not None:
            self._on_warnings(warnings)
        with self._opened_briefly(new) as vault:
            return vault.info()

    def delete_vault(self, name: str) -> VaultInfo:
        """Delete a vault with everything in it. This cannot be undone.

        Raises:
            VaultNotFound: If there is no such vault.
            WorkspaceMounted: If one of its forks is mounted.
            WorkspaceBusy: If another process holds one of its workspaces, or maintains the vault for a minute.
            LeftInForce: If parts of it could not be removed. The vault is gone; the next deletion removes the rest.
            HostError: If the disk fails; the vault is still there.
        """
        path = self._path_of(name)
        if not is_directory(path):
            raise VaultNotFound(name)
        atomic.remove_unfinished(self._vaults)
        gone = path.with_name(f".deleted-{os.getpid()}-{os.urandom(4).hex()}-{path.name}")
        # Nobody else deletes a vault meanwhile: what is looked at is what goes, and no new one of its name.
        with host_errors(f"delete '{path}'"), directory_held(self._vaults), self._opened_briefly(name) as vault:
            info = vault.info()
            vault.check_unmounted()
            reach("vault.deleting")
            with vault._unmaintained(), vault._idle():  # noqa: SLF001 - the two are one interface
                vault.check_unmounted()  # a fork without a workspace had nothing to hold
                # First out of sight, in one step: a vault that is half deleted must not be found.
                path.rename(gone)
                try:
                    reach("vault.out_of_sight")
                    fsync_dir(path.parent)
                except BaseException:
                    gone.rename(path)
                    raise
                # what is recorded of its attempts; a record that stays names forks that are gone
                with suppress(OSError):
                    (self.home / "attempts" / name).rename(gone / "attempts")
        try:
            if self._is_current(name):
                (self.home / "current").unlink(missing_ok=True)
            removal.remove_tree(gone)
        except (HostError, OSError) as error:
            raise LeftInForce(f"remove all of '{gone}'", error, {}) from error
        return info

    # --- mounts ----------------------------------------------------------------------------------

    def sessions(self, *, bases: bool = False) -> list[SessionInfo]:
        """List all mounts of this home's vaults, oldest first; clean up those whose process died.

        `bases`: see `Vault.sessions`. Vaults that cannot be opened are skipped: `list_vaults` says why.
        """
        found: list[SessionInfo] = []
        for info in self.list_vaults():
            if info.problem is not None:
                continue
            with self._opened_briefly(info.name) as vault:
                found += vault.sessions(bases=bases)
        return sorted(found, key=lambda session: session.started_at_ns)

    def fork_directory(
        self,
        source: str | Path,
        directory: str | Path | None,
        *,
        branch: str | None = None,
        author: Identity | None = None,
        backend: str = "auto",
        made_for: str | None = None,
    ) -> Session:
        """Fork the present state of a clone, or of any directory, and mount the fork; return when programs can use it.

        The first fork of a directory makes a vault for it. The directory is only read. Git in the fork's tree has a
        clone as the remote `origin`, to which the fork can be pushed. A fork of a mounted fork is made in the same
        vault.

        Args:
            source: The directory, or any directory in a working tree of git.
            directory: Where to mount the fork: an empty directory, or a missing one. None for `mounts/VAULT/FORK` in
                the home.
            branch: The fork's name; the name of `directory` if not given.
            author: Author of the fork's commits; the vault's author if not given.
            backend: As for `Workspace.mount`.
            made_for: The program that asks for the fork and will end it; `runs.find_maker` tells it.

        Raises:
            ForkExists: If the vault has a fork of that name.
            WorkspaceMounted: As for `Vault.fork`.
            InvalidName: If no fork can have the name.
            MountPointUnusable: If the directory cannot be mounted on, or lies in the source.
            InvalidInput: If the directory is in a read-only mount.
            NotAVault, FormatUnsupported: If the clone cannot be read safely.
            RefDamaged: If the branch that is checked out there does not say at which commit it is.
            FuseUnavailable: If this user cannot mount anything here; nothing is made, or the fork is deleted again.
            SessionFailed: If the fork cannot be mounted; it is deleted again.
        """
        source = host_path(source)
        try:
            check_directory(source)  # else the clone around it would be forked
        except HostError as error:
            error.hint = "Name the directory of a clone or a folder. `avfs fork create NAME` makes a fork of a vault."
            raise
        top = clones.find_top(source)
        place = point.resolve(self.home / "mounts" if directory is None else directory)
        shown = self._find_shown(top)
        if shown is not None:
            top = shown.path
        if place == top or top in place.parents:
            outside = f"Work in the directory of a project; that of the vaults, '{self.home}', must lie outside of it."
            hint = "Name one beside it." if directory is not None else outside
            raise MountPointUnusable(os.fspath(place), "it is in the directory that is forked", hint=hint)
        try:
            name = check_fork_name(branch if branch is not None else place.name if directory is not None else "")
        except InvalidName as error:
            if branch is None:
                error.hint = (
                    f"It is that of the directory. Name the fork with `--branch NAME`. {error.hint or ''}".rstrip()
                )
            raise
        if directory is not None:
            # a refusal leaves nothing in the log
            point.check(place, shown.vault.path if shown is not None else self._vaults)
        tree.check_mountable(backend)  # nor a vault for nothing
        with nursery_client.starting_early():  # what the session needs is loaded while the directory is looked at
            warnings: list[Warning] = []
            vault, parent = (
                (shown.vault, shown.fork) if shown is not None else (self._vault_of(top, name, warnings), None)
            )
            vault._dispatch.check_new(name)  # noqa: SLF001 - the two are one interface
            core = vault._core  # noqa: SLF001 - the two are one interface
            taken = clones.fork_present(core, name, top, parent=parent, author=author, made_for=made_for)
            vault.warnings = (*warnings, *taken)
            try:
                return vault.workspace(name).mount(place if directory is not None else None, backend=backend)
            except BaseException:
                with suppress(AvfsError):
                    vault._dispatch.delete_fork(name, lambda locked: locked.opened.is_unused())  # noqa: SLF001 - the two are one interface
                raise

    def _find_shown(self, top: Path) -> Session | None:
        """Find the mount that a directory belongs to; None if it is in none, or has a repository of its own there."""
        shown = self.session_at(top)
        if shown is None:
            return None
        mounted = shown._found.find_mount()  # noqa: SLF001 - the two are one interface
        is_hidden = mounted is not None and find_cover(mounted) is not None
        if is_hidden or (shown.path != top and (top / ".git").exists()):
            shown.vault.close()
            return None
        info = shown.info()
        if info.readonly:
            at = info.at[:12] if info.at else "STATE"
            make = f"`avfs --vault {shlex.quote(shown.vault.name)} fork create NAME --at {at}`"
            hint = f"Make a fork of what it shows with {make}."
            raise InvalidInput(f"the mount '{shown.path}' is read-only", hint=hint)
        return shown

    def _vault_of(self, top: Path, branch: str, warnings: list[Warning]) -> Vault:
        """Open the vault of a directory; make it if there is none, or only that of another clone that was there."""
        stem = suggest_vault_name(top.name)
        number = 1
        older = None
        while True:
            name = stem if number == 1 else f"{stem}-{number}"
            path = self._path_of(name)
            if not path.exists():
                with suppress(VaultExists):  # by somebody who was faster
                    clones.make_vault_of(path, top, branch)
                    self._mark(path, [])
                    if older is not None:
                        what = (
                            f"vault '{older}' has forks of another repository that was at '{top}'; this one is in "
                            f"'{name}'"
                        )
                        warnings.append(Warning("fork.clone_replaced", what))
            if VaultLayout(path).read_origin() == top:
                if is_source(path, top):
                    return self._open(path, name)
                older = name
            number += 1

    def session_at(self, directory: str | Path) -> Session | None:
        """Find the mount that a directory lies in, of any vault, or None. A dead process's mount is detached."""
        mounted = mountsource.find_mount_around(point.resolve(directory))
        if mounted is None:
            return None
        git_dir, session_id = mountsource.vault_of_source(mounted.source), mountsource.session_of_source(mounted.source)
        if git_dir is not None and git_dir.is_dir() and session_id is not None:
            vault = self.open_vault(git_dir)
            for found in stop.find_sessions(vault._core.layout.sessions, session_id=session_id):  # noqa: SLF001 - one interface
                return Session(vault, found)
        stop.clear_dead_mount(mounted.directory)
        return None


Avfs = Home
"""The same class by its first name."""
