"""What a stranger's objects may cost: every command answers or refuses in little memory, and in no endless time."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import TooManyFiles
from avfs_git.fuse.channel import MAX_IO, Channel, Request
from avfs_git.gitstore.formats.packfile import KIND_TREE
from avfs_git.gitstore.formats.trees import serialize_tree
from avfs_git.host.mounts.mounts import mount_fuse
from avfs_git.host.processes.runner import handle as runner_handle
from avfs_git.paths import Oid
from avfs_git.proxy.exec import run
from avfs_git.workspace import gitdir
from tests.support.capabilities import unmount
from tests.support.commands import ALLOW_ALL
from tests.support.limited import make_bomb, run_limited
from tests.support.live_tree import live_tree
from tests.support.objects import MemorySource
from tests.support.oracle import git

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout"), pytest.mark.slow]

EVERYBODY = pytest.mark.usefixtures("person")
"""What goes through a mount; how much a process reads into memory depends on no user."""

REFUSED = "error: the tree holds more than 2,000,000 files"


def make_source(place: Path, source: MemorySource, plain: Oid, bombed: Oid) -> Path:
    """Write a repository in which `plain` has one tree, and `main` after it the other."""
    git("init", "-q", "--bare", "-b", "main", place)
    before = source.add_commit(plain)
    after = source.add_commit(bombed, before)
    source.write_to(place)
    for name, oid in (("plain", before), ("main", after)):
        git("update-ref", f"refs/heads/{name}", oid.hex(), cwd=place)
    return place


@pytest.fixture
def bombed(mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A vault `v` with a tree bomb at `d` of its fork `main`; its home is in the directory that is given."""
    monkeypatch.setenv("AVFS_HOME", str(mount_dir / "h"))
    source = MemorySource()
    plain = source.add_tree({b"f": (0o100644, b"1\n")})
    file = source.read_tree(plain)[b"f"]
    tree = source.add(KIND_TREE, serialize_tree({b"d": (0o40000, make_bomb(source)), b"f": file}))
    repository = make_source(mount_dir / "source.git", source, plain, tree)
    run_limited("vault", "create", "v", "--from", repository).ok()
    return mount_dir


WALKS = (
    "diff plain main",
    "--fork plain merge main",
    "--fork plain checkpoint restore main",
    "export -r / OUT",
    "show main",
)
OTHERS = ("status", "ls d/0", "cat d/0/1/2/3/4/5/6/7/8/9", "gc", "rm -r d")


def test_a_bomb_costs_what_is_stored_of_it(bombed: Path) -> None:
    """What would walk through it is refused with a code of its own, before the disk is full; all else answers."""
    for command in WALKS:
        ran = run_limited("--vault", "v", *command.replace("OUT", str(bombed / "out")).split())

        assert REFUSED in ran.stderr, (command, ran.text, ran.stderr)
        assert ran.status == TooManyFiles.exit_code
    for command in OTHERS:
        run_limited("--vault", "v", *command.split()).ok()

    assert run_limited("--vault", "v", "ls").text.split() == ["f"]
    assert REFUSED in run_limited("--vault", "v", "status").stderr


@EVERYBODY
@pytest.mark.needs("fuse")
@pytest.mark.parametrize("backend", ["auto", "fuse"])
def test_git_makes_no_index_of_a_bomb(bombed: Path, backend: str) -> None:
    """One `git log` in it is refused: by avfs where it makes the index beforehand, else where git reads `.git`."""
    ran = run_limited("--vault", "v", "exec", "--backend", backend, "--", "git", "log", "--oneline")

    assert ran.status in (125, 128), (ran.text, ran.stderr)
    assert REFUSED in ran.stderr or "error reading" in ran.stderr, (ran.text, ran.stderr)


@EVERYBODY
@pytest.mark.needs("fuse")
def test_git_in_a_mount_sees_no_index_that_cannot_be_made(bombed: Path) -> None:
    """It is refused the file `.git`: without an index, all files would be removed for it."""
    tree = bombed / "m"
    run_limited("--vault", "v", "mount", "main", tree).ok()
    try:
        for command in (["log", "--oneline"], ["ls-files"]):
            ran = subprocess.run(["git", *command], cwd=tree, capture_output=True, text=True, check=False)
            assert (ran.returncode, ran.stdout) == (128, "")
            assert "error reading" in ran.stderr or "error opening" in ran.stderr
    finally:
        run_limited("--vault", "v", "unmount", tree).ok()


@EVERYBODY
@pytest.mark.needs("fuse")
def test_the_kernel_is_asked_to_forget_what_is_too_much(mount_dir: Path, tmp_path: Path) -> None:
    """A server keeps a bounded number of nodes, however many files are looked at; what was forgotten is found again."""
    source = tmp_path / "source"
    for number in range(300):
        (source / f"{number // 10}").mkdir(parents=True, exist_ok=True)
        (source / f"{number // 10}" / f"{number}").write_text(f"{number}\n")
    with live_tree(mount_dir, source, "most=100") as live:
        for _ in range(3):
            listed = live.run("find", ".", "-type", "f", "-size", "+0").stdout.split()
            assert len(listed) == 300
        held = (live.path / "3" / "30").open()
        live.run("find", ".", "-type", "f", "-size", "+0")
        forgotten = live.counts()

        assert (live.path / "7" / "77").read_text() == "77\n"
        assert held.read() == "30\n"
        held.close()

    assert forgotten.get("forget", 0) + forgotten.get("batch_forget", 0) > 0


