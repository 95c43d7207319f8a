"""Arguments that cannot mean anything: a single text where a list is needed, an empty name of a fork."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avfs_git import Home, sdk
from avfs_git.errors import CheckpointNotFound, InvalidInput, InvalidName
from avfs_git.sdk import Vault

_FILLED = {"old": "main", "new": "main", "rev": "main", "fork": "main", "directory": ".", "pattern": "a", "words": "a"}


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault in which each letter of `ab` is a file, a fork and a label."""
    with Home(tmp_path / "home") as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        for name in "ab":
            work.write_text(name, f"{name}\n")
            work.checkpoint(name)
            vault.fork(name)
        yield vault


def list_arguments(holder: object) -> Iterator[tuple[Callable[..., object], str, list[str]]]:
    """List each public method and each of its arguments that is a list, with the names of what it needs beside it."""
    for name, method in inspect.getmembers(holder, callable):
        if name.startswith("_"):
            continue
        parameters = inspect.signature(method).parameters.values()
        needed = [each.name for each in parameters if each.default is each.empty and each.kind < each.VAR_POSITIONAL]
        named = {each.name: str(each.annotation) for each in parameters}
        if (options := named.get("options", "")).startswith("Unpack["):
            named |= {key: str(kind) for key, kind in getattr(sdk, options[7:-1]).__annotations__.items()}
        for argument, kind in named.items():
            if kind.removeprefix("ForwardRef('").startswith("Sequence["):
                yield method, argument, needed


def complete(answer: object) -> None:
    """Begin what a method has not begun yet."""
    if isinstance(answer, Iterator):
        next(answer)
    elif inspect.iscoroutine(answer):
        asyncio.run(answer)


@pytest.mark.parametrize("given", ["ab", b"ab", "", Path("ab")])
def test_a_single_text_is_no_list(vault: Vault, given: object) -> None:
    """Whichever method gets it, and nothing has changed."""
    before = vault.operations(), sorted(info.name for info in vault.list_forks())
    seen = set()

    for holder in (vault, vault.workspace(), vault.policy):
        for method, argument, needed in list_arguments(holder):
            seen.add(argument)
            filled: dict[str, Any] = {name: _FILLED.get(name, "a") for name in needed} | {argument: given}
            with pytest.raises(InvalidInput, match="a list is needed"):
                complete(method(**filled))

    assert seen >= {"paths", "forks", "names", "picked", "sources", "argv", "events", "outcomes", "shown", "let_in"}
    assert seen >= {"kinds", "tags", "include", "exclude"}
    assert (vault.operations(), sorted(info.name for info in vault.list_forks())) == before


def test_an_empty_name_is_not_the_default_fork(vault: Vault) -> None:
    """Neither where a fork is chosen, nor where one only says whose labels and head are meant."""
    for choose in (
        lambda: vault.workspace(""),
        lambda: vault.choose_fork(""),
        lambda: vault.log("HEAD", fork=""),
        lambda: vault.show("HEAD", fork=""),
        lambda: vault.undo(fork=""),
        lambda: vault.undo(fork="", dry_run=True),
        lambda: vault.redo(fork=""),
        lambda: vault.fork("new", source=""),
    ):
        with pytest.raises(InvalidName, match="'' is not a usable fork name: it is empty"):
            choose()
    assert not vault.has_fork("new")


@pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")
def test_an_empty_name_of_a_state_is_not_the_head(vault: Vault, mount_dir: Path) -> None:
    """Nor the live files: nothing is mounted for writing where a state was named by an unset variable."""
    work = vault.workspace()
    looks: list[Callable[[], object]] = [
        lambda: work.mount(mount_dir / "m", at=""),
        lambda: work.mount(mount_dir / "m", at="", readonly=True),
        lambda: work.blame("a", at=""),
        lambda: work.diff("", "b"),
        lambda: vault.prefetch(at=""),
    ]
    for look in looks:
        with pytest.raises(CheckpointNotFound, match="no checkpoint ''"):
            look()
    changes: list[Callable[[], object]] = [
        lambda: vault.delete_fork("a", by=""),
        lambda: vault.rename_fork("a", "c", by=""),
    ]
    for change in changes:
        with pytest.raises(InvalidName):
            change()
    assert vault.sessions() == []
    assert vault.has_fork("a")


