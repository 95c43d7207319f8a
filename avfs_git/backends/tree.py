"""How a live tree is mounted: by the backend that the user names or, for `auto`, by the best that works here.

Decided here: what `auto` takes. Of root's workspaces it is the kernel's overlayfs, which makes and writes files as fast
as any directory, unless the setting `mount.backend` is `fuse`, the workspace asks for more than overlayfs does
(`_find_want`), or something is in its way; else it is FUSE, or libfuse where the kernel's own protocol is not usable.
The record of the session says why a better backend was passed over. For an ordinary user, for a commit, and where the
setting says so, FUSE is the best.

And how the base commit of a workspace is found for a session on overlayfs, which cannot find it by itself
(`backends.lower` stands above it), and what happens when the workspace moves to another base meanwhile. The session is
told where the base is mounted, and gets what counts it as its user; so the base stays for as long as the session, also
when the process that asked for it is gone. `sdk` calls this, in any thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from avfs_git.errors import BaseMoved, FuseUnavailable, InvalidInput, MountError, NotWritable
from avfs_git.gitstore.repository import is_partial
from avfs_git.host.mounts.mounts import check_device, list_mounts
from avfs_git.model import SessionBackend
from avfs_git.paths import oid_of
from avfs_git.patterns import compiled
from avfs_git.session.serve.start import start_session
from avfs_git.values import replace
from avfs_git.workspace.vault.origin import load_state

if TYPE_CHECKING:
    from avfs_git.backends.lower import LowerMounts
    from avfs_git.session.life.record import FoundSession
    from avfs_git.session.life.request import Request
    from avfs_git.workspace.opened.workspace import OpenWorkspace
    from avfs_git.workspace.vault.vault import OpenVault

AUTO: Final = "auto"
_TRIES = 5
_NEXT_AFTER = (MountError, FuseUnavailable)
"""Exactly these errors say that another backend may work; others are about the directory, the workspace or the disk."""
_VERSION = compiled(r"\d+")
_OLDEST: Final = (5, 11)
"""The oldest Linux on which a workspace is mounted so (docs/guides/live-tree.md)."""
_UNTOLD: Final = "does not tell when mapped files change"
_UNFIT: Final = {"tmpfs": _UNTOLD, "ramfs": _UNTOLD, "overlay": "cannot be the upper layer of another overlayfs"}
"""Kinds of file systems on which no workspace can be shown by overlayfs; of others the kernel says so itself."""


def check_mountable(wanted: str) -> None:
    """Check that this user may mount by a backend, as far as can be told before anything is made for that.

    Raises:
        FuseUnavailable: If not.
    """
    if wanted == SessionBackend.OVERLAY:
        _check_root()
    check_device()  # of FUSE, which shows the base of a tree on overlayfs, too


def _check_root() -> None:
    if os.geteuid():
        raise FuseUnavailable("only root can mount a live tree on overlayfs", hint="Leave out `--backend`.")


def mount(
    vault: OpenVault,
    find_lowers: Callable[[], LowerMounts],
    wanted: str,
    request: Request,
    open_workspace: Callable[[], OpenWorkspace],
) -> FoundSession:
    """Mount by the backend that is wanted or, for `auto`, by the best one that works here.

    The two functions are called only for overlayfs.

    Raises:
        InvalidInput: If there is no backend of that name, or it shows no commits.
        FuseUnavailable: If this user may not mount by it, or it cannot show this workspace.
        AvfsError: As `start_session`, or if the base cannot be mounted. Where no backend works, it is the error of
            FUSE.
    """
    if wanted == AUTO:
        wants_fuse = vault.config.read()["mount.backend"] == SessionBackend.FUSE
        is_of_fuse = wants_fuse or os.geteuid() != 0 or not request.is_workspace
        names = tuple(name for name in SessionBackend if not (is_of_fuse and name is SessionBackend.OVERLAY))
    elif wanted in tuple(SessionBackend):
        names = (SessionBackend(wanted),)
    else:
        known = ", ".join((AUTO, *SessionBackend))
        raise InvalidInput(f"nothing can be mounted by '{wanted}'", hint=f"Choose one of {known}.")
    start = partial(start_session, vault.layout.sessions)
    errors: dict[SessionBackend, MountError] = {}
    for name in names:
        reasons = tuple(f"{passed}: {error.message}" for passed, error in errors.items())
        asked = replace(request, backend=name.value, backend_reasons=reasons)
        try:
            if name is not SessionBackend.OVERLAY:
                return start(asked)
            _check_overlay(request, open_workspace, is_wanted=wanted != AUTO)
            return on_base(vault, find_lowers(), asked, start)
        except MountError as error:
            if len(names) == 1 or type(error) not in _NEXT_AFTER:
                raise
            errors[name] = error
    raise errors[SessionBackend.FUSE]


def on_base(
    vault: OpenVault, lowers: LowerMounts, request: Request, start: Callable[[Request], FoundSession]
) -> FoundSession:
    """Start a session on overlayfs, with the base of its workspace.

    Raises:
        AvfsError: As `start`, or if the base cannot be mounted.
    """
    for left in reversed(range(_TRIES)):
        state = load_state(vault, vault.layout.workspace(request.fork))
        base = (state.base, state.sidecar, None)
        try:
            if state.base is None:
                return start(replace(request, base=base))
            own = vault.store.read_commit(oid_of(state.base)).sidecar
            beside = state.sidecar if own is None or state.sidecar != own.hex() else None
            with lowers.holding(state.base, beside, fork=request.fork) as (place, fd):
                return start(replace(request, base=(state.base, state.sidecar, os.fspath(place)), base_fd=fd))
        except BaseMoved:
            if not left:
                raise
    raise AssertionError("unreachable")


def _check_overlay(request: Request, open_workspace: Callable[[], OpenWorkspace], *, is_wanted: bool) -> None:
    """Check that overlayfs can show the request and, unless `is_wanted` by name, that FUSE would not do more for it."""
    leave = "Leave out `--backend`."
    if not request.is_workspace:
        raise InvalidInput("a commit cannot be shown through overlayfs", hint=leave)
    _check_root()
    opened = open_workspace()
    if opened.refused is not None:
        raise NotWritable(f"mount workspace '{opened.fork}'", opened.refused) from opened.refused
    reason = _find_obstacle(opened) or (None if is_wanted else _find_want(opened))
    if reason is not None:
        raise FuseUnavailable(f"overlayfs is not possible here: {reason}" if is_wanted else reason, hint=leave)


def _find_obstacle(opened: OpenWorkspace) -> str | None:
    """Tell why overlayfs cannot show a workspace; None if nothing is known to stand in the way."""
    if opened.find_check() is not None:
        return "a plug-in is asked before each change"
    if opened.vault.fork_config(opened.fork).read_limits() is not None:
        return "the fork has a quota, which the kernel does not know"
    if tuple(map(int, _VERSION.findall(os.uname().release)[:2])) < _OLDEST:
        return "Linux before 5.11 does not tell whether an upper layer is in use"
    device = opened.layout.upper.stat().st_dev
    for mounted in list_mounts():
        if mounted.kind in _UNFIT and os.makedev(*mounted.device) == device:
            return f"the vault is on a file system ({mounted.kind}) that {_UNFIT[mounted.kind]}"
    return None


def _find_want(opened: OpenWorkspace) -> str | None:
    """Tell what FUSE does for a workspace and overlayfs does not; None if nothing is asked for."""
    settings = opened.vault.config.read()
    if settings["audit.files"] != "none":
        return "the setting 'audit.files' is on, and the kernel tells less of what programs do on overlayfs"
    if is_partial(opened.vault.git_dir):
        return (
            "the vault is a partial clone, and overlayfs lists no directory while a program waits for a file in "
            "it to be fetched"
        )
    if not opened.upper.marks.is_trusted:
        return "the workspace has the marks of an ordinary user, with which overlayfs renames no directory of the base"
    return None
