"""Sidecars that this vault did not make: they count for nothing, however they came, unless they were asked for."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from avfs_git.errors import InvalidInput, NotAVault
from avfs_git.model import Kind
from avfs_git.sdk import Avfs, Vault, Workspace
from tests.support.hostile import hostile_git_dir, put_commit, put_tree
from tests.support.servers import git, make_bare


def _record(mode: str, xattrs: str, name: str) -> bytes:
    return f"1 {mode} {xattrs} {name}\0".encode()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A repository whose `main` names a sidecar with a hostile `.git`, odd bits and attributes.

    The sidecar is a branch, too.
    """
    bare = make_bare(tmp_path / "served.git")
    tree = put_tree(bare, {".gitignore": b"tool\n", "lib": {"a": b"a\n"}})
    meta = _record("4644", "user.mine=eA==,user.overlay.opaque=eQ==,trusted.overlay.redirect=eA==", "tool")
    side = put_tree(
        bare, {"meta": meta, "tool": b"#!/bin/sh\n", "lib": {".git": hostile_git_dir(tmp_path / "ran")}}, "="
    )
    sidecar = put_commit(bare, side, ref="refs/heads/side")
    put_commit(bare, tree, ref="refs/heads/main", sidecar=sidecar)
    return bare


def _publish(bare: Path) -> None:
    """Have the sidecar where an avfs looks that was asked to."""
    git("update-ref", "refs/avfs/sidecar/main", "refs/heads/side", cwd=bare)


def _walk(work: Workspace) -> set[str]:
    found: set[str] = set()
    waiting = [""]
    while waiting:
        directory = waiting.pop()
        for entry in work.list_dir(directory):
            path = os.fsdecode(entry.path)
            found.add(path)
            if entry.kind is Kind.DIRECTORY:
                waiting.append(path)
    return found


def _check_nothing(vault: Vault, fork: str) -> None:
    work = vault.workspace(fork)

    assert _walk(work) == {".gitignore", "lib", "lib/a"}
    assert work.status().clean
    assert work.checkpoint("mine").outcome in {"created", "unchanged"}
    assert _walk(work) == {".gitignore", "lib", "lib/a"}


def test_a_clone_brings_no_sidecar(home: Avfs, bare: Path) -> None:
    """A cloned commit that names a sidecar, which came along as a branch, shows its tree and nothing else."""
    for lazy in (False, True):
        home.clone_vault(str(bare), f"v{lazy}", lazy=lazy)
        vault = home.open_vault(f"v{lazy}")
        _check_nothing(vault, "main")
        vault.fork("again", at="origin/main")
        _check_nothing(vault, "again")


def test_a_fetch_and_a_pull_bring_no_sidecar(home: Avfs, bare: Path) -> None:
    """Neither a fork of a fetched commit nor a merge of one has the ignored files that it names."""
    vault = home.create_vault("v")
    vault.add_remote("origin", str(bare))
    vault.fetch()
    vault.fork("theirs", at="origin/main")
    _check_nothing(vault, "theirs")
    vault.fork("main2", at="origin/main")
    old, side = git("rev-parse", "main", "side", cwd=bare).split()
    tree = put_tree(bare, {".gitignore": b"tool\n", "lib": {"a": b"a\n", "b": b"b\n"}})
    put_commit(bare, tree, ref="refs/heads/main2", parent=old, sidecar=side)
    vault.workspace("main2").write("mine", b"mine\n")
    vault.workspace("main2").checkpoint("mine")
    vault.pull("main2")

    assert _walk(vault.workspace("main2")) == {".gitignore", "lib", "lib/a", "lib/b", "mine"}


def test_a_push_into_a_vault_brings_no_sidecar(home: Avfs, bare: Path) -> None:
    """What git pushes into a vault is a branch, whatever its commits say."""
    vault = home.create_vault("v")
    git("push", "-q", str(vault.path), "main:pushed", "side", cwd=bare)
    _check_nothing(vault, "pushed")


