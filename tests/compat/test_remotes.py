"""Remotes against real servers: what arrives is git's, nothing there is ever overwritten, and both sides stay whole."""

from __future__ import annotations

import base64
import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from avfs_git.errors import (
    CommitConflicts,
    HostError,
    InvalidInput,
    InvalidName,
    NotFastForward,
    PushRejected,
    RemoteAccessDenied,
    RemoteExists,
    RemoteFormatUnsupported,
    RemoteNotFound,
    RemoteUnreachable,
)
from avfs_git.sdk import Avfs, Vault
from tests.support.servers import KINDS, Server, git, make_bare, serve

NEEDS = {"ssh": [pytest.mark.needs("sshd")]}


@pytest.fixture(params=[pytest.param(kind, marks=NEEDS.get(kind, [])) for kind in KINDS])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of each kind."""
    with serve(request.param, tmp_path / "served") as found:
        yield found


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[[str, Server], Avfs]]:
    """Makes homes, as of several machines."""
    opened: list[Avfs] = []

    def make(name: str, server: Server) -> Avfs:
        opened.append(Avfs(tmp_path / name, remote_environment={**server.environment, "HOME": str(tmp_path)}))
        return opened[-1]

    yield make
    for avfs in opened:
        avfs.close()


Machine = Callable[[str, Server], Avfs]


def save(vault: Vault, path: str, data: bytes, fork: str | None = None) -> str:
    """Write a file and make a checkpoint; return its commit."""
    workspace = vault.workspace(fork)
    workspace.write(path, data)
    saved = workspace.checkpoint().checkpoint
    assert saved is not None
    return saved.id


def refs_of(place: Path) -> dict[str, str]:
    """List the refs of a repository as git has them."""
    lines = git("for-each-ref", "--format=%(refname) %(objectname)", cwd=place).splitlines()
    return dict(line.split(" ") for line in lines)


def check(place: Path) -> None:
    """Have git check a repository."""
    assert git("fsck", "--strict", "--no-dangling", "--no-progress", cwd=place) == ""


def test_two_machines_work_through_one_server(server: Server, machine: Machine) -> None:
    """What one pushes the other clones, forks, pushes back and the first pulls.

    Git finds both sides sound at the end.
    """
    bare = server.make("shop.git")
    first = machine("one", server).create_vault("shop")
    save(first, "a", b"1\n")
    first.add_remote("origin", server.url("shop.git"))
    pushed = first.push()
    other = machine("two", server)
    cloned = other.clone_vault(server.url("shop.git"), "mine")
    second = other.open_vault("mine")
    fork = second.fork("topic")
    fork.write("b", b"2\n")
    fork.checkpoint()
    second.push(["topic"])
    fetched = first.fetch()
    branches = {branch.name: branch for branch in first.list_remote_branches()}
    first.fork("topic", at="origin/topic")
    third = save(second, "c", b"3\n")
    second.push(["main"])
    pulled = first.pull("main")

    assert [(ref.ref, ref.outcome) for ref in pushed.refs] == [("refs/heads/main", "new")]
    assert (cloned.fork, cloned.branches) == ("main", 1)
    assert second.workspace("main").read("a") == b"1\n"
    assert [move.ref for move in fetched.moves] == ["refs/remotes/origin/topic"]
    assert (branches["origin/topic"].fork, branches["origin/main"].ahead, branches["origin/main"].behind) == (
        None,
        0,
        0,
    )
    assert first.workspace("topic").read("b") == b"2\n"
    assert pulled.merge is not None
    assert (pulled.merge.outcome, pulled.merge.commit) == ("fast_forward", third)
    assert first.workspace("main").read("c") == b"3\n"
    assert refs_of(bare) == {"refs/heads/main": third, "refs/heads/topic": second.fork_info("topic").head}
    for place in (bare, first.path, second.path):
        check(place)


def test_a_push_never_overwrites_what_is_there(server: Server, machine: Machine) -> None:
    """Where both sides went on, a push is rejected with what to do; after a pull it is taken, and nothing is lost."""
    bare = server.make("shop.git")
    first = machine("one", server).create_vault("shop")
    save(first, "a", b"1\n")
    first.add_remote("origin", server.url("shop.git"))
    first.push()
    two = machine("two", server)
    two.clone_vault(server.url("shop.git"), "shop")
    second = two.open_vault("shop")
    theirs = save(second, "b", b"2\n")
    second.push()
    save(first, "c", b"3\n")
    first.fork("topic")

    with pytest.raises(PushRejected, match=r"did not take 'main' \(fetch first\); it took 'topic'$") as rejected:
        first.push(["main", "topic"])
    git("branch", "-qD", "topic", cwd=bare)
    kept = refs_of(bare)
    with pytest.raises(NotFastForward):
        first.pull(ff_only=True)
    pulled = first.pull()
    again = first.push()

    assert kept == {"refs/heads/main": theirs}
    assert rejected.value.details["rejected"] == [{"ref": "main", "reason": "fetch first"}]
    assert rejected.value.hint == "Bring in what is there with `avfs pull main --remote origin`, then push again."
    assert pulled.merge is not None
    assert pulled.merge.outcome == "clean"
    assert [ref.outcome for ref in again.refs] == ["updated"]
    assert git("ls-tree", "--name-only", "main", cwd=bare).split() == ["a", "b", "c"]


@pytest.mark.parametrize("way", ["at once", "after a fetch", "after git's fetch"])
def test_a_rebasing_pull_leaves_out_what_the_server_took_back(tmp_path: Path, way: str) -> None:
    """What came from the server is not the fork's own, with or without uncommitted work; its own commits stay."""
    bare = make_bare(tmp_path / "shop.git")
    with Avfs(tmp_path / "one") as one, Avfs(tmp_path / "two") as two:
        first = one.create_vault("shop")
        good = save(first, "a", b"1\n")
        first.add_remote("origin", str(bare))
        save(first, "secret", b"password\n")
        first.push()
        two.clone_vault(str(bare), "shop")
        second = two.open_vault("shop")
        save(second, "mine", b"2\n")
        second.workspace().write("uncommitted", b"3\n")
        git("update-ref", "refs/heads/main", good, cwd=bare)
        if way == "after a fetch":
            second.fetch()
            assert git("log", "-g", "--format=%H", "refs/remotes/origin/main", cwd=second.path) == good
        elif way == "after git's fetch":
            git("-c", "core.logAllRefUpdates=true", "fetch", "-q", "origin", cwd=second.path)

        pulled = second.pull(rebase=True)

        assert pulled.rebase is not None
        assert pulled.rebase.outcome == "rewritten"
        assert git("rev-parse", "main~2", cwd=second.path) == good
        assert git("ls-tree", "--name-only", "main", cwd=second.path).split() == ["a", "mine", "uncommitted"]
        second.undo()
        assert second.workspace().read("secret") == b"password\n"


