"""`update` in each of its forms is undone and done again as one: its merges, and the branch that the fork follows."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault
from avfs_git.errors import CannotUndo, NothingToUndo, NoUpstream, UnrelatedHistories
from tests.support.failing import armed
from tests.support.faults import die_in
from tests.support.servers import git, make_bare

pytestmark = pytest.mark.needs("git")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A server with `main` and `dev`, and a person's clone beside it."""
    bare = make_bare(tmp_path / "bare.git")
    work = tmp_path / "person"
    git("clone", "-q", str(bare), str(work), cwd=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "first", cwd=work)
    git("push", "-q", "origin", "HEAD:main", "HEAD:dev", cwd=work)
    return bare


def push(tmp_path: Path, url: Path, branch: str, name: str) -> None:
    """Push a commit with a file of its own, as a person does."""
    work = tmp_path / "person"
    git("fetch", "-q", str(url), branch, cwd=work)
    git("checkout", "-q", "--detach", "FETCH_HEAD", cwd=work)
    (work / name).write_text(name)
    git("add", name, cwd=work)
    git("commit", "-q", "-m", name, cwd=work)
    git("push", "-q", str(url), f"HEAD:refs/heads/{branch}", cwd=work)


def look(vault: Vault) -> tuple[list[str], bool]:
    """List the files of `main`, and tell whether it follows `dev`."""
    names = sorted(info.path.decode() for info in vault.workspace("main").list_dir())
    states = [path.read_text() for path in (vault.path / "avfs").glob("workspaces/*/state")]
    return names, any("origin/dev" in state for state in states)


@pytest.mark.parametrize(
    "mounted", [False, pytest.param(True, marks=pytest.mark.needs("fuse"))], ids=["unmounted", "mounted"]
)
def test_an_update_of_three_merges_is_undone_at_once(
    tmp_path: Path, mount_dir: Path, bare: Path, mounted: bool
) -> None:
    """Ours is what it was, a push into the vault stays on the branch, and the fork follows what it followed."""
    with Avfs(mount_dir / "home") as avfs, ExitStack() as stack:
        avfs.clone_vault(str(bare), "v")
        vault = avfs.open_vault("v")
        work = vault.workspace("main")
        work.write("own", b"own")
        work.checkpoint("mine")
        push(tmp_path, bare, "main", "served")
        push(tmp_path, bare, "dev", "developed")
        push(tmp_path, vault.path, "main", "pushed")
        pushed = git("rev-parse", "main", cwd=vault.path)
        if mounted:
            stack.enter_context(work.mount(mount_dir / "tree"))
        assert look(vault) == (["own"], False)
        merges = work.update(upstream="dev")
        after = ["developed", "own", "pushed", "served"]
        assert [merge.outcome for merge in merges] == ["fast_forward", "clean", "clean"]
        assert look(vault) == (after, True)
        head = git("rev-parse", "main", cwd=vault.path)

        planned = work.undo(dry_run=True)
        undone = work.undo()
        assert look(vault) == (["own"], False)
        assert git("rev-parse", "main", cwd=vault.path) == pushed
        assert [each.kind for each in (undone.operation, *undone.joined)] == ["follow", "merge", "merge", "merge"]
        assert [each.id for each in planned.joined] == [each.id for each in undone.joined]
        assert {change.path for change in planned.changed_files} == {b"developed", b"pushed", b"served"}
        assert planned.changed_files == undone.changed_files

        work.redo()
        assert look(vault) == (after, True)
        assert git("rev-parse", "main", cwd=vault.path) == head
        with pytest.raises(NothingToUndo):
            work.redo()
        work.undo()
        assert look(vault) == (["own"], False)
        with pytest.raises(CannotUndo, match="'checkpoint mine'"):  # what comes before the update, under the push
            work.undo()


@pytest.mark.parametrize(("undone", "later"), [(False, False), (False, True), (True, False)])
def test_an_update_is_forgotten_as_a_whole(tmp_path: Path, bare: Path, undone: bool, later: bool) -> None:
    """If an operation stays for undo, so do those that undo takes back with it, even if it is a fork's last one."""
    before: tuple[list[str], bool] = ([], False)
    after = (["developed", "served"], True)
    with Avfs(tmp_path / "home") as avfs:
        avfs.clone_vault(str(bare), "v")
        vault = avfs.open_vault("v")
        work = vault.workspace("main")
        push(tmp_path, bare, "main", "served")
        push(tmp_path, bare, "dev", "developed")
        vault.fork("later", source="main")
        work.update(upstream="dev")
        if undone:
            work.undo()
        if later:
            vault.workspace("later").write("later", b"later")
            vault.workspace("later").checkpoint()
        vault.prune(keep_operations=1, grace_s=0)

        if undone:
            work.redo()
        assert look(vault) == after
        work.undo()
        assert look(vault) == before
        work.redo()
        assert look(vault) == after


def test_undo_of_an_update_with_nothing_new_takes_back_nothing_else(tmp_path: Path, bare: Path) -> None:
    """The branch that the fork follows is all that the update changed; without that it is no operation."""
    with Avfs(tmp_path / "home") as avfs:
        avfs.clone_vault(str(bare), "v")
        vault = avfs.open_vault("v")
        work = vault.workspace("main")
        work.write("own", b"own")
        work.checkpoint("mine")
        head = git("rev-parse", "main", cwd=vault.path)
        with pytest.raises(NoUpstream):
            work.update(upstream="gone")
        last = work.operations(limit=1)
        work.update()
        assert work.operations(limit=1) == last

        work.update(upstream="origin/dev")
        assert look(vault) == (["own"], True)
        assert work.undo().operation.description == "update from origin/dev"
        assert look(vault) == (["own"], False)
        assert git("rev-parse", "main", cwd=vault.path) == head
        work.redo()
        assert look(vault) == (["own"], True)
        work.update(upstream="dev")  # as before: no operation
        assert work.undo().operation.kind == "follow"
        push(tmp_path, bare, "dev", "developed")
        work.update()
        assert look(vault) == (["own"], False)


