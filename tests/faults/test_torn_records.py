"""The memory that a server hands over, whose writer is killed between any two machine instructions."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support import torn_handover
from tests.support.seeds import choose_seed

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", torn_handover.WRITERS)
def test_no_kill_tears_a_record(kind: str) -> None:
    """SIGKILL between any two machine instructions leaves the old record or the one being written, whole."""
    program = [sys.executable, "-m", torn_handover.__name__, "100", str(choose_seed()), kind]
    ran = subprocess.run(program, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
