"""Exception entry, register by register."""

from __future__ import annotations

import pytest

from emu.arm.arch import (
    PSTATE_PAN,
    SCTLR_SPAN,
    VECTOR_FIQ,
    VECTOR_IRQ,
    VECTOR_SERROR,
    VECTOR_SYNC,
)
from emu.arm.el1 import take_exception
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
    assert take_exception(registers, VECTOR_SYNC, (ESR,), 0x4000_0004) == VBAR + vector
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
    take_exception(registers, VECTOR_SYNC, (ESR, 0x1234), 0)
    order = registers.written
    assert order.index("PSTATE") < order.index("SP") < order.index("SPSR_EL1") < order.index("PC")
    assert registers["FAR_EL1"] == 0x1234


def test_vector_address_wraps():
    registers = FakeRegisters(PSTATE=0x0, VBAR_EL1=0xFFFF_FFFF_FFFF_FE00)
    assert take_exception(registers, VECTOR_SYNC, (ESR,), 0) == 0x200


@pytest.mark.parametrize(("kind", "offset"), [
    (VECTOR_SYNC, 0), (VECTOR_IRQ, 0x80), (VECTOR_FIQ, 0x100), (VECTOR_SERROR, 0x180),
])  # fmt: skip
def test_kinds_follow_each_other(kind, offset):
    registers = FakeRegisters(PSTATE=0x0, VBAR_EL1=VBAR, ESR_EL1=7)
    assert take_exception(registers, kind, (), 0) == VBAR + 0x400 + offset
    assert registers["ESR_EL1"] == 7, "an interrupt has no syndrome"


@pytest.mark.parametrize(("span", "before", "after"), [
    (0, 0, PSTATE_PAN), (0, PSTATE_PAN, PSTATE_PAN),
    (SCTLR_SPAN, 0, 0), (SCTLR_SPAN, PSTATE_PAN, PSTATE_PAN),
])  # fmt: skip
def test_span_decides_about_pan(span, before, after):
    """DDI 0487, SCTLR_EL1.SPAN: "Set Privileged Access Never"."""
    registers = FakeRegisters(PSTATE=before, SCTLR_EL1=span)
    take_exception(registers, VECTOR_SYNC, (ESR,), 0, has_pan=True)
    assert registers["PSTATE"] == 0x3C5 | after
    registers = FakeRegisters(PSTATE=before, SCTLR_EL1=span)
    take_exception(registers, VECTOR_SYNC, (ESR,), 0)
    assert registers["PSTATE"] == 0x3C5, "a core of Armv8.0 has no PAN"
