"""Run what the policy takes for reading, with the real programs, and see whether it only read: `make soak`.

    python -m tests.support.policy_truth [--count N] [--seed N]

Commands are made of the corpus of the policy and of the programs of its table, with options from the programs' own help
and manuals, shortened, grouped and with values that would write, run or connect. Those that are classified as
`read_only` run in a plain tree, in a sandbox (bubblewrap) in which nothing else can be changed. Sentinels tell: each
file of the tree and one outside, a program in `PATH` that leaves a mark, and a socket that somebody may connect to.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from avfs_git.proxy.policy.commands import programs
from avfs_git.proxy.policy.commands.classify import categories_of, classify
from avfs_git.proxy.policy.decision import Category, Request

CORPUS = Path(__file__).parents[1] / "unit" / "proxy" / "policy" / "corpus"
PORT = 4711
_LIMIT_S = 3.0
_VALUES = """
    a b sub 1 2 out sub/out ./mark mark OUTSIDE/file OUTSIDE/new w\\ out e\\ mark 1e\\ mark s/a/b/w\\ out s/a/b/e HEAD main
    exec=mark |mark !mark a[$(mark)] $(mark) `mark` x=1 %s auto never -o --output=out core.pager=mark alias.x=!mark user.name=x
    origin http://127.0.0.1:4711/x 127.0.0.1:4711 /dev/tcp/127.0.0.1/4711 {print>"out"} {system("mark")} {print} . .. :/ -- - @{u}
