"""Numbers of the architecture, checked against each other and against what is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arm import arch

LOWER = " from a lower exception level"


@pytest.mark.parametrize(
    ("index", "affinity"),
    [(0, 0), (1, 1), (15, 0xF), (16, 0x100), (17, 0x101), (255, 0xF0F), (4096, 0x1_0000)],
)
def test_mpidr_has_16_cpus_in_a_cluster(index, affinity):
    assert arch.mpidr(index) == 0x8000_0000 | affinity
    assert arch.mpidr(index) & arch.MPIDR_AFFINITY == affinity


@given(st.sets(st.integers(0, 511), min_size=2, max_size=2))
def test_mpidrs_differ(pair):
    one, other = pair
    assert arch.mpidr(one) != arch.mpidr(other)


@pytest.mark.parametrize(
    ("pstate", "level", "offset"),
    [
        (0x3C5, 1, 0x200),  # EL1h, masked
        (0x4, 1, 0x000),  # EL1t
        (0x0, 0, 0x400),  # EL0
        (0x3C0, 0, 0x400),
    ],
)
def test_vector_offset(pstate, level, offset):
    assert arch.current_el(pstate) == level
    assert arch.vector_offset(pstate) == offset


def test_start_state_is_el1h_with_all_masked():
    assert arch.PSTATE_EL1H_MASKED == 0x3C5


@given(st.integers(0, 0x3F), st.integers(0, 0x1FF_FFFF))
def test_syndrome_round_trip(ec, iss):
    esr = arch.syndrome(ec, iss)
    assert arch.exception_class(esr) == ec
    assert esr & 0x1FF_FFFF == iss
    assert esr & arch.ESR_IL
    assert arch.describe_esr(esr)


@pytest.mark.parametrize(
    ("ec", "iss", "text"),
    [
        (0x00, 0, "unknown or undefined instruction"),
        (0x15, 5, "SVC #0x5"),
        (0x16, 0xEA1, "HVC #0xea1"),
        (0x17, 0, "SMC #0x0"),
        (0x3C, 0x800, "BRK #0x800"),
        (0x24, 0x06, f"data abort{LOWER}, translation fault, level 2 on a read"),
        (0x25, 0x4F, "data abort, permission fault, level 3 on a write"),
        (0x25, 0x10, "data abort, external abort on a read"),
        (0x25, 0x21, "data abort, alignment fault on a read"),
        (0x20, 0x09, f"instruction abort{LOWER}, access flag fault, level 1"),
        (0x21, 0x3F, "instruction abort, fault status 0x3f"),
        (0x3B, 0, "exception class 0x3b"),
    ],
)
def test_syndrome_in_words(ec, iss, text):
    assert arch.describe_esr(arch.syndrome(ec, iss)) == text


def test_address_size_fault_at_level_0():
    assert arch.describe_fault_status(0) == "address size fault, level 0"


BLOCK_ENDS = {
    "RUNS_ON": [
        0xD503_201F, 0x9100_0000, 0xF940_0000, 0xD51B_4200, 0xD503_207F, 0xD503_3FDF, 0,
        0xFFFF_FFFF,
    ],  # nop, add, ldr, msr nzcv, wfi, isb, udf, and what is nothing
    "JUMP": [0x1400_0000, 0x17FF_FFFF, 0x1400_0001],
    "CALL": [0x9400_0000, 0x97FF_FFFF],
    "CONDITIONAL": [
        0x5400_0000, 0x54FF_FFEE, 0x5400_0010, 0x3400_0000, 0x3500_0001, 0xB400_0000,
        0xB5FF_FFFF, 0x3600_0000, 0x37FF_FFFF, 0xB600_0000, 0xB700_0000,
    ],  # b.eq, b.al, bc.eq, cbz, cbnz, and of X; tbz, tbnz, and of bits 32 to 63
    "JUMP_INDIRECT": [0xD61F_0000, 0xD61F_0220, 0xD61F_03C0],
    "CALL_INDIRECT": [0xD63F_0000, 0xD63F_03C0],
    "RETURN": [0xD65F_03C0, 0xD65F_0000],
    "EXCEPTION_RETURN": [0xD69F_03E0],
    "EXCEPTION": [0xD400_0001, 0xD400_0002, 0xD400_0003, 0xD420_0000, 0xD45E_0000, 0xD41F_FFE1],
}  # fmt: skip
"""Words by the way a block with them at its end is left (DDI 0487, C4.1)."""


@pytest.mark.parametrize(
    ("word", "end"), [(word, end) for end, words in BLOCK_ENDS.items() for word in words]
)
def test_how_a_block_is_left(word, end):
    assert arch.block_end(word) is arch.BlockEnd[end]


def test_every_way_to_leave_a_block_is_in_the_table():
    assert BLOCK_ENDS.keys() == {end.name for end in arch.BlockEnd}


@given(st.integers(0, 2**32 - 1))
def test_any_word_is_left_in_one_way(word):
    assert arch.block_end(word) in arch.BlockEnd
    if word >> 26 == 0b000101:
        assert arch.block_end(word) is arch.BlockEnd.JUMP