def test_a_pull_rebases(server: Server, machine: Machine) -> None:
    """The fork's own commits stand on what came, and are pushed.

    One that does not fit is an error, or waits in the files.
    """
    server.make("shop.git")
    first = machine("one", server).create_vault("shop")
    save(first, "a", b"1\n")
    first.add_remote("origin", server.url("shop.git"))
    first.push()
    two = machine("two", server)
    two.clone_vault(server.url("shop.git"), "shop")
    second = two.open_vault("shop")
    theirs = save(second, "b", b"2\n")
    second.push()
    save(first, "c", b"3\n")

    pulled = first.pull(rebase=True)
    again = first.push()

    assert pulled.merge is None
    assert pulled.rebase is not None
    assert (pulled.rebase.outcome, len(pulled.rebase.commits)) == ("rewritten", 1)
    assert git("rev-parse", "main~1", cwd=first.path) == theirs
    assert [ref.outcome for ref in again.refs] == ["updated"]

    save(second, "c", b"other\n")
    with pytest.raises(CommitConflicts):
        second.pull(rebase=True)
    stopped = second.pull(rebase=True, on_conflict="workspace")
    second.workspace().resolve("c", "theirs")
    second.workspace().continue_rewrite()

    assert stopped.rebase is not None
    assert stopped.rebase.outcome == "conflicted"
    assert [ref.outcome for ref in second.push().refs] == ["updated"]
    with pytest.raises(InvalidInput):
        second.pull(rebase=True, ff_only=True)


