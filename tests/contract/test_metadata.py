"""Tags and metadata: extended attributes by which paths are found, and which stay with them."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfs_git import Home, Vault, Workspace
from avfs_git.errors import AttributeRefused, InvalidInput, PathNotFound, PathUnsuitable
from avfs_git.model import Kind, MetaEntry, TagCount

pytestmark = pytest.mark.needs("user-xattrs", "whiteout")


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault with a committed state."""
    with Home(tmp_path / "home") as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        work.write(".gitignore", b"*.log\n")
        work.write("src/a", b"a\n" * 20)
        work.write("src/b", b"b\n" * 20)
        work.write("x.log", b"log")
        work.symlink("link", b"src/a")
        work.checkpoint("start")
        yield vault


def test_a_path_has_what_was_set_until_it_is_deleted(work: Workspace) -> None:
    """Tags keep their order and stand once; a link leads to its file; what is not there cannot go."""
    work.tag("link", "two", "one", " two ")
    work.set_meta("src/a", "owner", b"\xff\0")
    found = work.set_meta("src/a", "empty", "")

    assert found == work.read_meta("src/a")
    assert (found.tags, found.entries) == (("two", "one"), (MetaEntry("empty", b""), MetaEntry("owner", b"\xff\0")))
    with pytest.raises(PathUnsuitable, match="'three'"):
        work.untag("src/a", "one", "three")
    assert work.untag("src/a", "one").tags == ("two",)
    assert work.delete_meta("src/a", "owner").entries == (MetaEntry("empty", b""),)
    with pytest.raises(PathUnsuitable, match="'owner'"):
        work.delete_meta("src/a", "owner")
    with pytest.raises(PathNotFound):
        work.tag("nowhere", "one")
    for key in ("", "overlay.opaque", "a\0b", "k" * 251):
        with pytest.raises(InvalidInput):
            work.set_meta("src/a", key, "value")
    for tag in ("", " ", "a,b", "a\nb"):
        with pytest.raises(InvalidInput):
            work.tag("src/a", tag)
    with pytest.raises(AttributeRefused):
        work.set_meta("src/a", "owner", b"x" * ((64 << 10) + 1))
    assert work.read_meta("src/a").tags == ("two",)


def test_paths_are_found_by_them(work: Workspace) -> None:
    """In the workspace as it is, also ignored ones, and in a checkpoint."""
    work.tag("src/a", "one", "two")
    work.tag("src", "one")
    work.tag("x.log", "one")
    work.set_meta("src/b", "owner", "ada")
    work.checkpoint("tagged")
    work.untag("src/a", "two")

    def names(**conditions: object) -> list[bytes]:
        return [entry.path for entry in work.find(**conditions).entries]  # type: ignore[arg-type]  # names of options

    assert work.list_tags().tags == (TagCount("one", 3),)
    assert names(tags=["one"]) == [b"src", b"src/a", b"x.log"]
    work.tag("/", "root")
    assert names(tags=["root"]) == [b""]
    assert names(tags=["one", "two"]) == []
    assert names(tags=["one", "two"], at="tagged") == [b"src/a"]
    assert names(meta={"owner": None}) == names(meta={"owner": "ada"}) == [b"src/b"]
    assert names(meta={"owner": "bob"}) == names(tags=["one"], at="start") == []


def test_a_change_of_them_alone_is_saved_and_undone(vault: Vault, work: Workspace) -> None:
    """Status tells it, a checkpoint holds it, restore and undo bring it back; copies, renames and forks carry it."""
    work.tag("src/a", "one")
    work.tag("src", "directory")

    assert [change.path for change in work.status().sidecar_changed] == [b"src", b"src/a"]
    assert work.checkpoint("tagged").outcome == "created"
    assert work.status().clean
    work.write("src/a", b"other\n")
    work.copy("src/a", "copy")
    work.move("src/a", "moved")
    side = vault.fork("side")
    for tree in (work, side):
        assert [tree.read_meta(path).tags for path in ("copy", "moved", "src")] == [("one",), ("one",), ("directory",)]
    work.restore("start")
    assert work.list_tags().tags == ()
    work.restore("tagged")
    assert work.list_tags().tags == (TagCount("directory", 1), TagCount("one", 1))
    work.untag("src/a", "one")
    work.undo()
    assert work.read_meta("src/a").tags == ("one",)
    work.redo()
    assert work.read_meta("src/a").tags == ()


