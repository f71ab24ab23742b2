"""The identification registers a guest reads, made coherent with what this machine has.

Unicorn tells what its core has in hardware. What cannot be used here is taken away, as a
hypervisor does (linux v6.12 arch/arm64/kvm/sys_regs.c:sanitise_id_aa64pfr0_el1 and its like): EL2
and EL3, AArch32 (the engine counts A64 instructions), SVE and pointer authentication (EL3 would
have to enable them), random numbers (RNDR answers from the host). The GIC's system registers and
the performance monitor are added, where there are any. Fields are those of DDI 0487.

ID_AA64DFR0_EL1 goes on to promise the core's watchpoints, which Unicorn has registers for and
never triggers (unicorn 2.1.4 qemu/exec.c: cpu_check_watchpoint is empty): WRPs is their number
less one, so that a guest cannot be told of none. Breakpoints and software step work.
"""

from __future__ import annotations

from collections.abc import Iterator

from emu.arm.arch import SysReg

MIDR_EL1 = SysReg(3, 0, 0, 0, 0)
ID_AA64PFR0_EL1 = SysReg(3, 0, 0, 4, 0)
ID_AA64ZFR0_EL1 = SysReg(3, 0, 0, 4, 4)
ID_AA64DFR0_EL1 = SysReg(3, 0, 0, 5, 0)
ID_AA64ISAR0_EL1 = SysReg(3, 0, 0, 6, 0)
ID_AA64ISAR1_EL1 = SysReg(3, 0, 0, 6, 1)
FIELD = 0xF

_FIELDS: dict[SysReg, dict[int, int]] = {
    # EL0 and EL1 in AArch64 only; EL2, EL3, SVE none. Shift → value.
    ID_AA64PFR0_EL1: {0: 1, 4: 1, 8: 0, 12: 0, 32: 0},
    ID_AA64ISAR0_EL1: {60: 0},  # RNDR
    ID_AA64ISAR1_EL1: {4: 0, 8: 0, 24: 0, 28: 0},  # APA, API, GPA, GPI
}
GIC_SHIFT, PMUVER_SHIFT = 24, 8
PMUV3 = 1
"""ID_AA64DFR0_EL1.PMUVer of Armv8.0 (DDI 0487)."""
_ARMV8_2: dict[SysReg, dict[int, int]] = {
    # The most a field may say: SHA2, SHA3, SM3, SM4, FHM, TS, TLB; DPB, JSCVT, FCMA, LRCPC and
    # all behind it; the nested and later parts of memory management are EL2's.
    ID_AA64ISAR0_EL1: {12: 1, 32: 0, 36: 0, 40: 0, 48: 0, 52: 0, 56: 0},
    ID_AA64ISAR1_EL1: {0: 1, 12: 0, 16: 0, 20: 1, 32: 0, 36: 0, 40: 0, 44: 0, 48: 0, 52: 0},
}
"""What cores of Armv8.2 have at most of what Unicorn's `max` has (DDI 0487, A2.5)."""
REGISTERS = (*_FIELDS, ID_AA64DFR0_EL1, ID_AA64ZFR0_EL1)
"""Those that differ from the core's own."""


def coherent(
    own: dict[SysReg, int], *, gic_registers: bool, armv8_2: bool = False
) -> Iterator[tuple[SysReg, int]]:
    """What a guest reads in place of what the core has, or what one of Armv8.2 would have."""
    for reg, value in own.items():
        for shift, most in _ARMV8_2.get(reg, {}).items() if armv8_2 else ():
            field = min(value >> shift & FIELD, most)
            value = value & ~(FIELD << shift) | field << shift
        fields = dict(_FIELDS.get(reg, {}))
        if reg == ID_AA64PFR0_EL1:
            fields[GIC_SHIFT] = int(gic_registers)
        elif reg == ID_AA64DFR0_EL1:
            fields[PMUVER_SHIFT] = PMUV3
        for shift, field in fields.items():
            value = value & ~(FIELD << shift) | field << shift
        yield reg, 0 if reg == ID_AA64ZFR0_EL1 else value
