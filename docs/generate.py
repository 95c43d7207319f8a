"""Write docs/reference/cli.md and docs/reference/json.md from the commands, the errors and the records.

`python docs/generate.py` writes them, `--check` fails where they are stale; a test calls `render`. What is
written comes from the code alone: the help of each command, the classes in `errors`, the fields of the values in
`model`, `proxy` and `cli.results` and the texts beside them. Only the lines about codes of warnings and of the doctor's
problems stand here; they are compared with the codes that the code uses.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import get_args

import click

from avfs_git import errors, model
from avfs_git import records as mapping
from avfs_git.cli import results, table
from avfs_git.cli.verb import Verb
from avfs_git.proxy.exec import envelope, steplog
from avfs_git.proxy.policy import approvals, decision
from avfs_git.workspace.vault.log import audit

DOCS = Path(__file__).resolve().parent
PACKAGE = Path(errors.__file__).parent
WIDTH = 96

CLI_INTRO = """# The command line

<!-- Written by `make docs` from the commands themselves. -->

Every command answers with text, or with one JSON document under `--json`: see [json.md](json.md). The options
`--vault`, `--fork`, `--json`, `--jq`, `--verbose` and `--no-pager` may stand before or after the verb, and each command has
`--help`: the sections below leave them out. An option with a value is given once, unless its help says that it may be
repeated: of two, avfs takes neither. The words are explained in [glossary.md](glossary.md).

The environment:

| Variable | Means |
|---|---|
| `AVFS_HOME` | where vaults are kept; default `${XDG_DATA_HOME:-~/.local/share}/avfs` |
| `AVFS_VAULT` | the vault where `--vault` is not given, also `NAME@FORK` |
| `AVFS_FORK` | the fork where neither `--fork` nor `--vault` is given |
| `AVFS_MOUNTPOINT` | set by `avfs exec` for its command: the root of the tree that `AVFS_VAULT` and `AVFS_FORK` name |
| `AVFS_PROMPT` | set by `avfs shell` for the prompt: `VAULT:FORK` |
| `SHELL` | the shell of `avfs shell` |
| `XDG_CONFIG_HOME` | the user's policy for commands is `avfs/policy.toml` in it; default `~/.config` |
| `AVFS_AUTHOR_NAME`, `AVFS_AUTHOR_EMAIL` | the author of checkpoints |
| `GIT_AUTHOR_NAME`, `GIT_AUTHOR_EMAIL`, git's configuration | the same, where those are not set, as git finds the author |
| `AVFS_PAGER` | the pager of results that are longer than the screen, a command for a shell; `cat` for none |
| `GIT_PAGER`, the user's `core.pager`, `PAGER` | the same, where that is not set; else `less` |
| `LESS`, `LV` | options of these pagers; `FRX` and `-c` where they are not set, as git's |
| `NO_COLOR` | no colours, with any value |

`--vault` takes a name, a name with a fork (`NAME@FORK`), a path to any bare repository (what holds a slash), or the name
of a fork that only one vault has.

## Which fork

Every command finds its vault and its fork by the same rule. The first of these that names one counts:

1. **An option or argument**: `--vault NAME[@FORK]`, `--fork NAME`, and the fork in `update FORK`, `merge --into FORK`
   and the like. `--fork` alone means a fork of the vault that steps 2 to 4 find. `--vault` alone means the vault's
   default fork, or the fork of the current directory if that is of the same vault.
2. **The current directory**: a mount of a fork, of one of its states, or of a whole vault, where the names that lead
   to the directory say the fork; the tree of a command that `avfs exec` runs; or a clone or folder that has forks,
   which says the vault. Of several, the innermost.
3. **The environment**: `AVFS_VAULT` and `AVFS_FORK`. An empty variable counts as not set; an empty option is refused.
4. **The current vault** (`avfs vault use`).

Where nothing names a fork, the vault's default fork is meant: the fork that the repository's HEAD names, else the only
fork. Among several forks of a clone or folder none is the default: the command lists them and asks which. A vault
whose forks are all gone says so.

Where directory and environment contradict each other, a command that changes something is refused
(`input.place_disputed`), and the hint has the options that name either. A command that only looks shows what the
directory says, with a warning. Every result names vault and fork: text on standard error, JSON in `request`. Commands
that write other programs' bytes (`cat`, `exec`, `export --tar` to standard output) name them on a terminal only.

