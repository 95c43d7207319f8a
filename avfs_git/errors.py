"""Every error that avfs raises on purpose, with its stable code and exit status.

Decided here and nowhere else: the names, codes, families and wording of failures. Everybody raises
from here; only `cli` turns an error into text, a document or an exit status.

    AvfsError                 1     other
    |- InvalidInput           2     a name, path or option that cannot be used
    |- VaultError             10-19
    |- WorkspaceError         20-29
    |- CheckpointError        30-39
    |- MergeError             40-49
    |- MountError             50-59
    |- ProblemsFound          60    the doctor is not satisfied
    |- InternalError          70    a broken invariant: a bug in avfs
    |- PolicyError            80-89 what the policy refuses, or what is wrong with it
    |- RemoteError            90-99 another repository, or the way there
    |- ExecError              100-109 running a command, other than the command itself
    |- Interrupted            130   Ctrl-C
    `- Terminated             143   SIGTERM

A message is composed in the class, so that one failure always reads the same: lower case, no full
stop, the subject in single quotes. `hint` is a sentence with a command to run. `details` is JSON-safe.
The codes are API: they are added, never renamed. All stand in one module, which is long for that: it is one table, every
command loads it, and a module a family would cost each of them the time of ten.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import ClassVar


def quote(name: str | bytes) -> str:
    """Show a name from outside in a message: printable, in single quotes, on one line."""
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return f"'{shown[:300]}{'…' if len(shown) > 300 else ''}'"


def hide_user(text: str) -> str:
    """Show a text without the user information and the queries of the URLs in it, in which passwords and tokens stand.

    User information reaches up to the last `@` of the authority; where a password holds `/`, `?` or `#`, up to the very last.
    """
    if "://" not in text:
        return text
    import re  # noqa: PLC0415 - few texts have a URL in them

    def hide(match: re.Match[str]) -> str:
        rest = match[0]
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
        ends = [found.end() for found in re.finditer("@|%40", authority)]
        if ends:
            rest = rest[ends[-1] :]
        elif re.search(r":(?!\d*\W*$)[^\]]*$", authority):  # no port: a password goes on behind what ends a host elsewhere
            rest = rest.rpartition("@")[2]
        rest = re.sub(r"[?#].*?(['\".,;:)]*)$", r"?***\1", rest)
        return hide_user(rest)

    return re.sub(r"(?<=://)[^\s<>]+", hide, text)


def hide_users(value: object) -> object:
    """Do what `hide_user` does in all texts of a value that JSON takes."""
    if isinstance(value, str):
        return hide_user(value)
    if isinstance(value, Mapping):
        return {name: hide_users(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [hide_users(item) for item in value]
    return value


class AvfsError(Exception):
    """The root of all failures that a caller may want to tell apart.

    Attributes:
        code: Stable, dotted, for programs.
        message: For people; one line.
        hint: What to do next, or None.
        details: JSON-safe facts about this failure.
        exit_code: What a command line ends with.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, details: Mapping[str, object] | None = None) -> None:
        message = hide_user(message)
        super().__init__(message)
        self.message = message
        self.hint = hide_user(hint) if hint is not None else None
        self.details: dict[str, object] = {name: hide_users(value) for name, value in (details or {}).items()}


_REMEDIES = {
    28: "Free some space, then try again.",
    30: "That file system is read-only: make it writable, or use another place.",
    122: "Free some space, then try again.",
}
"""What to do about what the operating system refuses, by errno: ENOSPC, EROFS and EDQUOT."""


class HostError(AvfsError):
    """The operating system refused something: a full disk, a failing device, a missing permission."""

    code = "host.failed"

    def __init__(self, action: str, error: OSError) -> None:
        reason = error.strerror or str(error)
        super().__init__(
            f"cannot {action}: {reason}",
            hint=_REMEDIES.get(error.errno or 0),
            details={"errno": error.errno or 0},
        )
        self.errno = error.errno or 0


class NotWritable(HostError):
    """What is to be changed can be read here, and not written: a read-only disk, or somebody else's vault."""

    code = "host.not_writable"

    def __init__(self, action: str, error: OSError) -> None:
        super().__init__(action, error)
        if self.hint is None:
            self.hint = "Ask whoever it belongs to, or work in a vault of your own: `avfs clone` makes one of this."


