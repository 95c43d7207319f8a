"""A live tree on the kernel's overlayfs: what its session is to stand on.

Decided here: how the base commit of a workspace is found for such a session, which cannot find it by itself (`backends.lower`
stands above it), and what happens when the workspace moves to another base meanwhile. The session is told where the
base is mounted, and gets what counts it as its user; so the base stays for as long as the session, also when who asked for it
is gone. `sdk` calls this.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from avfs_git.backends.lower import LowerMounts
from avfs_git.errors import BaseMoved, InvalidInput
from avfs_git.model import SessionBackend
from avfs_git.paths import oid_of
from avfs_git.session.life.record import FoundSession
from avfs_git.session.life.request import Request
from avfs_git.session.serve.start import check_mountable
from avfs_git.values import replace
from avfs_git.workspace.vault.origin import load_state
from avfs_git.workspace.vault.vault import OpenVault

_TRIES = 5


def on_base(vault: OpenVault, lowers: LowerMounts, request: Request, mount: Callable[[Request], FoundSession]) -> FoundSession:
    """Mount a workspace over its base.

    Raises:
        InvalidInput: If a commit is to be shown: overlayfs shows workspaces.
        FuseUnavailable: If this user may not mount overlayfs.
        AvfsError: As `mount`, or if the base cannot be mounted.
    """
    if request.at is not None:
        raise InvalidInput("a commit cannot be shown through overlayfs", hint="Leave out `--backend`.")
    check_mountable(SessionBackend.OVERLAY)
    for left in reversed(range(_TRIES)):
        state = load_state(vault, vault.layout.workspace(request.fork))
        base = (state.base, state.sidecar, None)
        try:
            if state.base is None:
                return mount(replace(request, base=base))
            own = vault.store.read_commit(oid_of(state.base)).sidecar
            beside = state.sidecar if own is None or state.sidecar != own.hex() else None
            with lowers.holding(state.base, beside, fork=request.fork) as (place, fd):
                return mount(replace(request, base=(state.base, state.sidecar, os.fspath(place)), base_fd=fd))
        except BaseMoved:
            if not left:
                raise
    raise AssertionError("unreachable")
