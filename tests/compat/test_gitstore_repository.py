"""Repositories of ours for git, repositories of git for us, and git run by us."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from avfs_git.errors import AvfsError, FormatUnsupported, GitFailed, InternalError, NotAVault
from avfs_git.gitstore import gitcommand
from avfs_git.gitstore.foreign.takeover import import_objects_and_refs
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.gitcommand import fsck
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.refs.refs import RefStore
from avfs_git.gitstore.repository import check_repository, find_git_dir, init_vault_repo, read_head, read_shallow
from tests.support.gitrepo import GitRepo, init

pytestmark = pytest.mark.needs("git")


def git(cwd: Path, *arguments: str) -> str:
    """Run git in a directory."""
    done = subprocess.run(["git", *arguments], check=True, capture_output=True, cwd=cwd)
    return done.stdout.decode().strip()


@pytest.fixture
def vault(tmp_path: Path) -> GitRepo:
    """A new repository of ours."""
    init_vault_repo(tmp_path / "vault.git")
    return GitRepo(tmp_path / "vault.git")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A working tree with two branches, a tag, loose objects and packs."""
    directory = tmp_path / "work"
    subprocess.run(["git", "init", "-q", "-b", "trunk", str(directory)], check=True)
    for number in range(6):
        (directory / "file").write_text("line\n" * 500 + f"{number}\n")
        git(directory, "add", "-A")
        git(directory, "commit", "-qm", f"commit {number}")
        if number == 3:
            git(directory, "branch", "side/one")
            git(directory, "tag", "-a", "-m", "tagged", "v1")
            git(directory, "repack", "-adq")
            git(directory, "pack-refs", "--all")
    return directory


def test_git_takes_a_new_vault_for_a_repository(vault: GitRepo, tmp_path: Path) -> None:
    """Git finds nothing wrong with it, can clone it, and writes durably in it."""
    assert vault.fsck() == []
    assert vault.text("rev-parse", "--is-bare-repository") == "true"
    assert vault.text("config", "core.fsync") == "all,-index"
    assert vault.text("config", "gc.auto") == "0"
    git(tmp_path, "clone", "-q", str(vault.git_dir), "clone")
    (tmp_path / "clone" / "a").write_text("a")
    git(tmp_path / "clone", "add", "a")
    git(tmp_path / "clone", "commit", "-qm", "first")
    git(tmp_path / "clone", "push", "-q", "origin", "HEAD")
    assert vault.text("log", "--format=%s", "main") == "first"


def test_a_repository_of_git_can_be_a_vault(tmp_path: Path, work: Path) -> None:
    """Bare repositories as git makes them pass; those with a working tree, or of another kind, do not."""
    check_repository(init(tmp_path / "bare.git").git_dir)
    git(tmp_path, "clone", "-q", "--bare", str(work), "clone.git")
    check_repository(tmp_path / "clone.git")
    git(tmp_path, "clone", "-q", "--mirror", str(work), "mirror.git")
    check_repository(tmp_path / "mirror.git")
    git(tmp_path, "clone", "-q", "--bare", "--shared", str(work), "shared.git")
    for path in (work / ".git", tmp_path / "shared.git"):
        with pytest.raises(NotAVault):
            check_repository(path)
    with pytest.raises(FormatUnsupported):
        check_repository(init(tmp_path / "sha256.git", "--object-format=sha256").git_dir)


def assert_same_history(source: Path, vault: GitRepo) -> None:
    """Compare branches, tags and all that is reachable from them."""
    for arguments in (["for-each-ref", "refs/heads", "refs/tags"], ["rev-list", "--objects", "--branches", "--tags"]):
        assert sorted(vault.text(*arguments).splitlines()) == sorted(git(source, *arguments).splitlines())
    assert vault.fsck() == []
    check_repository(vault.git_dir)


@pytest.mark.parametrize("before", [[], ["gc", "-q"], ["pack-refs", "--all"]], ids=["mixed", "gc", "packed-refs"])
def test_a_clone_is_taken_over_whole(vault: GitRepo, work: Path, before: list[str]) -> None:
    """Every branch and tag with its whole history is in the vault, however git stored it."""
    if before:
        git(work, *before)
    source = find_git_dir(work)
    assert source is not None

    assert import_objects_and_refs(source, vault.git_dir) == "refs/heads/trunk"
    assert_same_history(work, vault)
    assert vault.text("symbolic-ref", "HEAD") == "refs/heads/trunk"


