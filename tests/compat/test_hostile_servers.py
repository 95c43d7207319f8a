"""A git server that lies: what it says costs little, moves nothing that it must not move, and is told truly."""

from __future__ import annotations

import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from avfs_git.errors import (
    ObjectCorrupt,
    ObjectMissing,
    PushRejected,
    RemoteDataRefused,
    RemoteError,
    RemoteUnreachable,
)
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_TREE
from avfs_git.gitstore.formats.trees import MODE_FILE, MODE_SYMLINK, serialize_tree
from avfs_git.gitstore.objects.store import hash_object
from avfs_git.gitstore.remote import runner as remotegit
from avfs_git.sdk import Avfs, Vault
from tests.support.scripted_server import Object, Script, make_commit, make_copying_delta, make_history, make_pack, play
from tests.support.servers import git, make_bare

BLOB, TREE, COMMIT = make_history()
HEAD = hash_object(*COMMIT)
HONEST = [("HEAD", HEAD), ("refs/heads/main", HEAD)]


def all_is_well(names: list[bytes]) -> list[bytes]:
    """Say that a push was stored."""
    return [b"unpack ok\n", *(b"ok %b\n" % name for name in names)]


@pytest.fixture
def script() -> Iterator[Script]:
    """A server that is honest at first."""
    with play(Script(HONEST, make_pack(BLOB, TREE, COMMIT))) as script:
        yield script


@pytest.fixture
def vault(home: Avfs) -> Vault:
    """A vault with something to push."""
    vault = home.create_vault("v")
    vault.workspace().write("mine", b"1\n")
    vault.workspace().checkpoint("one")
    return vault


# --- fetching ----------------------------------------------------------------------------------------------------


def test_memory_that_a_pack_would_take_is_bounded(script: Script, home: Avfs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack of 20 KB that makes 1.6 GB is refused, because git is given no more memory than is allowed."""
    monkeypatch.setattr(remotegit, "_most_memory", lambda: 256 << 20)
    home.clone_vault(script.url, "before")
    base = (KIND_BLOB, bytes(0xFFFFFF))
    script.pack = make_pack(BLOB, TREE, COMMIT, base, make_copying_delta(base, 100))
    assert len(script.pack) < 20_000

    with pytest.raises(RemoteDataRefused, match="memory"):
        home.clone_vault(script.url, "v")

    assert [found.name for found in home.list_vaults()] == ["before"]


@pytest.mark.parametrize("sent", [0, 10, 60, -21, -1])
def test_a_connection_that_ends_in_the_middle_of_a_pack_is_no_bad_pack(script: Script, home: Avfs, sent: int) -> None:
    """The command may be tried again; a server that says that half a pack is all of it is refused."""
    script.cut_at = len(script.pack) + sent if sent < 0 else sent
    with pytest.raises(RemoteUnreachable) as cut:
        home.clone_vault(script.url, "v")
    assert "try again" in str(cut.value.hint)

    script.pack, script.cut_at = script.pack[: script.cut_at], None
    with pytest.raises(RemoteDataRefused):
        home.clone_vault(script.url, "v")
    assert home.list_vaults() == []


@pytest.mark.parametrize("bad", [BLOB, TREE], ids=["blob", "tree"])
def test_a_branch_that_is_no_commit_is_left_out(script: Script, home: Avfs, vault: Vault, bad: Object) -> None:
    """The others come, the warning names it, and every list of branches works."""
    script.refs = [*HONEST, ("refs/heads/bad", hash_object(*bad))]

    vault.add_remote("origin", script.url)
    fetched = vault.fetch()
    home.clone_vault(script.url, "w")

    with home.open_vault("w") as cloned:
        assert [branch.name for branch in cloned.list_remote_branches()] == ["origin/main"]
    assert [branch.name for branch in vault.list_remote_branches()] == ["origin/main"]
    assert [warning.code for warning in fetched.warnings] == ["fetch.no_commit"]
    assert "'refs/remotes/origin/bad'" in fetched.warnings[0].message


def test_a_clone_of_nothing_but_a_lie_says_so(script: Script, home: Avfs) -> None:
    """A commit whose tree a lazy clone does not get is refused as what the server sent, and no vault is left."""
    script.pack = make_pack(COMMIT)

    with pytest.raises(RemoteDataRefused, match=hash_object(*TREE).hex()):
        home.clone_vault(script.url, "v", lazy=True)

    assert home.list_vaults() == []


@pytest.mark.parametrize("is_wanted", [True, False], ids=["as the file", "beside the file"])
def test_a_lazy_vault_takes_no_hostile_tree_with_a_content(script: Script, home: Avfs, is_wanted: bool) -> None:
    """What comes when a file is read is judged unless it is a content that was asked for."""
    hostile = (KIND_TREE, b"40000 .git\0" + hash_object(*TREE))
    named = hash_object(*hostile) if is_wanted else hash_object(*BLOB)
    tree = (KIND_TREE, b"100644 f\0" + named)
    commit = make_commit(tree)
    script.refs = [("HEAD", hash_object(*commit)), ("refs/heads/main", hash_object(*commit))]
    script.pack = make_pack(tree, commit)
    home.clone_vault(script.url, "v", lazy=True)
    with home.open_vault("v") as vault:
        script.pack = make_pack(BLOB, hostile, TREE)
        with pytest.raises(RemoteDataRefused, match=r"\.git"):
            vault.workspace().read("f")
        with pytest.raises((ObjectMissing, RemoteError)):
            vault.workspace().read("f")

        assert vault.doctor().healthy


@contextmanager
def _files(root: Path) -> Iterator[str]:
    """Serve a directory as a web server does that knows nothing of git."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.path = self.path.partition("?")[0]
            super().do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)


