"""The table of the live tree: its lines, as text for a terminal and as a section of docs/design/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_ASKED = (
    "Each step of a program is a request to the process that serves: 20 to 25 µs while processors are awake, and 64 "
    "to 88 on "
    "an idle machine, which has to wake a processor on either side. On overlayfs no request is sent."
)
_COPIED = (
    "What is written is copied three times, into the page cache, to the process that serves and to the disk's "
    "page cache, "
    "where a plain file is copied once."
)
_TWO_LAYERS = (
    "Each file is looked up in both layers, 1 to 2 µs more to look at it and 2 to 4 to open it; "
    "the ratios differ from run to run."
)
_ALIKE = {
    "`git add": "The content of each new object is written out, 200 for one commit; git does not wait for that in a "
    "plain clone.",
    "restore of everything": "Each file is made again, and gets a new time. The kernel's part is a quarter, as long as "
    "for git; the rest is Python, 45 µs a file. Of all, making the files takes two fifths, comparing both states a third, "
    "looking at the result and saving a seventh each.",
    "restore o": "A restore reads and saves what it replaces, which git drops: more than half of its processor time. The "
    "kernel's part is no longer than for git, 12 to 14 ms; the rest is Python: 0.1 ms for each of 1,020 files, and "
    "0.33 for each of 300 that lie in 250 directories, of which each has a tree and a tree of the sidecar. On "
    "ext4 without a journal, a new file takes the kernel up to 1 ms where many were removed in the last minutes, since "
    "it passes over each of their inodes (`recently_deleted` in fs/ext4/ialloc.c); see the rows on ext4 in RAM.",
    "status of 1,000": "A status goes on from the last one. Where the kernel shows the tree, nothing tells what "
    "programs changed "
    "since, and each entry of the upper layer is looked at, in Python, which takes more than half of the time. "
    "Comparing 1,000 results, writing them to a socket and reading them there take a seventh each.",
    "fork . DIR": "Each file of the clone is looked at once, as by `git status`: 20 µs of processor time a file for "
    "the first "
    "fork and 11 for another, beside the start of two programs and the mount.",
    "beside `avfs cp`": "Programs wait for a copy only while it gets its name. Beside it they wait for the disk, as "
    "in a plain "
    "directory: see the native column.",
}
"""Of what is alike by any backend, mounted or not."""
CAUSES = {
    **_ALIKE,
    "mount ready": "The first mount of a process starts an interpreter and loads some 175 modules, three quarters of "
    "its time; "
    "later ones are forked from what that has loaded.",
    "first `": "A first look at a file costs the server 18 to 25 µs to list it and 42 to 48 to give 4 KiB of it; "
    "`git worktree "
    "add` writes all of them in that time where the disk is quick.",
    "second `grep": "After a read the kernel asks for the attributes of the file once more, which costs the server "
    "13 µs: see "
    "`docs/decisions/attributes-after-reads.md`.",
    "1,000 new files": _ASKED,
    "1,000 overwritten": _ASKED,
    "1,000 unlinked": _ASKED,
    "tar x": _ASKED,
    "git clone": _ASKED,
    "write by 1 MiB": _COPIED,
    "write by 4 KiB": _ASKED,
    "read by 1 MiB": "The kernel keeps a FUSE file in single pages, and one of ext4 in large folios: copying them out "
    "costs 1.8 times as much processor time, as from a tmpfs without large folios. The process that serves is not asked.",
    "100 overwritten": _ASKED,
    "attempts side by side": "Each live tree asks its own server for each file, and no two of them share pages; on "
    "overlayfs "
    "and as commands, all forks of one base stand on one mount of it.",
}
"""Why a bar is missed, from profiles, by what the name of its row has in it; of live trees by FUSE."""
SHARED_CAUSES = {
    "restore of everything deleted, mounted": "The kernel's part is a third, three times what it takes for git: making "
    "a file takes 1.4 times as long on overlayfs as in a plain directory, and each file that comes back is watched. Of "
    "all, a third goes to finding that no program has touched the result, a quarter to making the files, a quarter to "
    "saving, of which half is what the kernel has told of the deletions, and a fifth to comparing both states.",
    "20 changed, mounted": "On overlayfs a rename takes 26 µs of processor time and an unlink 13, 40 ms for these "
    "files and as much as git takes for all. Of the rest, three fifths go to reading and saving what git drops, and a "
    "tenth to comparing it with what was saved once it has been taken out.",
    "restore of 300 changed files, mounted": "A restore reads and saves what it replaces, which git drops: more than "
    "half of its processor time. A sixth goes to exchanging the files and comparing what was taken out with what was "
    "saved, a ninth each to comparing both states and to finding that no program has touched the result. The kernel's "
    "part is a sixth, twice what it takes for git.",
    **_ALIKE,
    "mount ready": "The session that mounts the base starts first, an interpreter and what it loads, and the mount "
    "after it.",
    "avfs mount": "The program, and the session that mounts the base: two interpreters and what they load.",
    "checkpoint of 10": "Eleven syncs, and the processor time of rebuilding the trees above ten files.",
    "100 overwritten": "Copying up a file and its directory, the kernel asks the base for the attributes and flags of "
    "each: five requests of 20 to 25 µs for a file in a directory of its own, as here. On a disk that discards the "
    "blocks of what is overwritten, rounds differ more than that.",
    "directories of the base": "For each new name the kernel asks the base once whether it has it: 1,000 requests of "
    "20 to 25 µs. Nothing can tell it before which names are free.",
    "1 KiB, beside": "On ext4 in RAM there is no difference. Without a journal, ext4 passes over each inode that was "
    "freed in the last minutes when it makes a file, and the rows before this one freed many.",
    "warm ": _TWO_LAYERS,
    "second `grep": _TWO_LAYERS,
    "git status": _TWO_LAYERS,
    "open, read, close": _TWO_LAYERS,
    "attempts side by side": "All attempts stand on one mount of the commit, whose only process unpacks what the "
    "first of them "
    "reads: 18 to 25 µs a file to list it, as much to read it, and 1 to 2 ms a megabyte of a big one. A live tree "
    "takes 60 ms of processor time besides, to begin and to list its changes. On two processors both are busy all "
    "the while: see `docs/decisions/shared-base.md`.",
}
"""The same of root's default: trees that the kernel shows over a mount that they share."""


