"""Where in the code a process passes a fault point, and what is on disk then.

Decided here: a place is a point's name and the calls that led there, from the operation on: what carries an operation
out (a session, its supervisor, the kernel's requests) is left out. A state of the disk is what stat(2) says of all
files below a directory, without mounts: a process that is asked for it may be the one that serves them.
"""

from __future__ import annotations

import os
import sys
from hashlib import blake2b
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import avfs_git

_CODE = f"{Path(avfs_git.__file__).parent}/"
_CARRIERS = ("session/serve/", "session/control/control.py", "fuse/")


class Passed(NamedTuple):
    """A point that was passed."""

    point: str
    """Its name and turn."""
    place: str
    disk: str
    shown: str
    """What of the disk git looks at, without objects."""
    process: str
    locks: frozenset[str]
    """Those that the process held."""


def describe_passing(name: str, scene: Path) -> str:
    """Describe in one line how this process passes a point: the name, place, disk, process and its locks."""
    disk = _look_at(scene)
    shown = [line for line in disk if ".git/" in line and "/avfs" not in line and "/objects/" not in line]
    states = (_short("\n".join(lines)) for lines in (disk, shown))
    return " ".join((name, _short(_find_place()), *states, str(os.getpid()), *_list_locks()))


def read_passed(text: str) -> list[Passed]:
    """Read what `describe_passing` has written, with the turn of each point."""
    turns: dict[str, int] = {}
    found = []
    for name, place, disk, shown, process, *locks in map(str.split, text.splitlines()):
        turns[name] = turns.get(name, 0) + 1
        found.append(Passed(f"{name}#{turns[name]}", place, disk, shown, process, frozenset(locks)))
    return found


def _short(text: str) -> str:
    return blake2b(text.encode(errors="surrogateescape"), digest_size=8).hexdigest()


def _find_place() -> str:
    found = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(_CODE):
            path = path.removeprefix(_CODE)
            if path.startswith(_CARRIERS):
                break
            found.append(f"{path}:{frame.f_lineno}")
        frame = frame.f_back
    return " ".join(found)


def _look_at(scene: Path) -> list[str]:
    # of others' mounts, too, whose names may be any bytes
    lines = Path("/proc/self/mountinfo").read_bytes().split(b"\n")
    mounts = {os.fsdecode(line.split(b" ")[4]) for line in lines if line}
    found = []
    todo = [os.fspath(scene)]
    while todo:
        try:
            entries = sorted(os.scandir(todo.pop()), key=lambda entry: entry.name)
        except (FileNotFoundError, PermissionError):  # overlayfs closes its own directory to an ordinary user
            continue
        for entry in entries:
            if entry.path in mounts:
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            path = entry.path.removeprefix(os.fspath(scene))
            found.append(
                f"{path} {status.st_ino} {status.st_mode} {status.st_nlink} {status.st_size} {status.st_ctime_ns}"
            )
            if entry.is_dir(follow_symlinks=False):
                todo.append(entry.path)
    return found


def _list_locks() -> list[str]:
    mine = f" {os.getpid()} "
    lines = Path("/proc/locks").read_text().splitlines()
    return sorted("-".join(line.split()[1:]) for line in lines if mine in line and "->" not in line)
