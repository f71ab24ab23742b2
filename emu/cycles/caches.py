"""Caches of each vCPU and those they share: what `_caches.c` says in C, on the same memory.

Two caches of a vCPU's own, for data and for code; behind them the core's own second level where
it has one, and the last level, which all vCPUs share. Each is set-associative, by physical
address, and forgets what was used longest ago (cores that choose at random or by half an order
keep a little more of what does not fit). A line that was missed is then in every level. Shapes
and times are the core's (cores/hierarchies.py).

What a miss costs:

* A load waits for the latency beyond the first level's, which its block was charged already.
* Where misses go on at one stride of at most four lines either way, the third and all after it
  were prefetched: that is how Arm describes the prefetcher of its small cores (Cortex-A35 TRM,
  A6.5 "Automatic data prefetching and monitoring"; 7.2 and 6.5.2 in those of A53 and A7). Then a
  line comes as soon as the one before and its own transfer are over: only what is left is waited
  for.
* An out-of-order core goes on meanwhile with what its window holds: `hidden` is the time in which
  that is executed. A miss fewer than `window` instructions behind the last that was waited for
  overlaps with it and costs its transfer. But where a load's address comes from its own last
  result (`chained`, chains.py), as on a walk along a list, nothing overlaps and all is waited for.
* A store never waits: it goes into the store buffer. It brings its line in.
* Code is looked up when a block begins. Lines that follow each other are prefetched as well.

Not modelled: TLBs, lines that another vCPU has written (vCPUs take turns, and what one has is not
taken from it), write-backs, the second line of an access across two, maintenance by DC and IC
(code that changes is as fast as code that stays), PRFM, and devices that write memory.
"""

from __future__ import annotations

import ctypes
from typing import Any

from emu.base.shared import Shared

LINE_BITS = 6
"""64 bytes, in every core here."""
L1_LINES, L2_LINES, SHARED_LINES = 1 << 10, 1 << 14, 1 << 20
"""Room for caches of 64 KiB, 1 MiB and 64 MiB."""
STREAMS, REACH, STEADY = 4, 4, 2
"""Streams that are followed, lines that a stride may be, and equal strides that make a stream."""
OWN, SHARED, MEMORY = range(3)
"""Levels behind the first."""
MASK32, MASK64 = (1 << 32) - 1, (1 << 64) - 1


class Shape(ctypes.Structure):
    """Sets, a power of two, and ways; no ways where there is no such cache."""

    _fields_ = [("sets", ctypes.c_uint32), ("ways", ctypes.c_uint32)]

    sets: int
    ways: int


class Hierarchy(ctypes.Structure):
    """A core's caches, with times in sixteenths of a cycle.

    `latency` is what a load waits beyond the first level, `transfer` the time from one line to the
    next of a stream. Memory begins at `base`: accesses below are not cached.
    """

    _fields_ = [
        ("base", ctypes.c_uint64),
        ("data", Shape),
        ("code", Shape),
        ("own", Shape),
        ("shared", Shape),
        ("latency", ctypes.c_uint32 * 3),
        ("transfer", ctypes.c_uint32 * 3),
        ("window", ctypes.c_uint32),
        ("hidden", ctypes.c_uint32),
    ]

    base: int
    data: Shape
    code: Shape
    own: Shape
    shared: Shape
    latency: Any
    transfer: Any
    window: int
    hidden: int

    def last_level_type(self) -> type[ctypes.Array[ctypes.c_uint32]]:
        """The memory of what vCPUs share; all zero after power-on."""
        return ctypes.c_uint32 * (self.shared.sets * self.shared.ways)


