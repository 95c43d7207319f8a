"""Refs beside git: the same values, no lost update, and no lock that needs a hand."""

from __future__ import annotations

import errno
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from avfs_git import faults
from avfs_git.errors import HostError, InvalidName, RefConflict
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_COMMIT, KIND_TREE
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.refs.names import check_ref_name
from avfs_git.gitstore.refs.refs import RefChange, RefStore
from avfs_git.paths import Oid
from tests.support.gitrepo import ROOT, GitRepo, init
from tests.support.objects import MemorySource

pytestmark = pytest.mark.needs("git")

MAIN = "refs/heads/main"


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    """An empty repository."""
    return init(tmp_path / "repo.git", "-b", "main")


@pytest.fixture
def commits(repo: GitRepo) -> list[Oid]:
    """Commits that refs may name."""
    with ObjectStore(repo.git_dir) as store:
        writer = PackWriter(store)
        memory = MemorySource()
        tree = writer.add(KIND_TREE, b"")
        made = [memory.add_commit(tree, message=f"{number}\n") for number in range(20)]
        for oid in made:
            assert writer.add(KIND_COMMIT, memory.objects[oid][1]) == oid
        writer.finish()
    return made


def shown(repo: GitRepo) -> dict[str, Oid]:
    """List the refs as git sees them."""
    lines = repo.run("show-ref", check=False).decode().splitlines()
    return {name: Oid(bytes.fromhex(oid)) for oid, name in (line.split(" ", 1) for line in lines)}


def locks(repo: GitRepo) -> list[str]:
    """List what is left of locks."""
    return [str(path) for path in [*repo.git_dir.rglob("*.lock"), *(repo.git_dir / "avfs/reftxn").glob("*")]]


def test_both_see_the_same_refs_after_any_mix_of_writers(repo: GitRepo, commits: list[Oid]) -> None:
    """Creations, moves, removals and packing by either, in any order: git and we list the same."""
    rng = random.Random(1)
    refs = RefStore(repo.git_dir)
    names = [f"refs/{kind}/{name}" for kind in ("heads", "tags", "avfs/x") for name in ("a", "b", "b/c", "d/e/f", "ü")]
    for _ in range(100):
        name = rng.choice(names)
        old, new = refs.read(name), rng.choice([None, *commits[:3]])
        match rng.randrange(5):
            case 0:
                repo.run("pack-refs", "--all", "--prune")
            case 1:
                arguments = [name, new.hex()] if new else ["-d", name]
                repo.run("update-ref", *arguments, check=False)
            case _:
                try:
                    refs.update([RefChange(name, old, new)])
                except RefConflict as error:
                    assert error.details["actual"] is not None  # noqa: PT017 - only a name in the way

        expected = shown(repo)
        assert refs.list() == expected
        assert {name: refs.read(name) for name in names} == {name: expected.get(name) for name in names}
    assert locks(repo) == []
    assert repo.fsck() == []


def test_git_allows_the_same_names() -> None:
    """On hundreds of generated names, `git check-ref-format` and we agree."""
    rng = random.Random(2)
    parts = [
        "a",
        "b",
        ".",
        "..",
        "/",
        "//",
        ".lock",
        "@",
        "{",
        "@{",
        "-",
        " ",
        "~",
        "^",
        ":",
        "?",
        "*",
        "[",
        "\\",
        "\x7f",
        "\t",
        "ü",
        "lock",
    ]
    names = {"refs/" + "".join(rng.choices(parts, k=rng.randint(1, 7))) for _ in range(450)}
    names |= {"refs/heads/" + "".join(rng.choices(parts, k=rng.randint(1, 5))) for _ in range(150)}
    script = 'while IFS= read -r -d "" name; do git check-ref-format "$name" && printf "%s\\0" "$name"; done'
    data = b"".join(name.encode() + b"\0" for name in sorted(names))
    output = subprocess.run(["bash", "-c", script], check=False, input=data, capture_output=True).stdout
    # Git allows `refs/x`; a ref of that name would have no kind, but for the stash.
    allowed = {name for name in output.decode().split("\0") if name.count("/") >= 2 or name == "refs/stash"}

    def allows(name: str) -> bool:
        try:
            return bool(check_ref_name(name))
        except InvalidName:
            return False

    assert allowed
    assert {name for name in names if allows(name)} == allowed


