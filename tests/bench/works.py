"""The pieces of work that have a bar, done by avfs through its SDK.

Decided here: what exactly each bar times. The same functions run in this process for times, and one at a time in a
fresh process for memory. Each works in a fork of its own and leaves the vault's default fork alone.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

from avfs_git import Avfs, Vault, Workspace
from tests.bench.measure import Sample, measure
from tests.bench.trees import contents, spread

FEW, MANY, RESTORED = 10, 1_000, 300
KIB = 1024
_numbers = itertools.count()


def new_fork(vault: Vault, work: str) -> Workspace:
    """Make a fork for one piece of work."""
    return vault.fork(f"bench/{work}-{next(_numbers)}-{random.randrange(1 << 30)}")


def change_files(workspace: Workspace, paths: list[str], seed: str) -> None:
    """Give files new content of 1 KiB each."""
    for path, data in zip(paths, contents(len(paths), KIB, f"{workspace.fork} {seed}"), strict=True):
        workspace.write(path, data)


def fork(vault: Vault, files: int, rounds: int) -> Sample:
    """Make a fork of the default fork, which holds nothing uncommitted."""
    new_fork(vault, "warm")
    return measure(lambda: new_fork(vault, "fork"), rounds)


def checkpoint_few(vault: Vault, files: int, rounds: int) -> Sample:
    """Save a checkpoint of 10 overwritten files, far apart from each other."""
    workspace = new_fork(vault, "few")
    turns = itertools.count()

    def change() -> None:
        turn = next(turns)
        change_files(workspace, spread(FEW, files, turn), str(turn))

    return measure(workspace.checkpoint, rounds, before=change, warm_up=True)


def status(vault: Vault, files: int, rounds: int) -> Sample:
    """Tell what 10 overwritten files would change, far apart from each other."""
    workspace = new_fork(vault, "status")
    turns = itertools.count()

    def change() -> None:
        turn = next(turns)
        change_files(workspace, spread(FEW, files, 0), str(turn))

    return measure(workspace.status, rounds, before=change, warm_up=True)


def checkpoint_many(vault: Vault, files: int, rounds: int) -> Sample:
    """Save a checkpoint of 1,000 new files of 1 KiB in 10 new directories."""
    workspace = new_fork(vault, "many")
    turns = itertools.count()

    def write() -> None:
        turn = next(turns)
        for number, data in enumerate(contents(MANY, KIB, f"{workspace.fork} {turn}")):
            workspace.write(many_path(turn, number), data)

    return measure(workspace.checkpoint, rounds, before=write)


def many_path(turn: int, number: int) -> str:
    """Name one of the new files of a turn."""
    return f"new{turn}/part{number // 100}/file{number % 100:02d}.txt"


def restore(vault: Vault, files: int, rounds: int) -> Sample:
    """Restore a checkpoint that 300 files differ from, to and fro, saving and committing included."""
    workspace = new_fork(vault, "restore")
    states = []
    for turn in range(2):
        change_files(workspace, spread(RESTORED, files, 0), str(turn))
        saved = workspace.checkpoint().checkpoint
        assert saved is not None
        states.append(saved.id)
    targets = itertools.cycle(states)
    return measure(lambda: workspace.restore(next(targets)), rounds, warm_up=True)


def diff(vault: Vault, files: int, rounds: int) -> Sample:
    """Compare checkpoints that are 10 files apart, with patches; each pair is compared once."""
    workspace = new_fork(vault, "diff")
    saved = []
    for turn in range(rounds + 2):
        change_files(workspace, spread(FEW, files, 0), str(turn))
        found = workspace.checkpoint().checkpoint
        assert found is not None
        saved.append(found.id)
    pairs = itertools.pairwise(saved)
    return measure(lambda: vault.diff(*next(pairs)), rounds, warm_up=True)


def write_new(vault: Vault, files: int, rounds: int) -> Sample:
    """Write 1 KiB to a new file, 100 files a directory."""
    workspace = new_fork(vault, "write")
    numbers = itertools.count()
    data = next(contents(1, KIB, "write"))

    def write() -> None:
        number = next(numbers)
        workspace.write(f"written/part{number // 100}/file{number % 100}.txt", data)

    return measure(write, rounds, warm_up=True)


def overwrite(vault: Vault, files: int, rounds: int) -> Sample:
    """Write 1 KiB to one of 100 files that are there."""
    workspace = new_fork(vault, "overwrite")
    paths = [f"written/file{number}.txt" for number in range(100)]
    for path, data in zip(paths, contents(100, KIB, "overwrite"), strict=True):
        workspace.write(path, data)
    turns = itertools.cycle(paths)
    data = next(contents(1, KIB, "new"))
    return measure(lambda: workspace.write(next(turns), data), rounds, warm_up=True)


def read_upper(vault: Vault, files: int, rounds: int) -> Sample:
    """Read one of 100 files of 1 KiB that were written in the workspace."""
    workspace = new_fork(vault, "read")
    paths = [f"written/file{number}.txt" for number in range(100)]
    for path, data in zip(paths, contents(100, KIB, "read"), strict=True):
        workspace.write(path, data)
    return _read(workspace, paths, rounds)


def read_lower(vault: Vault, files: int, rounds: int) -> Sample:
    """Read one of 100 files of 1 KiB that a checkpoint holds and the workspace has not touched."""
    source = new_fork(vault, "base")
    paths = spread(100, files, 0)
    for path, data in zip(paths, contents(100, KIB, "lower"), strict=True):
        source.write(path, data)
    source.checkpoint()
    return _read(vault.fork(f"{source.fork}-read", source=source.fork), paths, rounds)


def _read(workspace: Workspace, paths: list[str], rounds: int) -> Sample:
    for path in paths:
        workspace.read(path)
    turns = itertools.cycle(paths)
    return measure(lambda: workspace.read(next(turns)), rounds)


WORKS: dict[str, Callable[[Vault, int, int], Sample]] = {
    "fork": fork,
    "checkpoint of 10 changed files": checkpoint_few,
    "checkpoint of 1,000 new files": checkpoint_many,
    "restore of 300 changed files": restore,
    "diff of two checkpoints": diff,
    "writing": write_new,
    "reading": read_lower,
}
"""What is run in a process of its own for its memory."""


# --- 100 vaults -----------------------------------------------------------------------------------------------

VAULTS, DIRECTORIES, FILES = 100, 5, 8
MIX = {"write": 30, "read": 35, "list": 15, "stat": 10, "delete": 5, "copy": 3, "move": 2}
"""Per cent. Half of the writes make a new file, half overwrite one; files hold 1 KiB."""

Step = tuple[str, int, str, str]
"""What is done, in which vault, to which path, and for copies and moves to which other."""


def plan_mix(count: int, vaults: int = VAULTS) -> list[Step]:
    """Draw operations that all can be carried out in turn, from a fixed seed."""
    chance = random.Random(42)
    there = [[f"dir{d}/file{f}.txt" for d in range(DIRECTORIES) for f in range(FILES)] for _ in range(vaults)]
    fresh = itertools.count()
    steps: list[Step] = []
    kinds = chance.choices(list(MIX), weights=list(MIX.values()), k=count)
    for kind in kinds:
        vault = chance.randrange(vaults)
        paths = there[vault]
        at = chance.randrange(len(paths))
        path, other = paths[at], f"dir{chance.randrange(DIRECTORIES)}/new{next(fresh)}.txt"
        if kind == "write" and chance.random() < 0.5:
            path = other
            paths.append(path)
        elif kind == "delete":
            paths[at] = paths[-1]
            paths.pop()
        elif kind == "copy":
            paths.append(other)
        elif kind == "move":
            paths[at] = other
        elif kind == "list":
            path = path.partition("/")[0]
        steps.append((kind, vault, path, other))
    return steps


def mixed(home: Path, count: int, rounds: int) -> Sample:
    """Carry out a mix of operations over many vaults, all open, in one thread; a time is that of all of them."""
    with Avfs(home) as avfs:
        return _mixed([_small_vault(avfs, number) for number in range(VAULTS)], count, rounds)


def _small_vault(avfs: Avfs, number: int) -> Workspace:
    workspace = avfs.create_vault(f"mixed{number}").workspace()
    for directory, name in itertools.product(range(DIRECTORIES), range(FILES)):
        workspace.write(f"dir{directory}/file{name}.txt", bytes(KIB))
    workspace.checkpoint()
    return workspace


def _mixed(spaces: list[Workspace], count: int, rounds: int) -> Sample:
    data = next(contents(1, KIB, "mixed"))
    steps = plan_mix(count * (rounds + 1), len(spaces))
    parts = iter([steps[start : start + count] for start in range(0, len(steps), count)])

    def run() -> None:
        for kind, vault, path, other in next(parts):
            space = spaces[vault]
            if kind == "write":
                space.write(path, data)
            elif kind == "read":
                space.read(path)
            elif kind == "list":
                space.list_dir(path)
            elif kind == "stat":
                space.stat(path)
            elif kind == "delete":
                space.remove(path)
            elif kind == "copy":
                space.copy(path, other)
            else:
                space.move(path, other)

    return measure(run, rounds, warm_up=True)
