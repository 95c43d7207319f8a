"""Refused operations in the audit log of a vault.

Decided here: which refusals have a line. It has the name of the operation, the error's code as `refused`, and its
message. File calls, looks and dry runs have none, nor has what the disk, avfs itself or the end of the process stopped.
The parts of `sdk` mark their methods with `noted`; an operation that consists of others has one line. A line that
cannot be written is left out: nothing has changed that it would have to account for. Any thread and process may.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from avfs_git.errors import AvfsError, HostError, InternalError, Interrupted, Terminated
from avfs_git.workspace.vault.log.audit import REFUSED

if TYPE_CHECKING:
    from avfs_git.workspace.vault.vault import OpenVault

_P = ParamSpec("_P")
_T = TypeVar("_T")
_S = TypeVar("_S")
_Method = Callable[Concatenate[_S, _P], _T]
_NO_REFUSALS = (HostError, InternalError, Interrupted, Terminated)


def noted(kind: str) -> Callable[[_Method[_S, _P, _T]], _Method[_S, _P, _T]]:
    """Note each refusal by a method of `Vault` or `Workspace`, under the operation's kind in the operation log."""

    def decorate(method: _Method[_S, _P, _T]) -> _Method[_S, _P, _T]:
        @functools.wraps(method)
        def called(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
            try:
                return method(self, *args, **kwargs)
            except _NO_REFUSALS:
                raise
            except AvfsError as error:
                if not kwargs.get("dry_run"):
                    _note(self, kind, error)
                raise

        return called

    return decorate


def _note(part: Any, kind: str, error: AvfsError) -> None:
    at = getattr(part, "_at", None)
    core: OpenVault = part._core if at is None else at.core  # noqa: SLF001 - the classes of this package are one interface
    if error.is_noted or not core.audit.path.exists():  # a vault in which avfs has done nothing stays as it is
        return
    error.is_noted = True
    with suppress(AvfsError, OSError):
        core.audit.append(
            kind, fork=None if at is None else at.fork, details={REFUSED: error.code, "text": error.message}
        )
