"""A session whose server is killed again and again, while programs work in its tree and a client asks it for things.

    python -m tests.support.killed_session SECONDS EVERY_SECONDS [PROGRAM]...

`make soak` runs it for a minute, `tests/contract/test_session.py` shortly. The claim: no program and no client sees an
error, or a wrong byte, and the checkpoint afterwards holds what the tree showed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

from avfs_git import Avfs, Session, Vault, Workspace
from avfs_git.errors import OutcomeUnknown
from avfs_git.model import SessionState
from tests.support import sweep
from tests.support.faults import check_vault, read_files
from tests.support.killing import Killer, prepare, run_programs
from tests.support.live_tree import ADA, describe, mode_and_content

PROGRAMS = ("read", "build", "clone")
"""Those of `tests.support.killing` that the claim is made with."""


MOST_STEPS = 400
"""After so many a client ends without a checkpoint, which a test then tells."""


class Client:
    """Somebody who writes, reads and saves through the session, in a thread.

    Attributes:
        possible: What its files may hold afterwards, which is one thing where it was told; None is no file.
        saved: How many checkpoints it made.
        unknown: How often it was not told whether something was done.
    """

    def __init__(self, vault: Vault, fork: str) -> None:
        self.possible: dict[bytes, set[bytes | None]] = {}
        self.saved = 0
        self.unknown = 0
        self.error: BaseException | None = None
        self._vault = vault
        self._fork = fork
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            with self._vault.workspace(self._fork) as work:
                number = 0
                # A slow machine gets little done in the time there is: it goes on until there is something to look at.
                while not self._stop.wait(0.02) or (not self.saved and number < MOST_STEPS):
                    number += 1
                    self._step(work, b"client/%d" % (number % 50), b"%d\n" % number, number)
        except BaseException as error:  # noqa: BLE001 - told by `at_work`, in the thread that waits
            self.error = error

    def _step(self, work: Workspace, path: bytes, data: bytes, number: int) -> None:
        before = self.possible.get(path, {None})
        self.possible[path] = {*before, data}
        try:
            work.write(path, data)
            self.possible[path] = {data}
            assert work.read(path) == data
            if number % 20 == 0:
                work.checkpoint()
                self.saved += 1
        # the server was killed in the middle; or each one that tried, where little gets done in time
        except OutcomeUnknown:
            self.unknown += 1

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Work for as long as the block takes."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
        if self.error is not None:
            raise self.error


@contextmanager
def _killing(session: Session, every_s: float) -> Iterator[Callable[[], int]]:
    """Kill its server again and again."""
    killer = Killer(session.info().pid, every_s)
    with killer.at_work():
        yield lambda: killer.kills


@contextmanager
def _killing_all(session: Session, every_s: float) -> Iterator[Callable[[], int]]:
    """Kill the process above its server, whichever that is by now, again and again."""
    stop, kills = threading.Event(), 0

    def run() -> None:
        nonlocal kills
        while not stop.wait(every_s):
            info = session.info()
            if info.state is SessionState.MOUNTED:
                with suppress(ProcessLookupError):  # the last one is not dead for long
                    os.kill(info.pid, signal.SIGKILL)
                kills += 1

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield lambda: kills
        finally:
            stop.set()
        running.result()


def work_through_kills(
    root: Path, seconds: float, every_s: float, *names: str, seed: int = 1, backend: str = "auto"
) -> tuple[int, Client]:
    """Do it with kills, below a scratch directory of `sweep`.

    Gives how often the server was killed, and what the client did.
    """
    return _work(root, seconds, partial(_killing, every_s=every_s), *names, seed=seed, backend=backend)


def work_through_deaths(root: Path, seconds: float, every_s: float, *names: str) -> tuple[int, Client]:
    """Do it where the mount does not need its session, which is killed whole; else as `work_through_kills`."""
    return _work(root, seconds, partial(_killing_all, every_s=every_s), *names, seed=1, backend="overlay")


def _work(
    root: Path,
    seconds: float,
    disturb: Callable[[Session], AbstractContextManager[Callable[[], int]]],
    *names: str,
    seed: int,
    backend: str = "auto",
) -> tuple[int, Client]:
    aside = root / "aside"
    aside.mkdir()
    # Patient: on a busy machine servers are killed before they come to what a client wants.
    with (
        Avfs(root / "home", identity=ADA, lock_timeout_s=300) as avfs,
        avfs.create_vault("v", source=prepare(aside)) as vault,
    ):
        with vault.fork("work").mount(root / "tree", backend=backend) as session:
            client = Client(vault, "work")
            # The kills end before the client does: on a busy machine a server may answer nothing between two of them.
            with client.at_work(), disturb(session) as count:
                run_programs(session, aside, seconds, *names, seed=seed)
            vault.workspace("work").checkpoint("after")
            shown = describe(session.path)
        session.wait()
        with vault.fork("copy", source="work", with_changes=False) as copy:
            found = {path: (mode, content) for path, (_, mode, content) in read_files(copy).items()}
        wanted = {path: mode_and_content(about) for path, about in shown.items() if path != b".git"}

        assert found == wanted
        for path, contents in client.possible.items():
            assert (found[path][1] if path in found else None) in contents
    with Avfs(root / "home") as avfs, avfs.open_vault("v") as vault:  # who opens it removes what killed processes left
        check_vault(vault)
    return count(), client


def main(seconds: str, every_s: str, *names: str) -> None:
    """Do it by hand, with other random numbers each time."""
    root = sweep.scratch_root()
    try:
        kills, client = work_through_kills(
            root, float(seconds), float(every_s), *(names or PROGRAMS), seed=int(time.time())
        )
        print(
            f"{kills} kills, {len(client.possible)} files and {client.saved} checkpoints by a client, "
            f"{client.unknown} unknown"
        )
    finally:
        sweep.remove(root)


if __name__ == "__main__":
    main(*sys.argv[1:])
