"""Plug-ins: what they are asked, what a refusal is, and that one that fails refuses."""

from __future__ import annotations

import errno
import json
import mmap
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.errors import BackendUnavailable, InvalidInput, MountError, PluginFailed, PluginRefused, WorkspaceMounted
from avfs_git.host.files.closing import closing_fd
from avfs_git.model import PluginState
from avfs_git.sdk import Avfs, Vault
from tests.support.commands import ALLOW_ALL
from tests.support.plugins import install_guard

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout"), pytest.mark.usefixtures("person")]

GUARD = """
import json, os, time
def decide(event):
    with open({seen!r}, "a") as seen:
        seen.write(json.dumps(event) + chr(10))
    if event["path"] and event["path"].startswith("secret"):
        return "secrets stay as they are"
def hang(event):
    while event["path"] == "loop":
        pass
def crash(event):
    if event["path"] == "crash":
        os._exit(3)
def fail(event):
    return {{"a": None}}[event["path"]]
def bomb(event):
    return None if event["path"] != "bomb" else str(len(bytearray(1 << 40)))
def speak(event):
    print("x" * 1_000_000)
    os.write(1, b"y" * 100_000)
def look(event):
    if event["path"] == "look":
        open({tree!r} + "/secret/key").read()
def nested(event):
    from avfs_git.sdk import Avfs
    with Avfs({home!r}) as avfs:
        avfs.open_vault("v").workspace().write("other", b"nested")
"""


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault with a file that plug-ins protect."""
    policy = tmp_path / "policy.toml"
    policy.write_text(ALLOW_ALL)
    with Avfs(tmp_path / "home", policy=policy) as avfs:
        vault = avfs.create_vault("v")
        work = vault.workspace()
        work.write("secret/key", b"1\n")
        work.write("a", b"1\n")
        work.checkpoint("one")
        yield vault


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a distribution with plug-ins in Python; the file gets a line for each event that `decide` saw."""
    seen = tmp_path / "seen"
    names = ("decide", "hang", "crash", "fail", "bomb", "speak", "look", "nested")
    code = GUARD.format(seen=str(seen), home=str(tmp_path / "home"), tree=str(tmp_path / "tree"))
    install_guard(tmp_path / "site", code, names, monkeypatch)
    return seen


def test_a_file_call_is_refused_with_the_reason(vault: Vault, seen: Path) -> None:
    """Nothing has changed then; other calls go on."""
    vault.enable_plugin("decide")
    work = vault.workspace()
    with pytest.raises(PluginRefused, match="secrets stay as they are") as refused:
        work.write("secret/key", b"2\n")
    work.write("a", b"2\n")

    assert refused.value.code == "plugin.refused"
    assert (work.read("secret/key"), work.read("a")) == (b"1\n", b"2\n")


def test_a_file_call_is_asked_about_where_links_lead(vault: Vault, seen: Path) -> None:
    """A symbolic link is no way past a plug-in that knows a directory."""
    vault.enable_plugin("decide")
    work = vault.workspace()
    work.symlink("way", b"secret")
    for call in (
        lambda: work.write("way/key", b"2\n"),
        lambda: work.write("way/new/deep", b"2\n"),
        lambda: work.remove("way/key"),
        lambda: work.move("secret", "public"),
        lambda: work.make_dir("secret/b"),
        lambda: work.chmod("way/key", 0o600),
        lambda: work.touch("way/new"),
    ):
        with pytest.raises(PluginRefused):
            call()

    assert [(info.path, work.read(info.path)) for info in work.list_dir("secret")] == [(b"secret/key", b"1\n")]


def told(seen: Path) -> list[tuple[str, str | None, str | None]]:
    """What the plug-in was told: operations and their paths."""
    events = map(json.loads, seen.read_text().splitlines())
    return [(event["operation"], event["path"], event["new_path"]) for event in events]


