"""Unicorn's hooks in Python, and what they share with the rest of the engine.

`PythonHooks` counts, compares the deadline, reads the counter registers and turns an HVC or SMC
into one call of a Python function; `_native.c` says the same in C, and a test holds the two to
one result. It decides nothing. Hooks are registered with Unicorn's library directly: a call
through its Python class for every block costs more than the block.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

from emu import arch
from emu.errors import EngineError
from emu.smccc import Conduit

INTR_UNDEFINED, INTR_SVC, INTR_PREFETCH_ABORT, INTR_DATA_ABORT = 1, 2, 3, 4
INTR_BRK, INTR_HVC, INTR_SMC = 7, 11, 13
"""Exception numbers in an INTR hook (unicorn 2.1.4 qemu/target/arm/cpu.h: EXCP_*)."""
HOOK_INTR, HOOK_INSN, HOOK_BLOCK = 1 << 0, 1 << 1, 1 << 3
INS_MRS = 1
"""unicorn 2.1.4 include/unicorn/unicorn.h: uc_hook_type; arm64.h: UC_ARM64_INS_MRS."""
NEVER = (1 << 64) - 1
ARGUMENTS, REPLIES = 8, 18
"""x0–x7 are read for a call; a reply writes at most x0–x17 (DEN0028)."""

INTR_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)
_BLOCK = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p
)
_MRS = ctypes.CFUNCTYPE(
    ctypes.c_uint32, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_uint32),
    ctypes.c_void_p,
)  # fmt: skip


class Layout(NamedTuple):
    """Offsets in Unicorn's context, from its own address."""

    size: int
    syndrome: int
    fault_address: int
    exclusive_address: int


def code_address(callback: Any) -> ctypes.c_void_p:
    """Where C finds a callback. `ctypes.cast` would tie it into a reference cycle."""
    return ctypes.c_void_p.from_address(ctypes.addressof(callback))


class Unicorn(NamedTuple):
    """Unicorn's library, one instance of it, and the register numbers the hooks need."""

    lib: Any
    handle: Any
    registers: tuple[int, ...]
    pc: int

    def require(self, error: int) -> None:
        """Refuse to go on after an error that should not be possible."""
        if error:
            raise EngineError(f"Unicorn: {self.lib.uc_strerror(error).decode()}")

    def hook(self, kind: int, callback: Any, *extra: Any) -> None:
        """Register a hook for all addresses."""
        handle = ctypes.c_size_t()
        self.require(
            self.lib.uc_hook_add(
                self.handle, ctypes.byref(handle), kind, code_address(callback), None,
                ctypes.c_uint64(1), ctypes.c_uint64(0), *extra,
            )
        )  # fmt: skip


class Context:
    """One vCPU's registers in Unicorn's own form; freed with the object."""

    __slots__ = ("_lib", "pointer")

    def __init__(self, unicorn: Unicorn) -> None:
        self._lib = unicorn.lib
        self.pointer = ctypes.c_void_p()
        unicorn.require(self._lib.uc_context_alloc(unicorn.handle, ctypes.byref(self.pointer)))

    @property
    def address(self) -> int:
        value = self.pointer.value
        assert value is not None
        return value

    def __del__(self) -> None:
        self._lib.uc_context_free(self.pointer)


