"""Where a command works: flags and environment become a home, a vault and a fork.

Decided here: which environment variables count, what they mean, and how a vault or fork is named. This is the only
reader of the environment. One `State` serves one run of the program; it opens what is asked for when it is first
asked for, and `close` closes it. Where nothing names a vault and the current directory is in a live tree, its vault
and fork are meant, as git means the repository that it is run in.

    AVFS_HOME       where vaults are kept; default ${XDG_DATA_HOME:-~/.local/share}/avfs
    AVFS_VAULT      the vault to use where `--vault` is not given, also NAME@FORK
    AVFS_FORK       the fork to use where neither `--fork` nor `--vault` is given
    XDG_CONFIG_HOME the user's policy for commands is avfs/policy.toml in it; default ~/.config
    AVFS_AUTHOR_NAME, AVFS_AUTHOR_EMAIL
                    the author of commits, unless the vault's settings name one; else the author that git finds
    SUDO_UID        of root, whose vaults are its own beside root's
    NO_COLOR        no colours

What remotes need (credentials, ssh, proxies) is read from it by name in `gitstore.remotegit`, which gets it from here.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from avfs_git.cli.output.hints import Named
from avfs_git.errors import BadUsage, DirectoryGone, InvalidInput, NoVaultChosen, VaultNotFound, quote
from avfs_git.paths import parse_tree_path

if TYPE_CHECKING:
    from avfs_git.cli.output.base import Output
    from avfs_git.host.locks import Holder
    from avfs_git.model import Identity
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Avfs, Vault, Workspace

_BARE_NAME = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)(?:@(.*))?", re.ASCII | re.DOTALL)


class Target(NamedTuple):
    """Which vault and which fork; None leaves the choice to the home or the vault."""

    vault: str | Path | None
    fork: str | None


def parse_target(text: str) -> Target:
    """Read `NAME[@FORK]` or a path to a bare repository, also with `@FORK`.

    A path is what holds a slash before the first `@`, or is `.`, `..` or starts with `~`. A directory that exists
    under the whole text wins over the reading with a fork.
    """
    if (match := _BARE_NAME.fullmatch(text)) and text not in {".", ".."}:
        return Target(match[1], match[2] or None)
    whole = expand(text)
    if "@" not in text or whole.is_dir():
        return Target(whole if "/" in text or text in {".", ".."} or text.startswith("~") else text, None)
    parts = text.split("@")
    for count in range(len(parts) - 1, 0, -1):
        directory = expand("@".join(parts[:count]))
        if directory.is_dir():
            return Target(directory, "@".join(parts[count:]) or None)
    return Target(whole if "/" in parts[0] else text, None)


def expand(text: str) -> Path:
    """Read a path in which `~` may stand for a home, as a shell does: of no user, it is a name like any other."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def is_directory_gone() -> bool:
    """Whether the current directory is none any more."""
    try:
        Path.cwd().stat()
    except OSError:
        return True
    return False


def looks_like_path(text: str) -> bool:
    """Whether a name that is no fork's can only mean a directory."""
    return "/" in text or text in {".", ".."} or text.startswith("~")


def find_home() -> Path:
    """Find the directory that holds the vaults."""
    if named := os.environ.get("AVFS_HOME"):
        return Path(named).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME", "")
    if data.startswith("/"):  # the XDG base directory specification: a relative path is to be ignored
        return Path(data) / "avfs"
    return Path("~/.local/share/avfs").expanduser()


