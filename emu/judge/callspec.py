"""Calls described for a fuzzer: which arguments they take, and which bits of these mean what.

The form is that of TF-A-Tests' SMC definition files (smc_fuzz/*_smc_calls.txt, read by
smc_fuzz/script/readsmclist.py, 2026), which can be used as they are: a call and its identifier,
its arguments, the fields of each argument as bit ranges, and the value a field usually has. `:=`
gives a field the one value it may have, `argN = VALUE` a whole register, `argM-argN` several.

    # comments run to the end of the line
    define EVENT_STATUS_ID = 0xC4000028
    smc: SDEI_EVENT_STATUS_CALL EVENT_STATUS_ID
        arg1:event
            field:number:[0,30] = {0, 2-7}
            field:reserved:[31,63] := 0
        arg2-arg17 = 0

Ours are the braces, for several values, and `smc: NAME: 0xID`. Where a function is known by its
name, the identifier may be left out. Bits no field names are zero. A file is checked as a whole
before it is used: fields lie in their register, do not overlap, and hold their values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from emu.base.errors import EmuError
from emu.world.describe import known_ids, subject

LAST_DRAWN, LAST_ARGUMENT = 7, 17
"""x1 to x7 are drawn, as SMCCC 1.1 has them; x8 to x17 (1.2) may be described, as zero."""


@dataclass(frozen=True, slots=True)
class Field:
    """Bits `low` to `high` of an argument; `values` are ranges (first, last), none for any.

    `fixed`: it has no other values, however little calls keep to their description.
    """

    name: str
    low: int
    high: int
    values: tuple[tuple[int, int], ...] = ()
    fixed: bool = False

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


_DEFINE = re.compile(r"define\s+(\w+)\s*=\s*(\S+)")
_SMC = re.compile(r"smc\s*:\s*(\w+)(?:\s*:\s*|\s+|$)(\S+)?")
_FIXED = re.compile(r"arg(\d+)(?:\s*-\s*arg(\d+))?\s*=\s*(\S+)")
_ARGUMENT = re.compile(r"arg(\d+)\s*:\s*(\w+)")
_FIELD = re.compile(
    r"field\s*:\s*(\w+)\s*:\s*\[(\d+)\s*,\s*(\d+)\]\s*(?:(:?=)\s*(?:\{(.*)\}|(\S+)))?"
)
_SUFFIX = re.compile(r"(_AARCH(32|64))?(_CALL)?$")
"""What TF-A-Tests adds to a function's name."""


def parse(text: str, where: str = "calls") -> list[CallSpec]:
    """Read descriptions; EmuError names the file and the line."""
    calls: list[CallSpec] = []
    defined: dict[str, int] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        try:
            _line(line, calls, defined)
        except (ValueError, IndexError) as error:
            raise EmuError(f"{where}:{number}: {error}") from None
    if not calls:
        raise EmuError(f"{where}: describes no call; begin one with `smc: NAME 0xID`")
    return calls


def _line(line: str, calls: list[CallSpec], defined: dict[str, int]) -> None:
    if found := _DEFINE.fullmatch(line):
        defined[found[1]] = _number(found[2])
        return
    if found := _SMC.fullmatch(line):
        calls.append(CallSpec(found[1], _identifier(found[1], found[2], defined)))
        return
    if not calls:
        raise ValueError("begin with a call: `smc: NAME 0xID`")
    if found := _FIXED.fullmatch(line):
        _registers(calls[-1], int(found[1]), int(found[2] or found[1]), _number(found[3]))
    elif found := _ARGUMENT.fullmatch(line):
        calls[-1].arguments.append(_argument(calls[-1], int(found[1]), found[2]))
    elif found := _FIELD.fullmatch(line):
        _field(calls[-1].arguments, found)
    else:
        raise ValueError(f"{line!r} is none of `smc: …`, `argN: …`, `argN = …` and `field: …`")


def _registers(call: CallSpec, first: int, last: int, value: int) -> None:
    """Registers with one value each."""
    for number in range(first, last + 1):
        if number > LAST_DRAWN and value:
            raise ValueError(f"arg{number}: only arg1 to arg{LAST_DRAWN} may be other than 0")
        argument = _argument(call, number, f"arg{number}")
        _add(argument, Field("value", 0, 63, ((value, value),), fixed=True))
        call.arguments.append(argument)


def _field(arguments: list[Argument], found: re.Match[str]) -> None:
    if not arguments:
        raise ValueError("a field belongs to an argument: `arg1: NAME` comes first")
    values = tuple(_values(found[5] if found[5] is not None else found[6] or ""))
    low, high = sorted((int(found[2]), int(found[3])))
    _add(arguments[-1], Field(found[1], low, high, values, fixed=found[4] == ":="))


def _identifier(name: str, text: str | None, defined: dict[str, int]) -> int:
    if text is not None:
        return (defined[text] if text in defined else _number(text)) & 0xFFFF_FFFF
    plain = _SUFFIX.sub("", name)
    for fid in known_ids():
        if subject(fid).name in (name, plain):
            return fid
    raise ValueError(f"no function is known as {name}; give its identifier: `smc: {name} 0xID`")


def _argument(call: CallSpec, number: int, name: str) -> Argument:
    if not 1 <= number <= LAST_ARGUMENT:
        raise ValueError(f"arg{number}: arguments are arg1 to arg{LAST_ARGUMENT}")
    if any(argument.number == number for argument in call.arguments):
        raise ValueError(f"arg{number} is described twice")
    return Argument(number, name)


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
