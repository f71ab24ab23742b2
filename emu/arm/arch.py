"""The AArch64 facts the emulator needs, from the Arm Architecture Reference Manual (DDI 0487).

Instruction words, PSTATE, syndromes, vector offsets and the affinity fields of MPIDR. Only
numbers and pure functions: nothing here knows how an instruction is executed.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

INSN_SIZE = 4
WORD_NOP = 0xD503_201F
WORD_WFI = 0xD503_207F
WORD_HLT_SEMIHOSTING = 0xD45E_0000
"""HLT #0xF000: Arm semihosting for A64 (Semihosting for AArch32 and AArch64, §4)."""
WORD_HLT_TRAP = 0xD440_0000 | 0xCA11 << 5
"""HLT #0xCA11: where a call from Python ends or is answered (function.py); our choice."""

# PSTATE / SPSR_EL1 (DDI 0487, SPSR_EL1).
PSTATE_SPSEL = 1 << 0
PSTATE_EL_SHIFT = 2
PSTATE_DAIF = 0xF << 6
PSTATE_EL1H_MASKED = PSTATE_DAIF | 1 << PSTATE_EL_SHIFT | PSTATE_SPSEL
"""EL1 on SP_EL1 with D, A, I and F masked: 0x3c5, the state every vCPU starts in."""
PSTATE_AFTER_EXCEPTION = PSTATE_EL1H_MASKED
PSTATE_I, PSTATE_F = 1 << 7, 1 << 6
PSTATE_D = 1 << 9
PSTATE_PAN = 1 << 22

# Exception classes, ESR_EL1[31:26] (DDI 0487, ESR_EL1).
EC_UNKNOWN = 0x00
EC_SVC64 = 0x15
EC_INSTRUCTION_ABORT_LOWER = 0x20
EC_INSTRUCTION_ABORT_SAME = 0x21
EC_DATA_ABORT_LOWER = 0x24
EC_DATA_ABORT_SAME = 0x25
EC_STEP_LOWER, EC_STEP_SAME = 0x32, 0x33
EC_BRK64 = 0x3C
ESR_IL = 1 << 25

EC_NAMES = {
    0x00: "unknown or undefined instruction",
    0x01: "trapped WFI or WFE",
    0x07: "trapped SIMD or floating point",
    0x0E: "illegal execution state",
    0x15: "SVC",
    0x16: "HVC",
    0x17: "SMC",
    0x18: "trapped MSR, MRS or system instruction",
    0x19: "trapped SVE",
    0x20: "instruction abort from a lower exception level",
    0x21: "instruction abort",
    0x22: "PC alignment fault",
    0x24: "data abort from a lower exception level",
    0x25: "data abort",
    0x26: "SP alignment fault",
    0x2C: "floating-point exception",
    0x2F: "SError",
    0x30: "breakpoint from a lower exception level",
    0x31: "breakpoint",
    0x32: "software step from a lower exception level",
    0x33: "software step",
    0x34: "watchpoint from a lower exception level",
    0x35: "watchpoint",
    0x3C: "BRK",
}

# Fault status codes, ISS[5:0] of an abort (DDI 0487, ESR_EL1: IFSC and DFSC).
FSC_EXTERNAL = 0x10
ISS_FNV = 1 << 10
ISS_WNR = 1 << 6
ISS_ISV = 1 << 24
"""Of a software step: an instruction was executed (DDI 0487, ISS encoding for Software Step)."""
_FSC_LEVELS = {0x00: "address size", 0x04: "translation", 0x08: "access flag", 0x0C: "permission"}
_FSC_NAMES = {
    0x10: "external abort",
    0x21: "alignment fault",
    0x30: "TLB conflict",
    0x35: "unsupported exclusive or atomic access",
}

VECTOR_CURRENT_SP0 = 0x000
VECTOR_CURRENT_SPX = 0x200
VECTOR_LOWER_A64 = 0x400
VECTOR_SYNC, VECTOR_IRQ, VECTOR_FIQ, VECTOR_SERROR = 0x000, 0x080, 0x100, 0x180
VECTOR_COUNT, VECTOR_SIZE = 16, 0x80
VECTOR_TABLE = VECTOR_COUNT * VECTOR_SIZE
"""Bytes of a whole table (DDI 0487, "Exception vectors")."""

# MPIDR_EL1 affinity fields (DDI 0487, MPIDR_EL1); the mask is that of PSCI's target_affinity.
MPIDR_RES1 = 1 << 31
MPIDR_AFFINITY = 0xFF_00FF_FFFF
CPUS_PER_CLUSTER = 16


class SysReg(NamedTuple):
    """The encoding of a system register in MRS and MSR."""

    op0: int
    op1: int
    crn: int
    crm: int
    op2: int


