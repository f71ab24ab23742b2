"""What a core timing model is: it says what a block of instructions costs.

A block is what the engine executes in one piece: straight code up to and including a branch, an
instruction that generates an exception or one that changes the system's state, or up to the end of
a page. Its cost depends on its bytes alone, so that it is worked out once and the same on every
host, run and half of the engine. It is counted in sixteenths of a cycle, whole numbers all.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

SIXTEENTHS = 16
"""Parts of a cycle that costs are counted in."""


class BlockCost(NamedTuple):
    """What one block costs.

    `prefix` has, in sixteenths of a cycle, what has passed before each instruction, and in the end
    the whole block: it begins with 0, never falls, and is one longer than the block. `unknown` is
    how many of the words no table knows.
    """

    prefix: tuple[int, ...]
    unknown: int = 0


class CostModel(Protocol):
    """A core; `name` is what `--core` calls it."""

    @property
    def name(self) -> str: ...

    def block(self, code: bytes) -> BlockCost:
        """The cost of a block of A64 instructions, little-endian words."""
        ...
