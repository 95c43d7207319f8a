"""What was beside history stays beside it until somebody adds it, whatever an ignore rule says later."""

from __future__ import annotations

from pathlib import Path

import pytest

from avfs_git.errors import PathNotFound, PathUnsuitable
from avfs_git.model import Identity
from avfs_git.sdk import Avfs, Vault
from tests.support.failing import armed
from tests.support.oracle import git

SECRET = b"TOKEN=1\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A clone with two commits, of which the second one begins to ignore `.env`, `node_modules` and `build`."""
    place = tmp_path / "clone"
    place.mkdir()
    git("init", "-q", "-b", "main", cwd=place)
    (place / "a").write_bytes(b"a\n")
    git("add", "-A", cwd=place)
    git("commit", "-q", "-m", "first", cwd=place)
    (place / ".gitignore").write_bytes(b".env\nnode_modules/\n/build\n")
    git("add", "-A", cwd=place)
    git("commit", "-q", "-m", "ignore", cwd=place)
    return place


@pytest.fixture
def avfs(tmp_path: Path) -> Avfs:
    """A home."""
    return Avfs(tmp_path / "home", identity=Identity("Ada Author", "ada@example.org"))


@pytest.fixture
def vault(avfs: Avfs, repository: Path) -> Vault:
    """A vault of the clone, in which `.env` and `node_modules` came to be."""
    vault = avfs.create_vault("v", source=repository)
    work = vault.workspace("main")
    work.write(".env", SECRET)
    for name in ("one", "two/three"):
        work.write(f"node_modules/{name}.js", b"made\n", parents=True)
    work.checkpoint("made")
    return vault


def files_of(vault: Vault, state: str = "main") -> list[str]:
    """List what a state tracks."""
    return git("ls-tree", "-r", "--name-only", state, cwd=vault.path).decode().split()


def kept(result: object) -> list[bytes | None]:
    """List what a result says to stay beside history."""
    return [warning.path for warning in result.warnings if warning.code == "capture.kept_beside"]  # type: ignore[attr-defined]


def test_the_ignore_file_goes(vault: Vault) -> None:
    """The ignored files stay beside history; a warning names each, and a directory as one."""
    work = vault.workspace("main")
    work.remove(".gitignore")
    work.write("new", b"never ignored\n")
    assert kept(work.status()) == [b".env", b"node_modules/"]
    result = work.checkpoint()
    assert kept(result) == [b".env", b"node_modules/"]
    assert "`avfs add PATH`" in result.warnings[0].message
    assert files_of(vault) == ["a", "new"]
    assert work.status().clean
    assert kept(work.checkpoint()) == []

    work.write(".env", b"TOKEN=2\n")
    work.write("node_modules/new.js", b"never ignored\n")
    assert kept(work.checkpoint()) == [b".env"]
    assert files_of(vault) == ["a", "new", "node_modules/new.js"]
    assert work.read(".env") == b"TOKEN=2\n"


def test_restoring_a_state_without_the_ignore_file(vault: Vault) -> None:
    """The restore succeeds, its undo too, and the file is there throughout and never tracked."""
    work = vault.workspace("main")
    result = work.restore("HEAD~2")
    assert kept(result) == [b".env", b"node_modules/"]
    assert files_of(vault) == ["a"]
    assert work.read(".env") == SECRET
    work.checkpoint()
    assert files_of(vault) == ["a"]
    work.undo()
    assert files_of(vault) == [".gitignore", "a"]
    assert work.read(".env") == SECRET
    assert work.status().clean
    work.redo()
    assert files_of(vault) == ["a"]
    assert work.read(".env") == SECRET
    assert work.status().clean


