"""Objects: laid out, resolved against each other, relocated as lld does it, refused in one line."""

from __future__ import annotations

import importlib.metadata
import random
import struct
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emu.base.errors import BootError, EmuError
from emu.images.boot import Parts, load_image
from emu.images.image import MIB, Image, ImageKind, Wish
from emu.images.objects import Link, load_objects
from emu.machine.vm import Vm
from image_kit import PIE, RAM, good
from places import ROOT

BIN = ROOT / "guests" / "bin"
DISCOVERY, CORNERS = BIN / "discovery.o", BIN / "corners.o"

# -- objects made by hand -----------------------------------------------------------------------

WRITE, ALLOC, EXEC, TLS = 1, 2, 4, 0x400
PROGBITS, SYMTAB, STRTAB, RELA, NOBITS, REL = 1, 2, 3, 4, 8, 9
LOCAL, GLOBAL, WEAK = 0, 1, 2
NOTYPE, OBJECT, FUNC, SECTION, TLS_KIND = 0, 1, 2, 3, 6
ABS, COMMON = 0xFFF1, 0xFFF2
ABS64, ABS16, CALL26, PREL32, PREL64, ADR_GOT_PAGE, GOT_LO12 = 257, 259, 283, 261, 260, 311, 312
ADRP, CONDBR19 = 275, 280
BL = struct.pack("<I", 0x9400_0000)


class Sec:
    """A section: `rela` holds (offset, type, index of a symbol, addend)."""

    def __init__(
        self, name, data=b"", flags=ALLOC, size=None, align=4, rela=(), kind=PROGBITS, table=RELA
    ):
        self.name, self.data, self.flags, self.align = name, data, flags, align
        self.size = len(data) if size is None else size
        self.rela, self.kind, self.table = rela, kind, table


def sym(name, section=0, value=0, size=0, binding=GLOBAL, kind=NOTYPE):
    """A symbol in section number 1 onward, or in none, ABS or COMMON."""
    return name, section, value, size, binding, kind


def obj(*sections: Sec, symbols=(), machine=183, data=1) -> bytes:
    """Null section, the given ones, one RELA table for each that needs it, symtab, strtab."""
    strings = bytearray(b"\0")

    def string(text: str) -> int:
        strings.extend(text.encode() + b"\0")
        return len(strings) - len(text) - 1

    table = bytes(24)
    for name, section, value, size, binding, kind in symbols:
        table += struct.pack("<IBBHQQ", string(name), binding << 4 | kind, 0, section, value, size)
    relocated = [n for n, section in enumerate(sections, 1) if section.rela]
    symtab = 1 + len(sections) + len(relocated)
    body, headers = bytearray(), [bytes(64)]

    def add(name, kind, flags, content, size, link, info, align, each):
        while len(body) % 8:
            body.append(0)
        offset = 64 + len(body)
        body.extend(content)
        headers.append(struct.pack("<IIQQQQIIQQ", string(name), kind, flags, 0, offset, size, link,
                                   info, align, each))  # fmt: skip

    for s in sections:
        add(s.name, s.kind, s.flags, s.data, s.size, 0, 0, s.align, 0)
    for n in relocated:
        s = sections[n - 1]
        each = 16 if s.table == REL else 24
        entries = b"".join(struct.pack("<QIIq", at, kind, symbol, addend)[:each]
                           for at, kind, symbol, addend in s.rela)  # fmt: skip
        add(f".rela{s.name}", s.table, 0, entries, len(entries), symtab, n, 8, each)
    add(".symtab", SYMTAB, 0, table, len(table), symtab + 1, 1, 8, 24)
    name = string(".strtab")
    while len(body) % 8:
        body.append(0)
    start = 64 + len(body)
    body.extend(strings)
    headers.append(struct.pack("<IIQQQQIIQQ", name, STRTAB, 0, 0, start, len(strings), 0, 0, 1, 0))
    while len(body) % 8:
        body.append(0)
    ident = b"\x7fELF\x02".ljust(5, b"\0") + bytes([data]) + b"\x01".ljust(10, b"\0")
    ehdr = struct.pack("<16sHHIQQQIHHHHHH", ident, 1, machine, 1, 0, 0, 64 + len(body), 0, 64, 0, 0,
                       64, len(headers), len(headers) - 1)  # fmt: skip
    return ehdr + bytes(body) + b"".join(headers)


