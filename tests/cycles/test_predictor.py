"""The branch predictor: what it learns, what it cannot know, and that its memory may be anything.

Both halves are held to one result, state and all, by tests/test_cycles.py and at the end of this.
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arm.arch import BlockEnd
from emu.cycles.predictor import HISTORIES, RETURNS, SURE, Predictor
from emu.engine.engine import native_available
from emu.machine.vm import Vm

LOOP, ELSEWHERE = 0x4008_0000, 0x4008_1000
SIZE = 16


def conditional(predictor: Predictor, directions: Iterable[bool], at: int = LOOP) -> list[bool]:
    """A branch at the end of a block of `SIZE`, taken or not; which of them were surprises."""
    surprises = []
    for taken in directions:
        predictor.begin(at, SIZE, BlockEnd.CONDITIONAL)
        target = ELSEWHERE if taken else at + SIZE
        surprises.append(predictor.begin(target, SIZE, BlockEnd.RUNS_ON))
    return surprises


@pytest.mark.parametrize("taken", [True, False])
def test_a_branch_that_always_goes_one_way_is_wrong_once_at_most(taken):
    predictor = Predictor()
    assert sum(conditional(predictor, [taken] * 1000)) <= 1
    assert (predictor.branches, predictor.misses) == (1000, int(not taken))


@pytest.mark.parametrize("turns", [2, 3, 5, 8, 12, 20])
def test_a_loop_of_so_many_turns_is_learnt(turns):
    """As far as the longest history reaches; a counter alone would be wrong once a loop."""
    predictor = Predictor()
    pattern = [*[True] * (turns - 1), False]
    surprises = conditional(predictor, pattern * 300)
    assert sum(surprises[-50 * turns :]) == 0


def test_a_branch_that_repeats_another_is_learnt():
    """Two branches at different addresses: the second does what the first has done."""
    rng, predictor, late = random.Random(1), Predictor(), 0
    for n in range(6000):
        taken = bool(rng.getrandbits(1))
        conditional(predictor, [taken])
        again = conditional(predictor, [taken], at=LOOP + 0x400)
        late += sum(again) if n > 4000 else 0
    assert late < 2000 * 0.05


def test_a_coin_cannot_be_learnt():
    rng, predictor = random.Random(2), Predictor()
    surprises = conditional(predictor, (bool(rng.getrandbits(1)) for _ in range(4000)))
    assert 0.4 < sum(surprises) / 4000 < 0.6


@pytest.mark.parametrize("seldom", [2, 5, 10])
def test_what_happens_by_chance_and_seldom_is_a_surprise_each_time(seldom):
    """Nothing tells beforehand when: whoever predicts is wrong that often, or more."""
    rng, predictor = random.Random(4), Predictor()
    directions = [rng.random() * 100 >= seldom for _ in range(20_000)]
    surprises = conditional(predictor, directions)
    assert sum(surprises) >= 0.95 * directions.count(False)
    assert sum(surprises) <= 2.5 * directions.count(False)


def test_what_was_sure_is_given_up_when_it_turns():
    predictor = Predictor()
    conditional(predictor, [True] * (4 * SURE))
    assert sum(conditional(predictor, [False] * 100)) < 10


def test_returns_are_found_on_the_stack():
    predictor = Predictor()
    for n in range(RETURNS):  # calls from so many places, each inside the one before
        predictor.begin(LOOP + 0x100 * n, SIZE, BlockEnd.CALL)
    predictor.begin(ELSEWHERE, SIZE, BlockEnd.RETURN)
    surprises = [
        predictor.begin(LOOP + 0x100 * n + SIZE, SIZE, BlockEnd.RETURN)
        for n in reversed(range(RETURNS))
    ]
    assert surprises == [False] * RETURNS
    assert predictor.begin(LOOP, SIZE, BlockEnd.RUNS_ON), "one return more than there were calls"


def test_a_deeper_stack_forgets_the_oldest():
    predictor = Predictor()
    for n in range(RETURNS + 1):
        predictor.begin(LOOP + 0x100 * n, SIZE, BlockEnd.CALL)
    predictor.begin(ELSEWHERE, SIZE, BlockEnd.RETURN)
    surprises = [
        predictor.begin(LOOP + 0x100 * n + SIZE, SIZE, BlockEnd.RETURN)
        for n in reversed(range(RETURNS + 1))
    ]
    assert surprises == [*[False] * RETURNS, True]


@pytest.mark.parametrize("end", [BlockEnd.JUMP_INDIRECT, BlockEnd.CALL_INDIRECT])
def test_an_indirect_branch_goes_where_it_went(end):
    predictor = Predictor()
    surprises = []
    for target in [ELSEWHERE] * 3 + [ELSEWHERE + 64] * 3:
        predictor.begin(LOOP, SIZE, end)
        surprises.append(predictor.begin(target, SIZE, BlockEnd.RUNS_ON))
    assert surprises == [True, False, False, True, False, False]


@pytest.mark.parametrize(
    "end", [BlockEnd.RUNS_ON, BlockEnd.JUMP, BlockEnd.EXCEPTION, BlockEnd.EXCEPTION_RETURN]
)
def test_what_leads_where_it_says_is_no_branch_to_predict(end):
    predictor = Predictor()
    predictor.begin(LOOP, SIZE, end)
    assert not predictor.begin(ELSEWHERE, SIZE, BlockEnd.RUNS_ON)
    assert predictor.branches == 0


def test_a_call_is_never_a_surprise_and_counts():
    predictor = Predictor()
    predictor.begin(LOOP, SIZE, BlockEnd.CALL)
    assert not predictor.begin(ELSEWHERE, SIZE, BlockEnd.RUNS_ON)
    assert (predictor.branches, predictor.misses) == (1, 0)


def test_what_an_interrupt_comes_behind_is_not_looked_at():
    predictor = Predictor()
    predictor.begin(LOOP, SIZE, BlockEnd.CONDITIONAL)
    predictor.interrupt()
    assert not predictor.begin(ELSEWHERE, SIZE, BlockEnd.RUNS_ON)
    assert (predictor.branches, predictor.history) == (0, 0)


def test_a_reset_forgets_and_keeps_the_counts():
    predictor = Predictor()
    conditional(predictor, [True, False] * 50)
    counts = predictor.branches, predictor.misses
    predictor.clear()
    assert (predictor.branches, predictor.misses) == counts
    fresh = Predictor()
    fresh.branches, fresh.misses = counts
    assert predictor.state == fresh.state


def test_its_state_is_all_there_is():
    rng, first = random.Random(3), Predictor()
    conditional(first, (rng.random() < 0.7 for _ in range(500)))
    second = Predictor()
    second.state = first.state
    rest = [rng.random() < 0.7 for _ in range(500)]
    assert conditional(first, rest) == conditional(second, rest)
    assert first.state == second.state


@given(
    st.binary(min_size=64, max_size=64), st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.integers(0, 2**64 - 4), st.sampled_from(BlockEnd)), max_size=40),
)  # fmt: skip
def test_any_memory_is_a_state(head, seed, blocks):
    """As a hostile file may have it: it predicts something, and never reaches outside itself."""
    predictor = Predictor()
    size = ctypes.sizeof(predictor)
    predictor.state = (head + random.Random(seed).randbytes(size))[:size]
    for address, end in blocks:
        predictor.begin(address & ~3, SIZE, end)


def test_histories_are_longer_and_longer():
    assert sorted(set(HISTORIES)) == list(HISTORIES)
    assert HISTORIES[-1] < 128


@pytest.mark.skipif(not native_available(), reason="there is one half only")
@pytest.mark.parametrize("guest", ["coremarkish", "smccc_discover", "exceptions"])
def test_both_halves_predict_the_same(guest):
    states = []
    for native in (True, False):
        vm = Vm(f"guests/bin/{guest}.elf", core="cortex-a76", timing="branch", native=native,
                trap_costs="zero")  # fmt: skip
        vm.run(150_000)
        predictor = vm.machine.vcpus[0].predictor
        assert predictor is not None
        assert predictor.branches > 1000
        states.append(predictor.state)
    assert states[0] == states[1]
