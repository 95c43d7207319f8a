"""What results about states look like to people: checkpoints, differences, histories, operations."""

from __future__ import annotations

from stat import S_ISDIR
from typing import TYPE_CHECKING

from avfs_git.cli.output.quoting import quote_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from avfs_git.cli.output.text import TextOutput
    from avfs_git.cli.results import (
        CheckpointList,
        DeletedCheckpoint,
        DrawnHistory,
        History,
        OperationList,
        OperationStat,
        PathHistory,
        ShowResult,
    )
    from avfs_git.model import (
        Blame,
        ChangedFile,
        CheckpointDetails,
        CheckpointResult,
        Diff,
        OperationDetails,
        RestoreResult,
        Status,
        UndoResult,
    )

_LETTERS = {
    "added": ("A", "green"),
    "deleted": ("D", "red"),
    "modified": ("M", "yellow"),
    "renamed": ("R", "cyan"),
    "mode": ("M", "yellow"),
    "type": ("T", "magenta"),
}
_STAT_WIDTH = 40
_NAMED_BESIDE = 20
"""How many paths beside history a result of `undo` names; more are counted."""


def list_changes(text: TextOutput, changes: Sequence[ChangedFile], *, indent: str = "") -> None:
    """List paths with git's letters; a directory, which stands for all below it, with a slash."""
    for change in changes:
        letter, style = _LETTERS[change.kind]
        if change.similarity is not None:
            letter += f"{change.similarity:03d}"
        names = [path for path in (change.old_path, change.path) if path is not None]
        is_dir = S_ISDIR((change.old_mode if change.kind == "deleted" else change.new_mode) or 0)
        text.line(indent, (letter, style), "\t", "\t".join(map(quote_path, names)) + "/" * is_dir)


def _subject(message: str) -> str:
    return message.split("\n", 1)[0]


def checkpoint_save(text: TextOutput, result: CheckpointResult) -> None:
    """Say what was saved."""
    saved = result.checkpoint
    if result.outcome == "recorded":
        text.line("Recorded what changed, beside the branch, since git is at work there; `avfs undo` takes it back")
        return
    if result.outcome == "unchanged" or saved is None:
        text.line("Nothing changed since ", text.id(saved.id) if saved else "the fork was made")
        label = text.request.get("label")
        if saved and label:
            text.line("Labelled it ", (str(label), "bold"))
        return
    label = f"{saved.labels[0]} " if saved.labels else ""
    text.line(
        "Saved ", (label, "bold"), (text.id(saved.id), "yellow"), f" ({text.count(len(result.changed_files), 'path')})"
    )
    list_changes(text, result.changed_files)
    if result.sidecar_changed:
        text.line(f"Beside it: {text.count(len(result.sidecar_changed), 'path')} ignored or not known to git")


def add(text: TextOutput, result: CheckpointResult) -> None:
    """Say what was added."""
    if result.outcome == "unchanged" or result.checkpoint is None:
        text.line("Nothing to add: git tracks or ignores every file there")
        return
    text.line(
        "Added in ", (text.id(result.checkpoint.id), "yellow"), f" ({text.count(len(result.changed_files), 'path')})"
    )
    list_changes(text, result.changed_files)


def checkpoint_list(text: TextOutput, result: CheckpointList) -> None:
    """List checkpoints, a line each."""
    rows = (
        (text.id(point.id), ",".join(point.labels) or "-", text.since(point.created_at_ns), _subject(point.message))
        for point in result["checkpoints"]
    )
    text.table(("Checkpoint", "Label", "Saved", "Message"), rows)