@pytest.mark.parametrize("given", [-1, float("nan"), "1"])
def test_what_is_kept_is_no_negative_number(vault: Vault, given: Any) -> None:
    """Elsewhere -1 means no limit, and here all that undo needs, and all of the audit log, would be gone."""
    work = vault.workspace("a")
    work.write("unsaved", b"work")
    vault.delete_fork("a")
    removals: list[Callable[[], object]] = [
        lambda: vault.gc(keep_days=given, keep_operations=1, grace_days=0),
        lambda: vault.gc(keep_days=0, keep_operations=given, grace_days=0),
        lambda: vault.gc(keep_days=0, keep_operations=1, grace_days=given),
        lambda: vault.prune(keep_operations=given),
        lambda: vault.prune(older_than_days=given),
        lambda: vault.prune(max_bytes=given),
        lambda: vault.policy.release_audit(keep_days=given),
    ]
    if given != "1":
        removals.append(lambda: vault.prune(keep_operations=1, grace_s=given))
    before = vault.policy.audit()
    for remove in removals:
        with pytest.raises(InvalidInput):
            remove()
    assert vault.policy.audit() == before
    vault.undo(fork="a")
    assert work.read("unsaved") == b"work"


@pytest.mark.parametrize("given", [b"a", Path("a"), 1, None, ["a"]])
def test_a_text_is_no_value_of_another_type(vault: Vault, given: Any) -> None:
    """Names of states, keys and tags, words and messages."""
    work = vault.workspace()
    calls: list[Callable[[], object]] = [
        lambda: work.merge(given),
        lambda: work.rebase(given),
        lambda: work.restore(given),
        lambda: work.set_meta("a", given, "value"),
        lambda: work.delete_meta("a", given),
        lambda: work.tag("a", given),
        lambda: work.search(given),
        lambda: work.search_history(given),
    ]
    if given is not None:
        calls.append(lambda: work.checkpoint(description=given))
    before = vault.operations()
    for call in calls:
        with pytest.raises(InvalidInput, match="a text is needed"):
            call()
    assert vault.operations() == before


def test_a_limit_is_no_negative_number(vault: Vault) -> None:
    """Also not one that a slice or git would read in a way of its own."""
    work = vault.workspace()
    for limited in (
        lambda limit: vault.log("HEAD", limit=limit),
        lambda limit: vault.operations(limit=limit),
        lambda limit: vault.describe_operations(limit=limit),
        lambda limit: vault.policy.audit(limit=limit),
        lambda limit: work.draw_log(limit=limit),
        lambda limit: work.path_versions("a", limit=limit),
    ):
        with pytest.raises(InvalidInput, match="a limit is not negative"):
            limited(-1)
        assert limited(10**30) == limited(1000)


