from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from avfs_git.fuse import protocol
from avfs_git.vfs.values import Attr


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
            "INTERRUPT_IN": 8, "LISTED_OUT": 152,
    }  # fmt: skip


def test_times_before_1970_are_whole_seconds_and_a_positive_rest() -> None:
    """The kernel takes nanoseconds as unsigned, so the second is rounded down."""
    attr = Attr(7, 0o100644, 1, 0, 0, 0, 0, 0, -1, -1_500_000_000, 0)
    fields = protocol.ATTR_OUT.unpack(protocol.pack_attr(attr))

    assert fields[5:8] == (-1, -2, 0)
    assert fields[8:11] == (999_999_999, 500_000_000, 0)


@given(
    mtime_ns=st.integers(-(1 << 62), 1 << 62),
    mode=st.sampled_from([0o100644, 0o100755, 0o104711, 0o120777, 0o040755]),
    size=st.integers(0, 1 << 40),
    name=st.binary(min_size=1, max_size=255),
    position=st.integers(16, (1 << 61) - 1),
)
def test_an_entry_of_a_listing_is_laid_out_in_one_go(
    mtime_ns: int, mode: int, size: int, name: bytes, position: int
) -> None:
    """It is what the attributes and the name are, laid out one after the other."""
    attr = Attr(7, mode, 1, 11, 12, 0, size, (size + 511) >> 9, mtime_ns, mtime_ns, mtime_ns)
    dirent = protocol.DIRENT.pack(7, position, len(name), mode >> 12)

    listed = protocol.pack_listed(7, mode, (11, 12), size, mtime_ns, position, name)

    assert listed == protocol.pack_dirent(protocol.pack_entry(attr) + dirent, name)
