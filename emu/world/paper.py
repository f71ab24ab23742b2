"""A machine on paper, for asking El2 one call at a time with no guest and no Unicorn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from emu.arm.arch import mpidr
from emu.base.bus import RAM_BASE, Place
from emu.base.clock import Clock
from emu.base.entropy import Splitmix
from emu.base.smccc import Call
from emu.world.service import MpState, NoMemory, check_line, check_window

RAM = Place("RAM", RAM_BASE, 64 << 20)
"""As much as a machine with a small image has (vm.py)."""


@dataclass(slots=True)
class PaperMemory:
    """Some of its memory: bytes that were written, and zeroes."""

    address: int
    size: int
    written: dict[int, int]

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        count = self.size - offset if size is None else size
        check_window(self, offset, count)
        start = self.address + offset
        return bytes(self.written.get(at, 0) for at in range(start, start + count))

    def write(self, data: bytes, offset: int = 0) -> None:
        check_window(self, offset, len(data))
        self.written.update(enumerate(data, self.address + offset))


@dataclass(slots=True)
class PaperHost:
    """A machine on paper: enough of a `Host` to ask El2 one call at a time, with no guest."""

    cpus: int = 1
    seed: int = 0
    clock: Clock = field(default_factory=Clock)
    states: list[MpState] = field(init=False)
    places: list[Place] = field(default_factory=lambda: [RAM])
    written: dict[int, int] = field(default_factory=dict)
    interrupts: list[tuple[int, int, bool]] = field(default_factory=list)
    _random: Splitmix = field(init=False)

    def __post_init__(self) -> None:
        self.states = [MpState.RUNNABLE] + [MpState.STOPPED] * (self.cpus - 1)
        self._random = Splitmix(self.seed)

    def mpidrs(self) -> Sequence[int]:
        return [mpidr(vcpu) for vcpu in range(self.cpus)]

    def mp_state(self, vcpu: int) -> MpState:
        return self.states[vcpu]

    def power_on(self, vcpu: int, entry: int, context_id: int) -> None:
        self.states[vcpu] = MpState.RUNNABLE

    def power_off(self, vcpu: int) -> None:
        self.states[vcpu] = MpState.STOPPED

    def wait(self, vcpu: int) -> None:
        """Nothing runs, so nothing waits."""

    def random(self, bits: int) -> int:
        return self._random.bits(bits)

    def may_power_on(self, vcpu: int) -> bool:
        return True

    def registers(self, call: Call, count: int) -> tuple[int, ...]:
        """Those the call was made with; the rest are zero."""
        return (call.x + (0,) * (count - len(call.x)))[:count]

    def map(self, place: Place) -> None:
        self.places.append(place)

    def memory(self, address: int, size: int, align: int = 1) -> PaperMemory:
        if address % align:
            raise NoMemory(address, size, f"is not aligned to {align}")
        end = address + size
        if size < 0 or not any(p.base <= address and end <= p.base + p.size for p in self.places):
            raise NoMemory(address, size, "is outside RAM")
        return PaperMemory(address, size, self.written)

    def interrupt(self, vcpu: int, intid: int, level: bool) -> None:
        check_line(vcpu, self.cpus, intid)
        self.interrupts.append((vcpu, intid, level))

    def stolen(self, vcpu: int) -> int:
        return 0
