"""Lazy vaults: everything is known at once, contents come when they are first read, and never wrong ones."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avfs_git.errors import (
    GitFailed,
    HostError,
    ObjectMissing,
    PushRejected,
    RemoteAccessDenied,
    RemoteDataRefused,
    RemoteError,
)
from avfs_git.gitstore.remote import partial as lazystore
from avfs_git.gitstore.remote.partial import PartialObjectStore
from avfs_git.gitstore.source import NotYetHere
from avfs_git.model import ForkStat, GarbageResult, Warning
from avfs_git.paths import Oid
from avfs_git.sdk import Avfs, Vault, Workspace
from tests.support.capabilities import mount
from tests.support.servers import KINDS, Server, git, make_bare, serve

NEEDS = {"ssh": [pytest.mark.needs("sshd")]}
FILES = {
    f"{place}{number}": f"{place}{number}\n".encode() * 200
    for place in ("f", "dir/g", "dir/deep/h")
    for number in range(5)
}


@pytest.fixture(params=[pytest.param(kind, marks=NEEDS.get(kind, [])) for kind in KINDS])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of each kind with a small repository of two commits, which has a bitmap, as after each `git gc`."""
    with serve(request.param, tmp_path / "served") as found:
        bare = found.make("shop.git")
        fill(bare, tmp_path / "work")
        git("gc", "-q", cwd=bare)
        assert list((bare / "objects" / "pack").glob("*.bitmap"))
        yield found


def fill(bare: Path, work: Path) -> None:
    """Push a small repository."""
    # Files show the time of the commit. Were it that of git's index, to the second, a status would have to read them
    # (racy-git).
    env = {f"GIT_{who}_DATE": "2026-01-01T00:00:00Z" for who in ("AUTHOR", "COMMITTER")}
    git("clone", "-q", str(bare), str(work), cwd=bare)
    for name, content in FILES.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(content[:-3])
    git("add", ".", cwd=work)
    git("commit", "-qm", "one", cwd=work, env=env)
    for name, content in FILES.items():
        (work / name).write_bytes(content)
    git("commit", "-qam", "two", cwd=work, env=env)
    git("push", "-q", "origin", "HEAD:main", cwd=work)


def missing(vault: Vault) -> int:
    """Count the objects that are not here."""
    return git("rev-list", "--objects", "--all", "--missing=print", cwd=vault.path).count("?")


def packs(vault: Vault) -> int:
    """Count the packs: one for each request that brought something."""
    return len(list((vault.path / "objects/pack").glob("*.pack")))


@pytest.fixture
def vault(tmp_path: Path, server: Server) -> Iterator[Vault]:
    """A lazy clone."""
    with Avfs(tmp_path / "home", remote_environment={**server.environment, "HOME": str(tmp_path)}) as avfs:
        avfs.clone_vault(server.url("shop.git"), "v", lazy=True)
        yield avfs.open_vault("v")


def test_contents_come_when_they_are_read_a_directory_at_once(vault: Vault) -> None:
    """A clone holds no content; reading one file brings its directory in one request; forks share what came."""
    nothing, first = missing(vault), packs(vault)
    work = vault.workspace()
    listed = sorted(os.fsdecode(info.path) for info in work.list_dir("dir/deep"))
    content = work.read("dir/deep/h3")
    after, second = missing(vault), packs(vault)
    fork = vault.fork("topic")
    same = fork.read("dir/deep/h4")

    assert nothing == 2 * len(FILES)
    assert listed == sorted(name for name in FILES if name.startswith("dir/deep/"))
    assert content == FILES["dir/deep/h3"]
    assert same == FILES["dir/deep/h4"]
    assert (nothing - after, second - first) == (5, 1)
    assert packs(vault) == second


def test_work_in_a_lazy_vault_goes_both_ways(vault: Vault, tmp_path: Path) -> None:
    """Checkpoints, status, diff, fetch, merge and push work, and contents that nobody read stay where they are."""
    work = vault.workspace()
    work.write("dir/new", b"new\n")
    work.write("f2", b"instead of what nobody has read\n")
    saved = work.checkpoint("one").checkpoint
    assert saved is not None
    pushed = vault.push()
    other = tmp_path / "work"
    git("pull", "-q", "origin", "main", cwd=other)
    (other / "f1").write_bytes(b"theirs\n")
    git("commit", "-qam", "three", cwd=other)
    git("push", "-q", "origin", "HEAD:main", cwd=other)
    pulled = vault.pull()

    assert [ref.outcome for ref in pushed.refs] == ["updated"]
    assert git("show", "HEAD~1:dir/new", "HEAD~1:f2", cwd=other) == "new\ninstead of what nobody has read"
    assert pulled.merge is not None
    assert pulled.merge.outcome == "fast_forward"
    assert work.read("f1") == b"theirs\n"
    assert work.status().clean
    assert missing(vault) >= len(FILES)
    assert git("fsck", "--strict", "--no-dangling", "--no-progress", cwd=vault.path) == ""
    assert vault.doctor().healthy