@pytest.mark.needs("fuse")
@pytest.mark.slow
def test_a_program_in_a_live_tree_is_refused(vault: Vault, seen: Path, tmp_path: Path) -> None:
    """It gets EPERM for each way to change what the plug-in protects; the audit log has the reason."""
    vault.enable_plugin("decide")
    with vault.workspace().mount(tmp_path / "tree") as session:
        tree = session.path
        for call in (
            lambda: (tree / "secret/key").write_bytes(b"2\n"),
            lambda: (tree / "secret/new").write_bytes(b""),
            (tree / "secret/key").unlink,
            lambda: (tree / "secret/key").chmod(0o600),
            lambda: (tree / "secret/key").rename(tree / "key"),
            lambda: os.link(tree / "secret/key", tree / "key"),
            lambda: os.symlink("x", tree / "secret/link"),
            lambda: os.mkdir(tree / "secret/directory"),
            lambda: os.truncate(tree / "secret/key", 0),
            lambda: os.setxattr(tree / "secret/key", "user.x", b"1"),
            lambda: os.rename(tree / "secret", tree / "public"),
        ):
            with pytest.raises(PermissionError) as refused:
                call()
            assert refused.value.errno == errno.EPERM
        (tree / "b").write_bytes(b"2\n")
        (tree / "b").rename(tree / "c")
        assert (tree / "secret/key").read_bytes() == b"1\n"
        assert (tree / "c").read_bytes() == b"2\n"
    refusals = [entry for entry in vault.policy.audit() if entry.event == "plugin_refused"]

    assert [event for event in told(seen) if event[1] in ("b", "secret/link", "secret")] == [
        ("symlink", "secret/link", None),
        ("rename", "secret", "public"),
        ("create", "b", None),
        ("write", "b", None),
        ("rename", "b", "c"),
    ]
    assert len(refusals) == 11
    assert {(entry.outcome, entry.details["reason"]) for entry in refusals} == {("refused", "secrets stay as they are")}


@pytest.mark.needs("fuse")
@pytest.mark.slow
def test_a_hard_link_is_no_way_past_a_plugin(vault: Vault, seen: Path, tmp_path: Path) -> None:
    """One that was made before: it is asked about under each name, also when the one that was opened is gone."""
    work = vault.workspace()
    work.link("secret/key", "way")
    work.link("secret/key", "other")
    vault.enable_plugin("decide")
    with vault.workspace().mount(tmp_path / "tree") as session:
        tree = session.path
        for change in (os.utime, lambda way: os.truncate(way, 0), lambda way: os.link(way, tree / "new")):
            with pytest.raises(PermissionError):
                change(tree / "way")
        with closing_fd(os.open(tree / "way", os.O_RDWR)) as descriptor:
            (tree / "way").unlink()
            (tree / "other").unlink()
            for call in (
                lambda: os.write(descriptor, b"2\n"),
                lambda: os.truncate(descriptor, 0),
                lambda: os.fchmod(descriptor, 0o600),
                lambda: Path(f"/proc/self/fd/{descriptor}").write_bytes(b"2\n"),
            ):
                with pytest.raises(PermissionError):
                    call()
        (tree / "new").write_bytes(b"1\n")
        with (tree / "new").open("r+b") as file:
            (tree / "new").unlink()
            file.write(b"2\n")  # it has no name: nothing of it gets into the workspace

        assert (tree / "secret/key").read_bytes() == b"1\n"


def test_a_file_call_is_asked_about_under_each_name(vault: Vault, seen: Path, tmp_path: Path) -> None:
    """A name that goes is asked about alone; a link that leads to nothing is asked about as what is made."""
    work = vault.workspace()
    work.link("secret/key", "way")
    work.symlink("dangling", b"made")
    vault.enable_plugin("decide")
    with Avfs(tmp_path / "home") as avfs:
        other = avfs.open_vault("v").workspace()
        for call in (lambda: other.write("way", b"2\n"), lambda: other.tag("way", "x"), lambda: other.touch("way")):
            with pytest.raises(PluginRefused, match="'/secret/key'"):
                call()
        other.touch("dangling")
        other.remove("way")

    assert told(seen)[-2:] == [("create", "made", None), ("unlink", "way", None)]
    assert work.read("secret/key") == b"1\n"


