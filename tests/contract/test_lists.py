"""Arguments that cannot mean anything: a single text where a list is needed, an empty name of a fork."""

from __future__ import annotations

import asyncio
import inspect
import io
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from avfs_git import Home, sdk
from avfs_git.errors import AvfsError, CheckpointNotFound, InvalidInput, InvalidName, VaultNotFound
from avfs_git.sdk import Vault, Workspace

_FILLED = {
    "old": "main",
    "new": "main",
    "rev": "main",
    "fork": "main",
    "directory": ".",
    "pattern": "a",
    "words": "a",
}


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
        next(answer, None)
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
        with pytest.raises(InvalidInput, match="a whole number is needed, not a value of type 'bool'"):
            count(True)
    with pytest.raises(InvalidInput, match="a list is needed"):
        work.draw_log(paths=memoryview(b"a"))
    with pytest.raises(InvalidInput, match="an open file is needed, not a value of type 'StringIO'"):
        work.import_tar(io.StringIO("text"))
    with pytest.raises(InvalidInput, match=r"'--patch' or .* is needed, not '--all'"):
        work.draw_log(shown=["--all"])
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


class _Other:
    """A value of a type that no parameter takes."""


_OF_KIND: dict[str, object] = {
    "int": 1,
    "bytes": b"a",
    "BinaryIO": io.BytesIO(),
    "Sequence[str]": ["a"],
    "Sequence[PathLike]": ["a"],
    "Iterable[bytes]": [b"a"],
}
"""What a parameter of a kind gets that a method needs."""
_LASTING = ("close", "wait", "mount", "unmount", "stop")


@pytest.mark.parametrize("name", ["x" * 300, "file/below", pytest.param("closed/below", marks=pytest.mark.ordinary)])
def test_a_directory_that_cannot_be_looked_at_is_a_typed_error(vault: Vault, tmp_path: Path, name: str) -> None:
    """Whatever the system says of a path of this machine, the error is one of avfs's."""
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir(mode=0)
    path = tmp_path / name
    with Home(tmp_path / "home") as home:
        uses: list[Callable[[], object]] = [
            lambda: home.create_vault("new", source=path),
            lambda: home.fork_directory(path, tmp_path / "tree"),
            lambda: home.trust_vault(path),
            lambda: home.open_vault(path),
            lambda: Home(path).create_vault("new"),
            lambda: Home(path).open_vault("new"),
            lambda: vault.workspace().import_path(path),
        ]
        for use in uses:
            with pytest.raises(AvfsError):
                use()


def test_the_name_of_a_vault_is_no_path_of_one(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`vault list` shows that name: the error says which place it looked at."""
    monkeypatch.chdir(tmp_path)
    with Home(tmp_path / "home") as home, pytest.raises(VaultNotFound, match=re.escape(str(tmp_path / vault.name))):
        home.trust_vault(vault.name)


def list_parameters(holder: object) -> Iterator[tuple[Callable[..., object], str, dict[str, Any], str]]:
    """List each public method and each of its parameters, with what it needs and what it is said to be."""
    for name, method in inspect.getmembers(holder, callable):
        if name.startswith("_") or name in _LASTING:
            continue
        parameters = inspect.signature(method).parameters.values()
        needed = {
            each.name: _OF_KIND.get(str(each.annotation), _FILLED.get(each.name, "a"))
            for each in parameters
            if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        }
        for each in parameters:
            kind = str(each.annotation)
            if kind.startswith("Unpack["):
                for key, value in getattr(sdk, kind[7:-1]).__annotations__.items():
                    yield method, key, needed, value.__forward_arg__
            elif each.kind is each.VAR_POSITIONAL:
                yield method, "*", needed, kind
            else:
                yield method, each.name, needed, kind


def call_with(method: Callable[..., object], argument: str, needed: dict[str, Any], given: object) -> None:
    """Call a method with a value for one parameter, and what it needs beside that."""
    if argument == "*":
        complete(method(*needed.values(), given))
    else:
        complete(method(**needed | {argument: given}))


def test_a_value_of_another_type_is_refused_before_anything_is_done(vault: Vault, tmp_path: Path) -> None:
    """Whichever parameter of whichever method gets it, by its annotation; the message names the parameter."""
    seen = []
    with Home(tmp_path / "home") as home:
        before = vault.operations(), sorted(info.name for info in vault.list_forks()), home.list_vaults()
        for holder in (home, vault, vault.workspace(), vault.policy):
            for method, argument, needed, kind in list_parameters(holder):
                seen.append(kind)
                with pytest.raises(
                    InvalidInput, match=f"`{argument.strip('*')}.*is needed, not a value of type '_Other'"
                ):
                    call_with(method, argument, needed, _Other())
        assert (vault.operations(), sorted(info.name for info in vault.list_forks()), home.list_vaults()) == before
    assert len(seen) > 300


@pytest.mark.parametrize("given", [-1, 1.5, "", "zz", b"zz", ("a", 1), [1], {"A": 1}, {1: "A"}, None, True])
def test_whatever_a_read_gets_it_raises_no_error_without_a_code(vault: Vault, given: object) -> None:
    """A value may mean something or nothing: what is refused is a typed error."""
    readers = (
        "diff",
        "log",
        "grep",
        "find",
        "read",
        "list_dir",
        "walk",
        "glob",
        "tree",
        "blame",
        "operations",
        "exec_plan",
    )
    for holder in (vault, vault.workspace()):
        for method, argument, needed, _ in list_parameters(holder):
            if method.__name__ in readers:
                with suppress(AvfsError):
                    call_with(method, argument, needed, given)


@pytest.mark.needs("git")
def test_values_of_the_right_type_that_mean_nothing_are_refused(vault: Vault) -> None:
    """Each of these was an error of Python's, or an answer about something else."""
    work = vault.workspace()
    calls: list[Callable[[], object]] = [
        lambda: work.diff("a", "b", context=-1),
        lambda: work.diff("a", context=2**70),
        lambda: vault.diff("a", "b", context=-1),
        lambda: work.exec("true", stdin=2**70),
        lambda: work.exec("true", env={"\ud800": "1"}),
        lambda: Home("\ud800"),  # type: ignore[arg-type]  # what is tried
        lambda: Home(5),  # type: ignore[arg-type]  # the same
    ]
    for call in calls:
        with pytest.raises(InvalidInput):
            call()


def test_a_call_is_checked_once() -> None:
    """Also one that a class has from another that is checked: a read of a file costs some microseconds."""
    for holder in (Home, Vault, Workspace):
        for name, outermost in inspect.getmembers(holder, inspect.isfunction):
            method, checks = outermost, 0
            while hasattr(method, "__wrapped__"):
                checks += method.__code__.co_filename.endswith("sdk/given.py")
                method = method.__wrapped__
            assert checks == (not name.startswith("_")), name
