"""What `exec` promises of the run itself: time limits, output, signals, what stays behind, and its one document."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import jsonschema
import pytest

from avfs_git import Avfs
from avfs_git.cli.commands.running.exec import command as proxy_exec
from avfs_git.cli.commands.upkeep.schema import describe
from avfs_git.errors import (
    ApprovalNeeded,
    BackendUnavailable,
    CommandDenied,
    ExecError,
    InvalidInput,
    IsolationUnavailable,
    MountCovered,
    NotPrepared,
    WorkspaceBusy,
)
from avfs_git.host.mounts.mounts import list_mounts
from avfs_git.sdk import Vault, Workspace
from tests.support import capabilities
from tests.support.cli import Cli
from tests.support.commands import ALLOW_ALL, BACKENDS, place_policy
from tests.support.shown import spell_for_users

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout"), pytest.mark.slow]

EVERYBODY = pytest.mark.usefixtures("person")
"""Runs as root and as an ordinary user: what the kernel grants the two is not the same."""
SLEEP = str(100_000 + os.getpid())
"""How long the processes of this test run sleep, by which they are known."""
DAEMONS = (
    f"echo begun; setsid sleep {SLEEP} & (sleep {SLEEP} &) ; (setsid sh -c 'trap \"\" TERM; sleep {SLEEP}' &) "
    f"; sleep {SLEEP}"
)


@pytest.fixture
def policy(mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's policy, also for the command line; which has its home here."""
    return place_policy(mount_dir, monkeypatch)


@pytest.fixture
def vault(mount_dir: Path, tmp_path: Path, policy: Path) -> Iterator[Vault]:
    """A vault with a file."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content\n")
    policy.write_text(ALLOW_ALL)
    with Avfs(mount_dir / "h", policy=policy) as avfs:
        yield avfs.create_vault("v", source=source)
    assert not sleeping()
    end = time.monotonic() + 30
    while mounts(mount_dir) and time.monotonic() < end:  # what stood on a leash goes by itself
        time.sleep(0.02)
    assert not mounts(mount_dir)


def mounts(directory: Path) -> list[Path]:
    """List what is mounted below a directory."""
    return [mount.directory for mount in list_mounts() if directory in mount.directory.parents]


def sleeping() -> list[int]:
    """Find what `DAEMONS` has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", SLEEP.encode()]:
                found.append(int(entry.name))
    return found


def wait_for_sleep() -> None:
    """Wait until the command has got so far."""
    end = time.monotonic() + 60
    while not sleeping() and time.monotonic() < end:
        time.sleep(0.01)


@EVERYBODY
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_time_out_ends_every_process_and_keeps_the_output(work: Workspace, backend: str) -> None:
    """Daemons that forked twice and called setsid(2), and those that ignore SIGTERM, are dead.

    What was written is there.
    """
    result = work.exec(shell=DAEMONS, backend=backend, timeout_ms=700, grace_ms=200)

    assert (result.exit_code, result.timed_out, result.stdout) == (124, True, b"begun\n")
    assert not sleeping()


