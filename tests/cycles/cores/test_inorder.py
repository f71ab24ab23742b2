"""The scoreboard, fed by hand."""

from __future__ import annotations

import pytest

from emu.cycles.cores.inorder import LOST_PASSES, InOrder, Step, steady

PLAIN = Step(slots=1, begins=False, ends=False, reads=(), writes=(), units=())


def step(reads: str = "", writes: str = "", latency: int = 1, **other: object) -> Step:
    """An instruction on registers named by digits, with one kind of result and no advance."""
    return PLAIN._replace(
        reads=tuple((int(r), (0, 0)) for r in reads),
        writes=tuple((int(w), latency, 0) for w in writes),
        **other,
    )


def rate(*steps: Step, width: int = 2, units: tuple[int, ...] = ()) -> float:
    _, cycles, passes = steady(steps, width, units)
    return cycles / passes


def test_two_a_cycle():
    assert rate(PLAIN, PLAIN) == 1
    assert rate(PLAIN) == 0.5
    assert rate(PLAIN, PLAIN, PLAIN) == 1.5
    assert rate(PLAIN, PLAIN, width=1) == 2


def test_a_result_is_waited_for():
    assert rate(step("1", "1", 4)) == 4
    assert rate(step("", "1", 3), step("1")) == 3, "the next pass begins beside the reader"
    assert rate(step("1", "2", 3), step("2", "1", 2)) == 5


def test_nobody_waits_for_what_nobody_reads():
    assert rate(step("", "1", 9), step("", "2", 9)) == 1


def test_an_advance_belongs_to_the_reader_and_the_kind():
    late = PLAIN._replace(reads=((1, (0, 3)),), writes=((1, 4, 1),))
    assert rate(late) == 1
    assert rate(late._replace(writes=((1, 4, 0),))) == 4


def test_an_advance_beyond_the_latency_is_no_time_machine():
    reader = PLAIN._replace(reads=((1, (9, 9)),))
    assert rate(step("", "1", 2), reader) == 1


def test_a_unit_is_busy():
    memory = PLAIN._replace(units=((0, 1),))
    assert rate(memory, memory, units=(1,)) == 2
    assert rate(memory, memory, units=(2,)) == 1
    assert rate(PLAIN._replace(units=((0, 3),)), units=(1,)) == 3


def test_first_and_last_of_a_cycle():
    assert rate(PLAIN, PLAIN._replace(begins=True)) == 1
    assert rate(PLAIN._replace(begins=True), PLAIN._replace(begins=True)) == 2
    assert rate(PLAIN._replace(ends=True), PLAIN._replace(ends=True)) == 2


def test_more_slots_than_a_cycle_has():
    assert rate(PLAIN._replace(slots=2, begins=True)) == 1
    assert rate(PLAIN._replace(slots=3, begins=True), PLAIN) == 2
    assert rate(PLAIN._replace(slots=4)) == 2


def test_a_stall():
    assert rate(PLAIN._replace(stall=10)) == 10
    assert rate(PLAIN, PLAIN._replace(stall=10), PLAIN, PLAIN) == 11


def test_write_back_in_order_where_it_is_asked_for():
    slow = step("", "1", 5)._replace(first=5, last=5)
    quick = step("", "2", 1)._replace(first=1, last=1)
    assert rate(slow, quick) == 4.5 or rate(slow, quick) == 4
    assert rate(slow._replace(last=-1), quick._replace(last=-1)) == 1


def test_what_never_repeats_still_has_a_rate():
    odd = [step("1", "1", 7, units=((0, n),)) for n in range(1, 9)]
    issues, cycles, passes = steady(odd, 2, (1,))
    assert len(issues) == 8
    assert passes <= LOST_PASSES
    assert cycles / passes >= 36


def test_prefixes_are_issue_cycles():
    steps = {1: step("", "1", 4), 2: step("1"), 3: PLAIN}
    model = InOrder("by hand", lambda word: steps[word], width=2, units=())
    block = b"".join(word.to_bytes(4, "little") for word in (1, 2, 3))
    cost = model.block(block)
    assert cost.prefix[1] == 4 * 16
    assert cost.prefix[2] == 4 * 16
    assert cost.total >= 4 * 16


@pytest.mark.parametrize(("taken", "more"), [(0, 0), (2, 32)])
def test_a_taken_branch_costs_its_bubble(taken, more):
    ret, add = 0xD65F_03C0, 0x9100_0400
    model = InOrder("by hand", lambda word: PLAIN, width=2, units=(), taken=taken)

    def total(*words: int) -> int:
        return model.block(b"".join(word.to_bytes(4, "little") for word in words)).total

    assert total(add, ret) - total(add, add) == more
    assert total(add, 0x17FF_FFFF) == total(add, add), "a loop on one block has none"