class DirectoryGone(HostError):
    """The current directory is none any more: it was removed, or the mount that it was in has ended."""

    code = "host.directory_gone"

    def __init__(self, error: OSError) -> None:
        super().__init__("find the current directory", error)
        self.message = "the current directory is gone: it was removed, or the mount that it was in has ended"
        self.args = (self.message,)
        self.hint = 'Change to one that is there; `cd "$PWD"` does where a mount came back. See them with `avfs sessions`.'


class LeftInForce(HostError):
    """The operating system refused something so late that the operation could not be taken back either."""

    code = "host.left_in_force"

    def __init__(self, action: str, error: BaseException, refs: Mapping[str, str | None]) -> None:
        cause = error if isinstance(error, OSError) else OSError(getattr(error, "errno", 0), str(error) or type(error).__name__)
        super().__init__(action, cause)
        if isinstance(error, HostError):
            self.message = error.message
        self.message += "; it could not be taken back: the new state is in force"
        self.args = (self.message,)
        self.hint = "See it with `avfs op log`; `avfs undo` takes it back, `avfs doctor --repair` completes it."
        self.details |= {"in_force": "new", "refs": dict(refs)}


# --- command line and names ------------------------------------------------------------------------


class InvalidInput(AvfsError):
    """An argument that cannot mean anything here."""

    code = "input.invalid"
    exit_code = 2


class BadUsage(InvalidInput):
    """A command line that cannot be understood: an unknown verb or option, a missing argument."""

    code = "input.usage"


class PlaceDisputed(InvalidInput):
    """The current directory shows another vault or fork than the environment names, and the command changes something."""

    code = "input.place_disputed"


class ConfirmationNeeded(InvalidInput):
    """Something that cannot be undone was asked for without saying so, and nobody is there to ask."""

    code = "input.confirmation_needed"

    def __init__(self, action: str) -> None:
        super().__init__(f"cannot {action} without confirmation", hint="Say it with `--yes`.", details={"action": action})


class InvalidName(InvalidInput):
    """A name of a vault, fork, label or remote that is not allowed."""

    code = "input.invalid_name"

    def __init__(self, kind: str, name: str | bytes, reason: str) -> None:
        shown = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
        details = {"kind": kind, "name": shown, "reason": reason}
        super().__init__(f"{quote(name)} is not a usable {kind} name: {reason}", details=details)


class InvalidPath(InvalidInput):
    """A path that cannot name anything in a workspace."""

    code = "input.invalid_path"

    def __init__(self, path: str | bytes, reason: str) -> None:
        super().__init__(f"{quote(path)} is not a usable path: {reason}", details={"reason": reason})


class PathEscapes(InvalidInput):
    """A path or a symbolic link that leads out of the workspace."""

    code = "path.escapes"

    def __init__(self, path: str | bytes) -> None:
        super().__init__(f"{quote(path)} leads out of the workspace")


# --- vaults ------------------------------------------------------------------------------------------


class VaultError(AvfsError):
    """Something about a vault or its objects and refs."""

    code = "vault.failed"
    exit_code = 10


class VaultNotFound(VaultError):
    """No vault of that name or at that place."""

    code = "vault.not_found"
    exit_code = 11

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no vault {quote(name)}", hint="See them with `avfs vault list`.", details={"vault": name})


class NoVaultChosen(VaultError):
    """No vault was named and none is current."""

    code = "vault.not_chosen"
    exit_code = 11

    def __init__(self) -> None:
        super().__init__("no vault was named", hint="Name one with `--vault NAME`, or choose one with `avfs vault use NAME`.")


class VaultExists(VaultError):
    """A vault of that name is there already."""

    code = "vault.exists"
    exit_code = 12

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is already a vault {quote(name)}",
            hint=f"Work in that one with `--vault {name}`, or choose another name.",
            details={"vault": name},
        )


class RefConflict(VaultError):
    """A ref does not hold what the caller expected: somebody else moved it first."""

    code = "vault.ref_conflict"
    exit_code = 13

    def __init__(self, ref: str, expected: str | None, actual: str | None) -> None:
        super().__init__(
            f"{quote(ref)} was moved by somebody else",
            hint="Look at it with `avfs log`, then try again.",
            details={"ref": ref, "expected": expected, "actual": actual},
        )


class RefLocked(VaultError):
    """A ref stays locked by another program."""

    code = "vault.ref_locked"
    exit_code = 14

    def __init__(self, ref: str, lock: str) -> None:
        super().__init__(
            f"{quote(ref)} is locked by another program",
            hint=f"If no git command is running, remove {quote(lock)}.",
            details={"ref": ref, "lock": lock},
        )


