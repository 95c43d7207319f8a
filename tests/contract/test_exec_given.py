"""What a command is given: variables without secrets, a place that is really its own; and what of its text is kept."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import ApprovalNeeded, ApprovalRefused, BackendUnavailable, CommandDenied, ExecError, InvalidInput
from avfs_git.sdk import Vault
from tests.support.cli import Cli
from tests.support.commands import ALLOW_ALL, place_policy

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout"), pytest.mark.slow]

EVERYBODY = pytest.mark.usefixtures("person")
SECRET = "hunter2-Zq"


@pytest.fixture
def policy(mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's policy, also for the command line; which has its home here."""
    return place_policy(mount_dir, monkeypatch)


@pytest.fixture
def vault(mount_dir: Path, tmp_path: Path, policy: Path) -> Iterator[Vault]:
    """A vault with a file."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content\n")
    with Avfs(mount_dir / "h", policy=policy) as avfs:
        yield avfs.create_vault("v", source=source)


@EVERYBODY
def test_secrets_stay_outside(vault: Vault, policy: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks like one is left out and named; the caller and the policy let it in."""
    monkeypatch.setenv("GITHUB_TOKEN", SECRET)
    monkeypatch.setenv("NPM_TOKEN", SECRET)
    monkeypatch.setenv("PLAIN", "plain")
    policy.write_text(ALLOW_ALL)
    text = "echo ${GITHUB_TOKEN-none} ${NPM_TOKEN-none} $PLAIN"
    bare = vault.workspace().exec(shell=text, backend="checkout")
    named = vault.workspace().exec(shell=text, backend="checkout", let_in=["GITHUB_TOKEN", "NO_SUCH_TOKEN"])
    policy.write_text(ALLOW_ALL + '[environment]\nallow = ["NPM_*"]\nsecrets = ["PLAIN"]\n')
    allowed = vault.workspace().exec(shell=text, backend="checkout")

    assert (bare.stdout, bare.left_out_variables) == (b"none none plain\n", ("GITHUB_TOKEN", "NPM_TOKEN"))
    assert (named.stdout, named.left_out_variables) == (f"{SECRET} none plain\n".encode(), ("NPM_TOKEN",))
    assert (allowed.stdout, allowed.left_out_variables) == (f"none {SECRET}\n".encode(), ("GITHUB_TOKEN", "PLAIN"))
    said = cli(
        "exec", "--env", "GITHUB_TOKEN", "--backend", "checkout", "-c", "echo $GITHUB_TOKEN; echo wrong >&2; exit 1"
    )
    assert (said.stdout, said.status) == (f"{SECRET}\n".encode(), 1)
    assert "left out of its environment: PLAIN" in said.stderr


@pytest.mark.parametrize("backend", ["checkout"])
def test_a_text_with_a_secret_is_kept_without_it(vault: Vault, policy: Path, mount_dir: Path, backend: str) -> None:
    """The secret is in no commit, note, earlier checkpoint, audit or operation log, or step of a session.

    The rest of the text is kept.
    """
    policy.write_text(ALLOW_ALL)
    work = vault.workspace()
    work.prepare()
    work.write("unsaved", b"1\n")
    text = f"curl() {{ :; }}; curl -H 'Authorization: Bearer {SECRET}' && echo $$ > made"
    result = work.exec(shell=text, backend=backend, env={"API_TOKEN": SECRET})
    long = work.exec("deploy", "--password", f"{SECRET} x", backend=backend)

    assert (result.exit_code, result.command, long.exit_code) == (0, text, 127)
    assert result.commit is not None
    shown = subprocess.run(
        ["git", "-C", vault.path, "log", "-1", "--format=%B%n%N", "--notes=avfs", result.commit],
        capture_output=True,
        check=True,
    ).stdout.decode()
    assert shown.startswith("exec: a command\n")
    assert "Authorization: *** && echo" in shown or "Bearer ***" in shown or "Authorization: ***'" in shown
    assert [step.command for step in work.prepared().steps().steps][-1] == "deploy --password '***'"
    found = [path for path in (mount_dir / "h").rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert found == []
    every = subprocess.run(
        ["git", "-C", vault.path, "cat-file", "--batch-all-objects", "--batch"], capture_output=True, check=True
    ).stdout
    assert SECRET.encode() not in every
    work.prepared().finish()


def test_a_subject_is_the_first_words(vault: Vault, policy: Path) -> None:
    """As far as they are plain; the note has all of it."""
    policy.write_text(ALLOW_ALL)
    work = vault.workspace()
    work.write("unsaved", b"1\n")
    result = work.exec("touch", "made", "--", "other thing", backend="checkout")

    assert [entry.checkpoint.message.splitlines()[0] for entry in work.log(limit=2)] == [
        "exec: touch made",
        "before: touch made",
    ]
    assert result.commit is not None


@EVERYBODY
@pytest.mark.needs("fuse", "overlayfs")
def test_inside_is_what_is_really_shown(vault: Vault, policy: Path, tmp_path: Path, mount_dir: Path) -> None:
    """A path counts as inside only if the workspace is shown there: nowhere else can `--at` move the border."""
    work, host = vault.workspace(), tmp_path / "host"
    host.mkdir()
    (host / "victim").write_text("mine\n")
    policy.write_text(f'version = 1\n[[rule]]\nname = "host"\npaths = ["{host}/**"]\naction = "deny"\n')
    text = f"rm {host}/victim"
    with pytest.raises(CommandDenied):
        work.exec(shell=text)
    with pytest.raises(InvalidInput):
        work.exec(shell=text, root=Path("/"))
    with pytest.raises(BackendUnavailable, match="fuse"):
        work.exec(shell=text, root=host, backend="fuse")
    with work.mount(mount_dir / "m") as session:
        with pytest.raises(BackendUnavailable, match="mounted at"):
            work.exec(shell=text, root=host)
        assert work.exec("cat", f"{session.path}/file").stdout == b"content\n"
        assert work.exec("cat", f"{session.path}/file", root=session.path).stdout == b"content\n"
    shown = work.exec(shell=text, root=host, backend="overlay")

    assert (shown.mountpoint, shown.exit_code) == (host, 1)
    assert (host / "victim").read_text() == "mine\n"
    (tmp_path / "link").symlink_to(host)
    assert work.exec("pwd", root=tmp_path / "link", backend="overlay").stdout == f"{host}\n".encode()


@EVERYBODY
@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("overlay", marks=pytest.mark.needs("fuse", "overlayfs")),
        pytest.param("fuse", marks=pytest.mark.needs("fuse")),
        "checkout",
    ],
)
def test_a_link_leads_no_command_outside(vault: Vault, tmp_path: Path, backend: str) -> None:
    """The directory that a command begins in is in the workspace, as the decision has it.

    Links inside of it are followed.
    """
    (tmp_path / "victim").write_text("mine\n")
    work = vault.workspace()
    work.make_dir("d")
    work.symlink("inside", b"d")
    for name, target in (("out", bytes(tmp_path)), ("up", b"../..")):
        work.symlink(name, target)
        with pytest.raises(ExecError, match="outside of the workspace"):
            work.exec("rm", "-f", "victim", cwd=name, backend=backend)

    assert work.exec("pwd", "-P", cwd="inside", backend=backend).stdout.endswith(b"/d\n")
    assert (tmp_path / "victim").exists()