def test_linked_shared_and_detached_sources_are_taken_over(vault: GitRepo, work: Path, tmp_path: Path) -> None:
    """Of a linked working tree its own HEAD counts; of a shared clone the borrowed objects come along."""
    git(work, "worktree", "add", "-q", "-b", "linked", str(tmp_path / "linked"))
    source = find_git_dir(tmp_path / "linked")
    assert source is not None
    assert import_objects_and_refs(source, vault.git_dir) == "refs/heads/linked"
    assert_same_history(work, vault)

    git(tmp_path, "clone", "-q", "--shared", str(work), "shared")
    git(tmp_path / "shared", "checkout", "-q", "--detach")
    other = tmp_path / "other.git"
    init_vault_repo(other)
    assert import_objects_and_refs(tmp_path / "shared" / ".git", other) is None
    assert_same_history(tmp_path / "shared", GitRepo(other))
    assert read_head(tmp_path / "shared" / ".git")[1] == GitRepo(work / ".git").oid("rev-parse", "HEAD")


def test_a_shallow_clone_is_taken_over_as_it_is(vault: GitRepo, work: Path, tmp_path: Path) -> None:
    """Git knows afterwards that the history is cut off, and where."""
    git(tmp_path, "clone", "-q", "--depth=2", f"file://{work}", "shallow")
    import_objects_and_refs(tmp_path / "shallow" / ".git", vault.git_dir)

    assert_same_history(tmp_path / "shallow", vault)
    assert {oid.hex() for oid in read_shallow(vault.git_dir)} == set((vault.git_dir / "shallow").read_text().split())
    assert vault.text("rev-list", "--count", "trunk") == "2"


def test_a_partial_clone_is_refused(vault: GitRepo, work: Path, tmp_path: Path) -> None:
    """A source that fetches its objects on demand does not hold them."""
    git(work, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{work}", "partial")
    with pytest.raises(FormatUnsupported):
        import_objects_and_refs(tmp_path / "partial" / ".git", vault.git_dir)


def test_taking_over_executes_nothing(vault: GitRepo, work: Path, tmp_path: Path) -> None:
    """Hooks, filters and commands in a source's configuration do not run."""
    trap = tmp_path / "trapped"
    for name in ("post-checkout", "reference-transaction", "pre-auto-gc"):
        hook = work / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {trap}\n")
        hook.chmod(0o755)
    with (work / ".git/config").open("a") as file:
        file.write(
            f"[core]\n\tfsmonitor = touch {trap}\n\tsshCommand = touch {trap}\n[alias]\n\tfsck = !touch {trap}\n"
        )
    import_objects_and_refs(work / ".git", vault.git_dir)

    assert not trap.exists()
    assert (vault.git_dir / "config").read_text().count("fsmonitor") == 0


# --- git run by us -------------------------------------------------------------------------------------------


def write(vault: GitRepo, *contents: bytes) -> list[str]:
    """Write blobs, each kept by a ref."""
    with ObjectStore(vault.git_dir) as store:
        writer = PackWriter(store)
        oids = [writer.add(KIND_BLOB, data).hex() for data in contents]
        writer.finish()
    for oid in oids:
        vault.run("update-ref", f"refs/avfs/kept/{oid}", oid)
    return oids


def test_fsck_tells_what_git_finds(vault: GitRepo) -> None:
    """A sound vault has no faults; a damaged pack and a ref to nowhere are named."""
    write(vault, b"x" * 100, b"y")
    assert fsck(vault.git_dir) == []
    (vault.git_dir / "refs/heads/lost").write_text("ab" * 20 + "\n")
    found = fsck(vault.git_dir)
    assert any("lost" in line for line in found)
    pack = next((vault.git_dir / "objects/pack").glob("*.pack"))
    data = bytearray(pack.read_bytes())
    data[20] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)

    assert len(fsck(vault.git_dir)) > len(found)


