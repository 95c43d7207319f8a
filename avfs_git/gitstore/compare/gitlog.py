"""The history that leads to a commit, as `git log` walks and draws it.

Decided here: how git is asked. No attribute or setting of the repository starts a program: neither a diff driver nor
the check of a signature, so that `%G?` says of each signed commit that it cannot be checked. Usable from threads;
writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from avfs_git.errors import InvalidInput, quote
from avfs_git.gitstore import gitcommand
from avfs_git.paths import Oid, TreePath, encode_given, oid_of

_DECORATIONS = tuple(f"--decorate-refs=refs/{place}/*" for place in ("heads", "remotes", "tags", "avfs/checkpoints"))


def list_touching(git_dir: Path, head: Oid, paths: Sequence[TreePath]) -> list[Oid]:
    """List the commits that changed any of some paths or what is below them, newest first."""
    answer = _ask(git_dir, head, ["--format=%H", "--no-color"], paths)
    return [oid_of(line.decode()) for line in answer.splitlines()]


def draw_log(
    git_dir: Path,
    head: Oid,
    paths: Sequence[TreePath],
    *,
    limit: int,
    form: str | None,
    shown: Sequence[str],
    left_out: str | None,
    color: bool,
) -> bytes:
    """Draw the history as `git log` does.

    Args:
        git_dir: The repository.
        head: Where the history ends.
        paths: Only commits that changed one of these paths, or a path below it; without paths, all commits.
        limit: At most so many commits.
        form: What `git log --format` takes.
        shown: More options of `git log`, such as `--graph`.
        left_out: Leave out commits whose message matches this pattern.
        color: Whether the text has colours, and names the refs at each commit.

    Raises:
        InvalidInput: If git has no such format.
    """
    options = [f"--max-count={limit}", *shown, *_DECORATIONS]
    options += ["--color=always", "--decorate=short"] if color else ["--no-color", "--no-decorate"]
    if form is not None:
        if b"\0" in encode_given(form):
            raise InvalidInput("a format cannot hold a NUL byte")
        options.append(f"--format={form}")
    if left_out is not None:
        options += ["--invert-grep", f"--grep={left_out}"]
    return _ask(git_dir, head, options, paths)


def _ask(git_dir: Path, head: Oid, options: Sequence[str], paths: Sequence[TreePath]) -> bytes:
    fixed = ["--no-show-signature", "--no-ext-diff", "--no-textconv"]
    result = gitcommand.run(git_dir, "log", [*fixed, *options], [head.hex(), "--", *map(os.fsdecode, paths)])
    if "invalid --pretty format" in result.messages:
        form = next(option for option in options if option.startswith("--format=")).partition("=")[2]
        hint = "Give a word such as oneline, short, full or raw, or a text with placeholders such as '%h %an %s'."
        raise InvalidInput(f"git knows no format {quote(form)}", hint=hint)
    gitcommand.check_status(result.status, result.messages, "log")
    return result.output
