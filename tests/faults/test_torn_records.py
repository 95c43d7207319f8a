"""The memory that a server hands over, whose writer is killed between any two machine instructions."""

from __future__ import annotations

import pytest

from tests.support import torn_handover
from tests.support.seeds import choose_seed

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", torn_handover.WRITERS)
def test_no_kill_tears_a_record(kind: str) -> None:
    """SIGKILL between any two machine instructions leaves the old record or the one being written, whole."""
    torn_handover.check(kind, 100, choose_seed())
