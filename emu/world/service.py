"""What a service is, and all that it may touch.

A service is a class whose methods answer function identifiers. Identifier, arguments, the
register bit that elects the function and the meaning of its result are declared in one
`@fn(...)` beside the code, so that dispatch, FEATURES answers, the trace and `explain` derive
from one line. A service sees the machine through `Host` and the rest of the firmware through
`Firmware`; it returns a `Ret`, an `Exit` or `UNDEF` and reaches nothing else.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from emu.base.abi import is_abi
from emu.base.bus import Place
from emu.base.clock import Clock
from emu.base.errors import EmuError, ProfileError
from emu.base.exits import Exit
from emu.base.smccc import SUCCESS, Call, FunctionId, Ret, Undef
from emu.world.policy import Gate

Answer = Ret | Exit | Undef
Handler = Callable[[Call], Answer]
_Method = TypeVar("_Method", bound=Callable[[Any, Call], Answer])


class MpState(enum.IntEnum):
    """KVM_MP_STATE_* (linux v6.17 include/uapi/linux/kvm.h)."""

    RUNNABLE = 0
    HALTED = 3
    STOPPED = 5
    SUSPENDED = 10


class Host(Protocol):
    """The machine as a service sees it. vCPUs are named by index, 0 for the boot CPU."""

    @property
    def clock(self) -> Clock: ...

    def mpidrs(self) -> Sequence[int]:
        """MPIDR_EL1 of each vCPU, in index order."""

    def mp_state(self, vcpu: int) -> MpState: ...

    def power_on(self, vcpu: int, entry: int, context_id: int) -> None:
        """Reset a STOPPED vCPU to start at `entry` with x0 = `context_id`."""

    def may_power_on(self, vcpu: int) -> bool:
        """Whether the VMM grants a CPU_ON of this vCPU (mode cpu_on.policy)."""

    def power_off(self, vcpu: int) -> None:
        """Stop a vCPU before its next instruction."""

    def wait(self, vcpu: int) -> None:
        """Suspend a vCPU as WFI does, until an interrupt wakes it."""

    def random(self, bits: int) -> int:
        """That many bits from the seeded generator."""

    def registers(self, call: Call, count: int) -> tuple[int, ...]:
        """x0 onward of the vCPU that makes this call, at most x0–x30, while it is answered."""

    def memory(self, address: int, size: int, align: int = 1) -> Memory:
        """Guest memory at a guest-physical address, as its stage 2 has it.

        `NoMemory` where any of it is outside, or the address is no multiple of `align`: left
        alone, the service's `no_memory` answers the call.
        """

    def map(self, place: Place) -> None:
        """A service's region of memory: it is there where a guest is booted."""

    def interrupt(self, vcpu: int, intid: int, level: bool) -> None:
        """Drive an interrupt line: PPI 16–31 of this vCPU, or SPI 32 onward (IHI 0069).

        EmuError for an INTID that is no line.
        """

    def stolen(self, vcpu: int) -> int:
        """Cycles so far in which the vCPU could have run, and another did."""


class Memory(Protocol):
    """A run of guest memory; offsets count from its beginning."""

    @property
    def address(self) -> int: ...

    @property
    def size(self) -> int: ...

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        """What lies there, to the end unless told how much."""

    def write(self, data: bytes, offset: int = 0) -> None:
        """Write there; not what the guest executes."""


class NoMemory(EmuError):
    """A service has asked for guest memory that is not there; `address`, `size` say which."""

    def __init__(self, address: int, size: int, why: str) -> None:
        super().__init__(f"guest memory {address:#x}..{address + size:#x} {why}")
        self.address, self.size = address, size


class Firmware(Protocol):
    """The rest of EL2 as a service sees it."""

    def register(self, name: str) -> int | None:
        """The value of a firmware register, None if this profile has none of that name."""

    def implements(self, fid: int) -> bool:
        """Whether a call with this identifier would reach a service."""

    def mode(self, key: str) -> str:
        """The value of a mode (modes.py)."""


def check_window(memory: Memory, offset: int, size: int) -> None:
    """`NoMemory` for what lies outside a run of guest memory."""
    if offset < 0 or size < 0 or offset + size > memory.size:
        whole = f"is outside {memory.address:#x}..{memory.address + memory.size:#x}"
        raise NoMemory(memory.address + offset, size, whole)


FIRST_LINE, LAST_LINE = 16, 1019
"""INTIDs of lines: PPIs and SPIs; those below are sent, those above are special (IHI 0069)."""


def check_line(vcpu: int, vcpus: int, intid: int) -> None:
    """Refuse an INTID that is no interrupt line, and a vCPU that there is not."""
    if not 0 <= vcpu < vcpus:
        raise EmuError(f"there is no vCPU {vcpu} to interrupt: there are {vcpus}")
    if not FIRST_LINE <= intid <= LAST_LINE:
        raise EmuError(f"INTID {intid} is no line: PPIs are 16 to 31, SPIs 32 to {LAST_LINE}")


