"""Architecture calls as KVM answers them (abi/A §A3, abi/C §C1 and §C3)."""

from __future__ import annotations

import pytest

from emu.base.errors import ProfileError
from emu.base.smccc import Ret
from emu.world.monitor import El2, with_services
from emu.world.profile import load_profile
from kit import (
    ARCH_FEATURES,
    NOT_SUPPORTED,
    ONES,
    SMCCC_VERSION,
    WORKAROUND_1,
    WORKAROUND_2,
    WORKAROUND_3,
    FakeHost,
    machine,
    script,
)

PV_TIME = 0xC500_0020
MODERN = ("kvm-5.17", "kvm-6.1", "kvm-6.4", "kvm-6.12", "kvm-6.17", "kvm-7.2")


def with_levels(*levels: int) -> El2:
    """A kernel without firmware registers whose host has these workaround levels."""
    options = {"workarounds": (1, 2, 3), "levels": levels}
    profile = with_services(
        load_profile("kvm-4.15"), {"arch": {k: list(v) for k, v in options.items()}}
    )
    return El2(profile, FakeHost())


@pytest.mark.parametrize("profile", MODERN)
def test_version_is_1_1(profile):
    script(machine(profile)) << SMCCC_VERSION() >> 0x1_0001


def test_before_smccc_1_1_the_calls_are_unknown():
    script(machine("kvm-4.15")) << SMCCC_VERSION() >> -1 << ARCH_FEATURES(0x8000_8000) >> -1


# KVM answers -1 about itself and all it does not list (abi/A §A3 "ARCH_FEATURES answers").
UNLISTED = [
    0x8000_0000,
    0x8000_0001,
    0x8000_0002,
    0xC000_0002,
    0x8000_0004,
    0x8400_0000,
    0x8400_0050,
    0x8600_0000,
    0xC500_0021,
    0,
    0xFFFF_FFFF,
]


@pytest.mark.parametrize("fid", UNLISTED)
def test_features_not_listed(fid):
    script(machine()) << ARCH_FEATURES(fid) >> NOT_SUPPORTED


# Level of the host → answer (abi/C §C3: vulnerable -1, mitigated 0, unaffected 1).
@pytest.mark.parametrize(("level", "answer"), [(0, -1), (1, 0), (2, 1)])
def test_features_workaround_1_and_3(level, answer):
    el2 = with_levels(level, 0, level)
    script(el2) << ARCH_FEATURES(WORKAROUND_1) >> answer << ARCH_FEATURES(WORKAROUND_3) >> answer


# NOT_REQUIRED or nothing (abi/C §C3).
@pytest.mark.parametrize(("level", "answer"), [(0, -1), (1, -1), (2, -1), (3, -2)])
def test_features_workaround_2(level, answer):
    script(with_levels(0, level, 0)) << ARCH_FEATURES(WORKAROUND_2) >> answer


def test_features_without_a_word_about_the_host_is_vulnerable():
    profile = with_services(load_profile("kvm-4.15"), {"arch": {"workarounds": [1, 2, 3]}})
    for fid in (WORKAROUND_1, WORKAROUND_2, WORKAROUND_3):
        script(El2(profile)) << ARCH_FEATURES(fid) >> NOT_SUPPORTED


def test_features_of_the_recorded_hosts():
    el2 = machine("kvm-6.1")  # registers 2, 0, 1: abi/C §C4
    script(el2) << ARCH_FEATURES(WORKAROUND_1) >> 1
    script(el2) << ARCH_FEATURES(WORKAROUND_2) >> -1
    script(el2) << ARCH_FEATURES(WORKAROUND_3) >> 0


def test_features_takes_32_bits_of_x1():
    script(machine()) << ARCH_FEATURES(0xABCD_0000_0000 | WORKAROUND_1) >> 1


def test_features_pv_time_follows_its_register():
    el2 = machine("kvm-6.1")
    script(el2) << ARCH_FEATURES(PV_TIME) >> 0
    el2.set_register("STD_HYP_BMAP", 0)
    script(el2) << ARCH_FEATURES(PV_TIME) >> -1


def test_features_pv_time_before_registers_is_always_there():
    script(machine("kvm-5.17", FakeHost(stolen_time=False))) << ARCH_FEATURES(PV_TIME) >> 0


# The vector answers by HVC: x0 = 0, x1 lost, the rest untouched (abi/A §A4).
@pytest.mark.parametrize("verb", [WORKAROUND_1, WORKAROUND_2, WORKAROUND_3])
@pytest.mark.parametrize("profile", MODERN)
def test_workaround_calls(profile, verb):
    script(machine(profile)) << verb(7, 8, 9) >> (0, 0)


@pytest.mark.parametrize("verb", [WORKAROUND_1, WORKAROUND_2, WORKAROUND_3])
def test_workaround_calls_by_smc_have_nobody(verb):
    script(machine("kvm-6.4")) << verb(1).by_smc() >> -1
    script(machine("kvm-6.1")) << verb(1).by_smc() >> (ONES,)


def test_workaround_calls_without_a_fast_path():
    script(with_levels(1, 1, 1)) << WORKAROUND_1() >> -1


@pytest.mark.parametrize(
    "options",
    [{"levels": [1]}, {"levels": [0, 4, 0]}, {"workarounds": [4]}, {"fast_path": ["1"]},
     {"cleared": [2, 2]}, {"cleared": [2, 5, 2]}],
)
def test_options_refused(options):
    profile = with_services(load_profile("kvm-4.15"), {"arch": options})
    with pytest.raises(ProfileError, match=r"kvm-4\.15\.toml.*service arch"):
        El2(profile)


def test_a_level_nobody_defined_is_no_workaround():
    el2 = machine("kvm-6.1")
    values = {**el2.policy.values, "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1": 9}
    el2.policy = type(el2.policy)(True, el2.policy.definitions, values)
    assert el2.hypercall(0x8000_0001, WORKAROUND_1) == Ret.not_supported()