class PythonHooks:
    """The hooks without a compiler."""

    def __init__(
        self, unicorn: Unicorn, context: Context, layout: Layout, cycles_per_tick: int
    ) -> None:
        self.instructions = self.cycles = 0
        self.deadline = NEVER
        self.asked = self.late = False
        self._lib, self._uch = unicorn.lib, unicorn.handle
        self._context, self._pc = context, unicorn.pc
        self._syndrome = ctypes.c_uint32.from_address(context.address + layout.syndrome)
        self._tick = cycles_per_tick
        self._block_start = self._block_size = 0
        self._ids = (ctypes.c_int32 * REPLIES)(*unicorn.registers)
        self._values = (ctypes.c_uint64 * REPLIES)()
        base = ctypes.addressof(self._values)
        self._places = (ctypes.c_void_p * REPLIES)(*(base + 8 * n for n in range(REPLIES)))
        self._failure: BaseException | None = None
        # The callbacks find the hooks through this cell, filled only while start() runs, so
        # that no reference cycle keeps a finished engine and its memory alive.
        self._running: list[Any] = []
        self._callbacks = self._make_callbacks(self._running)
        unicorn.hook(HOOK_BLOCK, self._callbacks[0])
        unicorn.hook(HOOK_INTR, self._callbacks[1])
        unicorn.hook(HOOK_INSN, self._callbacks[2], ctypes.c_int(INS_MRS))

    @staticmethod
    def _make_callbacks(running: list[Any]) -> tuple[Any, Any, Any]:
        def on_block(_uc: int, address: int, size: int, _user: int) -> None:
            running[0]._on_block(address, size)

        def on_interrupt(_uc: int, intno: int, _user: int) -> None:
            running[0]._on_interrupt(intno, running[1], running[2])

        def on_mrs(_uc: int, destination: int, reg: Any, _user: int) -> int:
            return int(running[0]._on_mrs(destination, *reg[0:5]))

        return _BLOCK(on_block), INTR_CALLBACK(on_interrupt), _MRS(on_mrs)

    def start(
        self, pc: int, until: int, hypercall: Callable[..., Any], exception: Callable[[int], Any]
    ) -> int:
        """Run guest code until Unicorn stops; returns its uc_err."""
        self.asked = self.late = False
        self._running[:] = self, hypercall, exception
        try:
            error = int(self._lib.uc_emu_start(self._uch, pc, until, 0, 0))
        finally:
            self._running.clear()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return error

    def stop(self) -> None:
        """Ask the running start() to return after this hook."""
        self.asked = True
        self._lib.uc_emu_stop(self._uch)

    def refund(self, pc: int) -> None:
        """Take back the part of the current block that starts at pc."""
        unexecuted = self.cycles - self._cycles_at(pc)
        self.cycles -= unexecuted
        self.instructions -= unexecuted
        self._block_size -= unexecuted * arch.INSN_SIZE

    def _cycles_at(self, pc: int) -> int:
        inside = pc - self._block_start
        if not 0 <= inside <= self._block_size:
            return self.cycles
        return self.cycles - (self._block_size - inside) // arch.INSN_SIZE

    def _on_block(self, address: int, size: int) -> None:
        if self.cycles >= self.deadline:
            self.late = True
            self._lib.uc_emu_stop(self._uch)
            return
        self._block_start, self._block_size = address, size
        self.instructions += size // arch.INSN_SIZE
        self.cycles += size // arch.INSN_SIZE

    def _on_mrs(
        self, destination: int, crn: int, crm: int, op0: int, op1: int, op2: int
    ) -> bool:
        register = arch.SysReg(op0, op1, crn, crm, op2)
        if register not in (arch.CNTPCT_EL0, arch.CNTVCT_EL0):
            return False
        value = ctypes.c_uint64()
        self._lib.uc_reg_read(self._uch, self._pc, ctypes.byref(value))
        value.value = self._cycles_at(value.value) // self._tick
        self._lib.uc_reg_write(self._uch, destination, ctypes.byref(value))
        return True

    def _on_interrupt(
        self, intno: int, hypercall: Callable[..., Any], exception: Callable[[int], Any]
    ) -> None:
        if self._failure is not None:
            return
        try:
            if intno in (INTR_HVC, INTR_SMC):
                self._on_hypercall(intno, hypercall)
            else:
                exception(intno)
        except BaseException as failure:
            self._failure = failure
            self.stop()

    def _on_hypercall(self, intno: int, hypercall: Callable[..., Any]) -> None:
        self._lib.uc_context_save(self._uch, self._context.pointer)
        self._lib.uc_reg_read_batch(self._uch, self._ids, self._places, ARGUMENTS)
        conduit = Conduit.HVC if intno == INTR_HVC else Conduit.SMC
        values = self._values
        reply = hypercall(conduit, self._syndrome.value & 0xFFFF, tuple(values[:ARGUMENTS]))
        if reply is None:
            self.stop()
        elif reply:
            values[: len(reply)] = reply
            self._lib.uc_reg_write_batch(self._uch, self._ids, self._places, len(reply))
