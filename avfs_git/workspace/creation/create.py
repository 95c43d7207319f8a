"""Making a vault: empty, from a directory, or from a git repository with what is not committed there.

Decided here: what of a source becomes a vault's first state. The source is only read: nothing in it is executed, and no
git runs on it but to read its configuration. A crash leaves no vault or a whole one (`workspace.creation.atomic`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from avfs_git.errors import HostError, ObjectCorrupt, ObjectMissing, quote
from avfs_git.gitstore.foreign.filemodes import AS_SHOWN, FileModes, read_file_modes
from avfs_git.gitstore.foreign.takeover import import_objects_and_refs, list_borrowed
from avfs_git.gitstore.formats.trees import EMPTY_TREE
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.gitstore.repository import common_dir, find_git_dir, init_vault_repo, is_bare, read_head
from avfs_git.gitstore.rules.ignore import Ignorer
from avfs_git.host.files.durable import check_directory, host_errors, make_dirs_durably
from avfs_git.host.processes.boot import read_boot_id
from avfs_git.model import Warning
from avfs_git.paths import Oid, check_fork_name, show_path
from avfs_git.vfs.layer.readers import PlainDirectory
from avfs_git.vfs.scan.scan import Layer
from avfs_git.workspace.capture.capture import COARSE_NS, Capture
from avfs_git.workspace.capture.captured import Captured
from avfs_git.workspace.checkpoint.conversions import warn_of_conversions
from avfs_git.workspace.creation.atomic import vault_made
from avfs_git.workspace.creation.carry import carry_over
from avfs_git.workspace.creation.lookback import Lookback
from avfs_git.workspace.creation.present import read_known
from avfs_git.workspace.creation.submodules import WithModules
from avfs_git.workspace.opened.layers import make_workspace
from avfs_git.workspace.vault.format import HEADS, SIDECARS, WorkspaceState, find_own
from avfs_git.workspace.vault.log.oprecord import OpRecord
from avfs_git.workspace.vault.origin import create_workspace, facts_of, fresh_state, read_own_state
from avfs_git.workspace.vault.states import add_sidecar, add_state
from avfs_git.workspace.vault.vault import Caller, OpenVault


@dataclass(frozen=True, slots=True)
class Created:
    """What making a vault did."""

    fork: str
    commit: str | None
    warnings: tuple[Warning, ...] = field(default=())


def create_vault(
    git_dir: Path,
    *,
    source: Path | None = None,
    branch: str = "main",
    identity: Caller | None = None,
    clock_ns: Callable[[], int] = time.time_ns,
    environment: Mapping[str, str] | None = None,
    shared: bool = False,
) -> Created:
    """Make a vault.

    A git repository as `source` brings its history and branches, a bare one nothing else; `branch` is the first fork
    where the source names none. `environment` says where the user's configuration of git is. `shared` lets the group of
    this process work in the vault.

    Raises:
        InvalidName: If no fork may have the name of the first one.
        VaultExists: If something is there.
        NotAVault: If the source is a repository that cannot be read safely.
        RefDamaged: If the branch that is checked out there does not say at which commit it is.
        HostError: If the source or the disk cannot be used. Nothing is left behind, unless the error says so.
    """
    check_fork_name(branch)
    if source is not None:
        check_directory(source)
    with vault_made(git_dir) as making:
        created = _fill(making, git_dir, source, branch, identity, clock_ns, environment or {}, shared=shared)
        if shared:
            _own(making, created.fork, clock_ns)
        return created


def _own(git_dir: Path, fork: str, clock_ns: Callable[[], int]) -> None:
    """Make what git obeys, and the first fork's files: the first other member there would own them."""
    with host_errors(f"make '{git_dir}'"):
        for name in ("hooks", "logs", "worktrees"):
            make_dirs_durably(git_dir / name)
    with contextlib.closing(OpenVault(git_dir, clock_ns=clock_ns)) as vault:
        state = read_own_state(vault, fork)
        make_workspace(vault, state or fresh_state(vault, fork, vault.read_head(fork)))


