"""The trees that are measured: many small files, the same in every run.

Decided here: 20 files a directory and at most 50 directories in one, whatever the number of files; small trees hold
4 KiB files on average, as source code does, large ones 300 bytes, so that they are made in a short time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

FILES_A_DIRECTORY = 20
DIRECTORIES_A_DIRECTORY = 50
SMALL = 5_000
_SEED = 42


def path_of(number: int, files: int) -> str:
    """Name a file of a tree by its number."""
    directory, name = divmod(number, FILES_A_DIRECTORY)
    parts = [f"file{name:02d}.txt"]
    left = -(-files // FILES_A_DIRECTORY)
    while left > DIRECTORIES_A_DIRECTORY:
        directory, here = divmod(directory, DIRECTORIES_A_DIRECTORY)
        left = -(-left // DIRECTORIES_A_DIRECTORY)
        parts.append(f"dir{here:02d}")
    parts.append(f"top{directory:02d}")
    return "/".join(reversed(parts))


def spread(count: int, files: int, turn: int) -> list[str]:
    """Name files far apart from each other in a tree; other ones each turn."""
    return [path_of((number * files // count + turn * 7) % files, files) for number in range(count)]


def make_tree(directory: Path, files: int) -> None:
    """Write a tree to disk."""
    chance = random.Random(_SEED)
    words = chance.randbytes(32 << 10).hex().encode()
    made: set[str] = set()
    for number in range(files):
        name = f"{directory}/{path_of(number, files)}"
        parent = name.rpartition("/")[0]
        if parent not in made:
            Path(parent).mkdir(parents=True, exist_ok=True)
            made.add(parent)
        size = int(chance.expovariate(1 / 4096)) if files <= SMALL else chance.randrange(64, 536)
        start = chance.randrange(len(words) // 2)
        with open(name, "xb", buffering=0) as file:
            file.write(b"%d\n" % number + words[start : start + min(size, len(words) // 2)])


def contents(count: int, size: int, seed: str) -> Iterator[bytes]:
    """Make file contents that no tree holds yet: half of each compresses, as text does."""
    chance = random.Random(seed)
    for _ in range(count):
        yield (chance.randbytes(size // 4).hex().encode() + b"\n" * size)[:size]
