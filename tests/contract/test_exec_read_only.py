"""A command that is taken for read-only cannot change the workspace or its vault, however wrong the decision is.

The wrong decision is a program that has the name of one that reads, which no text tells.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import BackendUnavailable
from avfs_git.host.mounts.mounts import list_mounts
from avfs_git.host.processes.runner.handle import readonly_mount
from avfs_git.proxy.exec.envelope import View
from avfs_git.proxy.policy.decision import Category
from avfs_git.sdk import Workspace
from avfs_git.sdk.workspace.commands import Prepared
from tests.support.cli import Cli
from tests.support.commands import BACKENDS

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout"), pytest.mark.slow]

EVERYBODY = pytest.mark.usefixtures("person")
HARM = """#!/bin/sh
echo harm > file
echo harm > new
rm -rf doc
mv doc gone
git branch -q -D beside
git commit -q --allow-empty -m harm
echo harm > "$AVFS_VAULT/HEAD"
echo harm > "$AVFS_VAULT/avfs/policy.toml"
/bin/cat file
exit 3
"""


@pytest.fixture
def work(mount_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace with a commit, a fork beside it, and a change that is not saved; `head` does harm."""
    monkeypatch.setenv("AVFS_HOME", str(mount_dir / "h"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(mount_dir / "config"))
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "head").write_text(HARM)
    (programs / "head").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    source = tmp_path / "source"
    (source / "doc").mkdir(parents=True)
    (source / "file").write_text("content\n")
    (source / "doc" / "text").write_text("text\n")
    with Avfs(mount_dir / "h") as avfs:
        vault = avfs.create_vault("v", source=source)
        vault.fork("beside")
        work = vault.workspace("main")
        work.write("unsaved", b"unsaved\n")
        yield work
    end = time.monotonic() + 30
    while mounted(mount_dir) and time.monotonic() < end:  # what stood on a leash goes by itself
        time.sleep(0.02)
    assert not mounted(mount_dir)


def mounted(directory: Path) -> list[Path]:
    """List what is mounted below a directory."""
    return [mount.directory for mount in list_mounts() if directory in mount.directory.parents]


def refs(work: Workspace) -> bytes:
    """List what the vault's refs and HEAD are."""
    git_dir = work.vault.path
    head = (git_dir / "HEAD").read_bytes()
    return head + subprocess.run(["git", "-C", git_dir, "for-each-ref"], capture_output=True, check=True).stdout


@EVERYBODY
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_wrong_decision_changes_nothing(work: Workspace, backend: str) -> None:
    """Not the files, not the refs, not what avfs keeps in the vault.

    What is unsaved stays unsaved, and the answer says why.
    """
    before = refs(work)
    result = work.exec("head", "file", backend=backend)

    assert (result.decision.categories, result.view) == ((Category.READ_ONLY,), View.READ_ONLY)
    assert (result.exit_code, result.stdout) == (3, b"content\n"), result.stderr
    assert (result.commit, result.checkpoint, result.changed_files) == (None, None, ())
    assert [warning.code for warning in result.warnings] == ["exec.read_only_view"]
    assert "--writable" in result.warnings[0].message
    assert refs(work) == before
    assert not (work.vault.path / "avfs" / "policy.toml").exists()
    assert work.read("doc/text") == b"text\n"
    assert [change.path for change in work.status().changed_files] == [b"unsaved"]


@EVERYBODY
@pytest.mark.needs("bubblewrap")
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_isolated_command_has_the_same_view(work: Workspace, backend: str) -> None:
    """Bubblewrap shows the workspace once more, and makes nothing writable."""
    result = work.exec(
        shell="echo x > file; echo x > new; rm -r doc; cat file", backend=backend, isolate=True, readonly=True
    )

    assert (result.view, result.stdout) == (View.READ_ONLY, b"content\n"), result.stderr
    assert [change.path for change in work.status().changed_files] == [b"unsaved"]


WAYS = r"""#!/bin/bash
try() { if "$@" > /dev/null 2>&1; then echo "DID: $*"; fi; }
V=$AVFS_VAULT M=$AVFS_MOUNTPOINT
try touch "$M/x"; try chmod 777 "$M/file"; try setfattr -n user.a -v b "$M/file"; try truncate -s0 "$M/file"
try ln "$M/file" "$M/l"; try touch -d 2001-01-01 "$M/file"; try chattr +i "$M/file"
try python3 -c 'import os, sys; os.open(sys.argv[1], os.O_RDWR)' "$M/file"
for at in "$V" "$V/worktrees" "$V/worktrees/main" "$V/refs/heads" "$V/objects" "$V/avfs"; do try touch "$at/x"; done
try git update-ref refs/heads/evil HEAD; try git tag evil; try git config a.b c; try git add -A; try git fetch .
try git checkout -b evil; try git commit --allow-empty -m x; try git reset --hard; try git worktree add "$M/../w"
for at in /proc/[0-9]*; do try touch "$at/root$M/x"; done
try mount -o remount,rw "$M"; try mount -o remount,bind,rw "$M"; try mount -o remount,bind,rw "$V"
try umount "$M"; try umount -l "$M"
try unshare -m sh -c "mount -o remount,bind,rw $M || umount $M"
try unshare -rm sh -c "mount -o remount,bind,rw $M || umount $M"
try nsenter -t 1 -m umount "$M"; try nsenter -t 1 -m touch "$M/x"; try nsenter -t 1 -m mount -o remount,bind,rw "$V"
echo end
"""


