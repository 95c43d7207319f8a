"""The table of commands: which exist, in which folder of `cli.commands` each is, and the groups that find them.

Decided here: the sections of the help, and the one line that the help shows of each command. A command is imported when
it is asked for, so that `avfs --help` loads neither the SDK nor rich.
"""

from __future__ import annotations

import keyword
import shlex
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from avfs_git.cli.layout import HelpContext
from avfs_git.cli.verb import help_option, refuse_contradictions, shared_options
from avfs_git.errors import BadUsage, quote
from avfs_git.values import NamedTuple

if TYPE_CHECKING:
    from avfs_git.cli.context import State

SECTIONS = {
    "vaults": "Vaults and forks",
    "mounts": "Mounts",
    "running": "Running commands",
    "history": "Checkpoints and history",
    "merging": "Merging",
    "remotes": "Remotes",
    "reading": "Files",
    "files": "Files",
    "upkeep": "Upkeep",
}
"""The section of the help in which the commands of a folder of `cli.commands` are listed."""


class Entry(NamedTuple):
    """A command, or a group of them, as the help of its parent lists it."""

    folder: str
    help: str


VERBS = {
    "vault": Entry("vaults", "Manage vaults: repositories with their workspaces"),
    "fork": Entry("vaults", "Manage forks: branches with a workspace of their own"),
    "end": Entry("vaults", "End the fork of a directory that `avfs fork SOURCE DIR` made"),
    "mount": Entry("mounts", "Mount the workspace of a fork at a directory"),
    "unmount": Entry("mounts", "Unmount a fork, without a checkpoint"),
    "sessions": Entry("mounts", "List mounts"),
    "watch": Entry("mounts", "Show what programs do to the files of a live tree, while they do it"),
    "stop": Entry("mounts", "Save a last checkpoint, then unmount"),
    "run": Entry("running", "Run a program of yours, such as an agent, in a fork of its own"),
    "shell": Entry("running", "Work in a fork with your own shell"),
    "exec": Entry("running", "Run a command in the workspace, and commit what it changed"),
    "proxy": Entry("running", "Run commands in a workspace, one by one or many in a session"),
    "attempts": Entry("running", "Compare the attempts of `avfs run --attempts`, and pick one"),
    "setup": Entry("running", "Register avfs with a coding agent: hooks, MCP server, skill"),
    "hook": Entry("running", "Answer an event of a coding agent, which its harness runs this for"),
    "policy": Entry("running", "Show the rules about commands"),
    "approvals": Entry("running", "Approve or deny commands that need a person"),
    "audit": Entry("running", "List what was done, refused and approved in a vault, newest first"),
    "mcp": Entry("running", "Serve vaults and forks to agents over the Model Context Protocol"),
    "checkpoint": Entry("history", "Manage checkpoints: saved states of a workspace"),
    "add": Entry("history", "Add files to history that checkpoints left out"),
    "status": Entry("history", "Show what the next checkpoint would save"),
    "where": Entry("history", "Show which vault and fork commands mean here, and what to do next"),
    "log": Entry("history", "Show the history of a fork, or of one path"),
    "diff": Entry("history", "Show how two states differ"),
    "show": Entry("history", "Show one checkpoint and what it changed"),
    "blame": Entry("history", "Show where each line of a file came from"),
    "checkout": Entry("history", "Restore an earlier version of a path"),
    "revert": Entry("history", "Restore the previous version of a path"),
    "undo": Entry("history", "Undo the last operation on a fork"),
    "redo": Entry("history", "Redo the operation that was undone last"),
    "op": Entry("history", "Show the operation log"),
    "merge": Entry("merging", "Merge forks into a fork"),
    "overlap": Entry("merging", "Show which forks touch the same files, and which would conflict"),
    "resolve": Entry("merging", "Resolve a path in conflict"),
    "rebase": Entry("merging", "Rebase a fork's own commits onto another state"),
    "cherry-pick": Entry("merging", "Apply the changes of single checkpoints to a fork"),
    "squash": Entry("merging", "Squash FROM..TO into one commit"),
    "clone": Entry("remotes", "Clone a repository into a new vault, with the remote `origin`"),
    "remote": Entry("remotes", "Manage remotes: other repositories that a vault knows"),
    "fetch": Entry("remotes", "Fetch from a remote; no fork changes"),
    "pull": Entry("remotes", "Fetch, then merge the remote's branch into a fork"),
    "push": Entry("remotes", "Push forks to a remote, as branches"),
    "prefetch": Entry("remotes", "Fetch file contents into a vault that was cloned with --lazy"),
    "update": Entry("remotes", "Update a fork from its upstream"),
    "apply": Entry("remotes", "Write the changes of a fork into a directory, unstaged"),
    "ls": Entry("reading", "List a directory"),
    "cat": Entry("reading", "Print files"),
    "grep": Entry("reading", "Find lines that match a pattern"),
    "search": Entry("reading", "Find files by their words, the best first"),
    "find": Entry("reading", "Find files by name, kind, size, time, tag or change"),
    "write": Entry("files", "Write a file"),
    "mkdir": Entry("files", "Make directories"),
    "rm": Entry("files", "Remove files and directories"),
    "cp": Entry("files", "Copy files and directories"),
    "mv": Entry("files", "Move or rename files and directories"),
    "tree": Entry("reading", "Show a directory and everything below it"),
    "stat": Entry("reading", "Show facts about a path"),
    "touch": Entry("files", "Make an empty file, or set the time of a path to now"),
    "meta": Entry("files", "Tag files and directories, and give them metadata"),
    "import": Entry("files", "Copy files from this machine into the workspace"),
    "export": Entry("files", "Copy files from the workspace to this machine"),
    "hooks": Entry("upkeep", "Manage hooks: programs that run at the ends of operations"),
    "plugins": Entry("upkeep", "Manage plug-ins: programs that are asked before each change"),
    "doctor": Entry("upkeep", "Check a vault, and repair it"),
    "gc": Entry("upkeep", "Free space used by unreachable data"),
    "prune": Entry("upkeep", "Forget old operations, and free what only undo needed"),
    "stats": Entry("upkeep", "Show what a vault holds, and what takes its room on disk"),
    "maintain": Entry("upkeep", "Keep a vault small and fast"),
    "completion": Entry("upkeep", "Print the script with which a shell completes avfs's command lines"),
    "schema": Entry("upkeep", "Print the JSON Schema of a command's JSON document"),
}
"""All commands in the order of the help. The module has the command's name."""

