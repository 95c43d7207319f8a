"""What is deflated is what any zlib reads, by whichever library is there."""

from __future__ import annotations

import os
import zlib

import pytest

from avfs_git.gitstore.formats import deflate
from avfs_git.gitstore.formats.deflate import STORED


@pytest.fixture(params=["fast", "zlib"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deflate by the fast library, where this processor has it, and by zlib."""
    if request.param == "zlib":
        monkeypatch.setattr(deflate, "_fast_library", lambda: None)


@pytest.mark.parametrize("level", [STORED, 1, 9])
@pytest.mark.parametrize("size", [0, 1, 300, 5_000, 200_000])
def test_what_is_deflated_is_what_any_zlib_reads(level: int, size: int) -> None:
    """As a whole and in pieces, what compresses and what does not."""
    for data in (b"what repeats " * (size // 13), os.urandom(size)):
        whole = deflate.deflate(data, level)
        stream = deflate.start_stream(level)
        pieces = [stream.compress(data[start : start + 1000]) for start in range(0, size, 1000)]
        assert zlib.decompress(whole) == zlib.decompress(b"".join(pieces) + stream.flush()) == data
        assert len(whole) <= len(data) + len(data) // 1000 + 64
        assert level == STORED or size < 300 or data[:4] != b"what" or len(whole) < len(data) // 3
