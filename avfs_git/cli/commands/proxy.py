"""`avfs proxy`: run commands in a workspace, one by one or many in a session."""

from __future__ import annotations

from avfs_git.cli.app import VerbGroup
from avfs_git.cli.commands.exec import command as exec_

command = VerbGroup(
    "proxy",
    help="Run commands in a workspace, one by one or many in a session",
    commands=[exec_],
)