def test_a_pull_removes_the_ignore_file(avfs: Avfs, repository: Path, tmp_path: Path) -> None:
    """Also where the commit comes from somebody else."""
    there = tmp_path / "there.git"
    git("clone", "-q", "--bare", repository, there)
    avfs.clone_vault(str(there), "cloned")
    vault = avfs.open_vault("cloned")
    work = vault.workspace("main")
    work.write(".env", SECRET)
    work.checkpoint("made")
    git("rm", "-q", ".gitignore", cwd=repository)
    git("commit", "-q", "-m", "no rules", cwd=repository)
    git("push", "-q", there, "main", cwd=repository)
    vault.pull()
    work = vault.workspace("main")
    assert files_of(vault) == ["a"]
    assert work.read(".env") == SECRET
    work.checkpoint()
    assert files_of(vault) == ["a"]


def test_adding_and_taking_it_back(vault: Vault) -> None:
    """What is added is tracked, and stays so; undo puts it beside history again, and it stays there."""
    work = vault.workspace("main")
    work.remove(".gitignore")
    work.checkpoint()
    result = work.add(".env", "node_modules/two")
    assert [change.path for change in result.changed_files] == [b".env", b"node_modules/two/three.js"]
    assert not kept(result)
    assert files_of(vault) == [".env", "a", "node_modules/two/three.js"]
    work.write(".env", b"TOKEN=2\n")
    assert kept(work.checkpoint()) == []
    assert git("show", "main:.env", cwd=vault.path) == b"TOKEN=2\n"
    assert work.add(".env").outcome == "unchanged"

    work.undo()  # the checkpoint
    work.undo()  # the write
    work.undo()
    assert files_of(vault) == ["a"]
    assert work.read(".env") == SECRET
    work.write("b", b"b\n")
    work.checkpoint()
    assert files_of(vault) == ["a", "b"]
    assert work.read("node_modules/two/three.js") == b"made\n"
    assert git("fsck", "--strict", "--no-dangling", "--no-progress", cwd=vault.path) == b""


def test_adding_all_and_doing_it_again(vault: Vault) -> None:
    """Also where nothing is left beside history after it."""
    work = vault.workspace("main")
    work.remove(".gitignore")
    work.add("")
    everything = [".env", "a", "node_modules/one.js", "node_modules/two/three.js"]
    assert files_of(vault) == everything
    work.undo()
    assert files_of(vault) == ["a"]
    work.redo()
    assert files_of(vault) == everything
    assert work.status().clean
    assert work.read(".env") == SECRET


def test_adding_in_a_vault_of_a_clone_with_ignored_files(avfs: Avfs, repository: Path) -> None:
    """Its first commit is git's, which says nothing of what is beside it."""
    (repository / ".env").write_bytes(SECRET)
    (repository / "build").write_bytes(b"made\n")
    vault = avfs.create_vault("v", source=repository)
    work = vault.workspace("main")
    work.add(".env", force=True)
    work.undo()
    assert (work.read(".env"), work.read("build")) == (SECRET, b"made\n")
    work.remove(".gitignore")
    assert kept(work.checkpoint()) == [b".env", b"build"]
    assert files_of(vault) == ["a"]


def test_one_process_removes_the_rules_and_another_one_saves(avfs: Avfs, vault: Vault, tmp_path: Path) -> None:
    """The change is recorded in between, and the checkpoint names what stays all the same."""
    vault.workspace("main").remove(".gitignore")
    avfs.close()
    with Avfs(tmp_path / "home", identity=Identity("Ada Author", "ada@example.org")) as again:
        vault = again.open_vault("v")
        assert kept(vault.workspace("main").checkpoint()) == [b".env", b"node_modules/"]
        assert files_of(vault) == ["a"]


