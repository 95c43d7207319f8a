"""Which paths of a workspace go into the tree and which into the sidecar."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from avfs_git.errors import HostError
from avfs_git.gitstore.formats.trees import MODE_TREE
from avfs_git.model import ChangeKind, CheckpointResult
from avfs_git.paths import Oid, TreePath
from avfs_git.sdk import Avfs, Workspace
from avfs_git.vfs.layer.readers import UpperReader
from avfs_git.workspace.capture.requests import CheckpointRequest
from avfs_git.workspace.checkpoint.checkpoint import save_checkpoint

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")


def tracked(work: Workspace, rev: str = "HEAD") -> set[bytes]:
    """List the files of a commit's tree."""
    store = work.vault._core.store
    pending = [(b"", Oid(bytes.fromhex(work.checkpoint_details(rev).checkpoint.tree)))]
    found = set()
    while pending:
        path, tree = pending.pop()
        for name, (mode, oid) in store.read_tree(tree).items():
            if mode == MODE_TREE:
                pending.append((path + name + b"/", oid))
            else:
                found.add(path + name)
    return found


def kept(result: CheckpointResult) -> list[bytes | None]:
    """List what a checkpoint says to stay beside history."""
    return [warning.path for warning in result.warnings if warning.code == "capture.kept_beside"]


def save(work: Workspace) -> CheckpointResult:
    """Checkpoint, and check that nothing is left to do."""
    result = work.checkpoint()
    assert work.status().clean
    return result


@pytest.mark.parametrize(
    ("method", "named"), [("list_dir", "'d/e'"), ("open_listed", "'d/e/a'"), ("file_xattrs", "'d/e/a'")]
)
def test_what_the_disk_does_not_give_is_named(
    work: Workspace, monkeypatch: pytest.MonkeyPatch, method: str, named: str
) -> None:
    """By its path, whatever the system's error names."""
    work.write("d/e/a", b"1")
    real = getattr(UpperReader, method)

    def fail(reader: UpperReader, *given: object) -> object:
        if given[0] in (b"", b"d"):
            return real(reader, *given)
        raise OSError(errno.EIO, os.strerror(errno.EIO), 7)

    monkeypatch.setattr(UpperReader, method, fail)
    with pytest.raises(HostError, match=f"cannot read {named}: Input/output error"):
        work.checkpoint()


def test_ignored_gitignore_still_rules(work: Workspace) -> None:
    """A `.gitignore` that names itself is in the sidecar; editing it counts all the same."""
    work.write("x.log", b"1")
    work.write(".gitignore", b".gitignore\n*.log\n")
    save(work)
    assert tracked(work) == set()
    work.write(".gitignore", b".gitignore\n")
    work.write("y.log", b"1")
    save(work)
    assert tracked(work) == {b"y.log"}


def test_gitignore_replaced_by_directory_rules_no_longer(work: Workspace) -> None:
    """A directory takes the place of a `.gitignore`.

    Files that its rules would keep out come in; files that they kept out stay.
    """
    work.write("a", b"1")
    work.write(".gitignore", b"[ab]\n")
    save(work)
    assert tracked(work) == {b".gitignore"}
    work.remove(".gitignore")
    work.make_dir(".gitignore")
    work.write(".gitignore/c", b"1")
    work.write("b", b"1")
    assert kept(save(work)) == [b"a"]
    assert tracked(work) == {b"b", b".gitignore/c"}


@pytest.mark.parametrize("folded", [False, True])
def test_gitignore_edit_reaches_directories_that_nobody_touched(work: Workspace, folded: bool) -> None:
    """Ignored files deep in the tree are named when the rule goes, from the upper layer and from the lower one."""
    work.write("a/b/c/x.log", b"1")
    work.write("a/b/c/y", b"1")
    work.write("z/x.log", b"1")
    work.write(".gitignore", b"*.log\n")
    save(work)
    if folded:
        work.fold()
    assert tracked(work) == {b".gitignore", b"a/b/c/y"}
    work.write("a/.gitignore", b"!x.log\n")
    assert kept(save(work)) == [b"a/b/c/x.log"]
    assert tracked(work) == {b".gitignore", b"a/.gitignore", b"a/b/c/y"}
    work.remove(".gitignore")
    assert kept(save(work)) == [b"a/b/c/x.log", b"z/"]
    assert tracked(work) == {b"a/.gitignore", b"a/b/c/y"}
    work.add("a/b/c/x.log", "z")
    assert tracked(work) == {b"a/.gitignore", b"a/b/c/y", b"a/b/c/x.log", b"z/x.log"}


