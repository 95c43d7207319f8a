"""What results about files look like to people."""

from __future__ import annotations

import stat as stat_bits
from typing import TYPE_CHECKING

from avfs_git.cli.output.quoting import quote_path
from avfs_git.model import Warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from avfs_git.cli.output.text import TextOutput
    from avfs_git.cli.results import Entries, FilesWithWords, FoundEntries, Listing, Removed, Transfers, Tree, Written
    from avfs_git.model import FileInfo, GrepHit, GrepLine, HistorySearchResult, TransferResult, UnsearchedFile

_KIND_BITS = {
    "file": stat_bits.S_IFREG,
    "directory": stat_bits.S_IFDIR,
    "symlink": stat_bits.S_IFLNK,
    "gitlink": stat_bits.S_IFDIR,
}
_STYLES = {"directory": "bold blue", "symlink": "cyan"}


def _mode(info: FileInfo) -> str:
    return stat_bits.filemode(stat_bits.S_IMODE(info.mode) | _KIND_BITS.get(info.kind, 0))


def _below(path: bytes, directory: bytes) -> str:
    """Name an entry as seen from the directory that is listed."""
    return quote_path(path[len(directory) + 1 :] if directory and path != directory else path)


def ls(text: TextOutput, result: Listing) -> None:
    """List names, or with `--long` a line of facts each."""
    directory = result["path"]
    if text.request.get("long"):
        rows = (
            (
                _mode(info),
                text.size(info.size) if info.problem is None else "?",
                text.time(info.mtime_ns),
                _below(info.path, directory) + (f" -> {quote_path(info.target)}" if info.target is not None else ""),
            )
            for info in result["entries"]
        )
        text.table(("Mode", "Size", "Changed", "Name"), rows, right=("Size",))
    else:
        for info in result["entries"]:
            slash = "/" if info.kind == "directory" else ""
            text.line((f"{_below(info.path, directory)}{slash}", _STYLES.get(info.kind, "")))
    bad = (info for info in result["entries"] if info.problem is not None)
    text.warn(Warning("path.unreadable", f"{quote_path(info.path)} cannot be read: {info.problem}") for info in bad)


def write(text: TextOutput, result: Written) -> None:
    """Say what was written."""
    file = result["file"]
    text.line(
        "Appended to " if result["appended"] else "Wrote ",
        (quote_path(file.path), "bold"),
        f" ({text.count(file.size, 'byte')})",
    )


def mkdir(text: TextOutput, result: Entries) -> None:
    """Say which directories are there."""
    for info in result["entries"]:
        text.line("Made ", (f"{quote_path(info.path)}/", "bold blue"))


def rm(text: TextOutput, result: Removed) -> None:
    """Say what is gone."""
    for item in result["removed"]:
        text.line("Removed ", (quote_path(item["path"]), "bold"))


def cp(text: TextOutput, result: Transfers) -> None:
    """Say what was copied."""
    for item in result["moved"]:
        text.line("Copied ", quote_path(item["source"]), " to ", (quote_path(item["destination"]), "bold"))


def mv(text: TextOutput, result: Transfers) -> None:
    """Say what was moved."""
    for item in result["moved"]:
        text.line("Moved ", quote_path(item["source"]), " to ", (quote_path(item["destination"]), "bold"))


def tree(text: TextOutput, result: Tree) -> None:
    """Draw a tree."""
    text.tree(result["tree"])


def stat(text: TextOutput, result: Entries) -> None:
    """Show what is known of each path."""
    for number, info in enumerate(result["entries"]):
        if number:
            text.line()
        text.facts(
            [
                ("path", quote_path(info.path)),
                ("kind", info.kind),
                ("mode", f"{stat_bits.S_IMODE(info.mode):04o} ({_mode(info)})"),
                ("size", str(info.size)),
                ("changed", text.time(info.mtime_ns)),
                ("links", str(info.nlink)),
                ("target", None if info.target is None else quote_path(info.target)),
                ("oid", info.oid),
            ]
        )


def touch(text: TextOutput, result: Entries) -> None:
    """Say what was touched."""
    for info in result["entries"]:
        text.line("Touched ", (quote_path(info.path), "bold"))


def import_(text: TextOutput, result: TransferResult) -> None:
    """Say what came in."""
    _transfer(text, "Imported", result)
    text.hint("Save it with `avfs checkpoint save [LABEL]`.")


def export(text: TextOutput, result: TransferResult) -> None:
    """Say what went out."""
    _transfer(text, "Exported", result)


