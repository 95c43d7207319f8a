"""When refs that only keep something for undo were made, of those that have no file of their own any more.

Decided here: the format of `avfs/kept-times`. `garbage` drops such a ref when it is old; the time of the ref's file
tells how old, until maintenance moves the ref into `packed-refs`. Then a line here tells it: the commit and the time,
in nanoseconds since the epoch. Written before the file of the ref goes. Not forced to disk: a ref without a line is as
young as `packed-refs`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors, write_all, write_file_atomically
from avfs_git.host.files.modes import open_file
from avfs_git.host.files.plainfile import read_plain
from avfs_git.workspace.vault.format import KEPT

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""Without waiting where a pipe has the file's name."""


class KeptTimes:
    """The file of one vault. Used by the process that has maintenance or the packs to itself."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, touched_ns: Mapping[str, int]) -> None:
        """Note when the files of refs that only keep something were last written."""
        lines = [f"{name.removeprefix(KEPT)} {at_ns}\n" for name, at_ns in touched_ns.items() if name.startswith(KEPT)]
        if lines:
            with host_errors(f"write '{self._path}'"), closing_fd(open_file(self._path, _FLAGS)) as fd:
                write_all(fd, "".join(lines).encode("ascii"))

    def read(self) -> dict[str, int]:
        """Map refs to the last times noted for them."""
        found: dict[str, int] = {}
        with suppress(OSError):
            for line in read_plain(self._path).split(b"\n"):
                oid, _, at_ns = line.partition(b" ")
                if len(oid) == 40 and at_ns.isdigit():
                    name = KEPT + oid.decode("ascii", "replace")
                    found[name] = max(found.get(name, 0), int(at_ns))
        return found

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget all other refs than these."""
        known = self.read()
        staying = {name: known[name] for name in names if name in known}
        if len(staying) < len(known):
            text = "".join(f"{name.removeprefix(KEPT)} {at_ns}\n" for name, at_ns in staying.items())
            write_file_atomically(self._path, text.encode("ascii"), durable=False)
