"""Which names a ref may have.

Decided here: what git takes for the name of a ref, and how long one may be on disk. Called by all that make or move
refs, and by the readers of packed and loose ones. No state; nothing is read or written.
"""

from __future__ import annotations

import os

from avfs_git.errors import InvalidName
from avfs_git.patterns import compiled

IGNORED = compiled(r"/\.|\.lock(?:/|$)")
"""What git, too, takes for no ref."""


FORBIDDEN = compiled(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)|[/.]$")


def check_ref_name(name: str) -> str:
    """Return the name if a ref may have it: of a kind, as `refs/heads/x`, and what git allows; or that of git's stash.

    Raises:
        InvalidName: Otherwise.
    """
    if not name.startswith("refs/") or (name.count("/") < 2 and name != "refs/stash") or FORBIDDEN.search(name):
        raise InvalidName("ref", name, "git does not allow it")
    try:
        size = max(len(part) for part in os.fsencode(name).split(b"/"))
    except UnicodeEncodeError:
        raise InvalidName("ref", name, "it is not valid UTF-8") from None
    if size > 250 or len(name) > 3000:
        raise InvalidName("ref", name, "it is too long")
    return name
