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

Multiplication and division have the table's latencies (tables.py with its overrides, among them
TI's measurements), and units are LLVM's. A pair's load takes both slots and one of the next cycle;
register-controlled shifts go one a cycle.

Floating point and SIMD: the same description gives the Cortex-A53 two 64-bit halves of each pipe,
both of which a 128-bit operation takes, four cycles for arithmetic where LLVM says six, eight for
multiply-add where LLVM says ten, four of them from accumulator to accumulator and one from any
other result to an accumulator, three for a load of up to 64 bits. TI's measurements agree where
there are any (fadd and fmul, 4.0). A core without `Halves` has the table's figures.

Not modelled: the pairing rules of SIMD, memory dependences.
"""

from __future__ import annotations

from typing import NamedTuple

from emu.arm.a64 import VECTORS, Branch, Flag, Insn, Read, Role, Slot, decode
from emu.cycles.cores.inorder import InOrder, Step
from emu.cycles.cores.tables import CoreTable
from emu.cycles.cores.words import Word, cycles, look_up

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


class Halves(NamedTuple):
    """Floating point and SIMD in two 64-bit halves."""

    units: tuple[str, ...] = ("A53UnitFPALU", "A53UnitFPMDS")
    latency: tuple[tuple[int, int], ...] = ((6, 4), (10, 8))
    """Instead of LLVM's."""
    fused: tuple[int, int] = (3, 4)
    """The advance of an accumulator before other results, and before a fused one."""
    load: int = 3


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
_FUSED = ("fmadd", "fmsub", "fnmadd", "fnmsub", "fmla", "fmls")
_WIDE = (".16b", ".8h", ".4s", ".2d", ".128", ".8h.elem", ".4s.elem", ".2d.elem", ".128.elem")
_SHORT_LOADS = ("ldr.b", "ldr.h", "ldr.s", "ldr.d", "ldur.b", "ldur.h", "ldur.s", "ldur.d")


def is_shift(word: int, name: str) -> bool:
    """LSL, LSR and ASR by a constant, among the bitfield moves (DDI 0487 C6.2, UBFM: aliases)."""
    if name not in ("ubfm", "sbfm"):
        return False
    top = 63 if word >> 31 else 31
    immr, imms = word >> 16 & 63, word >> 10 & 63
    return imms == top or (name == "ubfm" and imms + 1 == immr)


def little(
    table: CoreTable, pipeline: Pipeline, *, taken: int, halves: Halves | None = None
) -> InOrder:
    """A core with this pipeline; `taken` is the bubble behind a taken branch."""
    core = _Core(table, pipeline, halves)
    return InOrder(table.name, core.step, width=table.width, units=core.units, taken=taken)