## Paths

In a mount, and in a clone or folder that has forks, a path of the workspace is relative to the current directory, as
in git; so is the directory in which `exec` runs its command. Elsewhere a path is relative to the root of the
workspace. A path that begins with `/` always is, so a path of this machine is refused: what exists outside of a mount, and
what would be new in your home directory or in the mount around you. With `--vault` or `--fork`, each path is the workspace's.
"""

JSON_INTRO = """# JSON

<!-- Written by `make docs` from the code. -->

With `--json`, before or after the verb (not behind `--`), a command writes exactly one JSON document to standard output,
in every outcome, a command line that cannot be understood included. Nothing else goes to standard output, and nothing
to standard error. Only `avfs grep --stream`, `avfs audit --follow` and `avfs watch` write one line of JSON for each match
or event, as it comes: the record alone, a [GrepHit](#grephit), an [AuditEntry](#auditentry) or a [FileEvent](#fileevent). The
last line is a document where they fail, and where `grep` warns. `--help` wins over `--json`.

`--jq EXPR` writes what a [jq](https://jqlang.org) expression makes of that document instead: a line for each result,
texts as they are. It needs the Python package `jq`: `pip install 'avfs-git[jq]'`. The document of a failure goes to
standard error whole, and the exit status is that of the command. avfs refuses a wrong expression before the command
begins; an expression that fails on the document ends with status 2 after it.

| Field | Holds |
|---|---|
| `schema_version` | 1 |
| `kind` | which verb answers: `checkpoint_save_result`; `error_result` where no verb was understood, without a schema |
| `success` | false after an error, a failed `exec`, an unread file of `cat`; true with status 1 for no match, or for conflicts |
| `request` | the arguments with defaults, and the vault and fork meant; `arguments` as given where they are not understood |
| `result` | the record of the verb's result; null on failure |
| `warnings` | what the caller should know: objects with a [`code`](#codes-of-warnings), `message` and, if one is meant, `path` |
| `error` | null, or an object with `code`, `message`, `hint`, `exit_code`, `details`; `traceback` of a bug under `--verbose` |

`avfs schema KIND` prints the JSON Schema of a kind of document.

The promise: within a schema number fields are added, never renamed or removed, and codes are added, never changed. A
reader ignores fields that it does not know. An exit status that it does not know is a failure.

How values are spelled:

- Times are RFC 3339 in UTC, with nanoseconds where there are any. Ids are whole. Sizes are bytes.
- Paths of the workspace are relative to its root, without a leading slash; the root is `/`.
- What is bytes in the workspace comes as text. Where it is not UTF-8, the text is approximate and a second field, `NAME_b64`,
  holds the bytes exactly, in base64.
- Modes of files are four octal digits, modes in git's trees six.
"""

WARNINGS = {
    "aftermath.failed": "The operation is done and on the disk; a step after it failed. The message says which.",
    "apply.beside": "Files are not in the fork's history any more, but the fork still has them, in no commit; they stay as "
    "they are in the directory.",
    "apply.left": "An `apply` that was killed has left a file there, which may hold an edit that was saved in "
    "that moment.",
    "apply.submodule": "A submodule changed; `apply` left it as it is in the directory.",
    "apply.left_out": "The fork removed a file that git leaves out of the directory, a sparse checkout; it was left "
    "as it is.",
    "apply.uncommitted": "What was uncommitted when the fork was made, and is so in it now or in no commit of its, stays as it is in the "
    "directory.",
    "cache.not_written": "The stat cache could not be written; the next checkpoint reads more files.",
    "capture.access_list": "An access control list is not in the checkpoint; the mode's group bits are its mask.",
    "capture.kept_beside": "A path stays out of history, as before, though no rule ignores it.",
    "capture.closed": "This user may not read it in the directory that is copied: it is left out, a directory empty.",
    "capture.left_out": "A device, socket or pipe is not in the checkpoint.",
    "capture.per_file": "Programs changed files without a pause, and were not held: not all files are of one moment.",
    "capture.unreadable": "A directory could not be read; the checkpoint has it as the last one did.",
    "clone.not_lazy": "The remote does not support partial clones; all contents were fetched.",
    "checkpoint.over_quota": "What the fork holds exceeds a quota, as programs on overlayfs may: it is all saved.",
    "exec.over_quota": "A command's changes are not committed: they exceed a quota, or the vault is full.",
    "exec.git_beside": "Another program's git moved the branch while the command ran; its undo leaves that.",
    "exec.saved_beside": "A checkpoint saved a part of the command's changes while it ran. `avfs undo` takes "
    "both back.",
    "exec.isolated_git": "git in an isolated command could not write to the vault.",
    "exec.no_read_only_view": "No read-only view can be mounted here; the command ran on a writable one.",
    "exec.not_started": "The command could not be started. The message says why.",
    "exec.output_cut": "The output file holds only the first part of the output: `--max-output-file`.",
    "exec.output_lost": "The whole output could not be written to a file.",
    "exec.planted": "The command left a file in the vault that git would obey or wait for; avfs removed it.",
    "exec.read_only_view": "The command may have failed because its view was read-only.",
    "exec.stuck": "A process of the command waits in the kernel and cannot be killed; it may still change files.",
    "fetch.attributes_left_out": "Set-id bits or system attributes in a fetched sidecar were left out.",
    "fetch.git_dirs_left_out": "Git directories in a fetched sidecar were left out: `--with-git-dirs`.",
    "fetch.name_unusable": "A ref of the remote was left out; no ref here can have its name.",
    "fetch.no_commit": "A ref of the remote was left out; it does not name a commit.",
    "fetch.shallow": "A ref did not move, because the remote is shallow and its history begins after the commits here.",
    "fetch.sidecar_refused": "A sidecar of the remote is refused. The message says why.",
    "file.unrecorded": "Unsaved changes could not be recorded before a removal that was forced; `undo` does not bring them "
    "back.",
    "fork.damaged": "A fork's branch or head cannot be read.",
    "fork.foreign_repository": "A nested repository of another user, or that has git work elsewhere: its settings "
    "were left out.",
    "fork.home_left_out": "The source holds avfs's own home, with its vaults; that was left out.",
    "fork.ignored_deleted": "`avfs end` deleted a pushed fork, and with it ignored files that were made or changed in it; "
    "`undo` brings the fork back.",
    "fork.labels_deleted": "`avfs end` deleted a pushed fork, and with it labels that were not pushed; `undo` brings the "
    "fork back.",
    "fork.marked_unchanged": "Git was told not to look at a file of the clone; the fork has what the clone's "
    "index names.",
    "fork.moved_outside": "Another process moved the fork's branch; the workspace lacks the new commits: `avfs "
    "update`.",
    "fork.submodule": "A nested repository could not be copied; its `.git` is left out.",
    "undo.command_runs": "A command runs in the fork: `undo` takes its changes back first, once it has ended.",
    "undo.ignored_stay": "`op undo` leaves the ignored files that the operation changed.",
    "undo.stopped": "Undo or redo was refused for a part of the same command, which stays as it is.",
    "undo.workspace_missing": "The workspace of a deleted fork is not whole in the trash; unsaved files may be missing.",
    "fork.clone_replaced": "An older vault has forks of another repository that was at this path.",
    "fork.branch_of_clone": "The clone has a branch of the fork's name at another commit than the fork begins with: a push of "
    "the fork is one to that branch. `--branch` gives the fork another name.",
    "fork.other_origin": "A program has set the remote `origin` of the vault to another place than the clone: pushes of "
    "this fork, and of all others of the clone, go there.",
    "fork.source_changing": "git worked in the source all the while; the fork may have files of two moments.",
    "fork.unfinished": "The source is in the middle of a merge, rebase or the like; the fork has only the "
    "source's files.",
    "run.left_in_git": "A fork without changed files is kept: git has put work on other branches, in the stash "
    "or index.",
    "attributes.not_applied": "Files are saved as they are; git would store them in another form, as "
    "`.gitattributes` or `core.autocrlf` says.",
    "attempts.remade": "A fork with the name of an attempt's is kept: it was made anew since, or git has moved "
    "its branch.",
    "run.gone": "The fork was deleted during the run. A fork that was made under its name since stays as it is.",
    "run.in_use": "A fork that was to be deleted is kept: programs still use its mount, or another process works "
    "in it.",
    "run.not_saved": "The last checkpoint of an attempt failed; the fork stays mounted.",
    "run.still_mounted": "A fork stays mounted after the run. The message says why.",
    "exec.no_terminal": "The command may wait for a person, and has no terminal, which `avfs exec -t` gives it.",
    "exec.message_unused": "`--message` is in no commit: avfs made none for the command.",
    "exec.short_timeout": "`--timeout` without a unit is less than 1000: it is milliseconds.",
    "run.not_started": "The program could not be executed. The message says why.",
    "gc.busy": "Another process collects garbage or merges packs; nothing was done.",
    "gc.not_swept": "Some unreachable data was not removed. The message says why.",
    "gc.refs_left": "Some refs could not be removed; the next `avfs gc` tries again.",
    "gc.sidecars_left": "Old sidecars of a fork stay, because another process has it; the next run tries again.",
    "maintain.failed": "A step of maintenance failed; the message says why. The next run repeats it.",
    "git.head_elsewhere": "git's HEAD in the live tree is not on the fork's branch.",
    "git.head_stays": "`undo` or `redo` did not move git's HEAD in the live tree.",
    "git.link_removed": "A program removed the `.git` of a live tree; the next operation that changes something puts "
    "it back.",
    "git.own_repository": "A program replaced `.git` by a repository of its own, or by a link to one, which is in no "
    "checkpoint.",
    "git.unmerged": "git has paths in conflict in the live tree; a checkpoint saves these files as they are.",
    "git.worktree_removed": "Another program removed git's directory of a live tree; it is there again, without what "
    "was staged.",
    "hook.changed": "A hook did not run, because its program changed or was removed since it was enabled.",
    "hook.failed": "A hook that runs after an operation failed.",
    "hook.not_enabled": "A hook did not run, because it is not enabled.",
    "import.borrowed": "The source borrows objects from another repository; avfs copied them into the vault.",
    "import.borrowed_missing": "The source borrows objects from a place that does not exist.",
    "import.source_changing": "git worked in the source meanwhile; the vault may have files of two moments.",
    "import.history_only": "The source has a working tree; its uncommitted changes are not imported.",
    "label.damaged": "A label's ref cannot be read, or names a missing commit: it is not among the checkpoints.",
    "merge.attribute_kept": "Both sides changed an attribute of a path; the target's stays.",
    "merge.driver_not_run": "A path has a merge driver that avfs does not run; it was merged by lines.",
    "fork.not_counted": "Contents of a partial clone could not be fetched: what a fork changed was not counted.",
    "merge.left_out": "An untracked path of the source, not ignored here, was left out.",
    "merge.message_unused": "`--message` is in no commit: nothing comes in, or the fork moves on without one.",
    "merge.markers": "A file was resolved as it is, and has conflict markers.",
    "merge.replaced_ignored": "An ignored path was replaced by a tracked one; the checkpoint before has it.",
    "merge.uncommitted": "A fork has uncommitted changes; they were not compared.",
    "overlap.left_out": "Two forks could not be compared. The message says why.",
    "path.on_machine": "A path exists on this machine too; the command took the one in the vault.",
    "place.disputed": "The current directory and the environment name different forks; the directory's is shown.",
    "push.no_sidecar": "No pushed checkpoint of a fork names its newest ignored files, as where git has left it; none were pushed.",
    "push.uncommitted": "A fork has changes that are in no checkpoint; they were not pushed.",
    "restore.changed_meanwhile": "Programs changed files during the restore; the checkpoint has their changes.",
    "restore.kept": "A path was not removed: it is in no checkpoint, or something is mounted at it.",
    "restore.written_meanwhile": "A program wrote to a file during its replacement; the message names the commit "
    "with it.",
    "session.not_saved": "A hook or plug-in refused what programs wrote while the session ended; it stays in the "
    "workspace.",
    "session.silent": "A session is stopped or hangs; the result shows the fork as on disk, perhaps without the "
    "last writes.",
    "sidecar.left_out": "An ignored path is excluded from checkpoints, or is too large for them.",
    "source.huge": "The source is a home directory or the whole machine; avfs takes in all that is below it.",
    "transfer.leads_out": "An imported or exported symbolic link leads out of what was imported or exported. It "
    "came along.",
    "transfer.left_out": "A path was not imported or exported. The message says why.",
    "update.upstream_gone": "The remote does not have the branch that the fork follows; another one was merged.",
    "workspace.in_use": "Another process uses the fork; the result shows its current state.",
    "workspace.recovered": "avfs repaired the workspace after a crash. The message says what it did.",
    "workspace.unfinished": "An interrupted operation cannot be reversed here; nothing may be written.",
}
"""Each code of a warning, with what it says; `render_codes` compares them with those in the code."""
PROBLEMS = {
    "fork.damaged": "The head of a fork cannot be read.",
    "fork.left_refs": "Labels or sidecars of a fork without a branch. Repair: remove them.",
    "git.failed": "`git fsck` could not run.",
    "home.closed": "This user may not read and write a file or directory of its home of avfs.",
    "home.damaged": "A file of the home does not count, because it is not as avfs wrote it or others may write to it.",
    "home.no_directory": "Something that is no directory is where the home has one.",
    "home.no_file": "Something that is no regular file is where the home has one.",
    "lock.left": "A lock file of git stays. Repair, after an hour: remove it.",
    "log.cut_short": "The operation log ends before operations that the audit log has: those cannot be undone.",
    "log.damaged": "A line of the operation log is not as it was written; undo passes over its operation.",
    "objects.bad_list": "A commit-graph or multi-pack-index is damaged, which git makes of objects. Repair: remove it.",
    "objects.fsck": "`git fsck` reports a damaged or missing object.",
    "objects.leftover": "A temporary file of a dead process. Repair: remove it.",
    "objects.pack_without_index": "A pack has no index, or a damaged one, so its objects are not found. Repair, without one: git makes it.",
    "audit.unreadable": "The audit log cannot be read by this user, and was not checked.",
    "objects.unreadable": "The directory of packs cannot be read.",
    "ref.damaged": "A ref cannot be read, or names a missing object. Repair, if the log has one: its last value.",
    "sidecar.damaged": "The sidecar of a fork cannot be read.",
    "statcache.unreadable": "The stat cache of a fork cannot be read. Repair: remove it.",
    "trash.missing": "The workspace of a deleted fork is not whole in the trash; undo brings its commits back only.",
    "vault.commits_damaged": "The table of commits whose sidecars count has lost some. Repair: note them again, as the operation log has them.",
    "vault.closed": "This user may not read and write a file or directory of a vault to which it may write.",
    "vault.no_directory": "Something that is no directory is where the vault has one.",
    "vault.no_file": "Something that is no regular file is where the vault has one.",
    "vault.no_format": "The file is gone that says of which format the vault is. Repair, if workspaces are there: make it again.",
    "workspace.busy": "A workspace is in use and was not checked; no fault.",
    "workspace.orphan": "A workspace has no branch. Repair: move it to the vault's trash.",
    "workspace.upper_lost": "A workspace has lost its upper layer. Repair: make it again, with files as last recorded.",
    "worktree.bad_index": "Git's index of a linked working tree cannot be read, and `avfs gc` deletes nothing.",
    "worktree.half_made": "The git directory of a mount is incomplete. Repair: complete it if it has an index, else move it to the vault's trash.",
}
"""The same for the problems that the doctor finds."""
DOCTOR_INTRO = """Of `problems` in [DoctorReport](#doctorreport). A workspace that cannot be captured has
the code of the error, a file that a checkpoint would leave out the code of the warning."""

_MODULES = (envelope, decision, steplog, approvals, audit)
_COMPUTED = {kind.__name__: names for kind, names in mapping.COMPUTED.items()}


@dataclass
class Field:
    """One field of a record."""

    name: str
    annotation: str
    text: str


@dataclass
class Record:
    """A value type, as its source describes it."""

    name: str
    text: str
    fields: list[Field]


def read_records(path: Path) -> dict[str, Record]:
    """Read the value types of a module, with the texts that stand behind their fields."""
    found: dict[str, Record] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        record = Record(node.name, ast.get_docstring(node) or "", [])
        for item, following in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                text = ""
                if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                    text = str(following.value.value)
                record.fields.append(Field(item.target.id, ast.unparse(item.annotation), text))
            elif isinstance(item, ast.FunctionDef) and item.name in _COMPUTED.get(node.name, ()):
                record.fields.append(
                    Field(item.name, ast.unparse(item.returns) if item.returns else "", ast.get_docstring(item) or "")
                )
        found[node.name] = record
    return found


_PLAIN = {
    "str": "text",
    "int": "number",
    "float": "number",
    "bool": "true or false",
    "bytes": "text",
    "Path": "text",
    "CheckpointValue": "[Checkpoint](#checkpoint)",
}


_ENUMERATIONS: dict[str, type[StrEnum]] = {
    name: kind
    for module in (model, *_MODULES)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, StrEnum) and kind is not StrEnum
}


_LITERALS = {
    "AuditOutcome": model.AuditOutcome,
    "MergeOutcome": model.MergeOutcome,
    "PushOutcome": model.PushOutcome,
    "RunOutcome": model.RunOutcome,
    "Scope": decision.Scope,
    "Severity": model.Severity,
    "UnmountOutcome": model.UnmountOutcome,
}


def spell_type(annotation: str, name: str, records: dict[str, Record]) -> str:
    """Say in words what a field holds.

    Raises:
        TypeError: If the type is neither a record nor one with words of its own.
    """
    parts = [part.strip() for part in annotation.split(" | ")]
    if len(parts) > 1:
        return " or ".join("null" if part == "None" else spell_type(part, name, records) for part in parts)
    if match := re.fullmatch(r"(?:tuple|Sequence|list)\[(.+?)(?:, \.\.\.)?\]", annotation):
        return f"list of {spell_type(match[1], name, records)}"
    if annotation.startswith("Mapping[str, object"):
        return "object"
    if annotation.startswith(("dict[", "Mapping[str, str]")):
        return "object of texts"
    if name.endswith("_ns"):
        return "time"
    if annotation == "int" and name.endswith("mode"):
        return "octal text"
    words = get_args(_LITERALS.get(annotation))
    if annotation.startswith("Literal["):
        words = ast.literal_eval(annotation.removeprefix("Literal"))
    if words:
        return " · ".join(f"`{word}`" if word.strip() else f"`{word!r}`" for word in words)
    if annotation in _ENUMERATIONS:
        return " · ".join(f"`{member.value}`" for member in _ENUMERATIONS[annotation])
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if annotation in records:
        return f"[{annotation}](#{annotation.lower()})"
    raise TypeError(f"{name}: no words for {annotation}")


def one_line(text: str) -> str:
    """Fit a text into a cell."""
    return " ".join(re.sub(r"\bNone\b", "null", text).split()).replace("|", "\\|")


def render_record(record: Record, records: dict[str, Record]) -> Iterator[str]:
    """Render the table of a record."""
    yield f"### {record.name}"
    yield ""
    yield one_line(record.text)
    yield ""
    explained = any(field.text for field in record.fields)
    yield "| Field | Holds | Meaning |" if explained else "| Field | Holds |"
    yield "|---|---|---|" if explained else "|---|---|"
    for field in record.fields:
        if field.name == "warnings":
            continue
        spelled = spell_type(field.annotation, field.name, records)
        yield f"| `{field.name.removesuffix('_ns')}` | {spelled} |{f' {one_line(field.text)} |' if explained else ''}"
    yield ""


def walk(ctx: click.Context) -> Iterator[click.Context]:
    """Visit a command and all below it."""
    yield ctx
    if isinstance(ctx.command, click.Group):
        for name in ctx.command.list_commands(ctx):
            command = ctx.command.get_command(ctx, name)
            if command is not None:
                yield from walk(
                    click.Context(command, info_name=name, parent=ctx, terminal_width=WIDTH, max_content_width=WIDTH)
                )


def all_commands() -> list[click.Context]:
    """List every command with its context, in the order of the help."""
    return list(walk(click.Context(table.program, info_name="avfs", terminal_width=WIDTH, max_content_width=WIDTH)))


def all_errors() -> list[type[errors.AvfsError]]:
    """List the errors that have a code of their own, by exit status."""
    found: list[type[errors.AvfsError]] = []
    stack: list[type[errors.AvfsError]] = [errors.AvfsError]
    while stack:
        kind = stack.pop()
        stack.extend(kind.__subclasses__())
        if "code" in vars(kind) and kind.__module__ == errors.__name__:
            found.append(kind)
    return sorted(found, key=lambda kind: (kind.exit_code, kind.code))


def render_cli() -> str:
    """Render docs/reference/cli.md."""
    lines = [CLI_INTRO]
    for ctx in all_commands():
        text = ctx.get_help()
        if ctx.parent is not None:
            text = re.sub(r"\n  -h, --help .*|\n\n--vault, --fork, --json and others work here too.*", "", text)
            text = re.sub(r"\n\nOptions:(?=\n\n|\Z)", "", text)
        lines += ["", f"## {ctx.command_path}", "", "```", text, "```"]
    return "\n".join(lines) + "\n"


def render_json() -> str:
    """Render docs/reference/json.md."""
    composed = read_records(Path(results.__file__))
    values = read_records(Path(model.__file__))
    for module in _MODULES:
        values |= read_records(Path(str(module.__file__)))
    records = {**values, **composed}
    lines = [JSON_INTRO, "## Results", "", "| Command | Kind | Result |", "|---|---|---|"]
    used: set[str] = {"VersionResult", "GrepHit"}
    lines.append(f"| `avfs --version` | `version_result` | {spell_type('VersionResult', '', records)} |")
    for ctx in all_commands():
        command = ctx.command
        if not isinstance(command, Verb):
            continue
        returned = str(getattr(command.callback, "__wrapped__").__annotations__["return"]).removesuffix(" | None")  # noqa: B009 - untyped
        used.update(returned.split(" | "))
        lines.append(f"| `{ctx.command_path}` | `{command.kind}` | {spell_type(returned, '', records)} |")
    lines += [
        "",
        "`cat` and `export --tar` to standard output write bytes, not documents, without `--json`.",
        "",
        "## Records",
        "",
    ]
    pending = sorted(used)
    done: set[str] = set()
    while pending:
        name = pending.pop(0)
        if name in done or name not in records:
            continue
        done.add(name)
        for field in records[name].fields:
            mentioned = re.findall(r"\w+", field.annotation)
            pending += [
                "Checkpoint" if word == "CheckpointValue" else word for word in mentioned if field.name != "warnings"
            ]
    for name in sorted(done - set(_ENUMERATIONS)):
        lines += render_record(records[name], records)
    lines += [
        "## Errors and exit statuses",
        "",
        (
            "0 is success. Errors of one family have neighbouring statuses. 141 means that the reader of the result "
            "ended (SIGPIPE)."
        ),
        "",
        "| Status | Code | Means |",
        "|---|---|---|",
    ]
    for kind in all_errors():
        lines.append(f"| {kind.exit_code} | `{kind.code}` | {one_line((kind.__doc__ or '').split(chr(10) * 2)[0])} |")
    lines += ["", "## Codes of warnings", "", "| Code | Means |", "|---|---|"]
    lines += render_codes(WARNINGS, find_codes("Warning", "_warn", "warn"))
    lines += ["", "## Codes of the doctor's problems", "", DOCTOR_INTRO, "", "| Code | Means |", "|---|---|"]
    lines += render_codes(PROBLEMS, find_codes("finding", "fixable", "removable"))
    return "\n".join(lines) + "\n"


def find_codes(*makers: str) -> set[str]:
    """Find the codes that calls of these functions give as first argument: as text or by a constant of the module.

    Not in the views: they show only messages, of facts that are fields in JSON.
    """
    found = set()
    for path in set(PACKAGE.rglob("*.py")) - set((PACKAGE / "cli/output/views").iterdir()):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            ast.unparse(node.targets[0]): node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).rpartition(".")[2] in makers:
                code = constants.get(ast.unparse(node.args[0]), node.args[0])
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    found.add(code.value)
    return found


def render_codes(explained: Mapping[str, str], used: set[str]) -> Iterator[str]:
    """Render the rows of a table of codes.

    Raises:
        ValueError: If a code is explained that the code does not use, or the other way round.
    """
    if differing := used ^ explained.keys():
        raise ValueError(
            f"codes that are only used, or only explained in docs/generate.py: {', '.join(sorted(differing))}"
        )
    for code in sorted(explained):
        yield f"| `{code}` | {explained[code]} |"


def render() -> dict[str, str]:
    """Render every generated document by its name."""
    return {"cli.md": render_cli(), "json.md": render_json()}


def main() -> int:
    """Write the documents, or check them."""
    stale = []
    for name, text in render().items():
        path = DOCS / "reference" / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/reference/{name}")
    if stale and "--check" in sys.argv[1:]:
        print(f"stale: {', '.join(stale)}; run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