def test_force_with_lease_takes_only_what_was_seen(server: Server, machine: Machine) -> None:
    """A branch moves aside if it is where it was last seen, and not if somebody has moved it since."""
    bare = server.make("shop.git")
    vault = machine("one", server).create_vault("shop")
    save(vault, "a", b"1\n")
    vault.add_remote("origin", server.url("shop.git"))
    vault.fork("topic")
    save(vault, "b", b"2\n", "topic")
    vault.push(["topic"])
    vault.delete_fork("topic")
    vault.fork("topic")
    mine = save(vault, "c", b"3\n", "topic")

    forced = vault.push(["topic"], force_with_lease=True)
    work = bare.parent.parent / "work"
    git("clone", "-q", "-b", "topic", str(bare), str(work), cwd=bare)
    git("commit", "-q", "--allow-empty", "-m", "x", cwd=work)
    git("push", "-q", cwd=work)
    save(vault, "d", b"4\n", "topic")
    with pytest.raises(PushRejected) as rejected:
        vault.push(["topic"], force_with_lease=True)

    assert [(ref.outcome, ref.new) for ref in forced.refs] == [("forced", mine)]
    assert rejected.value.details["rejected"] == [{"ref": "topic", "reason": "stale info"}]


def test_checkpoints_and_ignored_files_go_only_when_asked_for(server: Server, machine: Machine) -> None:
    """A plain push hands over branches alone; labels and the sidecar go and come with their options."""
    bare = server.make("shop.git")
    vault = machine("one", server).create_vault("shop")
    vault.workspace().write(".gitignore", b"*.log\n")
    vault.workspace().write("x.log", b"ignored\n")
    vault.workspace().checkpoint("first")
    vault.add_remote("origin", server.url("shop.git"))
    vault.push()
    plain = refs_of(bare)
    two = machine("two", server)
    two.clone_vault(server.url("shop.git"), "without")
    vault.push(with_checkpoints=True, with_sidecar=True)
    two.clone_vault(server.url("shop.git"), "with", with_sidecar=True, with_checkpoints=True)
    without, with_ = two.open_vault("without"), two.open_vault("with")

    assert set(plain) == {"refs/heads/main"}
    assert set(refs_of(bare)) == {"refs/heads/main", "refs/avfs/checkpoints/main/first", "refs/avfs/sidecar/main"}
    assert not without.workspace().exists("x.log")
    assert without.workspace().status().clean
    assert with_.workspace().read("x.log") == b"ignored\n"
    assert "refs/avfs/remotes/origin/checkpoints/main/first" in refs_of(with_.path)
    assert with_.fork("of-label", at="origin/main@first").read("x.log") == b"ignored\n"
    without.fetch(with_sidecar=True)
    without.fork("later", at="origin/main")
    assert without.workspace("later").read("x.log") == b"ignored\n"
    assert without.doctor().healthy


def test_only_the_newest_ignored_files_are_pushed(server: Server, machine: Machine) -> None:
    """What was removed since does not leave the vault; a new state comes also under an unchanged commit."""
    bare = server.make("shop.git")
    vault = machine("one", server).create_vault("shop")
    work = vault.workspace()
    for number, secret in enumerate([b"hunter1\n", b"hunter2\n"]):
        work.write(".gitignore", b".env\nlog\n")
        work.write(".env", secret)
        work.write("tracked", b"%d\n" % number)
        work.checkpoint()
    work.remove(".env")
    work.write("log", b"1\n")
    work.checkpoint()
    vault.add_remote("origin", server.url("shop.git"))
    vault.push(with_sidecar=True)
    two = machine("two", server)
    two.clone_vault(server.url("shop.git"), "with", with_sidecar=True)
    other = two.open_vault("with")

    def look(fork: str) -> tuple[bytes, bool]:
        with other.fork(fork, at="origin/main") as made:
            return made.read("log"), made.exists(".env")

    assert look("a") == (b"1\n", False)
    objects = git("cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)", cwd=bare).splitlines()
    blobs = [git("cat-file", "blob", line.split()[0], cwd=bare) for line in objects if line.endswith("blob")]
    assert not [blob for blob in blobs if "hunter" in blob]
    assert git("rev-list", "--count", "refs/avfs/sidecar/main", cwd=bare).strip() == "1"
    before = refs_of(bare)
    vault.push(with_sidecar=True)
    assert refs_of(bare) == before

    work.write("log", b"2\n")
    work.checkpoint()
    vault.push(with_sidecar=True)
    other.fetch(with_sidecar=True)
    assert look("b") == (b"2\n", False)
    work.write("tracked", b"more\n")
    work.checkpoint()
    vault.push(with_sidecar=True)
    other.fetch(with_sidecar=True)
    assert look("c") == (b"2\n", False)
    assert vault.doctor().healthy
    assert other.doctor().healthy


