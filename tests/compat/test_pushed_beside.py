"""Labels and ignored files that are pushed with a fork: what others have pushed there stays, unless it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avfs_git.errors import PushRejected
from avfs_git.sdk import Avfs, Vault
from tests.support.servers import git, make_bare

LABEL, SIDECAR = "refs/avfs/checkpoints/main/good", "refs/avfs/sidecar/main"
Machine = Callable[[str], Vault]


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A server with one commit, whose rules ignore `.env`."""
    bare = make_bare(tmp_path / "served.git")
    with Avfs(tmp_path / "maker") as avfs, avfs.create_vault("v") as vault:
        vault.workspace().write(".gitignore", b".env\n")
        vault.workspace().checkpoint()
        vault.add_remote("origin", str(bare))
        vault.push()
    return bare


@pytest.fixture
def machine(bare: Path, tmp_path: Path) -> Iterator[Machine]:
    """Makes machines: each with a home, and a vault cloned with its ignored files."""
    opened: list[Avfs] = []

    def make(name: str) -> Vault:
        opened.append(Avfs(tmp_path / name))
        opened[-1].clone_vault(str(bare), "v", with_sidecar=True)
        return opened[-1].open_vault("v")

    yield make
    for avfs in opened:
        avfs.close()


def save(vault: Vault, name: str, label: str | None = None) -> str:
    """Write a file and an ignored one, and make a checkpoint; return its commit."""
    vault.workspace().write(name, name.encode())
    vault.workspace().write(".env", name.encode())
    saved = vault.workspace().checkpoint(label).checkpoint
    assert saved is not None
    return saved.id


def refs_of(bare: Path) -> dict[str, str]:
    """List the refs of the server."""
    lines = git("for-each-ref", "--format=%(refname) %(objectname)", cwd=bare).splitlines()
    return dict(line.split(" ") for line in lines)


def test_what_goes_with_a_branch_waits_for_it(bare: Path, machine: Machine) -> None:
    """Where the branch is refused, labels and ignored files of the other machine stay there; other forks go."""
    desktop, laptop = machine("desktop"), machine("laptop")
    save(desktop, "d1", "first")
    desktop.push(with_sidecar=True, with_checkpoints=True)
    laptop.fetch(with_sidecar=True, with_checkpoints=True)
    laptop.pull()
    save(laptop, "l1", "good")
    laptop.push(with_sidecar=True, with_checkpoints=True)
    there = refs_of(bare)
    save(desktop, "d2", "good")
    desktop.fork("topic")
    desktop.fetch(with_sidecar=True, with_checkpoints=True)

    with pytest.raises(PushRejected) as rejected:
        desktop.push(["main", "topic"], with_sidecar=True, with_checkpoints=True)

    after = refs_of(bare)
    assert {ref: oid for ref, oid in after.items() if "/main" in ref} == there
    assert {ref for ref in after if ref not in there} == {"refs/heads/topic", "refs/avfs/sidecar/topic"}
    details: dict[str, Any] = rejected.value.details
    assert {each["ref"]: each["reason"] for each in details["rejected"]} == {
        "main": "non-fast-forward",
        LABEL: "its branch was not taken",
        "refs/avfs/checkpoints/main/first": "its branch was not taken",
        SIDECAR: "its branch was not taken",
    }
    assert set(details["pushed"]) == set(after) - set(there)
    assert "avfs pull main" in (rejected.value.hint or "")
    assert machine("third").workspace().read(".env") == b"l1"


@pytest.mark.parametrize("way", ["unseen", "fetched", "pulled"])
def test_a_label_of_another_vault_stays(bare: Path, machine: Machine, way: str) -> None:
    """Also where it was fetched, and where ours follows its commit; a label of our own moves on, and a lease moves any.

    The hint leads on.
    """
    theirs, ours = machine("theirs"), machine("ours")
    good = save(theirs, "t", "good")
    theirs.push(with_checkpoints=True)
    if way == "pulled":
        ours.pull()
    mine = save(ours, "o", "good")
    own = save(ours, "o2", "own")
    if way == "fetched":
        ours.fetch(with_checkpoints=True)
    ours.pull()

    with pytest.raises(PushRejected) as rejected:
        ours.push(with_checkpoints=True)

    assert (refs_of(bare)[LABEL], refs_of(bare)["refs/avfs/checkpoints/main/own"]) == (good, own)
    assert rejected.value.hint == (
        "It names another commit there: `avfs fetch origin --with-checkpoints` brings it as 'origin/main@good'. "
        "Choose another label, or replace it there with "
        "`avfs push main --remote origin --with-checkpoints --force-with-lease`."
    )
    ours.fetch(with_checkpoints=True)
    with pytest.raises(PushRejected):
        ours.push(with_checkpoints=True)
    with ours.fork("look", at="origin/main@good") as look:
        assert look.read("t") == b"t"
    ours.push(with_checkpoints=True, force_with_lease=True)
    assert refs_of(bare)[LABEL] == mine
    with pytest.raises(PushRejected):
        theirs.push(["main"], with_checkpoints=True, force_with_lease=True)
    ours.workspace().delete_checkpoint("good")
    moved = save(ours, "o3", "good")
    ours.push(with_checkpoints=True)
    assert refs_of(bare)[LABEL] == moved