def test_a_push_needs_no_old_content_where_others_have_moved_every_branch_on(vault: Vault, tmp_path: Path) -> None:
    """The vault knows none of the commits that the server's branches are at."""
    (tmp_path / "work" / "f1").write_bytes(b"theirs\n")
    git("commit", "-qam", "three", cwd=tmp_path / "work")
    git("push", "-q", "origin", "HEAD:main", cwd=tmp_path / "work")
    topic, nothing = vault.fork("topic"), missing(vault)
    topic.write("new", b"new\n")
    topic.checkpoint()

    assert [ref.outcome for ref in vault.push(["topic"]).refs] == ["new"]
    assert missing(vault) == nothing


def test_a_lazy_clone_of_a_server_that_hands_out_no_single_objects_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git's older protocol needs leave for it: an ssh server as Debian sets it up passes the newer one on to nobody."""
    bare = make_bare(tmp_path / "shop.git")
    git("config", "uploadpack.allowAnySHA1InWant", "false", cwd=bare)
    git("clone", "-q", str(bare), str(tmp_path / "work"), cwd=bare)
    (tmp_path / "work" / ".gitignore").write_bytes(b".env\n")
    git("add", ".", cwd=tmp_path / "work")
    git("commit", "-qm", "one", cwd=tmp_path / "work")
    git("push", "-q", "origin", "HEAD:main", cwd=tmp_path / "work")
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nfor last; do :; done\nexec env -i PATH="$PATH" sh -c "$last"\n')
    ssh.chmod(0o755)
    environment = {"GIT_SSH": str(ssh), "GIT_SSH_VARIANT": "simple", "HOME": str(tmp_path)}
    with Avfs(tmp_path / "home", remote_environment={"PATH": os.environ["PATH"], **environment}) as avfs:
        with pytest.raises(RemoteAccessDenied) as refused:
            avfs.clone_vault(f"ssh://host{bare}", "v", lazy=True)
        assert "AcceptEnv GIT_PROTOCOL" in (refused.value.hint or "")
        git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=bare)
        avfs.clone_vault(f"ssh://host{bare}", "v", lazy=True)
        with avfs.open_vault("v") as vault, vault.fork("topic") as topic:
            topic.write("new", b"new\n")
            topic.checkpoint()
            (tmp_path / "work" / "f1").write_bytes(b"theirs\n")
            git("add", ".", cwd=tmp_path / "work")
            git("commit", "-qm", "two", cwd=tmp_path / "work")
            git("push", "-q", "origin", "HEAD:main", cwd=tmp_path / "work")
            assert [ref.outcome for ref in vault.push(["topic"]).refs] == ["new"]


def test_contents_come_again_when_the_remote_was_removed_and_added(vault: Vault) -> None:
    """As git has it: what `extensions.partialClone` names is the server, whenever there is a remote of that name.

    The clone's filter stays, which may be one that git has set.
    """
    url = git("config", "remote.origin.url", cwd=vault.path).strip()
    git("config", "remote.origin.partialCloneFilter", "blob:limit=1k", cwd=vault.path)
    vault.remove_remote("origin")
    vault.add_remote("other", url)
    vault.remove_remote("other")
    vault.add_remote("origin", url)
    assert vault.workspace("main").read("f0") == FILES["f0"]
    assert git("config", "remote.origin.promisor", cwd=vault.path).strip() == "true"
    assert git("config", "remote.origin.partialCloneFilter", cwd=vault.path).strip() == "blob:limit=1k"
    assert "avfs.partialclonefilter" not in git("config", "--list", "--local", cwd=vault.path)


