"""What git's logs of a branch and of HEAD tell of a working tree."""

from __future__ import annotations

import pytest

from avfs_git.gitstore.formats.reflog import Logged, find_last_held, find_logged_index
from avfs_git.paths import Oid

K, P, Q, C = (Oid(bytes([number]) * 20) for number in range(1, 5))
BACK, AWAY = "checkout: moving from other to main", "checkout: moving from main to other"
PUSHED = Logged(K, P, 10, "push")
AGAIN = Logged(P, Q, 20, "push")


@pytest.mark.parametrize(
    ("moves", "heads", "head", "expected"),
    [
        ([PUSHED], [], P, None),
        ([PUSHED], [Logged(K, K, 5, AWAY), Logged(K, P, 15, BACK)], P, P),
        ([PUSHED], [Logged(K, P, 5, AWAY)], P, None),
        ([PUSHED], [Logged(P, P, 15, "checkout: moving from main to main")], P, None),
        ([PUSHED, AGAIN], [Logged(P, P, 15, AWAY), Logged(P, Q, 25, BACK)], Q, None),
        (
            [PUSHED, AGAIN],
            [Logged(K, K, 5, AWAY), Logged(K, P, 15, BACK), Logged(P, P, 16, AWAY), Logged(P, Q, 25, BACK)],
            Q,
            Q,
        ),
        ([Logged(K, C, 10, "commit: by git")], [Logged(K, C, 10, "commit: by git")], C, C),
        ([Logged(K, C, 10, "commit: by git")], [Logged(K, C, 10, "commit: by git"), Logged(C, K, 11, AWAY)], C, None),
        (
            [PUSHED, Logged(P, C, 20, "commit: by git")],
            [Logged(P, C, 20, "commit: by git"), Logged(C, K, 21, AWAY), Logged(K, C, 22, BACK)],
            C,
            C,
        ),
    ],
    ids=[
        "pushed",
        "back with it",
        "away at it",
        "no way back",
        "lacked before",
        "back twice",
        "committed",
        "away after a commit",
        "back to a commit",
    ],
)
def test_the_commit_of_an_index_is_told_by_the_logs(
    moves: list[Logged], heads: list[Logged], head: Oid, expected: Oid | None
) -> None:
    """The index is that of a commit to which git put it last; what it lacked when HEAD left the branch it lacks still."""
    assert find_logged_index(moves, heads, "main", head, (K, None)) == expected


@pytest.mark.parametrize("others_pushed", [False, True])
def test_a_reset_to_a_commit_does_not_tell_that_the_files_have_it(others_pushed: bool) -> None:
    """`git reset HEAD~1` takes back the tree's own commit, and leaves the files without what others had pushed below."""
    below = PUSHED if others_pushed else Logged(K, P, 10, "commit: by git")
    own = [Logged(P, C, 20, "commit: by git"), Logged(C, P, 30, "reset: moving to HEAD~1")]
    assert find_last_held([below, *own], own if others_pushed else [below, *own], P, K) == (
        None if others_pushed else P
    )
