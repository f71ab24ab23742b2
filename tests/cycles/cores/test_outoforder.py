"""The bounds of an out-of-order core, fed by hand."""

from __future__ import annotations

import pytest

from emu.cycles.cores.outoforder import Op, OutOfOrder, chain, dispatch, pressure

A, B, C = 0b001, 0b010, 0b100
NOTHING = Op(slots=1, reads=(), writes=(), ports=())


def on(*ports: tuple[int, int]) -> Op:
    return NOTHING._replace(ports=ports)


def link(reads: str, writes: str, latency: int) -> Op:
    return NOTHING._replace(
        reads=tuple((int(r), (0,)) for r in reads),
        writes=tuple((int(w), latency, 0) for w in writes),
    )


@pytest.mark.parametrize(
    ("ops", "cycles"),
    [
        ([], 0),
        ([on((A, 1))] * 3, 3),
        ([on((A | B, 1))] * 3, 1.5),
        ([on((A | B, 1)), on((A, 1)), on((A, 1))], 2),
        ([on((A, 1)), on((B, 1)), on((C, 1)), on((A | B | C, 1))], 4 / 3),
        ([on((A, 1), (B, 2))], 2),
        ([on((A, 4)), on((A | B, 1)), on((A | B, 1))], 4),
    ],
)
def test_pressure(ops, cycles):
    assert pressure(ops) == pytest.approx(16 * cycles, abs=1)


@pytest.mark.parametrize(
    ("ops", "cycles"),
    [
        ([NOTHING], 0),
        ([link("", "1", 9)], 0),
        ([link("1", "1", 4)], 4),
        ([link("1", "2", 3), link("2", "1", 2)], 5),
        ([link("1", "2", 3), link("3", "1", 2)], 0),
        ([link("1", "2", 3), link("2", "3", 5), link("3", "1", 0)], 8),
        ([link("12", "1", 1), link("2", "2", 7)], 7),
    ],
)
def test_chain(ops, cycles):
    assert chain(ops) == 16 * cycles


def test_an_advance_shortens_a_chain():
    accumulate = NOTHING._replace(reads=((1, (0, 3)),), writes=((1, 4, 1),))
    assert chain([accumulate]) == 16


@pytest.mark.parametrize(
    ("slots", "width", "cycles"),
    [([1], 3, 1 / 3), ([1, 1, 1], 3, 1), ([2, 2], 3, 2), ([2, 1], 3, 1), ([1, 2, 1, 1], 3, 2),
     ([5], 3, 2), ([7], 3, 3)],
)  # fmt: skip
def test_dispatch_does_not_split(slots, width, cycles):
    ops = [NOTHING._replace(slots=s) for s in slots]
    assert dispatch(ops, width) == pytest.approx(16 * cycles, abs=1)


def model(op: Op, **options: object) -> OutOfOrder:
    settings = {"width": 4, "fetch": 4, **options}
    return OutOfOrder("by hand", lambda word: op, **settings)


def total(core: OutOfOrder, *words: int) -> int:
    return core.block(b"".join(word.to_bytes(4, "little") for word in words)).total


ADD, RET, LOOP_OF_TWO = 0x9100_0400, 0xD65F_03C0, 0x17FF_FFFF


def test_the_front_end_alone():
    assert total(model(NOTHING), *[ADD] * 6) == 16 * 6 // 4


def test_a_taken_branch_breaks_the_fetch():
    assert total(model(NOTHING), *[ADD] * 4, RET) == 16 * (5 + 3) // 4
    assert total(model(NOTHING), ADD, LOOP_OF_TWO) == 16, "a loop fetches whole pieces"


def test_half_of_what_a_port_lacks():
    busy = model(on((A, 1)))
    assert total(busy, *[ADD] * 4) == 16 + (64 - 16) // 2
    assert total(busy, ADD, LOOP_OF_TWO) == 32, "a loop has no neighbours"


def test_chains_count_in_loops_only():
    slow = model(link("1", "1", 10))
    assert total(slow, ADD, LOOP_OF_TWO) == 20 * 16
    assert total(slow, ADD, ADD) == 16 * 2 // 4


def test_compatible_mode_takes_every_block_for_a_loop():
    slow = model(link("1", "1", 10), compatible=True)
    assert total(slow, ADD, ADD) == 20 * 16


def test_a_stall_is_added():
    assert total(model(NOTHING._replace(stall=7)), ADD) == 16 // 4 + 7 * 16


def test_prefixes_follow_the_slots():
    cost = model(NOTHING).block(ADD.to_bytes(4, "little") * 4)
    assert cost.prefix == (0, 4, 8, 12, 16)
