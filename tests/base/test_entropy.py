"""The machine's seeded entropy."""

from hypothesis import given
from hypothesis import strategies as st

from emu.base.entropy import Splitmix
from emu.world.monitor import El2
from emu.world.paper import PaperHost

ONES = (1 << 64) - 1


def test_entropy_is_splitmix64_and_seeded():
    # The first outputs for seed 0 are those of Vigna's splitmix64.c.
    assert [Splitmix(0).word()] == [0xE220_A839_7B1D_CDAF]
    rng = Splitmix(0)
    assert [rng.word() for _ in range(2)][1] == 0x6E78_9E6A_A1B9_65F4
    one, same, other = (
        El2("kvm-6.12", PaperHost(seed=seed)).hypercall(0xC400_0053, 192) for seed in (7, 7, 8)
    )
    assert one == same != other


@given(st.integers(0, ONES), st.integers(0, 200))
def test_entropy_has_the_bits_asked_for(seed, count):
    assert 0 <= Splitmix(seed).bits(count) < 1 << count
