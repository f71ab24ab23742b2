"""Out-of-order cores: what bounds a block's throughput, instead of when each instruction issues.

A wide core runs tens of blocks at once, so a block costs what it takes from what they share:

* the front end: macro-ops a cycle, and the fetch of at most so many instructions in an aligned
  piece of code, which loses half a piece at each end of a run without taken branches;
* execution ports: the fullest set of ports that some of its micro-ops cannot leave. A block that
  asks more of a port than of the front end is in part made up for by neighbours that ask less:
  half of the excess is charged. (In a trace-driven simulation of the same tables, over Dhrystone
  and Embench's nineteen programs, it is between a quarter and a half; CoreMark was not looked at.)
* for a loop on one block: the longest chain of results from one turn to the next.

Chains through other blocks do not count: they overlap. Counting them, as if every block were a
loop, puts the same programs 24 percent off that simulation in the mean; not counting them, 7.

Register moves and zeroing are renamed and take no port. In compatible mode there is no fetch and no
renaming, every block is taken for a loop, and micro-ops are dispatched as llvm-mca does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from emu.cycles.cores.ends import Ends, ends_of
from emu.cycles.cores.words import words_of
from emu.cycles.model import SIXTEENTHS, BlockCost

REGISTERS = 65
WARM_UP, PASSES = 16, 16
"""Turns of a loop before its chain counts, and turns that are counted: a sixteenth each."""
SHARED = 2
"""A block is charged one part in so many of what it asks of a port beyond the front end."""


class Op(NamedTuple):
    """One instruction, as renaming and the ports see it."""

    slots: int
    """Slots of the front end: macro-ops, or micro-ops as llvm-mca dispatches them."""
    reads: tuple[tuple[int, tuple[int, ...]], ...]
    """Registers, each with the advance for every kind of result."""
    writes: tuple[tuple[int, int, int], ...]
    """Registers, each with latency and kind."""
    ports: tuple[tuple[int, int], ...]
    """Sets of ports as bit masks, each with the cycles one of them is busy."""
    stall: int = 0
    """Cycles in which nothing else runs."""
    unknown: bool = False
    """No table knows it."""


class OutOfOrder:
    """A core: how to see a word, its front end, its ports are in the masks."""

    def __init__(
        self,
        name: str,
        op: Callable[[int], Op],
        *,
        width: int,
        fetch: int = 0,
        compatible: bool = False,
    ) -> None:
        self.name = name
        self._op = functools.cache(op)
        self.width, self._fetch, self._compatible = width, fetch, compatible

    def block(self, code: bytes) -> BlockCost:
        """The cost of straight-line code."""
        ops = [self._op(word) for word in words_of(code)]
        if not ops:
            return BlockCost((0,))
        total = self._compared(ops) if self._compatible else self._bound(code, ops)
        total = max(total, 1) + SIXTEENTHS * sum(op.stall for op in ops)
        return BlockCost(_spread(ops, total), sum(op.unknown for op in ops))

    def _bound(self, code: bytes, ops: Sequence[Op]) -> int:
        ends = ends_of(code)
        front = self._front(ops, ends)
        ports = pressure(ops)
        if ends is Ends.LOOP:
            return max(front, ports, chain(ops))
        return front + max(ports - front, 0) // SHARED

    def _front(self, ops: Sequence[Op], ends: Ends) -> int:
        slots = sum(op.slots for op in ops)
        front = -(-SIXTEENTHS * slots // self.width)
        if ends is Ends.LOOP:
            return max(front, SIXTEENTHS * -(-len(ops) // self._fetch))
        if ends is Ends.AWAY:
            return max(front, SIXTEENTHS * (len(ops) + self._fetch - 1) // self._fetch)
        return front

    def _compared(self, ops: Sequence[Op]) -> int:
        return max(dispatch(ops, self.width), pressure(ops), chain(ops))


def pressure(ops: Iterable[Op]) -> int:
    """Sixteenths for which the fullest set of ports is busy, ports being shared out at best."""
    load: dict[int, int] = {}
    for op in ops:
        for mask, busy in op.ports:
            load[mask] = load.get(mask, 0) + busy
    unions = {0}
    for mask in load:
        unions |= {mask | other for other in unions}
    most = 0
    for union in unions - {0}:
        busy = sum(cycles for mask, cycles in load.items() if mask | union == union)
        most = max(most, -(-SIXTEENTHS * busy // union.bit_count()))
    return most


def chain(ops: Sequence[Op]) -> int:
    """Sixteenths from one turn of a loop to the next for its longest chain of results."""
    if not any(latency for op in ops for _, latency, _ in op.writes):
        return 0
    ready, kind = [0] * REGISTERS, [0] * REGISTERS
    linked = [(op.reads, op.writes) for op in ops if op.writes]
    begun = 0
    for turn in range(WARM_UP + PASSES):
        if turn == WARM_UP:
            begun = max(ready)
        for reads, writes in linked:
            at = 0
            for register, advance in reads:
                usable = ready[register] - advance[kind[register]]
                if usable > at:
                    at = usable
            for register, latency, sort in writes:
                ready[register], kind[register] = at + latency, sort
    return (max(ready) - begun) * SIXTEENTHS // PASSES


def dispatch(ops: Sequence[Op], width: int) -> int:
    """Sixteenths a turn when no instruction's micro-ops are split between two cycles."""
    seen: dict[int, tuple[int, int]] = {}
    turn = cycle = used = 0
    while used not in seen:
        seen[used] = turn, cycle
        for op in ops:
            if used and used + op.slots > width:
                cycle, used = cycle + 1, 0
            used += op.slots
            while used > width:
                cycle, used = cycle + 1, used - width
        turn += 1
    before, began = seen[used]
    return ((cycle - began) * SIXTEENTHS + (turn - before) // 2) // (turn - before)


def _spread(ops: Sequence[Op], total: int) -> tuple[int, ...]:
    """The time before each instruction: in proportion to the slots before it."""
    slots, prefix = 0, [0]
    whole = sum(op.slots for op in ops) or 1
    for op in ops:
        slots += op.slots
        prefix.append(total * slots // whole)
    prefix[-1] = total
    return tuple(prefix)
