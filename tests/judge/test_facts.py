"""What a guest knows after an answer."""

from __future__ import annotations

import pytest

from emu.base.smccc import UNDEF, Call, Ret, uuid_words
from emu.judge.facts import (
    ARCH_FEATURES,
    KVM_FEATURES,
    MAX_ASKED,
    PSCI_FEATURES,
    PSCI_VERSION,
    PV_TIME_FEATURES,
    RSI_VERSION,
    SMCCC_VERSION,
    TRNG_VERSION,
    VENDOR_UID,
    Facts,
    name_of,
    signed,
)

KVM_UID = "28b46fb6-2ec5-11e9-a9ca-4b564d003a74"
MINUS_ONE = 0xFFFF_FFFF_FFFF_FFFF


def call(fid: int, x1: int = 0) -> Call:
    return Call((fid, x1, *(0,) * 6))


@pytest.mark.parametrize(
    ("made", "answer", "attribute", "value"),
    [
        (call(PSCI_VERSION), Ret.value(0x1_0001), "psci_version", 0x1_0001),
        (call(PSCI_VERSION), Ret.value(-1), "psci_version", -1),
        (call(SMCCC_VERSION), Ret.only(0xFFFF_FFFF), "smccc_version", -1),
        (call(TRNG_VERSION), Ret.value(0x1_0000), "trng_version", 0x1_0000),
        (call(RSI_VERSION), Ret.value(0), "rsi_version", 0),
        (call(PSCI_FEATURES, 7 << 32 | 5), Ret.value(-1), "psci", {5: -1}),
        (call(ARCH_FEATURES, 0x8000_8000), Ret.value(1), "arch", {0x8000_8000: 1}),
        (call(PV_TIME_FEATURES, 9), Ret.value(0), "pv_time", {9: 0}),
        (call(VENDOR_UID), Ret.words(*uuid_words(KVM_UID)), "uid", KVM_UID),
        (call(VENDOR_UID), Ret.value(-1), "uid", ""),
        (call(VENDOR_UID), Ret.only(MINUS_ONE), "uid", ""),
        (call(KVM_FEATURES), Ret.only(3, 0, 1, 0), "vendor_features", 1 << 64 | 3),
    ],
)
def test_an_answer_is_learnt_once(made, answer, attribute, value):
    facts = Facts()
    assert facts.learn(made, answer)
    assert getattr(facts, attribute) == value
    known = facts.copy()
    assert not facts.learn(made, answer), "nothing new"
    assert facts == known


@pytest.mark.parametrize("answer", [UNDEF, Ret.untouched()])
def test_no_answer_teaches_nothing(answer):
    facts = Facts(conduits=["hvc"])
    assert not facts.learn(call(PSCI_VERSION), answer)
    assert facts == Facts(conduits=["hvc"])


def test_a_conduit_is_known_once_it_has_answered():
    facts = Facts()
    facts.learn(call(0x8400_0033), UNDEF)
    assert facts.conduits == []
    assert facts.learn(call(0x8400_0033), Ret.value(-1))
    assert facts.conduits == ["hvc"]


def test_versions_and_vendors():
    facts = Facts(smccc_version=0x1_0002, uid=KVM_UID)
    assert facts.has_smccc(1, 1)
    assert not facts.has_smccc(1, 3)
    assert (facts.vendor, Facts(uid="someone").vendor, Facts(uid="").vendor) == (
        "KVM", "someone", "",
    )  # fmt: skip


def test_a_guest_that_asks_about_everything_costs_no_memory():
    facts = Facts()
    for asked in range(MAX_ASKED + 10):
        facts.learn(call(ARCH_FEATURES, asked), Ret.value(-1))
    assert len(facts.arch) == MAX_ASKED
    assert facts.learn(call(ARCH_FEATURES, 5), Ret.value(0)), "what is known can still change"


def test_numbers_and_names():
    assert [signed(value) for value in (0, 0x7FFF_FFFF, 0xFFFF_FFFF, MINUS_ONE, 1 << 32)] == [
        0, 0x7FFF_FFFF, -1, -1, 0,
    ]  # fmt: skip
    assert name_of(7 << 32 | PSCI_VERSION) == "PSCI_VERSION"
    assert name_of(0x8200_0001) == "0x82000001"
