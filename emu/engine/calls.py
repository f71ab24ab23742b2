"""HVC and SMC: one call of a Python function, and the registers it answers with.

`_calls.c` says the same in C.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from emu.base.smccc import Conduit
from emu.engine.cpu import Context, Cpu

ARGUMENTS, REPLIES = 8, 18
"""x0–x7 are read for a call; a reply writes at most x0–x17 (DEN0028)."""
MOST = (1 << 64) - 1
"""What a register holds at most."""

Hypercall = Callable[[Conduit, int, tuple[int, ...]], Any]
"""Answers a call, of its conduit, immediate and arguments, with what `check_reply` lets pass; or
with None, to stop before the next instruction."""


def check_reply(reply: object) -> None:
    """Refuse what no register can hold, as `_calls.c:write_reply` does."""
    if not isinstance(reply, tuple) or len(reply) > REPLIES:
        raise TypeError("a reply is None or a tuple of at most 18 integers")
    for value in reply:
        if not isinstance(value, int):
            raise TypeError(f"a register holds an integer, not {value!r}")
        if not 0 <= value <= MOST:
            raise OverflowError(f"a register holds 64 bits, not {value:#x}")


class Calls:
    """Has calls answered. `offset` is the syndrome's in the saved `context` (calibrate.py)."""

    def __init__(self, cpu: Cpu, context: Context, offset: int) -> None:
        self._cpu, self._lib, self._context = cpu, cpu.lib, context
        self._syndrome = ctypes.c_uint32.from_address(context.address + offset)

    def answer(self, conduit: Conduit, hypercall: Hypercall) -> bool:
        """Have the call just trapped answered; False where the answer is to stop."""
        self._lib.uc_context_save(self._cpu.handle, self._context.pointer)
        x = self._cpu.read_x(ARGUMENTS)
        reply = hypercall(conduit, self._syndrome.value & 0xFFFF, x)
        if reply is None:
            return False
        check_reply(reply)
        self._cpu.write_x(reply)
        return True
