"""Relocatable objects (.o): laid out in RAM, their symbols resolved, their relocations applied.

What a linker does, as far as one function of a project needs it to be called (gABI chapter 4,
aaelf64): several objects may be given and are resolved against each other. Sections that occupy
memory go one behind the other, code first, then constants, data and zeros, each at its own
alignment and at least `ALIGN`. COMMON symbols, a small GOT and room for stubs follow. A weak
reference that nobody defines is zero, and a call of it goes on behind itself.

pyelftools reads the tables and is imported here only; relocations.py knows what they ask for.

Not known: archives, thread-local storage, REL tables (aaelf64 has RELA for AArch64), veneers for
calls further than 128 MiB, merging of strings and of COMDAT groups. Nothing is discarded, and no
constructor in .init_array runs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, NamedTuple

from emu.base.errors import BootError
from emu.base.smccc import MASK64
from emu.images.elf import PIE_OFFSET, check_header, is_object
from emu.images.image import MIB, Image, ImageKind, Segment, Wish, align_up, check_layout
from emu.images.relocations import GOT_ENTRY, NOTHING, RELOCATIONS, Operation, Relocation
from emu.images.symbols import Symbol, Symbols, is_name, symbol_rank

ALIGN = 16
"""The least alignment of a section: AAPCS64 asks for no more of any fundamental type."""
_SHDR_SIZE = 64  # gABI chapter 4, from here on
_MAX_SECTIONS = 0xFF00  # SHN_LORESERVE: more would need SHN_XINDEX
_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR, _SHF_TLS = 1, 2, 4, 1 << 10
_STB_LOCAL, _STB_WEAK = 0, 2
_STT_OBJECT, _STT_FUNC = 1, 2
_OTHER_KIND = -1
_SHN_UNDEF, _SHN_ABS, _SHN_COMMON = 0, 0xFFF1, 0xFFF2


class Fixup(NamedTuple):
    """One entry of a RELA table."""

    offset: int
    kind: int
    symbol: int
    addend: int


@dataclass(slots=True, eq=False)
class Section:
    """A piece of memory; `data` is empty where it is all zero."""

    name: str
    flags: int
    size: int
    align: int
    data: bytearray = field(repr=False, default_factory=bytearray)
    fixups: list[Fixup] = field(repr=False, default_factory=list)
    address: int = 0

    @property
    def group(self) -> int:
        """Code, constants, data, zeros."""
        if self.flags & _SHF_EXECINSTR:
            return 0
        return 3 if self.size and not self.data else 1 + bool(self.flags & _SHF_WRITE)


@dataclass(slots=True, eq=False)
class Name:
    """A symbol. `section` is None for a number, and for what is undefined."""

    name: str
    kind: int
    binding: int
    value: int = 0
    size: int = 0
    section: Section | None = None
    place: int = _SHN_UNDEF

    @property
    def strength(self) -> int:
        """Which of several definitions wins (gABI, "Symbol Binding"); 0 for none."""
        if self.place == _SHN_UNDEF:
            return 0
        if self.place == _SHN_COMMON:
            return 2
        return 1 if self.binding == _STB_WEAK else 3

    @property
    def address(self) -> int:
        return self.value + (self.section.address if self.section else 0) & MASK64


@dataclass(slots=True)
class Object:
    """What one file holds that takes part."""

    path: str
    sections: list[Section]
    names: list[Name]


def load_objects(
    files: Sequence[tuple[str, bytes]], wish: Wish, stubs: Mapping[str, int] | None = None
) -> Image:
    """The objects in `files` (path, contents) as one image at `wish.load`.

    `stubs` says for undefined names how many bytes each needs: they get room of their own, which
    is for the caller to fill. BootError names everything that is still undefined.
    """
    if wish.entry is not None:
        wish.refuse("is an object file and has no entry point to choose: name a function to call()")
    return Link(files, wish).image(stubs or {})


# -- reading ------------------------------------------------------------------------------------


def _read(data: bytes, wish: Wish) -> Object:
    if not is_object(data):
        wish.refuse("is not an object file (.o); give what the compiler makes with -c")
    check_header(data, wish)
    start, each, count = struct.unpack_from("<40xQ10xHH", data)
    if each != _SHDR_SIZE or not 0 < count < _MAX_SECTIONS:
        wish.refuse(f"has {count} sections of {each} bytes each, which no compiler writes")
    if start + count * _SHDR_SIZE > len(data):
        wish.refuse("the section headers are truncated; build or copy the file again")
    try:
        return _parse(data, wish)
    except BootError:
        raise
    except Exception as error:  # pyelftools raises whatever its parts raise
        wish.refuse(f"the object is broken ({type(error).__name__}); build it again")


def _parse(data: bytes, wish: Wish) -> Object:
    from elftools.elf.elffile import ELFFile

    tables: list[Any] = list(ELFFile(BytesIO(data)).iter_sections())
    sections = {
        number: _section(data, table, wish)
        for number, table in enumerate(tables)
        if table["sh_flags"] & _SHF_ALLOC
    }
    names: list[Name] = []
    for table in tables:
        if table["sh_type"] == "SHT_SYMTAB":
            _contents(data, table, wish)
            names = [_name(entry, sections) for entry in table.iter_symbols()]
    for table in tables:
        if table["sh_type"] in ("SHT_REL", "SHT_RELA") and table["sh_info"] in sections:
            _contents(data, table, wish)
            _fixups(table, sections[table["sh_info"]], len(names), wish)
    return Object(wish.path, list(sections.values()), names)


def _contents(data: bytes, table: Any, wish: Wish) -> bytes:
    start, size = table["sh_offset"], table["sh_size"]
    if start + size > len(data):
        wish.refuse(f"section {table.name} is truncated; build or copy the file again")
    return data[start : start + size]


def _section(data: bytes, table: Any, wish: Wish) -> Section:
    align = table["sh_addralign"] or 1
    if align.bit_count() != 1 or align > 2 * MIB:
        wish.refuse(f"section {table.name} has alignment {align:#x}; give it a power of two")
    if table["sh_flags"] & _SHF_TLS:
        wish.refuse(f"section {table.name} is thread-local, which hvcemu does not link")
    content = b"" if table["sh_type"] == "SHT_NOBITS" else _contents(data, table, wish)
    return Section(
        table.name, table["sh_flags"], table["sh_size"], max(align, ALIGN), bytearray(content)
    )


_PLACES = {"SHN_UNDEF": _SHN_UNDEF, "SHN_ABS": _SHN_ABS, "SHN_COMMON": _SHN_COMMON}
_KINDS = {
    "STT_NOTYPE": 0, "STT_OBJECT": _STT_OBJECT, "STT_FUNC": _STT_FUNC, "STT_SECTION": 3,
    "STT_COMMON": _STT_OBJECT,
}  # fmt: skip
_BINDINGS = {"STB_LOCAL": _STB_LOCAL, "STB_WEAK": _STB_WEAK}


def _name(entry: Any, sections: dict[int, Section]) -> Name:
    place = entry["st_shndx"]
    section = sections.get(place)
    return Name(
        entry.name or (section.name if section else ""),
        _KINDS.get(entry["st_info"]["type"], _OTHER_KIND),
        _BINDINGS.get(entry["st_info"]["bind"], 1),
        entry["st_value"],
        entry["st_size"],
        section,
        _PLACES[place] if isinstance(place, str) else place,
    )


def _fixups(table: Any, section: Section, names: int, wish: Wish) -> None:
    if table["sh_type"] == "SHT_REL":
        wish.refuse(f"{table.name} is a REL table; build the object for AArch64, which has RELA")
    if not section.data:
        wish.refuse(f"{table.name} relocates section {section.name}, which has no contents")
    for number, entry in enumerate(table.iter_relocations()):
        fixup = Fixup(
            entry["r_offset"], entry["r_info_type"], entry["r_info_sym"], entry["r_addend"]
        )
        if fixup.symbol >= names:
            wish.refuse(
                f"relocation {number} of section {section.name} names symbol {fixup.symbol} "
                f"of {names}; build the object again"
            )
        if fixup.kind not in NOTHING:
            section.fixups.append(fixup)


# -- linking ------------------------------------------------------------------------------------


class Link:
    """Objects on their way into one image, which `image` makes once."""

    def __init__(self, files: Sequence[tuple[str, bytes]], wish: Wish) -> None:
        self.wish = wish
        self.objects = [_read(data, wish._replace(path=path)) for path, data in files]
        self.sections = [section for each in self.objects for section in each.sections]
        self.globals: dict[str, Name] = {}
        self.slots: dict[tuple[Name, int], int] = {}
        self.got = Section(".got", _SHF_ALLOC | _SHF_WRITE, 0, ALIGN)

    def image(self, stubs: Mapping[str, int]) -> Image:
        """Define, lay out and relocate everything."""
        self._define()
        self._add_commons()
        self._add_stubs(stubs)
        self._check_references()
        self._add_got()
        segments = self._lay_out()
        for each in self.objects:
            for section in each.sections:
                self._relocate(each, section)
        for (name, addend), slot in self.slots.items():
            value = (name.address + addend) & MASK64
            self.got.data[slot : slot + GOT_ENTRY] = value.to_bytes(GOT_ENTRY, "little")
        filled = tuple(
            Segment(segment.address, bytes(section.data), section.size)
            for segment, section in zip(segments, self.sections, strict=True)
        )
        symbols = list(self._symbols())
        entry = self.sections[0].address
        return Image(self.wish.path, ImageKind.OBJECT, entry, filled, Symbols(lambda: symbols))

    def _define(self) -> None:
        """The strongest definition of each global name."""
        twice: dict[str, None] = {}
        for each in self.objects:
            for name in each.names:
                if name.binding == _STB_LOCAL or not name.strength:
                    continue
                known = self.globals.setdefault(name.name, name)
                if known is not name and name.strength == known.strength == 3:
                    twice[name.name] = None
                elif _wins(name, known):
                    self.globals[name.name] = name
        if twice:
            paths = ", ".join(each.path for each in self.objects)
            self.wish.refuse(f"defined more than once: {', '.join(twice)}; leave one of {paths}")

    def _add_commons(self) -> None:
        for name in self.globals.values():
            if name.place == _SHN_COMMON:  # its value is its alignment (gABI, "Symbol Values")
                align = max(ALIGN, name.value if name.value.bit_count() == 1 else 1)
                self._own(name, Section("COMMON", _SHF_ALLOC | _SHF_WRITE, name.size, align))

    def _own(self, name: Name, section: Section) -> None:
        """A section for one symbol alone."""
        name.section, name.value, name.place = section, 0, _SHN_ABS
        self.sections.append(section)

    def _add_stubs(self, stubs: Mapping[str, int]) -> None:
        undefined = {name.name for each in self.objects for name in each.names
                     if name.place == _SHN_UNDEF and name.name not in self.globals}
        for text in (text for text in stubs if text in undefined):
            name = Name(text, _STT_FUNC, 1, size=stubs[text])
            size = max(stubs[text], 1)
            self._own(name, Section("stubs", _SHF_ALLOC | _SHF_EXECINSTR, size, ALIGN,
                                    bytearray(size)))
            self.globals[text] = name

    def _target(self, each: Object, fixup: Fixup) -> Name:
        name = each.names[fixup.symbol]
        return name if name.binding == _STB_LOCAL else self.globals.get(name.name, name)

    def _check_references(self) -> None:
        """Every symbol that a relocation needs is defined, or weak."""
        missing: dict[str, None] = {}
        for each in self.objects:
            for fixup in (fixup for section in each.sections for fixup in section.fixups):
                name = self._target(each, fixup)
                if fixup.symbol and not name.strength and name.binding != _STB_WEAK:
                    missing[name.name] = None
                elif name.strength and name.section is None and name.place != _SHN_ABS:
                    self._of(each).refuse(f"{name.name} lies in a section without memory")
                elif name.kind == _OTHER_KIND:
                    self._of(each).refuse(f"{name.name} is a symbol that only a linker resolves "
                                          "(thread-local or indirect): link it first")
        if missing:
            self.wish.refuse(
                f"is an object file that needs {', '.join(missing)}: give stubs={{...}} or "
                "libraries=[...] for them, or link it into a program to boot it"
            )

    def _of(self, each: Object) -> Wish:
        return self.wish._replace(path=each.path)

    def _add_got(self) -> None:
        for each in self.objects:
            for fixup in (fixup for section in each.sections for fixup in section.fixups):
                rule = RELOCATIONS.get(fixup.kind)
                if rule and rule.needs_got:
                    key = self._target(each, fixup), fixup.addend
                    self.slots.setdefault(key, GOT_ENTRY * len(self.slots))
        if self.slots:
            self.got.size = GOT_ENTRY * len(self.slots)
            self.got.data = bytearray(self.got.size)
            self.sections.append(self.got)

    def _lay_out(self) -> tuple[Segment, ...]:
        """Addresses, checked before anything is made of them."""
        if not any(section.size for section in self.sections):
            self.wish.refuse("has neither code nor data; build it again")
        base = self.wish.ram.base + PIE_OFFSET if self.wish.load is None else self.wish.load
        if base % ALIGN:
            self.wish.refuse(f"--load {base:#x} must be a multiple of {ALIGN:#x}")
        self.sections.sort(key=lambda section: section.group)
        for section in self.sections:
            section.address = base = align_up(base, section.align)
            base += section.size
        return check_layout([Segment(s.address, b"", s.size) for s in self.sections], self.wish)

    def _relocate(self, each: Object, section: Section) -> None:
        wish = self._of(each)
        for fixup in section.fixups:
            rule = RELOCATIONS.get(fixup.kind)
            where = f"at {section.name}+{fixup.offset:#x}"
            if rule is None:
                wish.refuse(f"needs relocation {_kind_name(fixup.kind)} {where}, "
                            "which hvcemu does not apply; link it into a program first")
            if fixup.offset + rule.size > len(section.data):
                wish.refuse(f"a relocation {where} lies outside its section; build it again")
            name = self._target(each, fixup)
            x = self._value(rule, name, fixup, section.address + fixup.offset)
            if problem := rule.problem(x):
                wish.refuse(f"{rule.name} {where} cannot hold {name.name or 'its symbol'} "
                            f"(section {section.name}): {problem}")
            rule.write(section.data, fixup.offset, x)

    def _value(self, rule: Relocation, name: Name, fixup: Fixup, place: int) -> int:
        """X; for a weak reference to nothing as aaelf64 "Weak references" and lld have it."""
        if rule.needs_got:
            return rule.value(self.got.address + self.slots[name, fixup.addend], place)
        target = name.address + fixup.addend
        if fixup.symbol and not name.strength and rule.operation is Operation.PREL:
            target = place + (4 if rule.is_branch else fixup.addend)
        return rule.value(target, place)

    def _symbols(self) -> Iterator[Symbol]:
        local = [name for each in self.objects for name in each.names
                 if name.binding == _STB_LOCAL and name.strength]
        for name in (*local, *self.globals.values()):
            if not is_name(name.name, name.kind):
                continue
            if name.section is None:
                if name.place == _SHN_ABS:
                    yield Symbol(name.address, -1, name.name, 1)
                continue
            size = name.size or max(name.section.size - name.value, 1)
            yield Symbol(name.address, symbol_rank(name.kind, name.binding), name.name, size)


def _wins(name: Name, known: Name) -> bool:
    """Whether a definition replaces the one known before; of COMMONs the larger stays."""
    if name.strength == known.strength == 2:
        return name.size > known.size
    return name.strength > known.strength


def _kind_name(kind: int) -> str:
    from elftools.elf.enums import ENUM_RELOC_TYPE_AARCH64

    names = [name for name, value in ENUM_RELOC_TYPE_AARCH64.items() if value == kind]
    return names[0] if names else f"type {kind}"
