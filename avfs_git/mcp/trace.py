"""What a tool did, as attributes of the span of its call; and the trace that a server belongs to.

Decided here: the names `avfs.*`. The package `mcp` makes a span of each call of a tool, described as OpenTelemetry
has it for tools of agents (`gen_ai.operation.name` is `execute_tool`), below the `traceparent` of the call's `_meta`.
The API of OpenTelemetry comes with that package, and does nothing until a program configures it, such as
`opentelemetry-instrument`. A command, a checkpoint and a merge are each a tool, so that the attributes of one span
say all. `tool` and `cli.commands.running.mcp` call this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.context import attach
from opentelemetry.propagate import extract
from opentelemetry.trace import get_current_span

from avfs_git.errors import AvfsError

_NAMED = ("vault", "fork", "outcome", "commit", "checkpoint", "exit_code", "duration_ms")
"""Fields of results that are attributes by the same name."""
_COUNTED = ("changed_files", "conflicts")


def join(carrier: Mapping[str, str]) -> None:
    """Make what this process does a part of a trace, named by `traceparent` and `tracestate`."""
    if carrier:
        attach(extract(carrier))


def note_result(record: Mapping[str, Any]) -> None:
    """Describe what a call did, from its record."""
    span = get_current_span()
    if not span.is_recording():
        return
    for name in _NAMED:
        value = record.get(name)
        value = value.get("id", value.get("name")) if isinstance(value, dict) else value
        if isinstance(value, str | int | float):
            span.set_attribute(f"avfs.{name}", value)
    for name in _COUNTED:
        if isinstance(record.get(name), list):
            span.set_attribute(f"avfs.{name}", len(record[name]))


def note_error(error: AvfsError) -> None:
    """Describe why a call failed: by the code of the error, never by its text, which may hold names of files."""
    span = get_current_span()
    if span.is_recording():
        span.set_attribute("avfs.error", error.code)
