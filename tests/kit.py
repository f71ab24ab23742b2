"""What the tests share: a machine that records what is done to it, and calls that read as a script.

    script(el2) << CPU_ON(1, ENTRY) >> SUCCESS << CPU_ON(1, ENTRY) >> ALREADY_ON
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from emu.arm.arch import mpidr
from emu.base import exits
from emu.base.bus import Place
from emu.base.clock import Clock
from emu.base.smccc import UNDEF, Call, Conduit, Ret
from emu.machine.instrument import CallRecord, ExceptionRecord, Instrument
from emu.world.monitor import El2
from emu.world.paper import PaperHost, PaperMemory
from emu.world.service import MpState, NoMemory

SUCCESS, NOT_SUPPORTED = 0, -1
# PSCI, abi/B §B2.
INVALID_PARAMETERS, DENIED, ALREADY_ON, INTERNAL_FAILURE = -2, -3, -4, -6
INVALID_ADDRESS = -9
ON, OFF = 0, 1
ONES = 0xFFFF_FFFF_FFFF_FFFF
RECORDS = 0x090A_0000

KVM = ("kvm-4.15", "kvm-5.17", "kvm-6.1", "kvm-6.4", "kvm-6.12", "kvm-6.17", "kvm-7.2")
PROFILES = (*KVM, "qemu-tcg", "xen", "none")


class Watch(Instrument):
    """Everything there is to hear of a machine, in order."""

    def __init__(self) -> None:
        self.told: list[CallRecord | ExceptionRecord | exits.Exit] = []

    def on_call(self, record: CallRecord) -> None:
        self.told.append(record)

    def on_exception(self, record: ExceptionRecord) -> None:
        self.told.append(record)

    def on_exit(self, exit: exits.Exit) -> None:
        self.told.append(exit)

    @property
    def calls(self) -> list[CallRecord]:
        return [record for record in self.told if isinstance(record, CallRecord)]

    @property
    def exceptions(self) -> list[ExceptionRecord]:
        return [record for record in self.told if isinstance(record, ExceptionRecord)]

    @property
    def exits(self) -> list[exits.Exit]:
        return [record for record in self.told if isinstance(record, exits.Exit)]


class FakeHost:
    """A `Host` on paper; `done` lists its effects in order."""

    def __init__(
        self,
        cpus: int = 2,
        *,
        running: int = 1,
        entropy: Callable[[int], int] = lambda bits: (1 << bits) - 1,
        stolen_time: bool = True,
        mpidrs: list[int] | None = None,
        refused: tuple[int, ...] = (),
    ) -> None:
        self.refused = refused
        self.clock = Clock()
        self.done: list[tuple[Any, ...]] = []
        self.affinities = [mpidr(n) for n in range(cpus)] if mpidrs is None else mpidrs
        count = len(self.affinities)
        self.states = [MpState.RUNNABLE] * running + [MpState.STOPPED] * (count - running)
        self.stolen_time = stolen_time
        self.paper, self.stolen_cycles = PaperHost(), 0
        self._entropy = entropy

    def mpidrs(self) -> list[int]:
        return self.affinities

    def mp_state(self, vcpu: int) -> MpState:
        return self.states[vcpu]

    def power_on(self, vcpu: int, entry: int, context_id: int) -> None:
        self.states[vcpu] = MpState.RUNNABLE
        self.done.append(("on", vcpu, entry, context_id))

    def may_power_on(self, vcpu: int) -> bool:
        return vcpu not in self.refused

    def power_off(self, vcpu: int) -> None:
        self.states[vcpu] = MpState.STOPPED
        self.done.append(("off", vcpu))

    def wait(self, vcpu: int) -> None:
        self.done.append(("wait", vcpu))

    def random(self, bits: int) -> int:
        self.done.append(("random", bits))
        return self._entropy(bits)

    def registers(self, call: Call, count: int) -> tuple[int, ...]:
        return (call.x + (0,) * (count - len(call.x)))[:count]

    def map(self, place: Place) -> None:
        self.paper.map(place)

    def memory(self, address: int, size: int, align: int = 1) -> PaperMemory:
        if RECORDS <= address < 0x4000_0000 and not self.stolen_time:
            raise NoMemory(address, size, "is outside RAM")
        return self.paper.memory(address, size, align)

    def interrupt(self, vcpu: int, intid: int, level: bool) -> None:
        self.done.append(("interrupt", vcpu, intid, level))

    def stolen(self, vcpu: int) -> int:
        return self.stolen_cycles



class FakeRegisters(dict[str, int]):
    """Registers by name; `written` lists the names in the order of the writes."""

    def __init__(self, **values: int) -> None:
        super().__init__(values)
        self.written: list[str] = []

    def get(self, name: str) -> int:  # type: ignore[override]
        return super().get(name, 0)

    def set(self, name: str, value: int) -> None:
        self.written.append(name)
        self[name] = value


class FakeMemory:
    """Guest memory made of a few mapped pieces."""

    def __init__(self, pieces: Mapping[int, bytes]) -> None:
        self.pieces = {base: bytearray(data) for base, data in pieces.items()}

    def read_virtual(self, address: int, size: int) -> bytes | None:
        for base, data in self.pieces.items():
            if base <= address and address + size <= base + len(data):
                return bytes(data[address - base : address - base + size])
        return None

    def write_virtual(self, address: int, data: bytes) -> bool:
        if self.read_virtual(address, len(data)) is None:
            return False
        base = max(base for base in self.pieces if base <= address)
        self.pieces[base][address - base : address - base + len(data)] = data
        return True


class Request(NamedTuple):
    """A call that a script makes."""

    fid: int
    args: tuple[int, ...] = ()
    conduit: Conduit = Conduit.HVC
    imm: int = 0
    vcpu: int = 0

    def by_smc(self, imm: int = 0) -> Request:
        return self._replace(conduit=Conduit.SMC, imm=imm)

    def on(self, vcpu: int) -> Request:
        return self._replace(vcpu=vcpu)


class Verb(int):
    """A function identifier that makes a request when it is called."""

    def __call__(self, *args: int) -> Request:
        return Request(self, args)


VERSION = Verb(0x8400_0000)
CPU_SUSPEND, CPU_SUSPEND_32 = Verb(0xC400_0001), Verb(0x8400_0001)
CPU_OFF = Verb(0x8400_0002)
CPU_ON, CPU_ON_32 = Verb(0xC400_0003), Verb(0x8400_0003)
AFFINITY_INFO, AFFINITY_INFO_32 = Verb(0xC400_0004), Verb(0x8400_0004)
SYSTEM_OFF, SYSTEM_RESET = Verb(0x8400_0008), Verb(0x8400_0009)
FEATURES = Verb(0x8400_000A)
SYSTEM_SUSPEND = Verb(0xC400_000E)
RESET2, RESET2_32 = Verb(0xC400_0012), Verb(0x8400_0012)
OFF2, OFF2_32 = Verb(0xC400_0015), Verb(0x8400_0015)
SUSPEND_0_1, OFF_0_1, ON_0_1 = Verb(0x95C1_BA5E), Verb(0x95C1_BA5F), Verb(0x95C1_BA60)
SMCCC_VERSION, ARCH_FEATURES = Verb(0x8000_0000), Verb(0x8000_0001)
WORKAROUND_1, WORKAROUND_2 = Verb(0x8000_8000), Verb(0x8000_7FFF)
WORKAROUND_3 = Verb(0x8000_3FFF)
TRNG_VERSION, TRNG_FEATURES, TRNG_UUID = Verb(0x8400_0050), Verb(0x8400_0051), Verb(0x8400_0052)
RND32, RND64 = Verb(0x8400_0053), Verb(0xC400_0053)
PV_FEATURES, PV_ST = Verb(0xC500_0020), Verb(0xC500_0021)
VENDOR_UID, KVM_FEATURES, PTP = Verb(0x8600_FF01), Verb(0x8600_0000), Verb(0x8600_0001)


def machine(profile: str = "kvm-6.17", host: FakeHost | None = None) -> El2:
    """An El2 in front of a fake machine."""
    return El2(profile, host or FakeHost())


def ask(el2: El2, request: Request) -> Any:
    """The answer to one request."""
    return el2.hypercall(
        request.fid,
        *request.args,
        conduit=request.conduit,
        imm=request.imm,
        vcpu=request.vcpu,
    )


class script:  # noqa: N801 — read as a verb
    """`<<` makes a call, `>>` says what must come back.

    An integer stands for itself in x0 as far as the profile writes, with zero in x1–x3; a tuple
    for exactly these registers; an `EventKind` for a `SystemEvent`; `UNDEF` for itself.
    """

    def __init__(self, el2: El2) -> None:
        self._el2 = el2
        self._answer: Any = None

    def __lshift__(self, request: Request) -> script:
        self._answer = ask(self._el2, request)
        return self

    def __rshift__(self, expected: Any) -> script:
        answer = self._answer
        if isinstance(expected, exits.EventKind):
            assert isinstance(answer, exits.SystemEvent), answer
            assert answer.kind is expected
        elif expected is UNDEF:
            assert answer is UNDEF
        elif isinstance(expected, tuple):
            assert answer == expected
        else:
            whole = Ret.value(expected)
            assert answer == whole.first(self._el2.profile.reply_registers)
        return self


def check_answer(answer: Any) -> None:
    """The promise of El2: registers, an exit or UNDEF, whatever was asked."""
    if isinstance(answer, exits.Exit):
        ret = getattr(answer, "ret", ())
        assert len(ret) <= 4
        assert all(0 <= x <= ONES for x in ret)
        return
    if answer is not UNDEF:
        assert isinstance(answer, Ret)
        assert len(answer) <= 4
        assert all(0 <= x <= ONES for x in answer)