@pytest.mark.parametrize("force", [False, True])
def test_ignored_files_that_were_not_fetched_stay(bare: Path, machine: Machine, force: bool) -> None:
    """The hint leads on: after the fetch that it names, a fork of theirs has their files, and the push replaces them."""
    theirs, ours = machine("theirs"), machine("ours")
    save(theirs, "t")
    theirs.push(with_sidecar=True)
    there = refs_of(bare)[SIDECAR]
    save(ours, "o")
    ours.pull()

    with pytest.raises(PushRejected) as rejected:
        ours.push(with_sidecar=True, force_with_lease=force)

    assert refs_of(bare)[SIDECAR] == there
    assert rejected.value.hint == (
        "It has ignored files that were not fetched: `avfs fetch origin --with-sidecar` brings them, "
        "`avfs push main --remote origin --with-sidecar` then puts those of here in their place."
    )
    ours.fetch("origin", with_sidecar=True)
    with ours.fork("look", at=theirs.fork_info("main").head) as look:
        assert look.read(".env") == b"t"
    ours.push(["main"], "origin", with_sidecar=True)
    assert machine("third").workspace().read(".env") == b"o"


def test_far_above_the_last_checkpoint_no_ignored_files_are_pushed(machine: Machine, bare: Path) -> None:
    """The checkpoint that the warning names has them."""
    one = machine("one")
    save(one, "a")
    one.workspace().exec(shell="for n in $(seq 200); do git commit -q --allow-empty -m $n; done")

    (told,) = one.push(with_sidecar=True).warnings

    assert told.code == "push.no_sidecar"
    assert SIDECAR not in refs_of(bare)
    assert "`avfs checkpoint save --fork main -m WORDS`" in told.message
    one.workspace().checkpoint(description="words")
    assert not one.push(with_sidecar=True).warnings
    assert machine("two").workspace().read(".env") == b"a"


@pytest.mark.parametrize("second", ["push", "plain push", "git push"])
def test_below_a_commit_of_gits_the_nearest_checkpoint_has_the_ignored_files(
    machine: Machine, bare: Path, tmp_path: Path, second: str
) -> None:
    """Whether git's commit is pushed with them, or on top of them; a fork begins with them wherever it begins."""
    one = machine("one")
    save(one, "a")
    if second != "push":
        one.push(with_sidecar=True)
    if second == "git push":
        git("clone", "-q", str(bare), "plain", cwd=tmp_path)
        git("commit", "-q", "--allow-empty", "-m", "plain", cwd=tmp_path / "plain")
        git("push", "-q", cwd=tmp_path / "plain")
    else:
        one.workspace().exec(shell="echo b > b; git add b; git commit -q -m b; echo c > b; git commit -q -a -m c")
        assert [told.code for told in one.push(with_sidecar=second == "push").warnings] in ([], ["push.uncommitted"])

    two = machine("two")

    assert two.workspace().read(".env") == b"a"
    for number, at in enumerate(("origin/main", "HEAD", "HEAD~1", "main")):
        assert two.fork(f"at-{number}", at=at).read(".env") == b"a"
    two.workspace().write(".env", b"two")
    two.workspace().checkpoint()
    two.push(with_sidecar=True)
    assert machine("three").workspace().read(".env") == b"two"