def test_git_and_we_count_up_one_ref_together(repo: GitRepo, commits: list[Oid]) -> None:
    """Two processes of ours and one of git's race on one ref, while it is packed again and again: no update is lost."""
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from avfs_git.errors import RefConflict
        from avfs_git.gitstore.refs.refs import RefChange, RefStore
        refs = RefStore(Path(sys.argv[1]))
        commits = [bytes.fromhex(oid) for oid in sys.argv[2:]]
        won = 0
        while True:
            held = refs.read("refs/heads/main")
            position = commits.index(held)
            if position + 1 == len(commits):
                break
            try:
                refs.update([RefChange("refs/heads/main", held, commits[position + 1])])
                won += 1
            except RefConflict:
                pass
        print(won)
    """)
    refs = RefStore(repo.git_dir)
    refs.update([RefChange(MAIN, None, commits[0])])
    argv = [sys.executable, "-c", program, str(repo.git_dir), *[oid.hex() for oid in commits]]
    ours = [subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(2)]
    won = 0
    while (held := refs.read(MAIN)) != commits[-1]:
        assert held is not None
        new = commits[commits.index(held) + 1]
        argv = ["git", f"--git-dir={repo.git_dir}", "update-ref", MAIN, new.hex(), held.hex()]
        won += subprocess.run(argv, check=False, capture_output=True).returncode == 0
        repo.run("pack-refs", "--all", "--prune", check=False)
    for process in ours:
        output, _ = process.communicate()
        assert process.returncode == 0
        won += int(output)

    assert won == len(commits) - 1
    assert locks(repo) == []


KILLED = """
    import sys
    from pathlib import Path
    from avfs_git import faults
    from avfs_git.gitstore.refs.refs import RefChange, RefStore
    from tests.support.failing import DieAt
    refs = RefStore(Path(sys.argv[1]))
    old, new = (bytes.fromhex(oid) for oid in sys.argv[2:4])
    number = int(sys.argv[4])
    if number:
        faults.arm(DieAt(number))
    refs.update([
        RefChange("refs/heads/new/one", None, new),
        RefChange("refs/heads/main", old, new),
        RefChange("refs/heads/packed", old, None),
        RefChange("refs/heads/loose", old, None),
    ])
"""


@pytest.mark.parametrize("number", range(9))
def test_killed_at_any_step_nothing_needs_a_hand(repo: GitRepo, commits: list[Oid], number: int) -> None:
    """Whatever step an update dies at, its refs are old or new in order, and git can move each of them at once.

    Opening the refs once is enough: that is what every command of ours begins with.
    """
    old, new = commits[:2]
    names = ["refs/heads/new/one", MAIN, "refs/heads/packed", "refs/heads/loose"]
    refs = RefStore(repo.git_dir)
    refs.update([RefChange("refs/heads/packed", None, old)])
    repo.run("pack-refs", "--all")
    refs.update([RefChange(name, None, old) for name in (MAIN, "refs/heads/loose")])
    argv = [sys.executable, "-c", textwrap.dedent(KILLED), str(repo.git_dir), old.hex(), new.hex(), str(number)]
    status = subprocess.run(argv, check=False, cwd=ROOT).returncode

    assert status == (137 if number else 0)
    assert repo.fsck() == []
    before, after = [None, old, old, old], [new, new, None, None]
    held = [shown(repo).get(name) for name in names]
    assert held in [after[:done] + before[done:] for done in range(5)]
    RefStore(repo.git_dir)
    assert locks(repo) == []
    for name in names:
        repo.run("update-ref", name, commits[2].hex())


def test_killed_by_a_signal_at_any_moment_nothing_needs_a_hand(repo: GitRepo, commits: list[Oid]) -> None:
    """SIGKILL at moments nobody chose: another process of ours, already open, goes on without a pause of its own."""
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from avfs_git.gitstore.refs.refs import RefChange, RefStore
        refs = RefStore(Path(sys.argv[1]))
        a, b = (bytes.fromhex(oid) for oid in sys.argv[2:4])
        print(flush=True)
        while True:
            refs.update([RefChange(name, refs.read(name), a) for name in ("refs/heads/x", "refs/heads/y")])
            refs.update([RefChange("refs/heads/x", a, None), RefChange("refs/heads/y", a, b)])
    """)
    rng = random.Random(4)
    a, b, c = commits[:3]
    refs = RefStore(repo.git_dir)
    for _ in range(15):
        argv = [sys.executable, "-c", program, str(repo.git_dir), a.hex(), b.hex()]
        process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.random() * 0.03)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()

        refs.recover()

        assert refs.find_damaged(lambda _: True) == ()
        refs.update([RefChange(name, refs.read(name), c) for name in ("refs/heads/x", "refs/heads/y")])
        assert not list(repo.git_dir.rglob("*.lock"))
    RefStore(repo.git_dir)
    assert locks(repo) == []
    assert repo.fsck() == []


