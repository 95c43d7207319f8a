"""Changing a workspace that the kernel's overlayfs shows while programs write to it: nothing they wrote is lost."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from avfs_git import Avfs, faults
from avfs_git.errors import ContentChanged, MountError
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.objects.store import hash_object
from avfs_git.host.processes.watches import Watches
from avfs_git.paths import TreePath
from tests.support.capabilities import mount, unmount
from tests.support.failing import armed
from tests.support.faults import check_vault, make_source, make_vault, reachable_contents, read_files
from tests.support.shown import Program, mounted_layers, opened_of, read_shown, serving

pytestmark = [pytest.mark.slow, pytest.mark.needs("root", "overlayfs", "git", "user-xattrs", "whiteout")]


@pytest.fixture
def place(tmp_path: Path, mount_dir: Path) -> Iterator[tuple[Path, Path]]:
    """A vault whose fork `work` is mounted; gives its home and where it is mounted."""
    vault = make_vault(tmp_path / "home", make_source(tmp_path / "source"))
    tree = mount_dir / "tree"
    with mounted_layers(vault, tmp_path / "source", tree):
        vault.close()
        yield tmp_path / "home", tree


POINTS = [
    ("checkpoint.packed", 1),
    ("restore.announced", 1),
    ("restore.staged", 1),
    ("mounted.taken", 1),
    ("mounted.exchanged", 1),
    ("mounted.exchanged", 2),
    ("restore.step", 1),
    ("restore.step", 5),
    ("restore.taken", 1),
    ("restore.applied", 1),
]


@pytest.mark.parametrize(("point", "turn"), POINTS)
def test_what_a_program_writes_beside_a_restore_is_not_lost(place: tuple[Path, Path], point: str, turn: int) -> None:
    """Whatever a program writes at any moment of a restore is in the tree afterwards, or kept in a commit.

    So it is with undo.
    """
    home, tree = place
    with serving(home, tree) as work:
        for content, operation in ((b"first", lambda: work.restore("one")), (b"second", work.undo)):
            program = Program(tree, content, point, turn)
            with armed(program):
                operation()
            held = {entry[2] for entry in read_shown(tree).values()} | reachable_contents(work.vault.path)

            assert {one for one in program.written if one not in held} == set()
            assert read_shown(tree) == read_files(work)
            assert not list(tree.glob(".avfs-*"))

        # What the workspace holds is what a checkpoint records, whoever wrote it.
        work.checkpoint("after")
        recorded = read_files(work)
        status = work.status()
    with Avfs(home) as avfs, avfs.open_vault("v") as vault:
        check_vault(vault)
        with vault.fork("look", at="after", source="work") as look:
            assert read_files(look) == recorded
    assert (status.changed_files, status.sidecar_changed) == ((), ())


def test_a_program_changes_files_of_a_directory_that_goes(place: tuple[Path, Path]) -> None:
    """After a restore has taken out a new directory's first file, what a program makes of the others is not lost."""
    home, tree = place
    with serving(home, tree) as work:
        (tree / "fresh").mkdir()
        for name in "abcd":
            (tree / "fresh" / name).write_bytes(b"saved\n")

        def act() -> None:
            rewritten, removed, replaced = sorted((tree / "fresh").iterdir())
            rewritten.write_bytes(b"written meanwhile\n")
            removed.unlink()
            (tree / "moved").write_bytes(b"moved there\n")
            (tree / "moved").rename(replaced)
            (tree / "fresh" / "late").write_bytes(b"late\n")

        with armed(when("mounted.taken", act)):
            result = work.restore("one")

        assert {b"written meanwhile\n", b"moved there\n"} <= reachable_contents(work.vault.path)
        assert [path.name for path in (tree / "fresh").iterdir()] == ["late"]
        codes = [warning.code for warning in result.warnings]
        assert codes.count("restore.written_meanwhile") == 2
        assert codes.count("restore.kept") == 1
        assert not list(tree.glob(".avfs-*"))


def test_a_directory_that_comes_back_is_there_with_all_that_is_in_it(place: tuple[Path, Path]) -> None:
    """A program never sees a part of a directory that a restore makes."""
    home, tree = place
    seen: list[list[bytes]] = []

    def look(point: str) -> None:
        if point == "restore.step" and (tree / "dir").exists():
            seen.append(sorted(read_shown(tree / "dir")))

    with serving(home, tree) as work:
        with armed(look):
            work.restore("one")

        assert seen
        assert all(names == [b"b", b"deep", b"deep/c"] for names in seen)


def test_a_directory_that_comes_back_has_its_mode_at_once(place: tuple[Path, Path]) -> None:
    """Programs of other users are never kept out of it."""
    home, tree = place
    with serving(home, tree) as work, closing(Watches()) as watches:
        fd = os.open(tree, os.O_RDONLY)
        watches.add_directory(fd)
        os.close(fd)
        work.restore("one")

        told = watches.read()
        assert told is not None
        assert [event.is_name for event in told if event.name == b"dir"] == [True]
        assert stat.S_IMODE((tree / "dir").stat().st_mode) == 0o755


