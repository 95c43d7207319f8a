"""Names and paths that are not what they should be: refused with one clear error, and nothing changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault
from avfs_git.errors import (
    AvfsError,
    InvalidInput,
    InvalidName,
    InvalidPath,
    NotAVault,
    PathEscapes,
    VaultError,
    VaultNotFound,
    WorkspaceError,
)

REFUSED_EVERYWHERE = [
    "",
    ".",
    "..",
    "../up",
    "/absolute",
    "-dash",
    "--option",
    "a\0b",
    "a\nb",
    "a\tb",
    "x" * 300,
    "é" * 160,
    "x.lock",
    "@{-1}",
    "a..b",
    "a b",
    "a~1",
    "a^",
    "a:b",
    "a?b",
    "a*",
    "[a]",
    "a\\b",
    ".hidden",
    "end.",
    "\ud800",
]
LITERAL = ["$(id)", "`id`", "a;b", "a|b", "a&b", "'quoted'", '"', "%2F", "%", "é", "名前", "{a,b}", "!important"]


def _snapshot(directory: Path) -> dict[str, tuple[int, bytes | None]]:
    """Read all but the audit log, which tells of refusals."""
    found: dict[str, tuple[int, bytes | None]] = {}
    for path in sorted(path for path in directory.rglob("*") if not path.name.startswith("audit.")):
        mode = path.lstat().st_mode
        found[str(path)] = (mode, path.read_bytes() if path.is_file() and path.name != "lock" else None)
    return found


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """A vault with one checkpoint, labelled."""
    vault = Avfs(tmp_path / "home").create_vault("v")
    work = vault.workspace()
    work.write("a", b"a")
    work.checkpoint("good")
    return vault


@pytest.mark.parametrize(
    "name",
    [*(name for name in REFUSED_EVERYWHERE if name != "a..b"), "a/b", "v.git", "$(id)", "a;b", "名前"],
    ids=ascii,
)
def test_a_vault_of_a_bad_name_is_refused(name: str, tmp_path: Path) -> None:
    """A vault's name is plain; nothing is made for one that is not, inside the home or outside."""
    with Avfs(tmp_path / "home") as avfs:
        with pytest.raises(InvalidName):
            avfs.create_vault(name)
        for use in (avfs.use_vault, avfs.delete_vault, avfs.open_vault):
            with pytest.raises((InvalidName, VaultNotFound, NotAVault)):
                use(name or ".")

    assert list(tmp_path.iterdir()) == []


def test_a_path_does_not_become_the_current_vault(tmp_path: Path) -> None:
    """The home holds the name of the current vault, by which all find it."""
    with Avfs(tmp_path / "home") as avfs:
        path = avfs.create_vault("v").path
        with pytest.raises(InvalidName):
            avfs.use_vault(str(path))

        assert avfs.current_vault() == "v"


@pytest.mark.parametrize("name", [*REFUSED_EVERYWHERE, "a//b", "a/", "a/.b", "a/b.lock", "@", "HEAD"])
def test_a_fork_of_a_bad_name_is_refused(name: str, vault: Vault) -> None:
    """What git allows for no branch is no fork, and leaves no trace."""
    before = _snapshot(vault.path)
    with pytest.raises(InvalidName):
        vault.fork(name)
    with pytest.raises((InvalidName, WorkspaceError)):
        vault.delete_fork(name)

    assert _snapshot(vault.path) == before


def test_a_fork_beside_others_of_its_name_is_refused(vault: Vault) -> None:
    """A branch cannot be at a name and below it; the refusal says which fork is in the way, and leaves nothing."""
    vault.fork("a/b").close()
    before = [info.name for info in vault.list_forks()]
    for name, other in (("a", "a/b"), ("a/b/c", "a/b"), ("main/x", "main")):
        with pytest.raises(InvalidName, match=f"there is a fork '{other}'"):
            vault.fork(name)

    assert [info.name for info in vault.list_forks()] == before
    vault.fork("a-b").close()


@pytest.mark.parametrize("name", ["HEAD", "HEAD~1", "@", "@^", "good~1", "main~", "a~1", "a^", "a b^^2", "main^0~12"])
def test_a_label_does_not_hide_another_state(name: str, vault: Vault) -> None:
    """Labels count first, so none is named as the newest state is, or as one before another; nothing is saved."""
    work = vault.workspace()
    work.write("a", b"uncommitted")
    head = vault.fork_info("main").head
    with pytest.raises(InvalidName):
        work.checkpoint(name)

    assert vault.fork_info("main").head == head
    assert work.checkpoint(f"{name} of monday").outcome == "created"


ODD_LABELS = ["a/b", "before the refactor", "$(id)", "名前", "%41"]


def _is_one_line(name: str) -> bool:
    return bool(name.strip()) and name.isprintable() and len(name) < 100


def _means_another(name: str) -> bool:
    return name in ("a~1", "a^")