def tags_in(work: Workspace) -> dict[bytes, tuple[str, ...]]:
    """Give the tags of all paths that have some, in alphabetical order."""
    found = {
        info.path: tuple(sorted(work.read_meta(info.path).tags))
        for info in work.walk()
        if info.kind is not Kind.SYMLINK
    }
    return {path: tags for path, tags in found.items() if tags}


def save(work: Workspace) -> str:
    """Make a checkpoint; give its commit."""
    made = work.checkpoint().checkpoint
    assert made is not None
    return made.id


@pytest.mark.parametrize("mode", ["normal", "squash"])
def test_a_merge_brings_what_the_source_changed(vault: Vault, work: Workspace, mode: str) -> None:
    """Attribute by attribute, along renames on either side.

    Tags of both come together, and the target's value stays.
    """
    work.write("src/c", b"c\n" * 20)
    work.tag("src/a", "old", "kept")
    work.tag("src/c", "mine")
    work.checkpoint("base")
    side = vault.fork("side")
    side.untag("src/a", "old")
    side.tag("src/a", "theirs")
    side.tag("src/b", "renamed here")
    side.tag("src", "directory")
    side.move("src/c", "moved there")
    side.tag("moved there", "theirs")
    side.set_meta("src/a", "owner", "ada")
    side.set_meta("src/a", "state", "done")
    work.tag("src/a", "ours")
    work.set_meta("src/a", "owner", "bob")
    work.write("src/b", b"more\n" + b"b\n" * 20)
    work.move("src/b", "moved here")
    work.tag("src/c", "ours")
    before = tags_in(work)

    result = work.merge("side", mode=mode)

    assert [(warning.code, warning.path) for warning in result.warnings] == [("merge.attribute_kept", b"src/a")]
    assert tags_in(work) == {
        b"src": ("directory",),
        b"src/a": ("kept", "ours", "theirs"),
        b"moved here": ("renamed here",),
        b"moved there": ("mine", "ours", "theirs"),
    }
    assert work.read_meta("src/a").entries == (MetaEntry("owner", b"bob"), MetaEntry("state", b"done"))
    assert work.status().clean
    work.undo()
    assert tags_in(work) == before


@pytest.mark.parametrize("goes_ahead", [False, True])
def test_a_merge_brings_permission_bits(vault: Vault, work: Workspace, *, goes_ahead: bool) -> None:
    """Of files and directories that both sides have, along renames; what both changed stays as it is here."""
    work.write("src/c", b"c\n" * 20)
    work.write("both", b"both\n")
    work.write("run", b"run\n")
    work.checkpoint("base")
    side = vault.fork("side")
    side.write("src/a", b"secret\n")
    for path, mode in (("src/a", 0o600), ("src/c", 0o400), ("src", 0o700), ("both", 0o600), ("run", 0o755)):
        side.chmod(path, mode)
    side.checkpoint("closed")
    renamed = "src/c"
    if not goes_ahead:
        renamed = "moved here"
        work.move("src/c", renamed)
        work.chmod("both", 0o640)
        work.chmod("run", 0o040)
        work.chmod("src/b", 0o600)
        side.move("src/b", "moved there")
    before = {entry.path: entry.mode for entry in work.walk("/")}

    result = work.merge("side")

    modes = {path: stat.S_IMODE(work.stat(path).mode) for path in ("src", "src/a", renamed)}
    assert modes == {"src": 0o700, "src/a": 0o600, renamed: 0o400}
    if goes_ahead:
        assert not result.warnings
        assert stat.S_IMODE(work.stat("both").mode) == 0o600
    else:
        assert [(one.code, one.path) for one in result.warnings] == [("merge.attribute_kept", b"both")]
        assert "permission bits" in result.warnings[0].message
        assert stat.S_IMODE(work.stat("both").mode) == 0o640
        assert stat.S_IMODE(work.stat("moved there").mode) == 0o600
    assert stat.S_IMODE(work.stat("run").mode) & 0o100
    assert work.status().clean
    work.undo()
    assert {entry.path: entry.mode for entry in work.walk("/")} == before