@pytest.mark.needs("fuse")
@pytest.mark.slow
def test_a_mapped_write_that_is_refused_is_not_shown(vault: Vault, seen: Path, tmp_path: Path) -> None:
    """The kernel asks late, when it writes the page: programs read what the file holds."""
    vault.enable_plugin("decide")
    with vault.workspace().mount(tmp_path / "tree") as session:
        key = session.path / "secret/key"
        with key.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[0:1] = b"9"
            with pytest.raises(OSError):  # noqa: PT011 - EIO or EPERM, by the kernel
                mapped.flush()
        while key.read_bytes() != b"1\n":  # it forgets the page beside the answer
            time.sleep(0.01)


@pytest.mark.needs("fuse")
@pytest.mark.slow
def test_a_plugin_that_looks_into_the_live_tree_holds_it_up_no_longer_than_its_time(
    vault: Vault, seen: Path, tmp_path: Path
) -> None:
    """The kernel lets it look when the tree has answered, and it cannot be killed before."""
    vault.set_config("plugins.timeout_s", "1")
    vault.enable_plugin("look")
    with vault.workspace().mount(tmp_path / "tree") as session:
        with pytest.raises(PermissionError):
            (session.path / "look").write_bytes(b"")

        assert (session.path / "secret/key").read_bytes() == b"1\n"


@pytest.mark.needs("fuse", "overlayfs")
@pytest.mark.slow
def test_a_command_and_a_mount_are_served_where_plugins_are_asked(vault: Vault, seen: Path, tmp_path: Path) -> None:
    """By FUSE, never by a backend that would pass a plug-in over."""
    vault.enable_plugin("decide")
    work = vault.workspace()
    ran = work.exec("sh", "-c", "echo 2 > secret/key; echo 2 > a")
    with pytest.raises(BackendUnavailable):
        work.exec("true", backend="overlay")
    with pytest.raises(BackendUnavailable):
        work.exec("true", backend="checkout")
    with pytest.raises(MountError):
        work.mount(tmp_path / "tree", backend="overlay")
    with pytest.raises(MountError, match="'decide'"):
        work.mount(tmp_path / "tree", backend="portable")

    assert ran.backend == "fuse"
    assert (work.read("secret/key"), work.read("a")) == (b"1\n", b"2\n")


@pytest.mark.parametrize(("name", "path"), [("hang", "loop"), ("crash", "crash"), ("fail", "crash"), ("bomb", "bomb")])
def test_a_plugin_that_fails_refuses(vault: Vault, seen: Path, tmp_path: Path, name: str, path: str) -> None:
    """An endless loop, a crash, an exception, too much memory: the change is refused, and the workspace goes on."""
    vault.set_config("plugins.timeout_s", "1" if name == "hang" else "60")
    vault.enable_plugin(name)
    with pytest.raises(PluginFailed):
        vault.workspace().write(path, b"2\n")
    vault.set_config("plugins.timeout_s", "60")
    with Avfs(tmp_path / "home") as avfs:
        work = avfs.open_vault("v").workspace()
        work.write("a", b"2\n")

        assert not work.exists(path)
        assert work.read("a") == b"2\n"


def test_a_plugin_that_writes_to_its_output_is_understood(vault: Vault, seen: Path) -> None:
    """Its output is none of the answer."""
    vault.enable_plugin("speak")
    vault.workspace().write("a", b"2\n")

    assert vault.workspace().read("a") == b"2\n"


def test_a_plugin_that_changes_the_workspace_is_refused_and_does_not_wait_for_itself(vault: Vault, seen: Path) -> None:
    """It would be asked about its own change."""
    vault.enable_plugin("nested")
    with pytest.raises(PluginFailed, match="another plug-in asks"):
        vault.workspace().write("a", b"2\n")

    assert not vault.workspace().exists("other")


