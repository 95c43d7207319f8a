"""A command with a terminal of its own, and a person at the terminal in front of it.

The person's terminal is one of the test's: what is typed there reaches the command, and its settings are restored at
every end.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avfs_git import Avfs
from avfs_git.errors import ApprovalNeeded, HostError
from avfs_git.sdk import Vault, Workspace
from tests.support.commands import ALLOW_ALL, BACKENDS, place_policy
from tests.support.terminal import Terminal
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout"), pytest.mark.slow]

EVERYBODY = pytest.mark.usefixtures("person")
SLEEP = str(200_000 + os.getpid())
"""What the sleeping of these tests alone has in its command line."""


@pytest.fixture
def policy(mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's policy, also for the command line; which has its home here."""
    monkeypatch.setenv("TERM", "xterm")
    place = place_policy(mount_dir, monkeypatch)
    place.write_text(ALLOW_ALL)
    return place


@pytest.fixture
def vault(mount_dir: Path, tmp_path: Path, policy: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    """A vault with a file, for the command line, too."""
    monkeypatch.setenv("AVFS_HOME", str(mount_dir / "h"))
    monkeypatch.setenv("AVFS_VAULT", "v")
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content\n")
    with Avfs(mount_dir / "h", policy=policy) as avfs:
        yield avfs.create_vault("v", source=source)


class AtTerminal(Terminal):
    """`avfs exec -t` at a terminal."""

    def __init__(self, *arguments: str) -> None:
        super().__init__("-m", "avfs_git", "exec", "-t", *arguments, screen=(31, 97))
        self._before = self._settings()

    def _settings(self) -> list[Any]:
        return termios.tcgetattr(self.fd)

    @property
    def is_raw(self) -> bool:
        return not self._settings()[3] & (termios.ICANON | termios.ISIG | termios.ECHO)

    def end(self) -> tuple[int, bool]:
        """Wait for its end; give its status, and whether the terminal is as it was."""
        status = self.wait()
        return status, self._settings() == self._before


def sleeping() -> bool:
    """Whether the command of a test still sleeps."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", SLEEP.encode()]:
            return True
    return False


@EVERYBODY
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_terminal_is_the_commands_own(vault: Vault, backend: str) -> None:
    """It controls the command's session; it has the person's size, and Ctrl-C ends what runs there."""
    terminal = AtTerminal("--backend", backend, "-c", f"tty; stty size; echo go > /dev/tty; sleep {SLEEP}")
    assert b"/dev/pts/" in terminal.read_until(b"31 97")
    terminal.read_until(b"go")
    assert terminal.is_raw
    terminal.type(b"\x03")

    assert terminal.end() == (130, True)
    assert not sleeping()


def test_it_follows_the_size_of_the_window(vault: Vault) -> None:
    """The command gets SIGWINCH and finds the new size."""
    terminal = AtTerminal("-c", "trap 'stty size; exit 3' WINCH; echo go; while :; do sleep 0.05; done")
    terminal.read_until(b"go")
    termios.tcsetwinsize(terminal.fd, (11, 22))
    terminal.read_until(b"11 22")

    assert terminal.end() == (3, True)


def test_what_is_typed_changes_a_file(vault: Vault) -> None:
    """A line is edited with the keys of a terminal; what changed is one commit."""
    before = len(vault.log())
    terminal = AtTerminal("-c", "read -e -p 'name: ' name < /dev/tty; echo \"$name\" > made")
    terminal.read_until(b"name: ")
    terminal.type(b"onx\x7fe\r")

    assert terminal.end() == (0, True)
    assert vault.workspace().read("made") == b"one\n"
    assert len(vault.log()) == before + 1


@pytest.mark.skipif(shutil.which("vim") is None, reason="vim is not installed")
def test_an_editor_works(vault: Vault) -> None:
    """It draws its screen, takes keys, and its file is one commit."""
    before = len(vault.log())
    terminal = AtTerminal("vim", "-u", "NONE", "file")
    terminal.read_until(b"content")
    terminal.type(b"Gonew\x1b:wq\r")

    assert terminal.end() == (0, True)
    assert vault.workspace().read("file") == b"content\nnew\n"
    assert len(vault.log()) == before + 1


def test_a_shell_has_its_job_control(vault: Vault) -> None:
    """Ctrl-Z stops a job of a shell there, and not avfs."""
    terminal = AtTerminal("-e", "PS1=<shell> ", "bash", "--norc", "--noprofile", "-i")
    terminal.read_until(b"<shell> ")
    terminal.type(b"echo be''gun; cat\r")
    terminal.read_until(b"begun\r\n")  # the shell has given the terminal the state that it has for a job
    terminal.type(b"hello\r")
    terminal.read_until(b"hello\r\nhello\r\n")  # typed, and written by the job
    terminal.type(b"\x1a")
    terminal.read_until(b"Stopped")
    terminal.read_until(b"<shell> ")
    terminal.type(b"fg\r")
    terminal.read_until(b"cat\r\n")
    terminal.type(b"\x04")
    terminal.read_until(b"<shell> ")
    terminal.type(b"exit 7\r")

    assert terminal.end() == (7, True)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--timeout", "500ms", "-c", f"echo go; sleep {SLEEP}"], 124), (["-c", "stty raw; echo go; kill -9 $$"], 137)],
)
def test_the_persons_terminal_is_restored(vault: Vault, arguments: list[str], status: int) -> None:
    """After the time limit and after a kill."""
    terminal = AtTerminal(*arguments)

    assert terminal.end() == (status, True)
    assert not sleeping()


def test_a_signal_for_avfs_restores_the_terminal(vault: Vault) -> None:
    """It is passed on to the command."""
    terminal = AtTerminal("-c", f"echo go; sleep {SLEEP}")
    terminal.read_until(b"go")
    os.kill(terminal.pid, signal.SIGTERM)

    assert terminal.end() == (143, True)
    assert not sleeping()


def test_nothing_is_left_of_a_client_that_was_killed(vault: Vault) -> None:
    """The command goes with it."""
    terminal = AtTerminal("-c", f"echo go; sleep {SLEEP}")
    terminal.read_until(b"go")
    os.kill(terminal.pid, signal.SIGKILL)

    assert terminal.wait() == -signal.SIGKILL
    wait_for(lambda: not sleeping())


def test_a_window_that_is_closed_ends_the_command_and_loses_nothing(vault: Vault) -> None:
    """The command is hung up, and what it changed is committed."""
    before = len(vault.log())
    terminal = AtTerminal(
        "-c", f"trap 'echo saved > made; exit' HUP; echo go; while :; do sleep 0.05; done; sleep {SLEEP}"
    )
    terminal.read_until(b"go")
    os.close(terminal.fd)
    os.waitpid(terminal.pid, 0)

    assert vault.workspace().read("made") == b"saved\n"
    assert len(vault.log()) == before + 1


def test_a_job_that_comes_to_the_foreground_gets_the_terminal(vault: Vault) -> None:
    """What begins in the background has not the settings by which the shell reads its own line."""
    line = f"{sys.executable} -m avfs_git exec -t -c 'echo go; cat' &\r"
    shell = Terminal("-c", "import os; os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])")
    shell.type(line.encode())
    shell.read_until(b"go\r")
    shell.type(b"kill -STOP %1\r")  # as reading from there would; without it, bash sends no SIGCONT
    (job,) = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()
    wait_for(lambda: Path(f"/proc/{job}/stat").read_text().rpartition(") ")[2].startswith("T"))
    shell.type(b"fg\r")
    shell.wait_for_job()
    shell.type(b"hello\r")
    shell.read_until(b"hello\r\nhello\r\n")
    shell.type(b"\x04")
    shell.read_until(b"fork main)")
    shell.type(b"exit 6\r")

    assert shell.wait() == 6


BACKGROUND = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
heard = {signal.SIGUSR1, signal.SIGUSR2}
signal.pthread_sigmask(signal.SIG_BLOCK, heard)
prepare = lambda: (signal.pthread_sigmask(signal.SIG_UNBLOCK, heard), signal.signal(signal.SIGTTOU, signal.SIG_DFL))
job = subprocess.Popen([sys.executable, *sys.argv[1:]], process_group=0, preexec_fn=prepare)
while signal.sigwait(heard) == signal.SIGUSR1:
    os.tcsetpgrp(0, job.pid if os.tcgetpgrp(0) == os.getpgrp() else os.getpgrp())
    print("moved", flush=True)
status = job.wait()
os.tcsetpgrp(0, os.getpgrp())
sys.exit(status)
"""
"""What gives a job the terminal and takes it back as a shell does, and sends it no signal."""


def test_a_job_that_was_never_stopped_gets_the_terminal(vault: Vault) -> None:
    """It finds that the terminal is its own, each time, also with no key typed and nothing shown."""
    terminal = Terminal("-c", BACKGROUND, "-m", "avfs_git", "exec", "-t", "-c", "echo go; cat")
    before = termios.tcgetattr(terminal.fd)
    terminal.read_until(b"go\r")
    assert termios.tcgetattr(terminal.fd) == before

    for _ in range(2):
        os.kill(terminal.pid, signal.SIGUSR1)
        terminal.read_until(b"moved")
        wait_for(lambda: not termios.tcgetattr(terminal.fd)[3] & (termios.ICANON | termios.ECHO))
        os.kill(terminal.pid, signal.SIGUSR1)
        terminal.read_until(b"moved")
        termios.tcsetattr(terminal.fd, termios.TCSANOW, before)  # as a shell does for its own line

    os.kill(terminal.pid, signal.SIGUSR1)
    terminal.read_until(b"moved")
    wait_for(lambda: not termios.tcgetattr(terminal.fd)[3] & (termios.ICANON | termios.ECHO))
    terminal.type(b"hello\r")
    assert b"hello" not in terminal.read_until(b"hello\r\nhello\r\n")
    terminal.type(b"\x04")
    os.kill(terminal.pid, signal.SIGUSR2)

    assert terminal.wait() == 0
    assert b"hello" not in terminal.shown
    assert termios.tcgetattr(terminal.fd) == before


def test_output_that_cannot_be_written_is_an_error(vault: Vault) -> None:
    """The command is hung up and what it changed is saved first."""
    code = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1); from avfs_git.cli import app; app.main()"
    text = "trap 'echo saved > made; exit' HUP; while :; do echo x; sleep 0.05; done"
    terminal = Terminal("-c", code, "exec", "-t", "-c", text)

    assert terminal.wait() == 125
    assert b"cannot write the result: No space left on device" in terminal.shown
    assert vault.workspace().read("made") == b"saved\n"