def test_a_branch_that_is_gone_there_is_gone_here(server: Server, machine: Machine) -> None:
    """A fetch forgets what the remote deleted, also where a new name needs its place; tags come and are never moved."""
    bare = server.make("shop.git")
    work = bare.parent.parent / "work"
    git("clone", "-q", str(bare), str(work), cwd=bare)
    git("commit", "-q", "--allow-empty", "-m", "one", cwd=work)
    git("tag", "v1", cwd=work)
    git("push", "-q", "origin", "HEAD:main", "HEAD:a", "v1", cwd=work)
    avfs = machine("one", server)
    avfs.clone_vault(server.url("shop.git"), "shop")
    vault = avfs.open_vault("shop")
    tag = refs_of(vault.path)["refs/tags/v1"]
    git("push", "-q", "origin", ":a", cwd=work)
    git("commit", "-q", "--allow-empty", "-m", "two", cwd=work)
    git("tag", "-f", "v1", cwd=work)
    git("tag", "v2", cwd=work)
    git("push", "-qf", "origin", "HEAD:main", "HEAD:a/b", "v1", "v2", cwd=work)

    fetched = vault.fetch()

    refs = refs_of(vault.path)
    assert [move.ref for move in fetched.moves] == [
        *("refs/remotes/origin/a", "refs/remotes/origin/a/b", "refs/remotes/origin/main", "refs/tags/v2")
    ]
    assert refs["refs/tags/v1"] == tag
    assert "refs/remotes/origin/a" not in refs
    assert vault.fetch().moves == ()


def test_an_empty_server_is_cloned_and_filled(server: Server, machine: Machine) -> None:
    """A clone of an empty repository is an empty vault; its first push makes the branch there."""
    bare = server.make("shop.git")
    avfs = machine("one", server)
    cloned = avfs.clone_vault(server.url("shop.git"), "shop")
    vault = avfs.open_vault("shop")
    made = save(vault, "a", b"1\n")
    vault.push()

    assert (cloned.fork, cloned.head, cloned.branches) == ("main", None, 0)
    assert refs_of(bare) == {"refs/heads/main": made}


def test_a_repository_with_sha256_ids_is_refused_as_such(tmp_path: Path) -> None:
    """Cloned, fetched from, or empty and pushed to."""
    for name, bare in (("filled", []), ("empty", ["--bare"])):
        git("init", "-q", *bare, "--object-format=sha256", str(tmp_path / name), cwd=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "one", cwd=tmp_path / "filled")
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        save(vault, "a", b"1\n")
        for name in ("filled", "empty"):
            vault.add_remote(name, f"file://{tmp_path / name}")
        exchanges: list[Callable[[], object]] = [
            lambda: avfs.clone_vault(f"file://{tmp_path / 'filled'}", "w"),
            lambda: vault.fetch("filled"),
            lambda: vault.push(["main"], remote="empty"),
        ]
        for exchange in exchanges:
            with pytest.raises(RemoteFormatUnsupported, match="SHA-256"):
                exchange()


def test_a_missing_repository_leaves_nothing_behind(server: Server, machine: Machine, tmp_path: Path) -> None:
    """A clone or fetch that fails says so with its own error, and no vault, ref or directory is left."""
    server.make("shop.git")
    avfs = machine("one", server)
    with pytest.raises(RemoteUnreachable):
        avfs.clone_vault(server.url("none.git"), "shop")
    vault = avfs.create_vault("other")
    save(vault, "a", b"1\n")
    before = refs_of(vault.path)
    vault.add_remote("origin", server.url("none.git"))
    with pytest.raises(RemoteUnreachable):
        vault.fetch()
    with pytest.raises(RemoteUnreachable):
        vault.push()

    assert sorted(entry.name for entry in (tmp_path / "one/vaults").iterdir()) == ["other.git"]
    assert list((vault.path / "avfs/exchange").iterdir()) == []
    assert refs_of(vault.path) == before


