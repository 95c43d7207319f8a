"""Choosing a backend: the best that this machine allows, and why the better ones were passed over.

Decided here: which backends are tried for a workspace, in the order of `shown.BackendName`. A mounted workspace is used
where it is mounted. Called by `proxy.exec.execute` with the workspace locked, unless it is mounted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.backends.lower import LowerMounts
from avfs_git.backends.overlay import OverlayBackend
from avfs_git.backends.shown import Backend, BackendName, Passed, Served
from avfs_git.errors import BackendUnavailable
from avfs_git.workspace.opened.refusal import find_other_owner
from avfs_git.workspace.opened.workspace import LockedWorkspace, OpenWorkspace

if TYPE_CHECKING:
    from avfs_git.backends.fuse import Mount

AUTO = "auto"


def candidates(wanted: str, *, is_mounted: bool, has_plugins: bool = False) -> tuple[BackendName, ...]:
    """List the backends to try, the best first.

    `has_plugins` says that plug-ins are asked before each change: then the kernel has to ask a server of avfs.

    Raises:
        BackendUnavailable: If there is none of that name, or it cannot show a workspace that is mounted, or ask
            plug-ins.
    """
    if wanted == AUTO:
        return (BackendName.FUSE,) if is_mounted or has_plugins else tuple(BackendName)
    try:
        name = BackendName(wanted)
    except ValueError:
        raise BackendUnavailable(wanted, ("there is no backend of that name",)) from None
    if is_mounted and name is not BackendName.FUSE:
        raise BackendUnavailable(wanted, ("the workspace is mounted, and is used where it is",))
    if has_plugins and name is not BackendName.FUSE:
        raise BackendUnavailable(wanted, ("a plug-in is asked before each change, which is possible by 'fuse' only",))
    return (name,)


def open_held(
    names: tuple[BackendName, ...],
    locked: LockedWorkspace,
    lowers: LowerMounts,
    root: Path,
    *,
    readonly: bool,
    reasons: list[str],
) -> Backend | None:
    """Show a workspace whose lock this process holds; None if it takes a session to show it.

    `reasons` takes why backends were passed over.
    """

    def open_checkout() -> Backend:
        # Most commands do without, and it takes a tenth of the start of one: it imports and exports whole trees.
        from avfs_git.backends.checkout import CheckoutBackend  # noqa: PLC0415

        return CheckoutBackend(locked, root, readonly=readonly)

    makers: dict[BackendName, Callable[[], Backend]] = {
        BackendName.OVERLAY: lambda: OverlayBackend(locked.opened, lowers, root, readonly=readonly),
        BackendName.CHECKOUT: open_checkout,
    }
    owner = find_other_owner(locked.opened.layout)
    for name in names:
        if name is BackendName.FUSE:
            return None
        if (
            name is BackendName.OVERLAY
            and len(names) > 1
            and not readonly
            and locked.opened.upper.quota.limits is not None
        ):
            reasons.append(f"{name}: the fork has a quota, which the kernel does not know")
            continue
        if owner is not None:  # what is made beside its files for a command would keep their owner out
            reasons.append(f"{name}: the files of the fork belong to {owner}")
            continue
        try:
            return makers[name]()
        except Passed as passed:
            reasons.append(f"{name}: {passed}")
    raise BackendUnavailable(names[-1] if len(names) == 1 else AUTO, tuple(reasons))


def open_served(
    opened: OpenWorkspace, served: Served | None, mount: Mount, *, readonly: bool, reasons: list[str]
) -> Backend | None:
    """Show a workspace by a session; None if that cannot be done, with the reason added to `reasons`."""
    from avfs_git.backends.fuse import FuseBackend  # noqa: PLC0415 - as the checkout backend above

    try:
        return FuseBackend(opened, served, mount, readonly=readonly)
    except Passed as passed:
        reasons.append(f"{BackendName.FUSE}: {passed}")
        return None