SPSR_EL1 = SysReg(3, 0, 4, 0, 0)
SCTLR_EL1 = SysReg(3, 0, 1, 0, 0)
TTBR0_EL1 = SysReg(3, 0, 2, 0, 0)
TCR_EL1 = SysReg(3, 0, 2, 0, 2)
CNTKCTL_EL1 = SysReg(3, 0, 14, 1, 0)
CNTFRQ_EL0 = SysReg(3, 3, 14, 0, 0)
CNTPCT_EL0 = SysReg(3, 3, 14, 0, 1)
CNTVCT_EL0 = SysReg(3, 3, 14, 0, 2)
HCR_EL2 = SysReg(3, 4, 1, 1, 0)
VMPIDR_EL2 = SysReg(3, 4, 0, 0, 5)
SCR_EL3 = SysReg(3, 6, 1, 1, 0)

VCPU_REGISTERS: dict[str, SysReg] = {
    "MDSCR_EL1": SysReg(2, 0, 0, 2, 2),
    "SCTLR_EL1": SCTLR_EL1,
    "ACTLR_EL1": SysReg(3, 0, 1, 0, 1),
    "CPACR_EL1": SysReg(3, 0, 1, 0, 2),
    "TTBR0_EL1": TTBR0_EL1,
    "TTBR1_EL1": SysReg(3, 0, 2, 0, 1),
    "TCR_EL1": TCR_EL1,
    "AFSR0_EL1": SysReg(3, 0, 5, 1, 0),
    "AFSR1_EL1": SysReg(3, 0, 5, 1, 1),
    "ESR_EL1": SysReg(3, 0, 5, 2, 0),
    "FAR_EL1": SysReg(3, 0, 6, 0, 0),
    "PAR_EL1": SysReg(3, 0, 7, 4, 0),
    "MAIR_EL1": SysReg(3, 0, 10, 2, 0),
    "AMAIR_EL1": SysReg(3, 0, 10, 3, 0),
    "VBAR_EL1": SysReg(3, 0, 12, 0, 0),
    "CONTEXTIDR_EL1": SysReg(3, 0, 13, 0, 1),
    "TPIDR_EL1": SysReg(3, 0, 13, 0, 4),
    "CNTKCTL_EL1": CNTKCTL_EL1,
    "CSSELR_EL1": SysReg(3, 2, 0, 0, 0),
    "TPIDR_EL0": SysReg(3, 3, 13, 0, 2),
    "TPIDRRO_EL0": SysReg(3, 3, 13, 0, 3),
}
"""The system registers that are a vCPU's own state: those a guest can change and KVM lists
(linux v6.17 arch/arm64/kvm/sys_regs.c:sys_reg_descs), as far as Unicorn holds them."""

DEBUG_REGISTERS: dict[str, SysReg] = {
    **{f"DBGBVR{n}_EL1": SysReg(2, 0, 0, n, 4) for n in range(6)},
    **{f"DBGBCR{n}_EL1": SysReg(2, 0, 0, n, 5) for n in range(6)},
    **{f"DBGWVR{n}_EL1": SysReg(2, 0, 0, n, 6) for n in range(4)},
    **{f"DBGWCR{n}_EL1": SysReg(2, 0, 0, n, 7) for n in range(4)},
    "OSLSR_EL1": SysReg(2, 0, 1, 1, 4),
}
"""Breakpoints, watchpoints and the OS lock of a Cortex-A72 (its TRM, 10.4; OSLAR sets OSLSR)."""
PMU_REGISTERS: dict[str, SysReg] = {
    "PMCR_EL0": SysReg(3, 3, 9, 12, 0),
    "PMCNTENSET_EL0": SysReg(3, 3, 9, 12, 1),
    "PMOVSCLR_EL0": SysReg(3, 3, 9, 12, 3),
    "PMSELR_EL0": SysReg(3, 3, 9, 12, 5),
    "PMCCNTR_EL0": SysReg(3, 3, 9, 13, 0),
    "PMUSERENR_EL0": SysReg(3, 3, 9, 14, 0),
    "PMINTENSET_EL1": SysReg(3, 0, 9, 14, 1),
    "PMCCFILTR_EL0": SysReg(3, 3, 14, 15, 7),
    **{f"PMEVCNTR{n}_EL0": SysReg(3, 3, 14, 8, n) for n in range(4)},
    **{f"PMEVTYPER{n}_EL0": SysReg(3, 3, 14, 12, n) for n in range(4)},
}
"""The performance monitor, as many counters as Unicorn's Cortex-A72 has."""

SCR_EL3_RUN = 0x531
"""NS, RES1 5:4, HCE and RW: non-secure AArch64 with HVC enabled (DDI 0487, SCR_EL3)."""
HCR_EL2_RUN = 1 << 31
"""RW: EL1 is AArch64 (DDI 0487, HCR_EL2)."""
TCR_EL1_48_BITS = 16
"""T0SZ = 16, 4 KiB granule, non-cacheable walks (DDI 0487, TCR_EL1)."""
SCTLR_M = 1 << 0
SCTLR_SPAN = 1 << 23
"""Clear: an exception sets PSTATE.PAN (DDI 0487, SCTLR_EL1)."""
SCTLR_EL1_RESET = 0x00C5_0838
"""The reset value of a Cortex-A72: RES1 bits, MMU and caches off (qemu target/arm/cpu64.c,
aarch64_a72_initfn: reset_sctlr)."""