@pytest.mark.parametrize(
    "work_with",
    [
        pytest.param(lambda work: work.list_dir("dir", sizes=False), id="list"),
        pytest.param(lambda work: work.tree(sizes=False), id="tree"),
        pytest.param(lambda work: work.stat("f0", sizes=False), id="stat"),
        pytest.param(lambda work: work.find("f*"), id="find"),
        pytest.param(
            lambda work: (work.remove("f0"), work.remove("dir", recursive=True), work.checkpoint()), id="remove"
        ),
        pytest.param(lambda work: (work.move("dir", "other"), work.checkpoint(), work.undo()), id="rename"),
        pytest.param(lambda work: work.restore("HEAD~1", dry_run=True), id="plan of a restore"),
        pytest.param(lambda work: work.path_versions("f0"), id="versions"),
        pytest.param(lambda work: work.merge("HEAD~1", dry_run=True), id="plan of a merge"),
    ],
)
@pytest.mark.parametrize("server", ["path"], indirect=True)
def test_what_needs_no_content_asks_for_none(vault: Vault, work_with: Callable[[Workspace], object]) -> None:
    """A size alone is no reason to ask the server."""
    nothing, before = missing(vault), packs(vault)
    work_with(vault.workspace())
    made = packs(vault) - before
    assert missing(vault) == nothing
    assert made <= 2  # what a checkpoint has made


