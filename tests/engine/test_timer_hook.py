"""The generic timer's registers in either half (what they hold: tests/arm/test_timers.py)."""

from __future__ import annotations

import pytest

from emu.engine.engine import Stop
from engine_kit import (
    CNTFRQ,
    CNTPCT,
    CNTVCT,
    DATA,
    NOP,
    WFI,
    XZR,
    add,
    eor,
    go,
    halves,
    machine,
    mrs,
)


@halves
@pytest.mark.parametrize("register", [CNTVCT, CNTPCT], ids=["cntvct", "cntpct"])
@pytest.mark.parametrize("rt", [0, 1, 15, 28, 29, 30])
@pytest.mark.parametrize("before", [0, 15, 16, 17, 95])
def test_counter_is_exact_inside_a_block(native, register, rt, before):
    engine = machine(native, *[NOP] * before, mrs(rt, register), *[NOP] * 40, WFI)
    engine.set(f"X{rt}", 0xFFFF_FFFF_FFFF_FFFF)
    assert go(engine) is Stop.WFI
    assert engine.get(f"X{rt}") == before // 16


@halves
def test_counter_into_nothing(native):
    """xzr stays zero, and SP, which shares its number, stays what it was."""
    engine = machine(native, *[NOP] * 40, mrs(XZR, CNTVCT), add(1, 31, 0), eor(2, 31, 31), WFI)
    engine.set("SP", DATA)
    engine.set("X2", 7)
    go(engine)
    assert (engine.get("X1"), engine.get("X2"), engine.get("SP")) == (DATA, 0, DATA)


@halves
def test_counter_frequency(native):
    engine = machine(native, mrs(0, CNTFRQ), WFI)
    go(engine)
    assert engine.get("X0") == 62_500_000


@halves
def test_counter_follows_the_cycles(native):
    engine = machine(native, mrs(0, CNTVCT), WFI)
    engine.cycles = 16 * 0x1_2345_6789
    go(engine)
    assert engine.get("X0") == 0x1_2345_6789
