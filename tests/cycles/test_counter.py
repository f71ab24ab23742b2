"""The counter: what a block costs, what of it is taken back, and that nothing is lost between.

First by itself, on paper; then both halves through the engine, on any program and any costs.
"""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.arm.timers import NEVER
from emu.cycles.block_costs import BlockCosts
from emu.cycles.counter import Counter
from emu.cycles.model import SIXTEENTHS, BlockCost
from emu.engine.engine import Engine, Stop, native_available
from engine_kit import (
    CODE,
    ELR_EL1,
    ERET,
    NE,
    NOP,
    NOWHERE,
    VECTORS,
    WFI,
    Recorder,
    add,
    b_if,
    brk,
    code,
    eor,
    go,
    halves,
    hvc,
    ldr,
    machine,
    madd,
    movz,
    mrs,
    msr,
    smc,
    store,
    subs,
    svc,
    udf,
)  # fmt: skip
from timing_kit import ByWord, Even, by_word, counted, elapsed, frames, lines, total

# -- on paper --------------------------------------------------------------------------------------

PREFIX = (0, 8, 8, 40, 75)
"""Four instructions: half a cycle, nothing, two cycles, and two and three sixteenths."""
BLOCK, SIZE = 0x4000, 16
ELSEWHERE = 0x9000


