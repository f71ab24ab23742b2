"""ELF programs for arm64: read, placed and relocated (gABI chapters 4 and 5, aaelf64).

Known are 64-bit little-endian AArch64 files, linked at fixed addresses (ET_EXEC) or
position-independent without an interpreter ("static PIE", ET_DYN), which we place and relocate.
Segments go to `p_paddr`, and an entry point inside a segment moves with it, since the MMU is off
at reset; QEMU does the same (include/hw/elf_ops.h.inc). Some linkers leave every `p_paddr` zero,
which then means `p_vaddr` (binutils bfd/elf.c has the same rule).

The headers are read with `struct`, in 0.1 ms. pyelftools is imported for relocations and symbols
alone: it adds 25 to 40 ms to the 70 that Python and Unicorn need to start, and a plain guest
needs neither.

Not known: 32-bit, big-endian or dynamically linked programs, R_AARCH64_IRELATIVE. A PIE that
applies its own RELR table would see its addends moved twice (with RELA nothing changes).
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from emu.base.errors import BootError
from emu.images.image import (
    MIB,
    Image,
    ImageKind,
    Segment,
    Wish,
    align_up,
    check_entry,
    check_layout,
)
from emu.images.symbols import Symbols

PIE_OFFSET = 0x8_0000  # our choice: the distance a legacy Image keeps from RAM's base too

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr, gABI chapter 4
_PHDR = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr, gABI chapter 5
_EM_AARCH64 = 183  # aaelf64 "ELF Header"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3  # gABI chapter 5
_PF_X = 1  # gABI chapter 5, p_flags
_ET_REL, _ET_EXEC, _ET_DYN = 1, 2, 3  # gABI chapter 4
_NOT_PROGRAMS = {0: "an ELF without a type", 1: "an object file (.o)", 4: "a core dump"}
_MACHINES = {  # gABI chapter 4, e_machine: those that people are likely to have at hand
    3: "x86", 8: "MIPS", 20: "PowerPC", 21: "PowerPC64", 22: "S390", 40: "Arm (32-bit)",
    62: "x86-64", 243: "RISC-V", 247: "BPF", 258: "LoongArch",
}  # fmt: skip


class _Phdr(NamedTuple):
    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


def load_elf(data: bytes, wish: Wish) -> Image:
    """The program in `data`, placed where its headers or the user say."""
    kind, entry, headers = _elf_headers(data, wish)
    loads = [header for header in headers if header.type == _PT_LOAD and header.memsz]
    if not loads:
        wish.refuse("the ELF has no loadable segment; link it into a program first")
    for number, header in enumerate(loads):
        if header.filesz > header.memsz or header.offset + header.filesz > len(data):
            wish.refuse(f"loadable segment {number} is truncated; build or copy the file again")
    if kind == _ET_DYN:
        return _pie(data, entry, loads, headers, wish)
    if wish.load is not None:
        wish.refuse(
            "the ELF is linked at fixed addresses; drop --load, or link it with -static-pie"
        )
    if not any(header.paddr for header in loads):
        loads = [header._replace(paddr=header.vaddr) for header in loads]
    moved = [h.paddr - h.vaddr for h in loads if h.vaddr <= entry < h.vaddr + h.memsz]
    shift = moved[0] if moved else 0
    segments = _segments(data, loads, wish)
    entry = check_entry(entry + shift, segments, wish)
    symbols = Symbols.from_elf(data, physical=shift)
    return Image(wish.path, ImageKind.ELF, entry, segments, symbols)


def is_object(data: bytes) -> bool:
    """Whether a file is a relocatable object, of whatever machine."""
    order = ">" if data[5:6] == b"\x02" else "<"
    return data.startswith(b"\x7fELF") and data[16:18] == struct.pack(f"{order}H", _ET_REL)


def check_header(data: bytes, wish: Wish) -> None:
    """Refuse a file that is not for this machine."""
    if data[4:5] == b"\x01":
        wish.refuse("is a 32-bit ELF; build it for aarch64 (hvcemu runs 64-bit code only)")
    if data[5:6] == b"\x02":
        wish.refuse("is a big-endian ELF; build it for little-endian aarch64")
    if len(data) < _EHDR.size:
        wish.refuse(f"the ELF header is truncated at {len(data)} bytes; build or copy it again")
    machine = _EHDR.unpack_from(data)[2]
    if machine != _EM_AARCH64:
        name = _MACHINES.get(machine, f"machine-{machine}")
        wish.refuse(f"is an ELF for {name}; build it for aarch64")


def _elf_headers(data: bytes, wish: Wish) -> tuple[int, int, list[_Phdr]]:
    """(e_type, e_entry, program headers) of a program for this machine."""
    check_header(data, wish)
    ehdr = _EHDR.unpack_from(data)
    kind, entry, start, each, count = (ehdr[i] for i in (1, 4, 5, 9, 10))
    if kind not in (_ET_EXEC, _ET_DYN):
        what = _NOT_PROGRAMS.get(kind, f"an ELF of type {kind:#x}")
        wish.refuse(f"is {what}, not a program; link it first")
    if count and each != _PHDR.size:
        wish.refuse(f"program headers of {each} bytes are not ELF64's {_PHDR.size}; build it again")
    if start + count * _PHDR.size > len(data):
        wish.refuse("the program headers are truncated; build or copy the file again")
    table = data[start : start + count * _PHDR.size]
    headers = [_Phdr._make(fields) for fields in _PHDR.iter_unpack(table)]
    if any(header.type == _PT_INTERP for header in headers):
        wish.refuse("is dynamically linked (it names an interpreter); link it with -static")
    return kind, entry, headers


def _segments(data: bytes, loads: list[_Phdr], wish: Wish) -> tuple[Segment, ...]:
    """The loadable segments at their p_paddr; the layout is checked before any byte is copied."""
    loads = sorted(loads, key=lambda header: header.paddr)
    laid = check_layout(
        [Segment(h.paddr, b"", h.memsz, bool(h.flags & _PF_X)) for h in loads], wish
    )
    return tuple(
        replace(segment, data=data[header.offset : header.offset + header.filesz])
        for segment, header in zip(laid, loads, strict=True)
    )


def _pie(data: bytes, entry: int, loads: list[_Phdr], headers: list[_Phdr], wish: Wish) -> Image:
    """Places a position-independent program and applies its relocations."""
    lowest = min(header.vaddr for header in loads)
    # gABI chapter 5: p_align is 0, 1 or a power of two; code with ADRP needs whole pages.
    sane = [h.align for h in loads if h.align <= 2 * MIB and h.align.bit_count() == 1]
    align = max([4096, *sane])
    base = lowest - lowest % align
    load = align_up(wish.ram.base + PIE_OFFSET, align) if wish.load is None else wish.load
    if load % align:
        wish.refuse(f"--load {load:#x} must be a multiple of {align:#x}, the program's alignment")
    bias = load - base
    segments = _segments(data, [h._replace(paddr=h.vaddr + bias) for h in loads], wish)
    if any(header.type == _PT_DYNAMIC for header in headers):
        segments = _relocate(segments, bias, _relocations(data, headers, wish), wish)
    entry = check_entry(entry + bias, segments, wish)
    return Image(wish.path, ImageKind.ELF, entry, segments, Symbols.from_elf(data, bias=bias))


def _relocate(
    segments: tuple[Segment, ...],
    bias: int,
    relocations: Iterator[tuple[int, int | None]],
    wish: Wish,
) -> tuple[Segment, ...]:
    """The segments with R_AARCH64_RELATIVE (RELA) and RELR relocations applied."""
    memory = [bytearray(segment.data) for segment in segments]
    for offset, addend in relocations:
        place = offset + bias
        number = next((n for n, s in enumerate(segments) if s.address <= place <= s.end - 8), None)
        if number is None:
            wish.refuse(f"a relocation at {place:#x} lies outside the segments; build it again")
        _patch(memory[number], place - segments[number].address, addend, bias)
    return tuple(
        replace(segment, data=bytes(content))
        for segment, content in zip(segments, memory, strict=True)
    )


def _patch(content: bytearray, at: int, addend: int | None, bias: int) -> None:
    """Delta(S) + A, aaelf64 "Dynamic relocations"; RELR keeps A in place."""
    content.extend(bytes(max(0, at + 8 - len(content))))  # the place may be in .bss
    value = int.from_bytes(content[at : at + 8], "little") if addend is None else addend
    content[at : at + 8] = ((value + bias) % 2**64).to_bytes(8, "little")


# (table, its address, its size): tags of the dynamic section, gABI chapter 5 "Dynamic Section"
_TABLES = (("RELA", 7, 8), ("REL", 17, 18), ("JMPREL", 23, 2), ("RELR", 36, 35))
_DT_NULL, _DT_NEEDED = 0, 1


def _relocations(
    data: bytes, headers: list[_Phdr], wish: Wish
) -> Iterator[tuple[int, int | None]]:
    """(link address, addend or None where the addend is in place) of every relocation."""
    tags = _dynamic_tags(data, headers)
    if _DT_NEEDED in tags:
        wish.refuse("is dynamically linked (it needs a library); link it with -static-pie")
    for table, where, length in _TABLES:
        size = tags.get(length, 0)
        if where not in tags or not size:
            continue
        start = _file_offset(tags[where], size, headers)
        if start is None or start + size > len(data):
            wish.refuse(f"the {table} table lies outside the segments; build or copy it again")
        try:
            for entry in _entries(data, table, start, size):
                yield from _relative(table, entry, wish)
        except (BootError, GeneratorExit):
            raise
        except Exception as error:  # pyelftools raises whatever its parts raise
            wish.refuse(f"the {table} table is broken ({type(error).__name__}); build it again")


def _dynamic_tags(data: bytes, headers: list[_Phdr]) -> dict[int, int]:
    """By `struct`: pyelftools' reader insists on a string table, which linker scripts discard."""
    dynamic = next(header for header in headers if header.type == _PT_DYNAMIC)
    content = data[dynamic.offset : dynamic.offset + dynamic.filesz]
    pairs = struct.iter_unpack("<QQ", content[: len(content) & ~15])  # Elf64_Dyn: d_tag, d_val
    return dict(itertools.takewhile(lambda pair: pair[0] != _DT_NULL, pairs))