ALIASES = {"snapshot": "checkpoint", "ps": "sessions"}
"""Names that are accepted and not listed."""


_MEANT = {
    **dict.fromkeys(("commit", "save", "ci", "amend"), "checkpoint save"),
    **dict.fromkeys(("branch", "worktree", "workspace", "br"), "fork"),
    **dict.fromkeys(("branch -d", "branch -D"), "fork delete"),
    **dict.fromkeys(("branch -a", "branch -l", "branch --list", "pr list"), "fork list"),
    **dict.fromkeys(("switch", "use", "edit"), "--fork NAME COMMAND"),
    **dict.fromkeys(("switch -c", "switch --create"), "fork create"),
    **dict.fromkeys(("reset", "rollback", "stash pop", "stash apply"), "checkpoint restore LABEL"),
    "reset --hard": "checkpoint restore HEAD",
    **dict.fromkeys(("stash list", "tag -l", "tag --list"), "checkpoint list"),
    **dict.fromkeys(("stash drop", "tag -d", "tag --delete"), "checkpoint delete LABEL"),
    "restore": "checkpoint restore HEAD PATH",
    "co": "checkout",
    "st": "status",
    "info": "vault info",
    **dict.fromkeys(("compact", "cache"), "gc"),
    **dict.fromkeys(("cd", "pwd"), "where"),
    "quota": "vault config",
    **dict.fromkeys(("init", "create", "new"), "vault create"),
    **dict.fromkeys(("list", "vaults"), "vault list"),
    "sh": "shell",
    **dict.fromkeys(("umount", "eject"), "unmount"),
    **dict.fromkeys(("delete", "remove"), "rm"),
    **dict.fromkeys(("stash", "describe", "tag", "label"), "checkpoint save LABEL"),
    "untag": "meta untag",
    "abandon": "fork delete",
    "bookmark": "fork",
    "repo": "vault",
    "repo clone": "clone",
    "config": "vault config",
    "version": "--version",
    "sync": "update",
    "pr": "push",
    "rename": "mv",
    "ls-files": "tree",
    "copy": "cp",
    "move": "mv",
    "help": "--help",
    "fsck": "doctor",
    "reflog": "op log",
    "forks": "fork list",
    "checkpoints": "checkpoint list",
    "history": "log",
    **dict.fromkeys(("evolog", "obslog", "file-history", "versions"), "log PATH"),
    **dict.fromkeys(("annotate", "praise"), "blame"),
}
"""Names of other programs for these commands."""
_OF_GROUPS = {
    "new": ("create",),
    "make": ("create",),
    "rm": ("delete", "remove", "disable"),
    "remove": ("delete", "disable"),
    "delete": ("remove", "disable"),
    "ls": ("list",),
    "show": ("info", "list", "compare"),
    "create": ("save",),
    "add": ("create", "enable"),
    "get-url": ("list",),
    "mv": ("rename",),
    "move": ("rename",),
    "-m": ("rename",),
    "revert": ("undo",),
}
"""The same, behind the name of a group."""
_OUTSIDE_GROUPS = dict.fromkeys(("checkout", "switch", "use"), "--fork NAME COMMAND")
"""What is meant behind the name of a group, and is no verb of that name."""
_OF_FORKS = frozenset({"vault", "fork", "checkpoint", "op"})
"""Groups about what verbs without a group are about, too: behind another one, `rm` or `prune` means something else."""
_SUGGESTED = 3
"""So many commands are suggested at most."""
_MAKERS = {"fork": "create", "vault": "create", "checkpoint": "save"}
"""The verbs that make what a group is about, where a name is typed instead of a verb."""


