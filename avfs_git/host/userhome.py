"""The user's own directory, which `~` stands for.

Decided here: an empty HOME counts as an unset one, so that nothing is read from or written to `/` by mistake. Called by
every module that resolves `~`; any thread may call.
"""

from __future__ import annotations

import os
from pathlib import Path

from avfs_git.errors import InvalidInput

_OWN = "~"


def expand_user(path: Path) -> Path:
    """Replace a leading `~` by HOME or, if that is unset or empty, by the directory in the password database.

    Raises:
        InvalidInput: If neither names one.
        RuntimeError: If the path begins with `~NAME`, and there is no such user.
    """
    if path.parts[:1] != (_OWN,) or os.environ.get("HOME"):  # noqa: TID251 - as `Path.expanduser`, which reads an empty one as `/`
        return path.expanduser()
    import pwd  # noqa: PLC0415 - only where HOME names nothing

    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container may run under an id that has no name
        home = ""
    if not home:
        what = f"HOME is not set, and the password database names no directory for user {os.getuid()}"
        raise InvalidInput(what, hint="Set HOME to a directory of yours.")
    return Path(home, *path.parts[1:])


def find_user_home() -> Path:
    """Find the user's own directory; raises InvalidInput as `expand_user` does."""
    return expand_user(Path(_OWN))
