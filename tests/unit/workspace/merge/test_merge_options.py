"""Options of a merge that cannot be used are refused, before anything is saved."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from avfs_git.errors import InvalidInput
from avfs_git.sdk import Vault, Workspace

pytestmark = pytest.mark.needs("git", "whiteout", "user-xattrs")
_CALLS: dict[str, Callable[..., object]] = {
    "merge": lambda work, **options: work.merge("side", **options),
    "update": lambda work, **options: work.update(**options),
    "merge_many": lambda work, **options: work.merge_many(["side"], **options),
    "cherry_pick": lambda work, **options: work.cherry_pick(["side"], **options),
    "rebase": lambda work, **options: work.rebase("side", **options),
}


@pytest.mark.parametrize(
    ("call", "option"),
    [
        *((call, option) for call in _CALLS for option in ("strategy", "on_conflict")),
        ("merge", "mode"),
        ("merge_many", "mode"),
    ],
)
def test_an_option_that_is_not_known_is_refused(vault: Vault, work: Workspace, call: str, option: str) -> None:
    """It is named, with what can be chosen."""
    work.write("a", b"1")
    work.checkpoint()
    vault.fork("side").write("b", b"2")
    vault.workspace("side").checkpoint()
    work.write("a", b"not saved")
    before = [entry.checkpoint for entry in work.log()]

    with pytest.raises(InvalidInput, match="'bogus'") as raised:
        _CALLS[call](work, **{option: "bogus"})

    assert "hoose " in (raised.value.hint or "")
    assert [entry.checkpoint for entry in work.log()] == before
