"""The VMM's side of a machine: exits that wait for an answer, and what answering them does."""

from __future__ import annotations

from typing import NamedTuple

from emu.arm.arch import INSN_SIZE
from emu.base import exits
from emu.base.exits import Exit, Mmio
from emu.base.smccc import MASK32, MASK64, Call, Ret, Retry, Undef
from emu.cycles.tolls import Event
from emu.engine.engine import Engine
from emu.machine.board import Board
from emu.machine.scheduler import Scheduler
from emu.machine.traps import TrapHandler
from emu.machine.vcpus import Machine, Start
from emu.world.routing import Route
from emu.world.service import MpState

ZERO_REGISTER = 31


class Waiting(NamedTuple):
    """An exit of a vCPU that waits, and the call and its route where it is a forwarded one."""

    exit: Exit
    forwarded: tuple[Call, Route] | None


class Vmm:
    """`pending` is the last exit until the machine runs on; `waiting` those of vCPUs that have not
    run on since, while others did: each vCPU has its own, as each has its kvm_run."""

    def __init__(
        self,
        engine: Engine,
        machine: Machine,
        scheduler: Scheduler,
        traps: TrapHandler,
        board: Board,
    ) -> None:
        self._engine, self._machine, self._traps, self._board = engine, machine, traps, board
        self._scheduler = scheduler
        self.pending: Exit | None = None
        self.waiting: dict[int, Waiting] = {}

    def settle(self, vcpu: int | None = None) -> None:
        """Write the reply to the exit the caller has dealt with: of one vCPU, or of every one."""
        exit, self.pending = self.pending, None
        if isinstance(exit, exits.SystemEvent | exits.Mmio | exits.Hypercall):
            self.waiting[exit.vcpu] = Waiting(exit, self._traps.forwarded)
        self._traps.forwarded = None
        for index in sorted(self.waiting) if vcpu is None else (vcpu,):
            found = self.waiting.pop(index, None)
            its = self._machine.vcpus[index]
            if found and its.start is None:  # who is reset meanwhile has nothing to wait for
                self._scheduler.look_at(its)
                self._answer(*found)

    def _answer(self, exit: Exit, forwarded: tuple[Call, Route] | None) -> None:
        if isinstance(exit, exits.SystemEvent):
            self._engine.write_reply(exit.ret)
        if isinstance(exit, exits.Mmio):
            self._complete(exit)
        if not isinstance(exit, exits.Hypercall) or forwarded is None:
            return
        call, route = forwarded
        if self._traps.tolls:
            self._traps.tolls.leave(call, by_vmm=True)
        reply = Ret.value(exit.ret) if isinstance(exit.ret, int) else exit.ret
        if isinstance(reply, Undef):
            self._engine.inject_undefined(self._traps)
        else:
            self._engine.write_reply(reply)
            if isinstance(reply, Retry):
                self._engine.make_call_again()
        if self._traps.instruments:
            self._traps.record(call, reply, route)

    def _complete(self, access: Mmio) -> None:
        """Finish a load or store the VMM has carried out: its register, and PC behind it."""
        self._board.charge(Event.MMIO)
        pc = self._engine.get("PC")
        word = int.from_bytes(self._engine.read_virtual(pc, INSN_SIZE) or bytes(4), "little")
        if not access.is_write and (target := word & 0x1F) != ZERO_REGISTER:
            self._engine.set(f"X{target}", load_result(word, access.data, access.size))
        self._engine.set("PC", pc + INSN_SIZE)

    def resume_later(self, exit: exits.SystemEvent) -> bool:
        """Honour SYSTEM_SUSPEND: this vCPU sleeps until an interrupt, then starts anew.

        False where no interrupt could wake it. The entry point and the context are still in x1
        and x2 (linux v6.17 Documentation/virt/kvm/api.rst, KVM_SYSTEM_EVENT_SUSPEND; DEN0022
        §5.1.19).
        """
        if not self._board.listens():
            return False
        _, entry, context = self._engine.arguments(3)
        vcpu = self._machine.vcpus[exit.vcpu]
        vcpu.state, vcpu.waiting = MpState.SUSPENDED, False
        vcpu.start = Start(entry, context)
        self.pending = None
        return True


def load_result(word: int, data: int, size: int) -> int:
    """What a load leaves in its register: zero- or sign-extended as opc (bits 23:22) says.

    LDR and LDRB, LDRH zero-extend (opc 01); LDRSB, LDRSH, LDRSW sign-extend to 64 bits (10) or
    to 32 (11) (DDI 0487, C4: loads and stores, register).
    """
    data &= (1 << 8 * size) - 1
    opc = word >> 22 & 3
    if opc >= 2 and data >> (8 * size - 1):
        data |= -1 << 8 * size
    return data & (MASK64 if opc != 3 else MASK32)
