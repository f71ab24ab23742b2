"""The integer pipeline of Arm's small in-order cores, stage by stage: Cortex-A53 and A55.

LLVM's models say when a result is written; these cores forward far earlier, and to each kind of
operand in another stage. GCC's description of the Cortex-A53, which Arm wrote (gcc 10
gcc/config/arm/cortex-a53.md, define_bypass), gives the distance in cycles between an instruction
and the one that uses its result:

    from \\ to          address  shifted  plain  store data,   multiplicand  accumulator
                                operand  operand  branch
    move, shift             2        1        0        0             2             2
    arithmetic, logic       3        2        1        0             3             3
    load                    3        3        2        1             4             4
    load of a pair          4        4        3        1             5             5
    multiply                4        3        2        1             4             1

All of it follows from one stage in which each result is ready and one in which each operand is
read, so that is how it stands here: a result of `READY` r is usable d = r - n cycles later by an
operand of `NEEDED` n. 0 means that both issue in the same cycle: a compare with its branch, an
ADD with the store of its sum. A shifted operand makes its instruction read values of loads and
multiplications as early. A branch on a loaded value is not in that description; it waits as long
as arithmetic does.

Multiplication, division, floating point and SIMD have the table's latencies (tables.py with its
overrides, among them TI's measurements), and units are LLVM's. A pair's load takes both slots and
one of the next cycle; register-controlled shifts go one a cycle.

Not modelled: 128-bit memory accesses, the pairing rules of SIMD.
"""

from __future__ import annotations

from typing import NamedTuple

from emu.a64 import VECTORS, Branch, Flag, Insn, Read, Role, Slot
from emu.cores.inorder import InOrder, Step
from emu.cores.tables import CoreTable
from emu.cores.words import Word, cycles, look_up

NZCV = 64
EARLY, ARITHMETIC, LOAD, PAIR, MULTIPLY, DIVIDE = range(6)
"""Kinds of integer results; behind them come the table's write groups, for all others."""
KINDS = 6
Advance = tuple[int, ...]


class Pipeline(NamedTuple):
    """In which stage results are ready, and operands read, by kind of result.

    The stages count from issue. Multiplication and division are ready after the table's latency.
    """

    ready: Advance = (2, 3, 4, 5, 4, 4)
    address: Advance = (0, 0, 1, 1, 0, 0)
    shifted: Advance = (1, 1, 1, 1, 1, 1)
    beside_shifted: Advance = (1, 2, 1, 1, 1, 1)
    """The other operand of an instruction with a shifted one."""
    plain: Advance = (2, 2, 2, 2, 2, 2)
    data: Advance = (3, 3, 3, 4, 3, 3)
    """What is stored, or moved to a vector register."""
    branch: Advance = (3, 3, 2, 2, 2, 2)
    factor: Advance = (0, 0, 0, 0, 0, 0)
    accumulator: Advance = (0, 0, 0, 0, 3, 0)


MULTIPLIES = frozenset(
    f"{name}{width}"
    for name in ("mul", "madd", "mneg", "msub")
    for width in (".w", ".x")
) | {
    *("smull", "smaddl", "smnegl", "smsubl", "umull", "umaddl", "umnegl", "umsubl"),
    *("smulh", "umulh"),
}  # fmt: skip
_MOVES = ("adr", "movz", "movn", "movk")
_VARIABLE = ("lslv", "lsrv", "asrv", "rorv")
_BITFIELDS = ("ubfm", "sbfm", "bfm", "extr", "crc32")


def is_shift(word: int, name: str) -> bool:
    """LSL, LSR and ASR by a constant, among the bitfield moves (DDI 0487 C6.2, UBFM: aliases)."""
    if name not in ("ubfm", "sbfm"):
        return False
    top = 63 if word >> 31 else 31
    immr, imms = word >> 16 & 63, word >> 10 & 63
    return imms == top or (name == "ubfm" and imms + 1 == immr)


