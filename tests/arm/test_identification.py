"""What a guest reads about its CPU agrees with the machine."""

from __future__ import annotations

import pytest

from emu.arm.cores import CORES
from emu.arm.identification import (
    ID_AA64DFR0_EL1,
    ID_AA64ISAR0_EL1,
    ID_AA64ISAR1_EL1,
    ID_AA64PFR0_EL1,
    MIDR_EL1,
    REGISTERS,
    coherent,
)
from emu.engine.engine import Stop
from emu.machine.vm import Vm
from engine_kit import EL0T, NOP, WFI, at_level, code, go, halves, machine, mrs

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


NEWER = {name: core.midr for name, core in CORES.items() if core.midr}
PARTS = {
    "cortex-a55": 0xD05, "cortex-a76": 0xD0B, "neoverse-n1": 0xD0C, "neoverse-v1": 0xD40,
    "neoverse-n2": 0xD49,
}  # fmt: skip
"""MIDR_EL1.PartNum of their technical reference manuals."""


@pytest.mark.parametrize("core", NEWER)
def test_a_newer_core_is_arms_and_itself(core):
    assert NEWER[core] >> 24 == 0x41
    assert NEWER[core] >> 4 & 0xFFF == PARTS[core]
    assert field(NEWER[core], 16) == 0xF, "features are told by the ID registers"


@halves
@pytest.mark.parametrize("core", ["cortex-a53", *NEWER])
def test_the_midr_a_guest_reads(core, native, tmp_path):
    path = tmp_path / "midr.bin"
    path.write_bytes(code(mrs(3, MIDR_EL1), WFI))
    vm = Vm(path, load=0x4008_0000, core=core, native=native)
    vm.run(1_000)
    part = vm.engine.get("X3") >> 4 & 0xFFF
    assert part == PARTS.get(core, 0xD03)


@pytest.mark.parametrize("core", NEWER)
def test_a_newer_core_has_no_more_than_armv8_2(core):
    """What runs it, Unicorn's max, has features that came later."""
    vm = Vm(HELLO, core=core)
    own = {reg: vm.engine.cpu.get_system(reg) for reg in REGISTERS}
    seen = dict(coherent(own, gic_registers=True, armv8_2=True))
    isar0, isar1 = seen[ID_AA64ISAR0_EL1], seen[ID_AA64ISAR1_EL1]
    assert [field(isar0, shift) for shift in (4, 8, 16, 20, 28, 44)] == [2, 1, 1, 2, 1, 1], (
        "AES, SHA1, CRC32, LSE, RDM, DP"
    )
    assert field(isar0, 12) <= 1, "SHA-512 is later"
    assert [field(isar0, shift) for shift in (32, 36, 40, 48, 52, 56)] == [0] * 6
    assert field(isar1, 0) <= 1
    assert [field(isar1, shift) for shift in (12, 16, 32, 36, 40, 44, 48, 52)] == [0] * 8
    assert field(isar1, 20) <= 1
    for reg, value in seen.items():
        for shift in range(0, 64, 4):
            most = max(field(own[reg], shift), 1 if reg != ID_AA64PFR0_EL1 else 15)
            assert field(value, shift) <= most, (reg, shift)