def test_a_web_server_without_git_is_fetched_from(home: Avfs, tmp_path: Path) -> None:
    """It hands out loose objects, which come in with the packs."""
    bare, work = make_bare(tmp_path / "served/shop.git"), tmp_path / "work"
    git("clone", "-q", str(bare), str(work), cwd=tmp_path)
    with _files(tmp_path / "served") as url:
        for name in ("a", "b"):
            (work / name).write_text(name)
            git("add", ".", cwd=work)
            git("commit", "-qm", name, cwd=work)
            git("push", "-q", "origin", "HEAD:main", cwd=work)
            git("update-server-info", cwd=bare)
            if name == "a":
                home.clone_vault(f"{url}/shop.git", "v")
        with home.open_vault("v") as vault:
            vault.fetch()
            vault.workspace().merge("origin/main")

            assert vault.workspace().read("b") == b"b"
            assert vault.doctor().healthy


def test_a_branch_that_stays_because_the_remote_is_shallow_is_told(home: Avfs, tmp_path: Path) -> None:
    """Git leaves such a branch where it was without a word on its status."""
    work = tmp_path / "work"
    git("init", "-q", "-b", "main", str(work), cwd=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "one", cwd=work)
    served = tmp_path / "served"
    shutil.copytree(work, served)
    home.clone_vault(f"file://{served}", "v")
    with home.open_vault("v") as vault:
        for message in ("two", "three"):
            git("commit", "-q", "--allow-empty", "-m", message, cwd=work)
        shutil.rmtree(served)
        git("clone", "-q", "--depth=1", f"file://{work}", str(served), cwd=tmp_path)
        fetched = vault.fetch()

    assert [warning.code for warning in fetched.warnings] == ["fetch.shallow"]
    assert "'origin/main'" in fetched.warnings[0].message


