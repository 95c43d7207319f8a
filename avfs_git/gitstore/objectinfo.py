"""How long objects are that are still on a server: `object-info` of git's protocol (gitprotocol-v2).

Decided here: how that is asked, and what of the answer is believed: sizes of objects that were asked for, each once, none of them
absurd. Whether they are true nobody knows before the contents are here: `lazystore` compares. Called by `workspace.remotes`,
from any thread, without any lock; blocks for as long as the other side takes, up to a limit. Nothing is kept here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from avfs_git.errors import RemoteDataRefused
from avfs_git.gitstore.remotes import hide_secret
from avfs_git.paths import Oid

if TYPE_CHECKING:
    from avfs_git.gitstore.transport import Exchange

AT_ONCE = 5_000
"""So many objects are asked for in one request: with 250 KB git's http helper sends it in one piece."""
_SIZE_MAX = 1 << 40
"""What is said to be larger is no file that a git server keeps."""
_LINE = re.compile(rb"([0-9a-f]{40}) ?([0-9]{0,13})\n?")


def ask_sizes(exchange: Exchange, oids: Sequence[Oid]) -> dict[Oid, int] | None:
    """Ask a server how long objects are; those that it does not know are left out. None if it does not tell such things.

    Args:
        exchange: With whom.
        oids: What is asked for.

    Raises:
        RemoteUnreachable, RemoteAccessDenied: If the server cannot be asked.
        RemoteDataRefused: If its answer makes no sense; nothing of it counts.
    """
    found: dict[Oid, int] = {}
    with exchange.connect() as connection:
        if connection is None or "object-info" not in connection.capabilities:
            return None
        for start in range(0, len(oids), AT_ONCE):
            some = oids[start : start + AT_ONCE]
            lines = [b"size\n", *(b"oid %b\n" % oid.hex().encode("ascii") for oid in some)]
            answer = connection.ask("object-info", lines, len(some) + 1)
            asked = set(some)
            if next(answer, b"").rstrip(b"\n") != b"size":
                raise RemoteDataRefused(hide_secret(exchange.url), "it was asked for sizes, and does not give them")
            for line in answer:
                match = _LINE.fullmatch(line)
                oid = Oid(bytes.fromhex(match[1].decode("ascii"))) if match is not None else None
                if match is None or oid is None or oid not in asked or int(match[2] or 0) > _SIZE_MAX:
                    raise RemoteDataRefused(hide_secret(exchange.url), f"it gives no sensible size: {line[:100]!r}")
                asked.remove(oid)
                if match[2]:
                    found[oid] = int(match[2])
    return found
