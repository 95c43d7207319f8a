"""What `gc` gives back, and above all what it does not: everything that anybody can still need is there afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault
from avfs_git.errors import AvfsError, GitFailed, InvalidInput, NothingToUndo, PathNotFound, RefDamaged
from avfs_git.gitstore.holding import objects_held
from avfs_git.gitstore.objects import sweep
from avfs_git.model import GarbageResult
from avfs_git.workspace.vault.gitmoves import open_worktree
from tests.support.faults import BIG, check_vault, git, make_vault_with_garbage, reachable_contents, read_states

pytestmark = pytest.mark.needs("git", "user-xattrs", "whiteout")

EVERYTHING = {"keep_days": 0, "keep_operations": 1, "grace_days": 0}


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault with a fork, labels, a restore behind it, and a deleted fork of which another one is left."""
    with make_vault_with_garbage(tmp_path) as made:
        yield made


def gc(vault: Vault, **limits: int) -> GarbageResult:
    """Collect; whatever was written until now is old enough."""
    time.sleep(0.02)
    return vault.gc(**{**EVERYTHING, **limits})  # type: ignore[arg-type]  # all of them are numbers


def objects(vault: Vault) -> set[str]:
    """List all objects that are there."""
    listed = git(vault.path, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    return set(listed.split())


def test_nothing_that_can_be_reached_is_lost(vault: Vault) -> None:
    """Every state of every fork is what it was, with all that git does not track.

    So it is after git's own collection.
    """
    before = read_states(vault)
    result = gc(vault)

    assert result.warnings == ()
    assert result.operations > 5
    assert result.objects > 5
    assert result.packs_after == 1
    assert read_states(vault) == before
    check_vault(vault)

    gc(vault)
    git(vault.path, "gc", "--quiet", "--prune=now")
    with Avfs(vault.path.parents[1]) as avfs:
        assert read_states(avfs.open_vault("v")) == before


def test_git_gets_a_commit_graph_of_what_is_left(vault: Vault) -> None:
    """It names commits that are here, and each commit of a branch, even after a collection dropped earlier ones."""
    gc(vault)
    vault.workspace("main").checkpoint("after")
    gc(vault)

    git(vault.path, "commit-graph", "verify")
    graph = (vault.path / "objects" / "info" / "commit-graph").read_bytes()
    assert all(bytes.fromhex(oid) in graph for oid in git(vault.path, "rev-list", "--branches").split())


def test_what_only_a_deleted_fork_had_is_gone(vault: Vault) -> None:
    """Its commits, its files in the trash and the refs that kept them go; what a fork of it needs stays."""
    contents = {BIG[::-1]}

    assert contents <= reachable_contents(vault.path)

    result = gc(vault)

    assert result.workspaces == 1
    assert result.refs
    assert result.freed_bytes is not None
    assert result.freed_bytes > 300_000
    assert list((vault.path / "avfs" / "trash").iterdir()) == []
    assert not contents & reachable_contents(vault.path)
    assert BIG in reachable_contents(vault.path)  # the child's first commit has it
    assert vault.workspace("child").read("x.log") == b"ignored, of a fork that is gone\n"
    with pytest.raises(PathNotFound):
        vault.workspace("child").read("big")


def test_nothing_goes_by_default(vault: Vault) -> None:
    """What is younger than a month, and the last thousand operations, can all be undone; only packs are merged."""
    before, kept = read_states(vault), objects(vault)
    result = vault.gc()

    assert (result.operations, result.workspaces, result.refs, result.objects) == (0, 0, 0, 0)
    assert objects(vault) >= kept
    assert read_states(vault) == before
    vault.undo(fork="gone")

    assert vault.workspace("gone").read("uncommitted") == b"of no use to anybody\n"
    check_vault(vault)


def test_the_last_operations_stay_however_old(vault: Vault) -> None:
    """As many of the last operations as are to stay can be undone, with the files that they need, and no more."""
    result = gc(vault, keep_operations=4)

    assert result.operations
    assert result.workspaces == 0
    assert [each.kind for each in vault.operations(fork="gone")][:1] == ["fork_delete"]
    vault.undo(fork="gone")  # the deletion, the checkpoint before it, and no more

    assert vault.workspace("gone").read("more") == BIG[::-1]
    vault.undo(fork="gone")  # what was written since
    vault.undo(fork="gone")
    labels = {label: each.id for each in vault.workspace("gone").list_checkpoints() for label in each.labels}
    assert vault.fork_info("gone").head == labels["theirs"]
    check_vault(vault)


def test_only_the_last_move_of_a_branch_can_be_undone_where_all_is_old(vault: Vault) -> None:
    """A fork keeps its last operation, and what the log says of it; what was before cannot be undone, and says so."""
    parent, base = vault.fork_info("child").parent, vault.fork_info("child").base
    gc(vault)
    (vault.path / "avfs" / "workspaces" / "child" / "state").write_bytes(b"")
    with Avfs(vault.path.parents[1]) as avfs:
        again = avfs.open_vault("v")

        assert (again.fork_info("child").parent, again.fork_info("child").base) == (parent, base)
        again.undo(fork="child")
        with pytest.raises(NothingToUndo):
            again.undo(fork="child")
        labels = {label: each.id for each in again.workspace("child").list_checkpoints() for label in each.labels}
        assert again.fork_info("child").head == labels["mine"]
        check_vault(again)


def test_a_dry_run_tells_and_changes_nothing(vault: Vault) -> None:
    """It counts what would go, and leaves every file of the vault as it is."""
    listed = {path: path.lstat().st_mtime_ns for path in vault.path.rglob("*")}
    time.sleep(0.02)
    told = vault.gc(dry_run=True, **EVERYTHING)  # type: ignore[arg-type]  # all of them are numbers

    assert {path: path.lstat().st_mtime_ns for path in vault.path.rglob("*")} == listed
    result = gc(vault)

    assert (told.operations, told.workspaces, told.refs) == (result.operations, result.workspaces, result.refs)
    assert told.objects == result.objects
    assert (told.packs_before, told.packs_after) == (result.packs_before, result.packs_after)
    assert told.dry_run
    assert told.forks == result.forks == ("gone",)
    assert told.freed_bytes is not None
    assert result.freed_bytes is not None
    assert 0.5 < told.freed_bytes / result.freed_bytes < 2


def test_prune_forgets_by_number_age_and_size(vault: Vault) -> None:
    """What any limit spares stays; the size comes last. Checkpoints, labels and the newest operation always stay."""
    before, all_ = read_states(vault), len(vault.operations(limit=1000))
    with pytest.raises(InvalidInput, match="nothing says"):
        vault.prune()
    assert vault.prune(older_than_days=1, dry_run=True).operations == 0
    assert vault.prune(keep_operations=all_, dry_run=True).operations == 0
    assert vault.prune(keep_operations=1, older_than_days=1, dry_run=True).operations == 0
    assert vault.prune(max_bytes=1 << 30, grace_s=0, dry_run=True).operations == 0

    told = vault.prune(max_bytes=200_000, grace_s=0, dry_run=True)  # the deleted fork alone has more
    assert told.forks == ("gone",)
    done = vault.prune(max_bytes=200_000, grace_s=0)
    assert (done.operations, done.forks) == (told.operations, told.forks)
    assert 0 < done.operations < all_ - 1
    assert vault.prune(max_bytes=200_000, grace_s=0).operations == 0
    left = vault.prune(keep_operations=1, grace_s=0)
    assert left.operations
    assert read_states(vault) == before
    check_vault(vault)


def test_what_is_young_stays_with_all_that_it_reaches(vault: Vault) -> None:
    """What nothing reaches goes when it is old enough, and not before, also if it lay in a pack with other things."""
    before = objects(vault)
    told = vault.gc(keep_days=0, keep_operations=1, grace_days=1, dry_run=True)
    result = vault.gc(keep_days=0, keep_operations=1, grace_days=1)

    assert (told.waiting, told.packs_after) == (result.waiting, result.packs_after)
    assert result.objects == 0
    assert result.waiting
    assert objects(vault) >= before
    again = vault.gc(keep_days=0, keep_operations=1, grace_days=1)

    assert (again.waiting, again.packs_after) == (result.waiting, result.packs_after)
    assert gc(vault).objects == result.waiting
    check_vault(vault)


def test_young_things_of_git_keep_old_ones(vault: Vault) -> None:
    """A commit that git made a moment ago and that no ref names yet keeps the old tree and blob it is made of."""
    blob = subprocess.run(
        ["git", "-C", vault.path, "hash-object", "-w", "--stdin"], input=b"old\n", capture_output=True, check=True
    ).stdout.strip()
    tree = subprocess.run(
        ["git", "-C", vault.path, "mktree"], input=b"100644 blob " + blob + b"\told\n", capture_output=True, check=True
    ).stdout.decode()
    for path in (vault.path / "objects").glob("??/*"):
        os.utime(path, (1, 1))
    commit = git(
        vault.path, "-c", "user.name=a", "-c", "user.email=b", "commit-tree", "-m", "young", tree.strip()
    ).strip()
    vault.gc(keep_days=0, keep_operations=1, grace_days=1)

    assert git(vault.path, "cat-file", "-p", f"{commit}:old") == "old\n"


def test_objects_that_somebody_relies_on_stay(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an operation is under way, nothing is dropped; it is dropped the next time."""
    gone = threading.Event()

    def hold() -> None:
        with objects_held(vault.path):
            held.set()
            gone.wait(60)

    held = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    before = objects(vault)
    monkeypatch.setattr(sweep, "_WAIT_S", 0.1)
    try:
        result = gc(vault)
    finally:
        gone.set()
        holder.join()

    assert [warning.code for warning in result.warnings] == ["gc.not_swept"]
    assert objects(vault) >= before
    assert gc(vault).objects


def test_what_git_has_under_way_in_a_working_tree_stays(vault: Vault, tmp_path: Path) -> None:
    """Staged files, a stash, reset commits and an unfinished merge of git's own working trees stay."""
    place = tmp_path / "tree"
    git(vault.path, "worktree", "add", "-q", str(place), "child")
    env = {
        **os.environ,
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "b",
    }

    def there(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", place, *arguments], env=env, check=True, capture_output=True, text=True
        ).stdout.strip()

    (place / "reset").write_text("reset\n")
    there("add", "-A")
    there("commit", "-q", "-m", "reset")
    lost = there("rev-parse", "HEAD")
    there("reset", "-q", "--hard", "HEAD~1")
    (place / "staged").write_text("staged\n")
    there("add", "staged")
    staged = there("hash-object", "staged")
    for path in (vault.path / "objects").glob("??/*"):
        os.utime(path, (1, 1))
    gc(vault)

    assert there("cat-file", "-p", f"{lost}:reset") == "reset"
    assert there("cat-file", "-p", staged) == "staged"


def test_a_vault_that_is_broken_is_left_alone(vault: Vault) -> None:
    """Where the history is damaged, nothing is dropped."""
    tree = git(vault.path, "rev-parse", "work^{tree}").strip()
    commit = (
        subprocess.run(
            ["git", "-C", vault.path, "hash-object", "-t", "commit", "-w", "--stdin", "--literally"],
            input=f"tree {tree}\nparent {'12' * 20}\nauthor a <b> 1 +0000\ncommitter a <b> 1 +0000\n\nx\n".encode(),
            capture_output=True,
            check=True,
        )
        .stdout.decode()
        .strip()
    )
    (vault.path / "refs" / "heads" / "broken").write_text(commit + "\n")
    before = objects(vault)
    with pytest.raises(GitFailed):
        gc(vault)

    assert objects(vault) == before


def test_several_collect_while_others_work(vault: Vault) -> None:
    """Collecting beside forks, checkpoints, undos and restores loses nothing that they acknowledge."""
    errors: list[BaseException] = []
    stop = threading.Event()

    def collect() -> None:
        try:
            with Avfs(vault.path.parents[1]) as avfs:
                while not stop.is_set():
                    avfs.open_vault("v").gc(**EVERYTHING)  # type: ignore[arg-type]  # all of them are numbers
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    def work(name: str) -> None:
        try:
            with Avfs(vault.path.parents[1]) as avfs:
                own = avfs.open_vault("v")
                fork = own.fork(name, source="child")
                for number in range(12):
                    fork.write("f", b"%d\n" % number)
                    fork.write("big", BIG if number % 2 else BIG[::-1])
                    fork.write("y.log", b"%d ignored\n" % number)
                    label = f"l{number}"
                    assert fork.checkpoint(label).outcome == "created"
                    if number % 3 == 2:
                        fork.restore(f"l{number - 1}")
                        assert fork.read("y.log") == b"%d ignored\n" % (number - 1)
                        fork.undo()
                        assert fork.read("f") == b"%d\n" % number
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(3)]
    collectors = [threading.Thread(target=collect) for _ in range(2)]
    for thread in [*threads, *collectors]:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    for thread in collectors:
        thread.join()

    assert errors == []
    for number in range(3):
        assert vault.workspace(f"t{number}").read("f") == b"11\n"
        assert vault.workspace(f"t{number}").read("big") == BIG
    check_vault(vault)


def _empty(vault: Vault, name: str) -> None:
    (vault.path / name).write_bytes(b"")


def _zeroed(vault: Vault, name: str) -> None:
    (vault.path / name).write_bytes(bytes(41))


def _to_nowhere(vault: Vault, name: str) -> None:
    (vault.path / name).write_text("12" * 20 + "\n")


def _torn_packed(vault: Vault, name: str) -> None:
    git(vault.path, "pack-refs", "--all")
    packed = vault.path / "packed-refs"
    data = packed.read_bytes()
    packed.write_bytes(data[: data.index(name.encode()) - 10])


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("name", ["refs/heads/work", "refs/heads/child", "refs/avfs/sidecar/work", "refs/tags/v1"])
@pytest.mark.parametrize("damage", [_empty, _zeroed, _to_nowhere, _torn_packed])
def test_a_damaged_ref_stops_it(vault: Vault, damage: Callable[[Vault, str], None], name: str, dry_run: bool) -> None:
    """What a ref stood for that is empty, or names nothing, stays; the error names the ref and what to do."""
    git(vault.path, "update-ref", "refs/tags/v1", "work")
    before, log = objects(vault), (vault.path / "avfs" / "oplog").read_bytes()
    trash = list((vault.path / "avfs" / "trash").iterdir())
    damage(vault, name)
    with pytest.raises(RefDamaged) as raised:
        gc(vault, dry_run=dry_run)

    assert raised.value.ref in (name, "packed-refs")
    assert raised.value.ref in str(raised.value)
    assert "avfs doctor" in (raised.value.hint or "")
    assert objects(vault) == before
    assert (vault.path / "avfs" / "oplog").read_bytes() == log
    assert list((vault.path / "avfs" / "trash").iterdir()) == trash
    (problem, *_) = (each for each in vault.doctor().problems if each.code == "ref.damaged")

    assert raised.value.ref in problem.description
    assert problem.remedy


def _misnamed(vault: Vault) -> str:
    """What a program leaves that copies files, and finds two of one name."""
    (vault.path / "refs" / "heads" / "work (conflicted copy)").write_text(git(vault.path, "rev-parse", "work"))
    return "refs/heads/work (conflicted copy)"


def _detached(vault: Vault) -> str:
    _to_nowhere(vault, "HEAD")
    return "HEAD"


def _no_packed_file(vault: Vault) -> str:
    git(vault.path, "pack-refs", "--all")
    (vault.path / "packed-refs").rename(vault.path / "elsewhere")
    (vault.path / "packed-refs").symlink_to("elsewhere")
    return "packed-refs"


def _make_worktree(vault: Vault) -> Path:
    git(vault.path, "worktree", "add", "-q", "--detach", str(vault.path.parents[2] / "there"), "work")
    return vault.path / "worktrees" / "there"


def _worktree_to_nowhere(vault: Vault) -> str:
    _make_worktree(vault)
    _to_nowhere(vault, "worktrees/there/HEAD")
    return "worktrees/there/HEAD"


def _empty_worktree_ref(vault: Vault) -> str:
    bad = _make_worktree(vault) / "refs" / "bisect" / "bad"
    bad.parent.mkdir(parents=True, exist_ok=True)
    bad.with_suffix(".lock").touch()
    bad.touch()
    return "worktrees/there/refs/bisect/bad"


@pytest.mark.parametrize("damage", [_misnamed, _detached, _no_packed_file, _worktree_to_nowhere, _empty_worktree_ref])
def test_damage_beside_the_plain_refs_stops_it(vault: Vault, damage: Callable[[Vault], str]) -> None:
    """A ref whose name git does not allow, HEAD, and a working tree's refs count as the others do, as in git."""
    (vault.path / "refs" / "heads" / "work.lock").touch()  # such a file is no ref
    name = damage(vault)
    before = {path for path in (vault.path / "objects").rglob("*") if path.is_file()}
    with pytest.raises(RefDamaged) as raised:
        gc(vault)

    assert raised.value.ref == name
    assert {path for path in (vault.path / "objects").rglob("*") if path.is_file()} == before
    if name != "packed-refs":
        (problem,) = (each for each in vault.doctor().problems if each.code == "ref.damaged")
        assert name in problem.description
        assert vault.list_forks()


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_repository_that_keeps_all_objects_keeps_them(vault: Vault, dry_run: bool) -> None:
    """Git refuses to collect there, and the warning says why nothing goes."""
    git(vault.path, "config", "core.repositoryFormatVersion", "1")
    git(vault.path, "config", "extensions.preciousObjects", "true")
    before = objects(vault)
    result = gc(vault, dry_run=dry_run)

    assert objects(vault) == before
    assert result.objects == 0
    assert "gc.not_swept" in {warning.code for warning in result.warnings}


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("name", ["refs/heads/child", "refs/avfs/sidecar/child", "refs/avfs/checkpoints/child/mine"])
@pytest.mark.parametrize("damage", [_empty, _to_nowhere])
def test_the_doctor_gives_a_damaged_ref_its_last_value(
    vault: Vault, damage: Callable[[Vault, str], None], name: str
) -> None:
    """What the log says of the ref is put back, and then the next collection runs and loses nothing."""
    before, held = read_states(vault), git(vault.path, "rev-parse", name)
    damage(vault, name)
    with Avfs(vault.path.parents[1]) as avfs:
        again = avfs.open_vault("v")
        (problem,) = (each for each in again.doctor(repair=True).problems if each.code == "ref.damaged")

        assert problem.fixed
        assert git(vault.path, "rev-parse", name) == held
        assert gc(again).warnings == ()
        assert read_states(again) == before
        check_vault(again)


def test_a_kept_ref_says_itself_what_it_held(vault: Vault) -> None:
    """A damaged ref that keeps something for undo is mended from its name."""
    ref = git(vault.path, "for-each-ref", "--format=%(refname)", "refs/avfs/keep").split()[0]
    (vault.path / ref).write_bytes(b"")
    (problem,) = (each for each in vault.doctor(repair=True).problems if each.code == "ref.damaged")

    assert problem.fixed
    assert git(vault.path, "rev-parse", ref).strip() == ref.rpartition("/")[2]


@pytest.mark.parametrize("damage", [_empty, _to_nowhere])
def test_a_damaged_stash_comes_back(vault: Vault, damage: Callable[[Vault, str], None]) -> None:
    """Git's own log has what it held."""
    held = git(vault.path, "rev-parse", "work")
    git(vault.path, "update-ref", "--create-reflog", "-m", "WIP on work", "refs/stash", "work")
    damage(vault, "refs/stash")
    (problem,) = (each for each in vault.doctor(repair=True).problems if each.code == "ref.damaged")

    assert problem.fixed
    assert git(vault.path, "rev-parse", "refs/stash") == held


@pytest.mark.parametrize("damage", [b"", b"\xfftOc no index", None], ids=["empty", "damaged", "directory"])
def test_the_doctor_says_how_a_damaged_index_of_a_pack_is_made_again(vault: Vault, damage: bytes | None) -> None:
    """What the pack holds is missing to everybody, and is there."""
    before = read_states(vault)
    indexes = sorted((vault.path / "objects" / "pack").glob("*.idx"))
    for index in indexes:
        index.unlink()
        index.mkdir() if damage is None else index.write_bytes(damage)
    with Avfs(vault.path.parents[1]) as avfs:
        problems = avfs.open_vault("v").doctor(repair=True).problems
        told = [each.remedy for each in problems if each.code == "objects.pack_without_index"]
        assert len(told) == len(indexes)
        for remedy in told:
            subprocess.run(remedy.split("`")[1], shell=True, check=True, capture_output=True)
    with Avfs(vault.path.parents[1]) as avfs:
        assert avfs.open_vault("v").doctor().problems == ()
        assert read_states(avfs.open_vault("v")) == before


def test_the_doctor_makes_the_index_of_a_pack_that_has_none(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it looks at refs: none gets an older value, though what it names was not found.

    A pack that is not whole gets no index; its objects are in no other.
    """
    monkeypatch.setattr("avfs_git.workspace.upkeep.checks.objects.LOCK_HELD_S", 0.1)
    before = read_states(vault)
    work = git(vault.path, "rev-parse", "work").strip()
    newer = git(vault.path, "commit-tree", "work^{tree}", "-p", "work", "-m", "by git").strip()
    git(vault.path, "update-ref", "refs/heads/pushed", work)
    git(vault.path, "update-ref", "--create-reflog", "refs/heads/pushed", newer)
    (vault.path / "logs" / "refs" / "heads" / "pushed").write_text(
        f"{'0' * 40} {work} A <a@b> {int(time.time())} +0000\tpush\n"
    )
    git(vault.path, "repack", "-d", "-q")
    packs = sorted((vault.path / "objects" / "pack").glob("pack-*.pack"))
    for pack in packs:
        pack.with_suffix(".idx").unlink()
    with Avfs(vault.path.parents[1]) as avfs:
        told = avfs.open_vault("v").doctor().problems[: len(packs)]
        assert [(each.code, each.severity, each.fixable) for each in told] == [
            ("objects.pack_without_index", "warning", True)
        ] * len(packs)
        problems = avfs.open_vault("v").doctor(repair=True).problems
        assert [(each.code, each.fixed) for each in problems] == [("objects.pack_without_index", True)] * len(packs)
    with Avfs(vault.path.parents[1]) as avfs:
        assert git(vault.path, "rev-parse", "pushed").strip() == newer
        git(vault.path, "update-ref", "-d", "refs/heads/pushed")
        assert avfs.open_vault("v").doctor().problems == ()
        assert read_states(avfs.open_vault("v")) == before
        packs[0].with_suffix(".idx").unlink()
        packs[0].chmod(0o600)
        packs[0].write_bytes(packs[0].read_bytes()[:-40])
        problem = avfs.open_vault("v").doctor(repair=True).problems[0]
        assert (problem.code, problem.fixed) == ("objects.pack_without_index", False)


@pytest.mark.parametrize("grace_days", [0, 1])
def test_a_directory_with_the_name_of_an_object_is_none(vault: Vault, grace_days: int) -> None:
    """It is in the way of no collection; git fails on it, so the doctor names it."""
    place = vault.path / "objects" / "ab" / ("c" * 38)
    place.mkdir(parents=True)
    before = read_states(vault)
    assert gc(vault, grace_days=grace_days, dry_run=True).warnings == ()
    assert gc(vault, grace_days=grace_days).warnings == ()
    told = [each for each in vault.doctor(repair=True).problems if each.code == "vault.no_file"]

    assert [f"'{place}'" in each.remedy for each in told] == [True]
    place.rmdir()
    assert read_states(vault) == before
    check_vault(vault)


def test_the_doctor_gives_no_ref_what_is_gone(vault: Vault) -> None:
    """Where the commit of a branch is missing, each repair that is offered can be done."""
    _remove_object(vault.path, git(vault.path, "rev-parse", "child").strip())
    with Avfs(vault.path.parents[1]) as avfs:
        problems = [each for each in avfs.open_vault("v").doctor(repair=True).problems if each.code == "ref.damaged"]

    assert {"refs/heads/child", "refs/avfs/known/child"} <= {each.description.split("'")[1] for each in problems}
    assert [each for each in problems if each.fixable and not each.fixed] == []


@pytest.mark.parametrize("what", ["blob", "tree", "base"])
def test_nothing_goes_where_something_is_missing(vault: Vault, what: str) -> None:
    """Where anything is missing that is to stay, the log, the trash and all refs stay as well."""
    log, refs = (vault.path / "avfs" / "oplog").read_bytes(), _ref_files(vault.path)
    state = vault.path / "avfs" / "workspaces" / "child" / "state"
    gone = json.loads(state.read_text())["base"]
    if what != "base":
        gone = git(vault.path, "rev-parse", "work:a" if what == "blob" else "work~1:many")
    _remove_object(vault.path, gone.strip())
    before = objects(vault)
    with Avfs(vault.path.parents[1]) as avfs, pytest.raises(AvfsError) as raised:
        gc(avfs.open_vault("v"))

    assert "avfs doctor" in (raised.value.hint or "")
    assert objects(vault) == before
    assert _ref_files(vault.path) == refs
    assert (vault.path / "avfs" / "oplog").read_bytes() == log
    assert list((vault.path / "avfs" / "trash").iterdir())


def _ref_files(git_dir: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in (git_dir / "refs").rglob("*") if path.is_file()}


def _remove_object(git_dir: Path, oid: str) -> None:
    """Take one object out of all packs."""
    packs = sorted((git_dir / "objects" / "pack").glob("*.pack"))
    for pack in packs:
        for suffix in (".idx", ".rev"):
            pack.with_suffix(suffix).unlink(missing_ok=True)
        subprocess.run(["git", f"--git-dir={git_dir}", "unpack-objects", "-q"], input=pack.read_bytes(), check=True)
        pack.unlink()
    (git_dir / "objects" / oid[:2] / oid[2:]).unlink()


def test_the_doctor_puts_a_half_made_working_tree_away(vault: Vault) -> None:
    """What a mount left that was cut short stops git; the doctor names it, and puts it into the trash."""
    place = vault.path / "worktrees" / "work"
    place.mkdir(parents=True)
    (place / "commondir").write_text("../..\n")
    (place / "gitdir").write_text("/nowhere/.git\n")
    told = [each.code for each in vault.doctor().problems if each.fixable]
    vault.doctor(repair=True)

    assert told == ["worktree.half_made"]
    assert not place.exists()
    assert vault.doctor().problems == ()
    git(vault.path, "fsck")


@pytest.mark.parametrize("lost", ["HEAD", "commondir", "gitdir"])
@pytest.mark.parametrize("left", [None, b"", bytes(41)])
def test_the_doctor_completes_a_working_tree_with_an_index(
    vault: Vault, tmp_path: Path, lost: str, left: bytes | None
) -> None:
    """A power cut may take such a file; what is only staged is nowhere else, and gc would free it."""
    open_worktree(vault._core, "work").prepare("refs/heads/work", tmp_path / "nowhere")
    place = vault.path / "worktrees" / "work"
    git(place, "read-tree", "work")
    staged = subprocess.run(
        ["git", f"--git-dir={place}", "hash-object", "-w", "--stdin"],
        input=b"only staged",
        check=True,
        capture_output=True,
    )
    oid = staged.stdout.decode().strip()
    git(place, "update-index", "--add", "--cacheinfo", f"100644,{oid},staged")
    (place / lost).unlink()
    if left is not None:
        (place / lost).write_bytes(left)
    vault.doctor(repair=True)

    assert vault.doctor().problems == ()
    gc(vault)
    assert git(place, "cat-file", "blob", ":staged") == "only staged"
    assert git(place, "rev-parse", "HEAD") == git(vault.path, "rev-parse", "refs/heads/work")


@pytest.mark.parametrize("left", [b"", bytes(22), b"r", b"refs/heads/wo", b"refs/heads/work", b"refs/heads/work\nas"])
@pytest.mark.parametrize("mends", ["doctor", "mount", "rename"])
def test_the_damaged_mark_of_a_working_tree_is_named_and_mended(
    vault: Vault, tmp_path: Path, left: bytes, mends: str
) -> None:
    """No command takes the tree for one in which git has detached HEAD, where that stood aside."""
    tree = open_worktree(vault._core, "work")
    tree.prepare("refs/heads/work", tmp_path / "nowhere")
    git(tree.path, "read-tree", "work")
    tree.step_aside()
    (tree.path / "avfs").write_bytes(left)

    assert tree.find_head() is None
    assert [problem.code for problem in vault.doctor().problems] == ["worktree.half_made"]
    assert vault.workspace("work").status().warnings == ()
    name = "other" if mends == "rename" else "work"
    if mends == "rename":
        vault.rename_fork("work", "other")
        tree = open_worktree(vault._core, "other")
    if mends == "mount":
        tree.prepare("refs/heads/work", tmp_path / "nowhere")
        assert tree.branch() == "refs/heads/work"
        tree.step_aside()
    else:
        assert [problem.fixed for problem in vault.doctor(repair=True).problems] == [True]
    assert (tree.path / "avfs").read_bytes() == f"refs/heads/{name}\naside\n".encode()
    assert vault.doctor().problems == ()
    assert git(tree.path, "diff", "--cached", "--name-only") == ""


@pytest.mark.parametrize("damage", ["empty", "half", "garbage", "directory", "link"])
def test_the_doctor_names_an_index_for_which_gc_deletes_nothing(vault: Vault, tmp_path: Path, damage: str) -> None:
    """Without its objects gc does not know what is staged; the doctor says which it is, and what to do."""
    git(vault.path, "worktree", "add", "-q", str(tmp_path / "tree"), "main")
    index = next((vault.path / "worktrees").glob("*/index"))
    assert vault.doctor().problems == ()
    whole = index.read_bytes()
    index.unlink()
    if damage == "directory":
        index.mkdir()
    elif damage == "link":
        index.symlink_to("/dev/zero")
    else:
        index.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "garbage": b"garbage" * 20}[damage])

    problems = {problem.code: problem for problem in vault.doctor().problems}

    told = problems.pop("worktree.bad_index")
    assert str(index) in told.remedy
    assert all(str(index) in problem.description for problem in problems.values())  # git is not asked to read a device
    assert len(problems) == (damage == "link")
    index.rename(tmp_path / "away")
    subprocess.run(["git", "reset", "-q"], cwd=tmp_path / "tree", check=True)
    assert vault.doctor().problems == ()


def test_a_lock_of_a_killed_git_keeps_nobody_from_a_commit_graph(vault: Vault) -> None:
    """A git that died, or the machine, leaves `commit-graph.lock` for ever: git itself writes no graph after that."""
    lock = vault.path / "objects" / "info" / "commit-graph.lock"
    lock.touch()
    gc(vault)

    graph = lock.with_suffix("")
    assert all(bytes.fromhex(oid) in graph.read_bytes() for oid in git(vault.path, "rev-list", "--branches").split())
    git(vault.path, "commit-graph", "verify")
    assert graph.stat().st_mode & 0o777 == 0o400
    graph.unlink()
    vault.maintain(every_step=True)
    assert sorted(path.name for path in graph.parent.iterdir() if path.name.startswith("commit-graph")) == [lock.name]
    for number in range(3):
        vault.workspace("main").write("file", b"%d" % number)
        vault.workspace("main").checkpoint(str(number))
    assert next(step.handled for step in vault.maintain(every_step=True).steps if step.name == "packs")
    assert all(bytes.fromhex(oid) in graph.read_bytes() for oid in git(vault.path, "rev-list", "--branches").split())
    assert lock.exists()  # it may be that of a git at work; the doctor tells of it


@pytest.mark.parametrize("name", ["short", "/".join(["part-of"] * 24)], ids=["short", "long"])
def test_what_the_log_says_of_a_fork_in_the_trash_stays(tmp_path: Path, name: str) -> None:
    """It was made long ago and deleted lately: undo brings it back with what it began with, however long its name."""
    days = [0]

    def clock_ns() -> int:
        return time.time_ns() + days[0] * 86_400 * 10**9

    with Avfs(tmp_path / "home", clock_ns=clock_ns) as avfs:
        vault = avfs.create_vault("v")
        main = vault.workspace()
        main.write("f", b"1\n")
        main.checkpoint()
        fork = vault.fork(name)
        fork.write("f", b"2\n")
        fork.checkpoint()
        days[0] = 40
        vault.delete_fork(name)
        days[0] = 41
        main.write("g", b"1\n")
        main.checkpoint()
        assert vault.gc(keep_days=30, keep_operations=1, grace_days=0).operations
        vault.undo(fork=name)
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "f").write_bytes(b"1\n")

        assert [change.path for change in vault.apply(name, tmp_path / "there").changed_files] == [b"f"]


def test_what_a_renamed_fork_in_the_trash_has_saved_stays(tmp_path: Path) -> None:
    """It is in the trash by its last name, and the log has its checkpoint under the one before."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        main = vault.workspace()
        main.write(".gitignore", b"*.env\n")
        main.write("old.env", b"secret")
        main.checkpoint()
        fork = vault.fork("task")
        fork.remove("old.env")
        fork.write("new.env", b"1\n")
        fork.write("f", b"2\n")
        fork.checkpoint()
        vault.rename_fork("task", "renamed")
        vault.delete_fork("renamed")
        assert vault.gc(keep_days=0, keep_operations=1).operations
        vault.undo(fork="renamed")
        after = vault.fork("after", source="renamed", with_changes=False)
        assert (after.exists("old.env"), after.exists("new.env")) == (False, True)
        assert not vault.workspace("renamed").status().sidecar_changed


@pytest.mark.parametrize("linked", ["objects", "objects/pack", "objects/fan-out", "refs"])
def test_nothing_goes_where_a_link_leads(vault: Vault, tmp_path: Path, linked: str) -> None:
    """Objects and refs behind a symbolic link may be those of another repository."""
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "-q", "--bare", "--no-hardlinks", str(vault.path), str(other)], check=True)
    git(other, "update-ref", "refs/heads/of-other", "main")
    loose = subprocess.run(
        ["git", f"--git-dir={other}", "hash-object", "-w", "--stdin"], input=b"theirs", check=True, capture_output=True
    )
    linked = linked.replace("fan-out", loose.stdout[:2].decode())
    ours, theirs = vault.path / linked, other / linked
    if ours.is_dir():
        subprocess.run(["cp", "-a", "-f", f"{ours}/.", str(theirs)], check=True)
        shutil.rmtree(ours)
    ours.symlink_to(theirs)
    before = {path for path in other.rglob("*") if path.is_file() and "avfs" not in path.parts}
    vault.maintain(every_step=True)
    told = gc(vault).warnings

    assert before <= set(other.rglob("*"))
    assert linked == "refs" or any("symbolic link" in warning.message for warning in told)


@pytest.mark.parametrize("name", ["objects/info/commit-graph", "objects/pack/multi-pack-index"])
@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: bytes(len(data)), lambda data: data[: len(data) // 2]]
)
def test_what_git_makes_of_objects_is_told_from_objects(
    vault: Vault, name: str, damage: Callable[[bytes], bytes]
) -> None:
    """A damaged commit-graph or list of packs is removed by the doctor; no object is called damaged."""
    git(vault.path, "repack", "-q")
    git(vault.path, "commit-graph", "write", "--reachable")
    git(vault.path, "multi-pack-index", "write")
    place = vault.path / name
    data = place.read_bytes()
    place.unlink()
    place.write_bytes(damage(data))

    assert [problem.code for problem in vault.doctor().problems] == ["objects.bad_list"]
    assert [problem.fixed for problem in vault.doctor(repair=True).problems] == [True]
    assert vault.doctor().problems == ()
    gc(vault)
