"""The numbers and structures of KVM's interface that a VMM writes and reads.

Sources stand beside each group; series that were not merged are known by the numbers their
patches used (abi/D §D2 and §D3).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from emu.world.policy import Action
from emu.world.service import MpState

# linux v6.17 include/uapi/linux/kvm.h: KVM_CAP_*.
CAP_MP_STATE, CAP_ONE_REG, CAP_ARM_PSCI, CAP_ARM_PSCI_0_2 = 14, 70, 87, 102
CAP_STEAL_TIME, CAP_PTP_KVM = 187, 198
CAP_SYSTEM_EVENT_DATA, CAP_ARM_SYSTEM_SUSPEND = 215, 216
# The series of 2021 (abi/D §D3) and of 2022 (abi/D §D2); not merged, known by these numbers.
CAP_ARM_MP_HALTED, CAP_ARM_HVC_TO_USER, CAP_ARM_PSCI_TO_USER = 199, 200, 201
CAP_ARM_REG_SCOPE = 210
CAP_ARM_HVC_FW_REG_BMAP = "KVM_CAP_ARM_HVC_FW_REG_BMAP"
"""Series v2 and v3; by name, because no source read here gives its number."""

# linux v6.17 arch/arm64/include/uapi/asm/kvm.h: KVM_ARM_VCPU_*.
POWER_OFF, EL1_32BIT, PSCI_0_2, PMU_V3 = 0, 1, 2, 3
TARGET_GENERIC_V8 = 5

# Device attributes (linux v6.17 arch/arm64/include/uapi/asm/kvm.h).
VM_SMCCC_CTRL, SMCCC_FILTER = 0, 0
VCPU_PVTIME_CTRL, PVTIME_IPA = 2, 0
ACTIONS = (Action.HANDLE, Action.DENY, Action.FORWARD)
FWD_TO_USER = 2
FILTER = struct.Struct("<IIB15s")
"""struct kvm_smccc_filter: base, nr_functions, action, pad."""

EXIT_SMC = 1 << 0
"""KVM_HYPERCALL_EXIT_SMC."""
RFC_ARGUMENTS = 6
MP_STATES = (MpState.RUNNABLE, MpState.STOPPED, MpState.SUSPENDED)
ALIGNMENT = 64


def filter_bytes(base: int, count: int, action: int, pad: bytes = bytes(15)) -> bytes:
    """A struct kvm_smccc_filter."""
    return FILTER.pack(base & 0xFFFF_FFFF, count & 0xFFFF_FFFF, action & 0xFF, pad)


SVE = 4
MIN_IPA_BITS, A72_IPA_BITS = 32, 44
"""KVM_VM_TYPE_ARM_IPA_SIZE: from 32 to what the core has (ID_AA64MMFR0_EL1.PARange)."""


@dataclass(frozen=True, slots=True)
class HostCore:
    """What a VMM finds that is the host's core and not its kernel; by default a Cortex-A72's.

    `levels` are those of the workaround registers, by name, where they differ from the
    profile's; `features` the vCPU features it offers besides; `ipa_bits` its address size.
    """

    levels: Mapping[str, int] = field(default_factory=dict)
    features: frozenset[int] = frozenset()
    ipa_bits: int = A72_IPA_BITS


@dataclass(frozen=True, slots=True)
class HypercallExit:
    """struct kvm_run.hypercall as the VMM finds it (KVM_EXIT_HYPERCALL).

    Layout v6.4: `nr` is the function identifier, `flags` tells SMC from HVC, `args` are unused.
    Layout rfc2021: `nr` is the immediate, `args` are x0–x5, and `ret` goes to x0 on re-entry.
    """

    nr: int
    flags: int = 0
    args: tuple[int, ...] = (0,) * RFC_ARGUMENTS
    ret: int = 0
