"""Random walks of a workspace whose rules change: what is in history stays there, what is beside it stays beside it.

Decided here: the model. What the branch tracks stays tracked while it is there, until git takes it out; what a
checkpoint has left beside history stays beside it, until it is added; anything else is as `git check-ignore` says.
What git took out of its index only is out of history as soon as a rule ignores it.
"""

from __future__ import annotations

import random
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import CannotUndo, NothingToUndo
from avfs_git.model import Identity
from avfs_git.sdk import Vault, Workspace
from tests.support.oracle import git
from tests.support.seeds import choose_seed

pytestmark = [pytest.mark.slow, pytest.mark.needs("fuse"), pytest.mark.timeout(300)]

_DIRECTORIES = ("d", "d/e", "d/e/g", "o", "o/p", "q")
_NAMES = ("f.txt", "g.log", "h.o", "k")
_RULES = ("*.log", "/o/", "d/e/", "*.o", "/q/k", "d/e/g/")
_STEPS = (
    "write",
    "write",
    "write",
    "remove",
    "add",
    "untrack",
    "stage",
    "rules",
    "save",
    "save",
    "lose",
    "fold",
    "undo",
)


class _Walk:
    """A workspace, and what the model says of its files.

    Attributes:
        log: What was done, for a failure's message.
    """

    def __init__(self, chosen: random.Random, place: Path, vault: Vault) -> None:
        self._random = chosen
        self._place = place
        self._vault = vault
        self._work = vault.workspace("main")
        self.log: list[tuple[str, object]] = []
        self._tracked = self._list_tracked()
        self._beside = self._list_files() - self._tracked
        self._remade = set[str]()
        """What may be beside history: it was so, and was removed since the last checkpoint or came by an undo."""
        self._staged = set[str]()
        """What is in history and not in git's index."""
        self._left = set[str]()
        """What git took out of its index at any time: an undo may leave that staged."""
        self._undone = set[str]()
        """What of that an undo has brought back to history: it may be in git's index or not."""

    def step(self) -> None:
        """Do something."""
        name = self._random.choice(_STEPS)
        self.log.append((name, getattr(self, f"_{name}")()))

    def _write(self) -> object:
        names = [*_NAMES, f"n{self._random.randrange(9)}", f"m{self._random.randrange(4)}.log"]
        path = f"{self._random.choice(_DIRECTORIES)}/{self._random.choice(names)}"
        self._work.write(path, b"%d\n" % self._random.randrange(10**6))
        return path

    def _remove(self) -> object:
        path = self._choose(self._list_files() - {".gitignore"})
        if path is not None:
            self._work.remove(path)
            self._remade |= {path} & self._beside
            self._beside.discard(path)
        return path

    def _add(self) -> object:
        self._save()
        path = self._choose(self._list_files() - self._tracked)
        if path is not None:
            if self._random.random() < 0.5:
                self._work.add(path, force=True)
            else:
                result = self._work.exec(shell=f"git add -f {path}")
                assert result.exit_code == 0, result
            assert self._list_tracked() == self._tracked | {path}, self.log
            self._take()
        return path

    def _untrack(self) -> object:
        self._save()
        path = self._choose(self._tracked - self._staged - self._undone - {".gitignore"})
        if path is not None:
            self._staged.clear()  # is committed, too
            self._left.add(path)
            result = self._work.exec(shell=f"git rm -q --cached {path} && git commit -q -m untrack")
            assert result.exit_code == 0, result
            self._take()
        return path

    def _stage(self) -> object:
        self._save()
        path = self._choose(self._tracked - self._staged - self._undone - {".gitignore"})
        if path is not None:
            self._staged.add(path)
            self._left.add(path)
            result = self._work.exec(shell=f"git rm -q --cached {path}")
            assert result.exit_code == 0, result
            self._check()
        return path

    def _rules(self) -> object:
        rules = self._random.sample(_RULES, self._random.randrange(4))
        self._work.write(".gitignore", "".join(f"{rule}\n" for rule in rules).encode())
        return rules

    def _lose(self) -> object:
        self._work.close()
        (self._vault.path / "avfs" / "workspaces" / "main" / "statcache").unlink(missing_ok=True)
        self._work = self._vault.workspace("main")
        return None

    def _fold(self) -> object:
        self._work.fold()
        self._check()
        return None

    def _undo(self) -> object:
        self._save()
        files, tracked = self._list_files(), self._tracked
        with suppress(NothingToUndo, CannotUndo):
            self._work.undo()
        self._tracked = self._list_tracked()
        # What comes back may have been beside history, and what is in it no more was perhaps added.
        self._remade |= (self._list_files() - files - self._tracked) | (tracked - self._tracked)
        self._beside -= self._tracked
        self._staged &= self._tracked
        self._undone |= self._left & self._tracked
        return None

    def _save(self) -> object:
        self._work.checkpoint()
        self._check()
        return None

    def _choose(self, paths: set[str]) -> str | None:
        return self._random.choice(sorted(paths)) if paths else None

    def _check(self) -> None:
        there, tracked = self._list_files(), self._list_tracked()
        unclear = (self._remade - (ignored := self._list_ignored(there))) | self._undone
        kept = self._tracked - (self._staged & ignored)
        wanted = {path for path in there if path in kept or (path not in self._beside and path not in ignored)}
        assert tracked - unclear == wanted - unclear, f"{sorted(tracked ^ wanted)} {self.log}"
        self._take()

    def _take(self) -> None:
        self._tracked = self._list_tracked()
        self._staged &= self._tracked
        self._beside = (self._beside | self._list_files()) - self._tracked
        self._remade = set[str]()

    def _list_tracked(self) -> set[str]:
        return set(git("ls-tree", "-r", "--name-only", "main", cwd=self._vault.path).decode().split())

    def _list_files(self) -> set[str]:
        return set(_list_below(self._work, b"/"))

    def _list_ignored(self, paths: set[str]) -> set[str]:
        place = self._place / str(len(self.log))
        place.mkdir(exist_ok=True)
        git("init", "-q", cwd=place)
        for path in paths:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(self._work.read(path))
        told = subprocess.run(
            ["git", "check-ignore", "--no-index", "--stdin"],
            cwd=place,
            input="\n".join(sorted(paths)).encode(),
            check=False,
            capture_output=True,
        )
        return set(told.stdout.decode().split())


