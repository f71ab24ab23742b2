"""A branch predictor for each vCPU: what `_predictor.c` says in C, on the same memory.

It is of no core in particular but of their kind, TAGE (Seznec and Michaud, "A case for (partially)
TAgged GEometric history length branch prediction", JILP 8, 2006): a table of counters by address,
and four tagged ones by address and ever more of the history of directions; the longest that knows
the branch decides, and learns; after a misprediction the next longer one that has room is given the
branch. Indirect branches are found in a table of targets by address and history, returns on a stack
of addresses. Direct ones are always right. What a misprediction costs is the core's (cores/).

A branch that goes one way nearly always is told by its counter alone, right or wrong, so that it
costs little time; our choice, as are the sizes: 44 KiB of state. A branch is known by where its
block ends, and resolved when the next block of the vCPU begins; one that an exception or an
interrupt comes behind is not looked at.
"""

from __future__ import annotations

import ctypes
from typing import Any

from emu.arm.arch import INSN_SIZE, BlockEnd
from emu.base.shared import Shared

HISTORIES = (6, 16, 44, 120)
"""Directions that each tagged table looks back on: a geometric series."""
TABLES = len(HISTORIES)
BASE_BITS, TABLE_BITS, TAG_BITS, TARGET_BITS = 13, 11, 8, 9
RETURNS = 16
SURE, MOST = 64, 127
"""A counter of so much decides alone; the most it counts to, and one less downwards."""
KNOWN = 1 << TAG_BITS + 1
"""Set in every tag that is one."""
MASK64 = (1 << 64) - 1
_RESOLVED = frozenset((
    BlockEnd.CONDITIONAL, BlockEnd.CALL, BlockEnd.CALL_INDIRECT, BlockEnd.JUMP_INDIRECT,
    BlockEnd.RETURN,
))  # fmt: skip
"""Branches that are looked at: a direct jump leads where it says."""
_BITS = tuple((1 << length) - 1 for length in HISTORIES)


class Predictor(Shared):
    """One vCPU's."""

    COUNTED = "branches", "misses"

    _fields_ = (
        ("history", ctypes.c_uint64),
        ("older", ctypes.c_uint64),
        ("behind", ctypes.c_uint64),
        ("branches", ctypes.c_uint64),
        ("misses", ctypes.c_uint64),
        ("end", ctypes.c_uint32),
        ("top", ctypes.c_uint32),
        ("returns", ctypes.c_uint64 * RETURNS),
        ("targets", ctypes.c_uint64 * (1 << TARGET_BITS)),
        ("base", ctypes.c_int8 * (1 << BASE_BITS)),
        ("tags", ctypes.c_uint16 * (TABLES << TABLE_BITS)),
        ("counters", ctypes.c_int8 * (TABLES << TABLE_BITS)),
        ("useful", ctypes.c_uint8 * (TABLES << TABLE_BITS)),
    )

    history: int
    older: int
    behind: int
    branches: int
    misses: int
    end: int
    top: int
    returns: Any
    targets: Any
    base: Any
    tags: Any
    counters: Any
    useful: Any

    def begin(self, address: int, size: int, end: int) -> bool:
        """A block begins: whether the branch before it was expected to lead elsewhere."""
        wrong = self._resolve(address)
        self.end, self.behind = end, address + size & MASK64
        self.misses += wrong
        return wrong

    def interrupt(self) -> None:
        """What comes next is not where the last block led."""
        self.end = BlockEnd.RUNS_ON

    def _resolve(self, address: int) -> bool:
        end, branch = self.end, self.behind - INSN_SIZE & MASK64
        if end not in _RESOLVED:
            return False
        self.branches += 1
        wrong = False
        if end == BlockEnd.CONDITIONAL:
            wrong = self._direction(branch >> 2, taken=address != self.behind)
        elif end == BlockEnd.RETURN:
            self.top = (self.top - 1) % RETURNS
            return bool(self.returns[self.top] != address)
        if end in (BlockEnd.CALL_INDIRECT, BlockEnd.JUMP_INDIRECT):
            place = (branch >> 2 ^ _fold(self.history, TARGET_BITS)) % (1 << TARGET_BITS)
            wrong = self.targets[place] != address
            self.targets[place] = address
        if end in (BlockEnd.CALL, BlockEnd.CALL_INDIRECT):
            self.returns[self.top % RETURNS] = self.behind
            self.top = (self.top + 1) % RETURNS
        return bool(wrong)

    def _direction(self, word: int, *, taken: bool) -> bool:
        """Whether a conditional branch's direction is a surprise."""
        place = word % (1 << BASE_BITS)
        base = int(self.base[place])
        if -SURE < base < SURE:
            wrong = self._by_history(word, base, taken=taken)
        else:
            wrong = (base >= 0) != taken
        self.base[place] = _counted(base, taken=taken)
        self.older = (self.older << 1 | self.history >> 63) & MASK64
        self.history = (self.history << 1 | taken) & MASK64
        return wrong

    def _by_history(self, word: int, base: int, *, taken: bool) -> bool:
        places, tags = self._places(word)
        hits = [n for n in range(TABLES) if self.tags[places[n]] == tags[n]]
        expected = base >= 0
        decides = hits[-1] if hits else -1
        if hits:
            place = places[decides]
            other = self.counters[places[hits[-2]]] >= 0 if len(hits) > 1 else expected
            counter, useful = int(self.counters[place]), int(self.useful[place])
            own = counter >= 0
            new = counter in (0, -1) and not useful
            expected = other if new else own
            if own != other:
                self.useful[place] = min(useful + 1, 3) if own == taken else max(useful - 1, 0)
            self.counters[place] = max(-4, min(3, counter + (1 if taken else -1)))
        if expected != taken:
            self._allot(places, tags, decides + 1, taken=taken)
        return expected != taken

    def _places(self, word: int) -> tuple[list[int], list[int]]:
        places, tags = [], []
        directions = self.older << 64 | self.history
        for n, bits in enumerate(_BITS):
            history = directions & bits
            index = word ^ word >> TABLE_BITS ^ _fold(history, TABLE_BITS)
            places.append(n << TABLE_BITS | index % (1 << TABLE_BITS))
            tag = _fold(history, TAG_BITS)
            tags.append((word ^ tag ^ tag << 1) % (1 << TAG_BITS + 1) | KNOWN)
        return places, tags

    def _allot(self, places: list[int], tags: list[int], first: int, *, taken: bool) -> None:
        """Give the branch the next longer history that has room, or make room for the next time."""
        for n in range(first, TABLES):
            if not self.useful[places[n]]:
                self.tags[places[n]] = tags[n]
                self.counters[places[n]] = 0 if taken else -1
                return
        for n in range(first, TABLES):
            self.useful[places[n]] -= 1


def _counted(counter: int, *, taken: bool) -> int:
    """One step towards the direction; half the way back at once where it was believed strongly."""
    if (counter >= 0) != taken and (counter > 8 or counter < -8):
        return counter // 2 if counter > 0 else -(-counter // 2)
    return max(-MOST - 1, min(MOST, counter + (1 if taken else -1)))


def _fold(history: int, bits: int) -> int:
    """All of a history in so many bits."""
    folded = 0
    while history:
        folded ^= history & (1 << bits) - 1
        history >>= bits
    return folded
