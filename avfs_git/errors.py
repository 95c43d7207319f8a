"""Every error that avfs raises on purpose, with its stable code and exit status.

Decided here: the names, codes, families and wording of failures. Each package raises these; only `cli` turns an error
into text, a document or an exit status.

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

The head of a class names its code and exit status. The class composes the message: lower case, no full stop, the
subject in single quotes; `hint` is a sentence with a command to run; `details` are JSON-safe. Codes are API: they are
added, never renamed. One table in one module: every command loads it.
"""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import ClassVar


def quote(name: str | bytes) -> str:
    """Show a name from outside in a message: printable, in single quotes, on one line."""
    shown = escape(name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name)
    return f"'{shown[:300]}{'…' if len(shown) > 300 else ''}'"


def escape(text: str) -> str:
    """Show a text from outside on one line: what is not printable as Python writes it, bytes as git does."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(char: str) -> str:
    """Write a letter that cannot be shown; a byte that is not UTF-8 as git does."""
    return f"\\{ord(char) - 0xDC00:03o}" if 0xDC80 <= ord(char) <= 0xDCFF else ascii(char)[1:-1]


def name_some(names: Sequence[str | bytes], most: int = 5) -> str:
    """Show the first of some names, and how many more there are."""
    return ", ".join(map(quote, names[:most])) + and_more(len(names) - most)


def and_more(count: int) -> str:
    """Say behind some names how many more there are."""
    return f" and {count} more" if count > 0 else ""


def hide_user(text: str) -> str:
    """Show a text without the user information and the queries of the URLs in it, in which passwords and tokens stand.

    User information reaches up to the last `@` of the authority; where a password holds `/`, `?` or `#`, up to the very
    last.
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
        # no port: a password goes on behind what ends a host elsewhere
        elif re.search(r":(?!\d*\W*$)[^\]]*$", authority):
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
    is_noted = False
    """Whether the audit log has it."""

    def __init_subclass__(cls, *, code: str | None = None, exit_code: int | None = None) -> None:
        """Set what the head of a class names; the rest comes from its family."""
        if code is not None:
            cls.code = code
        if exit_code is not None:
            cls.exit_code = exit_code

    def __init__(self, message: str, *, hint: str | None = None, details: Mapping[str, object] | None = None) -> None:
        message = hide_user(message)
        super().__init__(message)
        self.message = message
        self.hint = hide_user(hint) if hint is not None else None
        self.details: dict[str, object] = {name: hide_users(value) for name, value in (details or {}).items()}

    def _say(self, message: str, hint: str | None = None, /, **details: object) -> None:
        """Do what `__init__` does, for classes that compose their message of their own arguments."""
        AvfsError.__init__(self, message, hint=hint, details=details)


NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
"""A full disk, and a quota that is used up."""
FREE_SPACE = "Free some space, then try again."
"""What to do about either."""
_REMEDIES = {
    **dict.fromkeys(NO_SPACE, FREE_SPACE),
    errno.EROFS: "That file system is read-only: make it writable, or use another place.",
}
"""What to do about what the operating system refuses, by errno."""
_OF_PLACES = frozenset({errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR})
"""What is refused because of the file that the error names, which may be another one than what is being done names."""


class HostError(AvfsError, code="host.failed"):
    """The operating system refused something: a full disk, a failing device, a missing permission."""

    def __init__(self, action: str, error: OSError) -> None:
        reason = error.strerror or str(error)
        place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        is_name = place.startswith("/") and not place.startswith("/proc/self/fd/")
        if error.errno in _OF_PLACES and is_name and quote(place) not in action:
            reason += f" at {quote(place)}"
        self._say(f"cannot {action}: {reason}", _REMEDIES.get(error.errno or 0), errno=error.errno or 0)
        self.errno = error.errno or 0


class NotWritable(HostError, code="host.not_writable"):
    """A path can be read and not written: on a read-only disk, or in another user's vault."""

    def __init__(self, action: str, error: OSError) -> None:
        super().__init__(action, error)
        if self.hint is None:
            self.hint = "Ask whoever it belongs to, or work in a vault of your own: `avfs clone` makes one of this."


class DirectoryGone(HostError, code="host.directory_gone"):
    """The current directory no longer exists: it was removed, or its mount has ended."""

    def __init__(self, error: OSError) -> None:
        super().__init__("find the current directory", error)
        self.message = "the current directory is gone: it was removed, or the mount that it was in has ended"
        self.args = (self.message,)
        self.hint = (
            'Change to one that is there; `cd "$PWD"` does where a mount came back. See them with `avfs sessions`.'
        )


class ExtraMissing(AvfsError, code="host.extra_missing"):
    """Packages are missing that only some commands need."""

    def __init__(self, command: str, extra: str, package: str) -> None:
        self._say(
            f"{quote(command)} needs the Python package {quote(package)}, which is not installed",
            f"Install it: `pip install 'avfs-git[{extra}]'`.",
            extra=extra,
            package=package,
        )


class LeftInForce(HostError, code="host.left_in_force"):
    """The operating system refused something so late that the operation could not be taken back either."""

    def __init__(self, action: str, error: BaseException, refs: Mapping[str, str | None]) -> None:
        cause = (
            error
            if isinstance(error, OSError)
            else OSError(getattr(error, "errno", 0), str(error) or type(error).__name__)
        )
        super().__init__(action, cause)
        if isinstance(error, HostError):
            self.message = error.message
        self.message += "; it could not be taken back: the new state is in force"
        self.args = (self.message,)
        self.hint = "See it with `avfs op log`; `avfs undo` takes it back, `avfs doctor --repair` completes it."
        self.details |= {"in_force": "new", "refs": dict(refs)}


class InvalidInput(AvfsError, code="input.invalid", exit_code=2):
    """An argument that cannot mean anything here."""


class BadUsage(InvalidInput, code="input.usage"):
    """A command line that cannot be understood: an unknown verb or option, a missing argument."""


class PlaceDisputed(InvalidInput, code="input.place_disputed"):
    """The current directory shows another vault or fork than the environment names, and the command makes changes."""