@dataclass(frozen=True, slots=True)
class Function:
    """One function of a service, as declared.

    `args` names x1 onward; `result` says how x0 reads when it is not negative: "" a plain
    value, "version", "address", "hex", or one of `RESULT_NAMES`. `registers` is how many its
    result takes, however few the profile writes otherwise. `since` and `until` bound the
    interface version (PSCI's) that has it. `feature` is what `--services` calls it. `reads` is how
    many registers from x0 on the handler wants to see in `call.x`, 0 for as many as its ABI reads.
    """

    ids: tuple[int, ...]
    name: str
    method: str
    args: tuple[str, ...]
    gate: Gate | None
    feature: str
    result: str
    since: int
    until: int
    doc: str
    registers: int = 1
    reads: int = 0


MOST_REGISTERS = 31
"""x0–x30."""
RESULT_NAMES: Mapping[str, Mapping[int, str]] = {
    "status": {SUCCESS: "SUCCESS"},
    "affinity": {0: "ON", 1: "OFF", 2: "ON_PENDING"},
    "tos": {0: "UP_MIGRATABLE", 1: "UP_NOT_MIGRATABLE", 2: "NOT_PRESENT_OR_MP"},
    "workaround": {0: "REQUIRED_OR_PRESENT", 1: "NOT_AFFECTED"},
}
"""Names of non-negative results: DEN0022 and DEN0028 through abi/A §A3 and abi/B §B1."""


def fn(
    *ids: int,
    args: Sequence[str] = (),
    gate: Gate | None = None,
    feature: str = "",
    result: str = "",
    registers: int = 1,
    since: int = 0,
    until: int = 0xFFFF_FFFF,
    name: str = "",
    reads: int = 0,
) -> Callable[[_Method], _Method]:
    """Declare that a method answers `ids`; its name in capitals is the function's name.

    `ids` are numbers of the service's ABI: function identifiers for SMCCC.
    """
    if not 0 <= reads <= MOST_REGISTERS:
        raise ValueError(f"a call has at most {MOST_REGISTERS} registers, x0 to x30")

    def declare(method: _Method) -> _Method:
        doc = (method.__doc__ or "").strip()
        method.__dict__["function"] = Function(
            ids=ids,
            name=name or method.__name__.upper(),
            method=method.__name__,
            args=tuple(args),
            gate=gate,
            feature=feature,
            result=result,
            since=since,
            until=until,
            doc=doc,
            registers=registers,
            reads=reads,
        )
        return method

    return declare


class Service:
    """The base of every service. `name` is its table in a profile, `codes` names its errors.

    A subclass may declare a frozen dataclass `Options`; its fields are the keys the profile's
    `[services.NAME]` table may hold, and an instance of it is `self.options`. What a service must
    remember from call to call is one dataclass `State` whose defaults are the reset values;
    `self.state` is an instance of it, and a snapshot saves it (state.py).
    """

    name: ClassVar[str] = ""
    source: ClassVar[str] = ""
    codes: ClassVar[Mapping[int, str]] = {}
    abi: ClassVar[type[Call]] = Call
    """By which convention it is called: `Call` itself is SMCCC, abis/ has others."""
    no_memory: ClassVar[Ret | None] = None
    """What a call gets whose guest memory is not there: the interface's own error."""
    regions: ClassVar[Sequence[Place]] = ()
    """Guest memory of its own outside RAM, mapped where a guest is booted."""
    Options: ClassVar[type[Any] | None] = None
    State: ClassVar[type[Any] | None] = None
    _functions: ClassVar[tuple[Function, ...]] = ()

    def __init__(
        self, host: Host, firmware: Firmware, options: Mapping[str, Any] | None = None
    ) -> None:
        self.host = host
        self.firmware = firmware
        self.options: Any = self.parse_options(options or {})
        self.state: Any = self.State() if self.State else None

    @classmethod
    def parse_options(cls, table: Mapping[str, Any]) -> Any:
        """Turn a profile's table into `Options`; an unknown or mistyped key is refused."""
        known = {f.name: f for f in dataclasses.fields(cls.Options)} if cls.Options else {}
        for key, value in table.items():
            if key not in known:
                raise ProfileError(
                    f"service {cls.name} has no option {key} (it has {', '.join(known) or 'none'})"
                )
            default = known[key].default
            wanted = list if isinstance(default, tuple) else type(default)
            if type(value) is not wanted:
                raise ProfileError(
                    f"option {key} of service {cls.name} is of type {wanted.__name__}"
                )
        if cls.Options is None:
            return None
        return cls.Options(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})

    @classmethod
    def functions(cls) -> tuple[Function, ...]:
        """Every function the class declares, in the order of declaration."""
        # Kept with the class: a test matrix makes a thousand machines of the same services.
        if "_functions" not in vars(cls):
            cls._functions = tuple(cls._find_functions())
        return cls._functions

    @classmethod
    def _find_functions(cls) -> Iterator[Function]:
        found: dict[str, Function] = {}
        for base in reversed(cls.__mro__):
            for key, value in vars(base).items():
                function = getattr(value, "__dict__", {}).get("function")
                if isinstance(function, Function):
                    found[key] = function
        for function in found.values():
            ids = function.ids
            if is_abi(cls.abi):
                ids = tuple(map(cls.abi.id_of, ids))
            yield dataclasses.replace(function, ids=ids, feature=function.feature or cls.name)

    def implements(self, function: Function, fid: FunctionId) -> bool:
        """Whether this function exists in the version and options chosen."""
        return True

    def entered(self, vcpu: int) -> None:
        """A vCPU is about to run again, after another did or after a call changed the machine."""

    def reset(self) -> None:
        """The machine starts again."""
        if self.State is not None:
            self.state = self.State()
