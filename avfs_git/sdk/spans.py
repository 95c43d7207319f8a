"""Spans of OpenTelemetry: one for each command, checkpoint and merge.

Decided here: the names of spans and of their attributes `avfs.*`. A span is made where the program, or
`opentelemetry-instrument` around it, has loaded the API of OpenTelemetry; else nothing is imported, and nothing costs.
An error is told by its code, never by its text, which may hold names of files. The parts of `sdk` call `span`,
`mcp.trace` describes the spans of its tools in the same way. Any thread may; a span ends in the thread that began it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from avfs_git.errors import AvfsError
from avfs_git.values import as_dict

if TYPE_CHECKING:
    from avfs_git.sdk.handle import ForkHandle

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _OfFork(Protocol):
    """A part of `Workspace`."""

    _at: ForkHandle


_W = TypeVar("_W", bound=_OfFork)

_NAMED = ("vault", "fork", "outcome", "commit", "checkpoint", "exit_code", "duration_ms")
"""Fields of results that are attributes by the same name."""
_COUNTED = ("changed_files", "conflicts")


def traced(method: Callable[Concatenate[_W, _P], _T]) -> Callable[Concatenate[_W, _P], _T]:
    """Make a span of each call of a method, by the method's name."""

    @functools.wraps(method)
    def called(self: _W, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with span(method.__name__, self._at) as note:
            result = method(self, *args, **kwargs)
            note(result)
            return result

    return called


@contextmanager
def span(name: str, at: ForkHandle) -> Iterator[Callable[[object], None]]:
    """Make a span of what the block does; the block gives its result to the function that it gets."""
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None:
        yield lambda _: None
        return
    made = api.get_tracer("avfs_git").start_span(name, attributes={"avfs.vault": at.core.name, "avfs.fork": at.fork})
    try:
        yield lambda result: describe(made, as_dict(result))
    except AvfsError as error:
        made.set_attribute("avfs.error", error.code)
        made.set_status(api.StatusCode.ERROR)
        raise
    finally:
        made.end()


def describe(made: Any, result: Mapping[str, Any]) -> None:
    """Set the attributes of a span from the fields of a result."""
    if not made.is_recording():
        return
    for name in _NAMED:
        value = result.get(name)
        value = value.get("id", value.get("name")) if isinstance(value, dict) else getattr(value, "id", value)
        if isinstance(value, str | int | float):
            made.set_attribute(f"avfs.{name}", value)
    for name in _COUNTED:
        if isinstance(result.get(name), list | tuple):
            made.set_attribute(f"avfs.{name}", len(result[name]))


def join(carrier: Mapping[str, str]) -> None:
    """Make this process's work part of the trace in `traceparent` and `tracestate`, if OpenTelemetry is loaded."""
    if carrier and "opentelemetry.trace" in sys.modules:
        from opentelemetry.context import attach  # noqa: PLC0415 - not everybody has it
        from opentelemetry.propagate import extract  # noqa: PLC0415 - the same

        attach(extract(carrier))
