"""`--jq`: what a jq expression makes of a JSON document.

Decided here: how its results are spelled: texts as they are, all else as JSON, each on a line, as it comes. The package
`jq` is jq itself. The expression is compiled before the command does anything. It may run for ever: while jq computes,
signals end the process as they end jq, because Python would not come to call its handlers. While a result is written,
they go to the caller's handlers.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from avfs_git.errors import BadUsage, ExtraMissing, quote


class Filter:
    """One expression."""

    def __init__(self, expression: str) -> None:
        """Compile it.

        Raises:
            ExtraMissing: If the package is not installed.
            BadUsage: If it is no expression.
        """
        try:
            import jq  # noqa: PLC0415 - an extra
        except ImportError:
            raise ExtraMissing("--jq", "jq", "jq") from None
        try:
            self._program = jq.compile(expression)
        except ValueError as error:
            reason = str(error).partition("\n")[0].removeprefix("jq: error: ")
            raise BadUsage(f"the jq expression {quote(expression)} is not understood: {reason}") from None

    def apply(self, document: str) -> Iterator[bytes]:
        """Spell what it makes of a document, line by line.

        Raises:
            BadUsage: If it fails on that.
        """
        try:
            with ended_by_signals() as suspended:
                for value in self._program.input_text(document):
                    line = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                    with suspended():
                        yield f"{line}\n".encode("utf-8", "surrogatepass")
        except ValueError as error:
            hint = "The command itself was done; see its document with `--json` instead of `--jq`."
            raise BadUsage(f"the jq expression fails on the document: {error}", hint=hint) from None


@contextmanager
def ended_by_signals() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Let Ctrl-C and SIGTERM end the process at once, unless the caller wants one of them ignored.

    What it gives suspends that for a block.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: handler for number, handler in handlers.items() if callable(handler)}

    def end_at_once() -> None:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)

    def give_back() -> None:
        for number, handler in ours.items():
            signal.signal(number, handler)

    @contextmanager
    def suspended() -> Iterator[None]:
        give_back()
        yield
        end_at_once()

    end_at_once()
    try:
        yield suspended
    finally:
        give_back()