def test_a_command_of_a_program_with_many_open_files(work: Workspace) -> None:
    """Descriptors above 1,023, which select(2) does not know."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limits[1]), limits[1]))
    held = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(1100)]
    try:
        assert work.exec(shell="echo x > made").changed_files
        assert work.exec(shell=f"sleep {SLEEP}", timeout_ms=200, grace_ms=200).timed_out
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@EVERYBODY
def test_a_command_that_ends_takes_along_what_it_left(work: Workspace) -> None:
    """A background process that keeps the pipe open neither holds the result nor writes after it."""
    began = time.monotonic()
    result = work.exec(shell=f"(sleep {SLEEP}; echo late > late) & echo done")

    assert (result.exit_code, result.stdout, bool(result.left_processes)) == (0, b"done\n", True)
    assert time.monotonic() - began < 4000
    assert not sleeping()


@EVERYBODY
@pytest.mark.parametrize(
    ("text", "status", "number"),
    [
        ("exit 7", 7, None),
        ("kill -9 $$", 137, 9),
        ("kill $$", 143, 15),
        ("no-such-program-here", 127, None),
        ("./file", 126, None),
    ],
)
def test_the_status_is_the_commands_own(work: Workspace, text: str, status: int, number: int | None) -> None:
    """Also where a signal killed it, and where the shell found nothing to execute."""
    result = work.exec(shell=text)

    assert (result.exit_code, result.signal, result.success) == (status, number, False)


def test_what_cannot_be_executed_is_a_result(work: Workspace) -> None:
    """A missing program ends with 127, a file that is no program with 126, both with a warning that says it."""
    missing, plain = work.exec("no-such-program-here"), work.exec("./file")

    assert (missing.exit_code, plain.exit_code) == (127, 126)
    assert [warning.code for warning in (*missing.warnings, *plain.warnings)] == ["exec.not_started"] * 2
    assert not any("--shell" in warning.message for warning in (*missing.warnings, *plain.warnings))


def test_a_command_line_in_one_argument_is_told_how_to_run(work: Workspace) -> None:
    """It names no program; what the warning says runs it."""
    told = work.exec("cat file").warnings[0].message

    assert told.endswith("; run a command line with `avfs exec --shell 'cat file'`")
    assert work.exec(shell="cat file").exit_code == 0


def test_what_cannot_be_meant_is_an_error(work: Workspace) -> None:
    """No command, two commands, a missing directory, a NUL byte, an unknown backend."""
    for arguments, options in (
        ((), {}),
        (("true",), {"shell": "true"}),
        (("a\0b",), {}),
        (("true",), {"env": {"a=b": "c"}}),
    ):
        with pytest.raises(InvalidInput):
            work.exec(*arguments, **options)
    with pytest.raises(ExecError):
        work.exec("true", cwd="/no/such/directory")
    with pytest.raises(BackendUnavailable):
        work.exec("true", backend="magic")


def test_output_has_a_limit_and_a_file(work: Workspace) -> None:
    """Of a long output head and tail are in the result, and all of it is in a file.

    Invalid UTF-8 and NUL bytes survive.
    """
    result = work.exec(shell="printf 'h\\0\\377'; head -c 3000000 /dev/zero; printf end; echo e >&2", max_output=1000)

    assert (result.stdout_size, result.stdout_truncated, result.stderr, result.stderr_truncated) == (
        3000006,
        True,
        b"e\n",
        False,
    )
    assert (result.stdout[:3], result.stdout[-3:], len(result.stdout) < 1100) == (b"h\0\xff", b"end", True)
    assert result.stdout_file is not None
    assert result.stdout_file.read_bytes() == b"h\0\xff" + bytes(3000000) + b"end"


def test_the_newest_outputs_stay(work: Workspace) -> None:
    """Also after a restart of the machine, when older ones are of a time that the clock since the start has not seen."""
    old = work.exec(shell="echo out", max_output=1).stdout_file
    assert old is not None
    for number in range(20):
        old.with_name(f"9{number:011d}-of-another-boot").touch()

    result = work.exec(shell="echo out; echo error >&2", max_output=1)

    found = [file.read_bytes() for file in (result.stdout_file, result.stderr_file) if file is not None]
    assert (found, len(list(old.parent.iterdir())), old.exists()) == ([b"out\n", b"error\n"], 20, False)


def test_a_gigabyte_of_output_fits(work: Workspace) -> None:
    """Memory stays what the limit allows."""
    result = work.exec(shell="head -c 1073741824 /dev/zero", max_output=100)

    assert (result.exit_code, result.stdout_size, len(result.stdout) < 200) == (0, 1 << 30, True)
    assert result.stdout_file is not None
    result.stdout_file.unlink()


def test_it_reads_what_it_is_given(work: Workspace) -> None:
    """Bytes, a descriptor, or nothing."""
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe")
    os.close(writing)

    assert work.exec("cat", stdin=b"x" * 100_000).stdout == b"x" * 100_000
    assert work.exec("cat", stdin=reading).stdout == b"from a pipe"
    assert work.exec("cat").stdout == b""
    os.close(reading)


@EVERYBODY
def test_it_gets_no_more_than_it_should(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor but 0 to 2, none of git's variables that name another repository, and avfs's own three."""
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("KEPT", "kept")
    result = work.exec(
        shell="ls /proc/self/fd | wc -l; echo ${GIT_DIR-unset} $KEPT $ADDED $AVFS_FORK; pwd", env={"ADDED": "added"}
    )

    assert result.stdout.decode().split() == ["4", "unset", "kept", "added", "main", str(result.mountpoint)]


