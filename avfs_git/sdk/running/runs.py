"""A fork for the time of one program: how it begins, and what becomes of it at the end.

Decided here: where a fork that is made for a program is mounted (`mounts/VAULT/FORK` in the home), how it is called if
the caller gives no name, that a fork that was made for a program and in which nothing changed is deleted again, and
that the end of a run touches no fork but that of the run: where that was deleted meanwhile, another one may have its
name. `cli.commands.running.run` calls it. After a crash the fork is one like any other: mounted or not, with everything
that was written.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from avfs_git.errors import (
    AvfsError,
    ForkExists,
    ForkNotFound,
    MountBusy,
    MountError,
    WorkspaceBusy,
    WorkspaceMounted,
)
from avfs_git.model import Checkpoint, Diff, RunOutcome, SessionState, Warning
from avfs_git.paths import is_fork_name
from avfs_git.sdk.home import Home
from avfs_git.sdk.vault import Session, Vault
from avfs_git.values import NamedTuple, replace
from avfs_git.workspace.checkpoint.bookkeeping import END_OF_RUN
from avfs_git.workspace.forks import clones

_TRIES = 20
_MOST_LISTED = 1000


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

    def __init__(
        self, vault: Vault, session: Session, *, below: str, is_new: bool, stays_mounted: bool = False
    ) -> None:
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

    def spell_unmount(self) -> str:
        """Spell the words behind `avfs` that unmount the fork wherever it is still mounted."""
        found = self.vault.find_session(self.fork) or self.session
        if found.info().state == SessionState.UNMOUNTING:  # a program has it in a mount namespace of its own
            return f"--vault {shlex.quote(self.vault.name)} unmount --force {shlex.quote(self.fork)}"
        # nothing is saved on a branch that git has taken away
        verb = "stop" if self.vault.has_fork(self.fork) else "unmount"
        return f"{verb} {shlex.quote(os.fspath(found.path))}"

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
        try:
            ended = self._end(keep=keep, discard=discard)
            is_gone = ended.outcome == "kept" and not self.session.is_of_fork()
        except ForkNotFound:
            is_gone = not self.session.is_of_fork()
            if not is_gone:
                raise
        return self._describe_gone() if is_gone else ended

    def _describe_gone(self) -> RunEnd:
        """Say that the fork was deleted while the program ran."""
        text = f"the fork '{self.fork}' was deleted during the run"
        if self.vault.has_fork(self.fork):
            text += "; the fork that has its name now was made since, and stays as it is"
        elif self.session.info().state != SessionState.ENDED:
            text += (
                ", or its branch renamed; what is not committed is in its tree, and the commands that are named "
                "bring it back"
            )
        is_mounted = self.session.info().state != SessionState.ENDED
        return RunEnd(
            "gone",
            Diff(self.start, "", ()),
            (),
            pushed=False,
            mounted=is_mounted,
            warnings=(Warning("run.gone", text),),
        )

    def _end(self, *, keep: bool, discard: bool) -> RunEnd:
        mounted, warnings = self._save()
        head = self.vault.fork_info(self.fork).head
        diff = self._compare(head)
        made = self._list_made(head)
        pushed = self.session.is_pushed()
        if discard and mounted:
            warnings += (self._warn_kept(f"'{self.session.path}' is in use"),)
        gone = not mounted and (discard or (self._is_new and not keep and self.session.is_untouched()))
        if gone:
            try:
                # it looks again: another process may have written meanwhile
                removed = self.session.remove(discard=discard)
            except WorkspaceBusy as error:  # another process works in it, or has mounted it elsewhere
                removed, mounted = None, isinstance(error, WorkspaceMounted)
                warnings += (self._warn_kept(error.message),)
            if removed is None or not removed.deleted:
                gone, head, pushed = False, self.vault.fork_info(self.fork).head, self.session.is_pushed()
                diff, made = self._compare(head), self._list_made(head)
            if removed is not None:
                warnings = tuple(dict.fromkeys((*warnings, *removed.warnings)))
                if removed.left_in_git:
                    text = (
                        f"the fork '{self.fork}' is kept: git in it has put work elsewhere: "
                        f"{', '.join(removed.left_in_git)}"
                    )
                    warnings += (Warning("run.left_in_git", text),)
        outcome: RunOutcome = "kept" if not gone else "discarded" if discard else "unchanged"
        return RunEnd(outcome, diff, made, pushed, mounted, warnings)

    def _warn_kept(self, reason: str) -> Warning:
        return Warning("run.in_use", f"the fork '{self.fork}' is kept: {reason}")

    def _save(self) -> tuple[bool, tuple[Warning, ...]]:
        """Save what is not saved, and unmount; tell whether the fork is mounted still."""
        warnings = self.session.checkpoint(END_OF_RUN, step=True).warnings
        if self._stays_mounted:
            return True, warnings
        try:
            if self.session.unmount().outcome == "detached":  # a program has the tree in a mount namespace of its own
                return True, warnings
        except MountBusy:
            return True, warnings
        except MountError as error:  # another mount is in it, or the same tree is mounted elsewhere, too
            return True, (*warnings, Warning("run.still_mounted", error.message))
        # what a program wrote between the two
        return False, warnings + self.session.checkpoint(END_OF_RUN, step=True).warnings

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
            session = home.fork_directory(
                source, None, branch=make_name(program) if name is None else name, made_for=made_for
            )
        except ForkExists:
            if name is not None or not last:
                raise
        else:
            return Run(session.vault, session, below=_find_below(home, session, source.resolve()), is_new=True)
    raise AssertionError


def find_maker(vault: Vault, fork: str) -> str | None:
    """Tell for which program a fork was made, as `made_for` named it.

    Return None for any other fork, and for one that was restored.
    """
    return clones.find_maker(vault._core, fork)  # noqa: SLF001 - the two are one interface


def _find_below(home: Home, session: Session, source: Path) -> str:
    """Find a directory in the tree that was forked: of the mount that it lies in, or of the clone.

    Only a fork of a mount has a parent, and a mount that another one covers is not what was forked. A mount may lie in
    its clone.
    """
    shown = home.session_at(source) if session.vault.fork_info(session.fork).parent is not None else None
    top = (shown.path if shown is not None else session.vault.origin()) or source
    return os.fspath(source.relative_to(top))


def begin_in_vault(vault: Vault, source: str | None, *, name: str | None, program: str, below: str) -> Run:
    """Fork a fork of a vault, and mount the new one."""
    chosen = make_name(program) if name is None else name
    vault.fork(chosen, source=source).close()
    workspace = vault.workspace(chosen)
    try:
        return Run(vault, workspace.mount(), below=below, is_new=True)
    except AvfsError:
        with suppress(AvfsError):  # unless another process works there already
            vault._dispatch.delete_fork(chosen, lambda locked: locked.opened.is_unused(), by=source)  # noqa: SLF001 - the two are one interface
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
    with closing(vault.workspace(fork)) as workspace:
        workspace.checkpoint()  # what the program finds is what its changes are compared with
        return Run(vault, workspace.mount(), below=below, is_new=False)


def make_name(program: str) -> str:
    """Make a name for a fork: that of the program, and four random letters."""
    stem = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in Path(program).name).strip(
        "-"
    )[:30]
    name = f"{stem or 'run'}-{os.urandom(2).hex()}"
    return name if is_fork_name(name) else f"run-{os.urandom(2).hex()}"
