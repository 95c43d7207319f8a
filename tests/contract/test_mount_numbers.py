"""Mounts gone from here, with possible copies in other mount namespaces; what the kernel gives their numbers to."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avfs_git import faults
from avfs_git.errors import MountCovered, MountError
from avfs_git.host.mounts.mounts import Mounted, detach, find_cover, find_mount, list_mounts, unmount
from avfs_git.host.processes.copies import describe_copies, find_copy_users, is_copy, remove_copies
from tests.support import capabilities
from tests.support.failing import armed

pytestmark = pytest.mark.needs("root")

PROJECT = Path(__file__).parents[2]


@contextmanager
def _another_namespace() -> Iterator[int]:
    """A mount namespace with a copy of each mount there is; gives the process that is in it."""
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", "echo ready; read line"],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.stdin.close()


def _mount(directory: Path, source: str) -> Mounted:
    directory.mkdir()
    assert capabilities.mount(source, directory, "tmpfs")
    found = find_mount(directory)
    assert found is not None
    return found


def test_who_uses_a_copy_is_found(mount_dir: Path) -> None:
    """Also who came before the mount went from here; nobody is, when they are done."""
    one = _mount(mount_dir / "one", "avfs-one")
    before = os.open(one.directory, os.O_RDONLY)
    with _another_namespace() as pid:
        unmount(one, lazy=True)

        assert [f"(pid {os.getpid()})" in user for user in find_copy_users(one) or []] == [True]
        os.close(before)
        assert find_copy_users(one) == []
        beside = os.open(f"/proc/{pid}/root{one.directory}", os.O_RDONLY)
        assert [f"(pid {os.getpid()})" in user for user in find_copy_users(one) or []] == [True]
        os.close(beside)


def test_who_uses_another_mount_with_its_number_is_not_meant(mount_dir: Path) -> None:
    """The kernel gives the number of a mount to the next one as soon as nobody has it."""
    one = _mount(mount_dir / "one", "avfs-one")
    with _another_namespace():
        unmount(one)
        two = _mount(mount_dir / "two", "avfs-two")
        with open(two.directory / "file", "wb"):
            assert find_copy_users(one._replace(number=two.number)) == []


def test_copies_of_another_mount_with_its_device_are_not_meant(mount_dir: Path) -> None:
    """The kernel gives the number of a device to the next file system as soon as the first has ended."""
    one, two = _mount(mount_dir / "one", "avfs-one"), _mount(mount_dir / "two", "avfs-two")
    ended = one._replace(device=two.device)
    unmount(one)
    with _another_namespace() as pid:
        assert find_copy_users(ended) is None
        assert describe_copies(ended) == []
        remove_copies(lambda found: is_copy(found, ended))

        assert [found.source for found in list_mounts(pid) if is_copy(found, two)] == ["avfs-two"]
        remove_copies(lambda found: is_copy(found, two))
        assert not [found for found in list_mounts(pid) if is_copy(found, two)]


_CONVERSATIONS = """
import os, select, sys
from pathlib import Path
from avfs_git.host.mounts.mounts import cut_off, find_mount, hold_conversation, mount_fuse, unmount

directory = Path(sys.argv[1])

def is_served(server):  # else what is to be read from the kernel is that the mount is gone
    if not select.select([server], [], [], 0)[0]:
        return True
    try:
        os.read(server, 1 << 20)
    except OSError:
        return False
    return True

def show(name):
    return mount_fuse(directory, source=name, subtype='avfs', max_read=1 << 17), find_mount(directory)

while True:
    server, one = show('avfs:one')
    held = hold_conversation(one)
    os.close(server)
    unmount(one)
    assert hold_conversation(one) is None
    server, two = show('avfs:two')
    if two.device == one.device:
        break
    os.close(server)  # somebody else was faster
    unmount(two)
assert hold_conversation(one) is None
assert cut_off(held) and is_served(server)
assert cut_off(hold_conversation(two)) and not is_served(server)
"""


@pytest.mark.needs("fuse")
def test_the_conversation_that_is_cut_off_is_the_one_that_was_held(mount_dir: Path) -> None:
    """Also when it has ended and another mount has its number."""
    control = "mount -t fusectl none /sys/fs/fuse/connections 2>&-"  # unless it is there
    program = [sys.executable, "-c", _CONVERSATIONS, str(mount_dir)]
    subprocess.run(["unshare", "--mount", "sh", "-c", f'{control}; exec "$@"', "sh", *program], cwd=PROJECT, check=True)


def test_who_is_slower_finds_nothing_to_take_away(mount_dir: Path) -> None:
    """Of two who take one mount away the slower one finds no mount, or no directory any more, which is no failure."""
    first = _mount(mount_dir / "tree", "avfs-one")
    detach(first)
    detach(first)
    first.directory.rmdir()
    detach(first)
    with pytest.raises(MountError) as caught:
        unmount(first)

    assert caught.value.details["errno"] == errno.EINVAL


def test_only_the_mount_that_was_seen_is_detached(mount_dir: Path) -> None:
    """Another process has detached it and mounted something else there, before or while this one does: that stays."""
    place = mount_dir / "one"
    seen = _mount(place, "avfs-one")
    unmount(seen)
    place.rmdir()
    second = _mount(place, "avfs-two")
    detach(seen)
    assert find_mount(place) == second

    def be_faster(point: str) -> None:
        if point == "mounts.detaching":
            faults.arm(None)
            unmount(second, lazy=True)
            assert capabilities.mount("avfs-three", place, "tmpfs")

    with armed(be_faster):
        detach(second)
    third = find_mount(place)
    assert third is not None
    assert third.source == "avfs-three"
    detach(third)
    assert find_mount(place) is None


def test_covered_mount_is_not_unmounted(mount_dir: Path) -> None:
    """Neither is the mount that covers it, wherever that stands, nor one below it; a mount beside it covers nothing."""

    def list_own() -> list[Mounted]:
        # other tests mount meanwhile
        return [each for each in list_mounts() if each.directory.is_relative_to(mount_dir)]

    place = mount_dir / "above" / "one"
    place.parent.mkdir()
    one = _mount(place, "avfs-one")
    below = _mount(place / "below", "avfs-below")
    _mount(mount_dir / "above" / "one-beside", "avfs-beside")
    assert find_cover(one) is None
    for where in (place, place.parent):
        assert capabilities.mount("over", where, "tmpfs")
        before = list_own()
        for lazy in (False, True):
            with pytest.raises(MountCovered, match=f"at '{where}' .*'over'"):
                unmount(one, lazy=lazy)
            assert list_own() == before
        with pytest.raises(MountCovered):
            detach(one)
        assert list_own() == before
        assert capabilities.unmount(where)
    with pytest.raises(MountCovered, match=r"in it at '.*/below'"):
        unmount(one, lazy=True)
    detach(below)
    unmount(one, lazy=True)
    assert find_mount(place) is None
