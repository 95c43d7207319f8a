"""What a tool did, as attributes of the span of its call.

The package `mcp` makes a span of each call of a tool, described as OpenTelemetry has it for tools of agents
(`gen_ai.operation.name` is `execute_tool`), below the `traceparent` of the call's `_meta`. The API of OpenTelemetry
comes with that package, and does nothing until a program configures it, such as `opentelemetry-instrument`. Decided
here: nothing; `sdk.spans` names the attributes. `tool` calls this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import get_current_span

from avfs_git.errors import AvfsError
from avfs_git.sdk.spans import describe


def note_result(record: Mapping[str, Any]) -> None:
    """Describe what a call did, from its record."""
    describe(get_current_span(), record)


def note_error(error: AvfsError) -> None:
    """Describe why a call failed: by the code of the error, never by its text, which may hold names of files."""
    span = get_current_span()
    if span.is_recording():
        span.set_attribute("avfs.error", error.code)