@pytest.mark.parametrize("name", [name for name in REFUSED_EVERYWHERE if not _is_one_line(name)], ids=ascii)
def test_a_label_that_is_no_line_of_text_is_refused(name: str, vault: Vault) -> None:
    """An empty label, a control character and an endless one are refused before anything is saved."""
    work = vault.workspace()
    work.write("a", b"uncommitted")
    before = _snapshot(vault.path)
    with pytest.raises(InvalidName):
        work.checkpoint(name)
    with pytest.raises(InvalidName):
        work.delete_checkpoint(name)
    with pytest.raises(AvfsError):
        work.restore(name or "..", dry_run=True)

    assert _snapshot(vault.path) == before


@pytest.mark.parametrize(
    "name", [*(n for n in REFUSED_EVERYWHERE if _is_one_line(n) and not _means_another(n)), *ODD_LABELS], ids=ascii
)
def test_any_other_line_of_text_is_a_label(name: str, vault: Vault) -> None:
    """A label may hold what no ref may: it is found, listed, restored and deleted as it was given."""
    work = vault.workspace()
    work.write("a", b"1")
    saved = work.checkpoint(name).checkpoint
    work.write("a", b"2")
    work.checkpoint()

    assert saved is not None
    assert saved.labels == (name,)
    assert [label for found in work.list_checkpoints() for label in found.labels] == [name, "good"]
    assert work.restore(name).outcome == "restored"
    assert work.read("a") == b"1"
    assert work.delete_checkpoint(name).id == saved.id


@pytest.mark.parametrize("name", LITERAL)
def test_an_odd_name_means_itself(name: str, vault: Vault) -> None:
    """Names that mean something to a shell are names like others, for forks and labels."""
    fork = vault.fork(name)
    fork.write("f", b"f")
    fork.checkpoint(name)

    assert {info.name for info in vault.list_forks()} == {"main", name}
    assert vault.workspace(name).read("f") == b"f"
    assert vault.workspace(name).list_checkpoints()[0].labels == (name,)

    vault.delete_fork(name)

    assert {info.name for info in vault.list_forks()} == {"main"}


ESCAPING = ["..", "../x", "a/../../x", "/..", "d/../../../etc/passwd", b"../\xff"]


@pytest.mark.parametrize("path", ESCAPING)
def test_a_path_that_leaves_the_workspace_is_refused(path: str | bytes, vault: Vault) -> None:
    """No operation takes a path that leads out of the workspace."""
    work = vault.workspace()
    work.make_dir("d")
    calls: list[Callable[[], object]] = [
        lambda: work.read(path),
        lambda: work.write(path, b"x"),
        lambda: work.remove(path, recursive=True),
        lambda: work.move("a", path),
        lambda: work.copy("a", path),
        lambda: work.link("a", path),
        lambda: work.symlink(path, b"a"),
        lambda: work.make_dir(path, parents=True),
        lambda: work.touch(path),
        lambda: work.chmod(path, 0o777),
        lambda: work.list_dir(path),
        lambda: work.tree(path),
        lambda: work.restore("good", paths=[path]),
        lambda: work.export_path(path, vault.path.parent / "out"),
    ]
    for call in calls:
        with pytest.raises((PathEscapes, InvalidPath)):
            call()

    assert not (vault.path.parent / "out").exists()


@pytest.mark.parametrize("path", ["a\0b", b"\0", "x" * 256, "d/" + "y" * 300])
def test_a_path_that_can_name_nothing_is_refused(path: str | bytes, vault: Vault) -> None:
    """A path with a NUL or a name that is too long is a typed error."""
    work = vault.workspace()
    for call in (lambda: work.write(path, b"x"), lambda: work.make_dir(path)):
        with pytest.raises((InvalidInput, WorkspaceError)):
            call()

    assert [info.path.strip(b"/") for info in work.list_dir()] == [b"a"]


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../../../../../../etc/passwd", b"d/../../x", b"loop"])
def test_a_symbolic_link_does_not_lead_out(target: bytes, vault: Vault) -> None:
    """A link may say anything; following it stays inside the workspace."""
    work = vault.workspace()
    work.symlink("loop", target)
    for call in (
        lambda: work.read("loop"),
        lambda: work.write("loop", b"x"),
        lambda: work.read("loop/x"),
        lambda: work.list_dir("loop"),
    ):
        with pytest.raises(WorkspaceError if target == b"loop" else (PathEscapes, WorkspaceError)):
            call()

    assert work.read_link("loop") == target
    assert work.checkpoint().outcome == "created"


@pytest.mark.parametrize("name", ["nowhere", Path("/nonexistent/vault.git"), Path("/etc/passwd"), Path("/")])
def test_a_vault_that_is_missing_is_said_to_be(name: str | Path, tmp_path: Path) -> None:
    """Opening what is no vault says so and makes nothing."""
    with Avfs(tmp_path / "home") as avfs, pytest.raises(VaultError) as caught:
        avfs.open_vault(name)

    assert caught.value.code in {"vault.not_found", "vault.unusable"}
    assert os.listdir(tmp_path) == []
