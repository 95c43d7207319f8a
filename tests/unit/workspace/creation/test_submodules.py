"""Restores of states in which a submodule is elsewhere: what git records of it comes back, though no file tells it."""

from __future__ import annotations

import itertools
import subprocess

import pytest

from avfs_git.gitstore.formats.commits import Commit, Signature, serialize_commit
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_COMMIT
from avfs_git.gitstore.formats.trees import MODE_FILE, MODE_GITLINK, edit_tree
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.paths import Oid, TreePath
from avfs_git.sdk import Vault, Workspace
from tests.support.faults import check_vault, git

pytestmark = pytest.mark.needs("git", "whiteout", "user-xattrs")

ONE, TWO = Oid(b"\1" * 20), Oid(b"\2" * 20)

STATES: dict[str, dict[str, bytes | Oid]] = {
    "at one": {"text": b"1\n", "libs/module": ONE},
    "at two": {"text": b"1\n", "libs/module": TWO},
    "at two and more": {"text": b"2\n", "libs/module": TWO, "other": ONE},
    "a file": {"text": b"1\n", "libs/module": b"file\n"},
    "a directory": {"text": b"1\n", "libs/module/file": b"in it\n"},
    "nothing": {"text": b"1\n"},
}


@pytest.fixture
def states(vault: Vault) -> dict[str, str]:
    """Commits of git's in a line, by what they hold, the first one being the head of `main`."""
    made: dict[str, str] = {}
    with ObjectStore(vault.path) as store:
        head: tuple[Oid, ...] = ()
        for number, (name, files) in enumerate(STATES.items()):
            writer = PackWriter(store)
            edits = {
                TreePath(path.encode()): (MODE_GITLINK, Oid(what))
                if what in (ONE, TWO)
                else (MODE_FILE, writer.add(KIND_BLOB, what))
                for path, what in files.items()
            }
            tree = edit_tree(writer, writer, None, edits)
            assert tree is not None
            who = Signature("Ada", "ada@example.org", 1_700_000_000 + number)
            head = (writer.add(KIND_COMMIT, serialize_commit(Commit(tree, head, who, who, f"{name}\n"))),)
            writer.finish()
            writer.discard()
            made[name] = head[0].hex()
    subprocess.run(
        ["git", f"--git-dir={vault.path}", "update-ref", "refs/heads/work", made["at one"]],
        check=True,
        capture_output=True,
    )
    return made


def tree_of(vault: Vault, commit: str) -> str:
    """Name the tree of a commit."""
    return git(vault.path, "rev-parse", f"{commit}^{{tree}}").strip()


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(STATES, 2)))
def test_a_submodule_is_restored(vault: Vault, states: dict[str, str], before: str, after: str) -> None:
    """The restore goes from any state with or without a submodule to any other.

    The plan tells it, the tree is that state's, and undo goes back.
    """
    git(vault.path, "update-ref", "refs/heads/work", states[before])
    work = vault.workspace("work")
    planned = work.restore(states[after], dry_run=True)

    done = work.restore(states[after])

    assert planned.outcome == "planned"
    assert done.outcome == "restored"
    assert {change.path for change in planned.changed_files} == {change.path for change in done.changed_files}
    assert tree_of(vault, "work") == tree_of(vault, states[after])
    assert work.status().clean

    work.undo()

    assert tree_of(vault, "work") == tree_of(vault, states[before])
    assert work.status().clean
    check_vault(vault)


def test_only_a_submodule_is_restored(vault: Vault, states: dict[str, str]) -> None:
    """One path brings a submodule back and leaves everything else, other submodules too."""
    work = vault.workspace("work")
    work.write("text", b"mine\n")
    work.checkpoint()

    assert work.restore(states["at two and more"], paths=["libs/module"]).outcome == "restored"

    assert git(vault.path, "rev-parse", "work:libs/module").strip() == TWO.hex()
    assert git(vault.path, "show", "work:text") == "mine\n"
    assert not work.exists("other")
    assert work.restore(states["at two and more"], paths=["libs/module"]).outcome == "unchanged"
    assert work.status().clean


def test_what_is_in_a_submodule_stays(vault: Vault, states: dict[str, str]) -> None:
    """Files of a checked-out submodule are its own: they stay where another commit of it is restored."""
    work: Workspace = vault.workspace("work")
    work.write("libs/module/.git", b"gitdir: elsewhere\n")
    work.write("libs/module/code", b"code\n")
    work.checkpoint()

    work.restore(states["at two"])

    assert git(vault.path, "rev-parse", "work:libs/module").strip() == TWO.hex()
    assert work.read("libs/module/code") == b"code\n"
    assert work.status().clean

    work.undo()

    assert git(vault.path, "rev-parse", "work:libs/module").strip() == ONE.hex()
    assert work.read("libs/module/code") == b"code\n"