@EVERYBODY
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_way_leads_around_the_view(work: Workspace, tmp_path: Path, backend: str) -> None:
    """Nothing that a program commonly writes with is allowed; nobody takes the mounts away, root neither."""
    (tmp_path / "programs" / "head").write_text(WAYS)
    before = refs(work)
    result = work.exec("head", backend=backend)

    assert result.stdout == b"end\n"
    assert refs(work) == before
    assert [change.path for change in work.status().changed_files] == [b"unsaved"]


@EVERYBODY
@pytest.mark.needs("fuse")
def test_others_in_a_live_tree_go_on(work: Workspace, mount_dir: Path) -> None:
    """Only the command is kept from writing; and it sees what others wrote."""
    with work.mount(mount_dir / "m") as session:
        result = work.exec("head", "file")
        (session.path / "file").write_text("other\n")
        seen = work.exec("cat", "file")

        assert (result.view, result.stdout, seen.view, seen.stdout) == (
            View.READ_ONLY,
            b"content\n",
            View.READ_ONLY,
            b"other\n",
        )
        assert seen.warnings == ()
        assert (session.path / "doc" / "text").read_text() == "text\n"


@EVERYBODY
@pytest.mark.parametrize("backend", BACKENDS)
def test_git_reads(work: Workspace, backend: str) -> None:
    """The usual commands see the workspace as it is; none of them needs to write."""
    for text in (
        "git status --porcelain",
        "git diff HEAD --stat",
        "git log --oneline -1",
        "git describe --all",
        "git grep con",
    ):
        result = work.exec(*text.split(), backend=backend)
        assert (result.exit_code, result.view) == (0, View.READ_ONLY), (text, result.stderr)
    assert work.exec("git", "status", "--porcelain", backend=backend).stdout == b"?? unsaved\n"


def test_a_scan_is_not_made(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither before nor after; and the next command need not look at more than before."""
    epoch = work._opened.lock.epoch
    monkeypatch.setattr("avfs_git.proxy.exec.commits.read_status", None)
    monkeypatch.setattr("avfs_git.proxy.exec.commits.save_checkpoint", None)

    assert work.exec("cat", "file").stdout == b"content\n"
    assert work._opened.lock.epoch == epoch


@EVERYBODY
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_way_out(work: Workspace, mount_dir: Path, backend: str) -> None:
    """On demand the command may write: then the state before is saved, and what it does is committed."""
    result = work.exec("head", "file", backend=backend, writable=True)

    assert (result.view, result.stdout) == (View.READ_WRITE, b"harm\n")
    assert result.checkpoint is not None
    assert {b"file", b"new"} <= {change.path for change in result.changed_files}
    work.restore(result.checkpoint)
    assert work.read("file") == b"content\n"


@EVERYBODY
@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_view_nothing_is_lost(work: Workspace, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the view's mounts are refused, the command runs as one that changes files: saved before, told after."""
    refused = readonly_mount(Path("/no/such/directory"))
    monkeypatch.setattr(f"avfs_git.backends.{backend}.make_readonly", lambda *_: (refused,))
    with pytest.raises(BackendUnavailable):
        work.exec("head", "file", backend=backend, readonly=True)
    result = work.exec("head", "file", backend=backend)

    assert (result.view, result.stdout) == (View.READ_WRITE, b"harm\n"), result.stderr
    assert [warning.code for warning in result.warnings] == ["exec.no_read_only_view"]
    assert result.checkpoint is not None
    assert {b"file", b"new"} <= {change.path for change in result.changed_files}
    work.restore(result.checkpoint)
    assert (work.read("file"), work.read("unsaved")) == (b"content\n", b"unsaved\n")


def test_a_rule_is_a_way_out(work: Workspace, mount_dir: Path, tmp_path: Path) -> None:
    """One that wants the state saved before a command expects it to write."""
    policy = tmp_path / "policy.toml"
    policy.write_text('version = 1\n[[rule]]\nname = "own"\ncommands = ["head"]\naction = "allow_with_checkpoint"\n')
    with Avfs(mount_dir / "h", policy=policy) as avfs:
        result = avfs.open_vault("v").workspace("main").exec("head", "file")

    assert (result.view, result.stdout, result.checkpoint is not None) == (View.READ_WRITE, b"harm\n", True)


@EVERYBODY
@pytest.mark.needs("fuse", "overlayfs")
def test_a_prepared_session_changes_its_view(work: Workspace) -> None:
    """The tree stays mounted from a command that reads to one that writes and back."""
    with Prepared(work._at, work).begin() as prepared:
        assert prepared.exec("cat", "file").view is View.READ_ONLY
        runner = prepared._executor._kept
        assert prepared.exec(shell="echo 1 > new; mkdir d").view is View.READ_WRITE
        assert prepared.exec("head", "file").stdout == b"content\n"
        assert prepared.exec(shell="rmdir d; mv doc moved; ls").stdout == b"file\nmoved\nnew\nunsaved\n"
        work.write("beside", b"beside\n")
        assert prepared.exec("cat", "beside").stdout == b"beside\n"
        assert prepared.exec("head", "file").exit_code == 3
        assert prepared._executor._kept is runner
        prepared.finish()
    assert work.read("file") == b"content\n"


def test_the_plan_says_the_view(work: Workspace, cli: Cli) -> None:
    """Before anything runs; and the two options that ask for opposite views exclude each other."""
    plans = [
        cli("exec", "-n", "--json", *words).result
        for words in (["--", "cat"], ["--", "rm", "f"], ["--writable", "--", "cat"])
    ]

    assert [(plan["view"], plan["would_checkpoint"]) for plan in plans] == [
        ("read_only", False),
        ("read_write", True),
        ("read_write", True),
    ]
    assert cli("exec", "--writable", "--readonly", "--", "cat").status == 125
