"""What comes in is judged once, at the door, and the same at each."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avfs_git.errors import AvfsError
from avfs_git.gitstore.judge import list_objects
from avfs_git.gitstore.remote import transport
from avfs_git.paths import Oid
from avfs_git.sdk import Avfs
from tests.support.hostile import HARMLESS, HOSTILE, put_commit, put_tree
from tests.support.servers import git, make_bare

Door = Callable[[Avfs, Path, Path], Path]


def _create(home: Avfs, bare: Path, tmp_path: Path) -> Path:
    return home.create_vault("v", source=bare).path


def _create_of_working_tree(home: Avfs, bare: Path, tmp_path: Path) -> Path:
    work = tmp_path / "work"
    subprocess.run(["git", "init", "-q", "-b", "main", str(work)], check=True)
    shutil.copytree(bare / "objects", work / ".git" / "objects", dirs_exist_ok=True)
    git("update-ref", "refs/heads/main", git("rev-parse", "main", cwd=bare).strip(), cwd=work)
    return home.create_vault("v", source=work).path


def _clone(home: Avfs, bare: Path, tmp_path: Path) -> Path:
    home.clone_vault(str(bare), "v")
    return home.open_vault("v").path


def _clone_lazily(home: Avfs, bare: Path, tmp_path: Path) -> Path:
    home.clone_vault(str(bare), "v", lazy=True)
    return home.open_vault("v").path


def _fetch(home: Avfs, bare: Path, tmp_path: Path) -> Path:
    vault = home.create_vault("v")
    vault.add_remote("origin", str(bare))
    vault.fetch()
    return vault.path


def _push(home: Avfs, bare: Path, tmp_path: Path) -> Path:
    vault = home.create_vault("v")
    argv = ["git", "push", "-q", str(vault.path), "main:pushed"]
    if subprocess.run(argv, cwd=bare, capture_output=True, check=False).returncode:
        raise AvfsError("git refuses the push")
    return vault.path


def _adopt(home: Avfs, bare: Path, tmp_path: Path) -> Path:
    for key in ("http.receivepack", "uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        git("config", "--unset", key, cwd=bare)
    with home.open_vault(bare) as vault:
        vault.fork("mine")
    return bare


DOORS: list[Door] = [_create, _create_of_working_tree, _clone, _clone_lazily, _fetch, _push, _adopt]


def _name(door: Door) -> str:
    return door.__name__.strip("_")


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("door", DOORS, ids=_name)
def test_a_hostile_tree_gets_in_nowhere(door: Door, case: str, home: Avfs, tmp_path: Path) -> None:
    """Each is refused with a typed error; no vault is left that holds it."""
    if door is _clone_lazily and (case.startswith("gitmodules") or case == "missing"):
        pytest.skip("contents of files come later")
    bare = make_bare(tmp_path / "served.git")
    put_commit(bare, HOSTILE[case](bare), ref="refs/heads/main")
    with pytest.raises(AvfsError):
        door(home, bare, tmp_path)

    for vault in home.list_vaults():
        assert home.open_vault(vault.name).doctor().healthy
    assert git("for-each-ref", "refs/avfs", "refs/heads/mine", cwd=bare) == ""


@pytest.mark.parametrize("case", HARMLESS)
@pytest.mark.parametrize("door", DOORS, ids=_name)
def test_a_harmless_tree_gets_in_everywhere(door: Door, case: str, home: Avfs, tmp_path: Path) -> None:
    """What git warns of and avfs reads as it is meant comes in, and the vault is healthy then."""
    bare = make_bare(tmp_path / "served.git")
    put_commit(bare, HARMLESS[case](bare), ref="refs/heads/main")
    place = door(home, bare, tmp_path)
    tree = git("rev-parse", "main^{tree}", cwd=bare).strip()

    assert tree in git("log", "--all", "--format=%T", cwd=place)
    if door is not _adopt:  # its configuration is its owner's
        assert home.open_vault(place).doctor().healthy


def test_what_is_refused_is_listed(home: Avfs, tmp_path: Path) -> None:
    """An error names all trees that are refused, also those of old commits."""
    bare = make_bare(tmp_path / "served.git")
    first = put_commit(bare, HOSTILE["twice"](bare))
    second = put_commit(bare, HOSTILE["unsorted"](bare), parent=first)
    put_commit(bare, put_tree(bare, {"a": b"a\n"}), ref="refs/heads/main", parent=second)
    with pytest.raises(AvfsError) as refused:
        home.create_vault("v", source=bare)
    faults = refused.value.details["refused"]

    assert refused.value.code == "vault.hostile_objects"
    assert isinstance(faults, list)
    assert sorted(fault["reason"] for fault in faults) == [
        "the entries of the tree are not in order",
        "the entry 'a' is there twice",
    ]


def test_only_what_is_new_is_looked_at(home: Avfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch of one commit judges its objects, whatever the vault holds."""
    bare = make_bare(tmp_path / "served.git")
    parent = put_commit(
        bare, put_tree(bare, {str(number): b"%d\n" % number for number in range(50)}), ref="refs/heads/main"
    )
    vault = home.create_vault("v")
    vault.add_remote("origin", str(bare))
    vault.fetch()
    counts: list[int] = []

    def count(objects_dir: Path) -> Iterator[Oid]:
        found = list(list_objects(objects_dir))
        counts.append(len(found))
        return iter(found)

    monkeypatch.setattr(transport, "list_objects", count)
    put_commit(bare, put_tree(bare, {"new": b"new\n"}), ref="refs/heads/main", parent=parent)
    vault.fetch()

    assert counts == [3]
