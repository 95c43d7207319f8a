"""Quotas: what a fork may hold beyond its base, by every way to its files, and what a program sees at the limit."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import random
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from avfs_git.errors import FuseUnavailable, HostError, InvalidInput, QuotaExceeded
from avfs_git.host.files.ranges import KEEP_SIZE, fallocate
from avfs_git.sdk import Avfs, Vault, Workspace
from tests.support.commands import ALLOW_ALL
from tests.support.killing import server_below
from tests.support.waiting import wait_for

pytestmark = pytest.mark.needs("git", "user-xattrs", "whiteout")

MIB = 1 << 20
_FUSE = pytest.mark.needs("fuse")
MOUNTED = [
    pytest.param("fuse", marks=_FUSE),
    pytest.param("portable", marks=[_FUSE, pytest.mark.needs("libfuse")]),
]


@pytest.fixture
def vault(mount_dir: Path, tmp_path: Path) -> Iterator[Vault]:
    """A vault with a fork `work` that has changed nothing."""
    source = tmp_path / "source"
    (source / "dir").mkdir(parents=True)
    (source / "big").write_bytes(bytes(600_000))
    (source / "dir" / "file").write_bytes(b"content\n")
    policy = tmp_path / "policy.toml"
    policy.write_text(ALLOW_ALL)
    with Avfs(mount_dir / "h", policy=policy) as avfs, avfs.create_vault("v", source=source) as vault:
        vault.fork("work").close()
        yield vault
        for info in vault.sessions():
            if (found := vault.find_session(info.fork)) is not None:
                found.unmount(force=True)


def used(vault: Vault) -> tuple[int, int]:
    """Tell the bytes and files that the fork holds."""
    usage = vault.fork_info("work", usage=True).usage
    assert usage is not None
    return usage.size_bytes, usage.files


@contextlib.contextmanager
def refused(number: int) -> Iterator[None]:
    """Expect an errno."""
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        yield
    assert caught.value.errno == number


def test_bytes(vault: Vault, work: Workspace) -> None:
    """What would exceed the limit is refused as a whole; what goes away makes room."""
    vault.set_config("quota.fork_bytes", str(MIB))
    work.write("a", bytes(900_000))
    exceeding: tuple[Callable[[], object], ...] = (
        lambda: work.write("b", bytes(200_000)),
        lambda: work.write("a", bytes(200_000), append=True),
        lambda: work.write("a", bytes(MIB + 1)),
        lambda: work.copy("a", "c"),
        lambda: work.copy("big", "c"),
        lambda: work.write("big", b"x", append=True),
    )
    for exceed in exceeding:
        with pytest.raises(
            QuotaExceeded, match=r"'quota\.fork_bytes' allows 1,048,576 bytes: the fork has 900,000"
        ) as caught:
            exceed()
        assert caught.value.code == "quota.exceeded"
        assert caught.value.hint is not None
        assert "avfs vault config quota.fork_bytes" in caught.value.hint
    assert used(vault) == (900_000, 1)
    work.write("a", bytes(MIB))
    work.move("a", "dir/a")
    work.remove("dir/file")
    work.remove("big")
    work.remove("dir/a")
    assert used(vault) == (0, 1)  # the directory
    work.write("b", bytes(MIB))
    work.remove("dir", recursive=True)
    work.write("b", bytes(MIB))


def test_files(vault: Vault, work: Workspace) -> None:
    """A directory is one; a second name of a file is none; nothing keeps a program from removing."""
    vault.set_config("quota.fork_files", "3")
    work.make_dir("new/below", parents=True)
    work.write("new/below/a", b"")
    for path in ("b", "new/b"):
        with pytest.raises(QuotaExceeded, match=r"allows 3 files: the fork has 3"):
            work.write(path, b"")
    with pytest.raises(QuotaExceeded):
        work.make_dir("d")
    work.write("new/below/a", b"content")
    work.remove("dir/file")  # copies a directory up, which is counted
    assert used(vault) == (7, 4)
    work.remove("new", recursive=True)
    work.write("b", b"")
    assert used(vault) == (0, 2)


def test_file_size(vault: Vault, work: Workspace) -> None:
    """One file may be so large; one that was larger before may become smaller."""
    work.write("old", bytes(5000))
    vault.set_config("quota.file_bytes", "1000")
    work.write("a", bytes(1000))
    with pytest.raises(QuotaExceeded, match=r"'quota\.file_bytes' allows 1,000 bytes: the file would have 1,001"):
        work.write("a", b"x", append=True)
    work.write("old", bytes(900))
    assert used(vault) == (1900, 2)


def test_a_limit_below_what_is_there(vault: Vault, work: Workspace) -> None:
    """Nothing grows; it can shrink, be committed, and be undone."""
    work.write("a", bytes(5000))
    vault.set_config("quota.fork_bytes", "1000")
    with pytest.raises(QuotaExceeded):
        work.write("b", b"x")
    assert work.checkpoint(label="kept").outcome == "created"
    work.remove("a")
    work.checkpoint(label="less")
    vault.undo(fork="work")
    vault.undo(fork="work")
    assert len(work.read("a")) == 5000
    vault.unset_config("quota.fork_bytes")
    work.write("b", b"x")


def test_a_fork_of_its_own_quota(vault: Vault, work: Workspace) -> None:
    """It holds in place of the vault's, through a rename, a deletion that is undone and another process.

    Not for a fork of it.
    """
    vault.set_config("quota.fork_bytes", "1000")
    vault.set_config("quota.fork_bytes", "5000", fork="work")
    assert vault.get_config(fork="work") == {
        "quota.fork_bytes": "5000",
        "quota.fork_files": "0",
        "quota.file_bytes": "0",
    }
    work.write("a", bytes(5000))
    hint = r"avfs fork config FORK quota\.fork_bytes"
    with pytest.raises(QuotaExceeded, match=r"allows 5,000 bytes") as caught:
        work.write("b", b"x")
    assert re.search(hint, caught.value.hint or "")
    with vault.fork("child", source="work") as child, pytest.raises(QuotaExceeded, match=r"allows 1,000 bytes"):
        child.write("b", bytes(1001))
    vault.rename_fork("work", "renamed")
    vault.delete_fork("renamed")
    vault.undo()
    with Avfs(vault.path.parents[1]) as avfs, avfs.open_vault("v") as again:
        renamed = again.workspace("renamed")
        renamed.remove("a")
        with pytest.raises(QuotaExceeded, match=r"allows 5,000 bytes"):
            renamed.write("a", bytes(5001))
        again.set_config("quota.fork_bytes", "0", fork="renamed")
    renamed = vault.workspace("renamed")
    renamed.write("a", bytes(5001))
    vault.unset_config("quota.fork_bytes", fork="renamed")
    with pytest.raises(QuotaExceeded, match=r"allows 1,000 bytes"):
        renamed.write("b", b"x")


def test_a_fork_is_made_with_a_quota(vault: Vault) -> None:
    """It holds from the first write; a setting that a fork cannot have makes none."""
    made = vault.fork("small", config={"quota.fork_files": "1"})
    made.write("a", b"")
    with pytest.raises(QuotaExceeded, match=r"allows 1 files"):
        made.write("b", b"")
    usage = vault.fork_info("small", usage=True).usage
    assert usage is not None
    assert (usage.files, usage.max_files, usage.max_bytes) == (1, 1, None)
    for config in ({"gc.keep_days": "1"}, {"quota.fork_files": "few"}, {"none": "1"}):
        with pytest.raises(InvalidInput):
            vault.fork("none", config=config)
    assert not vault.has_fork("none")
    with pytest.raises(InvalidInput, match=r"a fork has no setting 'gc\.keep_days'"):
        vault.set_config("gc.keep_days", "1", fork="small")


@pytest.mark.parametrize("backend", MOUNTED)
def test_a_mounted_fork_follows_its_own_quota(vault: Vault, work: Workspace, mount_dir: Path, backend: str) -> None:
    """A program sees the change at its next write, and the program of another fork does not."""
    other = vault.fork("other")
    with work.mount(mount_dir / "m", backend=backend), other.mount(mount_dir / "n", backend=backend):
        vault.set_config("quota.fork_bytes", "1000", fork="work")
        with refused(errno.EDQUOT):
            os.truncate(mount_dir / "m" / "dir" / "file", 2000)
        os.truncate(mount_dir / "n" / "dir" / "file", 2000)
        vault.unset_config("quota.fork_bytes", fork="work")
        os.truncate(mount_dir / "m" / "dir" / "file", 2000)
    assert len(work.read("dir/file")) == 2000


@pytest.mark.parametrize("backend", MOUNTED)
def test_a_program_sees_the_errno(vault: Vault, work: Workspace, mount_dir: Path, backend: str) -> None:
    """A write takes what fits; the limit holds for each way to grow; what is removed makes room."""
    vault.set_config("quota.fork_bytes", str(MIB))
    vault.set_config("quota.fork_files", "10")
    tree = mount_dir / "m"
    with work.mount(tree, backend=backend):
        fd = os.open(tree / "a", os.O_CREAT | os.O_RDWR, 0o644)
        assert os.write(fd, bytes(100_000)) == 100_000
        os.ftruncate(fd, MIB)
        for grow in (
            lambda: os.pwrite(fd, b"x", MIB),
            lambda: os.ftruncate(fd, MIB + 1),
            lambda: fallocate(fd, 0, 0, MIB + 1),
            lambda: os.truncate(tree / "big", 600_001),
            lambda: os.chmod(tree / "big", 0o600),
        ):
            with refused(errno.EDQUOT):
                grow()
        with refused(errno.EOPNOTSUPP):
            fallocate(fd, KEEP_SIZE, 0, 2 * MIB)
        os.ftruncate(fd, MIB - 10)
        assert os.pwrite(fd, bytes(50), MIB - 10) == 10
        os.link(tree / "a", tree / "again")
        (tree / "a").unlink()
        (tree / "again").unlink()
        with pytest.raises(OSError, match="quota"):
            (tree / "b").write_bytes(b"x")
        os.close(fd)
        wait_for(lambda: not _is_refused(tree / "b"))
        for name in "cdefghijk":
            (tree / name).touch()
        with refused(errno.EDQUOT):
            (tree / "l").touch()
        vault.set_config("quota.fork_files", "11")
        (tree / "l").touch()
        with refused(errno.EDQUOT):
            (tree / "m").symlink_to("l")
        os.rename(tree / "l", tree / "c")
        (tree / "m").symlink_to("c")
        with pytest.raises(QuotaExceeded):
            work.write("n", b"")
        vault.set_config("quota.file_bytes", "1000")
        with refused(errno.EFBIG):
            os.truncate(tree / "c", 1001)
        assert work.checkpoint(label="full").outcome == "created"


def _is_refused(path: Path, size: int = 900_000) -> bool:
    try:
        path.write_bytes(bytes(size))
    except OSError:
        return True
    return False


def test_states(vault: Vault, work: Workspace) -> None:
    """A restore or a merge that would exceed the limit is refused before anything has changed; undo is not."""
    work.write("a", bytes(900_000))
    work.checkpoint(label="large")
    work.remove("a")
    work.write("b", bytes(500_000))
    work.checkpoint(label="small")
    vault.set_config("quota.fork_bytes", str(MIB))
    work.restore("large")
    assert len(work.read("a")) == 900_000
    vault.undo(fork="work")
    work.write("c", bytes(500_000))
    with pytest.raises(QuotaExceeded):
        work.restore("large", paths=["a"])
    assert work.read("b") == bytes(500_000)
    assert not work.exists("a")
    vault.fork("other", source="main").write("d", bytes(100_000))
    before = work.status().head
    with pytest.raises(QuotaExceeded):
        work.merge("other")
    assert (work.exists("d"), work.status().merging) == (False, None)
    work.remove("c")
    assert work.merge("other").outcome != "conflicted"
    assert before is not None


def test_import(vault: Vault, work: Workspace, tmp_path: Path) -> None:
    """It stops where no room is left, and says that what came stays; what it replaces makes room."""
    vault.set_config("quota.fork_bytes", str(MIB))
    source = tmp_path / "import"
    (source / "below").mkdir(parents=True)
    (source / "below" / "a").write_bytes(bytes(500_000))
    (source / "b").write_bytes(bytes(500_000))
    work.write("c", bytes(100_000))
    with pytest.raises(QuotaExceeded) as refused:
        work.import_path(source, "new", recursive=True)
    assert "imported before that stays" in str(refused.value.hint)
    work.remove("new", recursive=True)
    work.remove("c")
    for _ in range(2):
        work.import_path(source, "new", recursive=True)
    assert used(vault) == (1_000_000, 4)


@pytest.mark.parametrize(
    "backend", [pytest.param("overlay", marks=[_FUSE, pytest.mark.needs("root", "overlayfs")]), "checkout"]
)
def test_a_command_that_nothing_stops(vault: Vault, work: Workspace, backend: str) -> None:
    """Where the kernel writes, what a command changed beyond the limit stays uncommitted, with the reason."""
    for key, limit in (("quota.fork_bytes", "100000"), ("quota.file_bytes", "150000")):
        vault.set_config(key, limit)
        result = work.exec("sh", "-c", "head -c 200000 /dev/zero > big", backend=backend)
        assert (result.exit_code, result.commit) == (0, None)
        assert [change.path for change in work.status().changed_files] == [b"big"]
        (told,) = [warning.message for warning in result.warnings if warning.code == "exec.over_quota"]
        assert key in told
        saved = work.checkpoint(f"beyond {key}")
        assert [change.path for change in saved.changed_files] == [b"big"]
        (told,) = [warning.message for warning in saved.warnings if warning.code == "checkpoint.over_quota"]
        assert key in told
        work.remove("big")
        assert "checkpoint.over_quota" not in [warning.code for warning in work.checkpoint(f"within {key}").warnings]
        vault.unset_config(key)
    assert work.exec("sh", "-c", "head -c 200000 /dev/zero > big", backend=backend).commit is not None


@_FUSE
def test_a_command_is_stopped(vault: Vault, work: Workspace) -> None:
    """By itself, `exec` chooses what keeps to the quota; overlayfs is not mounted with one."""
    vault.set_config("quota.fork_bytes", "100000")
    result = work.exec("sh", "-c", "head -c 200000 /dev/zero > big")
    assert (result.backend, result.exit_code != 0) == ("fuse", True)
    assert any("quota" in reason for reason in result.backend_reasons)
    with pytest.raises(FuseUnavailable, match="quota"):
        work.mount(backend="overlay")


@_FUSE
def test_a_server_that_was_killed(vault: Vault, work: Workspace, mount_dir: Path) -> None:
    """The next one counts what is there."""
    vault.set_config("quota.fork_bytes", str(MIB))
    tree = mount_dir / "m"
    with work.mount(tree) as session:
        held = os.open(tree / "held", os.O_CREAT | os.O_RDWR, 0o644)
        os.write(held, bytes(500_000))
        (tree / "held").unlink()
        (tree / "a").write_bytes(bytes(500_000))
        os.kill(server_below(session.info().pid), signal.SIGKILL)
        with pytest.raises(OSError, match="quota"):
            (tree / "b").write_bytes(bytes(100_000))
        os.close(held)
        wait_for(lambda: not _is_refused(tree / "b", 500_000))


@_FUSE
def test_a_mapped_file_of_the_base(vault: Vault, work: Workspace, mount_dir: Path) -> None:
    """What a program has changed in memory is not refused later, when no call of the program would say so."""
    vault.set_config("quota.fork_bytes", "1000")
    with work.mount(mount_dir / "m"):
        with (mount_dir / "m" / "big").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[:5] = b"first"
            mapped.flush()
        assert work.read("big")[:5] == b"first"
        with refused(errno.EDQUOT):
            (mount_dir / "m" / "more").write_bytes(b"x")


@pytest.mark.ordinary
@pytest.mark.parametrize("mode", [0o000, 0o300, 0o400])
def test_a_closed_directory(vault: Vault, work: Workspace, mode: int) -> None:
    """It makes no count fail; what its own owner may not look at is not counted."""
    vault.set_config("quota.fork_bytes", "1000")
    work.write("closed/a", bytes(900))
    work.chmod("closed", mode)
    with Avfs(vault.path.parents[1]) as avfs, avfs.open_vault("v") as again:
        other = again.workspace("work")
        other.write("b", bytes(100))
        with pytest.raises(QuotaExceeded):
            other.write("c", bytes(1000))
        assert other.stat("closed").mode & 0o777 == mode


def test_a_symbolic_link_in_the_place_of_a_directory(mount_dir: Path, tmp_path: Path) -> None:
    """A file elsewhere, at the end of a link that a merge replaces, is no room that the merge gives back."""
    outside, source = tmp_path / "outside", tmp_path / "linking"
    outside.mkdir()
    (outside / "large").write_bytes(bytes(5000))
    source.mkdir()
    (source / "way").symlink_to(outside)
    with Avfs(mount_dir / "h") as avfs, avfs.create_vault("v", source=source) as vault:
        work, other = vault.workspace(), vault.fork("other")
        other.remove("way")
        other.write("way/large", b"x" * 5000)
        other.checkpoint("a directory")
        vault.set_config("quota.fork_bytes", "1000")
        work.remove("way")
        work.symlink("way", os.fsencode(outside))
        with pytest.raises(QuotaExceeded):
            work.merge("other")
        assert work.read_link("way") == os.fsencode(outside)


def vault_holds(vault: Vault) -> int:
    """Add up what counts of a vault by a walk: the objects, and the files of the upper layers."""
    tops = [vault.path / "objects", *(vault.path / "avfs" / "workspaces").glob("*/upper")]
    files = (Path(place, name) for top in tops for place, _, names in os.walk(top) for name in names)
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())


def limit_vault(vault: Vault, more: int) -> int:
    """Let a vault hold so much more than it does; tell the limit."""
    limit = vault_holds(vault) + more
    vault.set_config("quota.vault_bytes", str(limit))
    return limit


def test_a_vault(vault: Vault, work: Workspace) -> None:
    """All forks share one limit; what one fork gives back, another has."""
    other = vault.fork("other")
    work.write("before", bytes(300_000))
    limit = limit_vault(vault, 700_000)
    work.write("a", bytes(400_000))
    with pytest.raises(QuotaExceeded, match=rf"'quota\.vault_bytes' allows {limit:,} bytes: the vault has") as caught:
        other.write("b", bytes(300_001))
    assert "avfs prune" in (caught.value.hint or "")
    with pytest.raises(QuotaExceeded):
        other.copy("big", "copy")
    other.write("b", bytes(300_000))
    usage = vault.fork_info("other", usage=True).usage
    assert usage is not None
    assert (usage.vault_bytes, usage.max_vault_bytes) == (limit, limit)
    info, stats = vault.info(usage=True), vault.stats()
    assert (info.held_bytes, info.max_bytes) == (stats.held_bytes, stats.max_bytes) == (limit, limit)
    assert vault.info().max_bytes is None
    work.remove("before")
    other.write("c", bytes(300_000))
    vault.delete_fork("work")
    other.write("d", bytes(400_000))
    with pytest.raises(QuotaExceeded):
        other.write("e", b"x")
    vault.undo()
    assert len(vault.workspace("work").read("a")) == 400_000
    assert vault_holds(vault) > limit


@pytest.mark.ordinary
def test_a_full_vault(vault: Vault, work: Workspace) -> None:
    """Nothing is stored on request; what frees room, and what brings back a state, goes on."""
    work.write("a", os.urandom(100_000))
    work.checkpoint("one")
    work.write("a", os.urandom(100_000))
    limit_vault(vault, 0)
    refusals: tuple[Callable[[], object], ...] = (
        lambda: work.checkpoint("two"),
        lambda: vault.fork("another"),
        lambda: work.write("b", b"x"),
        vault.fetch,
    )
    for refusal in refusals:
        with pytest.raises(QuotaExceeded, match=r"quota\.vault_bytes"):
            refusal()
    assert not vault.has_fork("another")
    vault.undo(fork="work")
    vault.undo(fork="work")
    vault.redo(fork="work")
    vault.gc()
    vault.prune(keep_operations=1, grace_s=0)
    work.remove("a")
    vault.delete_fork("work")
    vault.set_config("quota.vault_bytes", "0")
    vault.fork("another")


@_FUSE
def test_a_build_that_fills_a_vault(vault: Vault, work: Workspace) -> None:
    """The program sees the errno, what it did stays uncommitted with the reason, and the workspace is usable."""
    limit_vault(vault, 400_000)
    build = "for n in 1 2 3 4 5 6 7 8; do head -c 100000 /dev/zero > part$n || exit 9; done"
    result = work.exec("sh", "-c", build, commit_failed=True)
    assert (result.exit_code, result.commit) == (9, None)
    assert b"quota" in result.stderr.lower()
    (told,) = [warning.message for warning in result.warnings if warning.code == "exec.over_quota"]
    assert "quota.vault_bytes" in told
    assert {bytes(change.path) for change in work.status().changed_files} >= {b"part1", b"part2", b"part3"}
    for name in ("part1", "part2"):
        work.remove(name)
    assert work.checkpoint("kept").outcome == "created"


@_FUSE
def test_writers_never_pass_the_limit_of_a_vault(vault: Vault, work: Workspace, mount_dir: Path) -> None:
    """Two programs and a caller of the API write and remove at random, at once; a walk finds no more than the limit."""
    third = vault.fork("third")
    limit = limit_vault(vault, 3 * MIB)
    chosen = random.Random(1)

    def write(put: Callable[[str, bytes], object], remove: Callable[[str], object], sizes: Sequence[int]) -> int:
        refusals = 0
        for number, size in enumerate(sizes):
            remove(f"file{size % 6}")
            try:
                put(f"file{number}", bytes(size))
            except QuotaExceeded:
                refusals += 1
            except OSError as error:
                refusals += error.errno == errno.EDQUOT
        return refusals

    def of_tree(tree: Path) -> tuple[Callable[[str, bytes], object], Callable[[str], object]]:
        return (lambda name, data: (tree / name).write_bytes(data)), lambda name: (tree / name).unlink(missing_ok=True)

    with work.mount(mount_dir / "m"), vault.fork("other").mount(mount_dir / "n"), ThreadPoolExecutor() as pool:
        ways = (
            of_tree(mount_dir / "m"),
            of_tree(mount_dir / "n"),
            (third.write, partial(third.remove, missing_ok=True)),
        )
        refusals = 0
        for _ in range(10):
            runs = [pool.submit(write, put, remove, [chosen.randrange(MIB) for _ in range(6)]) for put, remove in ways]
            refusals += sum(run.result() for run in runs)
            assert vault_holds(vault) <= limit
    assert refusals


@_FUSE
def test_a_killed_server_leaves_what_it_reserved(vault: Vault, work: Workspace, mount_dir: Path) -> None:
    """The next change of the fork counts what is there; a fork that is renamed keeps its count."""
    other = vault.fork("other")
    limit_vault(vault, 4 * MIB)
    with work.mount(mount_dir / "m") as session:
        (mount_dir / "m" / "a").write_bytes(bytes(MIB))
        os.kill(server_below(session.info().pid), signal.SIGKILL)
        (mount_dir / "m" / "b").write_bytes(bytes(MIB))
    vault.rename_fork("work", "renamed")
    other.write("c", bytes(2 * MIB - 100_000))
    with pytest.raises(QuotaExceeded, match="vault_bytes"):
        other.write("d", bytes(100_000))


@pytest.mark.needs("root", "overlayfs", "fuse")
def test_a_mount_that_is_older_than_the_quota(vault: Vault, work: Workspace, mount_dir: Path) -> None:
    """The kernel stops no program; a checkpoint saves all, and says so."""
    with work.mount(mount_dir / "m", backend="overlay"):
        vault.set_config("quota.fork_bytes", "1000")
        (mount_dir / "m" / "a").write_bytes(bytes(2000))
        result = work.checkpoint("kept")
        assert result.outcome == "created"
        (told,) = [warning.message for warning in result.warnings if warning.code == "checkpoint.over_quota"]
        assert "quota.fork_bytes" in told


def test_a_ledger_that_cannot_be_used(vault: Vault, work: Workspace) -> None:
    """What needs to know the room of the vault fails by name; reading and removing go on."""
    work.write("a", b"content")
    limit_vault(vault, MIB)
    (vault.path / "avfs" / "room").mkdir()
    for change in (lambda: work.write("b", b"x"), lambda: work.checkpoint("one")):
        with pytest.raises(HostError, match="room"):
            change()
    usage = vault.fork_info("work", usage=True).usage
    assert usage is not None
    assert (usage.size_bytes, usage.vault_bytes) == (7, None)
    work.remove("a")
    assert not work.exists("a")


def test_a_damaged_ledger_is_counted_anew(vault: Vault, work: Workspace) -> None:
    """What is written in it lets the vault never hold more than its limit."""
    work.write("a", bytes(300_000))
    other = vault.fork("other")
    limit = limit_vault(vault, 100_000)
    name = b'{"%d": ' % (vault.path / "avfs" / "workspaces" / "work").stat().st_ino
    for text in (
        b"",
        b"\xff{",
        b"[]",
        b"[" * 100_000,
        name + b"-9999999}",
        name + b"1e3}",
        name + b"false}",
        name + b"null}",
    ):
        (vault.path / "avfs" / "room").write_bytes(text)
        assert vault.info(usage=True).held_bytes == limit - 100_000
        (vault.path / "avfs" / "room").write_bytes(text)
        with pytest.raises(QuotaExceeded):
            other.write("b", bytes(100_001))
    other.write("b", bytes(100_000))


@_FUSE
def test_the_same_limit_again(vault: Vault, work: Workspace, mount_dir: Path) -> None:
    """What a mounted fork has reserved stays its own, so that no other fork is given it, too."""
    other = vault.fork("other")
    limit = limit_vault(vault, 32 * MIB)
    work.mount(mount_dir / "m", backend="fuse")
    with (mount_dir / "m" / "file").open("wb", buffering=0) as file:
        file.write(bytes(1000))
        vault.set_config("quota.vault_bytes", str(limit))
        other.write("most", bytes(30 * MIB))
        with pytest.raises(QuotaExceeded):
            other.write("rest", bytes(2 * MIB - 1000))