def checkpoint_info(text: TextOutput, details: CheckpointDetails) -> None:
    """Show what a checkpoint holds and what it changed."""
    point = details.checkpoint
    text.facts(
        [
            ("checkpoint", point.id),
            ("labels", ", ".join(point.labels) or None),
            ("fork", point.fork),
            ("author", f"{point.author.name} <{point.author.email}>"),
            ("saved", text.time(point.created_at_ns)),
            ("parents", " ".join(point.parents) or None),
            ("tree", point.tree),
            ("sidecar", point.sidecar),
            ("files", str(details.files)),
            ("size", text.size(details.total_size)),
            ("beside it", str(details.sidecar_files) if details.sidecar_files else None),
        ]
    )
    _message(text, point.message)
    list_changes(text, details.changed_files)


def _message(text: TextOutput, message: str) -> None:
    if not message.strip():
        return
    text.line()
    for line in message.rstrip("\n").split("\n"):
        text.line(f"    {line}" if line else "")
    text.line()


def diff(text: TextOutput, difference: Diff) -> None:
    """Show a difference as git does: a patch, or a list with `--name-status` or `--stat`."""
    if text.request.get("name_status"):
        list_changes(text, [file.change for file in difference.files])
    elif text.request.get("stat"):
        _stat(text, difference)
    else:
        for file in difference.files:
            text.patch(file.patch)
    if difference.sidecar:
        text.flush()
        paths = text.count(len(difference.sidecar), "path")
        text.note(f"Also different, ignored or not known to git: {paths}; `--json` lists what it is.")


def _stat(text: TextOutput, difference: Diff) -> None:
    files = difference.files
    most = max((file.additions + file.deletions for file in files), default=0)
    names = [
        quote_path(file.change.path)
        if file.change.old_path is None
        else f"{quote_path(file.change.old_path)} => {quote_path(file.change.path)}"
        for file in files
    ]
    name_width = max(map(len, names), default=0)
    count_width = len(str(most))
    for name, file in zip(names, files, strict=True):
        if file.binary:
            text.line(f" {name.ljust(name_width)} | Bin")
            continue
        scale = min(1.0, _STAT_WIDTH / most) if most else 0.0
        plus, minus = (max(1, round(count * scale)) if count else 0 for count in (file.additions, file.deletions))
        count = f"{file.additions + file.deletions:>{count_width}}"
        bar = (" ", ("+" * plus, "green"), ("-" * minus, "red")) if plus or minus else ()
        text.line(f" {name.ljust(name_width)} | {count}", *bar)
    insertions, deletions = sum(file.additions for file in files), sum(file.deletions for file in files)
    changed = text.count(len(files), "file")
    text.line(f" {changed} changed, {text.count(insertions, 'insertion')}(+), {text.count(deletions, 'deletion')}(-)")


def checkpoint_restore(text: TextOutput, result: RestoreResult) -> None:
    """Say what was restored, or would be."""
    name = str(text.request.get("name", ""))
    target = f"{name} ({text.id(result.target)})" if name and name != result.target else text.id(result.target)
    if result.outcome == "planned":
        text.line(f"Would change {text.count(len(result.changed_files), 'path')} to restore ", target)
    elif result.outcome == "unchanged":
        text.line("Nothing differs from ", target)
    elif result.fork:
        text.line("Restored ", (target, "bold"), " into fork ", (result.fork, "bold"))
    else:
        text.line("Restored ", (target, "bold"), f", {text.count(len(result.changed_files), 'path')}")
    list_changes(text, result.changed_files)
    if result.sidecar_changed:
        text.line(f"Beside it: {text.count(len(result.sidecar_changed), 'path')} ignored or not known to git")
    if result.saved:
        text.line("Saved uncommitted changes as ", text.id(result.saved))
    if result.outcome == "restored" and not result.fork:
        text.hint("Take it back with `avfs undo`.")


def checkpoint_delete(text: TextOutput, result: DeletedCheckpoint) -> None:
    """Say which label is gone."""
    text.line("Deleted label ", (result["label"], "bold"), " of ", text.id(result["checkpoint"].id))


