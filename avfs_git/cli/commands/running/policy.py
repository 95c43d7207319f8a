"""`avfs policy`: look at the rules about commands, and ask what they say to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.commands.running.exec import parse_variable
from avfs_git.cli.context import State
from avfs_git.cli.environment import find_user_policy
from avfs_git.cli.table import VerbGroup
from avfs_git.cli.verb import TREE_PATH, verb
from avfs_git.errors import BadUsage

if TYPE_CHECKING:
    from avfs_git.cli.results import PolicyCheck, PolicyPaths, PolicyRules
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Vault


@verb("policy show", looks=True, view="policy", pages=True, example="avfs policy show")
def show(state: State) -> PolicyRules:
    """Show the rules in force, in the order in which they apply"""
    with state.open_vault() as vault:
        held = vault.policy.show()
    return {
        "rules": [
            {
                "scope": scope,
                "name": rule.name,
                "categories": rule.categories,
                "commands": [" ".join(words) for words in rule.commands],
                "arguments": rule.arguments,
                "paths": rule.paths,
                "action": rule.action,
                "reason": rule.reason,
            }
            for scope, rule in held.rules()
        ],
        "user_file": held.user_file,
        "vault_file": held.vault_file,
        "vault_is_trusted": held.vault_is_trusted,
    }


@verb(
    "policy check",
    looks=True,
    view="policy",
    unrecorded=("words", "shell", "cwd", "environment"),
    takes_program=True,
    example="avfs policy check rm -rf build",
)
@click.argument("words", nargs=-1, metavar="[PROGRAM [ARGUMENT]...]")
@click.option("-c", "--shell", metavar="TEXT", help="Check a shell text instead of a program.")
@click.option(
    "--cwd", type=TREE_PATH, metavar="DIR", help="The command's directory in the workspace; default: the current one."
)
@click.option(
    "-e", "--env", "environment", type=parse_variable, multiple=True, metavar="NAME=VALUE", help="Set a variable."
)
@click.option("-t", "--tty", "terminal", is_flag=True, help="Check it as `avfs exec -t` does, with a terminal.")
def check(
    state: State,
    words: tuple[str, ...],
    shell: str | None,
    cwd: TreePath | None,
    environment: tuple[tuple[str, str], ...],
    terminal: bool,
) -> PolicyCheck:
    """Explain what the policy decides about a command, without running it"""
    if (shell is None) == (not words):
        raise BadUsage("a command is needed, either `PROGRAM [ARGUMENT]...` or `--shell TEXT`")
    if cwd is None:
        cwd = state.tree_directory()
    with state.open_vault_and_fork() as (vault, fork):
        env = dict(environment)
        decision = vault.policy.check(words, shell=shell, fork=fork or "", cwd=cwd, env=env, terminal=terminal)
    if shell is not None:
        return {"command": shell, "command_mode": "shell", "decision": decision}
    import shlex  # noqa: PLC0415 - only here

    return {"command": shlex.join(words), "command_mode": "argv", "decision": decision}


@verb("policy path", looks=True, view="policy", example="avfs policy path")
def path(vault: Vault) -> PolicyPaths:
    """Show the paths of the policy files, which need not exist"""
    return {"user": find_user_policy(), "vault": vault.policy.vault_file}


command = VerbGroup("policy", commands=[show, check, path])