def test_cd_leads_where_the_text_says(work: Workspace, mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search path for `cd`, which somebody exports, would lead a command out of its workspace."""
    (mount_dir / "else" / "sub").mkdir(parents=True)
    monkeypatch.setenv("CDPATH", str(mount_dir / "else"))

    done = work.exec(shell="mkdir -p sub && cd sub > /dev/null && touch made")

    assert [change.path for change in done.changed_files] == [b"sub/made"]
    assert not (mount_dir / "else" / "sub" / "made").exists()


@EVERYBODY
@pytest.mark.parametrize("backend", BACKENDS)
def test_readonly_is_enforced_by_the_mount(work: Workspace, backend: str) -> None:
    """Whatever the command is, nothing can be changed."""
    result = work.exec(
        shell="echo x > file; rm file; mkdir d; chmod 777 file; cat file", readonly=True, backend=backend
    )

    assert result.stdout == b"content\n"
    assert (result.changed_files, result.commit) == ((), None)
    assert work.status().clean


@EVERYBODY
@pytest.mark.needs("bubblewrap")
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_isolated_command_reaches_nothing(
    work: Workspace, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can change the workspace, and neither change the machine nor see homes, variables or the network."""
    monkeypatch.setenv("API_TOKEN", "secret")
    home = Path(os.environ["HOME"])
    (home / "key").write_text("secret\n")
    text = f"echo x > x; echo y > /etc/avfs-y; cat {home}/key; echo ${{API_TOKEN-none}}; ls /run /tmp .git; cat file"
    result = work.exec(shell=text, backend=backend, isolate=True)

    assert (result.isolated, [change.path for change in result.changed_files]) == (True, [b"x"]), result.stderr
    assert not Path("/etc/avfs-y").exists()
    assert b"secret" not in result.stdout
    assert b"none" in result.stdout
    assert result.stdout.endswith(b"content\n")
    assert work.exec(shell="cat < /dev/tcp/127.0.0.1/22", isolate=True).exit_code != 0


@pytest.mark.needs("bubblewrap")
@pytest.mark.parametrize("backend", BACKENDS)
def test_git_that_cannot_commit_isolated_is_explained(work: Workspace, backend: str) -> None:
    """The vault is read-only there: the result says so, and that what is changed is committed all the same."""
    result = work.exec(shell="echo x > x; git add x", backend=backend, isolate=True)
    reading = work.exec(shell="git log -1; false", backend=backend, isolate=True)

    assert (result.exit_code, [warning.code for warning in result.warnings]) == (128, ["exec.isolated_git"])
    assert [warning.code for warning in reading.warnings] == []


@EVERYBODY
@pytest.mark.needs("bubblewrap", "fuse", "overlayfs")
def test_an_isolated_command_is_ended_politely(work: Workspace) -> None:
    """SIGTERM reaches the command itself, which has its grace; what does not heed it is killed."""
    text = "trap 'echo bye; exit 7' TERM; echo begun; while :; do sleep 0.05; done"
    heeded = work.exec(shell=text, isolate=True, timeout_ms=1500, grace_ms=20_000)
    unheeded = work.exec(shell=text.replace("echo bye; exit 7", ":"), isolate=True, timeout_ms=1500, grace_ms=100)

    assert (heeded.timed_out, heeded.stdout) == (True, b"begun\nbye\n"), heeded.stderr
    assert (unheeded.timed_out, unheeded.stdout) == (True, b"begun\n"), unheeded.stderr


def test_isolation_without_bubblewrap_says_how_to_get_it(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing runs, and the hint names the package."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(IsolationUnavailable) as refused:
        work.exec(shell="echo x > x", isolate=True, backend="checkout")

    assert "bubblewrap" in str(refused.value.hint)
    assert not work.exists("x")


@EVERYBODY
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_was_uncommitted_is_not_the_commands_doing(work: Workspace, backend: str) -> None:
    """It is in a checkpoint before the command or, without one, in no `changed_files`."""
    work.write("mine", b"mine\n")
    first = work.exec(shell="echo a > a", backend=backend)
    work.write("mine", b"more\n")
    second = work.exec(shell="echo b > b", backend=backend, checkpoint=False)
    work.write("mine", b"most\n")
    third = work.exec(shell="echo c > c", backend=backend, checkpoint=False, commit=False)

    assert first.checkpoint is not None
    assert [[change.path for change in result.changed_files] for result in (first, second, third)] == [
        [b"a"],
        [b"b"],
        [b"c"],
    ]
    assert (second.checkpoint, third.commit) == (None, None)
    assert {change.path for change in work.status().changed_files} == {b"mine", b"c"}


def test_a_failed_command_is_committed_if_wished(work: Workspace) -> None:
    """Marked as such in the message; or left uncommitted."""
    left = work.exec(shell="echo x > x; exit 2", commit_failed=False)
    assert (left.commit, [change.path for change in left.changed_files]) == (None, [b"x"])
    kept = work.exec(shell="echo y > y; exit 2")
    assert kept.commit is not None
    assert "exit 2" in work.log(limit=1)[0].checkpoint.message


def test_the_log_of_git_tells_what_was_run(work: Workspace, vault: Vault) -> None:
    """Each commit of a command has a note, unless the vault's settings say otherwise; git finds nothing wrong."""
    work.exec(shell="echo x > x; exit 3")
    work.exec("touch", "y")
    vault.set_config("exec.notes", "0")
    work.exec("touch", "z")
    argv = ["git", "-C", str(vault.path), "log", "--notes=avfs", "--format=%s%n%N"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    subprocess.run(["git", "-C", vault.path, "fsck", "--strict"], check=True, capture_output=True)

    assert said.count("Exit-Status:") == 2
    assert "Command: echo x > x; exit 3\nDirectory: /\nExit-Status: 3\n" in said


def test_output_comes_as_it_is_written(work: Workspace) -> None:
    """The first piece is there while the command still runs; leaving early ends it and commits nothing."""
    with work.exec_stream(shell=f"echo first; sleep {SLEEP}") as running:
        piece = next(iter(running))
        assert (piece.stream, piece.data) == ("stdout", b"first\n")
        running.stop(signal.SIGINT)
        assert (running.result.interrupted, running.result.exit_code) == (True, 130)
    with work.exec_stream(shell=f"echo x > x; echo first; sleep {SLEEP}") as running:
        next(iter(running))
    assert not sleeping()
    assert [change.path for change in work.status().changed_files] == [b"x"]


def test_it_can_be_awaited(work: Workspace) -> None:
    """And cancelled: the command ends, and what it changed is committed."""

    async def main() -> None:
        assert (await work.exec_async("true")).exit_code == 0
        task = asyncio.ensure_future(work.exec_async(shell=f"echo x > x; sleep {SLEEP}"))
        await asyncio.to_thread(wait_for_sleep)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not sleeping()
    assert work.exists("x")


def test_the_policy_is_asked_first(work: Workspace, vault: Vault, policy: Path) -> None:
    """What it refuses does not run; what needs approval says how to get it."""
    policy.write_text('version = 1\n[[rule]]\nname = "no"\ncategories = ["host_escape_risk"]\naction = "deny"\n')
    with pytest.raises(CommandDenied):
        work.exec(shell="cat /etc/shadow > x")
    policy.unlink()
    with pytest.raises(ApprovalNeeded, match="/etc/shadow"):
        work.exec(shell="cat /etc/shadow > x")
    with pytest.raises(ApprovalNeeded) as needed:
        work.exec("curl", "https://example.org", timeout_ms=5000)
    token = str(needed.value.details["token"])
    vault.policy.grant(token.partition(".")[0])
    assert work.exec("curl", "https://example.org", approve=token, timeout_ms=5000).decision.approval is not None


def _count_open() -> int:
    """Count this process's descriptors, without packs: an open vault keeps those until maintenance has joined them."""
    links = (os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.lexists(entry.path))
    return sum(not link.endswith((".pack", ".pack (deleted)")) for link in links)


@EVERYBODY
@pytest.mark.needs("fuse", "overlayfs")
def test_many_at_once_leave_nothing(vault: Vault, mount_dir: Path) -> None:
    """Each of fifty commands on fifty forks has its own change; no mount, process, descriptor or namespace stays."""
    forks = [vault.fork(f"f{number}") for number in range(50)]
    for fork in forks:
        fork.status()  # an open workspace keeps its lock and its layers
    vault.workspace().exec("true")  # and an open vault a mount of the base
    before = (_count_open(), mounts(mount_dir))
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda fork: fork.exec(shell=f"echo {fork.fork} > mine; sleep 0.1"), forks))
    after = (_count_open(), mounts(mount_dir))
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()

    assert {result.backend for result in results} == {"overlay"}
    assert [[change.path for change in result.changed_files] for result in results] == [[b"mine"]] * 50
    assert [fork.read("mine") for fork in forks] == [f"{fork.fork}\n".encode() for fork in forks]
    assert after[1] == before[1]
    assert after[0] - before[0] < 50
    assert not children


@EVERYBODY
@pytest.mark.needs("fuse", "overlayfs")
def test_a_vault_with_warm_commits_can_be_deleted(mount_dir: Path, policy: Path) -> None:
    """What is mounted for speed alone is in nobody's way."""
    with Avfs(mount_dir / "h") as avfs:
        workspace = avfs.create_vault("w").workspace()
        workspace.write("a", b"a")
        workspace.checkpoint()
        workspace.fold()
        workspace.exec("true")
        avfs.delete_vault("w")
        assert avfs.list_vaults() == []


_KILLED = """
import os, sys, signal
from pathlib import Path
from avfs_git import Avfs
text = "echo x > x; echo ready; exec sleep " + sys.argv[3]
with Avfs(Path(sys.argv[1])) as avfs:
    with avfs.open_vault("v").workspace().exec_stream(shell=text, backend=sys.argv[2]) as running:
        for piece in running:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@EVERYBODY
@pytest.mark.parametrize("backend", BACKENDS)
def test_killing_avfs_loses_nothing_and_leaves_nothing(
    vault: Vault, work: Workspace, mount_dir: Path, backend: str
) -> None:
    """What the command changed is there, to be committed or discarded.

    Its processes are dead, and nothing stays mounted.
    """
    work.close()
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, mount_dir / "h", backend, SLEEP], check=False, capture_output=True
    )
    assert killed.returncode == -9, killed.stderr
    status = work.status()
    again = work.exec("touch", "y", backend=backend)

    assert not sleeping()
    assert [change.path for change in status.changed_files] == [b"x"]
    assert [warning.code for warning in status.warnings] == (["workspace.recovered"] if backend == "checkout" else [])
    assert (again.exit_code, [change.path for change in again.changed_files]) == (0, [b"y"])
    assert work.read("x") == b"x\n"
    assert again.checkpoint is not None
    assert not (vault.path / "avfs" / "workspaces" / "main" / "checkout").exists()


@EVERYBODY
@pytest.mark.needs("fuse")
def test_a_mounted_workspace_is_used_where_it_is_mounted(work: Workspace, mount_dir: Path) -> None:
    """Programs in the mount see what the command does, and the mount stays."""
    with work.mount(mount_dir / "m") as session:
        result = work.exec(shell="pwd; echo x > x")
        by = session.info().backend
        assert (result.backend, result.stdout, result.mountpoint) == (by, f"{session.path}\n".encode(), session.path)
        assert [change.path for change in result.changed_files] == [b"x"]
        assert (session.path / "x").read_text() == "x\n"
        with pytest.raises(BackendUnavailable):
            work.exec("true", backend="overlay")


@pytest.mark.needs("fuse", "overlayfs", "root")
@pytest.mark.parametrize("backend", ["fuse", "overlay"])
def test_no_command_runs_in_a_mount_that_stands_over_the_live_tree(
    work: Workspace, mount_dir: Path, backend: str
) -> None:
    """The path of the live tree leads to another file system then, in which nothing may change."""
    with work.mount(mount_dir / "m", backend=backend) as session:
        assert capabilities.mount("another's", session.path, "tmpfs")
        try:
            with pytest.raises(MountCovered):
                work.exec(shell="echo x > x")
            assert os.listdir(session.path) == []
        finally:
            assert capabilities.unmount(session.path)
        assert work.exec(shell="echo x > x").backend == backend


@EVERYBODY
@pytest.mark.needs("fuse", "overlayfs")
def test_a_command_can_see_the_workspace_where_the_project_is(work: Workspace, tmp_path: Path) -> None:
    """At the path of the original directory, which itself stays as it is.

    `git mv` and rename(2) of directories work there.
    """
    source = tmp_path / "source"
    text = (
        'mkdir d; touch d/f; python3 -c \'import os; os.rename("d", "e")\'; git add -A; git mv e g; pwd; echo x > file'
    )
    result = work.exec(shell=text, root=source)

    assert (result.backend, result.stdout) == ("overlay", f"{source}\n".encode()), result.stderr
    assert {change.path for change in result.changed_files} == {b"file", b"g/f"}
    assert sorted(os.listdir(source)) == ["file"]
    assert (source / "file").read_text() == "content\n"


RENAMED_BESIDE = """
import os, threading

def make():
    for number in range(20_000):
        try:
            with open(f"old/made-{number}", "x") as file:
                print(number, file=file)
        except FileNotFoundError:
            return
        made.add(f"made-{number}")

made = set()
maker = threading.Thread(target=make)
maker.start()
process = os.fork()
if not process:
    os.rename("old", "new")
    os._exit(0)
assert os.waitpid(process, 0)[1] == 0
maker.join()
print(len(made), len(made.intersection(os.listdir("new"))), os.path.exists("old"))
"""
"""A process makes files in a directory until it is not there any more, because another one has renamed it."""


_KILLED_MOVING = """
import os, sys, signal, threading, time
from pathlib import Path
from avfs_git import Avfs
upper = Path(sys.argv[2])

def watch():
    while not any(len(os.listdir(made)) > 20 for made in upper.glob(".avfs-staging-*/moved")):
        time.sleep(0.001)
    kill(os.getpid())

def kill(pid):
    below = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    os.kill(pid, signal.SIGSTOP) if pid != os.getpid() else None
    for child in below:
        kill(int(child))
    os.kill(pid, signal.SIGKILL)

threading.Thread(target=watch, daemon=True).start()
with Avfs(Path(sys.argv[1])) as avfs:
    argv = (sys.argv[3], "-I", "-S", "-c", "import os; os.rename('old', 'new')")
    print(avfs.open_vault("v").workspace().exec(*argv, backend="overlay"), os.listdir(upper))
"""


@EVERYBODY
@pytest.mark.needs("fuse", "overlayfs")
def test_a_kill_while_a_directory_of_the_base_is_renamed_leaves_no_part_of_it(
    vault: Vault, work: Workspace, mount_dir: Path
) -> None:
    """What was made of the new directory by then is in no listing, and goes."""
    if not os.geteuid():
        spell_for_users(work)
    work.exec(shell="mkdir old; cd old; seq 3000 | xargs touch")
    work.fold()
    work.close()
    upper = vault.path / "avfs" / "workspaces" / "main" / "upper"
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_MOVING, mount_dir / "h", upper, os.path.realpath(sys.executable)],
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -9, killed
    assert not work.status().changed_files
    assert b"old" in {info.path for info in work.list_dir("/")}
    assert not list(upper.glob(".avfs-*"))
    assert len(work.list_dir("old")) == 3000


@EVERYBODY
@pytest.mark.needs("fuse", "overlayfs")
def test_a_directory_of_the_base_takes_along_what_is_made_while_it_is_renamed(work: Workspace) -> None:
    """As with a rename of the kernel's, which overlayfs refuses to an ordinary user."""
    if not os.geteuid():
        spell_for_users(work)
    for number in range(300):
        work.write(f"old/{number}", b"content")
    work.checkpoint("base")
    work.fold()
    argv = (os.path.realpath(sys.executable), "-I", "-S", "-c", RENAMED_BESIDE)
    result = work.exec(*argv, backend="overlay")
    made, moved, is_left = result.stdout.split()
    assert int(made)
    assert (moved, is_left) == (made, b"False"), result
    assert work.exists("new/299")


# --- sessions ---------------------------------------------------------------------------------------------------------


@EVERYBODY
@pytest.mark.needs("fuse", "overlayfs")
def test_a_prepared_session_goes_back_and_forth(work: Workspace) -> None:
    """Commands in it see each other's changes and what others write.

    It can be rolled back, looked at, and discarded.
    """
    with work.prepare() as prepared:
        assert prepared.exec(shell="echo 1 > n").kept_mounted
        prepared.exec(shell="echo 2 > n")
        work.write("beside", b"beside\n")
        assert prepared.exec(shell="cat n beside").stdout == b"2\nbeside\n"
        assert [file.change.path for file in prepared.inspect().files] == [b"beside", b"n"]
        prepared.exec(shell="echo 3 > n; rm beside")
        prepared.rollback()
        assert prepared.exec(shell="cat n beside").stdout == b"2\nbeside\n"
        assert [step.command for step in work.prepared().steps().steps] == [
            "echo 1 > n",
            "echo 2 > n",
            *["cat n beside"] * 2,
        ]
        runner = prepared._executor._kept
        assert runner is not None
        above = runner.runner._process.pid
        inner = Path(f"/proc/{above}/task/{above}/children").read_text().split()
        opened = len(os.listdir(f"/proc/{inner[0]}/fd"))
        for _ in range(3):
            prepared.exec("true")
        assert len(os.listdir(f"/proc/{inner[0]}/fd")) <= opened
        prepared.finish(discard=True)
    assert not work.exists("n")
    with pytest.raises(NotPrepared):
        work.prepared()


def test_what_was_made_before_the_first_command_stays_when_the_session_is_discarded(work: Workspace) -> None:
    """Also where all commands were rolled back."""
    for name, rolls_back in (("first", False), ("second", True)):
        with work.prepare() as prepared:
            work.write(name, b"1")
            prepared.exec(shell="echo 1 > n")
            if rolls_back:
                prepared.rollback()
            prepared.finish(discard=True)
        assert (work.exists("n"), work.read(name)) == (False, b"1")


@EVERYBODY
@pytest.mark.needs("fuse", "overlayfs")
def test_a_session_of_the_command_line_ends_when_it_is_idle(vault: Vault, cli: Cli, mount_dir: Path) -> None:
    """Its base stays mounted from one program to the next, and goes by itself; the session itself stays."""
    cli("proxy", "prepare", "--idle", "1").ok()
    assert mounts(mount_dir)
    cli("proxy", "exec", "-c", "echo 1 > n").ok()
    cli("exec", "-c", "echo 2 > n").ok()
    inspected = cli("proxy", "inspect", "--json").result
    assert [file["change"]["path"] for file in inspected["files"]] == ["n"]
    end = time.monotonic() + 60
    while mounts(mount_dir) and time.monotonic() < end:
        time.sleep(0.1)
    assert not mounts(mount_dir)
    cli("proxy", "rollback").ok()
    assert vault.workspace().read("n") == b"1\n"
    assert cli("proxy", "finish", "--discard", "--json").result["discarded"]
    assert not vault.workspace().exists("n")


# --- the one document -------------------------------------------------------------------------------------------------

SCHEMA = describe(proxy_exec)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--", "true"], 0),
        (["--", "false"], 1),
        (["-c", "kill -9 $$"], 137),
        (["--timeout", "200ms", "--", "sleep", SLEEP], 124),
        (["--", "no-such-program-here"], 127),
        (["--", "./file"], 126),
        (["--cwd", "/nowhere", "--", "true"], 125),
        (["--stdin", "/nowhere", "--", "true"], 125),
        (["-n", "--", "rm", "-rf", "."], 0),
        (["-c", "printf '\\377'; printf '\\n' > \"$(printf 'a\\377\\nb')\""], 0),
        (["--backend", "checkout", "--max-output", "10", "-c", "seq 100; seq 100 >&2"], 0),
        ([], 125),
        (["--no-such-option"], 125),
        (["--timeout", "soon", "true"], 125),
        (["sh", "-c", "exit 7"], 7),
        (["--json", "git", "log", "--no-such-option", "--", "file"], 128),
        (["--fork", "nowhere", "--", "true"], 125),
    ],
)
def test_every_outcome_is_one_document(vault: Vault, cli: Cli, arguments: list[str], status: int) -> None:
    """Success, failure, signal, time-out, refusal, mistakes: one document of the published schema, the right status."""
    ran = cli("exec", "--json", *arguments)
    document = json.loads(ran.stdout)
    jsonschema.validate(document, SCHEMA)

    assert ran.status == status
    assert (ran.stderr, ran.stdout.count(b"\n")) == ("", 1)
    assert document["success"] == (status == 0)


