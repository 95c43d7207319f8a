"""Garbage collection while git's own system calls fail: an empty or cut-short answer of git is not believed."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import AvfsError
from tests.support.faults import check_vault, git, make_vault_with_garbage, read_states

pytestmark = [pytest.mark.slow, pytest.mark.needs("git", "user-xattrs", "whiteout")]


def _objects(git_dir: Path) -> set[str]:
    return set(git(git_dir, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split())


def _reached(git_dir: Path) -> set[str]:
    return {line.split()[0] for line in git(git_dir, "rev-list", "--objects", "--all").splitlines()}


def _wrap(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have avfs run a program of this test as git; `$GIT` in it is the real one."""
    directory.mkdir()
    program = directory / "git"
    program.write_text(f"#!/bin/sh\nGIT={shutil.which('git')}\nPATH={os.environ['PATH']}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(
        "avfs_git.gitstore.gitcommand.shutil.which", lambda name: str(program) if name == "git" else None
    )


def _collect_and_check(home: Path) -> AvfsError | None:
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        before, reached = read_states(vault), _reached(vault.path)
        time.sleep(0.02)
        refused = None
        try:
            vault.gc(keep_days=0, keep_operations=1, grace_days=0)
        except AvfsError as error:
            refused = error
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")

        assert read_states(vault) == before
        assert refused is not None or reached >= _reached(vault.path)
        check_vault(vault)
    return refused


DAMAGED = 'name=$("$GIT" "$@") || exit 1; for last; do :; done; chmod u+w "$last-$name".*; %s; echo $name; exit 0;;'
"""Has git make the pack, does something to its files, and says that all went well."""
ANSWERS = {
    "no name of a pack": '"$GIT" "$@" >/dev/null; exit 0;;',
    "nothing done": "exit 0;;",
    "a pack of less": 'head -n 1 | "$GIT" "$@"; exit 0;;',
    "a pack that is cut short": DAMAGED % 'truncate -s -7 "$last-$name.pack"',
    "a pack with a flipped bit": DAMAGED % 'printf X | dd of="$last-$name.pack" bs=1 seek=99 conv=notrunc 2>/dev/null',
    "an index of nothing": DAMAGED % ': >"$last-$name.idx"',
}


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_that_is_not_whole_is_not_believed(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git says success and has not done it: the collection is refused, and every object is where it was."""
    vault = make_vault_with_garbage(tmp_path)
    before = _objects(vault.path)
    vault.close()
    with monkeypatch.context() as patch:
        _wrap(tmp_path / "bin", patch, f'case "$*" in *" pack-objects "*) {ANSWERS[answer]} esac\nexec "$GIT" "$@"')
        refused = _collect_and_check(tmp_path / "home")

    assert refused is not None
    assert _objects(vault.path) >= before
    assert _collect_and_check(tmp_path / "home") is None


@pytest.mark.parametrize("verbs", ['*" rev-list "*', '*" rev-list "*|*" pack-objects "*'])
def test_a_list_without_where_it_began_is_not_believed(
    verbs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where git lists nothing, what it packs cannot be compared with that: the collection is refused."""
    vault = make_vault_with_garbage(tmp_path)
    before = _objects(vault.path)
    vault.close()
    with monkeypatch.context() as patch:
        _wrap(tmp_path / "bin", patch, f'case " $* " in {verbs}) exit 0;; esac\nexec "$GIT" "$@"')
        refused = _collect_and_check(tmp_path / "home")

    assert refused is not None
    assert _objects(vault.path) >= before


@pytest.mark.needs("strace")
@pytest.mark.parametrize("fault", ["write:error=EIO", "write:error=ENOSPC", "fsync:error=EIO", "openat:error=EIO"])
@pytest.mark.parametrize("verb", ["rev-list", "pack-objects"])
def test_a_git_whose_calls_fail_loses_nothing(
    fault: str, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of git's calls fails, git or the collection says so, or nothing that is reached has gone."""
    make_vault_with_garbage(tmp_path).close()
    for when in (1, 2, 4, "1+"):
        home = tmp_path / f"home-{when}"
        subprocess.run(["cp", "-a", tmp_path / "home", home], check=True)
        call = fault.partition(":")[0]
        strace = f'exec strace -f -qq -o /dev/null -e trace={call} -e inject={fault}:when={when} "$GIT" "$@"'
        with monkeypatch.context() as patch:
            _wrap(tmp_path / f"bin-{when}", patch, f'case "$*" in *\' {verb} \'*) {strace};; esac\nexec "$GIT" "$@"')
            _collect_and_check(home)
