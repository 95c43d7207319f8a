"""One step from any clone or folder to a fork of its present state, and back by `git push`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.errors import AvfsError, ForkExists, HostError, InvalidName, MountPointUnusable
from avfs_git.sdk import Avfs, Session
from avfs_git.sdk.running.runs import begin_in_directory
from tests.support.failing import armed
from tests.support.live_tree import ADA
from tests.support.trees import describe_dir

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.usefixtures("person")]

_ENV = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/dev/null",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def _git(cwd: Path, *argv: str, check: bool = True) -> str:
    done = subprocess.run(["git", *argv], cwd=cwd, env=_ENV, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert not check or not done.returncode, done.stderr.decode()
    return (done.stdout + done.stderr).decode()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with something of every kind that is not committed."""
    place = tmp_path / "my clone"
    place.mkdir()
    _git(place, "init", "-q", "-b", "main")
    for name in ("a", "deep/b", "deep/deeper/c", "gone/x", "changed", "same size", "run", "other/only"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"{name}\n")
        os.utime(place / name, (1_500_000_000, 1_500_000_000))
    (place / "run").chmod(0o750)
    (place / "link").symlink_to("a")
    (place / ".gitignore").write_text("*.o\nnode_modules/\n")
    _git(place, "add", "-A")
    _git(place, "commit", "-q", "-m", "one")
    _git(place, "branch", "side")
    _git(place, "status")
    (place / "changed").write_text("changed now\n")
    (place / "same size").write_text("SAME SIZE\n")
    (place / "staged").write_text("staged\n")
    _git(place, "add", "staged")
    (place / "gone" / "x").unlink()
    (place / "gone").rmdir()
    (place / "new dir").mkdir()
    (place / "new dir" / "new").write_text("new\n")
    (place / "built.o").write_bytes(b"\0ignored")
    (place / "node_modules" / "pkg").mkdir(parents=True)
    (place / "node_modules" / "pkg" / "index.js").write_text("//\n")
    (place / "empty").mkdir()
    os.setxattr(place / "a", b"user.note", b"x")
    return place


@pytest.fixture
def avfs(mount_dir: Path) -> Iterator[Avfs]:
    """A home."""
    with Avfs(mount_dir / "home", identity=ADA) as found:
        yield found


def _end(session: Session) -> None:
    session.unmount(lazy=True)
    session.wait()


def _without_git(place: Path) -> dict[bytes, tuple[object, ...]]:
    found = describe_dir(place)
    return {path: about for path, about in found.items() if path and not (path == b".git" or path.startswith(b".git/"))}


def _state_of(clone: Path) -> tuple[object, ...]:
    index = clone / ".git" / "index"
    return (
        _without_git(clone),
        index.read_bytes(),
        os.stat(index).st_mtime_ns,
        _git(clone, "for-each-ref"),
        (clone / ".git" / "HEAD").read_bytes(),
        (clone / ".git" / "config").read_bytes(),
        sorted(os.listdir(clone / ".git")),
    )


