"""The seeds of tests that draw their cases at random.

On a developer's machine each run draws other cases. Under CI all runs draw the same ones, so that a run fails because of the
change that it judges. `AVFS_SEED` names the seed of a run that is to be repeated.
"""

from __future__ import annotations

import os
import random

_GIVEN = os.environ.get("AVFS_SEED")
"""Read when this module is imported: a test runs without the variables of avfs."""


def choose_seed() -> int:
    """Choose a seed, and print it: pytest shows it where the test fails."""
    seed = int(_GIVEN or (1 if os.environ.get("CI") else random.SystemRandom().randrange(1 << 30)))
    print(f"AVFS_SEED={seed}")
    return seed