def find_user_policy() -> Path:
    """Find the user's policy for commands, which need not exist."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(config) if config.startswith("/") else Path("~/.config").expanduser()
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

    from avfs_git.gitstore.author import find_author  # noqa: PLC0415 - the same
    from avfs_git.workspace.format import VaultLayout  # noqa: PLC0415 - the same

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under an id that has no name
        user = f"uid{os.getuid()}"
    default = Identity(user, f"{user}@{os.uname().nodename}")
    origin = VaultLayout(git_dir).read_origin()
    place = origin if origin is not None and origin.is_dir() else git_dir
    found = find_author(place, os.environ, default_email=default.email) or default
    return Identity(name or found.name, email or found.email)


def find_sudo_uid() -> int | None:
    """Tell which user became root by sudo (sudo(8), "SUDO_UID")."""
    text = os.environ.get("SUDO_UID", "")
    return int(text) if text.isascii() and text.isdigit() else None


def wants_color() -> bool:
    """Say whether colours are welcome (no-color.org: any value but the empty one says no)."""
    return not os.environ.get("NO_COLOR")


class State:
    """One run of the program: its flags, its output, and what it has opened."""

    def __init__(self, output: Output, *, is_program: bool = False) -> None:
        self.output = output
        self.is_program = is_program
        """Whether this process does nothing else."""
        self.json = False
        self.verbose = False
        self.vault_flag: str | None = None
        self.fork_flag: str | None = None
        self.status = 0
        """What the program ends with where the result is no error, and not what was wished for either."""
        self._avfs: Avfs | None = None

    def _remote_environment(self) -> Mapping[str, str]:
        """Let git ask for a password where a person is there to type it, unless the environment says otherwise."""
        is_asked = not self.json and sys.stdin.isatty() and sys.stderr.isatty()
        return {"GIT_TERMINAL_PROMPT": "1", **os.environ} if is_asked else os.environ

    @property
    def avfs(self) -> Avfs:
        """The home with its vaults."""
        if self._avfs is None:
            from avfs_git.sdk import Avfs  # noqa: PLC0415 - loads libgit2; help does without

            inside = bool(os.environ.get("AVFS_HOOK"))  # a hook that makes a checkpoint must not run itself again
            self._avfs = Avfs(
                find_home(),
                identity=find_identity,
                remote_environment=self._remote_environment(),
                runs_hooks=not inside,
                policy=find_user_policy(),
                sudo_uid=find_sudo_uid(),
                on_wait=self._tell_of_waiting,
            )
        return self._avfs

    def _tell_of_waiting(self, fork: str, holder: Holder | None) -> None:
        """Say for whom a change waits."""
        who = holder.describe() if holder is not None else "another process"
        self.output.note(f"waiting for fork {quote(fork)}, which is in use by {who}")

    def target(self) -> Target:
        """Say which vault and fork are named by flags and environment.

        Raises:
            BadUsage: If two flags name different forks.
        """
        if self.vault_flag is not None:
            vault, fork = parse_target(self.vault_flag)
            if fork and self.fork_flag and fork != self.fork_flag:
                raise BadUsage(f"--vault names the fork {quote(fork)}, --fork another one", hint="Name it once.")
            return Target(vault, self.fork_flag or fork)
        named = os.environ.get("AVFS_VAULT")
        vault, fork = parse_target(named) if named else Target(None, None)
        return Target(vault, self.fork_flag or os.environ.get("AVFS_FORK") or fork)

    def named(self) -> Named:
        """Say which vault and fork the command line itself names, for hints about what to run next."""
        vault, fork = parse_target(self.vault_flag) if self.vault_flag is not None else Target(None, None)
        return Named(os.fspath(vault) if vault is not None else None, self.fork_flag or fork)

    @contextmanager
    def open_vault(self) -> Iterator[Vault]:
        """Open the vault that is meant."""
        with self._open() as (vault, _fork):
            yield vault

    @contextmanager
    def open_vault_and_fork(self) -> Iterator[tuple[Vault, str | None]]:
        """Open the vault that is meant; also say which of its forks, None for the default."""
        with self._open() as pair:
            yield pair

    @contextmanager
    def open_workspace(self) -> Iterator[Workspace]:
        """Open the workspace that is meant."""
        with self._open() as (vault, fork), closing(vault.workspace(fork)) as workspace:  # closing: an ephemeral fork stays
            self.output.amend(fork=workspace.fork)
            yield workspace

    @contextmanager
    def _open(self) -> Iterator[tuple[Vault, str | None]]:
        target = self.target()
        if target.vault is None:
            here = self._find_here()
            target = Target(here.vault, target.fork or here.fork)
        try:
            vault, fork = self.avfs.open_vault(target.vault), target.fork
        except NoVaultChosen as err:
            if (name := self._find_forked_here()) is not None:
                err.hint = f"Name one with `--vault {name}`: that one has the forks of this directory."
            raise
        except VaultNotFound:
            # The name of a fork stands for its vault where only one vault has it: so `vault fork` of other systems,
            # which makes a vault, and ours, which makes a fork, are used alike.
            if not isinstance(target.vault, str) or target.fork is not None:
                raise
            owner = self._find_owner(target.vault)
            if owner is None:
                raise
            vault, fork = self.avfs.open_vault(owner), target.vault
        with vault:
            self.output.amend(vault=vault.name, fork=fork)
            yield vault, fork

    def tree_path(self, text: str | bytes, command: str, *, refuses_names: bool = False) -> TreePath:
        """Read a typed path of the workspace, and never take the path of something on this machine for one.

        Where an option names vault or fork, a path of the vault is meant. Else a path that is absolute or begins with `.`,
        `..` or `~` is refused if this machine has something there, outside of a mount. A plain name means the vault and is
        remarked if the working directory has it, too. `/` is always the root of the workspace.

        Args:
            text: What was typed, or a default.
            command: The command for which it was typed, for messages.
            refuses_names: Refuse a plain name as well.

        Raises:
            InvalidInput: If it is refused, or is no path.
        """
        typed = os.fsdecode(text)
        if self.vault_flag is None and self.fork_flag is None and typed.strip("/") and "\0" not in typed:
            is_name = typed.partition("/")[0] not in {"", ".", ".."} and not typed.startswith("~")
            place = expand(typed)
            if os.path.lexists(place) and (place.is_absolute() or not self.is_in_mount()):
                what = f"{quote(typed)} is {'a directory' if place.is_dir() else 'a file'} on this machine"
                hint = "Add `--vault NAME` to mean the path in a vault."
                if refuses_names or not is_name:
                    raise InvalidInput(f"{what}, and `{command}` takes paths of a vault", hint=hint)
                from avfs_git.model import Warning  # noqa: PLC0415 - only for the remark

                self.output.warn([Warning("path.on_machine", f"{what}, too: `{command}` takes the one in the vault")])
        return parse_tree_path(text)

    def is_in_mount(self) -> bool:
        """Whether the current directory is in a mount of avfs."""
        return self._find_here().vault is not None

    def _find_here(self) -> Target:
        """Say which vault and fork the current directory shows; of a mount of a whole vault, no fork."""
        try:
            if os.major(Path().stat().st_dev):  # on a disk: most commands need not load what knows mounts
                return Target(None, None)
        except OSError:  # it was removed, or its server is gone
            pass
        from avfs_git.model import WHOLE_VAULT  # noqa: PLC0415 - only where something is mounted
        from avfs_git.session.record import fork_of_source, vault_of_source  # noqa: PLC0415 - the same
        from avfs_git.session.stop import find_mount_around  # noqa: PLC0415 - the same

        try:
            here = Path.cwd()
        except OSError as err:  # of a mount that has ended, perhaps: the default vault is not what is meant there
            raise DirectoryGone(err) from err
        try:
            mounted = find_mount_around(here)
        except OSError:
            return Target(None, None)
        git_dir = vault_of_source(mounted.source) if mounted is not None else None
        if mounted is None or git_dir is None:
            return Target(None, None)
        fork = fork_of_source(mounted.source)
        return Target(git_dir, None if fork == WHOLE_VAULT else fork)

    def _find_forked_here(self) -> str | None:
        """Find the vault that was made for the forks of the directory that the current one is in."""
        from avfs_git.workspace.format import VaultLayout  # noqa: PLC0415 - only after a mistake

        try:
            here = Path.cwd()
        except OSError:
            return None
        around = {here, *here.parents}
        return next((info.name for info in self.avfs.list_vaults() if VaultLayout(info.path).read_origin() in around), None)

    def _find_owner(self, fork: str) -> str | None:
        owners = []
        for info in self.avfs.list_vaults():
            with self.avfs.open_vault(info.name) as vault:
                if any(known.name == fork for known in vault.list_forks()):
                    owners.append(info.name)
        if len(owners) > 1:
            choices = " or ".join(f"`--vault {owner}@{fork}`" for owner in owners[:3])
            raise InvalidInput(f"more than one vault has a fork {quote(fork)}", hint=f"Say which: {choices}.")
        return owners[0] if owners else None

    def use_text(self) -> None:
        """Answer with text after all."""
        from avfs_git.cli.output.text import TextOutput  # noqa: PLC0415 - only where it is needed

        self.output = TextOutput(color=wants_color())

    def close(self) -> None:
        """Close what was opened."""
        if self._avfs is not None:
            avfs, self._avfs = self._avfs, None
            avfs.close()
