"""What two actors do to one vault: scenes, operations stopped or killed in the middle, and what others do meanwhile.

Decided here: the data of `tests.support.two_actors`. An operation or an actor does one thing and writes down what was
acknowledged to it: a content, or a commit. Each runs in a process of its own.

A scene is a directory with a home (vault `v` with the forks `main`, `work` and `side`), a remote repository
`there.git`, a clone `outside` with a commit that can be pushed to `work`, and a directory `source` that `work` began
with.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from avfs_git import Avfs, Vault, Workspace
from avfs_git.sdk.running import attempts, runs
from avfs_git.session.serve import start
from tests.support.capabilities import has
from tests.support.faults import make_source, make_vault, read_files
from tests.support.servers import git, make_bare

FORK = "work"
NEW = "task"
"""The name of forks that are made."""
RENAMED = "renamed"
"""The name that a fork gets."""


class Refused(Exception):
    """A program did not do it, and said so."""


@dataclass(frozen=True)
class Place:
    """Where an actor acts, and how.

    Attributes:
        root: The scene.
        who: The actor, which its contents name.
        told: A file for what was acknowledged to it.
        fork: The fork that it acts on.
        patience_s: How long it waits for others.
        session: What starts sessions, instead of the program of avfs.
    """

    root: Path
    who: str
    told: Path
    fork: str = FORK
    patience_s: float = 30.0
    session: tuple[str, ...] = ()

    @property
    def git_dir(self) -> Path:
        """The vault."""
        return self.root / "home" / "vaults" / "v.git"

    @property
    def tree(self) -> Path:
        """Where the fork is mounted."""
        return self.root / "tree"

    def open(self) -> Vault:
        """Open the vault; it is closed when the process ends, or by its `with` block."""
        if self.session:
            start.start_session = partial(start.start_session, program=self.session)
        return Avfs(self.root / "home", lock_timeout_s=self.patience_s).open_vault("v")

    def mark(self, number: int = 1) -> bytes:
        """Make a content that nobody else writes."""
        return f"by the {self.who} actor, {number}\n".encode()

    def has_content(self, content: bytes) -> None:
        """Write down that a content was acknowledged."""
        self._tell("content", content.hex())

    def has_commit(self, oid: str, kind: str = "commit") -> None:
        """Write down that a commit was acknowledged; as `pushed`, that it is to stay on the fork's branch."""
        self._tell(kind, oid)

    def _tell(self, kind: str, value: str) -> None:
        with self.told.open("ab", buffering=0) as file:
            file.write(f"{kind} {value}\n".encode())


Action = Callable[[Place], object]


@dataclass(frozen=True)
class Operation:
    """Something that is stopped or killed in the middle.

    Attributes:
        name: Its name in the names of cells.
        run: What it does.
        prepare: What is done in the scene before.
        fork: The fork that others act on.
        live: By which backend the fork is mounted while it runs; None if it is not mounted.
        holds: What is true when it said that it is done, if nobody undid it.
        has_steps: Whether it leaves files of its own that are neither the old nor the new ones when it does not come to
            its end.
    """

    name: str
    run: Action
    prepare: Callable[[Vault], object] = lambda vault: None
    fork: str = FORK
    live: str | None = None
    holds: Callable[[Vault, Place], bool] = lambda vault, place: True
    has_steps: bool = False

    @property
    def takes_back(self) -> bool:
        """Whether it may take commits from the fork's branch."""
        return self.name.startswith(("undo", "redo", "delete", "end", "rename", "pull-rebase"))

    @property
    def is_possible(self) -> bool:
        """Whether this user can do it on this machine."""
        if self.live == "portable":
            return has("libfuse")
        return os.geteuid() == 0 or not (self.live == "overlay" or self.name.endswith("-overlay"))


@dataclass(frozen=True)
class Actor:
    """What somebody else does meanwhile.

    Attributes:
        name: Its name in the names of cells.
        run: What it does.
        is_neutral: Whether it changes no files and moves no branch.
        takes_back: Whether it may take back what others did, or do again what they took back.
        brings_back: Whether it makes the branch anew where another one has just deleted it.
        is_git: Whether it is a git that looks at refs and working trees of git, and takes no lock of avfs.
    """

    name: str
    run: Action
    is_neutral: bool = False
    takes_back: bool = False
    brings_back: bool = False
    is_git: bool = False


