"""Whose turn it is: vCPUs share the one engine, `SLICE` cycles each while more than one is ready.

A run is the same on every host, since turns end by the clock of cycles alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from emu.arm.arch import PSTATE_F, VECTOR_FIQ, VECTOR_IRQ
from emu.arm.timers import NEVER
from emu.base import exits
from emu.base.exits import Exit
from emu.cycles.tolls import Event
from emu.engine.engine import Engine, Stop, Traps
from emu.machine.board import Board
from emu.machine.vcpus import Machine, Start, Vcpu

SLICE = 10_000
"""Cycles a vCPU runs before the next ready one has its turn: 10 µs, short beside a scheduler
tick, long beside the cost of a switch."""


class Leaving(Traps, Protocol):
    """Who is told of traps, and why a run of the engine came back."""

    def left(self, stop: Stop, vcpu: Vcpu) -> Exit | None:
        """The exit that ended a turn; None where the machine goes on."""


class Scheduler:
    """`current` has the engine; `only` is the one that may run, None for all.

    `pace` is asked when the machine idles for so many cycles: how many of them to let pass now.
    `listeners` hear which vCPU is about to run.
    """

    def __init__(self, engine: Engine, machine: Machine, board: Board) -> None:
        self._engine, self._machine, self._board = engine, machine, board
        self.current = machine.vcpus[0] if machine.vcpus else Vcpu(-1, 0)
        self.only: Vcpu | None = None
        self.slice_end = 0
        self.pace: Callable[[int], int] | None = None
        self.listeners: Sequence[Callable[[int], None]] = ()

    def run_until(self, deadline: int, traps: Leaving) -> Exit:
        """Run until something leaves the machine, or the clock has reached the deadline."""
        while True:
            exit = self._run_turn(deadline, traps)
            if exit is not None:
                exit.cycles = self._engine.cycles
                return exit

    def _run_turn(self, deadline: int, traps: Leaving) -> Exit | None:
        """One vCPU's turn, or what is left of it."""
        self._board.advance()
        self._board.wake()
        now = self._engine.cycles
        current = self.current
        turn_is_over = (
            now >= self.slice_end or not current.ready or current.start is not None
            or self.only not in (None, current)
        )
        vcpu = self._next_ready(current) if turn_is_over else current
        if vcpu is None:
            return self._idle(deadline)
        if now >= deadline:
            return exits.Deadline(vcpu=vcpu.index)
        if turn_is_over:
            if vcpu.start is not None:
                self._board.charge(Event.CPU_ON)
            self.enter(vcpu)
        alone = self._next_ready(vcpu) is vcpu
        self._interrupt(vcpu)
        until = min(deadline, self._board.next_event())
        stop = self._engine.run(until if alone else min(until, self.slice_end), traps)
        if alone:
            self._renew_slice()
        if stop is Stop.WFI:
            vcpu.waiting = True
        return traps.left(stop, vcpu)

    def _idle(self, deadline: int) -> Exit | None:
        """Nobody can run: time passes until something is due."""
        self._board.poll_input(idle=True)
        self._board.wake()
        if self._next_ready(self.current) is not None:
            return None
        due = self._board.next_event()
        if due == NEVER:
            return exits.Wfi(vcpu=self.current.index)
        cycles = max(min(due, deadline) - self._engine.cycles, 0)
        self._board.jump(self.pace(cycles) if self.pace else cycles)
        over = self._engine.cycles >= deadline
        return exits.Deadline(vcpu=self.current.index) if over else None

    def _interrupt(self, vcpu: Vcpu) -> None:
        """Let the vCPU that is about to run take an interrupt, or watch for it to unmask it."""
        pending = self._board.pending(vcpu)
        if pending:
            self._board.sync(vcpu)  # the line may be low again by now
            pending = self._board.pending(vcpu)
        unmasked = pending & ~self._engine.get("PSTATE") if pending else 0
        if unmasked:
            self._board.charge(Event.INTERRUPT)
            self._engine.take_interrupt(VECTOR_FIQ if unmasked & PSTATE_F else VECTOR_IRQ)
        self._engine.hooks.interrupts = pending

    def _next_ready(self, after: Vcpu) -> Vcpu | None:
        """Who runs next: the one the caller wants, or the next in turn."""
        if self.only is not None:
            return self.only if self.only.ready else None
        return self._machine.next_ready(after.index)

    def _renew_slice(self) -> None:
        """A vCPU alone begins one slice after another, wherever the caller's deadlines fall."""
        over = self._engine.cycles - self.slice_end
        if over >= 0:
            self.slice_end += (over // SLICE + 1) * SLICE

    # -- who has the engine ---------------------------------------------------------------------

    def enter(self, vcpu: Vcpu) -> None:
        """Give a vCPU the engine: its registers, a new slice; services hear of it."""
        now = self._engine.cycles
        self.slice_end = now + SLICE
        if vcpu is not self.current or vcpu.start is not None:
            self.switch(vcpu)
        vcpu.ready_since = None
        self.tell()

    def tell(self) -> None:
        """Let services know that the vCPU that has the engine is about to run."""
        for listener in self.listeners:
            listener(self.current.index)

    def look_at(self, vcpu: Vcpu) -> None:
        """Load a vCPU's registers into the engine, to look at them or to change them."""
        if vcpu is not self.current or vcpu.start is not None:
            self.switch(vcpu)

    @contextlib.contextmanager
    def lend(self, vcpu: Vcpu, *, to_write: bool = False) -> Iterator[Engine]:
        """A vCPU's registers in the engine for a moment; whose turn it is, and how long, stays."""
        if to_write and vcpu.start is not None:
            self._begin(vcpu)
        if vcpu is self.current and vcpu.start is None:
            yield self._engine
            return
        own = self._engine.new_context()
        self._engine.save(own)
        try:
            if vcpu.start is not None or vcpu.context is None:
                self._reset_registers(vcpu, vcpu.start or Start(0, 0))
            else:
                self._engine.restore(vcpu.context)
            yield self._engine
            if to_write:
                vcpu.context = vcpu.context or self._engine.new_context()
                self._engine.save(vcpu.context)
        finally:
            self._engine.take_back(own)

    def _begin(self, vcpu: Vcpu) -> None:
        """Let a vCPU that was switched on be reset now, and go on with the one that runs."""
        running, since = self.current, self.current.ready_since
        self._board.charge(Event.CPU_ON)
        self.switch(vcpu)
        if running is not vcpu:
            self.switch(running)
            running.ready_since = since

    def switch(self, vcpu: Vcpu) -> None:
        """Bring a vCPU's registers in, and put those of the other away."""
        now, leaving = self._engine.cycles, self.current
        if leaving is not vcpu:
            leaving.context = leaving.context or self._engine.new_context()
            self._engine.save(leaving.context)
            self._board.leave(leaving)
            leaving.ready_since = now if leaving.ready else None
        if vcpu.ready_since is not None:
            vcpu.stolen += now - vcpu.ready_since
        start, vcpu.start = vcpu.start, None
        if start is not None:
            self.reset_vcpu(vcpu, start)
        else:
            self._engine.restore(vcpu.context)
        self.current = vcpu
        self._board.switch_to(vcpu)
        if start is not None:
            self._engine.hooks.reset_vcpu()

    def reset_vcpu(self, vcpu: Vcpu, start: Start) -> None:
        """The state of abi/B §B4: EL1h, MMU off, DAIF masked, x0 given and the rest zero."""
        self._reset_registers(vcpu, start)
        vcpu.quieten()

    def _reset_registers(self, vcpu: Vcpu, start: Start) -> None:
        self._engine.restore(self._engine.reset_context)
        self._engine.set("VMPIDR_EL2", vcpu.mpidr)
        self._engine.set("X0", start.x0)
        self._engine.set("PC", start.entry)