def test_all_behind_the_program_is_the_programs(vault: Vault, cli: Cli) -> None:
    """Options end at the first operand: options and `--` behind it reach the program as they are."""
    assert (
        cli("exec", "printf", "%s\n", "--json", "-n", "--", "--fork", "x").ok().stdout == b"--json\n-n\n--\n--fork\nx\n"
    )
    assert cli("exec", "--", "printf", "%s\n", "--", "a").ok().stdout == b"--\na\n"


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("1500", 1500), ("90s", 90_000), ("5m", 300_000), ("2h", 7_200_000), ("1.5s", 1500), ("2000ms", 2000)],
)
def test_a_time_limit_has_a_unit(vault: Vault, cli: Cli, text: str, milliseconds: int) -> None:
    """A number alone is milliseconds, as ever."""
    ran = cli("exec", "--json", "-n", "--timeout", text, "true").ok()

    assert ran.document["request"]["timeout"] == {"millis": milliseconds}
    assert ran.document["warnings"] == []


def test_a_time_limit_may_be_longer_than_the_kernel_waits_at_once(vault: Vault, cli: Cli) -> None:
    """poll(2) takes 25 days."""
    cli("exec", "--timeout", "900h", "-c", "sleep 0.2; echo made > made").ok()

    assert vault.workspace().read("made") == b"made\n"


