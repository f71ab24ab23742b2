"""The Power State Coordination Interface (DEN0022) as KVM serves it, versions 0.1 to 1.3.

Source of every rule unless a line says otherwise: linux v6.17 arch/arm64/kvm/psci.c. The
version is that of KVM_REG_ARM_PSCI_VERSION where the profile has it. PSCI_FEATURES derives
from what is declared here. KVM does not check entry points, and a CPU_ON takes effect at
once, so ON_PENDING and INVALID_ADDRESS never come from it; the options hold what other
implementations do differently (QEMU's: target/arm/psci.c of qemu v7.2; Xen's: arch/arm/vpsci.c of
xen 4.22).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from emu.arm.arch import MPIDR_AFFINITY
from emu.base import exits
from emu.base.smccc import NOT_SUPPORTED, SUCCESS, Call, FunctionId, Ret
from emu.world.service import Answer, Function, MpState, Service, fn

INVALID_PARAMETERS = -2
DENIED = -3
ALREADY_ON = -4
INTERNAL_FAILURE = -6
INVALID_ADDRESS = -9

AFFINITY_ON = 0
AFFINITY_OFF = 1
TOS_NOT_PRESENT = 2
RESET2_VENDOR = 1 << 31
OFF2_HIBERNATE = 1
SMCCC_VERSION = 0x8000_0000
LEGACY_LAST = 0x0100_FFFF
"""DEN0028: identifiers of calls older than it (xen 4.22 vsmc.c:ARM_SMCCC_RESERVED_RANGE_END)."""
VERSION_REGISTER = "KVM_REG_ARM_PSCI_VERSION"

V0_1, V0_2, V1_0, V1_1, V1_3 = 0x1, 0x2, 0x1_0000, 0x1_0001, 0x1_0003

# What a VMM finds in x0–x3 that resumes a guest after SYSTEM_OFF (kvm_psci_0_2_call).
_FAILED = Ret.value(INTERNAL_FAILURE)
# The MPIDR fields an affinity level compares (psci.c:psci_affinity_mask).
_AFFINITY_MASKS = tuple(MPIDR_AFFINITY & ~mask for mask in (0, 0xFF, 0xFFFF, 0xFF_FFFF))


@dataclass(frozen=True)
class Options:
    """`version` holds where there is no version register.

    `system_suspend`: the VMM enabled KVM_CAP_ARM_SYSTEM_SUSPEND. `legacy_ids`: the 0.1
    identifiers answer in every version. `smccc_feature`: PSCI_FEATURES knows SMCCC_VERSION
    where that call exists. `reset2`: PSCI 1.1 and later have SYSTEM_RESET2. `strict`: QEMU's
    checks of power_state and entry point, its arguments of 64 bits in either width, and its
    answer ON for affinity levels above 0.

    The rest is Xen's. `legacy_numbers`: the 0.1 functions are 1 and 2. `loose_targets`: bits that
    are no affinity are ignored, CPU_ON takes Aff1 and Aff0 for a vCPU's number, and AFFINITY_INFO
    calls OFF what matches no CPU. `odd_entry`: an entry point with bit 0 set, Thumb code, is
    INVALID_ADDRESS. `suspend_alone`: SYSTEM_SUSPEND is DENIED while another CPU is on.
    """

    version: int = V1_0
    system_suspend: bool = False
    legacy_ids: bool = False
    smccc_feature: bool = True
    reset2: bool = True
    strict: bool = False
    legacy_numbers: bool = False
    loose_targets: bool = False
    odd_entry: bool = False
    suspend_alone: bool = False


class Psci(Service):
    """CPU and system power, by DEN0022."""

    name = "psci"
    source = "DEN0022; linux v6.17 arch/arm64/kvm/psci.c"
    codes: ClassVar[Mapping[int, str]] = {
        NOT_SUPPORTED: "NOT_SUPPORTED",
        INVALID_PARAMETERS: "INVALID_PARAMETERS",
        DENIED: "DENIED",
        ALREADY_ON: "ALREADY_ON",
        -5: "ON_PENDING",
        INTERNAL_FAILURE: "INTERNAL_FAILURE",
        -7: "NOT_PRESENT",
        -8: "DISABLED",
        INVALID_ADDRESS: "INVALID_ADDRESS",
    }
    Options = Options

    @property
    def version(self) -> int:
        """The PSCI version in force."""
        stored = self.firmware.register(VERSION_REGISTER)
        return int(self.options.version) if stored is None else stored

    def implements(self, function: Function, fid: FunctionId) -> bool:
        if function.method == "system_suspend" and not self.options.system_suspend:
            return False
        if function.method == "system_reset2" and not self.options.reset2:
            return False
        if fid <= LEGACY_LAST:
            return bool(self.options.legacy_numbers)
        if function.until == V0_1 and self.options.legacy_ids:
            return True
        if function.method == "cpu_suspend_0_1":
            return False
        return function.since <= self.version <= function.until

    @fn(0x8400_0000, since=V0_2, result="version")
    def psci_version(self, call: Call) -> Answer:
        """The version of PSCI, major in the upper half."""
        return Ret.value(self.version)

    @fn(
        0x8400_0001,
        0xC400_0001,
        args=("power_state", "entry_point", "context_id"),
        since=V0_2,
        result="status",
    )
    def cpu_suspend(self, call: Call) -> Answer:
        """Wait as WFI does; KVM ignores the arguments and always comes back with SUCCESS."""
        # qemu v7.2 target/arm/psci.c: affinity level above 0 is refused.
        if self.options.strict and call.arg(1) & 0xFFFE_0000:
            return Ret.value(INVALID_PARAMETERS)
        if self.firmware.mode("suspend") != "inplace-return":
            self.host.wait(call.vcpu)
        return Ret.value(SUCCESS)

    @fn(
        0x95C1_BA5E,
        args=("power_state", "entry_point", "context_id"),
        until=V0_1,
        result="status",
        name="PSCI_0_1_CPU_SUSPEND",
    )
    def cpu_suspend_0_1(self, call: Call) -> Answer:
        """CPU_SUSPEND under its PSCI 0.1 identifier: QEMU has it, KVM in no version."""
        return self.cpu_suspend(call)

    @fn(0x8400_0002, since=V0_2, result="status")
    def cpu_off(self, call: Call) -> Answer:
        """Switch the calling CPU off; a later CPU_ON starts it afresh."""
        self.host.power_off(call.vcpu)
        return Ret.value(SUCCESS)

    @fn(
        0x8400_0003,
        0xC400_0003,
        args=("target_affinity", "entry_point", "context_id"),
        since=V0_2,
        result="status",
    )
    def cpu_on(self, call: Call) -> Answer:
        """Switch a CPU on at entry_point, with context_id in its x0."""
        target, entry, context = (self._arg(call, n) for n in (1, 2, 3))
        return Ret.value(self._cpu_on(target, entry, context))

    def _arg(self, call: Call, n: int) -> int:
        # qemu v7.2 psci.c takes all 64 bits from AArch64, whatever the identifier says.
        return call.x[n] if self.options.strict else call.arg(n)

    @fn(0x95C1_BA5F, until=V0_1, result="status", name="PSCI_0_1_CPU_OFF")
    def cpu_off_0_1(self, call: Call) -> Answer:
        """CPU_OFF under its PSCI 0.1 identifier (linux arch/arm64/include/uapi/asm/kvm.h)."""
        return self.cpu_off(call)

    @fn(
        0x95C1_BA60,
        args=("target_affinity", "entry_point", "context_id"),
        until=V0_1,
        result="status",
        name="PSCI_0_1_CPU_ON",
    )
    def cpu_on_0_1(self, call: Call) -> Answer:
        """CPU_ON under its PSCI 0.1 identifier; a CPU already on is INVALID_PARAMETERS."""
        # kvm_psci_0_1_call does not narrow the arguments: the identifier has no width bit.
        status = self._cpu_on(call.x[1], call.x[2], call.x[3])
        return Ret.value(_in_0_1(status) if self.version == V0_1 else status)

    @fn(0x0000_0001, args=("power_state",), until=V0_1, result="status", name="XEN_PSCI_CPU_OFF")
    def cpu_off_number(self, call: Call) -> Answer:
        """PSCI 0.1 CPU_OFF as Xen numbers it (xen 4.22 include/public/arch-arm.h)."""
        return self.cpu_off(call)

    @fn(
        0x0000_0002,
        args=("target_affinity", "entry_point"),
        until=V0_1,
        result="status",
        name="XEN_PSCI_CPU_ON",
    )
    def cpu_on_number(self, call: Call) -> Answer:
        """PSCI 0.1 CPU_ON as Xen numbers it: no context, and only the error codes of 0.1."""
        # do_vpsci_0_1_call narrows the target and takes all of the entry point.
        return Ret.value(_in_0_1(self._cpu_on(call.arg32(1), call.x[2], 0)))

    def _cpu_on(self, target: int, entry: int, context: int) -> int:
        if self.options.strict and entry & 3:
            return INVALID_PARAMETERS
        vcpu = self._find(target)
        if vcpu is None:
            return INVALID_PARAMETERS
        if self.options.odd_entry and entry & 1:
            return INVALID_ADDRESS
        if self.host.mp_state(vcpu) is not MpState.STOPPED:
            return ALREADY_ON
        if not self.host.may_power_on(vcpu):
            return DENIED
        self.host.power_on(vcpu, entry, context)
        return SUCCESS

    def _find(self, target: int) -> int | None:
        if self.options.loose_targets:
            # xen 4.22 arch/arm/include/asm/domain.h:vaffinity_to_vcpuid
            number = target & 0xFF | (target >> 8 & 0xFF) << 4
            return number if number < len(self.host.mpidrs()) else None
        if target & ~MPIDR_AFFINITY:
            return None
        for vcpu, mpidr in enumerate(self.host.mpidrs()):
            if mpidr & MPIDR_AFFINITY == target:
                return vcpu
        return None

    @fn(
        0x8400_0004,
        0xC400_0004,
        args=("target_affinity", "lowest_affinity_level"),
        since=V0_2,
        result="affinity",
    )
    def affinity_info(self, call: Call) -> Answer:
        """Whether any CPU of an affinity instance is on."""
        target, level = self._arg(call, 1), self._arg(call, 2)
        loose = self.options.loose_targets
        if self.options.strict and level > 0:
            return Ret.value(AFFINITY_ON)
        if loose:  # do_vpsci_0_2_call takes 32 bits of the level
            target, level = target & MPIDR_AFFINITY, call.arg32(2)
        if target & ~MPIDR_AFFINITY or level >= len(_AFFINITY_MASKS):
            return Ret.value(INVALID_PARAMETERS)
        mask = _AFFINITY_MASKS[level]
        states = [
            self.host.mp_state(vcpu)
            for vcpu, mpidr in enumerate(self.host.mpidrs())
            if mpidr & mask == target & mask
        ]
        if not states and not loose:
            return Ret.value(INVALID_PARAMETERS)
        on = any(state is not MpState.STOPPED for state in states)
        return Ret.value(AFFINITY_ON if on else AFFINITY_OFF)

    @fn(0x8400_0006, since=V0_2, result="tos")
    def migrate_info_type(self, call: Call) -> Answer:
        """Where the trusted OS lives; always "there is none, or it needs no migration"."""
        return Ret.value(TOS_NOT_PRESENT)

    @fn(0x8400_0008, since=V0_2)
    def system_off(self, call: Call) -> Answer:
        """Switch the machine off."""
        return self._system(call, exits.EventKind.SHUTDOWN, 0, _FAILED)

    @fn(0x8400_0009, since=V0_2)
    def system_reset(self, call: Call) -> Answer:
        """Reset the machine."""
        return self._system(call, exits.EventKind.RESET, 0, _FAILED)

    def _system(self, call: Call, kind: exits.EventKind, flags: int, ret: Ret) -> Answer:
        for vcpu in range(len(self.host.mpidrs())):
            self.host.power_off(vcpu)
        return exits.SystemEvent(vcpu=call.vcpu, kind=kind, flags=flags, ret=ret)

    @fn(0x8400_000A, args=("function_id",), since=V1_0)
    def psci_features(self, call: Call) -> Answer:
        """Whether a PSCI function, or SMCCC_VERSION, is there; flags of the function if so."""
        # KVM keeps the argument in 32 bits, QEMU compares all 64.
        fid = call.x[1] if self.options.strict else call.arg32(1)
        if fid == SMCCC_VERSION:
            known = self.options.smccc_feature and self.firmware.implements(fid)
            return Ret.value(SUCCESS if known else NOT_SUPPORTED)
        for function in _FUNCTIONS.get(fid, ()):
            if self.implements(function, FunctionId(fid)) and self.firmware.implements(fid):
                return Ret.value(OFF2_HIBERNATE if function.method == "system_off2" else SUCCESS)
        return Ret.not_supported()

    @fn(0x8400_000E, 0xC400_000E, args=("entry_point", "context_id"), since=V1_0)
    def system_suspend(self, call: Call) -> Answer:
        """Suspend the machine; the VMM decides, the registers stay as they are."""
        if self.options.odd_entry and call.arg(1) & 1:
            return Ret.value(INVALID_ADDRESS)
        if self.options.suspend_alone and self._others_on(call.vcpu):
            return Ret.value(DENIED)
        # kvm_psci_narrow_to_32bit narrows x1 to x3 in place, whoever looks at them afterwards.
        ret = Ret.only(call.x[0], *(call.arg(n) for n in (1, 2, 3)))
        return exits.SystemEvent(vcpu=call.vcpu, kind=exits.EventKind.SUSPEND, ret=ret)

    def _others_on(self, vcpu: int) -> bool:
        count = len(self.host.mpidrs())
        states = (self.host.mp_state(n) for n in range(count) if n != vcpu)
        return any(state is not MpState.STOPPED for state in states)

    @fn(0x8400_0012, 0xC400_0012, args=("reset_type", "cookie"), since=V1_1)
    def system_reset2(self, call: Call) -> Answer:
        """Reset with a reason: type 0 is a warm reset, bit 31 marks a vendor's own."""
        reset_type = call.arg32(1)
        if reset_type and not reset_type & RESET2_VENDOR:
            return Ret.value(INVALID_PARAMETERS)
        # kvm_psci_1_x_call writes x0 alone, so that the VMM can read type and cookie.
        ret = Ret.only(INTERNAL_FAILURE, *(call.arg(n) for n in (1, 2, 3)))
        return self._system(call, exits.EventKind.RESET, exits.FLAG_PSCI_RESET2, ret)

    @fn(0x8400_0015, 0xC400_0015, args=("off_type", "cookie"), since=V1_3)
    def system_off2(self, call: Call) -> Answer:
        """Switch off for hibernation."""
        # kvm_psci_1_x_call keeps the type in 32 bits and compares the whole cookie.
        if call.arg32(1) not in (0, OFF2_HIBERNATE) or call.arg(2):
            return Ret.value(INVALID_PARAMETERS)
        return self._system(call, exits.EventKind.SHUTDOWN, exits.FLAG_PSCI_OFF2, _FAILED)


def _in_0_1(status: int) -> int:
    """What PSCI 0.1, which has fewer error codes, says in place of a status."""
    return INVALID_PARAMETERS if status in (ALREADY_ON, INVALID_ADDRESS) else status


# Xen's 0.1 functions are none that PSCI_FEATURES knows (vpsci.c:do_psci_1_0_features).
_FUNCTIONS = {
    fid: tuple(f for f in Psci.functions() if fid in f.ids)
    for function in Psci.functions()
    for fid in function.ids
    if fid > LEGACY_LAST
}