def text(*words: bytes, rela=(), name=".text", **more) -> Sec:
    return Sec(name, b"".join(words), ALLOC | EXEC, rela=rela, **more)


def load(*files: bytes, stubs=None, at: int | None = None, entry: int | None = None) -> Image:
    named = [(f"{n}.o", data) for n, data in enumerate(files)]
    return load_objects(named, Wish("0.o", RAM, at, entry), stubs)


def memory(image: Image, address: int, size: int = 8) -> int:
    for segment in image.segments:
        if segment.address <= address and address + size <= segment.end:
            data = segment.data.ljust(segment.size, b"\0")
            at = address - segment.address
            return int.from_bytes(data[at : at + size], "little")
    raise AssertionError(f"nothing at {address:#x}")


def where(image: Image, name: str) -> int:
    found = image.symbols.address(name)
    assert found is not None
    return found


# -- layout and symbols -------------------------------------------------------------------------


def test_groups_and_alignment():
    image = load(
        obj(
            Sec(".bss", b"", ALLOC | WRITE, size=5, kind=NOBITS),
            Sec(".data", b"data", ALLOC | WRITE, align=64),
            Sec(".rodata", b"const", ALLOC, align=1),
            text(BL),
            Sec(".comment", b"not in memory", 0),
            symbols=[
                sym("zeros", 1), sym("data", 2), sym("constant", 3), sym("code", 4, 0, 4, 1, FUNC),
                sym("sized", 4, 0, 2), sym("number", ABS, 77), sym("$x", 4, binding=LOCAL),
            ],
        )
    )  # fmt: skip
    assert (image.kind, image.entry) == (ImageKind.OBJECT, PIE)
    places = [where(image, name) for name in ("code", "constant", "data", "zeros")]
    assert places == [PIE, PIE + 16, PIE + 64, PIE + 80]
    assert [segment.size for segment in image.segments] == [4, 5, 4, 5]
    assert image.segments[-1].data == b""
    assert image.symbols.name(PIE + 2) == "code+0x2"
    assert image.symbols.name(PIE + 20) == "constant+0x4"
    assert image.symbols.address("number") == 77
    assert image.symbols.find("$x") is None


def test_load_says_where():
    assert load(obj(text(BL)), at=PIE + 0x1000).entry == PIE + 0x1000


def test_objects_resolve_each_other():
    caller = obj(text(BL, rela=[(0, CALL26, 1, 0)]), symbols=[sym("callee")])
    callee = obj(text(BL, BL), symbols=[sym("callee", 1, 4, 4, kind=FUNC)])
    image = load(caller, callee)
    assert memory(image, PIE, 4) == 0x9400_0000 | (where(image, "callee") - PIE) // 4


def test_strong_beats_common_beats_weak():
    def user(*symbols):
        return obj(Sec(".data", bytes(8), ALLOC | WRITE, rela=[(0, ABS64, 1, 0)]), symbols=symbols)

    def definer(binding, value):
        return obj(Sec(".data", bytes(16), ALLOC | WRITE), symbols=[sym("x", 1, value, 8, binding)])

    common = user(sym("x", COMMON, 8, 8, kind=OBJECT))
    large = user(sym("x", COMMON, 64, 24, kind=OBJECT))
    for order in ((common, large), (large, common)):
        image = load(*order)
        assert where(image, "x") % 64 == 0
        assert image.symbols.find("x").size == 24
        assert memory(image, PIE) == memory(image, PIE + 16) == where(image, "x")
    for order in ((common, definer(GLOBAL, 8)), (definer(GLOBAL, 8), common)):
        image = load(*order)
        data = [s.address for s in image.segments if s.size == 16]
        assert where(image, "x") == data[0] + 8
    image = load(definer(WEAK, 8), common)
    assert image.segments[-1].data == b""
    assert where(image, "x") == image.segments[-1].address
    image = load(definer(WEAK, 0), definer(WEAK, 8))
    assert where(image, "x") == PIE


def test_local_names_do_not_meet():
    one = obj(Sec(".data", bytes(8), ALLOC | WRITE, rela=[(0, ABS64, 1, 0)]),
              symbols=[sym("x", 1, 4, 4, LOCAL)])  # fmt: skip
    image = load(one, one)
    assert (memory(image, PIE), memory(image, PIE + 16)) == (PIE + 4, PIE + 20)