def test_an_update_follows_a_branch_of_another_remote(tmp_path: Path, bare: Path) -> None:
    """It is fetched with each update, also in a vault without an `origin`."""
    with Avfs(tmp_path / "home") as avfs:
        avfs.clone_vault(str(bare), "v")
        vault = avfs.open_vault("v")
        vault.remove_remote("origin")
        for name in ("one", "two"):
            vault.add_remote(name, str(bare))
        vault.fetch("two")
        push(tmp_path, bare, "dev", "developed")
        work = vault.workspace("main")
        assert [merge.source for merge in work.update(upstream="two/dev")] == ["two/dev"]
        push(tmp_path, bare, "dev", "later")
        assert [merge.source for merge in work.update()] == ["two/dev"]
        assert look(vault)[0] == ["developed", "later"]


def test_an_update_that_stops_at_a_conflict_is_undone_as_far_as_it_went(tmp_path: Path, bare: Path) -> None:
    """The merge before the conflict, and the branch to follow, go back together."""
    with Avfs(tmp_path / "home") as avfs:
        avfs.clone_vault(str(bare), "v")
        vault = avfs.open_vault("v")
        work = vault.workspace("main")
        work.write("developed", b"mine")
        work.checkpoint("mine")
        push(tmp_path, bare, "main", "served")
        push(tmp_path, bare, "dev", "developed")
        assert [merge.outcome for merge in work.update(upstream="dev")] == ["clean", "conflicted"]
        assert look(vault) == (["developed", "served"], True)
        work.undo()
        assert look(vault) == (["developed"], False)
        assert work.read("developed") == b"mine"


@pytest.mark.parametrize("refused_at", [1, 2, 3])
def test_a_part_of_an_update_that_cannot_be_undone_is_named(tmp_path: Path, bare: Path, refused_at: int) -> None:
    """Of the follow and the three merges, those that stay are named, and the next undo or redo goes on with them."""
    steps = 0

    def refuse(point: str) -> None:
        nonlocal steps
        steps += point == "undo.joined"
        if point == "undo.joined" and steps == refused_at:
            raise CannotUndo("it", "the test refuses it")

    with Avfs(tmp_path / "home") as avfs:
        avfs.clone_vault(str(bare), "v")
        work = avfs.open_vault("v").workspace("main")
        work.write("own", b"own")
        work.checkpoint("mine")
        push(tmp_path, bare, "main", "served")
        push(tmp_path, bare, "dev", "developed")
        push(tmp_path, work.vault.path, "main", "pushed")
        work.update(upstream="dev")
        for turn in (work.undo, work.redo):
            steps = 0
            with armed(refuse):
                first = turn()
            assert len(first.joined) == refused_at - 1
            assert len(first.left) == 4 - refused_at
            assert {each.undone for each in first.left} == {turn == work.redo}
            (told,) = first.warnings
            assert told.code == "undo.stopped"
            assert all(f"'{each.description}'" in told.message for each in first.left)
            rest = turn()
            assert [each.id for each in (rest.operation, *rest.joined)] == [each.id for each in first.left]
            assert not rest.left


def test_an_update_that_fails_names_what_it_merged_before(tmp_path: Path, bare: Path) -> None:
    """The branch to follow has another history: what the server had is merged, and one undo takes it back."""
    with Avfs(tmp_path / "home") as avfs:
        avfs.clone_vault(str(bare), "v")
        work = avfs.open_vault("v").workspace("main")
        work.write("own", b"own")
        work.checkpoint("mine")
        push(tmp_path, bare, "main", "served")
        person = tmp_path / "person"
        git("checkout", "-q", "--orphan", "other", cwd=person)
        git("commit", "-q", "--allow-empty", "-m", "another beginning", cwd=person)
        git("push", "-q", "--force", str(bare), "HEAD:refs/heads/dev", cwd=person)
        with pytest.raises(UnrelatedHistories, match="; merged before: 'origin/main'") as failed:
            work.update(upstream="dev")
        assert failed.value.details["merged"] == ["origin/main"]
        assert look(work.vault) == (["own", "served"], False)
        work.undo()
        assert look(work.vault) == (["own"], False)


def test_after_a_kill_the_log_tells_which_branch_is_followed(tmp_path: Path, bare: Path) -> None:
    """Of undo and redo of an update, at each point."""

    def run(turn: str) -> None:
        with Avfs(tmp_path / "home") as avfs:
            work = avfs.open_vault("v").workspace("main")
            work.undo() if turn == "undo" else work.redo()

    with Avfs(tmp_path / "home") as avfs:
        avfs.clone_vault(str(bare), "v")
        avfs.open_vault("v").workspace("main").update(upstream="origin/dev")
    for turn, back in (("undo", "redo"), ("redo", "undo")):
        point = 1
        while die_in(partial(run, turn), point):
            with Avfs(tmp_path / "home") as avfs:
                vault = avfs.open_vault("v")
                vault.workspace("main").checkpoint()
                told = next(one for one in vault.operations() if one.kind == "follow")
                assert look(vault)[1] == (not told.undone), (turn, point)
            if told.undone == (turn == "undo"):
                run(back)
            point += 1
        assert point > 3
