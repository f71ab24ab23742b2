"""Arm's out-of-order cores from LLVM's tables: what the core files have in common.

Macro-ops, not micro-ops, fill the front end: an instruction is one, unless it has more than two
micro-ops. Where the core renames them away, register moves and zeroing take a slot but no port and
no time (Arm Neoverse N1 Software Optimization Guide §4 "Zero latency MOVs").
"""

from __future__ import annotations

from typing import NamedTuple

from emu.arm.a64 import Flag, Insn, decode
from emu.cycles.cores import llvm
from emu.cycles.cores.llvm import masks, ports_of, reads_of, writes_of
from emu.cycles.cores.outoforder import Op, OutOfOrder
from emu.cycles.cores.overrides import load
from emu.cycles.cores.words import look_up
from emu.cycles.model import CostModel

_RENAMED = Flag.MOVE | Flag.ZERO | Flag.NOP


class Core(NamedTuple):
    """What the tables do not say of a core."""

    name: str
    width: int
    """Macro-ops that the front end hands on in a cycle."""
    fetch: int
    """Instructions in the piece of code that is fetched in a cycle."""
    renames_moves: bool
    micro_ops: bool = False
    """The front end counts micro-ops."""


def model(core: Core, *, compatible: bool) -> CostModel:
    """The core."""
    table = load(core.name, compatible=compatible)
    if compatible:
        return llvm.out_of_order(table)
    ports = masks(table)
    ops: dict[Insn, Op] = {}

    def op(number: int) -> Op:  # instructions that differ in a constant only are the same
        insn = decode(number)
        found = ops.get(insn)
        if found is None:
            found = ops[insn] = make(number)
        return found

    def make(number: int) -> Op:
        word = look_up(table, number, compatible=False)
        renamed = core.renames_moves and bool(word.insn.flags & _RENAMED)
        uops = word.timing.uops
        return Op(
            slots=uops if core.micro_ops else max((uops + 1) // 2, 1),
            reads=reads_of(table, word),
            writes=tuple((r, 0, k) for r, _, k in writes_of(word)) if renamed else writes_of(word),
            ports=() if renamed else tuple((ports[p], busy) for p, busy in ports_of(word)),
            stall=word.stall,
            unknown=not word.known,
        )

    return OutOfOrder(core.name, op, width=core.width, fetch=core.fetch)
