"""The machine as services see it: vCPUs, clock, entropy and stolen time. No Unicorn here.

This is the `Host` of a running VM. A service changes the state of vCPUs; the VM notices through
`changed` and acts on it before the next instruction.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from emu.arm.arch import mpidr
from emu.arm.pmu import Pmu
from emu.arm.pmu import State as PmuState
from emu.arm.timers import NEVER, Timers
from emu.base.bus import STOLEN_TIME, STOLEN_TIME_RECORD
from emu.base.clock import Clock
from emu.base.entropy import Splitmix
from emu.cycles.caches import Caches, Hierarchy
from emu.cycles.predictor import Predictor
from emu.world.service import MpState


@dataclass(slots=True)
class Start:
    """Where a vCPU that was switched on begins (abi/B §B4): everything else is at reset."""

    entry: int
    x0: int


@dataclass(slots=True)
class Vcpu:
    """One vCPU. `context` is the engine's; `start` is set while a reset is due.

    `stolen` counts the cycles it could have run while another vCPU did, as KVM's run_delay
    does. `stolen_base` is where its record lies, outside guest RAM, None without PV time, and
    `stolen_start` what the record counts from. `ready_since` is when it last became ready, None
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
    stolen_start: int | None = None
    stolen_base: int | None = None
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


class Machine:
    """The vCPUs and what they share: `last_level` is their cache, where there is a hierarchy."""

    def __init__(
        self,
        cpus: int,
        clock: Clock,
        seed: int,
        *,
        stolen_time: bool,
        predictors: bool = False,
        hierarchy: Hierarchy | None = None,
    ) -> None:
        self.clock, self._predictors, self.hierarchy = clock, predictors, hierarchy
        self.last_level = hierarchy.last_level_type()() if hierarchy else None
        self.vcpus: list[Vcpu] = []
        for index in range(cpus):
            self._add(mpidr(index), MpState.STOPPED)
        if stolen_time:
            self.place_stolen_time()
        self.changed = False
        self.entropy = Splitmix(seed)

    def place_stolen_time(self) -> None:
        """Give every vCPU its record."""
        for vcpu in self.vcpus:
            vcpu.stolen_base = STOLEN_TIME.base + vcpu.index * STOLEN_TIME_RECORD

    def forget_memory(self) -> None:
        """What vCPUs share as a reset leaves it."""
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

    def has_stolen_time(self, vcpu: int) -> bool:
        return self.vcpus[vcpu].stolen_base is not None

    def start_stolen_time(self, vcpu: int) -> int | None:
        target = self.vcpus[vcpu]
        if target.stolen_base is not None:
            target.stolen_start = target.stolen
            self.changed = True
        return target.stolen_base

    # -- what the VM does ---------------------------------------------------------------------

    def stolen_time_bytes(self, vcpu: Vcpu) -> bytes | None:
        """The record's contents, None before the guest asked for it.

        Revision u32 0, attributes u32 0, stolen time u64 in nanoseconds, then zero (DEN0057).
        """
        if vcpu.stolen_start is None:
            return None
        stolen = self.clock.nanoseconds_in(vcpu.stolen - vcpu.stolen_start)
        return bytes(8) + stolen.to_bytes(8, "little") + bytes(STOLEN_TIME_RECORD - 16)

    def next_ready(self, after: int) -> Vcpu | None:
        """The next vCPU in turn that can run, beginning behind `after` and ending with it."""
        count = len(self.vcpus)
        turn = (self.vcpus[(after + step) % count] for step in range(1, count + 1))
        return next((vcpu for vcpu in turn if vcpu.ready), None)