# --- the scene --------------------------------------------------------------------------------------------------------


def make_scene(root: Path) -> None:
    """Make a scene."""
    vault = make_vault(root / "home", make_source(root / "source"))
    with vault:
        _make_side(vault)
        bare = make_bare(root / "there.git")
        vault.add_remote("origin", str(bare))
        vault.push([FORK])
        _commit(bare, FORK, b"of the remote\n", "theirs")
        git("clone", "-q", "-b", FORK, str(vault.path), str(root / "outside"), cwd=root)
        (root / "outside" / "pushed").write_bytes(b"pushed\n")
        git("add", "pushed", cwd=root / "outside")
        git("commit", "-q", "-m", "pushed", cwd=root / "outside")


def _make_side(vault: Vault) -> None:
    side = vault.fork("side", source=FORK, at="one")
    side.write("of-side", b"of side\n")
    side.write("deep/er/new", b"new\n")
    side.write("side.log", b"ignored, of side\n")
    side.checkpoint()


def _commit(git_dir: Path, branch: str, content: bytes, name: str) -> str:
    """Commit a file on a branch as git does, from what it is now, and give the commit."""
    head = _git(git_dir, "rev-parse", "--verify", f"refs/heads/{branch}")
    blob = _git(git_dir, "hash-object", "-w", "--stdin", given=content)
    others = [line for line in _git(git_dir, "ls-tree", head).splitlines() if not line.endswith(f"\t{name}")]
    tree = _git(
        git_dir, "mktree", given="".join(f"{line}\n" for line in (*others, f"100644 blob {blob}\t{name}")).encode()
    )
    made = _git(git_dir, "commit-tree", "-m", name, "-p", head, tree)
    _git(git_dir, "update-ref", f"refs/heads/{branch}", made, head)
    return made


def _git(git_dir: Path, *arguments: str, given: bytes = b"") -> str:
    done = subprocess.run(["git", f"--git-dir={git_dir}", *arguments], input=given, capture_output=True, check=False)
    if done.returncode:
        raise Refused(f"git {arguments[0]}: {done.stderr.decode().strip()}")
    return done.stdout.decode().strip()


# --- operations -------------------------------------------------------------------------------------------------------


def _work(place: Place) -> Workspace:
    return place.open().workspace(place.fork)


def _checkpoint(place: Place) -> None:
    made = _work(place).checkpoint("three").checkpoint
    if made is not None:
        place.has_commit(made.id)


def _write(place: Place) -> None:
    with place.open() as vault:
        work = vault.workspace(place.fork)
        for number in (1, 2):
            work.write(f"mark-{place.who}-{number}", place.mark(number))
            place.has_content(place.mark(number))
        made = work.checkpoint().checkpoint
        if made is not None:
            place.has_commit(made.id)


def _fork(place: Place, name: str = NEW, at: str | None = None) -> None:
    with place.open() as vault:
        made = vault.fork(name, source="main" if name == FORK else FORK, at=at)
        made.write(f"mark-{place.who}", place.mark())
        place.has_content(place.mark())


def _delete(place: Place) -> None:
    with place.open() as vault:
        vault.delete_fork(place.fork)


def _rename(place: Place) -> None:
    with place.open() as vault:
        vault.rename_fork(place.fork, RENAMED)


def _undo(place: Place) -> None:
    with place.open() as vault:
        vault.undo(fork=place.fork)


def _redo(place: Place) -> None:
    with place.open() as vault:
        vault.redo(fork=place.fork)


def _merge(place: Place) -> None:
    with place.open() as vault:
        commit = vault.workspace(place.fork).merge("side").commit
        if commit is not None:
            place.has_commit(commit)


def _update(place: Place) -> None:
    with place.open() as vault:
        for merged in vault.workspace(place.fork).update():
            if merged.commit is not None:
                place.has_commit(merged.commit)


