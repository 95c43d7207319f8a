"""A copy that was made beside its destination takes its place there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from avfs_git.errors import PathUnsuitable
from avfs_git.workspace.files.staging import move_into, staging_directory


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A destination with a directory and a file."""
    target = tmp_path / "target"
    (target / "dir").mkdir(parents=True)
    (target / "dir" / "theirs").write_text("theirs")
    (target / "file").write_text("old")
    return target


def fill(place: Path) -> None:
    """Make what is moved: a closed directory among it."""
    (place / "dir" / "closed").mkdir(parents=True)
    (place / "dir" / "closed" / "deep").write_text("deep")
    (place / "dir" / "closed").chmod(0o555)
    (place / "dir" / "ours").symlink_to("nowhere")
    (place / "dir").chmod(0o750)
    os.utime(place / "dir", ns=(5, 5))
    (place / "new").write_text("new")


@pytest.mark.usefixtures("person")
def test_what_is_there_takes_what_comes(target: Path) -> None:
    """A directory keeps its own entries, and gets the mode and time of the one that comes."""
    with staging_directory(target) as staging:
        fill(staging)
        move_into(staging, target, overwrite=False)

    assert sorted(os.listdir(target)) == ["dir", "file", "new"]
    assert sorted(os.listdir(target / "dir")) == ["closed", "ours", "theirs"]
    assert (target / "dir" / "closed" / "deep").read_text() == "deep"
    assert stat.S_IMODE((target / "dir" / "closed").stat().st_mode) == 0o555
    assert stat.S_IMODE((target / "dir").stat().st_mode) == 0o750
    assert (target / "dir").stat().st_mtime_ns == 5
    (target / "dir" / "closed").chmod(0o755)


def test_nothing_is_replaced_unasked(target: Path) -> None:
    """A file is replaced where that is asked for, a directory never."""
    for overwrite, name, expected in ((False, "file", "old"), (True, "file", "new"), (True, "dir", None)):
        with staging_directory(target) as staging:
            (staging / name).write_text("new")
            if expected == "new":
                move_into(staging, target, overwrite=overwrite)
            else:
                with pytest.raises(PathUnsuitable):
                    move_into(staging, target, overwrite=overwrite)
        assert expected is None or (target / name).read_text() == expected
    assert sorted(os.listdir(target)) == ["dir", "file"]


def test_nothing_is_written_through_a_link(target: Path, tmp_path: Path) -> None:
    """A symbolic link that has the name of a directory that comes leads nowhere."""
    (tmp_path / "elsewhere").mkdir()
    (target / "link").symlink_to(tmp_path / "elsewhere")
    with staging_directory(target) as staging:
        (staging / "link").mkdir()
        (staging / "link" / "file").write_text("new")
        with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
            move_into(staging, target, overwrite=True)
    assert not os.listdir(tmp_path / "elsewhere")


def test_a_copy_is_made_on_the_file_system_of_its_destination(tmp_path: Path) -> None:
    """In the destination, or in what is there above it."""
    with staging_directory(tmp_path / "not" / "there") as staging:
        assert staging.parent == tmp_path
    assert not os.listdir(tmp_path)
