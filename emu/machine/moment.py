"""When a running machine is saved: `--save-at first-hypercall`, `console:TEXT`, `cycle:N` or N.

`first-hypercall` is before the guest's first HVC or SMC: PC is on the instruction, and nothing
below the guest has been asked yet, so that it can go on below any profile (`Vm.begin_below`).
A deadline that falls into the block before the call is met before the call, and not behind it.

`console:TEXT` is up to 0.4 % of the time passed later than the last byte of TEXT: the console is
looked at where `next_look` says and nowhere else, so that it is the same cycle on every host.
Text that was printed before does not count: of a saved machine, only what it prints from there on.
"""

from __future__ import annotations

from typing import NamedTuple

from emu.base.errors import EmuError
from emu.machine.vm import Vm

FIRST_CALL, CONSOLE, CYCLE = "first-hypercall", "console:", "cycle:"
LOOKS = 8
"""2^8 looks at the console while the machine's time doubles; our choice."""


class Moment(NamedTuple):
    """One of: a cycle, a text on the console, the first call."""

    cycle: int | None = None
    text: bytes = b""
    first_call: bool = False

    def __str__(self) -> str:
        if self.cycle is not None:
            return f"cycle {self.cycle:,}"
        if self.first_call:
            return "its first call"
        return f"its console said {self.text.decode('utf-8', 'backslashreplace')!r}"


class Waiting:
    """One run's waiting for a moment; EmuError where the moment is over.

    `look` is the cycle at which to ask whether it has come, None where any will do.
    """

    def __init__(self, moment: Moment, vm: Vm) -> None:
        self._moment, self._vm = moment, vm
        self._printed = vm.console.printed
        self.look = self._next_look()
        calls = vm.stats().calls
        if moment.first_call and calls:
            raise EmuError(f"--save-at {FIRST_CALL}: this guest has made {calls:,} calls")
        vm.traps.stops_before_call = moment.first_call

    def has_come(self) -> bool:
        """Whether it is now; asked between two runs."""
        if self.look is None:
            return not self._vm.traps.stops_before_call
        if self._vm.clock.cycles < self.look:
            return False
        if self._moment.cycle is not None:
            return True
        self.look = self._next_look()
        return self._has_said()

    def _next_look(self) -> int | None:
        if not self._moment.text:
            return self._moment.cycle
        now = self._vm.clock.cycles
        step = 1 << max(now.bit_length() - 1 - LOOKS, LOOKS)
        return (now // step + 1) * step

    def _has_said(self) -> bool:
        console, text, before = self._vm.console, self._moment.text, self._printed
        self._printed = console.printed
        new = console.printed - before
        return new > 0 and text in console.tail(new + min(len(text) - 1, before))
