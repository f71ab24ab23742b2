"""Every kind of image that boots, every broken one that is refused in one line, and fuzz."""

from __future__ import annotations

import gzip
import os
import random
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.boot import Image, ImageKind, Ram, Segment, load_image, looks_like, place_dtb
from emu.errors import BootError
from emu.symbols import Symbols

BASE, MIB = 0x4000_0000, 1 << 20
RAM = Ram()
PIE = BASE + 0x8_0000
TEXT = struct.pack("<4I", 0xD280_0000, 0xD400_0002, 0x1400_0000, 0xD503_201F)
LOAD, DYNAMIC, INTERP = 1, 2, 3
EXEC, DYN = 2, 3
ROOT = Path(__file__).parent.parent


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


@pytest.fixture
def load(tmp_path):
    def from_bytes(data: bytes, *, ram: Ram = RAM, **more) -> Image:
        path = tmp_path / "image"
        path.write_bytes(data)
        return load_image(path, ram=ram, **more)

    return from_bytes


def word(image: Image, link_address: int) -> int:
    at = link_address + PIE - image.segments[0].address
    return int.from_bytes(image.segments[0].data[at : at + 8], "little")


# --- what boots -------------------------------------------------------------------------------


def test_fixed_elf(load):
    image = load(good())
    assert image.kind is ImageKind.ELF
    assert (image.entry, image.segments) == (BASE, (Segment(BASE, TEXT, 0x100),))
    assert image.segments[0].end == BASE + 0x100
    assert len(image.symbols) == 0


def test_segments_are_sorted_and_empty_ones_skipped(load):
    image = load(elf(phdr(vaddr=BASE + 0x2000), phdr(offset=0x1000), phdr(filesz=0)))
    assert [segment.address for segment in image.segments] == [BASE, BASE + 0x2000]
    assert image.segments[0].data == TEXT
    assert image.segments[1].data.startswith(b"\x7fELF")


def test_physical_addresses_win_and_move_the_entry(load):
    high = 0xFFFF_0000_0000_0000
    image = load(elf(phdr(offset=0x1000, vaddr=high, paddr=BASE), entry=high + 4))
    assert (image.entry, image.segments[0].address) == (BASE + 4, BASE)


def test_all_zero_physical_addresses_mean_virtual(load):
    assert load(elf(phdr(offset=0x1000, paddr=0))).segments[0].address == BASE


def test_entry_option_wins(load):
    assert load(good(entry=0), entry=BASE + 8).entry == BASE + 8


def test_pie_goes_to_its_default_place(load):
    image = load(elf(phdr(offset=0x1000, vaddr=0), entry=4, etype=DYN))
    assert (image.entry, image.segments[0].address) == (PIE + 4, PIE)


def test_pie_keeps_its_alignment_and_takes_load(load):
    data = elf(phdr(offset=0x1000, vaddr=0x20_1000, align=0x20_0000), entry=0x20_1000, etype=DYN)
    assert load(data).entry == BASE + 0x20_1000
    assert load(data, load=BASE + 0x60_0000).entry == BASE + 0x60_1000
    with pytest.raises(BootError, match="multiple of 0x200000"):
        load(data, load=BASE + 0x1000)


def test_rela_is_applied_and_none_ignored(load):
    table = rela(0x1040, 1027, 0x1000) + rela(0x1048, 0, 0) + rela(0x1050, 1027, -8)
    image = load(pie({7: table, 23: rela(0x11F8, 1027, 4)}))
    assert [word(image, at) for at in (0x1040, 0x1048, 0x1050)] == [PIE + 0x1000, 0x1001, PIE - 8]


def test_rela_may_reach_into_bss(load):
    image = load(pie({7: rela(0x1FF8, 1027, 1)}, size=0x2000))
    assert word(image, 0x1FF8) == PIE + 1
    assert len(image.segments[0].data) == image.segments[0].size == 0x2000


def test_relr_is_applied_once_at_each_place(load):
    image = load(pie({36: struct.pack("<QQ", 0x1040, 0b1011)}))  # 0x1040, 0x1048, 0x1058
    words = [word(image, 0x1040 + 8 * n) - 0x1000 for n in range(5)]
    assert words == [PIE, PIE + 1, 2, PIE + 3, 4]


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


def test_symbols_carry_the_bias(load):
    symbols = load(elf(phdr(offset=0x1000, vaddr=0), entry=0, etype=DYN)).symbols
    assert isinstance(symbols, Symbols)
    assert symbols.name(PIE) is None


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