@pytest.mark.needs("bubblewrap", "fuse", "overlayfs")
def test_an_isolated_command_has_one_too(vault: Vault) -> None:
    """Its own, which controls its session: Ctrl-C reaches the command, and not the sandbox."""
    terminal = AtTerminal(
        "--isolate", "-c", "trap 'echo caught; exit 5' INT; stty size > /dev/tty; while :; do sleep 0.05; done"
    )
    terminal.read_until(b"31 97")
    terminal.type(b"\x03")
    terminal.read_until(b"caught")

    assert terminal.end() == (5, True)


def test_a_program_types_and_reads_what_is_shown(work: Workspace) -> None:
    """What it gives is typed, its end as the key for that.

    Both outputs are what the terminal shows, within the limits.
    """
    shown = work.exec("sh", "-c", "cat; echo err >&2", terminal=True, stdin=b"hello\n")
    assert (shown.stdout, shown.stderr, shown.terminal) == (b"hello\r\nhello\r\nerr\r\n", b"", True)
    assert work.exec("cat", terminal=True).exit_code == 0
    assert work.exec("cat", terminal=True, stdin=b"no newline").stdout == b"no newlineno newline"
    long = work.exec(shell="seq 100000", terminal=True, max_output=100)
    assert long.stdout_truncated
    assert long.stdout_file is not None
    assert long.stdout_file.read_bytes() == b"".join(b"%d\r\n" % number for number in range(1, 100_001))
    assert work.exec(shell="test ! -t 0; tty").terminal is False

    text = "trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.05; done"
    with work.exec_stream(shell=text, terminal=True) as running:
        for piece in running:
            assert piece.stream == "stdout"
            running.resize(11, 22)
        assert running.result.stdout == b"24 80\r\n11 22\r\n"