@pytest.mark.parametrize("point", ["restore.staged", "restore.step"])
def test_a_program_makes_a_directory_that_comes_back(place: tuple[Path, Path], point: str) -> None:
    """What a program put in there since stays, and the rest comes beside it."""
    home, tree = place
    with serving(home, tree) as work:

        def act() -> None:
            (tree / "dir" / "deep").mkdir(parents=True)
            (tree / "dir" / "b").write_bytes(b"of the program\n")
            (tree / "dir" / "deep" / "mine").write_bytes(b"mine\n")

        with armed(when(point, act)):
            result = work.restore("one")

        found = read_shown(tree / "dir")
        assert sorted(found) == [b"b", b"deep", b"deep/c", b"deep/mine"]
        assert found[b"b"][2] == b"of the program\n"
        assert {warning.path for warning in result.warnings if warning.code == "restore.kept"} == {b"dir/b"}
        assert read_shown(tree) == read_files(work)
        assert not list(tree.glob(".avfs-*"))


def make_full_directory(path: Path) -> None:
    """Make a directory with a file in it."""
    path.mkdir()
    (path / "mine").write_bytes(b"of the program\n")


@pytest.mark.parametrize("make", [os.mkfifo, make_full_directory])
@pytest.mark.parametrize(
    ("point", "name", "code"),
    [
        ("restore.staged", "a", "restore.changed_meanwhile"),
        ("restore.staged", "fresh", "restore.kept"),
        ("mounted.taken", "fresh", "restore.kept"),
    ],
)
def test_a_pipe_or_directory_that_replaces_a_file_meanwhile_stays(
    place: tuple[Path, Path], point: str, name: str, code: str, make: Callable[[Path], None]
) -> None:
    """No commit can keep a pipe: a restore that meets one gives way to it, and does the rest."""
    home, tree = place
    with serving(home, tree) as work:
        (tree / "a").write_bytes(b"saved\n")
        (tree / "fresh").mkdir()
        for number in range(3):
            (tree / "fresh" / str(number)).write_bytes(b"saved\n")
        made: list[Path] = []

        def act() -> None:
            made.append(tree / "a" if name == "a" else max((tree / "fresh").iterdir()))
            made[0].unlink()
            make(made[0])

        with armed(when(point, act)):
            told = work.restore("one").warnings
        assert [warning.code for warning in told if warning.code.startswith("restore.")] == [code]
        assert not made[0].is_file()
        assert list(tree.glob("fresh/*")) == ([] if name == "a" else made)
        assert not made[0].is_dir() or (made[0] / "mine").read_bytes() == b"of the program\n"
        assert not list(tree.glob(".avfs-*"))


@pytest.mark.parametrize("point", ["write.made", "mounted.exchanged"])
def test_a_write_that_expects_a_content_gives_way_to_a_program(place: tuple[Path, Path], point: str) -> None:
    """A program that writes between the look at a file and its replacement keeps its file, and the caller is told."""
    home, tree = place
    seen = hash_object(KIND_BLOB, b"third, uncommitted\n").hex()
    with serving(home, tree) as work:
        with armed(when(point, lambda: (tree / "a").write_bytes(b"of the program\n"))):
            if point == "write.made":
                with pytest.raises(ContentChanged):
                    work.write("a", b"of the caller\n", expect=seen)
            else:  # the caller was first
                work.write("a", b"of the caller\n", expect=seen)

        assert (tree / "a").read_bytes() == b"of the program\n"

        # A file that was to be made, and that a program has made first.
        make = when("write.made", lambda: (tree / "made").write_bytes(b"of the program\n"))
        with armed(make), pytest.raises(ContentChanged):
            work.write("made", b"of the caller\n", expect="")

        assert (tree / "made").read_bytes() == b"of the program\n"
        assert not list(tree.glob(".avfs-*"))


def test_a_removal_that_expects_a_content_gives_way_to_a_program(place: tuple[Path, Path]) -> None:
    """What a program wrote between the look at a file and its removal has its name again."""
    home, tree = place
    seen = hash_object(KIND_BLOB, b"third, uncommitted\n").hex()
    with serving(home, tree) as work:
        with pytest.raises(ContentChanged):
            work.remove("a", expect="0" * 40)
        work.remove("a", expect=seen)

        assert not (tree / "a").exists()
        assert not list(tree.glob(".avfs-*"))


