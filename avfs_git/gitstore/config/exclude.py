"""What a repository says of ignore rules beside its ignore files: `info/exclude`, and whether case counts.

Decided here: what of it is obeyed where it cannot be read. Called by what captures files, from any thread, once for a
capture. Reads two files; a crash leaves nothing.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from avfs_git.gitstore.config.gitconfig import is_true, read_config
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.gitstore.rules.ignore import IGNORE_FILE_READ, Exclude


def read_exclude(git_dir: Path) -> Exclude:
    """Read what holds for all ignore rules of a repository, and its own (gitignore(5), git-config(1)).

    Raises:
        NotAVault: If a file of these is a link or no file: without them, what they hide would get into the history.
    """
    rules = b""
    with suppress(OSError):  # git, too, goes on without it
        rules = read_plain_file(git_dir / "info" / "exclude", limit=IGNORE_FILE_READ)
    said = read_config(git_dir).get("core.ignorecase", ["false"])
    return Exclude(rules, folds_case=is_true(said[-1]))
