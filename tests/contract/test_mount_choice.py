"""What `auto` mounts: of root's workspaces the kernel's overlayfs, unless FUSE does more for one; it says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault, Workspace
from avfs_git.host.mounts.mounts import list_mounts
from avfs_git.model import Identity, SessionBackend
from tests.support.capabilities import mount as mount_file_system
from tests.support.capabilities import unmount as unmount_file_system
from tests.support.servers import git, make_bare
from tests.support.shown import spell_for_users
from tests.support.waiting import wait_for

pytestmark = pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")
of_root = pytest.mark.needs("root", "overlayfs")

ADA = Identity("Ada Author", "ada@example.org")


@pytest.fixture
def vault(mount_dir: Path, small_source: Path) -> Iterator[Vault]:
    """A vault with a fork `work`."""
    with Avfs(mount_dir / "h", identity=ADA) as avfs, avfs.create_vault("v", source=small_source) as made:
        made.fork("work").close()
        yield made
        made.check_unmounted()
    wait_for(lambda: not [mounted for mounted in list_mounts() if mount_dir in mounted.directory.parents])


def look(work: Workspace, tree: Path, **options: object) -> tuple[SessionBackend, tuple[str, ...]]:
    """Mount, and tell by which backend, and which were passed over."""
    with work.mount(tree, **options) as session:  # type: ignore[arg-type]  # as they are given
        assert (tree / "file").read_text() == "content\n"
        info = session.info()
    return info.backend, info.backend_reasons


def test_root_s_workspaces_are_on_overlayfs(work: Workspace, tree: Path, person: str) -> None:
    """All else is FUSE, without a word: nothing better was passed over."""
    best = SessionBackend.OVERLAY if person == "root" else SessionBackend.FUSE
    assert look(work, tree) == (best, ())
    assert look(work, tree, readonly=True) == (SessionBackend.FUSE, ())
    assert look(work, tree, backend="fuse") == (SessionBackend.FUSE, ())
    work.vault.set_config("mount.backend", "fuse")
    assert look(work, tree) == (SessionBackend.FUSE, ())


def _enable_plugin(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "look.lua").write_text("function decide(event) end\n")
    vault.enable_plugin("look", tmp_path / "look.lua")


@of_root
@pytest.mark.parametrize(
    ("want", "reason"),
    [
        (
            lambda vault, _: vault.set_config("quota.fork_files", "1000"),
            "overlay: the fork has a quota, which the kernel does not know",
        ),
        (
            lambda vault, _: vault.set_config("audit.files", "changes"),
            "overlay: the setting 'audit.files' is on, and the kernel tells less of what programs do on overlayfs",
        ),
        (
            lambda vault, _: spell_for_users(vault.workspace("work")),
            (
                "overlay: the workspace has the marks of an ordinary user, with which overlayfs renames no directory of "
                "the base"
            ),
        ),
        pytest.param(_enable_plugin, "overlay: a plug-in is asked before each change", marks=pytest.mark.needs("lupa")),
    ],
)
def test_what_fuse_does_and_overlayfs_does_not_is_a_reason(
    vault: Vault, work: Workspace, tree: Path, tmp_path: Path, want: Callable[[Vault, Path], object], reason: str
) -> None:
    """The tree is mounted by FUSE, and the session says what for."""
    want(vault, tmp_path)
    assert look(work, tree) == (SessionBackend.FUSE, (reason,))


@of_root
def test_a_partial_clone_is_a_reason(vault: Vault, mount_dir: Path, tree: Path, tmp_path: Path) -> None:
    """On overlayfs more programs would wait for its server; it can be mounted so, and fetches what is read."""
    served = make_bare(tmp_path / "served.git")
    git("push", "-q", str(served), "HEAD:refs/heads/main", cwd=vault.path)
    with Avfs(mount_dir / "h2", identity=ADA, remote_environment={"HOME": str(tmp_path)}) as avfs:
        avfs.clone_vault(str(served), "lazy", lazy=True)
        with avfs.open_vault("lazy") as lazy, lazy.workspace() as work:
            assert look(work, tree, backend="overlay") == (SessionBackend.OVERLAY, ())
            reason = "overlayfs lists no directory while a program waits for a file in it to be fetched"
            assert look(work, tree) == (SessionBackend.FUSE, (f"overlay: the vault is a partial clone, and {reason}",))


@of_root
@pytest.mark.parametrize("kind", ["tmpfs", "overlay"])
def test_a_disk_that_overlayfs_cannot_write_to_is_a_reason(mount_dir: Path, tree: Path, kind: str) -> None:
    """As in a container whose vault is on no volume."""
    disk = mount_dir / "disk"
    disk.mkdir()
    options = "size=16m"
    if kind == "overlay":
        for name in ("lower", "upper", "work"):
            (mount_dir / name).mkdir()
        options = f"lowerdir={mount_dir / 'lower'},upperdir={mount_dir / 'upper'},workdir={mount_dir / 'work'}"
    assert mount_file_system(kind, disk, kind, options)
    with Avfs(disk / "home", identity=ADA) as avfs, avfs.create_vault("v") as vault, vault.workspace() as work:
        work.write("file", b"content\n")
        backend, reasons = look(work, tree)
        assert backend is SessionBackend.FUSE
        assert [f"the vault is on a file system ({kind})" in reason for reason in reasons] == [True]
        assert vault.sessions(bases=True) == []
    wait_for(lambda: unmount_file_system(disk))


@of_root
def test_a_workspace_goes_from_one_backend_to_the_other_and_back(work: Workspace, tree: Path) -> None:
    """What was changed by either is there with the other, uncommitted and in checkpoints."""
    for number, backend in enumerate(("fuse", "auto", "fuse", "auto", "portable", "auto")):
        with work.mount(tree, backend=backend) as session:
            assert session.info().backend == (SessionBackend.OVERLAY if backend == "auto" else SessionBackend(backend))
            before = "d" if not number else f"d{number - 1}"
            os.rename(tree / before, tree / f"d{number}")
            assert (tree / f"d{number}" / "below" / "deep").read_text().startswith("deep\n")
            with (tree / f"d{number}" / "below" / "deep").open("a") as file:
                file.write(f"{backend}\n")
            (tree / f"new{number}").write_text(f"{number}\n")
            os.setxattr(tree / f"new{number}", "user.note", b"%d" % number)
            if number:
                assert os.getxattr(tree / f"new{number - 1}", "user.note") == b"%d" % (number - 1)
                (tree / f"new{number - 1}").unlink()
            if number % 2:
                assert work.checkpoint().outcome == "created"
        assert sorted(os.fsdecode(info.path) for info in work.list_dir("")) == [f"d{number}", "file", f"new{number}"]
    assert work.read("d5/below/deep") == b"deep\nfuse\nauto\nfuse\nauto\nportable\nauto\n"


_IN_NAMESPACE = """if True:
    import json, sys
    from pathlib import Path
    from avfs_git import Avfs
    from avfs_git.model import Identity
    home, tree = Path(sys.argv[1]), Path(sys.argv[2])
    with Avfs(home, identity=Identity("Ada", "ada@example.org")) as avfs, avfs.create_vault("v") as vault:
        with vault.workspace() as work, work.mount(tree) as session:
            (tree / "made").write_text("made")
            print(json.dumps([session.info().backend, session.info().backend_reasons, work.read_text("made")]))
"""


@pytest.mark.needs("userns")
@pytest.mark.usefixtures("person")
def test_root_of_a_user_namespace_has_fuse(mount_dir: Path, tree: Path) -> None:
    """It may mount overlayfs there, but not write the marks with which that renames directories of the base."""
    argv: list[str | Path] = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        sys.executable,
        "-c",
        _IN_NAMESPACE,
        mount_dir / "h",
        tree,
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    backend, reasons, read = json.loads(done.stdout or done.stderr)
    assert (backend, read) == ("fuse", "made")
    assert ["the marks of an ordinary user" in reason for reason in reasons] == [True]
