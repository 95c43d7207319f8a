"""The files that avfs keeps beside a repository: their names, their versions, how they are read and written.

Decided here and nowhere else: the layout of `avfs/` in a vault (docs/design/format.md is the normative text) and
what happens with a version that this program does not know: it is refused. Everything else in `workspace`
asks here for places. Writes are atomic; which of them are also forced to disk is said at each function.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from avfs_git.errors import FormatUnsupported, HostError, InvalidName, VaultHidden, WorkspaceDamaged
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors, make_dirs_durably, write_file_atomically
from avfs_git.host.files.plainfile import open_plain, read_plain
from avfs_git.paths import TreePath, check_vault_name, fork_dir_name, fork_of_dir_name, is_fork_name, label_ref_name
from avfs_git.values import field, record_class

FORMAT = 1
"""The version of everything under `avfs/`."""

HIDDEN = "hidden from commands"
"""What stands instead of the version where avfs runs a command, which is not to see what is under `avfs/`."""

VAULTS, SEAL_KEY, PLUGINS = "vaults", "seal.key", "plugins"
ENABLED_HOOKS, ENABLED_PLUGINS = "hooks.json", "plugins.json"
HOME_NAMES = frozenset(
    {VAULTS, "mounts", "attempts", "current", "trusted", SEAL_KEY, ENABLED_HOOKS, "hooks.lock"}
    | {PLUGINS, ENABLED_PLUGINS, "plugins.lock"}
)
"""The entries of a home. A directory with other entries has another purpose, too, and keeps its permissions."""

HEADS = "refs/heads/"
SIDECARS = "refs/avfs/sidecar/"
LABELS = "refs/avfs/checkpoints/"
KEPT = "refs/avfs/keep/"
KNOWN = "refs/avfs/known/"
"""The last commit that avfs knew of each fork's branch; it stays when others move the branch: `known/FORK_DIR_NAME`."""
SEEN = "refs/avfs/seen"
REMOTES = "refs/remotes/"
REMOTE_STATE = "refs/avfs/remotes/"
"""Sidecars and labels of other vaults' forks, by remote: `REMOTE/sidecar/FORK`, `REMOTE/checkpoints/FORK/LABEL`."""


def read_current(home: Path) -> str | None:
    """Read which vault of a home is current.

    During a rename the file has both names: the first name of a vault counts.

    Raises:
        HostError: If the file cannot be read, or holds something else than names of vaults.
    """
    place = home / "current"
    try:
        names = [check_vault_name(name) for name in read_plain(place).decode().split()]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, InvalidName) as error:
        odd = OSError(errno.EINVAL, "it holds no name of a vault")
        refused = HostError(f"read the current vault in '{place}'", error if isinstance(error, OSError) else odd)
        refused.hint = "Move that file elsewhere, and choose a vault with `avfs vault use NAME`."
        raise refused from error
    there = (name for name in names if len(names) == 1 or (home / VAULTS / f"{name}.git").is_dir())
    return next(there, names[0] if names else None)


def find_bad_current(home: Path) -> str | None:
    """Tell why the name of the current vault cannot be read; None if it can, or without a current vault."""
    try:
        read_current(home)
    except HostError as error:
        return error.message
    return None


def write_current(home: Path, *names: str) -> None:
    """Say which vault of a home is current: the first name that a vault has."""
    write_file_atomically(home / "current", "".join(f"{name}\n" for name in names).encode())


def label_ref(fork: str, label: str) -> str:
    """Name the ref of a label."""
    return f"{LABELS}{fork}/{label_ref_name(label)}"


SideRecord = tuple[str, int, str]
"""What one side has of a path in conflict: its path (`os.fsdecode`), its mode and its id."""


@record_class
class OpenConflict:
    """A path in conflict that the user decides on in the workspace."""

    kind: str
    path: str
    base: SideRecord | None = None
    ours: SideRecord | None = None
    theirs: SideRecord | None = None
    left: tuple[int, str] | None = None
    """The mode and id of what the merge left at the path."""
    resolved: bool = False
    """Whether the user said that it is resolved."""


@record_class
class Rewriting:
    """Commits that are put on another state, of which one is in conflict there."""

    kind: str
    """`rebase` or `cherry_pick`."""
    description: str
    """What the log is to say of it."""
    last: str
    """The commit on which the one in conflict is put."""
    made: list[str]
    """What stands there by then, the oldest first."""
    left: list[str]
    """What comes after the one in conflict."""
    strategy: str


@record_class
class Merging:
    """A merge whose conflicts are in the workspace."""

    source: str
    theirs: str
    head: str
    """Where the branch pointed when the merge began."""
    message: str
    squash: bool = False
    conflicts: list[OpenConflict] = field(default_factory=list)
    rewriting: Rewriting | None = None
    """Of what it is a part, where single commits are put on."""

    @property
    def kind(self) -> str:
        """Say what it is: `merge`, or the `rebase` or `cherry_pick` of which it is a part."""
        return self.rewriting.kind if self.rewriting is not None else "merge"


