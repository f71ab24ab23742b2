"""The static relocations of AArch64: what each computes, where it goes, and what does not fit.

Source: "ELF for the Arm 64-bit Architecture" (ARM-software/abi-aa, aaelf64.rst), chapter
"Relocation types", whose letters are kept: S is the symbol's address, A the addend, P the place
to be changed, G(GDAT(S + A)) the address of a GOT entry that holds S + A, Page(x) is x without
its low 12 bits, and X is the result. A row says which bits of X are written, into which field of
the instruction (DDI 0487, chapter C4), and the range X must lie in; data is written whole.

Not known: thread-local storage, GOT-relative data, and the MOVW groups that choose between MOVN
and MOVZ (SABS, PREL, GOTOFF). Compilers emit none of them for freestanding C.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

PAGE = 0x1000
GOT_ENTRY = 8

Field = tuple[tuple[int, int], ...]
"""(lowest bit, width) of the pieces of an immediate, from its low end; none for data."""
DATA: Field = ()
IMM26: Field = ((0, 26),)
IMM19: Field = ((5, 19),)
IMM16: Field = ((5, 16),)
IMM14: Field = ((5, 14),)
IMM12: Field = ((10, 12),)
ADR: Field = ((29, 2), (5, 19))


class Operation(enum.Enum):
    """How X comes about."""

    ABS = "S + A"
    PREL = "S + A - P"
    PAGE = "Page(S + A) - Page(P)"
    GOT = "G(GDAT(S + A))"
    GOT_PREL = "G(GDAT(S + A)) - P"
    GOT_PAGE = "Page(G(GDAT(S + A))) - Page(P)"


_OF_GOT = (Operation.GOT, Operation.GOT_PREL, Operation.GOT_PAGE)
_OF_PAGES = (Operation.PAGE, Operation.GOT_PAGE)
_OF_PLACE = (Operation.PREL, Operation.GOT_PREL)


class Relocation(NamedTuple):
    """One row of the tables: bits [top:bottom] of X go into `field`."""

    name: str
    operation: Operation
    top: int
    bottom: int
    field: Field
    range: tuple[int, int] | None = None
    """The least X, and the one behind the greatest; None where overflow is not checked."""
    multiple: int = 1
    """What X must be a multiple of."""

    @property
    def needs_got(self) -> bool:
        """Whether it speaks of a GOT entry rather than of the symbol."""
        return self.operation in _OF_GOT

    @property
    def is_branch(self) -> bool:
        """Whether the instruction goes to S."""
        return self.field in (IMM26, IMM14) or self.name == "R_AARCH64_CONDBR19"

    @property
    def size(self) -> int:
        """How many bytes at P it changes."""
        return (self.top + 1) // 8 if self.field == DATA else 4

    def value(self, target: int, place: int) -> int:
        """X, as a signed number of 64 bits; `target` is S + A, or the address of the GOT entry."""
        if self.operation in _OF_PAGES:
            target, place = target & -PAGE, place & -PAGE
        elif self.operation not in _OF_PLACE:
            place = 0
        return _signed(target - place)

    def problem(self, x: int) -> str:
        """Why X cannot be written, "" when it can."""
        if self.range and not self.range[0] <= x < self.range[1]:
            return f"{x:#x} is not in {self.range[0]:#x}..{self.range[1] - 1:#x}"
        if x % self.multiple:
            return f"{x:#x} is not a multiple of {self.multiple}"
        return ""

    def write(self, content: bytearray, at: int, x: int) -> None:
        """Put X's bits in their place at `content[at:]`."""
        bits = (x >> self.bottom) & ((1 << (self.top + 1 - self.bottom)) - 1)
        if self.field != DATA:
            word = int.from_bytes(content[at : at + 4], "little")
            bits = _insert(word, self.field, bits)
        content[at : at + self.size] = bits.to_bytes(self.size, "little")


def _signed(x: int) -> int:
    return (x + (1 << 63)) % (1 << 64) - (1 << 63)


def _insert(word: int, field: Field, bits: int) -> int:
    for low, width in field:
        mask = (1 << width) - 1
        word = word & ~(mask << low) | (bits & mask) << low
        bits >>= width
    return word


def _within(bits: int) -> tuple[int, int]:
    return -(1 << bits), 1 << bits


def _row(name: str, *rest: object) -> Relocation:
    return Relocation(f"R_AARCH64_{name}", *rest)  # type: ignore[arg-type]


def _rows() -> dict[int, Relocation]:
    """The tables of aaelf64 by ELF64 code."""
    op = Operation
    narrow32, narrow16 = (-(1 << 31), 1 << 32), (-(1 << 15), 1 << 16)
    rows = {
        257: _row("ABS64", op.ABS, 63, 0, DATA),
        258: _row("ABS32", op.ABS, 31, 0, DATA, narrow32),
        259: _row("ABS16", op.ABS, 15, 0, DATA, narrow16),
        260: _row("PREL64", op.PREL, 63, 0, DATA),
        261: _row("PREL32", op.PREL, 31, 0, DATA, narrow32),
        262: _row("PREL16", op.PREL, 15, 0, DATA, narrow16),
        269: _row("MOVW_UABS_G3", op.ABS, 63, 48, IMM16),
        273: _row("LD_PREL_LO19", op.PREL, 20, 2, IMM19, _within(20), 4),
        274: _row("ADR_PREL_LO21", op.PREL, 20, 0, ADR, _within(20)),
        275: _row("ADR_PREL_PG_HI21", op.PAGE, 32, 12, ADR, _within(32)),
        276: _row("ADR_PREL_PG_HI21_NC", op.PAGE, 32, 12, ADR),
        277: _row("ADD_ABS_LO12_NC", op.ABS, 11, 0, IMM12),
        279: _row("TSTBR14", op.PREL, 15, 2, IMM14, _within(15), 4),
        280: _row("CONDBR19", op.PREL, 20, 2, IMM19, _within(20), 4),
        282: _row("JUMP26", op.PREL, 27, 2, IMM26, _within(27), 4),
        283: _row("CALL26", op.PREL, 27, 2, IMM26, _within(27), 4),
        309: _row("GOT_LD_PREL19", op.GOT_PREL, 20, 2, IMM19, _within(20), 4),
        311: _row("ADR_GOT_PAGE", op.GOT_PAGE, 32, 12, ADR, _within(32)),
        312: _row("LD64_GOT_LO12_NC", op.GOT, 11, 3, IMM12, None, 8),
        314: _row("PLT32", op.PREL, 31, 0, DATA, _within(31)),
    }
    for code, bottom in ((278, 0), (284, 1), (285, 2), (286, 3), (299, 4)):
        name = f"LDST{8 << bottom}_ABS_LO12_NC"
        rows[code] = _row(name, op.ABS, 11, bottom, IMM12, None, 1 << bottom)
    for group in range(3):
        top = 16 * group + 15
        name = f"MOVW_UABS_G{group}"
        rows[263 + 2 * group] = _row(name, op.ABS, top, top - 15, IMM16, (0, 1 << (top + 1)))
        rows[264 + 2 * group] = _row(f"{name}_NC", op.ABS, top, top - 15, IMM16)
    return rows


RELOCATIONS = _rows()
NOTHING = (0, 256)
"""R_AARCH64_NONE and its withdrawn code."""