def test_what_timed_out_is_told_its_limit(vault: Vault, cli: Cli) -> None:
    """And not how long it took, with the time that it had to end in after the limit."""
    ran = cli("exec", "--timeout", "500ms", "-c", f"trap '' TERM; sleep {SLEEP}")

    assert ran.status == 124
    assert "(timed out after 0.5 s)" in ran.stderr


@pytest.mark.parametrize("options", [("--network",), ("--no-commit", "-m", "text")])
def test_an_option_that_would_do_nothing_runs_nothing(vault: Vault, cli: Cli, options: tuple[str, ...]) -> None:
    """The network without isolation, and a message without a commit."""
    ran = cli("exec", *options, "--", "touch", "n")

    assert ran.status == 125
    assert not vault.workspace().exists("n")


def test_a_short_time_limit_without_a_unit_is_remarked(vault: Vault, cli: Cli) -> None:
    """Of many programs, `--timeout 60` is a minute."""
    warned = cli("exec", "--json", "-n", "--timeout", "60", "true").ok().document["warnings"]
    assert [(warning["code"], "`60s` is 60 seconds" in warning["message"]) for warning in warned] == [
        ("exec.short_timeout", True)
    ]
    assert cli("exec", "--json", "-n", "--timeout", "60ms", "true").ok().document["warnings"] == []


