"""git's logs of remote-tracking branches: maintenance shortens them as `git reflog expire` does."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.gitstore.remote.reflogs import list_old_logs
from tests.support.servers import git, make_bare

pytestmark = pytest.mark.needs("git")

DAY_S = 86_400
LOG = "logs/refs/remotes/origin/main"


def _fill(bare: Path, work: Path) -> list[str]:
    """Push three commits; the last one takes the place of the second. Returns their ids."""
    git("clone", "-q", str(bare), str(work), cwd=bare)
    ids = []
    for number in range(3):
        if number == 2:
            git("reset", "-q", "--hard", "HEAD~1", cwd=work)
        git("commit", "-q", "--allow-empty", "-m", str(number), cwd=work)
        git("push", "-q", "-f", "origin", "HEAD:main", cwd=work)
        ids.append(git("rev-parse", "HEAD", cwd=work))
    git("push", "-q", "origin", f"{ids[1]}:refs/heads/side", cwd=work)
    return ids


@pytest.mark.parametrize("setting", [None, ("gc.reflogExpire", "7.days.ago"), ("gc.refs/remotes/*.reflogExpire", "never")])
def test_logs_expire_as_those_of_git(tmp_path: Path, setting: tuple[str, str] | None) -> None:
    """By age, sooner where the branch does not reach a commit any more, and by the repository's own settings."""
    bare = make_bare(tmp_path / "bare.git")
    first, second, third = _fill(bare, tmp_path / "work")
    with Avfs(tmp_path / "home") as avfs:
        avfs.clone_vault(str(bare), "v")
        vault = avfs.open_vault("v")
        log = vault.path / LOG
        moves = [(first, second, 200), (second, first, 100), (first, second, 40), (second, third, 35), (third, third, 5)]
        now_s = int(time.time())
        lines = [f"{old} {new} A <a@b> {now_s - days * DAY_S} +0000\t{days}\n" for old, new, days in moves]
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(lines))
        if setting is not None:
            git("config", *setting, cwd=vault.path)
        oracle = tmp_path / "oracle"
        shutil.copytree(vault.path, oracle)
        git("reflog", "expire", "--all", cwd=oracle)
        wanted = (oracle / LOG).read_text()

        dry = {step.name: step.amount for step in vault.maintain(dry_run=True, every_step=True).steps}
        result = vault.maintain(every_step=True)

        assert result.warnings == ()
        assert dry["logs"] == 1
        assert log.read_text() == wanted
        done = next(step for step in result.steps if step.name == "logs")
        assert done.handled == len(lines) - wanted.count("\n")
        assert (wanted == "".join(lines)) == (setting is not None and setting[1] == "never")
        assert list_old_logs(vault.path) == ([] if done.handled else ["refs/remotes/origin/main"])
