"""State in and out of files: trees of dataclasses as JSON values, and back with every check.

`to_state` writes what a dataclass declares; `from_state` reads it by the same declarations and
takes nothing else: every field present, none unknown, each of its own type, each number within
its bits. A field is an unsigned integer of 64 bits unless `Annotated[int, bits]` says otherwise.
Nothing in a file is ever executed or looked up as a name: what may appear is what is declared.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import enum
import functools
import types
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from emu.base.errors import StateError
from emu.base.smccc import MASK64, UNDEF, Ret, Undef

BITS = 64
U32 = Annotated[int, 32]
U128 = Annotated[int, 128]
Count = Annotated[int, 62]
"""Cycles and their like: a sum of two still fits into the 64 bits of the engine's counters."""
Cycles = Annotated[int, 58]
"""The same, whose sixteenths fit as well."""
MAX_DEPTH = 16
"""Of a value without a declared shape, as TOML tables are; schema.py judges what is in them."""
MAX_REGISTERS = 18


def to_state(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, enum.Enum):
        return value.value
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Undef):
        return "undef"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if dataclasses.is_dataclass(value):
        return {f.name: to_state(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: to_state(item) for name, item in zip(value._fields, value, strict=True)}
    if isinstance(value, tuple | list):
        return [to_state(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(to_state(item) for item in value)
    if hasattr(value, "items"):
        return {str(key): to_state(item) for key, item in value.items()}
    raise StateError(f"a {type(value).__name__} cannot be saved")


def from_state(kind: Any, value: Any, place: str = "") -> Any:
    """The value of type `kind` that `to_state` wrote; StateError when it is none."""
    if kind is Any:
        return _free(value, place, 0)
    origin = get_origin(kind)
    if kind is int or origin is Annotated:
        return _number(value, BITS if kind is int else get_args(kind)[1], place)
    if origin in (Union, types.UnionType):
        return _union(get_args(kind), value, place)
    if origin is not None:
        return _container(origin, get_args(kind), value, place)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _member(kind, value, place)
    reader = _LEAVES.get(kind)
    return reader(value, place) if reader else _record(kind, value, place)


def _refuse(place: str, what: str) -> StateError:
    return StateError(f"{place or 'it'} {what}")


def _free(value: Any, place: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise _refuse(place, "is nested too deeply")
    if isinstance(value, list):
        return [_free(item, place, depth + 1) for item in value]
    if isinstance(value, dict):
        return {key: _free(item, f"{place}.{key}", depth + 1) for key, item in value.items()}
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and abs(value) <= MASK64:
        return value
    raise _refuse(place, "is no such value as JSON has")


def _number(value: Any, bits: int, place: str) -> int:
    if type(value) is not int:
        raise _refuse(place, "is not a number")
    if value < 0 or value.bit_length() > bits:
        raise _refuse(place, f"does not fit into {bits} bits")
    return value


def _truth(value: Any, place: str) -> bool:
    if type(value) is not bool:
        raise _refuse(place, "is neither true nor false")
    return value


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise _refuse(place, "is not a text")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _refuse(place, "is not a text that can be written")
    return value


def _bytes(value: Any, place: str) -> bytes:
    try:
        return base64.b64decode(_text(value, place), validate=True)
    except (binascii.Error, ValueError):
        raise _refuse(place, "is not base64") from None


def _nothing(value: Any, place: str) -> None:
    if value is not None:
        raise _refuse(place, "is not null")


def _undef(value: Any, place: str) -> Undef:
    if value != "undef":
        raise _refuse(place, "is not a reply")
    return UNDEF


def _ret(value: Any, place: str) -> Ret:
    registers = from_state(tuple[int, ...], value, place)
    if len(registers) > MAX_REGISTERS:
        raise _refuse(place, f"writes more than {MAX_REGISTERS} registers")
    return Ret.only(*registers) if registers else Ret.untouched()


_LEAVES: dict[Any, Any] = {
    bool: _truth,
    str: _text,
    bytes: _bytes,
    type(None): _nothing,
    Undef: _undef,
    Ret: _ret,
}


def _member(kind: type[enum.Enum], value: Any, place: str) -> Any:
    for member in kind:
        if type(value) in (int, str) and member.value == value:
            return member
    raise _refuse(place, f"is no {kind.__name__}")


def _union(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    """The first of the alternatives that fits; they are told apart by their JSON types."""
    problem = _refuse(place, "is missing")
    for kind in kinds:
        try:
            return from_state(kind, value, place)
        except StateError as error:
            if kind is not type(None):
                problem = error
    raise problem


def _container(origin: Any, kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    if origin is dict:
        if not isinstance(value, dict):
            raise _refuse(place, "is not a table")
        return {
            _key(kinds[0], key, place): from_state(kinds[1], item, f"{place}.{key}")
            for key, item in value.items()
        }
    if not isinstance(value, list):
        raise _refuse(place, "is not a list")
    if origin is tuple and kinds[-1] is not Ellipsis:
        if len(value) != len(kinds):
            raise _refuse(place, f"does not have {len(kinds)} items")
    else:
        kinds = kinds[:1] * len(value)
    items = [
        from_state(kind, item, f"{place}[{n}]")
        for n, (kind, item) in enumerate(zip(kinds, value, strict=True))
    ]
    return origin(items)


def _key(kind: Any, key: str, place: str) -> Any:
    """JSON's keys are texts; a number is written in decimal."""
    if kind is str:
        return _text(key, place)
    if not (key.isascii() and key.isdecimal() and len(key) <= 20 and str(int(key)) == key):
        raise _refuse(f"{place}.{key}", "is not a number")
    return from_state(kind, int(key), place)


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    if dataclasses.is_dataclass(kind):
        return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return {name: hints[name] for name in kind._fields}


def _record(kind: Any, value: Any, place: str) -> Any:
    """A dataclass or NamedTuple."""
    if not isinstance(value, dict):
        raise _refuse(place, "is not a table")
    fields = _fields(kind)
    dot = f"{place}." if place else ""
    if unknown := value.keys() - fields.keys():
        raise _refuse(f"{dot}{min(unknown)}", "is unknown")
    if missing := fields.keys() - value.keys():
        raise _refuse(f"{dot}{min(missing)}", "is missing")
    return kind(**{
        name: from_state(hint, value[name], f"{dot}{name}") for name, hint in fields.items()
    })  # fmt: skip