def test_times_that_no_date_has_brick_nothing(mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and directories of the years 1901, 2300 and 2446 are looked at, saved, forked, restored and checked."""
    monkeypatch.setenv("AVFS_HOME", str(mount_dir / "h"))
    avfs = partial(run_limited, "--vault", "v")
    run_limited("vault", "create", "v").ok()
    touch = (
        "mkdir d; touch a b c; ln -s x l; touch -d 1901-12-20 a; touch -d 2446-01-01 c;"
        "touch -d 2300-01-01 b d .; touch -hd 2300-01-01 l"
    )
    avfs("exec", "--shell", touch).ok()
    commands = (
        "status",
        "checkpoint save",
        "log",
        "doctor",
        "fork create f",
        "--fork f rm b",
        "--fork f checkpoint restore main",
    )
    for command in (*commands, "ls -l"):
        avfs(*command.split()).ok()

    assert avfs("exec", "--", "stat", "-c", "%Y", "b").text == "10413792000\n"
    assert avfs("--fork", "f", "exec", "--", "git", "status", "--porcelain").ok().text == ""


def test_a_document_holds_no_huge_file(mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MiB of zeros are written out in pieces, and refused for a document, which would take thirty times as much."""
    monkeypatch.setenv("AVFS_HOME", str(mount_dir / "h"))
    run_limited("vault", "create", "v").ok()
    run_limited("--vault", "v", "exec", "--", "truncate", "-s", "64M", "zeros").ok()

    assert len(run_limited("--vault", "v", "cat", "zeros", megabytes=150).ok().stdout) == 64 << 20
    assert (
        run_limited("--vault", "v", "--json", "cat", "zeros", megabytes=150).document["error"]["code"]
        == "path.unsuitable"
    )


def test_an_output_file_has_a_limit(mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a long output holds the first bytes, and the result says that there was more."""
    monkeypatch.setenv("AVFS_HOME", str(mount_dir / "h"))
    run_limited("vault", "create", "v").ok()
    ran = run_limited(
        "--vault",
        "v",
        "--json",
        "exec",
        "--max-output",
        "1000",
        "--max-output-file",
        "50000",
        "--shell",
        "yes | head -c 999999",
    )
    result = ran.ok().result

    assert Path(result["stdout_file"]).read_bytes() == b"y\n" * 25_000
    assert [warning["code"] for warning in ran.document["warnings"]] == ["exec.output_cut"]


@EVERYBODY
@pytest.mark.needs("fuse", "overlayfs")
def test_the_time_limit_counts_while_an_index_is_made(bombed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command whose git would wait for an index longer than the limit is ended in time."""

    def make_for_ever(opened: object, tree: Oid, check: Callable[[], None]) -> bytes:
        while True:
            check()

    monkeypatch.setattr(gitdir, "make_index", make_for_ever)
    with Avfs(bombed / "h") as avfs, avfs.open_vault("v").workspace("main") as work:
        ended = work.exec("git", "log", timeout_ms=300, grace_ms=300)
        searched = work.exec(shell="git log; grep -r x .", timeout_ms=300, grace_ms=300)

    assert (ended.timed_out, ended.exit_code) == (searched.timed_out, searched.exit_code) == (True, 124)


@pytest.mark.needs("root", "fuse")
@pytest.mark.parametrize("end", ["time limit", "given up"])
def test_a_command_that_cannot_be_killed_is_left(mount_dir: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """One that waits for a server that never answers dies of no signal: avfs says so, and goes on."""
    monkeypatch.setattr(run, "STUCK_S", 0.5)
    monkeypatch.setattr(runner_handle, "STUCK_S", 0.5)
    stuck = mount_dir / "stuck"
    stuck.mkdir()
    policy = mount_dir / "policy.toml"
    policy.write_text(ALLOW_ALL)
    with Avfs(mount_dir / "h", policy=policy) as avfs, avfs.create_vault("v") as vault, vault.workspace() as work:
        fd = mount_fuse(stuck, source="stuck", subtype="avfs-stuck", max_read=MAX_IO)
        channel = Channel(fd)
        try:
            channel.negotiate()
            taken = threading.Thread(target=lambda: channel.receive(Request()), daemon=True)
            taken.start()
            if end == "time limit":
                ran = work.exec("cat", f"{stuck}/file", timeout_ms=300, grace_ms=100, backend="checkout")

                assert (ran.timed_out, ran.exit_code) == (True, 124)
                assert "exec.stuck" in [warning.code for warning in ran.warnings]
            else:
                with work.exec_stream(shell=f"echo; cat {stuck}/file", timeout_ms=None, backend="checkout") as running:
                    next(iter(running))
                    taken.join(20)
            taken.join(20)
            work.write("after", b"")
        finally:
            os.close(fd)
            assert unmount(stuck)
            for process in runner_handle._left:
                process.wait(20)
            runner_handle._left.clear()
