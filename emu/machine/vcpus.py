"""The machine as services see it: vCPUs, clock, memory, interrupts, entropy. No Unicorn here.

This is the `Host` of a running VM. A service changes the state of vCPUs; the VM notices through
`changed` and acts on it before the next instruction.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from emu.arm.arch import mpidr
from emu.arm.pmu import Pmu
from emu.arm.pmu import State as PmuState
from emu.arm.timers import NEVER, Timers
from emu.base.bus import Place
from emu.base.clock import Clock
from emu.base.entropy import Splitmix
from emu.base.smccc import Call
from emu.cycles.caches import Caches, Hierarchy
from emu.cycles.predictor import Predictor
from emu.world.service import MpState, NoMemory, check_line, check_window


@dataclass(slots=True)
class Start:
    """Where a vCPU that was switched on begins (abi/B §B4): everything else is at reset."""

    entry: int
    x0: int


@dataclass(slots=True)
class Vcpu:
    """One vCPU. `context` is the engine's; `start` is set while a reset is due.

    `stolen` counts the cycles it could have run while another vCPU did, as KVM's run_delay
    does. `ready_since` is when it last became ready, None
    while it runs or sleeps. `admitted`: a CPU_ON of it is granted (vCPU hot-add). `lines` are
    the timers whose interrupt lines are high, 4 stands for the performance monitor's, and
    `alarm` is when the next timer goes (board.py). `predictor` is there where branches are timed,
    `caches` where memory is.
    """

    index: int
    mpidr: int
    state: MpState = MpState.STOPPED
    waiting: bool = False
    start: Start | None = None
    context: Any = field(default=None, repr=False)
    stolen: int = 0
    ready_since: int | None = None
    admitted: bool = True
    timers: Timers = field(default_factory=Timers, repr=False)
    predictor: Predictor | None = field(default=None, repr=False)
    caches: Caches | None = field(default=None, repr=False)
    pmu: Pmu = field(default_factory=lambda: Pmu(PmuState()), repr=False)
    lines: int = 0
    alarm: int = NEVER

    def quieten(self) -> None:
        """Timers and performance monitor as a reset leaves them.

        linux v6.17 arch/arm64/kvm/arch_timer.c:kvm_timer_vcpu_reset, pmu-emul.c:
        kvm_pmu_vcpu_reset.
        """
        self.timers.ctl[:] = 0, 0
        if self.predictor is not None:
            self.predictor.clear()
        if self.caches is not None:
            self.caches.clear()
        self.pmu = Pmu(PmuState(), self.pmu.events)

    @property
    def ready(self) -> bool:
        """Whether it could run now."""
        return self.state is MpState.RUNNABLE and not self.waiting


class GuestMemory(Protocol):
    """All RAM there is, by guest-physical addresses (engine/memory.py)."""

    def has(self, address: int, size: int) -> bool: ...

    def read(self, address: int, size: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...


class Window(NamedTuple):
    """Some of it, as a service is shown it."""

    memory: GuestMemory
    address: int
    size: int

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        count = self.size - offset if size is None else size
        check_window(self, offset, count)
        return self.memory.read(self.address + offset, count)

    def write(self, data: bytes, offset: int = 0) -> None:
        check_window(self, offset, len(data))
        self.memory.write(self.address + offset, data)


class Machine:
    """The vCPUs and what they share: `last_level` is their cache, where there is a hierarchy."""

    def __init__(
        self,
        cpus: int,
        clock: Clock,
        seed: int,
        *,
        memory: GuestMemory,
        registers: Callable[[int], tuple[int, ...]],
        predictors: bool = False,
        hierarchy: Hierarchy | None = None,
    ) -> None:
        self.clock, self._predictors, self.hierarchy = clock, predictors, hierarchy
        self.last_level = hierarchy.last_level_type()() if hierarchy else None
        self.vcpus: list[Vcpu] = []
        for index in range(cpus):
            self._add(mpidr(index), MpState.STOPPED)
        self.changed = False
        self.entropy = Splitmix(seed)
        self._memory, self._registers = memory, registers
        self.regions: list[Place] = []
        """Memory that services have asked for (vm.py maps it)."""
        self.drive: Callable[[int, int, bool], None] | None = None
        """Drives an interrupt line of a vCPU; the board's."""

    def reset(self) -> None:
        """Every vCPU off, and what they share as a reset leaves it."""
        for vcpu in self.vcpus:
            vcpu.state, vcpu.waiting, vcpu.start = MpState.STOPPED, False, None
            vcpu.ready_since = None
            vcpu.quieten()
            vcpu.lines = 0
        if self.last_level is not None:
            ctypes.memset(self.last_level, 0, ctypes.sizeof(self.last_level))

    # -- what services ask (`Host`) -------------------------------------------------------------

    def add_vcpu(self, identifier: int) -> Vcpu:
        """One more vCPU, runnable as KVM makes it; its MPIDR follows from the identifier."""
        return self._add(mpidr(identifier), MpState.RUNNABLE)

    def _add(self, mpidr: int, state: MpState) -> Vcpu:
        timers = Timers(rate=self.clock.rate)
        predictor = Predictor() if self._predictors else None
        caches = Caches() if self.hierarchy else None
        vcpu = Vcpu(
            len(self.vcpus), mpidr, state, timers=timers, predictor=predictor, caches=caches
        )
        self.vcpus.append(vcpu)
        return vcpu

    def mpidrs(self) -> Sequence[int]:
        return [vcpu.mpidr for vcpu in self.vcpus]

    def mp_state(self, vcpu: int) -> MpState:
        return self.vcpus[vcpu].state

    def power_on(self, vcpu: int, entry: int, context_id: int) -> None:
        target = self.vcpus[vcpu]
        target.state, target.waiting = MpState.RUNNABLE, False
        target.start = Start(entry, context_id)
        target.ready_since = self.clock.cycles
        self.changed = True

    def may_power_on(self, vcpu: int) -> bool:
        return self.vcpus[vcpu].admitted

    def power_off(self, vcpu: int) -> None:
        target = self.vcpus[vcpu]
        target.state, target.ready_since = MpState.STOPPED, None
        self.changed = True

    def wait(self, vcpu: int) -> None:
        self.vcpus[vcpu].waiting = True
        self.changed = True

    def random(self, bits: int) -> int:
        return self.entropy.bits(bits)

    def registers(self, call: Call, count: int) -> tuple[int, ...]:
        return self._registers(count)

    def map(self, place: Place) -> None:
        self.regions.append(place)

    def memory(self, address: int, size: int, align: int = 1) -> Window:
        if address % align:
            raise NoMemory(address, size, f"is not aligned to {align}")
        if size < 0 or not self._memory.has(address, size):
            raise NoMemory(address, size, "is outside RAM")
        return Window(self._memory, address, size)

    def interrupt(self, vcpu: int, intid: int, level: bool) -> None:
        check_line(vcpu, len(self.vcpus), intid)
        if self.drive is not None:
            self.drive(vcpu, intid, level)

    def stolen(self, vcpu: int) -> int:
        return self.vcpus[vcpu].stolen

    # -- what the VM does ---------------------------------------------------------------------

    def next_ready(self, after: int) -> Vcpu | None:
        """The next vCPU in turn that can run, beginning behind `after` and ending with it."""
        count = len(self.vcpus)
        turn = (self.vcpus[(after + step) % count] for step in range(1, count + 1))
        return next((vcpu for vcpu in turn if vcpu.ready), None)
