"""Guest memory in a file: only pages that hold something, and those mostly compressed.

Memory is a list of runs of non-zero 4 KiB pages. Their contents, in order, are cut into chunks
of `CHUNK` bytes, each compressed for itself, so that all processors of the host can work at
once. The chunks that shrink least are stored as they are, as many of them as keep the whole
below twice what compressing everything would give: most of the time would go into what gains
least. A sample of each chunk, taken first, tells which those are.

Reading trusts no number: a run must lie in the memory, a chunk must give exactly the bytes that
its pages need, and not one more is ever decompressed.
"""

from __future__ import annotations

import mmap
import os
import weakref
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

PAGE = 4096
CHUNK_PAGES = 64
CHUNK = CHUNK_PAGES * PAGE
SAMPLE = 16
"""One page in so many is tried before a chunk is compressed."""
STORED = 1.7
"""How much larger than all compressed at `LEVEL` the whole may become; twice that of level 6,
which is 7 % smaller, less the error of the samples."""
LEVEL = 1
"""Of zlib: of a kernel's image, 6 takes three times as long and makes it 7 % smaller."""
BATCH = 64
"""Chunks in flight: 16 MiB of the guest at a time, whatever its size."""
MAX_THREADS = 8
PAGEMAP = "/proc/self/pagemap"
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_ZERO_CHUNK, _ZERO_PAGE = bytes(CHUNK), bytes(PAGE)

Runs = tuple[tuple[int, int], ...]
"""(first page, number of pages), in ascending order, with a gap between each two."""


class PagesError(ValueError):
    """Runs or chunks that describe no memory."""


# -- finding ------------------------------------------------------------------------------------

_backed: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def back_by_file(block: mmap.mmap) -> None:
    """Note that memory was laid over a file: a page the host has not touched may hold something."""
    _backed.add(block)


def find_runs(block: mmap.mmap, address: int) -> Runs:
    """The non-zero pages of memory that lies at `address` in this process."""
    runs: list[tuple[int, int]] = []
    whole = [(0, len(block))]
    for start, end in whole if block in _backed else _touched(address, len(block)):
        for page in _nonzero(block, start, end):
            first, count = runs[-1] if runs else (-2, 0)
            if first + count == page:
                runs[-1] = first, count + 1
            else:
                runs.append((page, 1))
    return tuple(runs)


def _nonzero(block: mmap.mmap, start: int, end: int) -> Iterator[int]:
    for offset in range(start, end, CHUNK):
        data = block[offset : min(offset + CHUNK, end)]
        if data == _ZERO_CHUNK[: len(data)]:
            continue
        for inside in range(0, len(data), PAGE):
            if data[inside : inside + PAGE] != _ZERO_PAGE:
                yield (offset + inside) // PAGE


