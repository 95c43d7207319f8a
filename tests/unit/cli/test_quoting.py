"""How text from outside is shown to a person who decides about it."""

from __future__ import annotations

import pytest

from avfs_git.cli.output.quoting import reveal


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("ls -l", ["ls -l"]),
        ("a\nb", ["a", "b"]),
        ("ls\r\x1b[2Krm", ["ls<0d><1b>[2Krm"]),
        ("a\u202eb\u2066\u200b", ["a<202e>b<2066><200b>"]),
        ("a\u2028b\x85c\tq", ["a<2028>b<85>c<09>q"]),
        ("a\udcff", ["a<dcff>"]),
        ("ls" + " " * 500 + "; rm", ["ls<500 spaces>; rm"]),
        ("ls" + "\n" * 500 + "rm", ["ls", "<499 empty lines>", "rm"]),
        ("ls\n\nrm\n", ["ls", "", "rm", ""]),
        ("ä 漢", ["ä 漢"]),
        ("", [""]),
    ],
)
def test_what_a_person_sees_hides_nothing(text: str, lines: list[str]) -> None:
    """Nothing steers the terminal, turns the direction of writing, or pushes a part out of sight."""
    assert reveal(text) == lines
