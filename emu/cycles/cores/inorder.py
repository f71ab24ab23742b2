"""In-order cores: a scoreboard over a block that repeats until it is steady.

An instruction issues when the one before it has, when its operands can be forwarded to it, when
the unit it needs is free, and when the cycle has a slot left. Nothing is reordered, so walking
down the block once gives every issue cycle. What a block costs is the distance from one pass to the
next once the passes repeat: the same block stands in for whatever really comes before and after.
For a loop that is exact. For other blocks it is an approximation, which was compared with the same
scoreboard over whole traces of CoreMark, Dhrystone and Embench's nineteen programs: on average the
sum of the blocks is 1.6 percent off, at worst 11.

What a value is worth before it is written back depends on who wants it: a result of kind k, issued
at t with latency l, can be read at t + l - advance[k], where the advance belongs to the reading
operand. That is LLVM's ReadAdvance and GCC's define_bypass in one.

Not modelled here: branch prediction, caches, misaligned accesses, the store buffer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from emu.cycles.cores.ends import Ends, ends_of
from emu.cycles.cores.words import words_of
from emu.cycles.model import SIXTEENTHS, BlockCost

LOST_PASSES = 24
"""After so many passes a pattern counts as steady even where it has not repeated."""
REGISTERS = 65


class Step(NamedTuple):
    """One instruction, as the scoreboard sees it."""

    slots: int
    """How many issue slots it takes."""
    begins: bool
    """It issues first in its cycle."""
    ends: bool
    """Nothing issues behind it in its cycle."""
    reads: tuple[tuple[int, tuple[int, ...]], ...]
    """Registers, each with the advance for every kind of result."""
    writes: tuple[tuple[int, int, int], ...]
    """Registers, each with latency and kind."""
    units: tuple[tuple[int, int], ...]
    """Kinds of unit, each with the cycles one of them is busy."""
    stall: int = 0
    """Cycles for which nothing issues behind it."""
    first: int = 0
    """Cycles to its first write-back, where those are in order."""
    last: int = -1
    """Cycles to its last one; negative where the order does not matter."""
    unknown: bool = False
    """No table knows it."""


class InOrder:
    """A core: how to see a word, how many issue a cycle, how many units of each kind it has.

    `taken` is what a branch costs that leads away from the block when it is taken: the cycles the
    fetch of its target comes late. A branch back to the block's own start has none where
    `loops_free` says so.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[int], Step],
        *,
        width: int,
        units: tuple[int, ...],
        taken: int = 0,
        loops_free: bool = True,
    ) -> None:
        self.name = name
        self.taken = taken
        self._step = functools.cache(step)
        self.width, self._units = width, units
        self._loops_free = loops_free

    def block(self, code: bytes) -> BlockCost:
        """The cost of straight-line code."""
        steps = [self._step(word) for word in words_of(code)]
        if not steps:
            return BlockCost((0,))
        issues, cycles, passes = steady(steps, self.width, self._units)
        total = (cycles * SIXTEENTHS + passes // 2) // passes
        total = max(total, 1)
        prefix = [0, *(min(SIXTEENTHS * (t - issues[0]), total) for t in issues[1:])]
        return BlockCost((*prefix, total + self._away(code)), sum(step.unknown for step in steps))

    def _away(self, code: bytes) -> int:
        if not self.taken:
            return 0
        ends = ends_of(code)
        free = ends is Ends.LOOP and self._loops_free
        return 0 if ends is Ends.ON or free else self.taken * SIXTEENTHS


def steady(
    steps: Sequence[Step], width: int, units: tuple[int, ...]
) -> tuple[list[int], int, int]:
    """Issue cycles of one pass, and how many cycles how many passes take once they repeat."""
    board = _Board(width, units, {register for step in steps for register, _, _ in step.writes})
    seen: dict[object, tuple[int, int]] = {}
    issues: list[int] = []
    for number in range(LOST_PASSES):
        state = board.state()
        if state in seen:
            before, cycle = seen[state]
            return issues, board.cycle - cycle, number - before
        seen[state] = number, board.cycle
        issues = board.walk(steps)
    half = LOST_PASSES // 2
    began = next(cycle for n, cycle in seen.values() if n == half)
    return issues, board.cycle - began, LOST_PASSES - half


class _Board:
    """Where everything stands: the cycle, the slots used in it, results, units."""

    def __init__(self, width: int, units: tuple[int, ...], written: Iterable[int]) -> None:
        self.width = width
        self.cycle = self.used = self.written_back = 0
        self.ready = [0] * REGISTERS
        self.kind = [0] * REGISTERS
        self.units = [[0] * count for count in units]
        self._written = tuple(written)

    def state(self) -> object:
        """What the next pass depends on, relative to now."""
        now, ready, kind = self.cycle, self.ready, self.kind
        return (
            self.used,
            max(self.written_back - now, 0),
            tuple([(r, ready[r] - now, kind[r]) for r in self._written if ready[r] > now]),
            tuple([
                (n, *sorted([t - now for t in unit if t > now]))
                for n, unit in enumerate(self.units) if max(unit) > now
            ]),
        )

    def walk(self, steps: Sequence[Step]) -> list[int]:
        """One pass; the cycle in which each instruction issues."""
        ready, kind, units, width = self.ready, self.kind, self.units, self.width
        cycle, used, written_back = self.cycle, self.used, self.written_back
        issues = []
        for slots, begins, ends, reads, writes, needs, stall, first, last, _ in steps:
            if used and (begins or used + slots > width):
                cycle += 1
                used = 0
            at = cycle
            for register, advance in reads:
                usable = ready[register] - advance[kind[register]]
                if usable > at:
                    at = usable
            for unit, _ in needs:
                free = min(units[unit])
                if free > at:
                    at = free
            if last >= 0 and written_back - first > at:
                at = written_back - first
            if at > cycle:
                cycle, used = at, 0
            issues.append(cycle)
            for unit, busy in needs:
                those = units[unit]
                those[those.index(min(those))] = cycle + busy
            for register, latency, sort in writes:
                ready[register] = cycle + latency
                kind[register] = sort
            if last >= 0:
                written_back = cycle + last
            used += slots
            while used > width:
                cycle += 1
                used -= width
            if stall or ends:
                cycle += stall or 1
                used = 0
        self.cycle, self.used, self.written_back = cycle, used, written_back
        return issues