def _exec(place: Place) -> None:
    script = f"printf '{place.mark().decode().strip()}\\n' > mark-{place.who}; printf x >> of-{place.who}; rm -rf many"
    with place.open() as vault:
        done = vault.workspace(place.fork).exec("sh", "-c", script)
        if done.exit_code:
            raise Refused(f"the command: {done.stderr!r}")
        place.has_content(place.mark())


def _run(place: Place, *, discard: bool = False) -> None:
    """Do what `avfs run` does: fork, mount, let a program write, save, unmount, and delete what was only tried."""
    with place.open() as vault:
        run = runs.begin_in_vault(vault, FORK, name=NEW, program="prog", below="")
        (run.directory() / f"mark-{place.who}").write_bytes(place.mark())
        place.has_content(place.mark())
        run.end(discard=discard)


def _pick(place: Place) -> None:
    with place.open() as vault:
        forks = enumerate((NEW, f"{NEW}-2", f"{NEW}-3"), 1)
        made = [
            attempts.Attempt(number, fork, "", 0, 1, "", attempts.find_made(vault, fork) or 0) for number, fork in forks
        ]
        attempts.pick(vault, attempts.Attempts(NEW, str(vault.path), (), made), 3)


def _undo_git(place: Place) -> None:
    """Commit in the live tree as its programs do, and take that back."""
    _commit_inside(place)
    _undo(place)


def _undo_redo(place: Place) -> None:
    _undo(place)
    _redo(place)


def _plan(place: Place) -> None:
    with place.open() as vault:
        vault.undo(fork=place.fork, dry_run=True)


def _pull(place: Place, *, rebase: bool = False) -> None:
    with place.open() as vault:
        pulled = vault.pull(place.fork, rebase=rebase)
        if pulled.merge is not None and pulled.merge.commit is not None:
            place.has_commit(pulled.merge.commit)


def _apply(place: Place) -> None:
    with place.open() as vault:
        vault.apply(FORK, place.root / "source")


def _collect(place: Place, keep_days: int | None = None, keep_operations: int | None = None) -> None:
    with place.open() as vault:
        vault.gc(grace_days=0, keep_days=keep_days, keep_operations=keep_operations)


def _prune(place: Place) -> None:
    with place.open() as vault:
        vault.prune(keep_operations=1, grace_s=0)


def _maintain(place: Place) -> None:
    with place.open() as vault:
        vault.maintain(every_step=True)


def _mount(place: Place, backend: str = "auto") -> None:
    with place.open() as vault:
        vault.workspace(FORK).mount(place.tree, backend=backend)
        (place.tree / f"mark-{place.who}").write_bytes(place.mark())
        place.has_content(place.mark())


def _unmount(place: Place) -> None:
    with place.open() as vault:
        session = vault.find_session(FORK)
        if session is None:
            raise Refused("it is not mounted")
        session.unmount()
        session.wait()


def _stop(place: Place) -> None:
    with place.open() as vault:
        session = vault.find_session(FORK)
        if session is None:
            raise Refused("it is not mounted")
        session.stop()


def _end(place: Place) -> None:
    with place.open() as vault:
        session = vault.find_session(FORK)
        assert session is not None
        session.remove(discard=True)


# What is done before an operation.


def _nothing(_: Vault) -> None:
    pass


def _restored(vault: Vault) -> None:
    vault.workspace(FORK).restore("one")


def _undone(vault: Vault) -> None:
    _restored(vault)
    vault.workspace(FORK).undo()


def _checkpointed(vault: Vault) -> None:
    vault.workspace(FORK).checkpoint("three")


def _merged(vault: Vault) -> None:
    vault.workspace(FORK).merge("side")


def _forked(vault: Vault) -> None:
    vault.fork(NEW, source=FORK).write("of-task", b"written in the task\n")


def _attempted(vault: Vault) -> None:
    for fork in (NEW, f"{NEW}-2", f"{NEW}-3"):
        vault.fork(fork, source=FORK).write("of-task", f"written in {fork}\n".encode())


def _unforked(vault: Vault) -> None:
    vault.fork(NEW, source=FORK)
    vault.undo(fork=NEW)


def _mounted_once(vault: Vault) -> None:
    """Let the fork have a git directory of its own, as a mount makes one."""
    tree = vault.path.parents[2] / "tree"
    with vault.workspace(FORK).mount(tree):
        (tree / "once").write_bytes(b"once\n")