def test_head_is_what_git_says(repo: GitRepo, commits: list[Oid]) -> None:
    """HEAD that we set is HEAD for git, and the other way round."""
    refs = RefStore(repo.git_dir)
    refs.set_head("refs/heads/a/ü")
    assert repo.text("symbolic-ref", "HEAD") == "refs/heads/a/ü"
    repo.run("symbolic-ref", "HEAD", "refs/heads/x")
    assert refs.head() == "refs/heads/x"
    repo.run("update-ref", "--no-deref", "HEAD", commits[0].hex())
    assert refs.head() is None


def test_a_blob_may_be_kept_by_a_ref(repo: GitRepo) -> None:
    """Refs below `refs/avfs` may name objects of any kind, and git accepts them."""
    with ObjectStore(repo.git_dir) as store:
        writer = PackWriter(store)
        oid = writer.add(KIND_BLOB, b"kept")
        writer.finish()
    RefStore(repo.git_dir).update([RefChange("refs/avfs/kept/x", None, oid)])
    repo.run("gc", "-q", "--prune=now")

    assert repo.run("cat-file", "blob", "refs/avfs/kept/x") == b"kept"
    assert repo.fsck() == []


def _pack_at(repo: GitRepo, point: str, *, then_fail: bool = False) -> Callable[[str], None]:
    """Have git pack all refs when a point is reached, and the operation fail there if it is to."""

    def handler(reached: str) -> None:
        if reached == point:
            repo.run("-c", "core.packedRefsTimeout=5", "pack-refs", "--all", "--prune", check=False)
            if then_fail:
                raise OSError(errno.EIO, "")

    return handler


@pytest.mark.parametrize("was_packed", [False, True])
@pytest.mark.parametrize(
    "point",
    ["refs.locked", "refs.checked", "refs.packed_written", "refs.packed_removed", "refs.moved_one", "refs.moved"],
)
def test_a_deleted_ref_stays_deleted_beside_git_packing_refs(
    repo: GitRepo, commits: list[Oid], point: str, was_packed: bool
) -> None:
    """Whenever `git pack-refs` runs meanwhile, deleted refs are gone, even after it runs again, and the others stay."""
    refs = RefStore(repo.git_dir)
    names = [f"refs/heads/{number}" for number in range(3)]
    refs.update([RefChange(name, None, commits[0]) for name in names])
    if was_packed:
        repo.run("pack-refs", "--all", "--prune")
        refs.update([RefChange(names[0], commits[0], commits[1])])
    held = refs.list()
    faults.arm(_pack_at(repo, point))
    refs.update([RefChange(names[0], held[names[0]], None), RefChange(names[1], held[names[1]], None)])
    faults.arm(None)

    assert refs.list() == shown(repo) == {names[2]: commits[0]}

    repo.run("pack-refs", "--all", "--prune")

    assert refs.list() == shown(repo) == {names[2]: commits[0]}
    assert locks(repo) == []


@pytest.mark.parametrize("point", ["refs.moved_one", "refs.moved"])
def test_a_ref_that_is_taken_back_stays_away_beside_git_packing_refs(
    repo: GitRepo, commits: list[Oid], point: str
) -> None:
    """An update that creates refs, and fails after git has packed them, leaves none of them."""
    refs = RefStore(repo.git_dir)
    faults.arm(_pack_at(repo, point, then_fail=True))
    with pytest.raises((OSError, HostError)):
        refs.update([RefChange(f"refs/heads/{number}", None, commits[0]) for number in range(2)])
    faults.arm(None)

    assert refs.list() == shown(repo) == {}
    assert locks(repo) == []


def test_deleting_and_packing_side_by_side(repo: GitRepo, commits: list[Oid]) -> None:
    """Hundreds of deletions beside a git that packs refs all the time: none of the deleted comes back."""
    refs = RefStore(repo.git_dir)
    stop = threading.Event()

    def pack() -> None:
        while not stop.is_set():
            repo.run("pack-refs", "--all", "--prune", check=False)

    packer = threading.Thread(target=pack)
    packer.start()
    try:
        for number in range(150):
            name = f"refs/heads/{number}"
            refs.update([RefChange(name, None, commits[0])])
            refs.update([RefChange(name, commits[0], None)])

            assert refs.read(name) is None
    finally:
        stop.set()
        packer.join()

    assert refs.list() == shown(repo) == {}


def test_refs_are_written_at_once_only_where_none_are_packed(repo: GitRepo, commits: list[Oid]) -> None:
    """What git has packed is never replaced."""
    refs = RefStore(repo.git_dir)

    assert refs.create_packed({"refs/tags/a": commits[0], "refs/tags/b": commits[1]})
    assert not refs.create_packed({"refs/tags/c": commits[0]})
    assert refs.list() == shown(repo) == {"refs/tags/a": commits[0], "refs/tags/b": commits[1]}
    assert locks(repo) == []
