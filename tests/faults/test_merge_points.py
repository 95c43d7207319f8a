"""A merge or rebase with workspace conflicts, interrupted at every fault point as it begins, goes on or is given up."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault
from avfs_git.errors import AvfsError
from tests.support.failing import FailAt, armed
from tests.support.faults import Files, check_vault, copy_home, die_in, git, make_source, make_vault, read_files
from tests.support.seeds import take_points

pytestmark = [pytest.mark.slow, pytest.mark.needs("git", "user-xattrs", "whiteout")]

_NAMED = re.compile(rb"((?:\|{7}|>{7}) )[0-9a-f]{7,12}")
Run = Callable[[Vault], object]


def _part(vault: Vault) -> None:
    side = vault.fork("side", source="work", at="one")
    side.write("a", b"theirs\n")
    side.write("new/file", b"new\n")
    side.write("side/came.log", b"ignored on both sides\n")
    side.checkpoint()
    vault.workspace("work").checkpoint()


def _begin(vault: Vault) -> object:
    return vault.workspace("work").merge("side", on_conflict="workspace")


def _begin_and_resolve(vault: Vault) -> None:
    _part(vault)
    _begin(vault)
    work = vault.workspace("work")
    work.write("a", b"resolved\n")
    work.write("also", b"edited meanwhile\n")


def _begin_after_parting(vault: Vault) -> None:
    _part(vault)


def _begin_where_less_is_ignored(vault: Vault) -> None:
    _part(vault)
    work = vault.workspace("work")
    work.write(".gitignore", b"build/\n")
    work.checkpoint()


def _rebase(vault: Vault) -> object:
    return vault.workspace("work").rebase("side", on_conflict="workspace")


def _rebase_and_resolve(vault: Vault) -> None:
    _part(vault)
    _rebase(vault)
    vault.workspace("work").write("a", b"resolved\n")


def _go_on(vault: Vault) -> object:
    return vault.workspace("work").continue_rewrite()


def _rebase_and_resolve_twice(vault: Vault) -> None:
    _rebase_and_resolve(vault)
    _go_on(vault)
    vault.workspace("work").write("a", b"resolved again\n")


def _give_up(vault: Vault) -> None:
    _begin_and_resolve(vault)
    vault.workspace("work").abort_merge()


def _give_up_and_go_on(vault: Vault) -> None:
    _give_up(vault)
    vault.workspace("work").undo()


CASES: dict[str, tuple[Run, Run]] = {
    "begin": (_begin_after_parting, _begin),
    "begin, and leave out": (_begin_where_less_is_ignored, _begin),
    "continue": (_begin_and_resolve, lambda vault: vault.workspace("work").continue_merge()),
    "abort": (_begin_and_resolve, lambda vault: vault.workspace("work").abort_merge()),
    "go on after all": (_give_up, lambda vault: vault.workspace("work").undo()),
    "abort again": (_give_up_and_go_on, lambda vault: vault.workspace("work").redo()),
    "rebase": (_begin_after_parting, _rebase),
    "rebase to the next conflict": (_rebase_and_resolve, _go_on),
    "leave a commit out": (_rebase_and_resolve, lambda vault: vault.workspace("work").continue_rewrite(skip=True)),
    "rebase to its end": (_rebase_and_resolve_twice, _go_on),
    "give a rebase up": (_rebase_and_resolve_twice, lambda vault: vault.workspace("work").abort_merge()),
}

Seen = tuple[Files, str, str | None]


def _look(vault: Vault) -> Seen:
    """See files, the head's tree, and what of a merge or rebase is going on."""
    work = vault.workspace("work")
    tree = git(vault.path, "rev-parse", "refs/heads/work^{tree}").strip()
    # Commits are named by their ids, which are others in each run.
    files = {path: (kind, mode, _NAMED.sub(rb"\1id", data)) for path, (kind, mode, data) in read_files(work).items()}
    merging = work.status().merging
    return files, tree, re.sub("[0-9a-f]{40} ", "", merging.source) if merging is not None else None


def _open(home: Path) -> Vault:
    return Avfs(home).open_vault("v")


def _prepare(prepare: Run, directory: Path) -> Path:
    home = directory / "home"
    with make_vault(home, make_source(directory / "source")) as vault:
        prepare(vault)
    return home


def _states(case: str, directory: Path) -> tuple[Seen, Seen]:
    prepare, run = CASES[case]
    home = _prepare(prepare, directory)
    with _open(home) as vault:
        old = _look(vault)
        run(vault)
        new = _look(vault)
        check_vault(vault)
    return old, new


def _check(case: str, home: Path, allowed: tuple[Seen, ...], new: Seen) -> None:
    with _open(home) as vault:
        found = _look(vault)

        assert found in allowed, (found[1:], [seen[1:] for seen in allowed])

        check_vault(vault, again=True)
    with _open(home) as vault:
        if found != new:  # it goes on from there, as if nothing had been
            CASES[case][1](vault)

            assert _look(vault) == new
        work = vault.workspace("work")
        if work.status().merging is not None:
            work.abort_merge()
        work.write("after", b"work goes on\n")

        assert work.checkpoint().outcome == "created"
        check_vault(vault)


@pytest.mark.parametrize("case", CASES)
def test_a_death_leaves_the_merge_as_it_was_or_done(case: str, tmp_path: Path) -> None:
    """A process that dies at any step leaves the state before or the one after, files and all."""
    old, new = _states(case, tmp_path / "undisturbed")
    prepare, run = CASES[case]
    made = _prepare(prepare, tmp_path / "made")
    died = True
    for _, point in take_points(0):
        home = copy_home(made, tmp_path / str(point))
        died = die_in(lambda home=home, run=run: run(_open(home)), point)  # type: ignore[misc]  # a default binds the loop's value
        try:
            _check(case, home, (old, new), new)
        except Exception as error:
            error.add_note(f"dying at point {point}")
            raise
        if not died:
            break


@pytest.mark.parametrize("case", CASES)
def test_a_failing_step_leaves_the_merge_as_it_was(case: str, tmp_path: Path) -> None:
    """A step that fails leaves the state before, unless the operation says that it is done."""
    old, new = _states(case, tmp_path / "undisturbed")
    prepare, run = CASES[case]
    made = _prepare(prepare, tmp_path / "made")
    for turn, point in take_points(1):  # where no process dies
        home = copy_home(made, tmp_path / str(point))
        fault = FailAt(point, lambda: OSError(errno.EIO, os.strerror(errno.EIO)))
        vault = _open(home)
        try:
            with armed(fault):
                run(vault)
        except (AvfsError, OSError) as error:
            stays = isinstance(error, AvfsError) and error.details.get("in_force") == "new"
            allowed = (new,) if stays else (old,)
        else:
            allowed = (new,)
        try:
            if turn % 2:
                assert _look(vault) in allowed
            vault.close()
            _check(case, home, allowed, new)
        except Exception as error:
            error.add_note(f"failing at point {point}: {fault.seen[point - 1 :]}")
            raise
        if len(fault.seen) < point:
            break
