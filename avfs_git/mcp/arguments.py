"""The arguments that several tools share, as their schemas describe them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

VaultName = Annotated[str | None, Field(description="The vault; the server's own if not given.")]
ForkName = Annotated[str | None, Field(description="The fork; the server's own, or the vault's default fork, if not given.")]
TreePath = Annotated[str, Field(description="A path in the workspace, from its root; a leading slash makes no difference.")]
State = Annotated[
    str, Field(description="A checkpoint's label, a fork, the id of a commit (four letters or more), or HEAD; `~N` steps back.")
]
Paths = Annotated[list[str], Field(description="Only these paths and what is below them; everything if empty.", max_length=1000)]
Offset = Annotated[int, Field(ge=0, description="Where to begin; `next_offset` of the answer before.")]