def test_maintenance_loses_nothing(vault: GitRepo) -> None:
    """After garbage was collected and refs packed, every object and ref is there."""
    oids = write(vault, *[b"%d" % number for number in range(50)])
    before = RefStore(vault.git_dir).list()
    vault.run("pack-refs", "--all", "--prune")
    vault.run("gc", "--quiet", "--prune=2.weeks.ago")

    assert RefStore(vault.git_dir).list() == before
    with ObjectStore(vault.git_dir) as store:
        assert all(store.exists(oid) for oid in before.values())
    assert len(before) == len(oids)
    assert vault.fsck() == []


def test_the_environment_of_the_caller_does_not_reach_git(
    vault: GitRepo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No variable that steers git, nor one that makes it run something, is passed on."""
    trap = tmp_path / "trapped"
    (tmp_path / "config").write_text(f"[core]\n\thooksPath = {tmp_path}\n[alias]\n\tfsck = !touch {trap}\n")
    for name, value in {
        "GIT_DIR": "/nowhere",
        "GIT_OBJECT_DIRECTORY": "/nowhere",
        "GIT_CONFIG_GLOBAL": str(tmp_path / "config"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "fsck.skipList",
        "GIT_CONFIG_VALUE_0": "/nowhere",
        "GIT_TRACE": str(trap),
        "GIT_EXEC_PATH": "/nowhere",
        "LD_PRELOAD": "",
    }.items():
        monkeypatch.setenv(name, value)
    write_dir = os.environ.copy()
    assert fsck(vault.git_dir) == []

    assert os.environ == write_dir
    assert not trap.exists()


@pytest.mark.parametrize(
    "text",
    [
        "[include]\n\tpath = elsewhere\n",
        '[includeIf "gitdir:**"]\n\tpath = elsewhere\n',
        "[gc]\n\trecentObjectsHook = touch trapped\n",
        "[pack]\n\tpackObjectsHook = touch trapped\n",
        "[fsck]\n\tskipList = /etc/passwd\n",
    ],
)
@pytest.mark.parametrize("name", ["config", "config.worktree"])
def test_git_is_not_run_under_a_configuration_that_could_run_programs(vault: GitRepo, text: str, name: str) -> None:
    """A key that is not known to be harmless is named, and git is not started."""
    with (vault.git_dir / name).open("a") as file:
        file.write(text)

    with pytest.raises(GitFailed) as raised:
        fsck(vault.git_dir)
    section = text[1:].partition("]")[0].partition(" ")[0].lower()
    assert f"'{section}." in raised.value.message


@pytest.mark.parametrize(
    "text",
    [
        "[core]\n\tfsmonitor = touch trapped\n",
        "[core]\n\thooksPath = .\n",
        '[remote "o"]\n\tuploadpack = touch trapped\n',
        '[filter "x"]\n\tsmudge = touch trapped\n',
        "[alias]\n\tfsck = !touch trapped\n",
    ],
)
@pytest.mark.parametrize("name", ["config", "config.worktree"])
def test_settings_that_git_is_told_to_pass_over_run_nothing(vault: GitRepo, text: str, name: str) -> None:
    """They are a person's own, and no obstacle: options and environment of these commands overrule them."""
    with (vault.git_dir / name).open("a") as file:
        file.write(text)
    for hook in ("post-index-change", "reference-transaction"):
        (vault.git_dir / hook).write_text("#!/bin/sh\ntouch trapped\n")
        (vault.git_dir / hook).chmod(0o755)

    assert fsck(vault.git_dir) == []

    assert not (vault.git_dir / "trapped").exists()


def test_only_known_commands_are_run(vault: GitRepo) -> None:
    """No other command and no other option, abbreviated or not, reaches git."""
    for verb, options in (("config", []), ("fsck", ["--str"]), ("gc", []), ("", [])):
        with pytest.raises(InternalError):
            gitcommand.run(vault.git_dir, verb, options)


def test_a_machine_without_git_is_told_so(vault: GitRepo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without git there is one clear error."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AvfsError) as raised:
        fsck(vault.git_dir)

    assert raised.value.message == "git fsck failed: git is not installed"
