"""Commits that avfs makes for its own sake, before an operation replaces files that are not saved.

Decided here: how such a commit is told from a commit that a person or an agent asked for. Its message ends in a trailer
(git-interpret-trailers(1)), so that plain git can leave it out, too: `git log --invert-grep --grep='^Avfs-Bookkeeping:
'`. A commit that saves work unasked is told by its words. Pure functions.
"""

from __future__ import annotations

END_OF_SESSION, END_OF_RUN = "save at the end of a session", "save at the end of a run"
END_OF_TREE = "end of the working tree "
_HARNESS, _SESSION = "Avfs-Harness: ", "Avfs-Session: "
TRAILER = "Avfs-Bookkeeping: yes"


def bookkeeping(text: str) -> str:
    """Make the message of such a commit."""
    return f"{text}\n\n{TRAILER}\n"


def is_of_session(message: str, session: str) -> bool:
    """Whether a commit with that message was made for a session of a coding agent, whose id begins so."""
    return any(line.startswith(f"{_SESSION}{session}") for line in message.rpartition("\n\n")[2].splitlines())


def find_session(message: str) -> str | None:
    """Tell for which session of a coding agent a commit with that message was made; None for any other commit."""
    lines = message.rpartition("\n\n")[2].splitlines()
    return next((line[len(_SESSION) :] for line in lines if line.startswith(_SESSION)), None)


def is_unasked(message: str) -> bool:
    """Whether avfs made a commit with that message unasked: at the end, or at a call of a tool."""
    headline = message.partition("\n")[0]
    is_of_end = headline in (END_OF_SESSION, END_OF_RUN) or headline.startswith(END_OF_TREE)
    trailers = message.rpartition("\n\n")[2].splitlines()
    return is_of_end or is_bookkeeping(message) or any(line.startswith(_HARNESS) for line in trailers)


def is_bookkeeping(message: str) -> bool:
    """Whether a commit with that message is one."""
    return message.rstrip().endswith(f"\n\n{TRAILER}")
