"""Forks of a directory that was forked before: they read what changed, and hold what a first fork would."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.objects.store import hash_object
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.paths import Oid
from avfs_git.sdk import Avfs
from avfs_git.workspace.creation import create
from avfs_git.workspace.forks import clones
from avfs_git.workspace.vault.format import SEEN
from avfs_git.workspace.vault.origin import peek_state
from avfs_git.workspace.vault.vault import OpenVault

pytestmark = pytest.mark.needs("user-xattrs")

_TICK_NS = 20_000_000


def _age() -> None:
    """Wait until what was done is older than the clock of the file system is coarse."""
    time.sleep(2.5 * _TICK_NS / 1e9)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory without git, of which some is ignored; it is on a disk whose clock is not coarse."""
    monkeypatch.setattr(create, "COARSE_NS", _TICK_NS)
    place = tmp_path / "folder"
    for name in ("a", "same size", "deep/b", "deep/deeper/c", "gone/x", "node_modules/pkg/index.js", "built.o"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"{name}\n")
    (place / ".gitignore").write_text("*.o\nnode_modules/\n")
    (place / "empty").mkdir()
    (place / "link").symlink_to("a")
    _age()
    return place


@pytest.fixture
def make_vault(home: Avfs) -> Iterator[Callable[[str], OpenVault]]:
    """Make vaults, which are closed at the end."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(closing(OpenVault(home.create_vault(name).path)))


def _fork(vault: OpenVault, folder: Path, name: str) -> tuple[Oid, Oid]:
    """Fork a directory; give the tree and the attributes that the fork begins with."""
    assert not clones.fork_present(vault, name, folder)
    state = peek_state(vault, name)
    assert state is not None
    assert state.base is not None
    assert state.sidecar is not None
    base, sidecar = (vault.store.read_commit(Oid(bytes.fromhex(oid))) for oid in (state.base, state.sidecar))
    return base.tree, sidecar.tree


def _change_much(folder: Path) -> None:
    status = (folder / "same size").stat()
    (folder / "same size").write_text("SAME SIZE\n")
    os.utime(folder / "same size", ns=(status.st_atime_ns, status.st_mtime_ns))
    (folder / "a").chmod(0o750)
    os.setxattr(folder / "deep" / "b", b"user.note", b"x")
    shutil.rmtree(folder / "gone")
    (folder / "gone").write_text("a file\n")
    (folder / "link").unlink()
    (folder / "link").mkdir()
    (folder / "node_modules" / "pkg" / "more.js").write_text("//\n")
    (folder / "empty").rmdir()


def _ignore_more(folder: Path) -> None:
    (folder / ".gitignore").write_text("*.o\ndeep/deeper/\n")


def _begin_repository(folder: Path) -> None:
    (folder / "deep" / ".git").mkdir()
    (folder / "deep" / ".git" / "HEAD").write_text("ref: refs/heads/main\n")


_CHANGES = {"nothing": lambda _: None, "much": _change_much, "rules": _ignore_more, "repository": _begin_repository}


@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES.keys())
def test_a_further_fork_is_what_a_first_one_would_be(
    make_vault: Callable[[str], OpenVault], folder: Path, change: Callable[[Path], None]
) -> None:
    """Whatever happened to the directory since it was forked last, also twice in a row."""
    used, fresh = make_vault("used"), make_vault("fresh")
    _fork(used, folder, "one")
    change(folder)
    _age()
    expected = _fork(fresh, folder, "one")
    assert _fork(used, folder, "two") == expected
    assert _fork(used, folder, "three") == expected


def _stored(vault: OpenVault, folder: Path, name: str) -> set[str]:
    """Fork a directory; name the files that were read for it, which shows by their being stored again."""
    before = {pack.path for pack in vault.store.packs.packs()}
    _fork(vault, folder, name)
    oids = {oid for pack in vault.store.packs.packs() if pack.path not in before for oid in pack.index.oids()}
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {path.name for path in files if hash_object(KIND_BLOB, path.read_bytes()) in oids}


def test_what_did_not_change_is_not_read(make_vault: Callable[[str], OpenVault], folder: Path) -> None:
    """A further fork reads no file but those that are new or other than they were, also where they are ignored."""
    vault = make_vault("v")
    assert _stored(vault, folder, "one") == {"a", "same size", "b", "c", "x", "index.js", "built.o", ".gitignore"}
    assert _stored(vault, folder, "two") == set()
    (folder / "node_modules" / "new").write_text("new\n")
    (folder / "a").write_text("other\n")
    _age()
    assert _stored(vault, folder, "three") == {"new", "a"}
    assert _stored(vault, folder, "four") == set()


@pytest.mark.parametrize("damage", ["no file", "half a file", "no ref", "another ref", "other rules"])
def test_what_is_not_sure_is_not_believed(make_vault: Callable[[str], OpenVault], folder: Path, damage: str) -> None:
    """Without one of its two halves, or under other rules, everything is read again."""
    vault = make_vault("v")
    _fork(vault, folder, "one")
    seen, kept = vault.layout.seen, vault.refs.read(SEEN)
    assert kept is not None
    if damage == "no file":
        seen.unlink()
    elif damage == "half a file":
        os.truncate(seen, seen.stat().st_size // 2)
    elif damage == "other rules":
        (vault.git_dir / "info" / "exclude").write_text("a\n")
    else:
        vault.refs.update([RefChange(SEEN, kept, None if damage == "no ref" else vault.read_head("one"))])
    assert "index.js" in _stored(vault, folder, "two")
    assert _stored(vault, folder, "three") == set()


def test_what_cannot_be_held_is_told_each_time(make_vault: Callable[[str], OpenVault], folder: Path) -> None:
    """A pipe is warned of at every fork, not only at the first one."""
    os.mkfifo(folder / "pipe")
    _age()
    vault = make_vault("v")
    for name in ("one", "two"):
        assert [warning.path for warning in clones.fork_present(vault, name, folder)] == [b"pipe"]
