"""ELF programs: where they go, how they are relocated, and what is refused in one line."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.base.errors import BootError
from emu.images.elf import load_elf
from emu.images.image import MIB, Image, ImageKind, Segment, Wish
from emu.images.symbols import Symbols
from image_kit import BASE, DYN, INTERP, PIE, RAM, TEXT, check_image, elf, good, phdr, pie, rela


def read(data: bytes, load: int | None = None, entry: int | None = None) -> Image:
    return load_elf(data, Wish("image", RAM, load, entry))


@pytest.fixture
def load():
    return read


def word(image: Image, link_address: int) -> int:
    at = link_address + PIE - image.segments[0].address
    return int.from_bytes(image.segments[0].data[at : at + 8], "little")


# --- what boots -------------------------------------------------------------------------------


def test_fixed_elf(load):
    image = load(good())
    assert image.kind is ImageKind.ELF
    assert (image.entry, image.segments) == (BASE, (Segment(BASE, TEXT, 0x100, True),))
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


def test_symbols_carry_the_bias(load):
    symbols = load(elf(phdr(offset=0x1000, vaddr=0), entry=0, etype=DYN)).symbols
    assert isinstance(symbols, Symbols)
    assert symbols.name(PIE) is None


# --- what is refused, and what the line says --------------------------------------------------

ADD = phdr(offset=0x1000)
REFUSED = {
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
}


@pytest.mark.parametrize(("data", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(load, data, says):
    with pytest.raises(BootError, match=says) as caught:
        load(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("options", "says"),
    [({"load": BASE}, "drop --load"), ({"entry": RAM.end}, "--entry .* beyond RAM")],
)
def test_refused_options(load, options, says):
    with pytest.raises(BootError, match=says):
        load(good(), **options)


# --- fuzz: an Image or a BootError ------------------------------------------------------------

SEEDS = {
    "elf": good(),
    "pie": pie({7: rela(0x1040, 1027, 0), 36: struct.pack("<QQ", 0x1040, 0b1011)}),
}


def outcome(data: bytes) -> None:
    lines: list[str] = []
    try:
        image = read(data)
    except BootError as error:
        lines = str(error).splitlines()
    if lines:
        assert len(lines) == 1
        return
    check_image(image)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_fuzz_random_bytes(data):
    outcome(b"\x7fELF\x02\x01" + data)


values = st.sampled_from([0, 1, 7, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(SEEDS)), st.data())
def test_fuzz_mutations(name, data):
    changed = bytearray(SEEDS[name])
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 200), values), max_size=6)):
        changed[at % len(changed)] = value
    outcome(bytes(changed[: data.draw(st.integers(0, len(changed)) | st.just(len(changed)))]))


def test_fuzz_dynamic_section():
    """A sweep over the PIE's tables, where pyelftools does the reading."""
    seed, rng = SEEDS["pie"], random.Random(1)
    for at in range(0x1080, len(seed)):
        changed = bytearray(seed)
        changed[at] = rng.choice([0, 1, 0x24, 0x7F, 0xFF])
        outcome(bytes(changed))
