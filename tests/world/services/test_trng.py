"""TRNG as KVM serves it (abi/C §C3, §C7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import (
    INVALID_PARAMETERS,
    NOT_SUPPORTED,
    ONES,
    RND32,
    RND64,
    SUCCESS,
    TRNG_FEATURES,
    TRNG_UUID,
    TRNG_VERSION,
    FakeHost,
    ask,
    machine,
    script,
)

ALL = (0x8400_0050, 0x8400_0051, 0x8400_0052, 0x8400_0053, 0xC400_0053)


def numbered(bits: int) -> int:
    """Entropy whose 32-bit words count upward from the lowest."""
    words = sum((0x1111_1111 * (n + 1)) << 32 * n for n in range(6))
    return words & (1 << bits) - 1


def test_version_and_uuid():
    script(machine()) << TRNG_VERSION() >> 0x1_0000
    words = (0x00E0_210D, 0xEB11_8443, 0x4452_7080, 0x4C5A_4E55)
    script(machine()) << TRNG_UUID() >> words
    assert words[0] != 0xFFFF_FFFF


@pytest.mark.parametrize("fid", ALL)
def test_features(fid):
    script(machine()) << TRNG_FEATURES(fid) >> SUCCESS
    script(machine()) << TRNG_FEATURES((1 << 32) | fid) >> NOT_SUPPORTED


@pytest.mark.parametrize("fid", [0, 0xC400_0050, 0x8400_0054, 0x8400_0000, ONES])
def test_features_of_others(fid):
    script(machine()) << TRNG_FEATURES(fid) >> NOT_SUPPORTED


@pytest.mark.parametrize(
    ("request_", "registers"),
    [  # the lowest word is in x3
        (RND64(192), (0x66666666_55555555, 0x44444444_33333333, 0x22222222_11111111)),
        (RND64(64), (0, 0, 0x22222222_11111111)),
        (RND64(65), (0, 1, 0x22222222_11111111)),
        (RND32(96), (0x3333_3333, 0x2222_2222, 0x1111_1111)),
        (RND32(32), (0, 0, 0x1111_1111)),
        (RND64(0), (0, 0, 0)),
        (RND32(0), (0, 0, 0)),
    ],
)
def test_word_order(request_, registers):
    script(machine(host=FakeHost(entropy=numbered))) << request_ >> (SUCCESS, *registers)


@pytest.mark.parametrize(("verb", "most"), [(RND32, 96), (RND64, 192)])
def test_too_many_bits(verb, most):
    el2 = machine()
    script(el2) << verb(most + 1) >> INVALID_PARAMETERS << verb(0xFFFF_FFFF) >> INVALID_PARAMETERS
    assert ask(el2, verb((1 << 32) | most))[0] == SUCCESS, "N is the low 32 bits"


@given(st.integers(0, 192), st.sampled_from([(RND32, 32), (RND64, 64)]))
def test_bits_at_or_above_n_are_zero(bits, form):
    verb, width = form
    answer = ask(machine(), verb(bits))
    if bits > 3 * width:
        assert answer.signed == INVALID_PARAMETERS
        return
    assert answer[0] == SUCCESS
    assert all(word < 1 << width for word in answer[1:])
    entropy = answer[1] << 2 * width | answer[2] << width | answer[3]
    assert entropy == (1 << bits) - 1, "the fake host's entropy is all ones"


def test_asks_for_no_more_entropy_than_needed():
    host = FakeHost()
    script(machine(host=host)) << RND64(17) >> (0, 0, 0, 0x1_FFFF)
    assert host.done == [("random", 17)]


def test_register_bit_0_elects_all_five():
    el2 = machine("kvm-6.1")
    el2.set_register("STD_BMAP", 0)
    for fid in ALL:
        assert el2.hypercall(fid, 8).signed == NOT_SUPPORTED
    script(machine("kvm-4.15")) << TRNG_VERSION() >> NOT_SUPPORTED
