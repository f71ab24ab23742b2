"""A machine on paper, for asking El2 one call at a time with no guest and no Unicorn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from emu.arm.arch import mpidr
from emu.base.bus import STOLEN_TIME, STOLEN_TIME_RECORD
from emu.base.clock import Clock
from emu.base.entropy import Splitmix
from emu.world.service import MpState


@dataclass(slots=True)
class PaperHost:
    """A machine on paper: enough of a `Host` to ask El2 one call at a time, with no guest."""

    cpus: int = 1
    seed: int = 0
    clock: Clock = field(default_factory=Clock)
    states: list[MpState] = field(init=False)
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

    def start_stolen_time(self, vcpu: int) -> int | None:
        return STOLEN_TIME.base + vcpu * STOLEN_TIME_RECORD

    def has_stolen_time(self, vcpu: int) -> bool:
        return True

    def may_power_on(self, vcpu: int) -> bool:
        return True
