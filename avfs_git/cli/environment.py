"""The environment: which variables count, and what each means. No other module of avfs reads it.

    AVFS_HOME       where vaults are kept; default ${XDG_DATA_HOME:-~/.local/share}/avfs
    AVFS_VAULT      the vault to use where `--vault` is not given, also NAME@FORK
    AVFS_FORK       the fork to use where neither `--fork` nor `--vault` is given
    AVFS_MOUNTPOINT the root of the tree of the command that avfs runs, to which these two belong: set by `avfs exec`,
                    `avfs run` and `avfs shell`
    AVFS_ATTEMPT    the number of the attempt, set by `avfs run --attempts`
    AVFS_PROMPT     what the prompt of `avfs shell` begins with, set by it: VAULT:FORK
    SHELL           the shell of `avfs shell`
    AVFS_HOOK       set for a hook, whose own commands run no hooks
    AVFS_PLUGIN     set for a plug-in, whose own commands change nothing where plug-ins are asked
    XDG_CONFIG_HOME the user's policy for commands is avfs/policy.toml in it; default ~/.config
    AVFS_AUTHOR_NAME, AVFS_AUTHOR_EMAIL
                    the author of commits, unless the vault's settings name one; else the author that git finds
    _AVFS_COMPLETE  set by the script of `avfs completion` when a shell asks how a command line may go on
    NO_COLOR        no colours
    AVFS_PAGER      the pager of texts that are longer than the screen, a command for a shell; `cat` or nothing for
                    none. Else git says which: GIT_PAGER, core.pager of the user or the system, PAGER, less
    LESS, LV        options of these pagers, as git sets them where they are not set
    TERM            no pager on a terminal that is `dumb`

What remotes need (credentials, ssh, proxies) is read by name in `gitstore.remote.runner`, which gets the environment
from here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.cli.targets import Target, read_target
from avfs_git.errors import BadUsage, quote
from avfs_git.host.userhome import expand_user, find_user_home
from avfs_git.paths import ROOT
from avfs_git.values import NamedTuple

if TYPE_CHECKING:
    from avfs_git.cli.output.pager import Pager
    from avfs_git.cli.place import Place
    from avfs_git.host.locks.locks import Holder
    from avfs_git.model import Identity, Warning
    from avfs_git.sdk import Home


def find_home() -> Path:
    """Find the directory that holds the vaults."""
    if named := os.environ.get("AVFS_HOME"):
        return expand_user(Path(named)).absolute()
    return find_default_home()


def is_whole_home(source: Path) -> bool:
    """Tell whether a directory is the user's whole home or the whole machine: rarely meant, and much to take in."""
    found = expand_user(source).resolve()
    return found in {Path("/"), find_user_home().resolve()}


def find_default_home() -> Path:
    """Find the directory that holds the vaults where AVFS_HOME names none."""
    data = os.environ.get("XDG_DATA_HOME", "")
    if data.startswith("/"):  # the XDG base directory specification: a relative path is to be ignored
        return Path(data) / "avfs"
    return expand_user(Path("~/.local/share/avfs"))


def find_user_policy() -> Path:
    """Find the user's policy for commands, which need not exist."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(config) if config.startswith("/") else expand_user(Path("~/.config"))
    return base / "avfs" / "policy.toml"


def find_identity(git_dir: Path) -> Identity:
    """Find the author of commits in a vault: AVFS_AUTHOR_*, else as git finds it there, else user and host.

    For a vault with the forks of a directory, git looks in that directory, so that a clone's own `user.email` counts.
    """
    from avfs_git.model import Identity  # noqa: PLC0415 - not needed to show help

    name, email = (os.environ.get(f"AVFS_AUTHOR_{what}") for what in ("NAME", "EMAIL"))
    if name and email:
        return Identity(name, email)
    import pwd  # noqa: PLC0415 - only where it is needed

    from avfs_git.gitstore.config.userconfig import find_author  # noqa: PLC0415 - the same
    from avfs_git.workspace.vault.format import VaultLayout  # noqa: PLC0415 - the same

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under an id that has no name
        user = f"uid{os.getuid()}"
    default = Identity(user, f"{user}@{os.uname().nodename}")
    origin = VaultLayout(git_dir).read_origin()
    place = origin if origin is not None and origin.is_dir() else git_dir
    found = find_author(place, os.environ, default_email=default.email) or default
    return Identity(name or found.name, email or found.email)


def open_home(
    directory: Path | None = None,
    *,
    identity: Identity | None = None,
    policy: Path | None = None,
    asks: bool = False,
    on_wait: Callable[[str, Holder | None], object] | None = None,
    on_warnings: Callable[[Sequence[Warning]], object] | None = None,
) -> Home:
    """Open the command line's home with all that the environment says; programs call it as `avfs_git.open_home`.

    Args:
        directory: The directory of the vaults, instead of the command line's.
        identity: Author of commits, instead of the user.
        policy: The user's policy file for commands, instead of the user's own.
        asks: Let git ask for passwords on the terminal.
        on_wait: As for `Home`.
        on_warnings: As for `Home`.
    """
    from avfs_git.sdk import Home  # noqa: PLC0415 - loads libgit2; help does without

    if os.environ.get("AVFS_PLUGIN"):
        from avfs_git.workspace.plugins.asking import be_inside  # noqa: PLC0415 - only there

        be_inside()
    return Home(
        directory if directory is not None else find_home(),
        identity=identity or find_identity,
        remote_environment=remote_environment(asks=asks),
        runs_hooks=not is_in_hook(),  # a hook that makes a checkpoint must not run itself again
        policy=policy or find_user_policy(),
        on_wait=on_wait,
        on_warnings=on_warnings,
    )


def wants_color() -> bool:
    """Say whether colours are welcome (no-color.org: any value but the empty one says no)."""
    return not os.environ.get("NO_COLOR")


def find_pager() -> Pager | None:
    """Find the user's pager; None where they want none."""
    if os.environ.get("TERM", "dumb") == "dumb":
        return None
    command = os.environ.get("AVFS_PAGER")
    if command is None:
        from avfs_git.gitstore.config.userconfig import find_pager  # noqa: PLC0415 - only for a long text

        command = find_pager(os.environ)
    if command.strip() in {"", "cat"}:
        return None
    from avfs_git.cli.output.pager import Pager  # noqa: PLC0415 - the same

    return Pager(command, {"LESS": "FRX", "LV": "-c", **os.environ})


