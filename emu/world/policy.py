"""Who answers a call, and from which numbers: KVM's policy for hypercalls, as data.

The order is that of linux v6.17 arch/arm64/kvm/hypercalls.c:kvm_smccc_call_handler: first the
SMCCC filter, then the firmware register that elects the function, then the default-allowed
list, and what is left is denied. A `Policy` is frozen; each change makes a new one, and a
change KVM would refuse raises `PolicyError` with the errno KVM would return.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from emu.base.errors import PolicyError
from emu.base.smccc import MASK32, FunctionId


class Action(enum.StrEnum):
    """What the filter or the profile does with a call (KVM_SMCCC_FILTER_*, plus UNDEF)."""

    HANDLE = "handle"
    DENY = "deny"
    FORWARD = "forward"
    UNDEF = "undef"


class Gate(NamedTuple):
    """The bit of a firmware register that elects a function."""

    register: str
    bit: int

    def __str__(self) -> str:
        return f"{self.register} bit {self.bit}"


class RegisterKind(enum.StrEnum):
    """How a firmware register judges a write (linux v6.17 hypercalls.c:kvm_arm_set_fw_reg)."""

    BITMAP = "bitmap"
    PSCI_VERSION = "psci-version"
    WORKAROUND = "workaround"
    WORKAROUND_2 = "workaround-2"


# KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2_*: level → what kvm_arm_set_fw_reg makes of it. UNKNOWN
# counts as NOT_AVAIL, AVAIL as NOT_REQUIRED.
_WORKAROUND_2_LEVELS = {0: 0, 1: 0, 2: 3, 3: 3}
_WORKAROUND_2_AVAIL = 2
_WORKAROUND_2_ENABLED = 0x10


@dataclass(frozen=True, slots=True)
class FwReg:
    """A firmware pseudo-register: its ONE_REG id, its value at reset and what it accepts.

    `limit` is the upper limit of a bitmap, the host's level of a workaround, or the newest
    version of PSCI_VERSION; `values` lists the versions PSCI_VERSION accepts.
    """

    name: str
    id: int
    kind: RegisterKind
    reset: int
    limit: int
    values: tuple[int, ...] = ()

    def check(self, value: int) -> int:
        """Return what a write of `value` stores, or raise `PolicyError` with EINVAL."""
        if self.kind is RegisterKind.PSCI_VERSION:
            if value not in self.values:
                known = ", ".join(hex(v) for v in self.values)
                raise self._refuse(value, f"it accepts {known}")
            return value
        if self.kind is RegisterKind.BITMAP:
            if value & ~self.limit:
                raise self._refuse(value, f"only bits of {self.limit:#x} exist here")
            return value
        # A workaround level at or below the host's is accepted and not stored: reads go on
        # giving the host's (hypercalls.c:kvm_arm_set_fw_reg).
        level = value if self.kind is RegisterKind.WORKAROUND else _workaround_2_level(value)
        if not 0 <= level <= self.limit & 0xF:
            raise self._refuse(value, f"the host offers level {self.limit:#x}")
        return self.reset

    def _refuse(self, value: int, why: str) -> PolicyError:
        return PolicyError(f"{self.name} does not accept {value:#x}: {why}", errno.EINVAL)


def _workaround_2_level(value: int) -> int:
    """The level a write to WORKAROUND_2 asks for; -1 where the value is malformed."""
    level = value & ~_WORKAROUND_2_ENABLED
    if value & _WORKAROUND_2_ENABLED and level != _WORKAROUND_2_AVAIL:
        return -1
    return _WORKAROUND_2_LEVELS.get(level, -1)


@dataclass(frozen=True, slots=True)
class FilterRange:
    """A run of function identifiers and what happens to them.

    `target` names who gets a forwarded call (`FILE.py:FUNCTION`), empty for the caller of run().
    """

    base: int
    count: int
    action: Action
    target: str = ""

    @property
    def last(self) -> int:
        return self.base + self.count - 1

    def __contains__(self, fid: int) -> bool:
        return self.base <= fid <= self.last

    def overlaps(self, other: FilterRange) -> bool:
        return self.base <= other.last and other.base <= self.last

    def __str__(self) -> str:
        first, last = FunctionId(self.base), FunctionId(self.last)
        return str(first) if self.count == 1 else f"{first}-{last}"


# The Arm architecture range cannot be filtered (linux v6.7 hypercalls.c:
# kvm_smccc_filter_insert_reserved): SMCCC_VERSION and the workarounds must stay reachable.
RESERVED = (
    FilterRange(0x8000_0000, 0x1_0000, Action.HANDLE),
    FilterRange(0xC000_0000, 0x1_0000, Action.HANDLE),
)


@dataclass(frozen=True, slots=True)
class Policy:
    """The filter ranges, the firmware registers and their values, and what was withheld.

    `withheld` names features switched off on a kernel that has no register to do it with.
    `written` names the registers a VMM has written, for the rule of seed 002.
    """

    filterable: bool = False
    definitions: Mapping[str, FwReg] = field(default_factory=dict)
    values: Mapping[str, int] = field(default_factory=dict)
    ranges: tuple[FilterRange, ...] = ()
    withheld: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()

    @classmethod
    def of(cls, definitions: Mapping[str, FwReg], *, filterable: bool) -> Policy:
        """A policy at its reset values."""
        return cls(filterable, definitions, {name: r.reset for name, r in definitions.items()})

    def find(self, fid: int) -> FilterRange | None:
        """The filter range that holds `fid`, if any."""
        return next((r for r in self.ranges if fid in r), None)

    def elects(self, gate: Gate | None) -> bool:
        """Whether the gate's bit is set; a register this kernel does not have elects all."""
        if gate is None or gate.register not in self.values:
            return True
        return bool(self.values[gate.register] >> gate.bit & 1)

    def with_range(self, new: FilterRange) -> Policy:
        """Add a filter range (KVM_ARM_VM_SMCCC_FILTER), with KVM's checks in KVM's order."""
        if not self.filterable:
            raise PolicyError(
                "this profile has no SMCCC filter: it came with kvm-6.4", errno.ENXIO
            )
        if new.count < 1 or not 0 <= new.base <= new.last <= MASK32:
            raise PolicyError(f"filter range {new} is empty or leaves 32 bits", errno.EINVAL)
        if new.action is Action.UNDEF:
            raise PolicyError(f"the SMCCC filter cannot make {new} UNDEFINED", errno.EINVAL)
        if any(new.overlaps(r) for r in RESERVED):
            raise PolicyError(
                f"filter range {new} touches the Arm architecture calls, which stay with KVM",
                errno.EEXIST,
            )
        for old in self.ranges:
            if new.overlaps(old):
                raise PolicyError(f"filter range {new} overlaps {old}", errno.EEXIST)
        return replace(self, ranges=(*self.ranges, new))

    def with_register(self, name: str, value: int) -> Policy:
        """Write a firmware register before the VM has run; short names such as STD_BMAP do."""
        register = self.definition(name)
        return replace(self, values={**self.values, register.name: register.check(value)})

    def with_values(self, values: Mapping[str, int]) -> Policy:
        """The same policy with some registers holding these values, unchecked."""
        return replace(self, values={**self.values, **values})

    def with_host_levels(self, levels: Mapping[str, int]) -> Policy:
        """The same policy on a host with other workaround levels."""
        definitions = {
            name: replace(register, reset=levels[name], limit=levels[name])
            if name in levels else register
            for name, register in self.definitions.items()
        }
        known = {name: level for name, level in levels.items() if name in self.values}
        return replace(self, definitions=definitions, values={**self.values, **known})

    def with_write(self, name: str, value: int, first_write: str) -> Policy:
        """Write a register under a rule of mode fwreg.first_write (seed 002).

        "invalidate-others": the first write of any bitmap clears those not yet written;
        "invalidate-others-always": every write clears all others. A valid write sticks.
        """
        policy = self.with_register(name, value)
        register = self.definition(name)
        if register.kind is not RegisterKind.BITMAP:
            return policy
        written = self.written | {register.name}
        always = first_write == "invalidate-others-always"
        if not always and (first_write != "invalidate-others" or self.written):
            return replace(policy, written=written)
        cleared = {
            other.name: 0
            for other in self.definitions.values()
            if other.kind is RegisterKind.BITMAP and other.name != register.name
        }
        return replace(policy, written=written, values={**policy.values, **cleared})

    def definition(self, name: str) -> FwReg:
        """The register called `name`, with or without KVM_REG_ARM_, in any case."""
        wanted = name.upper().removeprefix("KVM_REG_ARM_").removeprefix("SMCCC_ARCH_")
        for register in self.definitions.values():
            if register.name.removeprefix("KVM_REG_ARM_").removeprefix("SMCCC_ARCH_") == wanted:
                return register
        known = ", ".join(r.removeprefix("KVM_REG_ARM_") for r in self.definitions) or "none"
        raise PolicyError(f"no firmware register {name} here; there is {known}", errno.ENOENT)

    def with_feature(self, feature: str, gates: frozenset[Gate], *, on: bool) -> Policy:
        """Elect or withhold a feature, by its register bits where the kernel has them."""
        policy = replace(
            self, withheld=self.withheld - {feature} if on else self.withheld | {feature}
        )
        for gate in sorted(gates):
            if gate.register in self.values:
                old = policy.values[gate.register]
                bit = 1 << gate.bit
                policy = policy.with_register(gate.register, old | bit if on else old & ~bit)
        return policy
