"""What an A64 word is, reads and writes: the decoder beneath the timing models. Pure.

`decode` turns any 32-bit word into an `Insn`. Its `key` names a row of the timing tables:
mnemonic and operand class (width, arrangement, addressing form, kind of shift), for instance
`add.x.lsl`, `ldr.w.post`, `fmla.4s`; keys that begin with `sys_` are classes of system
instructions. Unknown words give the key "" and no operands, never an exception.

Everything comes from the encodings of the Arm Architecture Reference Manual (DDI 0487 §C4, A64
instruction set encoding), written down as text: `a64_base.py` holds the general instructions and
the memory accesses, `a64_simd.py` floating point and vectors. A row is

    sf 0 0 01011 <sh> 0 m <am> n d | add.{sf}<k> | Xd = Xn Xm<r> | MARK

* The pattern is 32 bits from the top: literal bits (`x` is either), register fields of one
  letter, and named fields (`imm12`, `size:2`). A one-bit field that stands twice must be equal.
* The key's `{names}` are looked up in KINDS; a value named `-` there is no instruction.
* The operands are what is written and read: X is a general register whose number 31 is zero (and
  no operand), S one whose 31 is the stack pointer, V a vector, F the flags; `Vt+2` is three in a
  row. A suffix gives the read's role or the write's slot.
* `<sh> <am> <k> <r>` stand for the kinds of shifted operand, `<ex> <am>` for extended ones.

The first row that matches wins. Not covered: SVE, SME, and a few extensions that no compiler
emits (LS64, MOPS, LSE128): they are unknown words.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from emu.arm.a64_base import BASE
from emu.arm.a64_simd import SIMD

SP, VECTORS, NZCV = 31, 32, 64
"""Register numbers: 0-30 are X0-X30, then SP, V0-V31 and the flags."""
REGISTERS = 65


class Role(enum.IntEnum):
    """How a register is read: forwarding differs between these."""

    ALU = 0
    SHIFTED = 1
    """Operand 2 of an extended form, of a shifted one whose shift does something, of LSLV and its
    kin, and the modifier of PAC and AUT."""
    MUL = 2
    ACC = 3
    """The accumulator of a multiply-add; a vector that is partly overwritten."""
    BASE = 4
    INDEX = 5
    DATA = 6
    """What is stored."""
    FLAGS = 7
    VECTOR = 8
    BRANCH = 9


class Slot(enum.IntEnum):
    """Which of an instruction's results: their latencies differ."""

    RESULT = 0
    FLAGS = 1
    BASE = 2
    """The written-back address."""
    SECOND = 3
    """The second register of a loaded pair."""


class Branch(enum.IntEnum):
    """Where control goes after the instruction."""

    NONE = 0
    B = 1
    COND = 2
    CALL = 3
    CALL_INDIRECT = 4
    INDIRECT = 5
    RETURN = 6
    EXCEPTION = 7


class Flag(enum.IntFlag):
    """What else a model wants to know."""

    NONE = 0
    LOAD = 1
    STORE = 2
    MOVE = 4
    """Copies a register: wide cores rename instead."""
    ZERO = 8
    """Makes zero from nothing."""
    BARRIER = 16
    SYSTEM = 32
    NOP = 64


class Read(NamedTuple):
    reg: int
    role: Role


class Write(NamedTuple):
    reg: int
    slot: Slot


class Insn(NamedTuple):
    key: str
    reads: tuple[Read, ...] = ()
    writes: tuple[Write, ...] = ()
    branch: Branch = Branch.NONE
    flags: Flag = Flag.NONE


UNKNOWN = Insn("")