class OutOfScope(InvalidInput, code="input.out_of_scope"):
    """A server for agents may not work in that vault or fork."""

    def __init__(self, wanted: str, limit: str) -> None:
        self._say(
            f"this server works in {limit} only, not in {wanted}", "Leave out the argument, or start another server."
        )


class ConfirmationNeeded(InvalidInput, code="input.confirmation_needed"):
    """An operation that cannot be undone needs `--yes`, because there is no terminal to ask on."""

    def __init__(self, action: str) -> None:
        self._say(f"cannot {action} without confirmation", "Say it with `--yes`.", action=action)


class InvalidName(InvalidInput, code="input.invalid_name"):
    """A name of a vault, fork, label or remote that is not allowed."""

    def __init__(self, kind: str, name: str | bytes, reason: str) -> None:
        shown = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
        details = {"kind": kind, "name": shown, "reason": reason}
        usable = "-".join("".join(letter if letter.isascii() and letter.isalnum() else " " for letter in shown).split())
        hint = f"'{usable}' is usable." if kind in ("fork", "vault") and usable not in ("", shown) else None
        self._say(f"{quote(name)} is not a usable {kind} name: {reason}", hint, **details)


class InvalidPath(InvalidInput, code="input.invalid_path"):
    """A path that cannot name anything in a workspace."""

    def __init__(self, path: str | bytes, reason: str) -> None:
        self._say(f"{quote(path)} is not a usable path: {reason}", reason=reason)


class PathEscapes(InvalidInput, code="path.escapes"):
    """A path or a symbolic link that leads out of the workspace."""

    def __init__(self, path: str | bytes) -> None:
        self._say(f"{quote(path)} leads out of the workspace")


class VaultError(AvfsError, code="vault.failed", exit_code=10):
    """Something about a vault or its objects and refs."""


class VaultNotFound(VaultError, code="vault.not_found", exit_code=11):
    """No vault of that name or at that place."""

    def __init__(self, name: str) -> None:
        self._say(f"there is no vault {quote(name)}", "See them with `avfs vault list`.", vault=name)


class VaultGone(VaultNotFound, code="vault.gone"):
    """A vault that is open was deleted or moved away meanwhile."""

    def __init__(self, name: str, path: str) -> None:
        self._say(
            f"the vault {quote(name)} is gone: '{path}' was deleted or moved, or is another one by now",
            "See the vaults with `avfs vault list`, and open it anew if it is there.",
            vault=name,
            path=path,
        )


class NoVaultChosen(VaultError, code="vault.not_chosen", exit_code=11):
    """No vault was named and none is current."""

    def __init__(self) -> None:
        self._say(
            "no vault was named, and the current directory is in none",
            "Name one with `--vault NAME` (`avfs vault list` shows them), or make one with `avfs vault create NAME`.",
        )


class VaultExists(VaultError, code="vault.exists", exit_code=12):
    """A vault of that name is there already."""

    def __init__(self, name: str) -> None:
        self._say(
            f"there is already a vault {quote(name)}",
            f"Work in that one with `--vault {shlex.quote(name)}`, or choose another name.",
            vault=name,
        )


class RefConflict(VaultError, code="vault.ref_conflict", exit_code=13):
    """A ref does not hold what the caller expected: another process moved it first."""

    def __init__(self, ref: str, expected: str | None, actual: str | None) -> None:
        self._say(
            f"{quote(ref)} was moved by somebody else",
            "Look at it with `avfs log`, then try again.",
            ref=ref,
            expected=expected,
            actual=actual,
        )


class RefLocked(VaultError, code="vault.ref_locked", exit_code=14):
    """A ref stays locked by another program."""

    def __init__(self, ref: str, lock: str) -> None:
        self._say(
            f"{quote(ref)} is locked by another program",
            f"If no git command is running, remove {quote(lock)}.",
            ref=ref,
            lock=lock,
        )


class RefDamaged(VaultError, code="vault.ref_damaged"):
    """A ref whose file does not say what it points to."""

    def __init__(self, ref: str, reason: str) -> None:
        self.ref = ref
        self.reason = reason
        self._say(
            f"{quote(ref)} is damaged: {reason}", "Run `avfs doctor` to see what can be done.", ref=ref, reason=reason
        )


class BranchCheckedOut(VaultError, code="vault.branch_checked_out"):
    """A branch that another working tree of git's has checked out: git there would take back what others put on it."""

    def __init__(self, branch: str, where: str, way_on: str) -> None:
        self._say(
            f"git has the branch {quote(branch)} checked out in {where}, so avfs neither moves nor deletes it",
            f"{way_on}, then try again.",
            branch=branch,
            where=where,
        )


class ObjectMissing(VaultError, code="vault.object_missing", exit_code=15):
    """An object that is referred to is not in the vault."""

    def __init__(self, oid: str) -> None:
        self._say(f"object {oid} is missing", "Run `avfs doctor` to see what is affected.", oid=oid)


class ObjectCorrupt(VaultError, code="vault.object_corrupt", exit_code=16):
    """An object does not hold what its id says, or cannot be what it claims to be."""

    def __init__(self, oid: str, reason: str) -> None:
        self._say(
            f"object {oid} is corrupt: {reason}", "Run `avfs doctor` to see what is affected.", oid=oid, reason=reason
        )


class HostileTree(ObjectCorrupt, code="vault.hostile_tree"):
    """A tree with an entry that must never be written to a disk."""

    def __init__(self, oid: str, name: bytes, reason: str) -> None:
        super().__init__(oid, f"the entry {quote(name)} {reason}")
        self.details["entry"] = name.decode("utf-8", "replace")


class TooManyFiles(VaultError, code="vault.too_many_files"):
    """A tree that stands for more files than avfs walks through, as a tree bomb does."""

    def __init__(self, limit: int) -> None:
        self._say(
            f"the tree holds more than {limit:,} files: avfs does not go through all of it",
            "Name a directory in it: single paths can be read.",
            limit=limit,
        )


class HostileObjects(ObjectCorrupt, code="vault.hostile_objects"):
    """Objects of another repository that must not come in; none of them has."""

    def __init__(self, faults: Sequence[tuple[str, str]]) -> None:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        super().__init__(faults[0][0], f"{faults[0][1]}{more}")
        self.hint = "The details list all of them (`--json`)."
        self.details["refused"] = [{"oid": oid, "reason": reason} for oid, reason in faults]


