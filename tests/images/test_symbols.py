"""Names for addresses, from ELF tables and from System.map texts, and no error from broken ones."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.images.symbols import Symbols

NOTYPE, OBJECT, FUNC, SECTION = 0, 1, 2, 3
LOCAL, GLOBAL = 0, 0x10
ABS = 0xFFF1


def elf(symbols: list[tuple[str, int, int, int, int]], kind: int = 2, shentsize: int = 64) -> bytes:
    """(name, info, section, value, size) → an ELF: null, .text 0x1000..0x1100, symtab, strtab."""
    names, table = b"\0", bytes(24)
    for name, info, where, value, size in symbols:
        table += struct.pack("<IBBHQQ", len(names), info, 0, where, value, size)
        names += name.encode() + b"\0"
    start = 64 + 4 * 64

    def section(
        kind: int, addr: int, offset: int, size: int, link: int = 0, each: int = 0
    ) -> bytes:
        return struct.pack("<IIQQQQIIQQ", 0, kind, 0, addr, offset, size, link, 0, 1, each)

    sections = [
        section(0, 0, 0, 0),
        section(1, 0x1000, 64, 0x100),
        section(kind, 0, start, len(table), 3, 24),
        section(3, 0, start + len(table), len(names)),
    ]
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    ehdr = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 2, 183, 1, 0, 0, 64, 0, 64, 56, 0, shentsize, 4, 3
    )
    return ehdr + b"".join(sections) + table + names


TABLE = [
    ("$x", NOTYPE, 1, 0x1000, 0),
    ("start", GLOBAL | NOTYPE, 1, 0x1000, 0),
    ("data_here", GLOBAL | OBJECT, 1, 0x1040, 4),
    ("main", GLOBAL | FUNC, 1, 0x1040, 0x40),
    ("main_alias", LOCAL | FUNC, 1, 0x1040, 0x40),
    ("table", LOCAL | OBJECT, 1, 0x1050, 8),
    ("label", LOCAL | NOTYPE, 1, 0x10C0, 0),
    ("", LOCAL | FUNC, 1, 0x10D0, 8),
    ("file.c", LOCAL | 4, ABS, 0, 0),
    ("undefined", GLOBAL | NOTYPE, 0, 0x1060, 0),
    ("STACK_SIZE", GLOBAL | NOTYPE, ABS, 0x4000, 0),
    ("common", GLOBAL | OBJECT, 0xFFF2, 0x2000, 0),
    (".text", SECTION, 1, 0x1000, 0),
]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0xFFF, None),
        (0x1000, "start"),
        (0x103C, "start+0x3c"),
        (0x1040, "main"),
        (0x104C, "main+0xc"),
        (0x1054, "table+0x4"),
        (0x105C, "main+0x1c"),
        (0x1090, "start+0x90"),
        (0x10D0, "label+0x10"),
        (0x1100, None),
        (0x4000, None),
        (2**64, None),
    ],
)
def test_nearest_name(address, name):
    assert Symbols.from_elf(elf(TABLE)).name(address) == name


def test_addresses():
    symbols = Symbols.from_elf(elf(TABLE), bias=0x4000_0000)
    assert symbols.address("main") == symbols.address("main_alias") == 0x4000_1040
    assert symbols.address("STACK_SIZE") == 0x4000
    assert symbols.address("$x") is symbols.address("undefined") is None
    assert symbols.name(0x4000_1044) == "main+0x4"


def test_a_name_held_twice_is_the_preferred_ones():
    twice = [("f", LOCAL | OBJECT, 1, 0x1000, 4), ("f", GLOBAL | FUNC, 1, 0x1010, 4)]
    assert Symbols.from_elf(elf(twice)).address("f") == 0x1010


def test_physical_addresses_are_known_too():
    symbols = Symbols.from_elf(elf(TABLE), physical=0x4000_0000)
    assert symbols.name(0x4000_1044) == symbols.name(0x1044) == "main+0x4"
    assert symbols.name(0x5000_0000) is None


def test_dynsym_serves_a_stripped_file():
    assert Symbols.from_elf(elf(TABLE, kind=11)).name(0x1040) == "main"


@pytest.mark.parametrize("data", [b"", b"\x7fELF", elf(TABLE)[:200], elf(TABLE, shentsize=8)])
def test_broken_tables_give_no_names(data):
    symbols = Symbols.from_elf(data)
    assert symbols.name(0x1040) is None
    assert len(symbols) == 0


def test_empty():
    assert Symbols().name(0) is None
    assert Symbols().address("main") is None


def test_read_once():
    calls: list[int] = []
    symbols = Symbols(lambda: calls.append(1) or ())  # type: ignore[func-returns-value]
    assert not calls
    symbols.name(0)
    symbols.address("x")
    assert len(calls) == 1


MAP = """\
ffff800008000000 t _head
ffff800008000000 T _text
ffff800008010000 T do_one\t[module]
ffff800008010000 t $x
ffff800008010100 D jiffies
ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package
not-hex T bad
ffff800008020000 TT bad
ffff800008020000
"""


def test_system_map():
    symbols = Symbols.from_system_map(MAP)
    assert symbols.name(0xFFFF_8000_0800_0004) == "_text+0x4"
    assert symbols.name(0xFFFF_8000_0801_0000) == "do_one"
    assert symbols.address("jiffies") == 0xFFFF_8000_0801_0100
    assert symbols.address("_head") == symbols.address("_text")
    assert symbols.address("bad") is None
    assert len(symbols) == 3


def test_either_kind_of_file():
    assert Symbols.from_file(MAP.encode()).address("do_one") == 0xFFFF_8000_0801_0000
    assert not Symbols.from_file(bytes(range(256)))
    assert not Symbols.from_file(b"\x7fELF and no more")


@given(st.text())
def test_any_text_is_a_system_map(text):
    Symbols.from_system_map(text).name(0)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), max_size=8), st.integers(0, 900)
)
def test_fuzz_elf(changes, length):
    data = bytearray(elf(TABLE))
    for at, value in changes:
        data[at % len(data)] = value
    Symbols.from_elf(bytes(data)).name(0x1040)
    Symbols.from_elf(bytes(data[:length])).name(0x1040)


@given(st.lists(st.tuples(st.integers(0x1000, 0x10FF), st.integers(1, 64)), max_size=12))
def test_any_function_is_found_at_its_own_address(functions):
    table = [(f"f{n}", GLOBAL | FUNC, 1, at, size) for n, (at, size) in enumerate(functions)]
    symbols = Symbols.from_elf(elf(table))
    for name, _, _, at, _ in table:
        assert symbols.address(name) == at
        found = symbols.name(at)
        assert found is not None
        assert symbols.address(found) == at
