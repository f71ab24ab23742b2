"""MRS and MSR in either half (identification: tests/arm/test_identification.py)."""

from __future__ import annotations

import pytest

from emu.arm.arch import SysReg
from emu.engine.engine import Engine, Stop
from emu.engine.registers import is_gic, is_monitor, is_unknown_counter
from engine_kit import (
    CODE,
    EL0T,
    ICC_PMR_EL1,
    NOP,
    VECTORS,
    WFI,
    Recorder,
    at_level,
    go,
    halves,
    hvc,
    machine,
    movz,
    mrs,
    msr,
)

PMCCNTR_EL0, PMEVCNTR3_EL0, PMEVCNTR4_EL0 = (3, 3, 9, 13, 0), (3, 3, 14, 8, 3), (3, 3, 14, 8, 4)
PMCCFILTR_EL0, CNTVCT_EL0, ICC_IAR1_EL1 = (3, 3, 14, 15, 7), (3, 3, 14, 0, 2), (3, 0, 12, 12, 0)
VBAR_EL1 = (3, 0, 12, 0, 0)
UNKNOWN = 0x0200_0000
ASKED = pytest.mark.parametrize(
    "reg", [PMCCNTR_EL0, PMEVCNTR3_EL0, PMEVCNTR4_EL0, PMCCFILTR_EL0, ICC_PMR_EL1, ICC_IAR1_EL1]
)
"""Of the monitor, those Unicorn has and one it has not got; of the GIC, which it has not got."""


class Answering(Recorder):
    """Answers every access it is asked about, and notes it and when it was."""

    def __init__(self, engine: Engine, answer: int | None) -> None:
        super().__init__()
        self.engine, self.answer = engine, answer
        self.accesses: list[tuple[SysReg, bool, int]] = []
        self.moments: list[tuple[int, int]] = []

    def system_register(self, reg: SysReg, is_write: bool, value: int) -> int | None:
        self.accesses.append((reg, is_write, value))
        self.moments.append((self.engine.hooks.exact, self.engine.hooks.exact_instructions))
        return self.answer


@pytest.mark.parametrize(
    ("reg", "monitor", "unknown", "gic"),
    [
        (PMCCNTR_EL0, True, False, False),
        (PMEVCNTR3_EL0, True, False, False),
        (PMEVCNTR4_EL0, True, True, False),
        (PMCCFILTR_EL0, True, False, False),
        (CNTVCT_EL0, False, False, False),
        (ICC_PMR_EL1, False, False, True),
        (ICC_IAR1_EL1, False, False, True),
        (VBAR_EL1, False, False, False),
    ],
)
def test_whose_a_register_is(reg, monitor, unknown, gic):
    place = SysReg(*reg)
    assert (is_monitor(place), is_unknown_counter(place), is_gic(place)) == (monitor, unknown, gic)


@halves
@ASKED
def test_a_read_is_answered_and_done(native, reg):
    engine = machine(native, NOP, NOP, mrs(3, reg), NOP, WFI)
    traps = Answering(engine, 0xFFFF_0000_1234_5678)
    assert go(engine, traps) is Stop.WFI
    assert traps.accesses == [(SysReg(*reg), False, 0)]
    assert traps.moments == [(2, 2)]
    assert engine.get("X3") == 0xFFFF_0000_1234_5678
    assert (traps.exceptions, engine.instructions, engine.cycles) == ([], 5, 5)


@halves
@ASKED
def test_a_write_is_told_and_done(native, reg):
    engine = machine(native, movz(3, 0x77), msr(reg, 3), NOP, WFI)
    traps = Answering(engine, 0)
    assert go(engine, traps) is Stop.WFI
    assert traps.accesses == [(SysReg(*reg), True, 0x77)]
    assert traps.moments == [(1, 1)]
    assert engine.get("X3") == 0x77
    assert (traps.exceptions, engine.instructions, engine.cycles) == ([], 4, 4)


@halves
@pytest.mark.parametrize("reg", [PMEVCNTR4_EL0, ICC_PMR_EL1])
def test_what_nobody_has_is_undefined(native, reg):
    engine = machine(native, NOP, mrs(3, reg), NOP, WFI)
    traps = Answering(engine, None)
    assert go(engine, traps) is Stop.WFI
    assert len(traps.accesses) == 1
    assert traps.exceptions == [(UNKNOWN, None, CODE + 4, VECTORS + 0x200)]
    assert engine.instructions == 2  # the NOP, and the WFI at the vector


@halves
@pytest.mark.parametrize(("reg", "asked"), [(PMEVCNTR4_EL0, 1), (ICC_PMR_EL1, 0)])
def test_of_el0_only_the_monitor_is_asked(native, reg, asked):
    engine = machine(native)
    at_level(engine, EL0T, words=[NOP, mrs(3, reg), WFI])
    traps = Answering(engine, 5)
    go(engine, traps)
    assert len(traps.accesses) == asked
    assert len(traps.exceptions) == 1 - asked


@halves
@ASKED
def test_error_in_the_handler_comes_out_of_run(native, reg):
    engine = machine(native, NOP, mrs(3, reg), hvc(), WFI)
    traps = Recorder()

    def fail(*_):
        raise ValueError("told")

    traps.system_register = fail
    with pytest.raises(ValueError, match="told"):
        go(engine, traps)
    assert traps.calls == []


@halves
def test_other_registers_are_unicorns(native):
    engine = machine(native, mrs(0, (3, 0, 4, 2, 2)), mrs(1, (3, 3, 14, 3, 1)), WFI)
    engine.set("X0", 9)
    go(engine)
    assert engine.get("X0") == 1 << 2  # CurrentEL