@pytest.mark.slow
@pytest.mark.needs("fuse", "user-xattrs", "whiteout")
@pytest.mark.parametrize("commits", [False, True])
def test_what_a_checkpoint_took_away_is_not_pushed_where_git_has_left_that(
    machine: Machine, bare: Path, tmp_path: Path, mount_dir: Path, *, commits: bool
) -> None:
    """The nearest one below has it. Nor has a new fork what is not in the workspace any more."""
    (tmp_path / "env").write_bytes(b"password")
    one = machine("one")
    one.workspace().write(".env", b"password")
    one.workspace().checkpoint()
    save(one, "b")
    with one.workspace().mount(mount_dir / "tree") as session:
        git("reset", "-q", "--soft", "HEAD~1", cwd=session.path)
        if commits:
            git("commit", "-q", "-m", "again", cwd=session.path)
        else:
            git("reset", "-q", "--hard", cwd=session.path)

        told = one.push(with_sidecar=True).warnings

        assert told[-1].code == "push.no_sidecar"
        assert SIDECAR not in refs_of(bare)
        assert git("hash-object", "env", cwd=tmp_path) not in git(
            "cat-file", "--batch-all-objects", "--batch-check", cwd=bare
        )
        for number, at in enumerate((None, "HEAD")):
            assert one.fork(f"fork-{number}", source="main", at=at).read(".env") == b"b"
        one.workspace().checkpoint(description="words")
        one.push(with_sidecar=True)
    assert machine("two").workspace().read(".env") == b"b"


def test_a_fork_at_a_pulled_commit_of_gits_has_what_its_source_has(
    machine: Machine, bare: Path, tmp_path: Path
) -> None:
    """The log says of that commit what is beside it, which names nothing; also after the fork was renamed."""
    one = machine("one")
    save(one, "a")
    one.push()
    git("clone", "-q", str(bare), "plain", cwd=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "plain", cwd=tmp_path / "plain")
    git("push", "-q", cwd=tmp_path / "plain")
    one.pull()
    one.fork("side").close()
    one.rename_fork("side", "other")

    for name in ("main", "other"):
        for at in (None, "HEAD"):
            with one.fork(f"{name}-{at}", source=name, at=at) as fork:
                assert fork.read(".env") == b"a"


def test_a_new_fork_publishes_no_ignored_files_of_another(machine: Machine, bare: Path) -> None:
    """Its commit names those of the fork that was merged by a fast-forward; its own are those of its source."""
    one = machine("one")
    save(one, "a")
    side = one.fork("side")
    side.write(".env", b"side")
    side.write("new", b"new")
    side.checkpoint()
    one.workspace().merge("side")
    one.fork("copy")

    told = one.push(["main", "copy"], with_sidecar=True).warnings

    assert [each.code for each in told] == ["push.no_sidecar"] * 2
    assert not {ref for ref in refs_of(bare) if ref.startswith("refs/avfs/sidecar/")}
    copy = one.workspace("copy")
    copy.write("more", b"more")
    copy.checkpoint()
    assert not one.push(["copy"], with_sidecar=True).warnings
    with machine("two").fork("theirs", at="origin/copy") as theirs:
        assert theirs.read(".env") == b"a"


def test_ignored_files_that_are_not_here_are_not_replaced_by_older_ones(machine: Machine, bare: Path) -> None:
    """On top of a pulled checkpoint, of which they were not fetched, git makes a commit."""
    one, two = machine("one"), machine("two")
    save(two, "t")
    two.push(with_sidecar=True)
    one.fetch(with_sidecar=True)
    one.pull()
    save(one, "a")
    one.push(with_sidecar=True)
    before = refs_of(bare)[SIDECAR]
    two.fetch()
    two.pull()
    two.workspace().exec(shell="echo b > b; git add b; git commit -q -m b")

    assert "push.no_sidecar" not in [told.code for told in two.push(with_sidecar=True).warnings]

    assert refs_of(bare)[SIDECAR] == before
    with two.fork("theirs", at="origin/main") as theirs:
        assert not theirs.exists(".env")


def test_ignored_files_of_an_undone_checkpoint_are_not_pushed(machine: Machine, bare: Path, tmp_path: Path) -> None:
    """The newest sidecar is of that one; what goes is that of the commit which is pushed."""
    (tmp_path / "secret").write_bytes(b"secret")
    one = machine("one")
    save(one, "a")
    save(one, "secret")
    one.workspace().undo()

    one.push(with_sidecar=True)

    assert machine("two").workspace().read(".env") == b"a"
    assert git("hash-object", "secret", cwd=tmp_path) not in git(
        "cat-file", "--batch-all-objects", "--batch-check", cwd=bare
    )


