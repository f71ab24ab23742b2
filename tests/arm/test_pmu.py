"""The performance monitor, counter by counter (DDI 0487 D8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arm import pmu
from emu.arm.arch import SysReg
from emu.arm.pmu import CHAIN, COUNTERS, CPU_CYCLES, CYCLE, INST_RETIRED, SW_INCR, Pmu, State
from emu.base.state import from_state, to_state

SET, CLEAR, OVS_CLEAR = (SysReg(3, 3, 9, 12, n) for n in (1, 2, 3))
OVS_SET, INT_SET = SysReg(3, 3, 9, 14, 3), SysReg(3, 0, 9, 14, 1)


def counter(n: int) -> SysReg:
    return SysReg(3, 3, 14, 8 | n >> 3, n & 7)


def kind(n: int) -> SysReg:
    return SysReg(3, 3, 14, 12 | n >> 3, n & 7)


def monitor(*events: int, enabled: int = pmu.ALL, control: int = pmu.PMCR_E) -> Pmu:
    made = Pmu(State())
    made.write(pmu.PMCR_EL0, control)
    made.write(SET, enabled)
    for n, event in enumerate(events):
        made.write(kind(n), event)
    return made


@pytest.mark.parametrize(
    ("event", "expected"),
    [(CPU_CYCLES, 100), (INST_RETIRED, 70), (SW_INCR, 0), (CHAIN, 0), (0x13, 0)],
)
def test_events(event, expected):
    made = monitor(event)
    made.count(100, 70)
    assert made.read(counter(0)) == expected
    assert made.read(pmu.PMCCNTR_EL0) == 100


@pytest.mark.parametrize("stopped", ["E", "CNTEN", "filters"])
def test_what_stops_a_counter(stopped):
    made = monitor(CPU_CYCLES)
    if stopped == "E":
        made.write(pmu.PMCR_EL0, 0)
    elif stopped == "CNTEN":
        made.write(CLEAR, pmu.ALL)
    else:
        made.write(kind(0), CPU_CYCLES | pmu.FILTER_P | pmu.FILTER_U)
        made.write(kind(CYCLE), pmu.FILTER_P | pmu.FILTER_U)
    made.count(100, 100)
    assert made.read(counter(0)) == made.read(pmu.PMCCNTR_EL0) == 0


@pytest.mark.parametrize(("long", "start", "flag"), [
    (0, 0xFFFF_FFFF, True), (pmu.PMCR_LC, 0xFFFF_FFFF, False), (pmu.PMCR_LC, 2**64 - 1, True),
])  # fmt: skip
def test_cycle_counter_overflows_at_32_bits_or_64(long, start, flag):
    made = monitor(control=pmu.PMCR_E | long)
    made.write(pmu.PMCCNTR_EL0, start)
    made.count(1, 1)
    assert bool(made.read(OVS_SET) >> CYCLE & 1) == flag
    assert made.read(pmu.PMCCNTR_EL0) == (start + 1) % 2**64


def test_interrupt_follows_flag_and_enable():
    made = monitor(CPU_CYCLES)
    made.write(counter(0), 0xFFFF_FFFF)
    made.count(1, 1)
    assert not made.level()
    made.write(INT_SET, 1)
    assert made.level()
    made.write(OVS_CLEAR, 1)
    assert not made.level()
    made.write(OVS_SET, 1)
    assert made.level()


def test_chain_counts_the_overflows_of_the_even_counter():
    made = monitor(CPU_CYCLES, CHAIN)
    made.write(counter(0), 0xFFFF_FFF0)
    made.count(0x20, 0)
    assert (made.read(counter(0)), made.read(counter(1))) == (0x10, 1)


def test_software_increment():
    made = monitor(SW_INCR, CPU_CYCLES)
    for _ in range(3):
        made.write(pmu.PMSWINC_EL0, 0b11)
    assert (made.read(counter(0)), made.read(counter(1))) == (3, 0)


def test_selected_counter():
    made = monitor()
    made.write(pmu.PMSELR_EL0, 2)
    made.write(pmu.PMXEVTYPER_EL0, CPU_CYCLES)
    made.write(pmu.PMXEVCNTR_EL0, 7)
    assert (made.read(kind(2)), made.read(counter(2))) == (CPU_CYCLES, 7)


def test_reset_bits_of_pmcr():
    made = monitor(CPU_CYCLES)
    made.count(9, 9)
    made.write(pmu.PMCR_EL0, pmu.PMCR_E | pmu.PMCR_P)
    assert (made.read(counter(0)), made.read(pmu.PMCCNTR_EL0)) == (0, 9)
    made.write(pmu.PMCR_EL0, pmu.PMCR_E | pmu.PMCR_C)
    assert made.read(pmu.PMCCNTR_EL0) == 0
    assert made.read(pmu.PMCR_EL0) >> 11 & 0x1F == COUNTERS


def test_registers_that_do_not_exist():
    made = monitor()
    assert made.read(SysReg(3, 3, 9, 15, 0)) is None
    assert not made.write(SysReg(3, 3, 9, 15, 0), 1)
    assert made.read(counter(COUNTERS)) == 0
    assert not made.write(pmu.PMCEID0_EL0, 1)


@given(
    starts=st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3),
    heard=st.integers(0, pmu.ALL),
    control=st.sampled_from([pmu.PMCR_E, pmu.PMCR_E | pmu.PMCR_LC, pmu.PMCR_E | pmu.PMCR_D, 0]),
)
def test_next_overflow_is_when_the_line_goes_high(starts, heard, control):
    made = monitor(CPU_CYCLES, SW_INCR, CPU_CYCLES, control=control)
    for n, value in enumerate(starts):
        made.write(counter(n), value)
    made.write(pmu.PMCCNTR_EL0, starts[0])
    made.write(INT_SET, heard)
    left = made.next_overflow()
    if left is None:
        made.count(2**33, 2**33)
        assert not made.level()
        return
    made.count(left - 1, left - 1)
    assert not made.level()
    made.count(1 if not control & pmu.PMCR_D else 64, 1)
    assert made.level()
    assert from_state(State, to_state(made.state)) == made.state


@given(
    start=st.integers(2**32 - 200, 2**32 - 1), width=st.integers(1, 8), event=st.sampled_from(
        [INST_RETIRED, CPU_CYCLES]
    ),
)  # fmt: skip
def test_a_wide_core_reaches_an_overflow_of_instructions_sooner(start, width, event):
    """Never later than that many cycles, and a cycle is one however wide the core is."""
    made = monitor(event)
    made.write(counter(0), start)
    made.write(INT_SET, 1)
    left = made.next_overflow(width)
    per_cycle = width if event == INST_RETIRED else 1
    assert left == -(-(2**32 - start) // per_cycle)
    made.count(left - 1, (left - 1) * width)
    assert not made.level(), "even at the most instructions a cycle"
    made.count(1, width)
    assert made.level()
