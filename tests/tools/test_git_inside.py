"""Git in a live tree behaves as in an ordinary working tree, and what it does there is the fork's history.

The oracle is a plain clone in which C git does the same.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avfs_git.gitstore.formats.index import GitIndex
from avfs_git.model import Identity
from avfs_git.sdk import Avfs, Session, Vault, Workspace

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.usefixtures("person")]

ADA = Identity("Ada Author", "ada@example.org")
_ENV = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/dev/null",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    "GIT_EDITOR": "true",
}


def _run(cwd: Path, *argv: str, check: bool = True) -> str:
    done = subprocess.run(argv, cwd=cwd, env=_ENV, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"{argv} ended with {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}")
    return (done.stdout + done.stderr).decode("utf-8", "backslashreplace")


def _git(cwd: Path, *argv: str, check: bool = True) -> str:
    return _run(cwd, "git", *argv, check=check)


def _make_clone(place: Path) -> Path:
    """Make a repository with some history, on the branch `work`."""
    place.mkdir()
    _git(place, "init", "-q", "-b", "work")
    for number in range(3):
        (place / f"dir{number}" / "deep").mkdir(parents=True)
        for name in ("a", "deep/b", "deep/c"):
            (place / f"dir{number}" / name).write_text("".join(f"{number} {name} {line}\n" for line in range(20)))
    (place / "run").write_text("#!/bin/sh\n")
    (place / "run").chmod(0o755)
    (place / "link").symlink_to("dir0/a")
    (place / "ä ö").write_text("not ASCII\n")
    (place / ".gitignore").write_text("*.o\n")
    _git(place, "add", "-A")
    _git(place, "commit", "-q", "-m", "one")
    (place / "dir0" / "a").write_text("changed\n")
    _git(place, "commit", "-q", "-a", "-m", "two")
    for number, path in enumerate(_git(place, "ls-files", "-z").split("\0")[:-1]):
        os.utime(place / path, (1_500_000_000, 1_500_000_000 + number), follow_symlinks=False)
    _git(place, "status")
    _git(place, "branch", "other", "HEAD~1")
    (place / "built.o").write_text("ignored\n")
    return place


class _Tree:
    """A live tree of a fork, with the vault behind it."""

    def __init__(self, vault: Vault, path: Path) -> None:
        self.vault = vault
        self.path = path
        self.work: Workspace = vault.workspace("work")
        self.session: Session | None = None

    def mount(self, backend: str = "auto") -> None:
        self.session = self.work.mount(self.path, backend=backend)

    def unmount(self) -> None:
        if self.session is not None:
            self.session.unmount(lazy=True)
            self.session.wait()
            self.session = None

    def git(self, *argv: str, check: bool = True) -> str:
        return _git(self.path, *argv, check=check)

    @property
    def index(self) -> Path:
        return self.vault.path / "worktrees" / "work" / "index"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A plain working tree."""
    return _make_clone(tmp_path / "clone")


@pytest.fixture
def tree(clone: Path, mount_dir: Path) -> Iterator[_Tree]:
    """A live tree with the same files and history."""
    with Avfs(mount_dir / "home", identity=ADA) as avfs, avfs.create_vault("v", source=clone) as vault:
        made = _Tree(vault, mount_dir / "tree")
        made.path.mkdir()
        try:
            made.mount()
            yield made
        finally:
            made.unmount()


# --- the same as elsewhere -----------------------------------------------------------------------------------

