"""Every kind of image that boots, every broken one that is refused in one line, and fuzz."""

from __future__ import annotations

import gzip
import os
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.base.errors import BootError
from emu.images.boot import (
    Image,
    ImageKind,
    Ram,
    Segment,
    default_memory,
    load_image,
    looks_like,
    place_dtb,
)
from emu.images.image import MIB
from emu.images.symbols import Symbols
from image_kit import BASE, PIE, RAM, TEXT, check_image, good, linux, zboot
from places import ROOT


@pytest.fixture
def load(tmp_path):
    def from_bytes(data: bytes, *, ram: Ram = RAM, **more) -> Image:
        path = tmp_path / "image"
        path.write_bytes(data)
        return load_image(path, ram=ram, **more)

    return from_bytes


# --- what boots -------------------------------------------------------------------------------


def test_elf(load):
    image = load(good())
    assert (image.kind, image.entry, image.path.endswith("image")) == (ImageKind.ELF, BASE, True)


def test_linux_image(load):
    image = load(linux())
    assert (image.kind, image.entry) == (ImageKind.LINUX, BASE)
    assert image.segments[0].size == 0x20_0000
    assert load(linux(text_offset=0x8_0000)).entry == BASE + 0x8_0000
    assert load(linux(image_size=16)).segments[0].size == 256
    assert load(linux(), load=BASE + 2 * MIB).entry == BASE + 2 * MIB


def test_legacy_linux_image_keeps_all_behind_it_free(load):
    image = load(linux(image_size=0, flags=1))
    assert image.entry == BASE + 0x8_0000
    assert image.segments[0].end == RAM.end - 2 * MIB
    assert place_dtb(image, RAM, MIB) == RAM.end - 2 * MIB


@pytest.mark.parametrize("wrap", [gzip.compress, lambda data: zboot(gzip.compress(data))])
def test_packed_linux_image(load, wrap):
    image = load(wrap(linux()))
    assert (image.kind, image.segments[0].data) == (ImageKind.LINUX, linux())


def test_raw(load):
    image = load(TEXT, load=BASE + 0x1000)
    assert (image.kind, image.entry) == (ImageKind.RAW, BASE + 0x1000)
    assert load(TEXT, load=BASE, entry=BASE + 4).entry == BASE + 4


@pytest.mark.parametrize("path", sorted(ROOT.glob("guests/bin/*.elf")), ids=lambda p: p.stem)
def test_our_guests(path):
    image = load_image(path, ram=RAM)
    assert image.kind is ImageKind.ELF
    assert place_dtb(image, RAM, 4096) % 8 == 0


def test_debian_kernel():
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hvcemu/linux"
    found = sorted(cache.glob("linux-image-*/boot/vmlinu?-*"))
    if not found:
        pytest.skip("no kernel in the cache: run `python tools/fetch_linux.py`")
    image = load_image(found[-1], ram=RAM)
    assert (image.kind, image.entry) == (ImageKind.LINUX, BASE)
    assert place_dtb(image, RAM, MIB) == image.segments[0].end + -image.segments[0].end % (2 * MIB)


# --- what is refused, and what the line says --------------------------------------------------

REFUSED = {
    "empty": (b"", "is empty"),
    "script": (b"#!/bin/sh\n", "looks like a script; .*--load ADDRESS .*--entry"),
    "big-endian Image": (linux(flags=1), "big-endian Linux"),
    "Image beyond": (linux(image_size=70 * MIB), "--mem 70M"),
    "gzip broken": (b"\x1f\x8b" + b"\xff" * 30, "gzip data is broken"),
    "gzip truncated": (gzip.compress(linux())[:-9], "gzip data is truncated"),
    "gzip bomb": (gzip.compress(bytes(65 * MIB), 1), "more than the 64 MiB"),
    "gzip of text": (gzip.compress(b"hello"), "gzip around text"),
    "zboot short": (zboot(b"")[:60], "zboot header is truncated"),
    "zboot truncated": (zboot(b"x", size=9), "zboot payload is truncated"),
    "zboot nameless": (zboot(b"x", b"a\x1c\xffb"), "names no compression"),
    "zboot zstd": (zboot(b"x", b"zstd"), r"packed with zstd; .*tail -c \+65 FILE"),
}


