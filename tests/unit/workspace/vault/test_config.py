"""Settings: what two processes that change them at once leave."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from avfs_git.host.locks.flocks import directory_held
from avfs_git.workspace.vault.config import Config


@pytest.mark.parametrize("of_fork", [False, True])
def test_a_setting_that_another_process_changes_meanwhile_stays(tmp_path: Path, of_fork: bool) -> None:
    """Who changes one waits for the other, and keeps what that wrote."""
    config = vault = Config(tmp_path / "config.json")
    if of_fork:
        (tmp_path / "fork").mkdir()
        config = Config(tmp_path / "fork" / "config.json", vault=vault)
    with directory_held(tmp_path):
        other = threading.Thread(target=config.set, args=("quota.fork_bytes", "1"))
        other.start()
        other.join(0.2)
        config.path.write_text(json.dumps({"quota.fork_files": "2"}))
    other.join()

    config.unset("quota.file_bytes")

    values = config.read()
    assert (values["quota.fork_bytes"], values["quota.fork_files"]) == ("1", "2")
