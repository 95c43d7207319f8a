"""C git beside a plain directory: which tree `git add -A; git write-tree` makes of it.

Decided here: what is taken out of git's sight before it looks, because a git tree cannot or shall not hold it: names
and kinds that git forbids, and untracked directories that are, or are in, repositories of their own; and what is taken
out of git's index after it has looked: files that were beside history before, and that nobody has added.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

from avfs_git.gitstore.formats.trees import MODE_SYMLINK, MODE_TREE, is_forbidden_kind, is_forbidden_name
from tests.support.trees import Described, describe_dir

_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Ada Author",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada Author",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}


def git(*argv: str | bytes | Path, cwd: Path | None = None, **environment: str) -> bytes:
    """Run git without anybody's configuration; what it printed."""
    done = subprocess.run(
        ["git", *argv],
        cwd=cwd,
        env={**_ENVIRONMENT, **environment},
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout


class GitOracle:
    """An index of git's, kept over the life of a directory that knows nothing of it."""

    def __init__(self, scratch: Path, vault: Path) -> None:
        """Take an empty place on disk, and the vault, whose objects may be named when the index is set."""
        self._seen = scratch / "seen"
        self._git_dir = scratch / "oracle.git"
        self.beside: set[bytes] = set()
        """The files that stay out of the tree unless they are tracked, whatever the ignore rules say."""
        git("init", "-q", "--bare", self._git_dir)
        (self._git_dir / "objects" / "info" / "alternates").write_bytes(os.fsencode(vault / "objects") + b"\n")

    def _git(self, *argv: str | bytes | Path) -> bytes:
        return git(
            "-c", "core.fileMode=true", *argv, cwd=self._seen, GIT_DIR=str(self._git_dir), GIT_WORK_TREE=str(self._seen)
        )  # fmt: skip

    def track(self, tree: str | None) -> None:
        """Make the index hold a tree and nothing else."""
        self._seen.mkdir(exist_ok=True)
        self._git("read-tree", *([tree] if tree is not None else ["--empty"]))

    def list_beside(self, described: Mapping[bytes, Described], tree: str | None) -> set[bytes]:
        """List the files of a state that its tree does not hold."""
        self._seen.mkdir(exist_ok=True)
        held = self._git("ls-tree", "-r", "-z", "--name-only", "--full-tree", tree) if tree is not None else b""
        return {path for path, entry in described.items() if entry[0] != stat.S_IFDIR} - set(held.split(b"\0"))

    def track_path(self, tree: str | None, path: bytes) -> None:
        """Make the index hold at and below a path what a tree holds there."""
        self._seen.mkdir(exist_ok=True)
        literal = b":(top,literal)" + path
        self._git("rm", "-r", "-f", "-q", "--cached", "--ignore-unmatch", "--", literal)
        if tree is not None:
            listed = self._git("ls-tree", "-r", "-z", "--full-tree", tree, "--", path.rstrip(b"/"))
            for record in filter(None, listed.split(b"\0")):
                facts, _, name = record.partition(b"\t")
                mode, _, oid = facts.split()
                self._git("update-index", "--add", "--replace", "--cacheinfo", b"%b,%b,%b" % (mode, oid, name))

    def add_all(self, directory: Path) -> str:
        """Track everything in a directory that is not ignored; the tree that holds it."""
        shutil.rmtree(self._seen, ignore_errors=True)
        self._seen.mkdir()
        tracked = set(filter(None, self._git("ls-files", "-z").split(b"\0")))
        self._show(os.fsencode(directory), b"", tracked)
        self._git("add", "-A")
        stays = self.beside - tracked
        if stays:
            self._git("update-index", "--force-remove", "--", *sorted(stays))
        tree = self._git("write-tree").decode("ascii").strip()
        self.beside = self.list_beside(describe_dir(directory), tree)
        return tree

    def _show(self, base: bytes, path: bytes, tracked: set[bytes]) -> None:
        prefix = path + b"/" if path else b""
        names = os.listdir(base + b"/" + path)
        if path and b".git" in names and not any(name.startswith(prefix) for name in tracked):
            return
        for name in names:
            here = prefix + name
            place, shown = base + b"/" + here, os.fsencode(self._seen) + b"/" + here
            status = os.lstat(place)
            if is_forbidden_name(name):
                continue
            if stat.S_ISDIR(status.st_mode):
                if is_forbidden_kind(name, MODE_TREE) and not any(other.startswith(here + b"/") for other in tracked):
                    continue
                os.mkdir(shown)
                self._show(base, here, tracked)
            elif stat.S_ISLNK(status.st_mode):
                if not is_forbidden_kind(name, MODE_SYMLINK):
                    os.symlink(os.readlink(place), shown)
            elif stat.S_ISREG(status.st_mode):
                shutil.copyfile(place, shown)
                os.chmod(shown, 0o755 if status.st_mode & 0o100 else 0o644)


def materialize(described: Mapping[bytes, Described], directory: Path) -> None:
    """Make a directory hold what `describe_dir` told of one, times included where they are known."""
    base = os.fsencode(directory)
    for name in os.listdir(base):
        place = base + b"/" + name
        if os.path.isdir(place) and not os.path.islink(place):
            shutil.rmtree(place)
        else:
            os.unlink(place)
    for path in sorted(described):
        kind, mode, content, xattrs, first, _ = described[path]
        place = base + b"/" + path if path else base
        if kind == stat.S_IFDIR:
            if path:
                os.mkdir(place)
            for key in os.listxattr(place):
                os.removexattr(place, key)
        elif kind == stat.S_IFLNK:
            assert isinstance(content, bytes)
            os.symlink(content, place)
        elif isinstance(first, bytes) and first != path:
            os.link(base + b"/" + first, place)
        else:
            assert isinstance(content, bytes)
            with open(place, "wb") as file:
                file.write(content)
        if kind != stat.S_IFLNK:
            assert isinstance(xattrs, list)
            assert isinstance(mode, int)
            for key, value in xattrs:
                os.setxattr(place, key, value)
            os.chmod(place, mode)
    for path in sorted(described, reverse=True):
        moment = described[path][5]
        if isinstance(moment, int):
            os.utime(base + b"/" + path, ns=(moment, moment), follow_symlinks=False)
