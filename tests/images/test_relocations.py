"""Relocations by their formulas: what is written is read back, in its field and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.images.relocations import (
    ADR,
    DATA,
    IMM12,
    IMM14,
    IMM16,
    IMM19,
    IMM26,
    NOTHING,
    RELOCATIONS,
    Operation,
    Relocation,
)

PLACE = 0x4008_1238
addresses = st.integers(0, (1 << 48) - 1)
rules = pytest.mark.parametrize("rule", RELOCATIONS.values(), ids=lambda rule: rule.name[10:])

# Which bits of the instruction belong to an immediate, drawn by hand (DDI 0487, chapter C4).
MASKS = {
    IMM26: 0x03FF_FFFF, IMM19: 0x00FF_FFE0, IMM16: 0x001F_FFE0, IMM14: 0x0007_FFE0,
    IMM12: 0x003F_FC00, ADR: 0x60FF_FFE0,
}  # fmt: skip


def field(word: int, rule: Relocation) -> int:
    """The immediate of an instruction, decoded independently of the tables."""
    if rule.field == ADR:
        return (word >> 5 & 0x7_FFFF) << 2 | word >> 29 & 3
    mask = MASKS[rule.field]
    return (word & mask) // (mask & -mask)


def written(rule: Relocation, x: int, before: int) -> int:
    content = bytearray(b"\xee" * 16)
    content[4:12] = before.to_bytes(8, "little")
    rule.write(content, 4, x)
    assert content[:4] == content[12:] == b"\xee" * 4
    if rule.size < 8:
        assert content[4 + rule.size : 12] == before.to_bytes(8, "little")[rule.size :]
    return int.from_bytes(content[4 : 4 + rule.size], "little")


@rules
@given(data=st.data(), before=st.integers(0, (1 << 64) - 1))
def test_what_fits_can_be_decoded(rule, data, before):
    least, end = rule.range or (-(1 << 63), 1 << 63)
    x = data.draw(st.integers(least // rule.multiple, (end - 1) // rule.multiple)) * rule.multiple
    assert rule.problem(x) == ""
    after = written(rule, x, before)
    width = rule.top + 1 - rule.bottom
    if rule.field == DATA:
        assert after == x % (1 << width)
        return
    assert field(after, rule) == x >> rule.bottom & (1 << width) - 1
    assert after & ~MASKS[rule.field] == before & 0xFFFF_FFFF & ~MASKS[rule.field]


@rules
def test_what_does_not_fit_is_named(rule):
    if rule.range is not None:
        least, end = rule.range
        for x in (least - rule.multiple, end):
            assert f"{x:#x} is not in" in rule.problem(x)
    if rule.multiple > 1:
        assert "not a multiple of" in rule.problem(rule.multiple // 2)


@rules
@given(target=addresses, place=addresses)
def test_formulas(rule, target, place):
    expected = {
        Operation.ABS: target,
        Operation.GOT: target,
        Operation.PREL: target - place,
        Operation.GOT_PREL: target - place,
        Operation.PAGE: (target // 4096 - place // 4096) * 4096,
        Operation.GOT_PAGE: (target // 4096 - place // 4096) * 4096,
    }
    assert rule.value(target, place) == expected[rule.operation]


# Encodings checked against the assembler's, each at PLACE for a target (aaelf64's own examples
# are few): mnemonic → relocation, the instruction without its field, target, the instruction.
ASSEMBLED = {
    "bl .+8": (283, 0x9400_0000, PLACE + 8, 0x9400_0002),
    "b .-4": (282, 0x1400_0000, PLACE - 4, 0x17FF_FFFF),
    "b.eq .+16": (280, 0x5400_0000, PLACE + 16, 0x5400_0080),
    "tbz w0, #0, .+12": (279, 0x3600_0000, PLACE + 12, 0x3600_0060),
    "ldr x5, .+8": (273, 0x5800_0005, PLACE + 8, 0x5800_0045),
    "adr x2, .+5": (274, 0x1000_0002, PLACE + 5, 0x3000_0022),
    "adrp x1, page after": (275, 0x9000_0001, PLACE + 0x1000, 0xB000_0001),
    "add x1, x1, #0x604": (277, 0x9100_0021, 0x1604, 0x9118_1021),
    "ldrb w1, [x1, #5]": (278, 0x3940_0021, 0x1005, 0x3940_1421),
    "ldrh w1, [x1, #6]": (284, 0x7940_0021, 0x1006, 0x7940_0C21),
    "ldr w1, [x1, #8]": (285, 0xB940_0021, 0x1008, 0xB940_0821),
    "ldr x1, [x1, #16]": (286, 0xF940_0021, 0x1010, 0xF940_0821),
    "ldr q1, [x1, #32]": (299, 0x3DC0_0021, 0x1020, 0x3DC0_0821),
    "ldr x4, [x4, #8] of the GOT": (312, 0xF940_0084, 0x1008, 0xF940_0484),
    "movz x3, #0x1234, lsl #16": (265, 0xD2A0_0003, 0x1234_5678, 0xD2A2_4683),
    "movk x3, #0x5678": (264, 0xF280_0003, 0x1234_5678, 0xF28A_CF03),
}


@pytest.mark.parametrize(("kind", "before", "target", "after"), ASSEMBLED.values(),
                         ids=ASSEMBLED.keys())  # fmt: skip
def test_instructions_are_the_assemblers(kind, before, target, after):
    rule = RELOCATIONS[kind]
    assert written(rule, rule.value(target, PLACE), before) == after


def test_names_and_numbers_are_those_of_the_specification():
    """pyelftools has the list of binutils: another source for the same numbers."""
    from elftools.elf.enums import ENUM_RELOC_TYPE_AARCH64 as KNOWN

    # Two it does not have: their numbers are aaelf64's alone.
    absent = {"R_AARCH64_LDST128_ABS_LO12_NC": 299, "R_AARCH64_PLT32": 314}
    ours = {rule.name: kind for kind, rule in RELOCATIONS.items()}
    assert ours == absent | {name: KNOWN[name] for name in ours if name not in absent}
    assert not RELOCATIONS.keys() & set(NOTHING)


def test_which_are_special():
    got = {rule.name[10:] for rule in RELOCATIONS.values() if rule.needs_got}
    assert got == {"GOT_LD_PREL19", "ADR_GOT_PAGE", "LD64_GOT_LO12_NC"}
    branches = {rule.name[10:] for rule in RELOCATIONS.values() if rule.is_branch}
    assert branches == {"CALL26", "JUMP26", "CONDBR19", "TSTBR14"}
