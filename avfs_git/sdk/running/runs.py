"""A fork for the time of one program: how it begins, and what becomes of it at the end.

Decided here: where a fork that is made for a program is mounted (`mounts/VAULT/FORK` in the home), how it is called if the caller
gives no name, and that a fork that was made for a program and in which nothing changed is deleted again.
`cli.commands.running.run` calls it. After a crash the fork is one like any other:
mounted or not, with everything that was written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from avfs_git.errors import AvfsError, ForkExists, MountBusy, MountPointUnusable
from avfs_git.model import Checkpoint, Diff, Warning
from avfs_git.paths import is_fork_name
from avfs_git.sdk.home import Home
from avfs_git.sdk.vault import Session, Vault
from avfs_git.values import replace
from avfs_git.workspace.forks import clones

RunOutcome = Literal["kept", "unchanged", "discarded"]
_TRIES = 20
_MOST_LISTED = 1000
_LAST = "save at the end of a run"


class RunEnd(NamedTuple):
    """What a program left in its fork, and what became of the fork."""

    outcome: RunOutcome
    diff: Diff
    """From the state that the program began with, without lines."""
    checkpoints: tuple[Checkpoint, ...]
    """The commits that were made, the newest first."""
    pushed: bool
    mounted: bool
    """Whether the fork is still mounted: other programs use it, or it was mounted before."""
    warnings: tuple[Warning, ...] = ()


class Run:
    """A mounted fork for one program.

    Attributes:
        session: The mount.
        vault: The vault of the fork.
        fork: The fork.
        start: The commit that holds the state which the program begins with.
        below: The directory of the tree in which the program starts.
    """

    def __init__(self, vault: Vault, session: Session, *, below: str, is_new: bool, stays_mounted: bool = False) -> None:
        self.vault = vault
        self.session = session
        self.fork = session.fork
        self._is_new = is_new
        info = vault.fork_info(session.fork)
        self._head = info.head
        self.start = (info.base if is_new else None) or info.head or ""
        self.below = below
        self._stays_mounted = stays_mounted

    def environment(self) -> Mapping[str, str]:
        """The variables that name the fork to avfs, and the author that the fork may have to git."""
        places = {"AVFS_VAULT": self.vault.path, "AVFS_MOUNTPOINT": self.session.path}
        found = {"AVFS_FORK": self.fork} | {name: os.fspath(place) for name, place in places.items()}
        author = self.vault.fork_info(self.fork).author
        if author is not None:
            for role in ("AUTHOR", "COMMITTER"):
                found[f"GIT_{role}_NAME"], found[f"GIT_{role}_EMAIL"] = author.name, author.email
        return found

    def directory(self) -> Path:
        """Find where the program starts: `below`, or the nearest directory above it that exists."""
        place = self.session.path / self.below
        while place != self.session.path and not place.is_dir():
            place = place.parent
        return place

    def end(self, *, keep: bool = False, discard: bool = False) -> RunEnd:
        """Save a last checkpoint, unmount, and decide about the fork.

        Args:
            keep: Keep the fork, also if it is new and nothing changed.
            discard: Delete the fork; `Vault.undo` restores it.

        Raises:
            HostError, FileChanging: If the checkpoint fails; the mount stays.
        """
        mounted, warnings = self._save()
        head = self.vault.fork_info(self.fork).head
        diff = self._compare(head)
        made = self._list_made(head)
        pushed = self.session.is_pushed()
        if discard and mounted:
            warnings += (Warning("run.in_use", f"the fork '{self.fork}' is kept: '{self.session.path}' is in use"),)
        gone = not mounted and (discard or (self._is_new and not keep and self.session.is_untouched()))
        if gone:
            removed = self.session.remove(discard=discard)  # it looks again: somebody may have written meanwhile
            if not removed.deleted:
                gone, head, pushed = False, self.vault.fork_info(self.fork).head, removed.pushed
                diff, made = self._compare(head), self._list_made(head)
            if removed.left_in_git:
                text = f"the fork '{self.fork}' is kept: git in it has put work elsewhere: {', '.join(removed.left_in_git)}"
                warnings += (Warning("run.left_in_git", text),)
        outcome: RunOutcome = "kept" if not gone else "discarded" if discard else "unchanged"
        return RunEnd(outcome, diff, made, pushed, mounted, warnings)

    def _save(self) -> tuple[bool, tuple[Warning, ...]]:
        """Save what is not saved, and unmount; tell whether the fork is mounted still."""
        warnings = self._checkpoint()
        if self._stays_mounted:
            return True, warnings
        try:
            self.session.unmount()
        except MountBusy:
            return True, warnings
        return False, warnings + self._checkpoint()  # what a program wrote between the two

    def _checkpoint(self) -> tuple[Warning, ...]:
        workspace = self.vault.workspace(self.fork)
        try:
            return workspace.checkpoint(description=_LAST, step=True).warnings
        finally:
            workspace.close()

    def _compare(self, head: str | None) -> Diff:
        if head is None or not self.start:
            return Diff(self.start, head or "", ())
        found = self.vault.diff(self.start, head, fork=self.fork)
        return replace(found, files=tuple(replace(file, hunks=(), patch=b"") for file in found.files))

    def _list_made(self, head: str | None) -> tuple[Checkpoint, ...]:
        if head is None or head == self._head:
            return ()
        made = []
        for entry in self.vault.log(head, fork=self.fork, limit=_MOST_LISTED):
            if entry.checkpoint.id == self._head:
                break
            made.append(entry.checkpoint)
        return tuple(made)


def begin_in_directory(home: Home, source: Path, *, name: str | None, program: str, made_for: str | None = None) -> Run:
    """Fork the present state of a directory, and mount the fork; see `Home.fork_directory`.

    Args:
        home: The home.
        source: The directory.
        name: The fork's name; one made of the program's if not given.
        program: The program's name.
        made_for: As for `Home.fork_directory`.
    """
    for last in range(_TRIES, -1, -1):
        try:
            session = home.fork_directory(source, None, branch=name or make_name(program), made_for=made_for)
        except MountPointUnusable as error:
            error.hint = f"Run it in the directory of a project; that of the vaults, '{home.home}', must lie outside of it."
            raise
        except ForkExists:
            if name is not None or not last:
                raise
        else:
            return Run(session.vault, session, below=_find_below(home, session, source.resolve()), is_new=True)
    raise AssertionError


def find_maker(vault: Vault, fork: str) -> str | None:
    """Tell for which program a fork was made, as `made_for` named it; None for any other fork, and for one that was restored."""
    return clones.find_maker(vault._core, fork)  # noqa: SLF001 - the two are one interface


def _find_below(home: Home, session: Session, source: Path) -> str:
    """Find a directory in the tree that was forked: of the mount that it lies in, or of the clone.

    Only a fork of a mount has a parent, and a mount that another one covers is not what was forked. A mount may lie in its clone.
    """
    shown = home.session_at(source) if session.vault.fork_info(session.fork).parent is not None else None
    top = (shown.path if shown is not None else session.vault.origin()) or source
    return os.fspath(source.relative_to(top))


def begin_in_vault(vault: Vault, source: str | None, *, name: str | None, program: str, below: str) -> Run:
    """Fork a fork of a vault, and mount the new one."""
    chosen = name or make_name(program)
    vault.fork(chosen, source=source).close()
    workspace = vault.workspace(chosen)
    try:
        return Run(vault, workspace.mount(), below=below, is_new=True)
    except AvfsError:
        vault.delete_fork(chosen, by=source)
        raise
    finally:
        workspace.close()


def resume(vault: Vault, fork: str, *, below: str) -> Run:
    """Mount a fork again for one more program; use the mount that it has.

    Raises:
        ForkNotFound: If there is no such fork.
    """
    vault.fork_info(fork)
    mounted = vault.find_session(fork)
    if mounted is not None and not mounted.info().readonly:
        return Run(vault, mounted, below=below, is_new=False, stays_mounted=True)
    workspace = vault.workspace(fork)
    try:
        workspace.checkpoint()  # what the program finds is what its changes are compared with
        return Run(vault, workspace.mount(), below=below, is_new=False)
    finally:
        workspace.close()


def make_name(program: str) -> str:
    """Make a name for a fork: that of the program, and four random letters."""
    stem = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in Path(program).name).strip("-")[:30]
    name = f"{stem or 'run'}-{os.urandom(2).hex()}"
    return name if is_fork_name(name) else f"run-{os.urandom(2).hex()}"
