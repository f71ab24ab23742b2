"""What instructions read, write and test, against their encodings (DDI 0487, chapter C6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arm.decoding import SP, Operand, decode, is_move, looks_at_upper_half


def x(number: int) -> Operand:
    return Operand(number, True)


def w(number: int) -> Operand:
    return Operand(number, False)


@pytest.mark.parametrize(
    ("word", "mnemonic", "reads", "writes"),
    [
        (0xAA00_03E8, "mov", [x(0)], [x(8)]),
        (0x2A00_03E8, "mov", [w(0)], [w(8)]),
        (0xF100_001F, "cmp", [x(0)], []),
        (0xB100_041F, "cmn", [x(0)], []),
        (0x3100_041F, "cmn", [w(0)], []),
        (0xEB00_013F, "cmp", [x(9), x(0)], []),
        (0xF261_001F, "tst", [x(0)], []),
        (0x9340_7C08, "sxtw", [w(0)], [x(8)]),
        (0x5310_7A63, "ubfx", [w(19)], [w(3)]),
        (0x8B02_0023, "add", [x(1), x(2)], [x(3)]),
        (0xF100_0508, "subs", [x(8)], [x(8)]),
        (0xB7F8_0020, "tbnz", [x(0)], []),
        (0xD65F_03C0, "ret", [], []),
        (0xF280_0020, "movk", [x(0)], [x(0)]),
    ],
)
def test_registers(word, mnemonic, reads, writes):
    decoded = decode(word)
    assert decoded.mnemonic == mnemonic
    assert sorted(decoded.reads) == sorted(reads)
    assert sorted(decoded.writes) == sorted(writes)
    assert decoded.base is None


@pytest.mark.parametrize(
    ("word", "base", "scaled", "offset", "post", "transfers", "loads"),
    [
        (0xF940_0001, 0, None, 0, False, [x(1)], True),                 # ldr x1, [x0]
        (0xF940_07E8, SP, None, 8, False, [x(8)], True),                # ldr x8, [sp, #8]
        (0xB940_03E8, SP, None, 0, False, [w(8)], True),                # ldr w8, [sp]
        (0xF860_6921, 9, 0, 0, False, [x(1)], True),                    # ldr x1, [x9, x0]
        (0xA900_0520, 9, None, 0, False, [x(0), x(1)], False),          # stp x0, x1, [x9]
        (0xA9BF_07E0, SP, None, -16, False, [x(0), x(1)], False),       # stp …, [sp, #-16]!
        (0xA8C1_07E0, SP, None, 0, True, [x(0), x(1)], True),           # ldp …, [sp], #16
        (0xF800_8420, 1, None, 0, True, [x(0)], False),                 # str x0, [x1], #8
    ],
)  # fmt: skip
def test_accesses(word, base, scaled, offset, post, transfers, loads):
    decoded = decode(word)
    assert (decoded.base, decoded.scaled, decoded.post, decoded.loads) == (
        base, scaled, post, loads,
    )  # fmt: skip
    assert list(decoded.transfers) == transfers
    assert decoded.offset == (offset if not post else decoded.offset)


def test_an_index_is_scaled():
    decoded = decode(0xF860_7921)  # ldr x1, [x9, x0, lsl #3]
    assert (decoded.base, decoded.scaled, decoded.shift) == (9, 0, 3)


@pytest.mark.parametrize(
    ("word", "upper"),
    [
        (0xF100_001F, True),   # cmp x0, #0
        (0xB7F8_0020, True),   # tbnz x0, #63
        (0x37F8_0020, False),  # tbnz w0, #31
        (0xF261_001F, False),  # tst x0, #0x80000000
        (0xF25F_001F, True),   # tst x0, #0x200000000
        (0xB400_0040, True),   # cbz x0
        (0xAA00_03E8, False),  # mov x8, x0
    ],
)
def test_which_half_is_tested(word, upper):
    assert looks_at_upper_half(decode(word)) == upper


def test_moves():
    assert is_move(decode(0xAA00_03E8))
    assert not is_move(decode(0x8B02_0023))


@given(st.integers(0, 0xFFFF_FFFF))
def test_any_word_is_decoded_or_none(word):
    decoded = decode(word)
    if decoded is not None:
        assert decoded.mnemonic
        assert all(0 <= operand.number < 31 for operand in (*decoded.reads, *decoded.writes))
