"""Banks of INTIDs and the CPU interface's priorities, against the plainest possible words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arm.interrupts import ALL, IDLE, Bank, Interface, Planes
from emu.base.state import from_state, to_state

words = st.integers(0, ALL)
numbers = st.integers(0, 31)
priorities = st.integers(0, 255)


def test_priorities_of_five_bits():
    bank = Bank()
    for number in range(32):
        bank.set_priority(number, number * 8 + 7)
    assert [bank.priority_of(number) for number in range(32)] == list(range(0, 256, 8))
    bank.set_priority(3, 0xFF)
    bank.set_priority(3, 0x50)
    assert bank.priority_of(3) == 0x50


@given(st.lists(priorities, min_size=32, max_size=32), words.filter(bool))
def test_the_most_urgent_is_the_least_of_priority_and_number(given_priorities, candidates):
    bank = Bank()
    for number, priority in enumerate(given_priorities):
        bank.set_priority(number, priority)
    expected = min((given_priorities[n] & 0xF8, n) for n in range(32) if candidates >> n & 1)
    assert bank.most_urgent(candidates) == expected[1]


@given(words, words, words, words, words)
def test_pending_and_ready(latch, line, edge, enabled, active):
    bank = Bank(enabled=enabled, latch=latch, line=line, active=active, edge=edge)
    for n in range(32):
        pending = latch >> n & 1 or (line >> n & 1 and not edge >> n & 1)
        assert bank.pending() >> n & 1 == pending
        assert bank.ready() >> n & 1 == (pending and enabled >> n & 1 and not active >> n & 1)


@pytest.mark.parametrize(("edge", "remembered"), [(0, False), (1, True)])
def test_only_an_edge_leaves_something_behind(edge, remembered):
    bank = Bank(edge=edge)
    assert bank.drive(1, True)
    assert not bank.drive(1, True)
    assert bank.pending() == 1
    assert bank.drive(1, False)
    assert not bank.drive(1, False)
    assert bool(bank.pending()) == remembered


def test_taking_keeps_a_level_and_consumes_a_latch():
    bank = Bank(latch=0b11, line=0b10)
    bank.take(0b01)
    bank.take(0b10)
    assert (bank.active, bank.pending()) == (0b11, 0b10)


@pytest.mark.parametrize(("groups", "found"), [(0, 0), (1, 0b10), (2, 0b01), (3, 0b11)])
def test_groups(groups, found):
    assert Bank(group=0b01).of_groups(groups) & 0b11 == found


# What of a priority decides on preemption (IHI 0069, tables of ICC_BPR0_EL1 and ICC_BPR1_EL1).
GROUP_PRIORITY = [
    (0, 2, 0b1111_1000), (0, 3, 0b1111_0000), (0, 4, 0b1110_0000), (0, 5, 0b1100_0000),
    (0, 6, 0b1000_0000), (0, 7, 0b0000_0000),
    (1, 3, 0b1111_1000), (1, 4, 0b1111_0000), (1, 5, 0b1110_0000), (1, 6, 0b1100_0000),
    (1, 7, 0b1000_0000),
]  # fmt: skip


@pytest.mark.parametrize(("group", "point", "kept"), GROUP_PRIORITY)
def test_binary_points(group, point, kept):
    interface = Interface()
    interface.set_binary_point(group, point)
    assert interface.binary_point(group) == point
    assert interface.group_priority(0xF8, group) == kept & 0xF8


@pytest.mark.parametrize(("group", "least"), [(0, 2), (1, 3)])
def test_a_binary_point_has_a_minimum(group, least):
    interface = Interface()
    interface.set_binary_point(group, 8)  # three bits
    assert interface.binary_point(group) == least


def test_what_runs_rises_and_drops():
    interface = Interface(mask=0xF8)
    assert interface.running() == IDLE
    assert interface.drop() == IDLE
    interface.rise(0x80, 1)
    interface.rise(0x40, 0)
    interface.rise(0x20, 1)
    assert interface.running() == 0x20
    assert (interface.active0, interface.active1) == (1 << 8, 1 << 16 | 1 << 4)
    assert [interface.drop() for _ in range(4)] == [0x20, 0x40, 0x80, IDLE]


def test_of_the_same_priority_in_both_groups_group_1_drops_first():
    interface = Interface(active0=1, active1=1)
    assert interface.drop() == 0
    assert (interface.active0, interface.active1) == (1, 0)


ADMITTED = [
    (0x00, 0x00, 0, False),
    (0x08, 0x00, 0, True),
    (0x80, 0x80, 0, False),
    (0xF8, 0xF0, 0, True),
    (0xF8, 0x80, 1 << 16, False),
    (0xF8, 0x78, 1 << 16, True),
]


@pytest.mark.parametrize(("mask", "priority", "active", "admitted"), ADMITTED)
def test_mask_and_running_priority(mask, priority, active, admitted):
    assert Interface(mask=mask, active1=active).admits(priority, 1) == admitted


@pytest.mark.parametrize("value", [Bank(1, 2, 3, 4, 5, 6, Planes(1, 2, 3, 4, ALL)), Interface(3)])
def test_state_goes_through_a_file(value):
    assert from_state(type(value), to_state(value)) == value
