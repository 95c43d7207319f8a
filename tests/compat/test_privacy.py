"""Who may look into a vault: its owner, and others only where that was asked for."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.sdk import Vault
from tests.support.users import ALICE, MALLORY, as_user, open_way

OTHERS = 0o066


@pytest.fixture(params=[0o022, 0o000, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Whatever files a process makes by itself."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def use(vault: Vault) -> None:
    """Do what leaves something of every kind in a vault."""
    with vault.workspace() as work:
        work.write(".gitignore", b".env\n")
        work.write(".env", b"secret\n")
        work.checkpoint("one")
        work.exec("true")
        work.write("big", os.urandom(1 << 16))
        work.checkpoint("two")
    vault.fork("f").close()
    vault.delete_fork("f")
    vault.gc()


def open_to_others(top: Path) -> list[str]:
    """List what others could read or write below a directory if nothing above kept them out.

    Of upper layers only the top.
    """
    found = []
    for directory, names, files in os.walk(top):
        if Path(directory).name in {"upper", "gitlink"}:  # with the modes of the workspace; with no more than a path
            names.clear()
            continue
        for name in [*names, *files]:
            status = os.lstat(os.path.join(directory, name))
            if name not in {"upper", "gitlink"} and not stat.S_ISLNK(status.st_mode) and status.st_mode & OTHERS:
                found.append(os.path.relpath(os.path.join(directory, name), top))
    return found


@pytest.mark.usefixtures("person")
def test_a_home_is_for_its_owner(umask: int, tmp_path: Path) -> None:
    """Directories, packs, trash, logs and settings, with any umask."""
    with Avfs(tmp_path / "a" / "home") as avfs, avfs.create_vault("v") as vault:
        use(vault)
    assert stat.S_IMODE((tmp_path / "a" / "home").stat().st_mode) == 0o700
    assert "\n".join(open_to_others(tmp_path / "a" / "home")) == ""


@pytest.mark.usefixtures("person")
def test_what_is_there_is_closed(tmp_path: Path) -> None:
    """A home and a vault that others could read are closed when their owner opens the vault.

    Linked packs stay as they are.
    """
    home = tmp_path / "home"
    with Avfs(home) as avfs, avfs.create_vault("v") as vault:
        use(vault)
        top = vault.path
    packs = [path for path in (top / "objects" / "pack").iterdir() if path.suffix == ".pack"]
    os.link(packs[0], tmp_path / "linked")
    for place in (home, home / "vaults", top, top / "avfs"):
        place.chmod(0o755)
    for pack in packs:
        pack.chmod(0o444)
    with Avfs(home) as avfs:
        avfs.open_vault("v").close()

    assert [stat.S_IMODE(place.stat().st_mode) for place in (home, home / "vaults", top, top / "avfs")] == [0o700] * 4
    assert [bool(pack.stat().st_mode & OTHERS) for pack in packs] == [True] + [False] * (len(packs) - 1)


def test_a_directory_with_other_things_is_not_closed(tmp_path: Path) -> None:
    """A home directory of a user that is named as avfs's home stays as open as it is."""
    with Avfs(tmp_path) as avfs:
        avfs.create_vault("v").close()
        (tmp_path / "public_html").mkdir()
        tmp_path.chmod(0o755)
        avfs.open_vault("v").close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("setting", ["", "group", "0640", "umask"])
def test_a_repository_that_is_served_to_others_stays_open(setting: str, tmp_path: Path) -> None:
    """Of one outside the home only what avfs writes is closed, and nothing where it says that it is shared."""
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    if setting:
        subprocess.run(["git", "-C", str(bare), "config", "core.sharedRepository", setting], check=True)
    bare.chmod(0o755)
    with Avfs(tmp_path / "home") as avfs, avfs.open_vault(bare) as vault:
        use(vault)
    is_shared = setting in {"group", "0640"}
    assert stat.S_IMODE(bare.stat().st_mode) == 0o755
    assert bool((bare / "avfs").stat().st_mode & OTHERS) == is_shared
    assert {bool(pack.stat().st_mode & 0o040) for pack in (bare / "objects" / "pack").iterdir()} == {is_shared}


@pytest.mark.needs("root")
def test_nobody_else_can_read_a_vault(umask: int, tmp_path: Path) -> None:
    """Not even by its whole path."""
    open_way(tmp_path)
    place = tmp_path / "alice"
    place.mkdir()
    os.chown(place, ALICE, ALICE)
    place.chmod(0o755)

    def make() -> str:
        with Avfs(place / "home") as avfs, avfs.create_vault("v") as vault:
            vault.workspace().write("a", b"secret\n")
            return str(vault.path)

    made = as_user(ALICE, make)
    assert made.endswith("v.git")
    for path in (made, f"{made}/config", f"{made}/avfs", f"{made}/objects/pack"):
        assert "Permission" in as_user(MALLORY, lambda path=path: str(os.stat(path)))  # type: ignore[misc]  # the loop's value


@pytest.mark.needs("root")
def test_a_shared_vault_is_for_its_group(umask: int, tmp_path: Path) -> None:
    """Asked for by name: members of the group read and write it once they trust it, and nobody else looks into it."""
    open_way(tmp_path)
    for uid in (ALICE, MALLORY):
        (tmp_path / str(uid)).mkdir()
        os.chown(tmp_path / str(uid), uid, uid)

    def make() -> str:
        with Avfs(tmp_path / str(ALICE) / "home") as avfs, avfs.create_vault("v", shared=True) as vault:
            vault.workspace().write("a", b"1\n")
            vault.workspace().checkpoint("one")
            return str(vault.path)

    made = Path(as_user(ALICE, make))

    def work() -> str:
        with Avfs(tmp_path / str(MALLORY) / "home") as avfs:
            avfs.trust_vault(made)
            with avfs.open_vault(made) as vault, vault.fork("mine") as fork:
                fork.write("b", b"2\n")
                return str(fork.checkpoint("two").checkpoint is not None)

    assert "Permission" in as_user(MALLORY, lambda: str(os.listdir(made)))
    os.chmod(tmp_path / str(ALICE), 0o711)
    member = as_user(MALLORY, work, groups=[ALICE])
    assert member == "True", member

    def look() -> str:
        with Avfs(tmp_path / str(ALICE) / "home") as avfs, avfs.open_vault("v") as vault:
            return str(sorted(fork.name for fork in vault.list_forks()))

    assert as_user(ALICE, look) == "['main', 'mine']"
