"""What `avfs doctor --host` says where the home is on an overlayfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from avfs_git.host.probes import examine_host
from tests.support import capabilities


@pytest.mark.needs("root", "overlayfs")
def test_a_home_on_an_overlayfs_lacks_whiteouts(mount_dir: Path) -> None:
    """As in a container without a volume: nothing that the base of a workspace has can be removed there."""
    for name in ("lower", "upper", "work", "home"):
        (mount_dir / name).mkdir()
    options = f"lowerdir={mount_dir / 'lower'},upperdir={mount_dir / 'upper'},workdir={mount_dir / 'work'}"
    assert capabilities.mount("overlay", mount_dir / "home", "overlay", options)
    found = {each.name: each for each in examine_host(mount_dir / "home").abilities}
    capabilities.unmount(mount_dir / "home")

    assert not found["whiteouts"].works
    assert "on a volume" in (found["whiteouts"].remedy or "")
