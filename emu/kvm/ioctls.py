"""The VMM's side, as KVM has it: each ioctl under its name, with its errno.

    kvm = Kvm("kvm-6.12")
    vm = kvm.create_vm()
    vcpu = vm.create_vcpu(0)
    vcpu.init(features=(PSCI_0_2,))
    vcpu.set_one_reg(onereg.make(Group.FW_FEAT_BMAP, 0), 0)      # no TRNG
    vm.set_device_attr(VM_SMCCC_CTRL, SMCCC_FILTER, filter_bytes(0xC600_0000, 16, FWD_TO_USER))
    exit = vcpu.run()

An ioctl that fails raises `KvmError` with the errno. Underneath is the same machine that `Vm`
boots; here nothing is loaded and no vCPU runs before the VMM says so. vCPUs run one at a time,
each in its own `run()`, until something leaves the guest: `exits.Wfi` stands for a KVM_RUN that
would block. Rules are those of linux v6.17 arch/arm64/kvm (arm.c, guest.c, hypercalls.c,
pvtime.c), and of the modes of modes.py where one is chosen.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from emu.base.bus import RAM_BASE
from emu.base.errors import KvmError
from emu.kvm.abi import (
    ACTIONS,
    CAP_ARM_HVC_FW_REG_BMAP,
    CAP_ARM_HVC_TO_USER,
    CAP_ARM_MP_HALTED,
    CAP_ARM_PSCI,
    CAP_ARM_PSCI_0_2,
    CAP_ARM_PSCI_TO_USER,
    CAP_ARM_REG_SCOPE,
    CAP_ARM_SYSTEM_SUSPEND,
    CAP_MP_STATE,
    CAP_ONE_REG,
    CAP_PTP_KVM,
    CAP_STEAL_TIME,
    CAP_SYSTEM_EVENT_DATA,
    FILTER,
    MIN_IPA_BITS,
    SMCCC_FILTER,
    VM_SMCCC_CTRL,
    HostCore,
)
from emu.kvm.vcpu import KvmVcpu
from emu.machine.vm import MIB, Vm
from emu.world.policy import RegisterKind
from emu.world.profile import DEFAULT_PROFILE, Profile, load_profile
from emu.world.service import NoMemory
from emu.world.services.asyncpf import AsyncPf

PAGE_SHIFT = 12
MAX_VCPUS = 512
"""KVM_MAX_VCPUS with GICv3 (linux v6.17 arch/arm64/include/asm/kvm_host.h)."""
PAGE = 1 << PAGE_SHIFT


class Kvm:
    """/dev/kvm on a kernel of one profile.

    `host` is the core it runs on, where that is another than a Cortex-A72.
    """

    def __init__(
        self,
        profile: str | Profile = DEFAULT_PROFILE,
        modes: Mapping[str, Any] | None = None,
        host: HostCore | None = None,
    ) -> None:
        found = load_profile(profile) if isinstance(profile, str) else profile
        self.profile = found.with_modes(modes or {})
        self.host = host or HostCore()
        if self.host.levels:
            policy = self.profile.policy.with_host_levels(self.host.levels)
            self.profile = replace(self.profile, policy=policy)

    def create_vm(self, machine_type: int = 0, *, memory: int = 2 * MIB, **options: Any) -> KvmVm:
        """KVM_CREATE_VM. `memory` is RAM from 0x4000_0000 on, none when 0."""
        if machine_type and not MIN_IPA_BITS <= machine_type <= self.host.ipa_bits:
            raise KvmError(f"no VM of type {machine_type:#x} here", errno.EINVAL)
        vm = KvmVm(self, Vm(profile=self.profile, cpus=0, **options))
        if memory:
            vm.set_user_memory_region(RAM_BASE, memory)
        return vm

    def check_extension(self, capability: int | str) -> int:
        """KVM_CHECK_EXTENSION: 0 for what this kernel does not know."""
        modes, services = self.profile.modes, self.profile.services
        registers = self.profile.policy.definitions
        bitmaps = sum(r.kind is RegisterKind.BITMAP for r in registers.values())
        answers: dict[int | str, int] = {
            CAP_MP_STATE: 1,
            CAP_ONE_REG: 1,
            CAP_ARM_PSCI: 1,
            CAP_ARM_PSCI_0_2: 1,
            CAP_STEAL_TIME: int("pvtime" in services),
            CAP_PTP_KVM: int("kvm_vendor" in services),
            CAP_SYSTEM_EVENT_DATA: int(bitmaps > 0),
            CAP_ARM_SYSTEM_SUSPEND: int(bitmaps > 0),
            CAP_ARM_MP_HALTED: int(modes["suspend"] == "halted-by-vmm"),
            CAP_ARM_HVC_TO_USER: int(modes["exit.layout"] == "rfc2021"),
            CAP_ARM_PSCI_TO_USER: int(modes["exit.layout"] == "rfc2021"),
            CAP_ARM_REG_SCOPE: int(modes["fwreg.scope"] == "vm+scope-bit"),
            CAP_ARM_HVC_FW_REG_BMAP: {"none": 0, "enable-required": 1, "count": bitmaps}[
                modes["fwreg.cap"]
            ],
        }
        return answers.get(capability, 0)


class KvmVm:
    """A VM file descriptor."""

    def __init__(self, kvm: Kvm, vm: Vm) -> None:
        self.kvm, self.vm = kvm, vm
        vm.traps.takes_mmio = True
        self.vcpus: dict[int, KvmVcpu] = {}
        self.has_run = False
        self.enabled: set[int | str] = set()
        self.features: frozenset[int] | None = None

    @property
    def host(self) -> HostCore:
        """The core the VM runs on."""
        return self.kvm.host

    @property
    def modes(self) -> Mapping[str, str]:
        """The modes in force; enabling a capability may change them."""
        return self.vm.el2.profile.modes

    def check_extension(self, capability: int | str) -> int:
        """KVM_CHECK_EXTENSION on the VM."""
        return self.kvm.check_extension(capability)

    def enable_cap(self, capability: int | str, flags: int = 0) -> None:
        """KVM_ENABLE_CAP: EINVAL for what cannot be enabled."""
        if flags or not self.check_extension(capability):
            raise KvmError(f"capability {capability} cannot be enabled here", errno.EINVAL)
        enable = _ENABLE.get(capability)
        if enable is None:
            raise KvmError(f"capability {capability} needs no enabling", errno.EINVAL)
        enable(self)
        self.enabled.add(capability)

    def create_vcpu(self, identifier: int) -> KvmVcpu:
        """KVM_CREATE_VCPU: EINVAL beyond the maximum, EEXIST the second time."""
        if not 0 <= identifier < MAX_VCPUS:
            raise KvmError(f"there is no vCPU {identifier} here", errno.EINVAL)
        if identifier in self.vcpus:
            raise KvmError(f"vCPU {identifier} exists", errno.EEXIST)
        vcpu = self.vm.machine.add_vcpu(identifier)
        vcpu.admitted = vcpu.index == 0 or self.modes["cpu_on.policy"] == "allow"
        self.vcpus[identifier] = KvmVcpu(self, vcpu.index)
        return self.vcpus[identifier]

    def has_device_attr(self, group: int, attribute: int) -> None:
        """KVM_HAS_DEVICE_ATTR: ENXIO unless this kernel has it."""
        if not self.vm.profile.policy.filterable:
            # VM attributes came with the filter: the ioctl itself is unknown before 6.4.
            raise KvmError("this kernel has no VM attributes", errno.EINVAL)
        if (group, attribute) != (VM_SMCCC_CTRL, SMCCC_FILTER):
            raise KvmError(f"no VM attribute {group}/{attribute} here", errno.ENXIO)

    def set_device_attr(self, group: int, attribute: int, data: bytes | None) -> None:
        """KVM_SET_DEVICE_ATTR: the SMCCC filter (hypercalls.c:kvm_smccc_set_filter)."""
        self.has_device_attr(group, attribute)
        if data is None or len(data) != FILTER.size:
            raise KvmError("the filter cannot be read", errno.EFAULT)
        base, count, action, pad = FILTER.unpack(data)
        last = base + count - 1 & 0xFFFF_FFFF
        if any(pad):
            raise KvmError("the filter's padding is not zero", errno.EINVAL)
        empty = count == 0 and not (base == 0 and self.vm.profile.vmm.empty_filter_is_all)
        if empty or last < base or action >= len(ACTIONS):
            raise KvmError("the filter's range wraps or its action is unknown", errno.EINVAL)
        if self.has_run:
            raise KvmError("a vCPU has run: the filter is closed", errno.EBUSY)
        self.vm.el2.add_filter(base, last - base + 1, ACTIONS[action])

    def set_user_memory_region(self, base: int, size: int) -> None:
        """KVM_SET_USER_MEMORY_REGION: fresh memory at a guest-physical address."""
        if base % PAGE or size % PAGE or not size:
            raise KvmError("a memory region is made of whole pages", errno.EINVAL)
        if self.vm.engine.overlaps_ram(base, size):
            raise KvmError("memory regions do not overlap", errno.EEXIST)
        self.vm.engine.map_ram(base, size)

    def get_device_attr(self, group: int, attribute: int, data: bytes | None) -> bytes:
        """KVM_GET_DEVICE_ATTR: no VM attribute can be read back."""
        raise KvmError("a VM attribute cannot be read", errno.EINVAL)

    def write(self, address: int, data: bytes) -> None:
        """Write guest memory through the VMM's mapping."""
        self.vm.engine.write(address, data)

    def read(self, address: int, size: int) -> bytes:
        """Read guest memory through the VMM's mapping."""
        return self.vm.engine.read(address, size)

    def page_event(self, index: int, reason: int) -> None:
        """Tell a vCPU of a page event (mode asyncpf): the reason in its page, then an abort."""
        service = self.vm.el2.services.get("asyncpf")
        if not isinstance(service, AsyncPf) or index not in service.pages:
            raise KvmError(f"vCPU {index} has not asked for page events", errno.ENXIO)
        try:
            address = service.page_event(index, reason)
        except NoMemory:
            where = f"vCPU {index} named a page outside its memory"
            raise KvmError(where, errno.EFAULT) from None
        self.vm.scheduler.look_at(self.vm.machine.vcpus[index])
        self.vm.engine.inject_abort(address, self.vm.traps)

    def admit(self, index: int) -> None:
        """Grant CPU_ON of a vCPU from now on: hot-add (mode cpu_on.policy = late)."""
        if self.modes["cpu_on.policy"] == "late":
            self.vm.machine.vcpus[index].admitted = True


def _enable_suspend(vm: KvmVm) -> None:
    vm.vm.el2.set_option("psci", system_suspend=True)


def _enable_hvc_to_user(vm: KvmVm) -> None:
    vm.vm.el2.set_modes({"unknown.hvc": "exit"})


def _enable_psci_to_user(vm: KvmVm) -> None:
    required = vm.modes["psci.to_user.requires_hvc"] == "true"
    if required and CAP_ARM_HVC_TO_USER not in vm.enabled:
        raise KvmError("PSCI to user needs HVC to user first", errno.EINVAL)
    vm.vm.el2.set_modes({"psci.owner": "user-except-smccc-feature"})


def _enable_nothing(vm: KvmVm) -> None:
    """What it allows asks whether it was enabled."""


_ENABLE: Mapping[int | str, Callable[[KvmVm], None]] = {
    CAP_ARM_SYSTEM_SUSPEND: _enable_suspend,
    CAP_ARM_HVC_TO_USER: _enable_hvc_to_user,
    CAP_ARM_PSCI_TO_USER: _enable_psci_to_user,
    CAP_ARM_MP_HALTED: _enable_nothing,
    CAP_ARM_HVC_FW_REG_BMAP: _enable_nothing,
}
