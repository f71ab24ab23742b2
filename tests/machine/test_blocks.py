"""Pieces of memory, and the ranges that differ: they must make one memory out of the other."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.errors import EmuError
from emu.engine.engine import Engine
from emu.images.symbols import Symbol, Symbols
from emu.machine.blocks import LONGEST_TEXT, Block, Watched
from engine_kit import RAM, RAM_SIZE

OTHER, AREA, SIZE = RAM + 2 * RAM_SIZE, RAM + 0x800, 0x4000
END = RAM + RAM_SIZE
NAMES = Symbols(lambda: [Symbol(AREA, 2, "area", 8)])


@pytest.fixture(scope="module")
def engine() -> Engine:
    engine = Engine()
    engine.map_ram(RAM, RAM_SIZE)
    engine.map_ram(OTHER, RAM_SIZE)
    return engine


def test_a_block(engine):
    block = Block(engine, AREA, 16)
    block.write(b"0123456789abcdef")
    assert (bytes(block), len(block), int(block)) == (b"0123456789abcdef", 16, AREA)
    assert (block.read(4, 2), block.read(14)) == (b"45", b"ef")
    assert (block.word(), block.word(3, 2)) == (int.from_bytes(b"01234567", "little"), 0x3736)
    block.write(b"\0", 3)
    assert block.text == "012"
    assert repr(block) == f"Block({AREA:#x}, 16)"


def test_text_ends_with_nul_or_with_memory(engine):
    last = Block(engine, END - 3, 0)
    last.write(b"\xc3\xa9\0")
    assert last.text == "é"
    last.write(b"abc")
    with pytest.raises(EmuError, match="1 bytes at 0x40100000 are not in the guest's memory"):
        _ = last.text
    last.write(bytes(3))
    long = Block(engine, OTHER, 2 * LONGEST_TEXT)
    long.write(b"x" * (2 * LONGEST_TEXT))
    assert len(long.text) == LONGEST_TEXT
    long.write(bytes(2 * LONGEST_TEXT))


def test_outside(engine):
    for block in (Block(engine, 0, 1), Block(engine, END - 1, 2)):
        with pytest.raises(EmuError, match="are not in the guest's memory"):
            block.read()
        with pytest.raises(EmuError, match="are not in the guest's memory"):
            block.write(b"ab")


pieces = st.lists(st.tuples(st.integers(0, SIZE - 40), st.binary(min_size=1, max_size=40)),
                  max_size=6)  # fmt: skip


@given(pieces, pieces)
def test_what_differs(engine, first, second):
    area = Block(engine, AREA, SIZE)
    area.write(bytes(SIZE))
    for at, data in first:
        area.write(data, at)
    memory = bytearray(area.read())
    watched = Watched(engine, (OTHER,), OTHER, 0)
    for at, data in second:
        area.write(data, at)
    writes = watched.changes(NAMES)
    for write in writes:
        at = write.address - AREA
        assert memory[at : at + len(write.before)] == write.before
        assert len(write.before) == len(write.after)
        assert write.before[0] != write.after[0]
        assert write.before[-1] != write.after[-1]
        assert bool(write.name) == (at < 8)
        memory[at : at + len(write.after)] = write.after
    assert memory == area.read()
    ends = [(write.address, write.address + len(write.after)) for write in writes]
    assert all(end < start for (_, end), (start, _) in pairwise(ends))


def test_pieces_across_pages_are_one(engine):
    """A long change comes as one range, and one that is 8 bytes of a word as one as well."""
    area = Block(engine, RAM, 0x3000)
    area.write(bytes(0x3000))
    watched = Watched(engine, (OTHER,), OTHER, 0)
    area.write(b"\1" * 0x1800, 0x400)
    area.write((0x1_0000_0001).to_bytes(8, "little"), 0x2800)
    assert [(write.address, len(write.after)) for write in watched.changes(Symbols())] == [
        (RAM + 0x400, 0x1800), (RAM + 0x2800, 5),
    ]  # fmt: skip


def test_only_a_piece_of_what_is_left_out(engine):
    watched = Watched(engine, (OTHER,), OTHER + 8, 8)
    block = Block(engine, OTHER, 32)
    block.write(b"\7" * 32)
    assert [tuple(write) for write in watched.changes(Symbols())] == [
        (OTHER + 8, bytes(8), b"\7" * 8, "")
    ]
    block.write(bytes(32))
    assert watched.changes(Symbols()) == ()
