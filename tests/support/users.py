"""Actions as another user than root, in a separate process: for tests of what one user may do with another's files.

`ordinary` has one ordinary user with a home and namespaces; here there are two without either.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.support import ordinary

ALICE, MALLORY = 54_401, 54_402


def give(place: Path, uid: int) -> None:
    """Make a user the owner of a file, or of a directory with all that is in it."""
    for directory, names, files in os.walk(place):
        for name in [directory, *(os.path.join(directory, each) for each in (*names, *files))]:
            os.chown(name, uid, uid, follow_symlinks=False)
    os.chown(place, uid, uid, follow_symlinks=False)


def open_way(place: Path) -> None:
    """Let everybody walk to a directory of a test."""
    for directory in (place, *place.parents):
        if directory.stat().st_uid == os.geteuid() and not directory.stat().st_mode & 0o001:
            directory.chmod(directory.stat().st_mode | 0o011)


def as_user(uid: int, work: Callable[[], str], *, groups: list[int] | None = None, gid: int | None = None) -> str:
    """Do something as a user; give what it says, or the name of the class of what it raises with its message.

    Args:
        uid: The user.
        work: What to do.
        groups: The further groups of the user.
        gid: The group; the one of the user's number if not given.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        try:
            ordinary.reach_project()
            os.setgroups(groups or [])
            os.setresgid(*(uid if gid is None else gid,) * 3)
            os.setresuid(uid, uid, uid)
            os.chdir("/")
            said = work()
        except Exception as error:  # noqa: BLE001 - told to who asked
            said = f"{type(error).__name__}: {error}"
            if not hasattr(error, "code"):
                said += "\n" + traceback.format_exc()
        finally:
            os.write(writing, said.encode("utf-8", "replace")[:60_000])
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        said = file.read().decode("utf-8", "replace")
    os.waitpid(pid, 0)
    return said


def make_traces(directory: Path) -> Path:
    """Make a place where programs of traps leave their names, whoever runs them."""
    place = directory / "traces"
    place.mkdir()
    place.chmod(0o777)
    return place