def test_a_plain_change_takes_only_the_names_that_are_free(place: tuple[Path, Path]) -> None:
    """A program that makes something under a name, after avfs has looked and before it makes its own, keeps it."""
    home, tree = place
    with serving(home, tree) as work:
        opened = opened_of(work)
        with opened.locked() as locked, locked.changing() as merged:
            assert not any(name == b"new" for name, _ in merged.nodes.readdir(merged.root))
            (tree / "new").write_bytes(b"of a program\n")
            for act in (
                lambda: merged.making.mkdir(merged.root, b"new"),
                lambda: merged.making.symlink(merged.root, b"new", b"target"),
                lambda: merged.making.link(merged.resolve(TreePath(b"a")), merged.root, b"new"),
                lambda: merged.making.mknod(merged.root, b"new", stat.S_IFIFO | 0o600),
                lambda: merged.namespace.rename(merged.root, b"a", merged.root, b"new", flags=1),
            ):
                with pytest.raises(FileExistsError):
                    act()
            with pytest.raises(OSError, match="not empty"):
                merged.namespace.rmdir(merged.root, b"many")

        assert (tree / "new").read_bytes() == b"of a program\n"
        assert not list(tree.glob(".avfs-*"))


def test_a_mount_that_is_gone_is_not_written_beside(place: tuple[Path, Path]) -> None:
    """When the tree is not where it was, nothing is changed: not in the directory below, nor in the layers."""
    home, tree = place
    with serving(home, tree) as work:
        assert mount("tmpfs", tree, "tmpfs")
        try:
            with pytest.raises(MountError):
                work.write("a", b"of the caller\n")
            with pytest.raises(MountError):
                work.restore("one")

            assert list(tree.iterdir()) == []
            assert work.read("a") == b"third, uncommitted\n"
        finally:
            assert unmount(tree)
        work.write("a", b"of the caller\n")

        assert (tree / "a").read_bytes() == b"of the caller\n"


@pytest.mark.parametrize("changed", [False, True], ids=["of the base alone", "changed"])
@pytest.mark.parametrize("moves", [False, True], ids=["removed", "renamed"])
def test_a_deep_directory_of_the_base(tmp_path: Path, mount_dir: Path, changed: bool, moves: bool) -> None:
    """A deep directory that overlayfs refuses to rename, and that one walk cannot remove, is renamed and removed."""
    deep = Path(*[f"level{number}" for number in range(100)])
    (tmp_path / "source" / "top" / deep).mkdir(parents=True)
    (tmp_path / "source" / "top" / deep / "file").write_bytes(b"far down\n")
    (tmp_path / "source" / "top" / "link").symlink_to("nowhere")
    tree = mount_dir / "tree"
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v", source=tmp_path / "source") as vault:
        vault.fork("work")
    with mounted_layers(vault, tmp_path / "source", tree), serving(tmp_path / "home", tree) as work:
        if changed:
            (tree / "top" / deep / "file").write_bytes(b"changed\n")
        before = read_shown(tree / "top")
        work.checkpoint("before")
        if moves:
            work.move("top", "moved")

            assert read_shown(tree / "moved") == before
        else:
            work.remove("top", recursive=True)

        assert not (tree / "top").exists()
        assert work.restore("before").outcome == "restored"
        assert read_shown(tree / "top") == before
        assert not (tree / "moved").exists()


@pytest.mark.parametrize("point", ["mounted.linked", "mounted.moved"])
def test_what_a_program_saves_in_a_directory_that_is_renamed_stays(tmp_path: Path, mount_dir: Path, point: str) -> None:
    """Where overlayfs refuses the rename, the old directory goes only as far as its files have other names."""
    tree, name = mount_dir / "tree", "a" * 200
    old = tmp_path / "source" / name / name
    old.mkdir(parents=True)
    for number in range(3):
        (old / str(number)).write_bytes(b"old\n")
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v", source=tmp_path / "source") as vault:
        vault.fork("work")
    with mounted_layers(vault, tmp_path / "source", tree), serving(tmp_path / "home", tree) as work:
        shown = tree / name / name

        def save() -> None:
            (shown / "new").write_bytes(b"saved\n")
            (shown / "new").replace(shown / "1")
            (shown / "made").write_bytes(b"made\n")

        with armed(when(point, save)):
            work.move(f"{name}/{name}", "moved")
        assert {path.name: path.read_bytes() for path in shown.iterdir()} == {"1": b"saved\n", "made": b"made\n"}
        assert {path.name: path.read_bytes() for path in (tree / "moved").iterdir()} == dict.fromkeys("012", b"old\n")