def test_a_system_without_terminals_is_an_error(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started."""

    def refuse() -> tuple[int, int]:
        raise OSError(errno.ENOSPC, "no more")

    monkeypatch.setattr(os, "openpty", refuse)
    with pytest.raises(HostError, match="make a terminal"):
        work.exec("touch", "made", terminal=True)

    assert not work.exec("test", "-e", "made").success


def test_the_policy_knows_that_it_does_not_know_what_is_typed(work: Workspace, policy: Path) -> None:
    """A shell at a terminal may do anything, as one that reads commands from a file."""
    policy.write_text("version = 1\n")
    with pytest.raises(ApprovalNeeded):
        work.exec("bash", terminal=True, stdin=0)

    assert work.exec("echo", "x", terminal=True).stdout == b"x\r\n"


def test_an_editor_of_git_does_not_wait_without_a_terminal(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails at once and says what to do; one that the user has chosen is used."""
    for name in ("GIT_EDITOR", "VISUAL", "EDITOR", "GIT_SEQUENCE_EDITOR"):
        monkeypatch.delenv(name, raising=False)
    told = work.exec("git", "commit", "--allow-empty")
    assert told.exit_code == 1
    assert b"avfs exec -t" in told.stderr

    config = work.exec(shell="git -c core.editor='echo configured >' commit --allow-empty; git log -1 --format=%s")
    assert config.stdout.endswith(b"configured\n")
    monkeypatch.setenv("EDITOR", "echo chosen >")
    assert work.exec(shell="git commit --allow-empty; git log -1 --format=%s").stdout.endswith(b"chosen\n")
