"""The channels that a command has, named by purpose.

Decided here: the interface that `text.TextOutput` and `envelope.EnvelopeOutput` implement. Commands and `app` know
only this. One thread at a time. Nothing of it survives the process.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from avfs_git.errors import AvfsError, HostError

if TYPE_CHECKING:
    from avfs_git.cli.output.filter import Filter
    from avfs_git.cli.output.hints import Named
    from avfs_git.model import Warning
    from avfs_git.progress import Progress


class OutputClosed(Exception):
    """The reader of the result has closed it."""


class OutputLost(HostError):
    """The result cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__("write the result", error)


class Output(Protocol):
    """What a command may say, and to whom."""

    structured: bool
    """Whether the result becomes a document; else bytes may go out as they are."""
    shows_color: bool
    """Whether a person sees colours."""
    filter: Filter | None
    """What is made of the document, where the user wants less than all of it."""
    named: Named
    """What the command line names, which hints repeat."""

    def begin(self, kind: str, view: str, request: Mapping[str, object]) -> None:
        """Learn which verb runs, how its result is shown, and with which arguments."""

    def page(self) -> None:
        """Let the result go through the user's pager, if it is longer than the screen of a person."""

    def amend(self, **facts: object) -> None:
        """Add to the request what became known while it was served."""

    def result(self, value: object) -> None:
        """Give the result of the verb; None where it went out as bytes."""

    def stream(self, values: Iterable[object]) -> None:
        """Give the parts of a result as they come, instead of a result."""

    def data(self, chunks: Iterable[bytes]) -> None:
        """Give a result that is bytes, as they are. Not for structured output."""

    def warn(self, warnings: Iterable[Warning]) -> None:
        """Tell what the caller should know, beside the warnings that the result carries."""

    def note(self, message: str) -> None:
        """Remark something that is not part of the result."""

    def working(self, message: str) -> AbstractContextManager[None]:
        """Show that something takes its time."""

    def progress(self, message: str) -> AbstractContextManager[Progress | None]:
        """Show how far the block's operations are, if they take long; gives what to tell of others. None without a terminal."""

    def confirm(self, question: str) -> bool:
        """Ask a person; False without a terminal."""

    def failure(self, error: AvfsError, *, trace: str | None = None) -> None:
        """Report why the verb failed."""

    def close(self) -> None:
        """Bring everything out.

        Raises:
            OutputClosed: If the reader has closed the stream.
            OutputLost: If it cannot be written.
        """


def write_all(stream: object, data: bytes) -> None:
    """Write bytes to standard output or standard error and bring them out.

    Raises:
        OutputClosed: If the reader has closed the stream.
        OutputLost: If they cannot be written.
    """
    buffer = getattr(stream, "buffer", None)
    if buffer is None:  # the caller closed the descriptor before the program started
        raise OutputLost(OSError(errno.EBADF, os.strerror(errno.EBADF)))
    try:
        buffer.write(data)
        buffer.flush()
    except BrokenPipeError as err:
        raise OutputClosed from err
    except OSError as err:
        raise OutputLost(err) from err
