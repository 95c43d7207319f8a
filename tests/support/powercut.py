"""Cutting the power under a running avfs: file systems in image files, shut down in the middle of their work.

Decided here: what a round is. A workload (`tests.support.workload`) runs in a process of its own on a file system
in a loop-mounted image and says over a pipe what was acknowledged to it. The file system is shut down without
flushing its log (the ioctl of XFS and ext4 that their own crash tests use): what had not reached the device is gone.
It is mounted again, and everything that was acknowledged must be there. Needs root; leaves no mount, no loop
device and no process.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from avfs_git import Avfs, Vault
from avfs_git.host.files.closing import closing_fd
from tests.support.capabilities import find_tool
from tests.support.faults import check_objects, check_vault, git
from tests.support.sweep import mounts_below

_SHUT_DOWN = 0x8004587D  # XFS_IOC_GOINGDOWN and EXT4_IOC_SHUTDOWN are one number
_WITHOUT_LOG = (2).to_bytes(4, sys.byteorder)  # *_GOING_FLAGS_NOLOGFLUSH
ROOT = Path(__file__).parents[2]

OPTIONS = {"ext4": "loop,noauto_da_alloc", "xfs": "loop"}
_PATIENCE_S = 300
_SIZES = {"ext4": 256 << 20, "xfs": 320 << 20}


def _looped() -> set[str]:
    """List the files behind loop devices."""
    found = set()
    for told in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # it is let go of meanwhile
            found.add(told.read_text().rstrip("\n"))
    return found


@contextmanager
def image(kind: str, scratch: Path, *, size: int | None = None, options: Sequence[str] = ()) -> Iterator[Disk]:
    """Make a file system in a file, mounted; it is unmounted and removed afterwards."""
    disk = Disk(kind, scratch / f"{kind}.image", scratch / kind)
    with disk.file.open("wb") as file:
        file.truncate(size or _SIZES[kind])
    disk.point.mkdir()
    maker = find_tool(f"mkfs.{kind}")
    assert maker is not None
    subprocess.run([maker, "-q", *options, str(disk.file)], check=True, capture_output=True)
    try:
        disk.mount()
        yield disk
    finally:
        disk.unmount()
        disk.file.unlink()


@dataclass
class Disk:
    """A file system in a file."""

    kind: str
    file: Path
    point: Path

    def mount(self) -> None:
        """Mount it, which replays its log."""
        self._await_let_go()
        subprocess.run(
            ["mount", "-t", self.kind, "-o", OPTIONS[self.kind], str(self.file), str(self.point)], check=True
        )

    def unmount(self) -> None:
        """Unmount it, and wait for whoever is about to let go of it."""
        gc.collect()  # an exception that was reported may still hold what it met
        for _ in range(100):
            if self.point not in mounts_below(self.point.parent):  # a file system that is shut down answers no stat
                return
            if subprocess.run(["umount", str(self.point)], check=False, capture_output=True).returncode:
                time.sleep(0.05)
        subprocess.run(["umount", "-l", str(self.point)], check=True)

    def _await_let_go(self) -> None:
        """Wait until no other mount namespace has a copy of the mount.

        The next mount of the image then gets it as it was, shut down.

        Each namespace that begins while it is mounted has one: those of tests beside this one do.
        """
        end = time.monotonic() + _PATIENCE_S
        while str(self.file) in _looped():
            assert time.monotonic() < end, f"somebody has a copy of the mount of {self.file}"
            time.sleep(0.02)

    def cut_power(self) -> None:
        """Shut it down as it is: nothing that is still in memory gets to the device."""
        with closing_fd(os.open(self.point, os.O_RDONLY | os.O_DIRECTORY)) as fd:
            fcntl.ioctl(fd, _SHUT_DOWN, _WITHOUT_LOG)


@dataclass
class Round:
    """What one power cut did."""

    kind: str
    seed: int
    acknowledged: int = 0
    recovered: int = 0
    """How many files were put back in workspaces."""
    emptied: int = 0
    """How many were being written, and were left empty for their owner to decide."""
    bad: list[str] = field(default_factory=list)


def run_round(disk: Disk, seed: int, *, unsynced: bool = False) -> Round:
    """Let the workload run for a moment, cut the power, and look at what is left."""
    home = disk.point / f"home{seed}"
    result = Round(disk.kind, seed)
    acknowledged = interrupt_workload(home, result, disk.cut_power, unsynced=unsynced)
    if not acknowledged:
        return result
    disk.unmount()
    disk.mount()
    try:
        check_acknowledged(home, acknowledged, result, rebooted=True)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong here is what the round is to report
        result.bad.append(f"{type(error).__name__}: {error}")
    while home.exists():  # maintenance in the background may still make files in it
        subprocess.run(["rm", "-rf", str(home)], check=False, capture_output=True)
    return result


def cut_at_sync(disk: Disk, home: Path, act: Callable[[Vault], object], number: int) -> str:
    """Let a child process act on the vault `v`, and cut the power right before it syncs for the n-th time.

    Returns:
        "done" if it acted without that many syncs, "cut" if it failed, "acknowledged" if it went on as if nothing had
        happened.
    """
    with warnings.catch_warnings():
        # fork in a process with threads, which the child does not use
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return {0: "done", 1: "cut", 2: "acknowledged"}[status]
    left = number

    def sync_later(sync: Callable[[int], None]) -> Callable[[int], None]:
        def cut_and_sync(fd: int) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                disk.cut_power()
            sync(fd)

        return cut_and_sync

    try:
        vault = Avfs(home).open_vault("v")
        for call in ("fsync", "fdatasync"):
            setattr(os, call, sync_later(getattr(os, call)))
        act(vault)
        os._exit(2 if left <= 0 else 0)
    except Exception:  # noqa: BLE001 - whichever error: the action says that it failed
        os._exit(1 if left <= 0 else 3)
    finally:
        os._exit(4)


def interrupt_workload(
    home: Path, result: Round, interrupt: Callable[[], object], *, unsynced: bool = False
) -> list[dict[str, str]]:
    """Start the workload, interrupt it at a random moment, kill it, and give what it said was acknowledged."""
    worker = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.support.workload",
            str(home),
            str(result.seed),
            *(["unsynced"] if unsynced else []),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    try:
        assert worker.stdout is not None
        lines = [worker.stdout.readline()]
        if not lines[0]:
            result.bad.append(f"the workload did not begin: {worker.communicate()[1].decode()[-500:]}")
            return []
        time.sleep(random.Random(result.seed).uniform(0.02, 1.5))
        interrupt()
    finally:
        worker.kill()
        worker.wait()
    lines += worker.stdout.readlines()
    worker.communicate()
    # A line that was cut short was not said.
    acknowledged = [json.loads(line) for line in lines if line.endswith(b"\n")]
    result.acknowledged = sum(said["commit"] is not None for said in acknowledged)
    return acknowledged


def check_acknowledged(home: Path, acknowledged: list[dict[str, str]], result: Round, *, rebooted: bool) -> None:
    """Find what of the acknowledged is gone, and whether everything can go on."""
    git_dir = home / "vaults" / "v.git"
    check_objects(git_dir)
    kept = set(git(git_dir, "rev-list", "--all").split())
    last: dict[str, str] = {}
    unfinished: set[str] = set()
    for said in acknowledged:
        if said["op"] == "begin":
            unfinished.add(said["fork"])
            continue
        unfinished.discard(said["fork"])
        if said["op"] == "end":
            continue
        if said["commit"] not in kept:
            result.bad.append(f"{said['op']} on {said['fork']} was acknowledged and is gone: {said['commit']}")
        last[said["fork"]] = said["commit"]
    if rebooted:
        pretend_reboot(git_dir)
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        forks = {info.name for info in vault.list_forks()}
        result.bad += [f"fork {fork} was acknowledged and is gone" for fork in last.keys() - forks]
        for fork in sorted(forks & last.keys()):
            _check_fork(vault, fork, result, is_unfinished=fork in unfinished)
        check_vault(vault)
        for fork in sorted(forks):
            work = vault.workspace(fork)
            work.write("after", b"work goes on\n")
            if work.checkpoint().outcome != "created":
                result.bad.append(f"{fork} cannot go on")
    check_objects(git_dir)


def _check_fork(vault: Vault, fork: str, result: Round, *, is_unfinished: bool) -> None:
    """Compare a workspace with its branch: each file is what was committed, or was written later.

    What was being written when the power was cut may be empty: then a warning names the command that brings back what
    was committed.
    """
    work = vault.workspace(fork)
    warnings = [warning for warning in work.status().warnings if warning.code == "workspace.recovered"]
    result.recovered += sum("put back" in warning.message for warning in warnings)
    for line in git(vault.path, "ls-tree", "-r", f"refs/heads/{fork}").splitlines():
        meta, path = line.split("\t")
        committed = git(vault.path, "cat-file", "blob", meta.split()[2])
        if not work.exists(path):
            result.bad.append(f"{fork}: {path} is not in the workspace")
            continue
        found = work.read(path).decode("utf-8", "replace")
        offer = next((told.message for told in warnings if told.message.startswith(f"'{path}' is empty")), None)
        if not found and committed and offer is not None and is_unfinished:
            result.emptied += 1
            work.checkout_path(path, at=offer.rstrip("`").rpartition(" ")[2])
            found = work.read(path).decode("utf-8", "replace")
        if not found.startswith(committed) and number(found) <= number(committed):
            result.bad.append(f"{fork}: {path} has {found[:20]!r} where {committed[:20]!r} was committed")


def number(text: str) -> int:
    """Read which write made a file; -1 if none did."""
    first = text.partition("\n")[0]
    return int(first) if first.isdigit() else -1


def pretend_reboot(git_dir: Path) -> None:
    """Make every workspace believe that it was last used before the machine was started."""
    for state in git_dir.glob("avfs/workspaces/*/state"):
        with suppress(ValueError, TypeError):
            values = json.loads(state.read_bytes())
            state.write_text(json.dumps({**values, "boot": "another boot"}))
