"""How many programs may watch files beside each other."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CODE = """
import errno, os
from avfs_git.host.processes.watches import Watches

count = len(os.listdir("/proc/self/fd"))
first = Watches(spare=5)
try:
    Watches(spare=5)
except OSError as error:
    assert error.errno == errno.EMFILE, error
else:
    raise AssertionError("it leaves fewer than it was asked to")
second = Watches(spare=4)
assert len(os.listdir("/proc/self/fd")) == count + 2
"""


@pytest.mark.needs("userns")
def test_what_watches_leaves_as_many_as_are_asked_for_to_others() -> None:
    """The kernel lets the programs of a user have some in all: here six."""
    limited = ["unshare", "-Ur", "sh", "-c", 'echo 6 > /proc/sys/user/max_inotify_instances && exec "$@"', "sh"]
    ended = subprocess.run([*limited, sys.executable, "-c", _CODE], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