def test_what_is_not_what_was_enabled_refuses(vault: Vault, seen: Path, tmp_path: Path) -> None:
    """Another function under the name, or none; a list that something else wrote."""
    vault.enable_plugin("decide")
    points = tmp_path / "site/shop_guard-1.0.dist-info/entry_points.txt"
    text = points.read_text()
    points.write_text(text.replace("decide = guard:decide", "decide = guard:speak"))
    with pytest.raises(PluginFailed, match="guard:speak"):
        vault.workspace().write("a", b"2\n")
    states = {plugin.name: plugin.state for plugin in vault.list_plugins()}
    listed = tmp_path / "home/plugins.json"
    listed.write_text(listed.read_text().replace("decide", "allow"))
    with pytest.raises(InvalidInput, match="not as avfs wrote it"):
        vault.workspace().write("a", b"2\n")

    assert (states["decide"], states["speak"]) == (PluginState.BROKEN, PluginState.NOT_ENABLED)
    assert vault.workspace().read("a") == b"1\n"


def test_plugins_change_only_while_nothing_is_in_use(vault: Vault, seen: Path, tmp_path: Path) -> None:
    """A live tree would go on unasked."""
    with pytest.raises(InvalidInput, match="no installed distribution"):
        vault.enable_plugin("missing")
    with pytest.raises(InvalidInput, match="is enabled"):
        vault.disable_plugin("decide")
    vault.enable_plugin("decide")
    vault.disable_plugin("decide")
    vault.workspace().write("secret/key", b"2\n")

    assert vault.workspace().read("secret/key") == b"2\n"


@pytest.mark.needs("fuse")
@pytest.mark.slow
def test_no_plugin_is_enabled_under_a_live_tree(vault: Vault, seen: Path, tmp_path: Path) -> None:
    """Its programs would not be asked."""
    with vault.workspace().mount(tmp_path / "tree"), pytest.raises(WorkspaceMounted):
        vault.enable_plugin("decide")


def test_operations_are_asked_about(vault: Vault, tmp_path: Path, seen: Path) -> None:
    """A checkpoint can be refused before anything is saved."""
    (tmp_path / "site/guard.py").write_text(
        "def decide(event):\n    return 'not now' if event['operation'] == 'checkpoint' else None\n"
    )
    vault.enable_plugin("decide")
    work = vault.workspace()
    work.write("a", b"2\n")
    with pytest.raises(PluginRefused, match="refuses checkpoint: not now"):
        work.checkpoint("two")

    assert not work.status().clean


def test_a_plugin_goes_with_its_vault(vault: Vault, seen: Path, tmp_path: Path) -> None:
    """A vault that has another name is protected as before; another vault is not."""
    vault.enable_plugin("decide")
    vault.close()
    with Avfs(tmp_path / "home") as avfs:
        avfs.rename_vault("v", "w")
        with pytest.raises(PluginRefused):
            avfs.open_vault("w").workspace().write("secret/key", b"2\n")
        avfs.create_vault("v").workspace().write("secret/key", b"2\n")


GUIDE = (Path(__file__).parents[2] / "docs/guides/plugins.md").read_text(encoding="utf-8")


def example(language: str) -> str:
    """Take an example out of the guide."""
    return GUIDE.split(f"```{language}\n")[1].split("```")[0]


LANGUAGES = [
    "python",
    pytest.param("lua", marks=pytest.mark.needs("lupa")),
    pytest.param("wat", marks=pytest.mark.needs("wasmtime")),
]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_examples_of_the_guide_protect_a_directory(vault: Vault, seen: Path, tmp_path: Path, language: str) -> None:
    """All three refuse the same, and nothing else."""
    work = vault.workspace()
    work.write("migrations/1", b"1\n")
    file = None
    if language == "python":
        (tmp_path / "site/guard.py").write_text(example("python"))
        info = tmp_path / "site/shop_guard-1.0.dist-info/entry_points.txt"
        info.write_text("[avfs.plugins]\nguard = guard:decide\n")
    else:
        file = tmp_path / f"guard.{language}"
        file.write_text(example(language))
    vault.enable_plugin("guard", file)
    for call in (
        lambda: work.write("migrations/1", b"2\n"),
        lambda: work.move("a", "migrations/a"),
        lambda: work.remove("migrations", recursive=True),
    ):
        with pytest.raises(PluginRefused, match="migrations are written by hand"):
            call()
    work.write(b"migrations-\xff", b"2\n")
    work.write("m", b"2\n")

    assert [plugin.state for plugin in vault.list_plugins() if plugin.name == "guard"] == [PluginState.ENABLED]
    assert work.read("migrations/1") == b"1\n"


