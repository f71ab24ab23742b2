"""What a word on the command line means: numbers, sizes, ranges, registers, services.

Each function is an argparse type: it returns a value or says in one line what was expected.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from emu.base.clock import MAX_HZ, MIN_HZ
from emu.base.smccc import MASK32, MASK64

if TYPE_CHECKING:
    from emu.machine.moment import Moment

T = TypeVar("T")

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def number(text: str) -> int:
    """A number as C or Python writes it: 0x84000000, 0x8400_0000, 2214592512."""
    try:
        value = int(text.replace("_", ""), 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 0x84000000") from None
    if not 0 <= value <= MASK64:
        raise argparse.ArgumentTypeError(f"{text} does not fit into 64 bits")
    return value


def function(text: str) -> int:
    """A function as an id (abi.py): a number by SMCCC, or ABI:NUMBER and ABI:NAME."""
    name, colon, rest = text.partition(":")
    if not colon:
        return number(text)
    from emu.base.abi import is_abi
    from emu.world.abis import abi_class, abi_names, knows_abi

    abi = abi_class(name) if knows_abi(name) else None
    if abi is None or not is_abi(abi):
        others = ", ".join(other for other in abi_names() if is_abi(abi_class(other)))
        raise argparse.ArgumentTypeError(f"{name!r} is no ABI beside SMCCC; there is {others}")
    named = {known: n for n, known in abi.numbers.items()}
    return abi.id_of(named[rest] if rest in named else number(rest))


def function_id(text: str) -> int:
    """A 32-bit function identifier."""
    value = number(text)
    if value > MASK32:
        raise argparse.ArgumentTypeError(f"{text} does not fit into the 32 bits of an identifier")
    return value


def size(text: str) -> int:
    """A size in bytes: 64M, 1G, 1048576."""
    match = re.fullmatch(r"(\d+)([KMG]?)(i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 64M or 1G")
    return int(match[1]) * _UNITS[match[2].upper()]


_HERTZ = {"": 1, "K": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def frequency(text: str) -> int:
    """A frequency in hertz: 1.5G, 650M, 1800MHz."""
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?\s*([KMG]?)(Hz)?", text.strip(), re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a frequency such as 1.5G or 650M")
    part = match[2] or ""
    hertz: int = int(match[1] + part) * _HERTZ[match[3].upper()] // 10 ** len(part)
    if not MIN_HZ <= hertz <= MAX_HZ:
        raise argparse.ArgumentTypeError(f"{text}: a core has 1 MHz to 10 GHz")
    return hertz


def positive(text: str) -> int:
    """A count of one or more."""
    value = number(text)
    if value < 1:
        raise argparse.ArgumentTypeError("give at least 1")
    return value


def seconds(text: str) -> float:
    """A time in seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds such as 2.5")
    return value


def several(kind: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """A type for values of another type with commas between them; each counts once."""

    def read(text: str) -> tuple[T, ...]:
        values = [kind(part.strip()) for part in text.split(",") if part.strip()]
        if not values:
            raise argparse.ArgumentTypeError("give one value at least, several with commas")
        return tuple(dict.fromkeys(values))

    return read


def one_of(*names: str) -> Callable[[str], str]:
    """A type for one of some words."""

    def read(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(names)}")
        return text

    return read


def percent(text: str) -> float:
    """A share such as 5%, 0.5% or 5."""
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 2.5%")
    return value


def guest_status(text: str) -> int:
    """An exit status that a guest can have."""
    value = number(text)
    if value > 255:
        raise argparse.ArgumentTypeError(f"{text} is not an exit status from 0 to 255")
    return value


def id_range(text: str) -> tuple[int, int]:
    """A range of identifiers as (base, count): ID, FIRST-LAST or ID+COUNT."""
    match = re.fullmatch(r"([^-+]+)([-+]?)(.*)", text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is none of ID, FIRST-LAST and ID+COUNT")
    first, sign, rest = match.groups()
    base = function_id(first)
    if not sign:
        return base, 1
    last = number(rest)
    return (base, last) if sign == "+" else (base, last - base + 1)


def forward(text: str) -> tuple[int, int, str]:
    """RANGE or RANGE=FILE.py:FUNCTION."""
    which, _, target = text.partition("=")
    return *id_range(which), target


def register(text: str) -> tuple[str, int]:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, such as STD_BMAP=0")
    return name.strip(), number(value)


def services(text: str) -> list[tuple[str, bool]]:
    """+NAME and -NAME, separated by commas."""
    switches = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        if part[0] not in "+-" or len(part) < 2:
            raise argparse.ArgumentTypeError(f"{part!r}: write +{part} or -{part}")
        switches.append((part[1:], part[0] == "+"))
    return switches


_ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "\\": b"\\"}


def _unescaped(text: str) -> bytes:
    """UTF-8 of a text, with \\n, \\r, \\t, \\\\ and \\xNN in it."""

    def byte(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        if match[2] not in _ESCAPES:
            raise argparse.ArgumentTypeError(
                f"{text!r}: \\{match[2]} is none of \\n, \\r, \\t, \\\\ and \\xNN"
            )
        return _ESCAPES[match[2]].decode()

    # Latin-1 gives each byte of the UTF-8 a character of its own.
    raw = text.encode("utf-8", "surrogateescape").decode("latin-1")
    return re.sub(r"\\(?:x([0-9a-fA-F]{2})|(.?))", byte, raw, flags=re.DOTALL).encode("latin-1")


def typed(text: str) -> tuple[bytes, bytes]:
    """WHEN=>WHAT: what the guest prints, and what is then typed.

    The last arrow counts: U-Boot's prompt is one.
    """
    when, arrow, what = text.rpartition("=>")
    if not arrow or not what:
        raise argparse.ArgumentTypeError(f"{text!r} is not WHEN=>WHAT, such as 'login: =>root\\n'")
    return _unescaped(when), _unescaped(what)


def moment(text: str) -> Moment:
    """When a machine is saved: first-hypercall, console:TEXT, cycle:N or N."""
    from emu.machine.moment import CONSOLE, CYCLE, FIRST_CALL, Moment

    if text == FIRST_CALL:
        return Moment(first_call=True)
    if text.startswith(CONSOLE) and len(text) > len(CONSOLE):
        return Moment(text=_unescaped(text.removeprefix(CONSOLE)))
    try:
        return Moment(cycle=positive(text.removeprefix(CYCLE)))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of {FIRST_CALL}, {CONSOLE}TEXT, {CYCLE}N and N"
        ) from None


TRACE_KINDS = ("calls", "exceptions")


def trace_kinds(text: str) -> frozenset[str]:
    """What to trace: calls, exceptions, or both with a comma."""
    kinds = frozenset(part.strip() for part in text.split(","))
    if not kinds <= set(TRACE_KINDS):
        raise argparse.ArgumentTypeError(f"{text!r}: trace {' or '.join(TRACE_KINDS)}")
    return kinds
