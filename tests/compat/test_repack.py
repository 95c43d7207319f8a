"""Joining packs in maintenance: smaller, and every object of every pack is still there, reachable or not."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from avfs_git.errors import GitFailed
from avfs_git.gitstore.formats.commits import Commit, Signature
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_TREE
from avfs_git.gitstore.formats.trees import MODE_FILE
from avfs_git.gitstore.holding import packs_to_oneself
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.repack import repack
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.objects.sweep import sweep
from avfs_git.paths import Oid
from tests.support.gitrepo import GitRepo, init

pytestmark = pytest.mark.needs("git")

FILES, PACKS = 400, 24
ADA = Signature("Ada Author", "ada@example.org", 1_700_000_000)


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    """A repository with a pack for each of many versions of a flat directory, which nothing reaches."""
    repo = init(tmp_path / "repo.git", "-b", "main")
    with ObjectStore(repo.git_dir) as store:
        entries = {b"file-%04d" % number: os.urandom(20) for number in range(FILES)}
        for version in range(PACKS):
            writer = PackWriter(store)
            entries[b"file-%04d" % (version * 7)] = writer.add(KIND_BLOB, b"version %d\n" % version)
            writer.add(KIND_TREE, b"".join(b"100644 %s\0%s" % entry for entry in sorted(entries.items())))
            writer.finish()
    return repo


def _objects(repo: GitRepo) -> dict[str, bytes]:
    listed = (
        repo.run("cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)").decode().splitlines()
    )
    return {oid: repo.run("cat-file", kind, oid) for oid, kind in (line.split() for line in listed)}


def _bytes(repo: GitRepo) -> int:
    return sum(path.stat().st_size for path in (repo.git_dir / "objects/pack").glob("*.pack"))


def _packs(repo: GitRepo) -> set[Path]:
    return set((repo.git_dir / "objects/pack").glob("*.pack"))


def test_versions_of_a_directory_take_a_tenth(repo: GitRepo) -> None:
    """The new pack has differences; git and avfs read from it what was there, though nothing reaches it."""
    before, size = _objects(repo), _bytes(repo)
    with ObjectStore(repo.git_dir) as store:
        assert repack(store) >= PACKS - 8
        assert {oid: store.read(Oid(bytes.fromhex(oid)))[1] for oid in before} == before

    assert _objects(repo) == before
    assert _bytes(repo) < size / 2
    assert len(_packs(repo)) <= 9
    assert repo.run("fsck", "--full", "--no-dangling", check=False) == b""


def test_few_packs_are_left_alone(repo: GitRepo) -> None:
    """Below the threshold nothing happens, and after a run nothing is left to do."""
    with ObjectStore(repo.git_dir) as store:
        repack(store, more_than=PACKS)

        assert len(_packs(repo)) == PACKS
        repack(store)
        packs = _packs(repo)

        assert repack(store) == 0
        assert _packs(repo) == packs


def test_marked_packs_stay(repo: GitRepo) -> None:
    """What git, a server or a process of avfs marked is not touched."""
    kept = sorted(_packs(repo))[:4]
    for path, suffix in zip(kept, (".keep", ".promisor", ".mtimes", ".keep"), strict=True):
        path.with_suffix(suffix).touch()
    before = [path.stat().st_ino for path in kept]
    with ObjectStore(repo.git_dir) as store:
        assert repack(store) > 0

    assert [path.stat().st_ino for path in kept] == before


def test_one_process_does_it(repo: GitRepo) -> None:
    """While another process joins packs, there is nothing to do."""
    with ObjectStore(repo.git_dir) as store:
        with packs_to_oneself(repo.git_dir):
            assert repack(store) == 0
        assert repack(store) > 0


def test_a_list_of_git_s_is_obeyed(repo: GitRepo) -> None:
    """Where git keeps a multi-pack-index, which names the packs, nothing is joined."""
    repo.run("multi-pack-index", "write")
    packs = _packs(repo)
    with ObjectStore(repo.git_dir) as store:
        assert repack(store) == 0

    assert _packs(repo) == packs


def test_a_damaged_pack_stops_it(repo: GitRepo) -> None:
    """An object that cannot be read ends the step with an error; no pack goes."""
    damaged = min(_packs(repo))
    damaged.chmod(0o600)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 0xFF
    damaged.write_bytes(data)
    packs = _packs(repo)
    with ObjectStore(repo.git_dir) as store, pytest.raises(GitFailed, match="pack-objects"):
        repack(store, more_than=1)

    assert packs <= _packs(repo)


def test_an_open_reader_goes_on(repo: GitRepo) -> None:
    """A process that knew the old packs finds each object in the new one."""
    before = _objects(repo)
    with ObjectStore(repo.git_dir) as reader, ObjectStore(repo.git_dir) as store:
        assert reader.exists(Oid(bytes.fromhex(next(iter(before)))))
        repack(store)

        assert {oid: reader.read(Oid(bytes.fromhex(oid)))[1] for oid in before} == before


def test_git_packs_beside_it(repo: GitRepo) -> None:
    """`git repack -d` while the packs are being joined: whoever comes second finds less to do, and nothing is lost."""
    before = _objects(repo)
    others = [
        subprocess.Popen(
            ["git", "-C", repo.git_dir, "repack", "-q", "-a", "-d", "--keep-unreachable"], stderr=subprocess.DEVNULL
        )
        for _ in range(2)
    ]
    with ObjectStore(repo.git_dir) as store, suppress(GitFailed):  # a pack went while git read it
        repack(store)
    for other in others:
        other.wait()

    assert _objects(repo) == before


def test_what_a_partial_clone_lacks_is_not_asked_for(repo: GitRepo, tmp_path: Path) -> None:
    """A pack of a commit is joined although its parent's tree is on the server alone."""
    blob = repo.text("hash-object", "-w", "--stdin", data=b"1\n")
    tree = repo.text("mktree", data=f"100644 blob {blob}\tfile\n".encode())
    repo.run("update-ref", "refs/heads/main", repo.text("commit-tree", tree, "-m", "one"))
    repo.run("config", "uploadpack.allowFilter", "true")
    repo.run("clone", "-q", "--bare", "--filter=tree:0", f"file://{repo.git_dir}", str(tmp_path / "partial.git"))
    partial = GitRepo(tmp_path / "partial.git")
    parent = partial.oid("rev-parse", "main")
    with ObjectStore(partial.git_dir) as store:
        for number in range(3):
            writer = PackWriter(store)
            own = writer.add_tree({b"own": (MODE_FILE, writer.add(KIND_BLOB, b"%d\n" % number))})
            writer.add_commit(Commit(own, (parent,), ADA, ADA, "own\n"))
            writer.finish()
        before = _packs(partial)

        assert repack(store, more_than=1) == 3
        assert len(_packs(partial) & before) == len(before) - 3


def test_a_pack_that_another_git_removes_meanwhile_is_no_fault_of_the_disk(repo: GitRepo) -> None:
    """A fetch keeps its pack for a moment, and then `git gc` joins it with others. Nothing goes, and the hint works."""
    kept = min(_packs(repo))
    kept.with_suffix(".keep").touch()
    before = _packs(repo) - {kept}

    def remove() -> list[Oid]:
        for suffix in (".keep", ".idx", ".pack"):
            kept.with_suffix(suffix).unlink()
        return []

    with ObjectStore(repo.git_dir) as store:
        with packs_to_oneself(repo.git_dir), pytest.raises(GitFailed, match="another git has removed") as raised:
            sweep(store, remove, before_s=0)
        assert raised.value.hint == "Run `avfs gc` again."
        assert _packs(repo) == before
        with packs_to_oneself(repo.git_dir):
            assert sweep(store, list, before_s=0).reasons == []
