"""What a fork has beside its commits is what its live tree shows, or what was saved there last, whoever moved its branch.

A plain dictionary of the ignored files is the oracle; avfs and git in the live tree move the branch in turns.
"""

from __future__ import annotations

import itertools
import random
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import NothingToUndo
from avfs_git.sdk import Session, Vault, Workspace
from tests.support.faults import git
from tests.support.servers import make_bare
from tests.support.waiting import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"),
    pytest.mark.usefixtures("person"),
]

Kept = dict[str, bytes]
NAMES = ("a.env", "b.env", "deep/c.env")


class Scene:
    """A fork `task` of a vault, mounted; its ignored files as they were saved last; and a server."""

    def __init__(self, avfs: Avfs, place: Path, backend: str) -> None:
        self.vault: Vault = avfs.create_vault("v")
        main = self.vault.workspace()
        for name, data in {".gitignore": b"*.env\n", "file": b"1\n", "deep/file": b"1\n", "a.env": b"of main"}.items():
            main.write(name, data)
        main.checkpoint()
        self.work: Workspace = self.vault.fork("task")
        self.live: Session = self.work.mount(place, backend=backend)
        self.tree = place
        self.saved = self.show()
        self.bare = make_bare(place.parent / "served.git")
        self.vault.add_remote("server", str(self.bare))
        self._forks = 0

    def git(self, *arguments: str) -> str:
        """Run git in the live tree."""
        who = ("-c", "user.name=A", "-c", "user.email=a@b")
        return subprocess.run(
            ["git", *who, *arguments], cwd=self.tree, check=True, capture_output=True, text=True
        ).stdout

    def show(self) -> Kept:
        """Read the ignored files of the live tree."""
        return {name: (self.tree / name).read_bytes() for name in NAMES if (self.tree / name).exists()}

    def fork(self, *, at: str | None = None, with_changes: bool = True) -> Kept:
        """Make a fork of it; tell what ignored files that has."""
        self._forks += 1
        made = self.vault.fork(f"f{self._forks}", source="task", at=at, with_changes=with_changes)
        return {name: made.read(name) for name in NAMES if made.exists(name)}

    def save(self) -> None:
        """Save a checkpoint."""
        self.work.checkpoint()
        self.saved = self.show()

    def save_and_take_away(self, data: bytes) -> None:
        """Save a checkpoint with an ignored file `b.env`, then one without it."""
        (self.tree / "b.env").write_bytes(data)
        self.edit(2)
        self.save()
        (self.tree / "b.env").unlink()
        self.edit(3)
        self.save()

    def edit(self, number: int) -> None:
        """Edit the tracked file."""
        (self.tree / "file").write_text(f"{number}\n")

    def check(self) -> None:
        """Compare what was saved with what a fork of that has, and what a push sends; see that the rest is uncommitted.

        A push that sends none says so.
        """
        changed = {change.path.decode() for change in self.work.status().sidecar_changed}
        shown = self.show()
        expected = {name for name in NAMES if shown.get(name) != self.saved.get(name)}
        assert changed == expected
        assert self.fork(with_changes=False) == self.saved
        result = self.vault.push(["task"], remote="server", force_with_lease=True, with_sidecar=True)
        codes = {warning.code for warning in result.warnings}
        if "push.no_sidecar" not in codes:
            assert self._read_server() == self.saved

    def _read_server(self) -> Kept:
        lines = git(self.bare, "ls-tree", "-r", "-z", "refs/avfs/sidecar/task").split("\0")
        found = {path: line.split()[2] for line in lines if line for path in [line.partition("\t")[2]]}
        names = {path.replace("=", "").replace("+", ""): oid for path, oid in found.items() if "=" in path}
        return {name: git(self.bare, "cat-file", "blob", oid).encode() for name, oid in names.items() if name in NAMES}