KINDS: dict[str, tuple[str, str]] = {
    # name: fields (the first is the most significant), names of the values
    "sf": ("sf", "w x"),
    "sh": ("sh", "lsl lsr asr ror"),
    "T": ("size Q", "8b 16b 4h 8h 2s 4s 1d 2d"),
    "T7": ("size Q", "8b 16b 4h 8h 2s 4s - 2d"),
    "T6": ("size Q", "8b 16b 4h 8h 2s 4s - -"),
    "THS": ("size Q", "- - 4h 8h 2s 4s - -"),
    "TV": ("size Q", "8b 16b 4h 8h - 4s - -"),
    "TP": ("size Q", "8b 16b - - - - 1d 2d"),
    "FT": ("sz Q", "2s 4s - 2d"),
    "FS": ("Q", "2s 4s"),
    "HT": ("Q", "4h 8h"),
    "BT": ("Q", "8b 16b"),
    "CT": ("size Q", "- - 4h 8h 2s 4s - 2d"),
    "fn": ("sz", "h s"),
    "Q": ("Q", "64 128"),
    "ft": ("ft", "s d - h"),
    "e": ("size", "b h s d"),
    "TL": ("size", "8b 4h 2s -"),
    "TU": ("size", "16b 8h 4s -"),
    "E3": ("size", "b h s -"),
    "EHS": ("size", "- h s -"),
    "fs": ("sz", "s d"),
    "ar": ("A R", ". .l .a .al"),
    "hb": ("size", "b h w x"),
    "M": ("M", "a b"),
    "D": ("D", "i d"),
    "B": ("B", "a b"),
    "Z": ("Z", ". z"),
    "crc": ("size", "b h w x"),
}
_SHIFTS = (
    # <sh>, <am>, <k>, <r>; shifts left by up to four are quick on wide cores
    ("00", "000000", ".reg", ""),
    ("00", "0000xx", ".lsl4", ".shifted"),
    ("00", "000100", ".lsl4", ".shifted"),
    ("sh:2", "xxxxxx", ".{sh}", ".shifted"),
)
_EXTENSIONS = (
    ("000", "000", ".uxtb", ".shifted"),
    ("000", "xxx", ".uxtb4", ".shifted"),
    ("011", "000", ".uxtx", ".shifted"),
    ("011", "xxx", ".uxtx4", ".shifted"),
    ("xxx", "000", ".ext", ".shifted"),
    ("xxx", "xxx", ".ext4", ".shifted"),
)
_OPERAND = re.compile(r"(X|S|V|F)(\d+|[a-z])?(?:\+(\d))?(?:\.(\w+))?$")
_FIELD = re.compile(r"\{(\w+)\}")
_DEFAULT_ROLE = {"X": Role.ALU, "S": Role.ALU, "V": Role.VECTOR, "F": Role.FLAGS}
_BUCKET = 21
"""Rows are indexed by bits 31:21."""

Choice = tuple[int, tuple[tuple[Read, ...], ...]]
Target = tuple[int, tuple[tuple[Write, ...], ...]]


class Row:
    """One line of the tables, taken apart when the first word matches it."""

    __slots__ = ("branch", "fields", "flags", "key", "keymask", "keys", "mask", "operands",
                 "reads", "ready", "value", "writes")  # fmt: skip

    def __init__(self, pattern: str, key: str, operands: str, marks: str) -> None:
        self.key, self.operands = key, operands
        self.mask, self.value, self.fields = _layout(pattern)
        self.branch, self.flags = _marks(marks)
        self.keys: dict[int, str] = {}
        self.ready = False

    def prepare(self) -> None:
        """Everything that a word of this row needs, once."""
        written, _, read = self.operands.rpartition("=")
        self.writes: list[Target] = [self._target(text) for text in written.split()]
        self.reads: list[Choice] = [self._choice(text) for text in read.split()]
        self.keymask = 0
        for name in _FIELD.findall(self.key):
            for field in KINDS[name][0].split():
                shift, width = self.fields[field]
                self.keymask |= (1 << width) - 1 << shift
        self.ready = True

    def name(self, word: int) -> str:
        """The key of a word; "" where a field has no meaning."""

        def named(match: re.Match[str]) -> str:
            fields, names = KINDS[match[1]]
            index = 0
            for field in fields.split():
                shift, width = self.fields[field]
                index = index << width | word >> shift & (1 << width) - 1
            found = names.split()[index]
            return "" if found == "." else found

        key = _FIELD.sub(named, self.key)
        return "" if "-" in key else key

    def _taken_apart(self, text: str) -> tuple[int, str, int, str, str]:
        """Where the operand's number stands and its width, or the number itself."""
        match = _OPERAND.match(text)
        assert match, text
        bank, number, more, suffix = match.groups()
        shift, width = self.fields.get(number, (0, 0))
        place = f"{bank}{number if not width else ''}+{more or 0}"
        return shift, place, width, bank, (suffix or "").upper()

    def _choice(self, text: str) -> Choice:
        shift, place, width, bank, suffix = self._taken_apart(text)
        return shift, _reads(place, width, Role[suffix] if suffix else _DEFAULT_ROLE[bank])

    def _target(self, text: str) -> Target:
        shift, place, width, bank, suffix = self._taken_apart(text)
        default = Slot.FLAGS if bank == "F" else Slot.RESULT
        return shift, _writes(place, width, Slot[suffix] if suffix else default)


@functools.cache
def _registers(place: str, width: int) -> tuple[tuple[int, ...], ...]:
    """The registers of an operand for each value of its field: `X+0`, `V+3`, `X30+0`, `F+0`."""
    bank, (number, more) = place[0], place[1:].split("+")
    if bank == "F":
        return ((NZCV,),) * 32
    if number.isdecimal():
        return ((int(number),),) * 32
    some = []
    for value in range(32):
        first = value & (1 << width) - 1
        span = [(first + i) % 32 for i in range(int(more) + 1)]
        if bank == "X":
            span = [register for register in span if register != 31]
        some.append(tuple(register + VECTORS if bank == "V" else register for register in span))
    return tuple(some)


