"""What blocks cost on one core, kept by their bytes, in memory that both halves of the engine read.

A core model (model.py) is asked once for each block; the answer is shared by every machine of this
process, since it depends on nothing else. `Charge` is what `_counter.h` has under the same name.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import NamedTuple, Protocol

from emu.arm.arch import INSN_SIZE, BlockEnd, block_end
from emu.base.errors import EmuError
from emu.cycles.model import BlockCost, CostModel

_HEADER = 4
"""Words before the prefix: how many instructions, how the block ends, how many are unknown, and
whether a load of it waits for its own last result."""
WORD32 = next(code for code in "IL" if array(code).itemsize == 4)
MAX_SIXTEENTHS = (1 << 32) - 1


class Charge(NamedTuple):
    """The cost of one block; `address` is where C finds it as 32-bit words."""

    code: bytes
    cost: BlockCost
    end: BlockEnd
    address: int
    chained: bool = False

    @property
    def total(self) -> int:
        """Sixteenths of the whole block."""
        return self.cost.prefix[-1]


class Known(Protocol):
    """Where costs may be known from before (block_cache.py)."""

    def find(self, code: bytes) -> BlockCost | None: ...


class BlockCosts:
    """All blocks met so far on one core. `charge_of` is what the engine calls; `chains` tells which
    blocks are `chained` (cores/chains.py), none without it."""

    def __init__(
        self,
        model: CostModel,
        known: Known | None = None,
        chains: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.model, self._known, self._chains = model, known, chains
        self.fresh: dict[bytes, BlockCost] = {}
        """What the model was asked, and nobody had known."""
        self._by_code: dict[bytes, Charge] = {}
        self._by_address: dict[int, Charge] = {}
        self._memory: list[array[int]] = []

    def __len__(self) -> int:
        return len(self._by_code)

    def find(self, code: bytes) -> Charge:
        """The charge of a block, worked out where it is the first time."""
        found = self._by_code.get(code)
        if found is None:
            cost = self._known.find(code) if self._known else None
            if cost is None:
                cost = self.fresh[code] = self.model.block(code)
            found = self.add(code, cost)
        return found

    def charge_of(self, code: bytes) -> int:
        """The same, as the address C knows it by."""
        return self.find(code).address

    def at(self, address: int) -> Charge:
        """The charge that C knows by its address."""
        return self._by_address[address]

    def add(self, code: bytes, cost: BlockCost) -> Charge:
        """Keep what is known already; EmuError where it can be no cost of that block."""
        prefix = cost.prefix
        if (
            len(prefix) != len(code) // INSN_SIZE + 1 or prefix[0]
            or not 0 < prefix[-1] <= MAX_SIXTEENTHS  # else a loop of it would never end
            or sorted(prefix) != list(prefix)
        ):
            raise EmuError(f"{self.model.name}: {cost} is no cost of {len(code)} bytes of code")
        end = block_end(int.from_bytes(code[-INSN_SIZE:], "little"))
        chained = self._chains is not None and self._chains(code)
        words = array(WORD32, (len(prefix) - 1, end, cost.unknown, chained, *prefix))
        self._memory.append(words)
        charge = Charge(code, cost, end, words.buffer_info()[0], chained)
        self._by_code[code] = self._by_address[charge.address] = charge
        return charge

    def all(self) -> list[Charge]:
        """Every charge, in the order in which the blocks were met."""
        return list(self._by_code.values())