@pytest.mark.parametrize("goes_ahead", [False, True])
def test_a_merge_brings_the_permission_bits_of_what_is_new_here(
    vault: Vault, work: Workspace, *, goes_ahead: bool
) -> None:
    """Of what replaces an entry of another kind, and of a renamed file that both sides edited."""
    work.write("conf", b"c\n" * 20)
    work.write("place", b"file\n")
    work.write("dir/file", b"file\n")
    work.symlink("pointer", "conf")
    work.checkpoint("base")
    side = vault.fork("side")
    side.move("conf", "conf.d")
    side.write("conf.d", b"c\n" * 20 + b"secret\n")
    side.chmod("conf.d", 0o600)
    side.remove("place")
    side.write("place/secret", b"secret\n")
    side.chmod("place/secret", 0o600)
    side.chmod("place", 0o700)
    side.remove("dir", recursive=True)
    side.remove("pointer")
    for path in ("dir", "pointer"):
        side.write(path, b"secret\n")
        side.chmod(path, 0o600)
    side.checkpoint("closed")
    if not goes_ahead:
        work.write("conf", b"mine\n" + b"c\n" * 20)

    assert not work.merge("side").warnings

    for path, mode in (
        ("conf.d", 0o600),
        ("place", 0o700),
        ("place/secret", 0o600),
        ("dir", 0o600),
        ("pointer", 0o600),
    ):
        assert stat.S_IMODE(work.stat(path).mode) == mode, path
    assert work.read("conf.d").endswith(b"secret\n")
    assert work.status().clean


def test_a_closed_file_that_replaces_an_ignored_one_stays_closed(vault: Vault, work: Workspace) -> None:
    """The mode of what was ignored here counts no more."""
    side = vault.fork("side")
    side.write("y.log", b"secret\n")
    side.chmod("y.log", 0o600)
    side.add("y.log", force=True)
    side.checkpoint("closed")
    work.write("y.log", b"mine\n")
    work.checkpoint("mine")

    assert [told.code for told in work.merge("side").warnings] == ["merge.replaced_ignored"]

    assert (work.read("y.log"), stat.S_IMODE(work.stat("y.log").mode)) == (b"secret\n", 0o600)


@pytest.mark.needs("fuse")
@pytest.mark.parametrize(
    "backend", [None, "fuse", pytest.param("overlay", marks=pytest.mark.needs("root", "overlayfs"))]
)
def test_a_mode_of_one_hard_link_is_not_that_of_the_other(
    vault: Vault, work: Workspace, tree: Path, backend: str | None
) -> None:
    """A merge and an undo write the file anew: what has another name keeps that."""
    work.write("run", b"run\n")
    work.checkpoint("base")
    side = vault.fork("side")
    side.chmod("run", 0o755)
    side.checkpoint("executable")
    with nullcontext() if backend is None else work.mount(tree, backend=backend):
        if backend is None:
            work.link("run", "other")
        else:
            os.link(tree / "run", tree / "other")
        work.checkpoint("linked")

        work.merge("side")

        assert [stat.S_IMODE(work.stat(path).mode) for path in ("run", "other")] == [0o755, 0o644]
        assert work.status().clean
        work.undo()
        assert [stat.S_IMODE(work.stat(path).mode) for path in ("run", "other")] == [0o644, 0o644]
        assert work.status().clean


def test_a_file_that_a_conflict_puts_aside_keeps_its_mode(vault: Vault, work: Workspace) -> None:
    """What is closed under its own name is so under that of the fork, too."""
    for path in ("conf", "kind"):
        work.write(path, b"file\n")
    work.checkpoint("base")
    side = vault.fork("side")
    for path in ("conf", "kind"):
        side.remove(path)
    side.write("conf/in", b"in\n")
    side.symlink("kind", "conf/in")
    side.checkpoint("other kinds")
    for path in ("conf", "kind"):
        work.write(path, b"secret\n")
        work.chmod(path, 0o600)
    work.checkpoint("closed")

    work.merge("side", on_conflict="workspace")

    for path in ("conf~main", "kind~main"):
        assert (work.read(path), stat.S_IMODE(work.stat(path).mode)) == (b"secret\n", 0o600)


