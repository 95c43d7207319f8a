"""C git as the oracle of the object layer: a repository, and git run in it.

Decided here: how git is called by these tests. The environment is the one that `conftest` fixes.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from avfs_git.paths import Oid

ROOT = Path(__file__).parents[2]
"""Where `avfs_git` can be imported from by programs that tests start."""


class GitRepo:
    """A repository and git."""

    def __init__(self, git_dir: Path) -> None:
        self.git_dir = git_dir

    def run(self, *arguments: str, data: bytes = b"", check: bool = True, cwd: Path | None = None) -> bytes:
        """Run git and return what it prints."""
        argv = ["git", f"--git-dir={self.git_dir}", *arguments]
        return subprocess.run(argv, check=check, input=data, capture_output=True, cwd=cwd).stdout

    def text(self, *arguments: str, data: bytes = b"") -> str:
        """Run git and return what it prints, as one stripped text."""
        return self.run(*arguments, data=data).decode().strip()

    def oid(self, *arguments: str, data: bytes = b"") -> Oid:
        """Run git and return the id that it prints."""
        return Oid(bytes.fromhex(self.text(*arguments, data=data)))

    def fsck(self, *options: str) -> list[str]:
        """Return what `git fsck --strict` has to say."""
        argv = [
            "git",
            f"--git-dir={self.git_dir}",
            "fsck",
            "--strict",
            "--full",
            "--no-progress",
            "--no-dangling",
            *options,
        ]
        done = subprocess.run(argv, check=False, capture_output=True)
        lines = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
        return [line for line in lines if not line.startswith("notice: ")]

    def objects(self) -> dict[Oid, tuple[str, int]]:
        """List all objects: kind and size by id."""
        lines = self.text("cat-file", "--batch-all-objects", "--batch-check", "--unordered").splitlines()
        found = (line.split() for line in lines)
        return {Oid(bytes.fromhex(oid)): (kind, int(size)) for oid, kind, size in found}


def init(git_dir: Path, *options: str) -> GitRepo:
    """Make a bare repository with git."""
    subprocess.run(["git", "init", "-q", "--bare", *options, str(git_dir)], check=True, capture_output=True)
    return GitRepo(git_dir)