def _touched(address: int, size: int) -> Iterator[tuple[int, int]]:
    """Byte ranges the host has given memory; all of it where the host does not tell.

    Linux tells in /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst): 64 bits for
    each page, bit 63 present, bit 62 swapped out. Private memory with neither is zero.
    """
    host_page = mmap.PAGESIZE
    try:
        with open(PAGEMAP, "rb", buffering=0) as file:
            for start in range(0, size, BATCH * CHUNK):
                length = min(BATCH * CHUNK, size - start)
                file.seek((address + start) // host_page * 8)
                raw = file.read(-(-length // host_page) * 8)
                entries = array("Q", raw)
                if raw and raw == raw[:8] * len(entries) and not entries[0] >> 62:
                    continue  # nothing here, told without a look at each page
                yield from _present(entries, start, host_page)
    except (OSError, ValueError):
        yield 0, size


def _present(entries: array[int], start: int, host_page: int) -> Iterator[tuple[int, int]]:
    begin = None
    for index, entry in enumerate((*entries, 0)):
        if entry >> 62 and begin is None:
            begin = index
        elif not entry >> 62 and begin is not None:
            yield start + begin * host_page, start + index * host_page
            begin = None


def spans(runs: Runs) -> Iterator[list[tuple[int, int]]]:
    """The pieces of runs that make up each chunk."""
    pieces: list[tuple[int, int]] = []
    room = CHUNK_PAGES
    for first, count in runs:
        while count:
            take = min(room, count)
            pieces.append((first, take))
            first, count, room = first + take, count - take, room - take
            if not room:
                yield pieces
                pieces, room = [], CHUNK_PAGES
    if pieces:
        yield pieces


# -- writing ------------------------------------------------------------------------------------


class Packing:
    """A memory on its way into a file: its runs, and the lengths of the chunks given so far."""

    def __init__(self, base: int, block: mmap.mmap, address: int) -> None:
        self.base, self.size, self._block = base, len(block), block
        self.runs = find_runs(block, address)
        self.lengths: list[int] = []

    def __iter__(self) -> Iterator[bytes]:
        """The chunks as they are stored."""
        chunks = list(spans(self.runs))
        as_it_is = _worst(list(_at_once(self._sample, chunks)), list(map(_size, chunks)))

        def gather(number: int) -> bytes:
            data = self._read(chunks[number])
            return data if number in as_it_is else _deflate(data)

        for chunk in _at_once(gather, range(len(chunks))):
            self.lengths.append(len(chunk))
            yield chunk

    def _read(self, pieces: list[tuple[int, int]]) -> bytes:
        block = self._block
        return b"".join(block[first * PAGE : (first + count) * PAGE] for first, count in pieces)

    def _sample(self, pieces: list[tuple[int, int]]) -> float:
        """To what part of itself a chunk would shrink, by one page in `SAMPLE` of it."""
        data = self._read(pieces)
        sample = b"".join(data[n : n + PAGE] for n in range(0, len(data), SAMPLE * PAGE))
        return min(len(zlib.compress(sample, LEVEL)) / len(sample), 1.0)


def _size(pieces: list[tuple[int, int]]) -> int:
    return sum(count for _, count in pieces) * PAGE


def _worst(ratios: list[float], sizes: list[int]) -> set[int]:
    """The chunks to store as they are: those that shrink least, while there is room for them."""
    room = (STORED - 1) * sum(r * size for r, size in zip(ratios, sizes, strict=True))
    chosen = set()
    for number in sorted(range(len(sizes)), key=lambda n: (-ratios[n], n)):
        room -= (1 - ratios[number]) * sizes[number]
        if room < 0:
            break
        chosen.add(number)
    return chosen


def _deflate(data: bytes) -> bytes:
    packed = zlib.compress(data, LEVEL)
    return packed if len(packed) < len(data) else data


def _at_once(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """`work` on each item, on all processors (zlib lets go of the GIL), results in order."""
    from concurrent.futures import ThreadPoolExecutor  # only who saves or loads needs it

    items = iter(items)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as pool:
        while batch := list(islice(items, BATCH)):
            yield from pool.map(work, batch)


# -- reading ------------------------------------------------------------------------------------


def check_runs(runs: Runs, size: int) -> int:
    """The number of chunks of these runs; PagesError when they do not fit into `size` bytes."""
    end = -1
    for first, count in runs:
        if first <= end or not count:
            raise PagesError("its pages are not in order")
        end = first + count
    if end * PAGE > size:
        raise PagesError("it has pages outside the guest's memory")
    return -(-sum(count for _, count in runs) // CHUNK_PAGES)


def unpack(
    block: mmap.mmap, runs: Runs, chunks: Sequence[int], read: Callable[[int], bytes]
) -> None:
    """Write pages into memory that is all zero; `read` gives the stored bytes in order."""
    pieces = list(spans(runs))

    def inflate(chunk: tuple[bytes, int]) -> bytes:
        return _inflate(*chunk)

    stored = (
        (read(length), sum(count for _, count in part) * PAGE)
        for length, part in zip(chunks, pieces, strict=True)
    )
    for part, data in zip(pieces, _at_once(inflate, stored), strict=True):
        offset = 0
        for first, count in part:
            block[first * PAGE : (first + count) * PAGE] = data[offset : offset + count * PAGE]
            offset += count * PAGE


def _inflate(data: bytes, size: int) -> bytes:
    if len(data) == size:
        return data
    decoder = zlib.decompressobj()
    try:
        plain = decoder.decompress(data, size + 1)
    except zlib.error:
        raise PagesError("its memory cannot be decompressed") from None
    if len(plain) != size or not decoder.eof or decoder.unused_data:
        raise PagesError("its memory is not as long as its pages")
    return plain