@pytest.mark.parametrize("arguments", [["-c", "cat /etc/shadow"], ["--", "curl", "https://example.org"]])
def test_a_refusal_is_one_document(vault: Vault, cli: Cli, policy: Path, arguments: list[str]) -> None:
    """What the policy denies, and what waits for a person."""
    policy.unlink()
    ran = cli("exec", "--json", *arguments)
    jsonschema.validate(json.loads(ran.stdout), SCHEMA)

    assert (ran.status, ran.document["error"]["code"].split(".")[0]) == (125, "policy")


@EVERYBODY
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_command(vault: Vault, number: int) -> None:
    """Ctrl-C ends the command, and there is one document; what it changed is committed."""
    program = [
        sys.executable,
        "-m",
        "avfs_git",
        "exec",
        "--json",
        "--stream",
        "-c",
        f"echo x > x; echo ready >&2; exec sleep {SLEEP}",
    ]
    with subprocess.Popen(program, stdout=-1, stderr=-1) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == b"ready\n"
        running.send_signal(number)
        out, _ = running.communicate(timeout=60)
    document = json.loads(out)
    jsonschema.validate(document, SCHEMA)

    assert (running.returncode, document["result"]["interrupted"]) == (128 + number, True)
    assert [change["path"] for change in document["result"]["changed_files"]] == ["x"]