class NotAVault(VaultError, code="vault.unusable", exit_code=17):
    """A directory that cannot serve as a vault."""

    def __init__(self, path: str, reason: str) -> None:
        self._say(f"{quote(path)} cannot be used: {reason}", path=path, reason=reason)


class VaultUntrusted(VaultError, code="vault.untrusted", exit_code=17):
    """A vault that could run programs, by hooks or configuration, which its user has not agreed to."""

    def __init__(self, path: str, reason: str) -> None:
        place = shlex.quote(path)
        self._say(
            f"{quote(path)} is not trusted: {reason}",
            f"Take its history and files over with `avfs vault create NAME --from {place}`, which runs nothing of it;"
            f" or, if you would run its programs, `avfs vault trust {place}`.",
            path=path,
            reason=reason,
        )


class CloneReplaced(VaultError, code="vault.clone_replaced", exit_code=17):
    """Another repository is where the clone was that a vault has forks of."""

    def __init__(self, directory: object, vault: str) -> None:
        place = shlex.quote(str(directory))
        self._say(
            f"the repository at '{directory}' is not the clone that vault {quote(vault)} has forks of: they share "
            "no commit",
            f"Fork it into a vault of its own with `avfs fork {place} DIR`; the forks of the older clone are in"
            f" `--vault {shlex.quote(vault)}`.",
            directory=str(directory),
            vault=vault,
        )


class FormatUnsupported(VaultError, code="vault.format_unsupported", exit_code=18):
    """State on disk of a version that this program does not know."""

    def __init__(self, what: str, found: str, known: str, *, is_gits: bool = False) -> None:
        """Say what is supported; `is_gits` says that it is a format of git's, which no avfs wrote."""
        hint = "Use the version of avfs that wrote it, or a newer one."
        if not found or not found.isprintable():  # as no version writes it
            hint = "It is damaged: copy it from a backup."
        self._say(
            f"{quote(what)} has format {quote(found)}; this avfs knows {known}",
            None if is_gits else hint,
            found=found,
            known=known,
        )


class VaultHidden(VaultError, code="vault.hidden", exit_code=17):
    """A command that avfs runs in a vault cannot use avfs on the same vault."""

    def __init__(self, git_dir: str) -> None:
        self._say(
            f"the state of the vault {quote(git_dir)} is hidden from commands that avfs runs in it",
            "Run avfs outside of the command; git works inside.",
            git_dir=git_dir,
        )


class GitFailed(VaultError, code="vault.git_failed", exit_code=19):
    """A git command failed."""

    def __init__(self, command: str, reason: str) -> None:
        self._say(f"git {command} failed: {reason}", command=command)


class WorkspaceError(AvfsError, code="workspace.failed", exit_code=20):
    """Something about a fork or its workspace."""


_FORKS_SHOWN = 10


class ForkNotFound(WorkspaceError, code="fork.not_found", exit_code=21):
    """No fork of that name."""

    def __init__(
        self, name: str, *, vault: str | None = None, is_deleted_by_git: bool = False, renamed_to: str | None = None
    ) -> None:
        where = f" in vault {quote(vault)}" if vault is not None else ""
        what, hint = f"there is no fork {quote(name)}{where}", "See them with `avfs fork list`."
        if is_deleted_by_git:
            what += " any more: git has deleted its branch"
            fork = shlex.quote(name)
            hint = (
                f"Bring it and its files back with `avfs undo --fork {fork}`, if it is mounted after `avfs "
                f"unmount {fork}`."
            )
        if renamed_to is not None:
            what += f" any more: it is called {quote(renamed_to)} now"
            hint = f"Work in it with `--fork {shlex.quote(renamed_to)}`."
        self._say(what, hint, fork=name)


class NoForkChosen(WorkspaceError, code="fork.not_chosen", exit_code=21):
    """No fork was named, and the vault has several and no default."""

    def __init__(self, vault: str, forks: Sequence[str]) -> None:
        self._say(
            f"vault {quote(vault)} has several forks and no default: {name_some(forks, _FORKS_SHOWN)}",
            "Name one with `--fork NAME`.",
            vault=vault,
            forks=list(forks),
        )


class NoForks(WorkspaceError, code="fork.none", exit_code=21):
    """No fork was named, and the vault has none."""

    def __init__(self, vault: str, origin: str | None = None) -> None:
        if origin is None:
            make = "Make one of a commit with `avfs fork create NAME --at COMMIT`"
        else:
            make = f"Make one with `avfs fork {shlex.quote(origin)} DIR`"
        self._say(
            f"vault {quote(vault)} has no fork",
            f"{make}; if it had one, `avfs undo` brings that back.",
            vault=vault,
        )


class ForkExists(WorkspaceError, code="fork.exists", exit_code=22):
    """A fork or branch of that name is there already."""

    def __init__(self, name: str, *, hint: str | None = None) -> None:
        self._say(f"there is already a fork {quote(name)}", hint, fork=name)


class ForkIsAlias(WorkspaceError, code="fork.alias", exit_code=22):
    """A branch that is only another name of a branch (`git symbolic-ref`), and so has no workspace of its own."""

    def __init__(self, name: str, target: str, git_dir: str) -> None:
        ref = shlex.quote(f"refs/heads/{name}")
        own = f"git -C {shlex.quote(git_dir)} update-ref --no-deref {ref} {shlex.quote(target)}"
        short = target.removeprefix("refs/heads/")
        self._say(
            f"{quote(name)} is only another name of the branch {quote(short)}, by a symbolic ref",
            f"Work in that one with `--fork {shlex.quote(short)}`, or make this one a branch of its own: `{own}`.",
            fork=name,
            target=target,
        )


class WorkspaceBusy(WorkspaceError, code="workspace.busy", exit_code=23):
    """Another process holds the workspace."""

    def __init__(
        self,
        name: str,
        holder: str | None,
        *,
        pid: int | None = None,
        stopped: Sequence[int] = (),
        is_callers: bool = False,
        is_cut_off: bool = False,
    ) -> None:
        by = f" by {holder}" if holder else ""
        hint = "Wait for it, then try again."
        if is_cut_off:
            hint = f"End it with `avfs unmount {shlex.quote(name)}`; what is in the tree stays. Then mount it again."
        elif is_callers:
            hint = (
                "That command runs this one, and would wait for it. Run avfs outside of the command; git works inside."
            )
        elif stopped:
            hint = (
                f"Its processes are stopped. Continue them with `kill -CONT {' '.join(map(str, stopped))}`, then "
                "try again."
            )
        self._say(f"workspace {quote(name)} is in use{by}", hint, fork=name, holder=holder, pid=pid)


