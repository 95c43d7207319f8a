"""A vault that may only be read: on a read-only disk as root, without permission to write as an ordinary user.

Everything that only looks gives what it gives in a copy that may be written, and writes nothing; what changes something
is refused.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault
from avfs_git.errors import NotWritable
from avfs_git.host.locks.locks import LockFile
from avfs_git.model import Identity
from tests.support.capabilities import mount, unmount
from tests.support.cli import Cli

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout"), pytest.mark.usefixtures("person")]

ADA = Identity("Ada Author", "ada@example.org")
_MS_RDONLY, _MS_REMOUNT, _MS_BIND = 1, 32, 4096  # linux/mount.h
FORKS = ["main", "work", "untouched", "made-by-git"]
BIG = bytes(range(256)) * (1 << 14)


def look_of(directory: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Tell all that a write would change: modes, times of change and contents, but for what is not a file."""
    found = {}
    for place, _, files in os.walk(directory):
        for path in [place, *(os.path.join(place, name) for name in files)]:
            status = os.lstat(path)
            content = Path(path).read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[path] = (status.st_mode, status.st_ino, status.st_mtime_ns, content)
    return found


@pytest.fixture
def home(mount_dir: Path, tmp_path: Path) -> Path:
    """A home with a vault: a fork with changes of every kind, one that nobody has opened, one that git made."""
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "a").write_bytes(b"one\n")
    (source / "d" / "b").write_bytes(b"two\n")
    (source / "big").write_bytes(BIG)
    (source / ".gitignore").write_bytes(b"*.o\n")
    (source / "x.o").write_bytes(b"built\n")
    made = mount_dir / "home"
    with Avfs(made, identity=ADA) as avfs, avfs.create_vault("v", source=source) as vault:
        vault.fork("untouched").close()
        with vault.fork("work") as work:
            work.write("/saved", b"saved\n")
            work.checkpoint("one")
            work.write("/a", b"other\n")
            work.write("/more", BIG)
            work.remove("/d/b")
        heads = vault.path / "refs" / "heads"
        (heads / "made-by-git").write_bytes((heads / "main").read_bytes())
    return made


@contextlib.contextmanager
def closed(directory: Path) -> Iterator[None]:
    """Let nobody write below a directory, who this is included."""
    if os.geteuid() == 0:
        assert mount(str(directory), directory, "", flags=_MS_BIND)
        try:
            assert mount("", directory, "", flags=_MS_BIND | _MS_REMOUNT | _MS_RDONLY)
            yield
        finally:
            assert unmount(directory)
        return
    # The modes of an upper layer are the workspace's own.
    places = [
        place for place in [directory, *directory.rglob("*")] if "upper" not in place.relative_to(directory).parts
    ]
    modes = [(place, stat.S_IMODE(place.lstat().st_mode)) for place in places if place.is_dir() or place.is_file()]
    for place, mode in reversed(modes):
        place.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for place, mode in modes:
            place.chmod(mode)


@pytest.fixture
def readable(home: Path) -> Iterator[Path]:
    """The home, where nothing may be written."""
    with closed(home):
        yield home


def read_all(vault: Vault, fork: str, out: Path) -> list[object]:
    """Look at a fork in every way there is."""
    work = vault.workspace(fork)
    work.export_path("/", out, recursive=True)
    seen: list[object] = [
        work.status(),
        work.diff(),
        work.tree(),
        work.grep("."),
        work.search("x"),
        work.find("*"),
        work.list_dir("/d"),
        work.stat("/a", with_oid=True),
        work.read("/a"),
        b"".join(work.open_read("/big")),
        work.log(),
        work.list_checkpoints(),
        work.operations(),
        work.merge("main", dry_run=True).changed_files,
        # Of a fork that nobody has opened, nobody knows since when it is there.
        [replace(found, created_at_ns=None) for found in [*vault.list_forks(), vault.fork_info(fork)]],
        vault.doctor(),
        vault.overlap(),
        sorted((path.relative_to(out), path.read_bytes()) for path in out.rglob("*") if path.is_file()),
    ]
    if fork == "work":
        seen += [work.restore("one", dry_run=True), work.read("/more"), work.exists("/d/b"), vault.diff("main", "work")]
    return seen


