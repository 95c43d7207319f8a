"""What each way of copying a vault takes along: the table in docs/guides/remotes.md, row by row."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from avfs_git.errors import PushRejected
from avfs_git.sdk import Avfs, Vault
from tests.support.servers import git, make_bare


@pytest.fixture
def vault(home: Avfs) -> Vault:
    """A vault with a checkpoint of a label, an ignored file, and something that is in no checkpoint."""
    vault = home.create_vault("v")
    work = vault.workspace()
    work.write(".gitignore", b"*.log\n")
    work.write("a", b"a\n")
    work.write("x.log", b"x\n")
    work.checkpoint("first")
    work.write("a", b"b\n")
    return vault


def _refs(place: Path) -> set[str]:
    return set(git("for-each-ref", "--format=%(refname)", cwd=place).split())


def test_git_clone(vault: Vault, tmp_path: Path) -> None:
    """Branches and tags, and nothing else; also with `--mirror`, which `fetch` and `ls-remote` see as little of."""
    git("clone", "-q", str(vault.path), "plain", cwd=tmp_path)
    git("clone", "-q", "--mirror", str(vault.path), "mirror", cwd=tmp_path)

    assert _refs(tmp_path / "plain") == {"refs/heads/main", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"}
    assert _refs(tmp_path / "mirror") == {"refs/heads/main"}
    assert "refs/avfs" not in git("ls-remote", str(vault.path), cwd=tmp_path)
    assert git("-C", "plain", "show", "HEAD:a", cwd=tmp_path).strip() == "a"
    assert not (tmp_path / "plain" / "x.log").exists()


def test_git_push_mirror_into_a_vault(home: Avfs, vault: Vault, tmp_path: Path) -> None:
    """It moves and removes branches and tags.

    What avfs keeps for itself it neither sees nor moves, and undo still works.
    """
    git("clone", "-q", "--mirror", str(vault.path), "mirror", cwd=tmp_path)
    before = {ref for ref in _refs(vault.path) if ref.startswith("refs/avfs/")}
    git("update-ref", "refs/avfs/sidecar/main", "refs/heads/main", cwd=tmp_path / "mirror")
    argv = ["git", "push", "-q", "--mirror", str(vault.path)]
    done = subprocess.run(argv, cwd=tmp_path / "mirror", capture_output=True, check=False)
    sidecar = git("rev-parse", "refs/avfs/sidecar/main", cwd=vault.path)

    assert b"hidden ref" in done.stderr
    assert {ref for ref in _refs(vault.path) if ref.startswith("refs/avfs/")} == before
    assert sidecar != git("rev-parse", "refs/heads/main", cwd=vault.path)
    assert vault.workspace().read("x.log") == b"x\n"


def test_git_push_mirror_from_a_vault(vault: Vault, tmp_path: Path) -> None:
    """Git pushes every ref of the vault that it is run in, those of avfs too."""
    bare = make_bare(tmp_path / "server.git")
    git("push", "-q", "--mirror", str(bare), cwd=vault.path)

    assert {"refs/heads/main", "refs/avfs/sidecar/main", "refs/avfs/checkpoints/main/first"} <= _refs(bare)


def test_git_bundle(vault: Vault, tmp_path: Path) -> None:
    """`--all` takes every ref, `--branches --tags` history alone."""
    git("bundle", "create", "-q", str(tmp_path / "all"), "--all", cwd=vault.path)
    git("bundle", "create", "-q", str(tmp_path / "plain"), "--branches", "--tags", cwd=vault.path)

    assert "refs/avfs/sidecar/main" in git("bundle", "list-heads", str(tmp_path / "all"), cwd=tmp_path)
    assert "refs/avfs" not in git("bundle", "list-heads", str(tmp_path / "plain"), cwd=tmp_path)


def test_cp(home: Avfs, vault: Vault, tmp_path: Path) -> None:
    """Everything."""
    vault.close()
    shutil.copytree(vault.path, tmp_path / "copy.git", symlinks=True)
    with home.open_vault(tmp_path / "copy.git") as copy:
        work = copy.workspace()

        assert (work.read("a"), work.read("x.log")) == (b"b\n", b"x\n")
        assert [found.labels for found in work.list_checkpoints()] == [("first",)]
        assert copy.operations() != []


@pytest.mark.parametrize("asks", [False, True])
def test_avfs_clone(home: Avfs, vault: Vault, asks: bool) -> None:
    """Branches and tags.

    Labels and ignored files where they are asked for, also from a vault, which hides them from git.
    """
    home.clone_vault(str(vault.path), "w", with_checkpoints=asks, with_sidecar=asks)
    clone = home.open_vault("w")
    work = clone.workspace()

    assert work.read("a") == b"a\n"
    assert work.exists("x.log") is asks
    assert ("refs/avfs/remotes/origin/checkpoints/main/first" in _refs(clone.path)) is asks
    assert work.status().clean


def test_vault_create(home: Avfs, vault: Vault) -> None:
    """A vault made of a vault has its branches and tags."""
    made = home.create_vault("w", source=vault.path)

    assert _refs(made.path) == {"refs/heads/main"}
    assert made.workspace().read("a") == b"a\n"
    assert not made.workspace().exists("x.log")


def test_avfs_push(home: Avfs, vault: Vault, tmp_path: Path) -> None:
    """Branches; labels and ignored files where they are asked for.

    Another vault takes the branches, and says what to do.
    """
    bare = make_bare(tmp_path / "server.git")
    vault.add_remote("server", str(bare))
    vault.push(remote="server", with_sidecar=True, with_checkpoints=True)
    other = home.create_vault("other", branch="none")
    vault.add_remote("other", str(other.path))
    with pytest.raises(PushRejected) as rejected:
        vault.push(remote="other", with_sidecar=True)

    assert _refs(bare) == {"refs/heads/main", "refs/avfs/sidecar/main", "refs/avfs/checkpoints/main/first"}
    assert "refs/heads/main" in _refs(other.path)
    assert not [ref for ref in _refs(other.path) if "sidecar" in ref]
    assert "avfs fetch --with-sidecar" in (rejected.value.hint or "")


def test_a_vault_of_an_older_avfs_hides_its_refs_when_it_is_used(home: Avfs, vault: Vault, tmp_path: Path) -> None:
    """What is missing in its configuration is added by the first command in one of its workspaces."""
    git("config", "--unset", "transfer.hideRefs", cwd=vault.path)
    assert "refs/avfs" in git("ls-remote", str(vault.path), cwd=tmp_path)
    vault.workspace().exec("true", backend="checkout")

    assert "refs/avfs" not in git("ls-remote", str(vault.path), cwd=tmp_path)