def test_exchanges_at_the_same_time_do_not_disturb_each_other(server: Server, machine: Machine) -> None:
    """Agents that push and fetch at once, each its own fork, all succeed, and both sides know of all of them."""
    bare = server.make("shop.git")
    vault = machine("one", server).create_vault("shop")
    save(vault, "a", b"1\n")
    vault.add_remote("origin", server.url("shop.git"))
    names = [f"agent{number}" for number in range(4)]
    for name in names:
        vault.fork(name)
        save(vault, name, b"1\n", name)

    def work(name: str) -> None:
        vault.push([name])
        vault.fetch()

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(work, names))

    assert set(refs_of(bare)) == {f"refs/heads/{name}" for name in names}
    assert sorted(branch.branch for branch in vault.list_remote_branches()) == names
    assert vault.fetch().moves == ()
    check(bare)
    check(vault.path)


# --- without a server ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "-x",
            "--upload-pack=touch x",
            "ext::sh -c touch% x",
            "fd::3",
            "foo::bar",
            "ssh://-oProxyCommand=x/y",
            "-oProxyCommand=x:y",
        ),
        *(
            "ssh://a@-oProxyCommand=x/y",
            "ssh://%2doProxyCommand=x/y",
            "user@-oX:y",
            "host:-oX",
            "ftp://host/x",
            "gopher://x/y",
        ),
        *("https:///x", "a\nb", "a\0b", "file://relative", "ssh://-u@host/x", "javascript://x"),
    ],
)
def test_an_address_that_git_could_run_is_refused(tmp_path: Path, url: str) -> None:
    """Options, remote helpers, unknown protocols and control characters are refused before any git sees them."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        for attempt in (
            lambda: avfs.clone_vault(url, "w"),
            lambda: vault.add_remote("r", url),
        ):
            with pytest.raises(InvalidInput):
                attempt()
        assert vault.list_remotes() == []
        assert not avfs.has_vault("w")


@pytest.mark.parametrize("name", ["", "-x", "a/b", "..", "a..b", "x.lock", "a b", "a\nb", "$(id)", "@{-1}", "x" * 300])
def test_a_remote_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    """Names that git could read as something else, or that lead elsewhere, are refused."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        with pytest.raises(InvalidName):
            vault.add_remote(name, "/x")


def test_remotes_are_kept_as_git_keeps_them(tmp_path: Path) -> None:
    """Git sees the remotes that avfs adds, changes and removes, and avfs those of git; passwords are not shown."""
    odd = tmp_path / 'a "b" \\c #d'
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.add_remote("one", str(odd))
        vault.add_remote("two", "https://user:secret@example.org/x.git")
        git("remote", "add", "three", "/somewhere", cwd=vault.path)
        listed = {remote.name: remote.url for remote in vault.list_remotes()}
        seen = git("remote", "get-url", "one", cwd=vault.path)
        with pytest.raises(RemoteExists):
            vault.add_remote("one", "/x")
        vault.set_remote_url("two", "host.example:path")
        changed = git("remote", "get-url", "two", cwd=vault.path)
        vault.remove_remote("one")
        vault.remove_remote("three")
        with pytest.raises(RemoteNotFound):
            vault.remove_remote("one")

        assert listed == {"one": str(odd), "two": "https://example.org/x.git", "three": "/somewhere"}
        assert (seen, changed) == (str(odd), "host.example:path")
        assert git("remote", cwd=vault.path) == "two"
        assert git("config", "core.fsync", cwd=vault.path) == "all,-index"