class Fixed:
    """Every block costs its first entries of `PREFIX`."""

    name = "fixed"

    def block(self, code: bytes) -> BlockCost:
        return BlockCost(PREFIX[: len(code) // 4 + 1])


def counter(*, model: object = None) -> Counter:
    made = Counter(lambda address, size: bytes(size) if address != ELSEWHERE else None)
    made.account(BlockCosts(model or Fixed()))  # type: ignore[arg-type]
    return made


def test_without_a_model_an_instruction_is_a_cycle():
    flat = Counter(lambda *_: pytest.fail("nobody reads the code"))
    flat.begin(BLOCK, SIZE)
    assert (flat.cycles, flat.fraction, flat.instructions) == (4, 0, 4)
    flat.refund(BLOCK + 12)
    assert (flat.cycles, flat.fraction, flat.instructions) == (3, 0, 3)
    assert flat.last_cost() == SIXTEENTHS
    assert flat.lines() == []
    assert flat.frames() == []


def test_the_first_block_costs_what_the_model_says_already():
    """Also where nobody has asked the model of this process before."""
    charges = BlockCosts(Fixed())
    assert len(charges) == 0
    first = Counter(lambda _address, size: bytes(size))
    first.account(charges)
    first.begin(BLOCK, SIZE)
    assert elapsed(first) == PREFIX[-1]
    assert len(charges) == 1


def test_whole_cycles_and_sixteenths():
    count = counter()
    for turn in range(1, 40):
        count.begin(BLOCK, SIZE)
        assert (count.cycles, count.fraction) == divmod(turn * PREFIX[-1], SIXTEENTHS)
        assert count.instructions == 4 * turn


@pytest.mark.parametrize("n", range(5))
def test_a_refund_leaves_what_came_before_the_instruction(n):
    count = counter()
    count.begin(BLOCK, SIZE)
    count.begin(BLOCK, SIZE)
    count.refund(BLOCK + 4 * n)
    assert elapsed(count) == PREFIX[-1] + PREFIX[n]
    assert count.instructions == 4 + n
    (line,) = count.lines()
    assert (line.address, line.runs) == (BLOCK, 2)
    assert (line.refunded, line.instructions_refunded) == (PREFIX[-1] - PREFIX[n], 4 - n)


def test_a_refund_outside_the_block_is_none():
    count = counter()
    count.begin(BLOCK, SIZE)
    for pc in (BLOCK - 4, BLOCK + SIZE + 4, 0, NEVER):
        count.refund(pc)
    assert (elapsed(count), count.instructions) == (PREFIX[-1], 4)


def test_what_was_taken_back_is_not_taken_back_again():
    count = counter()
    count.begin(BLOCK, SIZE)
    for pc in (BLOCK + 12, BLOCK + 12, BLOCK + 4, BLOCK + 8, BLOCK + 4):
        count.refund(pc)
    assert (elapsed(count), count.instructions) == (PREFIX[1], 1)


@pytest.mark.parametrize("n", range(4))
@pytest.mark.parametrize("begun", range(16))
def test_the_time_in_the_middle_of_a_block(begun, n):
    """Whole cycles that had passed: from any sixteenth on."""
    count = counter()
    count.fraction = begun
    count.begin(BLOCK, SIZE)
    assert count.cycles_at(BLOCK + 4 * n) == (begun + PREFIX[n]) // SIXTEENTHS
    assert count.instructions_at(BLOCK + 4 * n) == n
    assert elapsed(count) == begun + PREFIX[-1], "it was only asked"


def test_outside_the_block_the_time_is_now():
    count = counter()
    count.begin(BLOCK, SIZE)
    assert count.cycles_at(BLOCK - 4) == count.cycles == PREFIX[-1] // SIXTEENTHS
    assert count.instructions_at(BLOCK + SIZE + 4) == 4


def test_the_last_instruction_is_taken_back_at_its_own_cost():
    count = counter()
    count.begin(BLOCK, SIZE)
    for end, start in ((4, 3), (3, 2), (2, 1), (1, 0)):
        assert count.last_cost() == PREFIX[end] - PREFIX[start]
        count.take_back_last()
        assert elapsed(count) == PREFIX[start]
        assert count.instructions == start


def test_a_machine_just_loaded_knows_what_its_last_instruction_cost():
    """It has no current block: the cost comes from the file."""
    count = counter()
    count.cycles, count.fraction, count.instructions, count.kept_cost = 10, 3, 7, 35
    assert count.last_cost() == 35
    count.take_back_last()
    assert (elapsed(count), count.instructions) == (163 - 35, 6)


def test_code_that_cannot_be_read_is_a_cycle_an_instruction():
    count = counter()
    count.begin(ELSEWHERE, SIZE)
    assert (elapsed(count), count.instructions) == (4 * SIXTEENTHS, 4)
    assert count.lines() == []
    count.refund(ELSEWHERE + 4)
    assert (elapsed(count), count.instructions) == (SIXTEENTHS, 1)


def test_a_trap_and_an_exception_take_time_and_no_instruction():
    count = counter()
    count.exception_cost = 33
    count.follow()
    count.begin(BLOCK, SIZE)
    count.trap(5, 7, True)
    count.trap(5, 100, False)
    count._exception(0x15, BLOCK)
    assert elapsed(count) == PREFIX[-1] + 107 + 33
    assert count.instructions == 4
    root, trap, exception = count.frames()
    assert (root.sixteenths, root.instructions) == (PREFIX[-1], 4)
    assert (trap.key, trap.calls, trap.sixteenths) == (5, 1, 107)
    assert (exception.key, exception.calls, exception.sixteenths) == (0x15, 1, 33)


def test_one_line_for_each_place_and_content():
    words = {BLOCK: code(NOP, WFI)}
    count = Counter(lambda address, size: words[address][:size])
    count.account(BlockCosts(ByWord()))
    count.begin(BLOCK, 8)
    count.begin(BLOCK, 8)
    words[BLOCK] = code(NOP, ERET)
    count.begin(BLOCK, 8)
    count.begin(BLOCK, 4)
    assert [(line.address, line.runs) for line in count.lines()] == [(BLOCK, n) for n in (2, 1, 1)]
    assert len({line.charge for line in count.lines()}) == 3


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "refund", "trap", "exception", "take back"]),
        st.integers(0, 7), st.integers(0, 200),
    ), max_size=60,
)  # fmt: skip