OPTIONS: dict[str, object] = {
    "root": None,  # a place of the test's own
    "isolate": True,
    "network": True,
    "readonly": True,
    "writable": True,
    "checkpoint": False,
    "commit": False,
    "commit_failed": False,
    "timeout_ms": 1000,
    "grace_ms": 1,
    "message": "another",
    "max_output": 10,
    "backend": "checkout",
    "cwd": "/d",
    "env": {"A": "b"},
    "let_in": ["GITHUB_TOKEN"],
    "stdin": b"other",
    "terminal": True,
}


def test_an_approval_is_for_everything_that_changes_what_is_done(vault: Vault, tmp_path: Path) -> None:
    """With any other option or input the token does not count.

    With the same it does, also where a descriptor is read.
    """
    work = vault.workspace()
    work.make_dir("d")
    tokens = {}
    for isolate in (False, True):
        with pytest.raises(ApprovalNeeded) as needed:
            work.exec(shell="cat; exit 0; curl https://example.org", stdin=b"input", isolate=isolate)
        vault.policy.grant(str(needed.value.details["approval"]))
        tokens[isolate] = str(needed.value.details["token"])
    for name, value in OPTIONS.items():
        more: dict[str, object] = {"stdin": b"input", name: tmp_path / "at" if name == "root" else value}
        is_isolated = name == "network"  # which no other command may ask for
        if is_isolated:
            more["isolate"] = True
        with pytest.raises(ApprovalRefused, match="another command"):
            work.exec(shell="cat; exit 0; curl https://example.org", approve=tokens[is_isolated], **more)  # type: ignore[arg-type]  # as named
    token = tokens[False]
    reading, writing = os.pipe()
    os.write(writing, b"input")
    os.close(writing)

    result = work.exec(shell="cat; exit 0; curl https://example.org", stdin=reading, approve=token)
    os.close(reading)
    assert result.stdout == b"input"
    asked = next(entry for entry in vault.policy.audit() if entry.event == "proxy_exec_requested")
    assert len(str(asked.details["stdin"])) == 64


def test_git_of_avfs_gets_nothing_from_outside(
    vault: Vault, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that make git run, load or write something reach commands at most, and never avfs's own git."""
    marker = tmp_path / "marker"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {marker}\n")
    script.chmod(0o755)
    for name in (
        "GIT_EXTERNAL_DIFF",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_ASKPASS",
        "GIT_EDITOR",
        "GIT_PAGER",
        "GIT_PROXY_COMMAND",
    ):
        monkeypatch.setenv(name, str(script))
    config = {"core.fsmonitor": str(script), "core.hooksPath": str(tmp_path), "gc.recentObjectsHook": str(script)}
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(config)))
    for number, (key, value) in enumerate(config.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    policy.write_text(ALLOW_ALL)
    work = vault.workspace()
    work.exec(shell="echo x > x", backend="checkout")
    work.checkpoint("one")
    vault.fork("other").write("y", b"y\n")
    work.merge("other")
    work.diff(patches=True)
    vault.gc()
    vault.doctor()

    assert not marker.exists()


def test_times_are_not_negative(vault: Vault) -> None:
    """Nor is what is no number a time; nothing is done then."""
    work = vault.workspace()
    before = work.operations()
    with pytest.raises(InvalidInput):
        work.exec("true", grace_ms=-1)
    for idle_s in (-1, math.nan):
        with pytest.raises(InvalidInput):
            work.prepare(idle_s=idle_s)
    assert work.operations() == before