def test_files_are_read_once_where_rules_came(avfs: Avfs, vault: Vault, tmp_path: Path) -> None:
    """The whole workspace is captured again, but once: for rules that the log has and for those that it has not."""
    for number in range(10):
        vault.workspace("main").write(f"new{number}", b"%d\n" % number)
    avfs.close()
    with Avfs(tmp_path / "home", identity=Identity("Ada Author", "ada@example.org")) as again:
        work = again.open_vault("v").workspace("main")
        work.write(".gitignore", b"other\n")
        read: list[str] = []
        with armed(lambda point: read.append(point) if point == "capture.file_read" else None):
            assert {each.path for each in work.status().changed_files} >= {b"new0", b"new9", b".gitignore"}
    assert 10 <= len(read) < 20


def test_adding_saves_what_else_changed_before_it(vault: Vault) -> None:
    """Undo of the addition takes nothing else back."""
    work = vault.workspace("main")
    work.write("b", b"b\n")
    work.remove(".gitignore")
    result = work.add(".env")
    assert [change.path for change in result.changed_files] == [b".env"]
    assert kept(result) == [b"node_modules/"]
    work.undo()
    assert files_of(vault) == ["a", "b"]
    assert work.read("b") == b"b\n"


def test_adding_what_is_ignored_needs_force(vault: Vault) -> None:
    """As in git. What is refused saves nothing."""
    work = vault.workspace("main")
    work.write("a", b"changed\n")
    head = vault.fork_info("main").head
    with pytest.raises(PathUnsuitable):
        work.add(".env")
    with pytest.raises(PathNotFound):
        work.add("nothing")
    assert vault.fork_info("main").head == head
    assert work.add("node_modules").outcome == "unchanged"
    work.add("node_modules", force=True)
    assert files_of(vault) == [".gitignore", "a", "node_modules/one.js", "node_modules/two/three.js"]
    work.write("node_modules/one.js", b"again\n")
    work.checkpoint()
    assert git("show", "main:node_modules/one.js", cwd=vault.path) == b"again\n"


def test_adding_a_file_that_is_nowhere_saved(vault: Vault) -> None:
    """A new ignored file is added, too; a tracked one is no failure."""
    work = vault.workspace("main")
    work.write("build", b"x")
    work.add("a", "build", force=True)
    assert files_of(vault) == [".gitignore", "a", "build"]


def test_made_anew_between_two_checkpoints(vault: Vault) -> None:
    """A file is the same one by its path; gone at a checkpoint, it is a new one."""
    work = vault.workspace("main")
    work.remove(".gitignore")
    work.remove(".env")
    work.write(".env", b"TOKEN=2\n")
    assert kept(work.checkpoint()) == [b".env", b"node_modules/"]
    work.remove(".env")
    work.checkpoint()
    work.write(".env", b"TOKEN=3\n")
    assert kept(work.checkpoint()) == []
    assert files_of(vault) == [".env", "a"]


@pytest.mark.parametrize("loses_cache", [False, True])
def test_forks_and_folds_keep_it(vault: Vault, loses_cache: bool) -> None:
    """A fork, a fold and the loss of the stat cache change nothing of it."""
    work = vault.workspace("main")
    work.remove(".gitignore")
    work.checkpoint()
    vault.fork("side", source="main").close()
    side = vault.workspace("side")
    side.write(".env", b"TOKEN=2\n")
    side.checkpoint()
    assert files_of(vault, "side") == ["a"]
    side.fold()
    side.write(".env", b"TOKEN=3\n")
    side.write("node_modules/one.js", b"again\n")
    if loses_cache:
        side._opened.layout.statcache.unlink(missing_ok=True)
        side.close()
        side = vault.workspace("side")
    assert kept(side.checkpoint()) == [b".env", b"node_modules/"]
    assert files_of(vault, "side") == ["a"]


def test_restoring_one_that_is_gone(vault: Vault) -> None:
    """What comes back is where it was: beside history, also where no rule says so."""
    work = vault.workspace("main")
    work.remove(".gitignore")
    work.checkpoint("kept")
    work.remove(".env")
    work.checkpoint()
    work.restore("kept", paths=[".env"])
    assert files_of(vault) == ["a"]
    assert work.read(".env") == SECRET
    work.remove("node_modules", recursive=True)
    work.checkpoint()
    work.restore("kept")
    assert files_of(vault) == ["a"]
    assert work.read("node_modules/one.js") == b"made\n"
    assert work.status().clean


