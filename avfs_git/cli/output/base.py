"""What the two outputs of a command have in common: how bytes go out, and what is said where they cannot.

`text.TextOutput` says what each channel is for; `envelope.EnvelopeOutput` has the same. Commands and `app` know only
their channels. One thread at a time. Nothing of it survives the process.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, TypeAlias

from avfs_git.errors import HostError

if TYPE_CHECKING:
    from avfs_git.cli.output.envelope import EnvelopeOutput
    from avfs_git.cli.output.text import TextOutput

    Output: TypeAlias = "TextOutput | EnvelopeOutput"


class OutputClosed(Exception):
    """The reader of the result has closed it."""


class OutputLost(HostError):
    """The result cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__("write the result", error)


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
