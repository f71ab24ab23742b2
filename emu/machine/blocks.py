"""Pieces of the guest's memory as Python has them, and what has changed in all of it.

A `Block` is an address with a size. `Watched` compares memory with what it was: pages.py tells
which pages hold something, so that a RAM of 64 MiB of which a few pages are used costs 1 ms.

Not known: virtual addresses. A block is guest-physical, as a function that runs with the MMU off
sees it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from emu.base.errors import EmuError
from emu.base.pages import PAGE, find_runs
from emu.engine.engine import Engine
from emu.images.symbols import Symbols

LONGEST_TEXT = 1 << 16
_STEP = 64
_WORD = 8


class Block:
    """A piece of the guest's memory; as an argument of a call it is its address."""

    __slots__ = ("_engine", "address", "size")

    def __init__(self, engine: Engine, address: int, size: int) -> None:
        self._engine, self.address, self.size = engine, address, size

    def __index__(self) -> int:
        return self.address

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return self.read()

    def __repr__(self) -> str:
        return f"Block({self.address:#x}, {self.size})"

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        """Its bytes, or `size` of them from `offset` on."""
        size = self.size - offset if size is None else size
        with inside(self.address + offset, size):
            return self._engine.read(self.address + offset, size)

    def write(self, data: bytes, offset: int = 0) -> None:
        """Put bytes at `offset`."""
        with inside(self.address + offset, len(data)):
            self._engine.write(self.address + offset, data)

    def word(self, number: int = 0, size: int = 8) -> int:
        """One of the unsigned little-endian words of `size` bytes that it is made of."""
        return int.from_bytes(self.read(number * size, size), "little")

    @property
    def text(self) -> str:
        """The characters up to the first NUL, which may lie behind it."""
        data = bytearray()
        while b"\0" not in data and len(data) < LONGEST_TEXT:
            size = _STEP if self._engine.has_ram(self.address + len(data), _STEP) else 1
            data += self.read(len(data), size)
        return data.partition(b"\0")[0].decode("utf-8", "replace")


@contextlib.contextmanager
def inside(address: int, size: int) -> Iterator[None]:
    """Turn an access outside RAM into an EmuError."""
    try:
        yield
    except IndexError:
        raise EmuError(f"{size} bytes at {address:#x} are not in the guest's memory") from None


class Write(NamedTuple):
    """Memory that a call has changed, and the name of its place where there is one."""

    address: int
    before: bytes
    after: bytes
    name: str = ""


class Watched:
    """What memory holds now: all RAM except that at the bases in `without`, and a piece of that."""

    def __init__(self, engine: Engine, without: Collection[int], start: int, size: int) -> None:
        self._engine = engine
        self._areas = [area for area in engine.ram() if area[0] not in without]
        self._pages = [
            {page: block[page * PAGE : (page + 1) * PAGE] for page in _pages(block, host)}
            for _, block, host in self._areas
        ]
        self._piece = start, engine.read(start, size)

    def changes(self, symbols: Symbols) -> tuple[Write, ...]:
        """What has changed since: in ascending order, and never a byte more at either end."""
        found: list[Write] = []
        for (base, block, host), before in zip(self._areas, self._pages, strict=True):
            for page in sorted({*before, *_pages(block, host)}):
                old = before.get(page, _ZERO_PAGE)
                new = block[page * PAGE : (page + 1) * PAGE]
                found += _differences(base + page * PAGE, old, new)
        start, old = self._piece
        found += _differences(start, old, self._engine.read(start, len(old)))
        return tuple(w._replace(name=symbols.name(w.address) or "") for w in _joined(found))


_ZERO_PAGE = bytes(PAGE)


def _pages(block: Any, host: int) -> Iterator[int]:
    for first, count in find_runs(block, host):
        yield from range(first, first + count)


def _differences(address: int, old: bytes, new: bytes) -> list[Write]:
    """Changed bytes; what lies in neighbouring words of `_WORD` bytes is one piece."""
    if old == new:
        return []
    starts = range(0, len(old), _WORD)
    changed = [at for at in starts if old[at : at + _WORD] != new[at : at + _WORD]]
    return _joined([
        Write(address + at, old[at : at + _WORD], new[at : at + _WORD]) for at in changed
    ], exact=False)  # fmt: skip


def _joined(writes: list[Write], *, exact: bool = True) -> list[Write]:
    """Pieces that touch are one; if `exact`, without the equal bytes at its ends."""
    runs: list[list[Write]] = []
    for write in writes:
        if runs and (last := runs[-1][-1]).address + len(last.before) == write.address:
            runs[-1].append(write)
        else:
            runs.append([write])
    whole = [
        Write(run[0].address, b"".join(w.before for w in run), b"".join(w.after for w in run))
        for run in runs
    ]
    return [_trimmed(write) for write in whole] if exact else whole


def _trimmed(write: Write) -> Write:
    pairs = list(zip(write.before, write.after, strict=True))
    first = next(n for n, (old, new) in enumerate(pairs) if old != new)
    last = next(n for n in range(len(pairs), 0, -1) if pairs[n - 1][0] != pairs[n - 1][1])
    return Write(write.address + first, write.before[first:last], write.after[first:last])
