"""What time above EL1 is charged, and to whom: calls by their function, and other events.

A profile of costs (trap_prices.py) says what each event takes; the engine's clock is advanced by it
and the frame of the tree that made it (tracks.py) gets a child of its own. A call is charged its
entry before it is answered, so that a service sees the time it would, and the handler and the
return behind that; one that leaves for the VMM is charged that in the handler's place, when the
answer is written.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from emu.base.smccc import MASK32, Call, Conduit
from emu.cycles.model import SIXTEENTHS

if TYPE_CHECKING:
    from emu.cycles.trap_prices import TrapPrices

SMC_KEY = 1 << 32
"""Set in the key of an SMC's frame; below it is the function identifier."""
OTHER_KEY = 1 << 40
"""Set in the key of a call's frame that is none by SMCCC; below it is which such function."""


class Event(enum.IntEnum):
    """What else is charged, as the key of its frame: behind all those of calls."""

    INTERRUPT = 2 << 32
    IPI = INTERRUPT + 1
    WAKE = INTERRUPT + 2
    CPU_ON = INTERRUPT + 3
    MMIO = INTERRUPT + 4
    """An access to a device of the VMM's."""
    GIC = INTERRUPT + 5
    """One to the interrupt controller, whose registers the hypervisor itself keeps."""


Price = tuple[int, int]
"""A key and sixteenths of a cycle, as the engine takes them."""


MOST_OTHERS = 4096
"""Our choice: functions by other ABIs that are told apart, for a guest that calls all numbers."""


class CallCost(NamedTuple):
    """What the calls of one function have cost: how many, and cycles."""

    calls: int = 0
    entry: int = 0
    handler: int = 0
    back: int = 0

    @property
    def total(self) -> int:
        """All three parts."""
        return self.entry + self.handler + self.back


class Clockwork(Protocol):
    """The engine's hooks."""

    def trap(self, key: int, sixteenths: int, begins: bool, /) -> None: ...


class _Made:
    """How many calls of one function trapped, were answered there, and by the VMM."""

    __slots__ = ("entered", "handled", "left")

    def __init__(self) -> None:
        self.entered = self.handled = self.left = 0


class Tolls:
    """What traps cost on one machine."""

    def __init__(self, costs: TrapPrices, hooks: Clockwork) -> None:
        self.costs, self._trap = costs, hooks.trap
        self._made: dict[int, _Made] = {}
        self.others: dict[int, int] = {}
        """Functions by other ABIs than SMCCC, by their ids: the how-manieth was met."""
        self._sides = {
            conduit: (entry.cycles, handler.cycles, back.cycles)
            for conduit, entry, handler, back in (
                (Conduit.HVC, costs.hvc_entry, costs.hvc_handler, costs.hvc_return),
                (Conduit.SMC, costs.smc_entry, costs.smc_handler, costs.smc_return),
            )
        }
        self._events = {
            Event.INTERRUPT: costs.interrupt.cycles, Event.IPI: costs.ipi.cycles,
            Event.WAKE: costs.wake.cycles, Event.CPU_ON: costs.cpu_on.cycles,
            Event.MMIO: costs.hvc_entry.cycles + costs.vmm.cycles + costs.hvc_return.cycles,
            Event.GIC: costs.hvc,
        }  # fmt: skip

    @property
    def calls(self) -> dict[int, CallCost]:
        """How calls were spent so far, by the key of their frame."""
        found = {}
        for key, made in self._made.items():
            entry, handler, back = self._sides[Conduit.SMC if key & SMC_KEY else Conduit.HVC]
            found[key] = CallCost(
                made.entered, made.entered * entry,
                made.handled * handler + made.left * self.costs.vmm.cycles,
                (made.handled + made.left) * back,
            )  # fmt: skip
        return found

    def enter(self, call: Call) -> None:
        """A call has trapped."""
        key = self._key(call)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = _Made()
        made.entered += 1
        self._trap(key, self._sides[call.conduit][0] * SIXTEENTHS, True)

    def leave(self, call: Call, *, by_vmm: bool = False) -> None:
        """It was answered; `by_vmm`: not where it trapped to."""
        key = self._key(call)
        made = self._made.setdefault(key, _Made())  # of a machine just loaded
        _, handler, back = self._sides[call.conduit]
        if by_vmm:
            made.left += 1
            handler = self.costs.vmm.cycles
        else:
            made.handled += 1
        self._trap(key, (handler + back) * SIXTEENTHS, False)

    def price(self, event: Event) -> Price:
        """What an event costs: its key and sixteenths."""
        return event, self._events[event] * SIXTEENTHS

    def event(self, event: Event) -> None:
        """Something else has happened."""
        self._trap(*self.price(event), True)

    def _key(self, call: Call) -> int:
        """What a call's frame is called by."""
        by = SMC_KEY if call.conduit is Conduit.SMC else 0
        if type(call) is Call:
            return call.x[0] & MASK32 | by
        place = self.others.get(call.id, MOST_OTHERS)
        if place == MOST_OTHERS > len(self.others):
            place = self.others[call.id] = len(self.others)
        return OTHER_KEY | by | place


def open_tolls(name: str, hooks: Clockwork) -> Tolls:
    """Tolls by the profile of costs of this name; EmuError where there is none."""
    from emu.cycles.trap_prices import trap_prices  # its table takes longer than a tiny guest's run

    return Tolls(trap_prices(name), hooks)