def test_an_attribute_of_one_hard_link_is_not_that_of_the_other(work: Workspace) -> None:
    """As with modes: a restore gives each name what it had."""
    work.write("plain", b"same\n")
    work.write("tagged", b"same\n")
    work.tag("tagged", "kept")
    apart = work.checkpoint("apart").checkpoint
    assert apart is not None
    work.remove("plain")
    work.link("tagged", "plain")
    work.checkpoint("linked")

    work.restore(apart.id)

    assert tags_in(work) == {b"tagged": ("kept",)}
    assert work.status().clean


def test_what_git_has_of_a_mode_opens_no_closed_file(vault: Vault, work: Workspace) -> None:
    """The other side makes it executable, which is all that the trees tell."""
    for path in ("run", "stay"):
        work.write(path, b"run\n")
        work.chmod(path, 0o755 if path == "stay" else 0o644)
    work.checkpoint("base")
    side = vault.fork("side")
    side.chmod("run", 0o755)
    side.chmod("stay", 0o644)
    side.checkpoint("executable")
    work.chmod("run", 0o600)
    work.chmod("stay", 0o700)
    work.checkpoint("closed")

    work.merge("side")

    assert [stat.S_IMODE(work.stat(path).mode) for path in ("run", "stay")] == [0o700, 0o600]
    assert work.status().clean


def test_a_merge_with_conflicts_brings_them(vault: Vault, work: Workspace) -> None:
    """They are there while the conflicts are, and after them."""
    side = vault.fork("side")
    side.tag("src/b", "theirs")
    side.tag("src/a", "conflict")
    side.write("src/a", b"theirs\n")
    work.write("src/a", b"ours\n")
    work.merge("side", on_conflict="workspace")
    assert tags_in(work) == {b"src/a": ("conflict",), b"src/b": ("theirs",)}
    work.resolve("src/a", "ours")
    work.continue_merge()
    assert tags_in(work) == {b"src/a": ("conflict",), b"src/b": ("theirs",)}


@pytest.mark.parametrize("conflicts", [False, True])
def test_a_rebase_brings_those_of_the_other_state(vault: Vault, work: Workspace, conflicts: bool) -> None:
    """With the fork's own, also where a commit does not fit."""
    side = vault.fork("side")
    side.tag("src/a", "side")
    side.write("src/b", b"side\n")
    side.checkpoint("side")
    work.tag("src/a", "main")
    work.write("new", b"new\n")
    work.tag("new", "new")
    if conflicts:
        work.write("src/b", b"main\n")
    work.checkpoint("main")
    side.rebase("main", on_conflict="workspace")
    if conflicts:
        side.resolve("src/b", "ours")
        side.continue_rewrite()
    assert tags_in(side) == {b"src/a": ("main", "side"), b"new": ("new",)}
    work.tag("src/a", "later")
    work.checkpoint("later")
    side.update()
    assert tags_in(side) == {b"src/a": ("later", "main", "side"), b"new": ("new",)}


STEPS = st.sampled_from(["tag", "untag", "move", "checkpoint", "fork", "merge", "restore", "undo"])