@functools.cache
def _reads(place: str, width: int, role: Role) -> tuple[tuple[Read, ...], ...]:
    return tuple(tuple(Read(r, role) for r in some) for some in _registers(place, width))


@functools.cache
def _writes(place: str, width: int, slot: Slot) -> tuple[tuple[Write, ...], ...]:
    return tuple(tuple(Write(r, slot) for r in some) for some in _registers(place, width))


def _layout(pattern: str) -> tuple[int, int, dict[str, tuple[int, int]]]:
    """Mask, value and the fields' (shift, width)."""
    mask = value = 0
    fields: dict[str, tuple[int, int]] = {}
    at = 32
    for token in pattern.split():
        width, fixed, bits, name = _token(token)
        at -= width
        mask |= fixed << at
        value |= bits << at
        if name:
            fields[name] = (at, width)
    assert at == 0, f"{pattern}: {32 - at} bits"
    return mask, value, fields


@functools.cache
def _token(token: str) -> tuple[int, int, int, str]:
    """Width, mask and value of literal bits; the name of a field."""
    if token.strip("01x"):
        name, width = _field(token)
        return width, 0, 0, name
    fixed = int(token.replace("0", "1").replace("x", "0"), 2)
    return len(token), fixed, int(token.replace("x", "0"), 2), ""


@functools.cache
def _field(token: str) -> tuple[str, int]:
    name, _, width = token.partition(":")
    if width:
        return name, int(width)
    digits = name.lstrip("abcdefghijklmnopqrstuvwxyz")
    if digits.isdecimal() and name != digits and name.startswith("imm"):
        return name, int(digits)
    if name == "k":
        return name, 4
    return name, 5 if len(name) == 1 and name.islower() else 1


@functools.cache
def _marks(text: str) -> tuple[Branch, Flag]:
    branch, flags = Branch.NONE, Flag.NONE
    for mark in text.split():
        if mark in Branch.__members__:
            branch = Branch[mark]
        else:
            flags |= Flag[mark]
    return branch, flags


def _expand(line: str) -> Iterator[str]:
    """One line for each kind of shift or extension, and for each value of a doubled field."""
    first = "<ex>" if "<ex>" in line else "<sh>"
    kinds = _EXTENSIONS if first == "<ex>" else _SHIFTS
    for kind, amount, key, role in kinds if first in line else (("", "", "", ""),):
        one = line.replace(first, kind).replace("<am>", amount)
        yield from _doubled(one.replace("<k>", key).replace("<r>", role))


def _doubled(line: str) -> Iterator[str]:
    pattern, _, rest = line.partition("|")
    tokens = pattern.split()
    if len(set(tokens)) < len(tokens):
        for token in tokens:
            if tokens.count(token) > 1 and _token(token)[3] and _token(token)[0] == 1:
                names = KINDS[token][1].split()
                for value in "01":
                    fixed = " ".join(value if t == token else t for t in tokens)
                    yield f"{fixed} | {rest.replace('{' + token + '}', names[int(value)])}"
                return
    yield line


@functools.cache
def rows() -> tuple[Row, ...]:
    """All rows in the order in which they are tried."""
    return tuple(_parse([*BASE(), *SIMD()]))


def _parse(lines: Iterable[str]) -> Iterator[Row]:
    for line in lines:
        for one in _expand(line):
            pattern, key, operands, marks, *_ = [*map(str.strip, one.split("|")), "", ""]
            yield Row(pattern, key, operands, marks)


@functools.cache
def _bucket(top: int) -> tuple[Row, ...]:
    value, mask = top << _BUCKET, 0xFFFF_FFFF >> _BUCKET << _BUCKET
    return tuple(row for row in rows() if not (row.value ^ value) & row.mask & mask)


def row_of(word: int) -> Row | None:
    """The row that a word matches."""
    for row in _bucket(word >> _BUCKET):
        if word & row.mask == row.value:
            return row
    return None


@functools.lru_cache(maxsize=1 << 17)
def decode(word: int) -> Insn:
    """The instruction that a 32-bit word is; `UNKNOWN` where it is none that is known."""
    row = row_of(word)
    if row is None:
        return UNKNOWN
    if not row.ready:
        row.prepare()
    key = row.keys.get(word & row.keymask)
    if key is None:
        key = row.keys[word & row.keymask] = row.name(word)
    if not key:
        return UNKNOWN
    reads: tuple[Read, ...] = ()
    for shift, choices in row.reads:
        reads += choices[word >> shift & 31]
    writes: tuple[Write, ...] = ()
    for shift, targets in row.writes:
        writes += targets[word >> shift & 31]
    return Insn(key, reads, writes, row.branch, row.flags)