class WorkspaceDamaged(WorkspaceError, code="workspace.damaged", exit_code=24):
    """Files of a workspace are missing or cannot be read."""

    def __init__(self, name: str, reason: str, *, hint: str = "Run `avfs doctor --repair`.") -> None:
        self._say(f"workspace {quote(name)} is damaged: {reason}", hint, fork=name, reason=reason)


class PathNotFound(WorkspaceError, code="path.not_found", exit_code=25):
    """Nothing is at that path of the workspace, or of a state if one is named."""

    def __init__(self, path: bytes | str, *, state: str | None = None) -> None:
        text = path if isinstance(path, str) else path.decode("utf-8", "replace")
        where, details = (f" in {quote(state)}", {"state": state}) if state is not None else ("", {})
        self._say(f"there is nothing at {quote(path)}{where}", path=text, **details)


class PathUnsuitable(WorkspaceError, code="path.unsuitable", exit_code=26):
    """What is at a path does not allow what was asked: wrong kind, not empty, already there."""

    def __init__(self, path: bytes | str, reason: str) -> None:
        self._say(f"{quote(path)} {reason}", reason=reason)


class AttributeRefused(WorkspaceError, code="path.attribute_refused", exit_code=26):
    """The file system cannot hold a tag or a value of metadata; the attribute stays as it was."""

    def __init__(self, path: bytes, key: str, reason: str) -> None:
        self._say(f"{quote(b'/' + path)} cannot have {quote(key)}: {reason}", key=key, reason=reason)


class QuotaExceeded(WorkspaceError, code="quota.exceeded", exit_code=28):
    """A change would need more than a quota allows; nothing of it was done."""

    def __init__(self, setting: str, limit: int, used: int) -> None:
        unit = "files" if setting == "quota.fork_files" else "bytes"
        holds = {"quota.file_bytes": "the file would have", "quota.vault_bytes": "the vault has"}.get(
            setting, "the fork has"
        )
        ways = f"for one fork `avfs fork config FORK {setting} N`, for all `avfs vault config {setting} N`"
        hint = f"Remove files, or raise the limit: {ways}; 0 for none."
        if setting == "quota.vault_bytes":
            ways = "remove files, delete forks (`avfs fork delete`), or forget old operations (`avfs prune --keep N`)"
            hint = f"Free space: {ways}; or raise the limit: `avfs vault config {setting} N`, 0 for none."
        self._say(
            f"{quote(setting)} allows {limit:,} {unit}: {holds} {used:,}",
            hint,
            quota=setting,
            limit=limit,
            used=used,
        )
        self.errno = 27 if setting == "quota.file_bytes" else 122  # EFBIG, EDQUOT


class ContentChanged(WorkspaceError, code="path.content_changed", exit_code=27):
    """The content at a path is not what the caller expected; nothing was written."""

    def __init__(self, path: bytes | str, expected: str, actual: str | None) -> None:
        self._say(
            f"{quote(path)} is not what was expected",
            "Read it again, then repeat the change.",
            expected=expected,
            actual=actual,
        )


class WorkspaceMounted(WorkspaceBusy, code="workspace.mounted", exit_code=29):
    """A workspace, or a vault with it, is mounted, and what was asked for needs it unmounted."""

    def __init__(
        self,
        name: str,
        directory: str,
        *,
        session: str,
        pid: int | None = None,
        is_ending: bool = False,
        is_overlay: bool = False,
    ) -> None:
        where = f"mounted at {quote(directory)}"
        hint = f"Work in it there, or end it with `avfs stop {shlex.quote(str(directory))}`."
        if is_ending:
            where = f"still in use by programs that have it from a mount at {quote(directory)}, which was taken away"
            hint = f"End them, or take it from them with `avfs unmount --force {shlex.quote(name)}`."
            if is_overlay:
                hint = "End them: a tree on overlayfs cannot be taken from programs."
        self._say(f"workspace {quote(name)} is {where}", hint, fork=name, directory=directory, session=session, pid=pid)


class PluginRefused(WorkspaceError, code="plugin.refused", exit_code=28):
    """A plug-in of the user's does not want a change; nothing has changed."""

    def __init__(self, plugin: str, reason: str, change: str) -> None:
        self._say(
            f"the plug-in {quote(plugin)} refuses {change}: {reason}",
            "See what is asked with `avfs plugins list`; a person ends it with `avfs plugins disable "
            f"{shlex.quote(plugin)}`.",
            plugin=plugin,
            reason=reason,
        )


class PluginFailed(WorkspaceError, code="plugin.failed", exit_code=28):
    """A plug-in of the user's could not be asked, or gave no answer, so that a change is refused."""

    def __init__(self, plugin: str, reason: str, *, enabled: bool = True) -> None:
        failed = "failed, and what it does not allow is refused" if enabled else "failed, and was not enabled"
        disable = f", or do without it: `avfs plugins disable {shlex.quote(plugin)}`" if enabled else ""
        self._say(
            f"the plug-in {quote(plugin)} {failed}: {reason}",
            f"Mend it and enable it again{disable}.",
            plugin=plugin,
            reason=reason,
        )


class CheckpointError(AvfsError, code="checkpoint.failed", exit_code=30):
    """Something about a checkpoint, or about making one."""


class CheckpointNotFound(CheckpointError, code="checkpoint.not_found", exit_code=31):
    """No checkpoint of that label or id."""

    def __init__(self, name: str, *, vault: str, fork: str | None = None) -> None:
        where = f" in fork {quote(fork)} of vault {quote(vault)}" if fork is not None else f" in vault {quote(vault)}"
        self._say(
            f"there is no checkpoint {quote(name)}{where}",
            "See them with `avfs checkpoint list`, and forks with `avfs fork list`.",
            checkpoint=name,
        )


