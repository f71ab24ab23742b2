"""From a file on disk to what lies in RAM at reset: ELF programs, arm64 Linux Images, raw code.

Three kinds are known, told apart by their first bytes:

* **ELF**: 64-bit AArch64 programs, read by `elf.py`.
* **LINUX**: the `Image` of Documentation/arch/arm64/booting.rst, also inside gzip (`Image.gz`) or
  an EFI zboot wrapper with gzip inside (linux drivers/firmware/efi/libstub/zboot-header.S).
* **RAW**: anything else, but only where the user says at which address it belongs.

Where the caller wants functions rather than a program, there is a fourth: relocatable objects,
linked by `objects.py`.

Sizes are checked before anything is allocated; a segment keeps only its file bytes, and the rest
of `size` is zero. Whatever a broken file holds, the outcome is an `Image` or one line of
`BootError`.

Not known: zboot with zstd or xz inside, uImage. `place_dtb` sees the image only, so an initrd goes
where it leaves room.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from emu.base.errors import BootError
from emu.images.elf import is_object, load_elf
from emu.images.image import (
    MIB,
    Image,
    ImageKind,
    Ram,
    Segment,
    Wish,
    align_up,
    check_entry,
    check_layout,
)
from emu.images.symbols import Symbols

__all__ = ["Image", "ImageKind", "Parts", "Ram", "Segment", "load_image", "looks_like", "place_dtb"]

DTB_ALIGN, DTB_MAX = 8, 2 * MIB  # booting.rst "Setup the device tree"
IMAGE_ALIGN = 2 * MIB  # booting.rst "Call the kernel image": text_offset from a 2 MiB boundary
PAGES_OF_16_KIB = 2  # booting.rst: bits 1 and 2 of flags
LEGACY_TEXT_OFFSET = 0x8_0000  # booting.rst: assumed where image_size is zero (before v3.17)
MEMORY, LINUX_MEMORY = 64 * MIB, 512 * MIB
FILE_MAX = 1 << 30  # our choice: a vmlinux with debug information stays well below it


class Parts(NamedTuple):
    """What an object is linked with: other objects, and the bytes that each stub needs."""

    libraries: tuple[str, ...] = ()
    stubs: Mapping[str, int] = {}


def load_image(
    path: str | os.PathLike[str],
    *,
    ram: Ram,
    load: int | None = None,
    entry: int | None = None,
    parts: Parts | None = None,
) -> Image:
    """The image in `path`, checked against `ram`; BootError says what is wrong with it.

    Object files are taken with `parts` only.
    """
    wish = Wish(os.fspath(path), ram, load, entry)
    data = _read(wish)
    if parts is None or not is_object(data):
        if parts and parts.libraries:
            wish.refuse("is no object file, so there is nothing to link libraries= with")
        return _image(data, wish)
    from emu.images.objects import load_objects  # who boots a program needs none of it

    libraries = [(path, _read(wish._replace(path=path))) for path in parts.libraries]
    return load_objects([(wish.path, data), *libraries], wish, parts.stubs)


def default_memory(path: str | os.PathLike[str], *, in_flash: bool = False) -> int:
    """How much RAM a guest gets that was not given any: Linux and firmware need more."""
    if in_flash:
        return LINUX_MEMORY
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(_LINUX.size)
    except (OSError, ValueError):
        return MEMORY  # load_image says what is wrong
    packed = head.startswith(b"\x1f\x8b") or head[4:8] == b"zimg"
    return LINUX_MEMORY if _is_linux(head) or packed else MEMORY


def _image(data: bytes, wish: Wish) -> Image:
    if data.startswith(b"\x7fELF"):
        return load_elf(data, wish)
    if _is_linux(data):
        return _linux(data, wish)
    if data.startswith(b"\x1f\x8b"):
        return _unpacked(data, wish)
    if data[4:8] == b"zimg" and data.startswith(b"MZ"):
        return _zboot(data, wish)
    return _raw(data, wish)


def _read(wish: Wish) -> bytes:
    """The whole file; only regular files, so that no pipe or device can hold us up."""
    try:
        status = os.stat(wish.path)
        if stat.S_ISDIR(status.st_mode):
            wish.refuse("is a directory; name the image inside it")
        if not stat.S_ISREG(status.st_mode):
            wish.refuse("is not a regular file; copy it to one first")
        if status.st_size > FILE_MAX:
            wish.refuse(f"has {status.st_size // MIB} MiB, more than any guest image; is it one?")
        with open(wish.path, "rb", buffering=0) as file:
            data = file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the path
        wish.refuse(f"cannot be read: {getattr(error, 'strerror', None) or error}")
    if not data:
        wish.refuse("is empty; build or fetch it again")
    return data


def place_dtb(image: Image, ram: Ram, size: int) -> int:
    """Where a device tree of `size` bytes goes: RAM's base if free, else behind the image.

    Raw code does not say how much memory it uses behind its last byte: there it goes halfway up,
    or 128 MiB, as QEMU has it (qemu v7.2 hw/arm/boot.c:arm_setup_direct_kernel_boot). Below
    an Image is allowed: booting.rst gives the gap up to text_offset no special meaning.
    """
    if size > DTB_MAX:
        raise BootError(f"the device tree has {size} bytes; Linux takes at most {DTB_MAX}")
    ends = sorted((segment.end for segment in image.segments), reverse=True)
    best = [align_up(ram.base, DTB_ALIGN)]
    if image.kind is ImageKind.RAW and image.entry >= ram.base:
        best.insert(0, align_up(ram.base + min(ram.size // 2, 128 * MIB), 2 * MIB))
    for start in (*best, *(align_up(end, 2 * MIB) for end in ends)):
        end = start + size
        clear = all(end <= s.address or start >= s.end for s in image.segments)
        if clear and end <= ram.end:
            return start
    need = align_up(ends[0] if ends else ram.base, 2 * MIB) + size - ram.base
    raise BootError(
        f"{image.path}: no room for a device tree of {size} bytes beside the image; "
        f"use --mem {align_up(need, MIB) // MIB}M"
    )


# --- Linux ------------------------------------------------------------------------------------

_LINUX = struct.Struct("<8xQQQ24xI4x")  # booting.rst: text_offset, image_size, flags, magic
_LINUX_MAGIC = 0x644D_5241  # booting.rst: "ARM\x64" at 0x38


def _is_linux(data: bytes) -> bool:
    return len(data) >= _LINUX.size and _LINUX.unpack_from(data)[3] == _LINUX_MAGIC


def _linux(data: bytes, wish: Wish) -> Image:
    text_offset, image_size, flags, _ = _LINUX.unpack_from(data)
    if image_size and flags & 1:
        wish.refuse("is a big-endian Linux Image; use a little-endian kernel")
    if image_size and flags >> 1 & 3 == PAGES_OF_16_KIB:
        wish.refuse(
            "has pages of 16 KiB, which no core here offers (ID_AA64MMFR0_EL1.TGran16): it would "
            "stop without a word; use a kernel with pages of 4 or 64 KiB"
        )
    whole = _file_size(data)
    if len(data) < whole:
        wish.refuse(f"is truncated: {len(data)} of {whole} bytes; fetch it again")
    if not image_size:
        text_offset = LEGACY_TEXT_OFFSET
    address = align_up(wish.ram.base, IMAGE_ALIGN) + text_offset
    if wish.load is not None:
        address = wish.load
        if (address - text_offset) % IMAGE_ALIGN:
            wish.refuse(f"--load {address:#x} must be {text_offset:#x} above a multiple of 2 MiB")
    size = max(len(data), image_size)
    if not image_size:
        # booting.rst: keep as much as possible free behind it; all but the device tree's 2 MiB.
        last = wish.ram.end - wish.ram.end % IMAGE_ALIGN - IMAGE_ALIGN
        size = max(size, last - address)
    segments = check_layout([Segment(address, data, size)], wish)
    entry = check_entry(address, segments, wish)
    return Image(wish.path, ImageKind.LINUX, entry, segments, Symbols())


_SECTION_COUNT, _OPTIONAL_SIZE, _SECTIONS, _SECTION = 6, 20, 24, 40
"""Offsets in a PE header, and the size of an entry of its section table."""


def _file_size(data: bytes) -> int:
    """How long the file has to be, by the PE header that makes it an EFI program; 0 without one.

    image_size does not tell: it counts what the kernel clears (booting.rst). PE format §"COFF
    File Header", §"Section Table"; linux arch/arm64/kernel/efi-header.S.
    """
    header = int.from_bytes(data[0x3C:0x40], "little")
    if data[:2] != b"MZ" or data[header : header + 4] != b"PE\0\0":
        return 0
    if len(data) < header + _SECTIONS:
        return header + _SECTIONS
    count, optional = (
        int.from_bytes(data[header + at : header + at + 2], "little")
        for at in (_SECTION_COUNT, _OPTIONAL_SIZE)
    )
    table = header + _SECTIONS + optional
    if len(data) < table + count * _SECTION:
        return table + count * _SECTION
    sections = (struct.unpack_from("<16xII", data, table + n * _SECTION) for n in range(count))
    return max((start + size for size, start in sections), default=0)


def _unpacked(data: bytes, wish: Wish) -> Image:
    """An Image inside gzip; never more is unpacked than fits into RAM."""
    limit = wish.ram.size
    unzip = zlib.decompressobj(wbits=31)  # zlib.h inflateInit2: 15 bits of window, gzip wrapper
    try:
        plain = unzip.decompress(data, limit + 1)
    except zlib.error as error:
        wish.refuse(f"the gzip data is broken ({error}); fetch it again")
    if len(plain) > limit:
        wish.refuse(f"unpacks to more than the {limit // MIB} MiB of RAM; use a larger --mem")
    if not unzip.eof:
        wish.refuse("the gzip data is truncated; fetch it again")
    if not _is_linux(plain):
        wish.refuse(f"is gzip around {looks_like(plain)}, not a Linux Image; gunzip it first")
    return _linux(plain, wish)


def _zboot(data: bytes, wish: Wish) -> Image:
    """zboot-header.S: payload offset and size at 8 and 12, the compression's name at 24."""
    if len(data) < 64:
        wish.refuse("the EFI zboot header is truncated; fetch the kernel again")
    start, size, packing = struct.unpack_from("<8xII8x32s", data)
    name = packing.split(b"\0")[0].decode("ascii", "replace")
    payload = data[start : start + size]
    if len(payload) < size:
        wish.refuse("the EFI zboot payload is truncated; fetch the kernel again")
    if not name.isalnum():
        wish.refuse("the EFI zboot header names no compression; fetch the kernel again")
    if name != "gzip":
        cut = f"tail -c +{start + 1} FILE | head -c {size}"
        wish.refuse(f"is an EFI zboot kernel packed with {name}; unpack it: {cut} | {name} -d")
    return _unpacked(payload, wish)


