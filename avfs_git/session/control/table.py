"""The table of operations: what a workspace can be asked for by name.

Decided here: what is known of an operation beside its function. `session.control.operations` fills the table;
`sdk.dispatch`, the client and the control thread of a session look into it. `session.control.wire` carries the types of
a signature.

`repeatable` operations may be asked again when the answer was lost with the process that gave it: doing them twice is
as doing them once. `flushes` says that what programs have mapped into memory is to be written out first.
"""

from __future__ import annotations

import functools
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from avfs_git.session.control.wire import Outgoing, codec_of
from avfs_git.values import value_class

_F = TypeVar("_F", bound=Callable[..., Any])


@value_class
class Operation:
    """One entry of the table."""

    name: str
    function: Callable[..., Any]
    repeatable: bool
    flushes: bool
    changes: bool
    """Whether it may change files or refs."""

    def only_looks(self, args: Sequence[object], given: Mapping[str, object]) -> bool:
        """Whether it changes nothing, called with these arguments."""
        return not self.changes or {**dict(zip(self.signature[0], args, strict=False)), **given}.get("dry_run") is True

    def discard(self, result: object) -> None:
        """Close what is open in a result that is not used."""
        codec_of(self.signature[1])[0](result, unused := Outgoing())
        for handle in unused.handles:
            os.close(handle)

    @property
    def signature(self) -> tuple[dict[str, Any], Any]:
        """The types of the arguments after the workspace, and the type of the result."""
        return _signature_of(self.function)

    @property
    def needed(self) -> frozenset[str]:
        """The arguments that must be given."""
        return _needed_by(self.function)


TABLE: dict[str, Operation] = {}
"""The operations by name."""


@functools.cache
def _signature_of(function: Callable[..., Any]) -> tuple[dict[str, Any], Any]:
    hints = typing.get_type_hints(function)
    hints.pop("opened", None)  # the workspace; file calls have it as `self`, without a type
    return hints, hints.pop("return")


@functools.cache
def _needed_by(function: Callable[..., Any]) -> frozenset[str]:
    import inspect  # noqa: PLC0415 - sessions need it, commands do not

    parameters = list(inspect.signature(function).parameters.values())[1:]
    return frozenset(parameter.name for parameter in parameters if parameter.default is parameter.empty)


def operation(*, repeatable: bool = False, flushes: bool = False, changes: bool = True) -> Callable[[_F], _F]:
    """Enter a function into the table."""

    def enter(function: _F) -> _F:
        TABLE[function.__name__] = Operation(function.__name__, function, repeatable, flushes, changes)
        return function

    return enter
