"""Hooks of a vault: the owner's programs around operations, and git's hook for pushes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from avfs_git.errors import HookRefused, HostError, InvalidInput
from avfs_git.gitstore.config.githooks import UPDATE
from avfs_git.model import HookState, Warning
from avfs_git.sdk import Avfs, Vault
from tests.support.cli import spawn
from tests.support.commands import ALLOW_ALL
from tests.support.servers import git, make_bare

SHIPPED = Path(__file__).parents[2] / "hooks" / "update"


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault whose hooks are installed."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"1\n")
        vault.workspace().checkpoint("one")
        vault.install_hooks()
        yield vault


def put(vault: Vault, name: str, script: str, *, enable: bool = True) -> Path:
    """Make a hook of a shell script, and enable it."""
    place = {hook.name: hook.path for hook in vault.list_hooks()}[name]
    place.write_text(f"#!/bin/sh\n{script}\n")
    place.chmod(0o755)
    if enable:
        vault.enable_hook(name)
    return place


def codes(warnings: tuple[Warning, ...]) -> list[str]:
    """Name warnings."""
    return [warning.code for warning in warnings]


def test_the_hook_that_is_installed_is_the_one_that_is_shipped() -> None:
    """The file for doing it by hand and the one that is installed are the same."""
    assert SHIPPED.read_bytes() == UPDATE


def test_installing_protects_avfs_refs_and_keeps_other_hooks(vault: Vault, tmp_path: Path) -> None:
    """A push to avfs's refs is refused; a hook of somebody else's is never overwritten."""
    clone = tmp_path / "clone"
    git("clone", "-q", str(vault.path), str(clone), cwd=tmp_path)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        git("push", "origin", "HEAD:refs/avfs/sidecar/x", cwd=clone)
    git("push", "-q", "origin", "HEAD:topic", cwd=clone)
    vault.install_hooks()
    (vault.path / "hooks/update").write_text("#!/bin/sh\n")
    with pytest.raises(InvalidInput):
        vault.install_hooks()

    assert "remote rejected" in refused.value.stderr
    assert vault.has_fork("topic")
    assert (vault.path / "hooks/update").read_text() == "#!/bin/sh\n"


def test_a_hook_gets_facts_and_can_refuse_with_a_reason(vault: Vault, tmp_path: Path) -> None:
    """What runs before a checkpoint reads one document and can stop it; nothing is committed then."""
    put(vault, "pre-checkpoint", f"cat > {tmp_path}/facts; echo no tests were run; exit 1")
    work = vault.workspace()
    work.write("a", b"2\n")
    head = vault.fork_info("main").head

    with pytest.raises(HookRefused) as refused:
        work.checkpoint("two", description="why")

    assert refused.value.message == "the hook 'pre-checkpoint' refuses it: no tests were run"
    assert vault.fork_info("main").head == head
    assert json.loads((tmp_path / "facts").read_text()) == {
        "schema_version": 1,
        "hook": "pre-checkpoint",
        "vault": str(vault.path),
        "fork": "main",
        "label": "two",
        "message": "why",
    }


@pytest.mark.parametrize("agrees", [False, True])
def test_a_hook_without_a_status_refuses(agrees: bool, vault: Vault) -> None:
    """A process that ignores SIGCHLD cannot know how a hook ends: that is not taken for consent."""
    put(vault, "pre-checkpoint", f"exit {int(not agrees)}")
    work = vault.workspace()
    work.write("a", b"2\n")
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(HookRefused, match="how it ended is not known, because this process ignores SIGCHLD"):
            work.checkpoint("two")
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("agrees", [False, True])
def test_the_program_knows_how_a_hook_ends_under_any_starter(agrees: bool, vault: Vault) -> None:
    """Also where its starter ignores SIGCHLD, which is inherited."""
    put(vault, "pre-checkpoint", f"echo no; exit {int(not agrees)}")
    vault.workspace().write("a", b"2\n")
    vault.close()
    avfs = [sys.executable, "-m", "avfs_git", "--vault", "v", "checkpoint", "save"]
    code = f"import os, signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv({avfs[0]!r}, {avfs!r})"
    environment = {**os.environ, "AVFS_HOME": str(vault.path.parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == (0 if agrees else HookRefused.exit_code), done.stderr
    assert ("refuses it: no\n" in done.stderr) is not agrees


def test_what_is_added_to_history_is_asked_about(vault: Vault, tmp_path: Path) -> None:
    """An ignored file comes into history by a checkpoint as well: its hooks run."""
    put(vault, "pre-checkpoint", "echo no secrets; exit 1", enable=False)
    work = vault.workspace()
    work.write(".gitignore", b".env\n")
    work.write(".env", b"secret\n")
    work.checkpoint("two")
    vault.enable_hook("pre-checkpoint")
    put(vault, "post-checkpoint", f"cat > {tmp_path}/facts")

    with pytest.raises(HookRefused, match="no secrets"):
        work.add(".env", force=True)
    vault.disable_hook("pre-checkpoint")
    added = work.add(".env", force=True).checkpoint

    assert added is not None
    assert json.loads((tmp_path / "facts").read_text())["checkpoint"] == added.id


def test_a_hook_that_runs_after_can_only_warn(vault: Vault, tmp_path: Path) -> None:
    """A failing one leaves the checkpoint, whose id it was told, and says so."""
    put(vault, "post-checkpoint", f"cat > {tmp_path}/facts; echo cannot reach the tracker; exit 3")
    vault.workspace().write("a", b"2\n")

    saved = vault.workspace().checkpoint("two")

    assert [(warning.code, warning.message) for warning in saved.warnings] == [
        ("hook.failed", "the hook 'post-checkpoint' failed: cannot reach the tracker")
    ]
    assert saved.checkpoint is not None
    assert json.loads((tmp_path / "facts").read_text())["checkpoint"] == saved.checkpoint.id


@pytest.mark.parametrize("kind", ["directory", "pipe", "link to itself", "link to no name", "links above it"])
def test_what_is_no_file_is_no_hook(vault: Vault, tmp_path: Path, kind: str) -> None:
    """What a command left in place of a hook keeps nothing from being done, listed or told as done."""
    for hook in vault.list_hooks():
        if hook.name.endswith("checkpoint"):
            if kind == "directory":
                hook.path.mkdir()
            elif kind == "pipe":
                os.mkfifo(hook.path, 0o777)
            elif kind == "link to itself":
                hook.path.symlink_to(hook.path)
            elif kind == "link to no name":
                hook.path.symlink_to("x" * 300)
            elif not hook.path.parent.is_symlink():
                with suppress(FileNotFoundError):
                    hook.path.parent.rmdir()
                hook.path.parent.symlink_to(hook.path.parent)

    with Avfs(tmp_path / "home") as avfs, avfs.open_vault("v") as opened:
        opened.workspace().write("a", b"2\n")
        saved = opened.workspace().checkpoint()

    assert (saved.outcome, saved.warnings) == ("created", ())
    assert {hook.state for hook in vault.list_hooks() if hook.name != "update"} == {HookState.MISSING}
    assert not any(hook.installed for hook in vault.list_hooks() if hook.name != "update")


@pytest.mark.needs("user-xattrs", "whiteout")
def test_a_command_is_told_as_done_whatever_keeps_its_hook_from_running(vault: Vault, tmp_path: Path) -> None:
    """Where the list of enabled hooks cannot be read, what may refuse does, and what runs after warns."""
    put(vault, "post-exec", "true")
    put(vault, "pre-checkpoint", "true")
    (tmp_path / "home/hooks.json").unlink()
    (tmp_path / "home/hooks.json").mkdir()

    ran = vault.workspace().exec("sh", "-c", "echo 2 > a; exit 3", backend="checkout")

    assert (ran.exit_code, codes(ran.warnings)) == (3, ["hook.failed"])
    assert ran.commit == vault.fork_info("main").head
    with pytest.raises(HostError):
        vault.workspace().checkpoint()


def test_a_hook_runs_below_a_directory_of_any_name(tmp_path: Path) -> None:
    """A name that looks like a variable to env(1) keeps no hook from refusing."""
    with Avfs(tmp_path / "a=b c'd") as avfs:
        vault = avfs.create_vault("v")
        vault.install_hooks()
        put(vault, "pre-checkpoint", 'echo "$AVFS_HOOK" does not want it; exit 1')
        vault.workspace().write("a", b"1\n")

        with pytest.raises(HookRefused, match="refuses it: pre-checkpoint does not want it"):
            vault.workspace().checkpoint()


@pytest.mark.slow
@pytest.mark.needs("fuse", "user-xattrs", "whiteout")
@pytest.mark.parametrize("writes", [False, True], ids=["nothing is written", "a program writes at the end"])
def test_a_stop_that_is_done_is_told_as_done(vault: Vault, tmp_path: Path, writes: bool) -> None:
    """A hook that looks into the live tree, gone at the second checkpoint, refuses only what that would save."""
    work = vault.workspace()
    tree = tmp_path / "tree"
    late = f"echo late > {tree}/late" if writes else "true"
    put(vault, "pre-checkpoint", f"cd {tree} && test -e a || exit 1")
    put(vault, "post-checkpoint", late)
    session = work.mount(tree)
    (tree / "b").write_bytes(b"2\n")

    ended = session.stop()

    assert ended.outcome == "unmounted"
    assert ended.checkpoint is not None
    assert ended.checkpoint.outcome == "created"
    assert codes(ended.warnings) == ["session.not_saved"] * writes
    assert work.status().clean is not writes
    assert work.exists("late") is writes


def test_merges_and_pushes_have_hooks(vault: Vault, tmp_path: Path) -> None:
    """Each runs with its own facts, and one that refuses leaves everything as it was."""
    for name in ("pre-merge", "post-merge", "pre-push"):
        put(vault, name, f"cat > {tmp_path}/{name}")
    vault.add_remote("origin", str(make_bare(tmp_path / "served.git")))
    vault.fork("topic").write("b", b"1\n")
    merged = vault.workspace("main").merge("topic")
    vault.push(["main"])
    put(vault, "pre-merge", "exit 1")
    vault.workspace("topic").write("c", b"1\n")
    with pytest.raises(HookRefused):
        vault.workspace("main").merge("topic")

    facts = {name: json.loads((tmp_path / name).read_text()) for name in ("pre-merge", "post-merge", "pre-push")}
    assert facts["pre-merge"]["source"] == "topic"
    assert (facts["post-merge"]["outcome"], facts["post-merge"]["commit"]) == ("fast_forward", merged.commit)
    assert facts["pre-push"]["fork"] == "main"
    assert not vault.workspace("main").exists("c")


def test_an_update_asks_about_what_was_pushed_to_the_fork(vault: Vault, tmp_path: Path) -> None:
    """Also about what is pushed while a hook runs: the workspace gets nothing that the hook has not seen."""
    git("clone", "-q", str(vault.path), str(tmp_path / "clone"), cwd=tmp_path)
    pushed = [_push(tmp_path / "clone", "one"), _commit(tmp_path / "clone", "two")]
    put(vault, "post-merge", f"cat > {tmp_path}/post-merge")
    put(vault, "pre-merge", f"cat >> {tmp_path}/seen; echo >> {tmp_path}/seen; git -C {tmp_path}/clone push -q")
    work = vault.workspace("main")
    [updated] = work.update()
    seen = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert [facts["commit"] for facts in seen] == pushed
    assert seen[1]["source"] == updated.source == pushed[1][:12]
    told = json.loads((tmp_path / "post-merge").read_text())
    assert (told["source"], told["outcome"], told["commit"]) == (pushed[1][:12], updated.outcome, updated.commit)

    _push(tmp_path / "clone", "three")
    put(vault, "pre-merge", "echo not that; exit 1")
    with pytest.raises(HookRefused, match="not that"):
        work.update()
    assert [work.exists(name) for name in ("one", "two", "three")] == [True, True, False]


def _commit(clone: Path, name: str) -> str:
    (clone / name).write_bytes(b"1\n")
    git("add", name, cwd=clone)
    git("commit", "-q", "-m", name, cwd=clone)
    return git("rev-parse", "HEAD", cwd=clone)


def _push(clone: Path, name: str) -> str:
    made = _commit(clone, name)
    git("push", "-q", cwd=clone)
    return made


@pytest.mark.needs("user-xattrs", "whiteout")
def test_commands_have_a_hook(vault: Vault, tmp_path: Path) -> None:
    """It is told how a command ended and what commit holds its changes."""
    put(vault, "post-exec", f"cat >> {tmp_path}/facts; echo heard; exit 1")

    ran = vault.workspace().exec("sh", "-c", "echo 2 > a; exit 3", backend="checkout")

    facts = json.loads((tmp_path / "facts").read_text())  # one document: it runs once
    assert (facts["exit_code"], facts["commit"]) == (3, ran.commit)
    assert "hook.failed" in [warning.code for warning in ran.warnings]


def test_a_hook_that_nobody_enabled_does_not_run(vault: Vault, tmp_path: Path) -> None:
    """Whoever put it there: what it belongs to is done, and says so."""
    for name in ("pre-checkpoint", "post-checkpoint", "pre-merge", "post-merge"):
        put(vault, name, f"touch {tmp_path}/ran; exit 1", enable=False)
    vault.fork("topic").write("b", b"1\n")
    work = vault.workspace("main")
    work.write("a", b"2\n")

    assert codes(work.checkpoint("two").warnings) == ["hook.not_enabled"] * 2
    merged = work.merge("topic")
    assert codes(merged.warnings).count("hook.not_enabled") == 2
    told = merged.warnings[0].message
    assert "avfs hooks enable pre-merge" in told
    assert f"remove '{vault.path}/avfs/hooks/pre-merge'" in told
    assert "disable" not in told  # it is in no list from which that would take it
    assert not (tmp_path / "ran").exists()
    states = {hook.name: hook.state for hook in vault.list_hooks()}
    assert (states["pre-merge"], states["pre-push"]) == (HookState.NOT_ENABLED, HookState.MISSING)


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("change", ["written", "removed", "replaced", "made a link", "no longer executable"])
def test_a_changed_hook_does_not_run(vault: Vault, tmp_path: Path, change: str) -> None:
    """What it could refuse is refused, with the way out; what it could only hear of warns."""
    for name in ("pre-checkpoint", "post-checkpoint"):
        place = put(vault, name, "true")
        if change == "written":
            with place.open("a") as file:
                file.write(f"touch {tmp_path}/ran\n")
        elif change == "no longer executable":
            place.chmod(0o644)
        else:
            place.unlink()
            if change == "replaced":
                put(vault, name, f"touch {tmp_path}/ran", enable=False)
            elif change == "made a link":
                place.symlink_to("/bin/true")
    work = vault.workspace()
    work.write("a", b"2\n")

    with pytest.raises(HookRefused, match="avfs hooks disable pre-checkpoint"):
        work.checkpoint("two")
    vault.disable_hook("pre-checkpoint")
    assert codes(work.checkpoint("two").warnings)[-1:] == ["hook.changed"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("attack", ["sed", "another vault", "no list", "no key"])
def test_the_list_of_enabled_hooks_cannot_be_edited(vault: Vault, tmp_path: Path, attack: str) -> None:
    """Nor moved to another vault: a hook whose line was written by something else than avfs does not run."""
    place = put(vault, "post-checkpoint", "true")
    home = tmp_path / "home"
    listed = home / "hooks.json"
    held = listed.read_text()
    if attack == "another vault":
        with Avfs(home) as avfs:
            other = avfs.create_vault("other")
            other.install_hooks()
            put(other, "post-checkpoint", f"touch {tmp_path}/ran", enable=False)
            listed.write_text(held.replace(str(vault.path), str(other.path)))
            other.workspace().write("a", b"1\n")
            assert codes(other.workspace().checkpoint().warnings) == ["hook.not_enabled"]
    else:
        old = hashlib.sha256(place.read_bytes()).hexdigest()
        put(vault, "post-checkpoint", f"touch {tmp_path}/ran", enable=False)
        listed.write_text(held.replace(old, hashlib.sha256(place.read_bytes()).hexdigest()))
        if attack == "no list":
            listed.unlink()
        elif attack == "no key":
            (home / "seal.key").unlink()
        vault.workspace().write("a", b"2\n")
        assert codes(vault.workspace().checkpoint().warnings) == ["hook.not_enabled"]
    assert not (tmp_path / "ran").exists()
    assert listed.stat().st_mode & 0o777 == 0o600 if listed.exists() else True


@pytest.mark.usefixtures("person")
@pytest.mark.needs("user-xattrs", "whiteout")
def test_a_command_cannot_plant_a_hook(vault: Vault, tmp_path: Path) -> None:
    """Where nothing keeps it from the file, avfs does not obey the file."""
    script = f"#!/bin/sh\ntouch {tmp_path}/ran\n"
    place = vault.path / "avfs" / "hooks" / "post-exec"
    plant = f"echo x > x; mkdir -p {place.parent}; printf '{script}' > {place}; chmod +x {place}"
    with Avfs(tmp_path / "home", policy=tmp_path / "policy.toml") as avfs:
        (tmp_path / "policy.toml").write_text(ALLOW_ALL)
        work = avfs.open_vault("v").workspace()
        work.exec(shell=plant, backend="checkout")
        place.parent.mkdir(exist_ok=True)
        place.write_text(script)
        place.chmod(0o755)
        assert "hook.not_enabled" in codes(work.exec("true", backend="checkout").warnings)
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_a_hook_that_hangs_is_ended(vault: Vault) -> None:
    """After its time it is killed with its children, also if one of them keeps its output open; the vault goes on."""
    vault.set_config("hooks.timeout_s", "1")
    put(vault, "pre-checkpoint", "sleep 1000 & sleep 1000")
    vault.workspace().write("a", b"2\n")
    started = time.monotonic()

    with pytest.raises(HookRefused, match="longer than 1 s"):
        vault.workspace().checkpoint()

    assert time.monotonic() - started < 60
    put(vault, "pre-checkpoint", "sleep 5 &")
    assert vault.workspace().checkpoint().outcome == "created"


def test_a_hook_may_use_avfs_without_running_itself(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that a hook makes runs no hook."""
    monkeypatch.setenv("AVFS_HOME", str(tmp_path / "home"))  # whose owner enabled it
    python = sys.executable
    inner = f"{python} -m avfs_git --vault {vault.path} checkpoint save inner"
    put(vault, "pre-checkpoint", f"echo >> {tmp_path}/count; cd {Path(__file__).parents[2]}; {inner}")
    vault.workspace().write("a", b"2\n")

    ran = spawn("--vault", str(vault.path), "checkpoint", "save", "outer")

    assert ran.status == 0, ran
    assert (tmp_path / "count").read_text() == "\n"
    assert {label for found in vault.workspace().list_checkpoints() for label in found.labels} >= {
        "one",
        "inner",
        "outer",
    }