def _fill(
    git_dir: Path,
    place: Path,
    source: Path | None,
    branch: str,
    identity: Caller | None,
    clock_ns: Callable[[], int],
    environment: Mapping[str, str],
    *,
    shared: bool,
) -> Created:
    source_git = find_git_dir(source) if source is not None else None
    head = HEADS + branch
    # A repository is known as the remote `origin`, as in any clone, so that work can go back to it.
    origin = ("origin", source.absolute()) if source is not None and source_git is not None else None
    init_vault_repo(git_dir, head=head, remote=origin, shared=shared)
    detached_at = None
    warnings: list[Warning] = []
    found = look_at_git(source_git) if source_git is not None else ()
    if source_git is not None:
        warnings += _tell_borrowed(source, source_git)
        named = import_objects_and_refs(source_git, git_dir)
        if named is None:
            detached_at = read_head(source_git)[1]
        head = named or head
    carry_over(source, git_dir, environment)
    with contextlib.closing(OpenVault(git_dir, identity=identity, clock_ns=clock_ns)) as vault:
        vault.layout.prepare()  # what it holds is judged
        if detached_at is not None:
            head = _name_detached(vault, head, detached_at)
        if vault.refs.head() != head:
            vault.refs.set_head(head)
        fork = head.removeprefix(HEADS)
        if source is None:
            return Created(fork, None)
        if source_git == source:  # what is in it are git's own files, and no state of anything
            taken = _take_bare(vault, fork, source)
            return Created(fork, taken.commit, (*warnings, *taken.warnings))
        modes = AS_SHOWN
        if source_git is not None:
            modes = read_file_modes(source, source_git, environment, vault.store.read_tree)
        commit, more = import_first_state(vault, place, fork, source, modes)
        warnings += more
        if source_git is not None and (look_at_git(source_git) != found or (source_git / "index.lock").exists()):
            warnings.append(Warning("import.source_changing", describe_git(source, source_git)))
        return Created(fork, commit.hex() if commit else None, tuple(warnings))


def look_at_git(git_dir: Path) -> tuple[object, ...]:
    """Tell what changes when git moves HEAD in a repository, or writes its index."""
    with contextlib.suppress(FileNotFoundError):
        found = (git_dir / "index").stat()
        return (*read_head(git_dir), found.st_ino, found.st_mtime_ns, found.st_size)
    return read_head(git_dir)


def describe_git(source: Path, git_dir: Path) -> str:
    """Say that files may be of two moments, as git works in a source, or was killed there."""
    lock = git_dir / "index.lock"
    left = f", or was killed there and has left '{lock}'" if lock.exists() else ""
    return f"git works in '{source}'{left}: some files may be from before that and others from after it"


def _tell_borrowed(source: Path | None, source_git: Path) -> list[Warning]:
    """Say from where else objects come, or would come."""
    borrowed, missing = list_borrowed(source_git)
    warnings = []
    if borrowed:
        names = ", ".join(quote(str(place)) for place in borrowed)
        warnings.append(
            Warning("import.borrowed", f"'{source}' borrows objects from {names}: they are in the vault, too")
        )
    if missing:
        names = ", ".join(quote(str(place)) for place in missing)
        warnings.append(
            Warning("import.borrowed_missing", f"'{source}' borrows objects from {names}, where there is nothing")
        )
    return warnings


def _take_bare(vault: OpenVault, fork: str, source: Path) -> Created:
    """Begin with the history of a repository that has no working tree here.

    Its forks get their workspaces when they are used.
    """
    commit = vault.read_head(fork)
    vault.oplog.append(OpRecord(0, fork, "vault_create", f"import {source.name}", vault.clock_ns()))
    warnings: list[Warning] = []
    if not is_bare(source):
        warnings.append(
            Warning(
                "import.history_only",
                f"'{source}' belongs to a working tree: what is not committed there is not imported",
            )
        )
    return Created(fork, commit.hex() if commit is not None else None, tuple(warnings))


def _name_detached(vault: OpenVault, head: str, commit: Oid) -> str:
    """Make a branch for a source with a detached HEAD; an existing branch is never moved."""
    name = head
    number = 1
    while vault.refs.read(name) not in (None, commit):
        number += 1
        name = f"{head}-{number}"
    if vault.refs.read(name) is None:
        vault.refs.update([RefChange(name, None, commit)])
    return name


def import_first_state(
    vault: OpenVault, place: Path, fork: str, source: Path, modes: FileModes
) -> tuple[Oid | None, list[Warning]]:
    """Make what a directory holds the state of an unused fork.

    Where the fork's branch has that tree already, it gets no new commit: only the sidecar is recorded.
    """
    head = vault.read_head(fork)
    head_commit = vault.store.read_commit(head) if head is not None else None
    with PackWriter(vault.store) as pack:
        captured = capture_directory(vault, pack, source, head_commit.tree if head_commit else None, modes, place=place)
        commit, sidecar = add_present(vault, pack, fork, captured, head, "uncommitted changes at import")
        changes = [RefChange(SIDECARS + fork, None, sidecar)] if sidecar is not None else []
        if commit != head:
            changes.append(RefChange(HEADS + fork, head, commit))
        changes += vault.follow(fork, commit, came_from=head)
        pack.finish()
        vault.refs.update(changes)
    state = WorkspaceState(
        fork=fork,
        base=commit.hex(),
        sidecar=sidecar.hex() if sidecar else None,
        created_at_ns=vault.clock_ns(),
        boot=read_boot_id(),
    )
    vault.oplog.append(
        OpRecord(0, fork, "vault_create", f"import {source.name}", vault.clock_ns(), more=facts_of(state))
    )
    create_workspace(vault, vault.layout.workspace(fork), state)
    before = head_commit.tree if head_commit is not None else None
    git_dir = find_git_dir(source) or vault.git_dir
    captured.warnings += warn_of_conversions(
        vault.store, before, captured.tree, git_dir, by_default=not modes.shows_lines
    )
    return commit, captured.warnings