class CheckpointExists(CheckpointError, code="checkpoint.exists", exit_code=32):
    """A label that is taken."""

    def __init__(self, label: str) -> None:
        hint = f"Choose another label, or free that one with `avfs checkpoint delete {shlex.quote(label)}`."
        self._say(f"there is already a checkpoint labelled {quote(label)}", hint, label=label)


class AmbiguousName(CheckpointError, code="checkpoint.ambiguous", exit_code=33):
    """A shortened id that fits more than one object."""

    def __init__(self, name: str) -> None:
        self._say(f"{quote(name)} fits more than one checkpoint", "Give more of its letters.")


class FileChanging(CheckpointError, code="checkpoint.file_changing", exit_code=34):
    """A file kept changing while it was read, or a program moved it while it was replaced; nothing was committed."""

    def __init__(self, path: bytes, doing: str = "read") -> None:
        self._say(f"{quote(path)} keeps changing while it is {doing}", "Stop what writes it, then try again.")


class SparseCheckout(CheckpointError, code="checkpoint.sparse"):
    """Files are missing in the live tree because git was told to leave them out: no program has removed them."""

    def __init__(self, path: bytes, count: int) -> None:
        named = f"{quote(path)}{and_more(count - 1)}"
        self._say(
            f"git leaves {named} out of this tree (`skip-worktree`), and a checkpoint would remove what is left out",
            "Run `git sparse-checkout disable` in the tree, which brings the files back.",
            path=path.decode("utf-8", "replace"),
        )


class MarkedUnchanged(CheckpointError, code="checkpoint.marked_unchanged"):
    """Files were edited that git was told to keep out of commits."""

    def __init__(self, path: bytes, count: int, mark: str) -> None:
        named, text = f"{quote(path)}{and_more(count - 1)}", path.decode("utf-8", "replace")
        self._say(
            f"git keeps changes of {named} out of commits (`{mark}`), and a checkpoint would commit them",
            f"Run `git update-index --no-{mark} {shlex.quote(text)}` in the tree to have them saved, "
            "or move them to a file that `.gitignore` names and put this one back.",
            path=text,
        )


class LayerNotUnderstood(CheckpointError, code="checkpoint.layer_not_understood", exit_code=35):
    """The upper layer holds an overlayfs mark that this program does not know, or cannot read."""

    def __init__(self, path: bytes, mark: str, why: str = "avfs does not know") -> None:
        self._say(f"{quote(path)} carries the overlayfs mark {quote(mark)}, which {why}", mark=mark)


class NothingToUndo(CheckpointError, code="undo.nothing", exit_code=36):
    """No operation is left to take back, or to do again."""

    def __init__(self, word: str) -> None:
        self._say(f"there is nothing to {word}", "See what was done with `avfs op log`.")


class OperationNotFound(CheckpointError, code="undo.not_found", exit_code=39):
    """The log has no operation of that number, or another fork has it than was named."""

    def __init__(self, number: int, *, fork: str | None = None, of: str | None = None) -> None:
        if fork is None or of is None:
            self._say(f"there is no operation {number}", "See what was done with `avfs op log`.", operation=number)
        else:
            log = f"avfs --fork {shlex.quote(fork)} op log"
            hint = f"Name that fork with `--fork {shlex.quote(of)}`, or see what was done with `{log}`."
            self._say(
                f"operation {number} is on fork {quote(of)}, not on {quote(fork)}", hint, operation=number, fork=fork
            )


class CannotUndo(CheckpointError, code="undo.impossible", exit_code=37):
    """An operation that cannot be undone now."""

    def __init__(self, op: str, reason: str, *, hint: str | None = None) -> None:
        self._say(f"cannot undo {quote(op)}: {reason}", hint, operation=op, reason=reason)


class UndoConflicts(CheckpointError, code="undo.conflicts", exit_code=37):
    """An operation cannot be taken back alone, because what it changed was changed since; nothing has changed."""

    def __init__(self, operation: int, paths: Sequence[bytes]) -> None:
        self._say(
            f"cannot undo operation {operation} alone: these paths were changed since: {name_some(paths)}",
            f"See what it changed with `avfs op show {operation} -p`.",
            operation=operation,
            paths=[path.decode("utf-8", "replace") for path in paths],
        )


class HookRefused(CheckpointError, code="hook.refused", exit_code=38):
    """A hook of the vault's owner does not want an operation; nothing has changed."""

    def __init__(self, hook: str, reason: str) -> None:
        self._say(
            f"the hook {quote(hook)} refuses it: {reason}",
            "See where it is with `avfs hooks list`.",
            hook=hook,
            reason=reason,
        )


class MergeError(AvfsError, code="merge.failed", exit_code=40):
    """Something about a merge."""


class NotFastForward(MergeError, code="merge.not_fast_forward", exit_code=41):
    """The target has commits of its own, and only moving on was allowed."""

    def __init__(self, target: str, source: str) -> None:
        self._say(
            f"{quote(target)} has commits that {quote(source)} does not have",
            "Merge without `--ff-only`, or rebase the source first.",
            target=target,
            source=source,
        )


class UnrelatedHistories(MergeError, code="merge.unrelated", exit_code=42):
    """Two commits that have no ancestor in common."""

    def __init__(self, target: str, source: str) -> None:
        self._say(f"{quote(target)} and {quote(source)} have no commit in common", target=target, source=source)


class MergeInProgress(MergeError, code="merge.in_progress", exit_code=43):
    """A workspace holds a merge whose conflicts are not resolved."""

    def __init__(self, fork: str, source: str, operation: str = "merge") -> None:
        verb = operation.replace("_", "-")
        doing = {"rebase": "a rebase, at", "cherry-pick": "a cherry-pick, at"}.get(verb, "merging")
        self._say(
            f"{quote(fork)} is in the middle of {doing} {quote(source)}",
            f"Resolve what is in conflict and run `avfs {verb} --continue`, or give it up with `avfs {verb} --abort`.",
            fork=fork,
            source=source,
            operation=operation,
        )


class NoMergeInProgress(MergeError, code="merge.not_in_progress", exit_code=44):
    """There is no merge to go on with."""

    def __init__(self, fork: str) -> None:
        self._say(f"{quote(fork)} is not in the middle of a merge", "See its state with `avfs status`.", fork=fork)


