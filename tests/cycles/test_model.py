"""The types of costs."""

from __future__ import annotations

from emu.cycles.model import SIXTEENTHS, BlockCost, Cost


def test_a_block_ends_with_its_total():
    cost = BlockCost((0, 8, 8, 3 * SIXTEENTHS))
    assert cost.total == 48
    assert cost.unknown == 0


def test_a_figure_says_where_it_is_from():
    cost = Cost(376, 35, "X-Gene", "ISCA'16")
    assert cost._fields == ("cycles", "uncertainty", "core", "source")