def little(table: CoreTable, pipeline: Pipeline, *, taken: int) -> InOrder:
    """A core with this pipeline; `taken` is the bubble behind a taken branch."""
    shifter = len(table.resources)
    units = (*(resource.units for resource in table.resources), 1)
    groups = len(table.matrix[0])

    def step(number: int) -> Step:
        word = look_up(table, number, compatible=False)
        insn, timing = word.insn, word.timing
        name = insn.key.split(".", 1)[0]
        kind = _kind(number, insn, name)
        pair = bool(insn.flags & Flag.LOAD) and name.startswith("ldp")
        needs = [(unit, cycles(busy)) for unit, busy in timing.ports]
        if insn.flags & Flag.NOP:  # LLVM gives it the branch unit
            needs = []
        if name in _VARIABLE:
            needs.append((shifter, 1))
        early = any(read.role is Role.SHIFTED for read in insn.reads) or (
            name in _BITFIELDS and kind is not EARLY
        )
        return Step(
            slots=3 if pair else 1 if insn.branch is not Branch.NONE else timing.uops,
            begins=pair,
            ends=False,
            reads=tuple(
                (r.reg, _needed(pipeline, table, word, r, early=early, kind=kind, groups=groups))
                for r in insn.reads
            ),
            writes=_writes(pipeline, table, word, kind),
            units=tuple(needs),
            stall=word.stall,
            unknown=not word.known,
        )

    return InOrder(table.name, step, width=table.width, units=units, taken=taken)


def _kind(word: int, insn: Insn, name: str) -> int:
    """Which kind of integer result an instruction has."""
    if insn.flags & Flag.LOAD:
        return PAIR if name.startswith("ldp") else LOAD
    if insn.key in MULTIPLIES:
        return MULTIPLY
    if name in ("udiv", "sdiv"):
        return DIVIDE
    if name.startswith(_MOVES) or name in _VARIABLE or is_shift(word, name):
        return EARLY
    return ARITHMETIC


def _writes(
    pipeline: Pipeline, table: CoreTable, word: Word, kind: int
) -> tuple[tuple[int, int, int], ...]:
    insn, timing = word.insn, word.timing
    vector = any(VECTORS <= read.reg < NZCV for read in insn.reads)
    found = []
    for write in insn.writes:
        if write.slot is Slot.BASE:  # from the address adder: LLVM's WriteAdr, one cycle
            found.append((write.reg, 1, EARLY))
        elif vector or VECTORS <= write.reg < NZCV:
            latency = cycles(timing.latency[write.slot])
            found.append((write.reg, latency, KINDS + timing.writes[write.slot]))
        elif kind in (MULTIPLY, DIVIDE):
            role = Role.MUL if kind is MULTIPLY else Role.ALU
            found.append((write.reg, cycles(table.wait(timing, Slot.RESULT, timing, role)), kind))
        else:
            found.append((write.reg, pipeline.ready[kind], kind))
    return tuple(found)


def _needed(
    pipeline: Pipeline, table: CoreTable, word: Word, read: Read, *, early: bool, kind: int,
    groups: int,
) -> Advance:  # fmt: skip
    """How long before its kind of result is written a register can be read."""
    role = read.role
    row = tuple(table.matrix[word.timing.reads[role]])
    if VECTORS <= read.reg < NZCV:
        return (0,) * KINDS + row
    behind = (0,) * groups
    writes_vector = any(VECTORS <= write.reg < NZCV for write in word.insn.writes)
    if role in (Role.BASE, Role.INDEX):
        return pipeline.address + behind
    if role is Role.DATA or writes_vector:
        return pipeline.data + behind
    if word.insn.branch is not Branch.NONE:
        return pipeline.branch + behind
    if kind is MULTIPLY:
        return (pipeline.accumulator if role is Role.ACC else pipeline.factor) + behind
    if kind is DIVIDE:
        return pipeline.factor + behind
    if kind is EARLY or role is Role.SHIFTED or (early and len(word.insn.reads) == 1):
        return pipeline.shifted + behind
    return (pipeline.beside_shifted if early else pipeline.plain) + behind