def test_section_symbols_and_addends():
    image = load(
        obj(
            Sec(".data", bytes(8), ALLOC | WRITE, rela=[(0, ABS64, 1, 3)]),
            Sec(".rodata", b"abc\0xyz\0"),
            symbols=[sym("", 2, binding=LOCAL, kind=SECTION)],
        )
    )
    assert memory(image, PIE + 16) == PIE + 3


def test_the_got_has_one_entry_for_each_symbol_and_addend():
    words = (b"\0\0\0\x90", b"\x84\0\x40\xf9")
    rela = [(n, kind, symbol, addend) for n, (kind, symbol, addend) in zip(
        range(0, 24, 4),
        [(ADR_GOT_PAGE, 1, 0), (GOT_LO12, 1, 0), (ADR_GOT_PAGE, 2, 0), (GOT_LO12, 2, 0),
         (ADR_GOT_PAGE, 1, 8), (GOT_LO12, 1, 8)], strict=True)]  # fmt: skip
    image = load(obj(text(*words * 3, rela=rela),
                     symbols=[sym("here", 1, 8), sym("gone", binding=WEAK)]))  # fmt: skip
    got = image.segments[-1].address
    assert image.segments[-1].size == 24
    assert [memory(image, got + 8 * n) for n in range(3)] == [PIE + 8, 0, PIE + 16]
    assert memory(image, PIE + 4, 4) >> 10 & 0xFFF == (got & 0xFFF) // 8
    assert memory(image, PIE + 12, 4) >> 10 & 0xFFF == (got + 8 & 0xFFF) // 8


def test_a_weak_reference_to_nothing():
    """aaelf64, "Weak references": zero, or the place itself; a branch goes on behind itself."""
    content = BL + b"\0\0\0\x54" + bytes(24)
    image = load(
        obj(
            Sec(".text", content, ALLOC | EXEC, rela=[
                (0, CALL26, 1, 0), (4, CONDBR19, 1, 0), (8, ABS64, 1, 0), (16, PREL64, 1, 6),
                (24, ADRP, 1, 0),
            ]),
            symbols=[sym("gone", binding=WEAK)],
        )
    )  # fmt: skip
    assert memory(image, PIE, 4) == 0x9400_0001
    assert memory(image, PIE + 4, 4) == 0x5400_0020
    assert (memory(image, PIE + 8), memory(image, PIE + 16)) == (0, 6)
    pages = memory(image, PIE + 24, 4) >> 5 & 0x7_FFFF
    assert (pages << 14) % (1 << 33) == -PIE % (1 << 33) & -(1 << 14)


def test_no_symbol_is_zero():
    rela = [(0, ABS64, 0, 5), (8, PREL64, 0, 0)]
    image = load(obj(Sec(".data", bytes(16), ALLOC | WRITE, rela=rela)))
    assert (memory(image, PIE), memory(image, PIE + 8)) == (5, -(PIE + 8) % 2**64)


def test_stubs_get_room_where_they_are_needed():
    caller = obj(text(BL, BL, rela=[(0, CALL26, 1, 0), (4, CALL26, 2, 0)]),
                 symbols=[sym("one"), sym("two", binding=WEAK), sym("own", 1)])  # fmt: skip
    image = load(caller, stubs={"two": 4, "one": 100, "unasked": 4, "own": 4})
    two, one = where(image, "two"), where(image, "one")
    assert one - two == 16
    assert image.symbols.find("one").size == 100
    assert memory(image, PIE, 4) & 0x3FF_FFFF == (one - PIE) // 4
    assert image.symbols.address("unasked") is None
    assert image.symbols.address("own") == PIE


def test_null_relocations_are_passed_over():
    assert load(obj(text(BL, rela=[(0, 0, 0, 0), (99, 256, 0, 0)]))).segments[0].data == BL


# -- the committed objects against lld ----------------------------------------------------------


def zig_version() -> str | None:
    try:
        return importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError:
        return None


