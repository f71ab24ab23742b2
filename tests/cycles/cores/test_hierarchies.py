"""Sizes and times of caches, and what a walk over memory takes by them."""

from __future__ import annotations

import memory_accuracy
import pytest

import places
from emu.cycles.caches import L1_LINES, L2_LINES, SHARED_LINES
from emu.cycles.cores import cached, caches
from emu.cycles.cores.hierarchies import hierarchy
from emu.cycles.model import SIXTEENTHS
from emu.engine.engine import native_available
from emu.machine.timing import Timing

GUEST = places.GUESTS / "memory_walk.elf"
LINE = 64


@pytest.mark.parametrize("core", cached())
def test_caches_fit_into_their_room(core):
    made = hierarchy(core, 1_000_000_000)
    for name, room in (("data", L1_LINES), ("code", L1_LINES), ("own", L2_LINES),
                       ("shared", SHARED_LINES)):  # fmt: skip
        shape = getattr(made, name)
        assert shape.sets & shape.sets - 1 == 0
        assert shape.sets * shape.ways <= room
        level = getattr(caches(core), name)
        assert shape.sets * shape.ways * LINE == level.kib * 1024


@pytest.mark.parametrize("core", cached())
def test_farther_takes_longer(core):
    made = hierarchy(core, 1_000_000_000)
    levels = range(0 if made.own.ways else 1, 3)
    latencies = [made.latency[n] for n in levels]
    assert latencies == sorted(latencies)
    assert latencies[0] > 0
    assert all(0 < made.transfer[n] <= made.latency[n] for n in levels)


def test_memory_does_not_run_with_the_core():
    slow, fast = (hierarchy("cortex-a53", hz) for hz in (1_000_000_000, 2_000_000_000))
    assert slow.latency[2] == 151 * SIXTEENTHS
    assert fast.latency[2] == 302 * SIXTEENTHS
    assert fast.latency[1] == slow.latency[1] == 14 * SIXTEENTHS


@pytest.mark.skipif(not native_available(), reason="the Python half takes minutes")
@pytest.mark.parametrize("core", cached())
def test_walks_are_near_what_boards_were_measured_to_take(core):
    """Within a quarter in the mean, where the blocks alone are off by more than six tenths."""
    found = list(memory_accuracy.walks(GUEST, [core]))
    assert found
    for walk in found:
        assert walk.error(Timing.CACHE) < 25, walk.board
        assert walk.error(Timing.BLOCK) > 60, walk.board
    text = memory_accuracy.table(found)
    assert text.count("\n") == 2 + len(found)
    assert " MHz, unseen | random | " in text