@record_class
class Pending:
    """An operation on the files of a workspace that a crash may have cut short.

    It is forced to disk before the first file is touched and removed after the last. A process that opens the workspace
    in between puts it back, unless the log says that the operation was complete.
    """

    kind: str
    head: str | None
    """Where the branch pointed when the operation began."""
    tree: str | None
    """The tree of the workspace at that time."""
    sidecar: str | None
    """Its sidecar tree."""
    intent: str | None = None
    """A word that the operation's line in the log repeats; None where the branch alone tells whether it has moved."""
    merge: str | None = None
    """`begins` or `ends`, where the workspace is in the middle of a merge after the operation, or was so before."""
    before: Merging | None = None
    """In which merge it was before one begins: where a rebase goes on to the next commit in conflict."""
    shown: bool = False
    """Whether the kernel's overlayfs showed the workspace then: without a staging directory, nothing was changed."""


@record_class
class Following:
    """Another branch of a remote that a fork is about to follow: it does if a line of the log has the word."""

    intent: str
    branch: str | None


@record_class
class WorkspaceState:
    """What is known of a workspace beside its layers."""

    fork: str
    base: str | None
    sidecar: str | None
    """The sidecar commit of the lower layer."""
    format: int = FORMAT
    parent: str | None = None
    upstream: str | None = None
    """The branch of a remote, as `origin/main`, from which it was made."""
    forked_at: str | None = None
    ephemeral: bool = False
    author: list[str] | None = None
    """Name and address of the author of commits here; None for the author of the vault."""
    created_at_ns: int | None = None
    boot: str | None = None
    """The boot of the machine in which the upper layer was last written to.

    None if the layer was lost, and is a new one.
    """
    pending: Pending | None = None
    merging: Merging | None = None
    following: Following | None = None
    recovered: list[str] = field(default_factory=list)
    """What was put back after a power cut, to be told with the next capture."""

    @property
    def is_unfinished(self) -> bool:
        """Whether a process that changed the workspace has died, as far as the state tells.

        Called with the lock held.
        """
        return self.pending is not None or self.following is not None


_STATE_FIELDS = tuple(WorkspaceState.__annotations__)
_OPTIONAL = frozenset({"before", "shown", "rewriting", "following"})
"""Fields that are written where they say something: an older avfs reads every other state."""


def find_own(source: Path, place: Path) -> frozenset[TreePath]:
    """List what is avfs's own in a directory: the home of the vault at a place, or that vault, where it is in no home.

    A directory that holds them is never imported with them: the vault would take up itself, and all others.
    """
    top, vault = Path(os.path.realpath(source)), Path(os.path.realpath(place))
    home = vault.parent.parent
    names = frozenset(os.listdir(home)) if vault.parent.name == VAULTS and home.is_dir() else frozenset({""})
    if names <= HOME_NAMES and home != top:
        own = [home]
    elif names <= HOME_NAMES or SEAL_KEY in names:  # a directory that is also a home
        own = [home / name for name in names & HOME_NAMES]
    else:
        own = [vault]
    return frozenset(
        TreePath(os.fsencode(found.relative_to(top))) for found in own if top in found.parents and found.exists()
    )


