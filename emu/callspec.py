"""Calls described for a fuzzer: which arguments they take, and which bits of these mean what.

The form is that of TF-A-Tests' SMC fuzzer: a call, its arguments, the fields of each argument as
bit ranges, and the values a field should have. A line `argN = VALUE` fixes a whole register:

    # comments run to the end of the line
    smc: SDEI_EVENT_STATUS: 0xC4000025
        arg1: event
            field: number: [0,30] = {0, 2-7}
            field: vendor: [31,31]
        arg2 = 0

Where a function is known by its name, the identifier may be left out. Bits no field names are
zero. What a field has no values for may be anything. A file is checked as a whole before it is
used: fields lie in their register, do not overlap, and hold their values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from emu.describe import known_ids, subject
from emu.errors import EmuError

LAST_ARGUMENT = 7
"""x1 to x7 (DEN0028 1.1)."""


@dataclass(frozen=True, slots=True)
class Field:
    """Bits `low` to `high` of an argument; `values` are ranges (first, last), none for any."""

    name: str
    low: int
    high: int
    values: tuple[tuple[int, int], ...] = ()

    @property
    def largest(self) -> int:
        """The largest value its bits can hold."""
        return (1 << self.high - self.low + 1) - 1


@dataclass(slots=True)
class Argument:
    """One register of a call."""

    number: int
    name: str
    fields: list[Field] = field(default_factory=list)


@dataclass(slots=True)
class CallSpec:
    """A call and its arguments; registers it does not name are zero."""

    name: str
    fid: int
    arguments: list[Argument] = field(default_factory=list)


_SMC = re.compile(r"smc\s*:\s*([\w.]+)\s*(?::\s*(\S+))?")
_FIXED = re.compile(r"arg(\d+)\s*=\s*(\S+)")
_ARGUMENT = re.compile(r"arg(\d+)\s*:\s*([\w.]+)")
_FIELD = re.compile(
    r"field\s*:\s*([\w.]+)\s*:\s*\[(\d+)\s*,\s*(\d+)\]\s*(?:=\s*\{(.*)\}|=\s*(\S+))?"
)


def parse(text: str, where: str = "calls") -> list[CallSpec]:
    """Read descriptions; EmuError names the file and the line."""
    calls: list[CallSpec] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        try:
            _line(line, calls)
        except (ValueError, IndexError) as error:
            raise EmuError(f"{where}:{number}: {error}") from None
    if not calls:
        raise EmuError(f"{where}: describes no call; begin one with `smc: NAME: 0xID`")
    return calls


def _line(line: str, calls: list[CallSpec]) -> None:
    if found := _SMC.fullmatch(line):
        calls.append(CallSpec(found[1], _identifier(found[1], found[2])))
        return
    if not calls:
        raise ValueError("begin with a call: `smc: NAME: 0xID`")
    arguments = calls[-1].arguments
    if found := _FIXED.fullmatch(line):
        value = _number(found[2])
        arguments.append(_argument(calls[-1], found[1], f"arg{found[1]}"))
        _add(arguments[-1], Field("value", 0, 63, ((value, value),)))
    elif found := _ARGUMENT.fullmatch(line):
        arguments.append(_argument(calls[-1], found[1], found[2]))
    elif found := _FIELD.fullmatch(line):
        if not arguments:
            raise ValueError("a field belongs to an argument: `arg1: NAME` comes first")
        values = tuple(_values(found[4] if found[4] is not None else found[5] or ""))
        _add(arguments[-1], Field(found[1], int(found[2]), int(found[3]), values))
    else:
        raise ValueError(f"{line!r} is none of `smc: …`, `argN: …`, `argN = …` and `field: …`")


def _identifier(name: str, text: str | None) -> int:
    if text is not None:
        return _number(text) & 0xFFFF_FFFF
    for fid in known_ids():
        if subject(fid).name == name:
            return fid
    raise ValueError(f"no function is known as {name}; give its identifier: `smc: {name}: 0xID`")


def _argument(call: CallSpec, number: str, name: str) -> Argument:
    if not 1 <= int(number) <= LAST_ARGUMENT:
        raise ValueError(f"arg{number}: arguments are arg1 to arg{LAST_ARGUMENT}")
    if any(argument.number == int(number) for argument in call.arguments):
        raise ValueError(f"arg{number} is described twice")
    return Argument(int(number), name)


def _add(argument: Argument, new: Field) -> None:
    if not 0 <= new.low <= new.high <= 63:
        raise ValueError(f"field {new.name}: [{new.low},{new.high}] are no bits of a register")
    for old in argument.fields:
        if new.low <= old.high and old.low <= new.high:
            raise ValueError(f"field {new.name} overlaps field {old.name}")
    for first, last in new.values:
        if not 0 <= first <= last <= new.largest:
            raise ValueError(f"field {new.name} cannot hold {first:#x}-{last:#x}")
    argument.fields.append(new)


def _values(text: str) -> Iterator[tuple[int, int]]:
    """{0, 2-7} as ranges."""
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = part.partition("-")
        yield _number(first), _number(last) if dash else _number(first)


def _number(text: str) -> int:
    try:
        return int(text.strip().replace("_", ""), 0)
    except ValueError:
        raise ValueError(f"{text.strip()!r} is not a number such as 0x84000000") from None