def test_nothing_that_a_configuration_names_is_run(tmp_path: Path) -> None:
    """Programs in the vault's configuration, in the remote's and in hooks on this side do not run in any exchange."""
    trap = tmp_path / "trap"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {trap}\nexit 1\n")
    script.chmod(0o755)
    bare = make_bare(tmp_path / "served.git")
    with Avfs(tmp_path / "home", remote_environment=os.environ) as avfs:
        vault = avfs.create_vault("v")
        save(vault, "a", b"1\n")
        vault.add_remote("origin", str(bare))
        for key, value in {
            "core.sshCommand": str(script),
            "core.fsmonitor": str(script),
            "core.hooksPath": str(tmp_path),
            "remote.origin.uploadpack": str(script),
            "remote.origin.receivepack": str(script),
            "remote.origin.vcs": "ext",
            "remote.origin.proxy": str(script),
            "credential.helper": f"!{script}",
            f"url.ext::{script}.insteadOf": str(bare),
            "pack.packObjectsHook": str(script),
            "uploadpack.packObjectsHook": str(script),
            "alias.push": f"!{script}",
        }.items():
            git("config", key, value, cwd=vault.path)
            git("config", key, value, cwd=bare)
        for name in ("pre-push", "reference-transaction", "post-checkout", "pre-auto-gc"):
            (tmp_path / name).write_text(script.read_text())
            (tmp_path / name).chmod(0o755)
        git("config", "--unset", "core.hooksPath", cwd=bare)  # a push runs the hooks of where it goes to, as git has it
        vault.push()
        vault.fetch()
        avfs.clone_vault(str(bare), "w")

    assert not trap.exists()


def test_what_an_exchange_needs_is_taken_from_the_users_configuration(tmp_path: Path) -> None:
    """The user's `insteadOf` counts for a server, as credentials and proxies do, taken by name.

    Programs to run are not.
    """
    bare = make_bare(tmp_path / "served.git")
    config = tmp_path / "gitconfig"
    config.write_text(
        f'[url "{bare}"]\n\tinsteadOf = https://example.org/shop\n[alias]\n\tpush = !false\n[core]\n\tpager = false\n'
    )
    with Avfs(tmp_path / "home", remote_environment={"HOME": str(tmp_path), "GIT_CONFIG_GLOBAL": str(config)}) as avfs:
        vault = avfs.create_vault("v")
        made = save(vault, "a", b"1\n")
        vault.add_remote("origin", "https://example.org/shop")
        vault.push()

    assert refs_of(bare) == {"refs/heads/main": made}


class _Guarded(BaseHTTPRequestHandler):
    """A server that lets nobody in, and remembers who tried."""

    heard: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.heard.append(self.headers.get("Authorization") or "")
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