class RefDamaged(VaultError):
    """A ref whose file does not say what it points to."""

    code = "vault.ref_damaged"

    def __init__(self, ref: str, reason: str) -> None:
        self.ref = ref
        self.reason = reason
        super().__init__(
            f"{quote(ref)} is damaged: {reason}",
            hint="Run `avfs doctor` to see what can be done.",
            details={"ref": ref, "reason": reason},
        )


class ObjectMissing(VaultError):
    """An object that is referred to is not in the vault."""

    code = "vault.object_missing"
    exit_code = 15

    def __init__(self, oid: str) -> None:
        super().__init__(f"object {oid} is missing", hint="Run `avfs doctor` to see what is affected.", details={"oid": oid})


class ObjectCorrupt(VaultError):
    """An object does not hold what its id says, or cannot be what it claims to be."""

    code = "vault.object_corrupt"
    exit_code = 16

    def __init__(self, oid: str, reason: str) -> None:
        super().__init__(
            f"object {oid} is corrupt: {reason}",
            hint="Run `avfs doctor` to see what is affected.",
            details={"oid": oid, "reason": reason},
        )


class HostileTree(ObjectCorrupt):
    """A tree with an entry that must never be written to a disk."""

    code = "vault.hostile_tree"

    def __init__(self, oid: str, name: bytes, reason: str) -> None:
        super().__init__(oid, f"the entry {quote(name)} {reason}")
        self.details["entry"] = name.decode("utf-8", "replace")


class TooManyFiles(VaultError):
    """A tree that stands for more files than avfs walks through, as a tree bomb does."""

    code = "vault.too_many_files"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the tree holds more than {limit:,} files: avfs does not go through all of it",
            hint="Name a directory in it: single paths can be read.",
            details={"limit": limit},
        )


class HostileObjects(ObjectCorrupt):
    """Objects of another repository that must not come in; none of them has."""

    code = "vault.hostile_objects"

    def __init__(self, faults: Sequence[tuple[str, str]]) -> None:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        super().__init__(faults[0][0], f"{faults[0][1]}{more}")
        self.hint = "The details list all of them (`--json`)."
        self.details["refused"] = [{"oid": oid, "reason": reason} for oid, reason in faults]


class NotAVault(VaultError):
    """A directory that cannot serve as a vault."""

    code = "vault.unusable"
    exit_code = 17

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{quote(path)} cannot be used: {reason}", details={"path": path, "reason": reason})


class VaultUntrusted(VaultError):
    """A vault that could run programs, by hooks or configuration, which its user has not agreed to."""

    code = "vault.untrusted"
    exit_code = 17

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"{quote(path)} is not trusted: {reason}",
            hint=f"Take its history and files over with `avfs vault create NAME --from {path}`, which runs nothing of it;"
            f" or, if you would run its programs, `avfs vault trust {path}`.",
            details={"path": path, "reason": reason},
        )


class FormatUnsupported(VaultError):
    """State on disk of a version that this program does not know."""

    code = "vault.format_unsupported"
    exit_code = 18

    def __init__(self, what: str, found: str, known: str) -> None:
        super().__init__(
            f"{quote(what)} has format {quote(found)}; this avfs knows {known}",
            hint="Use the version of avfs that wrote it, or a newer one.",
            details={"found": found, "known": known},
        )


class VaultHidden(VaultError):
    """A command that avfs runs in a vault cannot use avfs on the same vault."""

    code = "vault.hidden"
    exit_code = 17

    def __init__(self, git_dir: str) -> None:
        super().__init__(
            f"the state of the vault {quote(git_dir)} is hidden from commands that avfs runs in it",
            hint="Run avfs outside of `avfs exec`; git works inside.",
            details={"git_dir": git_dir},
        )


class GitFailed(VaultError):
    """A git command failed."""

    code = "vault.git_failed"
    exit_code = 19

    def __init__(self, command: str, reason: str) -> None:
        super().__init__(f"git {command} failed: {reason}", details={"command": command})


# --- forks and workspaces ----------------------------------------------------------------------------


class WorkspaceError(AvfsError):
    """Something about a fork or its workspace."""

    code = "workspace.failed"
    exit_code = 20


_FORKS_SHOWN = 10


class ForkNotFound(WorkspaceError):
    """No fork of that name."""

    code = "fork.not_found"
    exit_code = 21

    def __init__(self, name: str, *, vault: str | None = None) -> None:
        where = f" in vault {quote(vault)}" if vault is not None else ""
        super().__init__(f"there is no fork {quote(name)}{where}", hint="See them with `avfs fork list`.", details={"fork": name})