@dataclass(frozen=True)
class LiveRow:
    """One line of the table."""

    work: str
    bar: str
    live: str
    native: str = ""
    ratio: str = ""
    requests: str = ""
    """What the kernel asked for once, of each kind."""
    cpu: str = ""
    """Processor time of the session's processes."""
    met: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands in the columns."""
        result = "" if self.met is None else "met" if self.met else "MISSED"
        return self.work, self.bar, self.live, self.native, self.ratio, self.requests, self.cpu, result


HEADINGS = ("Work", "Bar", "live tree", "native", "Ratio", "Requests", "Server", "Result")


def _causes(rows: list[LiveRow]) -> Iterator[str]:
    """Give each cause once, with the rows that it explains."""
    explained: dict[str, list[str]] = {}
    for row in rows:
        if row.met is False and row.bar:
            causes = CAUSES if "--backend fuse" in row.work else SHARED_CAUSES
            known = (cause for part, cause in causes.items() if part in row.work)
            explained.setdefault(next(known, "Not looked into yet."), []).append(row.work)
    for cause, works in explained.items():
        yield f"{'; '.join(works)}: {cause}"


def live_table(rows: list[LiveRow]) -> str:
    """Lay the rows out in columns."""
    lines = [HEADINGS, *(row.cells for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEADINGS))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    shown.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(shown)


def live_markdown(rows: list[LiveRow]) -> str:
    """Write a section of the document."""
    lines = ["## The live tree", "", "| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(row.cells) + " |" for row in rows]
    lines += ["", *(f"- {cause}" for cause in _causes(rows))]
    return "\n".join(lines) + "\n"