def status(text: TextOutput, state: Status) -> None:
    """List what the next checkpoint would save."""
    text.line("On fork ", (state.fork, "bold"), f" at {text.id(state.head)}" if state.head else ", no checkpoint yet")
    if state.clean:
        text.line("Nothing to save")
    list_changes(text, state.changed_files)
    if state.sidecar_changed:
        text.line("Beside it, ignored or not known to git:")
        list_changes(text, state.sidecar_changed, indent="  ")
    if state.merging is not None:
        verb = state.merging.operation.replace("_", "-")
        doing = "merging " if verb == "merge" else f"a {verb}, at "
        unresolved = text.count(len(state.merging.unresolved), "path")
        text.line(f"In the middle of {doing}", (state.merging.source, "bold"), f", {unresolved} in conflict")
        for conflict in state.merging.unresolved:
            text.line(("C", "red"), "\t", quote_path(conflict.path), f"\t{conflict.kind.value}")
        if not any(warning.code == "fork.moved_outside" for warning in state.warnings):  # that names another way on
            go_on = f"Resolve them, then run `avfs {verb} --continue`; or give it up with `avfs {verb} --abort`."
            text.hint(go_on, is_needed=True)
    elif not state.clean:
        text.hint("Save it with `avfs checkpoint save [LABEL]`.")


def log(text: TextOutput, result: History | PathHistory | DrawnHistory) -> None:
    """List commits, or the versions of a path, a line each; or what git drew."""
    if "text" in result:
        text.drawn(result["text"])
        return
    if "versions" in result:
        rows = (
            (
                str(version.number),
                text.id(version.checkpoint),
                version.change.kind,
                text.size(version.change.size),
                text.since(version.created_at_ns),
                _subject(version.message),
            )
            for version in result["versions"]
        )
        text.table(("Version", "Checkpoint", "Change", "Size", "Saved", "Message"), rows, right=("Version", "Size"))
        return
    for entry in result["entries"]:
        point = entry.checkpoint
        labels = f" ({', '.join(point.labels)})" if point.labels else ""
        text.line(
            (text.id(point.id), "yellow"),
            (labels, "bold"),
            f" {text.time(point.created_at_ns)} {point.author.name}: {_subject(point.message)}",
        )
        list_changes(text, entry.changed_files)


def show(text: TextOutput, result: ShowResult) -> None:
    """Show a commit as `git show` does."""
    point = result["details"].checkpoint
    labels = f" ({', '.join(point.labels)})" if point.labels else ""
    text.line((f"checkpoint {point.id}", "yellow"), (labels, "bold"))
    text.line(f"Author: {point.author.name} <{point.author.email}>")
    text.line(f"Date:   {text.time(point.created_at_ns)}")
    _message(text, point.message)
    diff(text, result["diff"])


def undo(text: TextOutput, result: UndoResult) -> None:
    """Say what was taken back, or would be."""
    if text.request.get("dry_run"):
        text.line("Would undo", *_name_operation(result))
        _say_what_came_back(text, result)
        return
    text.line("Undid", *_name_operation(result))
    _say_what_came_back(text, result)
    text.hint("Do it again with `avfs redo`.")


def redo(text: TextOutput, result: UndoResult) -> None:
    """Say what was done again."""
    text.line("Did again", *_name_operation(result))
    _say_what_came_back(text, result)


def _say_what_came_back(text: TextOutput, result: UndoResult) -> None:
    """Name the files that changed, and where what they held is kept."""
    if result.changed_files:
        list_changes(text, result.changed_files)
    elif not result.operation.kind.startswith("fork_"):
        text.line("No tracked file changed.")
    list_beside(text, result.sidecar_changed)
    if result.saved:
        text.line("Unsaved changes are kept in ", text.id(result.saved))


def list_beside(text: TextOutput, changes: Sequence[ChangedFile]) -> None:
    """List what changed beside history, or count it."""
    if 0 < len(changes) <= _NAMED_BESIDE:
        text.line("Beside it, ignored or not known to git:")
        list_changes(text, changes, indent="  ")
    elif changes:
        text.line(f"Beside it: {text.count(len(changes), 'path')} ignored or not known to git")


