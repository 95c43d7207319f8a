"""Dataclasses whose methods are made when they are first needed.

Decided here: `@value_class` gives a class what `@dataclass(frozen=True, slots=True)` does and `@record_class` what
`@dataclass(slots=True)` does, `dataclasses.fields`, `replace` and `asdict` included, but both compile its methods at the
first use of the class. A command of the command line imports dozens of these classes and uses a few; compiling all of
them takes it as long as its own work. Usable from several threads: whoever comes second makes the same methods once more.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import Field, FrozenInstanceError, field, make_dataclass
from typing import Any, NoReturn, TypeVar, dataclass_transform

_T = TypeVar("_T")

_METHODS = ("__init__", "__repr__", "__eq__")
_FACTS = ("__dataclass_params__", "__dataclass_fields__")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value_class(cls: type[_T]) -> type[_T]:
    """Make a frozen dataclass with slots of a class that derives from nothing."""
    return _make(cls, frozen=True)


@dataclass_transform(field_specifiers=(field,))
def record_class(cls: type[_T]) -> type[_T]:
    """Make a dataclass with slots, whose fields can change, of a class that derives from nothing."""
    return _make(cls, frozen=False)


def _make(cls: type[_T], *, frozen: bool) -> type[_T]:
    annotations = inspect.get_annotations(cls)
    names = tuple(annotations)
    defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
    methods = (*_METHODS, "__hash__") if frozen else _METHODS

    def complete() -> type[_T]:
        parts = [(name, kind, _field(defaults[name]) if name in defaults else field()) for name, kind in annotations.items()]
        dataclass = make_dataclass(cls.__name__, parts, namespace={"__doc__": cls.__doc__}, frozen=frozen)
        for name in (*methods, *_FACTS):
            setattr(made, name, dataclass.__dict__[name])
        return made

    body = {name: held for name, held in cls.__dict__.items() if name not in annotations}
    del body["__dict__"], body["__weakref__"]  # they are of a class without slots
    body |= {name: _stub(name, complete) for name in methods}
    body |= {name: _Later(name, complete) for name in _FACTS}
    body |= {"__slots__": names, "__match_args__": names}
    if frozen:
        # As `dataclass` has it: without these a frozen object with slots can be neither changed nor copied.
        body |= {"__setattr__": _refuse, "__delattr__": _refuse, "__getstate__": _get_state, "__setstate__": _set_state}
    made: type[_T] = type(cls.__name__, (), body)
    made.__qualname__ = cls.__qualname__
    return made


def _field(default: object) -> Any:
    return default if isinstance(default, Field) else field(default=default)


def _stub(name: str, complete: Callable[[], type]) -> Callable[..., Any]:
    """Make a method that completes its class and calls the real one."""

    def stub(self: object, *args: object, **named: object) -> object:
        return complete().__dict__[name](self, *args, **named)

    return stub


class _Later:
    """Stands for an attribute of a class until somebody asks for it."""

    def __init__(self, name: str, complete: Callable[[], type]) -> None:
        self._name = name
        self._complete = complete

    def __get__(self, instance: object, owner: type) -> object:
        return self._complete().__dict__[self._name]


def _refuse(self: object, name: str, *_: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot change field {name!r} of a {type(self).__name__}")


def _get_state(self: Any) -> list[object]:
    return [getattr(self, name) for name in self.__match_args__]


def _set_state(self: Any, state: list[object]) -> None:
    for name, held in zip(self.__match_args__, state, strict=True):
        object.__setattr__(self, name, held)