class ConflictsLeft(MergeError, code="merge.conflicts_left", exit_code=45):
    """Conflicts that are not resolved."""

    def __init__(self, paths: Sequence[bytes]) -> None:
        self._say(
            f"still in conflict: {name_some(paths)}",
            "Edit the files, or run `avfs resolve PATH`, with `--ours`, `--theirs` or `--union`.",
            paths=[path.decode("utf-8", "replace") for path in paths],
        )


class CommitConflicts(MergeError, code="merge.commit_conflicts", exit_code=46):
    """A commit that cannot be put on another state without deciding what is in conflict."""

    def __init__(self, commit: str | None, subject: str, paths: Sequence[bytes]) -> None:
        what = f"{commit} ({quote(subject)})" if commit is not None else "what is not committed"
        self._say(
            f"{what} is in conflict with what is there: {name_some(paths)}",
            "Nothing was changed. Resolve it here with `--on-conflict workspace`, or choose a side with `--strategy`.",
            commit=commit,
            paths=[path.decode("utf-8", "replace") for path in paths],
        )


class HeadElsewhere(MergeError, code="merge.head_elsewhere", exit_code=47):
    """git's HEAD in the live tree is not on the fork's branch, so the tree may hold the files of another branch."""

    def __init__(self, fork: str, where: str, *, way_back: str) -> None:
        self._say(
            f"git's HEAD in the tree of {quote(fork)} is {where}",
            f"Run {way_back} in the tree, or `avfs undo` if the last operation moved HEAD.",
            fork=fork,
            where=where,
        )


class GitUnderWay(MergeError, code="merge.git_under_way", exit_code=47):
    """git is in the middle of a merge, cherry-pick or revert in the live tree, whose conflicts would be committed."""

    def __init__(self, fork: str, command: str) -> None:
        self._say(
            f"git is in the middle of a {command} in the tree of {quote(fork)}",
            f"Run `git {command} --continue` or `git {command} --abort` in the tree.",
            fork=fork,
            command=command,
        )


class GitUnmerged(MergeError, code="merge.git_unmerged", exit_code=47):
    """git has unresolved conflicts in the live tree, as after `git stash pop`, whose markers would be committed."""

    def __init__(self, fork: str, paths: Sequence[str]) -> None:
        self._say(
            f"git has unresolved conflicts in the tree of {quote(fork)}: {name_some(paths)}",
            "Resolve them and run `git add` for each file in the tree, or give them up with `git reset --merge`.",
            fork=fork,
            paths=list(paths),
        )


class MountError(AvfsError, code="mount.failed", exit_code=50):
    """Something about a live tree."""


class MountPointUnusable(MountError, code="mount.point_unusable", exit_code=51):
    """A directory that nothing can be mounted at: not empty, no directory, in use, inside the vault."""

    def __init__(self, path: str, reason: str, *, hint: str | None = None) -> None:
        self._say(f"cannot mount at {quote(path)}: {reason}", hint, path=path, reason=reason)


class FuseUnavailable(MountError, code="mount.unavailable", exit_code=52):
    """This machine lacks what a mount needs, or does not allow it to this user."""


class BaseMoved(MountError, code="mount.base_moved"):
    """The base changed during the mount; try again."""

    def __init__(self, reason: str) -> None:
        self._say(f"the workspace cannot be mounted just now: {reason}", "Try again.", reason=reason)


class MountBusy(MountError, code="mount.busy", exit_code=53):
    """Programs still use a live tree."""

    def __init__(self, path: str, users: Sequence[str]) -> None:
        by = f" by {', '.join(users[:5])}{' and others' if len(users) > 5 else ''}" if users else ""
        self._say(
            f"{quote(path)} is in use{by}",
            "Leave it there and try again, or let it go with `--lazy` when they are done.",
            path=path,
            users=list(users),
        )
        self._pids = [pid for user in users if (pid := user.rpartition("(pid ")[2].removesuffix(")")).isdigit()]

    def refuse_force(self) -> None:
        """Say how to end the programs, where the kernel takes the tree from none of them."""
        end = f"end them with `kill {' '.join(self._pids)}`" if self._pids else "end them"
        self.hint = f"A tree on overlayfs cannot be taken from programs: {end}, or let it go with `--lazy`."


class MountCovered(MountError, code="mount.covered", exit_code=59):
    """Another mount stands over a live tree, or in it: it would be unmounted, or used, in place of the tree."""

    def __init__(self, path: str, cover: str, *, kind: str, source: str) -> None:
        stands = "has another mount in it" if cover.startswith(f"{path}/") else "is covered by another mount"
        command = "avfs unmount" if source.startswith("avfs:") else "umount"  # the live tree of a fork
        self._say(
            f"{quote(path)} {stands} at {quote(cover)} (type {quote(kind)}, source {quote(source)})",
            f"Unmount that one first with `{command} {shlex.quote(cover)}`, then try again.",
            path=path,
            cover=cover,
            kind=kind,
            source=source,
        )


class MountInPart(MountError, code="mount.in_part"):
    """`mount --bind` shows a part of a live tree at another place, where paths are not those of the tree."""

    def __init__(self, path: str, part: str) -> None:
        self._say(
            f"{quote(path)} is no live tree of its own: `mount --bind` shows {quote(part)} of one there",
            "Work in the live tree itself (see `avfs sessions`), or name the fork with `--vault VAULT@FORK` and give "
            "paths from its root.",
            path=path,
            part=part,
        )


class SessionNotFound(MountError, code="mount.not_found", exit_code=54):
    """Nothing is mounted that is called so."""

    def __init__(self, name: str, *, is_other: bool = False) -> None:
        what, hint = f"there is no mount {quote(name)}", "See them with `avfs sessions`."
        if is_other:
            what = f"the mount {quote(name)} shows a fork that `avfs fork SOURCE DIR` did not make"
            hint = f"Save and unmount it with `avfs stop {shlex.quote(name)}`."
        self._say(what, hint, name=name)


class SessionFailed(MountError, code="mount.session_failed", exit_code=55):
    """The process of a session ended, or gave no answer, where it should not."""

    def __init__(self, what: str, log: str) -> None:
        self._say(what, "What the process said is in the details.", log=log)