def read_environment(*, may_differ: bool = True) -> tuple[Target, str]:
    """Say which vault and fork the environment names, and which variable would name the fork.

    An empty variable names none.

    Raises:
        BadUsage: If two variables name different forks, unless they `may_differ`.
    """
    text = os.environ.get("AVFS_VAULT")
    vault, fork = read_target(text, "AVFS_VAULT") if text else Target(None, None)
    named = os.environ.get("AVFS_FORK")
    if named and fork and named != fork and not may_differ:
        raise BadUsage(
            f"AVFS_VAULT names the fork {quote(fork)}, AVFS_FORK the fork {quote(named)}", hint="Unset one of them."
        )
    return Target(vault, named or fork), "AVFS_FORK" if named else "AVFS_VAULT"


def find_trace() -> dict[str, str]:
    """Find the trace that the program which started this one belongs to, as OpenTelemetry hands it on."""
    named = {name: os.environ.get(name.upper(), "") for name in ("traceparent", "tracestate")}
    return {name: value for name, value in named.items() if value}


def list_naming() -> list[str]:
    """List the variables that are set to name a vault or a fork."""
    return [name for name in ("AVFS_VAULT", "AVFS_FORK") if os.environ.get(name)]


def program_environment(own: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Give a program the environment of this process, with variables of its own and without a git's that runs avfs."""
    left_out = (
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_PREFIX",
        "GIT_OBJECT_DIRECTORY",
        "GIT_COMMON_DIR",
        "OLDPWD",
    )
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "PWD": os.fspath(directory), **own}


def find_shell() -> str:
    """Find the user's own shell: SHELL, else as the system knows the user."""
    if named := os.environ.get("SHELL"):
        return named
    import pwd  # noqa: PLC0415 - only where it is needed

    try:
        return pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
    except KeyError:  # a container may run under an id that has no name
        return "/bin/sh"


def find_command() -> Place | None:
    """Find the tree of the command that this process belongs to, if avfs runs it."""
    from avfs_git.cli.place import Place  # noqa: PLC0415 - not needed to show help

    top, vault, fork = (os.environ.get(f"AVFS_{what}") for what in ("MOUNTPOINT", "VAULT", "FORK"))
    return Place(Path(vault), fork, Path(top), ROOT, is_mount=True) if top and vault and fork else None


class Asked(NamedTuple):
    """What a shell wants to complete."""

    shell: str
    line: str
    """For bash: the command line up to the cursor."""
    breaks: str
    """For bash: the characters at which it splits words."""


def find_completion() -> Asked | None:
    """Tell whether a shell asks how a command line may go on: the script of `avfs completion` sets the variable."""
    shell, _, what = os.environ.get("_AVFS_COMPLETE", "").partition("_")
    if what != "complete" or shell not in {"bash", "zsh", "fish"}:
        return None
    return Asked(shell, os.environ.get("COMP_LINE", ""), os.environ.get("COMP_BREAKS", ""))


def is_in_hook() -> bool:
    """Tell whether a hook runs this program: its own commands run no hooks."""
    return bool(os.environ.get("AVFS_HOOK"))


def remote_environment(*, asks: bool) -> Mapping[str, str]:
    """Give what git gets for remotes; with `asks`, it asks for a password, unless the environment says otherwise."""
    return {"GIT_TERMINAL_PROMPT": "1", **os.environ} if asks else os.environ
