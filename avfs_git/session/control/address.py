"""The place of a session's socket.

Decided here: how it is made for its owner only, and how a path that is too long for the system is spelled. `process`
makes it before the workspace's lock names the session, long before it is served: clients that connect wait. `client`
connects.
"""

from __future__ import annotations

import _socket  # what `socket` adds to it takes longer to load than a session may
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from avfs_git.errors import HostError
from avfs_git.host.files.closing import closing_fd

_BACKLOG = 128
_SUN_PATH = 108  # with the NUL at its end; unix(7)


def listen(path: Path) -> _socket.socket:
    """Make the listening socket of a session, for its owner only. What is at the path is replaced."""
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        # Before it has a name: on Linux the name gets the mode of the socket, so that it is never open to others.
        os.fchmod(listener.fileno(), 0o600)
        with socket_address(path) as address:
            listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise HostError(f"make the socket '{path}'", error) from error
    return listener


@contextlib.contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """Name a socket for `bind` and `connect`, which take only short paths, for as long as the block runs."""
    text = os.fspath(path)
    if len(os.fsencode(text)) < _SUN_PATH:
        yield text
        return
    with closing_fd(os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
        yield f"/proc/self/fd/{fd}/{path.name}"