def _committed_mounted(vault: Vault) -> None:
    """Let git make a commit in a live tree that is there no more."""
    tree = vault.path.parents[2] / "tree"
    with vault.workspace(FORK).mount(tree):
        _commit_in(tree, "inside", b"of git, inside\n")


def _moved_mounted(vault: Vault) -> None:
    _mounted_once(vault)
    _moved_outside(vault)


def _deleted_mounted(vault: Vault) -> None:
    _mounted_once(vault)
    _deleted(vault)


def _deleted(vault: Vault) -> None:
    vault.delete_fork(FORK)


def _renamed(vault: Vault) -> None:
    vault.rename_fork(FORK, RENAMED)


def _undeleted(vault: Vault) -> None:
    _deleted(vault)
    vault.undo(fork=FORK)


def _moved_outside(vault: Vault) -> None:
    """Let git put a commit on the branch; the remote has another one."""
    _commit(vault.path, FORK, b"of git\n", "of-git")


def _updated(vault: Vault) -> None:
    """Bring in what git put on the branch, and another branch of the remote, which the fork follows from then on."""
    vault.push(["side"])
    _moved_outside(vault)
    vault.workspace(FORK).update(upstream="side")


def _with_garbage(vault: Vault) -> None:
    _undone(vault)
    gone = vault.fork("gone", source=FORK)
    gone.write("gone", b"gone\n" * 1000)
    gone.checkpoint("theirs")
    vault.delete_fork("gone")
    vault.workspace(FORK).checkpoint()
    vault.workspace(FORK).write("uncommitted", b"again not committed\n")


def _is_on(branch: str, other: str) -> Callable[[Vault, Place], bool]:
    def is_on(vault: Vault, _: Place) -> bool:
        done = subprocess.run(
            ["git", f"--git-dir={vault.path}", "merge-base", "--is-ancestor", other, branch], check=False
        )
        return done.returncode == 0

    return is_on


def _has(fork: str) -> Callable[[Vault, Place], bool]:
    return lambda vault, _: vault.has_fork(fork)


def _has_not(fork: str) -> Callable[[Vault, Place], bool]:
    return lambda vault, _: not vault.has_fork(fork)


def _is_pushed(vault: Vault, place: Place) -> bool:
    pushed = _git(place.root / "there.git", "rev-parse", "refs/heads/side")
    return _is_on(pushed, "side")(vault, place) or _is_on("side", pushed)(vault, place)


