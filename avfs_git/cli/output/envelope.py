"""One JSON document on standard output, in every outcome.

Decided here: the envelope, version 1. What is in it is collected and written once, at the end: nothing else reaches
standard output, and nothing at all standard error. With `--jq`, what the expression makes of it goes to standard
output, and the document of a failure to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from avfs_git.cli.output.base import write_all
from avfs_git.cli.output.hints import Named, complete, complete_error
from avfs_git.errors import AvfsError, InternalError, hide_users

if TYPE_CHECKING:
    from avfs_git.cli.output.filter import Filter
    from avfs_git.model import Warning

SCHEMA_VERSION = 1


class EnvelopeOutput:
    """Collects a result or a failure, and writes the document on `close`."""

    structured = True
    shows_color = False

    def __init__(self, arguments: list[str], *, filtered: bool = False) -> None:
        self.named = Named()
        self.filter: Filter | None = None
        self._is_filtered = filtered
        self._kind = "error_result"
        self._request: dict[str, object] = {"arguments": arguments}
        self._warnings: list[dict[str, object]] = []
        self._document: dict[str, object] | None = None
        self._has_streamed = False

    def begin(self, kind: str, view: str, request: Mapping[str, object]) -> None:  # noqa: ARG002 - no views in JSON
        """Learn which verb runs and with which arguments."""
        self._kind = kind
        if request:
            self._request = dict(request)

    def page(self) -> None:
        """Write the document as it is: programs read it."""

    def amend(self, **facts: object) -> None:
        """Add to the request what became known while it was served."""
        self._request.update(facts)

    def result(self, value: object) -> None:
        """Keep the result and its warnings; after a stream, only the warnings."""
        if self._has_streamed:
            if self._warnings:
                self._finish(success=True, result=None, error=None)
            return
        from avfs_git.model import find_warnings  # noqa: PLC0415 - not needed for usage errors
        from avfs_git.records import to_record  # noqa: PLC0415 - the same

        self.warn(find_warnings(value))
        # A command that failed is a result like any other, and no success.
        self._finish(success=bool(getattr(value, "success", True)), result=to_record(value), error=None)

    def stream(self, values: Iterable[object]) -> None:
        """Write each value on a line of its own, or what the expression makes of it.

        The document of a failure, or of warnings, is the last line; with `--jq` it goes to standard error.
        """
        from avfs_git.records import to_record  # noqa: PLC0415 - not needed for usage errors

        self._has_streamed = True
        for value in values:
            record = json.dumps(to_record(value), ensure_ascii=False, separators=(",", ":"))
            for line in self.filter.apply(record) if self.filter is not None else (f"{record}\n".encode(),):
                write_all(sys.stdout, line)

    def warn(self, warnings: Iterable[Warning]) -> None:
        """Keep what the caller should know, each once."""
        from avfs_git.records import to_warning  # noqa: PLC0415 - not needed for usage errors

        for warning in warnings:
            told = {**to_warning(warning), "message": complete(warning.message, self.named)}
            if told not in self._warnings:
                self._warnings.append(told)

    def data(self, chunks: Iterable[bytes]) -> None:  # noqa: ARG002 - never called
        """Refuse: bytes do not go beside a document."""
        raise InternalError("bytes cannot stand beside a document")

    def note(self, message: str) -> None:
        """Drop it: remarks are for people."""

    @contextmanager
    def working(self, message: str) -> Iterator[None]:  # noqa: ARG002 - progress is for people
        """Show nothing."""
        yield

    @contextmanager
    def progress(self, message: str) -> Iterator[None]:  # noqa: ARG002 - the same
        """Show nothing."""
        yield

    def confirm(self, question: str) -> bool:  # noqa: ARG002 - nobody is asked
        """Say no: there is no person to ask."""
        return False

    def failure(self, error: AvfsError, *, trace: str | None = None) -> None:
        """Keep the failure; it replaces a result."""
        from avfs_git.records import to_error  # noqa: PLC0415 - only where it is needed

        error.hint = complete_error(error, self.named, self._request)
        record = to_error(error)
        if trace is not None:
            record["traceback"] = trace
        self._finish(success=False, result=None, error=record)

    def _finish(self, *, success: bool, result: object, error: object) -> None:
        from avfs_git.records import to_record  # noqa: PLC0415 - only where it is needed

        self._document = {
            "schema_version": SCHEMA_VERSION,
            "kind": self._kind,
            "success": success,
            # The command line may hold an address with a password in it, and a warning or a trace what a server said.
            "request": hide_users(to_record(self._request)),
            "result": result,
            "warnings": hide_users(self._warnings),
            "error": hide_users(error),
        }

    def close(self) -> None:
        """Write the document, or what the expression makes of it; nothing where help was asked for and given.

        Raises:
            BadUsage: If the expression fails on the document. What it has made of it before is written.
        """
        document, self._document = self._document, None
        if document is None:
            return
        if self.filter is not None and document["error"] is None and not self._has_streamed:
            from avfs_git.cli.output.filter import ended_by_signals  # noqa: PLC0415 - only with `--jq`

            with ended_by_signals():  # all else is done
                for line in self.filter.apply(_spell(document)):
                    write_all(sys.stdout, line)
            return
        stream = sys.stderr if self._is_filtered else sys.stdout
        write_all(
            stream,
            _spell(document, indent=2 if stream is not None and stream.isatty() else None).encode("utf-8") + b"\n",
        )


def _spell(document: object, indent: int | None = None) -> str:
    try:
        return json.dumps(document, ensure_ascii=False, indent=indent, separators=None if indent else (",", ":"))
    except RecursionError:  # a tree of a thousand levels
        return "".join(_pieces(document))


def _pieces(document: object) -> Iterator[str]:
    """Spell a document of any depth, on one line."""
    pending: list[tuple[object, bool]] = [(document, False)]
    while pending:
        item, is_text = pending.pop()
        if is_text:
            yield str(item)
        elif isinstance(item, dict):
            pending.append(("}", True))
            for number, (name, value) in reversed(list(enumerate(item.items()))):
                pending += [
                    (value, False),
                    (("," if number else "") + json.dumps(name, ensure_ascii=False) + ":", True),
                ]
            pending.append(("{", True))
        elif isinstance(item, list):
            pending.append(("]", True))
            for number, value in reversed(list(enumerate(item))):
                pending += [(value, False), ("," if number else "", True)]
            pending.append(("[", True))
        else:
            yield json.dumps(item, ensure_ascii=False)
