"""Exception entry, register by register, and the exception that repeats for ever."""

from __future__ import annotations

import pytest

from emu.el1 import StormWatch, take_exception
from kit import FakeRegisters

VBAR = 0x4008_0800
ESR = 0x5600_0001


@pytest.mark.parametrize(
    ("pstate", "vector", "bank"),
    [
        (0x3C5, 0x200, "SP_EL1"),  # EL1h
        (0x3C4, 0x000, "SP_EL0"),  # EL1t
        (0x000, 0x400, "SP_EL0"),  # EL0
    ],
)
def test_entry(pstate, vector, bank):
    registers = FakeRegisters(PSTATE=pstate, SP=0x1111, SP_EL1=0x2222, VBAR_EL1=VBAR, FAR_EL1=9)
    assert take_exception(registers, ESR, None, 0x4000_0004) == VBAR + vector
    assert registers[bank] == 0x1111
    assert registers["SP"] == registers["SP_EL1"]
    assert registers["SPSR_EL1"] == pstate
    assert registers["ELR_EL1"] == 0x4000_0004
    assert registers["ESR_EL1"] == ESR
    assert registers["FAR_EL1"] == 9
    assert registers["PSTATE"] == 0x3C5
    assert registers["PC"] == VBAR + vector


def test_unicorn_wants_spsr_after_pstate_and_sp():
    registers = FakeRegisters(PSTATE=0x3C5)
    take_exception(registers, ESR, 0x1234, 0)
    order = registers.written
    assert order.index("PSTATE") < order.index("SP") < order.index("SPSR_EL1") < order.index("PC")
    assert registers["FAR_EL1"] == 0x1234


def test_vector_address_wraps():
    registers = FakeRegisters(PSTATE=0x0, VBAR_EL1=0xFFFF_FFFF_FFFF_FE00)
    assert take_exception(registers, ESR, None, 0) == 0x200


def test_storm_is_the_same_exception_without_progress():
    watch = StormWatch()
    hits = [watch.repeats(ESR, None, 8, 8) for _ in range(StormWatch.LIMIT + 1)]
    assert hits == [False] * StormWatch.LIMIT + [True]


@pytest.mark.parametrize("other", [(ESR + 1, None, 8, 8), (ESR, 1, 8, 8), (ESR, None, 8, 12)])
def test_anything_else_starts_the_count_again(other):
    watch = StormWatch()
    for _ in range(StormWatch.LIMIT):
        watch.repeats(ESR, None, 8, 8)
    assert not watch.repeats(*other)
    assert not watch.repeats(ESR, None, 8, 8)