class VaultLayout:
    """The paths of a vault."""

    def __init__(self, git_dir: Path) -> None:
        self.git_dir = git_dir
        self.root = git_dir / "avfs"
        self.format = self.root / "format"
        self.made = self.root / "made"
        self.workspaces = self.root / "workspaces"
        self.trash = self.root / "trash"
        self.sessions = self.root / "sessions"
        self.hooks = self.root / "hooks"
        self.oplog = self.root / "oplog"
        self.fork_locks = self.root / "forklocks"
        self.origin = self.root / "origin"
        self.module_objects = self.root / "modules" / "objects"
        self.blob_cache = self.root / "cache" / "blobs"
        self.made_indexes = self.root / "cache" / "indexes"
        self.seen = self.root / "cache" / "seen"
        self.search_index = self.root / "cache" / "search"
        self.config = self.root / "config.json"
        self.room = self.root / "room"
        self.maintenance = self.root / "maintenance.json"
        self.maintenance_lock = self.root / "maintenance.lock"
        self.kept_times = self.root / "kept-times"

    def workspace(self, fork: str) -> WorkspaceLayout:
        """Place the workspace of a fork."""
        return WorkspaceLayout(self.workspaces / fork_dir_name(fork), fork)

    def read_origin(self) -> Path | None:
        """Tell of which directory the vault was made; None of any other vault."""
        try:
            data = read_plain(self.origin)
        except OSError:
            return None
        return Path(os.fsdecode(data.removesuffix(b"\0"))) if data.endswith(b"\0") else None

    def list_workspaces(self) -> list[str]:
        """List the forks that have a workspace on disk; a name that no fork's workspace can have is not avfs's."""
        if not self.workspaces.is_dir():
            return []
        named = {fork_of_dir_name(entry.name): entry for entry in self.workspaces.iterdir() if entry.is_dir()}
        return sorted(fork for fork, entry in named.items() if fork_dir_name(fork) == entry.name and is_fork_name(fork))

    def read_format(self) -> int | None:
        """Read the version of this vault's state; None if avfs never wrote to it.

        Raises:
            FormatUnsupported: If it is of another version.
            VaultHidden: If this process was started by a command that avfs runs in this vault.
        """
        try:
            with closing_fd(open_plain(self.format)) as fd:
                text = os.read(fd, 4096).decode("ascii", "replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise host_failure(error, self.format) from error
        if text == HIDDEN:
            raise VaultHidden(os.fspath(self.git_dir))
        if text != str(FORMAT):
            raise FormatUnsupported(str(self.root), text[:40], str(FORMAT))
        return FORMAT

    def prepare(self) -> None:
        """Make the directories that avfs needs in a repository, durably. Cheap where they are there."""
        if self.read_format() is not None:
            return
        with host_errors(f"prepare '{self.root}'"):
            from avfs_git.gitstore.config.trust import is_shared  # noqa: PLC0415 - only for a new vault
            from avfs_git.gitstore.objects.owncommits import make_table  # noqa: PLC0415 - the same

            if not self.root.is_dir():
                # The repository may be gone since it was opened: a directory of its name would look like a vault.
                make_dirs_durably(self.root, private=not is_shared(self.git_dir), parents=False)
            make_dirs_durably(self.workspaces)
            make_table(self.git_dir)
            # Last, because its presence says that the rest is there.
            write_file_atomically(self.format, f"{FORMAT}\n".encode())


class WorkspaceLayout:
    """The paths of a workspace."""

    def __init__(self, root: Path, fork: str) -> None:
        self.root = root
        self.fork = fork
        self.state = root / "state"
        self.upper = root / "upper"
        self.work = root / "work"
        self.marked = root / "marked"
        self.lock = root / "lock"
        self.statcache = root / "statcache"
        self.copy_note = root / "checkout"
        self.applied = root / "applied"
        self.config = root / "config.json"

    def read_state(self) -> WorkspaceState | None:
        """Read the state; None if the workspace has no file of it.

        Raises:
            WorkspaceDamaged: If it cannot be understood.
            FormatUnsupported: If it is of another version.
        """
        try:
            data = read_plain(self.state)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise host_failure(error, self.state) from error
        # An empty file, or zeros, was not forced to disk before a power cut: the log has its content.
        return parse_state(data, self.fork) if data.strip(b"\0") else None

    def write_state(self, state: WorkspaceState, *, durable: bool = True) -> None:
        """Replace the state. A fresh workspace's need not be `durable`: its branch tells it."""
        with host_errors(f"write '{self.state}'"):
            write_file_atomically(self.state, serialize_state(state), durable=durable)


def host_failure(error: OSError, path: Path) -> Exception:
    """Say that a file could not be read."""
    return HostError(f"read '{path}'", error)


def _check_ids(state: WorkspaceState) -> None:
    ids = [state.base, state.sidecar]
    if state.pending is not None:
        ids += [state.pending.head, state.pending.tree, state.pending.sidecar]
    for merging in (state.merging, state.pending.before if state.pending is not None else None):
        if merging is not None:
            ids += [merging.head, merging.theirs]
            if merging.rewriting is not None:
                ids += [merging.rewriting.last, *merging.rewriting.made, *merging.rewriting.left]
    for text in ids:
        if text is not None and len(bytes.fromhex(text)) != 20:
            raise ValueError(text)


def serialize_state(state: WorkspaceState) -> bytes:
    """Write a state as JSON."""
    return json.dumps(spell(state)).encode() + b"\n"


def spell(value: object) -> object:
    """Make what JSON takes of a part of a state."""
    if isinstance(value, list):
        return [spell(item) for item in value]
    if not isinstance(value, WorkspaceState | Pending | Following | Merging | OpenConflict | Rewriting):
        return value
    fields = {name: getattr(value, name) for name in type(value).__annotations__}
    return {name: spell(held) for name, held in fields.items() if held or name not in _OPTIONAL}


def parse_merging(values: dict[str, Any] | None) -> Merging | None:
    """Read what `spell` made of a merge."""
    if values is None:
        return None
    merging = Merging(**values)
    merging.conflicts = [OpenConflict(**conflict) for conflict in values["conflicts"]]
    if values.get("rewriting") is not None:
        merging.rewriting = Rewriting(**values["rewriting"])
    return merging


def parse_state(data: bytes, fork: str) -> WorkspaceState:
    """Read what `serialize_state` wrote."""
    try:
        values: dict[str, Any] = json.loads(data)
        if values["format"] != FORMAT:
            raise FormatUnsupported(f"workspace {fork}", str(values["format"])[:40], str(FORMAT))
        pending, merging, following = (values.pop(name, None) for name in ("pending", "merging", "following"))
        state = WorkspaceState(**{key: value for key, value in values.items() if key in _STATE_FIELDS})
        if pending is not None:
            state.pending = Pending(**pending)
            state.pending.before = parse_merging(pending.get("before"))
        state.merging = parse_merging(merging)
        state.following = Following(**following) if following is not None else None
        _check_ids(state)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WorkspaceDamaged(fork, "its state file cannot be read") from error
    return state