"""
_SCRIPTS = ["{print}", 'BEGIN{print "x" > "out"}', 'BEGIN{system("mark")}', '{"mark"|getline}']
_SCRIPTS += ["1,2p", "w out", "1e mark", "s/a/b/", "s/a/b/w out", "/a/d"]
_TOOLS_WITHOUT_END = frozenset({"yes", "sleep", "bash", "sh", "top", "coproc"})


@cache
def options_of(tool: str) -> tuple[str, ...]:
    """Read the options of a program, or of a subcommand of git, from its help and its manual."""
    name = tool.split(maxsplit=1)[0]
    if shutil.which(name) is None:
        return ()
    calls = (
        [[*tool.split(), "--git-completion-helper-all"], [*tool.split(), "-h"]] if name == "git" else [[name, "--help"]]
    )
    calls.append(["man", "-P", "cat", tool.replace(" ", "-")])
    text = ""
    for call in calls:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": "/dev/null", "MANWIDTH": "200"}
            ran = subprocess.run(
                call, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20, env=environment, cwd="/"
            )
            text += re.sub(r".\x08", "", (ran.stdout + ran.stderr).decode("utf-8", "replace")) + "\n"
    found = re.findall(r"(?<![\w/-])(--?[A-Za-z0-9][A-Za-z0-9-]*)(?![\w/])", text)
    return tuple(dict.fromkeys(each for each in found if each.startswith("--") or len(each) == 2 or name == "find"))


def values_of(tool: str) -> dict[str, bool]:
    """Tell of each option in a program's help whether it needs a value."""
    ran = subprocess.run(
        [tool, "--help"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=20,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )
    found = re.findall(
        r"^ +(?:(-.), ?)?(--[A-Za-z0-9][A-Za-z0-9-]*)(=[A-Z<'{]| <|\[=|=)?",
        ran.stdout.decode("utf-8", "replace"),
        re.MULTILINE,
    )
    return {
        option: re.search(r"[A-Z<'{]", mark) is not None
        for short, long, mark in found
        for option in (short, long)
        if option
    }


def tools() -> list[str]:
    """Name the programs of the table that are installed and may only read."""
    found = []
    for name in programs.names():
        program = programs.find(name)
        if program is None or program.does or name.split()[0] in _TOOLS_WITHOUT_END:
            continue
        if shutil.which(name.split()[0], path="/usr/bin:/bin") is not None and (
            " " not in name or name.startswith("git ")
        ):
            found.append(name)
    return found


def corpus_lines() -> list[str]:
    """Give every line of the corpus, without its mark."""
    texts = "\n".join(file.read_text("utf-8") for file in sorted(CORPUS.glob("*.txt")))
    lines = [line for line in texts.splitlines() if line and not line.startswith("#")]
    return [re.sub(r"^(?:[rwdnhi]+ +\| |ask \| )", "", line).replace("⏎", "\n") for line in lines]


def make_command(chance: random.Random, lines: list[str], names: list[str], outside: str) -> str:
    """Make one text for a shell, of any kind."""
    values = [value.replace("OUTSIDE", outside).replace("\0", " ") for value in _VALUES.replace("\\ ", "\0").split()]
    if chance.random() < 0.35:
        return _changed_line(chance, chance.choice(lines), values)
    name = chance.choice(names)
    words = name.split()
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        words += _option(chance, name, values)
    if name in {"sed", "awk", "mawk", "gawk"}:
        words.append(chance.choice(_SCRIPTS))
    words += chance.sample(values, chance.choice((0, 1, 1, 2)))
    return shlex.join(words)


def _option(chance: random.Random, tool: str, values: list[str]) -> list[str]:
    options = options_of(tool) or ("-x", "--help")
    option = chance.choice(options)
    if option.startswith("--"):
        if chance.random() < 0.3:
            option = option[: chance.randrange(3, len(option) + 1)]
        return chance.choice([[option], [f"{option}={chance.choice(values)}"], [option, chance.choice(values)]])
    more = (
        "".join(each[1] for each in chance.choices(options, k=2) if not each.startswith("--"))
        if chance.random() < 0.3
        else ""
    )
    return chance.choice([[option + more], [option + chance.choice(values)], [option, chance.choice(values)]])


def _changed_line(chance: random.Random, line: str, values: list[str]) -> str:
    """Put an option, or something hostile, between the words of a line."""
    words = line.split(" ")
    at = chance.randrange(1, len(words) + 1)
    first = words[0] if words[0] != "git" or len(words) < 2 else f"git {words[1]}"
    inserted = [shlex.quote(word) for word in _option(chance, first, values)]
    return " ".join(
        chance.choice(
            [
                words,
                [*words[:at], *inserted, *words[at:]],
                [*words[:at], shlex.quote(chance.choice(values)), *words[at:]],
            ]
        )
    )


def is_read_only(text: str) -> bool:
    """Whether the policy takes a text for one that only reads."""
    return categories_of(classify(Request("/v", "f", shell=text))) == (Category.READ_ONLY,)


def make_commands(seed: int, count: int, outside: str) -> list[str]:
    """Make texts that the policy takes for reading: the corpus first, then made ones."""
    chance = random.Random(seed)
    lines, names = corpus_lines(), tools()
    # reading their help costs more than the commands
    names = chance.sample(names, min(len(names), max(8, count // 20)))
    ends = re.compile(r"\b(?:yes|tail -f|while true|sleep|read|cat$|wait)\b|/dev/(?:zero|u?random|full)")
    commands = [line for line in lines if is_read_only(line) and not ends.search(line)]
    chance.shuffle(commands)
    commands = commands[: max(count // 2, 1)]
    while len(commands) < count:
        text = make_command(chance, lines, names, outside)
        if "\0" not in text and not ends.search(text) and is_read_only(text):
            commands.append(text)
    return commands


def run(seed: int, count: int) -> list[str]:
    """Run commands that are made by chance; returns what each of those did that did more than read."""
    return run_all(lambda outside: make_commands(seed, count, outside))


def run_all(commands: Callable[[str], list[str]]) -> list[str]:
    """Run commands in the sandbox; returns what each of those did that did more than read.

    Args:
        commands: Makes them; it is given the directory outside of the tree in which a change is seen.

    Raises:
        RuntimeError: If the sandbox itself fails.
    """
    with tempfile.TemporaryDirectory(prefix="avfs-policy-") as scratch:
        request = json.dumps({"scratch": scratch, "commands": commands(f"{scratch}/outside")})
        sandbox = shlex.split(
            "bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /run --unshare-all --die-with-parent"
        )
        sandbox.append("--new-session")
        ran = subprocess.run(
            [*sandbox, "--bind", scratch, scratch, sys.executable, "-m", "tests.support.policy_truth", "--worker"],
            input=request.encode("utf-8", "surrogateescape"),
            capture_output=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        if ran.returncode != 0:
            raise RuntimeError(ran.stderr.decode("utf-8", "replace"))
        return list(map(str, json.loads(ran.stdout)))


# --- in the sandbox ------------------------------------------------------------------------------------------


def _make_tree(scratch: Path) -> Path:
    tree, outside, bin_ = scratch / "tree", scratch / "outside", scratch / "bin"
    for directory in (tree / "sub", tree / "src", outside / "home", bin_):
        directory.mkdir(parents=True)
    for name in ("a", "b", "f", "list", "sub/x", "src/main.py", "README.md", "a.py", "data.csv", "package.json"):
        (tree / name).write_text('{"a": [1, 2]}\n' if name.endswith("json") else "a b c\n/a/ 1,2\nmark\n")
    (tree / "script").write_text("w out\n1e mark\n")
    (outside / "file").write_text("outside\n")
    for place in (bin_ / "mark", tree / "mark"):
        place.write_text(f"#!/bin/sh\necho $0 >> {outside}/marked\n")
        place.chmod(0o755)
    quiet = {"PATH": "/usr/bin:/bin", "HOME": str(outside / "home"), "GIT_CONFIG_NOSYSTEM": "1"}
    for call in (
        "init -q -b main",
        "add -A",
        "-c user.name=x -c user.email=x commit -qm x",
        "tag v1",
        "branch feature",
        "status",
    ):
        subprocess.run(["git", *call.split()], cwd=tree, env=quiet, check=True, capture_output=True)
    return tree


def _look(paths: Iterable[Path]) -> dict[str, tuple[int, str]]:
    """Give what each file is: its mode and a hash of its content."""
    found: dict[str, tuple[int, str]] = {}
    for top in paths:
        for directory, names, files in os.walk(top):
            for name in (*names, *files):
                path = Path(directory, name)
                status = path.lstat()
                content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                found[str(path)] = (status.st_mode, hashlib.sha256(content).hexdigest())
    return found


def _work() -> None:
    """Run the commands, each in a tree that is made anew where something was changed."""
    given = json.loads(sys.stdin.buffer.read().decode("utf-8", "surrogateescape"))
    scratch = Path(given["scratch"])
    listener = socket.create_server(("127.0.0.1", PORT))
    listener.setblocking(False)
    bad: list[str] = []
    tree = _make_tree(scratch)
    before = _look([scratch])
    for text in given["commands"]:
        _run_one(text, tree, scratch)
        after = _look([scratch])
        did = [f"{'changed' if path in before else 'made'} {path}" for path in after if after[path] != before.get(path)]
        did += [f"removed {path}" for path in before if path not in after]
        with contextlib.suppress(BlockingIOError):
            listener.accept()[0].close()
            did.append("connected")
        if did:
            bad.append(f"{text!r}: {', '.join(did)}")
            for each in ("tree", "outside", "bin"):
                shutil.rmtree(scratch / each, ignore_errors=True)
            tree = _make_tree(scratch)
            before = _look([scratch])
    sys.stdout.write(json.dumps(bad))


def _run_one(text: str, tree: Path, scratch: Path) -> None:
    environment = {
        "PATH": f"{scratch}/bin:/usr/bin:/bin",
        "HOME": f"{scratch}/outside/home",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "PAGER": "cat",
        "X": "a[$(mark)]",
        "S": "w out",
    }
    with subprocess.Popen(
        ["/bin/bash", "--norc", "--noprofile", "-c", text],
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as running:
        try:
            running.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)


def main() -> int:
    """Run, print what did more than read, and say by the exit status whether anything did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="how many commands (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first batch")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        _work()
        return 0
    found = []
    for number, start in enumerate(range(0, arguments.count, 2000)):
        batch = run(arguments.seed + number, min(2000, arguments.count - start))
        print(f"seed {arguments.seed + number}: {len(batch)} of 2,000 commands did more than read", flush=True)
        found += batch
        for line in batch:
            print("   ", line, flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
