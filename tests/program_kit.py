"""A static user program of a few instructions, as an ELF file."""

from __future__ import annotations

import struct

BASE = 0x40_0000
EXIT, WRITE, MMAP, BRK, CLOCK_GETTIME = 93, 64, 222, 214, 113


def elf(words: list[int], *, kind: int = 2, interpreter: str = "", text: bytes = b"") -> bytes:
    """A program of one segment (gABI chapters 4 and 5): headers, code at 0x100, then text."""
    base = BASE if kind == 2 else 0
    path = interpreter.encode() + b"\0" if interpreter else b""
    body = struct.pack(f"<{len(words)}I", *words) + text
    ident = b"\x7fELF\2\1\1".ljust(16, b"\0")
    count = 1 + bool(path)
    data = struct.pack("<16sHHIQQQIHHHHHH", ident, kind, 183, 1, base + 0x100, 64, 0, 0, 64, 56,
                       count, 0, 0, 0)  # fmt: skip
    size = 0x100 + len(body)
    data += struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    if path:
        data += struct.pack("<IIQQQQQQ", 3, 4, 0xC0, base, base, len(path), len(path), 1)
    return data.ljust(0xC0, b"\0") + path.ljust(0x40, b"\0") + body
