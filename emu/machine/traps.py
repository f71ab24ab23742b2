"""What happens at a trap: the engine tells, EL2 answers, those who watch hear of it.

A handled call is answered inside the trap; only what leaves the machine stops it, and waits in
`Vmm` for its answer.
"""

from __future__ import annotations

from collections.abc import Callable

from emu.arm.arch import INSN_SIZE, SysReg
from emu.base import exits
from emu.base.bus import absent_device
from emu.base.exits import Exit
from emu.base.smccc import UNDEF, Call, Conduit, Ret, Retry, new_call
from emu.cycles.tolls import Event, Tolls
from emu.engine.engine import Access, Engine, Stop
from emu.engine.taken import Taken
from emu.machine.board import Board
from emu.machine.faults import fault_of
from emu.machine.instrument import CallRecord, ExceptionRecord, Instrument
from emu.machine.scheduler import Scheduler
from emu.machine.semihosting import Semihosting
from emu.machine.vcpus import Machine, Vcpu
from emu.world.monitor import Monitor
from emu.world.routing import Route
from emu.world.service import Answer

ALL_REGISTERS = 18
"""x0–x17 of a forwarded call (DEN0028 1.2)."""
ICC_SGI = tuple(SysReg(3, 0, 12, 11, op2) for op2 in (5, 6, 7))
"""ICC_SGI1R_EL1, ICC_ASGI1R_EL1, ICC_SGI0R_EL1: a write sends an interrupt (IHI 0069)."""


