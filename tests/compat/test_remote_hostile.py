"""What a hostile server sends: refused with its own error, nothing executed, written or moved."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.errors import AvfsError, RemoteDataRefused
from avfs_git.sdk import Avfs, Vault
from tests.support.servers import git, make_bare

BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A server's repository with one harmless commit on `main`."""
    bare = make_bare(tmp_path / "served.git")
    put(bare, b"hello\n", "blob")
    tree = put(bare, b"", "tree")
    commit(bare, tree, "main")
    return bare


@pytest.fixture
def vault(tmp_path: Path, bare: Path) -> Iterator[Vault]:
    """A vault that knows it and has fetched once."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.add_remote("origin", str(bare))
        vault.fetch()
        yield vault


def put(bare: Path, data: bytes, kind: str) -> str:
    """Store an object as it is, whatever git thinks of it."""
    argv = ["git", f"--git-dir={bare}", "hash-object", "--literally", "-w", "--stdin", "-t", kind]
    return subprocess.run(argv, input=data, check=True, capture_output=True).stdout.decode().strip()


def entry(mode: str, name: bytes, oid: str) -> bytes:
    """Write an entry of a tree."""
    return mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid)


def commit(bare: Path, tree: str, branch: str) -> str:
    """Make a commit on a branch."""
    text = f"tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n"
    made = put(bare, text.encode(), "commit")
    git("update-ref", f"refs/heads/{branch}", made, cwd=bare)
    return made


def check_refused(vault: Vault, bare: Path, tmp_path: Path) -> None:
    """Demand that neither a fetch nor a clone takes it, and that nothing has moved."""
    before = git("for-each-ref", cwd=vault.path)
    with pytest.raises(RemoteDataRefused) as refused:
        vault.fetch()
    with Avfs(tmp_path / "other") as avfs:
        for lazy in (False, True):
            with pytest.raises(RemoteDataRefused):
                avfs.clone_vault(str(bare), "w", lazy=lazy)
        assert avfs.list_vaults() == []

    assert refused.value.details["url"] == str(bare)
    assert git("for-each-ref", cwd=vault.path) == before
    assert list((vault.path / "avfs/exchange").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        b".git",
        b".GIT",
        b".Git",
        b"..",
        b".",
        b"",
        b"a/b",
        b"git~1",
        b".git ",
        b".git.",
        b".g\xe2\x80\x8cit",
        b".git::$INDEX_ALLOCATION",
    ],
)
def test_a_tree_with_a_hostile_name_is_refused(vault: Vault, bare: Path, tmp_path: Path, name: bytes) -> None:
    """Every spelling of `.git`, what leads elsewhere, and names with a slash do not get in."""
    blob = put(bare, b"", "blob")
    below = put(bare, entry("100644", name, blob), "tree")
    commit(bare, put(bare, entry("40000", b"dir", below), "tree"), "topic")

    check_refused(vault, bare, tmp_path)


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param(lambda blob, tree: entry("100644", b"a", blob) * 2, id="duplicate"),
        pytest.param(lambda blob, tree: entry("100644", b"b", blob) + entry("100644", b"a", blob), id="unsorted"),
        pytest.param(lambda blob, tree: entry("100644", b"a", "0" * 40), id="null id"),
        pytest.param(lambda blob, tree: entry("100644", b"a", tree), id="tree as a file"),
        pytest.param(lambda blob, tree: entry("40000", b"a", blob), id="file as a tree"),
        pytest.param(lambda blob, tree: entry("120000", b".gitmodules", blob), id="linked .gitmodules"),
        pytest.param(lambda blob, tree: b"100644 a\0short", id="cut off"),
    ],
)
def test_a_tree_that_git_would_not_write_is_refused(vault: Vault, bare: Path, tmp_path: Path, entries: object) -> None:
    """Twice the same name, disorder, null ids and entries that are not what they say do not get in."""
    assert callable(entries)
    blob = put(bare, b"x", "blob")
    tree = put(bare, b"", "tree")
    commit(bare, put(bare, entries(blob, tree), "tree"), "topic")

    before = git("for-each-ref", cwd=vault.path)
    with pytest.raises(AvfsError):
        vault.fetch()

    assert git("for-each-ref", cwd=vault.path) == before


@pytest.mark.parametrize(
    "text",
    [
        b'[submodule "a"]\n\tpath = a\n\turl = -u./payload\n',
        b'[submodule "a"]\n\tpath = --upload-pack=x\n\turl = https://example.org\n',
        b'[submodule "../../x"]\n\tpath = a\n\turl = https://example.org\n',
        b'[submodule "a"]\n\tpath = a\n\turl = https://example.org/%0ahost=x\n',
        b'[submodule "a"]\n\tpath = a\n\tupdate = !touch x\n\turl = https://example.org\n',
    ],
)
def test_a_gitmodules_that_git_could_run_is_refused(vault: Vault, bare: Path, tmp_path: Path, text: bytes) -> None:
    """Addresses and paths that are options, names that lead elsewhere and commands do not get in."""
    blob = put(bare, text, "blob")
    commit(bare, put(bare, entry("100644", b".gitmodules", blob), "tree"), "topic")

    before = git("for-each-ref", cwd=vault.path)
    with pytest.raises(RemoteDataRefused):
        vault.fetch()

    assert git("for-each-ref", cwd=vault.path) == before


def test_a_missing_object_is_no_history(vault: Vault, bare: Path) -> None:
    """A branch whose tree the server does not have brings nothing."""
    commit(bare, put(bare, entry("100644", b"a", "1" * 40), "tree"), "topic")
    before = git("for-each-ref", cwd=vault.path)

    with pytest.raises(AvfsError):
        vault.fetch()

    assert git("for-each-ref", cwd=vault.path) == before


def test_what_a_push_brings_into_a_vault_is_checked(vault: Vault, bare: Path) -> None:
    """Git refuses hostile trees that are pushed into a vault; the configuration that avfs gave it says so."""
    blob = put(bare, b"", "blob")
    commit(bare, put(bare, entry("100644", b".git", blob), "tree"), "topic")

    with pytest.raises(subprocess.CalledProcessError, match="returned non-zero"):
        git("push", str(vault.path), "topic", cwd=bare)

    assert not vault.has_fork("topic")


def test_old_faults_that_harm_nothing_get_in(vault: Vault, bare: Path) -> None:
    """A time zone that is none, and a mode with a zero in front, stand in well-known histories: both can be read."""
    blob = put(bare, b"x\n", "blob")
    below = put(bare, entry("100644", b"a", blob), "tree")
    tree = put(bare, entry("040000", b"dir", below), "tree")
    text = f"tree {tree}\nauthor A <a@b> 1 +051800\ncommitter A <a@b> 1 +051800\n\nx\n"
    git("update-ref", "refs/heads/old", put(bare, text.encode(), "commit"), cwd=bare)

    vault.fetch()
    fork = vault.fork("old", at="origin/old")

    assert vault.log("origin/old")[0].checkpoint.message == "x"
    assert fork.read("dir/a") == b"x\n"
