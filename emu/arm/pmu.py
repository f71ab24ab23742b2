"""The performance monitor of one vCPU, PMUv3 (DDI 0487, D8 "The Performance Monitors Extension").

It counts what the engine counts of this vCPU, while it runs: time in which it waits or another
has the engine is not counted. Counters are brought up to date
by `count`, which whoever switches vCPUs calls, and on each access. `next_overflow` says in how
many cycles the interrupt is due at the earliest.

Events are named as there. Those of branches and exceptions count where blocks are accounted for
(counter.py), those of mispredictions and caches where these are timed (timing.py), which is also
when PMCEID announces them; any other counts nothing. Accesses are counted as Unicorn makes them:
two for a pair. Not modelled:
filtering by exception level (only both, P and U, stop a counter), event counters of 64 bits, and
what the extensions after Armv8.0 have added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated

from emu.arm.arch import SysReg

COUNTERS = 6
"""PMCR_EL0.N of a Cortex-A72 (its TRM, 11.4.1)."""
CYCLE = 31
"""The cycle counter's bit."""
ALL = 1 << CYCLE | (1 << COUNTERS) - 1
PPI = 23
"""INTID (BSA 1.0 §B.1; qemu v7.2 include/hw/arm/virt.h: VIRTUAL_PMU_IRQ)."""
PMCR_FIXED = 0x41 << 24 | 0x02 << 16 | COUNTERS << 11
"""Arm, Cortex-A72, six counters."""
PMCR_E, PMCR_P, PMCR_C, PMCR_D, PMCR_LC = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 6
PMCR_WRITABLE = PMCR_E | PMCR_D | 1 << 4 | 1 << 5 | PMCR_LC
SW_INCR, INST_RETIRED, CPU_CYCLES, CHAIN = 0x00, 0x08, 0x11, 0x1E
EXC_TAKEN, EXC_RETURN, PC_WRITE_RETIRED = 0x09, 0x0A, 0x0C
BR_IMMED_RETIRED, BR_RETURN_RETIRED, BR_RETIRED = 0x0D, 0x0E, 0x21
ALWAYS = frozenset((SW_INCR, INST_RETIRED, CPU_CYCLES, CHAIN))
ACCOUNTED = ALWAYS | {
    EXC_TAKEN, EXC_RETURN, PC_WRITE_RETIRED, BR_IMMED_RETIRED, BR_RETURN_RETIRED, BR_RETIRED,
}  # fmt: skip
BR_MIS_PRED, BR_PRED, BR_MIS_PRED_RETIRED = 0x10, 0x12, 0x22
PREDICTED = frozenset((BR_MIS_PRED, BR_PRED, BR_MIS_PRED_RETIRED))
L1I_CACHE_REFILL, L1D_CACHE_REFILL, L1D_CACHE = 0x01, 0x03, 0x04
MEM_ACCESS, L2D_CACHE_REFILL = 0x13, 0x17
CACHED = frozenset((
    L1I_CACHE_REFILL, L1D_CACHE_REFILL, L1D_CACHE, MEM_ACCESS, L2D_CACHE_REFILL,
))  # fmt: skip
EVENT_MASK, FILTER_P, FILTER_U = 0x3FF, 1 << 31, 1 << 30
MASK32, MASK64 = 0xFFFF_FFFF, (1 << 64) - 1

U32 = Annotated[int, 32]


@dataclass(slots=True)
class State:
    """The registers; the defaults are the reset values."""

    pmcr: U32 = 0
    enabled: U32 = 0
    interrupts: U32 = 0
    overflowed: U32 = 0
    selected: U32 = 0
    user: U32 = 0
    cycle_filter: U32 = 0
    cycles: int = 0
    types: list[U32] = field(default_factory=lambda: [0] * COUNTERS)
    counts: list[U32] = field(default_factory=lambda: [0] * COUNTERS)


