"""`--jq`: what a jq expression makes of a JSON document.

Decided here: how its results are spelled: texts as they are, all else as JSON, each on a line. The package `jq` is jq itself. The
expression is compiled before the command does anything; a failure on the document comes when the command is done.
"""

from __future__ import annotations

import json

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

    def apply(self, document: object) -> bytes:
        """Spell what it makes of a document.

        Raises:
            BadUsage: If it fails on that.
        """
        try:
            found = self._program.input_value(document).all()
        except ValueError as error:
            hint = "The command itself was done; see its document with `--json` instead of `--jq`."
            raise BadUsage(f"the jq expression fails on the document: {error}", hint=hint) from None
        lines = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in found)
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")