@pytest.mark.parametrize(("data", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(load, data, says):
    with pytest.raises(BootError, match=says) as caught:
        load(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (good(), {"load": BASE}, "drop --load"),
        (linux(), {"load": BASE + 4096}, "above a multiple of 2 MiB"),
        (TEXT, {"load": 0}, "below RAM .*another --load"),
        (TEXT, {"load": BASE + 2}, "not a multiple of 4"),
        (TEXT, {"load": 1 << 50}, "beyond RAM .*another --load"),
    ],
)
def test_refused_options(load, data, options, says):
    with pytest.raises(BootError, match=says):
        load(data, **options)


def test_refused_paths(tmp_path, monkeypatch):
    def says(path: object, what: str) -> None:
        with pytest.raises(BootError, match=what):
            load_image(path, ram=RAM)  # type: ignore[arg-type]

    says(tmp_path, "is a directory")
    says(tmp_path / "absent", "No such file")
    says("nul\0nul", "cannot be read")
    os.mkfifo(tmp_path / "pipe")
    says(tmp_path / "pipe", "not a regular file")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate((1 << 30) + 1)
    says(tmp_path / "huge", "1024 MiB")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"MZ", "EFI"),
        (b"\xd0\x0d\xfe\xed", "--dtb"),
        (b"hi\n", "text"),
        (b"\0", "raw"),
        (b"", "raw"),
    ],
)
def test_looks_like(data, what):
    assert what in looks_like(data)


# --- the device tree's place ------------------------------------------------------------------


def image_of(*spans: tuple[int, int], kind: ImageKind = ImageKind.ELF) -> Image:
    segments = tuple(Segment(start, b"", size) for start, size in sorted(spans))
    return Image("x", kind, spans[0][0] if spans else BASE, segments, Symbols())


def test_dtb_at_the_base_when_free():
    assert place_dtb(image_of((PIE, 64)), RAM, 0x8_0000) == BASE
    assert place_dtb(image_of((PIE, 64)), RAM, 0x8_0001) == BASE + 2 * MIB
    assert place_dtb(image_of((BASE, 2 * MIB)), RAM, 1) == BASE + 2 * MIB


@pytest.mark.parametrize(
    ("load", "memory", "place"),
    [
        (BASE, 64, 32), (BASE + 8 * MIB, 512, 128), (BASE + 32 * MIB, 64, 0), (BASE, 1, None),
        (0, 64, 0),
    ],
)  # fmt: skip
def test_dtb_beside_raw_code(load, memory, place):
    """Halfway up, or 128 MiB: raw code does not tell what it needs behind itself."""
    ram = Ram(BASE, memory * MIB)
    image = image_of((load, 64), kind=ImageKind.RAW)
    if place is None:
        with pytest.raises(BootError, match="no room"):
            place_dtb(image, ram, 4096)
    else:
        assert place_dtb(image, ram, 4096) == BASE + place * MIB


def test_dtb_between_segments_when_the_last_fills_ram():
    assert place_dtb(image_of((BASE, 64), (RAM.end - 64, 64)), RAM, 4096) == BASE + 2 * MIB


def test_dtb_refused():
    with pytest.raises(BootError, match="at most"):
        place_dtb(image_of(), RAM, 2 * MIB + 1)
    with pytest.raises(BootError, match="--mem 65M"):
        place_dtb(image_of((BASE, 64 * MIB)), RAM, 4096)


spans = st.tuples(st.integers(BASE, RAM.end - 1), st.integers(1, 8 * MIB))


