"""Guest memory in a file: sparse, compressed, and trusted in nothing."""

import ctypes
import mmap
import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.base.pages import (
    CHUNK,
    CHUNK_PAGES,
    PAGE,
    Packing,
    PagesError,
    check_runs,
    find_runs,
    unpack,
)

SIZE = 4 << 20


def memory(pages=None, size=SIZE):
    """Fresh memory with some pages filled; returns it and its address."""
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE)
    for page, data in (pages or {}).items():
        block[page * PAGE : page * PAGE + len(data)] = data
    pin = (ctypes.c_char * size).from_buffer(block)
    return block, ctypes.addressof(pin), pin


def packed(pages):
    block, address, _pin = memory(pages)
    packing = Packing(0, block, address)
    return packing, list(packing)


def unpacked(packing, chunks):
    block, _, _pin = memory()
    stored = iter(chunks)
    unpack(block, packing.runs, packing.lengths, lambda length: next(stored))
    return block[:]


def test_only_pages_that_hold_something_are_found():
    block, address, _pin = memory({0: b"\1", 7: b"\0" * 10, 8: b"x", 9: b"y", 1023: b"z"})
    assert find_runs(block, address) == ((0, 1), (8, 2), (1023, 1))


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.integers(0, SIZE // PAGE - 1), st.binary(min_size=1, max_size=64)))
def test_what_is_packed_comes_back(pages):
    packing, chunks = packed(pages)
    block, _, _pin = memory(pages)
    assert unpacked(packing, chunks) == block[:]
    assert check_runs(packing.runs, SIZE) == len(chunks) == len(packing.lengths)


def test_what_does_not_shrink_is_stored_as_it_is():
    noise = random.Random(1).randbytes(CHUNK)
    packing, chunks = packed({0: noise})
    assert packing.lengths == [CHUNK]
    assert unpacked(packing, chunks)[:CHUNK] == noise


def test_what_shrinks_is_compressed_at_most_twice_as_large_as_it_could_be():
    text = b"all work and no play " * (3 * CHUNK // 21)
    _, chunks = packed({0: text})
    assert sum(map(len, chunks)) < 2 * len(zlib.compress(text, 6)) + 1024


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        (((5, 1), (2, 1)), "not in order"), (((0, 2), (1, 1)), "not in order"),
        (((0, 0),), "not in order"), (((0, SIZE // PAGE + 1),), "outside"),
        (((1 << 60, 1),), "outside"),
    ],
)  # fmt: skip
def test_runs_that_describe_no_memory(runs, text):
    with pytest.raises(PagesError, match=text):
        check_runs(runs, SIZE)


@pytest.mark.parametrize(
    "data",
    [b"", b"junk", zlib.compress(b"x" * (PAGE + 1)), zlib.compress(b"x" * (PAGE - 1)),
     zlib.compress(b"x" * (100 << 20))],
)  # fmt: skip
def test_a_chunk_gives_exactly_its_pages_or_is_refused(data):
    block, _, _pin = memory()
    with pytest.raises(PagesError):
        unpack(block, ((0, 1),), [len(data)], lambda length: data)


def test_chunks_are_counted_by_pages():
    assert check_runs(((0, CHUNK_PAGES),), SIZE) == 1
    assert check_runs(((0, CHUNK_PAGES + 1),), SIZE) == 2
    assert check_runs((), SIZE) == 0