def test_tracked_files_stay_tracked_under_new_rules(home: Avfs, work: Workspace) -> None:
    """As with `git add -A`, a rule says nothing about what is tracked, with or without the stat cache."""
    work.write("x.log", b"1")
    save(work)
    work.write(".gitignore", b"*.log\n")
    work.write("y.log", b"1")
    save(work)
    assert tracked(work) == {b".gitignore", b"x.log"}
    cache = work._opened.layout.statcache
    home.close()
    cache.unlink()
    work = home.open_vault("v").workspace()
    assert work.status().clean
    work.write("x.log", b"2")
    save(work)
    assert tracked(work) == {b".gitignore", b"x.log"}


def test_git_directory_among_tracked_files(work: Workspace) -> None:
    """A `.git` made where files are tracked stays out of the tree with all that is in it; the files stay tracked."""
    work.write("a/b", b"1")
    save(work)
    work.write("a/.git/objects/x", b"1")
    work.write("a/.git/HEAD", b"ref: refs/heads/main\n")
    work.write("a/c", b"1")
    save(work)
    assert tracked(work) == {b"a/b", b"a/c"}
    work.remove("a/.git", recursive=True)
    work.restore("HEAD")
    assert work.read("a/.git/objects/x") == b"1"


def test_nested_repository_comes_and_goes(work: Workspace) -> None:
    """An untracked directory with a `.git` is in the sidecar whole.

    Without it, its files are tracked once they are added.
    """
    work.write("n/.git/HEAD", b"x")
    work.write("n/deep/f", b"1")
    save(work)
    assert tracked(work) == set()
    work.remove("n/.git", recursive=True)
    assert kept(save(work)) == [b"n/"]
    assert tracked(work) == set()
    work.add("n")
    assert tracked(work) == {b"n/deep/f"}
    work.write("n/.git", b"gitdir: ../elsewhere\n")
    save(work)
    assert tracked(work) == {b"n/deep/f"}


@pytest.mark.parametrize(
    "name", [b".GIT", b"git~1", b".git ", b".g\xe2\x80\x8cit", b".gitmodules", b"GITMOD~1", b".gitattributes"]
)
def test_directories_that_fsck_refuses_are_in_the_sidecar(work: Workspace, name: bytes) -> None:
    """A directory whose name git refuses comes back on restore, and git never sees it."""
    work.write(b"a/" + name + b"/in/it", b"1")
    work.write("a/b", b"1")
    save(work)
    assert tracked(work) == {b"a/b"}
    work.remove("a", recursive=True)
    work.restore("HEAD")
    assert work.read(b"a/" + name + b"/in/it") == b"1"


@pytest.mark.parametrize("name", [".gitmodules", "gitmod~2", ".GITMODULES "])
def test_symlinks_that_fsck_refuses_are_in_the_sidecar(work: Workspace, name: str) -> None:
    """A symbolic link called `.gitmodules` is kept, out of git's sight; a file of that name is a file."""
    work.symlink(name, b"elsewhere")
    save(work)
    assert tracked(work) == set()
    work.remove(name)
    work.restore("HEAD")
    assert work.read_link(name) == b"elsewhere"
    work.remove(name)
    work.write(name, b"")
    work.add(name)
    assert tracked(work) == {name.encode()}


def test_mode_and_attributes_of_the_root(work: Workspace) -> None:
    """What is done to the root alone is a change, and comes back."""
    work.write("a", b"1")
    save(work)
    first = work.checkpoint_details("HEAD").checkpoint.id
    work.chmod("/", 0o750)
    assert [change.kind for change in work.status().sidecar_changed] == [ChangeKind.MODE]
    assert save(work).outcome == "created"
    work.restore(first)
    assert stat.S_IMODE(work.stat("/").mode) == 0o755
    work.restore("HEAD~1")
    assert stat.S_IMODE(work.stat("/").mode) == 0o750