OPERATIONS = {
    one.name: one
    for one in (
        Operation("checkpoint", _checkpoint),
        Operation("restore", lambda place: _work(place).restore("one")),
        Operation("restore-paths", lambda place: _work(place).restore("one", paths=["a", "dir"])),
        Operation("fork", _fork, fork=NEW, holds=_has(NEW), has_steps=True),
        Operation("fork-at", partial(_fork, at="one"), fork=NEW, holds=_has(NEW), has_steps=True),
        Operation("delete", _delete, holds=_has_not(FORK)),
        Operation("rename", _rename, holds=_has(RENAMED)),
        Operation("rename-mounted", _rename, _mounted_once, holds=_has(RENAMED)),
        Operation("delete-mounted", _delete, _mounted_once, holds=_has_not(FORK)),
        Operation("undo-files", _undo),
        Operation("undo-checkpoint", _undo, _checkpointed),
        Operation("undo-restore", _undo, _restored),
        Operation("undo-merge", _undo, _merged),
        Operation("undo-update", _undo, _updated, has_steps=True),
        Operation("undo-fork", _undo, _forked, fork=NEW),
        Operation("undo-delete", _undo, _deleted, holds=_has(FORK)),
        Operation("undo-rename", _undo, _renamed, fork=RENAMED, holds=_has(FORK)),
        Operation("undo-delete-mounted", _undo, _deleted_mounted, holds=_has(FORK)),
        Operation("undo-git-mounted", _undo, _committed_mounted),
        Operation("plan-undo-mounted", _plan, _committed_mounted),
        Operation("redo-restore", _redo, _undone),
        Operation("redo-fork", _redo, _unforked, fork=NEW, holds=_has(NEW)),
        Operation("redo-delete", _redo, _undeleted),
        Operation("merge", _merge, holds=_is_on(FORK, "side")),
        Operation("update", _update, _moved_outside, has_steps=True),
        Operation("update-mounted", _update, _moved_mounted, has_steps=True),
        Operation("pull", _pull, has_steps=True),
        Operation("pull-rebase", partial(_pull, rebase=True), has_steps=True),
        Operation("apply", _apply, _checkpointed),
        Operation("fetch", lambda place: place.open().fetch()),
        Operation(
            "push",
            lambda place: place.open().push(["side"], with_checkpoints=True, with_sidecar=True),
            holds=_is_pushed,
        ),
        Operation("gc", partial(_collect, keep_days=0, keep_operations=1), _with_garbage),
        Operation("prune", _prune, _with_garbage),
        Operation("maintain", _maintain, _with_garbage),
        Operation("exec", _exec, has_steps=True),
        Operation("run", _run, fork=NEW, holds=_has(NEW), has_steps=True),
        Operation("end-run", partial(_run, discard=True), fork=NEW, has_steps=True),
        Operation("end-attempts", _pick, _attempted, fork=NEW, holds=_has_not(f"{NEW}-2"), has_steps=True),
        Operation("mount", _mount),
        Operation("mount-overlay", partial(_mount, backend="overlay")),
        Operation("unmount", _unmount, live="fuse"),
        Operation("stop", _stop, live="fuse"),
        Operation("stop-overlay", _stop, live="overlay"),
        Operation("end", _end, live="fuse"),
        *(
            Operation(
                f"{name}-live" if backend == "fuse" else f"{name}-{backend}", run, before, live=backend, has_steps=steps
            )
            for backend in ("fuse", "overlay", "portable")
            for name, run, before, steps in (
                ("checkpoint", _checkpoint, _nothing, False),
                ("restore", lambda place: _work(place).restore("one"), _nothing, False),
                ("undo", _undo, _restored, False),
                ("undo-git", _undo_git, _nothing, True),
                ("redo", _undo_redo, _nothing, True),
                ("pull", _pull, _nothing, True),
                ("merge", _merge, _nothing, False),
                ("update", _update, _moved_outside, True),
                ("fork", _fork, _nothing, True),
                ("exec", _exec, _nothing, True),
            )
        ),
    )
}


# --- what others do ---------------------------------------------------------------------------------------------------


def _use_live(place: Place) -> None:
    """Mount the fork, write into the tree, and take the mount away."""
    tree = place.root / f"tree-{place.who}"
    with place.open() as vault:
        session = vault.workspace(place.fork).mount(tree)
        try:
            (tree / f"mark-{place.who}").write_bytes(place.mark())
            place.has_content(place.mark())
        finally:
            session.unmount(lazy=True)
            session.wait()


def _git_commit(place: Place, name: str = "") -> None:
    place.has_commit(_commit(place.git_dir, place.fork, place.mark(), name or f"mark-{place.who}"), "pushed")
    place.has_content(place.mark())


def _commit_inside(place: Place) -> None:
    """Commit in the live tree, as its programs do."""
    if not os.path.ismount(place.tree):
        raise Refused("it is not mounted")
    place.has_commit(_commit_in(place.tree, f"inside-{place.who}", place.mark(3)))
    place.has_content(place.mark(3))


def _commit_in(tree: Path, name: str, content: bytes) -> str:
    try:
        (tree / name).write_bytes(content)
        git("add", name, cwd=tree)
        git("commit", "-q", "-m", name, cwd=tree)
        return git("rev-parse", "HEAD", cwd=tree).strip()
    except subprocess.CalledProcessError as error:
        raise Refused(f"git: {error.stderr}") from None


def _push_in(place: Place) -> None:
    clone = place.root / "outside"
    _git(clone / ".git", "push", "-q", str(place.git_dir), f"HEAD:refs/heads/{FORK}")
    place.has_commit(_git(clone / ".git", "rev-parse", "HEAD"), "pushed")