@pytest.mark.skipif(zig_version() is None, reason="needs a linker: pip install ziglang")
def test_the_same_bytes_as_lld(tmp_path):
    """Each section at our address in lld's script; -O0, so that it merges no strings."""
    from elftools.elf.elffile import ELFFile

    files = [(str(path), path.read_bytes()) for path in (DISCOVERY, CORNERS)]
    link = Link(files, Wish("o", RAM, None, None))
    image = link.image({"report": 4})
    path = tmp_path / "script.ld"
    path.write_text("SECTIONS {\n" + "\n".join(script(link)) + "\n}\n")
    command = [sys.executable, "-m", "ziglang", "ld.lld", "-O0", "--no-relax", "-e", "discover",
               "-T", str(path), *(name for name, _ in files), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out").open("rb") as file:
        linked = {s["sh_addr"]: s.data() for s in ELFFile(file).iter_sections() if s["sh_size"]}
    stub = where(image, "report")
    ours = {s.address: s.data for s in image.segments if s.data and s.address != stub}
    assert len(ours) > 25
    assert ours == {address: linked[address][: len(data)] for address, data in ours.items()}


def script(link):
    """One output section for each of ours. The compiler's section COMMON holds nothing."""
    for section in link.sections:
        owner = next((each.path for each in link.objects if section in each.sections), None)
        pattern = f'"{owner}"({section.name})' if owner else f"*({section.name})"
        if section.name == "stubs":
            yield f"report = {section.address:#x};"
        elif section.size and not (owner and section.name == "COMMON"):
            yield f".s{section.address:x} {section.address:#x} : {{ {pattern} }}"
    yield "/DISCARD/ : { *(.comment) }"


def test_both_ways_round():
    """Which object is first decides addresses and nothing else."""
    parts = [(str(path), path.read_bytes()) for path in (CORNERS, DISCOVERY)]
    one = load_objects(parts, Wish("o", RAM, None, None), {"report": 4})
    two = load_objects(parts[::-1], Wish("o", RAM, None, None), {"report": 4})
    assert sorted(one.symbols.names()) == sorted(two.symbols.names())
    assert sum(s.size for s in one.segments) == sum(s.size for s in two.segments)


# -- what is refused, and what the line says ----------------------------------------------------

PLAIN = obj(text(BL), symbols=[sym("f", 1, 0, 4, kind=FUNC)])
FAR = obj(text(BL, rela=[(0, CALL26, 1, 0)]), symbols=[sym("far", ABS, 1 << 40)])
REFUSED = {
    "x86": ([obj(text(BL), machine=62)], "ELF for x86-64"),
    "big-endian": ([b"\x7fELF\x02\x02".ljust(16, b"\0") + b"\0\1".ljust(64, b"\0")], "big-endian"),
    "32-bit": ([b"\x7fELF\x01\x01".ljust(16, b"\0") + b"\1\0".ljust(64, b"\0")], "32-bit"),
    "short header": ([PLAIN[:40]], "header is truncated"),
    "truncated": ([PLAIN[:-1]], "section headers are truncated"),
    "a program": ([PLAIN, good()], "1.o: is not an object file"),
    "no sections": ([PLAIN[:60] + b"\0\0" + PLAIN[62:]], "0 sections of 64 bytes"),
    "odd headers": ([PLAIN[:58] + b"\x10\0" + PLAIN[60:]], "sections of 16 bytes"),
    "nothing": ([obj(Sec(".comment", b"x", 0))], "neither code nor data"),
    "undefined": (
        [obj(text(BL, BL, rela=[(0, CALL26, 1, 0), (4, CALL26, 2, 0)]),
             symbols=[sym("puts"), sym("printf")])],
        r"needs puts, printf: give stubs=",
    ),
    "twice": ([PLAIN, PLAIN], "defined more than once: f; leave one of 0.o, 1.o"),
    "unknown relocation": ([obj(text(BL, rela=[(0, 549, 0, 0)]))], "TLSLE_ADD_TPREL_HI12 at"),
    "odd relocation": ([obj(text(BL, rela=[(0, 999, 0, 0)]))], r"type 999 at \.text\+0x0"),
    "symbol index": ([obj(text(BL, rela=[(0, CALL26, 9, 0)]))], "relocation 0 .* symbol 9 of 1"),
    "outside": ([obj(text(BL, rela=[(1, CALL26, 0, 0)]))], r"\.text\+0x1 lies outside"),
    "overflow": ([FAR], r"R_AARCH64_CALL26 at \.text\+0x0 cannot hold far \(section \.text\)"),
    "narrow": (
        [obj(Sec(".data", bytes(2), ALLOC | WRITE, rela=[(0, ABS16, 1, 0)]),
             symbols=[sym("", 1, binding=LOCAL, kind=SECTION)])],
        "R_AARCH64_ABS16 .* cannot hold .data",
    ),
    "misaligned": (
        [obj(text(BL, rela=[(0, CALL26, 1, 0)]), symbols=[sym("odd", 1, 2)])],
        "not a multiple of 4",
    ),
    "thread-local section": ([obj(Sec(".tdata", b"x", ALLOC | WRITE | TLS))], "thread-local"),
    "thread-local symbol": (
        [obj(text(BL, rela=[(0, CALL26, 1, 0)]), symbols=[sym("t", 1, kind=TLS_KIND)])],
        "t is a symbol that only a linker resolves",
    ),
    "without memory": (
        [obj(text(BL, rela=[(0, CALL26, 1, 0)]), Sec(".debug", b"x", 0), symbols=[sym("d", 2)])],
        "d lies in a section without memory",
    ),
    "REL": ([obj(text(BL, rela=[(0, CALL26, 0, 0)], table=REL))], "is a REL table"),
    "relocated zeros": (
        [obj(Sec(".bss", b"", ALLOC | WRITE, size=8, kind=NOBITS, rela=[(0, ABS64, 0, 0)]))],
        "relocates section .bss, which has no contents",
    ),
    "odd alignment": ([obj(text(BL, align=3))], "alignment 0x3"),
    "short section": ([obj(text(BL, size=1 << 40))], "section .text is truncated"),
    "huge": ([obj(Sec(".bss", size=1 << 60, flags=ALLOC, kind=NOBITS))], "beyond RAM"),
    "large": ([obj(Sec(".bss", size=70 * MIB, flags=ALLOC, kind=NOBITS))], "--mem 71M"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(files, says):
    with pytest.raises(BootError, match=says) as caught:
        load(*files)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_refused_options():
    with pytest.raises(BootError, match="multiple of 0x10"):
        load(PLAIN, at=PIE + 4)
    with pytest.raises(BootError, match="name a function to call"):
        load(PLAIN, entry=PIE)


def test_only_who_wants_functions_gets_them(tmp_path):
    (tmp_path / "f.o").write_bytes(PLAIN)
    (tmp_path / "f.elf").write_bytes(good())
    with pytest.raises(BootError, match=r"is an object file.* link it first"):
        load_image(tmp_path / "f.o", ram=RAM)
    assert load_image(tmp_path / "f.o", ram=RAM, parts=Parts()).kind is ImageKind.OBJECT
    with pytest.raises(BootError, match="nothing to link libraries= with"):
        load_image(tmp_path / "f.elf", ram=RAM, parts=Parts((str(tmp_path / "f.o"),)))
    with pytest.raises(BootError, match=r"absent\.o: cannot be read"):
        load_image(tmp_path / "f.o", ram=RAM, parts=Parts((str(tmp_path / "absent.o"),)))


def test_it_does_not_run():
    vm = Vm(CORNERS, libraries=[DISCOVERY], stubs={"report": 0})
    with pytest.raises(BootError, match=r"object file \(.o\), not a program: call\(\)"):
        vm.run()
    with pytest.raises(EmuError, match="cannot be saved"):
        vm.save("nowhere")


# -- fuzz: an image or one line -----------------------------------------------------------------

SEED = obj(
    text(BL, BL, rela=[(0, CALL26, 1, 0), (4, CALL26, 2, 0)]),
    Sec(".data", bytes(8), ALLOC | WRITE, rela=[(0, ABS64, 1, 0)]),
    symbols=[sym("f", 1, 0, 4, kind=FUNC), sym("gone", binding=WEAK), sym("c", COMMON, 8, 8)],
)


def outcome(data: bytes) -> None:
    lines: list[str] = []
    try:
        image = load(data)
    except BootError as error:
        lines = str(error).splitlines()
    if lines:
        assert len(lines) == 1
        return
    image.symbols.name(image.entry)
    assert all(PIE <= s.address <= s.end <= RAM.end for s in image.segments)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(SEED) - 1), st.integers(0, 255)), max_size=6),
       st.integers(0, len(SEED)) | st.just(len(SEED)))  # fmt: skip
@example([(60, 4), (258, 10)], 760)  # a section's name with a newline in it
def test_fuzz(changes, length):
    changed = bytearray(SEED)
    for at, value in changes:
        changed[at] = value
    outcome(bytes(changed[:length]))


def test_fuzz_headers():
    """A sweep over every byte of the headers and tables."""
    rng = random.Random(1)
    for at in range(16, len(SEED)):
        changed = bytearray(SEED)
        changed[at] = rng.choice([0, 1, 0x24, 0x7F, 0xFF])
        outcome(bytes(changed))