def test_a_path_of_the_machine_is_text_or_an_object(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty text is not the current directory; nothing that no path can be reaches the system."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "file").write_text("content\n")
    monkeypatch.chdir(tmp_path / "project")
    home, work = Home(tmp_path / "home"), vault.workspace()

    uses: list[Callable[[str], object]] = [
        lambda path: home.create_vault("new", source=path),
        lambda path: home.fork_directory(path, tmp_path / "fork"),
        home.trust_vault,
        home.distrust_vault,
        lambda path: vault.apply("main", path),
        work.import_path,
        lambda path: work.export_path("a", path),
    ]

    for bad in ("", "a\0b", "half\ud800"):
        for use in uses:
            with pytest.raises(InvalidInput):
                use(bad)

    assert not home.has_vault("new")
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["file"]
    with home:
        assert home.create_vault("new", source=str(tmp_path / "project")).workspace().read("file") == b"content\n"


def test_half_of_a_character_is_refused(vault: Vault) -> None:
    """No file can hold it: neither a name, nor a pattern, nor a value."""
    work, half = vault.workspace(), "half\ud800"

    uses: list[Callable[[str], object]] = [work.read, work.exists, work.find, work.grep, work.tree, work.exec]
    uses += [lambda text: work.exec(shell=text)]

    for use in uses:
        with pytest.raises(InvalidInput, match="half of a character"):
            use(half)
    with pytest.raises(InvalidInput, match="half of a character"):
        work.set_meta("a", "key", half)


def test_values_of_other_types_are_refused(vault: Vault) -> None:
    """Names, paths, lists and numbers of wrong types are told as such, and nothing has changed."""
    work: Any = vault.workspace()
    before = vault.operations()

    uses: list[tuple[Callable[[Any], object], str]] = [
        (work.read, "a text or a path"),
        (work.add, "a text or a path"),
        (work.checkpoint, "a text"),
        (lambda name: work.diff(name, "ab"), "a text"),
        (vault.fork, "a text"),
        (work.cherry_pick, "a list"),
    ]
    for use, needed in uses:
        with pytest.raises(InvalidInput, match=f"{needed} is needed, not a value of type 'int'"):
            use(5)
    counted: list[Callable[[Any], object]] = [
        lambda number: work.grep("a", before=number),
        lambda number: work.grep("a", max_count=number),
        lambda number: work.find(min_size=number),
        lambda number: work.search("a", limit=number),
        lambda number: work.log(limit=number),
        lambda number: work.touch("new", mtime_ns=number),
        lambda number: work.chmod("a", number),
    ]
    for count in counted:
        with pytest.raises(InvalidInput, match="a whole number is needed, not a value of type 'float'"):
            count(1.5)
    assert vault.operations() == before
    assert not work.exists("new")


def test_values_that_nothing_can_have_are_refused(vault: Vault) -> None:
    """Before anything is done: no error of Python's, and no other value in place of the one given."""
    work: Any = vault.workspace()
    before, mode = vault.operations(), work.stat("a").mode

    uses: list[Callable[[], object]] = [
        lambda: work.touch("new", mtime_ns=10**30),
        lambda: work.chmod("a", -1),
        lambda: work.chmod("a", 10**30),
        lambda: work.symlink("new", b"a\0b"),
        lambda: work.draw_log(form="a\0b"),
        lambda: work.draw_log(form="half\ud800"),
        lambda: work.edit("a", "ab"),
        lambda: work.edit("a", ("a", "b", "c")),
        lambda: work.list_checkpoints(limit=-1),
        lambda: work.search_history("a", limit=0),
        lambda: vault.operations(fork="f" * 100_000),
        lambda: vault.apply("f" * 100_000, "."),
        lambda: vault.set_config("quota.fork_bytes", "5", fork="a\0b"),
        lambda: vault.set_config("quota.fork_bytes", "5", fork=""),
        lambda: vault.fork("/".join("a" * 100)),
    ]
    for use in uses:
        with pytest.raises(InvalidInput):
            use()
    with pytest.raises(CheckpointNotFound):
        work.blame("a", at="HEAD~" + "9" * 5000)

    assert (vault.operations(), work.stat("a").mode, work.exists("new")) == (before, mode, False)
    assert work.list_checkpoints(limit=0) == []


def test_the_root_of_a_checkout_is_all(vault: Vault) -> None:
    """All of a workspace comes from the state, and undo takes that back."""
    work = vault.workspace()
    work.checkpoint("first")
    work.write("later", b"later\n")
    work.checkpoint("second")

    work.checkout_path("/", at="first")

    assert not work.exists("later")
    work.undo()
    assert work.read("later") == b"later\n"
