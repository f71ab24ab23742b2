"""What blocks cost, kept on disk by their bytes, so that a second start is quick.

A file for each core and each version of the models: `KEY` below is a digest of their sources and
tables, so that costs never outlive the code that worked them out. The file is searched where it
lies, not read: hashes of the blocks in order, where each record begins, then the records, each with
a checksum. What is damaged is worked out again; a cache that cannot be written is none. The same
blocks cost the same with it and without it.
"""

from __future__ import annotations

import functools
import hashlib
import mmap
import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path

from emu.arm.arch import INSN_SIZE
from emu.cycles.model import BlockCost

MAGIC = b"hvcemu blocks 1\n"
_HEAD = struct.Struct("<16sQ")
_RECORD = struct.Struct("<IHH")
"""Checksum of the rest, words of code, how many of them no table knows."""
_CHECKSUM = 4
"""Bytes of it, the first of a record."""
MOST_BYTES = 64 << 20
"""Of a file: larger ones are begun anew. Our choice; a boot of Linux leaves some 4 MiB."""
MAX_WORDS = 1024
"""A block ends with its page of 4 KiB."""


def folder() -> Path | None:
    """Where caches lie: HVCEMU_CACHE, or the user's; None where HVCEMU_CACHE is 0."""
    chosen = os.environ.get("HVCEMU_CACHE")
    if chosen == "0":
        return None
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base, "hvcemu", "blocks")


@functools.cache
def key() -> str:
    """A digest of everything a cost depends on but the block."""
    here = Path(__file__).parent
    digest = hashlib.blake2b(MAGIC, digest_size=8)
    decoder = here.parent.joinpath("arm").glob("a64*")
    prices = (here / name for name in ("model.py", "block_costs.py", "system_prices.py"))
    parts = (*decoder, *here.glob("cores/**/*"), *prices)
    for path in sorted(path for path in parts if path.is_file() and path.suffix != ".pyc"):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def path_of(core: str) -> Path | None:
    """The file of a core; None where nothing is to be kept."""
    where = folder()
    return where / f"{core}-{key()}.blocks" if where else None


def _hash(code: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(code, digest_size=8).digest(), "little")


class BlockCache:
    """The file of one core, as it was when it was opened."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._data: mmap.mmap | bytes = b""
        self._hashes = self._starts = memoryview(b"")
        if path is not None:
            self._open(path)

    def _open(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            magic, count = _HEAD.unpack_from(data)
            first = _HEAD.size + 8 * count
            hashes = memoryview(data)[_HEAD.size : first].cast("Q")
            starts = memoryview(data)[first : first + 4 * count].cast("I")
        except (OSError, ValueError, TypeError, struct.error):
            return  # not there, empty, or cut short
        if magic == MAGIC and len(hashes) == len(starts) == count:
            self._data, self._hashes, self._starts = data, hashes, starts

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, code: bytes) -> BlockCost | None:
        """The cost of a block; None where it is not known."""
        wanted = _hash(code)
        n = bisect_left(self._hashes, wanted)
        if n < len(self._hashes) and self._hashes[n] == wanted:
            found = self._read(self._starts[n])
            if found and found[0] == code:
                return found[1]
        return None

    def _read(self, start: int) -> tuple[bytes, BlockCost] | None:
        """The record there; None where it is damaged."""
        try:
            checksum, words, unknown = _RECORD.unpack_from(self._data, start)
            begin, size = start + _RECORD.size, INSN_SIZE * words
            code = bytes(self._data[begin : begin + size])
            prefix = struct.unpack_from(f"<{words}I", self._data, begin + size)
        except struct.error:
            return None
        if zlib.crc32(self._data[start + _CHECKSUM : begin + 2 * size]) != checksum:
            return None
        return code, BlockCost((0, *prefix), unknown)

    def _all(self) -> Iterator[tuple[bytes, BlockCost]]:
        for start in self._starts:
            if found := self._read(start):
                yield found

    def keep(self, blocks: Iterable[tuple[bytes, BlockCost]]) -> bool:
        """Write what is known and these, in place of what was there; False where it cannot be."""
        if self._path is None:
            return False
        known = {code: _record(code, cost) for code, cost in (*self._all(), *blocks)
                 if len(code) <= INSN_SIZE * MAX_WORDS}  # fmt: skip
        if sum(map(len, known.values())) > MOST_BYTES:
            known = {code: _record(code, cost) for code, cost in blocks}
        try:
            self._write(sorted((_hash(code), record) for code, record in known.items()))
        except OSError:
            return False
        return True

    def _write(self, records: list[tuple[int, bytes]]) -> None:
        import tempfile  # a run that has learnt nothing writes nothing

        assert self._path is not None
        self._path.parent.mkdir(parents=True, exist_ok=True)
        starts, start = [], _HEAD.size + 12 * len(records)
        for _, record in records:
            starts.append(start)
            start += len(record)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".blocks-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_HEAD.pack(MAGIC, len(records)))
                file.write(struct.pack(f"<{len(records)}Q", *(hashed for hashed, _ in records)))
                file.write(struct.pack(f"<{len(records)}I", *starts))
                file.writelines(record for _, record in records)
            os.replace(name, self._path)
            self._drop_others()
        except BaseException:
            os.unlink(name)
            raise

    def _drop_others(self) -> None:
        """Files of the same core that other versions of the models have left."""
        assert self._path is not None
        core = self._path.name.rpartition("-")[0]
        for other in self._path.parent.glob(f"{core}-????????????????.blocks"):
            if other != self._path:
                other.unlink(missing_ok=True)


def _record(code: bytes, cost: BlockCost) -> bytes:
    words = len(code) // INSN_SIZE
    prefix = struct.pack(f"<{words}I", *cost.prefix[1:])
    rest = struct.pack("<HH", words, cost.unknown) + code + prefix
    return zlib.crc32(rest).to_bytes(4, "little") + rest
