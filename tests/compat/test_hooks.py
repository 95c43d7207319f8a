"""The hooks that are shipped for vaults, run by git."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from avfs_git.sdk import Avfs

HOOKS = Path(__file__).parents[2] / "hooks"


def _git(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *args], cwd=cwd, capture_output=True, text=True, check=False)


def test_a_push_cannot_move_what_belongs_to_avfs(tmp_path: Path) -> None:
    """With the update hook, a push can move branches but not refs under refs/avfs/, even where they are not hidden."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"1")
        vault.workspace().checkpoint("one")
        (vault.path / "hooks").mkdir()
        shutil.copy(HOOKS / "update", vault.path / "hooks")
        assert _git("config", "--unset", "transfer.hideRefs", cwd=vault.path).returncode == 0
        clone = tmp_path / "clone"
        assert _git("clone", "-q", str(vault.path), str(clone), cwd=tmp_path).returncode == 0

        refused = _git("push", "origin", "HEAD:refs/avfs/checkpoints/main/two", cwd=clone)
        accepted = _git("push", "origin", "HEAD:refs/heads/topic", cwd=clone)

        assert refused.returncode != 0
        assert "belongs to avfs" in refused.stderr
        assert accepted.returncode == 0
        assert sorted(fork.name for fork in vault.list_forks()) == ["main", "topic"]