@given(STEPS, st.integers(0, 15))
def test_lines_traps_and_exceptions_are_the_clock(steps, begun):
    """In sixteenths, whatever the order; and the frames are the same sum."""
    count = counter(model=Odd(begun))
    count.follow()
    count.exception_cost = 21
    other = 0
    for what, n, amount in steps:
        if what == "begin":
            count.begin(BLOCK + 4 * n, 4 * (amount % 9 + 1))
        elif what == "refund":
            count.refund(count.block_start + 4 * n)
        elif what == "trap":
            count.trap(n, amount, bool(amount % 2))
            other += amount
        elif what == "exception":
            count._exception(n, BLOCK)
            other += 21
        elif count.block_size:
            count.take_back_last()
        found = {charge.address: charge for charge in count._charges.all()}  # type: ignore[union-attr]
        spent = sum(found[at].total * runs - back for _, at, runs, back, *_ in count.lines())
        retired = sum(
            len(found[at].code) // 4 * runs - back for _, at, runs, _, back, _ in count.lines()
        )
        assert elapsed(count) == spent + other == sum(f.sixteenths for f in count.frames())
        assert count.instructions == retired == sum(f.instructions for f in count.frames())
        assert 0 <= count.fraction < SIXTEENTHS


# -- both halves -----------------------------------------------------------------------------------


class Odd:
    """Any costs: of each instruction by its word, its place in the block, and a seed."""

    name = "odd"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def block(self, code: bytes) -> BlockCost:
        prefix = [0]
        for n in range(0, len(code), 4):
            chosen = zlib.crc32(code[n : n + 4], self.seed + n)
            step = (0, chosen % 7, chosen % 48, chosen % 5_000)[chosen >> 30]
            prefix.append(prefix[-1] + step)
        return BlockCost((*prefix[:-1], max(prefix[-1], 1)))  # no block is free


SKIP = [mrs(1, ELR_EL1), add(1, 1, 4), msr(ELR_EL1, 1), ERET]
"""A handler that goes on behind what faulted."""
FAULTING = [ldr(0, 8), store(0, 8), brk(), udf(), svc(), hvc(), smc()]
OPERATIONS = st.one_of(
    st.builds(add, st.integers(2, 7), st.integers(0, 7), st.integers(0, 4095)),
    st.builds(eor, st.integers(2, 7), *[st.integers(0, 7)] * 2),
    st.builds(madd, st.integers(2, 7), *[st.integers(0, 7)] * 2),
    st.builds(mrs, st.integers(2, 7), st.sampled_from([(3, 3, 14, 0, 1), (3, 3, 14, 0, 2)])),
    st.sampled_from(FAULTING),
)


def engine_for(native: bool, words: list[int], model: object) -> Engine:
    engine = machine(native, *words)
    engine.write(VECTORS + 0x200, code(*SKIP))
    engine.set("X8", NOWHERE)
    engine.account(BlockCosts(model))  # type: ignore[arg-type]
    engine.hooks.follow()
    return engine


def everything(engine: Engine) -> tuple[object, ...]:
    hooks = engine.hooks
    return (hooks.cycles, hooks.fraction, hooks.instructions, lines(engine), frames(engine),
            hooks.last_cost(), engine.arguments(31), engine.get("PC"))  # fmt: skip


@pytest.mark.skipif(not native_available(), reason="there is one half only")
@settings(max_examples=150)
@given(
    body=st.lists(OPERATIONS, min_size=1, max_size=24), turns=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1), entry=st.integers(0, 300), begun=st.integers(0, 15),
)  # fmt: skip
def test_halves_agree_on_any_program_at_any_cost(body, turns, seed, entry, begun):
    # An SVC's handler skips one more: the NOP.
    words = [movz(9, turns), *body, NOP, subs(9, 9, 1), b_if(NE, -len(body) - 2), WFI]
    results = []
    for native in (False, True):
        engine = engine_for(native, words, Odd(seed))
        engine.hooks.exception_cost, engine.hooks.fraction = entry, begun
        assert go(engine) is Stop.WFI
        taken = sum(calls for kind, _, _, calls, *_ in frames(engine) if kind == 2)
        assert elapsed(engine) == begun + counted(engine) + taken * entry
        assert elapsed(engine) == begun + sum(frame[4] for frame in frames(engine))
        results.append(everything(engine))
    assert results[0] == results[1]


