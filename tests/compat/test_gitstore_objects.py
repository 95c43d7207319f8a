"""Reading what git wrote, however it stored it, and while it stores it elsewhere."""

from __future__ import annotations

import random
import subprocess
import threading
from pathlib import Path

import pytest

from avfs_git.errors import ObjectCorrupt, ObjectMissing
from avfs_git.gitstore.formats.packfile import CHUNK, KIND_BLOB, KIND_NAMES
from avfs_git.gitstore.formats.trees import is_forbidden_name
from avfs_git.gitstore.objects.store import ObjectStore, hash_object
from avfs_git.paths import Oid
from tests.support.gitrepo import GitRepo, init
from tests.support.objects import MemorySource

pytestmark = pytest.mark.needs("git")


def fill(repo: GitRepo, *, commits: int = 12) -> None:
    """Make a history whose files change a little each time, so that git finds deltas."""
    rng = random.Random(1)
    lines = [b"line %d of a file\n" % rng.randrange(10**9) for _ in range(2_000)]
    parent: list[str] = []
    for number in range(commits):
        lines[rng.randrange(len(lines))] = b"changed in %d\n" % number
        blob = repo.text("hash-object", "-w", "--stdin", data=b"".join(lines))
        big = repo.text("hash-object", "-w", "--stdin", data=rng.randbytes(2 * CHUNK) if not number else b"small\n")
        entries = f"100644 blob {blob}\tfile\n100755 blob {big}\tprogram\n120000 blob {blob}\tlink\n"
        tree = repo.text("mktree", data=entries.encode())
        parent = ["-p", repo.text("commit-tree", tree, *parent, "-m", f"commit {number}")]
    repo.run("update-ref", "refs/heads/main", parent[1])
    repo.run("tag", "-a", "-m", "a tag", "v1", "refs/heads/main")


def assert_all_readable(repo: GitRepo) -> None:
    """Read every object in every way and compare with what git says."""
    with ObjectStore(repo.git_dir) as store:
        for oid, (kind, size) in repo.objects().items():
            found, data = store.read(oid)
            assert (KIND_NAMES[found].decode(), len(data)) == (kind, size)
            assert hash_object(found, data) == oid
            assert store.header(oid) == (found, size)
            assert store.exists(oid)
            assert oid in store.find_by_prefix(oid.hex()[:8])
            if kind == "blob":
                assert store.blob_size(oid) == size
                assert b"".join(store.stream_blob(oid)) == data
            elif kind == "tree":
                assert set(store.read_tree(oid)) == {b"file", b"program", b"link"}
            elif kind == "commit":
                assert store.read_commit(oid).message.startswith("commit ")
        blobs = {oid: size for oid, (kind, size) in repo.objects().items() if kind == "blob"}
        assert store.blob_sizes(blobs) == blobs


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    """A repository with some history, all of it loose."""
    made = init(tmp_path / "repo.git")
    fill(made)
    return made


@pytest.mark.parametrize(
    "commands",
    [
        [],
        [["repack", "-dq"]],
        [["repack", "-adfq", "--depth=50"]],
        [["repack", "-adfq"], ["multi-pack-index", "write"]],
        [["-c", "core.compression=9", "gc", "-q"]],
        [["-c", "pack.writeReverseIndex=true", "repack", "-adbq"]],
    ],
    ids=["loose", "packed", "deltas", "multi-pack-index", "gc", "bitmap"],
)
def test_every_object_of_git_is_readable(repo: GitRepo, commands: list[list[str]]) -> None:
    """Loose, packed, as chains of deltas, under old and new indexes: all the same objects."""
    for command in commands:
        repo.run(*command)

    assert_all_readable(repo)


@pytest.mark.parametrize("share", [1, 2, 40], ids=["all", "half", "few"])
def test_the_sizes_of_many_blobs_are_those_that_git_says(tmp_path: Path, share: int) -> None:
    """Sizes asked for together are right: far apart, close together, of deltas, and at the end of a pack."""
    repo = init(tmp_path / "repo.git")
    rng = random.Random(3)
    text = b"".join(b"line %d\n" % rng.randrange(10**9) for _ in range(100))
    sizes = [rng.choice((0, 15, 16, 2047, 2048, 70_000, 300_000)) + rng.randrange(40) for _ in range(300)]
    contents = [text + b"%d" % number if number % 3 else rng.randbytes(size) for number, size in enumerate(sizes)]
    places = [tmp_path / f"file{number}" for number in range(len(contents))]
    for place, content in zip(places, contents, strict=True):
        place.write_bytes(content)
    told = repo.text("hash-object", "-w", "--stdin-paths", data="\n".join(map(str, places)).encode())
    oids = [Oid(bytes.fromhex(line)) for line in told.split()]
    repo.run("pack-objects", "-q", "--window=50", str(repo.git_dir / "objects/pack/pack"), data=told.encode() + b"\n")
    repo.run("prune-packed")
    wanted = {oid: len(content) for oid, content in list(zip(oids, contents, strict=True))[::share]}
    with ObjectStore(repo.git_dir) as store:
        assert store.blob_sizes(wanted) == wanted
        with pytest.raises(ObjectMissing):
            store.blob_sizes([*wanted, Oid(bytes(20))])