class NoForkChosen(WorkspaceError):
    """No fork was named, and the vault has several and no default."""

    code = "fork.not_chosen"
    exit_code = 21

    def __init__(self, vault: str, forks: Sequence[str]) -> None:
        shown = ", ".join(map(quote, forks[:_FORKS_SHOWN]))
        if len(forks) > _FORKS_SHOWN:
            shown += f" and {len(forks) - _FORKS_SHOWN} more"
        super().__init__(
            f"vault {quote(vault)} has several forks and no default: {shown}",
            hint="Name one with `--fork NAME`.",
            details={"vault": vault, "forks": list(forks)},
        )


class NoForks(WorkspaceError):
    """No fork was named, and the vault has none any more."""

    code = "fork.none"
    exit_code = 21

    def __init__(self, vault: str, origin: str | None = None) -> None:
        if origin is None:
            make = "make one of a commit with `avfs fork create NAME --at COMMIT`"
        else:
            import shlex  # noqa: PLC0415 - only here

            make = f"make one with `avfs fork {shlex.quote(origin)} DIR`"
        super().__init__(
            f"vault {quote(vault)} has no fork any more",
            hint=f"Bring the last one back with `avfs undo`, or {make}.",
            details={"vault": vault},
        )


class ForkExists(WorkspaceError):
    """A fork or branch of that name is there already."""

    code = "fork.exists"
    exit_code = 22

    def __init__(self, name: str, *, hint: str | None = None) -> None:
        super().__init__(f"there is already a fork {quote(name)}", hint=hint, details={"fork": name})


class WorkspaceBusy(WorkspaceError):
    """Another process holds the workspace."""

    code = "workspace.busy"
    exit_code = 23

    def __init__(self, name: str, holder: str | None, *, pid: int | None = None) -> None:
        by = f" by {holder}" if holder else ""
        super().__init__(
            f"workspace {quote(name)} is in use{by}",
            hint="Wait for it, then try again.",
            details={"fork": name, "holder": holder, "pid": pid},
        )


class WorkspaceDamaged(WorkspaceError):
    """Files of a workspace are missing or cannot be read."""

    code = "workspace.damaged"
    exit_code = 24

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"workspace {quote(name)} is damaged: {reason}",
            hint="Run `avfs doctor --repair`.",
            details={"fork": name, "reason": reason},
        )


class PathNotFound(WorkspaceError):
    """Nothing is at that path of the workspace."""

    code = "path.not_found"
    exit_code = 25

    def __init__(self, path: bytes | str) -> None:
        super().__init__(f"there is nothing at {quote(path)}")


class PathUnsuitable(WorkspaceError):
    """What is at a path does not allow what was asked: wrong kind, not empty, already there."""

    code = "path.unsuitable"
    exit_code = 26

    def __init__(self, path: bytes | str, reason: str) -> None:
        super().__init__(f"{quote(path)} {reason}", details={"reason": reason})


class ContentChanged(WorkspaceError):
    """The content at a path is not what the caller expected; nothing was written."""

    code = "path.content_changed"
    exit_code = 27

    def __init__(self, path: bytes | str, expected: str, actual: str | None) -> None:
        super().__init__(
            f"{quote(path)} is not what was expected",
            hint="Read it again, then write with its new id.",
            details={"expected": expected, "actual": actual},
        )


class HostUnsupported(WorkspaceError):
    """The file system under a workspace lacks something that it needs."""

    code = "workspace.host_unsupported"
    exit_code = 28

    def __init__(self, path: str, lacks: str) -> None:
        super().__init__(
            f"the file system at {quote(path)} lacks {lacks}",
            hint="Set AVFS_HOME to a directory on ext4, XFS, btrfs or tmpfs.",
            details={"path": path, "lacks": lacks},
        )


class WorkspaceMounted(WorkspaceBusy):
    """A workspace, or a vault with it, is mounted, and what was asked for needs it unmounted."""

    code = "workspace.mounted"
    exit_code = 29

    def __init__(self, name: str, directory: str, *, session: str, pid: int | None = None, is_ending: bool = False) -> None:
        where = f"mounted at {quote(directory)}"
        hint = f"Work in it there, or end it with `avfs stop {shlex.quote(str(directory))}`."
        if is_ending:
            where = f"still in use by programs that have it from a mount at {quote(directory)}, which was taken away"
            hint = f"End them, or take it from them with `avfs unmount --force {quote(name)}`."
        WorkspaceError.__init__(
            self,
            f"workspace {quote(name)} is {where}",
            hint=hint,
            details={"fork": name, "directory": directory, "session": session, "pid": pid},
        )