# --- raw --------------------------------------------------------------------------------------

_LOOKS = (  # first bytes → what they are, with what helps; the well-known magic numbers
    (b"#!", "a script"),
    (b"MZ", "an EFI or Windows program without an arm64 Image header"),
    (b"\xd0\x0d\xfe\xed", "a device tree (it belongs to --dtb)"),
    (b"\x27\x05\x19\x56", "a U-Boot uImage (strip its 64-byte header)"),
    (b"070701", "a cpio archive, perhaps an initrd"),
    (b"!<arch>\n", "an archive (.a or .deb)"),
    (b"\x28\xb5\x2f\xfd", "zstd data (unpack it first)"),
    (b"\xfd7zXZ\0", "xz data (unpack it first)"),
    (b"BZh", "bzip2 data (unpack it first)"),
    (b"\x04\x22\x4d\x18", "lz4 data (unpack it first)"),
    (b"PK\x03\x04", "a zip archive"),
    (b"ANDROID!", "an Android boot image"),
    (b"\xcf\xfa\xed\xfe", "a Mach-O program"),
)


def looks_like(data: bytes) -> str:
    """What a file that is no image seems to be, for the message that refuses it."""
    for magic, what in _LOOKS:
        if data.startswith(magic):
            return what
    head = data[:512]
    if head and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "text"
    return "raw bytes"


def _raw(data: bytes, wish: Wish) -> Image:
    if wish.load is None:
        wish.refuse(
            f"is neither an ELF nor a Linux Image, it looks like {looks_like(data)}; "
            "for raw code use --load ADDRESS (and --entry ADDRESS)"
        )
    segments = check_layout([Segment(wish.load, data, len(data))], wish)
    entry = check_entry(wish.load, segments, wish)
    return Image(wish.path, ImageKind.RAW, entry, segments, Symbols())