@pytest.mark.parametrize("server", ["path"], indirect=True)
def test_commands_that_need_no_content_ask_for_none(vault: Vault) -> None:
    """On the command line; JSON tells sizes, which come with the contents."""
    nothing = missing(vault)
    environment = {**os.environ, "HOME": str(vault.path.parents[2]), "AVFS_HOME": str(vault.path.parents[1])}

    def avfs(*arguments: str) -> str:
        command = [sys.executable, "-m", "avfs_git", "--vault", "v", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    assert "dir/" in avfs("ls")
    assert "f1" in avfs("ls", "f1")
    assert "h4" in avfs("tree")
    avfs("rm", "f0")
    avfs("rm", "-r", "dir/deep")
    avfs("status")
    avfs("undo", "--dry-run")
    assert missing(vault) == nothing
    assert '"size":1400' in avfs("ls", "--json", "dir")
    assert missing(vault) == nothing - 5


@pytest.mark.parametrize("server", ["path"], indirect=True)
def test_a_push_to_another_remote_brings_what_that_lacks(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one request, and no more than it lacks.

    Where the clone's own server does not answer, the error says what is missing.
    """
    monkeypatch.setattr(lazystore, "_PATIENCE_S", 0)
    other = make_bare(tmp_path / "other.git")
    vault.add_remote("other", str(other))
    work = vault.workspace()
    work.write("new", b"new\n")
    work.checkpoint("mine")
    served = Path(git("config", "remote.origin.url", cwd=vault.path).removeprefix("file://"))
    served.rename(tmp_path / "away")
    with pytest.raises(RemoteError) as refused:
        vault.push(["main"], remote="other")
    assert not isinstance(refused.value, PushRejected)
    assert f"'other' lacks {2 * len(FILES)} contents that are not here, only at 'origin'" in (refused.value.hint or "")
    assert git("for-each-ref", cwd=other) == ""

    (tmp_path / "away").rename(served)
    before = packs(vault)
    assert [ref.outcome for ref in vault.push(["main"], remote="other").refs] == ["new"]
    assert packs(vault) == before + 1
    assert git("fsck", "--full", "--no-progress", cwd=other) == ""
    assert git("show", "main:f0", cwd=other) + "\n" == FILES["f0"].decode()
    work.write("newer", b"newer\n")
    work.write("f1", b"instead of what nobody has read\n")
    work.checkpoint("again")
    vault.push(["main"], remote="other")
    vault.push(["main"])
    assert git("fsck", "--full", "--no-progress", cwd=served) == ""


def test_prefetch_brings_what_is_named_in_one_request(vault: Vault) -> None:
    """Of a directory with all below it, once; of everything then only the rest."""
    before = packs(vault)
    some = vault.prefetch(["dir"])
    again = vault.prefetch(["dir"])
    rest = vault.prefetch()

    assert [(result.files, result.fetched) for result in (some, again, rest)] == [(10, 10), (10, 0), (15, 5)]
    assert packs(vault) == before + 2


@pytest.mark.needs("fuse")
def test_a_live_tree_fetches_from_any_server(vault: Vault, mount_dir: Path) -> None:
    """The process behind a mount has what the exchange needs, and what programs read comes a directory at a time."""
    before = packs(vault)
    with vault.workspace().mount(mount_dir / "tree") as session:
        mounted = packs(vault)
        read = {name: (session.path / name).read_bytes() for name in FILES}
        status = git("status", "--porcelain", cwd=session.path)

    assert mounted == before
    assert read == FILES
    assert packs(vault) == before + 3
    assert status == ""


# --- without a server -------------------------------------------------------------------------------------------------


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[Vault]:
    """A lazy clone whose server has gone: it is at `gone.git`."""
    bare = make_bare(tmp_path / "shop.git")
    fill(bare, tmp_path / "work")
    with Avfs(tmp_path / "home") as avfs:
        avfs.clone_vault(str(bare), "v", lazy=True)
        bare.rename(tmp_path / "gone.git")
        yield avfs.open_vault("v")


def test_what_is_missing_while_offline_is_an_error_and_works_again(
    offline: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading fails with the remote's error, what is here works on, and everything does when the server is back."""
    work = offline.workspace()
    with pytest.raises(RemoteError):
        work.read("f1")
    work.write("own", b"1\n")
    work.move("dir", "moved")
    status = work.status()
    saved = work.checkpoint("offline")
    work.undo()
    (tmp_path / "gone.git").rename(tmp_path / "shop.git")
    monkeypatch.setattr(lazystore, "_PATIENCE_S", 0)

    assert saved.outcome == "created"
    assert saved.changed_files == status.changed_files
    assert {change.path for change in saved.changed_files} > {b"own"}
    assert work.read("f1") == FILES["f1"]


@pytest.mark.needs("fuse")
def test_a_live_tree_is_saved_without_the_server(tmp_path: Path, mount_dir: Path) -> None:
    """The rules of ignored files came with the clone, and those of later commits with the fetch."""
    bare, work = make_bare(tmp_path / "shop.git"), tmp_path / "work"
    fill(bare, work)

    def push(name: str, content: str) -> None:
        (work / name).write_text(content)
        git("add", ".", cwd=work)
        git("commit", "-qm", name, cwd=work)
        git("push", "-q", "origin", "HEAD:main", cwd=work)

    push(".gitignore", "*.log\n")
    with Avfs(tmp_path / "home") as avfs:
        avfs.clone_vault(str(bare), "v", lazy=True)
        vault = avfs.open_vault("v")
        push("dir/.gitignore", "*.tmp\n")
        vault.fetch()
        vault.fork("late", at="origin/main")
        here = missing(vault)
        bare.rename(tmp_path / "gone.git")
        for fork in ("main", "late"):
            tree = mount_dir / fork
            with vault.workspace(fork).mount(tree) as session:
                (tree / "dir/new").write_bytes(b"new\n")
                (tree / "x.log").write_bytes(b"ignored\n")
                saved = vault.workspace(fork).checkpoint()
                assert [change.path for change in saved.changed_files] == [b"dir/new"]
                session.stop()
        assert missing(vault) == here >= len(FILES)


def objects(vault: Vault) -> set[str]:
    """List all objects that are here."""
    return set(git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)", cwd=vault.path).split())


def gc(vault: Vault, *, dry_run: bool = False) -> GarbageResult:
    """Collect; whatever was written until now is old enough."""
    time.sleep(0.02)
    return vault.gc(keep_days=0, keep_operations=1, grace_days=0, dry_run=dry_run)


def test_a_lazy_vault_is_cleaned_up(offline: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made here and nothing reaches goes, what is reached stays, also with git's own collection by hand."""
    work = offline.workspace()
    for number in range(3):
        work.write("own", b"%d\n" % number)
        work.checkpoint()
    gone = offline.fork("gone")
    gone.write("theirs", b"1\n")
    lost = gone.checkpoint().checkpoint
    assert lost is not None
    offline.delete_fork("gone")
    offline.fork("other")

    planned = gc(offline, dry_run=True)
    done = gc(offline)
    again = gc(offline)
    here = objects(offline)
    fsck = git("fsck", "--strict", "--no-dangling", "--no-progress", cwd=offline.path)
    collected = git("gc", "-q", "--prune=now", cwd=offline.path)

    assert planned.operations == done.operations > 0
    assert planned.objects == done.objects > 0
    assert (again.objects, again.waiting) == (0, 0)
    assert not done.warnings
    assert lost.id not in here
    assert (fsck, collected) == ("", "")
    assert objects(offline) == here
    assert work.read("own") == b"2\n"
    assert offline.doctor().healthy
    (tmp_path / "gone.git").rename(tmp_path / "shop.git")
    monkeypatch.setattr(lazystore, "_PATIENCE_S", 0)
    assert work.read("f1") == FILES["f1"]


@pytest.fixture
def online(tmp_path: Path) -> Iterator[Vault]:
    """A lazy clone of `shop.git`; `work` is a clone of it, too."""
    bare = make_bare(tmp_path / "shop.git")
    fill(bare, tmp_path / "work")
    with Avfs(tmp_path / "home") as avfs:
        avfs.clone_vault(str(bare), "v", lazy=True)
        yield avfs.open_vault("v")


def test_what_the_server_sent_keeps_what_it_names(online: Vault, tmp_path: Path) -> None:
    """A commit made here stays while a fetched one names it, though no branch does and the server forgot both."""
    topic = online.fork("topic")
    topic.write("own", b"1\n")
    mine = topic.checkpoint().checkpoint
    assert mine is not None
    online.push(["topic"])
    work = tmp_path / "work"
    git("fetch", "-q", "origin", cwd=work)
    git("checkout", "-q", "topic", cwd=work)
    git("commit", "-q", "--allow-empty", "-m", "theirs", cwd=work)
    git("push", "-q", "origin", "topic", cwd=work)
    online.fetch()
    theirs = git("rev-parse", "HEAD", cwd=work)
    git("push", "-q", "origin", ":topic", cwd=work)
    online.fetch()
    online.delete_fork("topic")
    online.fork("other")
    done = gc(online)

    assert not done.warnings
    assert {mine.id, theirs} <= objects(online)
    assert git("log", "--format=%H", f"{theirs}", "-2", cwd=online.path).split() == [theirs, mine.id]


def add_directories(vault: Vault, other: Path, count: int) -> tuple[Workspace, list[str]]:
    """Have the server add directories, each with a file; give a fork that has them, and the paths of the files."""
    names = [f"many/{number}/file" for number in range(count)]
    for name in names:
        (other / name).parent.mkdir(parents=True)
        (other / name).write_text(name)
    git("add", ".", cwd=other)
    git("commit", "-qm", "many", cwd=other)
    git("push", "-q", "origin", "HEAD:main", cwd=other)
    vault.fetch()
    return vault.fork("many", at="origin/main"), names


def test_who_reads_one_directory_after_the_other_waits_for_few_requests(online: Vault, tmp_path: Path) -> None:
    """More and more comes along; who reads a file here and there gets only that directory."""
    work, names = add_directories(online, tmp_path / "work", 100)
    before, lacking = packs(online), missing(online)
    for name in names[:2]:
        work.read(name)
    few = packs(online) - before, lacking - missing(online)
    read = [work.read(name).decode() for name in names]

    assert few == (2, 2)
    assert read == names
    assert packs(online) - before < 8


def requests(vault: Vault) -> int:
    """Count the packs that came from the server."""
    return len(list((vault.path / "objects/pack").glob("*.promisor")))


def test_an_operation_brings_all_that_it_needs_in_one_request(online: Vault, tmp_path: Path) -> None:
    """So do a pull, a diff and a restore, over however many directories, and nothing else comes along."""
    names = [f"many/{number}/file" for number in range(60)]
    other = tmp_path / "work"
    for text in ("first", "second"):
        for name in names:
            (other / name).parent.mkdir(parents=True, exist_ok=True)
            (other / name).write_text(f"{text} {name}")
            (other / name).with_name("beside").write_text(f"beside {name}")
        git("add", ".", cwd=other)
        git("commit", "-qm", text, cwd=other)
        git("push", "-q", "origin", "HEAD:main", cwd=other)
    online.fetch()
    work = online.fork("many", at="origin/main")
    counts = [(requests(online), missing(online))]
    online.diff("origin/main~1", "origin/main")
    counts.append((requests(online), missing(online)))
    work.restore("origin/main~2")
    counts.append((requests(online), missing(online)))
    online.pull()
    counts.append((requests(online), missing(online)))
    came = [(after[0] - before[0], before[1] - after[1]) for before, after in itertools.pairwise(counts)]

    assert came == [(1, 120), (0, 0), (1, 60)]
    assert online.workspace().read(names[7]) == b"second many/7/file"


def test_packs_from_the_server_are_joined(online: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came in many requests is in few packs afterwards, still known as the server's.

    Nothing is fetched for that.
    """
    monkeypatch.setattr(lazystore, "_READ_ALONE", 100)
    work, names = add_directories(online, tmp_path / "work", 14)
    for name in names:
        work.read(name)
    (tmp_path / "shop.git").rename(tmp_path / "gone.git")
    before, here = packs(online), objects(online)
    done = gc(online)

    assert before >= len(names)
    assert not done.warnings
    assert packs(online) <= 4
    assert objects(online) >= here
    assert git("fsck", "--strict", "--no-dangling", "--no-progress", cwd=online.path) == ""
    assert [work.read(name).decode() for name in names] == names


def test_nothing_goes_where_more_than_contents_is_missing(offline: Vault) -> None:
    """A commit without its tree hides what it reaches: nothing goes, and the error says why."""
    author = "A <a@b> 0 +0000"
    broken = offline.path.parent / "broken"
    broken.write_text(f"tree {'1' * 40}\nauthor {author}\ncommitter {author}\n\nx\n")
    oid = git("hash-object", "-t", "commit", "-w", "--literally", str(broken), cwd=offline.path)
    git("update-ref", "refs/heads/broken", oid, cwd=offline.path)
    here = objects(offline)
    with pytest.raises(GitFailed):
        gc(offline)

    assert objects(offline) == here


def test_a_server_that_leaves_nothing_out_is_told(tmp_path: Path) -> None:
    """Where the server ignores the filter, all is here, works offline, and the clone says so; elsewhere it does not."""
    bare = make_bare(tmp_path / "shop.git")
    fill(bare, tmp_path / "work")
    with Avfs(tmp_path / "home") as avfs:
        lazy = avfs.clone_vault(str(bare), "lazy", lazy=True)
        git("config", "uploadpack.allowFilter", "false", cwd=bare)
        whole = avfs.clone_vault(str(bare), "whole", lazy=True)
        full = avfs.clone_vault(str(bare), "full")
        bare.rename(tmp_path / "gone.git")

        assert [warning.code for warning in whole.warnings] == ["clone.not_lazy"]
        assert not lazy.warnings + full.warnings
        with avfs.open_vault("whole") as vault:
            assert missing(vault) == 0
            assert vault.workspace().read("f1") == FILES["f1"]


def lose(bare: Path, name: str) -> str:
    """Take the content of a file from a repository, as a server does that cleans up after its history was rewritten."""
    oid = git("rev-parse", f"main:{name}", cwd=bare)
    for pack in (bare / "objects/pack").glob("*.pack"):
        away = pack.rename(bare / pack.name)
        with away.open("rb") as file:
            subprocess.run(["git", "unpack-objects", "-q"], cwd=bare, stdin=file, check=True)
        pack.with_suffix(".idx").unlink()
    (bare / "objects" / oid[:2] / oid[2:]).unlink()
    return oid


@pytest.mark.parametrize("tells", [True, False], ids=["telling", "silent"])
def test_what_the_server_has_lost_keeps_nothing_else_away(tells: bool, tmp_path: Path) -> None:
    """A content that is on no server any more is missing, by name; what was to come along with it comes."""
    bare = make_bare(tmp_path / "shop.git")
    git("config", "transfer.advertiseObjectInfo", "true" if tells else "false", cwd=bare)
    fill(bare, tmp_path / "work")
    with Avfs(tmp_path / "home") as avfs:
        avfs.clone_vault(str(bare), "v", lazy=True)
        lost = [lose(bare, name) for name in ("f1", "dir/g1")]
        with avfs.open_vault("v") as vault:
            work = vault.workspace()
            with pytest.raises(ObjectMissing, match=lost[0]) as caught:
                work.read("f1")
            others = work.read("f2")
            with pytest.raises(ObjectMissing, match=lost[0]):
                work.stat("f1")
            with pytest.raises(ObjectMissing):
                vault.prefetch()
            left = missing(vault)

    assert "does not have it any more" in str(caught.value.hint)
    assert others == FILES["f2"]
    assert left == len(lost) + len(FILES)  # and the first commit's, which nobody asked for


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("tells", [True, False], ids=["telling", "silent"])
def test_a_live_tree_goes_on_without_what_the_server_has_lost(tells: bool, tmp_path: Path, mount_dir: Path) -> None:
    """Who wants it gets an error, once and for all; names are listed, and other files read at once."""
    bare = make_bare(tmp_path / "shop.git")
    git("config", "transfer.advertiseObjectInfo", "true" if tells else "false", cwd=bare)
    fill(bare, tmp_path / "work")
    with Avfs(tmp_path / "home") as avfs:
        avfs.clone_vault(str(bare), "v", lazy=True)
        lose(bare, "f1")
        with avfs.open_vault("v") as vault, vault.workspace().mount(mount_dir / "tree") as session:
            wanted = [["stat", "f0"], ["stat", "f1"], ["cat", "f1"], ["cat", "f2"], ["cat", "dir/deep/h1"]]
            done = [subprocess.run(argv, cwd=session.path, capture_output=True, check=False) for argv in wanted]
            listed = subprocess.run(["ls", "-l"], cwd=session.path, capture_output=True, check=False)

    assert [each.returncode for each in done] == [0, 1, 1, 0, 0]
    assert all(b"Input/output error" in each.stderr for each in done[1:3])
    assert [each.stdout for each in done[3:]] == [FILES["f2"], FILES["dir/deep/h1"]]
    assert [b" f0" in listed.stdout, b" f1" in listed.stdout, b" f4" in listed.stdout] == [True, True, True]


@pytest.mark.needs("root")
def test_a_content_that_the_disk_does_not_take_leaves_it_as_it_was(tmp_path: Path, mount_dir: Path) -> None:
    """It is told as what it is, nothing of it stays, and what there is room for still comes."""
    bare = make_bare(tmp_path / "shop.git")
    fill(bare, tmp_path / "work")
    (tmp_path / "work/large").mkdir()
    (tmp_path / "work/large/one").write_bytes(os.urandom(20 << 20))
    git("add", ".", cwd=tmp_path / "work")
    git("commit", "-qm", "three", cwd=tmp_path / "work")
    git("push", "-q", "origin", "HEAD:main", cwd=tmp_path / "work")
    disk = mount_dir / "tmpfs"
    disk.mkdir()
    assert mount("tmpfs", disk, "tmpfs", "size=8m")
    with Avfs(disk / "home") as avfs:
        avfs.clone_vault(f"file://{bare}", "v", lazy=True)  # of a plain path git would copy the object by itself
        with avfs.open_vault("v") as vault:
            work = vault.workspace()
            before = os.listdir(vault.path / "objects/pack")
            with pytest.raises(HostError, match="No space left") as caught:
                work.read("large/one")
            after = os.listdir(vault.path / "objects/pack")
            free = os.statvfs(disk)
            content = work.read("f1")
            exchanges = os.listdir(vault.path / "avfs/exchange")

    assert caught.value.errno == errno.ENOSPC
    assert sorted(after) == sorted(before)
    assert exchanges == []
    assert free.f_bavail * free.f_frsize > 4 << 20
    assert content == FILES["f1"]


@pytest.mark.parametrize("name", ["f1", "dir/g1"])
def test_a_wrong_content_is_refused_and_keeps_nothing_else_away(name: str, offline: Vault, tmp_path: Path) -> None:
    """The server's disk holds something else under its id: a reader is told, and what would come along comes alone."""
    bare = (tmp_path / "gone.git").rename(tmp_path / "shop.git")
    oid = lose(bare, name)
    wrong = b"wrong\n"
    (bare / "objects" / oid[:2] / oid[2:]).write_bytes(zlib.compress(b"blob %d\0" % len(wrong) + wrong))
    work = offline.workspace()
    other = name[:-1] + "2"
    with pytest.raises(RemoteDataRefused):
        work.read(name)

    assert work.read(other) == FILES[other]
    with pytest.raises(RemoteDataRefused):
        work.read(name)
    assert git("fsck", "--strict", "--no-dangling", "--no-progress", cwd=offline.path) == ""


@pytest.mark.needs("fuse")
def test_two_live_trees_that_want_the_same_at_once_both_get_it(online: Vault, mount_dir: Path) -> None:
    """Each asks by itself, perhaps for the same pack; nothing of either exchange stays."""
    (mount_dir / "one").mkdir()
    with (
        online.workspace().mount(mount_dir / "one/tree") as one,
        online.fork("other").mount(mount_dir / "other") as other,
    ):
        for name in ("f1", "dir/g1", "dir/deep/h1"):
            programs = [
                subprocess.Popen(["cat", str(session.path / name)], stdout=subprocess.PIPE)
                for session in (one, other)
                for _ in "ab"
            ]
            assert [program.communicate()[0] for program in programs] == [FILES[name]] * 4

    assert os.listdir(online.path / "avfs/exchange") == []
    assert git("fsck", "--strict", "--no-dangling", "--no-progress", cwd=online.path) == ""
    assert online.doctor().healthy


def test_contents_come_to_a_vault_whose_path_git_has_to_be_told_with_care(tmp_path: Path) -> None:
    """Git reads where the objects of the vault are from a line of text."""
    bare = make_bare(tmp_path / "shop.git")
    fill(bare, tmp_path / "work")
    home = tmp_path / os.fsdecode(b'#a "b": c\\d\ne\xff')
    with Avfs(home) as avfs:
        avfs.clone_vault(str(bare), "v", lazy=True)
        with avfs.open_vault("v") as vault:
            content = vault.workspace().read("f1")
            fetched = vault.fetch()

    assert content == FILES["f1"]
    assert fetched.moves == ()


def test_who_cannot_wait_is_not_sent_for_the_same_thing_again_and_again(offline: Vault) -> None:
    """A fetch that ends well and brings nothing is an error of whoever wanted the content."""
    oid = Oid(bytes.fromhex(git("rev-parse", "main:f1", cwd=offline.path)))
    store = PartialObjectStore(offline.path, lambda _: None)
    store.wait_elsewhere()
    with pytest.raises(NotYetHere) as caught:
        store.read(oid)
    with pytest.raises(ObjectMissing):
        caught.value.bring()


@pytest.mark.needs("fuse")
def test_a_live_tree_of_a_lazy_vault(offline: Vault, tmp_path: Path, mount_dir: Path) -> None:
    """It is mounted without any content.

    A file of a server that is gone is an input/output error, later its content.
    """
    with offline.workspace().mount(mount_dir / "tree") as session:
        failed = subprocess.run(["cat", str(session.path / "f1")], capture_output=True, check=False)
        names = os.listdir(session.path)
        (tmp_path / "gone.git").rename(tmp_path / "shop.git")
        for _ in range(100):
            read = subprocess.run(["cat", str(session.path / "dir/deep/h1")], capture_output=True, check=False)
            if read.returncode == 0:
                break
            subprocess.run(["sleep", "0.1"], check=True)
        whole = subprocess.run(["cat", str(session.path / "f1")], capture_output=True, check=False)

    assert (failed.returncode, b"Input/output error" in failed.stderr) == (1, True)
    assert {"f0", "dir"} <= set(names)
    assert read.stdout == FILES["dir/deep/h1"]
    assert whole.stdout == FILES["f1"]


def test_a_search_brings_what_it_reads(vault: Vault) -> None:
    """Only contents below the searched paths come, in one request; the next search finds them here."""
    first = packs(vault)
    work = vault.workspace()

    assert len(work.grep("^dir/g", ["dir"]).files) == 5
    assert work.read("f0") == FILES["f0"]
    came = packs(vault)
    assert came > first
    assert len(work.grep("f1|g2|h3").files) == 3
    brought = packs(vault)
    assert len(work.grep("f1|g2|h3").files) == 3
    assert packs(vault) == brought


def test_a_search_reads_a_file_that_was_written_again_from_the_workspace(offline: Vault) -> None:
    """Also the content that the head has and the server keeps: no server is asked for it."""
    work = offline.workspace()
    work.write("f1", FILES["f1"])

    assert [file.path for file in work.grep("f1", ["f1"], outcome="files").files] == [b"f1"]
    with pytest.raises(RemoteError):
        work.grep("f1", ["f0"])


def test_forks_are_counted_as_far_as_contents_are_here(offline: Vault, tmp_path: Path) -> None:
    """One whose contents the server keeps is listed with a warning."""
    offline.fork("new").write("new", b"1\n")
    offline.fork("changed").write("f0", b"1\n")
    for name in ("new", "changed"):
        offline.workspace(name).checkpoint()
    told: list[Warning] = []
    with Avfs(tmp_path / "home", on_warnings=told.extend) as avfs:
        found = {standing.fork: standing.stat for standing in avfs.open_vault("v").compare_forks(stat=True)}

    assert found == {"main": ForkStat(0, 0, 0), "new": ForkStat(1, 1, 0), "changed": None}
    assert [warning.code for warning in told] == ["fork.not_counted"]


def test_packs_of_checkpoints_are_joined(offline: Vault) -> None:
    """Maintenance joins the packs that were made here.

    What came from the server stays apart, and nothing is fetched.
    """
    work = offline.workspace()
    for number in range(20):
        work.write("own", b"%d\n" % number)
        work.checkpoint()
    before, here, made = missing(offline), objects(offline), packs(offline)
    steps = {step.name: step.handled or 0 for step in offline.maintain().steps}

    assert steps["packs"] >= 20
    assert packs(offline) == made - steps["packs"] + 1
    assert (missing(offline), objects(offline)) == (before, here)
    assert work.read("own") == b"19\n"