SCRIPTS = {
    "add and commit": """
        git status; echo more >> dir0/a; echo new > new; rm dir1/a; git status; git diff --stat; git add -A; git status -s
        git diff --cached --stat; git commit -m three; git status; git log --oneline --stat; git show HEAD; git ls-files -s
        chmod +x dir1/deep/b; git status -s; git commit -a -m mode; git mv dir2 moved; git commit -m moved; git log --stat -M -1
    """,
    "reset": """
        echo more >> dir0/a; git add dir0/a; echo again >> dir0/a; git reset; git status -s; git add -A; git reset --soft HEAD~1
        git status -s; git reset --mixed HEAD; git status -s; git reset --hard; git status; cat dir0/a
        git reset --hard ORIG_HEAD~1
        git status; git log --oneline; git reflog -3
    """,
    "checkout and restore": """
        echo more >> dir0/a; git checkout -- dir0/a; cat dir0/a; rm -r dir1; git status -s; git checkout .; git status -s
        git checkout other -- dir0/a; git status -s; git restore --staged dir0/a; git status -s; git restore dir0/a; git status
        git rm -q --cached run; git status -s; git add run; git status -s
    """,
    "switch": """
        git switch other; git status; cat dir0/a; echo side > side; git add side; git commit -q -m side; git switch work
        git status
        ls; git switch -c third; git switch -; git branch -a; git switch --detach HEAD~1; git status; git switch work
        git branch -D third
    """,
    "stash": """
        echo more >> dir0/a; echo new > new; git add new; git stash; git status; git stash list; git stash pop; git status -s
        git stash -u; ls; git stash apply --index; git status -s; git stash drop; git stash push -- dir0/a; git status -s
        git stash pop
    """,
    "merge": """
        git switch -q other; echo side > side; git add side; git commit -q -m side; git switch -q work
        git merge -m merged other
        git log --oneline --graph; git switch -q -c conflict HEAD~1; echo mine > dir0/a; git commit -q -a -m mine
        git switch -q work
        echo theirs > dir0/a; git commit -q -a -m theirs; git merge conflict; git status; cat dir0/a; git diff
        git merge --abort
        git status; git merge -X ours -m again conflict; git status; git log --oneline --graph
    """,
    "rebase": """
        git switch -q other; echo side > side; git add side; git commit -q -m side; echo side2 >> side
        git commit -q -a -m side2
        git rebase work; git log --oneline; git status; git switch -q work; git rebase other; git log --oneline
        git rebase -i --exec 'cat side' HEAD~1; git switch -q -c c HEAD~2; echo x > side; git add -A; git commit -q -m x
        git rebase work
        git status; echo solved > side; git add side; git rebase --continue; git log --oneline; git status
    """,
    "cherry-pick and revert": """
        git switch -q other; echo side > side; git add side; git commit -q -m side; git switch -q work
        git cherry-pick other; git status
        git log --oneline; git revert --no-edit HEAD; git status; ls; git log --oneline
    """,
    "clean": """
        echo new > new; mkdir -p box/deep; echo x > box/deep/x; echo o > box/deep/y.o; git clean -n -d; git clean -f -d
        git status -s
        ls; git clean -n -d -x; git clean -f -d -x; ls -A
    """,
    "bisect": """
        for i in 1 2 3 4 5 6; do echo $i > number; git add number; git commit -q -m $i; done
        git bisect start HEAD HEAD~6; git bisect run sh -c 'test $(cat number 2>/dev/null || echo 0) -lt 4'
        git bisect reset; git status
    """,
    "worktree": """
        git worktree add -q ../more-$PPID other; git -C ../more-$PPID status; git -C ../more-$PPID log --oneline
        git worktree list | grep -c more; git worktree remove ../more-$PPID; git worktree prune -v; git status
    """,
    "repository": """
        git fsck --no-dangling; git gc -q; git status; git tag -a -m tag v1; git describe; git blame -s dir0/a
        git grep -c deep
        git rev-parse --is-inside-work-tree --show-prefix --is-bare-repository; cd dir0; git rev-parse --show-prefix
        git status -s
        git archive HEAD | tar t; git ls-files --others; git check-ignore x.o; git notes add -m note; git log -1
    """,
    "submodule-like": """
        mkdir nested; cd nested; git init -q; echo x > x; git add x; git commit -q -m nested; cd ..; git status -s
        git add nested
        git status -s; git commit -m nested; git ls-files -s nested; git status; rm -rf nested; git status -s
    """,
    "partly": """
        printf 'y\\nn\\n' > answers; seq 40 > numbers; git add numbers; git commit -q -m numbers; sed -i 's/^3$/three/
        s/^33$/33 three/' numbers
        git add -p numbers < answers; git status -s; git diff --cached; git commit -q -m part; git diff; git stash -q
        cat numbers | wc -l
        git stash pop -q; git commit --amend -a --no-edit -q; git show --stat
    """,
}


