"""Vaults to break, what they must still hold afterwards, and ways to die in the middle.

Decided here: the one vault that all fault tests begin with (`make_vault`), what a workspace holds as a value
(`read_files`), and what must be true of a vault after any interruption (`check_vault`).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from avfs_git import Avfs, Vault, Workspace, faults
from avfs_git.errors import AvfsError
from avfs_git.model import Kind
from tests.support.failing import DieAt

Files = dict[bytes, tuple[str, int, bytes]]
"""Path -> kind, permission bits, content: times aside, all that a workspace holds."""

BIG = random.Random(1).randbytes(300_000)
"""Content that is stored only if it is not there."""
UNCOMMITTED = b"never committed, never to be lost\n"


def make_source(directory: Path) -> Path:
    """Fill a directory with one of everything that a vault can begin with."""
    for name in ("dir/deep", "empty", "build"):
        (directory / name).mkdir(parents=True)
    (directory / ".gitignore").write_bytes(b"build/\n*.log\n")
    (directory / "a").write_bytes(b"a\n")
    (directory / "dir" / "b").write_bytes(b"b\n")
    (directory / "dir" / "deep" / "c").write_bytes(b"c\n")
    (directory / "tool").write_bytes(b"#!/bin/sh\n")
    (directory / "tool").chmod(0o755)
    (directory / "secret.log").write_bytes(b"ignored\n")
    (directory / "build" / "out.o").write_bytes(b"warm build output\n")
    (directory / "link").symlink_to("dir/b")
    return directory


def make_vault(home: Path, source: Path) -> Vault:
    """Make a vault whose fork `work` has two labels, a restore behind it, and uncommitted changes of every kind."""
    vault = Avfs(home).create_vault("v", source=source)
    work = vault.fork("work")
    work.write("a", b"first\n")
    work.write("only-one", b"1\n")
    work.checkpoint("one")
    work.write("a", b"second\n")
    work.write("many/f", b"f\n")
    work.remove("only-one")
    work.remove("dir", recursive=True)
    work.checkpoint("two")
    work.write("uncommitted", UNCOMMITTED)
    work.write("a", b"third, uncommitted\n")
    work.write("build/out.o", b"rebuilt\n")
    work.remove("tool")
    work.chmod("many/f", 0o600)
    return vault


def copy_home(home: Path, directory: Path) -> Path:
    """Copy a home that nobody has open into a new directory; give the copy.

    Files get other inode numbers and times of change, so a copy reads files again that the stat cache knew in the first
    one.
    """
    directory.mkdir()
    subprocess.run(["cp", "-a", home, directory / home.name], check=True)
    return directory / home.name


def make_vault_with_garbage(directory: Path) -> Vault:
    """Make such a vault, with a deleted fork of which another one is left, and an operation after that."""
    vault = make_vault(directory / "home", make_source(directory / "source"))
    gone = vault.fork("gone", source="work")
    gone.write("big", BIG)
    gone.write("x.log", b"ignored, of a fork that is gone\n")
    gone.checkpoint("theirs")
    child = vault.fork("child", source="gone")
    child.remove("big")
    child.checkpoint("mine")
    gone.write("more", BIG[::-1])
    gone.checkpoint()
    gone.write("uncommitted", b"of no use to anybody\n")
    vault.delete_fork("gone")
    child.write("last", b"operation\n")
    child.checkpoint()
    return vault


def read_states(vault: Vault) -> dict[str, Files]:
    """Read every workspace, and every checkpoint in a fork of its own."""
    found = {info.name: read_files(vault.workspace(info.name)) for info in vault.list_forks()}
    for info in vault.list_forks():
        for checkpoint in vault.workspace(info.name).list_checkpoints():
            if checkpoint.id in found:  # of the fork that this one began with
                continue
            with vault.fork("look", at=checkpoint.id, source=info.name, ephemeral=True) as work:
                found[checkpoint.id] = read_files(work)
    return found


def read_files(work: Workspace) -> Files:
    """Read all that a workspace shows."""
    found: Files = {}
    stack = [b""]
    while stack:
        for info in work.list_dir(stack.pop() or "/"):
            path = info.path.strip(b"/")
            content = b""
            if info.kind is Kind.DIRECTORY:
                stack.append(path)
            elif info.kind is Kind.FILE:
                content = work.read(path)
            elif info.kind is Kind.SYMLINK:
                content = work.read_link(path)
            found[path] = (info.kind, info.mode & 0o7777, content)
    return found


def git(git_dir: Path, *arguments: str) -> str:
    """Run git in a vault; it must succeed."""
    done = subprocess.run(["git", f"--git-dir={git_dir}", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def check_objects(git_dir: Path) -> None:
    """Demand that git finds no fault.

    A fault that is there counts; `git fsck` also tells of packs that maintenance has joined since it listed them, so it
    is asked again, at most twice.
    """
    command = ["git", f"--git-dir={git_dir}", "fsck", "--strict", "--full", "--no-dangling", "--no-progress"]
    for again in (True, True, False):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        found = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("notice: ")]
        if (done.returncode, found) == (0, []):
            return
        assert again, (done.returncode, found)
        time.sleep(1)


_NO_LEFTOVERS = tuple(
    f"{of}.lock" for of in ("prune", "notes", "bases", "audit", "audit-files", "maintenance", "consolidate")
)


def _list_leftovers(git_dir: Path) -> list[Path]:
    """List the locks of refs and of git, and unfinished moves of refs."""
    locks = [path for path in git_dir.rglob("*.lock") if path.name not in _NO_LEFTOVERS]
    transactions = git_dir / "avfs" / "reftxn"
    return [*locks, *(transactions.iterdir() if transactions.is_dir() else ())]


def check_vault(vault: Vault, *, again: bool = False) -> None:
    """Demand what must hold after any interruption: nothing is damaged, or the doctor mends it, and no lock is left.

    Args:
        vault: The vault.
        again: It is checked once more later: git is asked then. The doctor asks it each time.
    """
    if not again:
        check_objects(vault.path)
    report = vault.doctor()
    if any(problem.fixable for problem in report.problems):
        vault.doctor(repair=True)
        report = vault.doctor()

    assert [problem for problem in report.problems if problem.severity == "error"] == []

    end_s = time.monotonic() + 30
    # maintenance in the background has some, too
    while (left := _list_leftovers(vault.path)) and time.monotonic() < end_s:
        time.sleep(0.02)

    assert left == []


def reachable_contents(git_dir: Path) -> set[bytes]:
    """Read all blobs that refs keep; only for small vaults."""
    ids = [line.split()[0] for line in git(git_dir, "rev-list", "--objects", "--all").splitlines()]
    done = subprocess.run(
        ["git", f"--git-dir={git_dir}", "cat-file", "--batch", "--buffer"],
        input="\n".join(ids).encode(),
        check=True,
        capture_output=True,
    )
    found: set[bytes] = set()
    at = 0
    while at < len(done.stdout):
        end = done.stdout.index(b"\n", at)
        _, kind, size = done.stdout[at:end].split()
        if kind == b"blob":
            found.add(done.stdout[end + 1 : end + 1 + int(size)])
        at = end + 2 + int(size)
    return found


def error_of(action: Callable[[], object]) -> AvfsError | None:
    """Do something; give the error that it ended with."""
    try:
        action()
    except AvfsError as error:
        return error
    return None


def die_in(action: Callable[[], object], point: int) -> bool:
    """Run an action in a child process that dies at the n-th fault point; tell whether it did.

    The action opens what it uses itself: nothing that is open here may be shared with the child.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # fork in a process with threads, which the child does not use
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            faults.arm(DieAt(point))
            action()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert status in (0, DieAt.STATUS), f"the child ended with status {status}"
    return status == DieAt.STATUS
