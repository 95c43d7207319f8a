"""What a server works in, and one tool call: the vault and fork meant, and what the caller is told meanwhile.

Decided here: which vaults and forks a call may name. A vault is a name in the home, never a path, except the vault that
the server was started in. Each call opens its own home and closes it: a vault that was deleted or made anew meanwhile
is seen, and calls share no state. A `Call` belongs to one thread; `cancel` and `message` may be used from any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from avfs_git.errors import ForkNotFound, NoForkChosen, NoForks, OutOfScope, quote
from avfs_git.paths import check_fork_name, check_vault_name

if TYPE_CHECKING:
    from avfs_git.host.locks.locks import Holder
    from avfs_git.model import Warning
    from avfs_git.sdk import Home, Vault, Workspace


class Reach(IntEnum):
    """How far a tool reaches, or a server."""

    FORK = 1
    VAULT = 2
    HOME = 3


class OpenHome(Protocol):
    """Opens the home of a call."""

    def __call__(
        self,
        *,
        on_wait: Callable[[str, Holder | None], object] | None = None,
        on_warnings: Callable[[Sequence[Warning]], object] | None = None,
    ) -> Home:
        """Open it."""


@dataclass(frozen=True)
class Scope:
    """What a server works in."""

    open_home: OpenHome
    vault: str | Path | None = None
    """The vault of calls that name none; the current vault of the home by default."""
    fork: str | None = None
    """The fork of calls that name neither vault nor fork; the vault's default fork by default."""
    reach: Reach = Reach.HOME
    """Whether calls may name other vaults, or other forks of the vault."""
    is_read_only: bool = False
    """Whether there are only tools that change nothing."""

    def choose(self, vault: str | None, fork: str | None) -> tuple[str | Path | None, str | None]:
        """Say which vault and fork a call means.

        Raises:
            OutOfScope: If the server may not work there.
            InvalidName: If no vault can have the name.
        """
        own = self.vault.stem if isinstance(self.vault, Path) else self.vault
        if fork is not None:
            check_fork_name(fork)
        if vault is None or (vault == own and own is not None):
            if fork is None or fork == self.fork or self.reach > Reach.FORK:
                return self.vault, fork if fork is not None else self.fork
            raise OutOfScope(f"fork {quote(fork)}", f"fork {quote(self.fork or '')}")
        if self.reach < Reach.HOME:
            raise OutOfScope(f"vault {quote(vault)}", f"vault {quote(own or '')}")
        return check_vault_name(vault), fork


class Call:
    """One call of a tool."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.warnings: list[Warning] = []
        self.message: str | None = None
        """What is being done, for reports of progress."""
        self.meant: dict[str, str | None] = {"vault": None, "fork": None}
        """The vault and the fork that the call has opened; None for what it does without."""
        self.home = scope.open_home(on_wait=self._wait, on_warnings=self.warnings.extend)
        self._stop: Callable[[], object] | None = None
        self._is_cancelled = False
        self._guard = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.home.close()

    def vault(self, name: str | None = None) -> Vault:
        """Open the vault that is meant."""
        return self._open(self.scope.choose(name, None)[0])

    def workspace(self, vault: str | None = None, fork: str | None = None) -> Workspace:
        """Open the workspace of the fork that is meant."""
        where, name = self.scope.choose(vault, fork)
        try:
            found = self._open(where).workspace(name)
        except ForkNotFound as error:
            if self.scope.reach == Reach.FORK:
                error.hint = "This server works in that fork only: a person brings it back, or starts another server."
            raise
        self.meant["fork"] = found.fork
        return found

    def vault_and_fork(self, vault: str | None, fork: str | None) -> tuple[Vault, str | None]:
        """Open the vault that is meant, and say which of its forks; None if the call and the server name none."""
        where, name = self.scope.choose(vault, fork)
        opened = self._open(where)
        with suppress(NoForkChosen, NoForks):  # then the call works in no fork, or brings one back
            self.meant["fork"] = opened.choose_fork(name)
        return opened, name

    def _open(self, vault: str | Path | None) -> Vault:
        opened = self.home.open_vault(vault)
        self.meant["vault"] = opened.name
        return opened

    def _wait(self, fork: str, holder: Holder | None) -> None:
        by = holder.describe() if holder is not None else "another process"
        self.message = f"waiting for fork {quote(fork)}, which is in use by {by}"

    def report(self, step: str, done: int, total: int) -> None:
        """Note how far something is, as the SDK tells it."""
        self.message = f"{step}: {done} of {total}" if total else f"{step}: {done}"

    def cancel(self) -> None:
        """End what the call does, if it can be ended; from any thread."""
        with self._guard:
            self._is_cancelled = True
            if self._stop is not None:
                self._stop()

    @contextmanager
    def stoppable(self, stop: Callable[[], object]) -> Iterator[None]:
        """Say how what is done in a block can be ended."""
        with self._guard:
            self._stop = stop
            if self._is_cancelled:
                stop()
        try:
            yield
        finally:
            with self._guard:
                self._stop = None
