"""What the policy takes for reading only reads: the real programs say so."""

from __future__ import annotations

import pytest

from avfs_git.proxy.policy.commands import programs
from tests.support import policy_truth
from tests.support.seeds import choose_seed


@pytest.mark.needs("bubblewrap")
def test_what_is_read_only_changes_nothing() -> None:
    """In a plain tree a read-only command changes, starts and connects to nothing.

    The commands are lines of the corpus, and lines with options of the tools' help.

    `AVFS_SEED` repeats a run; `make soak` runs many more.
    """
    assert policy_truth.run(choose_seed(), 250) == []


@pytest.mark.needs("bubblewrap")
def test_what_does_more_is_found() -> None:
    """The sentinels see a change inside, one outside, a program that was started, and a connection."""
    texts = ["touch new", "rm a", "chmod +x b", "echo x > OUT/file", "mark", ": < /dev/tcp/127.0.0.1/4711", "ls"]

    found = policy_truth.run_all(lambda outside: [text.replace("OUT", outside) for text in texts])

    assert [line.partition(":")[0].strip("'\"").partition(" ")[0] for line in found] == [
        "touch",
        "rm",
        "chmod",
        "echo",
        "mark",
        "",
    ]


@pytest.mark.parametrize("name", [name for name in policy_truth.tools() if " " not in name])
def test_options_take_values_as_the_help_says(name: str) -> None:
    """An option that the table lists without a value needs none, as the program's own help has it."""
    program = programs.find(name)
    assert program is not None
    takes = policy_truth.values_of(name)

    for option, takes_value in takes.items():
        known = program.options.get(option)
        if known is not None and known.takes == "nothing" and not known.does:
            assert not takes_value, f"{name} {option} takes a value"
