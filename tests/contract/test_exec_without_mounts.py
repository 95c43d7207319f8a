"""`exec` without mounts: a typed error for a backend that was asked for, plain files where avfs chooses the backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from avfs_git import Avfs
from avfs_git.cli.commands.running.exec import command as proxy_exec
from avfs_git.cli.commands.upkeep.schema import describe
from avfs_git.host.mounts.mounts import list_mounts
from avfs_git.sdk import Workspace
from tests.support.commands import ALLOW_ALL, place_policy
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout", "root"), pytest.mark.slow]

SCHEMA = describe(proxy_exec)
WRAPPERS = {
    # The device is there, and is a plain file.
    "no device": ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /dev/fuse && exec "$@"'],
    # What it takes to mount anything, or to make a namespace.
    "no right": ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"],
}
HOW = pytest.mark.parametrize("how", list(WRAPPERS))


@pytest.fixture
def work(mount_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace with a file, of a vault that the command line finds, too."""
    policy = place_policy(mount_dir, monkeypatch)
    policy.write_text(ALLOW_ALL)
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content\n")
    with Avfs(mount_dir / "h", policy=policy) as avfs:
        yield avfs.create_vault("v", source=source).workspace()
    assert not [mount.directory for mount in list_mounts() if mount_dir in mount.directory.parents]


def _wrap(how: str, mount_dir: Path) -> list[str]:
    """Tell what begins the command line of a program that cannot mount FUSE."""
    (mount_dir / "empty").touch()
    return [*WRAPPERS[how], *([str(mount_dir / "empty")] if how == "no device" else [])]


def run(how: str, mount_dir: Path, *arguments: str, path: Path | None = None) -> tuple[int, dict[str, Any]]:
    """Run `avfs exec` where no FUSE can be mounted; give its status and its one document, which follows the schema."""
    program = [*_wrap(how, mount_dir), sys.executable, "-m", "avfs_git", "exec", "--json", *arguments]
    search = os.pathsep.join([*([os.fspath(path)] if path is not None else []), os.environ["PATH"]])
    ran = subprocess.run(program, capture_output=True, check=False, env={**os.environ, "PATH": search})
    assert (ran.stderr, ran.stdout.count(b"\n")) == (b"", 1)
    document: dict[str, Any] = json.loads(ran.stdout)
    jsonschema.validate(document, SCHEMA)
    return ran.returncode, document


def test_a_chroot_whose_root_is_no_mount_point_is_named(work: Workspace, mount_dir: Path) -> None:
    """Its mounts cannot be made private: the error names the cause and the way out, which is one."""
    make = """
        root=$0/root bind=$1; shift
        mount -t tmpfs none "$0" && mkdir "$root" && { [ -z "$bind" ] || mount --bind "$root" "$root"; } || exit 99
        for each in /*; do
            if [ -h "$each" ]; then cp -a "$each" "$root$each"
            elif [ -d "$each" ]; then mkdir "$root$each" && mount --rbind "$each" "$root$each"
            fi
        done
        exec chroot "$root" "$@"
    """
    (mount_dir / "tmpfs").mkdir()
    program = [sys.executable, "-m", "avfs_git", "exec", "--json", "--backend", "checkout", "-c", "echo x > made"]
    documents = []
    for bind in ("", "bind"):
        wrapped = ["unshare", "--mount", "sh", "-c", make, os.fspath(mount_dir / "tmpfs"), bind, *program]
        documents.append(json.loads(subprocess.run(wrapped, capture_output=True, check=False).stdout))

    (reason,) = documents[0]["error"]["details"]["reasons"]
    assert "the root directory is no mount point" in reason
    assert "`mount --bind DIR DIR`" in reason
    assert documents[1]["success"], documents[1]
    assert work.exists("made")


@HOW
@pytest.mark.parametrize("backend", ["overlay", "fuse"])
def test_a_mount_that_fails_is_one_document(work: Workspace, mount_dir: Path, how: str, backend: str) -> None:
    """A backend that was asked for by name and cannot be: a typed error that says why, and nothing has run."""
    status, document = run(how, mount_dir, "--backend", backend, "-c", "echo x > made")

    error = document["error"]
    assert (status, document["success"], error["code"]) == (125, False, "exec.backend_unavailable")
    assert error["details"]["backend"] == backend
    assert [reason.partition(":")[0] for reason in error["details"]["reasons"]] == [backend]
    assert error["hint"]
    assert not work.exists("made")


@HOW
def test_the_command_runs_all_the_same_where_avfs_chooses(work: Workspace, mount_dir: Path, how: str) -> None:
    """The choice comes to plain files, and the document tells why it passed over the others."""
    status, document = run(how, mount_dir, "-c", "echo x > made")

    result = document["result"]
    assert (status, result["backend"]) == (0, "checkout")
    assert [reason.partition(":")[0] for reason in result["backend_reasons"]] == ["overlay", "fuse"]
    assert [change["path"] for change in result["changed_files"]] == ["made"]
    assert work.read("made") == b"x\n"