@pytest.mark.parametrize(("number", "status", "said"), [("INT", 130, "interrupted"), ("TERM", 143, "terminated")])
def test_a_signal_in_a_hook_says_what_is_done(
    vault: Vault, tmp_path: Path, number: str, status: int, said: str
) -> None:
    """Of one that runs after an operation; one that runs before leaves it undone."""
    env = {"AVFS_HOME": str(tmp_path / "home")}
    put(vault, "post-checkpoint", f"kill -{number} $PPID; exec sleep 60")
    vault.workspace().write("a", b"2\n")
    ran = spawn("--vault", str(vault.path), "checkpoint", "save", "two", env=env)
    assert ran.status == status, ran
    assert f"{said}: the hook 'post-checkpoint' was ended; what it ran after is done" in ran.stderr
    put(vault, "pre-checkpoint", f"kill -{number} $PPID; exec sleep 60")
    vault.workspace().write("a", b"3\n")
    ran = spawn("--vault", str(vault.path), "checkpoint", "save", "three", env=env)
    assert (ran.status, "is done" in ran.stderr) == (status, False)
    assert {label for found in vault.workspace().list_checkpoints() for label in found.labels} == {"one", "two"}


def test_a_clone_brings_no_hooks(vault: Vault, tmp_path: Path) -> None:
    """Hooks of another repository never come along, whichever way a vault is made from it."""
    put(vault, "pre-checkpoint", "exit 1")
    with Avfs(tmp_path / "other") as avfs:
        avfs.clone_vault(str(vault.path), "cloned")
        avfs.create_vault("imported", source=vault.path)
        for name in ("cloned", "imported"):
            other = avfs.open_vault(name)
            assert not any(hook.installed for hook in other.list_hooks())
            other.workspace().write("x", b"1\n")
            assert other.workspace().checkpoint().outcome == "created"
