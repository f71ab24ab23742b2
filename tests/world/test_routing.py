"""The way of a call, and why it is that one (abi/C §C1, in KVM's order)."""

import pytest

from emu.base.smccc import Conduit, FunctionId
from emu.world.monitor import El2
from emu.world.profile import load_profile
from emu.world.routing import Router, is_psci
from kit import FakeHost

TRNG_VERSION = 0x8400_0050


def steps(el2, fid, **options):
    return el2.route(fid, **options).steps


@pytest.mark.parametrize(
    ("fid", "psci"),
    [
        # abi/D §D3: the ranges of the series of 2021.
        (0x95C1_BA5D, False), (0x95C1_BA5E, True), (0x95C1_BA61, True), (0x95C1_BA62, False),
        (0x8400_0000, True), (0x8400_003F, True), (0x8400_0040, False), (0xC400_0000, True),
        (0xC400_003F, True), (0x0400_0000, False), (0x8500_0000, False),
    ],
)  # fmt: skip
def test_what_counts_as_psci(fid, psci):
    assert is_psci(fid) is psci


def test_every_step_is_told_in_order():
    assert steps(El2("kvm-6.12"), TRNG_VERSION) == (
        "kvm-6.12: HVC #0x0 leads to smccc",
        "no SMCCC filter range holds it",
        "KVM_REG_ARM_STD_BMAP bit 0 is set",
        "service trng: TRNG_VERSION",
    )


def test_what_has_no_gate_says_so():
    assert "needs no firmware register's leave" in steps(El2("kvm-6.12"), 0x8400_0000)
    assert "no SMCCC filter here" in steps(El2("kvm-6.1"), 0x8400_0000)


def test_the_filter_comes_before_the_register():
    el2 = El2("kvm-6.12")
    el2.set_register("STD_BMAP", 0)
    assert steps(el2, TRNG_VERSION)[-2:] == (
        "KVM_REG_ARM_STD_BMAP bit 0 is clear", "the reply to the unknown is not-supported",
    )  # fmt: skip
    el2.add_filter(TRNG_VERSION, 1, "forward")
    assert steps(el2, TRNG_VERSION)[-1] == "SMCCC filter forwards 0x84000050"


def test_an_explicit_handle_is_no_way_round_the_register():
    el2 = El2("kvm-6.12")
    el2.set_register("STD_BMAP", 0)
    el2.add_filter(TRNG_VERSION, 1, "handle")
    assert el2.hypercall(TRNG_VERSION).signed == -1


def test_the_conduit_comes_before_everything():
    el2 = El2("kvm-6.1")
    assert steps(el2, TRNG_VERSION, conduit=Conduit.SMC) == (
        "kvm-6.1: SMC #0x0 leads to x0-only",
    )
    assert steps(El2("none"), TRNG_VERSION) == ("none: HVC #0x0 leads to undef",)


def test_a_mode_that_decides_is_named():
    el2 = El2(load_profile("kvm-6.12").with_modes({"hvc.imm": "switch-on-imm"}))
    assert steps(el2, 0x8400_0000, imm=7) == (
        "mode hvc.imm = switch-on-imm: HVC #0x7 leads to kvm-enosys",
    )


def test_a_router_stands_alone():
    profile = load_profile("kvm-6.12")
    router = Router(profile, profile.policy, {}, {}, FakeHost())
    assert router.find(0x8400_0000) is None
    assert router.offered(0x8400_0000) is None
    assert "no service of kvm-6.12 has" in router.route(0x8400_0000, Conduit.HVC, 0).why
    assert router.look_up(0x8401_0000) == FunctionId(0x8401_0000)