def test_many_are_not_all_named(vault: Vault) -> None:
    """Twenty are named, the rest is counted."""
    work = vault.workspace("main")
    work.write(".gitignore", b"*.log\n")
    for number in range(30):
        work.write(f"{number:02}.log", b"x")
    work.checkpoint()
    work.write(".gitignore", b"")
    result = work.checkpoint()
    assert len(kept(result)) == 21
    assert result.warnings[-1].message.startswith("12 more paths")
    assert "29.log" not in files_of(vault)
    assert work.add("").outcome == "created"
    assert "29.log" in files_of(vault)


def test_a_repository_inside_loses_its_git_directory(vault: Vault) -> None:
    """It is beside history by another rule, and stays there as well."""
    work = vault.workspace("main")
    work.write("nest/.git/HEAD", b"ref: refs/heads/main\n", parents=True)
    work.write("nest/f", b"f\n")
    work.checkpoint()
    work.remove("nest/.git", recursive=True)
    assert kept(work.checkpoint()) == [b"nest/"]
    assert "nest/f" not in files_of(vault)
    work.add("nest")
    assert "nest/f" in files_of(vault)


def test_adding_a_file_that_the_limits_leave_out_names_them(vault: Vault) -> None:
    """It is there, so that it is not said to be missing."""
    vault.set_config("sidecar.max_file_bytes", "10")
    work = vault.workspace()
    work.write("build", b"more than ten bytes\n")
    work.checkpoint()

    with pytest.raises(PathUnsuitable, match=r"sidecar\.max_file_bytes"):
        work.add("build", force=True)
    with pytest.raises(PathNotFound):
        work.add("nothing", force=True)


@pytest.mark.parametrize(
    "comes", [{".gitignore": b"*\n"}, {"x/.gitignore": b"a\n"}, {"x/.git/HEAD": b"ref: refs/heads/main\n"}]
)
def test_what_was_only_recorded_in_the_log_is_not_tracked(avfs: Avfs, tmp_path: Path, comes: dict[str, bytes]) -> None:
    """Rules and repositories that come before the first checkpoint decide on it, as for `git add -A`.

    Undo meets what it left.
    """
    with Avfs(tmp_path / "home") as other:
        avfs.create_vault("n").workspace("main").write("x/a", SECRET, parents=True)
        avfs.close()
        work = other.open_vault("n").workspace("main")
        for path, data in comes.items():
            work.write(path, data, parents=True)
        other.open_vault("n").workspace("main").status()
    with Avfs(tmp_path / "home") as last:
        work = last.open_vault("n").workspace("main")
        work.write("later", b"later\n")
        tree = work.checkpoint().checkpoint
        assert tree is not None
        held = git("ls-tree", "-r", "--name-only", tree.tree, cwd=last.open_vault("n").path).split()
        assert b"x/a" not in held
        assert work.read("x/a") == SECRET