# --- checkpoints -------------------------------------------------------------------------------------


class CheckpointError(AvfsError):
    """Something about a checkpoint, or about making one."""

    code = "checkpoint.failed"
    exit_code = 30


class CheckpointNotFound(CheckpointError):
    """No checkpoint of that label or id."""

    code = "checkpoint.not_found"
    exit_code = 31

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no checkpoint {quote(name)}",
            hint="See them with `avfs checkpoint list`, and forks with `avfs fork list`.",
            details={"checkpoint": name},
        )


class CheckpointExists(CheckpointError):
    """A label that is taken."""

    code = "checkpoint.exists"
    exit_code = 32

    def __init__(self, label: str) -> None:
        super().__init__(f"there is already a checkpoint labelled {quote(label)}", details={"label": label})


class AmbiguousName(CheckpointError):
    """A shortened id that fits more than one object."""

    code = "checkpoint.ambiguous"
    exit_code = 33

    def __init__(self, name: str) -> None:
        super().__init__(f"{quote(name)} fits more than one checkpoint", hint="Give more of its letters.")


class FileChanging(CheckpointError):
    """A file kept changing while it was read; nothing was committed."""

    code = "checkpoint.file_changing"
    exit_code = 34

    def __init__(self, path: bytes) -> None:
        super().__init__(f"{quote(path)} keeps changing while it is read", hint="Stop what writes it, then try again.")


class LayerNotUnderstood(CheckpointError):
    """The upper layer holds an overlayfs mark that this program does not know."""

    code = "checkpoint.layer_not_understood"
    exit_code = 35

    def __init__(self, path: bytes, mark: str) -> None:
        super().__init__(
            f"{quote(path)} carries the overlayfs mark {quote(mark)}, which avfs does not know", details={"mark": mark}
        )


class NothingToUndo(CheckpointError):
    """No operation is left to take back, or to do again."""

    code = "undo.nothing"
    exit_code = 36

    def __init__(self, word: str) -> None:
        super().__init__(f"there is nothing to {word}", hint="See what was done with `avfs op log`.")


class CannotUndo(CheckpointError):
    """An operation that cannot be taken back as things stand."""

    code = "undo.impossible"
    exit_code = 37

    def __init__(self, op: str, reason: str) -> None:
        super().__init__(f"cannot undo {quote(op)}: {reason}", details={"operation": op, "reason": reason})


class HookRefused(CheckpointError):
    """A hook of the vault's owner does not want an operation; nothing has changed."""

    code = "hook.refused"
    exit_code = 38

    def __init__(self, hook: str, reason: str) -> None:
        super().__init__(
            f"the hook {quote(hook)} refuses it: {reason}",
            hint="See where it is with `avfs hooks list`.",
            details={"hook": hook, "reason": reason},
        )


# --- merging, mounting ---------------------------------------------------------------------------------


class MergeError(AvfsError):
    """Something about a merge."""

    code = "merge.failed"
    exit_code = 40


class NotFastForward(MergeError):
    """The target has commits of its own, and only moving on was allowed."""

    code = "merge.not_fast_forward"
    exit_code = 41

    def __init__(self, target: str, source: str) -> None:
        super().__init__(
            f"{quote(target)} has commits that {quote(source)} does not have",
            hint="Merge without `--ff-only`, or rebase the source first.",
            details={"target": target, "source": source},
        )


class UnrelatedHistories(MergeError):
    """Two commits that have no ancestor in common."""

    code = "merge.unrelated"
    exit_code = 42

    def __init__(self, target: str, source: str) -> None:
        super().__init__(
            f"{quote(target)} and {quote(source)} have no commit in common", details={"target": target, "source": source}
        )


class MergeInProgress(MergeError):
    """A workspace holds a merge whose conflicts are not resolved."""

    code = "merge.in_progress"
    exit_code = 43

    def __init__(self, fork: str, source: str, operation: str = "merge") -> None:
        verb = operation.replace("_", "-")
        doing = {"rebase": "a rebase, at", "cherry-pick": "a cherry-pick, at"}.get(verb, "merging")
        super().__init__(
            f"{quote(fork)} is in the middle of {doing} {quote(source)}",
            hint=f"Resolve what is in conflict and run `avfs {verb} --continue`, or give it up with `avfs {verb} --abort`.",
            details={"fork": fork, "source": source, "operation": operation},
        )