def find(text: TextOutput, result: FoundEntries) -> None:
    """Show a path a line."""
    several = text.request.get("all_forks")
    for found in result["results"]:
        for entry in found.entries:
            slash = "/" if entry.kind == "directory" and entry.path else ""
            text.line(
                f"{found.fork}:" if several else "", (f"{quote_path(entry.path)}{slash}", _STYLES.get(entry.kind, ""))
            )


def grep(text: TextOutput, hits: Iterable[GrepHit]) -> None:
    """Show matches as `grep` shows them, as they come, and of which fork they are where several are searched."""
    several, is_numbered = text.request.get("all_forks"), text.request.get("line_number")
    has_context = any(text.request.get(at) for at in ("after", "before", "context"))
    shown, last = None, 0
    for hit in hits:
        name = (f"{hit.fork}:" if several else "") + quote_path(hit.path)
        if hit.line is not None:
            line, file = hit.line, (hit.fork, hit.path)
            if has_context and shown is not None and (file != shown or line.number > last + 1):
                text.line(("--", "cyan"))
            shown, last = file, line.number
            sign = "-" if line.column is None else ":"
            number = [(str(line.number), "green"), (sign, "cyan")] if is_numbered else []
            text.line((name, "magenta"), (sign, "cyan"), *number, *_paint_matches(line))
        elif hit.binary:
            text.line("Binary file ", (name, "magenta"), " matches")
        else:
            text.line((name, "magenta"), f":{hit.count}" if hit.count is not None else "")
        text.flush()


def search(text: TextOutput, result: FilesWithWords) -> None:
    """Show a line of each file, and how many files are not shown."""
    several = text.request.get("all_forks")
    for found in result["results"]:
        for hit in found.hits:
            name = (f"{found.fork}:" if several else "") + quote_path(hit.path)
            if hit.line is None:
                text.line((name, "magenta"))
            else:
                number = (str(hit.line.number), "green")
                text.line((name, "magenta"), (":", "cyan"), number, (":", "cyan"), *_paint_matches(hit.line))
        if found.total > len(found.hits):
            text.hint(f"{len(found.hits)} of {text.count(found.total, 'file')} are shown; `--limit` shows more.")
        _tell_unsearched(text, found.unsearched)
    if result["history"] is not None:
        _removed(text, result["history"])


def _removed(text: TextOutput, result: HistorySearchResult) -> None:
    """Show a line of each content that is gone, and below it the commit that removed it."""
    for file in result.removed:
        name = (quote_path(file.path), "magenta")
        if file.line is None:
            text.line(name)
        else:
            text.line(name, (":", "cyan"), (str(file.line.number), "green"), (":", "cyan"), *_paint_matches(file.line))
        by = file.removed_by
        maker = (
            by.author.name
            + (f", {by.session[:8]}" if by.session is not None else "")
            + (f"@{by.fork}" if by.fork else "")
        )
        what = " ".join((by.command or by.subject).split())
        text.line("  removed by ", (text.id(by.id), "yellow"), f" ({maker} {text.since(by.created_at_ns)}) {what}")
        text.line("  last in ", (text.id(file.last_commit), "yellow"))
    if result.total > len(result.removed):
        text.hint(f"{len(result.removed)} of {text.count(result.total, 'content')} are shown; `--limit` shows more.")
    _tell_unsearched(text, result.unsearched)


def _tell_unsearched(text: TextOutput, files: Sequence[UnsearchedFile]) -> None:
    for file in files:
        why = "it is over 2 MiB" if file.reason == "large" else "its content is not fetched yet"
        text.note(f"{quote_path(file.path)} was not searched: {why}")


def _paint_matches(line: GrepLine) -> list[tuple[str, str]]:
    """Split a line into what matches and what does not."""
    pieces, at = [], 0
    for span in line.spans:
        pieces += [(line.text[at : span.begin], ""), (line.text[span.begin : span.end], "bold red")]
        at = span.end
    pieces.append((line.text[at:], ""))
    return [(piece.decode("utf-8", "surrogateescape"), style) for piece, style in pieces]


def _transfer(text: TextOutput, word: str, result: TransferResult) -> None:
    text.line(
        f"{word} ",
        result.source,
        " to ",
        (result.destination, "bold"),
        f": {text.count(result.files, 'file')}, {text.count(result.directories, 'directory', 'directories')}, ",
        text.size(result.total_bytes)
        if text.on_terminal and result.total_bytes >= 1024
        else text.count(result.total_bytes, "byte"),
    )