def _push_edited(place: Place) -> None:
    """Push a commit on what the branch is now, that changes files which are edited here, and not saved."""
    clone = place.root / "outside"
    git("fetch", "-q", str(place.git_dir), f"refs/heads/{FORK}", cwd=clone)
    git("checkout", "-q", "-f", "--detach", "FETCH_HEAD", cwd=clone)
    for number, name in enumerate(("a", "tool")):
        (clone / name).write_bytes(place.mark(number))
    git("add", "-f", "a", "tool", cwd=clone)
    git("commit", "-q", "-m", "edited there", cwd=clone)
    _push_in(place)
    for number in range(2):
        place.has_content(place.mark(number))


def _edit(place: Place) -> None:
    """Edit files as a person does: one in place, one by a new file that is renamed over it, and make one."""
    directory = place.tree if os.path.ismount(place.tree) else place.root / "source"
    for number, name in enumerate(("a", f"mark-{place.who}")):
        (directory / name).write_bytes(place.mark(number))
        place.has_content(place.mark(number))
    (directory / "beside").write_bytes(place.mark(2))
    (directory / "beside").replace(directory / "only-one")
    place.has_content(place.mark(2))


def _restore(place: Place) -> None:
    with place.open() as vault:
        vault.workspace(place.fork).restore("one")


ACTORS = {
    one.name: one
    for one in (
        Actor("write", _write),
        Actor("restore", _restore),
        Actor("delete", _delete, takes_back=True),
        Actor("rename", _rename, takes_back=True),
        Actor("prune", _prune, takes_back=True),
        Actor("create", lambda place: _fork(place, place.fork), takes_back=True),
        Actor("undo", _undo, takes_back=True),
        Actor("redo", _redo, takes_back=True),
        Actor("merge", _merge),
        Actor("exec", _exec),
        Actor("update", _update),
        Actor("stop", _stop),
        Actor("unmount", _unmount),
        Actor("pull", _pull),
        Actor("git-commit-inside", _commit_inside, is_git=True),
        Actor("push-out", lambda place: place.open().push([place.fork]), is_neutral=True),
        Actor("gc", _collect, is_neutral=True),
        Actor("maintain", _maintain, is_neutral=True),
        Actor("fetch", lambda place: place.open().fetch(), is_neutral=True),
        Actor("doctor", lambda place: place.open().doctor(repair=True), is_neutral=True),
        Actor("live", _use_live),
        Actor("edit", _edit),
        Actor("git-commit", _git_commit, is_git=True),
        Actor("git-commit-edited", partial(_git_commit, name="a"), is_git=True),  # git refuses a push to a mounted fork
        Actor(
            "git-branch-delete",
            lambda place: _git(place.git_dir, "branch", "-q", "-D", place.fork),
            takes_back=True,
            is_git=True,
        ),
        Actor("git-pack-refs", lambda place: _git(place.git_dir, "pack-refs", "--all"), is_neutral=True, is_git=True),
        Actor(
            "git-worktree-prune",
            lambda place: _git(place.git_dir, "worktree", "prune", "--expire=now"),
            is_neutral=True,
            is_git=True,
        ),
        Actor("git-gc", lambda place: _git(place.git_dir, "gc", "-q", "--prune=now"), is_neutral=True),
        Actor("push", _push_in, brings_back=True, is_git=True),
        Actor("push-edited", _push_edited, brings_back=True, is_git=True),
    )
}


def goes_with(operation: Operation, actor: Actor) -> bool:
    """Whether an actor has something to do beside an operation."""
    if actor.name == "edit":
        return operation.live is not None or operation.name.startswith(("apply", "mount"))
    if actor.name == "git-commit-inside":
        return operation.live is not None
    if actor.name in ("stop", "unmount"):
        return operation.live is not None or operation.name.startswith("mount")
    if actor.name.startswith("push") and actor.is_git:
        return operation.fork == FORK
    if actor.name == "git-branch-delete":  # the commits that only git has made go with the branch
        return operation.prepare is not _moved_outside
    return True


def contents_of(vault: Vault) -> set[bytes]:
    """Read all contents of all workspaces."""
    found: set[bytes] = set()
    for info in vault.list_forks():
        found |= {content for kind, _, content in read_files(vault.workspace(info.name)).values() if kind == "file"}
    return found
