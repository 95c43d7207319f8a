"""The names of vaults, forks and labels that a command line may mean, read without opening a vault and without a lock.

Decided here: which of them a mistyped name may have meant. `cli.completion` calls it, and after a failure `app.run` and
commands.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.cli.environment import find_home
from avfs_git.errors import AvfsError, CheckpointNotFound, ForkNotFound, VaultNotFound, quote

if TYPE_CHECKING:
    from avfs_git.cli.context import State
    from avfs_git.sdk import Workspace

_CLOSE = 0.6


def suggest(state: State, error: AvfsError) -> None:
    """Add to the hint of an error about a name that is not there the name that is nearest to it."""
    names: Iterator[str] | None = None
    if isinstance(error, VaultNotFound):
        typed, names = str(error.details["vault"]), list_vaults()
    elif isinstance(error, ForkNotFound):
        typed, names = str(error.details["fork"]), list_forks(state)
    elif isinstance(error, CheckpointNotFound):
        typed, names = str(error.details["checkpoint"]), list_states(state)
        if ":" in typed.strip(":"):
            error.hint = hint_at_path(typed)
            return
        if ".." in typed:
            error.hint = f"FROM..TO is for `avfs diff` and `avfs squash`: name single states. {error.hint}"
            return
    if names is None:
        return
    from difflib import get_close_matches  # noqa: PLC0415 - only after a mistake

    with suppress(AvfsError, OSError, UnicodeError):
        if isinstance(error, CheckpointNotFound) and (remote := _find_remote(state, typed)):
            if typed == f"{remote}/HEAD":
                error.hint = "avfs keeps no HEAD of a remote. See the remote's branches with `avfs fork list --remote`."
            else:
                error.hint = f"For a branch of the remote, run `avfs fetch {shlex.quote(remote)}` first. {error.hint}"
            return
        others = sorted({*names} - {typed})  # that of another fork, or HEAD where there is no commit
        of_forks = [name for name in others if name.endswith(f"@{typed}")]
        if near := of_forks or get_close_matches(typed, others, n=1, cutoff=_CLOSE):
            error.hint = f"Did you mean {quote(near[0])}? {error.hint}"


def _find_remote(state: State, typed: str) -> str | None:
    """Find the remote of which a name may be a branch that was not fetched."""
    from avfs_git.gitstore.remote.remotes import list_remotes  # noqa: PLC0415 - only after a mistake

    if "/" not in typed:
        return None
    return next((each.name for each in list_remotes(_find_vault(state)[0]) if typed.startswith(f"{each.name}/")), None)


def is_state(workspace: Workspace, name: str) -> bool:
    """Tell whether a name is that of a checkpoint."""
    try:
        workspace.checkpoint_details(name)
    except AvfsError:
        return False
    return True


def hint_at_path(typed: str, state: str | None = None) -> str:
    """Say what a path may have meant that is not there, or not in a state.

    That is a pattern, a path in a state as git spells it, or a slip.
    """
    name = typed.strip("/")
    at_state = f" --at {shlex.quote(state)}" if state is not None else ""
    at, colon, path = name.partition(":")
    if at and colon and path:
        words = f"--at {shlex.quote(at)} {shlex.quote(path)}"
        return f"Did you mean `avfs cat {words}`, or of a directory `avfs find {words}`?"
    if any(letter in name for letter in "*?["):
        return f"`avfs find{at_state} --name {shlex.quote(name)}` finds names by a pattern."
    if state is not None:
        return f"See what is there with `avfs find{at_state} --ignored`."
    return "See what is there with `avfs ls /` or `avfs tree /`."


def list_forks(state: State) -> Iterator[str]:
    """List the forks of the vault that is meant."""
    from avfs_git.workspace.vault.format import HEADS  # noqa: PLC0415 - only there

    yield from _list_refs(_find_vault(state)[0], HEADS)


def list_states(state: State) -> Iterator[str]:
    """List what names states in the fork that is meant: forks, labels, FORK@LABEL and HEAD."""
    from avfs_git.gitstore.refs.refs import RefStore  # noqa: PLC0415 - only there
    from avfs_git.paths import label_of_ref_name  # noqa: PLC0415 - the same
    from avfs_git.workspace.vault.format import HEADS, LABELS  # noqa: PLC0415 - only there

    vault, fork = _find_vault(state)
    fork = fork or (RefStore(vault, recover=False).head() or "").removeprefix(HEADS)
    yield from _list_refs(vault, HEADS)
    yield "HEAD"
    for name in _list_refs(vault, LABELS):
        owner, _, escaped = name.rpartition("/")
        label = label_of_ref_name(escaped)
        if fork == owner:
            yield label
        yield f"{owner}@{label}"


def _find_vault(state: State) -> tuple[Path, str | None]:
    """Find the repository and the fork that are meant, without opening them."""
    choice = state.choose()
    if isinstance(choice.vault, Path):
        return choice.vault, choice.fork
    from avfs_git.workspace.vault.format import read_current  # noqa: PLC0415 - only there

    return _path_of(choice.vault or read_current(find_home()) or ""), choice.fork


def _path_of(vault: str) -> Path:
    return find_home() / "vaults" / f"{vault}.git"


def list_vaults(typed: str = "") -> Iterator[str]:
    """List the vaults of the home, or the forks of the one whose name stands before an `@`."""
    vault, at, _ = typed.partition("@")
    if at:
        from avfs_git.workspace.vault.format import HEADS  # noqa: PLC0415 - only there

        yield from (f"{vault}@{fork}" for fork in _list_refs(_path_of(vault), HEADS))
    else:
        yield from (path.stem for path in (find_home() / "vaults").iterdir() if path.suffix == ".git")


def _list_refs(vault: Path, prefix: str) -> list[str]:
    from avfs_git.gitstore.refs.refs import RefStore  # noqa: PLC0415 - only there

    return [name.removeprefix(prefix) for name in RefStore(vault, recover=False).list(prefix)]