def test_commands_at_once_wait_for_their_turn(work: Workspace, mount_dir: Path) -> None:
    """The try of one to mount, which fails, is no mount to another."""
    program = [
        *_wrap("no device", mount_dir),
        sys.executable,
        "-m",
        "avfs_git",
        "exec",
        "-c",
        "echo x >> made; sleep 0.1",
    ]
    running = [subprocess.Popen(program) for _ in range(3)]

    assert [ran.wait() for ran in running] == [0] * len(running)
    assert work.read("made") == b"x\n" * len(running)


def test_a_command_is_told_at_once_that_its_own_fork_is_in_use(work: Workspace, mount_dir: Path) -> None:
    """It would wait for its own end: the error names it and since when.

    Other forks, and what only looks, are not refused.
    """
    work.vault.fork("other", source=work.fork)
    verbs = ["write made", "checkpoint save", "fork create inner", "exec -- true"]
    avfs = f"{sys.executable} -m avfs_git --json"
    text = "; ".join(f"echo x | {avfs} {verb}" for verb in [*verbs, "status", "--fork other write made"])
    text += f"; echo x | {sys.executable} -m avfs_git write made"  # as text: it would say that it waits
    status, document = run("no right", mount_dir, "-c", text)

    said = [json.loads(line) for line in document["result"]["stdout"].splitlines()]
    refused, allowed = said[: len(verbs)], said[len(verbs) :]
    assert [one["error"]["code"] for one in refused] == ["workspace.busy"] * len(verbs)
    assert all(one["error"]["details"]["holder"].startswith("'echo x") for one in refused)
    assert all("would wait for it" in one["error"]["hint"] for one in refused)
    assert [one["success"] for one in allowed] == [True, True]
    assert (status, document["result"]["stderr"].partition(" is in use")[0]) == (23, f"error: workspace '{work.fork}'")


def test_a_program_that_runs_a_command_is_not_in_it(work: Workspace, mount_dir: Path) -> None:
    """What it starts beside the command waits for the command, and goes on."""
    started = mount_dir / "started"
    reading, writing = os.pipe()
    with ThreadPoolExecutor(1) as threads:
        try:
            text = f"touch {started}; read line"
            command = threads.submit(work.exec, shell=text, stdin=reading, backend="checkout")
            wait_for(lambda: started.exists() or command.done())
            argv = [sys.executable, "-m", "avfs_git", "mkdir", "made"]
            with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as beside:
                assert beside.stderr is not None
                told = beside.stderr.readline()
                os.close(writing)
                writing = -1
        finally:
            if writing >= 0:
                os.close(writing)
        assert command.result().backend == "checkout"
    os.close(reading)
    assert (f"waiting for fork '{work.fork}', which is in use by 'touch' " in told, beside.returncode) == (True, 0)
    assert work.exists("made")


@HOW
def test_what_only_reads_is_saved_and_compared_where_no_view_can_be_mounted(
    work: Workspace, mount_dir: Path, how: str
) -> None:
    """A wrong decision loses nothing: what was unsaved is in a checkpoint, and what the command changed is told."""
    (mount_dir / "config" / "avfs" / "policy.toml").unlink()
    programs = mount_dir / "programs"
    programs.mkdir()
    (programs / "head").write_text("#!/bin/sh\necho harm > unsaved\n")
    (programs / "head").chmod(0o755)
    # Written without rights as well: root with all rights makes a layer that nobody else can read.
    subprocess.run(
        [*_wrap(how, mount_dir), sys.executable, "-m", "avfs_git", "write", "unsaved"], input=b"unsaved\n", check=True
    )
    status, document = run(how, mount_dir, "--", "cat", "unsaved", path=programs)
    assert (status, document["result"]["stdout"], document["result"]["commit"]) == (0, "unsaved\n", None)
    if how == "no device":  # namespaces are there, and with them a read-only copy
        assert document["result"]["view"] == "read_only"
        return
    work.write("unsaved", b"later\n")
    status, document = run(how, mount_dir, "--", "head", path=programs)

    result = document["result"]
    assert (status, result["view"], result["decision"]["categories"]) == (0, "read_write", ["read_only"])
    assert [warning["code"] for warning in document["warnings"]] == ["exec.no_read_only_view"]
    assert (result["checkpoint"] is not None, [change["path"] for change in result["changed_files"]]) == (
        True,
        ["unsaved"],
    )
    work.restore(result["checkpoint"])
    assert work.read("unsaved") == b"later\n"
