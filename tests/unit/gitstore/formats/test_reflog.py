"""What git's log of HEAD tells of a working tree."""

from __future__ import annotations

import pytest

from avfs_git.gitstore.formats.reflog import Logged, find_led_on, find_way_back
from avfs_git.paths import Oid

K, P, Q = (Oid(bytes([number]) * 20) for number in range(1, 4))
BACK, AWAY, STAYS = (f"checkout: moving from {one} to {other}" for one, other in ("om", "mo", "mm"))


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        ([], None),
        ([Logged(K, K, 5, AWAY)], None),
        ([Logged(K, K, 5, AWAY), Logged(K, P, 15, BACK)], (P, K)),
        ([Logged(K, K, 5, AWAY), Logged(K, P, 15, BACK), Logged(P, P, 16, STAYS)], (P, K)),
        ([Logged(K, K, 5, AWAY), Logged(K, P, 15, BACK), Logged(P, Q, 16, "commit: by git")], (P, K)),
        ([Logged(P, P, 15, STAYS)], None),
        ([Logged(K, P, 15, BACK)], None),
        ([Logged(K, K, 5, AWAY), Logged(K, P, 6, BACK), Logged(P, P, 7, AWAY), Logged(P, Q, 8, BACK)], (Q, P)),
    ],
    ids=["nothing", "away", "back", "then to itself", "then a commit", "to itself", "never away", "back twice"],
)
def test_a_way_back_is_told_with_where_the_branch_was_left(
    heads: list[Logged], expected: tuple[Oid, Oid] | None
) -> None:
    """A checkout of the branch that HEAD is on is no way back."""
    found = find_way_back(heads, "m")

    assert (None if found is None else (found.came.new, found.left)) == expected


@pytest.mark.parametrize("others_pushed", [False, True])
def test_a_reset_to_a_commit_does_not_tell_that_the_files_have_it(*, others_pushed: bool) -> None:
    """`git reset HEAD~1` takes back the tree's own commit, and leaves the files without what others had pushed below."""
    below = Logged(K, P, 10, "push" if others_pushed else "commit: by git")
    own = [Logged(P, Q, 20, "commit: by git"), Logged(Q, P, 30, "reset: moving to HEAD~1")]
    found = find_led_on([below, *own], own if others_pushed else [below, *own], K)

    assert found == (K if others_pushed else P)