def test_a_closed_standard_output_is_no_disaster(vault: Vault) -> None:
    """The command has run and its change is committed, also when nobody reads the document."""
    program = f"{sys.executable} -m avfs_git exec --json -c 'echo x > x' | true"
    subprocess.run(["sh", "-c", program], check=False, timeout=60)

    assert vault.workspace().status().clean
    assert vault.workspace().read("x") == b"x\n"


@EVERYBODY
@pytest.mark.parametrize("backend", BACKENDS)
def test_looking_waits_for_no_command(work: Workspace, mount_dir: Path, backend: str) -> None:
    """While a command runs, another program sees what is there, and who is at work.

    A change waits, and is told for whom.
    """
    reading, writing = os.pipe()
    text = "echo more >> file; echo new > made; read line; echo $line >> made"
    with ThreadPoolExecutor(1) as commands, Avfs(mount_dir / "h", lock_timeout_s=1) as avfs:
        running = commands.submit(work.exec, shell=text, backend=backend, stdin=reading, timeout_ms=60_000)
        try:
            other = avfs.open_vault("v").workspace()
            is_shown = backend != "checkout"  # there the command works on a copy
            while not running.done() and is_shown and not other.exists("made"):
                time.sleep(0.01)
            while (
                not is_shown
                and not running.done()
                and "workspace.in_use" not in {each.code for each in other.status().warnings}
            ):
                time.sleep(0.01)
            status, diff, names = other.status(), other.diff("HEAD"), {info.path for info in other.list_dir("/")}
            content, log = other.read("file"), other.log()
            with pytest.raises(WorkspaceBusy) if backend != "fuse" else nullcontext() as refused:
                other.write("mine", b"x")  # a live tree is open to all
        finally:
            os.write(writing, b"end\n")
            os.close(writing)
            result = running.result()
            os.close(reading)

    changed = {b"made", b"file"} if is_shown else set()
    assert {change.path for change in status.changed_files} == changed
    assert {each.change.path for each in diff.files} == changed
    assert names == {b"file", b"made"} if is_shown else {b"file"}
    assert content == (b"content\nmore\n" if is_shown else b"content\n")
    assert log
    if refused is not None:
        assert refused.value.details["pid"] == os.getpid()
        assert "in use by 'echo more" in refused.value.message
    assert {change.path for change in result.changed_files} >= {b"file", b"made"}
    assert work.read("made") == b"new\nend\n"
