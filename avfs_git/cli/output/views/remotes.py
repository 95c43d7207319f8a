"""What results about remotes look like to people."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from avfs_git.cli.output.quoting import quote_path
from avfs_git.cli.output.views import merging
from avfs_git.paths import label_of_ref_name
from avfs_git.patterns import compiled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from avfs_git.cli.output.text import TextOutput
    from avfs_git.cli.results import RemoteList, Updates
    from avfs_git.model import (
        ApplyResult,
        CloneResult,
        FetchResult,
        PrefetchResult,
        PullResult,
        PushResult,
        RefMove,
        RemoteInfo,
    )

_KINDS = (
    ("refs/heads/", ""),
    ("refs/remotes/", ""),
    ("refs/tags/", "tag "),
    ("refs/avfs/remotes/", ""),
    ("refs/avfs/", ""),
)
_LABEL = compiled(r"refs/avfs/(?:remotes/([^/]+/))?checkpoints/(.+)/([^/]+)")


def clone(text: TextOutput, result: CloneResult) -> None:
    """Say which vault was made, and where its first fork stands."""
    _show_messages(text, result.messages)
    vault = result.vault
    text.line("Cloned ", result.url, " into vault ", (vault.name, "bold"), " at ", quote_path(bytes(vault.path)))
    if result.head is None:
        text.line("The remote is empty")
    else:
        others = result.branches - 1
        more = f"; {others} more branch{'' if others == 1 else 'es'}" if others > 0 else ""
        text.line("Fork ", (result.fork, "bold"), f" at {text.id(result.head)}{more}")
    if result.branches > 1:
        text.hint(f"See the others with `avfs --vault {shlex.quote(vault.name)} fork list --remote`.")


def remote_add(text: TextOutput, remote: RemoteInfo) -> None:
    """Say which remote is known now."""
    text.line("Added remote ", (remote.name, "bold"), " at ", remote.url)
    text.hint(f"See what it has with `avfs fetch {shlex.quote(remote.name)}`.")


def remote_list(text: TextOutput, result: RemoteList) -> None:
    """List remotes with their addresses."""
    if not result["remotes"]:
        text.hint("There is no remote. Add one with `avfs remote add NAME URL`.")
        return
    rows = ((remote.name, remote.url, str(remote.branches)) for remote in result["remotes"])
    text.table(("Remote", "Address", "Branches"), rows, right=("Branches",))


def remote_remove(text: TextOutput, remote: RemoteInfo) -> None:
    """Say which remote is forgotten."""
    text.line("Removed remote ", (remote.name, "bold"))


def remote_set_url(text: TextOutput, remote: RemoteInfo) -> None:
    """Say where the remote is now."""
    text.line("Remote ", (remote.name, "bold"), " is at ", remote.url)


def fetch(text: TextOutput, result: FetchResult) -> None:
    """List what moved."""
    _show_messages(text, result.messages)
    if not result.moves:
        text.line(f"Nothing new at {result.remote}")
    for move in result.moves:
        text.line(*_show_move(text, move))


def push(text: TextOutput, result: PushResult) -> None:
    """List what became of each branch."""
    _show_messages(text, result.messages)
    if not result.refs:
        text.line("Nothing to push")
    for ref in result.refs:
        text.line(
            (f"{ref.outcome:<9}", "green" if ref.outcome != "unchanged" else ""),
            f" {_name(ref.ref)} {text.id(ref.new)}",
        )


def pull(text: TextOutput, result: PullResult) -> None:
    """Say what came, and what the merge or rebase did with it."""
    fetch(text, result.fetch)
    if result.merge is not None:
        merging.merge(text, result.merge)
    if result.rebase is not None:
        merging.rebase(text, result.rebase)


def update(text: TextOutput, result: Updates) -> None:
    """Say what was brought in, and of what was there already, which repository was asked."""
    if not result["merges"]:
        text.line("Nothing to bring in: the fork has no upstream")
        if result["remotes"]:  # the server's branch may have been renamed
            fork = shlex.quote(str(text.request.get("fork")))
            text.hint(
                f"No branch there has its name. Follow one with `avfs update --upstream REMOTE/BRANCH {fork}`; "
                "`avfs fork list --remote` lists them.",
                is_needed=True,
            )
    is_shallow = any(warning.code == "fetch.shallow" for warning in text.warned)
    urls = {remote.name: remote.url for remote in result["remotes"] if not is_shallow}
    for one in result["merges"]:
        again = f"update {shlex.quote(one.target)}"  # merges what a push added, too
        merging.merge_one(text, one, again=again, fetched_from=urls.get(one.source.partition("/")[0]))


def prefetch(text: TextOutput, result: PrefetchResult) -> None:
    """Say how much came."""
    text.line(f"Fetched {result.fetched} of {result.files} contents")


def apply(text: TextOutput, result: ApplyResult) -> None:
    """List what was written."""
    verb = "Would write" if text.request.get("dry_run") else "Wrote"
    if not result.changed_files:
        where = quote_path(bytes(result.directory))
        text.line(
            f"{where} has what ", (result.fork, "bold"), f" changed since {result.since[:12]}; nothing was written"
        )
        return
    text.line(f"{verb} {text.count(len(result.changed_files), 'path')} into {quote_path(bytes(result.directory))}")
    for change in result.changed_files:
        text.line(f"  {change.kind.value} ", quote_path(change.path))


def _show_messages(text: TextOutput, messages: Sequence[str]) -> None:
    for message in messages:
        text.note(f"remote: {message}")


def _show_move(text: TextOutput, move: RefMove) -> tuple[str, ...]:
    if move.new is None:
        return ("gone      ", _name(move.ref))
    if move.old is None:
        return ("new       ", _name(move.ref), f" {text.id(move.new)}")
    return ("moved     ", _name(move.ref), f" {text.id(move.old)} to {text.id(move.new)}")


def _name(ref: str) -> str:
    if (found := _LABEL.fullmatch(ref)) is not None:
        remote, fork, label = found.groups("")
        return f"label {remote}{fork}@{label_of_ref_name(label)}"
    for prefix, shown in _KINDS:
        if ref.startswith(prefix):
            return shown + ref.removeprefix(prefix)
    return ref
