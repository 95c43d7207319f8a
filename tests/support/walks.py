"""Random walks of one fork, in whose live tree git and avfs act, while others push to its branch.

    python -m tests.support.walks [--seed N] [--count N] [--steps N] [--seconds N] [--backend NAME]... [--jobs N]
                                  [--shrink] [--slow] [--ordinary]
    python -m tests.support.walks --walk 'edit a; others edit b; avfs update' [--backend NAME] [--shrink] [--slow]

Decided here: which walks there are. A walk is a list of steps, each a line of text, so that one that fails can be taken
again, also without some of its steps: a step that means nothing where the scene is, is passed over. What a step does is
`tests.support.walkscene`, what must be true after it `tests.support.walkrules`. A walk that goes wrong only where
steps share a second does not with `--slow`.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context

from avfs_git import Avfs
from tests.support import ordinary, sweep
from tests.support.faults import check_objects
from tests.support.live_tree import ADA
from tests.support.two_actors import ENVIRONMENT, unsync
from tests.support.walkrules import Rules
from tests.support.walkscene import FILES, SECOND_S, Scene

_OWN = ("n1", "n2", "d/n3")
_THEIRS = ("t1", "t2", "d/t3", "n1")
_BACKENDS, _BACKENDS_OF_USERS = ("overlay", "fuse", "overlay", "none"), ("fuse", "none")
_LONG = ("git ", "avfs ", "others ")
"""Of such steps the second word counts, too."""

_EDITS = (
    *["edit"] * 6,
    *["rewrite", "clash", "delete", "rename"] * 2,
    *["create"] * 4,
    "chmod",
    "link",
    *["secret"] * 3,
)
_OF_OTHERS = (*["edit"] * 8, *["create"] * 8, *["revert"] * 4, *["delete", "clash", "drop", "chmod"] * 2, "rules-off")
_SECRETS = ("x.env", "x.env", "d/y.env")
_AT_SIDE = (
    *["mount", "avfs checkpoint", "edit PATH", "git commit -q -a -m of-side", "avfs update", "secret x.env"] * 2,
    *["avfs merge main", "avfs pick main", "avfs undo", "avfs redo", "avfs status", "git status", "git add -A"],
    *["chmod PATH", "create n1", "unmount", "avfs restore HEAD", "rules off", "git reset -q --hard"],
)
_GIT = (
    *["add -A"] * 4,
    *["commit -q -m by-git"] * 5,
    *["commit -q -a -m by-git"] * 3,
    *["commit -q --allow-empty -m empty"] * 3,
    *["add PATH", "commit -q -m by-path -- PATH"] * 2,
    *["commit -q --amend -m amended"] * 2,
    *["reset -q --soft HEAD~1", "reset -q HEAD~1", "reset -q --hard HEAD~1", "reset -q --hard", "reset -q"],
    *["reset -q --hard ORIG_HEAD", "reset -q --soft ORIG_HEAD"],
    *["restore PATH", "restore --staged PATH", "restore --staged .", "checkout -q -- PATH"],
    *["stash -q", "stash pop -q"] * 2,
    *[
        "switch -q -c other",
        "switch -q other",
        "switch -q --detach",
        "checkout -q -B main other",
        "switch -q -C main HEAD~1",
    ],
    *["switch -q main"] * 5,
    *["mv PATH NEW", "rm -q PATH", "rm -q --cached PATH"],
    *["merge -q --no-edit other", "merge -q --no-edit side", "cherry-pick other", "rebase -q other", "rebase -q side"],
    *["revert --no-edit HEAD", "apply -3 other", "checkout -q other -- PATH"],
    *[
        "reset -q --keep HEAD~1",
        "reset -q --merge",
        "stash -q -u",
        "stash apply -q",
        "clean -fdq",
        "add -u",
        "branch -f other main",
    ],
    *[
        "merge -q --squash other",
        "merge -q --no-ff --no-edit other",
        "cherry-pick -n other",
        "commit -q -m with -i PATH",
    ],
    *["restore --source=HEAD~1 PATH", "restore --source=HEAD --staged --worktree .", "checkout -q main -- ."],
    *["abort", "rebase --continue", "cherry-pick --continue"],
    *["status", "diff"] * 2,
)
_AVFS = (
    *["checkpoint"] * 6,
    *["update"] * 7,
    *["checkpoint LABEL", "undo", "restore HEAD"] * 3,
    *["redo", "fork side", "merge side", "restore HEAD~1", "restore LABEL", "squash HEAD~2", "status"] * 2,
    *["conflict", "resolve ours", "resolve theirs", "continue", "continue", "giveup"],
    *[
        "exec git commit -q -a -m by-exec",
        "exec git stash -q",
        "exec git switch -q --detach",
        "exec git switch -q main",
    ],
    *["squash HEAD~1", "diff", "gc", "rebase side", "pick side"],
)
_END = (
    "git abort",
    "git switch -q main",
    "avfs update",
    "git commit -q --allow-empty -m end",
    "avfs status",
    "avfs checkpoint",
)
"""How each walk ends: what was put off is done."""


def draw(seed: int, count: int, *, is_mounted: bool) -> list[str]:
    """Draw a walk."""
    chance = random.Random(seed)
    weights = (30, 22, 26 if is_mounted else 0, 26, 4 if is_mounted else 0, 14, 4, 3)
    return [chance.choices(_KINDS, weights)[0](chance) for _ in range(count)] + list(_END)


def _draw_path(chance: random.Random) -> str:
    return chance.choice((*FILES, *FILES, *_OWN, *_THEIRS))


def _draw_edit(chance: random.Random) -> str:
    verb = chance.choice(_EDITS)
    if verb == "create":
        return f"create {chance.choice(_OWN)}"
    if verb in ("secret", "link"):
        return f"{verb} {chance.choice(_SECRETS if verb == 'secret' else ('n4', *_OWN))}"
    if verb == "rename":
        return f"rename {_draw_path(chance)} {chance.choice(('m1', 'd/m2'))}"
    return f"{verb} {_draw_path(chance)}"


def _draw_others(chance: random.Random) -> str:
    verb = chance.choice(_OF_OTHERS)
    if verb in ("revert", "drop", "rules-off"):
        return f"others {verb}"
    return f"others {verb} {chance.choice(_THEIRS if verb == 'create' else (*FILES, *FILES, *_THEIRS, *_OWN))}"


def _draw_git(chance: random.Random) -> str:
    line = chance.choice(_GIT)
    return f"git {line}".replace("PATH", _draw_path(chance)).replace("NEW", chance.choice(("m1", "d/m2")))


def _draw_avfs(chance: random.Random) -> str:
    return f"avfs {chance.choice(_AVFS)}".replace("LABEL", chance.choice(("one", "two")))


def _draw_mount(chance: random.Random) -> str:
    return chance.choice(("unmount", "mount", "mount"))


def _draw_side(chance: random.Random) -> str:
    path = chance.choice((*FILES, *_OWN))
    return chance.choice((f"side side {path}", f"at side {chance.choice(_AT_SIDE)}".replace("PATH", path)))


def _draw_rules(chance: random.Random) -> str:
    return chance.choice(("rules off", "rules off", "rules on", "delete .gitignore", *[f"delete {_SECRETS[0]}"] * 2))


_KINDS = (_draw_edit, _draw_others, _draw_git, _draw_avfs, _draw_mount, _draw_side, lambda _: "tick", _draw_rules)


@dataclass
class Walked:
    """How a walk went.

    Attributes:
        wrong: What is wrong after the last step, or at the end.
        script: The steps that were taken, numbered, each with how it ended.
        counts: How often each kind of step ended how.
    """

    wrong: list[str] = field(default_factory=list)
    script: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def walk(steps: Sequence[str], backend: str, *, is_slow: bool = False) -> Walked:
    """Take the steps of a walk, to the first after which something is wrong."""
    root = sweep.scratch_root()
    scene = Scene(root, backend)
    walked = Walked(script=scene.script)
    try:
        scene.make()
        rules, before = Rules(scene), scene.look()
        for line in steps:
            if is_slow:
                time.sleep(SECOND_S)
            done = scene.step(line)
            after = scene.look() if done.status != "skipped" else before
            walked.counts[f"{' '.join(line.split()[: 2 if line.startswith(_LONG) else 1])}: {done.status}"] += 1
            walked.wrong = rules.judge(line, before, done, after)
            if line.endswith("status") and done.status == "done":
                walked.wrong += (scene.side if line.startswith("at ") and scene.side else scene).find_wrong_status()
            if walked.wrong:
                return walked
            before = after
        walked.wrong = _check_end(scene)
    except Exception:  # noqa: BLE001 - the other walks go on all the same
        walked.wrong = [traceback.format_exc()]
    finally:
        sweep.remove(root)
    return walked


def _check_end(scene: Scene) -> list[str]:
    files = scene.read_files()
    if scene.is_mounted:
        scene.unmount()
    if scene.side is not None and scene.side.is_mounted:
        scene.side.unmount()
    wrong = [] if scene.read_files() == files else ["the files are others once the tree is unmounted"]
    try:
        check_objects(scene.git_dir)
    except AssertionError as error:
        wrong.append(f"git fsck: {error}")
    with Avfs(scene.home, identity=ADA) as avfs, avfs.open_vault("v") as vault:
        found = vault.doctor().problems
    return wrong + [f"doctor: {problem}" for problem in found if problem.severity != "note"]


def shrink(steps: Sequence[str], backend: str, *, is_slow: bool = False) -> Walked:
    """Leave out steps while the same is wrong; give the shortest walk."""
    best = walk(steps, backend, is_slow=is_slow)
    steps, kind = steps[: len(best.script)], _kind_of(best)
    size = len(steps) // 2 if best.wrong else 0
    while size:
        at, before = 0, len(steps)
        while at < len(steps):
            shorter = [*steps[:at], *steps[at + size :]]
            tried = walk(shorter, backend, is_slow=is_slow)
            if tried.wrong and _kind_of(tried) == kind:
                best, steps = tried, shorter[: len(tried.script)]
            else:
                at += size
        if len(steps) == before or size > 1:
            size //= 2
    return best


def _kind_of(walked: Walked) -> str:
    """Name what is wrong, without what it is about."""
    last = walked.wrong[0].strip().splitlines()[-1] if walked.wrong else ""
    return re.split(r"[:(\[]| (?:ours|theirs)-", last)[0]


def _run(seed: int, backends: Sequence[str], steps: int, *, is_slow: bool, shrinks: bool) -> tuple[int, str, Walked]:
    backend = backends[seed % len(backends)]
    drawn = draw(seed, steps, is_mounted=backend != "none")
    found = walk(drawn, backend, is_slow=is_slow)
    smaller = shrink(drawn[: len(found.script)], backend, is_slow=is_slow) if found.wrong and shrinks else found
    return seed, backend, smaller if smaller.wrong else found


def run(arguments: argparse.Namespace) -> int:
    """Run walks, print those that are wrong, and count them."""
    backends = arguments.backend or (_BACKENDS if os.geteuid() == 0 else _BACKENDS_OF_USERS)
    one = partial(_run, backends=backends, steps=arguments.steps, is_slow=arguments.slow, shrinks=arguments.shrink)
    counts: Counter[str] = Counter()
    until = time.monotonic() + arguments.seconds if arguments.seconds else None
    print(f"seed {arguments.seed}", flush=True)
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn"), initializer=_begin) as pool:
        waiting = [pool.submit(one, arguments.seed + number) for number in range(arguments.count)]
        for done in as_completed(waiting):
            if done.cancelled():
                continue
            seed, backend, found = done.result()
            counts.update(found.counts)
            counts.update({"walks": 1, "steps": len(found.script), "walks with something wrong": bool(found.wrong)})
            if found.wrong:
                print(f"seed {seed}, {backend}:", *_lines(found), sep="\n    ", flush=True)
            if until is not None and time.monotonic() > until:
                until = None
                for each in waiting:
                    each.cancel()
    print(*(f"{number} {what}" for what, number in sorted(counts.items())), sep="\n")
    return counts["walks with something wrong"]


def _lines(found: Walked) -> list[str]:
    return [*found.script, *(f"wrong: {each}" for each in found.wrong)]


def _begin() -> None:
    os.environ.update(ENVIRONMENT)
    unsync()


def main() -> int:
    """Run, print what is wrong, and say by the exit status whether anything is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of the first walk; the next one has the next seed"
    )
    parser.add_argument("--count", type=int, default=1, help="how many walks (default: 1)")
    parser.add_argument("--seconds", type=float, help="begin no walk after so many seconds")
    parser.add_argument("--steps", type=int, default=10, help="how many steps each, before those of the end")
    parser.add_argument("--backend", action="append", help="overlay, fuse, or none: no mount (default: each by turns)")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes (default: 1)")
    parser.add_argument("--shrink", action="store_true", help="leave out steps of walks that fail, while they do")
    parser.add_argument("--slow", action="store_true", help="begin each step in a second of its own")
    parser.add_argument("--walk", help="take these steps, with `;` between them")
    parser.add_argument("--ordinary", action="store_true", help="as an ordinary user")
    arguments = parser.parse_args()
    return int(ordinary.call(lambda: b"%d" % _do(arguments))) if arguments.ordinary else _do(arguments)


def _do(arguments: argparse.Namespace) -> int:
    if not arguments.walk:
        return 1 if run(arguments) else 0
    _begin()
    steps = [each.strip() for each in arguments.walk.split(";")]
    backend = arguments.backend[0] if arguments.backend else "fuse"
    found = (shrink if arguments.shrink else walk)(steps, backend, is_slow=arguments.slow)
    print(*_lines(found), sep="\n")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
