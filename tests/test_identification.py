"""What a guest reads about its CPU agrees with the machine."""

from __future__ import annotations

import pytest

from emu.cpu import CORES
from emu.engine import Stop
from emu.identification import (
    ID_AA64DFR0_EL1,
    ID_AA64ISAR0_EL1,
    ID_AA64ISAR1_EL1,
    ID_AA64PFR0_EL1,
    REGISTERS,
    coherent,
)
from emu.vm import Vm
from engine_kit import EL0T, NOP, WFI, at_level, go, halves, machine, mrs

HELLO = "guests/bin/hello.elf"


def field(value: int, shift: int) -> int:
    return value >> shift & 0xF


@pytest.mark.parametrize("gic", [2, 3])
@pytest.mark.parametrize("core", CORES)
def test_fields(core, gic):
    vm = Vm(HELLO, core=core, gic=gic)
    own = {reg: vm.engine.cpu.get_system(reg) for reg in REGISTERS}
    seen = dict(coherent(own, gic_registers=gic == 3))
    pfr0 = seen[ID_AA64PFR0_EL1]
    assert [field(pfr0, shift) for shift in (0, 4, 8, 12, 32)] == [1, 1, 0, 0, 0]
    assert field(pfr0, 24) == (gic == 3)
    assert field(pfr0, 16) == field(own[ID_AA64PFR0_EL1], 16), "floating point is the core's"
    assert field(seen[ID_AA64DFR0_EL1], 8) == 1
    assert field(seen[ID_AA64ISAR0_EL1], 60) == 0
    assert seen[ID_AA64ISAR1_EL1] & 0xFF000FF0 == 0


@halves
def test_a_guest_reads_them_and_el0_does_not(native):
    engine = machine(native, mrs(3, ID_AA64PFR0_EL1), WFI)
    engine.hooks.identify(4, 0, 0x1234)
    assert go(engine) is Stop.WFI
    assert engine.get("X3") == 0x1234
    at_level(engine, EL0T, words=[NOP, mrs(4, ID_AA64PFR0_EL1), WFI])
    go(engine)
    assert engine.get("X4") != 0x1234
    assert engine.exceptions.last is not None