class Pmu:
    """The monitor in front of its state; `events` are those there are."""

    def __init__(self, state: State, events: frozenset[int] = ALWAYS) -> None:
        self.state, self.events = state, events

    @property
    def needs_ends(self) -> bool:
        """Whether an event is chosen that `count` has to be told of besides the first two."""
        return any(self._event(n) in self.events - ALWAYS for n in range(COUNTERS))

    # -- counting -------------------------------------------------------------------------------

    def count(
        self, cycles: int, instructions: int, others: Mapping[int, int] = MappingProxyType({})
    ) -> None:
        """So many have passed on this vCPU, and of other events."""
        state = self.state
        if not state.pmcr & PMCR_E or not state.enabled:
            return
        if self._counts(CYCLE):
            self._add_cycles(cycles)
        events = {INST_RETIRED: instructions, CPU_CYCLES: cycles, **others}
        for n in filter(self._counts, range(COUNTERS)):
            self._add(n, events.get(self._event(n), 0))

    def next_overflow(self, width: int = 1) -> int | None:
        """In how many cycles an interrupt is due at the earliest; None while none can be.

        `width` is how many instructions the core retires in a cycle at most.
        """
        state = self.state
        if not state.pmcr & PMCR_E or not state.enabled & state.interrupts:
            return None
        left = []
        if self._counts(CYCLE) and state.interrupts >> CYCLE:
            wrap = 1 << (64 if state.pmcr & PMCR_LC else 32)
            left.append((wrap - state.cycles % wrap) * self._divider())
        for n in range(COUNTERS):
            chained = n % 2 == 0 and self._event(n + 1) == CHAIN and self._counts(n + 1)
            heard = state.interrupts >> n & 1 or chained
            if heard and self._counts(n) and self._event(n) in self.events - {SW_INCR, CHAIN}:
                per_cycle = 1 if self._event(n) == CPU_CYCLES else width
                left.append(-(-((1 << 32) - state.counts[n]) // per_cycle))
        return min(left, default=None)

    def level(self) -> bool:
        """The interrupt line."""
        state = self.state
        return bool(state.pmcr & PMCR_E and state.overflowed & state.interrupts)

    def _event(self, n: int) -> int:
        return self.state.types[n] & EVENT_MASK

    def _counts(self, n: int) -> bool:
        kind = self.state.cycle_filter if n == CYCLE else self.state.types[n]
        stopped = kind & FILTER_P and kind & FILTER_U
        return bool(self.state.enabled >> n & 1) and not stopped

    def _divider(self) -> int:
        divided = self.state.pmcr & PMCR_D and not self.state.pmcr & PMCR_LC
        return 64 if divided else 1

    def _add_cycles(self, cycles: int) -> None:
        state = self.state
        before = state.cycles
        after = before + cycles // self._divider()
        bits = 64 if state.pmcr & PMCR_LC else 32
        if after >> bits != before >> bits:
            state.overflowed |= 1 << CYCLE
        state.cycles = after & MASK64

    def _add(self, n: int, events: int) -> None:
        state = self.state
        total = state.counts[n] + events
        state.counts[n] = total & MASK32
        if total > MASK32:
            state.overflowed |= 1 << n
            if n % 2 == 0 and self._event(n + 1) == CHAIN and self._counts(n + 1):
                self._add(n + 1, total >> 32)

    # -- registers ------------------------------------------------------------------------------

    def may(self, reg: SysReg) -> bool:
        """Whether EL0 may use a register (PMUSERENR_EL0.EN; ER, CR and SW are not modelled)."""
        return reg.op1 == 3 and (bool(self.state.user & 1) or reg == PMUSERENR_EL0)

    def read(self, reg: SysReg) -> int | None:
        """A register; None where there is none."""
        state = self.state
        if reg in _PLAIN:
            return int(getattr(state, _PLAIN[reg]))
        if reg == PMCR_EL0:
            return state.pmcr | PMCR_FIXED
        if reg in (PMCEID0_EL0, PMCEID1_EL0):
            first = 0 if reg == PMCEID0_EL0 else 32
            return sum(1 << event - first for event in self.events if first <= event < first + 32)
        if reg == PMSWINC_EL0:
            return 0
        if reg == PMCCNTR_EL0:
            return state.cycles
        if (place := self._place(reg)) is None:
            return None
        kind, n = place
        if n == CYCLE:
            return state.cycle_filter if kind == "types" else 0
        return int(getattr(state, kind)[n]) if n < COUNTERS else 0

    def write(self, reg: SysReg, value: int) -> bool:
        """Write one; False where there is none."""
        state = self.state
        if reg in _SETS:
            name, sets = _SETS[reg]
            old = getattr(state, name)
            setattr(state, name, old | value & ALL if sets else old & ~value)
        elif reg == PMCR_EL0:
            self._write_pmcr(value)
        elif reg == PMSELR_EL0:
            state.selected = value & 0x1F
        elif reg == PMUSERENR_EL0:
            state.user = value & 0xF
        elif reg == PMCCNTR_EL0:
            state.cycles = value
        elif reg == PMSWINC_EL0:
            self._software_increment(value)
        elif (place := self._place(reg)) is not None:
            self._write_counter(*place, value)
        else:
            return False
        return True

    def _write_pmcr(self, value: int) -> None:
        self.state.pmcr = value & PMCR_WRITABLE
        if value & PMCR_P:
            self.state.counts = [0] * COUNTERS
        if value & PMCR_C:
            self.state.cycles = 0

    def _software_increment(self, value: int) -> None:
        for n in filter(self._counts, range(COUNTERS if self.state.pmcr & PMCR_E else 0)):
            if value >> n & 1 and self._event(n) == SW_INCR:
                self._add(n, 1)

    def _place(self, reg: SysReg) -> tuple[str, int] | None:
        """The list and the index behind PMEVCNTR<n>, PMEVTYPER<n>, PMXEV* or PMCCFILTR."""
        if reg in (PMXEVTYPER_EL0, PMXEVCNTR_EL0):
            return "types" if reg == PMXEVTYPER_EL0 else "counts", self.state.selected
        if reg[:3] != (3, 3, 14) or reg.crm < 8:
            return None
        number = (reg.crm & 3) << 3 | reg.op2
        if number == CYCLE and reg.crm < 12:
            return None
        return "types" if reg.crm >= 12 else "counts", number

    def _write_counter(self, kind: str, n: int, value: int) -> None:
        if n == CYCLE and kind == "types":
            self.state.cycle_filter = value & 0xF800_0000
        elif n < COUNTERS:
            mask = 0xF800_0000 | EVENT_MASK if kind == "types" else MASK32
            getattr(self.state, kind)[n] = value & mask


PMCR_EL0 = SysReg(3, 3, 9, 12, 0)
PMSWINC_EL0, PMSELR_EL0 = SysReg(3, 3, 9, 12, 4), SysReg(3, 3, 9, 12, 5)
PMCEID0_EL0, PMCEID1_EL0 = SysReg(3, 3, 9, 12, 6), SysReg(3, 3, 9, 12, 7)
PMCCNTR_EL0 = SysReg(3, 3, 9, 13, 0)
PMXEVTYPER_EL0, PMXEVCNTR_EL0 = SysReg(3, 3, 9, 13, 1), SysReg(3, 3, 9, 13, 2)
PMUSERENR_EL0 = SysReg(3, 3, 9, 14, 0)
_SETS: dict[SysReg, tuple[str, bool]] = {
    SysReg(3, 3, 9, 12, 1): ("enabled", True),  # PMCNTENSET_EL0
    SysReg(3, 3, 9, 12, 2): ("enabled", False),  # PMCNTENCLR_EL0
    SysReg(3, 3, 9, 12, 3): ("overflowed", False),  # PMOVSCLR_EL0
    SysReg(3, 3, 9, 14, 3): ("overflowed", True),  # PMOVSSET_EL0
    SysReg(3, 0, 9, 14, 1): ("interrupts", True),  # PMINTENSET_EL1
    SysReg(3, 0, 9, 14, 2): ("interrupts", False),  # PMINTENCLR_EL1
}
_PLAIN = {
    **{reg: name for reg, (name, _) in _SETS.items()},
    PMSELR_EL0: "selected",
    PMUSERENR_EL0: "user",
}
