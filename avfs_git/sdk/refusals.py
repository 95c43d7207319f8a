"""Refused operations in the audit log of a vault.

Decided here: which refusals have a line. It has the name of the operation, the fork that was meant, the error's code as
`refused`, and its message. File calls, looks and dry runs have none, nor has what the disk, avfs itself or the end of
the process stopped. The parts of `sdk` mark their methods with `noted`; an operation that consists of others has one
line, or one for each fork that was meant. A line that cannot be written is left out: nothing has changed that it would
have to account for. Any thread and process may.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from avfs_git.errors import AvfsError, HostError, InternalError, Interrupted, Terminated
from avfs_git.paths import is_fork_name
from avfs_git.workspace.vault.format import HEADS
from avfs_git.workspace.vault.log.audit import REFUSED

if TYPE_CHECKING:
    from avfs_git.workspace.vault.vault import OpenVault

_P = ParamSpec("_P")
_T = TypeVar("_T")
_S = TypeVar("_S")
_Method = Callable[Concatenate[_S, _P], _T]
_NO_REFUSALS = (HostError, InternalError, Interrupted, Terminated)
_NAMING = ("fork", "forks", "name")
"""Parameters of methods of `Vault` that name the forks that are meant."""


def noted(kind: str) -> Callable[[_Method[_S, _P, _T]], _Method[_S, _P, _T]]:
    """Note each refusal by a method of `Vault` or `Workspace`, under the operation's kind in the operation log."""

    def decorate(method: _Method[_S, _P, _T]) -> _Method[_S, _P, _T]:
        code = method.__code__
        parameters = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
        naming = next((name for name in _NAMING if name in parameters), None)

        @functools.wraps(method)
        def called(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
            try:
                return method(self, *args, **kwargs)
            except _NO_REFUSALS:
                raise
            except AvfsError as error:
                if not kwargs.get("dry_run"):
                    meant = {**dict(zip(parameters, args, strict=False)), **kwargs}.get(naming or "")
                    _note(self, kind, error, meant, or_default=naming == "forks")
                raise

        return called

    return decorate


def _note(part: Any, kind: str, error: AvfsError, meant: object, *, or_default: bool) -> None:
    at = getattr(part, "_at", None)
    core: OpenVault = part._core if at is None else at.core  # noqa: SLF001 - the classes of this package are one interface
    if error.is_noted or not core.audit.path.exists():  # a vault in which avfs has done nothing stays as it is
        return
    error.is_noted = True
    done: Any = error.details.get("pushed", ())
    with suppress(AvfsError, OSError):
        if at is not None:
            meant = at.fork
        elif or_default and not meant:
            meant = core.default_fork()
        for fork in meant if isinstance(meant, list | tuple) else [meant]:
            named = fork if isinstance(fork, str) and is_fork_name(fork) else None
            if f"{HEADS}{named}" not in done:
                core.audit.append(kind, fork=named, details={REFUSED: error.code, "text": error.message})
