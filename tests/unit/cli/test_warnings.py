"""Every warning of a result reaches the output, also one of a result inside a list or an object."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import click
import pytest

from avfs_git import model
from avfs_git.cli import results, table
from avfs_git.cli.output.envelope import EnvelopeOutput
from avfs_git.cli.verb import Verb
from avfs_git.model import Warning, find_warnings
from avfs_git.proxy.exec import envelope, steplog
from avfs_git.proxy.policy import approvals, decision
from avfs_git.workspace.vault.log import audit

_NAMES: dict[str, Any] = {"Path": Path, "Sequence": Sequence, "CheckpointValue": model.Checkpoint}
for _module in (decision, audit, approvals, steplog, envelope, model, results):
    _NAMES = {**vars(_module), **_NAMES}


def list_verbs(command: click.Command, words: str = "avfs") -> Iterator[tuple[str, Verb]]:
    """List the commands below a group."""
    if isinstance(command, Verb):
        yield words, command
    elif isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from list_verbs(below, f"{words} {name}")


def list_returned() -> list[Any]:
    """List what the commands return: each kind by itself, with the command's name as the id of its test."""
    found = []
    for words, verb in list_verbs(table.program):
        callback: Any = verb.callback
        names = callback.__wrapped__.__annotations__["return"].split(" | ")
        found += [pytest.param(_NAMES[name], id=f"{words} {name}") for name in names if name in _NAMES]
    return found


def make(hint: Any, made: list[Warning], outer: tuple[Any, ...] = ()) -> Any:
    """Make a value of a type in which everything that can have a warning has one of its own."""
    if get_origin(hint) in (Union, UnionType):
        return next((value for kind in get_args(hint) if (value := make(kind, made, outer)) is not None), None)
    if get_origin(hint) in (tuple, list, Sequence):
        return (make(get_args(hint)[0], made, outer),)
    if not isinstance(hint, type) or hint in outer:
        return None
    if hint is Warning:
        made.append(Warning("some.code", f"number {len(made)}"))
        return made[-1]
    if not is_typeddict(hint) and not hasattr(hint, "__match_args__"):
        return None
    hints = get_type_hints(hint, localns=_NAMES)
    values = {name: make(kind, made, (*outer, hint)) for name, kind in hints.items()}
    return values if is_typeddict(hint) else hint(**values)


@pytest.mark.parametrize("returned", list_returned())
def test_all_warnings_of_what_a_command_returns_are_found(returned: Any) -> None:
    """Those of results in lists and in other results, too."""
    made: list[Warning] = []
    value = make(returned, made)

    assert sorted(find_warnings(value), key=lambda one: one.message) == sorted(made, key=lambda one: one.message)


def test_the_types_with_nested_warnings_are_made() -> None:
    """The test above looks into lists, objects and results."""
    for kind, number in (
        (results.Merges, 1),
        (results.MergeAborted, 1),
        (model.UnmountResult, 2),
        (model.PullResult, 4),
    ):
        made: list[Warning] = []
        make(kind, made)
        assert len(made) == number


def test_a_warning_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A pull has those of its merge, and the merge has them, too."""
    told = Warning("some.code", "some text", b"a")
    output = EnvelopeOutput([])
    output.result({"aborted": model.CheckpointResult("created", None, (), (), (told, told))})
    output.close()

    document = json.loads(capsys.readouterr().out)
    assert document["warnings"] == [{"code": "some.code", "message": "some text", "path": "a"}]
