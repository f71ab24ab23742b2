"""Which blocks wait for their own last load."""

from __future__ import annotations

import pytest

from emu.cycles.cores.chains import is_chained
from engine_kit import NOP, add, b_if, code, ldr, store, subs

LDR_POST = 0xF840_8400  # ldr x0, [x0], #8 with rt and rn at 0
LDR_INDEXED = 0xF866_6827  # ldr x7, [x1, x6]


@pytest.mark.parametrize(
    ("words", "chained"),
    [
        ([ldr(1, 1)], True),
        ([ldr(2, 1)], False),
        ([ldr(2, 1), add(1, 2, 8)], True),
        ([ldr(2, 1), add(3, 2, 8), ldr(4, 3)], False),
        ([ldr(2, 1), ldr(1, 2)], True),
        ([LDR_POST | 1 << 5 | 2], False),
        ([LDR_INDEXED, add(6, 7, 0)], True),
        ([LDR_INDEXED, add(8, 7, 0)], False),
        ([ldr(2, 1), store(2, 3)], False),
        ([ldr(1, 1), add(1, 3, 0)], False),
        ([NOP, subs(0, 0, 1), b_if(0, -2)], False),
        ([], False),
        ([0x0000_0000], False),
    ],
)
def test_chains(words, chained):
    assert is_chained(code(*words)) is chained