@pytest.mark.needs("lupa")
def test_what_cannot_be_loaded_is_not_enabled(vault: Vault, tmp_path: Path) -> None:
    """A text that is no program; a kind that is not known."""
    (tmp_path / "guard.lua").write_text("function")
    with pytest.raises(PluginFailed, match=r"was not enabled: .*guard:1") as failed:
        vault.enable_plugin("guard", tmp_path / "guard.lua")

    assert "disable" not in (failed.value.hint or "")

    (tmp_path / "guard.txt").write_text("")
    with pytest.raises(InvalidInput, match="is no plug-in"):
        vault.enable_plugin("guard", tmp_path / "guard.txt")

    assert vault.list_plugins() == []


@pytest.mark.needs("lupa")
def test_a_file_that_is_changed_later_changes_nothing(vault: Vault, tmp_path: Path) -> None:
    """The copy counts; where that is changed, everything is refused."""
    file = tmp_path / "guard.lua"
    file.write_text(example("lua"))
    vault.enable_plugin("guard", file)
    file.write_text("function decide(event) end")
    work = vault.workspace()
    with pytest.raises(PluginRefused):
        work.write("migrations/1", b"1\n")
    (copy,) = (tmp_path / "home/plugins").iterdir()
    copy.write_text("function decide(event) end")
    with Avfs(tmp_path / "home") as avfs, pytest.raises(PluginFailed, match="not what was enabled"):
        avfs.open_vault("v").workspace().write("migrations/1", b"1\n")

    assert [plugin.state for plugin in vault.list_plugins()] == [PluginState.BROKEN]


@pytest.mark.needs("lupa")
def test_several_are_asked_until_one_refuses(vault: Vault, seen: Path, tmp_path: Path) -> None:
    """In the order of their names."""
    (tmp_path / "a.lua").write_text("function decide(event) if event.path == 'one' then return 'first' end end")
    vault.enable_plugin("a", tmp_path / "a.lua")
    vault.enable_plugin("decide")
    work = vault.workspace()
    with pytest.raises(PluginRefused, match="'a' refuses write of '/one': first"):
        work.write("one", b"")
    with pytest.raises(PluginRefused, match="'decide'"):
        work.write("secret/key", b"")

    assert [path for _, path, _ in told(seen)] == ["secret/key"]


def test_an_import_is_asked_about_each_path(vault: Vault, seen: Path, tmp_path: Path) -> None:
    """Before any of it comes, and as where links of the workspace lead; an archive, as it is unpacked."""
    work = vault.workspace()
    work.symlink("way", b"secret")
    vault.enable_plugin("decide")
    source = tmp_path / "source"
    for name in ("b/new", "way/key", "z/new"):
        (source / name).parent.mkdir(parents=True)
        (source / name).write_text("2\n")
    archive = tmp_path / "archive.tar"
    with tarfile.open(archive, "w") as file:
        file.add(source / "way/key", "way/key")
    with pytest.raises(PluginRefused, match="import of '/secret'"):
        work.import_path(source, "/", recursive=True)
    assert (work.exists("b"), work.exists("z")) == (False, False)
    with pytest.raises(PluginRefused, match="import of '/secret/key'"), archive.open("rb") as unpacked:
        work.import_tar(unpacked)
    with pytest.raises(PluginRefused, match="import of '/secret'"):
        work.import_path(source / "way/key", "way")
    (source / "way/key").unlink()
    (source / "way").rmdir()
    work.import_path(source, "/", recursive=True)

    assert work.read("secret/key") == b"1\n"
    assert {path for operation, path, _ in told(seen) if operation == "import"} >= {"b", "b/new", "z", "z/new"}
    assert (work.exists("b/new"), work.exists("z/new")) == (True, True)