class Stream(ctypes.Structure):
    """Where misses were last, how far apart, and for how long so."""

    _fields_ = [
        ("last", ctypes.c_uint32),
        ("stride", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
    ]

    last: int
    stride: int
    length: int


_COUNTED = ("accesses", "data_misses", "code_misses", "l2_misses", "memory_reads", "stalled")


class Caches(Shared):
    """One vCPU's; all zero is the state after a reset. A line is kept as its number plus one.

    `arrived` is when the last line came, `missed` the instruction of the last miss that was waited
    for; `line`, `fetched` and `code_missed` are the last of their kind.
    """

    COUNTED = _COUNTED
    _fields_ = (
        *((name, ctypes.c_uint64) for name in _COUNTED),
        ("arrived", ctypes.c_uint64),
        ("missed", ctypes.c_uint64),
        ("line", ctypes.c_uint32),
        ("fetched", ctypes.c_uint32),
        ("code_missed", ctypes.c_uint32),
        ("oldest", ctypes.c_uint32),
        ("streams", Stream * STREAMS),
        ("data", ctypes.c_uint32 * L1_LINES),
        ("code", ctypes.c_uint32 * L1_LINES),
        ("own", ctypes.c_uint32 * L2_LINES),
    )

    accesses: int
    data_misses: int
    code_misses: int
    l2_misses: int
    memory_reads: int
    stalled: int
    arrived: int
    missed: int
    line: int
    fetched: int
    code_missed: int
    oldest: int
    streams: Any
    data: Any
    code: Any
    own: Any


class CachesInUse:
    """A vCPU's caches with what is behind them; C's `CachesInUse`."""

    def __init__(self, mine: Caches, shape: Hierarchy, shared: Any) -> None:
        self.mine, self.shape, self._shared = mine, shape, shared

    def access(
        self, address: int, now: int, instructions: int, *, is_write: bool, chained: bool
    ) -> int:
        """Sixteenths that an access stalls."""
        mine, shape = self.mine, self.shape
        line = address >> LINE_BITS & MASK32
        mine.accesses += 1
        if line == mine.line:
            return 0
        mine.line = line
        if look(mine.data, shape.data, line):
            return 0
        mine.data_misses += 1
        level = self._level_of(line)
        if is_write:
            return 0
        ahead = self._is_stream(line)
        if shape.window and not chained and not ahead:
            ahead = (instructions - mine.missed) & MASK64 < shape.window
            mine.missed = mine.missed if ahead else instructions
        return self._stall(level, ahead, 0 if chained else shape.hidden, now)

    def fetch(self, address: int, size: int, now: int) -> int:
        """Sixteenths that the fetch of a block stalls."""
        mine = self.mine
        first, last = address >> LINE_BITS, (address + size - 1) >> LINE_BITS
        if first == last and first & MASK32 == mine.fetched:
            return 0
        mine.fetched = last & MASK32
        stalled = 0
        for number in range(first, last + 1):
            line = number & MASK32
            if look(mine.code, self.shape.code, line):
                continue
            mine.code_misses += 1
            follows = line == mine.code_missed + 1 & MASK32
            stalled += self._stall(self._level_of(line), follows, 0, now + stalled)
            mine.code_missed = line
        return stalled

    def _level_of(self, line: int) -> int:
        """Where a line is found that the first level has not."""
        mine, shape = self.mine, self.shape
        if shape.own.ways:
            if look(mine.own, shape.own, line):
                return OWN
            mine.l2_misses += 1
        if look(self._shared, shape.shared, line):
            return SHARED
        mine.l2_misses += not shape.own.ways
        mine.memory_reads += 1
        return MEMORY

    def _is_stream(self, line: int) -> bool:
        """Whether misses go on at a steady stride, so that the prefetcher was there before."""
        mine = self.mine
        for stream in mine.streams:
            stride = line - stream.last & MASK32
            if not stride or (stride + REACH & MASK32) > 2 * REACH:
                continue
            stream.length = min(stream.length + 1, STEADY) if stride == stream.stride else 1
            stream.stride, stream.last = stride, line
            return bool(stream.length == STEADY)
        mine.streams[mine.oldest % STREAMS] = Stream(line, 0, 0)
        mine.oldest = (mine.oldest + 1) % STREAMS
        return False

    def _stall(self, level: int, ahead: bool, hidden: int, now: int) -> int:
        mine, latency = self.mine, int(self.shape.latency[level])
        if ahead:
            due = mine.arrived + int(self.shape.transfer[level]) & MASK64
            found = min(max(due - now, 0), latency)
        else:
            found = max(latency - hidden, 0)
        mine.arrived = now + found
        mine.stalled += found
        return found


def look(lines: Any, shape: Shape, line: int) -> bool:
    """Whether a line is there; it is now, as the one used last."""
    ways = shape.ways
    first = (line & shape.sets - 1) * ways
    carried = wanted = line + 1 & MASK32
    for place in range(first, first + ways):
        old, lines[place] = lines[place], carried
        if old == wanted:
            return True
        carried = old
    return False
