"""A vault to run commands in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import Cli


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small directory with files of several kinds, one of them ignored."""
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / ".gitignore").write_text("*.log\n")
    (root / "README").write_text("hello\n")
    (root / "src/main.py").write_text("print(1)\nprint(2)\nprint(3)\n")
    (root / "src/data.bin").write_bytes(b"\0\1\2")
    (root / "build.log").write_text("ignored\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("README")
    return root


@pytest.fixture
def work(cli: Cli, project: Path) -> str:
    """A vault made from the directory; the current one."""
    cli("vault", "create", "work", "--from", str(project)).ok()
    return "work"
