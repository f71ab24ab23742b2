"""What an A64 instruction reads, writes and tests, as far as values are followed through it.

capstone takes it apart; this says it in a handful of fields, and mends what capstone 5 gets wrong
for us: what is compared is read and not written, and the target of UBFX and its kin is not read.
Not told: vectors, atomics, pairs with a status.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from emu.base.smccc import MASK64

FLAGS_ONLY = frozenset(("cmp", "cmn", "ccmp", "ccmn", "tst"))
COMPARES = FLAGS_ONLY | {"subs", "adds", "ands"}
TESTS = frozenset(("cbz", "cbnz", "tbz", "tbnz"))
SELECTS = frozenset(("csel", "csinc", "csinv", "csneg", "cset", "csetm"))
INSERTS = frozenset(("bfi", "bfxil", "bfc", "bfm", "movk"))
SP = 31
"""Operand number of the stack pointer as a base; 31 elsewhere is the zero register."""
NARROWING = frozenset(("sxtw", "sxth", "sxtb", "uxtw", "uxth", "uxtb"))


class Operand(NamedTuple):
    """A general register: its number, and whether all 64 bits of it are meant."""

    number: int
    wide: bool


class Decoded(NamedTuple):
    """What an instruction does, as far as marks are concerned."""

    mnemonic: str
    reads: tuple[Operand, ...]
    writes: tuple[Operand, ...]
    base: int | None = None
    scaled: int | None = None
    shift: int = 0
    offset: int = 0
    post: bool = False
    transfers: tuple[Operand, ...] = ()
    loads: bool = False
    immediate: int | None = None
    branches: bool = False


@functools.cache
def _decoder() -> Any:
    import capstone  # 20 ms that only a guest that is followed pays

    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    decoder.detail = True
    return decoder


def _operand(name: str) -> Operand | None:
    """x7, w7, fp and lr by their numbers; None for zero, SP and what is no general register."""
    special = {"fp": 29, "lr": 30}.get(name)
    if special is not None:
        return Operand(special, True)
    if name[:1] in ("x", "w") and name[1:].isdecimal():
        return Operand(int(name[1:]), name[0] == "x")
    return None


@functools.lru_cache(maxsize=4096)
def decode(word: int) -> Decoded | None:
    """One A64 instruction; None where it is none."""
    for instruction in _decoder().disasm(word.to_bytes(4, "little"), 0):
        return _decoded(instruction)
    return None


def _decoded(instruction: Any) -> Decoded:
    mnemonic = instruction.mnemonic
    name = instruction.reg_name
    read, written = instruction.regs_access()
    operands = [op.reg for op in instruction.operands if op.type == _REGISTER]
    # capstone 5 takes what is compared for a target, and the target of UBFX for a source as well.
    if mnemonic in FLAGS_ONLY:
        read, written = operands, []
    elif written and mnemonic not in INSERTS:
        read = [r for r in read if r in operands[1:]]
    reads = tuple(filter(None, (_operand(name(r) or "") for r in read)))
    writes = tuple(filter(None, (_operand(name(r) or "") for r in written)))
    branches = mnemonic in ("b", "bl", "br", "blr", "ret") or mnemonic.startswith("b.")
    immediates = [op.imm for op in instruction.operands if op.type == _IMMEDIATE]
    plain = Decoded(mnemonic, reads, writes, branches=branches,
                    immediate=immediates[0] if immediates else None)
    for operand in instruction.operands:
        if operand.type == _MEMORY and mnemonic[:2] in ("ld", "st"):
            return _access(instruction, operand, plain)
    return plain


_REGISTER, _IMMEDIATE, _MEMORY = 1, 2, 3
"""ARM64_OP_* (capstone 5 include/capstone/capstone.h: CS_OP_REG, CS_OP_IMM, CS_OP_MEM)."""


def _access(instruction: Any, memory: Any, plain: Decoded) -> Decoded:
    name = instruction.reg_name
    base, scaled = _operand(name(memory.mem.base) or ""), _operand(name(memory.mem.index) or "")
    stack = name(memory.mem.base) == "sp"
    transfers = tuple(filter(None, (
        _operand(name(op.reg) or "") for op in instruction.operands if op.type == _REGISTER
    )))  # fmt: skip
    loads = plain.mnemonic.startswith("ld")
    post = bool(instruction.writeback) and instruction.operands[-1].type == _IMMEDIATE
    return plain._replace(
        base=SP if stack else base.number if base else None,
        scaled=scaled.number if scaled else None,
        shift=memory.shift.value,
        offset=memory.mem.disp,
        post=post,
        transfers=transfers,
        loads=loads,
    )


def looks_at_upper_half(decoded: Decoded) -> bool:
    """Whether a test of a 64-bit register looks at bits 63:32 of it."""
    if decoded.mnemonic in ("tbz", "tbnz"):
        return (decoded.immediate or 0) >= 32
    if decoded.mnemonic in ("tst", "ands") and decoded.immediate is not None:
        return bool(decoded.immediate & MASK64 >> 32 << 32)
    return decoded.mnemonic in COMPARES | TESTS


def is_move(decoded: Decoded) -> bool:
    """Whether it only copies."""
    return decoded.mnemonic in ("mov", "orr", "stp", "str")