class _Core:
    """What turns words into steps."""

    def __init__(self, table: CoreTable, pipeline: Pipeline, halves: Halves | None) -> None:
        self.table, self.pipeline, self.halves = table, pipeline, halves
        split = halves.units if halves else ()
        self.split = {n for n, unit in enumerate(table.resources) if unit.name in split}
        self.shifter = len(table.resources)
        counts = [
            2 * unit.units if n in self.split else unit.units
            for n, unit in enumerate(table.resources)
        ]
        self.units = (*counts, 1)
        self.groups = len(table.matrix[0])
        self.fused_kind = KINDS + self.groups
        self.latency = dict(halves.latency) if halves else {}
        self._steps: dict[tuple[Insn, bool], Step] = {}

    def step(self, number: int) -> Step:
        """One instruction; those that differ in a constant only are the same."""
        insn = decode(number)
        known = insn, is_shift(number, insn.key[:4])
        step = self._steps.get(known)
        if step is None:
            step = self._steps[known] = self._make(number)
        return step

    def _make(self, number: int) -> Step:
        word = look_up(self.table, number, compatible=False)
        insn, timing = word.insn, word.timing
        name = insn.key.split(".", 1)[0]
        kind = _kind(number, insn, name)
        pair = bool(insn.flags & Flag.LOAD) and name.startswith("ldp")
        early = any(read.role is Role.SHIFTED for read in insn.reads) or (
            name in _BITFIELDS and kind is not EARLY
        )
        return Step(
            slots=3 if pair else 1 if insn.branch is not Branch.NONE else timing.uops,
            begins=pair,
            ends=False,
            reads=tuple(
                (read.reg, self._needed(word, read, early=early, kind=kind))
                for read in insn.reads
            ),
            writes=self._writes(word, kind),
            units=self._units(word, name),
            stall=word.stall,
            unknown=not word.known,
        )

    def _units(self, word: Word, name: str) -> tuple[tuple[int, int], ...]:
        if word.insn.flags & Flag.NOP:  # LLVM gives it the branch unit
            return ()
        needs = [(unit, cycles(busy)) for unit, busy in word.timing.ports]
        if word.insn.key.endswith(_WIDE):
            needs += [need for need in needs if need[0] in self.split]
        if name in _VARIABLE:
            needs.append((self.shifter, 1))
        return tuple(needs)

    def _writes(self, word: Word, kind: int) -> tuple[tuple[int, int, int], ...]:
        insn, timing, table = word.insn, word.timing, self.table
        vector = any(is_vector(read.reg) for read in insn.reads)
        found = []
        for write in insn.writes:
            if write.slot is Slot.BASE:  # from the address adder: LLVM's WriteAdr, one cycle
                found.append((write.reg, 1, EARLY))
            elif vector or is_vector(write.reg):
                found.append((write.reg, *self._vector(word, write.slot)))
            elif kind in (MULTIPLY, DIVIDE):
                role = Role.MUL if kind is MULTIPLY else Role.ALU
                wait = cycles(table.wait(timing, Slot.RESULT, timing, role))
                found.append((write.reg, wait, kind))
            else:
                found.append((write.reg, self.pipeline.ready[kind], kind))
        return tuple(found)

    def _vector(self, word: Word, slot: Slot) -> tuple[int, int]:
        """Latency and kind of what comes from a vector, or is one."""
        timing, insn = word.timing, word.insn
        latency = cycles(timing.latency[slot])
        if self.halves and insn.flags & Flag.LOAD and insn.key.startswith(_SHORT_LOADS):
            latency = self.halves.load
        if self.halves and is_fused(insn):
            return self.latency.get(latency, latency), self.fused_kind
        return self.latency.get(latency, latency), KINDS + timing.writes[slot]

    def _needed(self, word: Word, read: Read, *, early: bool, kind: int) -> Advance:
        """How long before its kind of result is written a register can be read."""
        role, pipeline, insn = read.role, self.pipeline, word.insn
        behind = (0,) * (self.groups + 1)
        if is_vector(read.reg):
            if self.halves and role is Role.ACC and is_fused(insn):
                other, fused = self.halves.fused
                return (0,) * KINDS + (other,) * self.groups + (fused,)
            return (0,) * KINDS + tuple(self.table.matrix[word.timing.reads[role]]) + (0,)
        if role in (Role.BASE, Role.INDEX):
            return pipeline.address + behind
        if role is Role.DATA or any(is_vector(write.reg) for write in insn.writes):
            return pipeline.data + behind
        if insn.branch is not Branch.NONE:
            return pipeline.branch + behind
        if kind is MULTIPLY:
            return (pipeline.accumulator if role is Role.ACC else pipeline.factor) + behind
        if kind is DIVIDE:
            return pipeline.factor + behind
        if kind is EARLY or role is Role.SHIFTED or (early and len(insn.reads) == 1):
            return pipeline.shifted + behind
        return (pipeline.beside_shifted if early else pipeline.plain) + behind


def is_vector(register: int) -> bool:
    """V0 to V31."""
    return VECTORS <= register < NZCV


def is_fused(insn: Insn) -> bool:
    """A floating-point multiply-add: it reads three factors, the last late."""
    return insn.key.startswith(_FUSED)


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

