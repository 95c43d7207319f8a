"""Name the tests that failed in the last run, and refuse when they are too many to be run again.

    python -m tests.support.failed COUNT

Decided here: what `make again` is for. A test that fails beside others and passes alone has met a moment of a loaded
machine, or shows a race: it is named either way, so that the output of a run that passed says which tests needed a
second one. More failures than COUNT have a cause that is no moment. Called by the Makefile in CI, after a run whose
tests failed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

_FAILED = Path(".pytest_cache/v/cache/lastfailed")
"""Where pytest's cache plug-in writes the names."""


def main(limit: int) -> int:
    """Print the names; return the exit status."""
    names = sorted(json.loads(_FAILED.read_bytes())) if _FAILED.exists() else []
    print(f"{len(names)} failed beside the others, and are run again alone:", *names, sep="\n  ", flush=True)
    return 0 if 0 < len(names) <= limit else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
