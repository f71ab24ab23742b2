"""Core models for tests of time: small, odd, and by the word, so that a total tells what ran."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from emu.cycles.block_costs import BlockCosts
from emu.cycles.model import SIXTEENTHS, BlockCost
from emu.engine.engine import Engine


def price(word: int) -> int:
    """Sixteenths that a word costs below `ByWord`: 1 to 61, and other words cost other sums."""
    return 1 + (word * 2_654_435_761 >> 7) % 61


def words_of(code: bytes) -> list[int]:
    """A64 words, little-endian."""
    return [int.from_bytes(code[n : n + 4], "little") for n in range(0, len(code), 4)]


class ByWord:
    """Each word costs its `price`, wherever it stands. `asked` are the blocks in order."""

    name, width = "by-word", 1

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def block(self, code: bytes) -> BlockCost:
        self.asked.append(code)
        prefix = [0]
        for word in words_of(code):
            prefix.append(prefix[-1] + price(word))
        return BlockCost(tuple(prefix), unknown=sum(word % 7 == 0 for word in words_of(code)))


class Even:
    """Each instruction costs the same, in sixteenths."""

    name, width = "even", 1

    def __init__(self, each: int = SIXTEENTHS) -> None:
        self.each = each

    def block(self, code: bytes) -> BlockCost:
        return BlockCost(tuple(range(0, self.each * (len(code) // 4) + 1, self.each))
                         if self.each else (0,) * (len(code) // 4 + 1))  # fmt: skip


def total(words: Iterable[int]) -> int:
    """Sixteenths of these words below `ByWord`."""
    return sum(map(price, words))


def elapsed(engine: Any) -> int:
    """The clock of an engine, or of its hooks, in sixteenths."""
    hooks = engine.hooks if isinstance(engine, Engine) else engine
    return int(hooks.cycles) * SIXTEENTHS + int(hooks.fraction)


def counted(engine: Engine) -> int:
    """What the lines of an engine add up to, in sixteenths."""
    assert engine.block_costs is not None
    return sum(
        engine.block_costs.at(at).total * runs - back + added
        for _, at, runs, back, _, added in engine.hooks.lines()
    )


def lines(engine: Engine) -> list[tuple[int, bytes, int, int, int, int]]:
    """Every line with its code in place of its charge, in the order of addresses."""
    charges = engine.block_costs
    assert charges is not None
    return sorted((a, charges.at(at).code, *rest) for a, at, *rest in engine.hooks.lines())


def frames(engine: Engine) -> list[tuple[int, ...]]:
    """The tree of frames as plain numbers."""
    return [tuple(map(int, frame)) for frame in engine.hooks.frames()]


def by_word(engine: Engine) -> ByWord:
    """Let an engine count by words; returns the model."""
    model = ByWord()
    engine.account(BlockCosts(model))
    return model
