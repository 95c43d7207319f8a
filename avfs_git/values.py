"""Dataclasses whose methods are compiled at the first use of the class, and tuples with names.

Decided here: `@value_class` stands for `@dataclass(frozen=True, slots=True)` and `@record_class` for
`@dataclass(slots=True)`; `dataclasses.fields`, `replace` and `asdict` work on both. A command imports dozens of these
classes and uses a few; compiling all of them would take as long as the command's own work. The module `dataclasses`
takes a tenth of the start of a session's process, so it is loaded only when an object needs more than creation and its
fields. Any thread may use them: two threads at the first use compile the same methods twice.

`NamedTuple` stands for that of `typing`, which compiles each annotation: most of a class takes three times as long
there.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, dataclass_transform

_T = TypeVar("_T")

_METHODS = ("__repr__", "__eq__")
_FACTS = ("__dataclass_params__", "__dataclass_fields__")
_NOT_GIVEN: Any = object()


class _Made:
    """Stands for a value that is made for each object."""

    __slots__ = ("default_factory",)

    def __init__(self, default_factory: Callable[[], object]) -> None:
        self.default_factory = default_factory


if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple  # noqa: PLC0414, TID251 - other modules take it from here
else:

    class _TupleMaker(type):
        """Makes the class of a tuple of a class body, as `typing.NamedTuple` does."""

        def __new__(cls, name: str, _bases: tuple[type, ...], body: dict[str, Any]) -> type:
            names = list(body.get("__annotations__", ()))
            defaults = [body[each] for each in names if each in body]
            made = namedtuple(name, names, defaults=defaults, module=body["__module__"])  # noqa: PYI024 - the base of what is meant
            for attribute, value in body.items():
                if attribute not in names:
                    setattr(made, attribute, value)
            return made

    NamedTuple = type.__new__(_TupleMaker, "NamedTuple", (), {})


def field(*, default_factory: Callable[[], _T]) -> _T:
    """Say in the body of a class how the value of a field is made where none is given, as `dataclasses.field` does."""
    made: Any = _Made(default_factory)
    return made  # type: ignore[no-any-return]


def replace(value: _T, /, **changes: object) -> _T:
    """Make an object that differs from another in some fields, as `dataclasses.replace` does."""
    return type(value)(**as_dict(value) | changes)


def as_dict(value: object) -> dict[str, Any]:
    """Take the fields of an object by their names; unlike `dataclasses.asdict`, not those of the objects in them."""
    return {name: getattr(value, name) for name in type(value).__match_args__}  # type: ignore[attr-defined]


def prepare(*classes: type) -> None:
    """Compile now what the first object of each of these classes needs: for a process that is forked to make some."""
    for cls in classes:
        if prepare_init := getattr(cls.__dict__["__init__"], "prepare", None):
            prepare_init()


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value_class(cls: type[_T]) -> type[_T]:
    """Make a frozen dataclass with slots of a class that derives from nothing."""
    return _make(cls, frozen=True)


@dataclass_transform(field_specifiers=(field,))
def record_class(cls: type[_T]) -> type[_T]:
    """Make a dataclass with slots, whose fields can change, of a class that derives from nothing."""
    return _make(cls, frozen=False)


def _make(cls: type[_T], *, frozen: bool) -> type[_T]:
    annotations: dict[str, Any] = cls.__dict__.get("__annotations__", {})  # noqa: RUF063 - `inspect` takes 7 ms to load
    names = tuple(annotations)
    defaults = {name: _plain(cls.__dict__[name]) for name in names if name in cls.__dict__}
    methods = (*_METHODS, "__hash__") if frozen else _METHODS

    def complete() -> type[_T]:
        import dataclasses  # noqa: PLC0415 - see above

        parts = [(name, kind, _field(defaults.get(name, _NOT_GIVEN))) for name, kind in annotations.items()]
        dataclass = dataclasses.make_dataclass(cls.__name__, parts, namespace={"__doc__": cls.__doc__}, frozen=frozen)
        for name in (*methods, *_FACTS):
            setattr(made, name, dataclass.__dict__[name])
        return made

    def prepare_init() -> Callable[..., None]:
        init = _make_init(made, names, defaults, frozen=frozen)
        type.__setattr__(made, "__init__", init)
        return init

    def begin(self: object, *args: object, **named: object) -> None:
        prepare_init()(self, *args, **named)

    begin.prepare = prepare_init  # type: ignore[attr-defined]

    body = {name: held for name, held in cls.__dict__.items() if name not in annotations}
    del body["__dict__"], body["__weakref__"]  # they are of a class without slots
    body |= {name: _stub(name, complete) for name in methods}
    body |= {name: _Later(name, complete) for name in _FACTS}
    body |= {"__init__": begin, "__slots__": names, "__match_args__": names}
    if frozen:
        # As `dataclass` has it: without these a frozen object with slots can be neither changed nor copied.
        body |= {"__setattr__": _refuse, "__delattr__": _refuse, "__getstate__": _get_state, "__setstate__": _set_state}
    made: type[_T] = type(cls.__name__, (), body)
    made.__qualname__ = cls.__qualname__
    return made


def _make_init(cls: type, names: tuple[str, ...], defaults: dict[str, Any], *, frozen: bool) -> Callable[..., None]:
    """Compile the method that fills an object."""
    known: dict[str, Any] = {"_not_given": _NOT_GIVEN}
    parameters, steps = ["self"], []
    for name in names:
        value = name
        if name not in defaults:
            parameters.append(name)
        elif (factory := _factory_of(defaults[name])) is not None:
            known[f"_make_{name}"] = factory
            parameters.append(f"{name}=_not_given")
            value = f"_make_{name}() if {name} is _not_given else {name}"
        else:
            known[f"_default_{name}"] = defaults[name]
            parameters.append(f"{name}=_default_{name}")
        if frozen:
            known[f"_set_{name}"] = cls.__dict__[name].__set__  # two thirds of what `object.__setattr__` takes
            steps.append(f" _set_{name}(self, {value})")
        else:
            steps.append(f" self.{name} = {value}")
    text = f"def __init__({', '.join(parameters)}):\n" + "\n".join(steps or [" pass"])
    exec(text, known)  # noqa: S102 - names of fields only, as `dataclasses` does it
    made: Callable[..., None] = known["__init__"]
    return made


def _plain(default: Any) -> Any:
    """Take what the `field` of `dataclasses` says as if ours had said it."""
    if type(default).__name__ != "Field":
        return default
    import dataclasses  # noqa: PLC0415 - see above

    return default.default if default.default_factory is dataclasses.MISSING else _Made(default.default_factory)


def _factory_of(default: object) -> Callable[[], object] | None:
    return default.default_factory if isinstance(default, _Made) else None


def _field(default: object) -> Any:
    import dataclasses  # noqa: PLC0415 - see above

    if default is _NOT_GIVEN:
        return dataclasses.field()
    factory = _factory_of(default)
    return dataclasses.field(default=default) if factory is None else dataclasses.field(default_factory=factory)


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
    from dataclasses import FrozenInstanceError  # noqa: PLC0415 - see above

    raise FrozenInstanceError(f"cannot change field {name!r} of a {type(self).__name__}")


def _get_state(self: Any) -> list[object]:
    return [getattr(self, name) for name in self.__match_args__]


def _set_state(self: Any, state: list[object]) -> None:
    for name, held in zip(self.__match_args__, state, strict=True):
        object.__setattr__(self, name, held)