class VerbGroup(click.Group):
    """A group of verbs.

    Without one it runs its default or fails, and it suggests what a mistyped one may have meant.
    """

    context_class = HelpContext

    def __init__(self, name: str, *, default: str | None = None, **settings: Any) -> None:
        self.default = default
        settings = {"help": VERBS[name].help if name in VERBS else None, **settings}
        super().__init__(name, no_args_is_help=False, add_help_option=False, **settings)
        self.params.extend([*shared_options(hidden=type(self) is VerbGroup and default is None), help_option()])

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List the verbs in the order they were given."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs, each with the whole first line of its help, which click cuts off to fit the width."""
        verbs = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, (of.help or "").partition("\n")[0]) for name, of in verbs if of is not None])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; a lone group without a default is a mistake that its help answers."""
        try:
            refuse_contradictions(self, ctx, args)
            rest = super().parse_args(ctx, args)
        except click.UsageError as error:  # as in `Verb.parse_args`
            error.ctx = error.ctx or ctx
            raise
        if not rest and not ctx._protected_args and not ctx.resilient_parsing:  # noqa: SLF001 - click has no other way
            if self.default is None:
                raise MissingVerb(ctx)
            ctx._protected_args = [self.default]  # noqa: SLF001 - as above
        return rest

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb.

        Raises:
            BadUsage: If no command has the name.
        """
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None:
            raise self._explain_unknown(ctx, name, args[1:])
        return name, command, args[1:]

    def _explain_unknown(self, ctx: click.Context, name: str, rest: list[str]) -> BadUsage:
        """Say what a word may have meant that is no command here: one of a similar name, one elsewhere, or a name."""
        place, is_program = ctx.command_path, ctx.parent is None
        own = {verb: [verb] for verb in (*self.list_commands(ctx), *(ALIASES if is_program else ()))}
        close = self._find_other(name) or _find_close(name, own)
        if is_program and not close:
            close = _find_close(name, self._list_meanings(ctx))
        elsewhere = _find_meant(name, rest) if is_program else None
        if ctx.info_name in _OF_FORKS:
            elsewhere = _OUTSIDE_GROUPS.get(name, name if name in VERBS else None)
        if is_program and elsewhere is not None:
            hint = f"Did you mean `{place} {' '.join((elsewhere, *self._find_verb(ctx, elsewhere, rest)))}`?"
        elif close:
            hint = f"Did you mean {' or '.join(f'`{place} {verb}`' for verb in close)}?"
        elif elsewhere is not None:
            hint = f"Did you mean `{ctx.find_root().command_path} {elsewhere}`?"
        elif (maker := _MAKERS.get(str(ctx.info_name))) is not None and not name.startswith("-"):
            hint = f"`{place} {maker} {shlex.quote(name)}` makes one of that name. See `{place} --help`."
        elif is_program and _is_program(name):
            hint = f"`{place} exec {shlex.join([name, *rest])}` runs that program in the fork."
        else:
            hint = f"See `{place} --help`."
        words = name if is_program else f"{place.partition(' ')[2]} {name}"
        return BadUsage(f"there is no command {quote(words)}", hint=hint)

    def _list_meanings(self, ctx: click.Context) -> dict[str, list[str]]:
        """List the verbs in groups and other programs' words, with the commands that they mean."""
        found: dict[str, list[str]] = {}
        for name in self.list_commands(ctx):
            if isinstance(group := self.get_command(ctx, name), click.Group):
                for verb in group.list_commands(ctx):
                    found.setdefault(verb, []).append(f"{name} {verb}")
        return found | {word: [meant] for word, meant in _MEANT.items() if " " not in word}

    def _find_verb(self, ctx: click.Context, group: str, rest: list[str]) -> list[str]:
        """Find the verb that was typed behind another program's name for a group."""
        meant = self.get_command(ctx, group)
        if not rest or not isinstance(meant, VerbGroup):
            return []
        return [rest[0]] if rest[0] in meant.commands else meant._find_other(rest[0])  # noqa: SLF001 - of this class

    def _find_other(self, name: str) -> list[str]:
        """Find the verb of this group that has another name in other programs."""
        return [verb for verb in _OF_GROUPS.get(name, ()) if verb in self.commands][:1]


