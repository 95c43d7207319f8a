"""One piece of work in a process of its own, which tells its time and its largest memory as JSON.

`python -m tests.bench.child import HOME NAME SOURCE`, or a name of `works.WORKS` with `HOME NAME FILES`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from avfs_git import Avfs
from tests.bench.measure import peak_memory_kib
from tests.bench.works import WORKS


def main(work: str, home: str, name: str, what: str) -> None:
    """Do it."""
    with Avfs(Path(home)) as avfs:
        start = time.perf_counter()
        if work == "import":
            avfs.create_vault(name, source=Path(what))
        else:
            WORKS[work](avfs.open_vault(name), int(what), 1)
        seconds = time.perf_counter() - start
    json.dump({"seconds": seconds, "peak_kib": peak_memory_kib()}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
