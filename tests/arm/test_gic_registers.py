"""The registers common to both controllers: every bit where it belongs, every width as it may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arm.gic_registers import Words, bank_number, read_bank, write_bank
from emu.arm.interrupts import ALL, Bank

words = st.integers(0, ALL)
SETS = {"enabled": (0x100, 0x180), "latch": (0x200, 0x280), "active": (0x300, 0x380)}

PLACES = [
    (0x07C, None), (0x080, 0), (0x0FC, 31), (0x100, 0), (0x1A0, 8), (0x3FC, 31), (0x400, 0),
    (0x41C, 0), (0x420, 1), (0x7FC, 31), (0x800, None), (0xBFC, None), (0xC00, 0), (0xC04, 0),
    (0xC08, 1), (0xCFC, 31), (0xD00, None), (0xF00, None),
]  # fmt: skip


@pytest.mark.parametrize(("offset", "number"), PLACES)
def test_which_bank(offset, number):
    assert bank_number(offset) == number


@pytest.mark.parametrize("name", SETS)
@given(words, words, words)
def test_set_and_clear(name, old, on, off):
    bank, (set_offset, clear_offset) = Bank(**{name: old}), SETS[name]
    write_bank(bank, set_offset, on, ALL)
    assert read_bank(bank, set_offset) == old | on
    write_bank(bank, clear_offset, off, ALL)
    assert read_bank(bank, clear_offset) == (old | on) & ~off
    assert getattr(bank, name) == (old | on) & ~off


@given(words, words)
def test_a_level_cannot_be_cleared(line, value):
    bank = Bank(line=line)
    write_bank(bank, 0x280, value, ALL)
    assert read_bank(bank, 0x200) == line


@given(words)
def test_groups_are_written_whole(value):
    bank = Bank(group=0xAAAA_5555)
    write_bank(bank, 0x80, value, ALL)
    assert read_bank(bank, 0x80) == bank.group == value


@given(st.sampled_from(range(0, 32, 4)), words, words)
def test_priorities_four_at_a_time(first, value, before):
    bank = Bank()
    write_bank(bank, 0x400 + first, before, ALL)
    write_bank(bank, 0x400 + first, value, 0x00FF_FF00)
    expected = (value & 0x00FF_FF00 | before & 0xFF00_00FF) & 0xF8F8_F8F8
    assert read_bank(bank, 0x420 + first) == expected
    assert [bank.priority_of(n) for n in range(32) if not first <= n < first + 4] == [0] * 28


@given(words, words)
def test_configuration_of_spis(low, high):
    bank = Bank()
    write_bank(bank, 0xC08, low, ALL)
    write_bank(bank, 0xC0C, high, ALL)
    assert read_bank(bank, 0xC08) == low & 0xAAAA_AAAA
    assert read_bank(bank, 0xC0C) == high & 0xAAAA_AAAA
    write_bank(bank, 0xC00, 0, ALL)
    write_bank(bank, 0xC04, 0, ALL)
    assert read_bank(bank, 0xC00) == low & 0xAAAA_AAAA


class Memory(Words):
    """Two registers, of which the second has bytes."""

    def __init__(self) -> None:
        self.words = {0: 0x3322_1100, 4: 0x7766_5544}

    def has_bytes(self, offset: int) -> bool:
        return offset >= 4

    def read_word(self, offset: int) -> int:
        return self.words[offset]

    def write_word(self, offset: int, value: int, mask: int) -> None:
        self.words[offset] = self.words[offset] & ~mask | value


READS = [
    (0, 8, 0x7766_5544_3322_1100), (0, 4, 0x3322_1100), (4, 4, 0x7766_5544), (4, 8, 0),
    (2, 4, 0), (0, 2, 0), (0, 1, 0), (4, 1, 0x44), (7, 1, 0x77), (6, 2, 0),
]  # fmt: skip


@pytest.mark.parametrize(("offset", "width", "value"), READS)
def test_reads(offset, width, value):
    assert Memory().read(offset, width) == value


WRITES = [
    (0, 8, 0xAABB_CCDD_EEFF_0011), (0, 4, 0x7766_5544_EEFF_0011), (5, 1, 0x7766_1144_3322_1100),
    (1, 1, None), (6, 2, None), (2, 4, None), (4, 8, None),
]  # fmt: skip


@pytest.mark.parametrize(("offset", "width", "after"), WRITES)
def test_writes(offset, width, after):
    memory = Memory()
    memory.write(offset, width, 0xAABB_CCDD_EEFF_0011)
    assert memory.read(0, 8) == (after or 0x7766_5544_3322_1100)


def test_there_are_no_other_registers():
    with pytest.raises(NotImplementedError):
        Words().read(0, 4)
    with pytest.raises(NotImplementedError):
        Words().write(0, 4, 0)
    assert Words().read(0, 1) == 0
