"""Where control goes after a block."""

from __future__ import annotations

import pytest

from cores_kit import RET, code, loop
from emu.arm.a64 import Branch
from emu.cycles.cores.ends import Ends, distance, ends_of
from engine_kit import EQ, NOP, add, b, b_if, br, cbz, svc, tbz


@pytest.mark.parametrize(
    ("word", "ends"),
    [
        (add(0, 0, 1), Ends.ON),
        (svc(), Ends.ON),
        (RET, Ends.AWAY),
        (br(3), Ends.AWAY),
        (b(9), Ends.AWAY),
        (0x9400_0009, Ends.AWAY),  # bl
        (b_if(EQ, 9), Ends.ON),
        (b_if(EQ, -9), Ends.AWAY),
        (cbz(1, 9), Ends.ON),
        (tbz(1, 3, 9), Ends.ON),
        (tbz(1, 3, -9), Ends.AWAY),
        (b(-2), Ends.LOOP),
        (b_if(EQ, -2), Ends.LOOP),
        (cbz(1, -2), Ends.LOOP),
        (tbz(1, 40, -2), Ends.LOOP),
    ],
)
def test_by_the_last_word(word, ends):
    assert ends_of(code(NOP, NOP, word)) is ends


def test_a_block_of_one_branch_to_itself():
    assert ends_of(code(b(0))) is Ends.LOOP
    assert ends_of(loop(NOP)) is Ends.LOOP


@pytest.mark.parametrize(
    ("word", "branch", "bytes_"),
    [
        (b(-1), Branch.B, -4),
        (b(0x1FF_FFFF), Branch.B, 4 * 0x1FF_FFFF),
        (b_if(EQ, -0x4_0000), Branch.COND, -0x10_0000),
        (tbz(1, 3, 0x1FFF), Branch.COND, 0x7FFC),
    ],
)
def test_distances(word, branch, bytes_):
    assert distance(word, branch) == bytes_
