"""Names for addresses: what a trace, a fault or a breakpoint calls a place in the guest.

The names come from an ELF file's `.symtab` (or `.dynsym` when it was stripped), or from a Linux
`System.map` / `/proc/kallsyms` text, since an arm64 `Image` carries none. pyelftools finds the
tables; it is imported only when a name is first asked for, because its import costs 25 to 40 ms
and most runs ask for none. The entries themselves are read with `struct` (Elf64_Sym, gABI
chapter 4): a vmlinux has some 200,000 of them, and an object for each would take seconds.

A symbol names the address of its function's first byte; `name` answers with the nearest symbol
at or below, inside that symbol's size where the size is known. An assembly label has no size and
is taken to reach to the end of its section. Where several names share an address, a function is
preferred to an object and a global name to a local one. The mapping symbols `$x`, `$d` (aaelf64
"Mapping symbols") mark code and data for disassemblers and are no names; absolute symbols (a
linker script's constants) have an address but name none.

All answers use the addresses at which the image is linked plus its load bias; where a program is
loaded at physical addresses that differ, `name` also accepts those, for the time before the guest
turns its MMU on. A broken table gives no names, never an error: the program may run all the same.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Self

_SYM = struct.Struct("<IBBHQQ")  # Elf64_Sym: st_name, st_info, st_other, st_shndx, value, size
_SHDR_SIZE = 64  # sizeof(Elf64_Shdr), gABI chapter 4
_MAX_SECTIONS = 0x1_0000  # a linked program has dozens; garbage may claim 2**60
_SHN_UNDEF, _SHN_ABS = 0, 0xFFF1  # gABI chapter 4, "Special Section Indexes"
_NESTING = 16  # how far back a symbol that encloses others is looked for; our choice
_STT_NOTYPE, _STT_OBJECT, _STT_FUNC = 0, 1, 2  # gABI chapter 4, "Symbol Types"


class Symbol(NamedTuple):
    """One name. `rank` orders the names of one address: the highest wins."""

    address: int
    rank: int
    name: str
    size: int


class Symbols:
    """A lazily built, sorted table of symbols."""

    def __init__(self, load: Callable[[], Iterable[Symbol]] = tuple, *, physical: int = 0) -> None:
        """`load` runs at the first question; `physical` = load address minus link address."""
        self._load = load
        self._physical = physical
        self._table: list[Symbol] | None = None
        self._starts: list[int] = []
        self._by_name: dict[str, Symbol] = {}

    @classmethod
    def from_elf(cls, data: bytes, *, bias: int = 0, physical: int = 0) -> Self:
        return cls(lambda: _elf_symbols(data, bias), physical=physical)

    @classmethod
    def from_file(cls, data: bytes) -> Self:
        """From either: an ELF such as vmlinux, or a System.map."""
        if data.startswith(b"\x7fELF"):
            return cls.from_elf(data)
        return cls.from_system_map(data.decode("utf-8", "replace"))

    @classmethod
    def from_system_map(cls, text: str) -> Self:
        """`address type name` lines, as `nm` writes them; kallsyms' `[module]` is allowed."""
        return cls(lambda: _map_symbols(text))

    def __len__(self) -> int:
        return len(self._symbols())

    def name(self, address: int) -> str | None:
        """`main+0x1c`, `main`, or None where no symbol reaches."""
        found = self._find(address)
        if found is None and self._physical:
            address -= self._physical
            found = self._find(address)
        if found is None:
            return None
        offset = address - found.address
        return f"{found.name}+{offset:#x}" if offset else found.name

    def address(self, name: str) -> int | None:
        """The (linked, biased) address of `name`; of several, the one `name()` prefers."""
        found = self.find(name)
        return None if found is None else found.address

    def find(self, name: str) -> Symbol | None:
        """The symbol of this name; of several, the one `name()` prefers."""
        self._symbols()
        return self._by_name.get(name)

    def names(self) -> list[str]:
        """Every name there is."""
        self._symbols()
        return list(self._by_name)

    def _find(self, address: int) -> Symbol | None:
        """The nearest symbol that reaches `address`; a small table may sit inside a function."""
        table = self._symbols()
        index = bisect_right(self._starts, address)
        for symbol in reversed(table[max(0, index - _NESTING) : index]):
            if not symbol.size or address < symbol.address + symbol.size:
                return symbol
        return None

    def _symbols(self) -> list[Symbol]:
        if self._table is None:
            everything = sorted(self._load())
            # Later entries win: at one address the sort puts the highest rank last.
            self._table = list({s.address: s for s in everything if s.rank >= 0}.values())
            self._starts = [s.address for s in self._table]
            self._by_name = {s.name: s for s in sorted(everything, key=_by_rank)}
            self._load = tuple  # lets go of the file's bytes
        return self._table


