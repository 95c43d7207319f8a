"""Replay merges of a repository and compare them with git's.

Run `python -m tests.replay_merges REPOSITORY [COUNT] [--engine NAME]`.

Each commit with two parents is merged again, by `git merge-tree --write-tree` with the attributes of the first parent,
and by an engine of avfs; nothing is written to the repository. Prints each merge whose verdict differs, or whose tree
does where both are clean, then the figures. The first lines of what git says of conflicts are shown, and which paths
differ in the trees.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from avfs_git.gitstore.compare.treediff import find_differences
from avfs_git.gitstore.formats.trees import EMPTY_TREE
from avfs_git.gitstore.merge.choose import make_engine
from avfs_git.gitstore.merge.engine import EngineName
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.paths import Oid


class _Reader(DryWriter):
    """Keeps all that is made, so that trees can be compared."""

    def add(self, kind: int, data: bytes, *, keep: bool = False) -> Oid:
        return super().add(kind, data, keep=True)


@dataclass
class Tally:
    """What was found."""

    merges: int = 0
    conflicts: int = 0
    other_verdict: int = 0
    other_tree: int = 0
    git_s: float = 0.0
    ours_s: float = 0.0
    refused: int = 0
    other_markers: int = 0
    """Conflicts for both, of which something else is in the tree."""
    told: list[str] = field(default_factory=list)


def list_merges(git_dir: Path, count: int) -> list[tuple[str, str, str]]:
    """List merges with two parents, newest first."""
    argv = [
        "git",
        "--git-dir",
        str(git_dir),
        "log",
        "--all",
        "--min-parents=2",
        "--max-parents=2",
        "--format=%H %P",
        f"-n{count}",
    ]
    lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    return [(parts[0], parts[1], parts[2]) for parts in map(str.split, lines)]


def write_attributes(git_dir: Path, commit: str, place: Path) -> None:
    """Write the attributes of a commit where git looks for them."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    listed = subprocess.run(
        ["git", "--git-dir", str(git_dir), "ls-tree", "-r", "-z", commit], check=True, capture_output=True
    )
    for line in listed.stdout.split(b"\0"):
        about, _, path = line.partition(b"\t")
        if path.rpartition(b"/")[2] == b".gitattributes" and about.startswith(b"100"):
            file = place / os.fsdecode(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            argv = ["git", "--git-dir", str(git_dir), "cat-file", "blob", about.split()[2].decode()]
            file.write_bytes(subprocess.run(argv, check=True, capture_output=True).stdout)


def replay(git_dir: Path, count: int, engine: EngineName) -> Tally:
    """Merge again what was merged, and compare."""
    tally = Tally()
    # What git makes goes to a repository of its own, which borrows all other objects.
    beside = Path(tempfile.mkdtemp(prefix="avfs-replay-"))
    place = beside / "checkout"
    store = ObjectStore(git_dir)
    try:
        subprocess.run(["git", "init", "--quiet", "--bare", str(beside)], check=True)
        (beside / "objects" / "info" / "alternates").write_text(f"{git_dir.resolve() / 'objects'}\n")
        for commit, ours, theirs in list_merges(git_dir, count):
            write_attributes(beside, ours, place)
            began = time.perf_counter()
            argv = ["git", "--git-dir", str(beside), "--work-tree", str(place), "-c", "core.bare=false"]
            argv += ["merge-tree", "--write-tree", ours, theirs]
            done = subprocess.run(argv, check=False, capture_output=True, cwd=place)
            tally.git_s += time.perf_counter() - began
            if done.returncode not in (0, 1):  # unrelated histories, or an object that is not there
                tally.refused += 1
                continue
            _compare(tally, engine, store, beside, commit, (ours, theirs), done)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        store.close()
    return tally


def _compare(
    tally: Tally,
    engine: EngineName,
    store: ObjectStore,
    beside: Path,
    commit: str,
    sides: tuple[str, str],
    done: subprocess.CompletedProcess[bytes],
) -> None:
    writer = _Reader(store)
    first, second = (Oid(bytes.fromhex(side)) for side in sides)
    began = time.perf_counter()
    merged = make_engine(engine, writer).merge(
        first, second, our_label=sides[0].encode(), their_label=sides[1].encode()
    )
    tally.ours_s += time.perf_counter() - began
    tally.merges += 1
    tally.conflicts += done.returncode
    head, _, told = done.stdout.partition(b"\n")
    wanted = Oid(bytes.fromhex(head.decode()))
    found = merged.tree or EMPTY_TREE
    is_other_verdict = merged.is_clean != (done.returncode == 0)
    tally.other_verdict += is_other_verdict
    if not is_other_verdict and (found == wanted or done.returncode):
        tally.other_markers += found != wanted
        return
    tally.other_tree += not is_other_verdict
    with ObjectStore(beside) as made:
        left = find_differences(made, None, wanted)
    right = find_differences(writer, None, found)
    paths = [
        path.decode("utf-8", "replace") for path in left.keys() | right.keys() if left.get(path) != right.get(path)
    ]
    verdict = "verdict" if is_other_verdict else "tree"
    words = told.decode("utf-8", "replace").partition("\n\n")[2].strip().splitlines()[:2]
    tally.told.append(f"{commit[:12]} {verdict}: {', '.join(paths[:4])} | git: {' / '.join(words)}")


def main() -> int:
    """Replay, print, and fail where a verdict or a clean tree differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=1000)
    parser.add_argument("--engine", type=EngineName, default=EngineName.LIBGIT2)
    arguments = parser.parse_args()
    git_dir = arguments.repository / ".git" if (arguments.repository / ".git").is_dir() else arguments.repository
    tally = replay(git_dir, arguments.count, arguments.engine)
    print("\n".join(tally.told))
    print(
        f"{tally.merges} merges, {tally.conflicts} with conflicts: {tally.merges - len(tally.told)} equal, "
        f"{tally.other_verdict} with another verdict, {tally.other_tree} clean with another tree; "
        f"{tally.refused} that git refuses; "
        f"{tally.other_markers} conflicts with something else in the tree; "
        f"git {tally.git_s:.1f} s, avfs {tally.ours_s:.1f} s"
    )
    return 1 if tally.told else 0


if __name__ == "__main__":
    sys.exit(main())
