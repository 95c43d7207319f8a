"""Where a command works: which home, vault and fork are meant, and how a typed path is read.

One `State` serves one run of the program. It opens home, vault and workspace when a command first asks for them, and
`close` closes them. The first of these that names a vault or a fork decides:

    1. the options --vault and --fork, and arguments that name a fork
    2. the current directory: see `cli.place`
    3. the environment: see `cli.environment`
    4. the home's current vault, and the vault's default fork

A command that changes something fails where the second and the third contradict each other; a command that looks warns.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.cli.environment import (
    find_command,
    find_home,
    is_whole_home,
    list_naming,
    open_home,
    read_environment,
    wants_color,
)
from avfs_git.cli.output.hints import Named
from avfs_git.cli.targets import Target, expand, parse_target, read_target
from avfs_git.errors import (
    AvfsError,
    BadUsage,
    CheckpointNotFound,
    CloneReplaced,
    DirectoryGone,
    ForkNotFound,
    InvalidInput,
    InvalidName,
    InvalidPath,
    MountInPart,
    NoForkChosen,
    NoForks,
    NotAVault,
    PathEscapes,
    PathNotFound,
    PlaceDisputed,
    VaultNotFound,
    quote,
)
from avfs_git.paths import ROOT, check_fork_name, parse_tree_path
from avfs_git.values import NamedTuple

if TYPE_CHECKING:
    from avfs_git.cli.output.base import Output
    from avfs_git.cli.place import Place
    from avfs_git.host.locks.locks import Holder
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Avfs, Vault, Workspace


UNREAD = 128 + 13
"""128 + SIGPIPE: what a shell reports of any program whose output nothing reads any more."""


class Choice(NamedTuple):
    """Which vault and which fork are meant, and why."""

    vault: str | Path | None
    fork: str | None
    vault_by: str | None = None
    """The environment variable that names the vault, if one does."""
    fork_by: str | None = None
    other: Target | None = None
    """What the environment names, where that is not what the directory shows."""


def _find_place(directory: Path | None = None) -> Place | None:
    from avfs_git.cli.place import find_place  # noqa: PLC0415 - not needed to show help

    return find_place(find_home(), find_command(), directory)


def _say_who_names(error: AvfsError, variable: str | None) -> None:
    """Say in a message which environment variable names what was not found."""
    if variable is not None:
        error.message += f" ({variable} names it)"
        error.args = (error.message,)


class State:
    """One run of the program: its flags, its output, and what it has opened."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.json = False
        self.verbose = False
        self.no_pager = False
        self.vault_flag: str | None = None
        self.fork_flag: str | None = None
        self.status = 0
        """What the program ends with where the result is no error, and not what was wished for either."""
        self.failure_status: int | None = None
        """What the program ends with where avfs itself fails, where its status is an answer, or that of a program."""
        self.unread_status = UNREAD
        """What the program ends with where nothing reads its result."""
        self.looks = False
        """Whether the command changes nothing."""
        self._place: Place | None = None
        self._has_looked = False
        self._read_relative = False
        self._avfs: Avfs | None = None

    @property
    def avfs(self) -> Avfs:
        """The home with its vaults."""
        if self._avfs is None:
            self._avfs = open_home(
                asks=not self.json
                and all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)),
                on_wait=self._tell_of_waiting,
                on_warnings=lambda warnings: self.output.warn(warnings),  # noqa: PLW0108 - `use_text` changes it
            )
        return self._avfs

    def _tell_of_waiting(self, fork: str, holder: Holder | None) -> None:
        """Say for whom a change waits."""
        who = holder.describe() if holder is not None else "another process"
        self.output.note(f"waiting for fork {quote(fork)}, which is in use by {who}")

    # --- which vault and which fork ---------------------------------------------------------------------

    def place(self) -> Place | None:
        """Say what the current directory shows; None if it shows nothing of any vault.

        Raises:
            DirectoryGone: If it was removed.
        """
        if not self._has_looked:
            self._place, self._has_looked = _find_place(), True
        return self._place

    def name_fork(self, name: str | None) -> None:
        """Let an argument name the fork, as `--fork` would.

        Raises:
            BadUsage: If an option names another one.
            InvalidName: If it is empty.
        """
        if name is None:
            return
        if not name:
            check_fork_name(name)
        option = self.named().fork
        if option not in (None, name):
            raise BadUsage(f"the fork is named twice, as {quote(str(option))} and {quote(name)}", hint="Name it once.")
        self.fork_flag = name
        self.output.named = self.output.named._replace(fork=name)

    def choose(self, *, with_fork: bool = True) -> Choice:
        """Choose the vault and fork by the first that names them: option, directory, environment, or home.

        Raises:
            BadUsage: If two options name different forks, or two variables do and no option decides.
            DirectoryGone: If no option names the vault, and the directory was removed.
            MountInPart: If no option names it, and the directory is in a part of a live tree, bound to another place.
        """
        if self.vault_flag is not None:
            vault, fork = read_target(self.vault_flag, "--vault")
            if fork and self.fork_flag and fork != self.fork_flag:
                raise BadUsage(f"--vault names the fork {quote(fork)}, --fork another one", hint="Name it once.")
            fork = self.fork_flag or fork
            if fork is None and (place := self.place_in_tree()) is not None:
                fork = place.fork
            return Choice(vault, fork)
        place, (other, fork_by) = self.place(), read_environment(may_differ=self.fork_flag is not None or not with_fork)
        if place is None:
            fork = self.fork_flag or other.fork
            by = "AVFS_VAULT" if other.vault is not None else None
            return Choice(other.vault, fork, by, None if self.fork_flag else fork_by)
        other = self._find_alias(other)
        is_same = other.vault is None or self._is_vault(other.vault, place.vault)
        fork = self.fork_flag or place.fork
        if not is_same or (with_fork and fork and other.fork and other.fork != fork and not self.fork_flag):
            return Choice(place.vault, fork, other=Target(other.vault or place.vault, self.fork_flag or other.fork))
        if fork is not None:
            return Choice(place.vault, fork)
        return Choice(place.vault, other.fork, fork_by=fork_by)

    def _find_alias(self, named: Target) -> Target:
        """Name the vault where the environment names a fork instead, which only one vault has; see `_open`."""
        if isinstance(named.vault, str) and named.fork is None and not self.avfs.has_vault(named.vault):
            owner = self._find_owner(named.vault)
            return Target(owner, named.vault) if owner is not None else named
        return named

    def _is_vault(self, named: str | Path, git_dir: Path) -> bool:
        path = named if isinstance(named, Path) else find_home() / "vaults" / f"{named}.git"
        return os.path.realpath(path) == os.path.realpath(git_dir)

    def place_in_tree(self) -> Place | None:
        """Say what the current directory shows, if it is of the vault that is meant: then paths are relative to it."""
        if self.vault_flag is None:
            return self.place()
        with suppress(DirectoryGone, CloneReplaced, MountInPart):
            place, vault = self.place(), parse_target(self.vault_flag).vault
            if place is not None and vault is not None and self._is_vault(vault, place.vault):
                return place
        return None

    def check_mount(self, git_dir: Path, fork: str | None, directory: Path) -> None:
        """Make sure that no option names another vault or fork than the mount of a directory shows.

        Raises:
            BadUsage: If one does.
        """
        flag = self.vault_flag
        vault, named = self._find_alias(read_target(flag, "--vault")) if flag is not None else Target(None, None)
        named = self.fork_flag or named
        if (vault is not None and not self._is_vault(vault, git_dir)) or named not in (None, fork):
            mounted = self._describe(Target(git_dir, fork))
            meant = self._describe(Target(vault if vault is not None else git_dir, named))
            raise BadUsage(f"{quote(str(directory))} is a mount of {mounted}, and the command line names {meant}")

    def check_undisputed(self) -> None:
        """Make sure that directory and environment do not contradict each other, where no option decides.

        Raises:
            PlaceDisputed: If they do, and the command changes something; a command that only looks warns.
        """
        self._refuse_dispute(self.choose())

    def _refuse_dispute(self, choice: Choice) -> None:
        place = self._place
        if choice.other is None or place is None:
            return
        here, there = Target(choice.vault, choice.fork), choice.other
        names = " and ".join(list_naming())
        say = "name" if " " in names else "names"
        named = there if self.fork_flag is None else Target(there.vault, None)
        what = f"{self._describe_place(place)}, but {names} {say} {self._describe(named)}"
        if not self.looks:
            options = [self._find_option(target) for target in (here, there)]
            choices = " or ".join(f"`--vault {shlex.quote(option)}`" for option in options if option is not None)
            hints = [f"Say which one to change: {choices}."] if choices else []
            if options[1] is None:
                is_there = self.fork_flag is not None and self._find_option(named) is not None
                what += f", which has no fork {quote(str(self.fork_flag))}" if is_there else ", which is not there"
                hints.append(f"Unset {names}, or let it name what is there.")
            raise PlaceDisputed(what, hint=" ".join(hints))
        self.output.named = Named(self._name_of(here.vault), here.fork)  # what comes next may change something
        from avfs_git.model import Warning  # noqa: PLC0415 - only for the remark

        self.output.warn([Warning("place.disputed", f"{what}: this shows the former")])

    def _name_of(self, vault: str | Path | None) -> str:
        """Name a vault as `--vault` takes it."""
        if not isinstance(vault, Path):
            return str(vault)
        in_home = os.path.realpath(vault.parent) == os.path.realpath(find_home() / "vaults") and vault.suffix == ".git"
        return vault.stem if in_home else os.fspath(vault)

    def _describe(self, target: Target) -> str:
        fork = f"fork {quote(target.fork)} of " if target.fork else ""
        return f"{fork}vault {quote(self._name_of(target.vault))}"

    def _describe_place(self, place: Place) -> str:
        what = "mount" if place.is_mount else "directory"
        verb = "shows" if place.is_mount else "has forks in"
        return f"the {what} '{place.top}' {verb} {self._describe(Target(place.vault, place.fork))}"

    def _find_option(self, target: Target) -> str | None:
        """Spell what follows `--vault` for a target; None if there is no such vault or fork."""
        try:
            with self.avfs.open_vault(target.vault) as vault:
                if target.fork is not None and not vault.has_fork(target.fork):
                    return None
        except AvfsError:
            return None
        return self._name_of(target.vault) + (f"@{target.fork}" if target.fork else "")

    def named(self) -> Named:
        """Say which vault and fork the command line itself names, for hints about what to run next."""
        vault, fork = parse_target(self.vault_flag) if self.vault_flag is not None else Target(None, None)
        return Named(os.fspath(vault) if vault is not None else None, self.fork_flag or fork)

    @contextmanager
    def open_vault(self) -> Iterator[Vault]:
        """Open the vault that is meant."""
        with self._open(with_fork=False) as (vault, _fork):
            self.output.amend(fork=None)
            yield vault

    @contextmanager
    def open_vault_and_fork(self, *, with_fork: bool = True, whole: bool = False) -> Iterator[tuple[Vault, str | None]]:
        """Open the vault that is meant; also say which of its forks, None where it has no default one."""
        with self._open(with_fork=with_fork) as (vault, chosen):
            fork = chosen
            if chosen is None and not whole:
                with suppress(NoForkChosen, NoForks):
                    fork = vault.choose_fork()
                    self.output.amend(fork=fork)
            yield vault, fork

    @contextmanager
    def open_workspace(self) -> Iterator[Workspace]:
        """Open the workspace that is meant."""
        # closing: an ephemeral fork stays
        with self._open() as (vault, fork), closing(vault.workspace(fork)) as workspace:
            self.output.amend(fork=workspace.fork)
            yield workspace

    @contextmanager
    def _open(self, *, with_fork: bool = True) -> Iterator[tuple[Vault, str | None]]:
        choice = self.choose(with_fork=with_fork)
        self._refuse_dispute(choice)
        fork = choice.fork
        try:
            vault = self.avfs.open_vault(choice.vault)
        except NotAVault as err:
            err.hint = self._hint_at_directory(choice.vault) or err.hint
            raise
        except VaultNotFound as err:
            # The name of a fork stands for its vault where only one vault has it: so `vault fork` of other systems,
            # which makes a vault, and ours, which makes a fork, are used alike.
            owner = self._find_owner(choice.vault) if isinstance(choice.vault, str) and fork is None else None
            if owner is None:
                err.hint = self._hint_at_directory(choice.vault) or err.hint
                _say_who_names(err, choice.vault_by)
                raise
            vault, fork = self.avfs.open_vault(owner), str(choice.vault)
        with vault:
            self.output.amend(vault=vault.name, fork=fork)
            self.output.named = self.output.named._replace(opened=vault.name)
            try:
                yield vault, fork
            except NoForkChosen as err:
                self._say_directory(err)
                raise
            except (ForkNotFound, InvalidName) as err:
                if fork is not None and fork in (err.details.get("fork"), err.details.get("name")):
                    err.hint = self._hint_at_directory(fork) or err.hint
                    _say_who_names(err, choice.fork_by)
                if isinstance(err, ForkNotFound):
                    self._say_directory(err)
                raise
            except CheckpointNotFound as err:
                if err.details.get("checkpoint") == self.output.named.fork:  # no hint may name what is not there
                    self.output.named = self.output.named._replace(fork=None)
                raise
            except PathNotFound as err:
                if err.hint is None and self._read_relative:
                    err.hint = (
                        "Paths are relative to the current directory; from the root of the workspace they "
                        "begin with `/`."
                    )
                from avfs_git.cli.names import hint_at_path  # noqa: PLC0415 - only after a mistake

                state = err.details.get("state")
                err.hint = err.hint or hint_at_path(str(err.details["path"]), str(state) if state is not None else None)
                raise

    def _say_directory(self, error: AvfsError) -> None:
        """Say where the vault comes from, if a clone with forks names it: a new user may mean the current one."""
        is_general = (error.hint or "").startswith(("Name one with", "See them"))
        if is_general and self.vault_flag is None and (place := self.place()) is not None and not place.is_mount:
            means = (
                "This directory means that vault: `--vault NAME` means another, and `avfs fork . ../NAME` forks "
                "the directory."
            )
            error.hint = f"{error.hint} {means}"

    def _hint_at_directory(self, named: str | Path | None) -> str | None:
        """Say what to name instead of a directory that shows a vault or a fork."""
        if named is None or not (path := expand(os.fspath(named))).is_dir():
            return None
        try:
            place = _find_place(path)
        except CloneReplaced as error:
            return error.hint
        if place is None:
            return None
        option = self._name_of(place.vault) + (f"@{place.fork}" if place.fork else "")
        return f"T{self._describe_place(place)[1:]}: say `--vault {shlex.quote(option)}`."

    # --- paths -------------------------------------------------------------------------------------------

    def tree_path(self, text: str | bytes, command: str, *, refuses_names: bool = False) -> TreePath:
        """Read a typed path of the workspace, and never take the path of something on this machine for one.

        In a mount, or in a clone that has forks, a path is relative to the working directory; elsewhere, and with a
        leading slash, to the root of the workspace.

        Where an option names vault or fork, a path of the vault is meant. Else a path that is absolute, or that begins
        with `.`, `..` or `~` where nothing is relative to the working directory, is refused if this machine has
        something there, outside of a mount. So is one to something new in the user's home, or in the mount around us.
        Any other name means the vault and is remarked if the working directory has it, too. `command` is named in
        messages. `refuses_names` refuses names that this machine has as well.

        Raises:
            InvalidInput: If it is refused, or is no path.
        """
        typed = os.fsdecode(text)
        if not typed:  # an unset variable of a script, not the current directory
            raise InvalidPath(typed, "it is empty")
        place = None if typed.startswith("/") else self.place_in_tree()
        if self.vault_flag is None and self.fork_flag is None and typed.strip("/") and "\0" not in typed:
            is_name = typed.partition("/")[0] not in {"", ".", ".."} and not typed.startswith("~")
            on_machine = expand(typed)
            is_there = os.path.lexists(on_machine) and (on_machine.is_absolute() or place is None or not place.is_mount)
            if is_there or self._is_new_on_machine(on_machine):
                kind = "a directory" if on_machine.is_dir() else "a file" if is_there else "a path"
                what = f"{quote(typed)} is {kind} on this machine"
                if refuses_names or not (is_name or (place is not None and not typed.startswith("~"))):
                    raise InvalidInput(
                        f"{what}, and `{command}` takes paths of a vault", hint=self._hint_at_path(on_machine)
                    )
                from avfs_git.model import Warning  # noqa: PLC0415 - only for the remark

                self.output.warn([Warning("path.on_machine", f"{what}, too: `{command}` takes the one in the vault")])
        if place is None:
            return parse_tree_path(text)
        try:
            path = parse_tree_path(place.prefix + b"/" + os.fsencode(text))
        except PathEscapes as err:
            raise PathEscapes(text) from err
        self._read_relative = self._read_relative or bool(place.prefix)
        return path

    def _is_new_on_machine(self, path: Path) -> bool:
        """Whether nothing is at an absolute path whose directory is in the user's home, or in the mount around us."""
        place = self.place()
        tops = [expand("~"), *([place.top] if place is not None and place.is_mount else [])]
        return any(top != Path("/") and top in path.parents for top in tops) and path.parent.is_dir()

    def _hint_at_path(self, path: Path) -> str:
        place = self.place()
        if place is not None and place.is_mount and path.is_absolute() and path.is_relative_to(place.top):
            there = shlex.quote(f"/{path.relative_to(place.top)}")
            return f"Write it from the root of the workspace: `{there}`."
        name = shlex.quote(self._name_of(place.vault)) if place is not None else "NAME"
        return f"Add `--vault {name}` to mean the path in {'that' if place is not None else 'a'} vault."

    def tree_directory(self) -> TreePath:
        """Say which directory of the workspace is meant where none is named: the current one, or the root."""
        place = self.place_in_tree()
        return place.prefix if place is not None else ROOT

    def _find_owner(self, fork: str) -> str | None:
        owners = []
        for info in self.avfs.list_vaults():
            if info.problem is not None:
                continue
            with self.avfs.open_vault(info.name) as vault:
                if any(known.name == fork for known in vault.list_forks()):
                    owners.append(info.name)
        if len(owners) > 1:
            choices = " or ".join(f"`--vault {shlex.quote(f'{owner}@{fork}')}`" for owner in owners[:3])
            raise InvalidInput(f"more than one vault has a fork {quote(fork)}", hint=f"Say which: {choices}.")
        return owners[0] if owners else None

    def warn_of_size(self, source: Path) -> None:
        """Warn before all files of a user, or of the machine, are taken in."""
        if is_whole_home(source):
            from avfs_git.model import Warning  # noqa: PLC0415 - only for the remark

            what = (
                f"{quote(os.fspath(source))} is a home directory or the whole machine: avfs takes in all that is "
                "below it"
            )
            self.output.warn([Warning("source.huge", what)])

    def use_text(self) -> None:
        """Answer with text after all."""
        from avfs_git.cli.output.text import TextOutput  # noqa: PLC0415 - only where it is needed

        self.output = TextOutput(color=wants_color())

    def close(self) -> None:
        """Close what was opened."""
        if self._avfs is not None:
            avfs, self._avfs = self._avfs, None
            avfs.close()