@pytest.mark.parametrize("done", ["restore", "op restore", "merge", "merge of both", "resolved merge"])
def test_undo_brings_back_what_was_beside_a_commit_of_gits(avfs: Avfs, repository: Path, done: str) -> None:
    """The head of a fresh fork of a clone says nothing of ignored files; undo has them all the same."""
    (repository / ".env").write_bytes(SECRET)
    vault = avfs.create_vault("v", source=repository)
    mine, theirs = vault.fork("mine"), vault.fork("theirs")
    theirs.write(".env", b"TOKEN=2\n")
    theirs.write("build", b"made\n")
    theirs.write("a", b"theirs\n")
    theirs.checkpoint("l")
    match done:
        case "restore":
            mine.restore("theirs@l")
        case "op restore":
            mine.remove(".env")
            mine.undo()
            vault.restore_operation(next(each.id for each in vault.operations(fork="mine") if each.undone))
        case "merge":
            mine.merge("theirs")
        case "merge of both":
            mine.write("b", b"mine\n")
            mine.merge("theirs")
        case _:
            mine.write("a", b"mine\n")
            mine.merge("theirs", on_conflict="workspace")
            mine.abort_merge()
            assert mine.read(".env") == SECRET
            assert not mine.exists("build")
            mine.merge("theirs", on_conflict="workspace")
            mine.write("a", b"both\n")
            mine.resolve("a")
            mine.continue_merge()
    after = {name: mine.read(name) if mine.exists(name) else None for name in ("a", ".env", "build")}
    mine.undo()
    before = {name: mine.read(name) if mine.exists(name) else None for name in ("a", ".env", "build")}
    mine.redo()

    assert before == {"a": b"mine\n" if done == "resolved merge" else b"a\n", ".env": SECRET, "build": None}
    assert after != before
    assert after == {name: mine.read(name) if mine.exists(name) else None for name in ("a", ".env", "build")}


@pytest.mark.parametrize("loses_cache", [False, True])
def test_what_was_added_stays_added_when_its_directory_changes(avfs: Avfs, repository: Path, loses_cache: bool) -> None:
    """What a fork began with has the file beside history, and shows it still."""
    (repository / "build" / "deep").mkdir(parents=True)
    for name in ("deep/out.js", "other.js"):
        (repository / "build" / name).write_bytes(b"made\n")
    vault = avfs.create_vault("v", source=repository)
    work = vault.workspace("main")
    work.add("build/deep/out.js", force=True)
    for name in ("build/new.js", "build/deep/new.js"):
        if loses_cache:
            work.close()
            vault.workspace("main")._opened.layout.statcache.unlink(missing_ok=True)
            work = vault.workspace("main")
        work.write(name, b"ignored\n")
        assert not work.status().changed_files
        work.checkpoint()
    assert files_of(vault) == [".gitignore", "a", "build/deep/out.js"]


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("loses_cache", [False, True])
def test_what_left_history_stays_beside_when_its_directory_changes(
    avfs: Avfs, repository: Path, loses_cache: bool
) -> None:
    """What a fork began with has the file in history, and shows it still."""
    (repository / "d" / "e").mkdir(parents=True)
    for name in ("d/e/f", "d/e/g", "d/h"):
        (repository / name).write_bytes(b"tracked\n")
    git("add", "-A", cwd=repository)
    git("commit", "-q", "-m", "third", cwd=repository)
    vault = avfs.create_vault("v", source=repository)
    work = vault.workspace("main")
    work.exec(shell="git rm -q --cached d/e/f; echo d/e/f >> .gitignore; git add .gitignore; git commit -q -m untrack")
    for name in ("d/new", "d/e/new"):
        if loses_cache:
            work.close()
            vault.workspace("main")._opened.layout.statcache.unlink(missing_ok=True)
            work = vault.workspace("main")
        work.write(name, b"new\n")
        assert [change.path for change in work.status().changed_files] == [name.encode()]
        work.checkpoint()
    assert files_of(vault) == [".gitignore", "a", "d/e/g", "d/e/new", "d/h", "d/new"]
    assert work.read("d/e/f") == b"tracked\n"


@pytest.mark.needs("fuse")
def test_what_git_committed_and_undo_took_back_is_beside_again(vault: Vault) -> None:
    """Git's index has it still: it is brought up when git next asks."""
    work = vault.workspace("main")
    work.remove(".gitignore")
    work.checkpoint("no rules")
    work.exec(shell="git add -A; git commit -q -m all")
    assert ".env" in files_of(vault)
    for _ in range(2):
        work.undo()
    work.write("new", b"new\n")
    assert b".env" in kept(work.checkpoint())
    assert files_of(vault) == ["a", "new"]
