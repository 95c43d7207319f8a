"""What of its vault a command sees and may change: what its git needs, and nothing that avfs or git obeys later."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.model import Identity
from avfs_git.sdk import Vault, Workspace
from tests.support.commands import ALLOW_ALL, BACKENDS

pytestmark = [
    pytest.mark.needs("git", "user-xattrs", "whiteout", "userns"),
    pytest.mark.slow,
    pytest.mark.usefixtures("person"),
]

PROJECT = Path(__file__).parents[2]
ADA = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; V=$AVFS_VAULT; "


@pytest.fixture
def vault(mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    """A vault with two forks, whose commands are all let in."""
    config = mount_dir / "config" / "avfs" / "policy.toml"
    config.parent.mkdir(parents=True)
    config.write_text(ALLOW_ALL)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(mount_dir / "config"))
    home = mount_dir / "h"
    with Avfs(home, identity=Identity("A", "a@b"), policy=config) as avfs, avfs.create_vault("v") as made:
        with made.fork("work") as work, made.fork("other") as other:
            work.write("file", b"content\n")
            work.checkpoint("start")
            other.exec("git", "status")
        yield made


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """How the workspace is shown."""
    return str(request.param)


@pytest.fixture
def work(vault: Vault) -> Iterator[Workspace]:
    """The fork that commands run in."""
    with vault.workspace("work") as made:
        yield made


def state_of(vault: Vault) -> dict[str, bytes]:
    """Read what a command is not to change."""
    places = [vault.path / "config", *(vault.path / "hooks").glob("*"), *(vault.path / "avfs" / "hooks").glob("*")]
    places += [
        path
        for path in (vault.path / "worktrees").rglob("*")
        if path.name in ("commondir", "gitdir", "config.worktree")
    ]
    places += [path for path in (vault.path / "worktrees" / "other").rglob("*") if path.is_file()]
    for name in ("HEAD", "info", "objects/info", "refs/replace", "commondir", "config.worktree", "index", "remotes"):
        places += [path for path in (vault.path / name, *(vault.path / name).rglob("*")) if path.is_file()]
    return {str(path): path.read_bytes() for path in places}


def test_avfs_is_hidden(work: Workspace, backend: str) -> None:
    """Its directory holds nothing but a file that says so, and an avfs that is started there says it, too."""
    result = work.exec(shell="ls -A $AVFS_VAULT/avfs; cat $AVFS_VAULT/avfs/*", backend=backend)
    assert result.stdout.decode().split("\n") == ["format", "hidden from commands", ""], result.stderr

    program = "import sys; from avfs_git.cli.app import main; sys.argv[0] = 'avfs'; main()"
    shell = f'{ADA} "$PY" -c "{program}" --vault $V --fork work status'
    asked = work.exec(shell=shell, backend=backend, env={"PY": sys.executable, "PYTHONPATH": str(PROJECT)})
    assert (asked.exit_code, b"hidden from commands" in asked.stderr) == (17, True), asked.stderr


_PLANTS = {
    "hook of git": "mkdir -p $V/hooks; echo exit 1 > $V/hooks/pre-commit; chmod +x $V/hooks/pre-commit",
    "hook of git, moved": "mkdir $V/h; mv $V/hooks $V/gone; mv $V/h $V/hooks",
    "hook of avfs": "mkdir -p $V/avfs/hooks; echo exit 1 > $V/avfs/hooks/post-exec; chmod +x $V/avfs/hooks/post-exec",
    "configuration": "git config core.fsmonitor /tmp/evil",
    "configuration, written": "echo '[core]fsmonitor=/tmp/evil' >> $V/config",
    "configuration, replaced": "cp $V/config $V/c; echo '[a]b=c' >> $V/c; mv -f $V/c $V/config; rm -f $V/c",
    "configuration of the tree": "git config extensions.worktreeConfig true; git config --worktree core.fsmonitor "
    "/tmp/evil",
    "another repository": "mkdir -p evil; D=$(git rev-parse --git-dir); echo $PWD/evil > $D/commondir; mv -f "
    "$D/gitdir $D/g",
    "another fork's tree": "echo x > $V/worktrees/other/HEAD; rm -rf $V/worktrees/other",
    "a working tree": "git worktree add -q /tmp/avfs-never-$$ HEAD",
    "an approval": "mkdir -p $V/avfs/approvals; echo '{}' > $V/avfs/approvals/x",
    "ignore rules": "echo '*' >> $V/info/exclude",
    "attributes": "mkdir -p $V/info; echo '* merge=union' > $V/info/attributes",
    "grafts": "mkdir -p $V/info; git rev-parse HEAD > $V/info/grafts",
    "borrowed objects": "mkdir -p $V/objects/info; echo /tmp > $V/objects/info/alternates",
    "a replaced commit": "git replace -f HEAD $(git commit-tree -m x HEAD^{tree})",
    "another HEAD": "git -C $V symbolic-ref HEAD refs/heads/other; echo ref: refs/heads/other > $V/HEAD; rm -f $V/HEAD",
    "the vault as a working tree": "echo . > $V/commondir; echo x > $V/index; echo '[core]fsmonitor=/x' > "
    "$V/config.worktree",
    "a remote": "mkdir $V/remotes; echo 'URL: /tmp/evil' > $V/remotes/origin",
    "avfs moved": "mv $V/avfs $V/avfs2 && mkdir $V/avfs",
}


def test_nothing_can_be_planted_for_later(vault: Vault, work: Workspace, backend: str) -> None:
    """Whatever a command leaves in the vault, what is obeyed or run there later is what it was."""
    work.exec("git", "status", backend=backend)  # which makes what git needs
    before = state_of(vault)
    for what, plant in _PLANTS.items():
        work.exec(shell=f"{ADA} {plant}; true", backend=backend)
        assert state_of(vault) == before, what
    assert not (vault.path / "avfs" / "approvals" / "x").exists()


_WAITS = """
    D=$(git rev-parse --git-dir)
    for name in $D/HEAD $D/index $D/ORIG_HEAD $D/MERGE_HEAD $D/logs/HEAD $V/shallow $V/packed-refs $V/objects/pack/x.keep \
        $V/objects/pack/multi-pack-index; do mv -f $name $name.was; mkfifo $name; done; rm -f $D/*.was; true
"""


def test_what_would_keep_others_waiting_is_removed(vault: Vault, work: Workspace, backend: str) -> None:
    """A pipe in place of a file of git's holds up neither avfs nor the next git; the answer names it."""
    work.exec("git", "status", backend=backend)
    result = work.exec(shell=f"{ADA} {_WAITS}", backend=backend)

    assert {warning.code for warning in result.warnings} == {"exec.planted"}, result.stderr
    assert any("worktrees/work/HEAD" in warning.message for warning in result.warnings)
    assert not [path for path in vault.path.rglob("*") if path.is_fifo()]
    assert work.exec("git", "status", backend=backend).exit_code == 0
    vault.gc()


def test_nothing_is_removed_where_a_link_leads(work: Workspace, tmp_path: Path, backend: str) -> None:
    """A directory of the vault that a command exchanges for a link sends avfs nowhere else."""
    os.mkfifo(tmp_path / "pipe")
    plant = "ln -s $T $(git rev-parse --git-dir)/link; mv $V/objects/pack $V/objects/p; ln -s $T $V/objects/pack"
    work.exec(shell=f"{ADA} T={tmp_path}; {plant}", backend=backend)
    assert (tmp_path / "pipe").is_fifo()


def test_git_works_as_it_does_in_a_plain_repository(vault: Vault, work: Workspace, backend: str) -> None:
    """Commits, branches, a stash, a tag, a rebase and a deleted branch, packed or not."""
    steps = """
        set -e
        echo 1 > a; git add a; git commit -qm one; git branch side; git tag t
        echo 2 > a; git stash -q; git stash pop -q; git commit -qam two
        git checkout -q side; echo 3 > b; git add b; git commit -qm three; git checkout -q work
        git rebase -q side; git branch -D side; git worktree list; git reflog; git fsck
    """
    result = work.exec(shell=f"{ADA} {steps}", backend=backend)
    again = work.exec(shell=f"{ADA} git branch more; git branch -D more", backend=backend)

    assert (result.exit_code, again.exit_code) == (0, 0), result.stderr
    assert work.read("a") == b"2\n"
    assert b"other" in result.stdout  # what the others have checked out stays checked out
    subprocess.run(["git", "-C", vault.path, "fsck", "--strict"], check=True, capture_output=True)


def test_a_packed_branch_can_be_deleted_inside(vault: Vault, work: Workspace) -> None:
    """Git replaces `packed-refs` for that by renaming, beside what is read-only."""
    subprocess.run(["git", "-C", vault.path, "branch", "packed", "work"], check=True)
    subprocess.run(["git", "-C", vault.path, "pack-refs", "--all"], check=True)
    result = work.exec("git", "branch", "-D", "packed")
    assert result.exit_code == 0, result.stderr
    assert "packed" not in (vault.path / "packed-refs").read_text()


def test_refs_of_avfs_cannot_be_moved_from_inside(vault: Vault, work: Workspace, backend: str) -> None:
    """What a command may move are branches and tags."""
    read = ["git", "-C", str(vault.path), "for-each-ref", "--format=%(refname) %(objectname)", "refs/avfs"]
    before = subprocess.run(read, check=True, capture_output=True).stdout
    result = work.exec(
        shell="for r in sidecar checkpoints; do git update-ref refs/avfs/$r/work/start HEAD; done; rm -rf "
        "$AVFS_VAULT/refs/avfs",
        backend=backend,
    )
    assert result.exit_code
    assert subprocess.run(read, check=True, capture_output=True).stdout == before


@pytest.mark.needs("fuse", "overlayfs")
def test_a_prepared_session_hides_it_in_every_command(vault: Vault, work: Workspace) -> None:
    """Also after the mount was made anew, and between reading and writing views."""
    with work.prepare() as session:
        for number in range(3):
            found = session.exec(
                shell=f"ls -A $AVFS_VAULT/avfs; echo {number} > n; mkdir -p d/{number}; mv d/{number} e{number}"
            )
            assert (found.exit_code, found.stdout) == (0, b"format\n"), found.stderr
            assert session.exec("cat", "n").stdout == b"%d\n" % number
            vault.workspace("work").write("file", b"%d\n" % number)
            assert session.exec("git", "mv", "file", f"f{number}").exit_code == 0
            assert session.exec("git", "mv", f"f{number}", "file").exit_code == 0
