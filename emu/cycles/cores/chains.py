"""Which blocks walk along a list: a load whose address comes from its own last result.

A function of the block's bytes, taken for one that runs again and again with nothing between that
changes its registers. Of each register it is known from which loads of the block its value comes;
a second pass finds loads whose address comes from themselves in the first. Registers alone count:
what goes through memory is not followed.
"""

from __future__ import annotations

from emu.arm.a64 import Flag, Insn, Role, Slot, decode
from emu.arm.arch import INSN_SIZE

ADDRESS = (Role.BASE, Role.INDEX)


def is_chained(code: bytes) -> bool:
    """Whether a load of this block waits for what it loaded the last time."""
    insns = [
        decode(int.from_bytes(code[n : n + INSN_SIZE], "little"))
        for n in range(0, len(code), INSN_SIZE)
    ]
    loads = [n for n, insn in enumerate(insns) if insn.flags & Flag.LOAD]
    if not loads:
        return False
    sources: dict[int, int] = {}
    _pass(insns, sources)
    return _pass(insns, sources)


def _pass(insns: list[Insn], sources: dict[int, int]) -> bool:
    """One run of the block; `sources` has the loads behind each register, as bits."""
    chained = False
    for n, insn in enumerate(insns):
        loads = bool(insn.flags & Flag.LOAD)
        address = others = 0
        for reg, role in insn.reads:
            if role in ADDRESS:
                address |= sources.get(reg, 0)
            else:
                others |= sources.get(reg, 0)
        chained |= loads and bool(address >> n & 1)
        for reg, slot in insn.writes:
            if slot is Slot.BASE:
                sources[reg] = address
            else:
                sources[reg] = address | others | loads << n
    return chained
