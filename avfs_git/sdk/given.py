"""What every call of the public API is checked for, before anything is done and again where it fails.

Decided here: a value of another type is refused; what a parameter takes is what its annotation says, read at the first
call of its method. What a text or a number has to be beside that is decided where it is used. And a vault that was
deleted since it was opened is told as that, not as what a call would find missing first. `checked` marks the classes
that callers hold. Safe from any thread; keeps nothing of a call.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any, TypeVar

from avfs_git.errors import AvfsError, InvalidInput, quote
from avfs_git.paths import list_given
from avfs_git.values import NamedTuple

_C = TypeVar("_C", bound=type)
_ASYNC, _POSITIONAL, _NAMED = 0x80, 0x04, 0x08  # inspect.CO_COROUTINE and so on: that module takes long to load
_OPTIONS = "avfs_git.sdk.options"
_TEXTS = (str, bytes, bytearray, memoryview, os.PathLike)
_PLAIN = {type(None), str, bytes, int, float, bool}
_CHECKED: set[Callable[..., Any]] = set()
_HELD = (list, tuple, set, frozenset, dict)


class _Kind(NamedTuple):
    """One kind of value that a parameter takes."""

    says: str
    types: tuple[type, ...]
    of: tuple[_Kinds | None, ...] = ()
    """What is in a list, or what the names and the values of a mapping are; None for anything."""
    among: tuple[str, ...] = ()
    """The only texts that are taken; none for any."""

    def takes(self, value: object) -> bool:
        """Whether a value is of this kind; True and False are no numbers."""
        return (
            isinstance(value, self.types)
            and not (self.of and isinstance(value, _TEXTS))
            and (not isinstance(value, bool) or bool in self.types)
            and (not self.among or value in self.among)
        )


class _Kinds(NamedTuple):
    """What a parameter takes."""

    kinds: tuple[_Kind, ...]
    plain: frozenset[type]
    """Types of which each value is taken as it is."""


class _FileType(type):
    """Tells a file by what it can do: the one of `tempfile` passes on what it is asked for."""

    def __instancecheck__(cls, value: object) -> bool:
        return (hasattr(value, "read") or hasattr(value, "write")) and not isinstance(value, io.TextIOBase)


class _File(metaclass=_FileType):
    pass


_KINDS: dict[str, _Kind] = {
    "None": _Kind("", (type(None),)),
    "str": _Kind("a text", (str,)),
    "bytes": _Kind("bytes", (bytes, bytearray, memoryview)),
    "int": _Kind("a whole number", (int,)),
    "float": _Kind("a number", (int, float)),
    "bool": _Kind("True or False", (bool,)),
    "BinaryIO": _Kind("an open file", (_File,)),
    "Path": _Kind("a path", (os.PathLike,)),
    "os.PathLike[str]": _Kind("a path", (os.PathLike,)),
    "PathLike": _Kind("a text or a path", (str, bytes, os.PathLike)),
}


def checked(holder: _C) -> _C:
    """Have the public methods of a class, also inherited methods of the API, check what they are given.

    A class with a method `_check_there` has it called, too.
    """
    there: Callable[[Any], None] = getattr(holder, "_check_there", _check_nothing)
    package = __name__.rpartition(".")[0]
    bases = [base for base in reversed(holder.__mro__) if base.__module__.startswith(package)]
    methods = {name: method for base in bases for name, method in vars(base).items() if not name.startswith("_")}
    for name, method in methods.items():
        if isinstance(method, FunctionType) and method not in _CHECKED:
            wrapped = _wrap(method, there if name != "close" else _check_nothing)
            _CHECKED.add(wrapped)
            setattr(holder, name, wrapped)
    return holder


def _check_nothing(holder: object) -> None:
    """Stand in where a class has nothing that may be missing."""


def _wrap(method: FunctionType, there: Callable[[Any], None]) -> Callable[..., Any]:
    read: tuple[dict[str, _Kinds], list[str], str] | None = None

    def check(args: tuple[object, ...], named: Mapping[str, object]) -> None:
        nonlocal read
        if read is None:
            read = _read_method(method)
        known, names, others = read
        for number, value in enumerate(args):
            name = names[number] if number < len(names) else others
            if (kinds := known.get(name)) is not None and type(value) not in kinds.plain:
                _check(name, value, kinds)
        for name, value in named.items():
            if (kinds := known.get(name)) is not None and type(value) not in kinds.plain:
                _check(name, value, kinds)

    if method.__code__.co_flags & _ASYNC:

        @functools.wraps(method)
        async def awaited(self: object, /, *args: object, **named: object) -> object:
            there(self)
            check(args, named)
            try:
                return await method(self, *args, **named)
            except (AvfsError, OSError):
                there(self)
                raise

        return awaited

    @functools.wraps(method)
    def called(self: object, /, *args: object, **named: object) -> object:
        there(self)
        check(args, named)
        try:
            return method(self, *args, **named)
        except (AvfsError, OSError):
            there(self)
            raise

    return called


def _check(name: str, value: object, kinds: _Kinds) -> None:
    """Refuse a value of another type than the kinds of a parameter, or with something else in it.

    Raises:
        InvalidInput: If so.
    """
    for kind in kinds.kinds:
        if kind.takes(value):
            if len(kind.of) == 1 and kind.of[0] is not None and isinstance(value, _HELD):
                for each in value:
                    _check(name, each, kind.of[0])
            elif len(kind.of) == 2 and isinstance(value, Mapping):
                for pair in value.items():
                    for each, wanted in zip(pair, kind.of, strict=True):
                        if wanted is not None:
                            _check(name, each, wanted)
            return
    if any(kind.says == "a list" for kind in kinds.kinds) and isinstance(value, _TEXTS):
        list_given(value)  # type: ignore[arg-type]  # which refuses it
    says = " or ".join(kind.says for kind in kinds.kinds if kind.says)
    is_other = isinstance(value, str) and any(kind.among for kind in kinds.kinds)
    found = quote(str(value)) if is_other else f"a value of type '{type(value).__name__}'"
    raise InvalidInput(f"`{name}`: {says} is needed, not {found}")


# --- what annotations say ---------------------------------------------------------------------------------------------


def _read_method(method: Any) -> tuple[dict[str, _Kinds], list[str], str]:
    """Read what a method takes: the kinds by name, the names of what is given by position, that of all further ones."""
    while hasattr(method, "__wrapped__"):
        method = method.__wrapped__
    code, names = method.__code__, method.__globals__
    texts: dict[str, str] = dict(method.__annotations__)
    given = list(code.co_varnames[1 : code.co_argcount])
    more = list(code.co_varnames[code.co_argcount + code.co_kwonlyargcount :])
    others = more.pop(0) if code.co_flags & _POSITIONAL else ""
    if code.co_flags & _NAMED:
        options = texts.pop(more[0], "").removeprefix("Unpack[").removesuffix("]")
        __import__(_OPTIONS)
        names = {**vars(sys.modules[_OPTIONS]), **names}
        annotations = getattr(names.get(options), "__annotations__", {})
        texts |= {name: getattr(kind, "__forward_arg__", kind) for name, kind in annotations.items()}
    read = {name: _read(text, names) for name, text in texts.items() if name != "return"}
    return {name: kinds for name, kinds in read.items() if kinds is not None}, given, others


def _read(text: str, names: Mapping[str, object]) -> _Kinds | None:
    """Read an annotation; None if it says nothing that can be checked."""
    kinds: list[_Kind] = []
    for part in _split(text, "|"):
        outer, _, inner = part.removesuffix("]").partition("[")
        found = _KINDS.get(part)
        if found is None and outer in ("Sequence", "Iterable"):
            found = _Kind("a list", (Iterable,), (_read(inner, names),))
        elif found is None and outer == "Mapping":
            found = _Kind("a mapping", (Mapping,), tuple(_read(each, names) for each in _split(inner, ",")))
        elif found is None and outer == "tuple":
            found = _Kind("a list", (tuple, list), (_read(_split(inner, ",")[0], names),))
        elif found is None and outer == "Literal":
            choices = tuple(each.strip("'\"") for each in _split(inner, ","))
            found = _Kind(" or ".join(map(quote, choices)), (str,), among=choices)
        elif found is None and outer == "Callable":
            found = _Kind("a function", (Callable,))  # type: ignore[arg-type]  # isinstance takes it
        elif found is None:
            named = names.get(part)
            if not isinstance(named, type) or named.__module__ == "typing":
                return None
            found = _Kind(f"a value of type '{part}'", (str, named) if issubclass(named, str) else (named,))
        kinds.append(found)
    plain = {each for kind in kinds if not (kind.of or kind.among) for each in kind.types if each in _PLAIN}
    return _Kinds(tuple(kinds), frozenset(plain))


def _split(text: str, mark: str) -> list[str]:
    """Split an annotation at a mark that stands in no brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == mark and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
