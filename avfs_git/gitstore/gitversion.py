"""Which git is installed here, for the few questions that versions of git answer differently.

`ignore` and `bygit` ask, and only about what versions read differently: asking costs a process, once. Without a git the
newest is assumed. Safe from any thread; touches no repository.
"""

from __future__ import annotations

import functools
import re

GitVersion = tuple[int, int]

NEWEST: GitVersion = (9999, 0)
_TIMEOUT_S = 10


@functools.cache
def installed_git() -> GitVersion:
    """Return the first two numbers of the installed git's version; `NEWEST` without one."""
    import shutil  # noqa: PLC0415 - many import this module, and few ask
    import subprocess  # noqa: PLC0415

    program = shutil.which("git")
    if program is None:
        return NEWEST
    try:
        # No environment: none of the user's GIT_ variables may make it write or run anything.
        done = subprocess.run(
            [program, "version"], capture_output=True, check=False, cwd="/", env={"LC_ALL": "C"}, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return NEWEST
    return parse_git_version(done.stdout)


def parse_git_version(line: bytes) -> GitVersion:
    """Read what `git version` prints."""
    match = re.match(rb"git version (\d+)\.(\d+)", line)
    return (int(match[1]), int(match[2])) if match else NEWEST
