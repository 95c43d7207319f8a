"""The same work done by git and by plain files, for comparison.

git runs as a process of its own, as people run it, with its defaults and without anybody's configuration. It does not
force loose objects to disk then; avfs does force all that it acknowledges.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.measure import Sample, measure
from tests.bench.trees import contents, spread
from tests.bench.works import DIRECTORIES, FEW, FILES, KIB, MANY, RESTORED, VAULTS, many_path, plan_mix

_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Bench",
    "GIT_AUTHOR_EMAIL": "bench@example.org",
    "GIT_COMMITTER_NAME": "Bench",
    "GIT_COMMITTER_EMAIL": "bench@example.org",
    "LC_ALL": "C",
}


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a program to its end and give back what it said."""
    return subprocess.run(
        arguments, check=True, stdin=subprocess.DEVNULL, capture_output=True, env=env or _ENVIRONMENT, text=True
    ).stdout


def git(directory: Path, *arguments: str | Path) -> str:
    """Run git in a directory, without its background work."""
    return run("git", "-C", directory, "-c", "gc.auto=0", "-c", "maintenance.auto=false", *arguments)


def clone(vault: Path, target: Path) -> None:
    """Make a bare clone of a vault, as cheaply as git can."""
    run("git", "clone", "-q", "--bare", vault, target)


def commit_directory(source: Path, scratch: Path, rounds: int) -> Sample:
    """Run `git add -A && git commit` on a directory that is in no repository yet."""
    places = (scratch / f"{source.name}-{number}.git" for number in itertools.count())
    place = scratch

    def prepare() -> None:
        nonlocal place
        place = next(places)
        run("git", "init", "-q", "--bare", place)

    def commit() -> None:
        where = ("--git-dir", str(place), "--work-tree", str(source))
        git(source, *where, "add", "-A")
        git(source, *where, "commit", "-q", "-m", "import")

    return measure(commit, rounds, before=prepare)


def add_worktree(bare: Path, target: Path, rounds: int) -> Sample:
    """Run `git worktree add`, which checks the tree out; the last worktree stays, on a branch of its own."""
    numbers = itertools.count()

    def remove() -> None:
        if target.exists():
            git(bare, "worktree", "remove", "--force", target)

    return measure(
        lambda: git(bare, "worktree", "add", "-q", "-b", f"work{next(numbers)}", target), rounds, before=remove
    )


def _commit_all(worktree: Path) -> None:
    git(worktree, "add", "-A")
    git(worktree, "commit", "-q", "-m", "work")


def _write(worktree: Path, paths: list[str], seed: str) -> None:
    for path, data in zip(paths, contents(len(paths), KIB, seed), strict=True):
        (worktree / path).parent.mkdir(parents=True, exist_ok=True)
        (worktree / path).write_bytes(data)


def commit_few(worktree: Path, files: int, rounds: int) -> Sample:
    """Run `git add -A && git commit` after 10 files changed."""
    turns = itertools.count()

    def change() -> None:
        turn = next(turns)
        _write(worktree, spread(FEW, files, turn), f"native {turn}")

    return measure(lambda: _commit_all(worktree), rounds, before=change, warm_up=True)


def commit_many(worktree: Path, rounds: int) -> Sample:
    """Run `git add -A && git commit` after 1,000 new files of 1 KiB came."""
    turns = itertools.count()

    def write() -> None:
        turn = next(turns)
        _write(worktree, [many_path(turn, number) for number in range(MANY)], f"native many {turn}")

    return measure(lambda: _commit_all(worktree), rounds, before=write)


def reset(worktree: Path, files: int, rounds: int) -> Sample:
    """Run `git reset --hard` to a commit that 300 files differ from, to and fro."""
    states = []
    for turn in range(2):
        _write(worktree, spread(RESTORED, files, 0), f"native state {turn}")
        _commit_all(worktree)
        states.append(git(worktree, "rev-parse", "HEAD").strip())
    targets = itertools.cycle(states)
    return measure(lambda: git(worktree, "reset", "-q", "--hard", next(targets)), rounds, warm_up=True)


def diff(worktree: Path, files: int, rounds: int) -> Sample:
    """Run `git diff` between commits that are 10 files apart."""
    saved = [git(worktree, "rev-parse", "HEAD").strip()]
    for turn in range(rounds + 1):
        _write(worktree, spread(FEW, files, 0), f"native diff {turn}")
        _commit_all(worktree)
        saved.append(git(worktree, "rev-parse", "HEAD").strip())
    pairs = itertools.pairwise(saved)
    return measure(lambda: git(worktree, "diff", "-M", *next(pairs)), rounds, warm_up=True)


@contextmanager
def _plain_files(directory: Path) -> Iterator[list[str]]:
    directory.mkdir()
    paths = [f"{directory}/file{number}.txt" for number in range(100)]
    for path, data in zip(paths, contents(100, KIB, "plain"), strict=True):
        Path(path).write_bytes(data)
    yield paths


def write_new(directory: Path, rounds: int) -> Sample:
    """Write 1 KiB to a new file of a plain directory."""
    with _plain_files(directory):
        numbers = itertools.count()
        data = next(contents(1, KIB, "plain"))

        def write() -> None:
            with open(f"{directory}/new{next(numbers)}.txt", "xb", buffering=0) as file:
                file.write(data)

        return measure(write, rounds, warm_up=True)


def overwrite(directory: Path, rounds: int) -> Sample:
    """Replace one of 100 plain files as avfs does, whole or not at all: by a new file and a rename."""
    with _plain_files(directory) as paths:
        turns = itertools.cycle(paths)
        data = next(contents(1, KIB, "new"))

        def write() -> None:
            path = next(turns)
            with open(f"{path}.new", "xb", buffering=0) as file:
                file.write(data)
            os.rename(f"{path}.new", path)

        return measure(write, rounds, warm_up=True)


def read(directory: Path, rounds: int) -> Sample:
    """Read one of 100 plain files of 1 KiB."""
    with _plain_files(directory) as paths:
        turns = itertools.cycle(paths)

        def read_one() -> None:
            with open(next(turns), "rb", buffering=0) as file:
                file.read()

        return measure(read_one, rounds, warm_up=True)


def mixed(directory: Path, count: int, rounds: int) -> Sample:
    """Carry out the mix of operations on plain directories."""
    data = next(contents(1, KIB, "mixed"))
    for number in range(VAULTS):
        for part in range(DIRECTORIES):
            (directory / str(number) / f"dir{part}").mkdir(parents=True)
            for name in range(FILES):
                (directory / str(number) / f"dir{part}" / f"file{name}.txt").write_bytes(data)
    steps = plan_mix(count * (rounds + 1))
    parts = iter([steps[start : start + count] for start in range(0, len(steps), count)])

    def write(path: str) -> None:
        with open(path, "wb", buffering=0) as file:
            file.write(data)

    def run_all() -> None:
        for kind, vault, path, other in next(parts):
            here, there = f"{directory}/{vault}/{path}", f"{directory}/{vault}/{other}"
            if kind == "write":
                write(here)
            elif kind == "read":
                Path(here).read_bytes()
            elif kind == "list":
                [entry.stat() for entry in os.scandir(here)]
            elif kind == "stat":
                os.stat(here)
            elif kind == "delete":
                os.unlink(here)
            elif kind == "copy":
                content = Path(here).read_bytes()
                Path(there).write_bytes(content)
            else:
                os.rename(here, there)

    return measure(run_all, rounds, warm_up=True)
