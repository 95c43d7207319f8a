"""How the user's own shell starts with a fork's name in its prompt: arguments, variables, and the files it reads.

Decided here: each shell reads all that it reads elsewhere, and then puts `(VAULT:FORK)` before its prompt. bash gets a
file in place of ~/.bashrc, zsh a directory in place of the home, both of which read the user's own; fish gets a
command; any other shell gets a prompt in `PS1`. Called by `cli.commands.running.shell`. Pure functions: nothing is
written anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_FILES = Path(__file__).parent
_FISH = """\
functions -q fish_prompt; and functions -c fish_prompt _avfs_own_prompt
function fish_prompt
    echo -n "($AVFS_PROMPT) "
    functions -q _avfs_own_prompt; and _avfs_own_prompt; or echo -n '> '
end
"""


def prepare_shell(program: str, *, prompt: str, environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Make the command line of a shell, and all of its variables.

    Args:
        program: The shell, as SHELL names it.
        prompt: What the prompt begins with, in parentheses.
        environment: The variables that the shell gets in any case.
    """
    variables = {**environment, "AVFS_PROMPT": prompt}
    match Path(program).name:
        case "bash":
            return [program, "--rcfile", os.fspath(_FILES / "bashrc")], variables
        case "zsh":
            own = {"AVFS_USER_ZDOTDIR": environment["ZDOTDIR"]} if environment.get("ZDOTDIR") else {}
            return [program], {**variables, **own, "ZDOTDIR": os.fspath(_FILES / "zsh")}
        case "fish":
            return [program, "--init-command", _FISH], variables
        case _:
            return [program], {**variables, "PS1": f"({prompt}) $ "}
