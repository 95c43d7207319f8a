"""`auto` mounts by the next backend where the kernel's own protocol cannot be spoken, and says why.

The machine on which it cannot is this one with an older kernel, as far as the programs of a test can tell: what the
kernel says of its protocol's version is lowered on its way into each process, below what avfs asks for and libfuse can
do with. All else is the kernel's own, and so is what becomes of it: libfuse really mounts and serves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from avfs_git.cli.commands.running.exec import command as proxy_exec
from avfs_git.cli.commands.upkeep.schema import describe
from avfs_git.host.mounts.mounts import list_mounts

pytestmark = [pytest.mark.needs("fuse", "libfuse", "compiler", "user-xattrs", "whiteout"), pytest.mark.slow]

_OLD_MINOR = 30
_OLDER_KERNEL = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/uio.h>

static void age(int fd, unsigned char *data, ssize_t length) {
    struct stat found;
    uint32_t *words = (uint32_t *) data; /* fuse_in_header is 40 bytes: the operation is its second word */
    if (length >= 48 && words[1] == 26 && words[10] == 7 && words[11] > MINOR
        && !fstat(fd, &found) && found.st_rdev == makedev(10, 229))
        words[11] = MINOR;
}

ssize_t read(int fd, void *data, size_t size) {
    ssize_t (*next)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
    ssize_t length = next(fd, data, size);
    age(fd, data, length);
    return length;
}

ssize_t readv(int fd, const struct iovec *parts, int count) {
    ssize_t (*next)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "readv");
    ssize_t length = next(fd, parts, count);
    if (count && length <= (ssize_t) parts[0].iov_len)
        age(fd, parts[0].iov_base, length);
    return length;
}
"""

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def avfs(mount_dir: Path, tmp_path: Path) -> Run:
    """Runs the program on that machine, and gives its document."""
    source, library = tmp_path / "older.c", mount_dir / "older.so"
    source.write_text(_OLDER_KERNEL)
    subprocess.run(["gcc", "-shared", "-fPIC", f"-DMINOR={_OLD_MINOR}", "-o", library, source, "-ldl"], check=True)
    env = {**os.environ, "AVFS_HOME": str(mount_dir / "h"), "LD_PRELOAD": str(library)}

    def run(*arguments: str | Path) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "avfs_git", "--json", *arguments], env=env, capture_output=True, check=False
        )
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    return run


@pytest.fixture
def point(avfs: Run, mount_dir: Path) -> Path:
    """Where the only fork of a vault with a file is mounted by each test."""
    (mount_dir / "source").mkdir()
    (mount_dir / "source" / "file").write_text("content\n")
    assert avfs("vault", "create", "v", "--from", mount_dir / "source")["success"]
    return mount_dir / "tree"


def test_the_next_backend_is_used_and_the_reason_told(avfs: Run, point: Path, person: str) -> None:
    """The tree is mounted through libfuse, and ends as any other.

    The session and the commands that run there tell the backend and the reason.
    """
    made = avfs("--vault", "v", "mount", "main", point)
    assert made["success"], made
    assert made["result"]["backend"] == "portable"
    passed = ("overlay", "fuse") if person == "root" else ("fuse",)
    assert made["result"]["backend_reasons"] == [
        f"{name}: the kernel's FUSE 7.{_OLD_MINOR} is too old" for name in passed
    ]
    assert (point / "file").read_text() == "content\n"
    (point / "new").write_text("new\n")
    ran = avfs("--vault", "v", "proxy", "exec", "--", "cat", "new")
    assert ran["result"]["stdout"] == "new\n", ran
    assert (ran["result"]["backend"], ran["result"]["backend_reasons"]) == ("portable", [])
    planned = avfs("--vault", "v", "exec", "--dry-run", "--", "cat", "new")
    assert planned["result"]["backend"] == "portable", planned
    for document in (ran, planned):
        jsonschema.validate(document, describe(proxy_exec))
    ended = avfs("stop", point)
    assert ended["result"]["checkpoint"]["outcome"] == "created", ended
    assert not [mounted for mounted in list_mounts() if mounted.directory == point]


def test_what_is_asked_for_by_name_is_not_replaced(avfs: Run, point: Path) -> None:
    """`--backend fuse` fails where it cannot be had, with the reason, and leaves nothing behind."""
    refused = avfs("--vault", "v", "mount", "main", point, "--backend", "fuse")
    assert not refused["success"]
    assert refused["error"]["message"] == f"the kernel's FUSE 7.{_OLD_MINOR} is too old"
    assert not [mounted for mounted in list_mounts() if mounted.directory == point]
    assert avfs("--vault", "v", "sessions")["result"]["sessions"] == []


def test_what_stands_in_the_way_of_all_is_told_at_once(avfs: Run, point: Path) -> None:
    """A directory that nothing can be mounted on is no reason for another backend."""
    point.mkdir()
    (point / "something").touch()
    refused = avfs("--vault", "v", "mount", "main", point)
    assert refused["error"]["code"] == "mount.point_unusable", refused
