"""Saved machines taken apart, changed, and put together again with a checksum that is right."""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

from emu.base import savefile
from emu.base.savefile import MAGIC, PREFIX, SCHEMA


def parts(data: bytes) -> tuple[Any, bytes]:
    """Header and data of a file."""
    size = PREFIX.unpack_from(data)[4]
    return json.loads(zlib.decompress(data[PREFIX.size + size :])), data[PREFIX.size :][:size]


def forged(header: bytes | Any, data: bytes, **other: int) -> bytes:
    """A file whose checksum is right, whatever is in it."""
    plain = header if isinstance(header, bytes) else savefile.encode(header)
    stored = zlib.compress(plain, 6)
    schema, size, length = (
        other.get("schema", SCHEMA), other.get("plain", len(plain)), other.get("size", len(data))
    )  # fmt: skip
    numbers = (MAGIC, schema, size, len(stored), length)
    digest = hashlib.sha256(data + stored + PREFIX.pack(*numbers, b"")).digest()
    return PREFIX.pack(*numbers, digest) + data + stored


def changed(header: Any, *path: Any, to: Any) -> Any:
    copy = json.loads(json.dumps(header))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return copy
