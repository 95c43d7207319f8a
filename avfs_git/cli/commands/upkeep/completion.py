"""`avfs completion`: the script with which a shell completes command lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.cli.results import CompletionScript


@verb("completion", looks=True, view="vaults", example="avfs completion bash")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(_state: State, shell: str) -> CompletionScript:
    """Print the script with which a shell completes avfs's command lines

    It completes verbs, options, vaults, forks, labels and paths of the workspace. For bash, add to ~/.bashrc:
    `source <(avfs completion bash)`. For zsh, to ~/.zshrc behind `compinit`: `source <(avfs completion zsh)`. For fish:
    `avfs completion fish > ~/.config/fish/completions/avfs.fish`.
    """
    from avfs_git.cli.completion import make_script  # noqa: PLC0415 - not for the help

    return {"shell": shell, "script": make_script(shell)}
