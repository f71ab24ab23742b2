"""The flat core: one cycle an instruction."""

from __future__ import annotations

from cores_kit import RET, check, code
from emu.cycles.cores.flat import model


def test_one_cycle_each():
    block = code(RET, RET, RET)
    cost = model().block(block)
    assert cost.prefix == (0, 16, 32, 48)
    assert cost.unknown == 0
    check(cost, block)


def test_nothing_costs_nothing():
    assert model(compatible=True).block(b"").prefix == (0,)