@pytest.mark.parametrize("commands", [[], [["repack", "-adfq", "--depth=50"]]], ids=["loose", "deltas"])
def test_what_is_learnt_of_sizes_is_what_asking_tells(repo: GitRepo, commands: list[list[str]]) -> None:
    """Sizes that were learnt beforehand are those of git, of blobs alone.

    What is missing shows when it is asked for.
    """
    for command in commands:
        repo.run(*command)
    objects = repo.objects()
    with ObjectStore(repo.git_dir) as store:
        store.learn_sizes([*objects, Oid(bytes(20))])
        for oid, (kind, size) in objects.items():
            if kind == "blob":
                assert store.blob_size(oid) == size
            else:
                with pytest.raises(ObjectCorrupt):
                    store.blob_size(oid)
        with pytest.raises(ObjectMissing):
            store.blob_size(Oid(bytes(20)))


def test_borrowed_objects_are_readable(repo: GitRepo, tmp_path: Path) -> None:
    """A repository that borrows its objects reads as if it had them."""
    subprocess.run(["git", "clone", "-q", "--bare", "--shared", str(repo.git_dir), str(tmp_path / "b.git")], check=True)

    assert_all_readable(GitRepo(tmp_path / "b.git"))


def test_replacements_are_not_followed(repo: GitRepo) -> None:
    """An object reads as what its id says, whatever `refs/replace` would put in its place."""
    commit = repo.oid("rev-parse", "refs/heads/main")
    repo.run("replace", commit.hex(), f"{commit.hex()}~3")
    with ObjectStore(repo.git_dir) as store:
        assert store.read_commit(commit).message == "commit 11\n"


def test_reading_goes_on_while_git_repacks(repo: GitRepo) -> None:
    """No object is missing at any instant while git moves all of them from pack to pack."""
    expected = {oid: size for oid, (_, size) in repo.objects().items()}
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        rng = random.Random(2)
        oids = list(expected)
        try:
            while not done.is_set():
                with ObjectStore(repo.git_dir) as store:
                    for _ in range(3):
                        for oid in rng.sample(oids, len(oids)):
                            assert len(store.read(oid)[1]) == expected[oid]
                            assert store.header(oid)[1] == expected[oid]
        except BaseException as error:  # noqa: BLE001 - carried to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(10):
        repo.run("repack", "-adfq", f"--depth={number % 2}")
        repo.run("prune-packed")
        repo.run("unpack-objects", "-q", data=next((repo.git_dir / "objects/pack").glob("*.pack")).read_bytes())
    done.set()
    for thread in threads:
        thread.join()

    assert failures == []


def test_what_git_pruned_is_missing(repo: GitRepo) -> None:
    """An object that git threw away is reported as missing by a store that had seen it."""
    with ObjectStore(repo.git_dir) as store:
        loose = repo.oid("hash-object", "-w", "--stdin", data=b"nobody needs this")
        assert store.exists(loose)
        repo.run("prune", "--expire=now")

        with pytest.raises(ObjectMissing):
            store.read(loose)
        assert not store.exists(loose)


def test_git_forbids_the_same_names(tmp_path: Path) -> None:
    """On thousands of generated names, git's own check of trees and ours agree."""
    rng = random.Random(3)
    parts = [
        b".",
        b"g",
        b"i",
        b"t",
        b"G",
        b"T",
        b".git",
        b"git~1",
        b"GIT~1",
        b" ",
        b":",
        b"\\",
        b"~",
        b"1",
        b"x",
        b"\n",
        b"..",
    ]
    parts += [
        b"\xe2\x80\x8c",
        b"\xe2\x81\xaf",
        b"\xef\xbb\xbf",
        b"\xe2\x80\x89",
        b"\xc3\xa9",
        b"\xf0\x9f\x98\x80",
        b"\xe1\xbf\xbf",
    ]
    parts += [
        b"\xe2\x80",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbf\xbe",
        b"\xf4\x90\x80\x80",
        b"\xc0\xaf",
        b"\xe0\x80\x80",
        b"\xf8",
    ]
    parts += [b"\xf0\x80\x80\x80", b"::$INDEX_ALLOCATION"]
    names = {b"".join(rng.choices(parts, k=rng.randint(1, 6))) for _ in range(6_000)}
    names |= {prefix + b".git" + suffix for prefix in parts for suffix in parts}
    memory = MemorySource()
    blob = memory.add(KIND_BLOB, b"")
    trees = {memory.add(2, b"100644 " + name + b"\0" + blob): name for name in names}
    repo = init(tmp_path / "names.git")
    memory.write_to(repo.git_dir)
    refused: set[Oid] = set()
    for line in repo.fsck("--no-reflogs"):
        if ": hasDot" in line:  # hasDot, hasDotdot, hasDotgit
            refused.add(Oid(bytes.fromhex(line.split()[3].rstrip(":"))))

    assert refused
    assert {name for oid, name in trees.items() if oid in refused} == {
        name for name in names if is_forbidden_name(name)
    }
