"""What we write, as git sees it: packs, trees, commits, whatever the names and contents."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avfs_git.gitstore.formats.commits import Commit, Signature, serialize_commit
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_COMMIT, KIND_TREE
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, MODE_SYMLINK, edit_tree, is_forbidden_name
from avfs_git.gitstore.objects import packwriter
from avfs_git.gitstore.objects.packs import remove_leftovers
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.paths import TreePath
from tests.support.gitrepo import ROOT, GitRepo, init

pytestmark = pytest.mark.needs("git")

ADA = Signature("Ada Author", "ada@example.org", 1_700_000_000)


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    """An empty repository."""
    return init(tmp_path / "repo.git")


def assert_git_accepts(repo: GitRepo, pack: Path | None) -> None:
    """Have git verify a pack, and make its index itself: it must be the same."""
    assert pack is not None
    repo.run("verify-pack", str(pack))
    index = repo.git_dir / "made-by-git.idx"
    index.unlink(missing_ok=True)
    repo.run("index-pack", "--strict", "-o", str(index), str(pack))
    assert index.read_bytes() == pack.with_suffix(".idx").read_bytes()
    assert repo.fsck() == []


@pytest.mark.parametrize("held_bytes", [0, 1 << 25])
def test_git_accepts_our_packs(repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_bytes: int) -> None:
    """Git verifies the pack, computes the same index, and reads every object."""
    monkeypatch.setattr(packwriter, "_HELD_BYTES", held_bytes)
    rng = random.Random(1)
    contents = [rng.randbytes(size) for size in (0, 1, 15, 16, 2047, 2048, 70_000)] + [
        b"text\n" * n for n in (1, 500, 50_000)
    ]
    big = tmp_path / "big"
    big.write_bytes(rng.randbytes(6 << 20))
    with ObjectStore(repo.git_dir) as store, big.open("rb") as file:
        writer = PackWriter(store)
        oids = [writer.add(KIND_BLOB, data) for data in contents]
        oids.append(writer.add_file(file.fileno(), 6 << 20))
        assert_git_accepts(repo, writer.finish())

    assert set(repo.objects()) == set(oids)
    for oid, data in zip(oids, [*contents, big.read_bytes()], strict=True):
        assert repo.run("cat-file", "blob", oid.hex()) == data
        assert repo.oid("hash-object", "--stdin", data=data) == oid


def test_offsets_beyond_the_first_table_are_read_by_git(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index whose offsets stand in the table for large ones means the same to git."""
    with ObjectStore(repo.git_dir) as store:
        writer = PackWriter(store)
        oids = [writer.add(KIND_BLOB, b"%d" % n) for n in range(50)]
        pack = writer.finish()
    assert pack is not None
    index = pack.with_suffix(".idx")
    repo.run("index-pack", "--index-version=2,0x40", "-o", str(repo.git_dir / "new.idx"), str(pack))
    index.chmod(0o644)
    index.write_bytes((repo.git_dir / "new.idx").read_bytes())
    with ObjectStore(repo.git_dir) as store:
        assert [store.read_blob(oid) for oid in oids] == [b"%d" % n for n in range(50)]


names = st.binary(min_size=1, max_size=6).filter(
    lambda name: not set(b"/\0") & set(name) and not is_forbidden_name(name)
)
some_paths = st.lists(names | st.sampled_from([b"a", b"b", b"a.b", b"a-b", b"a0"]), min_size=1, max_size=3).map(
    b"/".join
)
entries = st.dictionaries(some_paths, st.sampled_from([MODE_FILE, MODE_EXEC, MODE_SYMLINK]), min_size=1, max_size=8)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(entries, entries)
def test_edited_trees_are_those_of_git(repo: GitRepo, first: dict[bytes, int], second: dict[bytes, int]) -> None:
    """The tree after any edits has the id that `git write-tree` gives the same files."""
    with ObjectStore(repo.git_dir) as store:
        writer = PackWriter(store)
        blob = writer.add(KIND_BLOB, b"content")
        put = [
            {path: mode for path, mode in edits.items() if not _is_below_another(path, edits)}
            for edits in (first, second)
        ]
        files = dict(put[0])
        tree = edit_tree(writer, writer, None, {TreePath(path): (mode, blob) for path, mode in put[0].items()})
        for path, mode in put[1].items():
            files = {other: held for other, held in files.items() if not _stands_in_the_way(other, path)}
            files[path] = mode
        tree = edit_tree(writer, writer, tree, {TreePath(path): (mode, blob) for path, mode in put[1].items()})
        writer.finish()
    lines = b"".join(b"%o %b\t%b\0" % (mode, blob.hex().encode(), path) for path, mode in files.items())
    repo.run("read-tree", "--empty")
    repo.run("update-index", "-z", "--index-info", data=lines)

    assert tree == repo.oid("write-tree")
    assert repo.fsck() == []