def test_git_commits_as_in_the_clone(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """An author that the clone's own configuration names is that of the fork; a later one of the vault stays."""
    for key, value in {"user.name": "Bea", "user.email": "bea@work.example"}.items():
        _git(clone, "config", key, value)
    plain = {name: value for name, value in _ENV.items() if not name.startswith(("GIT_AUTHOR", "GIT_COMMITTER"))}
    expected = ["Bea <bea@work.example>", "Bea <bea@new.example>"]
    for name, author in zip(("one", "two"), expected, strict=True):
        session = avfs.fork_directory(clone, mount_dir / name)
        try:
            commit = ["git", "commit", "-q", "--allow-empty", "-m", "by git"]
            subprocess.run(commit, cwd=mount_dir / name, env=plain, check=True)
            assert _git(mount_dir / name, "log", "-1", "--format=%an <%ae>").strip() == author
            _git(mount_dir / name, "config", "user.email", "bea@new.example")
        finally:
            _end(session)


def test_git_stores_and_pushes_what_a_filter_of_the_clone_makes(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """Also in a fork of a vault that is older than the filter, and nothing where the filter fails."""
    _end(avfs.fork_directory(clone, mount_dir / "first"))
    (clone / ".gitattributes").write_text("*.sec filter=crypt\n")
    for key, value in {"clean": "tr a-z A-Z", "smudge": "tr A-Z a-z", "required": "true"}.items():
        _git(clone, "config", f"filter.crypt.{key}", value)
    (clone / "old.sec").write_text("old\n")
    _git(clone, "add", ".gitattributes", "old.sec")
    _git(clone, "commit", "-q", "-m", "filtered", ".gitattributes", "old.sec")
    with avfs.fork_directory(clone, mount_dir / "task") as session:
        (session.path / "new.sec").write_text("new\n")
        _git(session.path, "add", "new.sec")
        _git(session.path, "commit", "-q", "-m", "new")
        _git(session.path, "push", "-q", "origin", "task")
        assert _git(session.path, "status", "--porcelain", "*.sec") == ""
        _git(session.path, "config", "filter.crypt.clean", "false")
        (session.path / "failed.sec").write_text("failed\n")
        assert "failed" in _git(session.path, "add", "failed.sec", check=False)
        assert _git(session.path, "ls-files", "failed.sec") == ""
    session.wait()
    assert [_git(clone, "show", f"task:{name}.sec") for name in ("old", "new")] == ["OLD\n", "NEW\n"]


@pytest.mark.parametrize("of", ["place", "clone"])
def test_git_commits_by_the_author_that_is_included_in_the_clone(clone: Path, mount_dir: Path, of: str) -> None:
    """The user's configuration may name another author for the place of the clone, and the clone's include a file."""
    settings, included = mount_dir / "settings", mount_dir / "included"
    included.write_text("[user]\n\temail = bea@work.example\n")
    condition = f'[includeIf "gitdir:{clone}/"]\n\tpath = {included}\n' if of == "place" else ""
    settings.write_text(f"[user]\n\tname = Bea\n\temail = bea@home.example\n{condition}")
    if of == "clone":
        _git(clone, "config", "include.path", str(included))
    plain = {name: value for name, value in _ENV.items() if not name.startswith(("GIT_AUTHOR", "GIT_COMMITTER"))}
    plain["GIT_CONFIG_GLOBAL"] = str(settings)
    with Avfs(mount_dir / "home", identity=ADA, remote_environment=plain) as avfs:
        session = avfs.fork_directory(clone, mount_dir / "one")
        try:
            commit = ["git", "commit", "-q", "--allow-empty", "-m", "by git"]
            subprocess.run(commit, cwd=session.path, env=plain, check=True)
            assert _git(session.path, "log", "-1", "--format=%an <%ae>").strip() == "Bea <bea@work.example>"
            said = _git(session.path, "config", "--local", "--get-regexp", "^user")
            assert said == "user.email bea@work.example\n"
        finally:
            _end(session)


def test_the_fork_has_what_the_clone_has(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """Files, modes, times and what git says of them are those of the clone, which is not touched.

    Also of a file that git stores otherwise than it is: the index knows it, and it is read all the same.
    """
    (clone / ".gitattributes").write_text("*.crlf text eol=crlf\n")
    (clone / "lines.crlf").write_bytes(b"one\r\ntwo\r\n")
    _git(clone, "add", ".gitattributes", "lines.crlf")
    _git(clone, "commit", "-q", "-m", "lines", ".gitattributes", "lines.crlf")
    _git(clone, "status")
    expected = _git(clone, "status", "--porcelain", "--ignored").replace("A  staged", "?? staged").splitlines()
    before = _state_of(clone)
    with avfs.fork_directory(clone / "deep", mount_dir / "task") as session:
        tree = session.path
        assert (session.fork, session.vault.name) == ("task", "my-clone")
        assert _without_git(tree) == _without_git(clone)
        for path in _without_git(clone):
            there = os.lstat(os.fsencode(tree) + b"/" + path)
            assert there.st_mtime_ns == os.lstat(os.fsencode(clone) + b"/" + path).st_mtime_ns, path
        found = _git(tree, "status", "--porcelain", "--ignored").splitlines()
        assert sorted(found) == sorted(expected)
        assert _git(tree, "rev-parse", "HEAD") == _git(clone, "rev-parse", "HEAD")
        assert _git(tree, "rev-parse", "origin/side", "origin/main") == _git(clone, "rev-parse", "side", "main")
        _git(session.vault.path, "fsck", "--strict")
    session.wait()
    assert _state_of(clone) == before


def test_a_push_lands_in_the_clone(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """The branch is there, and nothing else is other than it was; a fork that was pushed goes with `remove`."""
    before = _state_of(clone)
    session = avfs.fork_directory(clone, mount_dir / "task", branch="feature/x")
    try:
        (session.path / "a").write_text("by the agent\n")
        _git(session.path, "add", "-A")
        _git(session.path, "commit", "-q", "-m", "agent")
        _git(session.path, "push", "-q", "origin", "feature/x")
        assert _git(clone, "log", "-1", "--format=%s", "feature/x") == "agent\n"
        after = _state_of(clone)
        assert (after[:3], after[4:]) == (before[:3], before[4:])
        # Git's own refusal, because the clone has that branch checked out.
        assert "refusing to update checked out branch" in _git(session.path, "push", "origin", "HEAD:main", check=False)
        removed = session.remove()
    finally:
        _end(session)
    assert (removed.deleted, removed.pushed) == (True, True)
    assert not session.vault.has_fork("feature/x")
    assert not (mount_dir / "task").exists()
    session.vault.undo(fork="feature/x")
    assert session.vault.workspace("feature/x").read("a") == b"by the agent\n"


def test_what_was_not_pushed_is_kept(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """A fork with work that the clone does not have stays in the vault.

    An untouched one goes, and one to be discarded.
    """
    session = avfs.fork_directory(clone, mount_dir / "untouched")
    assert session.remove().deleted
    session = avfs.fork_directory(clone, mount_dir / "kept")
    (session.path / "work").write_text("work\n")
    removed = session.remove()
    assert (removed.deleted, removed.pushed) == (False, False)
    assert session.vault.workspace("kept").read("work") == b"work\n"
    workspace = session.vault.workspace("kept")  # and a fold does not make its head the state that it began with
    assert workspace.fold()
    workspace.close()
    assert not session.vault.workspace("kept").mount(mount_dir / "kept").remove().deleted
    session = avfs.fork_directory(clone, mount_dir / "discarded")
    (session.path / "work").write_text("work\n")
    assert session.remove(discard=True).deleted
    (clone / ".git" / "info" / "exclude").write_text(".secret\n")
    session = avfs.fork_directory(clone, mount_dir / "ignored")
    (session.path / ".secret").write_text("its only work\n")
    removed = session.remove()
    assert (removed.deleted, removed.pushed) == (False, False)


@pytest.mark.parametrize("source", ["missing", "missing/deeper", "a"])
def test_a_source_that_is_no_directory_is_refused(avfs: Avfs, clone: Path, mount_dir: Path, source: str) -> None:
    """Also inside a clone, which is not what was named."""
    with pytest.raises(HostError):
        avfs.fork_directory(clone / source, mount_dir / "task")
    assert not (mount_dir / "task").exists()
    assert avfs.list_vaults() == []


def test_the_next_fork_has_the_state_of_then(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """One vault serves all forks of a clone.

    Each begins with what the clone holds at its time, and branches are brought up.
    """
    first = avfs.fork_directory(clone, mount_dir / "first")
    try:
        _git(clone, "add", "-A")
        _git(clone, "commit", "-q", "-m", "two")
        _git(clone, "branch", "-D", "side")
        (clone / "later").write_text("later\n")
        second = avfs.fork_directory(clone, mount_dir / "second")
        try:
            assert second.vault.path == first.vault.path
            assert _without_git(second.path) == _without_git(clone)
            assert _git(second.path, "status", "--porcelain") == "?? later\n"
            assert _git(second.path, "log", "--format=%s") == "two\none\n"
            assert "origin/side" not in _git(second.path, "branch", "-r")
            assert not (first.path / "later").exists()
            with pytest.raises(ForkExists):
                avfs.fork_directory(clone, mount_dir / "third", branch="first")
        finally:
            _end(second)
    finally:
        _end(first)


def test_first_forks_at_once(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """Each of several processes has its fork, whoever comes first.

    Of two that want the same, one hears that it is there.
    """
    code = """if True:
        import sys
        from avfs_git.errors import AvfsError
        from avfs_git.sdk import Avfs
        try:
            Avfs(sys.argv[1]).fork_directory(*sys.argv[2:])
        except AvfsError as error:
            print(error.code)
    """
    names = ["a", "b", "c", "twice", "twice"]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, mount_dir / "home", clone, mount_dir / name], stdout=-1, text=True
        )
        for name in names
    ]
    said = [process.communicate()[0].strip() for process in running]
    assert said[:3] == ["", "", ""]
    first, second = sorted(said[3:])
    assert first == ""
    assert second in ("fork.exists", "mount.point_unusable")  # the latter if the first is mounted by then
    for name in set(names):
        session = avfs.session_at(mount_dir / name)
        assert session is not None
        assert (session.path / "changed").read_text() == "changed now\n"
        _end(session)


def test_a_further_fork_outlives_the_one_before(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """What a fork takes over from the one before it is still there when that was deleted and its garbage collected."""
    _git(clone, "commit", "-q", "-m", "staged", "staged")  # what is only staged is looked at anew each time
    with avfs.fork_directory(clone, mount_dir / "one") as session:
        vault = session.vault
    session.wait()
    vault.delete_fork("one")
    vault.gc(keep_days=0, keep_operations=1, grace_days=0)
    (clone / "later").write_text("later\n")
    with avfs.fork_directory(clone, mount_dir / "two") as session:
        assert _without_git(session.path) == _without_git(clone)
        _git(vault.path, "fsck", "--strict", "--connectivity-only")
        assert (vault.path / "avfs" / "cache" / "seen").exists()
    session.wait()


def test_a_fork_of_a_fork_is_one_more_in_its_vault(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """The second fork has what the first shows at present, begins with its commits, and leaves it as it is.

    A push brings the second fork to the clone.
    """
    with avfs.fork_directory(clone, mount_dir / "one") as first:
        (first.path / "here").write_text("here\n")
        _git(first.path, "add", "here")
        _git(first.path, "commit", "-q", "-m", "here", "here")
        (first.path / "a").write_text("changed in one\n")
        (first.path / "more.o").write_bytes(b"ignored")
        head, status = _git(first.path, "rev-parse", "HEAD"), _git(first.path, "status", "--porcelain", "--ignored")
        with avfs.fork_directory(first.path / "deep", mount_dir / "two") as second:
            assert second.vault.path == first.vault.path
            assert second.vault.name == first.vault.name
            assert [found.name for found in avfs.list_vaults()] == [first.vault.name]
            assert second.vault.fork_info("two").parent == "one"
            assert _without_git(second.path) == _without_git(first.path)
            assert _git(second.path, "rev-parse", "HEAD") == head
            assert _git(second.path, "status", "--porcelain", "--ignored") == status
            (second.path / "there").write_text("there\n")
            _git(second.path, "add", "there")
            _git(second.path, "commit", "-q", "-m", "there", "there")
            _git(second.path, "push", "-q", "origin", "two")
            assert _git(clone, "log", "--format=%s", "two").split() == ["there", "here", "one"]
            assert _git(first.path, "rev-parse", "HEAD") == head
            assert _git(first.path, "status", "--porcelain", "--ignored") == status
            with pytest.raises(ForkExists):
                avfs.fork_directory(first.path, mount_dir / "three", branch="one")
        second.wait()
    first.wait()


def test_a_fork_of_the_clone_after_one_of_a_fork(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """What is remembered of the clone is not taken for what the fork has, nor the other way round."""
    with avfs.fork_directory(clone, mount_dir / "one") as first:
        (first.path / "a").write_text("changed in one\n")
        with (
            avfs.fork_directory(first.path, mount_dir / "two") as second,
            avfs.fork_directory(clone, mount_dir / "three") as third,
        ):
            assert _without_git(second.path) == _without_git(first.path)
            assert _without_git(third.path) == _without_git(clone)
            assert third.vault.fork_info("three").parent is None
        second.wait()
        third.wait()
    first.wait()


@pytest.mark.parametrize("then", ["stay", "edited", "removed"])
def test_undo_leaves_files_as_they_are_shown_and_not_as_git_has_stored_them(
    avfs: Avfs, clone: Path, mount_dir: Path, then: str
) -> None:
    """Of what git's filters, and its conversions of line ends, make of a file, undo brings nothing."""
    (clone / ".gitattributes").write_text("*.sec filter=crypt\n*.txt text\n")
    for key, value in {"clean": "tr a-z A-Z", "smudge": "tr A-Z a-z", "required": "true"}.items():
        _git(clone, "config", f"filter.crypt.{key}", value)
    states = [{"old.sec": b"old\n", "lines.txt": b"1\r\n"}, {"old.sec": b"new\n", "lines.txt": b"2\r\n"}]
    for name, data in states[0].items():
        (clone / name).write_bytes(data)
    _git(clone, "add", ".gitattributes", *states[0])
    _git(clone, "commit", "-q", "-m", "filtered")
    with avfs.fork_directory(clone, mount_dir / "task") as session:
        tree, work = session.path, session.vault.workspace("task")

        def show() -> dict[str, bytes]:
            return {name: (tree / name).read_bytes() for name in states[0] if (tree / name).exists()}

        for name, data in states[1].items():
            (tree / name).write_bytes(data)
        _git(tree, "commit", "-q", "-a", "-m", "new")
        session.vault.operations()
        if then == "edited":
            (tree / "old.sec").write_bytes(b"newer\n")
        elif then == "removed":
            for name in states[0]:
                (tree / name).unlink()
        (tree / "a").write_text("edited\n")
        work.undo()
        assert (tree / "a").read_text() == "a\n"
        assert show() == states[1]
        assert [work.undo().operation.kind for _ in range(2)] == ["git", "files"]
        assert show() == states[0]
    session.wait()


@pytest.mark.parametrize("by", ["pull", "reset"])
def test_undo_leaves_what_git_has_checked_out_through_filters(
    avfs: Avfs, clone: Path, mount_dir: Path, by: str
) -> None:
    """A colleague's files are shown in another form than git has stored them in; undo takes back the own edit alone."""
    (clone / ".gitattributes").write_text("*.sec filter=crypt\n*.bat text eol=crlf\n")
    for key, value in {"clean": "tr a-z A-Z", "smudge": "tr A-Z a-z", "required": "true"}.items():
        _git(clone, "config", f"filter.crypt.{key}", value)
    states = [{"one.sec": b"old\n", "run.bat": b"1\r\n", "plain": b"1\n"}]
    states += [{"one.sec": b"new\n", "run.bat": b"2\r\n", "plain": b"2\n"}]
    for name, data in states[0].items():
        (clone / name).write_bytes(data)
    _git(clone, "add", ".gitattributes", *states[0])
    _git(clone, "commit", "-q", "-m", "filtered")
    with avfs.fork_directory(clone, mount_dir / "task") as session:
        tree, work = session.path, session.vault.workspace("task")
        for name, data in states[1].items():
            (clone / name).write_bytes(data)
        _git(clone, "commit", "-q", "-m", "a colleague's", *states[1])
        if by == "pull":
            _git(tree, "pull", "-q", "--ff-only", os.fspath(clone), "main")
        else:
            _git(tree, "fetch", "-q", os.fspath(clone), "main")
            _git(tree, "reset", "-q", "--hard", "FETCH_HEAD")
        (tree / "a").write_text("edited\n")
        work.undo()
        assert (tree / "a").read_text() == "a\n"
        assert {name: (tree / name).read_bytes() for name in states[1]} == states[1]
    session.wait()


@pytest.mark.parametrize("by", ["git", "avfs", "a fork of the fork"])
def test_what_git_was_told_to_track_no_more_is_not_committed(avfs: Avfs, clone: Path, mount_dir: Path, by: str) -> None:
    """`git rm --cached` of a file that is ignored now, not committed yet: the fork's next commit has it no more."""
    (clone / "deep" / "b").write_text("secret\n")
    _git(clone, "rm", "-q", "--cached", "deep/b")
    with (clone / ".gitignore").open("a") as rules:
        rules.write("/deep/b\n")
    session = avfs.fork_directory(clone, mount_dir / "f")
    try:
        if by == "a fork of the fork":
            first, session = session, avfs.fork_directory(session.path, mount_dir / "f2")
            _end(first)
        tree, work = session.path, session.vault.workspace(session.fork)
        assert "D  deep/b" in _git(tree, "status", "--porcelain").splitlines()
        (tree / "a").write_text("edited\n")
        if by == "avfs":
            work.checkpoint()
        else:
            _git(tree, "commit", "-q", "-a", "-m", "work")
        assert (tree / "deep" / "b").read_text() == "secret\n"
        assert "deep/b" not in _git(tree, "ls-tree", "-r", "--name-only", "HEAD").splitlines()
        assert "deep/deeper/c" in _git(tree, "ls-tree", "-r", "--name-only", "HEAD").splitlines()
        _git(tree, "add", "-f", "deep/b")
        work.checkpoint()
        assert _git(tree, "show", "HEAD:deep/b") == "secret\n"
    finally:
        _end(session)


def test_objects_are_not_copied(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """The vault has the clone's own files of objects, and keeps them when the clone's git throws them away."""
    _git(clone, "repack", "-adq")
    pack = next((clone / ".git" / "objects" / "pack").glob("*.pack"))
    with avfs.fork_directory(clone, mount_dir / "task") as session:
        assert (session.vault.path / "objects" / "pack" / pack.name).samefile(pack)
        for file in pack.parent.iterdir():
            file.unlink()
        _git(session.vault.path, "fsck", "--strict")
    session.wait()


def test_a_clone_before_its_first_commit(avfs: Avfs, tmp_path: Path, mount_dir: Path) -> None:
    """What was never added is in no commit of the fork, and no push of it has it."""
    place = tmp_path / "new"
    place.mkdir()
    _git(place, "init", "-q", "-b", "main")
    for name in ("added", "private"):
        (place / name).write_text(f"{name}\n")
    _git(place, "add", "added")
    with avfs.fork_directory(place, mount_dir / "task") as session:
        assert _without_git(session.path) == _without_git(place)
        assert {change.path for change in session.vault.workspace("task").status().changed_files} == {
            b"added",
            b"private",
        }
        _git(session.path, "add", "added")
        _git(session.path, "commit", "-q", "-m", "one")
        _git(session.path, "push", "-q", "origin", "task")
        assert _git(place, "ls-tree", "-r", "--name-only", "task") == "added\n"
    session.wait()


def test_the_remote_that_stands_for_the_clone(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """A fork gives the vault its remote again that a program has removed; it warns of another place."""
    first = avfs.fork_directory(clone, mount_dir / "one")
    _git(first.path, "remote", "remove", "origin")
    second = avfs.fork_directory(clone, mount_dir / "two")
    assert not second.vault.warnings
    assert _git(second.path, "remote", "get-url", "origin").strip() == str(clone)
    assert _git(second.path, "rev-parse", "origin/side") == _git(clone, "rev-parse", "side")
    _end(second)
    _git(first.path, "remote", "set-url", "--push", "origin", "https://ada:secret@example.org/x.git")
    third = avfs.fork_directory(clone, mount_dir / "three")
    (warning,) = third.vault.warnings
    assert warning.code == "fork.other_origin"
    assert "example.org/x.git" in warning.message
    assert "secret" not in warning.message
    _end(third)
    _git(first.path, "remote", "set-url", "--push", "--add", "origin", str(clone))  # git pushes to both
    fourth = avfs.fork_directory(clone, mount_dir / "four")
    assert [warning.code for warning in fourth.vault.warnings] == ["fork.other_origin"]
    _end(fourth)
    _end(first)


def test_a_branch_of_the_clone_that_has_the_forks_name(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """A push of the fork would move it, which the fork says; not where it is the commit that the fork begins with."""
    _git(clone, "branch", "same")
    _git(clone, "commit", "-q", "--allow-empty", "-m", "two")
    _git(clone, "branch", "here")
    for name, told in {"same": ["fork.branch_of_clone"], "here": [], "new": []}.items():
        session = avfs.fork_directory(clone, mount_dir / name)
        assert [warning.code for warning in session.vault.warnings] == told
        _end(session)


def test_a_folder_without_git(avfs: Avfs, tmp_path: Path, mount_dir: Path) -> None:
    """A plain folder is forked, too: what is in it is the first commit, and there is no remote."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("x\n")
    with avfs.fork_directory(folder, mount_dir / "task") as session:
        assert _without_git(session.path) == _without_git(folder)
        assert _git(session.path, "status", "--porcelain") == ""
        assert _git(session.path, "remote") == ""
        assert session.vault.remote() is None
    session.wait()


def test_a_program_in_a_fork_mounted_in_its_clone_starts_where_it_was_called(
    avfs: Avfs, clone: Path, mount_dir: Path
) -> None:
    """The directory is one of the fork, not one of the clone."""
    session = avfs.fork_directory(clone, mount_dir / "one")
    session.unmount()
    session.wait()
    with session.vault.workspace("one").mount(clone / "trees" / "one") as inside:
        run = begin_in_directory(avfs, inside.path / "deep" / "deeper", name="run", program="sh")
        assert run.directory() == run.session.path / "deep" / "deeper"
        run.end(discard=True)
    inside.wait()
    run = begin_in_directory(avfs, clone / "deep", name="again", program="sh")
    assert run.directory() == run.session.path / "deep"
    run.end(discard=True)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A repository that others have as a submodule."""
    place = tmp_path / "library"
    place.mkdir()
    _git(place, "init", "-q", "-b", "main")
    (place / "l").write_text("library\n")
    _git(place, "add", "-A")
    _git(place, "commit", "-q", "-m", "library")
    return place


def test_git_works_in_submodules_and_around_them(avfs: Avfs, clone: Path, library: Path, mount_dir: Path) -> None:
    """Each has a repository of its own with the state of the clone's, of which nothing moves.

    Its commits keep the fork.
    """
    _git(clone, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "libs/one")
    _git(clone, "commit", "-q", "-m", "submodule", "--", "libs/one", ".gitmodules")
    (clone / "libs" / "one" / "l").write_text("changed\n")
    module = clone / ".git" / "modules" / "libs" / "one"
    before = _state_of(clone), describe_dir(module)
    tree = mount_dir / "one"
    session = avfs.fork_directory(clone, tree)
    inside = tree / "libs" / "one"

    assert (inside / ".git").is_dir()
    assert _git(inside, "status", "--short") == " M l\n"
    assert " m libs/one" in _git(tree, "status", "--short").splitlines()
    _git(inside, "commit", "-q", "-am", "inside")
    _git(tree, "add", "libs/one")
    _git(tree, "commit", "-q", "-m", "moved on")
    assert _git(tree, "rev-parse", "HEAD:libs/one") == _git(inside, "rev-parse", "HEAD")
    assert _git(inside, "fsck", "--strict") == ""
    _git(tree, "push", "-q", "origin", "one")

    assert (_state_of(clone)[:3], describe_dir(module)) == (before[0][:3], before[1])
    assert not (session.vault.path / "avfs" / "modules" / "objects" / "info" / "alternates").exists()
    shutil.rmtree(module)  # whatever becomes of the clone's
    assert _git(inside, "log", "--format=%s").split() == ["inside", "library"]
    assert not session.remove().deleted
    assert [entry.name for entry in (session.vault.path / "avfs" / "modules").iterdir()] == ["objects"]


def test_submodules_that_nobody_worked_in_keep_no_fork(avfs: Avfs, clone: Path, library: Path, mount_dir: Path) -> None:
    """Looking at one changes its index, which is nobody's work."""
    _git(clone, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "module")
    _git(clone, "commit", "-q", "-m", "submodule", "--", "module", ".gitmodules")
    tree = mount_dir / "one"
    session = avfs.fork_directory(clone, tree)

    assert _git(tree / "module", "status", "--short") == ""
    _git(tree, "status")
    assert session.remove().deleted


def test_a_repository_that_is_elsewhere_is_not_led_to(avfs: Avfs, clone: Path, library: Path, mount_dir: Path) -> None:
    """Git in a fork cannot reach what a `.git` in the clone names.

    The files of a linked worktree come along; its branch and index stay.
    """
    _git(clone, "worktree", "add", "-q", "trees/x", "-b", "x")
    _git(clone, "init", "-q", "--separate-git-dir", str(clone.parent / "apart.git"), "apart")
    relative = os.path.relpath(clone / ".git" / "worktrees" / "x", clone / "relative")
    pointers = {
        "library": f"gitdir: {library}/.git\n",
        "inside by its whole path": f"gitdir: {clone}/node_modules/repo\n",
        "relative": f"gitdir: {relative}\n",
        "through a link": "gitdir: ../way out/.git\n",
    }
    (clone / "way out").symlink_to(library)
    for name, text in pointers.items():
        (clone / name).mkdir()
        (clone / name / "file").write_text("file\n")
        (clone / name / ".git").write_text(text)
    (clone / "linked").mkdir()
    (clone / "linked" / ".git").symlink_to(library / ".git")
    (clone / "kept").mkdir()
    (clone / "kept" / ".git").write_text("gitdir: ../node_modules/repo\n")
    _git(clone, "init", "-q", "--bare", "node_modules/repo")
    (clone / "no pointer").mkdir()
    (clone / "no pointer" / ".git").write_text("notes\n")
    for name in ("common", "in part"):
        _git(clone, "init", "-q", name)
    (clone / "common" / ".git" / "commondir").write_text(f"{library}/.git\n")
    shutil.rmtree(clone / "in part" / ".git" / "refs")
    (clone / "in part" / ".git" / "refs").symlink_to(library / ".git" / "refs")
    left_out = {*pointers, "linked", "trees/x", "apart", "common", "in part"}
    before = _git(clone / "trees" / "x", "status"), _git(clone, "for-each-ref"), describe_dir(library)
    tree = mount_dir / "one"

    session = avfs.fork_directory(clone, tree)

    assert {
        os.fsdecode(found.path or b"") for found in session.vault.warnings if found.code == "fork.submodule"
    } == left_out
    assert [name for name in sorted(left_out) if os.path.lexists(tree / name / ".git")] == []
    assert (tree / "library" / "file").read_text() == "file\n"
    assert (tree / "kept" / ".git").read_text() == "gitdir: ../node_modules/repo\n"
    assert (tree / "no pointer" / ".git").read_text() == "notes\n"
    (tree / "trees" / "x" / "a").write_text("by an agent\n")
    _git(tree / "trees" / "x", "commit", "-q", "-am", "in the fork", check=False)
    assert (_git(clone / "trees" / "x", "status"), _git(clone, "for-each-ref"), describe_dir(library)) == before


def test_a_repository_that_works_elsewhere_works_in_the_fork(
    avfs: Avfs, clone: Path, library: Path, mount_dir: Path
) -> None:
    """Git in a fork does not write to the directory that `core.worktree` names."""
    for name, worktree in {"away": str(library), "at home": str(clone / "at home"), "up": "../../../library"}.items():
        _git(clone, "init", "-q", "-b", "own", name)
        (clone / name / "l").write_text("own\n")
        _git(clone / name, "add", "-A")
        _git(clone / name, "commit", "-q", "-m", "own")
        _git(clone / name, "config", "core.worktree", worktree)
    before = describe_dir(library)
    tree = mount_dir / "one"

    session = avfs.fork_directory(clone, tree)

    warned = {found.path for found in session.vault.warnings if found.code == "fork.foreign_repository"}
    assert warned == {b"away", b"at home", b"up"}
    for name in ("away", "at home", "up"):
        (tree / name / "l").write_text("by an agent\n")
        _git(tree / name, "checkout", "-q", "--", ".")
        assert (tree / name / "l").read_text() == "own\n"
        assert _git(tree / name, "log", "--format=%s") == "own\n"
    assert describe_dir(library) == before


@pytest.mark.parametrize("commits_around", [False, True])
def test_a_new_repository_inside_keeps_a_pushed_fork(
    avfs: Avfs, clone: Path, mount_dir: Path, *, commits_around: bool
) -> None:
    """No push of the fork sends the commits of the inner repository.

    That holds also if the fork's last commit is git's, after a checkpoint that has them.
    """
    tree = mount_dir / "one"
    session = avfs.fork_directory(clone, tree)
    for name in ("sub", "build/deps"):
        inside = tree / name
        inside.mkdir(parents=True)
        _git(inside, "init", "-q", "-b", "own")
        (inside / "work").write_text("hours\n")
        _git(inside, "add", "-A")
        _git(inside, "commit", "-q", "-m", "own work")
    if commits_around:
        session.vault.workspace("one").checkpoint()
        (tree / "new").write_text("around\n")
        _git(tree, "add", "new")
        _git(tree, "commit", "-q", "-m", "around")
    _git(tree, "push", "-q", "origin", "HEAD:refs/heads/one")

    ended = session.remove()
    assert (ended.deleted, ended.pushed, ended.repositories) == (False, False, (b"build/deps", b"sub"))
    with session.vault.workspace("one").mount(mount_dir / "two") as again:
        assert _git(again.path / "sub", "log", "--format=%s") == "own work\n"
    again.wait()


def test_refusals(avfs: Avfs, clone: Path, mount_dir: Path, tmp_path: Path) -> None:
    """What cannot be is refused with its error, and leaves no fork."""
    with pytest.raises(MountPointUnusable):
        avfs.fork_directory(clone, clone / "inside")
    with pytest.raises(AvfsError):
        avfs.fork_directory(tmp_path / "nothing", mount_dir / "task")
    (mount_dir / "full").mkdir()
    (mount_dir / "full" / "file").write_text("x")
    with pytest.raises(MountPointUnusable):
        avfs.fork_directory(clone, mount_dir / "full")
    with avfs.fork_directory(clone, mount_dir / "good") as session:
        for name in ("good/below", "a/b"):
            if name == "a/b":
                session.vault.fork("a", source="good")
            with pytest.raises(InvalidName, match="git has no branch both at a name and below it"):
                avfs.fork_directory(clone, mount_dir / "other", branch=name)
        assert [fork.name for fork in session.vault.list_forks()] == ["a", "good"]
    session.wait()


def test_an_index_that_lies_is_not_believed(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """Entries of objects that are not there, and a damaged file, only mean that files are read."""
    index = clone / ".git" / "index"
    good = index.read_bytes()
    _git(clone, "update-index", "--add", "--cacheinfo", f"100644,{'12' * 20},deep/missing")
    for number, data in enumerate((index.read_bytes(), good[:100], b"")):
        index.write_bytes(data)
        with avfs.fork_directory(clone, mount_dir / f"task{number}") as session:
            assert _without_git(session.path) == _without_git(clone)
            _git(session.vault.path, "fsck", "--strict")
        session.wait()


def test_only_a_deletion_that_happens_moves_the_default_fork(clone: Path, mount_dir: Path) -> None:
    """One that the disk refuses, or that undo takes back, leaves HEAD of the vault where it was."""
    with Avfs(mount_dir / "home") as avfs:
        for name in ("zeta", "alpha"):
            avfs.fork_directory(clone, mount_dir / name).unmount()
        vault = avfs.open_vault(avfs.list_vaults()[0].name)
        head = vault.path / "HEAD"

        def refuse(point: str) -> None:
            if point == "fork.refs_gone":
                raise OSError(28, "No space left on device")

        with armed(refuse), pytest.raises((AvfsError, OSError)):
            vault.delete_fork("zeta")
        assert (vault.has_fork("zeta"), head.read_text()) == (True, "ref: refs/heads/zeta\n")
        vault.delete_fork("zeta")
        assert head.read_text() == "ref: refs/heads/alpha\n"
        vault.undo(fork="zeta")
        assert (vault.has_fork("zeta"), head.read_text()) == (True, "ref: refs/heads/zeta\n")
        vault.redo(fork="zeta")
        assert (vault.has_fork("zeta"), head.read_text()) == (False, "ref: refs/heads/alpha\n")


def test_apply_leaves_what_the_fork_has_not_committed(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """A commit of other files leaves out what the clone had uncommitted: that stays, unless a commit takes it back."""
    before = _without_git(clone)
    with avfs.fork_directory(clone, mount_dir / "task") as session:
        (session.path / "mine").write_text("mine\n")
        _git(session.path, "add", "mine")
        _git(session.path, "commit", "-q", "-m", "only mine", "mine")

        applied = session.vault.apply("task", clone)

        assert [change.path for change in applied.changed_files] == [b"mine"]
        left = [told.path for told in applied.warnings if told.code == "apply.uncommitted"]
        assert left == [b"changed", b"gone/x", b"new dir/new", b"same size", b"staged"]
        (clone / "mine").unlink()
        assert _without_git(clone) == before
        _git(session.path, "commit", "-q", "-m", "saved", "changed")
        (session.path / "changed").write_text("changed\n")
        _git(session.path, "commit", "-q", "-m", "taken back", "changed")
        assert b"changed" in [change.path for change in session.vault.apply("task", clone).changed_files]
    session.wait()


@pytest.mark.parametrize("then", ["", "amend", "rebase"])
@pytest.mark.parametrize("how", ["stash", "reset"])
def test_apply_leaves_what_the_fork_has_only_put_aside(
    avfs: Avfs, clone: Path, mount_dir: Path, how: str, then: str
) -> None:
    """An agent that commits its work on a clean tree has not given up what the user had uncommitted."""
    before = _without_git(clone)
    with avfs.fork_directory(clone, mount_dir / "task") as session:
        if how == "stash":
            _git(session.path, "stash", "-q", "-u")
        else:
            _git(session.path, "reset", "-q", "--hard")
            _git(session.path, "clean", "-qfd")
        (session.path / "mine").write_text("mine\n")
        _git(session.path, "add", "mine")
        _git(session.path, "commit", "-q", "-m", "only mine", *(["--amend"] if then == "amend" else []))
        if then == "rebase":
            _git(session.path, "rebase", "-q", "--force-rebase", "--root")
        session.vault.workspace("task").checkpoint()
        applied = session.vault.apply("task", clone)
        assert [change.path for change in applied.changed_files] == [b"mine"]
        assert "apply.uncommitted" in {warning.code for warning in applied.warnings}
        (clone / "mine").unlink()
        assert _without_git(clone) == before
    session.wait()


@pytest.mark.parametrize("saves", ["avfs", "git"])
def test_apply_leaves_what_the_fork_has_and_only_ignores_now(
    avfs: Avfs, clone: Path, mount_dir: Path, saves: str
) -> None:
    """A file that was in no commit, in all, staged in spite of a rule, or applied before. What a commit had goes."""

    def save() -> None:
        if saves == "git":
            _git(session.path, "add", "-A")
            _git(session.path, "commit", "-q", "-m", "more")
        else:
            session.vault.workspace("task").checkpoint()

    (clone / ".env").write_text("secret\n")
    (clone / "kept.o").write_text("forced\n")
    _git(clone, "add", "-f", "kept.o")
    with avfs.fork_directory(clone, mount_dir / "task") as session:
        rules = session.path / ".gitignore"
        rules.write_text(f"{rules.read_text()}.env\n")
        (session.path / "later").write_text("later\n")
        save()
        session.vault.apply("task", clone)
        before = _without_git(clone)
        rules.write_text(f"{rules.read_text()}later\ndeep/\n")
        _git(session.path, "rm", "-rq", "--cached", "later", "deep")
        (session.path / "deep" / "b").unlink()
        save()

        planned = session.vault.apply("task", clone, dry_run=True)
        one = session.vault.apply("task", clone, paths=["later"])
        applied = session.vault.apply("task", clone)

        assert [change.path for change in planned.changed_files] == [b".gitignore", b"deep/b"]
        assert (planned.changed_files, planned.warnings) == (applied.changed_files, applied.warnings)
        told = {warning.code: warning for warning in applied.warnings}
        assert told["apply.beside"].message.endswith(": '.env', 'deep/deeper/c', 'kept.o', 'later'")
        assert [(warning.code, warning.path) for warning in one.warnings] == [("apply.beside", b"later")]
        shown = _without_git(clone)
        assert {path for path in before if before[path] != shown.get(path)} == {b".gitignore", b"deep/b"}
        for name in (".env", "later"):
            (session.path / name).unlink()
        session.vault.workspace("task").checkpoint()
        applied = session.vault.apply("task", clone)
        assert [change.path for change in applied.changed_files] == [b"later"]
        assert b".env" in {warning.path for warning in applied.warnings if warning.code == "apply.uncommitted"}
    session.wait()


def test_apply_leaves_what_git_has_only_taken_out_of_history(avfs: Avfs, clone: Path, mount_dir: Path) -> None:
    """The fork still has the file, though no rule names it and no commit has it."""
    with avfs.fork_directory(clone, mount_dir / "task") as session:
        (session.path / "a").write_text("edited\n")
        _git(session.path, "add", "a")
        _git(session.path, "rm", "-q", "--cached", "deep/b")
        _git(session.path, "commit", "-q", "-m", "less")
        (session.path / "deep" / "b").write_text("edited\n")
        applied = session.vault.apply("task", clone)
        assert [change.path for change in applied.changed_files] == [b"a"]
        assert (clone / "deep" / "b").read_text() == "deep/b\n"
        assert "apply.beside" in {warning.code for warning in applied.warnings}
    session.wait()


@pytest.mark.parametrize("line", [0, 19])
@pytest.mark.parametrize("then", ["", "pop"])
def test_apply_leaves_a_file_that_the_fork_has_changed_beside_what_it_put_aside(
    avfs: Avfs, clone: Path, mount_dir: Path, then: str, line: int
) -> None:
    """A line that no commit of the fork ever had stays, with a warning; it goes on once a commit has it.

    Also where the line before it was changed.
    """
    lines = [f"{number}\n" for number in range(20)]
    (clone / "both").write_text("".join(lines))
    _git(clone, "add", "both")
    _git(clone, "commit", "-q", "-m", "both", "both")
    (clone / "both").write_text("".join([*lines, "pending\n"]))
    with avfs.fork_directory(clone, mount_dir / "task") as session:
        _git(session.path, "stash", "-q")
        fixed = [*lines[:line], "fixed\n", *lines[line + 1 :]]
        (session.path / "both").write_text("".join(fixed))
        (session.path / "new file").write_text("1\n")
        session.vault.workspace("task").checkpoint()
        if then == "pop":
            _git(session.path, "stash", "drop", "-q")
            (session.path / "both").write_text("".join([*fixed, "pending\n"]))
            session.vault.workspace("task").checkpoint()
        applied = session.vault.apply("task", clone)
        is_left = b"both" in {warning.path for warning in applied.warnings if warning.code == "apply.uncommitted"}
        assert is_left is (then == "")
        shown = (clone / "both").read_text()
        assert shown.endswith("pending\n")
        assert ("fixed\n" in shown) is (then == "pop")
        assert (clone / "new file").read_text() == "1\n"
    session.wait()


def test_where_nothing_can_be_mounted_nothing_is_made(clone: Path, mount_dir: Path) -> None:
    """Neither a vault nor a fork, where the device of FUSE cannot be opened."""
    program = [sys.executable, "-m", "avfs_git", "fork", os.fspath(clone), os.fspath(mount_dir / "task")]
    inside = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    covered = [*inside, "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh", *program]
    home = mount_dir / "home"
    environment = {**os.environ, "AVFS_HOME": os.fspath(home)}
    ran = subprocess.run(
        covered, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
    )
    assert (ran.returncode, "cannot open /dev/fuse" in ran.stderr) == (52, True), ran.stderr
    assert not [*home.glob("**/*.git")]
    assert not (mount_dir / "task").exists()