def add_present(
    vault: OpenVault, pack: PackWriter, fork: str, captured: Captured, head: Oid | None, text: str
) -> tuple[Oid, Oid | None]:
    """Add the commit of what a directory holds, unless `head` has that tree, and that of what is beside history."""
    signature = vault.signature()
    if head is None or pack.read_commit(head).tree != captured.tree:
        text = "import\n" if head is None else f"{text}\n"
        return add_state(pack, fork, signature, (captured.tree, captured.sidecar), text, head)
    return head, add_sidecar(pack, fork, signature, captured.sidecar) if captured.sidecar is not None else None


def capture_directory(
    vault: OpenVault,
    pack: PackWriter,
    source: Path,
    index: Oid | None,
    modes: FileModes,
    *,
    lookback: Lookback | None = None,
    place: Path | None = None,
) -> Captured:
    """Turn what a directory holds into a tree and a sidecar; of a clone, what its index knows is not read.

    Its submodules are given repositories of their own, see `workspace.creation.submodules`. `index` is the tree whose
    paths are tracked, where no index says it. `modes` says as what git takes the files. `lookback` is what is known of
    the directory from its last fork. `place` is where the vault will be, if it is being made. What is not tracked and
    this user may not read is left out, with a warning.

    Raises:
        FileChanging: If a file cannot be read without it changing.
    """
    git_dir = find_git_dir(source)
    if lookback is not None and lookback.cache is not None:
        with contextlib.suppress(ObjectMissing, ObjectCorrupt):  # of that state, which is only a shortcut
            captured = _capture(vault, pack, source, git_dir, index, modes, lookback, vault.git_dir)
            lookback.forget_unless_holds(captured)
            if lookback.cache is not None:
                return captured
        lookback.cache = None
    return _capture(vault, pack, source, git_dir, index, modes, lookback, place or vault.git_dir)


def _capture(
    vault: OpenVault,
    pack: PackWriter,
    source: Path,
    git_dir: Path | None,
    index: Oid | None,
    modes: FileModes,
    lookback: Lookback | None,
    place: Path,
) -> Captured:
    known = None
    try:
        if (
            (lookback is None or lookback.cache is None)
            and git_dir is not None
            and git_dir != source
            and index is not None
        ):
            known = read_known(source, git_dir, pack, vault.store, modes)
        layer = known or PlainDirectory(source)
    except OSError as error:
        raise HostError(f"read '{source}'", error) from error
    own = find_own(source, place)
    layer.left_out = own | find_own(source, vault.git_dir)  # a vault in the making has another name

    rules = Ignorer(layer.read_ignore, vault.read_exclude())

    def capture(shown: Layer) -> Captured:
        learn = lookback is not None
        cache = known.cache if known is not None else None
        tracked = index if known is None else None
        if lookback is not None and lookback.cache is not None:
            # Of a directory without history nothing is tracked.
            cache, tracked, learn = lookback.cache, index or EMPTY_TREE, True
        return Capture(
            shown,
            pack,
            rules,
            cache=cache,
            index=tracked,
            learn=learn,
            racy_ns=COARSE_NS,
            copies=True,
            mode_of=modes.of,
        ).run()

    if lookback is not None and known is not None:
        lookback.looks = known.looks
        # git tracks staged files, too, which no commit tells. avfs reads rules that only the index has from there each
        # time.
        lookback.is_whole = known.cache.tree == index and not known.rules
    if git_dir == source:
        return capture(layer)
    with WithModules(layer, source, common_dir(git_dir) if git_dir is not None else None, vault.layout, place) as shown:
        captured = capture(shown)
        captured.warnings += shown.warnings
        for path in sorted(known.marked) if known is not None else ():
            text = (
                f"git was told not to look at {quote(show_path(path))}: the fork has what the index names, not "
                "the file here"
            )
            captured.warnings.append(Warning("fork.marked_unchanged", text, path))
        for path in sorted(own):
            text = f"{quote(show_path(path))} is avfs's own, with its vaults, and is left out"
            captured.warnings.append(Warning("fork.home_left_out", text, path))
        if lookback is not None:
            lookback.is_whole = lookback.is_whole and not shown.has_any
        return captured