def mpidr(index: int) -> int:
    """MPIDR_EL1 of vCPU `index`: 16 per cluster, as KVM numbers them for GICv3.

    Source: linux v6.17 arch/arm64/kvm/sys_regs.c:reset_mpidr.
    """
    aff0, aff1, aff2 = index & 0xF, index >> 4 & 0xFF, index >> 12 & 0xFF
    return MPIDR_RES1 | aff2 << 16 | aff1 << 8 | aff0


def current_el(pstate: int) -> int:
    """The exception level in PSTATE, 0 to 3."""
    return pstate >> PSTATE_EL_SHIFT & 3


def vector_offset(pstate: int) -> int:
    """Offset of the synchronous vector for an exception to EL1 taken in `pstate`.

    The others, VECTOR_IRQ and so on, follow it.
    """
    if current_el(pstate) == 0:
        return VECTOR_LOWER_A64
    return VECTOR_CURRENT_SPX if pstate & PSTATE_SPSEL else VECTOR_CURRENT_SP0


def exception_class(esr: int) -> int:
    """ESR_ELx.EC."""
    return esr >> 26 & 0x3F


def syndrome(ec: int, iss: int = 0) -> int:
    """An ESR value for a 32-bit instruction."""
    return ec << 26 | ESR_IL | iss


def describe_esr(esr: int) -> str:
    """ESR in words: exception class, and for an abort what went wrong and which access."""
    ec = exception_class(esr)
    name = EC_NAMES.get(ec, f"exception class {ec:#04x}")
    iss = esr & 0x1FF_FFFF
    if ec in (EC_SVC64, EC_BRK64, 0x16, 0x17):
        return f"{name} #{iss & 0xFFFF:#x}"
    if ec in (EC_DATA_ABORT_LOWER, EC_DATA_ABORT_SAME):
        access = "write" if iss & 1 << 6 else "read"
        return f"{name}, {describe_fault_status(iss)} on a {access}"
    if ec in (EC_INSTRUCTION_ABORT_LOWER, EC_INSTRUCTION_ABORT_SAME):
        return f"{name}, {describe_fault_status(iss)}"
    return name


def describe_fault_status(iss: int) -> str:
    """DFSC or IFSC in words."""
    code = iss & 0x3F
    if code & 0x3C in _FSC_LEVELS and code < 0x10:
        return f"{_FSC_LEVELS[code & 0x3C]} fault, level {code & 3}"
    return _FSC_NAMES.get(code, f"fault status {code:#04x}")


class BlockEnd(enum.IntEnum):
    """How a block is left, told from its last instruction."""

    RUNS_ON = 0
    JUMP = 1
    CONDITIONAL = 2
    CALL = 3
    CALL_INDIRECT = 4
    JUMP_INDIRECT = 5
    RETURN = 6
    EXCEPTION = 7
    EXCEPTION_RETURN = 8


_BLOCK_ENDS = (
    (0xFC00_0000, 0x1400_0000, BlockEnd.JUMP),  # B
    (0xFC00_0000, 0x9400_0000, BlockEnd.CALL),  # BL
    (0xFF00_0000, 0x5400_0000, BlockEnd.CONDITIONAL),  # B.cond
    (0x7E00_0000, 0x3400_0000, BlockEnd.CONDITIONAL),  # CBZ, CBNZ
    (0x7E00_0000, 0x3600_0000, BlockEnd.CONDITIONAL),  # TBZ, TBNZ
    (0xFFFF_FC1F, 0xD61F_0000, BlockEnd.JUMP_INDIRECT),  # BR
    (0xFFFF_FC1F, 0xD63F_0000, BlockEnd.CALL_INDIRECT),  # BLR
    (0xFFFF_FC1F, 0xD65F_0000, BlockEnd.RETURN),  # RET
    (0xFFFF_FFFF, 0xD69F_03E0, BlockEnd.EXCEPTION_RETURN),  # ERET
    (0xFF00_0000, 0xD400_0000, BlockEnd.EXCEPTION),  # SVC, HVC, SMC, BRK, HLT
)
"""(mask, value) of the words that end a block (DDI 0487, C4.1.94 branches, exception generating
and system instructions)."""


_BY_TOP = tuple(
    tuple(row for row in _BLOCK_ENDS if (top << 24 ^ row[1]) & row[0] & 0xFF00_0000 == 0)
    for top in range(256)
)
"""Those that a word with this highest byte may be."""


def block_end(word: int) -> BlockEnd:
    """How a block with this last word is left."""
    for mask, value, end in _BY_TOP[word >> 24]:
        if word & mask == value:
            return end
    return BlockEnd.RUNS_ON
