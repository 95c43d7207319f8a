"""JSON is spelled without a call for each level."""

from __future__ import annotations

import json

from avfs_git.cli.output.envelope import _pieces


def test_the_pieces_are_what_json_says() -> None:
    """A document of usual depth is spelled as by the standard library."""
    document = {"a": [1, {"b": None, "ü": '\n"'}, [], {}], "c": True, "d": 1.5}

    assert "".join(_pieces(document)) == json.dumps(document, ensure_ascii=False, separators=(",", ":"))
