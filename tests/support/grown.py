"""A vault that many agents used for a long time, made in seconds: forks, checkpoints, labels, a long operation log.

Decided here: what such a vault holds. git makes commits and refs (`git fast-import`): avfs reads them like its own. The
lines of the log have the form of docs/design/format.md; most are of operations that changed files only. avfs makes one
fork, `main`. Benchmarks and tests use it.
"""

from __future__ import annotations

import json
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

from avfs_git.sdk import Home, Vault

START_S = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much a grown vault holds."""

    forks: int = 500
    checkpoints: int = 10_000
    labels: int = 10_000
    operations: int = 100_000
    packs: int = 1
    loose: bool = True
    """Whether each ref has a file of its own, as avfs leaves them."""


def grow(home: Home, name: str, size: Size) -> Vault:
    """Make a vault with a fork `main`, and let it grow."""
    vault = home.create_vault(name)
    workspace = vault.workspace("main")
    workspace.write("readme", b"hello\n")
    workspace.checkpoint("first")
    git_dir = vault.path
    first = _git(git_dir, "rev-parse", "main")
    heads = _make_history(git_dir, size)
    _make_labels(git_dir, heads, size)
    _write_log(git_dir, heads, first, size)
    return vault


def _git(git_dir: Path, *arguments: str, given: bytes = b"") -> str:
    return (
        subprocess.run(["git", "-C", git_dir, *arguments], input=given, check=True, capture_output=True)
        .stdout.decode()
        .strip()
    )


def _make_history(git_dir: Path, size: Size) -> dict[str, list[str]]:
    """Make forks with their checkpoints; give the commits of each, the oldest first."""
    each = max(1, size.checkpoints // size.forks)
    lines: list[bytes] = []
    mark = 0
    marks: dict[str, list[int]] = {}
    for number in range(size.forks):
        fork = f"task-{number:04}"
        for step in range(each):
            mark += 1
            text = b"%d %d\n" % (number, step)
            when = START_S + mark * 60
            lines.append(
                b"commit refs/heads/%s\nmark :%d\ncommitter A <a@example.org> %d +0000\ndata %d\n%s"
                % (fork.encode(), mark, when, len(text), text)
            )
            if not step:
                lines.append(b"from refs/heads/main^0\n")
            lines.append(b"M 100644 inline src/f%d.txt\ndata %d\n%s\n" % (step % 7, len(text), text))
            marks.setdefault(fork, []).append(mark)
    table = git_dir / "marks"
    subprocess.run(
        ["git", "-C", git_dir, "fast-import", "--quiet", f"--export-marks={table}"], input=b"".join(lines), check=True
    )
    oids = dict(line.split() for line in table.read_text().splitlines())
    table.unlink()
    return {fork: [oids[f":{number}"] for number in numbers] for fork, numbers in marks.items()}


def _make_labels(git_dir: Path, heads: dict[str, list[str]], size: Size) -> None:
    places = [(fork, at, oid) for fork, oids in heads.items() for at, oid in enumerate(oids)]
    refs = [(f"refs/avfs/checkpoints/{fork}/step-{at}", oid) for fork, at, oid in places[: size.labels]]
    if size.loose:
        for fork in heads:
            (git_dir / f"refs/avfs/checkpoints/{fork}").mkdir(parents=True, exist_ok=True)
        for ref, oid in refs:
            (git_dir / ref).write_text(f"{oid}\n")
    else:
        _git(git_dir, "update-ref", "--stdin", given="".join(f"create {ref} {oid}\n" for ref, oid in refs).encode())
        _git(git_dir, "pack-refs", "--all")


def _write_log(git_dir: Path, heads: dict[str, list[str]], first: str, size: Size) -> None:
    """Append operations to the log: the making of each fork, its checkpoints, and between them changes of files."""
    path = git_dir / "avfs" / "oplog"
    number = len(path.read_bytes().splitlines())
    records: list[dict[str, object]] = []

    def add(fork: str, kind: str, text: str, **facts: object) -> None:
        empty: dict[str, object] = {"moves": [], "before": None, "after": None, "target": None, "more": {}}
        records.append({"fork": fork, "kind": kind, "text": text, "at": 0, **empty, **facts})

    base: dict[str, object] = {"base": first, "sidecar": None, "parent": "main", "upstream": None, "forked_at": first}
    base |= {"ephemeral": False, "author": None, "by": "main"}
    for fork in heads:
        add(fork, "fork_create", f"fork {fork} from main", moves=[[f"refs/heads/{fork}", None, first]], more=base)
    checkpoints = sum(map(len, heads.values()))
    between = max(0, size.operations - len(heads) - checkpoints) // max(1, checkpoints)
    for step in range(max(map(len, heads.values()))):
        for fork, oids in heads.items():
            if step >= len(oids):
                continue
            old = oids[step - 1] if step else first
            for _ in range(between):
                add(fork, "files", "write src/f.txt", before=old, after=old, more={"exact": True, "captured_ns": 1})
            moves = [
                [f"refs/heads/{fork}", old, oids[step]],
                [f"refs/avfs/checkpoints/{fork}/step-{step}", None, oids[step]],
            ]
            add(fork, "checkpoint", f"checkpoint step-{step}", moves=moves, before=old, after=oids[step])
    lines: list[bytes] = []
    for at, record in enumerate(records, number + 1):
        body = json.dumps({"id": at, **record, "at": START_S * 10**9 + at * 10**9}, separators=(",", ":")).encode()
        lines.append(b"%08x %s\n" % (zlib.crc32(body), body))
    with path.open("ab") as log:
        log.writelines(lines)