class NoMergeInProgress(MergeError):
    """There is no merge to go on with."""

    code = "merge.not_in_progress"
    exit_code = 44

    def __init__(self, fork: str) -> None:
        super().__init__(f"{quote(fork)} is not in the middle of a merge", details={"fork": fork})


class ConflictsLeft(MergeError):
    """Conflicts that nobody has resolved."""

    code = "merge.conflicts_left"
    exit_code = 45

    def __init__(self, paths: Sequence[bytes]) -> None:
        names = [quote(path) for path in paths[:5]]
        super().__init__(
            f"still in conflict: {', '.join(names)}{' and more' if len(paths) > 5 else ''}",
            hint="Edit the files, or run `avfs resolve PATH`, with `--ours`, `--theirs`, `--union` or `--from FILE`.",
            details={"paths": [path.decode("utf-8", "replace") for path in paths]},
        )


class CommitConflicts(MergeError):
    """A commit that cannot be put on another state without deciding what is in conflict."""

    code = "merge.commit_conflicts"
    exit_code = 46

    def __init__(self, commit: str, subject: str, paths: Sequence[bytes]) -> None:
        names = [quote(path) for path in paths[:5]]
        super().__init__(
            f"{commit} ({quote(subject)}) is in conflict with what is there: {', '.join(names)}"
            f"{' and more' if len(paths) > 5 else ''}",
            hint="Nothing was changed. Resolve it here with `--on-conflict workspace`, or choose a side with `--strategy`.",
            details={"commit": commit, "paths": [path.decode("utf-8", "replace") for path in paths]},
        )


class MountError(AvfsError):
    """Something about a live tree."""

    code = "mount.failed"
    exit_code = 50


class MountPointUnusable(MountError):
    """A directory that nothing can be mounted at: not empty, no directory, in use, inside the vault."""

    code = "mount.point_unusable"
    exit_code = 51

    def __init__(self, path: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"cannot mount at {quote(path)}: {reason}", hint=hint, details={"path": path, "reason": reason})


class FuseUnavailable(MountError):
    """This machine lacks what a mount needs, or does not allow it to this user."""

    code = "mount.unavailable"
    exit_code = 52


class BaseMoved(MountError):
    """What a workspace stands on changed while it was being mounted; another try finds it."""

    code = "mount.base_moved"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the workspace cannot be mounted just now: {reason}", hint="Try again.", details={"reason": reason})


class MountBusy(MountError):
    """Programs still use a live tree."""

    code = "mount.busy"
    exit_code = 53

    def __init__(self, path: str, users: Sequence[str]) -> None:
        by = f" by {', '.join(users[:5])}{' and others' if len(users) > 5 else ''}" if users else ""
        super().__init__(
            f"{quote(path)} is in use{by}",
            hint="Leave it there and try again, or let it go with `--lazy` when they are done.",
            details={"path": path, "users": list(users)},
        )


class SessionNotFound(MountError):
    """Nothing is mounted that is called so."""

    code = "mount.not_found"
    exit_code = 54

    def __init__(self, name: str, *, is_other: bool = False) -> None:
        what, hint = f"there is no mount {quote(name)}", "See them with `avfs sessions`."
        if is_other:
            what = f"the mount {quote(name)} shows a fork that `avfs fork SOURCE DIR` did not make"
            hint = f"Save and unmount it with `avfs stop {shlex.quote(name)}`."
        super().__init__(what, hint=hint, details={"name": name})


class SessionFailed(MountError):
    """The process of a session ended, or gave no answer, where it should not."""

    code = "mount.session_failed"
    exit_code = 55

    def __init__(self, what: str, log: str) -> None:
        super().__init__(what, hint="What the process said is in the details.", details={"log": log})


class RequestNotUnderstood(MountError):
    """What came over a control socket is not in its language."""

    code = "session.not_understood"
    exit_code = 56

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the session does not understand what was asked: {reason}",
            hint="If avfs was upgraded meanwhile, unmount and mount again.",
            details={"reason": reason},
        )


class OutcomeUnknown(MountError):
    """The process of a session died in the middle of something that is not to be done twice."""

    code = "session.outcome_unknown"
    exit_code = 57

    def __init__(self, fork: str, operation: str) -> None:
        super().__init__(
            f"the session of {quote(fork)} died in the middle of '{operation}': it is done, or not at all",
            hint="Look with `avfs status` and `avfs op log`.",
            details={"fork": fork, "operation": operation},
        )