def _normalize(text: str, path: Path) -> str:
    text = text.replace(os.fspath(path), "TREE")
    text = re.sub(r"more-\d+", "more", text)
    return re.sub(r"(?m)^(hint|Preparing|Updating files|warning: in the working copy).*\n", "", text)


@pytest.mark.parametrize("name", SCRIPTS)
def test_git_does_what_it_does_in_a_plain_clone(tree: _Tree, clone: Path, name: str) -> None:
    """Every command says the same, and leaves the same files, refs and staged entries."""
    script = "exec 2>&1\n" + SCRIPTS[name]
    expected = _normalize(_run(clone, "bash", "-c", script, check=False), clone)
    found = _normalize(_run(tree.path, "bash", "-c", script, check=False), tree.path)
    assert found == expected
    for argv in (
        ("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags", "refs/stash"),
        ("status", "--porcelain=v2", "--ignored"),
        ("ls-files", "-s"),
        ("log", "--format=%H", "--exclude=refs/avfs/*", "--all"),
    ):
        assert tree.git(*argv) == _git(clone, *argv)
    assert sorted(os.listdir(tree.path)) == sorted(os.listdir(clone))
    _git(tree.vault.path, "fsck", "--strict")
    status = tree.git("status", "--porcelain=v2")
    tree.unmount()
    assert not tree.vault.doctor().problems
    tree.mount()
    assert tree.git("status", "--porcelain=v2") == status


# --- the index ---------------------------------------------------------------------------------------------


def _entries_to_look_at(tree: _Tree) -> list[bytes]:
    """List the entries whose files git would have to read: their stat data differ, or are not older than the index."""
    index = GitIndex(tree.index.read_bytes())
    index_s = int(tree.index.stat().st_mtime)
    found = []
    for number in range(len(index)):
        entry = index.entry(number)
        mtime_s, size = (int.from_bytes(entry.stat[at : at + 4], "big") for at in (8, 36))  # gitformat-index(5)
        shown = os.lstat(os.fsencode(tree.path) + b"/" + entry.path)
        if (size, mtime_s) != (shown.st_size, int(shown.st_mtime)) or mtime_s >= index_s:
            found.append(entry.path)
    return found


def test_the_first_look_reads_no_file(tree: _Tree) -> None:
    """The index is there when git first asks, not before, and knows of every file that the tree shows as committed."""
    assert not tree.index.exists()
    (tree.path / "dir1" / "a").write_text("changed\n")
    assert tree.git("rev-parse", "--show-toplevel").strip() == os.fspath(tree.path)
    assert _entries_to_look_at(tree) == [b"dir1/a"]
    assert tree.git("status", "--porcelain") == " M dir1/a\n"
    _git(tree.vault.path, "fsck", "--strict")
    assert tree.git("write-tree") == tree.git("rev-parse", "HEAD^{tree}")


def test_a_change_in_the_same_second_is_seen(tree: _Tree) -> None:
    """A file of the same size and second as the committed one is not taken for it."""
    (tree.path / "dir0" / "a").write_text("CHANGED\n")
    mtime_ns = os.stat(tree.path / "run").st_mtime_ns
    before = os.stat(tree.path / "dir0" / "deep" / "b")
    text = (tree.path / "dir0" / "deep" / "b").read_text()
    (tree.path / "dir0" / "deep" / "b").write_text(text[:-2] + "X\n")
    os.utime(tree.path / "dir0" / "deep" / "b", ns=(mtime_ns, before.st_mtime_ns))
    assert tree.git("status", "--porcelain") == " M dir0/a\n M dir0/deep/b\n"