def _list_below(work: Workspace, directory: bytes) -> list[str]:
    found: list[str] = []
    for info in work.list_dir(directory):
        path = info.path.strip(b"/")
        found += _list_below(work, b"/" + path) if info.kind == "directory" else [path.decode()]
    return found


def _walk(seed: int, place: Path) -> None:
    chosen = random.Random(seed)
    source = place / "source"
    for directory in _DIRECTORIES:
        (source / directory).mkdir(parents=True)
        for name in _NAMES:
            if chosen.random() < 0.7:
                (source / directory / name).write_text(f"{directory}/{name}\n")
    (source / ".gitignore").write_text("".join(f"{rule}\n" for rule in chosen.sample(_RULES, 2)))
    git("init", "-q", "-b", "main", cwd=source)
    git("add", "-A", cwd=source)
    git("commit", "-q", "-m", "first", cwd=source)
    (place / "ignored").mkdir()
    with Avfs(place / "home", identity=Identity("Ada Author", "ada@example.org")) as avfs:
        walk = _Walk(chosen, place / "ignored", avfs.create_vault("v", source=source))
        for _ in range(40):
            walk.step()


@pytest.mark.parametrize("number", range(8))
def test_what_is_in_history_and_beside_it_stays_there(tmp_path: Path, number: int) -> None:
    """Whatever comes between: rules, the loss of the stat cache, a fold, files beside it. `AVFS_SEED` repeats a run."""
    _walk(choose_seed() + number, tmp_path)