class PeerRefused(MountError):
    """A session serves only processes of its own PID and mount namespace."""

    code = "session.peer_refused"
    exit_code = 58

    def __init__(self, fork: str) -> None:
        super().__init__(
            f"the session of {quote(fork)} is in another PID or mount namespace and refuses this process",
            hint="Run avfs where the fork was mounted, outside of containers and of commands that avfs runs.",
            details={"fork": fork},
        )


class SessionEnding(WorkspaceBusy):
    """A session ended before it began what it was asked for."""

    code = "session.ending"


# --- commands ----------------------------------------------------------------------------------------


class ExecError(AvfsError):
    """Something about running a command in a workspace, other than the command itself."""

    code = "exec.failed"
    exit_code = 100


class BackendUnavailable(ExecError):
    """No way to show the workspace to a command can be used here; nothing was started."""

    code = "exec.backend_unavailable"
    exit_code = 101

    def __init__(self, wanted: str, reasons: Sequence[str]) -> None:
        what = "no backend can be used" if wanted == "auto" else f"the backend {quote(wanted)} cannot be used"
        super().__init__(
            f"{what}: {'; '.join(reasons)}",
            hint="Leave the choice to avfs with `--backend auto`." if wanted != "auto" else None,
            details={"backend": wanted, "reasons": list(reasons)},
        )


class IsolationUnavailable(ExecError):
    """A command was to run isolated, and this machine lacks what that takes; nothing was started."""

    code = "exec.isolation_unavailable"
    exit_code = 102

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"the command cannot be isolated: {reason}", hint=hint, details={"reason": reason})


class NotPrepared(ExecError):
    """A fork on which no prepared session is open."""

    code = "exec.not_prepared"
    exit_code = 103

    def __init__(self, fork: str) -> None:
        super().__init__(f"fork {quote(fork)} is not prepared", hint="Begin with `avfs proxy prepare`.", details={"fork": fork})


# --- policy ------------------------------------------------------------------------------------------


class PolicyError(AvfsError):
    """Something about the policy of commands, or a command that it refuses."""

    code = "policy.failed"
    exit_code = 80


class PolicyInvalid(PolicyError):
    """A policy file that cannot be read or understood; no command runs until it is mended."""

    code = "policy.invalid"
    exit_code = 81

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"policy {quote(path)} cannot be used: {reason}",
            hint="Mend it, then see it with `avfs policy show`.",
            details={"path": path, "reason": reason},
        )


class CommandDenied(PolicyError):
    """The policy does not let a command run; nothing was started."""

    code = "policy.denied"
    exit_code = 82

    def __init__(self, command: str, reason: str, *, details: Mapping[str, object] | None = None) -> None:
        super().__init__(
            f"{quote(command)} is denied: {reason}",
            hint="See why with `avfs policy check -- COMMAND`.",
            details={"command": command, "reason": reason, **(details or {})},
        )


class ApprovalNeeded(PolicyError):
    """The policy lets a command run only if a person approves of it; nothing was started."""

    code = "policy.approval_needed"
    exit_code = 83

    def __init__(
        self, command: str, reason: str, token: str, *, hint: str | None = None, details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(
            f"{quote(command)} needs approval: {reason}",
            hint=f"A person grants it with `avfs approvals grant {token.partition('.')[0]}`; "
            f"then run the same command with `--approve {token}`." + (f" {hint}" if hint else ""),
            details={"command": command, "reason": reason, "token": token, **(details or {})},
        )


class ApprovalRefused(PolicyError):
    """A token that does not let this command run: not granted, of another command, used, expired or unknown."""

    code = "policy.approval_refused"
    exit_code = 84

    def __init__(self, approval: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"approval {quote(approval)} cannot be used: {reason}", hint=hint, details={"approval": approval, "reason": reason}
        )


class ApprovalNotFound(PolicyError):
    """No approval of that id."""

    code = "policy.approval_not_found"
    exit_code = 85

    def __init__(self, approval: str) -> None:
        super().__init__(
            f"there is no approval {quote(approval)}", hint="See them with `avfs approvals list`.", details={"approval": approval}
        )


class PersonNeeded(PolicyError):
    """Something that only a person may do, at a terminal, and nobody there said yes."""

    code = "policy.person_needed"
    exit_code = 87

    def __init__(self, action: str) -> None:
        super().__init__(f"cannot {action}: nobody at a terminal said yes", hint="Run it in a terminal, and answer there.")


class AuditDamaged(PolicyError):
    """The audit log does not hold what was written to it."""

    code = "audit.damaged"
    exit_code = 86

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"the audit log {quote(path)} is damaged: {reason}", details={"path": path, "reason": reason})


