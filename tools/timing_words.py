"""Words for every key of the decoder: what gen_timing.py measures.

A `Form` is one key as an encoding whose registers can still be chosen. Bits that no row of the
decoder names (immediates, conditions, amounts of shift) are filled at random from the key's own
seed, so that the same words come out on every run, and llvm-mc says which fills are instructions.
"""

from __future__ import annotations

import itertools
import random
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from emu.arm import a64

FEATURES = (
    "+v8.7a,+neon,+fp-armv8,+aes,+sha2,+sha3,+sm4,+fullfp16,+fp16fml,+dotprod,+i8mm,+bf16,+lse,"
    "+crc,+rcpc,+rcpc-immo,+mte,+pauth,+flagm,+altnzcv,+fptoint,+sb,+complxnum,+jsconv,+rdm,"
    "+wfxt,+xs,+cssc,+hbc,+ras,+predres,+specrestrict"
)
"""Everything that the decoder knows, whatever the core has (LLVM's names of features)."""

PRODUCER = {"d": 1, "n": 2, "m": 3, "a": 4, "t": 6, "u": 8, "s": 10, "k": 3}
CONSUMER = {"d": 17, "n": 18, "m": 19, "a": 20, "t": 22, "u": 26, "s": 28, "k": 5}
LINK = 12
"""Registers by operand letter; both sets and LINK to LINK + 3 are disjoint, and even where pairs
must be."""


class Operand(NamedTuple):
    """What a row's operand names: X, V or F, a letter or a number, and its role or slot."""

    bank: str
    place: str
    kind: int


class Form(NamedTuple):
    """One key as an encoding."""

    key: str
    value: int
    letters: Mapping[str, int]
    """Where each register letter stands."""
    reads: tuple[Operand, ...]
    writes: tuple[Operand, ...]

    def word(self, registers: Mapping[str, int]) -> int:
        return self.value | sum(registers[name] << at for name, at in self.letters.items())


def forms(fills: int = 24) -> Iterator[Form]:
    """For every key, as many forms as there are fills that the decoder takes for this key."""
    for row in a64.rows():
        if row.key != "-":
            for key, value, free in _keys(row):
                yield from _filled(row, key, value, free, fills)


def _keys(row: a64.Row) -> Iterator[tuple[str, int, int]]:
    """Each key of a row, its bits, and the mask of those that are still free."""
    if not row.ready:
        row.prepare()
    named = [field for name in re.findall(r"\{(\w+)\}", row.key)
             for field in a64.KINDS[name][0].split()]  # fmt: skip
    fields = {name: row.fields[name] for name in dict.fromkeys(named)}
    taken = row.mask
    for name, (shift, width) in row.fields.items():
        if name in fields or name in PRODUCER:
            taken |= (1 << width) - 1 << shift
    for values in itertools.product(*(range(1 << width) for _, width in fields.values())):
        value = row.value
        for (shift, _), chosen in zip(fields.values(), values, strict=True):
            value |= chosen << shift
        if key := row.name(value):
            yield key, value, ~taken & 0xFFFF_FFFF


def _filled(row: a64.Row, key: str, value: int, free: int, fills: int) -> Iterator[Form]:
    rng = random.Random(key)
    letters = {name: at for name, (at, _) in row.fields.items() if name in PRODUCER}
    written, _, read = row.operands.rpartition("=")
    seen = set()
    for number in range(fills):
        bits = free if number == 1 else 0 if number == 2 else free & rng.getrandbits(32)
        form = Form(key, value | bits, letters, _operands(read, a64.Role), _operands(written, None))
        if form.value in seen or a64.row_of(form.word(PRODUCER)) is not row:
            continue
        seen.add(form.value)
        yield form


def _operands(text: str, roles: type[a64.Role] | None) -> tuple[Operand, ...]:
    found = []
    for operand in text.split():
        match = re.match(r"([XSVF])(\d+|[a-z])?(?:\+\d)?(?:\.(\w+))?$", operand)
        assert match, operand
        bank, place, suffix = match[1], match[2] or "", (match[3] or "").upper()
        if roles:
            default = {"V": a64.Role.VECTOR, "F": a64.Role.FLAGS}.get(bank, a64.Role.ALU)
            kind: int = roles[suffix] if suffix else default
        else:
            default_slot = a64.Slot.FLAGS if bank == "F" else a64.Slot.RESULT
            kind = a64.Slot[suffix] if suffix else default_slot
        found.append(Operand("X" if bank == "S" else bank, place, kind))
    return tuple(found)


def disassemble(words: Iterable[int], program: str) -> dict[int, str]:
    """What llvm-mc calls each word; words that are no instruction are left out."""
    lines = [" ".join(f"0x{b:02x}" for b in word.to_bytes(4, "little")) for word in words]
    done = subprocess.run(
        [program, "--disassemble", "-triple=aarch64", f"-mattr={FEATURES}", "-show-encoding"],
        input="\n".join(lines), capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = {}
    for line in done.stdout.splitlines():
        if match := re.match(r"\s*(.*?)\s*// encoding: \[(.*)\]", line):
            code = bytes(int(byte, 16) for byte in match[2].split(","))
            found[int.from_bytes(code, "little")] = match[1]
    return found
