"""The bars of commands (issue 4), each beside the same command in a plain directory: `python -m tests.bench.commands`.

Decided here: what each row times. A command through `exec` is timed with all that belongs to it: policy, audit log,
mount, run, delta and durable commit. Beside it stands the bare command in a copy of the tree and, where the row
commits, with `git add -A && git commit` there. Cold means that nothing is mounted and no process of avfs is there but
the one that asks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from avfs_git import Avfs, Vault, Workspace
from avfs_git.host.mounts.mounts import list_mounts
from tests.bench.measure import Sample, measure, show_ratio, show_time
from tests.bench.report import Row, text_table
from tests.bench.trees import SMALL, make_tree, path_of

MIDDLE = 50_000
FORKS, EXECS = 50, 20
_POLICY = 'version = 1\n[[rule]]\nname = "all"\naction = "allow_with_checkpoint"\n'
_WRITE = """import os
os.makedirs('new{0}')
for n in range({1}):
    with open(f'new{0}/{{n}}', 'wb') as f: f.write(b'%d {0}\\n' % n * {2})
"""
_SEVERAL = """
import json, os, sys, time
from pathlib import Path
from avfs_git import Avfs
from avfs_git.host.mounts.mounts import list_mounts
home, policy, name = sys.argv[1:]
times = []
for number in range(3):
    with Avfs(Path(home), policy=Path(policy)) as avfs:
        workspace = avfs.open_vault(name).workspace()
        start = time.perf_counter()
        workspace.exec("true")
        times.append(time.perf_counter() - start)
    while any(Path(home) in mounted.directory.parents for mounted in list_mounts()):
        time.sleep(0.01)
    if not number:
        time.sleep(1.5)  # what is started for the later ones has loaded all that it will
