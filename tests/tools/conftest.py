"""The workbench of the tests of real tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.workbench import Workbench, workbench

Begin = Callable[[Callable[[Path], None]], Workbench]


@pytest.fixture
def begin(mount_dir: Path, tmp_path: Path) -> Iterator[Begin]:
    """What makes a workbench out of a function that fills a directory."""
    with ExitStack() as made:
        yield lambda fill: made.enter_context(workbench(mount_dir, tmp_path, fill))
