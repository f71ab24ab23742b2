"""What blocks cost, kept by their bytes, and how C reads it."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arm.arch import BlockEnd
from emu.base.errors import EmuError
from emu.cycles.block_costs import MAX_SIXTEENTHS, BlockCosts
from emu.cycles.model import BlockCost
from engine_kit import NOP, WFI, b, code, svc
from timing_kit import ByWord, total


def words_at(address: int, count: int) -> list[int]:
    return list((ctypes.c_uint32 * count).from_address(address))


def test_a_block_is_asked_for_once():
    model = ByWord()
    charges = BlockCosts(model)
    first = charges.find(code(NOP, WFI))
    assert charges.find(code(NOP, WFI)) is first
    assert charges.find(code(WFI)) is not first
    assert model.asked == [code(NOP, WFI), code(WFI)]
    assert charges.fresh.keys() == set(model.asked)
    assert [charge.code for charge in charges.all()] == model.asked
    assert len(charges) == 2


def test_a_charge_is_found_by_the_address_c_knows():
    charges = BlockCosts(ByWord())
    address = charges.charge_of(code(NOP))
    assert charges.at(address) is charges.find(code(NOP))
    with pytest.raises(KeyError):
        charges.at(address + 4)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40))
def test_what_c_reads(words):
    """How many instructions, how the block ends, how many are unknown, then the prefix."""
    charges = BlockCosts(ByWord())  # whose memory it is
    charge = charges.find(code(*words, b(1)))
    cost = charge.cost
    assert words_at(charge.address, 4 + len(cost.prefix)) == [
        len(words) + 1, BlockEnd.JUMP, cost.unknown, 0, *cost.prefix
    ]  # fmt: skip
    assert charge.end is BlockEnd.JUMP
    assert charge.total == total([*words, b(1)])


def test_how_a_block_ends_is_its_last_word():
    charges = BlockCosts(ByWord())
    assert charges.find(code(b(1), NOP)).end is BlockEnd.RUNS_ON
    assert charges.find(code(NOP, svc())).end is BlockEnd.EXCEPTION


class Known:
    """A cache that knows one block."""

    def find(self, block: bytes) -> BlockCost | None:
        return BlockCost((0, 5)) if block == code(NOP) else None


def test_what_is_known_already_is_not_asked_for():
    model = ByWord()
    charges = BlockCosts(model, Known())
    assert charges.find(code(NOP)).total == 5
    assert model.asked == []
    assert charges.fresh == {}
    charges.find(code(WFI))
    assert charges.fresh.keys() == {code(WFI)}


@pytest.mark.parametrize(
    "prefix",
    [
        (), (0,), (0, 1), (0, 1, 2, 3),  # not one more than there are instructions
        (1, 2, 3),  # does not begin at once
        (0, 5, 4),  # time runs backwards
        (0, 1, MAX_SIXTEENTHS + 1),  # not in 32 bits
        (0, -1, -1),
    ],
)  # fmt: skip
def test_what_can_be_no_cost_is_refused(prefix):
    """By the model's name; whether it was worked out or known."""
    with pytest.raises(EmuError, match=r"by-word: .* is no cost of 8 bytes of code"):
        BlockCosts(ByWord()).add(code(NOP, NOP), BlockCost(prefix))


def test_the_most_a_block_may_cost():
    charges = BlockCosts(ByWord())
    charge = charges.add(code(NOP), BlockCost((0, MAX_SIXTEENTHS)))
    assert words_at(charge.address, 6)[-1] == MAX_SIXTEENTHS