ADD = phdr(offset=0x1000)
REFUSED = {
    "empty": (b"", "is empty"),
    "script": (b"#!/bin/sh\n", "looks like a script; .*--load ADDRESS .*--entry"),
    "32-bit": (b"\x7fELF\x01\x01".ljust(64, b"\0"), "32-bit ELF"),
    "big-endian": (b"\x7fELF\x02\x02".ljust(64, b"\0"), "big-endian ELF"),
    "short header": (good()[:40], "header is truncated at 40"),
    "x86": (good(machine=62), "ELF for x86-64"),
    "odd machine": (good(machine=9999), "ELF for machine-9999"),
    "object": (good(etype=1), "object file"),
    "odd type": (good(etype=0xFE00), "type 0xfe00"),
    "odd headers": (elf(ADD, each=32), "program headers of 32 bytes"),
    "headers beyond": (elf(ADD, count=60000), "program headers are truncated"),
    "nothing loadable": (elf(phdr(kind=4)), "no loadable segment"),
    "no headers": (elf(each=0), "no loadable segment"),
    "dynamic": (elf(ADD, phdr(INTERP)), "names an interpreter"),
    "short segment": (good()[:0x1008], "segment 0 is truncated"),
    "file over memory": (elf(phdr(offset=0x1000, memsz=4)), "segment 0 is truncated"),
    "overlap": (elf(ADD, phdr(offset=0x1000, vaddr=BASE + 8)), "overlap"),
    "below": (elf(phdr(offset=0x1000, vaddr=BASE - 0x10)), "0x10 bytes below RAM"),
    "beyond": (elf(phdr(offset=0x1000, memsz=65 * MIB)), "0x100000 bytes beyond .*--mem 65M"),
    "far beyond": (elf(phdr(offset=0x1000, memsz=2**60)), "beyond RAM .*relink"),
    "entry elsewhere": (good(entry=0), "entry point 0x0 is outside"),
    "odd entry": (good(entry=BASE + 2), "not a multiple of 4"),
    "needs a library": (pie({}, extra=((5, 0), (1, 0))), "needs a library"),
    "symbolic relocation": (pie({7: rela(0x1040, 257, 0)}), "needs relocation R_AARCH64_ABS64"),
    "odd relocation": (pie({7: rela(0x1040, 77, 0)}), "needs relocation type 77"),
    "REL": (pie({17: struct.pack("<QQ", 0x1040, 1027)}), r"\(REL\)"),
    "relocation elsewhere": (pie({7: rela(0x9000, 1027, 0)}), "outside the segments"),
    "relocation in a gap": (pie({7: rela(0x11FC, 1027, 0)}), "outside the segments"),
    "table elsewhere": (pie({}, extra=((7, 0x9000), (8, 24))), "RELA table lies outside"),
    "table too long": (pie({}, extra=((7, 0x1000), (8, 2**60))), "RELA table lies outside"),
    "odd alignment": (elf(phdr(offset=0x1000, vaddr=0, align=3), entry=2, etype=DYN), "of 4"),
    "bitmap first": (pie({36: struct.pack("<Q", 3)}), "RELR table is broken"),
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
        (good(), {"entry": RAM.end}, "--entry .* beyond RAM"),
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


def image_of(*spans: tuple[int, int]) -> Image:
    segments = tuple(Segment(start, b"", size) for start, size in sorted(spans))
    return Image("x", ImageKind.RAW, BASE, segments, Symbols())


def test_dtb_at_the_base_when_free():
    assert place_dtb(image_of((PIE, 64)), RAM, 0x8_0000) == BASE
    assert place_dtb(image_of((PIE, 64)), RAM, 0x8_0001) == BASE + 2 * MIB
    assert place_dtb(image_of((BASE, 2 * MIB)), RAM, 1) == BASE + 2 * MIB


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

SEEDS = {
    "elf": good(),
    "pie": pie({7: rela(0x1040, 1027, 0), 36: struct.pack("<QQ", 0x1040, 0b1011)}),
    "linux": linux(),
    "gzip": gzip.compress(linux()),
    "zboot": zboot(gzip.compress(linux())),
}
# Where a change matters: headers, and for the PIE its tables.
PLACES = {"elf": (0, 200), "pie": (0, 200), "linux": (0, 64), "gzip": (0, 60), "zboot": (0, 120)}


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
    assert image.segments
    image.symbols.name(image.entry)
    for segment in image.segments:
        assert len(segment.data) <= segment.size
        assert BASE <= segment.address <= segment.end <= RAM.end


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


def test_fuzz_dynamic_section():
    """A sweep over the PIE's tables, where pyelftools does the reading."""
    seed, rng = SEEDS["pie"], random.Random(1)
    for at in range(0x1080, len(seed)):
        changed = bytearray(seed)
        changed[at] = rng.choice([0, 1, 0x24, 0x7F, 0xFF])
        outcome(bytes(changed), None)
