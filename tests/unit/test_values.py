"""Classes of `values` are dataclasses in all that a caller can see, whenever their methods are made."""

from __future__ import annotations

import copy
import pickle
import threading
import typing
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace

import pytest

from avfs_git import model
from avfs_git.values import NamedTuple, prepare, record_class, value_class


@value_class
class Point:
    """A value."""

    x: int
    name: bytes = b"here"
    tags: tuple[str, ...] = ()
    """Of any kind."""

    @property
    def doubled(self) -> int:
        """Twice."""
        return self.x * 2


@dataclass(frozen=True, slots=True)
class Reference:
    """The same, made by the standard library."""

    x: int
    name: bytes = b"here"
    tags: tuple[str, ...] = ()


class Place(NamedTuple):
    """A tuple."""

    name: str
    owner: Point | None = None
    """Of it."""

    @property
    def shown(self) -> str:
        """For people."""
        return f"<{self.name}>"

    @classmethod
    def of(cls, text: str) -> Place:
        """Another way to make one."""
        return cls(text.strip())


class TypingPlace(typing.NamedTuple):
    """The same, made by the standard library."""

    name: str
    owner: Point | None = None


@record_class
class Counter:
    """A record."""

    total: int
    seen: list[int] = field(default_factory=list)


def test_a_tuple_with_names_is_that_of_typing() -> None:
    """Fields, defaults, methods, types, text, replacing, matching and copying are the same.

    Its body can add methods.
    """
    place = Place.of(" here ")
    reference: tuple[object, ...] = TypingPlace("here")
    assert (place, place.shown, place.owner) == (("here", None), "<here>", None)
    assert place == reference
    assert repr(place) == repr(reference).removeprefix("Typing")
    for name in ("_fields", "_field_defaults", "__match_args__", "__slots__", "__module__"):
        assert getattr(Place, name) == getattr(TypingPlace, name), name
    assert typing.get_type_hints(Place) == typing.get_type_hints(TypingPlace)
    assert (Place.__doc__, Place.__qualname__, Place.__bases__) == ("A tuple.", "Place", (tuple,))
    assert place._replace(owner=Point(1))._asdict() == {"name": "here", "owner": Point(1)}
    assert pickle.loads(pickle.dumps(place)) == copy.copy(place) == place
    make: typing.Any = Place
    with pytest.raises(TypeError, match="missing"):
        make()
    match place:
        case Place(name, owner):
            assert (name, owner) == ("here", None)


def test_a_value_is_a_frozen_dataclass() -> None:
    """Fields, equality, hash, text, replacing, matching and copying are those of a dataclass."""
    made: object = Point
    assert is_dataclass(made)
    assert [(known.name, known.default) for known in fields(Point)] == [
        (known.name, known.default) for known in fields(Reference)
    ]
    point = Point(3)
    assert repr(point) == repr(Reference(3)).replace("Reference", "Point")
    assert point == Point(3, b"here") != Point(4)
    assert hash(point) == hash(Point(x=3))
    other: object = Reference(3)
    assert point != other
    assert asdict(replace(point, name=b"there")) == {"x": 3, "name": b"there", "tags": ()}
    assert copy.copy(point) == copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point
    assert point.doubled == 6
    match point:
        case Point(x, name):
            assert (x, name) == (3, b"here")
    assert not hasattr(point, "__dict__")


def test_a_value_cannot_be_changed() -> None:
    """Neither a field nor anything else can be set or removed."""
    point = Point(1)
    for name in ("x", "other"):
        with pytest.raises(FrozenInstanceError):
            setattr(point, name, 2)
    with pytest.raises(FrozenInstanceError):
        del point.x
    assert point.x == 1


def test_wrong_arguments_are_refused_at_the_first_use_too() -> None:
    """The first call of a class, which makes its methods, treats its arguments as all others do."""

    @value_class
    class Fresh:
        """Used for the first time below."""

        x: int

    for _ in range(2):
        with pytest.raises(TypeError):
            Fresh(y=1)  # type: ignore[call-arg]
    assert Fresh(1) == Fresh(x=1)


def test_a_record_can_be_changed_and_shares_nothing() -> None:
    """Each record has defaults of its own; what can change has no hash."""
    one, other = Counter(1), Counter(1)
    one.seen.append(5)
    one.total += 1
    assert (one, other) == (Counter(2, [5]), Counter(1, []))
    with pytest.raises(TypeError):
        hash(one)
    with pytest.raises(AttributeError):
        one.more = 1  # type: ignore[attr-defined]


def test_threads_that_come_first_together_get_the_same() -> None:
    """Several threads may be the first to use a class."""

    @value_class
    class Shared:
        """Used by many at once."""

        x: int
        y: int = 2

    found: list[Shared] = []
    barrier = threading.Barrier(8)

    def use() -> None:
        barrier.wait()
        found.append(Shared(1))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Shared(1, 2)] * 8


def test_all_values_of_the_model_are_dataclasses() -> None:
    """Whatever the library returns can be taken apart with `dataclasses`."""
    values = [held for held in vars(model).values() if isinstance(held, type) and held.__module__ == model.__name__]
    assert [held.__name__ for held in values if not is_dataclass(held) and not hasattr(held, "__members__")] == []


def test_what_the_first_object_needs_can_be_made_before() -> None:
    """For a process that others are forked from; a second time it does nothing."""

    @value_class
    class Early:
        """A value."""

        number: int
        text: str = "none"

    prepare(Early)
    made = vars(Early)["__init__"]
    prepare(Early)

    assert Early(1) == Early(1, "none")
    assert vars(Early)["__init__"] is made