def test_what_is_staged_stays_so(tree: _Tree) -> None:
    """Staged, changed and new files look the same after another mount, and after checkpoints of avfs in between."""
    (tree.path / "dir0" / "a").write_text("staged\n")
    (tree.path / "added").write_text("added\n")
    tree.git("add", "dir0/a", "added")
    (tree.path / "dir0" / "a").write_text("changed since\n")
    (tree.path / "dir1" / "a").write_text("changed\n")
    (tree.path / "new").write_text("new\n")
    (tree.path / "dir2" / "a").unlink()
    before = tree.git("status", "--porcelain")
    assert before == "A  added\nMM dir0/a\n M dir1/a\n D dir2/a\n?? new\n"
    tree.unmount()
    tree.mount()
    assert tree.git("status", "--porcelain") == before
    tree.unmount()
    tree.work.checkpoint("saved")
    tree.mount()
    # Everything is committed now; of what was staged, the one thing that differs from it is still there.
    assert tree.git("status", "--porcelain") == "MM dir0/a\n"
    assert tree.git("show", ":dir0/a") == "staged\n"
    assert tree.git("log", "-1", "--format=%s") == "checkpoint saved\n"


def test_status_is_true_after_each_operation_of_avfs(tree: _Tree) -> None:
    """Whatever avfs does to the branch while nothing is mounted, git sees what differs from it, and no more."""
    (tree.path / "dir0" / "a").write_text("first\n")
    (tree.path / "one").write_text("one\n")
    assert tree.git("status", "--porcelain") == " M dir0/a\n?? one\n"
    work = tree.work
    steps: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: work.checkpoint("a"), ""),
        (lambda: work.write("dir0/a", b"second\n"), " M dir0/a\n"),
        (lambda: work.checkpoint("b"), ""),
        (lambda: work.restore("a"), ""),
        (lambda: tree.vault.undo(fork="work"), ""),
        (lambda: tree.vault.undo(fork="work"), " M dir0/a\n"),
        (lambda: tree.vault.undo(fork="work"), ""),  # of what the checkpoint saved
        (lambda: tree.vault.undo(fork="work"), " M dir0/a\n?? one\n"),
        (lambda: tree.vault.redo(fork="work"), ""),
    )
    for number, (step, expected) in enumerate(steps):
        tree.unmount()
        step()
        tree.mount()
        assert tree.git("status", "--porcelain") == expected, number
        assert tree.git("diff", "--cached", "--name-only") == "", number
        tree.git("fsck", "--cache")


def test_operations_on_a_mounted_tree(tree: _Tree) -> None:
    """What avfs does to the branch while the tree is mounted is what the next git finds, without another mount."""
    work = tree.work
    (tree.path / "dir0" / "a").write_text("first\n")
    (tree.path / "one").write_text("one\n")
    tree.git("add", "one")
    assert tree.git("status", "--porcelain") == " M dir0/a\nA  one\n"
    steps: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: work.checkpoint("a"), ""),
        (lambda: work.write("dir0/a", b"second\n"), " M dir0/a\n"),
        (lambda: work.checkpoint("b"), ""),
        (lambda: work.restore("a"), ""),
        (lambda: tree.vault.undo(fork="work"), ""),
        (lambda: tree.vault.undo(fork="work"), " M dir0/a\n"),
        (lambda: tree.git("commit", "-q", "-a", "-m", "by git"), ""),
        (lambda: tree.vault.undo(fork="work"), " M dir0/a\n"),
    )
    for number, (step, expected) in enumerate(steps):
        step()
        assert tree.git("status", "--porcelain") == expected, number
        assert tree.git("diff", "--cached", "--name-only") == "", number
    tree.git("fsck", "--cache")


# --- one history ---------------------------------------------------------------------------------------------


def test_a_commit_is_a_checkpoint(tree: _Tree) -> None:
    """What git commits in the tree is on the fork's branch, in its log and among its checkpoints, and can be undone."""
    (tree.path / "dir0" / "a").write_text("by git\n")
    tree.git("commit", "-q", "-a", "-m", "by git")
    commit = tree.git("rev-parse", "HEAD").strip()
    tree.unmount()
    assert tree.work.list_checkpoints()[0].id == commit
    assert tree.work.log()[0].checkpoint.message == "by git"
    assert tree.work.checkpoint().outcome in ("unchanged", "created")  # the times of files are new to avfs
    assert not tree.work.status().changed_files
    while tree.vault.undo(fork="work").operation.kind != "git":
        pass
    tree.mount()
    assert tree.git("log", "-1", "--format=%s") == "two\n"
    assert tree.git("status", "--porcelain") == " M dir0/a\n"
    assert (tree.path / "dir0" / "a").read_text() == "by git\n"
    tree.unmount()
    tree.vault.redo(fork="work")
    tree.mount()
    assert tree.git("rev-parse", "HEAD").strip() == commit
    assert tree.git("status", "--porcelain") == ""