def test_names_of_attributes_that_overlayfs_uses_itself_survive_a_restore(place: tuple[Path, Path]) -> None:
    """An attribute `user.overlay.X` that a program set is no mark, neither in the tree nor in what is restored."""
    home, tree = place
    with serving(home, tree) as work:
        os.setxattr(tree / "a", "user.overlay.opaque", b"y")
        os.setxattr(tree / "build", "user.overlay.whiteout", b"mine")
        work.checkpoint("marked")
        work.restore("one")

        assert "user.overlay.opaque" not in os.listxattr(tree / "a")

        work.restore("marked")

        assert os.getxattr(tree / "a", "user.overlay.opaque") == b"y"
        assert os.getxattr(tree / "build", "user.overlay.whiteout") == b"mine"
        assert (tree / "build" / "out.o").read_bytes() == b"rebuilt\n"
        assert work.status().sidecar_changed == ()


def when(point: str, act: Callable[[], object]) -> Callable[[str], None]:
    """Make a fault handler that does something once, when a point is passed."""
    waiting = [act]

    def handle(passed: str) -> None:
        if passed == point and waiting:
            waiting.pop()()

    return handle


class Counter:
    """A program that gives two files the same new number each time that a capture has read a file; a fault handler."""

    def __init__(self, tree: Path, most: int) -> None:
        self._tree = tree
        self._most = most
        self.count = 0
        self.write()

    def __call__(self, point: str) -> None:
        """Pass a point."""
        if point == "capture.file_read" and self.count < self._most:
            self.write()

    def write(self) -> None:
        """Replace both."""
        self.count += 1
        for name in ("number-first", "number-last"):
            (self._tree / "number-next").write_text(f"{self.count}\n")
            (self._tree / "number-next").replace(self._tree / name)


@pytest.mark.parametrize("most", [4, 1_000_000])
def test_a_checkpoint_is_one_moment_or_says_that_it_is_not(place: tuple[Path, Path], most: int) -> None:
    """What programs change while files are read is read again, until nothing has changed.

    A warning says where they went on.
    """
    home, tree = place
    with serving(home, tree) as work:
        program = Counter(tree, most)
        with armed(program):
            result = work.checkpoint("counted")
        git = ["git", "-C", os.fspath(work.vault.path), "show"]
        saved = [subprocess.check_output([*git, f"refs/heads/work:number-{name}"]) for name in ("first", "last")]
        is_moment = "capture.per_file" not in {warning.code for warning in result.warnings}
        assert is_moment == (most < 1_000_000)
        if is_moment:
            assert saved == [b"%d\n" % most] * 2
        faults.arm(None)
        work.checkpoint("later")
        later = [subprocess.check_output([*git, f"refs/heads/work:number-{name}"]) for name in ("first", "last")]
        assert later == [b"%d\n" % program.count] * 2


def test_rules_that_were_there_for_a_moment_place_nothing(place: tuple[Path, Path]) -> None:
    """The rules at the moment of the checkpoint place a file, even if other rules were there at its first read."""
    home, tree = place
    with serving(home, tree) as work:
        (tree / "A-private").write_text("secret\n")

        def ignore() -> None:
            (tree / ".gitignore").write_text("build/\n*.log\nA-private\n")

        with armed(when("capture.file_read", ignore)):
            work.checkpoint("ignored")
        names = subprocess.check_output(
            ["git", "-C", os.fspath(work.vault.path), "ls-tree", "-r", "--name-only", "work"]
        )
        assert b"A-private" not in names.split()
        assert b"A-private" in read_files(work)


def _access_list(user: int) -> bytes:
    """Spell a list that lets one more user write: linux/posix_acl_xattr.h has the format."""
    everybody = 0xFFFFFFFF
    entries = [(0x01, 6, everybody), (0x02, 6, user), (0x04, 4, everybody), (0x10, 6, everybody), (0x20, 4, everybody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_what_no_checkpoint_holds_is_named(place: tuple[Path, Path]) -> None:
    """The kernel takes access control lists and a repository in place of `.git`; FUSE refuses both.

    A checkpoint names them.
    """
    home, tree = place
    try:
        os.setxattr(tree / "a", "system.posix_acl_access", _access_list(12345))
        os.setxattr(tree / "many", "system.posix_acl_default", _access_list(12345))
    except OSError:
        pytest.skip("the file system has no access control lists")
    (tree / ".git").mkdir()
    with serving(home, tree) as work:
        told = work.checkpoint("listed").warnings
        assert [warning.path for warning in told if warning.code == "capture.access_list"] == [b"a", b"many"]
        [own] = [warning.message for warning in told if warning.code == "git.own_repository"]
        assert own.endswith("workspaces/work/upper/.git'")
        assert os.path.isdir(own.split("'")[-2])
        assert "git.own_repository" in {warning.code for warning in work.status().warnings}
        (tree / ".git").rmdir()
        (tree / "a").write_text("again")
        os.removexattr(tree / "a", "system.posix_acl_access")
        os.removexattr(tree / "many", "system.posix_acl_default")
        codes = {warning.code for warning in work.checkpoint("plain").warnings}
        assert not codes & {"git.own_repository", "capture.access_list"}
