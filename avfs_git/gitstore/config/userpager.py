"""The user's pager, asked of git.

Decided here: that only the user's environment and their own and the system's configuration name it (git-var(1): GIT_PAGER,
`core.pager`, PAGER, less). The value is a command for a shell: a repository's configuration, which may come from elsewhere, is
not read. Called once by a process that shows a long text to a person; writes nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

_NO_REPOSITORY = f"--git-dir={os.devnull}"


def find_pager(environment: Mapping[str, str]) -> str:
    """Find the command of the user's pager; `cat` where they want none."""
    program = shutil.which("git", path=environment.get("PATH"))
    if program is not None:
        try:
            done = subprocess.run(
                [program, _NO_REPOSITORY, "var", "GIT_PAGER"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=False,
            )
        except OSError:
            done = None
        if done is not None and done.returncode == 0:
            return os.fsdecode(done.stdout).removesuffix("\n")
    return next((environment[name] for name in ("GIT_PAGER", "PAGER") if name in environment), "less")
