"""What a live tree promises beyond being a directory (`test_backends.py`): warm reads, deaths, other users."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avfs_git.host.mounts.mounts import list_mounts
from tests.support import kernelcaches
from tests.support.backends import OverlayTree, backends, show
from tests.support.capabilities import NOBODY
from tests.support.live_tree import LiveTree, ShownTree, live_tree, mounted, run_in, umount
from tests.support.promises import make_source

pytestmark = pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Something to begin with."""
    return make_source(tmp_path / "source")


_SERVED = ("channel", "channel-user")


@pytest.fixture(params=backends(*_SERVED, "overlay"))
def live(request: pytest.FixtureRequest, mount_dir: Path, source: Path) -> Iterator[ShownTree]:
    """A live tree of `source`, in each way in which there is one."""
    with _shown(request.param, mount_dir, source) as tree:
        yield tree


@pytest.fixture(params=backends(*_SERVED))
def served(request: pytest.FixtureRequest, mount_dir: Path, source: Path) -> Iterator[LiveTree]:
    """A live tree of `source`, in each way in which a server of ours is asked for all of it."""
    with _shown(request.param, mount_dir, source) as tree:
        assert isinstance(tree, LiveTree)
        yield tree


@contextmanager
def _shown(backend: str, root: Path, source: Path) -> Iterator[ShownTree]:
    with show(backend, root, source) as tree:
        yield tree
    assert not [mount for mount in list_mounts() if mount.directory.is_relative_to(root)]


_LOOK = """
for here, dirs, files in os.walk(tree):
    for name in [*dirs, *files]:
        os.lstat(os.path.join(here, name))
"""
_READ = """
places = [tree]
while places:
    for entry in os.scandir(places.pop()):
        if entry.is_dir(follow_symlinks=False):
            places.append(entry.path)
        elif entry.is_symlink():
            os.readlink(entry.path)
        else:
            fd = os.open(entry.path, os.O_RDONLY)
            while os.read(fd, 1 << 16):
                pass
            os.close(fd)
"""


@pytest.mark.slow
@pytest.mark.parametrize("code", [_LOOK, _READ], ids=["looking", "reading"])
def test_a_warm_tree_asks_the_server_nothing(served: LiveTree, code: str) -> None:
    """What was looked at or read once is looked at, listed, opened and read again without a request."""
    with kernelcaches.kept():
        served.python(code)
        served.python(code)
        before = served.counts()
        served.python(code)

        assert served.counts() == before
    served.unmount()


@pytest.mark.slow
def test_a_program_is_told_what_it_may_run(live: ShownTree) -> None:
    """access(2) and execve(2) agree: git and shells ask before they run a hook or a command."""
    said = live.python("""
name = tree + '/run-me'
with open(name, 'w') as f: f.write('#!/bin/sh\\nexit 7\\n')
for mode in (0o644, 0o755):
    os.chmod(name, mode)
    try: ended = subprocess.run([name]).returncode
    except PermissionError: ended = None
    print(os.access(name, os.X_OK), os.access(name, os.R_OK | os.W_OK), os.access(tree, os.X_OK | os.W_OK), ended)
""")
    assert said == "False True True None\nTrue True True 7\n"
    live.unmount()


@pytest.mark.slow
def test_a_long_listing_of_a_warm_tree_asks_for_no_file(served: LiveTree) -> None:
    """`ls -l` wants to know of each file whether it has a label and an access control list; once is enough."""
    served.python("for number in range(30): open(f'{tree}/many{number}', 'w').close()")
    with kernelcaches.kept():
        served.run("ls", "-laR")
        before = served.counts()
        served.run("ls", "-laR")

        assert sum(served.counts().values()) - sum(before.values()) < 10
    served.unmount()


