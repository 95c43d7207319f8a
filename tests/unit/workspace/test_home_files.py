"""What doctor says of the files that a home has beside its vaults, and what commands do where one is damaged."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from avfs_git.errors import HostError
from avfs_git.sdk import Avfs, Vault, Workspace

pytestmark = pytest.mark.usefixtures("unsynced")


def _codes(vault: Vault) -> list[tuple[str, str]]:
    return [(found.code, found.severity) for found in vault.doctor().problems]


def _remove(place: Path) -> None:
    shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink(missing_ok=True)


@pytest.fixture
def whole(home: Avfs, vault: Vault, work: Workspace) -> Path:
    """The home of a vault in use, with a file of each kind."""
    work.write("a", b"")
    work.checkpoint()
    home.trust_vault(vault.path)
    hook = vault.path / "avfs" / "hooks" / "pre-checkpoint"
    vault.install_hooks()
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    vault.enable_hook("pre-checkpoint")
    for name in ("mounts", "attempts", "plugins"):
        home.home.joinpath(name).mkdir(exist_ok=True)
    assert _codes(vault) == []
    return home.home


@pytest.mark.parametrize("kind", ["pipe", "other", "link"])
@pytest.mark.parametrize("name", ["attempts", "current", "hooks.json", "hooks.lock", "mounts", "plugins", "trusted"])
def test_what_is_of_another_kind_is_told(whole: Path, vault: Vault, name: str, kind: str) -> None:
    """A pipe, a link to nowhere, or a file in place of a directory and the other way around."""
    place = whole / name
    is_directory = place.is_dir()
    _remove(place)
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "link":
        place.symlink_to(whole / "nothing")
    elif is_directory:
        place.touch()
    else:
        place.mkdir()

    told = [found for found in vault.doctor().problems if found.code in ("home.no_file", "home.no_directory")]
    assert [found.code for found in told] == ["home.no_directory" if is_directory else "home.no_file"]
    assert f"'{place}'" in told[0].description


@pytest.mark.parametrize("content", [b"", b"\0\xffgarbage{", b"[" * 100_000])
@pytest.mark.parametrize("name", ["hooks.json", "plugins.json", "seal.key"])
def test_damaged_lists_and_keys_are_told(whole: Path, vault: Vault, name: str, content: bytes) -> None:
    """No hook runs then, and no change is made where plug-ins are asked."""
    whole.joinpath(name).write_bytes(content)

    told = [found for found in vault.doctor().problems if found.code == "home.damaged"]
    assert f"'{whole / name}'" in told[0].description
    assert {found.code for found in vault.doctor().problems} == {"home.damaged"}


def test_a_damaged_name_of_the_current_vault_is_told(home: Avfs, whole: Path, vault: Vault) -> None:
    """Each command that needs it names the file; the vaults are listed all the same."""
    whole.joinpath("current").write_bytes(b"\0\xffgarbage{")

    assert _codes(vault) == [("home.damaged", "error")]
    assert [info.name for info in home.list_vaults()] == [vault.name]
    with pytest.raises(HostError, match="holds no name of a vault") as caught:
        home.open_vault()
    assert f"'{whole / 'current'}'" in caught.value.message
    home.use_vault(vault.name)
    assert _codes(vault) == []


@pytest.mark.parametrize("damage", [b"no path\n", None])
def test_a_list_of_trusted_vaults_that_does_not_count_is_told(whole: Path, vault: Vault, damage: bytes | None) -> None:
    """A line that names no vault, or a list to which others may write."""
    place = whole / "trusted"
    if damage is None:
        place.chmod(0o666)
    else:
        place.write_bytes(damage)

    assert _codes(vault) == [("home.damaged", "error")]


def test_a_pipe_in_place_of_the_trusted_vaults_keeps_no_command_waiting(home: Avfs, whole: Path) -> None:
    """It is refused, as each file of avfs's that is no file."""
    whole.joinpath("trusted").unlink()
    os.mkfifo(whole / "trusted")

    with pytest.raises(HostError, match="pipe"):
        home.trusted_vaults()


def test_a_home_that_is_no_directory_is_no_empty_one(tmp_path: Path) -> None:
    """Its vaults cannot be listed, and there are not none."""
    place = tmp_path / "file"
    place.touch()
    with Avfs(place) as avfs:
        with pytest.raises(HostError, match="Not a directory"):
            avfs.list_vaults()
        with pytest.raises(HostError, match="Not a directory"):
            avfs.sessions()


@pytest.mark.ordinary
@pytest.mark.parametrize("name", ["hooks.json", "seal.key", "mounts"])
def test_what_is_closed_in_a_home_is_told(whole: Path, vault: Vault, name: str) -> None:
    """The remedy opens it."""
    place = whole / name
    place.chmod(0)
    try:
        told = [found for found in vault.doctor().problems if found.code == "home.closed"]
        assert [f"'{place}'" in found.description for found in told] == [True]
        subprocess.run(told[0].remedy.split("`")[1], shell=True, check=True)
    finally:
        place.chmod(0o700 if place.is_dir() else 0o600)
    assert _codes(vault) == []


@pytest.mark.ordinary
@pytest.mark.parametrize("name", ["objects", "objects/pack", "refs/heads"])
def test_a_directory_of_git_s_in_which_nothing_can_be_made_is_told(whole: Path, vault: Vault, name: str) -> None:
    """Nothing can be saved there."""
    assert whole.is_dir()
    place = vault.path / name
    place.chmod(0o500)
    try:
        told = [found for found in vault.doctor().problems if found.code == "vault.closed"]
        assert [f"'{place}'" in found.description for found in told] == [True]
    finally:
        place.chmod(0o700)
    assert _codes(vault) == []
