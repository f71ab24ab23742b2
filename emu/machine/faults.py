"""What a `Fault` tells: where the guest was when it could not go on."""

from __future__ import annotations

from emu.arm.arch import INSN_SIZE
from emu.base.exits import Fault
from emu.base.smccc import Call
from emu.engine.engine import Engine

AROUND = 4
"""Instructions shown on each side of a fault."""


def fault_of(engine: Engine, vcpu: int, reason: str, last_call: Call | None) -> Fault:
    """The fault of the vCPU that has the engine, as things stand now."""
    last, earlier = engine.exceptions.last, engine.exceptions.earlier
    pc = engine.get("PC")
    return Fault(
        vcpu=vcpu,
        reason=reason,
        pc=pc,
        esr=last.esr if last else None,
        far=last.far if last else None,
        origin=(earlier.pc, earlier.esr) if earlier else None,
        last_call=last_call,
        instructions=code_around(engine, pc) or code_around(engine, earlier.pc if earlier else pc),
    )


def code_around(engine: Engine, pc: int) -> tuple[tuple[int, int], ...]:
    """The words on both sides of an address, as far as they are mapped."""
    words = []
    for address in range(pc - AROUND * INSN_SIZE, pc + (AROUND + 1) * INSN_SIZE, INSN_SIZE):
        word = engine.read_virtual(address, INSN_SIZE) if address >= 0 else None
        if word is not None:
            words.append((address, int.from_bytes(word, "little")))
    return tuple(words)
