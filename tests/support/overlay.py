"""The kernel's overlayfs as a witness of what two layers show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avfs_git.host.mounts.overlayfs import mark_options
from tests.support.capabilities import mount, unmount
from tests.support.trees import Described, describe_dir


@contextmanager
def mounted(lower: Path, upper: Path, work: Path, point: Path, *, is_trusted: bool = False) -> Iterator[None]:
    """Mount an upper layer over a lower one, as an ordinary user's overlayfs does, or root's with root-only marks."""
    options = ",".join(mark_options(is_trusted))
    assert mount("overlay", point, "overlay", f"lowerdir={lower},upperdir={upper},workdir={work},{options}")
    try:
        yield
    finally:
        assert unmount(point)


def check_kernel_shows(base: Path, expected: dict[bytes, Described]) -> None:
    """Make sure that the kernel shows the same from `lower` and `upper` in a directory."""
    work, point = base / "kernel-work", base / "kernel-merged"
    for directory in (work, point):
        directory.mkdir()
    with mounted(base / "lower", base / "upper", work, point):
        shown = describe_dir(point)
    # Overlayfs may show two inode numbers for one file that has hard links.
    assert {path: entry[:4] for path, entry in shown.items()} == {path: entry[:4] for path, entry in expected.items()}
