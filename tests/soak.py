"""Cut the power under avfs, again and again, on ext4 and XFS, and print what was lost: `make power`, `make soak`.

    python -m tests.soak [--rounds N] [--kind ext4|xfs] [--seed N]

Needs root, loop devices and the makers of both file systems; what is missing is said and counts as failure.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.support import capabilities, sweep
from tests.support.powercut import OPTIONS, Round, image, run_round

NEEDED = {"ext4": "loop", "xfs": "xfs"}


def cut_again_and_again(kind: str, seeds: range, scratch: Path) -> list[Round]:
    """Run the rounds on one file system."""
    rounds = []
    with image(kind, scratch) as disk:
        for seed in seeds:
            done = run_round(disk, seed)
            verdict = "; ".join(done.bad) if done.bad else "ok"
            print(
                f"{kind:5} seed {seed:4}  {done.acknowledged:5} acknowledged  {done.recovered:3} files put back  "
                f"{verdict}",
                flush=True,
            )
            rounds.append(done)
    return rounds


def main() -> int:
    """Run, print, and say by the exit status whether all rounds were good."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=18, help="on each file system (default: %(default)s)")
    parser.add_argument("--kind", choices=sorted(OPTIONS), action="append", help="only this file system")
    parser.add_argument("--seed", type=int, default=1, help="of the first round (default: %(default)s)")
    arguments = parser.parse_args()
    kinds = arguments.kind or sorted(OPTIONS)
    lacking = [name for name in ["root", "git", *(NEEDED[kind] for kind in kinds)] if not capabilities.has(name)]
    if lacking:
        print(f"this machine lacks: {', '.join(lacking)}", file=sys.stderr)
        return 1
    scratch = sweep.scratch_root()
    rounds: list[Round] = []
    try:
        for kind in kinds:
            rounds += cut_again_and_again(kind, range(arguments.seed, arguments.seed + arguments.rounds), scratch)
    finally:
        sweep.remove(scratch)
    bad = sum(bool(one.bad) for one in rounds)
    print(f"{len(rounds)} rounds, {sum(one.acknowledged for one in rounds)} steps acknowledged, {bad} rounds bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
