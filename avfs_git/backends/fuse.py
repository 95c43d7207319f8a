"""The fuse backend: the live tree of a session that has the workspace mounted already or serves this command alone.

Decided here: a session that is made for a command is on a leash, so that it ends with the process that runs the
command; the backend that a command was shown is named as its session names it: perhaps libfuse or overlayfs.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from avfs_git.backends.shield import make_readonly, shield_vault
from avfs_git.backends.shown import Gone, Passed, Served, start_runner
from avfs_git.errors import FuseUnavailable, MountError
from avfs_git.faults import reach
from avfs_git.host.processes.runner.handle import NamespaceRefused
from avfs_git.model import Warning
from avfs_git.workspace.opened.workspace import LockedWorkspace, OpenWorkspace

Mount = Callable[[int], tuple[Served, Callable[[], object]]]
"""Mounts the workspace on a leash; gives what shows it, and what takes the mount away."""


class FuseBackend:
    """A workspace in its live tree."""

    def __init__(self, opened: OpenWorkspace, served: Served | None, mount: Mount, *, readonly: bool) -> None:
        """Show it.

        With `readonly`, other programs change the live tree as before.

        Raises:
            Passed: If this machine does not allow it.
            Gone: If the session was ended meanwhile: the directory that it was mounted on is no place for the command.
        """
        self._unmount: Callable[[], object] | None = None
        self._leash: int | None = None
        if served is None:
            reading, self._leash = os.pipe()
            try:
                served, self._unmount = mount(reading)
            except (FuseUnavailable, MountError) as error:
                os.close(self._leash)
                raise Passed(error.message) from error
            except BaseException:
                os.close(self._leash)
                raise
            finally:
                os.close(reading)
        self.root, self.name, check_awake, is_seen_by = served
        reach("exec.served")
        try:
            self.runner = start_runner(
                lambda: (*shield_vault(opened, self.root), *(make_readonly(opened, self.root) if readonly else ())),
                check_awake=check_awake,
                optional=not readonly,
            )
        except NamespaceRefused as refused:
            self._end_mount()
            raise Passed(str(refused)) from refused
        except BaseException:
            self._end_mount()
            raise
        # Not before: from here on the runner has the mount, in a mount namespace of its own, until it ends.
        if not is_seen_by(self.runner.pid):
            self.close()
            raise Gone

    def collect(self, locked: LockedWorkspace) -> list[Warning]:
        """Do nothing: what the command changed is in the workspace."""
        del locked
        return []

    def close(self) -> None:
        """End it with all that runs in it. A second call does nothing."""
        self.runner.close()
        self._end_mount()

    def _end_mount(self) -> None:
        if self._unmount is not None:
            unmount, self._unmount = self._unmount, None
            unmount()
        if self._leash is not None:
            os.close(self._leash)
            self._leash = None