def test_a_push_of_what_was_pulled_changes_nothing(machine: Machine, bare: Path) -> None:
    """Beside the pulled commit, this machine has the ignored files of before; the commit has the other's."""
    one = machine("one")
    save(one, "a")
    one.push(with_sidecar=True)
    two = machine("two")
    save(one, "b")
    one.push(with_sidecar=True)
    before = refs_of(bare)
    two.fetch(with_sidecar=True)
    two.pull()

    two.push(with_sidecar=True)

    assert refs_of(bare) == before
    assert machine("three").workspace().read(".env") == b"b"


def test_ignored_files_in_no_checkpoint_are_warned_of(machine: Machine) -> None:
    """Where they are to be pushed; else they are no part of a push."""
    one = machine("one")
    save(one, "a")
    one.workspace().write(".env", b"later")

    assert not one.push().warnings
    (told,) = one.push(with_sidecar=True).warnings
    assert told.code == "push.uncommitted"


def test_a_fork_at_what_was_pulled_has_the_ignored_files_of_that(machine: Machine) -> None:
    """Not those of the fork that has moved on to the same commit, and which keeps its own."""
    one = machine("one")
    save(one, "a")
    one.push(with_sidecar=True)
    two = machine("two")
    save(one, "b", "good")
    one.push(with_sidecar=True, with_checkpoints=True)
    two.fetch(with_sidecar=True, with_checkpoints=True)
    two.pull()

    for number, at in enumerate(("origin/main", "origin/main@good")):
        assert two.fork(f"theirs-{number}", at=at).read(".env") == b"b"
    assert two.workspace().restore("origin/main", dry_run=True).sidecar_changed
    two.workspace().restore("origin/main")
    assert two.workspace().read(".env") == b"b"
    two.workspace().undo()
    for number, own in enumerate(("HEAD", "main", "refs/heads/main", None)):
        assert two.fork(f"own-{number}", at=own).read(".env") == b"a"
    side = two.fork("side")
    side.write(".env", b"side")
    side.write("new", b"new")
    side.checkpoint()
    two.workspace().merge("side")
    for number, at in enumerate(("side", "refs/heads/side")):
        assert two.fork(f"of-side-{number}", at=at).read(".env") == b"side"
    two.workspace().restore("side", paths=[".env"])
    assert two.workspace().read(".env") == b"side"
    two.workspace().undo()
    assert two.workspace().read(".env") == b"a"


def test_a_commit_whose_ignored_files_were_not_fetched_is_none_of_gits(machine: Machine) -> None:
    """It names them; the server has them."""
    one, two = machine("one"), machine("two")
    save(one, "a")
    one.push(with_sidecar=True)
    two.fetch()
    two.pull()

    assert not two.push(with_sidecar=True).warnings


def test_what_a_fetch_left_out_stays_at_the_server(machine: Machine, bare: Path) -> None:
    """Where something has changed beside it, too, until it was fetched: then the push is meant."""
    one = machine("one")
    one.workspace().exec(
        shell="git init -q nested; touch nested/file; cd nested; git add file; git commit -q -m nested"
    )
    save(one, "a")
    one.push(with_sidecar=True)
    before = refs_of(bare)
    two = machine("two")
    assert not two.workspace().exists("nested")

    assert not two.push(with_sidecar=True).warnings

    assert refs_of(bare) == before
    save(two, "b")
    with pytest.raises(PushRejected) as refused:
        two.push(with_sidecar=True)
    assert refs_of(bare)[SIDECAR] == before[SIDECAR]
    assert refused.value.hint == (
        "It has repositories that were left out here ('nested/.git'): `avfs fetch origin --with-sidecar --with-git-dirs` "
        "brings them, `avfs push main --remote origin --with-sidecar` then puts what is here in their place."
    )
    two.fetch("origin", with_sidecar=True, with_git_dirs=True)
    with two.fork("theirs", at="HEAD~1") as theirs:
        assert theirs.exists("nested/.git")
    two.push(["main"], "origin", with_sidecar=True)
    assert machine("three").workspace().read(".env") == b"b"


def test_a_vault_as_a_server_takes_no_sidecar_and_says_so(machine: Machine, tmp_path: Path) -> None:
    """Also where a fetch has seen the one that it hides from pushes: fetching again would change nothing."""
    one = machine("one")
    save(one, "a")
    with Avfs(tmp_path / "two") as avfs:
        avfs.clone_vault(str(one.path), "v", with_sidecar=True)
        with avfs.open_vault("v") as two:
            save(two, "b")
            with pytest.raises(PushRejected) as refused:
                two.push(with_sidecar=True)
    assert "That is a vault" in str(refused.value.hint)