@pytest.mark.parametrize("fork", FORKS)
def test_everything_can_be_looked_at(home: Path, fork: str, tmp_path: Path) -> None:
    """The same is seen as in a copy that may be written to, and nothing is written."""
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", home, copy], check=True)  # whiteouts, too
    with Avfs(copy, identity=ADA) as avfs, avfs.open_vault("v") as vault:
        wanted = read_all(vault, fork, tmp_path / "from-copy")
    before = look_of(home)
    with closed(home), Avfs(home, identity=ADA) as avfs, avfs.open_vault("v") as vault:
        assert read_all(vault, fork, tmp_path / "from-closed") == wanted
    assert {path: seen[1:] for path, seen in look_of(home).items()} == {path: seen[1:] for path, seen in before.items()}


CHANGES: dict[str, Callable[[Vault], object]] = {
    "write": lambda vault: vault.workspace("work").write("/x", b""),
    "remove": lambda vault: vault.workspace("work").remove("/a"),
    "checkpoint": lambda vault: vault.workspace("work").checkpoint("two"),
    "restore": lambda vault: vault.workspace("work").restore("one"),
    "merge": lambda vault: vault.workspace("work").merge("main"),
    "undo": lambda vault: vault.workspace("work").undo(),
    "fork": lambda vault: vault.fork("new", source="work"),
    "delete": lambda vault: vault.delete_fork("untouched"),
    "first write": lambda vault: vault.workspace("made-by-git").write("/x", b""),
    "mount": lambda vault: vault.workspace("work").mount(vault.path.parent.parent.parent / "at"),
    "mount for reading": lambda vault: vault.workspace("work").mount(
        vault.path.parent.parent.parent / "at", readonly=True
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.needs("fuse")
def test_changes_are_refused(readable: Path, change: str) -> None:
    """By name, with what to do about it."""
    before = look_of(readable)
    with Avfs(readable, identity=ADA) as avfs, avfs.open_vault("v") as vault, pytest.raises(NotWritable) as caught:
        CHANGES[change](vault)
    assert caught.value.exit_code == 1
    assert caught.value.hint
    assert look_of(readable) == before


def test_the_command_line_says_so(readable: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking succeeds; changing ends with the error's status and a hint."""
    monkeypatch.setenv("AVFS_HOME", str(readable))
    assert cli("--vault", "v@work", "status").status == 0
    refused = cli("--vault", "v@work", "checkpoint", "save")
    assert refused.status == 1
    assert "cannot change workspace 'work'" in refused.stderr
    assert "hint:" in refused.stderr


def test_what_was_cut_short_is_told(home: Path) -> None:
    """It cannot be put back, so that what is seen may be half of an operation."""
    with LockFile(home / "vaults" / "v.git" / "avfs" / "workspaces" / "work" / "lock", owner="who dies") as lock:
        lock.begin_change()
    with closed(home), Avfs(home, identity=ADA) as avfs, avfs.open_vault("v") as vault:
        found = [warning.code for warning in vault.workspace("work").status().warnings]
        assert found == ["workspace.unfinished"]
        assert vault.workspace("work").read("/a") == b"other\n"
    with Avfs(home, identity=ADA) as avfs, avfs.open_vault("v") as vault:
        assert not vault.workspace("work").status().warnings


def test_a_writer_beside_is_waited_for_and_seen(home: Path, mount_dir: Path) -> None:
    """Somebody else may be allowed to write to what is read-only here."""
    lock = home / "vaults" / "v.git" / "avfs" / "workspaces" / "work" / "lock"
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0:  # the same disk at another place
            other = mount_dir / "other"
            other.mkdir()
            assert mount(str(home), other, "", flags=_MS_BIND)
            stack.callback(unmount, other)
        else:  # opened before it was closed
            other = home
        held = stack.enter_context(LockFile(other / lock.relative_to(home), owner="who writes"))
        stack.enter_context(closed(home))
        vault = stack.enter_context(stack.enter_context(Avfs(home, identity=ADA, lock_timeout_s=0.2)).open_vault("v"))
        work = vault.workspace("work")
        assert work.read("/a") == b"other\n"
        assert held.acquire(0)
        held.begin_change()
        assert [warning.code for warning in work.status().warnings] == ["workspace.in_use"]
        held.end_change()
        held.release()
        assert work.status().changed_files