def _is_below_another(path: bytes, edits: dict[bytes, int]) -> bool:
    return any(path.startswith(other + b"/") for other in edits)


def _stands_in_the_way(path: bytes, new: bytes) -> bool:
    return path == new or path.startswith(new + b"/") or new.startswith(path + b"/")


@pytest.mark.parametrize(
    "person",
    [
        ADA,
        Signature("", "", -1),
        Signature("A <B> C", "a<b>@c", 0, -1),
        Signature("x\ny", "q\nr", 2**60, 99_999),
        Signature("Zoë 鈴木", "é@ü", 1, 14 * 60),
        Signature("\udcff", "a@b", 1),
        Signature(".", ",", 1, -24 * 60),
    ],
)
def test_commits_pass_the_strictest_check(repo: GitRepo, person: Signature) -> None:
    """Whatever the author's name and clock, git has nothing to say against the commit, including its sidecar."""
    with ObjectStore(repo.git_dir) as store:
        writer = PackWriter(store)
        tree = writer.add(KIND_TREE, b"")
        sidecar = writer.add(KIND_COMMIT, serialize_commit(Commit(tree, (), ADA, ADA, "sidecar\n")))
        commit = writer.add(
            KIND_COMMIT,
            serialize_commit(
                Commit(tree, (sidecar,), person, ADA, "subject\n\nbody \udcff\n", sidecar, ((b"x-note", b"a\nb"),))
            ),
        )
        assert_git_accepts(repo, writer.finish())
    repo.run("update-ref", "refs/heads/main", commit.hex())

    assert repo.fsck() == []
    assert repo.text("log", "--format=%s", "main") == "subject\nsidecar"


def test_a_commit_is_the_one_that_git_makes(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same commit has the same id."""
    monkeypatch.setenv("GIT_AUTHOR_DATE", "1700000000 +0130")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "1700000001 -0800")
    tree = repo.oid("mktree", data=b"")
    made = repo.oid("commit-tree", tree.hex(), "-m", "message")
    author = Signature("Ada Author", "ada@example.org", 1_700_000_000, 90)
    committer = Signature("Ada Author", "ada@example.org", 1_700_000_001, -480)
    with ObjectStore(repo.git_dir) as store:
        assert (
            PackWriter(store).add(KIND_COMMIT, serialize_commit(Commit(tree, (), author, committer, "message\n")))
            == made
        )
        assert store.read_commit(made) == Commit(tree, (), author, committer, "message\n")


def die_at(number: int, git_dir: Path, body: str) -> int:
    """Run a program that ends without any clean-up at the n-th fault point; return its status."""
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from avfs_git import faults
        from tests.support.failing import DieAt
        from avfs_git.gitstore.formats.packfile import KIND_BLOB
        from avfs_git.gitstore.objects.store import ObjectStore
        from avfs_git.gitstore.objects.packwriter import PackWriter
        store = ObjectStore(Path(sys.argv[1]))
    """)
    program += textwrap.dedent(body)
    program = program.replace("ARM", f"faults.arm(DieAt({number}))")
    return subprocess.run([sys.executable, "-c", program, str(git_dir)], check=False, cwd=ROOT).returncode


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_writer_that_is_killed_leaves_nothing_that_git_minds(repo: GitRepo, number: int) -> None:
    """Killed at any step of writing a pack, the repository is whole.

    Temporary files go with time, and a pack gets its index.
    """
    body = """
        writer = PackWriter(store)
        writer.add(KIND_BLOB, b"content")
        ARM
        writer.finish()
    """
    assert die_at(number, repo.git_dir, body) == 137
    assert repo.fsck() == []
    with ObjectStore(repo.git_dir) as store:
        remove_leftovers(store, now_s=2e12)
        left = {path.suffix for path in (repo.git_dir / "objects/pack").iterdir()}
        assert left == ({".pack", ".idx"} if number >= 3 else set())
        writer = PackWriter(store)
        writer.add(KIND_BLOB, b"content")
        assert_git_accepts(repo, writer.finish())


def test_gc_beside_a_writer_takes_nothing_away(repo: GitRepo) -> None:
    """A pack that is finished while git collects garbage is there afterwards, and what it left out as known is, too."""
    with ObjectStore(repo.git_dir) as store:
        big = os.urandom(100_000)
        writer = PackWriter(store)
        known = writer.add(KIND_BLOB, big)
        pack = writer.finish()
        assert pack is not None
        for path in (pack, pack.with_suffix(".idx")):
            os.utime(path, (1, 1))
        writer = PackWriter(store)
        assert writer.add(KIND_BLOB, big) == known  # not stored again
        small = writer.add(KIND_BLOB, b"small")
        repo.run("gc", "-q", "--prune=1.hour.ago")
        writer.finish()

        assert store.read_blob(known) == big
        assert store.read_blob(small) == b"small"
    assert repo.fsck() == []