def test_what_git_did_to_the_branch_is_no_conflict(tree: _Tree) -> None:
    """Checkpoints go on after commits of parts, amended ones, resets, merges and rebases in the tree."""
    work = tree.work
    for script in (
        "echo x > dir0/a; git add dir0/a; git checkout -q HEAD~1 -- dir1; git commit -q -m x; echo y > dir0/a",
        # What is committed is not what the tree holds, nor what it held before.
        "echo a > dir1/a; git add dir1/a; git restore --worktree --source=HEAD dir1/a; git commit -q -m part",
        "git commit -q --amend -m amended; git reset -q --soft HEAD~1; git commit -q -m again",
        "git reset -q --hard HEAD~2; git merge -q -m merged other; echo z > dir2/a",
        "echo s > run; git stash -q; git rebase -q other; git stash pop -q; git switch -q -c side; git switch -q work",
    ):
        _run(tree.path, "bash", "-ec", script)
        before = tree.git("diff", "HEAD")
        tree.unmount()
        saved = work.checkpoint()
        assert saved.outcome == ("created" if before else saved.outcome)
        assert not work.status().changed_files
        tree.mount()
        assert tree.git("diff", "HEAD") == ""
    _git(tree.vault.path, "fsck", "--strict")


def test_on_another_branch_checkpoints_go_on_with_the_fork(tree: _Tree) -> None:
    """`git switch` moves files and not the fork.

    avfs commits the content of the tree to the fork's branch, and git sees it there.
    """
    tree.git("switch", "-q", "other")
    (tree.path / "dir1" / "a").write_text("on other\n")
    other = tree.git("rev-parse", "other")
    tree.unmount()
    tree.work.checkpoint("elsewhere")
    tree.mount()
    assert tree.git("rev-parse", "other") == other
    assert tree.git("status", "--porcelain") == " M dir1/a\n"
    assert tree.git("diff", "work", "--stat") == ""
    tree.git("checkout", "-q", "-f", "work")
    assert (tree.path / "dir1" / "a").read_text() == "on other\n"
    assert tree.git("status", "--porcelain") == ""


# --- the file and the directory ----------------------------------------------------------------------------


def test_programs_cannot_change_the_git_file(tree: _Tree) -> None:
    """Through FUSE the file can be read and listed, and neither written, removed, renamed nor replaced.

    No checkpoint has it.
    """
    tree.unmount()
    tree.mount("fuse")
    assert ".git" in os.listdir(tree.path)
    place = tree.path / ".git"
    assert place.read_text() == f"gitdir: {tree.vault.path}/worktrees/work\n"
    (tree.path / "file").write_text("x")
    scripts = """
        rm -f .git; echo x > .git; echo x >> .git; mv .git x; mv file .git; chmod 777 .git; ln file .git; ln .git y; mkdir .git
        touch -d 2000-01-01 .git; sed -i s/a/b/ .git; truncate -s 0 .git
    """
    for script in scripts.replace("\n", ";").split(";"):
        if not script.strip():
            continue
        done = subprocess.run(["sh", "-c", script], cwd=tree.path, capture_output=True, check=False, env=_ENV)
        assert done.returncode, script
    assert place.read_text().startswith("gitdir: ")
    tree.unmount()
    saved = tree.work.checkpoint()
    assert [change.path for change in saved.changed_files] == [b"file"]
    assert b".git" not in [info.path for info in tree.work.list_dir()]


