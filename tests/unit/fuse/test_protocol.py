from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from avfs_git.fuse import protocol
from avfs_git.vfs.view import Attr


@given(st.integers(0, 4095), st.integers(0, (1 << 20) - 1))
def test_device_numbers_survive_the_way_to_the_kernel_and_back(major: int, minor: int) -> None:
    """A device is the same one after it was made through the tree."""
    assert protocol.decode_rdev(protocol.encode_rdev(os.makedev(major, minor))) == os.makedev(major, minor)


def test_layouts_have_the_sizes_of_the_kernel() -> None:
    """The sizes are those of `linux/fuse.h`."""
    sizes = {
        name: getattr(protocol, name).size
        for name in dir(protocol)
        if name.endswith(("_IN", "_OUT", "_HEADER", "DIRENT", "FORGET_ONE"))
    }

    assert sizes == {
        "IN_HEADER": 40, "OUT_HEADER": 16, "INIT_IN": 16, "INIT_OUT": 64, "FORGET_IN": 8, "BATCH_FORGET_IN": 8, "FORGET_ONE": 16,
        "SETATTR_IN": 88, "MKNOD_IN": 16, "MKDIR_IN": 8, "RENAME_IN": 8, "RENAME2_IN": 16, "LINK_IN": 8, "READ_IN": 40,
        "WRITE_IN": 40, "FSYNC_IN": 16, "SETXATTR_IN": 8, "GETXATTR_IN": 8, "CREATE_IN": 16, "FALLOCATE_IN": 32, "LSEEK_IN": 24,
        "COPY_FILE_RANGE_IN": 56, "ENTRY_OUT": 128, "ATTR_OUT": 104, "DIRENT": 24, "OPEN_OUT": 16, "WRITE_OUT": 8,
        "STATFS_OUT": 80, "ACCESS_IN": 8, "GETXATTR_OUT": 8, "LSEEK_OUT": 8, "INVAL_INODE_OUT": 24, "INVAL_ENTRY_OUT": 16,
    }  # fmt: skip


def test_times_before_1970_are_whole_seconds_and_a_positive_rest() -> None:
    """The kernel takes nanoseconds as unsigned, so the second is rounded down."""
    attr = Attr(7, 0o100644, 1, 0, 0, 0, 0, 0, -1, -1_500_000_000, 0)
    fields = protocol.ATTR_OUT.unpack(protocol.pack_attr(attr))

    assert fields[5:8] == (-1, -2, 0)
    assert fields[8:11] == (999_999_999, 500_000_000, 0)
