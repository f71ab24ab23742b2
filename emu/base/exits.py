"""Why `Vm.run()` came back: the emulator's KVM_EXIT_* values, one dataclass each.

An exit says what happened, on which vCPU and at which cycle. A `Hypercall` waits for an
answer: its `ret` starts as NOT_SUPPORTED, is yours to replace, and is written into the guest
by the next `run()`. All others are final or merely informative, as their texts say.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from emu.base.smccc import Call, Ret, Undef


class EventKind(enum.IntEnum):
    """KVM_SYSTEM_EVENT_* (linux v6.17 include/uapi/linux/kvm.h)."""

    SHUTDOWN = 1
    RESET = 2
    CRASH = 3
    WAKEUP = 4
    SUSPEND = 5


FLAG_PSCI_RESET2 = 1 << 0
"""KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2 (linux v6.17 arch/arm64/include/uapi/asm/kvm.h)."""
FLAG_PSCI_OFF2 = 1 << 0
"""KVM_SYSTEM_EVENT_SHUTDOWN_FLAG_PSCI_OFF2 (same file)."""


@dataclass(slots=True, kw_only=True)
class Exit:
    """What every exit carries: the vCPU that left and the clock when it did."""

    vcpu: int = 0
    cycles: int = 0


@dataclass(slots=True)
class Hypercall(Exit):
    """A call the policy forwards to you (KVM_EXIT_HYPERCALL); PC is past the instruction.

    `ret` may be a `Ret`, a plain number for x0 (x1–x3 become zero), or UNDEF.
    """

    call: Call
    forward_to: str = ""
    ret: Ret | int | Undef = field(default_factory=Ret.not_supported)


@dataclass(slots=True)
class SystemEvent(Exit):
    """The guest turned the machine off, reset it or suspended it (KVM_EXIT_SYSTEM_EVENT).

    `ret` is what the guest finds in its registers if it is resumed all the same.
    """

    kind: EventKind
    flags: int = 0
    ret: Ret = field(default_factory=Ret.untouched)


@dataclass(slots=True)
class Mmio(Exit):
    """An access to an address nobody claims, left to the VMM (KVM_EXIT_MMIO).

    PC is still on the instruction; `data` is what a store writes. For a load, the VMM puts the
    value into `data`; the next run completes the instruction.
    """

    address: int
    size: int
    is_write: bool
    data: int = 0


@dataclass(slots=True)
class Semihosting(Exit):
    """The guest ended the run with SYS_EXIT or SYS_EXIT_EXTENDED; `code` is its exit status."""

    code: int


@dataclass(slots=True)
class Wfi(Exit):
    """Every vCPU waits for an interrupt or is off, and nothing is due: the machine is dead idle."""


@dataclass(slots=True)
class Deadline(Exit):
    """The cycle limit given to `run()` was reached; running again continues exactly there."""


@dataclass(slots=True)
class Fault(Exit):
    """What cannot be modelled or will not end: the reason, and where the guest was.

    `esr` and `far` are those of the last exception, None when there was none; `origin` is PC and
    ESR of the one before it, which is where a guest without vectors really went wrong.
    `instructions` holds the machine code around the first of these that could be read, as
    (address, word).
    """

    reason: str
    pc: int = 0
    esr: int | None = None
    far: int | None = None
    origin: tuple[int, int] | None = None
    last_call: Call | None = None
    instructions: tuple[tuple[int, int], ...] = ()