class RequestNotUnderstood(MountError, code="session.not_understood", exit_code=56):
    """What came over a control socket is not in its language."""

    def __init__(self, reason: str) -> None:
        self._say(
            f"the session does not understand what was asked: {reason}",
            "If avfs was upgraded meanwhile, unmount and mount again.",
            reason=reason,
        )


class OutcomeUnknown(MountError, code="session.outcome_unknown", exit_code=57):
    """The process of a session died, or was stopped, in the middle of something that is not to be done twice."""

    def __init__(self, fork: str, operation: str, *, stopped: Sequence[int] = ()) -> None:
        outcome = f"died in the middle of '{operation}': it is done, or not at all"
        hint = "Look with `avfs status` and `avfs op log`."
        if stopped:
            outcome = f"was asked for '{operation}' and is stopped: it is done, or not at all"
            hint = (
                f"Continue its processes with `kill -CONT {' '.join(map(str, stopped))}`, then look with `avfs op log`."
            )
        self._say(
            f"the session of {quote(fork)} {outcome}",
            hint,
            fork=fork,
            operation=operation,
        )


class PeerRefused(MountError, code="session.peer_refused", exit_code=58):
    """A session serves only processes of its own PID and mount namespace."""

    def __init__(self, fork: str) -> None:
        self._say(
            f"the session of {quote(fork)} is in another PID or mount namespace and refuses this process",
            "Run avfs where the fork was mounted, outside of containers and of commands that avfs runs.",
            fork=fork,
        )


class NoFileEvents(MountError, code="session.no_file_events"):
    """The live tree of a fork tells no file events, or the fork has none."""

    def __init__(self, fork: str, reason: str, hint: str) -> None:
        self._say(f"there are no file events of {quote(fork)}: {reason}", hint, fork=fork, reason=reason)


class SessionEnding(WorkspaceBusy, code="session.ending"):
    """A session ended before it began what it was asked for."""


class ExecError(AvfsError, code="exec.failed", exit_code=100):
    """Something about running a command in a workspace, other than the command itself."""


class BackendUnavailable(ExecError, code="exec.backend_unavailable", exit_code=101):
    """No way to show the workspace to a command can be used here; nothing was started."""

    def __init__(self, wanted: str, reasons: Sequence[str]) -> None:
        what = "no backend can be used" if wanted == "auto" else f"the backend {quote(wanted)} cannot be used"
        self._say(
            f"{what}: {'; '.join(reasons)}",
            "Leave the choice to avfs with `--backend auto`." if wanted != "auto" else None,
            backend=wanted,
            reasons=list(reasons),
        )


class IsolationUnavailable(ExecError, code="exec.isolation_unavailable", exit_code=102):
    """A command was to run isolated, and this machine lacks what that takes; nothing was started."""

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        self._say(f"the command cannot be isolated: {reason}", hint, reason=reason)


class NotPrepared(ExecError, code="exec.not_prepared", exit_code=103):
    """A fork on which no prepared session is open."""

    def __init__(self, fork: str) -> None:
        self._say(f"fork {quote(fork)} is not prepared", "Begin with `avfs proxy prepare`.", fork=fork)


class TerminalMissing(ExecError, code="exec.terminal_missing", exit_code=104):
    """A program that can only wait for a person was to run without a terminal; nothing was started."""

    def __init__(self, program: str) -> None:
        self._say(
            f"{quote(program)} waits for a person at a terminal, and has none",
            "Give it one with `avfs exec -t PROGRAM`; `avfs shell` works in the fork, `avfs run PROGRAM` in a new one.",
            program=program,
        )


class PolicyError(AvfsError, code="policy.failed", exit_code=80):
    """Something about the policy of commands, or a command that it refuses."""


class PolicyInvalid(PolicyError, code="policy.invalid", exit_code=81):
    """A policy file that cannot be read or understood; no command runs until it is mended."""

    def __init__(self, path: str, reason: str) -> None:
        self._say(
            f"policy {quote(path)} cannot be used: {reason}",
            "Mend it, then see it with `avfs policy show`.",
            path=path,
            reason=reason,
        )


class CommandDenied(PolicyError, code="policy.denied", exit_code=82):
    """The policy does not let a command run; nothing was started."""

    def __init__(self, command: str, reason: str, *, details: Mapping[str, object] | None = None) -> None:
        super().__init__(
            f"{quote(command)} is denied: {reason}",
            hint="See why with `avfs policy check -- COMMAND`.",
            details={"command": command, "reason": reason, **(details or {})},
        )


