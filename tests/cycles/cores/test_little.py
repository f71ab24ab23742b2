"""The small cores' stages: distances are those of GCC's description of the Cortex-A53."""

from __future__ import annotations

import pytest

from cores_kit import (
    add_register,
    code,
    cycles,
    fadd,
    ldp,
    loop,
    lslv,
    mul,
    post_index,
    sdiv,
)
from emu.cycles.cores import core
from emu.cycles.cores.little import is_shift
from engine_kit import NOP, add, b_if, cbz, ldr, madd, movz, store, subs

A53, A55 = core("cortex-a53"), core("cortex-a55")
ALONE = [NOP] * 12
"""Six cycles' worth: whatever was before is done."""


def distance(model, producer: int, consumer: int) -> int:
    """Cycles from one to the next: where the consumer issues, seen from the producer."""
    prefix = model.block(code(*ALONE, producer, consumer, *ALONE)).prefix
    return (prefix[13] - prefix[12]) // 16


SHIFTED, PLAIN = add_register(5, 6, 1, 2), add_register(5, 6, 1)
BESIDE = add_register(5, 1, 6, 2)
ADDRESS, DATA = ldr(5, 1), store(1, 6)
BRANCH = cbz(1, 2)
FACTOR, ACCUMULATOR = mul(5, 1, 6), 0x9B00_0000 | 7 << 16 | 1 << 10 | 6 << 5 | 5


@pytest.mark.parametrize(
    ("producer", "distances"),
    [
        # address, shifted, beside a shifted one, plain, data, branch, factor, accumulator
        (movz(1, 3), (2, 1, 1, 0, 0, 0, 2, 2)),
        (add(1, 2, 1), (3, 2, 1, 1, 0, 0, 3, 3)),
        (ldr(1, 2), (3, 3, 3, 2, 1, 2, 4, 4)),
        (ldp(1, 3, 2), (4, 4, 4, 3, 2, 3, 5, 5)),  # a store finds the unit busy for two cycles
        (mul(1, 2, 3), (5, 4, 4, 3, 2, 3, 5, 2)),
    ],
    ids=["move", "add", "load", "pair", "mul"],
)
def test_distances_of_the_a53(producer, distances):
    consumers = (ADDRESS, SHIFTED, BESIDE, PLAIN, DATA, BRANCH, FACTOR, ACCUMULATOR)
    found = tuple(distance(A53, producer, consumer) for consumer in consumers[:5])
    assert found == distances[:5]
    block = code(*ALONE, producer, BRANCH)
    prefix = A53.block(block).prefix
    assert (prefix[13] - prefix[12]) // 16 == distances[5]
    assert tuple(distance(A53, producer, c) for c in consumers[6:]) == distances[6:]


def test_the_a55_addresses_sooner_and_computes_later():
    assert distance(A55, ldr(1, 2), ADDRESS) == 2
    assert distance(A55, add(1, 2, 1), ADDRESS) == 2
    assert distance(A55, ldr(1, 2), PLAIN) == 3
    assert distance(A55, add(1, 2, 1), PLAIN) == 1


def test_a_compare_issues_with_its_branch():
    prefix = A53.block(code(*ALONE, subs(1, 1, 1), b_if(1, 2))).prefix
    assert prefix[13] == prefix[12]


def test_a_load_and_a_store_a_cycle():
    both = loop(*[ldr(1, 4), store(2, 5)] * 8)
    assert cycles(A53, both) == pytest.approx(16, abs=1), "one unit"
    assert cycles(A55, both) == pytest.approx(8, abs=1), "two units"


def test_a_pair_takes_three_slots():
    assert cycles(A53, loop(*[ldp(1, 2, 4)] * 8)) == pytest.approx(16, abs=1)
    alone, beside = loop(*[ldp(1, 2, 4)] * 8), loop(*[ldp(1, 2, 4), add(5, 6, 1)] * 8)
    assert cycles(A53, beside) == pytest.approx(cycles(A53, alone), abs=1)


def test_one_register_controlled_shift_a_cycle():
    assert cycles(A53, loop(*[lslv(1, 2, 3), lslv(4, 2, 3)] * 4)) == pytest.approx(8, abs=1)


def test_write_back_is_quick():
    assert cycles(A53, loop(*[post_index(1, 4, 8)] * 8)) == pytest.approx(8, abs=1)


def test_multiply_accumulate_forwards():
    assert cycles(A53, loop(*[madd(1, 2, 3)] * 8)) <= 17


@pytest.mark.parametrize(
    ("word", "latency"), [(mul(1, 1, 2), 5), (sdiv(1, 1, 2), 10), (fadd(1, 1, 2), 4)]
)
def test_latencies_are_the_tables(word, latency):
    assert cycles(A53, loop(*[word] * 8)) == pytest.approx(8 * latency, abs=2)


@pytest.mark.parametrize(
    ("word", "name", "shift"),
    [
        (0xD37F_F820, "ubfm", True),  # lsl x0, x1, #1
        (0xD341_FC20, "ubfm", True),  # lsr x0, x1, #1
        (0x531F_7820, "ubfm", True),  # lsl w0, w1, #1
        (0x9341_FC20, "sbfm", True),  # asr x0, x1, #1
        (0xD341_A020, "ubfm", False),  # ubfx x0, x1, #1, #40
        (0x9340_7C20, "sbfm", False),  # sxtw x0, w1
        (0xB37F_F820, "bfm", False),
    ],
)
def test_shifts_among_the_bitfield_moves(word, name, shift):
    assert is_shift(word, name) is shift


def test_a_taken_branch_costs_the_a53_a_cycle():
    ret = 0xD65F_03C0
    assert cycles(A53, code(*ALONE, ret)) - cycles(A53, code(*ALONE, NOP)) == 1
    assert cycles(A55, code(*ALONE, ret)) == cycles(A55, code(*ALONE, NOP))


def fmadd(rd: int, rn: int, rm: int, ra: int) -> int:
    return 0x1F40_0000 | rm << 16 | ra << 10 | rn << 5 | rd


def simd_add(rd: int, rn: int, rm: int) -> int:  # 4s
    return 0x4EA0_8400 | rm << 16 | rn << 5 | rd


def test_floating_point_in_two_halves():
    apart = [fadd(rd, 30, 31) for rd in range(8)]
    assert cycles(A53, loop(*apart)) == pytest.approx(4, abs=1)
    wide = [simd_add(rd, 30, 31) for rd in range(8)]
    assert cycles(A53, loop(*wide)) == pytest.approx(8, abs=1), "128 bits take both halves"


def test_an_accumulator_is_read_late():
    assert cycles(A53, loop(*[fmadd(1, 2, 3, 1)] * 8)) == pytest.approx(32, abs=1)
    assert cycles(A53, loop(*[fmadd(1, 1, 3, 2)] * 8)) == pytest.approx(64, abs=1)
    assert distance(A53, fadd(1, 2, 3), fmadd(5, 6, 7, 1)) == 1


def test_short_vectors_load_sooner():
    assert distance(A53, 0xFD40_0041, fadd(5, 1, 6)) == 3  # ldr d1, [x2]
    assert distance(A53, 0x3DC0_0041, simd_add(5, 1, 6)) == 4  # ldr q1, [x2]