@pytest.fixture(params=["fuse", "auto"])
def scene(mount_dir: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A scene on each backend."""
    with Avfs(mount_dir / "h") as avfs:
        made = Scene(avfs, mount_dir / "m", request.param)
        yield made
        made.live.unmount(lazy=True)
        made.live.wait()


class Walk:
    """A scene, with what its fork had saved before and after each operation: an undo or a redo comes back to that."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.scene = scene
        self.chosen = random.Random(seed)
        self._side = scene.vault.fork("side", source="task")
        self._known = {each.id for each in scene.vault.operations(limit=1000)}
        self._before: dict[int | None, Kept] = {}
        self._after: dict[int | None, Kept] = {}
        self._heads: list[str] = []

    def step(self, number: int) -> None:
        """Do something; note for each operation that came with it what the fork has saved since."""
        shown = self.scene.show()
        self._heads.append(self.scene.git("rev-parse", "HEAD").strip())
        steps = {self._write: 4, self._remove: 2, self._save: 4, self._commit: 2, self._amend: 1, self._look: 1}
        steps |= {self._reset: 2, self._git_merge: 1, self._merge: 2, self._restore: 1, self._collect: 1}
        steps |= {self._undo: 4, self._redo: 2, self._stop: 2}
        if self.scene.work.status().merging is not None:  # an undo has brought it back
            self.scene.work.abort_merge()
        else:
            self.chosen.choices(list(steps), list(steps.values()))[0](number)
        found = sorted(self.scene.vault.operations(limit=1000), key=lambda each: each.id)
        new = [each for each in found if each.id not in self._known]
        for each in new:
            self._known.add(each.id)
            if each.fork != "task":
                continue
            self._before[each.id] = self.scene.saved
            if each.kind in ("undo", "redo"):
                self.scene.saved = (self._before if each.kind == "undo" else self._after)[each.undoes]
            elif each.kind not in ("files", "git", "merge_begin", "merge_abort"):
                self.scene.saved = self.scene.show() if each is new[-1] else shown
            self._after[each.id] = self.scene.saved

    def _write(self, number: int) -> None:
        (self.scene.tree / self.chosen.choice(NAMES)).write_bytes(b"%d" % number)

    def _remove(self, _: int) -> None:
        (self.scene.tree / self.chosen.choice(NAMES)).unlink(missing_ok=True)

    def _save(self, number: int) -> None:
        if self.chosen.random() < 0.5:
            self.scene.edit(number)
        self.scene.work.checkpoint()

    def _commit(self, number: int) -> None:
        self.scene.edit(number)
        self.scene.git("commit", "-qam", str(number))

    def _amend(self, number: int) -> None:
        if self._has_parent():
            self.scene.git("commit", "-q", "--amend", "--allow-empty", "-m", str(number))

    def _look(self, _: int) -> None:
        self.scene.vault.operations()

    def _has_parent(self) -> bool:
        return int(self.scene.git("rev-list", "--count", "--first-parent", "HEAD")) > 1

    def _reset(self, _: int) -> None:
        """Let git go back, or to where the branch was, perhaps before an undo."""
        goal = self.chosen.choice([*self._heads, "HEAD~1"])
        with suppress(subprocess.CalledProcessError):  # gc has removed it
            self.scene.git("reset", "-q", "--hard", goal)

    def _change_side(self, number: int) -> None:
        self._side.write("side", b"%d" % number)
        self._side.write(self.chosen.choice(NAMES), b"side %d" % number)
        self._side.checkpoint()

    def _git_merge(self, number: int) -> None:
        self._change_side(number)
        try:
            self.scene.git("merge", "-q", "--no-edit", "side")
        except subprocess.CalledProcessError:  # it conflicts, or the tree has changes there
            with suppress(subprocess.CalledProcessError):
                self.scene.git("merge", "--abort")

    def _merge(self, number: int) -> None:
        self._change_side(number)
        self.scene.work.merge("side")

    def _stop(self, number: int) -> None:
        """Begin something that conflicts, write in the stop, and give it up or go on."""
        work, how = self.scene.work, self.chosen.choice(["merge", "pick", "rebase"])
        self._side.write("file", b"side %d\n" % number)
        self._side.checkpoint()
        self.scene.edit(number)
        if how == "merge":
            work.merge("side", on_conflict="workspace")
        elif how == "pick":
            work.cherry_pick(["side"], on_conflict="workspace")
        else:
            work.rebase("side", on_conflict="workspace")
        while (merging := work.status().merging) is not None:
            self._write(number)
            if self.chosen.random() < 0.4:
                work.abort_merge()
                return
            for conflict in merging.unresolved:
                work.resolve(conflict.path, "ours")
            if how == "merge":
                work.continue_merge()
            else:
                work.continue_rewrite()

    def _restore(self, _: int) -> None:
        self.scene.work.restore(self.chosen.choice(self.scene.work.list_checkpoints()).id)

    def _collect(self, _: int) -> None:
        self.scene.vault.gc(keep_days=0, keep_operations=3)

    def _undo(self, _: int) -> None:
        with suppress(NothingToUndo):
            self.scene.work.undo(alone=True)

    def _redo(self, _: int) -> None:
        with suppress(NothingToUndo):
            self.scene.work.redo(alone=True)


@pytest.mark.parametrize("seed", range(6))
def test_a_walk_of_avfs_and_git(scene: Scene, seed: int) -> None:
    """In any order of edits, checkpoints, merges, undos, and what git does to the branch in the live tree."""
    walk = Walk(scene, seed)
    for number in range(10, 30):
        walk.step(number)
        if walk.chosen.random() < 0.3:
            scene.check()
    scene.check()
    assert scene.fork() == scene.show()


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("how", ["--hard", "--mixed"])
def test_git_goes_back_to_a_checkpoint_with_a_file_that_was_taken_away(scene: Scene, how: str, *, looks: bool) -> None:
    """Git brings no such file back: no fork has it, and no push sends it, whether or not the log has git's move yet."""
    scene.save_and_take_away(b"secret")
    scene.git("reset", "-q", how, "HEAD~1")
    if looks:
        scene.vault.operations()

    assert scene.fork(at="task") == scene.fork(with_changes=False) == scene.saved
    scene.vault.push(["task"], remote="server", with_sidecar=True)
    assert git(scene.bare, "for-each-ref", "refs/avfs/sidecar") == ""


@pytest.mark.parametrize("looks", [False, True])
def test_git_moves_on_to_another_fork(scene: Scene, *, looks: bool) -> None:
    """What that fork has beside its commit does not come along."""
    other = scene.vault.fork("other", source="task")
    other.write("b.env", b"of the other")
    other.write("file", b"2\n")
    other.checkpoint()
    scene.git("merge", "-q", "--ff-only", "other")
    if looks:
        scene.vault.operations()

    assert scene.fork(at="task") == scene.fork(with_changes=False) == scene.saved
    scene.vault.push(["task"], remote="server", with_sidecar=True)
    assert git(scene.bare, "for-each-ref", "refs/avfs/sidecar") == ""


def test_the_only_ignored_file_goes_before_git_commits(scene: Scene) -> None:
    """The workspace began with it, and no checkpoint of its own says anything: it is seen to be gone."""
    (scene.tree / "a.env").unlink()
    scene.edit(2)
    scene.git("commit", "-qam", "two")

    assert [change.path for change in scene.work.status().sidecar_changed] == [b"a.env"]
    scene.save()
    scene.check()


def test_a_name_that_another_fork_had(scene: Scene) -> None:
    """What the former fork of that name saved counts no more."""
    first = scene.vault.fork("again", source="task")
    first.write("a.env", b"secret of the first")
    first.checkpoint()
    scene.vault.delete_fork("again")
    scene.vault.fork("again", source="task").mount(scene.tree.parent / "again")
    session = scene.vault.sessions()[-1]
    tree = Path(session.directory)
    (tree / "file").write_text("2\n")
    subprocess.run(["git", "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qam", "two"], cwd=tree, check=True)

    assert scene.vault.fork("of-at", at="again").read("a.env") == b"of main"
    assert scene.vault.fork("of-committed", source="again", with_changes=False).read("a.env") == b"of main"


def test_operations_that_are_forgotten(scene: Scene) -> None:
    """The state that was saved last is known without the operation that made it."""
    (scene.tree / "a.env").unlink()
    (scene.tree / "b.env").write_bytes(b"new")
    scene.edit(2)
    scene.save()
    for number in range(3, 7):
        scene.edit(number)
        scene.git("commit", "-qam", str(number))
        scene.vault.operations()
    scene.vault.gc(keep_days=0, keep_operations=1)

    assert scene.fork(with_changes=False) == scene.fork(at="task") == scene.saved
    scene.check()


def test_a_checkpoint_that_git_amends(scene: Scene) -> None:
    """The commit in its place names the same sidecar, which goes with a push, and counts for what is on it."""
    (scene.tree / "b.env").write_bytes(b"new")
    scene.edit(2)
    scene.save()
    scene.git("commit", "-q", "--amend", "-m", "better")
    scene.edit(3)
    scene.git("commit", "-qam", "three")
    result = scene.vault.push(["task"], remote="server", with_sidecar=True)

    assert "push.no_sidecar" not in {warning.code for warning in result.warnings}
    assert scene.fork(at="task~1") == scene.saved
    scene.check()


def test_what_a_checkpoint_had_that_git_went_back_to(scene: Scene) -> None:
    """Put back by hand it differs from what was saved last: it is a change, and forks have it once it is saved."""
    scene.save_and_take_away(b"first")
    scene.git("reset", "-q", "--hard", "HEAD~1")
    (scene.tree / "b.env").write_bytes(b"first")

    scene.save()
    assert scene.fork(with_changes=False) == scene.saved == scene.show()


@pytest.mark.parametrize("by", ["git", "avfs"])
def test_a_merge_brings_what_its_source_has(scene: Scene, by: str) -> None:
    """Also where git made the source's head; not what the target has removed, also where git made the base."""
    main = scene.vault.workspace("main")
    (scene.tree / "b.env").write_bytes(b"new")
    (scene.tree / "b.env").chmod(0o600)
    scene.edit(2)
    scene.save()
    if by == "git":
        scene.edit(3)
        scene.git("commit", "-qam", "three")
    main.merge("task")
    assert main.read("b.env") == b"new"
    assert main.stat("b.env").mode & 0o777 == 0o600

    main.remove("b.env")
    main.checkpoint()
    scene.edit(4)
    scene.work.checkpoint()
    main.merge("task")
    assert not main.exists("b.env")


def test_what_a_target_has_removed_before_its_source_took_it_in(scene: Scene) -> None:
    """The base of the second merge is the target's own commit without the file: it is not new all the same."""
    main = scene.vault.workspace("main")
    main.remove("a.env")
    main.write("new", b"1")
    main.checkpoint()
    (scene.tree / "b.env").write_bytes(b"new")
    scene.edit(2)
    scene.save()
    scene.work.merge("main")
    scene.edit(3)
    scene.save()

    main.merge("task")
    assert (main.exists("a.env"), main.read("b.env")) == (False, b"new")


def test_what_was_removed_stays_away_however_the_two_are_related(scene: Scene) -> None:
    """In a fork that takes in what it was made of, and where a fork of a fork comes in."""
    main = scene.vault.workspace("main")
    further = scene.vault.fork("further", source="task")
    (scene.tree / "a.env").unlink()
    scene.edit(2)
    scene.save()
    main.merge("task")
    assert main.read("a.env") == b"of main"
    main.write("new", b"1")
    main.checkpoint()
    scene.work.merge("main")
    assert not (scene.tree / "a.env").exists()

    main.remove("a.env")
    main.write("new", b"2")
    main.checkpoint()
    further.merge("main")
    further.write("newer", b"1")
    further.checkpoint()
    main.merge("further")
    assert not main.exists("a.env")


def test_a_merge_of_a_fork_that_moved_on(scene: Scene) -> None:
    """What the commit names that it moved on to is of another fork."""
    main, other = scene.vault.workspace("main"), scene.vault.fork("other", source="main")
    other.write("b.env", b"of the other")
    other.write("new", b"1")
    other.checkpoint()
    main.rebase("other")
    assert not main.exists("b.env")

    scene.work.merge("main")
    assert not (scene.tree / "b.env").exists()
    assert (scene.tree / "new").exists()


def test_a_merge_beside_a_program_that_writes(scene: Scene) -> None:
    """The new ignored files come along, and its record has them, with the permissions of all that it brought."""
    side, over = scene.vault.fork("side", source="main"), threading.Event()
    side.write("cache.env/.gitignore", b"*")
    for name in ("b.env", "key"):
        side.write(name, b"secret")
        side.chmod(name, 0o600)
    side.checkpoint()

    def write() -> None:
        for number in itertools.count():
            if over.wait(0.002):
                return
            (scene.tree / f"tick-{number % 20}").write_text(str(number))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        result = scene.work.merge("side")
    finally:
        over.set()
        writer.join()
    assert not {warning.code for warning in result.warnings} & {"merge.left_out"}

    at_merge = scene.vault.fork("at", source="task", at=str(result.commit))
    assert (scene.tree / "cache.env" / ".gitignore").read_bytes() == at_merge.read("cache.env/.gitignore") == b"*"
    for name in ("b.env", "key"):
        assert (scene.tree / name).read_bytes() == at_merge.read(name) == b"secret"
        assert (scene.tree / name).stat().st_mode & 0o777 == at_merge.stat(name).mode & 0o777 == 0o600


def test_undo_of_a_commit_of_gits_that_empties_a_directory(scene: Scene) -> None:
    """The directory stays in the tree, and the log finds no further change of it."""
    (scene.tree / "deep" / "file").unlink()
    scene.git("commit", "-qam", "empty")

    assert [scene.work.undo().operation.kind for _ in range(2)] == ["git", "files"]
    assert (scene.tree / "deep" / "file").read_bytes() == b"1\n"


def test_a_change_that_was_taken_back_and_done_again_is_no_save(scene: Scene) -> None:
    """It can be taken back by hand, too: no fork of what was saved has it."""
    (scene.tree / "a.env").write_bytes(b"tried")
    scene.work.undo()
    scene.work.redo()
    assert scene.fork(with_changes=False) == scene.saved
    (scene.tree / "a.env").write_bytes(b"of main")

    scene.check()


def test_an_ignored_file_that_git_adds(scene: Scene) -> None:
    """It is in history then, and beside it no more: a push does not send what it was."""
    (scene.tree / "a.env").write_bytes(b"secret")
    scene.edit(2)
    scene.save()
    (scene.tree / "a.env").write_bytes(b"public")
    scene.git("add", "-f", "a.env")
    scene.git("commit", "-qm", "add")
    scene.work.checkpoint()
    assert scene.work.status().clean

    scene.vault.push(["task"], remote="server", with_sidecar=True)
    (scene.tree / "deep" / "c.env").write_bytes(b"secret")
    assert scene.git("hash-object", "deep/c.env").strip() not in git(
        scene.bare, "cat-file", "--batch-all-objects", "--batch-check"
    )


def test_undo_of_a_checkpoint_after_older_ones_are_forgotten(scene: Scene) -> None:
    """The fork is back at what the checkpoint before has, not at what the workspace began with."""
    (scene.tree / "a.env").unlink()
    scene.edit(2)
    scene.save()
    before = scene.saved
    scene.edit(3)
    scene.work.checkpoint()
    scene.vault.gc(keep_days=0, keep_operations=1)
    scene.work.undo()

    assert scene.fork(with_changes=False) == scene.fork(at="task") == before


def test_what_is_undone_back_to_before_a_checkpoint_is_saved_no_more(scene: Scene) -> None:
    """Also where the undo before that went back to what the checkpoint had saved."""
    side = scene.vault.fork("side", source="task")
    side.write("new", b"1")
    side.checkpoint()
    before = scene.saved
    (scene.tree / "b.env").write_bytes(b"tried")
    scene.work.checkpoint()
    scene.work.merge("side")
    scene.work.undo()
    scene.work.undo()
    assert [change.path for change in scene.work.status().sidecar_changed] == [b"b.env"]
    scene.work.undo()

    assert scene.fork() == scene.fork(with_changes=False) == before == scene.show()


def test_a_closed_file_that_git_adds_is_closed_in_forks(scene: Scene) -> None:
    """A checkpoint after git's commit says of the file in history what the one before said of it beside."""
    (scene.tree / "b.env").write_bytes(b"secret")
    (scene.tree / "b.env").chmod(0o600)
    scene.edit(2)
    scene.save()
    scene.git("add", "-f", "b.env")
    scene.git("commit", "-qm", "add")
    scene.work.checkpoint()

    made = scene.vault.fork("made", source="task")
    assert made.stat("b.env").mode & 0o777 == 0o600


def test_undo_of_a_commit_of_gits_saves_nothing(scene: Scene) -> None:
    """An ignored file that no checkpoint has is a change after it, and gone with the undo of its own operation."""
    scene.edit(2)
    scene.save()
    with Avfs(scene.tree.parent / "h") as other, other.open_vault("v") as vault:  # a program that ends: one operation
        vault.workspace("task").write("b.env", b"tried")
    scene.edit(3)
    scene.git("commit", "-qam", "three")

    with Avfs(scene.tree.parent / "h") as other, other.open_vault("v") as vault:
        assert vault.undo(fork="task").operation.kind == "git"
    assert [change.path for change in scene.work.status().sidecar_changed] == [b"b.env"]
    while (scene.tree / "b.env").exists():
        scene.work.undo()
    scene.work.checkpoint()
    assert scene.fork() == scene.fork(with_changes=False) == scene.show()


def test_a_checkpoint_that_is_named_is_what_it_was(scene: Scene) -> None:
    """Also where git has gone back to it, and the fork has something else beside it."""
    (scene.tree / "b.env").write_bytes(b"good")
    scene.edit(2)
    scene.work.checkpoint("good")
    good = scene.show()
    (scene.tree / "b.env").write_bytes(b"bad")
    scene.edit(3)
    scene.save()
    scene.git("reset", "-q", "--hard", "HEAD~1")

    assert scene.fork(at="good") == scene.fork(at="task@good") == good
    assert scene.fork(at="task") == scene.fork(with_changes=False) == scene.saved


def test_a_rename_saves_nothing(scene: Scene) -> None:
    """What is unsaved is unsaved under the new name, and after undo."""
    (scene.tree / "a.env").write_bytes(b"tried")
    scene.live.unmount()
    for step, fork in ((lambda: scene.vault.rename_fork("task", "other"), "other"), (scene.vault.undo, "task")):
        step()
        work = scene.vault.workspace(fork)
        assert [change.path for change in work.status().sidecar_changed] == [b"a.env"]
        made = scene.vault.fork(f"of-{fork}", source=fork, with_changes=False)
        assert made.read("a.env") == scene.saved["a.env"]


def test_undo_in_a_fork_that_git_moved_before_it_saved_anything(scene: Scene) -> None:
    """The fork is back at what it began with, not at what the commit names."""
    other = scene.vault.fork("other", source="task")
    other.write("b.env", b"of the other")
    other.write("file", b"2\n")
    other.checkpoint()
    scene.git("merge", "-q", "--ff-only", "other")
    scene.edit(3)
    scene.work.checkpoint()
    scene.work.undo()

    assert scene.fork(with_changes=False) == scene.saved
    scene.edit(2)
    scene.check()


@pytest.mark.parametrize("differs", [False, True])
def test_an_amended_fast_forward(scene: Scene, *, differs: bool) -> None:
    """What the fork has beside the commit stays its own, also in a restore; a push sends it, or says that it does not."""
    (scene.tree / "a.env").write_bytes(b"mine")
    scene.work.checkpoint()
    other = scene.vault.fork("other", source="task")
    if differs:
        other.write("a.env", b"of the other")
    other.write("file", b"2\n")
    other.checkpoint()
    scene.saved = scene.show()
    scene.work.merge("other")
    scene.git("commit", "-q", "--amend", "-m", "better")
    amended = scene.git("rev-parse", "HEAD").strip()
    result = scene.vault.push(["task"], remote="server", with_sidecar=True)
    assert ("push.no_sidecar" in {warning.code for warning in result.warnings}) == differs
    assert bool(git(scene.bare, "for-each-ref", "refs/avfs/sidecar")) != differs
    scene.check()
    scene.edit(3)
    scene.git("commit", "-qam", "three")

    assert scene.fork(at=amended) == scene.saved
    scene.work.restore(amended)
    assert scene.show() == scene.saved


def test_a_state_after_git_moved_the_branch(scene: Scene) -> None:
    """`op restore` brings back what the fork had, whatever the commit names that git has gone to."""
    other = scene.vault.fork("other", source="task")
    other.write("b.env", b"of the other")
    other.checkpoint()
    (scene.tree / "a.env").write_bytes(b"mine")
    scene.work.checkpoint()
    scene.git("reset", "-q", "--hard", "other")
    moved = next(each for each in scene.vault.operations(fork="task") if each.kind == "git")
    before = scene.show()
    (scene.tree / "a.env").write_bytes(b"later")
    scene.work.checkpoint()
    scene.vault.restore_operation(moved.id)

    assert scene.show() == before


@pytest.mark.parametrize("turned", ["nothing", "git", "merge", "stop", "deletion"])
def test_the_last_save_is_known_when_all_after_it_is_forgotten(scene: Scene, turned: str) -> None:
    """Also where something came after it that was undone, and perhaps done again."""
    side = scene.vault.fork("side", source="task")
    side.write("side", b"1")
    side.checkpoint()
    (scene.tree / "a.env").unlink()
    (scene.tree / "b.env").write_bytes(b"new")
    scene.edit(2)
    scene.save()
    if turned == "merge":
        scene.work.merge("side")
        scene.work.undo(alone=True)
    elif turned == "stop":
        side.write("file", b"side\n")
        side.checkpoint()
        scene.work.merge("side", on_conflict="workspace")
        scene.work.abort_merge()
    scene.git("reset", "-q", "--hard", "HEAD~1")
    if turned == "git":
        scene.vault.operations()
        scene.work.undo(alone=True)
        scene.work.redo(alone=True)
        scene.vault.gc(keep_days=0, keep_operations=1)
    for number in range(4, 8):
        scene.edit(number)
        scene.git("commit", "-qam", str(number))
        scene.vault.operations()
    if turned == "deletion":
        scene.live.unmount()
        scene.vault.delete_fork("task")
    scene.vault.gc(keep_days=0, keep_operations=1)
    if turned == "deletion":
        scene.vault.undo()
        scene.live = scene.vault.workspace("task").mount(scene.tree)

    assert scene.fork(with_changes=False) == scene.saved
    scene.check()


def test_undo_of_all_that_gc_has_left(scene: Scene) -> None:
    """A command, with a checkpoint in its middle: the save before both is known."""
    (scene.tree / "a.env").unlink()
    (scene.tree / "b.env").write_bytes(b"new")
    scene.edit(2)
    scene.save()
    command = "echo 3 > file; : > began; while [ ! -e go ]; do sleep 0.01; done; echo 4 > file"
    thread = threading.Thread(target=scene.work.exec, args=("sh", "-c", command))
    thread.start()
    wait_for((scene.tree / "began").exists)
    with Avfs(scene.tree.parent / "h") as other, other.open_vault("v") as vault:
        vault.workspace("task").checkpoint()
    (scene.tree / "go").touch()
    thread.join()
    scene.vault.gc(keep_days=0, keep_operations=1)
    scene.work.undo()

    assert scene.fork(with_changes=False) == scene.saved == scene.show()


@pytest.mark.parametrize("how", ["ours", "skip", "git"])
def test_a_pick_of_which_nothing_is_left(scene: Scene, how: str) -> None:
    """What was written in the stop stays, as after a rebase; undo takes it back."""
    side = scene.vault.fork("side", source="task")
    side.write("file", b"side\n")
    side.checkpoint()
    scene.edit(2)
    scene.save()
    scene.work.cherry_pick(["side"], on_conflict="workspace")
    (scene.tree / "b.env").write_bytes(b"late")
    if how == "ours":
        scene.work.resolve("file", "ours")
    elif how == "git":
        scene.edit(5)
        scene.git("add", "file")
        scene.git("commit", "-qm", "both")
    result = scene.work.continue_rewrite(skip=how == "skip")

    assert result.outcome == "unchanged"
    assert (scene.tree / "b.env").read_bytes() == b"late"
    assert scene.fork() == scene.show()


@pytest.mark.parametrize("between", ["created", "renamed"])
def test_a_deleted_fork_comes_back_after_another_had_its_name(scene: Scene, between: str) -> None:
    """What it had saved counts as before."""
    (scene.tree / "a.env").unlink()
    (scene.tree / "b.env").write_bytes(b"new")
    scene.edit(2)
    scene.save()
    scene.live.unmount()
    other = scene.vault.fork("other", source="main")
    scene.vault.delete_fork("task")
    if between == "created":
        other = scene.vault.fork("task", source="main")
    else:
        scene.vault.rename_fork("other", "task")
        other = scene.vault.workspace("task")
    assert other.read("a.env") == b"of main"
    while scene.vault.undo().operation.kind != "fork_delete":
        pass
    scene.live = scene.vault.workspace("task").mount(scene.tree)

    assert scene.show() == scene.fork() == scene.fork(with_changes=False) == scene.saved
    scene.check()