@pytest.mark.slow
def test_access_control_lists_are_refused_or_hold(live: ShownTree) -> None:
    """A list that would not be enforced is refused, so no file is open to more than its owner was told.

    Copying goes on.
    """
    said = live.python("""
import shutil, struct
minimal = struct.pack('<I' + 'HHI' * 3, 2, 1, 6, 0xffffffff, 4, 4, 0xffffffff, 0x20, 0, 0xffffffff)  # rw-r-----
for name in ('system.posix_acl_access', 'system.posix_acl_default'):
    try: os.setxattr(tree + '/src', name, minimal); print('taken')
    except OSError as e: print(errno.errorcode[e.errno])
    try: os.getxattr(tree + '/src', name); print('there')
    except OSError as e: print(errno.errorcode[e.errno])
shutil.copy2(tree + '/README', tree + '/copy')
subprocess.run(['cp', '-a', tree + '/README', tree + '/copy2'], check=True)
""")
    # On overlayfs the kernel goes by lists, as on the disk below; one that says what a mode can say becomes the mode.
    assert said == ("taken\nENODATA\ntaken\nthere\n" if isinstance(live, OverlayTree) else "ENOTSUP\n" * 4)
    live.unmount()


@pytest.mark.slow
def test_a_killed_server_leaves_a_mount_that_can_be_taken_away(served: LiveTree) -> None:
    """Programs get an error, none hangs, nothing that a program wrote and synced is lost."""
    served.python("fd = os.open(tree + '/kept', os.O_CREAT | os.O_WRONLY); os.write(fd, b'kept'); os.fsync(fd)")
    served.server.kill()
    served.server.wait()

    assert "ENOTCONN" in served.python("""
try: os.stat(tree + '/README')
except OSError as e: print(errno.errorcode[e.errno])
""")
    umount(served.path)
    with mounted(served.home / "vaults" / "v.git", served.home, served.path) as again:
        assert again.python("print(open(tree + '/kept').read())") == "kept\n"
        again.unmount()


@pytest.mark.slow
@pytest.mark.parametrize("backend", backends("channel", "overlay"))
def test_what_other_users_make_is_theirs(mount_dir: Path, source: Path, backend: str) -> None:
    """A tree that root shares gives each file its maker as owner, and takes set-uid away when others write."""
    mount_dir.chmod(0o755)
    shared = show(backend, mount_dir, source) if backend == "overlay" else live_tree(mount_dir, source, "allow_other")
    with shared as live:
        (live.path / "src").chmod(0o777)
        other = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        run_in(live.path / "src", [*other, "sh", "-c", "umask 022; echo x > mine; mkdir d; ln -s x l"])
        found = [os.lstat(live.path / "src" / name) for name in ("mine", "d", "l")]
        assert [(one.st_uid, one.st_gid) for one in found] == [(NOBODY, NOBODY)] * 3
        assert [stat.S_IMODE(one.st_mode) for one in found] == [0o644, 0o755, 0o777]

        denied = run_in(live.path, [*other, "sh", "-c", "echo x >> README"], check=False)
        assert denied.returncode != 0
        (live.path / "README").chmod(0o6777)
        (live.path / "src" / "a.c").touch()  # into the upper layer: overlayfs copies no range from one layer to another
        run_in(live.path, [*other, "sh", "-c", "echo x >> README"])
        assert stat.S_IMODE((live.path / "README").stat().st_mode) == 0o777
        for call in (
            "os.posix_fallocate(fd, 0, 9)",
            "os.pwrite(fd, b'x', 0)",
            "os.truncate(fd, 3)",
            "os.copy_file_range(os.open('src/a.c', os.O_RDONLY), fd, 4)",
        ):
            for user in (0, NOBODY):
                for mode in (0o6777, 0o6767, 0o2777, 0o4666):
                    (live.path / "README").chmod(mode)
                    # It becomes that user by itself, who may not be able to reach the interpreter.
                    code = f"import os; os.setgroups([]); os.setresgid(*[{user}] * 3); os.setresuid(*[{user}] * 3)"
                    run_in(live.path, [sys.executable, "-c", f"{code}; fd = os.open('README', os.O_RDWR); {call}"])
                    kept = mode if user == 0 else mode & 0o777
                    # This one asks for the mode alone, which the kernel may know without asking.
                    shown = run_in(live.path, ["stat", "-c", "%a", "README"]).stdout
                    assert int(shown, 8) == kept, (call, user, oct(mode))

        (live.path / "team").mkdir()
        os.chown(live.path / "team", 0, NOBODY)
        (live.path / "team").chmod(0o2775)
        (live.path / "team" / "x").write_text("x")
        (live.path / "team" / "sub").mkdir()
        assert (live.path / "team" / "x").stat().st_gid == NOBODY
        assert stat.filemode((live.path / "team" / "sub").stat().st_mode) == "drwxr-sr-x"
        live.unmount()
