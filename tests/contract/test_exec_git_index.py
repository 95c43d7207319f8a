"""Git in commands: its index is brought up when a command's git comes to read it, not before each command."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.gitstore.refs import locks as reflocks
from avfs_git.host.files.closing import closing_fd
from avfs_git.paths import Oid
from avfs_git.sdk import Workspace
from avfs_git.sdk.workspace.commands import Prepared
from avfs_git.workspace import gitdir
from avfs_git.workspace.gitdir import make_index
from avfs_git.workspace.opened.workspace import OpenWorkspace
from avfs_git.workspace.vault import madeindexes
from avfs_git.workspace.vault.gitmoves import open_worktree
from tests.support.commands import ALLOW_ALL

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout", "fuse", "overlayfs", "root"), pytest.mark.slow]

STATUS = "git status --porcelain; git diff --cached --name-status"


@pytest.fixture
def work(mount_dir: Path, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace with some files."""
    source = tmp_path / "source"
    (source / "dir").mkdir(parents=True)
    for name in ("file", "other", "dir/deep"):
        (source / name).write_text("content\n")
    policy = tmp_path / "policy.toml"
    policy.write_text(ALLOW_ALL)
    with Avfs(mount_dir / "h", policy=policy) as avfs:
        yield avfs.create_vault("v", source=source).workspace()


@pytest.fixture
def prepared(work: Workspace) -> Iterator[Prepared]:
    """The same, kept ready."""
    with work.prepare() as prepared:
        yield prepared


def out(prepared: Prepared | Workspace, text: str) -> str:
    """Run a text; give what it writes."""
    result = prepared.exec(shell=text)
    assert (result.exit_code, result.stderr, result.backend) == (0, b"", "overlay")
    return result.stdout.decode()


def has_index(work: Workspace) -> bool:
    """Whether git has an index for the workspace's tree."""
    opened = work._opened
    return open_worktree(opened.vault, opened.fork).has_index


def test_commands_without_git_make_no_index(work: Workspace, prepared: Prepared) -> None:
    """Reading, writing and being committed do without; the first git has one."""
    out(prepared, "cat file; echo 1 > file; rm other; find . -type f")
    out(prepared, "echo 2 > file")
    assert not has_index(work)

    assert out(prepared, STATUS) == ""
    assert has_index(work)


def test_git_sees_what_avfs_has_committed(prepared: Prepared) -> None:
    """After each commit of avfs, the next git finds nothing to say; also where the index is there and behind."""
    for number in range(3):
        out(prepared, f"echo {number} > file; rm -f dir/deep; echo {number} > dir/deep; echo > new{number}")
        assert out(prepared, STATUS) == ""
    out(prepared, "echo > unseen")
    assert out(prepared, STATUS) == ""


def test_git_sees_what_its_own_command_has_changed(prepared: Prepared) -> None:
    """The index is brought up in the middle of a command, to the commit, and not to what the command did until then."""
    out(prepared, "echo before > other")
    assert out(prepared, f"echo changed > file; rm other; echo > new; {STATUS}") == " M file\n D other\n?? new\n"
    assert out(prepared, STATUS) == ""
    assert out(prepared, f"echo again > file; git add file; echo > more; {STATUS}") == "M  file\n?? more\nM\tfile\n"


def test_git_commits_what_was_staged_and_nothing_else(prepared: Prepared) -> None:
    """An index that was taken for that of another commit would take the other changes back."""
    out(prepared, "echo 1 > file; echo 1 > other")
    text = (
        "echo > new; git add new; git -c user.name=a -c user.email=a@b commit -qm one; git show --name-status "
        "--format=%s"
    )
    assert out(prepared, text) == "one\n\nA\tnew\n"
    assert out(prepared, "cat file other") == "1\n1\n"


def test_forks_in_which_nothing_was_changed_have_one_index_made(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is that of any other fork of the commit.

    Where something was changed, or on another commit, it is another one.
    """
    made = []

    def make(opened: OpenWorkspace, tree: Oid, check: Callable[[], None]) -> bytes:
        made.append(opened.fork)
        return make_index(opened, tree, check)

    monkeypatch.setattr(madeindexes, "_WORTH_BYTES", 0)
    monkeypatch.setattr(gitdir, "make_index", make)
    with ExitStack() as stack:
        a, b, c = (stack.enter_context(work.vault.fork(name)) for name in "abc")
        assert out(a, STATUS) == out(b, STATUS) == ""
        out(c, "echo 1 > file")
        assert out(c, f"echo 2 > other; {STATUS}") == " M other\n"
        assert out(b, f"echo 3 > file; {STATUS}") == " M file\n"
    assert made == ["a", "c"]


def test_grep_reads_the_tree_while_the_index_is_behind(prepared: Prepared) -> None:
    """It opens `.git` so that it does not wait, and would be told to come again."""
    out(prepared, "echo content > new")
    assert out(prepared, "grep -rlx content . | sort") == "./dir/deep\n./file\n./new\n./other\n"
    for number, text in enumerate(("grep -rlx {} .", "grep {} . -lxsR", "grep --recursive -lx {}")):
        found = out(prepared, f"echo {number} > file; {text.format(number)}; {STATUS}")
        assert found.removeprefix("./") == "file\n M file\n"


def test_several_gits_wait_for_one_index(prepared: Prepared) -> None:
    """Whoever comes while it is made gets it, too, however deep in the command."""
    out(prepared, "echo 1 > file")
    quick = (
        "for n in 1 2 3 4; do (GIT_OPTIONAL_LOCKS=0 git status --porcelain) & done; wait; sh -c 'sh -c \"git "
        "diff HEAD\"'"
    )
    assert out(prepared, quick) == ""


def test_where_nobody_can_be_held_back_the_index_is_brought_up_before(work: Workspace, prepared: Prepared) -> None:
    """Somebody has the file open, so that the kernel gives no lease on it."""
    out(prepared, "echo 1 > file")
    with closing_fd(os.open(work._opened.layout.root / "gitlink" / ".git", os.O_RDONLY)):
        assert out(prepared, STATUS) == ""


def test_a_command_alone_has_the_same(work: Workspace) -> None:
    """Without a session of commands."""
    out(work, "echo 1 > file")
    assert not has_index(work)
    assert out(work, f"echo 2 > other; {STATUS}") == " M other\n"


def test_a_command_that_is_killed_while_it_reads_git_leaves_all_in_order(prepared: Prepared) -> None:
    """A git that waits for its index can be killed; the next one has it."""
    out(prepared, "echo 1 > file")
    result = prepared.exec(shell="git status & kill -9 $!; wait; exit 3")
    assert result.exit_code == 3
    assert out(prepared, STATUS) == ""


def test_the_commit_has_its_note(work: Workspace, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that goes with the commit, one where git has committed, one where git holds the ref of the notes."""
    notes = work._opened.vault.git_dir / "refs" / "notes"
    show = "git log -1 --format=%N --notes=avfs"
    out(prepared, "echo 1 > file")
    assert "Command: echo 1 > file\n" in out(prepared, show)
    out(prepared, "echo > new; git add new; git -c user.name=a -c user.email=a@b commit -qm one")
    assert "Command: echo > new; git add" in out(prepared, show)

    lock = notes / "avfs.lock"
    lock.touch()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(reflocks, "_LOCK_WAIT_S", 0.1)
            result = prepared.exec(shell="echo 2 > file")
    finally:
        lock.unlink()
    assert (result.exit_code, [warning.code for warning in result.warnings]) == (0, ["aftermath.failed"])
    assert result.commit is not None
    assert out(prepared, show).strip() == ""
    assert out(prepared, "cat file") == "2\n"
