"""Times on a command line mean what they mean to git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from avfs_git.cli.amounts import read_time


@pytest.mark.parametrize(
    "text", ["1 hour ago", "2.days.ago", "3 weeks ago", "90 seconds ago", "yesterday", "1 day 2 hours ago"]
)
def test_an_age_is_that_of_git(text: str, tmp_path: Path) -> None:
    """Git's answer lies between two of avfs's."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    before = read_time(text) // 10**9
    answer = subprocess.check_output(["git", "-C", tmp_path, "rev-parse", f"--since={text}"], text=True)
    assert before <= int(answer.removeprefix("--max-age=")) <= read_time(text) // 10**9
