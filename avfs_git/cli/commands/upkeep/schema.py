"""`avfs schema`: the JSON Schema of what a command writes with `--json`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.table import program
from avfs_git.cli.verb import Verb, verb
from avfs_git.errors import InvalidInput, quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from avfs_git.cli.results import SchemaResult


@verb("schema", looks=True, view="vaults", pages=True, example="avfs schema status_result")
@click.argument("kind", required=False)
def command(_state: State, kind: str | None) -> SchemaResult:
    """Print the JSON Schema of a command's JSON document

    KIND is the `kind` of the document, such as `status_result`; without it, all kinds are listed.
    """
    known = {known.kind: known for known in _verbs(program, click.get_current_context())}
    if kind is None:
        return {"kind": None, "kinds": sorted(known), "document": None}
    found = known.get(kind) or known.get(f"{kind}_result")
    if found is None:
        from difflib import get_close_matches  # noqa: PLC0415 - only after a mistake

        near = get_close_matches(kind, known, n=1)
        hint = f"Did you mean `avfs schema {near[0]}`?" if near else "List them with `avfs schema`."
        raise InvalidInput(f"there is no kind of document {quote(kind)}", hint=hint)
    return {"kind": found.kind, "kinds": [], "document": describe(found)}


def describe(found: Verb) -> dict[str, object]:
    """Describe the documents of a verb."""
    from collections.abc import Mapping, Sequence  # noqa: PLC0415 - only here
    from pathlib import Path  # noqa: PLC0415 - only here

    from avfs_git import model  # noqa: PLC0415 - only here
    from avfs_git.cli import results  # noqa: PLC0415 - only here
    from avfs_git.proxy.exec import envelope, steplog  # noqa: PLC0415 - only here
    from avfs_git.proxy.policy import approvals, decision  # noqa: PLC0415 - only here
    from avfs_git.schema import document_schema  # noqa: PLC0415 - only here
    from avfs_git.workspace.vault.log import audit  # noqa: PLC0415 - only here

    names: dict[str, object] = {
        "CheckpointValue": model.Checkpoint,
        "Mapping": Mapping,
        "Sequence": Sequence,
        "Path": Path,
    }
    for module in (model, envelope, steplog, approvals, audit, decision, results):
        names |= {name: held for name, held in vars(module).items() if not name.startswith("_")}
    returned: str = getattr(found.callback, "__wrapped__").__annotations__["return"]  # noqa: B009 - untyped
    types = [names[name] for name in returned.split(" | ") if name != "None"]
    return document_schema(found.kind, *types, names=names)


def _verbs(group: click.Group, ctx: click.Context) -> Iterator[Verb]:
    """Visit all verbs, which loads them."""
    for name in group.list_commands(ctx):
        found = group.get_command(ctx, name)
        if isinstance(found, click.Group):
            yield from _verbs(found, ctx)
        elif isinstance(found, Verb):
            yield found
