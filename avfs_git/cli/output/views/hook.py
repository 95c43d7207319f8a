"""What the harness of a coding agent reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avfs_git.cli.output.text import TextOutput
    from avfs_git.cli.results import HookAnswer


def hook(text: TextOutput, result: HookAnswer) -> None:
    """Give the harness what it reads, and nothing else."""
    text.raw(result["answer"].encode("utf-8", "surrogateescape"))