@halves
@pytest.mark.parametrize("faulting", FAULTING[:4])
@pytest.mark.parametrize("before", [0, 1, 5])
def test_what_faults_is_not_charged_and_nothing_behind_it(native, faulting, before):
    """The block is: so many NOPs, the instruction, a MADD, a WFI."""
    body = [NOP] * before
    engine = engine_for(native, [*body, faulting, madd(2, 3, 4), WFI], ByWord())
    assert go(engine) is Stop.WFI
    assert elapsed(engine) == total([*body, *SKIP, madd(2, 3, 4), WFI])
    assert engine.instructions == before + len(SKIP) + 2


@halves
@pytest.mark.parametrize("faulting", [svc(), hvc(), smc()])
def test_what_calls_is_charged(native, faulting):
    """SVC returns behind itself already: the handler skips one more."""
    engine = engine_for(native, [NOP, faulting, NOP, WFI], ByWord())
    engine.hooks.exception_cost = 5
    assert go(engine) is Stop.WFI
    ran = [NOP, faulting, *SKIP, WFI] if faulting == svc() else [NOP, faulting, NOP, WFI]
    assert elapsed(engine) == total(ran) + (5 if faulting == svc() else 0)


@halves
def test_a_call_that_turns_out_undefined_is_taken_back(native):
    engine = engine_for(native, [NOP, NOP, hvc(), NOP, WFI], ByWord())
    traps = Recorder(lambda *_: (engine.inject_undefined(traps), ())[1])
    assert go(engine, traps) is Stop.WFI
    assert elapsed(engine) == total([NOP, NOP, *SKIP, NOP, WFI])


@halves
def test_a_call_that_is_still_to_come_is_taken_back(native):
    engine = engine_for(native, [NOP, hvc(), WFI], ByWord())
    traps = Recorder(lambda *_: engine.unmake_call())
    assert go(engine, traps) is Stop.ASKED
    assert (elapsed(engine), engine.instructions) == (total([NOP]), 1)
    assert go(engine) is Stop.WFI
    assert elapsed(engine) == total([NOP, hvc(), WFI])


@halves
def test_what_the_hooks_of_a_loaded_machine_take_back(native):
    engine = engine_for(native, [WFI], ByWord())
    hooks = engine.hooks
    hooks.cycles, hooks.fraction, hooks.instructions, hooks.kept_cost = 10, 3, 7, 35
    assert hooks.last_cost() == 35
    hooks.take_back_last()
    assert (elapsed(engine), engine.instructions) == (163 - 35, 6)
    assert frames(engine)[0][4:] == (-35, -1), "less than nothing: it was another process's"


@halves
@pytest.mark.parametrize("each", [1, 15, 16, 17, 160])
@pytest.mark.parametrize("until", [0, 1, 2, 40, 41, 63])
def test_no_block_begins_at_or_after_a_deadline(native, each, until):
    """In whole cycles: a fraction of one does not count."""
    engine = machine(native, *[0x1400_0001] * 200, WFI)  # each is a branch to the next
    engine.account(BlockCosts(Even(each)))
    stop = go(engine, until=until)
    needed = -(-until * SIXTEENTHS // each)
    assert stop is (Stop.DEADLINE if needed <= 200 else Stop.WFI)
    assert engine.instructions == min(needed, 201)


@halves
def test_a_model_that_fails_ends_the_run_with_its_error(native):
    class Broken:
        name = "broken"

        def block(self, code: bytes) -> BlockCost:
            raise LookupError("no such table")

    engine = machine(native, NOP, WFI)
    engine.account(BlockCosts(Broken()))
    with pytest.raises(LookupError, match="no such table"):
        go(engine)


@halves
def test_accounts_can_be_opened_between_two_runs_of_new_code(native):
    engine = machine(native, NOP, WFI)
    assert go(engine) is Stop.WFI
    by_word(engine)
    engine.write(CODE, code(NOP, NOP, WFI))
    engine.set("PC", CODE)
    assert go(engine) is Stop.WFI
    assert elapsed(engine) == 2 * SIXTEENTHS + total([NOP, NOP, WFI])