class TrapHandler:
    """`engine.Traps` of a machine. What may be changed: `monitor`, `instruments`, and

    `interposer`, which stands between the guest and EL2, given a call and who would answer it
    (judge/faults.py); `serve_halt`, which serves an HLT that was put somewhere (function.py);
    `takes_mmio`, whether an access nobody claims is an exit for the caller, as KVM makes it;
    `stops_before_call`, whether the next HVC or SMC is a `Deadline` with PC on it, false once it
    was.
    """

    def __init__(
        self,
        engine: Engine,
        machine: Machine,
        scheduler: Scheduler,
        board: Board,
        monitor: Monitor,
        semihosting: Semihosting,
        instruments: list[Instrument],
    ) -> None:
        self._engine, self._machine = engine, machine
        self._scheduler, self._board = scheduler, board
        self.monitor, self.instruments = monitor, instruments
        self._semihosting = semihosting
        self.tolls: Tolls | None = board.tolls
        self.interposer: Callable[[Call, Callable[[Call], Answer]], Answer] | None = None
        self.serve_halt: Callable[[int], bool] | None = None
        self.takes_mmio = self.stops_before_call = False
        self.calls = 0
        self.last_call: Call | None = None
        self.exit: Exit | None = None
        """Why the machine is to stop, until the scheduler has taken it."""
        self.forwarded: tuple[Call, Route] | None = None
        """A call that waits for the VMM's answer."""

    def left(self, stop: Stop, vcpu: Vcpu) -> Exit | None:
        """The exit that ended a turn; None where the machine goes on."""
        if stop is Stop.FAULT:
            return fault_of(self._engine, vcpu.index, self._engine.fault, self.last_call)
        exit, self.exit = self.exit, None
        return exit

    # -- calls ------------------------------------------------------------------------------------

    def hypercall(self, conduit: Conduit, imm: int, x: tuple[int, ...]) -> tuple[int, ...] | None:
        """Answer one HVC or SMC."""
        if self.stops_before_call:
            self.stops_before_call = False
            self._engine.unmake_call()
            self.exit = exits.Deadline(vcpu=self._scheduler.current.index)
            return None
        monitor = self.monitor
        kind = Call
        if imm or not monitor.usual:
            kind, count = monitor.reading(conduit, imm)
            if count > len(x):
                x = self._engine.arguments(count)
        call = new_call(kind, (x, conduit, imm, self._scheduler.current.index))
        self.calls += 1
        self.last_call = call
        if self.tolls:
            self.tolls.enter(call)
        interposer = self.interposer
        answer = interposer(call, monitor.answer) if interposer else monitor.answer(call)
        if self.tolls and not isinstance(answer, Exit):
            self.tolls.leave(call)
        if self.instruments:
            self._engine.hand_on()
            if not isinstance(answer, exits.Hypercall):
                self.record(call, answer, monitor.route_of(call))
        if type(answer) is Ret:
            if self._machine.changed:
                self._after_change()
            return answer
        if isinstance(answer, Retry):
            self._engine.make_call_again()
            return answer
        if answer is UNDEF:
            self._engine.inject_undefined(self)
            return ()
        assert isinstance(answer, Exit)
        if isinstance(answer, exits.Hypercall):
            answer.call = call._replace(x=self._engine.arguments(max(len(x), ALL_REGISTERS)))
            self.forwarded = answer.call, monitor.route_of(call)
        self.exit = answer
        return None

    def _after_change(self) -> None:
        """A service changed a vCPU: services hear of it, and the scheduler looks again."""
        self._machine.changed = False
        self._scheduler.tell()
        self._engine.stop()

    def record(self, call: Call, answer: object, route: Route) -> None:
        """Tell those who watch."""
        record = CallRecord(
            cycles=self._engine.cycles,
            instructions=self._engine.instructions,
            pc=self._engine.get("PC") - INSN_SIZE,
            call=_meant(call) if call.imm else call,
            answer=answer,
            why=route.why,
            source=route.source,
        )
        for instrument in self.instruments:
            instrument.on_call(record)

    # -- instructions that stand for calls of the host --------------------------------------------

    def semihosting(self) -> bool:
        """Serve HLT #0xF000."""
        operation, parameter = self._engine.arguments(2)
        self._engine.set("X0", self._semihosting.call(operation, parameter))
        code = self._semihosting.exit_code
        if code is not None:
            self._semihosting.exit_code = None
            self.exit = exits.Semihosting(vcpu=self._scheduler.current.index, code=code)
            self._engine.stop()
        return True

    def trap(self, pc: int) -> bool:
        """Serve an HLT that somebody has put somewhere."""
        return self.serve_halt is not None and self.serve_halt(pc)

    # -- exceptions and registers -----------------------------------------------------------------

    @property
    def watches_exceptions(self) -> bool:
        """Whether an instrument wants to hear of them: it costs each of them a call of Python."""
        deaf = Instrument.on_exception
        return any(getattr(type(i), "on_exception", deaf) is not deaf for i in self.instruments)

    def took_exception(self, taken: Taken, vector: int) -> None:
        """Tell those who watch."""
        pc, esr, far = taken
        record = ExceptionRecord(
            self._engine.cycles, self._engine.instructions, self._scheduler.current.index, pc,
            vector, esr, far,
        )  # fmt: skip
        for instrument in self.instruments:
            instrument.on_exception(record)

    def system_register(self, reg: SysReg, is_write: bool, value: int) -> int | None:
        """A register of the interrupt controller or of the performance monitor."""
        if is_write and reg in ICC_SGI:
            self._board.charge(Event.IPI)
        return self._board.system_register(reg, is_write, value)

    # -- memory -----------------------------------------------------------------------------------

    def attach(self, address: int) -> bool:
        """A device is made when the guest first reaches for it."""
        return not self.takes_mmio and self._board.attach(address)

    def absent(self, address: int) -> str | None:
        """Devices a guest may expect and this machine has not got."""
        return absent_device(address)

    def unclaimed(self, access: Access) -> bool:
        """An access nobody claims: an exit where the caller wants to see it."""
        if self.takes_mmio:
            self.exit = exits.Mmio(
                vcpu=self._scheduler.current.index,
                address=access.address,
                size=access.size,
                is_write=access.is_write,
                data=access.value if access.is_write else 0,
            )
        return self.takes_mmio


def _meant(call: Call) -> Call:
    """The call as its guest meant it; few guests use an immediate, and the rest pay nothing."""
    from emu.world.describe import meant

    return meant(call)
