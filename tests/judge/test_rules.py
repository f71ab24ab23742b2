"""The rules, each with a life that breaks it and one that does not; Linux breaks none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.smccc import MASK64, Call, Conduit, Ret
from emu.judge import mutate  # noqa: F401 — every module that declares rules
from emu.judge.discovery import RULES
from emu.judge.facts import Facts, signed
from emu.judge.rules import CHECKS, broken
from emu.world.monitor import El2
from kit import (
    AFFINITY_INFO,
    ARCH_FEATURES,
    CPU_ON,
    CPU_ON_32,
    FEATURES,
    KVM_FEATURES,
    OFF2,
    PROFILES,
    PTP,
    PV_FEATURES,
    PV_ST,
    RESET2,
    RND32,
    RND64,
    SMCCC_VERSION,
    SYSTEM_OFF,
    SYSTEM_SUSPEND,
    TRNG_FEATURES,
    TRNG_VERSION,
    VENDOR_UID,
    VERSION,
    WORKAROUND_1,
    FakeHost,
    Request,
    Verb,
)

RAM = range(0x4000_0000, 0x4400_0000)
SMCCC = (VERSION(), FEATURES(SMCCC_VERSION), SMCCC_VERSION())
VENDOR = (*SMCCC, VENDOR_UID(), KVM_FEATURES())
PV = (*SMCCC, ARCH_FEATURES(PV_FEATURES), PV_FEATURES(PV_ST))
SOC_ID, SOC_ID_64 = Verb(0x8000_0002), Verb(0xC000_0002)
AVAILABILITY, STAT = Verb(0xC000_0003), Verb(0xC400_0010)
RSI_VERSION, REALM_CONFIG = Verb(0xC400_0190), Verb(0xC400_0196)
DIRTY = 0xFFFF_FFFF_0000_0000
XEN = "a71812dc-c698-4369-9acf-79d18ddee667"


def live(*requests: Request, profile: str = "kvm-6.17", **facts: object) -> list[str]:
    """The rules that the last of these calls breaks."""
    el2 = El2(profile, FakeHost(2))
    known = Facts(ram=RAM, **facts)
    found: list[tuple[str, str]] = []
    for request in requests:
        x = tuple(value & MASK64 for value in (request.fid, *request.args, *(0,) * 7))[:8]
        call = Call(x, request.conduit, request.imm, request.vcpu)
        found = broken(known, call)
        known.learn(call, el2.answer(call))
    return [rule for rule, _ in found]


@pytest.mark.parametrize(
    ("rule", "life"),
    [
        ("conduit-mixed", (VERSION(), VERSION().by_smc())),
        ("immediate-not-zero", (VERSION()._replace(imm=1),)),
        ("dirty-function-id", (Verb(DIRTY | VERSION)(),)),
        ("dirty-arguments", (*SMCCC, ARCH_FEATURES(DIRTY | WORKAROUND_1))),
        ("dirty-arguments", (VERSION(), CPU_ON_32(1, 0x1_4000_0000, 0))),
        ("reserved-bits", (Verb(VERSION | 1 << 17)(),)),
        ("sve-hint-early", (*SMCCC, Verb(VERSION | 1 << 16)())),
        ("psci-version-first", (FEATURES(SMCCC_VERSION),)),
        ("psci-optional-unannounced", (VERSION(), RESET2(0, 0))),
        ("psci-optional-unannounced", (VERSION(), SYSTEM_SUSPEND(0, 0))),
        ("psci-optional-unannounced", (VERSION(), OFF2(1, 0))),
        ("psci-optional-unannounced", (VERSION(), FEATURES(STAT), STAT(0, 0))),
        ("reset2-reserved-type", (VERSION(), FEATURES(RESET2), RESET2(0x5A, 0))),
        ("mpidr-not-masked", (VERSION(), CPU_ON(0x8000_0001, 0x4000_0000, 0))),
        ("mpidr-not-masked", (VERSION(), AFFINITY_INFO(1 << 24, 0))),
        ("cpu-on-entry", (VERSION(), CPU_ON(1, 0x4000_0002, 0))),
        ("cpu-on-entry", (VERSION(), CPU_ON(1, 0xFFFF_8000_0000_0000, 0))),
        ("smccc-version-unannounced", (SMCCC_VERSION(),)),
        ("smccc-version-unannounced", (VERSION(), SMCCC_VERSION())),
        ("arch-features-early", (VERSION(), ARCH_FEATURES(WORKAROUND_1))),
        ("features-of-another", (*SMCCC, ARCH_FEATURES(TRNG_VERSION))),
        ("features-of-another", (VERSION(), FEATURES(TRNG_VERSION))),
        ("workaround-unannounced", (*SMCCC, WORKAROUND_1())),
        ("soc-id-unannounced", (*SMCCC, SOC_ID(0))),
        ("soc-id-unannounced", (*SMCCC, ARCH_FEATURES(SOC_ID), SOC_ID(0))),
        ("soc-id-name-smc32", (SOC_ID(2),)),
        ("arch-call-unannounced", (*SMCCC, AVAILABILITY(0x1E1100))),
        ("trng-unannounced", (*SMCCC, RND64(64))),
        ("trng-unannounced", (*SMCCC, RND32(32))),
        ("trng-unannounced", (*SMCCC, TRNG_FEATURES(RND64))),
        ("pv-time-unannounced", (*SMCCC, PV_ST())),
        ("pv-time-unannounced", (*SMCCC, PV_FEATURES(PV_ST))),
        ("vendor-without-uid", (*SMCCC, KVM_FEATURES())),
        ("vendor-without-uid", (*SMCCC, PTP(0))),
        ("vendor-feature-unannounced", (*SMCCC, VENDOR_UID(), PTP(0))),
        ("vendor-feature-unannounced", (*VENDOR, Verb(0xC600_0002)())),
        ("rsi-unannounced", (VERSION(), RSI_VERSION(0x1_0000))),
        ("rsi-unannounced", (VERSION().by_smc(), REALM_CONFIG(0).by_smc())),
    ],
)  # fmt: skip
def test_a_life_that_breaks_a_rule(rule, life):
    assert rule in live(*life)


@pytest.mark.parametrize(
    ("rule", "life", "profile"),
    [
        ("psci-features-on-0.2", (VERSION(), FEATURES(SYSTEM_OFF)), "kvm-4.15"),
        ("vendor-without-uid", (*SMCCC, VENDOR_UID(), KVM_FEATURES()), "qemu-tcg"),
        ("error-used-as-version", (VERSION(), SMCCC_VERSION(), ARCH_FEATURES(WORKAROUND_1)),
         "qemu-tcg"),
        ("error-used-as-version", (VERSION(), TRNG_VERSION(), RND64(64)), "qemu-tcg"),
    ],
)  # fmt: skip
def test_a_life_that_is_right_elsewhere_and_wrong_here(rule, life, profile):
    assert rule in live(*life, profile=profile)
    assert rule not in live(*life)


def test_the_device_tree_names_the_conduit():
    assert live(VERSION(), method="smc") == ["conduit-mismatch"]
    assert live(VERSION(), method="hvc") == []
    assert live(VERSION(), method="") == []
    mixed = live(VERSION(), VERSION().by_smc(), method="hvc")
    assert mixed == ["conduit-mixed"], "one mistake is told once"


def test_another_vendors_service():
    facts = Facts(uid=XEN)
    call = Call((PTP, *(0,) * 7))
    assert [rule for rule, _ in broken(facts, call)] == ["vendor-of-another"]
    assert facts.vendor == "Xen"


@pytest.mark.parametrize("profile", PROFILES)
def test_linux_breaks_no_rule(profile):
    """abi/G §G1, the order of linux v6.17, as far as each answer leads."""
    el2, facts = El2(profile, FakeHost(2)), Facts(ram=RAM)
    method = el2.profile.promise.method
    conduit = Conduit(method or "hvc")

    def say(fid: int, *args: int) -> int:
        call = Call((fid, *args, *(0,) * (7 - len(args))), conduit)
        assert broken(facts, call) == []
        answer = el2.answer(call)
        facts.learn(call, answer)
        return signed(answer.x0) if isinstance(answer, Ret) else -1

    if not method:
        return
    version = say(VERSION)
    if version >= 0x1_0000:
        if say(FEATURES, SMCCC_VERSION) != -1:
            say(SMCCC_VERSION)
        for fid in (0xC400_0001, SYSTEM_SUSPEND, RESET2, OFF2):
            say(FEATURES, fid)
    if facts.has_smccc(1, 1):
        modern_linux(say, facts)
    say(CPU_ON, 1, 0x4008_0000, 0)
    if facts.psci.get(RESET2, -1) >= 0:
        say(RESET2, 0, 0)
    say(SYSTEM_OFF)


def modern_linux(say, facts):
    if say(TRNG_VERSION) >= 0x1_0000:
        say(RND64, 64)
    say(VENDOR_UID)
    if facts.vendor == "KVM":
        say(KVM_FEATURES)
        if facts.vendor_features & 2:
            say(PTP, 0)
    for fid in (WORKAROUND_1, 0x8000_7FFF, 0x8000_3FFF):
        if say(ARCH_FEATURES, fid) >= 0:
            say(fid)
    if say(ARCH_FEATURES, PV_FEATURES) == 0 and say(PV_FEATURES, PV_ST) == 0:
        say(PV_ST)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_says_where_it_comes_from_and_what_to_do(rule):
    assert re.fullmatch(r"[a-z0-9.]+(-[a-z0-9.]+)+", rule.name)
    assert all(text and text[-1] not in ".," for text in (rule.title, rule.source, rule.fix))
    assert re.search(r"DEN\d{4}|DDI \d{4}|linux|edk2|u-boot|TF-A", rule.source)
    assert rule.example


def test_every_check_has_a_life_above():
    table = test_a_life_that_breaks_a_rule.pytestmark[0].args[1]
    elsewhere = test_a_life_that_is_right_elsewhere_and_wrong_here.pytestmark[0].args[1]
    shown = {row[0] for row in (*table, *elsewhere)} | {"conduit-mismatch", "vendor-of-another"}
    assert shown == {name for name, _ in CHECKS}


@given(
    x=st.lists(st.integers(0, MASK64), min_size=8, max_size=8).map(tuple),
    conduit=st.sampled_from(list(Conduit)), imm=st.integers(0, 0xFFFF),
    answer=st.lists(st.integers(0, MASK64), min_size=0, max_size=4).map(
        lambda values: Ret.only(*values) if values else Ret.untouched()
    ),
)  # fmt: skip
def test_any_call_can_be_judged_and_learnt(x, conduit, imm, answer):
    facts = Facts(method="hvc", ram=RAM)
    call = Call(x, conduit, imm)
    assert all(rule in RULES and text for rule, text in broken(facts, call))
    facts.learn(call, answer)
    again = facts.copy()
    assert again == facts
    again.psci[1] = again.arch[1] = again.pv_time[1] = 0
    again.conduits.append("other")
    assert 1 not in facts.psci | facts.arch | facts.pv_time
    assert "other" not in facts.conduits