class ProblemsFound(AvfsError):
    """The doctor found something that is not mended."""

    code = "doctor.problems_found"
    exit_code = 60

    def __init__(self, count: int, *, fixable: int = 0, details: Mapping[str, object] | None = None) -> None:
        super().__init__(
            f"{count} {'problem is' if count == 1 else 'problems are'} left",
            hint="Run `avfs doctor --repair`." if fixable else None,
            details=details,
        )


# --- remotes -----------------------------------------------------------------------------------------


class RemoteError(AvfsError):
    """Something about another repository, or the way there."""

    code = "remote.failed"
    exit_code = 90


class RemoteNotFound(RemoteError):
    """No remote of that name."""

    code = "remote.not_found"
    exit_code = 91

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no remote {quote(name)}",
            hint="See them with `avfs remote list`; add one with `avfs remote add NAME URL`.",
            details={"remote": name},
        )


class RemoteExists(RemoteError):
    """A remote of that name is there already."""

    code = "remote.exists"
    exit_code = 92

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is already a remote {quote(name)}",
            hint=f"Give it another address with `avfs remote set-url {name} URL`.",
            details={"remote": name},
        )


class RemoteUnreachable(RemoteError):
    """The other side did not answer, has no repository there, or broke off. Nothing has changed here."""

    code = "remote.unreachable"
    exit_code = 93

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"cannot reach {quote(url)}: {reason}",
            hint="See whether the address is right and the server is up, then try again.",
            details={"url": url, "reason": reason},
        )


class RemoteAccessDenied(RemoteError):
    """The other side does not let this user in."""

    code = "remote.access_denied"
    exit_code = 94

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"{quote(url)} does not let you in: {reason}",
            hint="Credentials are those that git uses: a credential helper, an ssh key in the agent, or GIT_ASKPASS.",
            details={"url": url, "reason": reason},
        )


class PushRejected(RemoteError):
    """The other side, or git here, did not take all that was pushed. What is there was not overwritten."""

    code = "remote.rejected"
    exit_code = 95

    def __init__(
        self,
        remote: str,
        rejected: Sequence[tuple[str, str]],
        *,
        pushed: Sequence[str] = (),
        hint: str,
        details: Mapping[str, object],
    ) -> None:
        shown = ", ".join(f"{quote(name)} ({reason})" for name, reason in rejected[:5])
        more = f" and {len(rejected) - 5} more" if len(rejected) > 5 else ""
        super().__init__(
            f"{quote(remote)} did not take {shown}{more}",
            hint=hint,
            details={
                "remote": remote,
                "rejected": [{"ref": name, "reason": reason} for name, reason in rejected],
                "pushed": list(pushed),
                **details,
            },
        )


class RemoteDataRefused(RemoteError):
    """What the other side sent is damaged, or could do harm; nothing of it is used."""

    code = "remote.data_refused"
    exit_code = 96

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"what {quote(url)} sent is refused: {reason}", details={"url": url, "reason": reason})


class NoUpstream(RemoteError):
    """Nothing on a remote belongs to a fork."""

    code = "remote.no_upstream"
    exit_code = 98

    def __init__(self, fork: str, remote: str) -> None:
        super().__init__(
            f"{quote(remote)} has no branch {quote(fork)}",
            hint="See what it has with `avfs fork list --remote`.",
            details={"fork": fork, "remote": remote},
        )


class ApplyConflict(RemoteError):
    """A directory holds changes of its own where those of a fork were to be laid; nothing was written there."""

    code = "remote.apply_conflict"
    exit_code = 99

    def __init__(self, directory: str, paths: Sequence[str], *, written: int = 0) -> None:
        shown = ", ".join(quote(path) for path in paths[:5])
        more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
        others = f"; {written} other files were written before that was seen" if written else ""
        super().__init__(
            f"{quote(directory)} has changes of its own in {shown}{more}{others}",
            hint="Save them there, or leave these paths out by naming others.",
            details={"directory": directory, "paths": list(paths), "written": written},
        )


class Interrupted(AvfsError):
    """Somebody pressed Ctrl-C."""

    code = "interrupted"
    exit_code = 130

    def __init__(self) -> None:
        super().__init__("interrupted")


class Terminated(AvfsError):
    """Somebody asked the program to end (SIGTERM)."""

    code = "terminated"
    exit_code = 143

    def __init__(self) -> None:
        super().__init__("terminated")


class InternalError(AvfsError):
    """A broken invariant: a bug in avfs."""

    code = "internal"
    exit_code = 70
