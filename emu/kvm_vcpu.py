"""A vCPU file descriptor, as KVM has it: KVM_RUN and the ioctls beside it.

Rules are those of linux v6.17 arch/arm64/kvm: arm.c for life and MP state, guest.c and
hypercalls.c for registers, pvtime.c for the stolen-time record; modes.py where a mode is chosen.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from emu import exits, onereg
from emu.arch import VCPU_REGISTERS
from emu.errors import KvmError, OneRegError, PolicyError
from emu.exits import Exit
from emu.kvm_abi import (
    ALIGNMENT,
    CAP_ARM_HVC_FW_REG_BMAP,
    CAP_ARM_MP_HALTED,
    CAP_ARM_SYSTEM_SUSPEND,
    EXIT_SMC,
    MAX_FEATURE,
    MP_STATES,
    POWER_OFF,
    PSCI_0_2,
    PVTIME_IPA,
    RFC_ARGUMENTS,
    TARGET_GENERIC_V8,
    VCPU_PVTIME_CTRL,
    HypercallExit,
)
from emu.machine import Start
from emu.onereg import SCOPE_VM, Group
from emu.policy import FwReg, Policy, RegisterKind
from emu.service import MpState
from emu.services.psci import V0_1, VERSION_REGISTER
from emu.smccc import Ret
from emu.vm import Vm


class VmFile(Protocol):
    """What a vCPU needs of the VM it belongs to (kvm.py:KvmVm)."""

    vm: Vm
    has_run: bool
    enabled: set[int | str]

    @property
    def modes(self) -> Mapping[str, str]: ...

    def check_extension(self, capability: int | str) -> int: ...


@dataclass(slots=True)
class KvmVcpu:
    """A vCPU file descriptor."""

    kvm_vm: VmFile
    index: int
    features: frozenset[int] | None = None
    halted: bool = False
    """The VMM set HALTED: the next run blocks once, as WFI does (seed 001)."""
    last_exit: Exit | None = field(default=None, repr=False)
    pvtime: int | None = None

    # -- life -----------------------------------------------------------------------------------

    def init(
        self, target: int = TARGET_GENERIC_V8, features: tuple[int, ...] = (PSCI_0_2,)
    ) -> None:
        """KVM_ARM_VCPU_INIT: reset; ENOENT for unknown features, EINVAL for other ones."""
        wanted = frozenset(features)
        if any(feature >= MAX_FEATURE for feature in wanted):
            raise KvmError("this kernel does not know such a feature", errno.ENOENT)
        if target != TARGET_GENERIC_V8 or wanted - {POWER_OFF, PSCI_0_2}:
            raise KvmError("this machine has no such target or feature", errno.EINVAL)
        if self.features is not None and self.features ^ wanted:
            raise KvmError("features cannot change once chosen", errno.EINVAL)
        self.features = wanted
        vcpu = self._vcpu
        vcpu.start, vcpu.waiting = Start(0, 0), False
        vcpu.state = MpState.STOPPED if POWER_OFF in wanted else MpState.RUNNABLE
        if PSCI_0_2 not in wanted:
            self._force_version_0_1()

    def _force_version_0_1(self) -> None:
        """Without the feature the vCPU speaks PSCI 0.1 (include/kvm/arm_psci.h)."""
        el2 = self.kvm_vm.vm.el2
        policy = el2.policy
        if VERSION_REGISTER in policy.values:
            el2.policy = policy.with_values({VERSION_REGISTER: V0_1})

    def run(self, cycles: int | None = None) -> Exit:
        """KVM_RUN: ENOEXEC before KVM_ARM_VCPU_INIT."""
        self._initialised()
        self.kvm_vm.has_run = True
        if self.halted:
            self.halted = False
            self._vcpu.waiting = True
        self.last_exit = exit = self.kvm_vm.vm.run(cycles, vcpu=self.index)
        if isinstance(exit, exits.Hypercall):
            # Merged KVM writes nothing on re-entry, the series of 2021 `ret`, which is 0 at first.
            rfc = self.kvm_vm.modes["exit.layout"] == "rfc2021"
            exit.ret = Ret.only(0) if rfc else Ret.untouched()
        return exit

    def hypercall_exit(self) -> HypercallExit:
        """kvm_run.hypercall of the exit just returned, in the layout of the mode."""
        exit = self.last_exit
        if not isinstance(exit, exits.Hypercall):
            raise KvmError("the last exit was no hypercall", errno.EINVAL)
        if self.kvm_vm.modes["exit.layout"] == "rfc2021":
            return HypercallExit(nr=exit.call.imm, args=exit.call.x[:RFC_ARGUMENTS])
        return HypercallExit(nr=int(exit.call.fid), flags=EXIT_SMC * (exit.call.conduit == "smc"))

    def answer(self, ret: int | Ret) -> None:
        """Answer that call: `ret` in x0 alone (rfc2021), or a whole `Ret`."""
        exit = self.last_exit
        if not isinstance(exit, exits.Hypercall):
            raise KvmError("the last exit was no hypercall", errno.EINVAL)
        exit.ret = Ret.only(ret) if isinstance(ret, int) else ret

    def get_mp_state(self) -> MpState:
        """KVM_GET_MP_STATE."""
        self._initialised()
        return MpState.HALTED if self.halted else self._vcpu.state

    def set_mp_state(self, state: int) -> None:
        """KVM_SET_MP_STATE: RUNNABLE, STOPPED, SUSPENDED; HALTED where the series has it."""
        self._initialised()
        if state == MpState.HALTED and CAP_ARM_MP_HALTED in self.kvm_vm.enabled:
            self.halted = True
            return
        if state not in MP_STATES or (
            state == MpState.SUSPENDED and not self.kvm_vm.check_extension(CAP_ARM_SYSTEM_SUSPEND)
        ):
            raise KvmError(f"MP state {state} cannot be set", errno.EINVAL)
        self._vcpu.state = MpState(state)
        self._vcpu.waiting = state == MpState.SUSPENDED

    @property
    def _vcpu(self) -> Any:
        return self.kvm_vm.vm.machine.vcpus[self.index]

    def _initialised(self) -> None:
        if self.features is None:
            raise KvmError("KVM_ARM_VCPU_INIT comes first", errno.ENOEXEC)

    # -- ONE_REG --------------------------------------------------------------------------------

    def get_reg_list(self) -> list[int]:
        """KVM_GET_REG_LIST: what this model keeps, in the kernel's order."""
        self._initialised()
        return [
            *(core.id for core in onereg.CORE),
            *(self._listed_id(register) for register in self._registers()),
            *(onereg.system_id(encoding) for encoding in VCPU_REGISTERS.values()),
        ]

    def get_one_reg(self, identifier: int) -> int:
        """KVM_GET_ONE_REG."""
        self._initialised()
        register = self._firmware_register(identifier)
        if isinstance(register, FwReg):
            return self._policy.values[register.name]
        if register == RAZ:
            return 0
        if self.kvm_vm.modes["regs.visibility"] != "full" and not self._visible():
            return 0
        name = self._name(identifier)
        return 0 if name in onereg.AARCH32_SPSR else self._focus().read_register(name)

    def set_one_reg(self, identifier: int, value: int) -> None:
        """KVM_SET_ONE_REG."""
        self._initialised()
        register = self._firmware_register(identifier)
        if isinstance(register, FwReg):
            self._write_firmware(register, value)
        elif register != RAZ:
            name = self._name(identifier)
            if name == "PSTATE":
                onereg.check_pstate(value)
            if name not in onereg.AARCH32_SPSR:
                self._focus().write_register(name, value)

    def _visible(self) -> bool:
        """Whether the registers may be read now; for pKVM's zeroes False, for a Realm EPERM."""
        mode = self.kvm_vm.modes["regs.visibility"]
        if mode == "zero":
            return False
        if mode == "hostcall-only" and isinstance(self.last_exit, exits.Hypercall):
            return True
        raise OneRegError("the host may not read this vCPU's registers", errno.EPERM)

    def _name(self, identifier: int) -> str:
        parts = onereg.split(identifier)
        if parts.group == Group.CORE:
            return onereg.find_core(identifier).name
        if parts.group == Group.SYSREG and parts.size == 8:
            name = _SYSTEM_NAMES.get(onereg.system_register(identifier))
            if name:
                return name
        raise OneRegError(f"no register {identifier:#x} here", errno.ENOENT)

    def _focus(self) -> Any:
        """The machine with this vCPU's registers loaded."""
        self.kvm_vm.vm.focus(self.index)
        return self.kvm_vm.vm.engine

    # -- firmware registers -----------------------------------------------------------------------

    @property
    def _policy(self) -> Policy:
        return self.kvm_vm.vm.el2.policy_of(self.index)

    def _registers(self) -> list[FwReg]:
        registers = list(self._policy.definitions.values())
        if self.kvm_vm.modes["fwreg.cap"] == "enable-required" and (
            CAP_ARM_HVC_FW_REG_BMAP not in self.kvm_vm.enabled
        ):
            return [r for r in registers if r.kind is not RegisterKind.BITMAP]
        return registers

    def _listed_id(self, register: FwReg) -> int:
        """The identifier in the list: with the mode's width, and the scope bit of series v4."""
        identifier = register.id
        if register.kind is RegisterKind.BITMAP:
            width = int(self.kvm_vm.modes["fwreg.width"]) // 8
            log2_size = width.bit_length() - 1
            identifier = identifier & ~onereg.SIZE_MASK | log2_size << onereg.SIZE_SHIFT
        if self.kvm_vm.modes["fwreg.scope"] == "vm+scope-bit":
            identifier |= SCOPE_VM
        return identifier

    def _firmware_register(self, identifier: int) -> FwReg | str | None:
        """The firmware register meant, RAZ for a reserved one, None for another group."""
        scope = SCOPE_VM if self.kvm_vm.modes["fwreg.scope"] == "vm+scope-bit" else 0
        plain = identifier & ~scope
        parts = onereg.split(plain)
        if parts.group not in (Group.FW, Group.FW_FEAT_BMAP):
            return None
        for register in self._registers():
            if self._listed_id(register) & ~scope == plain:
                return register
        if (
            parts.group == Group.FW_FEAT_BMAP
            and self.kvm_vm.modes["fwreg.first_write"] == "raz-wi-reserved"
        ):
            return RAZ
        raise OneRegError(f"no firmware register {identifier:#x} here", errno.ENOENT)

    def _write_firmware(self, register: FwReg, value: int) -> None:
        if register.name == VERSION_REGISTER:
            self._check_version(value)
            policy = self._policy.with_values({register.name: value})
        else:
            stored = register.check(value)
            self._check_after_run(register, stored)
            policy = self._policy.with_write(
                register.name, value, self.kvm_vm.modes["fwreg.first_write"]
            )
        self.kvm_vm.vm.el2.set_policy_of(self.index, policy)

    def _check_version(self, value: int) -> None:
        """0.1 only without KVM_ARM_VCPU_PSCI_0_2, the others only with it (hypercalls.c)."""
        assert self.features is not None
        known = self._policy.definitions[VERSION_REGISTER].values
        allowed = value in known if PSCI_0_2 in self.features else value == V0_1
        if not allowed:
            raise PolicyError(f"PSCI_VERSION {value:#x} cannot be chosen", errno.EINVAL)

    def _check_after_run(self, register: FwReg, stored: int) -> None:
        mode = self.kvm_vm.modes["fwreg.after_run"]
        if register.kind is not RegisterKind.BITMAP or not self.kvm_vm.has_run:
            return
        changed = stored != self._policy.values[register.name]
        if mode == "ebusy-always" or (mode == "ebusy-on-change" and changed):
            raise PolicyError(f"a vCPU has run: {register.name} is closed", errno.EBUSY)

    # -- device attributes ----------------------------------------------------------------------

    def has_device_attr(self, group: int, attribute: int) -> None:
        """KVM_HAS_DEVICE_ATTR on the vCPU: ENXIO unless this kernel has it."""
        known = (group, attribute) == (VCPU_PVTIME_CTRL, PVTIME_IPA)
        if not known or "pvtime" not in self.kvm_vm.vm.profile.services:
            raise KvmError(f"no vCPU attribute {group}/{attribute} here", errno.ENXIO)

    def set_device_attr(self, group: int, attribute: int, address: int | None) -> None:
        """KVM_SET_DEVICE_ATTR: the stolen-time record (pvtime.c:kvm_arm_pvtime_set_attr)."""
        self.has_device_attr(group, attribute)
        if address is None:
            raise KvmError("the address cannot be read", errno.EFAULT)
        if address % ALIGNMENT:
            raise KvmError("a record is 64-byte aligned", errno.EINVAL)
        if self.pvtime is not None:
            raise KvmError("the record has a place already", errno.EEXIST)
        if not self.kvm_vm.vm.engine.has_ram(address, ALIGNMENT):
            raise KvmError("no memory slot holds the record", errno.EINVAL)
        self.pvtime = address
        self._vcpu.stolen_base = address

    def get_device_attr(self, group: int, attribute: int) -> int:
        """KVM_GET_DEVICE_ATTR: all ones before it was set."""
        self.has_device_attr(group, attribute)
        return (1 << 64) - 1 if self.pvtime is None else self.pvtime


RAZ = "raz"
_SYSTEM_NAMES = {encoding: name for name, encoding in VCPU_REGISTERS.items()}
