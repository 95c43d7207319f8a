"""Look-ups in a large `packed-refs` read a few lines of it, and find what reading all of it finds."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from avfs_git.gitstore.formats.packedrefs import PackedRefs, format_packed
from avfs_git.paths import Oid

parts = st.sampled_from(["a", "b", "ab", "a-b", "a.b", "B", "é", "0", "zz"])
names = st.lists(parts, min_size=1, max_size=3).map(lambda found: "refs/heads/" + "/".join(found))


@settings(max_examples=200, deadline=None)
@given(st.sets(names, max_size=30), st.integers(0, 2**32), st.lists(names, max_size=10), st.booleans(), st.booleans())
def test_a_search_finds_what_reading_all_finds(
    own: set[str], seed: int, asked: list[str], has_tags: bool, is_sorted: bool
) -> None:
    """Values, prefixes and what is below a name, with and without the lines of annotated tags, sorted or not."""
    rng = random.Random(seed)
    names_of_many = [f"refs/avfs/keep/{rng.randbytes(20).hex()}" for _ in range(300)]
    refs = {name: Oid(rng.randbytes(20)) for name in [*own, *names_of_many]}
    lines = format_packed(refs).splitlines(keepends=True)
    header, body = lines[0], lines[1:]
    if not is_sorted:
        header = b"# pack-refs with: peeled \n"
        rng.shuffle(body)
    if has_tags:
        body = [line + b"^" + rng.randbytes(20).hex().encode() + b"\n" if rng.random() < 0.5 else line for line in body]
    data = header + b"".join(body)

    for name in [*own, *asked, *names_of_many[:5], "refs/heads", "refs/zz/z", "refs/a/a"]:
        packed = PackedRefs(None, data)

        assert packed.get(name) == refs.get(name)
        assert packed.holds_below(name) == any(other.startswith(f"{name}/") for other in refs)
        assert packed.list(f"{name}/") == {other: oid for other, oid in refs.items() if other.startswith(f"{name}/")}
        assert packed.list("refs/heads/a") == {
            other: oid for other, oid in refs.items() if other.startswith("refs/heads/a")
        }
    assert PackedRefs(None, data).list("refs/") == refs


def test_a_broken_line_hides_no_ref() -> None:
    """Where a search meets a line that is no ref's, the file is read whole, as far as it can be read."""
    refs = {f"refs/avfs/keep/{number:040x}": Oid(bytes(19) + bytes([number % 256])) for number in range(400)}
    lines = format_packed(refs).splitlines(keepends=True)
    lines[200] = b"x\n"
    data = b"".join(lines)

    assert sum(PackedRefs(None, data).get(name) == oid for name, oid in refs.items()) == 399
