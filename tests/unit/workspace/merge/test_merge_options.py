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


def test_a_message_without_a_commit_is_told(vault: Vault, work: Workspace) -> None:
    """Where the fork only moves on, or nothing comes in, the message would be dropped without a word."""
    work.write("a", b"1")
    work.checkpoint()
    side = vault.fork("side")
    side.write("b", b"2")
    side.checkpoint()

    (planned,) = work.merge_many(["side"], message="words", dry_run=True)
    assert [warning.code for warning in planned.warnings] == ["merge.message_unused"]
    for dry_run, outcome in ((True, "fast_forward"), (False, "fast_forward"), (False, "up_to_date")):
        result = work.merge("side", message="words", dry_run=dry_run)
        codes = [warning.code for warning in result.warnings]
        assert (result.outcome, codes) == (outcome, ["merge.message_unused"])
    side.write("b", b"3")
    side.checkpoint()
    assert work.merge("side", message="words", mode="no_ff").warnings == ()
    assert work.log()[0].checkpoint.message.strip() == "words"