def symbol_rank(kind: int, binding: int) -> int:
    """A function before an object before a label, and a global one before a local one."""
    return 4 * (kind == _STT_FUNC) + 2 * (kind == _STT_OBJECT) + (binding != 0)


def is_name(name: str, kind: int) -> bool:
    """Whether a symbol of this type names a place, for people."""
    return kind in (_STT_NOTYPE, _STT_OBJECT, _STT_FUNC) and not _is_mapping(name)


def _by_rank(symbol: Symbol) -> tuple[int, int]:
    return (symbol.rank, -symbol.address)


def _is_mapping(name: str) -> bool:
    """`$x`, `$d`, also with a suffix (`$d.12`); and the nameless."""
    return not name or name[0] == "$"


def _elf_symbols(data: bytes, bias: int) -> list[Symbol]:
    """All named, defined symbols; none at all when the tables are broken."""
    try:
        return list(_read_elf(data, bias))
    except Exception:
        # pyelftools raises whatever its parts raise (ELFError, construct's, Unicode, Recursion).
        return []


def _read_elf(data: bytes, bias: int) -> Iterator[Symbol]:
    from io import BytesIO

    from elftools.elf.elffile import ELFFile

    elf = ELFFile(BytesIO(data))
    if elf["e_shentsize"] != _SHDR_SIZE or elf.num_sections() > _MAX_SECTIONS:
        return
    sections = list(elf.iter_sections())
    ends = [section["sh_addr"] + section["sh_size"] for section in sections]
    for kind in ("SHT_SYMTAB", "SHT_DYNSYM"):
        for section in (s for s in sections if s["sh_type"] == kind):
            strings = _contents(data, sections[section["sh_link"]])
            yield from _entries(_contents(data, section), strings, bias, ends)
            return


def _contents(data: bytes, section: Any) -> bytes:
    """A section's bytes, cut from the file: `section.data()` would allocate what it claims."""
    start: int = section["sh_offset"]
    return data[start : start + section["sh_size"]]


def _entries(table: bytes, strings: bytes, bias: int, ends: list[int]) -> Iterator[Symbol]:
    whole = len(table) - len(table) % _SYM.size
    for at, info, _, where, value, size in _SYM.iter_unpack(table[:whole]):
        kind, binding = info & 0xF, info >> 4
        name = strings[at : strings.find(b"\0", at)].decode("utf-8", "replace")
        if where == _SHN_UNDEF or not is_name(name, kind):
            continue
        rank = symbol_rank(kind, binding)
        if where == _SHN_ABS:
            yield Symbol(value, -1, name, 1)
            continue
        reach = ends[where] - value if where < len(ends) else 0
        yield Symbol((value + bias) % 2**64, rank, name, size or max(reach, 1))


def _map_symbols(text: str) -> Iterator[Symbol]:
    """Lines of another shape are passed over: Debian ships a one-line stub of prose."""
    for line in text.splitlines():
        words = line.split()
        module = len(words) == 4 and words[3].startswith("[")
        if not (len(words) == 3 or module) or len(words[1]) != 1 or _is_mapping(words[2]):
            continue
        try:
            address = int(words[0], 16)
        except ValueError:
            continue
        kind = words[1]  # nm(1): T/t text, lower case local
        yield Symbol(address, 4 * (kind in "Tt") + kind.isupper(), words[2], 0)