def test_git_knows_the_tree_and_leaves_it_alone(tree: _Tree) -> None:
    """It is one of the vault's working trees, mounted or not; pruning and collecting garbage do not take it away."""
    (tree.path / "dir0" / "a").write_text("staged, nowhere else\n")
    tree.git("add", "dir0/a")
    (tree.path / "dir0" / "a").write_text("changed\n")
    for mounted in (True, False):
        if not mounted:
            tree.unmount()
        listed = _git(tree.vault.path, "worktree", "list", "--porcelain")
        assert f"worktree {tree.path}\n" in listed
        # While nothing shows it, its HEAD names a commit, so that git moves the branch for a push.
        assert ("branch refs/heads/work\nlocked" if mounted else "detached\nlocked") in listed
        _git(tree.vault.path, "worktree", "prune", "--expire=now")
        _git(tree.vault.path, "gc", "-q", "--prune=now")
    tree.mount()
    assert tree.git("show", ":dir0/a") == "staged, nowhere else\n"
    assert tree.git("status", "--porcelain") == "MM dir0/a\n"


def test_git_init_in_the_tree_does_no_harm(tree: _Tree) -> None:
    """It makes git say that the vault is not bare.

    The vault opens all the same, and is bare again with the next mount.
    """
    assert "Reinitialized" in tree.git("init")
    assert tree.git("status", "--porcelain") == ""
    tree.unmount()
    assert tree.work.checkpoint().outcome == "unchanged"
    with Avfs(tree.vault.path.parents[1], identity=ADA) as avfs:
        avfs.open_vault("v").close()
    tree.mount()
    assert _git(tree.vault.path, "config", "core.bare") == "true\n"
    assert tree.git("rev-parse", "--is-inside-work-tree") == "true\n"


def test_forks_with_a_slash_and_a_tree_of_somebody_else(tree: _Tree, mount_dir: Path) -> None:
    """Each fork has a git directory of its own, whatever its name, and a working tree that git made keeps its own."""
    _git(tree.vault.path, "worktree", "add", "-q", "-b", "theirs", os.fspath(mount_dir / "side"), "other")
    for fork in ("a/b", "side", "100%"):
        with tree.vault.fork(fork, source="work") as workspace:
            place = mount_dir / f"tree-{fork.replace('/', '-')}"
            place.mkdir()
            with workspace.mount(place) as session:
                assert _git(place, "status", "--branch", "--porcelain") == f"## {fork}\n"
                (place / "new").write_text(fork)
                _git(place, "add", "new")
                _git(place, "commit", "-q", "-m", fork)
                assert tree.vault.log(fork, limit=1)[0].checkpoint.message == fork
            session.wait()
    assert _git(mount_dir / "side", "status", "--branch", "--porcelain") == "## theirs\n"
    assert tree.git("status", "--branch", "--porcelain") == "## work\n"


def test_a_deleted_fork_takes_its_git_directory_along(tree: _Tree, mount_dir: Path) -> None:
    """Nothing of it is left for git to find; bringing the fork back brings back what was staged."""
    place = mount_dir / "side"
    place.mkdir()
    side = tree.vault.fork("side", source="work")
    with side.mount(place) as session:
        (place / "dir0" / "a").write_text("staged\n")
        _git(place, "add", "-A")
    session.wait()
    tree.vault.delete_fork("side")
    assert "side" not in _git(tree.vault.path, "worktree", "list")
    tree.vault.undo(fork="side")
    side = tree.vault.workspace("side")
    with side.mount(place) as session:
        assert _git(place, "status", "--porcelain") == "M  dir0/a\n"
    session.wait()