@pytest.mark.parametrize("has_working_tree", [False, True])
def test_an_import_brings_no_sidecar(home: Avfs, bare: Path, tmp_path: Path, has_working_tree: bool) -> None:
    """A vault made of a repository has its history, and no sidecar of it."""
    source = bare
    if has_working_tree:
        source = tmp_path / "work"
        git("clone", "-q", str(bare), str(source), cwd=tmp_path)
        git("fetch", "-q", "origin", "side:side", cwd=source)
    _check_nothing(home.create_vault("v", source=source), "main")


def test_an_adopted_repository_has_no_sidecar(home: Avfs, bare: Path) -> None:
    """A bare repository that is used as a vault shows its trees only.

    With refs of another vault it is not written to.
    """
    for key in ("http.receivepack", "uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        git("config", "--unset", key, cwd=bare)
    with home.open_vault(bare) as vault:
        _check_nothing(vault, "main")
    shutil.rmtree(bare / "avfs")
    for ref in git("for-each-ref", "--format=%(refname)", "refs/avfs", cwd=bare).split():
        git("update-ref", "-d", ref, cwd=bare)
    _publish(bare)
    with home.open_vault(bare) as vault:
        assert len(vault.log()) == 1
        with pytest.raises(NotAVault, match="refs/avfs/sidecar/main"):
            vault.workspace().exists("lib/.git")


def test_a_sidecar_of_ours_counts_for_no_foreign_commit(home: Avfs, tmp_path: Path) -> None:
    """A commit that somebody pushes, and that names a sidecar which this vault has made, does not show it."""
    vault = home.create_vault("v")
    work = vault.workspace()
    work.write(".gitignore", b".env\n")
    work.write(".env", b"secret\n")
    ours = work.checkpoint("ours").checkpoint
    assert ours is not None
    assert ours.sidecar is not None
    bare = make_bare(tmp_path / "other.git")
    put_commit(bare, put_tree(bare, {"run": b"cat .env\n"}), ref="refs/heads/theirs", sidecar=ours.sidecar)
    git("push", "-q", str(vault.path), "theirs", cwd=bare)

    assert _walk(vault.workspace("theirs")) == {"run"}
    assert _walk(vault.workspace()) == {".gitignore", ".env"}


def test_a_fetched_sidecar_is_made_harmless(home: Avfs, bare: Path, tmp_path: Path) -> None:
    """What was asked for comes without set-id bits, without attributes of the system's, and without a `.git`."""
    _publish(bare)
    vault = home.create_vault("v")
    vault.add_remote("origin", str(bare))
    fetched = vault.fetch(with_sidecar=True)
    vault.fork("theirs", at="origin/main")
    work = vault.workspace("theirs")

    assert [warning.code for warning in fetched.warnings] == ["fetch.git_dirs_left_out", "fetch.attributes_left_out"]
    assert _walk(work) == {".gitignore", "lib", "lib/a", "tool"}
    assert stat.S_IMODE(work.stat("tool").mode) == 0o644
    assert work.status().clean
    target = tmp_path / "out"
    work.export_path("/", target)
    subprocess.run(["git", "status"], cwd=target / "lib", capture_output=True, check=False)
    assert not (tmp_path / "ran").exists()
    assert vault.fetch(with_sidecar=True).warnings == ()
    assert vault.doctor().healthy


def test_a_foreign_git_directory_needs_one_more_word(home: Avfs, bare: Path) -> None:
    """`.git` directories come when they are asked for, also after a fetch that left them out; set-id bits never do."""
    _publish(bare)
    vault = home.create_vault("v")
    vault.add_remote("origin", str(bare))
    with pytest.raises(InvalidInput):
        vault.fetch(with_git_dirs=True)
    vault.fetch(with_sidecar=True)
    vault.fetch(with_sidecar=True, with_git_dirs=True)
    vault.fork("theirs", at="origin/main")

    assert vault.workspace("theirs").exists("lib/.git/config")
    assert stat.S_IMODE(vault.workspace("theirs").stat("tool").mode) == 0o644


def test_what_a_fetch_made_harmless_comes_again_after_a_gc_without_the_remote(home: Avfs, bare: Path) -> None:
    """The note which names it is left, and says nothing then."""
    _publish(bare)
    vault = home.create_vault("v")
    vault.add_remote("origin", str(bare))
    vault.fetch(with_sidecar=True)
    vault.remove_remote("origin")
    vault.gc(grace_days=0, keep_days=0, keep_operations=1)
    vault.add_remote("origin", str(bare))
    vault.fetch(with_sidecar=True)

    assert vault.fork("theirs", at="origin/main").exists("tool")


def test_a_fetched_sidecar_counts_for_its_own_remote_only(home: Avfs, bare: Path, tmp_path: Path) -> None:
    """A commit of another remote that names a sidecar which was asked for elsewhere shows its tree."""
    _publish(bare)
    vault = home.create_vault("v")
    vault.add_remote("origin", str(bare))
    vault.fetch(with_sidecar=True)
    other = make_bare(tmp_path / "other.git")
    sidecar = git("rev-parse", "side", cwd=bare).strip()
    put_commit(other, put_tree(other, {"b": b"b\n"}), ref="refs/heads/main", sidecar=sidecar)
    vault.add_remote("other", str(other))
    vault.fetch("other", with_sidecar=True)
    vault.fork("theirs", at="other/main")

    assert _walk(vault.workspace("theirs")) == {"b"}


def test_what_is_no_sidecar_is_refused(home: Avfs, bare: Path) -> None:
    """A sidecar that cannot be read is told and counts for nothing; the rest of the fetch goes on."""
    side = put_commit(bare, put_tree(bare, {"odd": b"x"}))
    git("update-ref", "refs/avfs/sidecar/main", side, cwd=bare)
    put_commit(bare, put_tree(bare, {"b": b"b\n"}), ref="refs/heads/main", sidecar=side)
    vault = home.create_vault("v")
    vault.add_remote("origin", str(bare))
    fetched = vault.fetch(with_sidecar=True)
    vault.fork("theirs", at="origin/main")

    assert [warning.code for warning in fetched.warnings] == ["fetch.sidecar_refused"]
    assert _walk(vault.workspace("theirs")) == {"b"}


def _with_ignored(home: Avfs) -> Vault:
    vault = home.create_vault("v")
    work = vault.workspace()
    work.write(".gitignore", b"*.log\n")
    for number in range(3):
        work.write("x.log", b"%d\n" % number)
        work.write("a", b"%d\n" % number)
        work.checkpoint(f"c{number}")
    vault.fork("gone")
    vault.workspace("gone").write("y.log", b"y\n")
    vault.workspace("gone").checkpoint("last")
    return vault


def test_a_copied_vault_keeps_its_sidecars(home: Avfs, tmp_path: Path) -> None:
    """A vault that `cp -a` has copied shows what the first one does, and so does one that may only be read."""
    vault = _with_ignored(home)
    vault.close()
    copy = tmp_path / "copy.git"
    shutil.copytree(vault.path, copy, symlinks=True)
    with home.open_vault(copy) as copied:
        copied.fork("old", at="c0")

        assert copied.workspace("old").read("x.log") == b"0\n"
        assert copied.workspace("gone").read("y.log") == b"y\n"


def test_a_fork_comes_back_with_its_ignored_files(home: Avfs) -> None:
    """Deleting a fork, collecting garbage and taking the deletion back lose no sidecar."""
    vault = _with_ignored(home)
    vault.delete_fork("gone")
    vault.gc()
    vault.undo(fork="gone")

    assert vault.workspace("gone").read("y.log") == b"y\n"