@given(st.lists(spans, max_size=5), st.integers(1, 2 * MIB))
def test_dtb_never_overlaps(spans, size):
    image = image_of(*spans)
    try:
        start = place_dtb(image, RAM, size)
    except BootError:
        return
    assert start % 8 == 0
    assert BASE <= start <= RAM.end - size
    assert all(start + size <= s.address or start >= s.end for s in image.segments)


# --- fuzz: an Image or a BootError ------------------------------------------------------------

SEEDS = {"linux": linux(), "gzip": gzip.compress(linux()), "zboot": zboot(gzip.compress(linux()))}
# Where a change matters: headers.
PLACES = {"linux": (0, 64), "gzip": (0, 60), "zboot": (0, 120)}

def outcome(data: bytes, load: int | None) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            image = load_image(file.name, ram=RAM, load=load)
        except BootError as error:
            lines = str(error).splitlines()
            image = None
    if image is None:
        assert len(lines) == 1
        return
    check_image(image)


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"\x7fELF\x02\x01", b"\x1f\x8b\x08", b"MZ"]))
def test_fuzz_random_bytes(data, magic):
    outcome(magic + data, None)
    outcome(magic + data, BASE)


values = st.sampled_from([0, 1, 7, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(SEEDS)), st.data())
def test_fuzz_mutations(name, data):
    changed = bytearray(SEEDS[name])
    for at, value in data.draw(st.lists(st.tuples(st.integers(*PLACES[name]), values), max_size=6)):
        changed[at % len(changed)] = value
    outcome(bytes(changed[: data.draw(st.integers(0, len(changed)) | st.just(len(changed)))]), None)


# -- files that are not whole ----------------------------------------------------------------------


def efi_image(raw: int) -> bytes:
    """A Linux Image that is an EFI program too, with one section of `raw` bytes at 0x1000."""
    head = bytearray(0x1000)
    head[:2] = b"MZ"
    struct.pack_into("<QQQ", head, 8, 0, 0x10_0000, 0)
    struct.pack_into("<II", head, 0x38, 0x644D_5241, 0x40)
    head[0x40:0x44] = b"PE\0\0"
    struct.pack_into("<H", head, 0x46, 1)
    struct.pack_into("<H", head, 0x54, 0xA0)
    struct.pack_into("<II", head, 0x40 + 24 + 0xA0 + 16, raw, 0x1000)
    return bytes(head) + bytes(raw)


@pytest.mark.parametrize("size", [0x44, 0x58, 0xF8, 0x1000, 0x1000 + 0x1FFF])
def test_truncated_image(tmp_path, size):
    path = tmp_path / "Image"
    path.write_bytes(efi_image(0x2000)[:size])
    with pytest.raises(BootError, match=rf"is truncated: {size} of \d+ bytes; fetch it again"):
        load_image(path, ram=RAM)
    path.write_bytes(efi_image(0x2000))
    assert load_image(path, ram=RAM).kind is ImageKind.LINUX


@pytest.mark.parametrize(("start", "in_flash", "memory"), [
    (efi_image(0), False, 512), (b"\x1f\x8b", False, 512), (b"\x7fELF", False, 64),
    (b"", True, 512),
])  # fmt: skip
def test_default_memory(tmp_path, start, in_flash, memory):
    path = tmp_path / "image"
    path.write_bytes(start)
    assert default_memory(path, in_flash=in_flash) == memory * MIB
    assert default_memory(tmp_path / "nowhere") == 64 * MIB


@pytest.mark.parametrize("pages", [0, 1, 2, 3])
def test_kernel_with_pages_that_no_core_has(tmp_path, pages):
    """booting.rst: unspecified, 4, 16 and 64 KiB."""
    path, data = tmp_path / "Image", bytearray(efi_image(0x100))
    struct.pack_into("<Q", data, 24, pages << 1)
    path.write_bytes(data)
    if pages == 2:
        with pytest.raises(BootError, match="pages of 16 KiB, which no core here offers"):
            load_image(path, ram=RAM)
    else:
        assert load_image(path, ram=RAM).kind is ImageKind.LINUX