def test_nothing_of_the_source_is_executed(clone: Path, mount_dir: Path, tmp_path: Path) -> None:
    """Hooks and programs that the source's configuration names do not run in a live tree of its vault."""
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for key in (
        "core.fsmonitor",
        "core.pager",
        "core.editor",
        "diff.external",
        "filter.x.clean",
        "alias.st",
        "core.sshCommand",
    ):
        _git(clone, "config", key, os.fspath(trap))
    for hook in ("pre-commit", "post-checkout", "post-commit", "post-index-change", "reference-transaction"):
        (clone / ".git" / "hooks" / hook).write_bytes(trap.read_bytes())
        (clone / ".git" / "hooks" / hook).chmod(0o755)
    with Avfs(mount_dir / "home", identity=ADA) as avfs, avfs.create_vault("v", source=clone) as vault:
        made = _Tree(vault, mount_dir / "tree")
        made.path.mkdir()
        (tmp_path / "sprung").unlink(missing_ok=True)
        try:
            made.mount()
            (made.path / "dir0" / "a").write_text("x\n")
            made.git("status")
            made.git("diff")
            made.git("commit", "-q", "-a", "-m", "x")
            made.git("switch", "-q", "other")
        finally:
            made.unmount()
    assert not (tmp_path / "sprung").exists()


def test_an_index_that_git_keeps_locked_is_left_alone(tree: _Tree) -> None:
    """A lock that a git left behind stays, with git's own message; one that a process of avfs left is removed."""
    tree.git("status")
    tree.unmount()
    tree.work.write("dir0/a", b"x\n")
    tree.work.checkpoint()
    lock = tree.index.with_name("index.lock")
    lock.write_bytes(b"")
    tree.mount()
    tree.git("log", "-1")
    assert "index.lock" in tree.git("add", "-A", check=False)
    lock.unlink()
    tree.unmount()
    tree.mount()
    assert tree.git("status", "--porcelain") == ""
    tree.unmount()
    tree.work.write("dir0/a", b"y\n")
    tree.work.checkpoint()
    tree.index.with_name("index.avfs").write_bytes(b"half")
    os.link(tree.index.with_name("index.avfs"), lock)
    tree.mount()
    assert tree.git("status", "--porcelain") == ""
    assert not lock.exists()


def test_a_damaged_index_is_made_anew(tree: _Tree) -> None:
    """Zeros, as a power cut leaves them, are no index; what was staged is gone, and nothing else."""
    (tree.path / "dir0" / "a").write_text("staged\n")
    tree.git("add", "-A")
    tree.unmount()
    tree.index.write_bytes(bytes(tree.index.stat().st_size))
    tree.mount()
    assert tree.git("status", "--porcelain") == " M dir0/a\n"


# --- what was beside history ---------------------------------------------------------------------------------


@pytest.mark.parametrize("commits", [False, True])
def test_what_git_is_told_to_add_is_in_history(tree: _Tree, commits: bool) -> None:
    """An ignored file stays out of checkpoints after the rule is gone, until a user in the tree adds it with git."""
    (tree.path / "env.o").write_text("secret\n")
    tree.work.checkpoint()
    tree.git("rm", "-q", ".gitignore")
    result = tree.work.checkpoint()
    kept = [warning.path for warning in result.warnings if warning.code == "capture.kept_beside"]
    assert kept == [b"built.o", b"env.o"]

    tree.git("add", "env.o")
    if commits:
        tree.git("commit", "-q", "-m", "add")
    (tree.path / "built.o").write_text("again\n")
    (tree.path / "env.o").write_text("no secret\n")
    result = tree.work.checkpoint()
    assert [warning.path for warning in result.warnings if warning.code == "capture.kept_beside"] == [b"built.o"]
    assert _git(tree.vault.path, "show", "work:env.o") == "no secret\n"
    assert "built.o" not in _git(tree.vault.path, "ls-tree", "--name-only", "work")
    assert (tree.path / "built.o").read_text() == "again\n"


def test_adding_in_a_live_tree_and_taking_it_back(tree: _Tree) -> None:
    """The index that git has still names the file after the undo; a checkpoint does not take that for an addition."""
    tree.git("rm", "-q", ".gitignore")
    tree.work.checkpoint()
    result = tree.work.add("built.o")
    assert [change.path for change in result.changed_files] == [b"built.o"]
    assert tree.git("status", "-s") == ""
    tree.work.undo()
    (tree.path / "built.o").write_text("again\n")
    tree.work.checkpoint()
    assert "built.o" not in _git(tree.vault.path, "ls-tree", "--name-only", "work")
    assert tree.git("status", "-s") == "?? built.o\n"
