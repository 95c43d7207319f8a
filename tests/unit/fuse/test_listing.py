from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from avfs_git.fuse.listing import Listings, make_listing, position_of

_names = st.sets(st.binary(min_size=1, max_size=6))


@given(_names, st.integers(1, 5))
def test_a_listing_read_in_pieces_gives_each_name_once(names: set[bytes], piece: int) -> None:
    """Whatever the size of the pieces, nothing is lost and nothing comes twice."""
    listing = make_listing((name, 8) for name in names)
    seen: list[bytes] = []
    position = 2
    while found := listing.names[listing.after(position) :][:piece]:
        position = listing.positions[listing.after(position) + len(found) - 1]
        seen += [name for name, _ in found]

    assert sorted(seen) == sorted(names)


@given(_names, _names)
def test_a_position_stays_good_while_entries_come_and_go(names: set[bytes], others: set[bytes]) -> None:
    """What is behind a position in one listing is behind it in the next one, too."""
    first, second = make_listing((name, 8) for name in names | others), make_listing((name, 8) for name in names)
    for index, (name, _) in enumerate(first.names):
        behind = {later for later, _ in first.names[index + 1 :]} & names
        assert {later for later, _ in second.names[second.after(position_of(name)) :]} - {name} == behind - {name}


def test_names_of_one_number_do_not_share_a_position() -> None:
    """Twins are told apart, so that a piece may end between them."""
    listing = make_listing([(b"a", 8), (b"a", 4)])

    assert listing.positions[0] < listing.positions[1]


def test_what_is_kept_is_bounded_and_can_be_lost() -> None:
    """Many directories being read at once cost no more memory than a few."""
    listings = Listings()
    for ino in range(100):
        listings.keep(ino, make_listing([(b"x", 8)]))

    assert listings.find(0) is None
    assert listings.find(99) is not None
    listings.drop(99)
    assert listings.find(99) is None
