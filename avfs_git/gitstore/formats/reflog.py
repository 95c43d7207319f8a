"""Git's log of a ref: a line for each move, with its time and what git says of it. Pure functions, from any thread."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from avfs_git.paths import Oid, oid_of
from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple

_LINE = compiled(rb"^([0-9a-f]{40}) ([0-9a-f]{40}) [^\n\t]*> (\d+) [+-]\d{4}\t?([^\n]*)$", re.MULTILINE)
LOOKING = "checkout: "
"""How the log of HEAD begins where HEAD went to a commit, and no branch with it."""
_RESETTING = "reset: "
"""How it begins where `git reset` put HEAD and the index to a commit, also if that is where HEAD was."""
_ENDING = compiled(r"[^:]*\(finish\): |rebase finished: ")
"""How the log of a branch begins where a rebase has ended."""


class Logged(NamedTuple):
    """A move of a branch, as git's own log has it."""

    old: Oid | None
    new: Oid
    when_s: int
    message: str
    repeats: int = 0
    """How many lines before it have the same commits and second: git moved the branch there again."""


def parse_log(data: bytes) -> list[Logged]:
    """Read the lines of a log, the oldest first; pass over damaged ones."""
    found: list[Logged] = []
    told = Counter[tuple[bytes, ...]]()
    for match in _LINE.finditer(data):
        old, new = (oid_of(text) for text in match.group(1, 2))
        move, message = match.group(1, 2, 3), match[4].decode("utf-8", "replace")
        found.append(Logged(old if any(old) else None, new, int(match[3]), message, told[move]))
        told[move] += 1
    return found


def format_move(old: Oid | None, new: Oid, message: str) -> bytes:
    """Write a line for a move that avfs makes now."""
    before = old.hex() if old is not None else "0" * 40
    return os.fsencode(f"{before} {new.hex()} avfs <avfs> {int(time.time())} +0000\t{message}\n")


def find_inside(heads: Iterable[Logged]) -> Callable[[Logged], bool]:
    """Take the log of HEAD in a working tree; give what tells of a move of its branch whether git there made it.

    A push, or git in another working tree, writes to the branch's log as well. What it brings may be a commit at which
    HEAD was here before, to look at it: the log of HEAD says the same of a move, or what goes with it.
    """
    found: dict[Oid, list[Logged]] = {}
    for logged in heads:
        found.setdefault(logged.new, []).append(logged)
    return lambda move: any(_is_same_move(move, head) for head in found.get(move.new, ()))


def is_made_inside(moves: Sequence[Logged], heads: Sequence[Logged], commit: Oid) -> bool:
    """Tell whether it was git in a working tree that put a commit on a branch, by the logs of the branch and of HEAD.

    Where the log of the branch does not say how it came there, the commit counts if that of HEAD has it, unless HEAD
    only went there to look.
    """
    if moves and moves[-1].new == commit:
        return find_inside(heads)(moves[-1])
    return any(logged.new == commit and not logged.message.startswith(LOOKING) for logged in heads)


class WayBack(NamedTuple):
    """How HEAD came back to a branch in a working tree. Git carries over what the files lacked before."""

    came: Logged
    left: Oid
    """Where the branch was when HEAD left it."""


def find_way_back(heads: Sequence[Logged], branch: str) -> WayBack | None:
    """Find the last line in the log of HEAD by which it went to another commit or branch, if it came back by that.

    A checkout of the branch that HEAD is on, which git logs as well, leaves the files as they are.
    """
    stays, leaves = (f"{LOOKING}moving from {branch} to {name}" for name in (branch, ""))
    went = [each for each in heads if each.message.startswith(LOOKING)]
    went = [each for each in went if each.old != each.new or each.message != stays]
    if not went or not went[-1].message.endswith(f" to {branch}"):
        return None
    left = next((each.old for each in reversed(went) if each.message.startswith(leaves)), None)
    return WayBack(went[-1], left) if left is not None else None


def is_led_inside(moves: Sequence[Logged], heads: Sequence[Logged], since: Oid, commit: Oid) -> bool:
    """Tell whether git in a working tree alone moved a branch from one commit to another, which it has or had."""
    is_inside, at = find_inside(heads), commit
    for move in reversed(moves):
        if at == since:
            break
        if move.new == at:
            if move.old is None or not is_inside(move):
                break
            at = move.old
    return at == since


def list_put_inside(
    moves: Sequence[Logged], heads: Sequence[Logged], head: Oid, since: Oid, back: Logged | None
) -> Iterator[Oid]:
    """Yield the commits of a branch, after one, that git in a working tree made, or put its files to, newest first.

    `moves` is the log of the branch, `heads` that of HEAD in the tree. A commit of others counts if git there reset to
    it later, as `git stash` does, or came `back` to the branch with it. They are listed as far as the log of the branch
    leads back without a gap: avfs does not write to it, so that what came before a move by avfs does not count.
    """
    is_inside, at = find_inside(heads), head
    put_s = {to.new: to.when_s for to in heads if to.old == to.new and to.message.startswith(_RESETTING)}
    if back is not None:
        put_s[back.new] = max(back.when_s, put_s.get(back.new, -1))
    for move in reversed(moves):
        if at == since or move.new != at:
            break
        if is_inside(move) or put_s.get(at, -1) >= move.when_s:
            yield at
        if move.old is None:
            break
        at = move.old


def find_led_on(moves: Sequence[Logged], heads: Sequence[Logged], since: Oid) -> Oid:
    """Find the last commit to which git in a working tree alone has moved a branch on from one.

    `moves` is the log of the branch, `heads` that of HEAD in the tree. To commit, merge or pick changes no other file:
    after a move by others, the files lack what that has brought.
    """
    is_inside, at = find_inside(heads), moves[-1].new if moves else since
    led = at
    for move in reversed(moves):
        if at == since or move.new != at or move.old is None:
            break
        at = move.old
        if not is_inside(move):
            led = at
    return led if at == since else since


def _is_same_move(move: Logged, head: Logged) -> bool:
    if move.message.startswith("branch: "):  # `git switch -C`
        return head.message.startswith(LOOKING) and abs(head.when_s - move.when_s) <= 1
    if _ENDING.match(move.message):  # HEAD came to the last commit before that
        return not head.message.startswith(LOOKING)
    return (head.old, head.message) == (move.old, move.message)
