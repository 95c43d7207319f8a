"""What git would store in another form is warned of where it is saved as it is.

Git itself says for which files that is.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from avfs_git.model import Warning
from avfs_git.sdk import Avfs

CODE = "attributes.not_applied"
ATTRIBUTES = b"""*.bin filter=lfs
secret* filter=git-crypt diff=git-crypt
*.txt text
*.auto text=auto
*.crlf eol=crlf
*.raw -text
*.wide working-tree-encoding=UTF-16LE
*.id ident
"""
FILES: dict[str, bytes] = {
    "a.bin": b"large",
    "pointer.bin": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "secrets": b"password",
    "secrets-locked": b"\0GITCRYPT\0x",
    "a.txt": b"one\r\ntwo\r\n",
    "plain.txt": b"one\n",
    "a.auto": b"one\r\n",
    "binary.auto": b"\0one\r\n",
    "a.crlf": b"one\r\n",
    "a.raw": b"one\r\n",
    "a.wide": "wide\n".encode("utf-16-le"),
    "a.id": b"$Id: 1 $\n",
    "none.id": b"no keyword\n",
    "other": b"one\r\n",
}
CONFIG = ["-c", "filter.lfs.clean=sed s/^large/L/", "-c", "filter.git-crypt.clean=tr p P"]


def _told(warnings: tuple[Warning, ...]) -> str:
    return "\n".join(warning.message for warning in warnings if warning.code == CODE)


def _make(place: Path) -> list[str]:
    """Make the files; give those of which git stores something else than what is in them."""
    place.mkdir()
    subprocess.run(["git", "init", "-q", place], check=True)
    (place / ".gitattributes").write_bytes(ATTRIBUTES)
    for name, content in FILES.items():
        (place / name).write_bytes(content)
    changed = []
    for name in FILES:
        stored, plain = (
            subprocess.run(
                ["git", "-C", place, *CONFIG, "hash-object", *more, name], check=True, capture_output=True, text=True
            ).stdout
            for more in ([], ["--no-filters"])
        )
        if stored != plain:
            changed.append(name)
    return changed


def test_what_git_would_convert_is_named_by_an_import_and_by_a_checkpoint(tmp_path: Path) -> None:
    """Just those files, and no others: git is asked. A file that nothing has changed since is named no more."""
    changed = _make(tmp_path / "source")
    expected = {"a.bin", "secrets", "a.txt", "a.auto", "a.crlf", "a.wide", "a.id"}
    assert set(changed) == expected
    with Avfs(tmp_path / "home") as home, home.create_vault("v") as vault:
        work = vault.workspace()
        work.write(".gitattributes", ATTRIBUTES)
        for name, content in FILES.items():
            work.write(name, content)
        told = _told(work.checkpoint("one").warnings)
        assert {name for name in FILES if f"'{name}'" in told} == expected
        work.write("other", b"more")
        assert not _told(work.checkpoint("two").warnings)
        work.write("secrets", b"passwords")
        assert "filter=git-crypt" in _told(work.checkpoint("three").warnings)
        work.write("secrets", b"another")
        work.restore("three")
        assert not _told(work.restore("two").warnings)


def test_an_import_names_them(tmp_path: Path) -> None:
    """What git stored as it is, is not named; what avfs takes from the files is."""
    source = tmp_path / "source"
    _make(source)
    git = ["git", "-C", os.fspath(source), *CONFIG, "-c", "user.name=A", "-c", "user.email=a@b"]
    with Avfs(tmp_path / "home") as home:
        with home.create_vault("all", source=source) as vault:
            assert "'secrets'" in _told(vault.warnings)
        subprocess.run([*git, "add", "."], check=True, capture_output=True)
        subprocess.run([*git, "commit", "-qm", "all"], check=True)
        with home.create_vault("one", source=source) as vault:
            told = _told(vault.warnings)
            assert not any(f"'{name}'" in told for name in ("pointer.bin", "plain.txt", "a.raw", "none.id", "other"))


@pytest.mark.parametrize("value", ["true", "input", "false"])
def test_a_clone_that_converts_line_ends_says_so_when_it_is_taken_in(tmp_path: Path, value: str) -> None:
    """By `core.autocrlf`, without any attribute: else the first checkpoint puts CRLF into history without a word."""
    source = tmp_path / "source"
    git = ["git", "-C", os.fspath(source), "-c", "user.name=A", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", source], check=True)
    for name, content in {"a.txt": b"one\n", "kept.txt": b"one\r\n", "binary": b"\0\n", "same.txt": b"one\n"}.items():
        (source / name).write_bytes(content)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    subprocess.run([*git, "config", "core.autocrlf", value], check=True)
    (source / "a.txt").write_bytes(b"one\r\ntwo\r\n")
    (source / "kept.txt").write_bytes(b"one\r\ntwo\r\n")
    (source / "binary").write_bytes(b"\0\r\n")
    expected = [] if value == "false" else ["a.txt"]
    with Avfs(tmp_path / "home", remote_environment=os.environ) as home:
        with home.create_vault("v", source=source) as vault:
            assert [name for name in os.listdir(source) if f"'{name}'" in _told(vault.warnings)] == expected
        with home.fork_directory(source, tmp_path / "tree") as session:
            assert [name for name in os.listdir(source) if f"'{name}'" in _told(session.vault.warnings)] == expected
