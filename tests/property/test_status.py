"""Status after status, each going on from the one before, against a checkpoint, which goes on from none of them."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from avfs_git.model import Identity
from avfs_git.sdk import Avfs, Vault, Workspace

_NAMES = ["a", "b", "x.log", "d/a", "d/x.log", "d/e/a", "built/a", "built/b"]
_RULES = ["", "*.log\n", "/built/\n", "a\n", "*\n!b\n", "!x.log\n"]


class _Program:
    """Changes a tree, and what git and the vault say of it."""

    def __init__(self, vault: Vault, work: Workspace, shown: Path | None, chance: random.Random) -> None:
        self._vault = vault
        self._work = work
        self._shown = shown
        self._chance = chance
        self._writes = 0

    def take_step(self) -> None:
        """Take one."""
        steps = [self._write] * 5 + [
            self._remove,
            self._move,
            self._change_rules,
            self._change_rules,
            self._change_outside,
        ]
        if self._shown is not None:
            steps += [self._special, self._git]
        self._chance.choice(steps)()

    def _path(self) -> str:
        return self._chance.choice(_NAMES)

    def _write(self) -> None:
        self._put(self._path(), b"%d\n" % self._writes)

    def _put(self, path: str, data: bytes) -> None:
        self._writes += 1
        if self._shown is None:
            self._work.write(path, data)
            return
        place = self._shown / path
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_fifo():
                place.unlink()
            place.write_bytes(data)

    def _remove(self) -> None:
        path = self._chance.choice([*_NAMES, "d", "built", ".gitignore"])
        if self._shown is None:
            if self._work.exists(path):
                self._work.remove(path, recursive=True)
        elif (place := self._shown / path).is_dir():
            shutil.rmtree(place)
        else:
            with contextlib.suppress(OSError):
                place.unlink()

    def _move(self) -> None:
        if self._shown is not None:
            with contextlib.suppress(OSError):
                (self._shown / self._chance.choice(["d", "built", "a"])).rename(
                    self._shown / self._chance.choice(["d", "c", "d/e"])
                )

    def _change_rules(self) -> None:
        self._put(self._chance.choice([".gitignore", "d/.gitignore"]), self._chance.choice(_RULES).encode())

    def _change_outside(self) -> None:
        if self._chance.random() < 0.5:
            (self._vault.path / "info").mkdir(exist_ok=True)
            (self._vault.path / "info" / "exclude").write_text(self._chance.choice(_RULES))
        else:
            self._vault.set_config("sidecar.exclude", self._chance.choice(["", "*.log"]))

    def _special(self) -> None:
        assert self._shown is not None
        place = self._shown / self._path()
        calls: list[Callable[[], object]] = [
            partial(os.mkfifo, place),
            (self._shown / "d" / ".git").mkdir,
            partial(place.chmod, 0o755),
            partial(place.symlink_to, "b"),
        ]
        with contextlib.suppress(OSError):
            self._chance.choice(calls)()

    def _git(self) -> None:
        argv = self._chance.choice(
            [["add", "-f", self._path()], ["rm", "--cached", "-rq", self._path()], ["commit", "-qm", "x"]]
        )
        subprocess.run(["git", *argv], cwd=self._shown, capture_output=True, check=False)


_MOUNTS = [pytest.param(way, marks=pytest.mark.needs("fuse")) for way in ("auto", "fuse")]


@pytest.mark.parametrize("way", [None, *_MOUNTS])
@pytest.mark.parametrize("seed", range(12))
def test_each_status_tells_what_a_checkpoint_records(
    tmp_path: Path, mount_dir: Path, way: str | None, seed: int
) -> None:
    """Whatever the statuses before have seen, and whatever changed since: files, rules, the index, settings."""
    chance = random.Random(seed)
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    for name in ("a", "b", "d/a"):
        (source / name).write_text(name)
    with contextlib.ExitStack() as stack:
        avfs = stack.enter_context(Avfs(tmp_path / "home", identity=Identity("Ada", "ada@example.org")))
        vault = stack.enter_context(avfs.create_vault("v", source=source))
        work, shown = stack.enter_context(vault.workspace("main")), None
        if way is not None:
            shown = mount_dir
            stack.enter_context(work.mount(shown, backend=way))
        program = _Program(vault, work, shown, chance)
        for _ in range(8):
            for _ in range(chance.randint(1, 4)):
                for _ in range(chance.randint(1, 3)):
                    program.take_step()
                told = work.status()
            recorded = work.checkpoint()

            assert (recorded.changed_files, recorded.sidecar_changed) == (told.changed_files, told.sidecar_changed)