print(json.dumps(times))
"""
"""Says how long each of some cold commands of one process took."""
_CHECKOUT = Path(__file__).resolve().parents[2]
_SOURCES = 40
"""Translation units of the C project."""


class CommandBench:
    """One run; `run` gives its rows."""

    def __init__(self, scratch: Path, say: Callable[[str], None], *, quick: bool = False) -> None:
        """Prepare a run in a directory; `quick` leaves the large tree out."""
        self._scratch, self._say, self._quick = scratch, say, quick
        self._home = scratch / "home"
        self._plain = scratch / "plain"
        self._numbers = itertools.count()
        self._rows: list[Row] = []

    def run(self) -> list[Row]:
        """Measure everything."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        (self._scratch / "policy.toml").write_text(_POLICY)
        self._make_project(self._plain)
        with self._open() as avfs:
            avfs.create_vault("small", source=self._plain).close()
            if not self._quick:
                make_tree(self._scratch / "large", MIDDLE)
                avfs.create_vault("large", source=self._scratch / "large").close()
        for part in (
            self._alone,
            self._cold,
            self._program,
            self._light,
            self._building,
            self._writing,
            self._together,
        ):
            self._try(part)
        return self._rows

    def _open(self) -> Avfs:
        return Avfs(self._home, policy=self._scratch / "policy.toml")

    def _try(self, part: Callable[[], Iterator[Row]]) -> None:
        self._say(f"commands: {part.__name__.lstrip('_')}")
        try:
            for row in part():
                self._rows.append(row)
                self._say(f"  {row.work}: {row.measured} / {row.native} / {row.ratio} (bar {row.bar})")
        except Exception as error:  # noqa: BLE001 - whatever it is, the other rows are still of use
            self._say("".join(traceback.format_exception(error)))
            name = part.__name__.lstrip("_")
            self._rows.append(
                Row(f"commands {name}", f"commands, {name}", "", f"failed: {type(error).__name__}", met=False)
            )

    @staticmethod
    def _make_project(root: Path) -> None:
        """Make a repository of 5,000 files, with a C program in it."""
        make_tree(root, SMALL)
        (root / "c").mkdir()
        for number in range(_SOURCES):
            (root / "c" / f"m{number}.c").write_text(
                f'#include <stdio.h>\nint f{number}(int x) {{ return printf("%d", x) + {number}; }}\n'
            )
        calls = "".join(f"int f{number}(int);\n" for number in range(_SOURCES))
        (root / "c" / "main.c").write_text(calls + "int main(void) { return f0(1); }\n")
        rules = "SRC := $(wildcard c/*.c)\nOBJ := $(SRC:.c=.o)\nprog: $(OBJ)\n\t$(CC) -o $@ $^\n"
        (root / "Makefile").write_text(rules)
        (root / ".gitignore").write_text("*.o\nprog\n")
        _git(root, "init", "-q", "-b", "main")
        _git(root, "add", "-A")
        _git(root, "commit", "-qm", "first")

    def _await_unmounted(self) -> None:
        end = time.monotonic() + 30
        while any(self._home in mounted.directory.parents for mounted in list_mounts()) and time.monotonic() < end:
            time.sleep(0.01)

    # --- rows ----------------------------------------------------------------------------------------------

    def _alone(self) -> Iterator[Row]:
        with self._open() as avfs, avfs.open_vault("small").workspace().prepare() as prepared:
            bare = measure(lambda: _bare(["true"], self._plain), 50, warm_up=True)
            ours = measure(lambda: prepared.exec("true"), 50, warm_up=True)
            prepared.finish()
        more = ours.median_s - bare.median_s
        work = "`exec true`, SDK, in a prepared session"
        yield Row(
            "exec prepared",
            work,
            "≤ 10 ms above a bare process",
            ours.text,
            bare.text,
            f"+ {show_time(more)}",
            more <= 10e-3,
        )

    def _cold(self) -> Iterator[Row]:
        name, shown = ("small", "5,000") if self._quick else ("large", "50,000")
        env = {**os.environ, "PYTHONPATH": str(_CHECKOUT)}
        first, later = [], []
        for _ in range(3 if self._quick else 7):
            argv: tuple[str | Path, ...] = (
                sys.executable,
                "-c",
                _SEVERAL,
                self._home,
                self._scratch / "policy.toml",
                name,
            )
            done = subprocess.run(argv, env=env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            times: list[float] = json.loads(done.stdout)
            first.append(times[0])
            later += times[1:]
            self._await_unmounted()
        shown_as = (("exec cold", "the first of a process", first), ("exec cold later", "later ones", later))
        for key, which, taken in shown_as:
            sample = Sample(tuple(taken))
            met = None if self._quick else sample.median_s <= 0.1
            yield Row(key, f"`exec true`, SDK, cold, {which}, {shown} files", "≤ 100 ms", sample.text, met=met)

    def _program(self) -> Iterator[Row]:
        name = "small" if self._quick else "large"
        program = [sys.executable, "-m", "avfs_git"]
        env = {**os.environ, "AVFS_HOME": str(self._home)}

        def run(*arguments: str) -> None:
            subprocess.run([*program, "--vault", name, *arguments], env=env, check=True, stdout=subprocess.DEVNULL)

        cold = measure(lambda: run("proxy", "exec", "--", "true"), 5, before=self._await_unmounted)
        self._await_unmounted()
        run("proxy", "prepare", "--idle", "60")
        warm = measure(lambda: run("proxy", "exec", "--", "true"), 7, warm_up=True)
        run("proxy", "finish")
        yield Row(
            "exec program cold", "`avfs proxy exec -- true`, cold", "≤ 300 ms", cold.text, met=cold.median_s <= 0.3
        )
        yield Row(
            "exec program warm", "`avfs proxy exec -- true`, prepared", "≤ 150 ms", warm.text, met=warm.median_s <= 0.15
        )
        with self._open() as avfs:
            for info in avfs.sessions():
                session = avfs.session_at(info.directory)
                if session is not None:
                    session.unmount(lazy=True)

    def _light(self) -> Iterator[Row]:
        """Time whole processes that people and agents wait for all day."""
        env = {**os.environ, "AVFS_HOME": str(self._home), "PYTHONPATH": str(_CHECKOUT)}

        def time_process(*arguments: str, event: dict[str, object] | None = None) -> Sample:
            argv, given = [sys.executable, *arguments], json.dumps(event).encode() if event else b""
            return measure(
                lambda: subprocess.run(argv, input=given, env=env, check=True, capture_output=True, cwd="/"),
                20,
                warm_up=True,
            )

        bare = time_process("-c", "pass")
        for verb in ("status", "log -n 10", "fork list"):
            ours = time_process("-m", "avfs_git", "--vault", "small", *verb.split())
            work = f"`avfs {verb}`, whole process, beside an empty Python"
            yield Row(f"program {verb}", work, "≤ 120 ms", ours.text, bare.text, met=ours.median_s <= 0.12)
        env |= {"_AVFS_COMPLETE": "bash_complete", "COMP_LINE": "avfs --vault small cat top0", "COMP_BREAKS": "@=:"}
        ours = time_process("-m", "avfs_git")
        del env["_AVFS_COMPLETE"]
        work = "completion of a path, whole process, beside an empty Python"
        yield Row("completion", work, "≤ 100 ms", ours.text, bare.text, met=ours.median_s <= 0.1)
        with self._open() as avfs, avfs.open_vault("small") as vault:
            mount = self._scratch / "hooked"
            mount.mkdir()
            session = vault.fork("hooked").mount(mount)
            for name, shown in (
                ("PreToolUse", "before a command of a shell"),
                ("PostToolUse", "after a call without changes"),
            ):
                tool = {"tool_name": "Bash", "tool_input": {"command": "ls -l"}}
                event: dict[str, object] = {"hook_event_name": name, "session_id": "s", "cwd": str(mount), **tool}
                ours = time_process("-m", "avfs_git", "hook", "claude", event=event)
                work = f"`avfs hook claude` in a live tree, {shown}, beside an empty Python"
                yield Row(f"hook {name}", work, "< 60 ms", ours.text, bare.text, met=ours.median_s < 0.06)
            session.unmount(lazy=True)

    def _building(self) -> Iterator[Row]:
        with self._open() as avfs, avfs.open_vault("small").fork("build").prepare() as prepared:
            build = "make -s"
            prepared.exec(shell=build, timeout_ms=None)
            _bare(["make", "-s"], self._plain)
            touch = "printf '\\n' >> c/m{0}.c; make -s"
            ours = measure(lambda: prepared.exec(shell=touch.format(next(self._numbers) % _SOURCES)), 7, warm_up=True)
            native = measure(
                lambda: _bare(["sh", "-c", touch.format(next(self._numbers) % _SOURCES)], self._plain), 7, warm_up=True
            )
            yield _ratio("exec make", "an incremental C build in a tree of 5,000 files", 1.15, ours, native)
            ours = measure(lambda: prepared.exec("git", "status", "--short"), 15, warm_up=True)
            native = measure(lambda: _bare(["git", "status", "--short"], self._plain), 15, warm_up=True)
            yield _ratio("exec status", "`git status` in a tree of 5,000 files", 1.15, ours, native)
            prepared.finish()

    def _writing(self) -> Iterator[Row]:
        yield self._write("exec 1000", "1,000 new 1 KiB files, run and commit", 1_000, 100, rounds=5)
        yield self._write("exec npm", "5,000 new files, run and commit", 5_000, 60, rounds=3)

    def _write(self, key: str, work: str, count: int, size: int, *, rounds: int) -> Row:
        name = key.replace(" ", "-")
        clone = self._scratch / name
        shutil.copytree(self._plain, clone, symlinks=True)

        def program() -> list[str]:
            return [sys.executable, "-S", "-c", _WRITE.format(next(self._numbers), count, size)]

        def in_clone() -> None:
            _bare(program(), clone)
            _git(clone, "add", "-A")
            _git(clone, "commit", "-qm", "more")

        with self._open() as avfs, avfs.open_vault("small").fork(name).prepare() as prepared:
            ours = measure(lambda: prepared.exec(*program()), rounds)
            native = measure(in_clone, rounds)
            prepared.finish()
        return _ratio(key, work, 1.0, ours, native)

    def _together(self) -> Iterator[Row]:
        text = (
            f"for n in 1 2 3 4 5; do cat {path_of(7, SMALL)} Makefile | sort | md5sum; done > /dev/null; echo $$ > own"
        )
        plains = []
        for number in range(FORKS):
            plain = self._scratch / "many" / str(number)
            (plain / path_of(7, SMALL)).parent.mkdir(parents=True)
            for name in (path_of(7, SMALL), "Makefile"):
                shutil.copy(self._plain / name, plain / name)
            plains.append(plain)
        with self._open() as avfs, avfs.open_vault("small") as vault:
            prepared = [fork.prepare() for fork in _forks(vault)]
            for one in prepared:
                one.exec("true")
            with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
                native = _took(
                    lambda: list(pool.map(lambda plain: _often(lambda: _bare(["bash", "-c", text], plain)), plains))
                )
                ours = _took(lambda: list(pool.map(lambda one: _often(lambda: one.exec("bash", "-c", text)), prepared)))
            for one in prepared:
                one.finish()
        rate = native / ours
        bar = "≥ 0.7 × the rate of bare processes"
        yield Row(
            "exec many",
            f"{FORKS} forks × {EXECS} commands",
            bar,
            show_time(ours),
            show_time(native),
            f"{rate:.2f}",
            rate >= 0.7,
        )


def _forks(vault: Vault) -> list[Workspace]:
    return [vault.fork(f"many{number}") for number in range(FORKS)]


def _often(action: Callable[[], object]) -> None:
    for _ in range(EXECS):
        action()


def _took(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _bare(argv: list[str], cwd: Path) -> None:
    subprocess.run(argv, cwd=cwd, check=False, stdin=subprocess.DEVNULL, capture_output=True)


def _git(cwd: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=cwd, check=True, capture_output=True
    )


def _ratio(key: str, work: str, limit: float, ours: Sample, native: Sample) -> Row:
    ratio = ours.median_s / native.median_s
    return Row(
        key, work, f"≤ {limit:g} ×", ours.text, native.text, show_ratio(ours.median_s, native.median_s), ratio <= limit
    )


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.commands", description="Measure the bars of commands.")
    parser.add_argument("--quick", action="store_true", help="without the tree of 50,000 files")
    parser.add_argument("--directory", type=Path, help="where to work; default: the directory for temporary files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="avfs-bench-", dir=options.directory, ignore_cleanup_errors=True) as name:
        rows = CommandBench(
            Path(name), lambda text: print(text, file=sys.stderr, flush=True), quick=options.quick
        ).run()
    print(text_table(rows))


if __name__ == "__main__":
    main()
