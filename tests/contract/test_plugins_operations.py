"""Plug-ins and operations that replace files: each path is asked about before anything is done, whatever the verb."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from avfs_git.errors import PluginRefused
from avfs_git.sdk import Avfs, Vault, Workspace
from tests.support.commands import ALLOW_ALL
from tests.support.plugins import install_guard

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout"), pytest.mark.usefixtures("person")]

GUARD = """
import json
def decide(event):
    with open({seen!r}, "a") as seen:
        seen.write(json.dumps(event) + chr(10))
    if event["path"] and event["path"].startswith("secret"):
        return "secrets stay as they are"
"""


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a plug-in that protects `secret`; the file gets a line for each event."""
    seen = tmp_path / "seen"
    install_guard(tmp_path / "site", GUARD.format(seen=str(seen)), ("decide",), monkeypatch)
    seen.touch()
    return seen


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault with two checkpoints of `main`, and two forks of the first: `clash` conflicts with `main`."""
    policy = tmp_path / "policy.toml"
    policy.write_text(ALLOW_ALL)
    with Avfs(tmp_path / "home", policy=policy) as avfs:
        vault = avfs.create_vault("v")
        work = vault.workspace()
        for label, content in (("one", b"1\n"), ("two", b"2\n")):
            work.write("secret/key", content)
            work.write("a", content)
            work.checkpoint(label)
        side = vault.fork("side", at="one")
        side.write("secret/other", b"x\n")
        side.write("b", b"x\n")
        side.checkpoint("s")
        clash = vault.fork("clash", at="one")
        clash.write("secret/key", b"3\n")
        clash.checkpoint("c")
        yield vault


def told(seen: Path) -> list[dict[str, Any]]:
    """What the plug-in was told of paths."""
    return [event for event in map(json.loads, seen.read_text().splitlines()) if event["path"] is not None]


def look(work: Workspace) -> object:
    """What an operation that is refused leaves as it is."""
    files = {
        info.path: work.read(info.path)
        for name in ("", "secret")
        for info in work.list_dir(name)
        if info.kind == "file"
    }
    return files, work.status().clean, [operation.id for operation in work.operations()]


VERBS: dict[str, Callable[[Vault, Workspace, int], object]] = {
    "restore": lambda _, work, __: work.restore("one"),
    "restore of a path": lambda _, work, __: work.restore("one", paths=["secret"]),
    "checkout": lambda _, work, __: work.checkout_path("secret/key", at="one"),
    "revert": lambda _, work, __: work.revert_path("secret/key"),
    "op restore": lambda vault, _, number: vault.restore_operation(number),
    "merge": lambda _, work, __: work.merge("side"),
    "merge with conflicts": lambda _, work, __: work.merge("clash", on_conflict="workspace"),
    "cherry-pick": lambda _, work, __: work.cherry_pick(["side"]),
    "cherry-pick with conflicts": lambda _, work, __: work.cherry_pick(["clash"], on_conflict="workspace"),
    "rebase": lambda _, work, __: work.rebase("side"),
}


@pytest.mark.parametrize("mounted", [False, pytest.param(True, marks=[pytest.mark.needs("fuse"), pytest.mark.slow])])
def test_an_operation_is_refused_whole_for_one_of_its_paths(
    vault: Vault, seen: Path, tmp_path: Path, mounted: bool
) -> None:
    """With the plug-in, the path and the reason; files, branch and log are as they were."""
    work = vault.workspace()
    first = next(
        operation.id
        for operation in work.operations()
        if operation.kind == "checkpoint" and "one" in operation.description
    )
    vault.enable_plugin("decide")
    with work.mount(tmp_path / "tree") if mounted else nullcontext():
        before = look(work)
        for verb, call in VERBS.items():
            with pytest.raises(
                PluginRefused, match=r"'decide' refuses .* of '/secret/.*': secrets stay as they are"
            ) as refused:
                call(vault, work, first)
            assert look(work) == before, verb
        assert "avfs plugins disable decide" in str(refused.value.hint)


@pytest.mark.parametrize("mounted", [False, pytest.param(True, marks=[pytest.mark.needs("fuse"), pytest.mark.slow])])
def test_undo_and_redo_are_asked_about(vault: Vault, seen: Path, tmp_path: Path, mounted: bool) -> None:
    """Where a plug-in forbids the way back, it is there again when the plug-in is gone."""
    work = vault.workspace()
    work.restore("one")
    vault.enable_plugin("decide")
    with (
        work.mount(tmp_path / "tree") if mounted else nullcontext(),
        pytest.raises(PluginRefused, match="write of '/secret/key'"),
    ):
        work.undo()
    assert work.read("secret/key") == b"1\n"
    vault.disable_plugin("decide")
    work.undo()
    assert (work.read("secret/key"), work.read("a")) == (b"2\n", b"2\n")
    vault.enable_plugin("decide")
    with work.mount(tmp_path / "tree") if mounted else nullcontext(), pytest.raises(PluginRefused):
        work.redo()
    number = next(operation.id for operation in work.operations() if operation.description == "checkpoint two")
    with pytest.raises(PluginRefused):
        work.undo_operation(number)

    assert (work.read("secret/key"), work.read("a")) == (b"2\n", b"2\n")
    assert {(event["path"], event["cause"]) for event in told(seen)} >= {("secret/key", "undo"), ("secret/key", "redo")}


def test_update_and_apply_are_asked_about(vault: Vault, seen: Path, tmp_path: Path) -> None:
    """The files of the fork, or of the directory that gets its changes, are as they were."""
    there = tmp_path / "there"
    there.mkdir()
    side = vault.workspace("side")
    vault.enable_plugin("decide")
    before = look(side)
    with pytest.raises(PluginRefused):
        side.update()
    with pytest.raises(PluginRefused, match="write of '/secret/other'"):
        vault.apply("side", there)

    assert look(side) == before
    assert list(there.iterdir()) == []


@pytest.mark.parametrize("mounted", [False, pytest.param(True, marks=[pytest.mark.needs("fuse"), pytest.mark.slow])])
def test_deciding_on_a_conflict_is_asked_about(vault: Vault, seen: Path, tmp_path: Path, mounted: bool) -> None:
    """And giving the merge up, which brings back what was there: the conflict is undecided until then."""
    work = vault.workspace()
    work.merge("clash", on_conflict="workspace")
    markers = work.read("secret/key")
    vault.enable_plugin("decide")
    with work.mount(tmp_path / "tree") if mounted else nullcontext():
        for call in (
            lambda: work.resolve("secret/key", "theirs"),
            lambda: work.resolve("secret/key", content=b"4\n"),
            work.abort_merge,
        ):
            with pytest.raises(PluginRefused):
                call()
            merging = work.status().merging
            assert merging is not None
            assert len(merging.unresolved) == 1
        assert work.read("secret/key") == markers
    vault.disable_plugin("decide")
    work.abort_merge()

    assert work.read("secret/key") == b"2\n"


def test_each_path_is_told_as_what_happens_to_it(vault: Vault, seen: Path) -> None:
    """A directory that goes is told with all that is in it; a link that is made, with where it leads."""
    work = vault.workspace()
    work.write("d/e/f", b"1\n")
    work.write("mode", b"1\n")
    work.write("kind", b"1\n")
    work.checkpoint("three")
    work.remove("d", recursive=True)
    work.chmod("mode", 0o755)
    work.remove("kind")
    work.symlink("kind", b"a")
    work.write("new/file", b"12\n")
    work.checkpoint("four")
    vault.enable_plugin("decide")
    work.restore("three")
    work.restore("four")
    events = [(event["operation"], event["path"], event.get("target"), event["cause"]) for event in told(seen)]

    assert sorted(events[: len(events) // 2]) == [
        ("mkdir", "d", None, "restore"),
        ("mkdir", "d/e", None, "restore"),
        ("rmdir", "new", None, "restore"),
        ("setattr", "mode", None, "restore"),
        ("unlink", "kind", None, "restore"),
        ("unlink", "new/file", None, "restore"),
        ("write", "d/e/f", None, "restore"),
        ("write", "kind", None, "restore"),
    ]
    assert sorted(events[len(events) // 2 :], key=str) == sorted(
        [
            ("mkdir", "new", None, "restore"),
            ("rmdir", "d", None, "restore"),
            ("rmdir", "d/e", None, "restore"),
            ("setattr", "mode", None, "restore"),
            ("symlink", "kind", "a", "restore"),
            ("unlink", "d/e/f", None, "restore"),
            ("unlink", "kind", None, "restore"),
            ("write", "new/file", None, "restore"),
        ],
        key=str,
    )
