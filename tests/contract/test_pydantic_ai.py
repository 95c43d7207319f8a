"""A fork as a workspace of pydantic-ai: its own suite, and what is saved."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic_ai.workspaces import WorkspaceBackend, WorkspaceRef
from pydantic_ai.workspaces.conformance import WorkspaceBackendSuite

from avfs_git import Home
from avfs_git.adapters.pydantic_ai import ForkBackend
from avfs_git.errors import MountBusy
from avfs_git.sdk import Session

pytestmark = [pytest.mark.needs("fuse", "user-xattrs", "whiteout"), pytest.mark.slow]


@pytest.fixture
def anyio_backend() -> str:
    """Forks are for asyncio."""
    return "asyncio"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A home with a vault; what was mounted is unmounted at the end."""
    with Home(tmp_path / "home") as home:
        vault = home.create_vault("shop")
        vault.workspace().write_text("README", "hello\n")
        home.use_vault("shop")
    yield tmp_path / "home"
    with Home(tmp_path / "home") as home:
        for info in home.list_vaults():
            vault = home.open_vault(info.name)
            for session in vault.sessions():
                found = vault.find_session(session.fork)
                if found is not None:
                    found.unmount(force=True)


@pytest.fixture
def make(place: Path) -> Iterator[Callable[..., ForkBackend]]:
    """Make backends, which the end closes."""
    made: list[ForkBackend] = []

    def make(*named: str, ref: WorkspaceRef | None = None) -> ForkBackend:
        made.append(ForkBackend.attach(ref, home=place) if ref is not None else ForkBackend(*named, home=place))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


def _take_away(session: Session) -> None:
    """Unmount a tree in use: through FUSE by force, on overlayfs after the programs in it have been killed.

    Called in the event loop, so that the backend does not see the end of its command before.
    """
    try:
        session.unmount(force=True)
    except MountBusy as busy:
        for pid in re.findall(r"pid (\d+)", str(busy.details["users"])):
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        session.unmount(lazy=True)
        session.wait()


class TestSuite(WorkspaceBackendSuite):
    """What pydantic-ai asks of every workspace."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def backend(self, make: Callable[..., ForkBackend]) -> WorkspaceBackend:
        return make()

    @pytest.fixture
    def fresh_backend(self, make: Callable[..., ForkBackend]) -> Callable[[], WorkspaceBackend]:
        return lambda: make("shop", "main")

    @pytest.fixture
    def destructive_backend(self, place: Path, make: Callable[..., ForkBackend]) -> Callable[[], WorkspaceBackend]:
        """A fork of its own, which may go."""
        with Home(place) as home:
            home.open_vault("shop").fork("short-lived")
        return lambda: make("shop", "short-lived")

    @pytest.fixture
    def attach_backend(self, make: Callable[..., ForkBackend]) -> Callable[[WorkspaceRef], WorkspaceBackend]:
        return lambda ref: make(ref=ref)

    @pytest.fixture
    def destroy_environment(self, place: Path) -> Callable[[WorkspaceBackend], Awaitable[None]]:
        """The fork is deleted by another program, while a command may run in it."""

        async def destroy(backend: WorkspaceBackend) -> None:
            assert backend.ref is not None
            vault, _, fork = backend.ref.id.partition("@")
            with Home(place) as home:
                opened = home.open_vault(vault)
                session = opened.find_session(fork)
                assert session is not None
                _take_away(session)
                opened.delete_fork(fork)

        return destroy

    @pytest.fixture
    def has_real_posix_shell(self) -> bool:
        return True


@pytest.mark.anyio
async def test_each_command_that_changes_files_is_a_checkpoint(place: Path, make: Callable[..., ForkBackend]) -> None:
    """What was written before belongs to it; a command that only reads saves nothing."""
    backend = make("shop", "main")
    root = await backend.working_dir()
    await backend.write_bytes(f"{root}/by-file", b"1")
    await backend.run("echo 2 > by-command", shell=True)
    await backend.run(["cat", "README"])
    await backend.stop()

    with Home(place) as home:
        work = home.open_vault("shop").workspace()
        messages = [entry.message for entry in work.list_checkpoints()]
        assert [message for message in messages if message.startswith("run: ")] == ["run: echo 2 > by-command"]
        assert (work.read("by-file"), work.read("by-command")) == (b"1", b"2\n")
        assert work.status().clean


@pytest.mark.anyio
async def test_a_result_comes_back_where_a_checkpoint_is_refused(place: Path, make: Callable[..., ForkBackend]) -> None:
    """The command ran: its output and status are the answer, with the refusal behind them. In a merge nothing is saved.

    The agent needs the output most in these two states: to resolve conflicts, and to free space.
    """
    backend = make("shop", "main")
    with Home(place) as home:
        vault = home.open_vault("shop")
        vault.workspace().checkpoint()
        other = vault.fork("other", source="main")
        for work, text in ((vault.workspace("main"), "ours\n"), (other, "theirs\n")):
            work.write_text("README", text)
            work.checkpoint()
        vault.workspace().merge("other", on_conflict="workspace")
        saved = vault.workspace().list_checkpoints()

        seen = await backend.run("echo out; echo err >&2; touch made; grep -c '<<<' README; exit 3", shell=True)
        assert (seen.exit_code, seen.stdout, seen.stderr) == (3, "out\n1\n", "err\n")
        assert vault.workspace().list_checkpoints() == saved

        vault.workspace().abort_merge()
        vault.set_config("quota.vault_bytes", "1000")
        full = await backend.run("echo out; echo x > x", shell=True)
        assert (full.exit_code, full.stdout) == (0, "out\n")
        assert full.stderr.startswith("\navfs: no checkpoint was saved: ")
