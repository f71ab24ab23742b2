"""KVM's register identifiers, and what each one names: the language of KVM_GET/SET_ONE_REG.

An identifier is 64 bits: the architecture in 63:60, log2 of the size in 55:52, a group in 31:16
and the register within it. Sources: linux v6.17 include/uapi/linux/kvm.h,
arch/arm64/include/uapi/asm/kvm.h and Documentation/virt/kvm/api.rst §4.68; the offsets are those
of struct kvm_regs (arch/arm64/include/uapi/asm/kvm.h, ptrace.h).
"""

from __future__ import annotations

import enum
import errno
from typing import NamedTuple

from emu.arm.arch import SysReg
from emu.base.errors import OneRegError

ARM64 = 0x6000_0000_0000_0000
ARCH_MASK = 0xFF00_0000_0000_0000
SIZE_SHIFT, SIZE_MASK = 52, 0x00F0_0000_0000_0000
U32, U64, U128 = 2, 3, 4
"""log2 of a register's bytes: KVM_REG_SIZE_U32 and so on."""
SCOPE_VM = 1 << 28
"""KVM_REG_ARM_SCOPE_VM of series v4 (abi/D §D2): the register is the VM's."""


class Group(enum.IntEnum):
    """Bits 31:16 of an arm64 identifier: KVM_REG_ARM_COPROC_MASK."""

    CORE = 0x0010
    DEMUX = 0x0011
    SYSREG = 0x0013
    FW = 0x0014
    SVE = 0x0015
    FW_FEAT_BMAP = 0x0016


class RegisterId(NamedTuple):
    """An identifier taken apart."""

    size: int
    """In bytes."""
    group: int
    number: int


def split(identifier: int) -> RegisterId:
    """Take an identifier apart; EINVAL for another architecture (arm64/kvm/guest.c)."""
    if identifier & ARCH_MASK & ~SIZE_MASK != ARM64 or identifier >> 32 & 0xF_FFFF:
        raise OneRegError(f"{identifier:#x} is no arm64 register", errno.EINVAL)
    size = 1 << (identifier >> SIZE_SHIFT & 0xF)
    return RegisterId(size, identifier >> 16 & 0xFFFF, identifier & 0xFFFF)


def make(group: int, number: int, log2_size: int = U64) -> int:
    """Put an identifier together."""
    return ARM64 | log2_size << SIZE_SHIFT | group << 16 | number


class Core(NamedTuple):
    """A core register: its offset in struct kvm_regs in 32-bit words, its size, its name."""

    offset: int
    log2_size: int
    name: str

    @property
    def id(self) -> int:
        return make(Group.CORE, self.offset, self.log2_size)


AARCH32_SPSR = ("SPSR_ABT", "SPSR_UND", "SPSR_IRQ", "SPSR_FIQ")
"""The saved states of AArch32's modes: an AArch64 vCPU lists them and has none."""
CORE = (
    *(Core(2 * n, U64, f"X{n}") for n in range(31)),
    Core(62, U64, "SP_EL0"),
    Core(64, U64, "PC"),
    Core(66, U64, "PSTATE"),
    Core(68, U64, "SP_EL1"),
    Core(70, U64, "ELR_EL1"),
    Core(72, U64, "SPSR_EL1"),
    *(Core(74 + 2 * n, U64, name) for n, name in enumerate(AARCH32_SPSR)),
    *(Core(84 + 4 * n, U128, f"V{n}") for n in range(32)),
    Core(212, U32, "FPSR"),
    Core(213, U32, "FPCR"),
)
CORE_WORDS = 864 // 4
"""struct kvm_regs in 32-bit words: user_pt_regs 272, three banks 56, padding 8, FP 528 bytes."""
_CORE_BY_OFFSET = {core.offset: core for core in CORE}


def find_core(identifier: int) -> Core:
    """The core register with this identifier (arm64/kvm/guest.c:core_reg_size_from_offset)."""
    parts = split(identifier)
    if parts.number >= CORE_WORDS or parts.number + parts.size // 4 >= CORE_WORDS:
        raise OneRegError(f"{identifier:#x} lies beyond struct kvm_regs", errno.ENOENT)
    core = _CORE_BY_OFFSET.get(parts.number)
    if core is None or 1 << core.log2_size != parts.size:
        raise OneRegError(f"{identifier:#x} is no whole core register", errno.EINVAL)
    return core


def system_id(register: SysReg) -> int:
    """The identifier of a system register: ARM64_SYS_REG(op0, op1, crn, crm, op2)."""
    number = (
        register.op0 << 14 | register.op1 << 11 | register.crn << 7 | register.crm << 3
        | register.op2
    )  # fmt: skip
    return make(Group.SYSREG, number)


def system_register(identifier: int) -> SysReg:
    """The encoding behind an identifier of the system register group."""
    number = identifier & 0xFFFF
    return SysReg(
        number >> 14 & 3, number >> 11 & 7, number >> 7 & 0xF, number >> 3 & 0xF, number & 7
    )


# Modes PSTATE accepts from a VMM (arm64/kvm/guest.c:set_core_reg): EL0t, EL1t and EL1h of an
# AArch64 vCPU, where EL2 needs a nested guest, and AArch32's user mode below it, which a
# Cortex-A72 has; the privileged modes of AArch32 belong to an EL1_32BIT vCPU.
AARCH64_MODES = (0b0_0000, 0b0_0100, 0b0_0101, 0b1_0000)
AARCH32_MODES = (0b1_0000, 0b1_0001, 0b1_0010, 0b1_0011, 0b1_0111, 0b1_1011, 0b1_1111)
PSTATE_MODE_MASK = 0x1F


def check_pstate(value: int, *, aarch32: bool = False) -> None:
    """Refuse a mode the vCPU cannot be in, with EINVAL."""
    if value & PSTATE_MODE_MASK not in (AARCH32_MODES if aarch32 else AARCH64_MODES):
        raise OneRegError(f"PSTATE {value:#x} is no mode of this vCPU", errno.EINVAL)