@settings(max_examples=12)
@given(steps=st.lists(st.tuples(STEPS, st.integers(0, 2), st.integers(0, 2)), max_size=10))
def test_tags_survive_any_sequence(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]) -> None:
    """Each file has the tags of a model after tagging, renames, checkpoints, merged forks, restores and undo."""
    with Home(tmp_path_factory.mktemp("home")) as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        files = [f"dir/{number}" for number in range(3)]
        for file in files:
            work.write(file, f"{file}\n".encode() * 20)
        saved = [(save(work), list(files), {number: set[str]() for number in range(3)})]
        _, names, model = saved[0]
        names, model = list(names), {number: set(tags) for number, tags in model.items()}
        for count, (step, number, other) in enumerate(steps):
            before = list(names), {each: set(tags) for each, tags in model.items()}
            tag = f"t{other}"
            if step == "tag":
                work.tag(names[number], tag)
                model[number].add(tag)
            elif step == "untag" and tag in model[number]:
                work.untag(names[number], tag)
                model[number].remove(tag)
            elif step == "move":
                work.move(names[number], f"dir/{count}-{number}")
                names[number] = f"dir/{count}-{number}"
            elif step == "checkpoint":
                made = save(work)
                saved.append((made, list(names), {each: set(tags) for each, tags in model.items()}))
            elif step in ("fork", "merge", "undo"):
                side = vault.fork(f"side{count}")
                side.tag(names[number], f"s{count}")
                another = (number + 1) % 3
                if step == "merge":  # of two files, each renamed by another side
                    side.move(names[another], f"dir/s{count}")
                    work.tag(names[another], f"m{count}")
                    work.move(names[number], f"dir/m{count}")
                work.merge(f"side{count}")
                if step == "undo":
                    work.undo()
                else:
                    model[number].add(f"s{count}")
                    if step == "merge":
                        model[another].add(f"m{count}")
                        names[another] = f"dir/s{count}"
                        names[number] = f"dir/m{count}"
            elif step == "restore":
                label = number % len(saved)
                work.restore(saved[label][0])
                names, model = list(saved[label][1]), {each: set(tags) for each, tags in saved[label][2].items()}
                if other == 0 and before != (names, model):  # else nothing was restored
                    work.undo()
                    names, model = before
            wanted = {os.fsencode(names[each]): tuple(sorted(tags)) for each, tags in model.items() if tags}
            assert tags_in(work) == wanted, (step, number, other)


@pytest.mark.needs("fuse", "git")
@pytest.mark.parametrize("backend", ["fuse", pytest.param("overlay", marks=pytest.mark.needs("overlayfs"))])
def test_programs_in_a_live_tree_see_and_set_them(work: Workspace, tmp_path: Path, backend: str) -> None:
    """They are attributes of the files there."""
    with work.mount(tmp_path / "m", backend=backend):
        file = tmp_path / "m" / "src" / "a"
        work.tag("src/a", "one")
        assert os.getxattr(file, "user.xdg.tags") == b"one"
        os.setxattr(file, "user.xdg.tags", b"one, two,,one")
        os.setxattr(file, "user.owner", b"ada")
        assert work.read_meta("src/a").tags == ("one", "two")
        assert [entry.path for entry in work.find(tags=["two"], meta={"owner": "ada"}).entries] == [b"src/a"]
        assert work.list_tags().tags == (TagCount("one", 1), TagCount("two", 1))
        work.checkpoint("tagged")
        work.untag("src/a", "one", "two")
        assert os.listxattr(file) == ["user.owner"]
        work.undo()
        assert os.getxattr(file, "user.xdg.tags") == b"one, two,,one"


@pytest.mark.needs("root", "fuse")
@pytest.mark.parametrize("backend", ["fuse", pytest.param("overlay", marks=pytest.mark.needs("overlayfs"))])
def test_a_write_takes_capabilities_away_as_the_kernel_does(work: Workspace, tmp_path: Path, backend: str) -> None:
    """Of a file that root writes, set-uid stays; other attributes stay, too."""
    capability = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)  # linux/capability.h: CAP_NET_RAW, effective
    work.tag("src/a", "one")
    with work.mount(tmp_path / "m", backend=backend):
        for file in (tmp_path / "m/src/a", tmp_path / "m/src/b"):
            file.chmod(0o4755)
            os.setxattr(file, "security.capability", capability)
        work.write("src/a", b"new")
        assert os.listxattr(tmp_path / "m/src/a") == ["user.xdg.tags"]
        assert (tmp_path / "m/src/a").stat().st_mode & 0o7777 == 0o4755
    work.write("src/b", b"new")
    with work.mount(tmp_path / "m", backend=backend):
        assert os.listxattr(tmp_path / "m/src/b") == []


@pytest.mark.ordinary
@pytest.mark.needs("fuse")
def test_a_write_of_an_ordinary_user_takes_set_uid_away_as_the_kernel_does(work: Workspace, tmp_path: Path) -> None:
    """And set-gid of a file that the group may execute."""
    with work.mount(tmp_path / "m", backend="fuse"):
        for name, mode in (("a", 0o6755), ("b", 0o2644)):
            (tmp_path / "m/src" / name).chmod(mode)
            work.write(f"src/{name}", b"new")
        assert (tmp_path / "m/src/a").stat().st_mode & 0o7777 == 0o755
        assert (tmp_path / "m/src/b").stat().st_mode & 0o7777 == 0o2644
