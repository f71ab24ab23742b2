"""A vCPU file descriptor, as KVM has it: KVM_RUN and the ioctls beside it.

Rules are those of linux v6.17 arch/arm64/kvm: arm.c for life and MP state, guest.c and
hypercalls.c for registers, pvtime.c for the stolen-time record; modes.py where a mode is chosen.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from emu.arm.arch import VCPU_REGISTERS
from emu.base import exits
from emu.base.errors import KvmError, OneRegError, PolicyError
from emu.base.exits import Exit
from emu.base.smccc import Ret
from emu.kvm.abi import (
    ALIGNMENT,
    CAP_ARM_HVC_FW_REG_BMAP,
    CAP_ARM_MP_HALTED,
    CAP_ARM_SYSTEM_SUSPEND,
    EL1_32BIT,
    EXIT_SMC,
    MP_STATES,
    POWER_OFF,
    PSCI_0_2,
    PVTIME_IPA,
    RFC_ARGUMENTS,
    SVE,
    TARGET_GENERIC_V8,
    VCPU_PVTIME_CTRL,
    HostCore,
    HypercallExit,
)
from emu.machine.traps import ALL_REGISTERS
from emu.machine.vcpus import Start
from emu.machine.vm import Vm
from emu.world import onereg
from emu.world.onereg import SCOPE_VM, Group
from emu.world.policy import FwReg, Policy, RegisterKind
from emu.world.profile import VmmRules
from emu.world.service import MpState
from emu.world.services.psci import V0_1, VERSION_REGISTER
from emu.world.services.pvtime import PvTime


class VmFile(Protocol):
    """What a vCPU needs of the VM it belongs to (ioctls.py:KvmVm)."""

    vm: Vm
    has_run: bool
    enabled: set[int | str]
    features: frozenset[int] | None

    @property
    def modes(self) -> Mapping[str, str]: ...

    @property
    def host(self) -> HostCore: ...

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
    line: bool = False
    raw_pstate: int | None = None
    """PSTATE as the VMM wrote it, with bits no CPU keeps; until the vCPU runs."""

    # -- life -----------------------------------------------------------------------------------

    def init(
        self, target: int = TARGET_GENERIC_V8, features: tuple[int, ...] = (PSCI_0_2,)
    ) -> None:
        """KVM_ARM_VCPU_INIT: reset; ENOENT for unknown features, EINVAL for other ones."""
        wanted = frozenset(features)
        if target != TARGET_GENERIC_V8:
            raise KvmError("this machine has no such target", errno.EINVAL)
        self._check_features(wanted)
        self.features = wanted
        self.raw_pstate = None
        if self.kvm_vm.features is None:
            self.kvm_vm.features = wanted
        vcpu = self._vcpu
        vcpu.start, vcpu.waiting = Start(0, 0), False
        vcpu.state = MpState.STOPPED if POWER_OFF in wanted else MpState.RUNNABLE
        if PSCI_0_2 not in wanted and VERSION_REGISTER in self._policy.values:
            # The vCPU speaks PSCI 0.1, whatever the others do (include/kvm/arm_psci.h).
            self.kvm_vm.vm.el2.override(self.index, {VERSION_REGISTER: V0_1})

    def _check_features(self, wanted: frozenset[int]) -> None:
        rules = self.kvm_vm.vm.profile.vmm
        if rules.features_vm_wide:
            self._check_vm_features(wanted, rules)
        else:
            self._check_own_features(wanted, rules)

    def _check_vm_features(self, wanted: frozenset[int], rules: VmmRules) -> None:
        """One set for all vCPUs (recorded from linux 6.12: arm.c:kvm_vcpu_init_check_features)."""
        if any(feature >= rules.known_features for feature in wanted):
            raise KvmError("this kernel does not know such a feature", errno.ENOENT)
        if wanted - set(rules.supported_features) - self.kvm_vm.host.features:
            raise KvmError("this machine has no such feature", errno.EINVAL)
        others = self.kvm_vm.features
        if others is not None and (wanted ^ others) - {POWER_OFF}:
            raise KvmError("all vCPUs of a VM have the same features", errno.EINVAL)

    def _check_own_features(self, wanted: frozenset[int], rules: VmmRules) -> None:
        """Each vCPU's own, bit by bit (recorded from linux 6.1: arm.c:kvm_vcpu_set_target)."""
        for feature in sorted(wanted | (self.features or frozenset())):
            if feature in wanted and feature >= rules.known_features:
                raise KvmError("this kernel does not know such a feature", errno.ENOENT)
            if self.features is not None and (feature in wanted) != (feature in self.features):
                raise KvmError("features cannot change once chosen", errno.EINVAL)
        if wanted - set(rules.supported_features) - self.kvm_vm.host.features:
            raise KvmError("this machine has no such feature", errno.EINVAL)
        others = self.kvm_vm.features
        if others is not None and (EL1_32BIT in wanted) != (EL1_32BIT in others):
            raise KvmError("all vCPUs of a VM are 64 or all are 32 bits wide", errno.EINVAL)

    def irq_line(self, level: bool) -> None:
        """KVM_IRQ_LINE of a vCPU without an interrupt controller: it wakes, no vector is taken."""
        self.line = level
        if level and self._vcpu.state is MpState.RUNNABLE:
            self._vcpu.waiting = False

    def run(self, cycles: int | None = None) -> Exit:
        """KVM_RUN: ENOEXEC before KVM_ARM_VCPU_INIT."""
        self._initialised()
        self.kvm_vm.has_run = True
        self.raw_pstate = None
        if self.line and self._vcpu.state is MpState.SUSPENDED:
            self.last_exit = exits.SystemEvent(vcpu=self.index, kind=exits.EventKind.WAKEUP)
            return self.last_exit
        if self.halted:
            self.halted = False
            self._vcpu.waiting = True
        self.last_exit = exit = self.kvm_vm.vm.run(cycles, vcpu=self.index)
        if isinstance(exit, exits.Hypercall):
            # Merged KVM writes nothing on re-entry, the series of 2021 `ret`, which is 0 at first.
            rfc = self.kvm_vm.modes["exit.layout"] == "rfc2021"
            exit.ret = Ret.only(0) if rfc else Ret.untouched()
        elif isinstance(exit, exits.SystemEvent):
            # The VMM finds the registers already as the guest would, were it resumed.
            self._focus().write_reply(exit.ret)
            exit.ret = Ret.untouched()
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
        return MpState.HALTED if self.halted else self._vcpu.state

    def set_mp_state(self, state: int) -> None:
        """KVM_SET_MP_STATE: RUNNABLE, STOPPED, SUSPENDED; HALTED where the series has it."""
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

    # -- many registers at once, for those who drive a vCPU call by call ---------------------------

    def load(self, x: tuple[int, ...], pc: int, pstate: int) -> None:
        """Set x0 onward, PC and PSTATE."""
        self._initialised()
        engine = self._focus()
        engine.write_reply(x)
        engine.write_register("PSTATE", pstate)
        engine.set("PC", pc)

    def show(self) -> tuple[tuple[int, ...], int, int]:
        """x0 to x17, PC and PSTATE."""
        engine = self._focus()
        return engine.arguments(ALL_REGISTERS), engine.get("PC"), engine.get("PSTATE")

    def wake(self) -> bool:
        """End a wait in WFI, as a signal to the vCPU's thread does; False where it did not wait."""
        waited, self._vcpu.waiting = self._vcpu.waiting, False
        return bool(waited) and self._vcpu.ready

    def complete(self) -> None:
        """Finish an Mmio exit without going on (kvm_run.immediate_exit)."""
        self.kvm_vm.vm.vmm.settle(self.index)

    # -- ONE_REG --------------------------------------------------------------------------------

    def get_reg_list(self) -> list[int]:
        """KVM_GET_REG_LIST: what this model keeps, in the kernel's order."""
        self._initialised()
        if self.features and SVE in self.features:
            # KVM_ARM_VCPU_FINALIZE comes first; this machine has no SVE registers to finalise.
            raise KvmError("an SVE vCPU has no list before it is finalised", errno.EPERM)
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
        if name == "PSTATE" and self.raw_pstate is not None:
            return self.raw_pstate
        return 0 if name in onereg.AARCH32_SPSR else self._focus().read_register(name)

    def set_one_reg(self, identifier: int, value: int | None) -> None:
        """KVM_SET_ONE_REG; None is a value the kernel cannot read (EFAULT)."""
        self._initialised()
        if onereg.split(self._plain(identifier)).group in FIRMWARE_GROUPS:
            self._set_firmware_register(identifier, value)
            return
        name = self._name(identifier)
        if value is None:
            raise KvmError("the value cannot be read", errno.EFAULT)
        if name == "PSTATE":
            assert self.features is not None
            onereg.check_pstate(value, aarch32=EL1_32BIT in self.features)
            self.raw_pstate = value
            if value & AARCH32_STATE:
                return
        if name not in onereg.AARCH32_SPSR:
            self._focus().write_register(name, value)

    def _set_firmware_register(self, identifier: int, value: int | None) -> None:
        parts = onereg.split(self._plain(identifier))
        if value is None and parts.size == ONE_REG_SIZE:
            raise KvmError("the value cannot be read", errno.EFAULT)
        register = self._firmware_register(identifier)
        if isinstance(register, FwReg) and value is not None:
            self._write_firmware(register, value)

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
        self.kvm_vm.vm.scheduler.look_at(self._vcpu)
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

    def _plain(self, identifier: int) -> int:
        """Without the scope bit, where the mode has one."""
        scoped = self.kvm_vm.modes["fwreg.scope"] == "vm+scope-bit"
        return identifier & ~SCOPE_VM if scoped else identifier

    def _firmware_register(self, identifier: int) -> FwReg | str | None:
        """The firmware register meant, RAZ for a reserved one, None for another group."""
        plain = self._plain(identifier)
        parts = onereg.split(plain)
        if parts.group not in FIRMWARE_GROUPS:
            return None
        for register in self._registers():
            if self._plain(self._listed_id(register)) == plain:
                return register
        if (
            parts.group == Group.FW_FEAT_BMAP
            and self.kvm_vm.modes["fwreg.first_write"] == "raz-wi-reserved"
        ):
            return RAZ
        raise OneRegError(f"no firmware register {identifier:#x} here", errno.ENOENT)

    def _write_firmware(self, register: FwReg, value: int) -> None:
        el2, rule = self.kvm_vm.vm.el2, self.kvm_vm.modes["fwreg.first_write"]
        if register.name == VERSION_REGISTER:
            self._check_version(value)
            if value != V0_1:
                el2.change_policy_of(self.index, lambda p: p.with_values({register.name: value}))
            return
        self._check_after_run(register, register.check(value))
        el2.change_policy_of(self.index, lambda p: p.with_write(register.name, value, rule))

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
        service = self.kvm_vm.vm.el2.services["pvtime"]
        assert isinstance(service, PvTime)
        service.place(self.index, address)

    def get_device_attr(self, group: int, attribute: int) -> int:
        """KVM_GET_DEVICE_ATTR: all ones before it was set."""
        self.has_device_attr(group, attribute)
        return (1 << 64) - 1 if self.pvtime is None else self.pvtime


RAZ = "raz"
FIRMWARE_GROUPS = (Group.FW, Group.FW_FEAT_BMAP)
ONE_REG_SIZE = 8
AARCH32_STATE = 1 << 4
"""PSTATE.nRW, M[4]."""
_SYSTEM_NAMES = {encoding: name for name, encoding in VCPU_REGISTERS.items()}
