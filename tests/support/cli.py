"""Run the command line in a test: in this process, or as a program of its own; and compare whole outputs."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from avfs_git.cli import app


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    arguments: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "surrogateescape")

    @property
    def document(self) -> dict[str, Any]:
        """The one document that `--json` gives."""
        document: dict[str, Any] = json.loads(self.stdout)
        return document

    @property
    def result(self) -> Any:
        """What a successful document holds."""
        document = self.document
        assert document["error"] is None, document["error"]
        return document["result"]

    def ok(self) -> Ran:
        """Demand success."""
        assert self.status == 0, (self.arguments, self.status, self.text, self.stderr)
        return self


class _Stream(io.TextIOWrapper):
    """A standard stream that is not a terminal."""

    def __init__(self, data: bytes = b"") -> None:
        self.bytes = io.BytesIO(data)
        super().__init__(self.bytes, encoding="utf-8", errors="surrogateescape", write_through=True)


class Cli:
    """Runs `avfs` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ran:
        """Run one command line."""
        with self._monkeypatch.context() as patch:
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            out, err = _Stream(), _Stream()
            patch.setattr(sys, "stdin", _Stream(stdin))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            status = app.run(list(arguments))
        return Ran(arguments, status, out.bytes.getvalue(), err.bytes.getvalue().decode("utf-8", "surrogateescape"))


class Transcript:
    """Runs commands and keeps what they showed, to be compared as a whole."""

    def __init__(self, cli: Cli, places: Mapping[str, Path]) -> None:
        self._cli = cli
        self._places = places
        self._parts: list[str] = []

    def __call__(self, line: str, *, stdin: bytes = b"", status: int = 0) -> Ran:
        """Run one line, without its `avfs`; a place is written `$NAME`."""
        arguments = shlex.split(line)
        for name, place in self._places.items():
            arguments = [argument.replace(f"${name.upper()}", str(place)) for argument in arguments]
        ran = self._cli(*arguments, stdin=stdin)
        assert ran.status == status, (line, ran.status, ran.text, ran.stderr)
        shown = ran.text
        if shown.startswith('{"schema_version"'):
            shown = json.dumps(json.loads(shown), ensure_ascii=False, indent=2) + "\n"
        self._parts.append(f"$ avfs {line}\n{shown}{ran.stderr}" + (f"[{ran.status}]\n" if ran.status else ""))
        return ran

    @property
    def text(self) -> str:
        """Everything so far, normalised."""
        return normalise("\n".join(self._parts), **self._places)


def spawn(*arguments: str | bytes, stdin: bytes = b"", env: Mapping[str, str] | None = None, **settings: Any) -> Ran:
    """Run `avfs` as a program of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "avfs_git", *arguments],
        input=None if "stdin" in settings else stdin,
        capture_output="stdout" not in settings,
        check=False,
        env={**os.environ, **(env or {})},
        **settings,
    )
    shown = tuple(os.fsdecode(argument) for argument in arguments)
    return Ran(shown, done.returncode, done.stdout or b"", (done.stderr or b"").decode("utf-8", "replace"))


_TIME = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_ID = re.compile(r"\b[0-9a-f]{40}\b")


def normalise(text: str, **places: Path) -> str:
    """Replace what differs from run to run: times, ids (numbered as they come), and places."""
    for name, place in places.items():
        text = text.replace(str(place), f"${name.upper()}")
    text = _TIME.sub("<time>", text)
    seen: dict[str, str] = {}
    return _ID.sub(lambda match: seen.setdefault(match[0], f"<id {len(seen) + 1}>"), text)
