"""What a guest image is once it is read, and where in RAM it may lie.

Both readers, `elf.py` and `boot.py`, build an `Image` of these pieces and have it checked here:
every segment inside RAM, no two of them in one place, the entry point inside the image. Each
refusal is one line of `BootError` that says what to do next.
"""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from emu.base.bus import RAM_BASE
from emu.base.errors import BootError, one_line
from emu.images.symbols import Symbols

MIB = 1 << 20
MEM_MAX = 4096  # MiB; our choice of what `--mem` can be advised


class ImageKind(enum.StrEnum):
    ELF = "elf"
    LINUX = "linux"
    RAW = "raw"
    OBJECT = "object"
    """Relocatable objects: functions to call, and nothing to boot."""


@dataclass(frozen=True, slots=True)
class Segment:
    """`size` bytes at `address`: first `data`, then zeros."""

    address: int
    data: bytes = field(repr=False)
    size: int
    executable: bool = False

    @property
    def end(self) -> int:
        return self.address + self.size


@dataclass(frozen=True, slots=True)
class Image:
    path: str
    kind: ImageKind
    entry: int
    segments: tuple[Segment, ...]
    symbols: Symbols = field(compare=False, repr=False)
    digest: str = field(compare=False, repr=False, default="")
    """Of an ELF that is no longer here: `image_digest` of it, to know it again by."""


@dataclass(frozen=True, slots=True)
class Ram:
    base: int = RAM_BASE
    size: int = 64 * MIB

    @property
    def end(self) -> int:
        return self.base + self.size


def image_digest(image: Image) -> str:
    """SHA-256 of what an ELF puts where; "" for images without symbols."""
    if image.digest or image.kind is not ImageKind.ELF:
        return image.digest
    import hashlib  # 3 ms of a start-up that only a saved machine needs

    digest = hashlib.sha256(image.entry.to_bytes(8, "little"))
    for segment in image.segments:
        digest.update(f"{segment.address} {segment.size} {len(segment.data)} ".encode())
        digest.update(segment.data)
    return digest.hexdigest()


class Wish(NamedTuple):
    """What the user asked for, and how the file is called in messages."""

    path: str
    ram: Ram
    load: int | None
    entry: int | None

    def refuse(self, why: str) -> NoReturn:
        raise BootError(f"{self.path}: {one_line(why)}")


def align_up(address: int, step: int) -> int:
    return -(-address // step) * step


def check_place(what: str, start: int, end: int, wish: Wish) -> None:
    """Refuses what is not wholly inside RAM, and says by how much."""
    ram, span = wish.ram, f"{what} {start:#x}..{end:#x}"
    move = "relink it into RAM" if wish.load is None else "choose another --load"
    if start < ram.base:
        wish.refuse(f"{span} starts {ram.base - start:#x} bytes below RAM ({ram.base:#x}); {move}")
    if end > ram.end:
        mebibytes = align_up(end - ram.base, MIB) // MIB
        # A need beyond MEM_MAX means a wrong address, not a RAM that is too small.
        move = f"use --mem {mebibytes}M" if mebibytes <= MEM_MAX else move
        wish.refuse(f"{span} ends {end - ram.end:#x} bytes beyond RAM ({ram.end:#x}); {move}")


def check_layout(segments: list[Segment], wish: Wish) -> tuple[Segment, ...]:
    ordered = sorted(segments, key=lambda segment: segment.address)
    for segment in ordered:
        check_place("segment", segment.address, segment.end, wish)
    for low, high in itertools.pairwise(ordered):
        if high.address < low.end:
            wish.refuse(f"segments at {low.address:#x} and {high.address:#x} overlap; relink it")
    return tuple(ordered)


def check_entry(entry: int, segments: tuple[Segment, ...], wish: Wish) -> int:
    """`--entry` may be anywhere in RAM; the file's own entry must be inside the image."""
    if wish.entry is not None:
        entry = wish.entry
        check_place("--entry", entry, entry + 4, wish)
    elif not any(segment.address <= entry < segment.end for segment in segments):
        wish.refuse(f"entry point {entry:#x} is outside the image; link with -e, or use --entry")
    if entry % 4:
        wish.refuse(f"entry point {entry:#x} is not a multiple of 4, as A64 code needs")
    return entry