def test_credentials_are_the_users_and_are_not_shown(tmp_path: Path) -> None:
    """A credential helper of the user's is asked, nobody is prompted, and no password stands in an error."""
    (tmp_path / ".gitconfig").write_text(
        '[credential]\n\thelper = "!f() { echo username=u; echo password=hidden; }; f"\n'
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Guarded)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    _Guarded.heard.clear()
    told = []
    try:
        for user, home in (("", tmp_path), ("", tmp_path / "nowhere"), ("u:hidden@", tmp_path / "nowhere")):
            with Avfs(tmp_path / "home", remote_environment={"HOME": str(home)}) as avfs:
                with pytest.raises(RemoteAccessDenied) as denied:
                    avfs.clone_vault(f"http://{user}127.0.0.1:{server.server_port}/x.git", "v")
                told.append(f"{denied.value.message} {denied.value.details}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)

    basic = "Basic " + base64.b64encode(b"u:hidden").decode()
    assert _Guarded.heard == ["", basic, "", "", basic]
    assert not any("hidden" in text for text in told)


@pytest.mark.parametrize("verb", ["fetch", "push"])
def test_a_place_for_an_exchange_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """As on a full disk: the error has a code, as any other."""
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v") as vault:
        save(vault, "file", b"1\n")
        vault.add_remote("origin", str(make_bare(tmp_path / "served.git")))
        make = os.mkdir

        def refuse(path: str | Path, *arguments: int, **named: int) -> None:
            if Path(path).parent.name == "exchange":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            make(path, *arguments, **named)

        monkeypatch.setattr(os, "mkdir", refuse)
        with pytest.raises(HostError, match="No space left"):
            vault.fetch() if verb == "fetch" else vault.push(["main"])


def test_a_push_says_what_is_not_in_a_checkpoint(tmp_path: Path) -> None:
    """Uncommitted changes of a fork that is pushed are told of, and stay."""
    bare = make_bare(tmp_path / "served.git")
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        made = save(vault, "a", b"1\n")
        vault.add_remote("origin", str(bare))
        vault.workspace().write("b", b"2\n")
        pushed = vault.push()

        assert [warning.code for warning in pushed.warnings] == ["push.uncommitted"]
        assert refs_of(bare) == {"refs/heads/main": made}


def test_a_fork_at_a_branch_of_a_remote_follows_that(tmp_path: Path) -> None:
    """Under another name, too; it comes from no fork of this vault."""
    bare = make_bare(tmp_path / "shop.git")
    with Avfs(tmp_path / "home") as avfs:
        ours = avfs.create_vault("ours")
        ours.workspace().write("a", b"1\n")
        ours.workspace().checkpoint()
        lab = ours.fork("lab")
        lab.write("lab", b"1\n")
        lab.checkpoint()
        ours.add_remote("origin", str(bare))
        ours.push(["main", "lab"])
        avfs.clone_vault(str(bare), "theirs")
        theirs = avfs.open_vault("theirs")
        review = theirs.fork("review", at="origin/lab")
        assert theirs.fork_info("review").parent is None
        lab.write("lab2", b"2\n")
        lab.checkpoint()
        ours.workspace().write("unrelated", b"\n")
        ours.workspace().checkpoint()
        ours.push(["main", "lab"])
        theirs.pull("main")
        review.update()
        assert sorted(os.fsdecode(entry.path) for entry in review.list_dir("")) == ["a", "lab", "lab2"]


def test_a_push_of_what_was_taken_back_says_how_the_remote_takes_it_back(tmp_path: Path) -> None:
    """A pull, which is the way elsewhere, would bring the undone commit again."""
    bare = make_bare(tmp_path / "shop.git")
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        work = vault.workspace()
        work.write("a", b"1\n")
        work.checkpoint()
        work.write("secret", b"1\n")
        work.checkpoint()
        vault.add_remote("origin", str(bare))
        vault.push(["main"])
        work.undo()
        with pytest.raises(PushRejected) as refused:
            vault.push(["main"])
        assert "`avfs push main --remote origin --force-with-lease`" in str(refused.value.hint)
        vault.push(["main"], force_with_lease=True)
        assert git("ls-tree", "--name-only", "main", cwd=bare).split() == ["a"]


def test_a_push_of_a_fork_that_is_only_behind_does_not_offer_to_take_back_what_others_made(tmp_path: Path) -> None:
    """The server's commits were never on the fork, though a fetch brought them."""
    bare = make_bare(tmp_path / "shop.git")
    with Avfs(tmp_path / "home") as avfs:
        ours = avfs.create_vault("ours")
        ours.workspace().write("a", b"1\n")
        ours.workspace().checkpoint()
        ours.add_remote("origin", str(bare))
        ours.push(["main"])
        avfs.clone_vault(str(bare), "theirs")
        ours.workspace().write("a", b"2\n")
        ours.workspace().checkpoint()
        ours.push(["main"])
        theirs = avfs.open_vault("theirs")
        theirs.fetch()
        with pytest.raises(PushRejected) as refused:
            theirs.push(["main"])
        assert "`avfs pull main --remote origin`" in str(refused.value.hint)
        assert "force" not in str(refused.value.hint)


@pytest.mark.parametrize("is_label", [False, True])
def test_a_fork_named_as_a_branch_of_a_remote_is_not_merged_in_its_place(tmp_path: Path, is_label: bool) -> None:
    """`git branch origin/lab` is an old slip, and a remote may be named as forks begin."""
    bare = make_bare(tmp_path / "shop.git")
    with Avfs(tmp_path / "home") as avfs:
        ours = avfs.create_vault("ours")
        ours.workspace().write("a", b"1\n")
        ours.workspace().checkpoint()
        lab = ours.fork("lab")
        ours.add_remote("origin", str(bare))
        ours.push(["main", "lab"])
        avfs.clone_vault(str(bare), "theirs")
        theirs = avfs.open_vault("theirs")
        for name in ("lab", "other"):
            fork = theirs.fork(name, at="origin/lab")
            if is_label:
                fork.checkpoint("origin/lab")
        if not is_label:
            theirs.fork("origin/lab").close()
        lab.write("new", b"1\n")
        lab.checkpoint()
        ours.push(["lab"])

        pulled = theirs.pull("lab")
        assert pulled.merge is not None
        assert pulled.merge.outcome == "fast_forward"
        assert [each.outcome for each in theirs.workspace("other").update()] == ["fast_forward"]