def test_cost_follows_what_changed(work: Workspace) -> None:
    """A checkpoint reads the trees on the path of a change.

    A `.gitignore` opens no directory without untracked files.
    """
    for number in range(40):
        work.write(f"d{number}/sub/f", b"1")
    work.write("d0/sub/x.log", b"1")
    work.write(".gitignore", b"*.log\n")
    save(work)
    work.fold()
    store = work.vault._core.store
    with work.vault.fork("other") as other:
        reads: list[Oid] = []
        whole = store.read_tree

        def counted(oid: Oid) -> object:
            reads.append(oid)
            return whole(oid)

        store.read_tree = counted  # type: ignore[method-assign, assignment]
        try:
            other.write("d7/sub/f", b"2")
            other.checkpoint()
            one_file = len(set(reads))
            reads.clear()
            other.write(".gitignore", b"# nothing\n")
            other.checkpoint()
            rules = len(set(reads))
        finally:
            del store.read_tree
    assert one_file < 20
    assert rules < 20


def test_file_revealed_by_hand_counts_again(work: Workspace) -> None:
    """If another hand removes an entry of the upper layer, what the lower one shows is captured, directories whole."""
    work.write("d/e/f", b"base\n")
    work.write("d/e/x.log", b"base\n")
    work.write(".gitignore", b"*.log\n")
    work.symlink("d/link", b"e")
    save(work)
    work.fold()
    work.remove("d", recursive=True)
    save(work)
    assert tracked(work) == {b".gitignore"}
    opened = work._opened
    with opened.locked() as locked, locked.changing():
        os.unlink(os.fsencode(opened.layout.upper) + b"/d")
    opened.dirty = None
    opened.forget()
    opened.epoch = -1
    result = save(work)
    assert {change.path for change in result.changed_files} == {b"d/e/f", b"d/link"}
    assert b"d/e/f" in tracked(work)
    assert work.read("d/e/x.log") == b"base\n"


def test_file_that_goes_on_being_written_is_in_the_next_checkpoint(work: Workspace) -> None:
    """What changes after a capture is in the next one, also the file that was the last to change before it."""
    work.write("f", b"1\n")
    save(work)
    with work._opened.locked() as locked, locked.changing() as merged:
        node = merged.resolve(TreePath(b"f"))
        for text in (b"2\n", b"3\n"):
            merged.contents.write(node, text, 0)
            assert {change.path for change in save_checkpoint(locked, CheckpointRequest()).changed_files} == {b"f"}


def test_left_out_files_are_named(work: Workspace) -> None:
    """An ignored file above the limit is in no checkpoint, and the result says so; a tracked one is never left out."""
    work.vault.set_config("sidecar.max_file_bytes", "10")
    work.write(".gitignore", b"*.log\n")
    work.write("x.log", b"y" * 11)
    work.write("small.log", b"y")
    work.write("big", b"y" * 11)
    result = work.checkpoint()
    assert [warning.path for warning in result.warnings] == [b"x.log"]
    assert {change.path for change in result.sidecar_changed} == {b"small.log"}
    assert b"big" in tracked(work)
    assert work.read("x.log") == b"y" * 11


@pytest.mark.slow
def test_attribute_set_right_after_a_checkpoint(home: Avfs, work: Workspace) -> None:
    """What changes a moment after a capture, and shows in no time or size, is in the next one whoever makes it."""
    for number in range(30):
        work.write("f", b"1")
        work.touch("f", mtime_ns=10**18)
        work.checkpoint()
        opened = work._opened
        with opened.locked() as locked, locked.changing() as merged:
            merged.attributes.set_xattr(merged.resolve(TreePath(b"f")), b"user.n", b"%d" % number)
        home.close()
        work = home.open_vault("v").workspace()
        assert [change.path for change in work.checkpoint().sidecar_changed] == [b"f"]