def test_tracing_of_the_callers_git_writes_nothing(
    script: Script, home: Avfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables of git's that name files reach no git, whichever way it is started."""
    for name in ("GIT_TRACE", "GIT_TRACE2_EVENT", "GIT_TRACE_PACKET", "GIT_TRACE_CURL"):
        monkeypatch.setenv(name, str(tmp_path / name))

    home.clone_vault(script.url, "v")

    assert not list(tmp_path.glob("GIT_*"))
    assert os.environ["GIT_TRACE"]


# --- pushing -----------------------------------------------------------------------------------------------------


def test_a_server_that_stores_a_push_under_another_name_is_understood(script: Script, vault: Vault) -> None:
    """As servers of reviews do: the branch did not move, and the name is told."""
    script.refs = []
    script.report = lambda names: [
        *all_is_well(names),
        b"option refname refs/pull/1/head\n",
        b"option new-oid %b\n" % (b"1" * 40),
    ]
    vault.add_remote("origin", script.url)

    with pytest.raises(PushRejected, match="stored it as 'refs/pull/1/head'"):
        vault.push()

    assert vault.list_remote_branches() == []


@pytest.mark.parametrize(
    "line", ["\x0b=\tX:refs/heads/z\t[up to date]", "\u2028=\tX:refs/heads/z\tx", "\n*\tX:refs/heads/z\tx"]
)
def test_what_a_server_says_of_a_push_stands_for_no_other_ref(script: Script, vault: Vault, line: str) -> None:
    """Its reason may hold anything, lines such as git writes included."""
    script.refs = []
    script.report = lambda names: [b"unpack ok\n", b"ng %b no%b\n" % (names[0], line.encode())]
    vault.add_remote("origin", script.url)

    with pytest.raises(PushRejected) as rejected:
        vault.push()

    assert rejected.value.details["pushed"] == []
    assert vault.list_remote_branches() == []


def test_a_server_that_could_not_store_a_push_is_believed(script: Script, vault: Vault) -> None:
    """It says that the pack was lost, and of each branch that all is well: nothing was pushed."""
    script.refs = []
    script.report = lambda names: [b"unpack disk full\n", *all_is_well(names)[1:]]
    vault.add_remote("origin", script.url)

    with pytest.raises(RemoteError, match="unpack failed: disk full"):
        vault.push()

    assert vault.list_remote_branches() == []


# --- pushes into a vault -------------------------------------------------------------------------------------------


def test_a_push_replaces_no_object_of_a_vault(vault: Vault, tmp_path: Path) -> None:
    """Git would show another commit under the id of one that is there."""
    work = tmp_path / "work"
    git("clone", "-q", str(vault.path), str(work), cwd=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "other", cwd=work)
    said = git("rev-parse", "HEAD^", cwd=work)

    with pytest.raises(Exception, match="non-zero"):
        git("push", "origin", f"HEAD:refs/replace/{said}", cwd=work)

    assert git("for-each-ref", "refs/replace", cwd=vault.path) == ""
    git("push", "origin", "HEAD:refs/heads/other", cwd=work)


def test_what_a_push_calls_a_branch_of_a_remote_blocks_no_list(vault: Vault, tmp_path: Path) -> None:
    """A push may write `refs/remotes`, and put anything there."""
    work = tmp_path / "work"
    git("clone", "-q", str(vault.path), str(work), cwd=tmp_path)
    git("push", "-q", "origin", "HEAD:refs/remotes/x/y", "HEAD^{tree}:refs/remotes/x/main", cwd=work)

    found = {branch.name: branch.ahead for branch in vault.list_remote_branches()}

    assert found == {"x/main": None, "x/y": None}


# --- what a history holds that no disk takes -----------------------------------------------------------------------


@pytest.mark.parametrize("target", [b"a\0b", b"", b"x" * 5_000], ids=["nul", "empty", "long"])
def test_a_link_that_is_no_path_is_laid_on_no_directory(
    script: Script, home: Avfs, tmp_path: Path, target: bytes
) -> None:
    """The error names it, and no other path is written either."""
    link = (KIND_BLOB, target)
    file = (MODE_FILE, hash_object(*BLOB))
    names = {b"a": file, b"f": file, b"l": (MODE_SYMLINK, hash_object(*link))}
    tree = (KIND_TREE, serialize_tree(names))
    commit = make_commit(tree)
    script.refs = [*HONEST, ("refs/heads/x", hash_object(*commit))]
    script.pack = make_pack(BLOB, TREE, COMMIT, link, tree, commit)
    home.clone_vault(script.url, "v")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/f").write_bytes(BLOB[1])
    with (
        home.open_vault("v") as vault,
        vault.fork("x", at="origin/x"),
        pytest.raises(ObjectCorrupt, match=hash_object(*link).hex()),
    ):
        vault.apply("x", tmp_path / "mine", since="origin/main")

    assert os.listdir(tmp_path / "mine") == ["f"]


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("length", [256, 2_000])
def test_a_name_that_no_disk_takes_hides_no_other(script: Script, home: Avfs, mount_dir: Path, length: int) -> None:
    """A live tree lists the other files of the directory, and a checkpoint keeps the one that it cannot show."""
    tree = (KIND_TREE, serialize_tree({name: (MODE_FILE, hash_object(*BLOB)) for name in (b"f", b"n" * length)}))
    commit = make_commit(tree)
    script.refs = [("HEAD", hash_object(*commit)), ("refs/heads/main", hash_object(*commit))]
    script.pack = make_pack(BLOB, tree, commit)
    home.clone_vault(script.url, "v")
    with home.open_vault("v") as vault:
        with vault.workspace().mount(mount_dir / "tree") as session:
            assert set(os.listdir(session.path)) - {".git"} == {"f"}
            (session.path / "new").write_text("new\n")
        workspace = vault.workspace()
        workspace.checkpoint("one")

        assert {os.path.basename(entry.path) for entry in workspace.list_dir()} == {b"f", b"new", b"n" * length}