def _name_operation(result: UndoResult) -> tuple[str | tuple[str, str], ...]:
    """Name what was done, and in which fork: without `--fork` it may have been in any."""
    operation = result.operation
    described = ", ".join(each.description for each in (operation, *result.joined))
    return f" in {operation.fork}: " if operation.fork else " ", (described, "bold")


def op_undo(text: TextOutput, result: UndoResult) -> None:
    """Say what was merged out of the files, or would be."""
    word = "Would undo" if text.request.get("dry_run") else "Undid"
    if not result.changed_files:
        text.line("Nothing is left to undo", *_name_operation(result))
        return
    text.line(word, *_name_operation(result))
    list_changes(text, result.changed_files)
    if result.saved:
        text.line("Saved uncommitted changes as ", text.id(result.saved))
    if result.operation.undone:
        text.hint("Take it back with `avfs undo`.")


def op_log(text: TextOutput, result: OperationList) -> None:
    """List operations, a line each."""
    stats = result["stats"]
    rows = [
        (
            str(operation.id),
            text.since(operation.created_at_ns),
            operation.fork or "-",
            operation.kind,
            "undone" if operation.undone else "",
            *([_summarize(stats[at])] if stats else []),
            operation.description,
        )
        for at, operation in enumerate(result["operations"])
    ]
    changed = ["Changed"] if stats else []
    text.table(("Operation", "Done", "Fork", "Kind", "", *changed, "Description"), rows, right=("Operation",))


def _summarize(stat: OperationStat) -> str:
    if not stat["files"] and not stat["beside"]:
        return "-"
    beside = f", {stat['beside']} beside" if stat["beside"] else ""
    return f"{stat['files']} file{'' if stat['files'] == 1 else 's'}, +{stat['additions']} -{stat['deletions']}{beside}"


def op_show(text: TextOutput, result: OperationDetails) -> None:
    """Show an operation, with the lines that it changed where that is asked for."""
    operation = result.operation
    text.facts(
        [
            ("operation", str(operation.id)),
            ("what", operation.description),
            ("kind", operation.kind),
            ("fork", operation.fork or None),
            ("done", text.time(operation.created_at_ns)),
            ("undone", "yes" if operation.undone else None),
            ("undoes", str(operation.undoes) if operation.undoes is not None else None),
            ("state", result.after),
        ]
    )
    if not result.diff:
        text.note("It changed no files." if result.after is None else "The state before it is no longer known.")
    elif text.request.get("patch"):
        diff(text, result.diff)
    else:
        list_changes(text, [file.change for file in result.diff.files])
        _stat(text, result.diff)
        if result.diff.sidecar:
            text.line("Beside it, ignored or not known to git:")
            list_changes(text, result.diff.sidecar, indent="  ")


_SOURCE_WIDTH = 40


def blame(text: TextOutput, result: Blame) -> None:
    """Show each line behind where it came from."""
    sources = {}
    for commit in result.commits:
        made_by = f"{commit.author.name}, {commit.session[:8]}" if commit.session is not None else commit.author.name
        fork = f"@{commit.fork}" if commit.fork is not None else ""
        what = " ".join((commit.command or commit.subject).split())
        shown = what if len(what) <= _SOURCE_WIDTH or not text.on_terminal else f"{what[: _SOURCE_WIDTH - 1]}…"
        sources[commit.id] = (f"{made_by}{fork}", text.since(commit.created_at_ns), shown)
    widths = [max((len(source[at]) for source in sources.values()), default=0) for at in range(3)]
    number_width = len(str(len(result.lines)))
    for line in result.lines:
        facts = " ".join(fact.ljust(width) for fact, width in zip(sources[line.commit], widths, strict=True))
        content = line.text.decode("utf-8", "surrogateescape")
        text.line(
            (text.id(line.commit), "yellow"), f" ({facts} ", (f"{line.number:>{number_width}}", "green"), f") {content}"
        )