def _find_meant(name: str, rest: list[str]) -> str | None:
    """Find what a word, or that with the next one, means in other programs."""
    if [name, *rest[:1]] == ["reset", "--hard"] and len(rest) > 1:  # to another commit than HEAD
        return f"checkpoint restore {shlex.quote(rest[1])}"
    return _MEANT.get(" ".join([name, *rest[:1]])) or _MEANT.get(name)


def _find_close(typed: str, meanings: dict[str, list[str]]) -> list[str]:
    """Find the verb that a mistyped one may have meant, given what each word means.

    Two where both are near, as `stats` and `status` are to `statsu`.
    """
    from difflib import get_close_matches  # noqa: PLC0415 - only after a mistake

    near = get_close_matches(typed, meanings, n=2, cutoff=0.8) or get_close_matches(typed, meanings, n=1, cutoff=0.7)
    return list(dict.fromkeys(verb for word in near for verb in meanings[word]))[:_SUGGESTED]


def _is_program(name: str) -> bool:
    from shutil import which  # noqa: PLC0415 - only after a mistake

    return which(name) is not None


class MissingVerb(BadUsage):
    """A group without a verb."""

    def __init__(self, ctx: click.Context) -> None:
        super().__init__("a command is missing", hint=f"See `{ctx.command_path} --help`.")
        self.help_text = ctx.get_help()


class Program(VerbGroup):
    """The top of the command line: loads a verb when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List the verbs in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a verb."""
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in VERBS:
            return None
        module = f"{name.replace('-', '_')}{'_' * keyword.iskeyword(name)}"
        command: click.Command = import_module(f"avfs_git.cli.commands.{VERBS[name].folder}.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs by section, without importing any."""
        names = self.list_commands(ctx)
        width = max(map(len, names))
        for title in dict.fromkeys(SECTIONS.values()):
            with formatter.section(title):
                verbs = (name for name in names if SECTIONS[VERBS[name].folder] == title)
                formatter.write_dl([(name.ljust(width), VERBS[name].help) for name in verbs])


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001 - click's signature
    if not value or ctx.resilient_parsing:
        return
    from avfs_git import __version__  # noqa: PLC0415 - only where it is asked for

    state: State = ctx.obj
    if state.output.structured:
        state.output.begin("version_result", "", {"version": True})
        state.output.result({"version": __version__})
    else:
        state.output.data([f"avfs {__version__}\n".encode()])
    ctx.exit(0)


PROGRAM_HELP = """Git-compatible workspaces for AI agents

A vault is a bare git repository; a fork is a branch in it with a workspace of its own; a checkpoint is a commit of a
workspace. Nothing is lost: every operation can be undone.

Options say which vault and fork are meant, else the current directory, else AVFS_VAULT and AVFS_FORK, else the
current vault. In a mount or a clone with forks, paths of the workspace are relative to the current directory;
elsewhere, and with a leading slash, to its root. Without --vault or --fork, a path that this machine has outside of a
mount is refused if it begins with / or ~, or elsewhere with a dot. Names of states are labels of checkpoints,
FORK@LABEL, forks, ids of commits (four letters or more) and HEAD, each also with ~N.
"""

program = Program(
    "avfs",
    default="where",
    help=PROGRAM_HELP,
    params=[
        click.Option(
            ["-V", "--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_show_version,
            help="Show the version and exit.",
        )
    ],
)
