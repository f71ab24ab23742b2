"""What a core timing model is, and what a sourced figure is.

A model is asked once for each distinct block of code and answers with a table of when each
instruction of it begins; engines add those up (counter.py, _counter.c). Costs are whole sixteenths
of a cycle: a block that a dual-issue core runs in two and a half cycles has a cost, and no floating
point comes near what a guest can see.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

SIXTEENTHS = 16
"""Units in a cycle."""


class BlockCost(NamedTuple):
    """What one basic block costs.

    `prefix` has one more entry than the block has instructions: entry i is the time, in sixteenths
    of a cycle, that has passed before instruction i; the first is 0, the last is the whole block,
    and none is less than the one before. A fault at instruction i is charged entry i; a counter
    read by instruction i sees it. `unknown` counts the words that the timing tables do not know,
    which were charged a default.
    """

    prefix: tuple[int, ...]
    unknown: int = 0

    @property
    def total(self) -> int:
        """The whole block in sixteenths."""
        return self.prefix[-1]


class CostModel(Protocol):
    """A core, as far as time is concerned."""

    @property
    def name(self) -> str:
        """What the user calls it, such as cortex-a53."""

    @property
    def width(self) -> int:
        """Instructions that begin in a cycle at most."""

    def block(self, code: bytes) -> BlockCost:
        """The cost of straight-line A64 code, little-endian; a function of these bytes alone."""


class Cost(NamedTuple):
    """A figure that somebody measured, or that follows from one.

    `uncertainty` is in percent either way, and meant: it covers the spread between firmware
    releases and, where `source` says "derived" or "carried over", the step from the measurement
    to this use of it. `core` is what it was measured on; "" where that has no meaning.
    """

    cycles: int
    uncertainty: int
    core: str
    source: str
