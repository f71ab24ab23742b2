"""Images made by hand: ELF programs, Linux kernels and their wrappers, good and broken."""

from __future__ import annotations

import struct

from emu.images.image import Image, Ram

BASE = 0x4000_0000
RAM = Ram()
PIE = BASE + 0x8_0000
TEXT = struct.pack("<4I", 0xD280_0000, 0xD400_0002, 0x1400_0000, 0xD503_201F)
LOAD, DYNAMIC, INTERP = 1, 2, 3
EXEC, DYN = 2, 3


def phdr(kind=LOAD, offset=0, vaddr=BASE, filesz=None, memsz=None, paddr=None, align=0x1000):
    filesz = len(TEXT) if filesz is None else filesz
    memsz = filesz if memsz is None else memsz
    paddr = vaddr if paddr is None else paddr
    return struct.pack("<IIQQQQQQ", kind, 5, offset, vaddr, paddr, filesz, memsz, align)


def elf(*headers: bytes, entry=BASE, body=TEXT, etype=EXEC, machine=183, each=56, count=None):
    """A file whose body starts at offset 0x1000."""
    count = len(headers) if count is None else count
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    ehdr = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, etype, machine, 1, entry, 64, 0, 0, 64, each, count, 64, 0, 0
    )
    return (ehdr + b"".join(headers)).ljust(0x1000, b"\0") + body


def good(**more) -> bytes:
    return elf(phdr(offset=0x1000, memsz=0x100), **more)


def pie(tables: dict[int, bytes], extra: tuple[tuple[int, int], ...] = (), size=0x1200) -> bytes:
    """One segment at 0 over the whole file; code at 0x1000, data at 0x1040, tables behind.

    `tables` maps the tag of a table (7 RELA, 17 REL, 36 RELR, 23 JMPREL) to its bytes.
    """
    companions = {7: (8, 9, 24), 17: (18, 19, 16), 36: (35, 37, 8), 23: (2, 20, 7)}
    blob, tags = b"", []
    for tag, table in tables.items():
        size_tag, each_tag, each = companions[tag]
        tags += [(tag, 0x1080 + len(blob)), (size_tag, len(table)), (each_tag, each)]
        blob += table
    at = 0x1080 + len(blob)
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in (*tags, *extra, (0, 0)))
    body = TEXT.ljust(0x40, b"\0") + struct.pack("<8Q", *range(0x1000, 0x1008)) + blob + dynamic
    headers = (
        phdr(offset=0, vaddr=0, filesz=0x1000 + len(body), memsz=max(size, 0x1000 + len(body))),
        phdr(DYNAMIC, offset=at, vaddr=at, filesz=len(dynamic)),
    )
    return elf(*headers, entry=0x1000, body=body, etype=DYN)


def rela(offset: int, kind: int, addend: int) -> bytes:
    return struct.pack("<QQq", offset, kind, addend)


def linux(text_offset=0, image_size=0x20_0000, flags=0xA, size=256) -> bytes:
    head = struct.pack("<IIQQQ24sII", 0, 0, text_offset, image_size, flags, b"", 0x644D_5241, 0)
    return head.ljust(size, b"\1")


def zboot(payload: bytes, packing=b"gzip", size=None) -> bytes:
    size = len(payload) if size is None else size
    return struct.pack("<4s4sII8x32s8x", b"MZ\0\0", b"zimg", 64, size, packing) + payload


def check_image(image: Image) -> None:
    """What holds of every image that a reader does not refuse."""
    assert image.segments
    image.symbols.name(image.entry)
    for segment in image.segments:
        assert len(segment.data) <= segment.size
        assert BASE <= segment.address <= segment.end <= RAM.end