class ApprovalNeeded(PolicyError, code="policy.approval_needed", exit_code=83):
    """The policy lets a command run only if a person approves of it; nothing was started."""

    def __init__(
        self,
        command: str,
        reason: str,
        token: str,
        *,
        hint: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(
            f"{quote(command)} needs approval: {reason}",
            hint=f"A person grants it with `avfs approvals grant {token.partition('.')[0]}`; "
            f"then run the same command with `--approve {token}`." + (f" {hint}" if hint else ""),
            details={"command": command, "reason": reason, "token": token, **(details or {})},
        )


class ApprovalRefused(PolicyError, code="policy.approval_refused", exit_code=84):
    """A token that does not let this command run: not granted, of another command, used, expired or unknown."""

    def __init__(self, approval: str, reason: str, *, hint: str | None = None) -> None:
        self._say(f"approval {quote(approval)} cannot be used: {reason}", hint, approval=approval, reason=reason)


class ApprovalNotFound(PolicyError, code="policy.approval_not_found", exit_code=85):
    """No approval of that id."""

    def __init__(self, approval: str) -> None:
        self._say(f"there is no approval {quote(approval)}", "See them with `avfs approvals list`.", approval=approval)


class PersonNeeded(PolicyError, code="policy.person_needed", exit_code=87):
    """An operation that only a person may confirm, at a terminal, and that was not confirmed."""

    def __init__(self, action: str) -> None:
        self._say(f"cannot {action}: nobody at a terminal said yes", "Run it in a terminal, and answer there.")


class AuditDamaged(PolicyError, code="audit.damaged", exit_code=86):
    """The audit log does not hold what was written to it."""

    def __init__(self, path: str, reason: str) -> None:
        self._say(f"the audit log {quote(path)} is damaged: {reason}", path=path, reason=reason)


class ProblemsFound(AvfsError, code="doctor.problems_found", exit_code=60):
    """The doctor found something that is not mended."""

    def __init__(self, count: int, *, fixable: int = 0, details: Mapping[str, object] | None = None) -> None:
        super().__init__(
            f"{count} {'problem is' if count == 1 else 'problems are'} left",
            hint="Run `avfs doctor --repair`." if fixable else None,
            details=details,
        )


class RemoteError(AvfsError, code="remote.failed", exit_code=90):
    """Something about another repository, or the way there."""


class RemoteNotFound(RemoteError, code="remote.not_found", exit_code=91):
    """No remote of that name."""

    def __init__(self, name: str) -> None:
        self._say(
            f"there is no remote {quote(name)}",
            "See them with `avfs remote list`; add one with `avfs remote add NAME URL`.",
            remote=name,
        )


class RemoteExists(RemoteError, code="remote.exists", exit_code=92):
    """A remote of that name is there already."""

    def __init__(self, name: str) -> None:
        self._say(
            f"there is already a remote {quote(name)}",
            f"Give it another address with `avfs remote set-url {shlex.quote(name)} URL`.",
            remote=name,
        )


class RemoteUnreachable(RemoteError, code="remote.unreachable", exit_code=93):
    """The other side did not answer, has no repository there, or broke off. Nothing has changed here."""

    def __init__(self, url: str, reason: str) -> None:
        self._say(
            f"cannot reach {quote(url)}: {reason}",
            "See whether the address is right and the server is up, then try again.",
            url=url,
            reason=reason,
        )


class RemoteAccessDenied(RemoteError, code="remote.access_denied", exit_code=94):
    """The other side does not let this user in, or belongs to another user of this machine."""

    def __init__(self, url: str, reason: str, *, place: str | None = None) -> None:
        hint = "Credentials are those that git uses: a credential helper, an ssh key in the agent, or GIT_ASKPASS."
        if place is not None:
            trust = f"git config --global --add safe.directory {shlex.quote(place)}"
            hint = f"If its hooks and settings may run as you: `{trust}`."
        self._say(f"{quote(url)} does not let you in: {reason}", hint, url=url, reason=reason)


class PushRejected(RemoteError, code="remote.rejected", exit_code=95):
    """The other side, or git here, did not take all that was pushed. What is there was not overwritten."""

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
        took = name_some([ref.removeprefix("refs/heads/") for ref in pushed])
        super().__init__(
            f"{quote(remote)} did not take {shown}{and_more(len(rejected) - 5)}"
            + (f"; it took {took}" if pushed else ""),
            hint=hint,
            details={
                "remote": remote,
                "rejected": [{"ref": name, "reason": reason} for name, reason in rejected],
                "pushed": list(pushed),
                **details,
            },
        )


class RemoteDataRefused(RemoteError, code="remote.data_refused", exit_code=96):
    """What the other side sent is damaged, or could do harm; nothing of it is used."""

    def __init__(self, url: str, reason: str) -> None:
        self._say(f"what {quote(url)} sent is refused: {reason}", url=url, reason=reason)


class RemoteFormatUnsupported(RemoteError, code="remote.format_unsupported"):
    """The other side has ids of another kind than SHA-1, as after `git init --object-format=sha256`."""

    def __init__(self, url: str) -> None:
        self._say(f"{quote(url)} is a repository with SHA-256 ids; avfs supports those with SHA-1 ids only", url=url)


class NoUpstream(RemoteError, code="remote.no_upstream", exit_code=98):
    """Nothing on a remote belongs to a fork."""

    def __init__(
        self, fork: str, remote: str, *, gone: str | None = None, others: Sequence[str] = (), is_removed: bool = False
    ) -> None:
        """Say that a remote has no branch of a fork's name, or not the branch `gone` that the fork follows.

        `others` is what it has; with `is_removed` there is no such remote any more.
        """
        if is_removed:
            self._say(
                f"fork {quote(fork)} follows branch {quote(gone or fork)} of remote {quote(remote)}, which was removed",
                f"Add it with `avfs remote add {shlex.quote(remote)} URL`, or follow another branch with "
                f"`avfs update --upstream REMOTE/BRANCH {shlex.quote(fork)}`.",
                fork=fork,
                remote=remote,
            )
            return
        what = quote(fork) if gone is None else f"{quote(gone)}, which fork {quote(fork)} follows"
        follow = ""
        if others:
            command = f"avfs update --upstream {shlex.quote(others[0])} {shlex.quote(fork)}"
            follow = f"Follow another branch from now on, as with `{command}`. "
        self._say(
            f"{quote(remote)} has no branch {what}",
            f"{follow}See what it has with `avfs fork list --remote`.",
            fork=fork,
            remote=remote,
        )


class ApplyConflict(RemoteError, code="remote.apply_conflict", exit_code=99):
    """A directory holds changes of its own where those of a fork were to be laid; nothing was written there."""

    def __init__(self, directory: str, paths: Sequence[str], *, written: int = 0, left: Sequence[str] = ()) -> None:
        others = f"; {written} other files were written before that was seen" if written else ""
        others += f"; an `apply` was killed and left {name_some(left)}, which may hold an edit of yours" if left else ""
        self._say(
            f"{quote(directory)} has changes of its own in {name_some(paths)}{others}",
            "Save them there, or leave these paths out by naming others.",
            directory=directory,
            paths=list(paths),
            written=written,
            left=list(left),
        )


class Interrupted(AvfsError, code="interrupted", exit_code=130):
    """The user pressed Ctrl-C."""

    def __init__(self, done: str | None = None) -> None:
        self._say("interrupted" if done is None else f"interrupted: {done}")


class Terminated(AvfsError, code="terminated", exit_code=143):
    """The program was asked to end (SIGTERM)."""

    def __init__(self, done: str | None = None) -> None:
        self._say("terminated" if done is None else f"terminated: {done}")


class InternalError(AvfsError, code="internal", exit_code=70):
    """A broken invariant: a bug in avfs."""
