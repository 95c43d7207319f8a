"""What tags and metadata look like to people."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from avfs_git.cli.output.quoting import quote_path

if TYPE_CHECKING:
    from avfs_git.cli.output.text import TextOutput
    from avfs_git.model import PathMeta, TagList


def meta_get(text: TextOutput, result: PathMeta) -> None:
    """Show the tags and a line of each key; of one key its value alone."""
    if text.request.get("key") is not None:
        text.line(_show(result.entries[0].value))
    elif result.tags or result.entries:
        tags = ", ".join(_show(os.fsencode(tag)) for tag in result.tags)
        text.facts(
            [("tags", tags or None), *((_show(os.fsencode(entry.key)), _show(entry.value)) for entry in result.entries)]
        )
    else:
        text.line((quote_path(result.path), "bold"), " has no tags and no metadata")


def meta_set(text: TextOutput, result: PathMeta) -> None:
    """Say what the key is now."""
    key, value = (_show(os.fsencode(str(text.request[name]))) for name in ("key", "value"))
    text.line("Set ", (key, "bold"), " of ", (quote_path(result.path), "bold"), f" to {value}")


def meta_delete(text: TextOutput, result: PathMeta) -> None:
    """Say which key is gone."""
    text.line(
        "Deleted ", (_show(os.fsencode(str(text.request["key"]))), "bold"), " of ", (quote_path(result.path), "bold")
    )


def meta_tag(text: TextOutput, result: PathMeta) -> None:
    """Say which tags the path has now."""
    tags = ", ".join(_show(os.fsencode(tag)) for tag in result.tags)
    what = f" has the tag{'' if len(result.tags) == 1 else 's'} {tags}" if tags else " has no tags"
    text.line((quote_path(result.path), "bold"), what)


meta_untag = meta_tag


def meta_tags(text: TextOutput, result: TagList) -> None:
    """List the tags with their counts."""
    rows = ((_show(os.fsencode(tag.tag)), str(tag.count)) for tag in result.tags)
    text.table(("Tag", "Paths"), rows, right=("Paths",))


def _show(value: bytes) -> str:
    return quote_path(value) if value else ""