def _file_offset(address: int, size: int, headers: list[_Phdr]) -> int | None:
    for h in headers:
        if h.type == _PT_LOAD and h.vaddr <= address <= h.vaddr + h.filesz - size:
            return address - h.vaddr + h.offset
    return None


def _entries(data: bytes, table: str, start: int, size: int) -> Iterator[Any]:
    """The entries of one table; pyelftools gets no section table, broken ones do no harm then."""
    from io import BytesIO

    from elftools.elf.elffile import ELFFile
    from elftools.elf.relocation import RelocationTable, RelrRelocationTable

    sectionless = data[:40] + bytes(8) + data[48:60] + bytes(4) + data[64:]  # e_shoff, e_shnum …
    elf = ELFFile(BytesIO(sectionless))
    relocations: Any
    if table == "RELR":
        relocations = RelrRelocationTable(elf, start, size, 8)
    else:
        relocations = RelocationTable(elf, start, size, table != "REL")
    for relocation in relocations.iter_relocations():
        yield relocation.entry


def _relative(table: str, entry: Any, wish: Wish) -> Iterator[tuple[int, int | None]]:
    """Nothing for NONE, one pair for RELATIVE; a program for itself alone needs no other."""
    if table == "RELR":
        yield entry["r_offset"], None
        return
    kind = entry["r_info_type"]
    if kind in (0, 256):  # R_AARCH64_NONE and its withdrawn code, aaelf64
        return
    if kind != 1027 or table == "REL":  # R_AARCH64_RELATIVE, aaelf64
        wish.refuse(f"needs relocation {_name(kind)} ({table}); link it with -static-pie")
    yield entry["r_offset"], entry["r_addend"]


def _name(kind: int) -> str:
    from elftools.elf.enums import ENUM_RELOC_TYPE_AARCH64

    names = [name for name, value in ENUM_RELOC_TYPE_AARCH64.items() if value == kind]
    return names[0] if names else f"type {kind}"
