"""The way of a call (abi/C §C1, abi/A §A5), and the promise that nothing makes El2 fail."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emu.world.monitor
from emu.base import exits
from emu.base.errors import PolicyError, ProfileError
from emu.base.smccc import UNDEF, Call, Conduit, Ret
from emu.world.abis.xen import Xen
from emu.world.monitor import El2, with_services
from emu.world.policy import Action, Policy
from emu.world.profile import load_profile
from emu.world.service import Service, fn
from kit import (
    KVM,
    NOT_SUPPORTED,
    ONES,
    PROFILES,
    PTP,
    SMCCC_VERSION,
    SYSTEM_OFF,
    TRNG_VERSION,
    VERSION,
    WORKAROUND_1,
    FakeHost,
    Request,
    check_answer,
    machine,
    script,
)

UNKNOWN = 0x8600_1234
DENIED = Ret.not_supported()

# --- conduit and immediate (abi/A §A5, abi/C §C1) ----------------------------------------------

X0_ONLY = (ONES,)
CONDUITS = [  # profile, conduit, immediate, PSCI_VERSION's answer; None for a real answer
    *((p, "hvc", imm, None) for p in KVM for imm in (0, 1, 0xEA1, 0xFFFF)),
    *((p, "smc", 0, None) for p in ("kvm-6.4", "kvm-6.12", "kvm-6.17", "kvm-7.2")),
    *((p, "smc", 1, X0_ONLY) for p in ("kvm-6.4", "kvm-6.12", "kvm-6.17", "kvm-7.2")),
    *((p, "smc", imm, X0_ONLY) for p in ("kvm-5.17", "kvm-6.1") for imm in (0, 5)),
    ("kvm-4.15", "smc", 0, UNDEF),
    ("qemu-tcg", "hvc", 7, None),
    ("qemu-tcg", "smc", 0, UNDEF),
    ("none", "hvc", 0, UNDEF),
    ("none", "smc", 0, UNDEF),
]


@pytest.mark.parametrize(("profile", "conduit", "imm", "answer"), CONDUITS)
def test_where_a_conduit_leads(profile, conduit, imm, answer):
    el2 = machine(profile)
    found = el2.hypercall(VERSION, conduit=conduit, imm=imm)
    assert found == answer if answer is not None else found.signed > 0
    assert el2.route(VERSION, Conduit(conduit), imm).source


# x1–x3 after an unknown identifier (abi/A §A4).
@pytest.mark.parametrize(
    ("profile", "answer"),
    [("kvm-4.15", X0_ONLY), ("qemu-tcg", X0_ONLY), *((p, DENIED) for p in KVM[1:])],
)
def test_unknown_identifier(profile, answer):
    assert machine(profile).hypercall(UNKNOWN) == answer


def test_upper_half_of_x0():
    wide = 0xFFFF_FFFF_0000_0000 | VERSION
    script(machine("kvm-6.17")) << Request(wide) >> 0x1_0003
    script(machine("qemu-tcg")) << Request(wide) >> NOT_SUPPORTED


def test_narrow_replies_reach_events():
    event = machine("qemu-tcg").hypercall(SYSTEM_OFF)
    assert event.ret == Ret.only(-6)


def test_profile_may_make_the_unknown_undefined(tmp_path):
    path = tmp_path / "strict.toml"
    path.write_text('extends = "kvm-6.12"\nunknown = "undef"  # as a firmware might\n')
    el2 = machine(str(path))
    script(el2) << Request(UNKNOWN) >> UNDEF << VERSION() >> 0x1_0001
    assert el2.route(UNKNOWN).source == "as a firmware might"


def test_sve_hint_is_removed_only_where_the_profile_says_so(tmp_path):
    path = tmp_path / "newer.toml"
    path.write_text('extends = "kvm-6.12"\nsve_hint = true\n[services.arch]\nfast_path = []\n')
    hint = 1 << 16
    script(machine(str(path))) << Request(VERSION | hint) >> 0x1_0001
    script(machine(str(path))) << Request(WORKAROUND_1 | hint) >> NOT_SUPPORTED
    script(machine("kvm-6.12")) << Request(VERSION | hint) >> NOT_SUPPORTED


# How an instruction is read: its ABI, and how many registers it takes. By SMCCC an immediate may
# be another interface's, whose registers say what a guest meant.
READINGS = [
    ("kvm-6.12", "hvc", 0, Call, 8), ("kvm-6.12", "smc", 0, Call, 8),
    ("kvm-6.12", "hvc", 0xEA1, Call, 18), ("none", "hvc", 0, Call, 8), ("none", "hvc", 1, Call, 18),
    ("xen", "hvc", 0, Call, 8), ("xen", "hvc", 0xEA1, Xen, 17), ("xen", "smc", 0xEA1, Call, 18),
]  # fmt: skip


@pytest.mark.parametrize(("profile", "conduit", "imm", "kind", "count"), READINGS)
def test_how_an_instruction_is_read(profile, conduit, imm, kind, count):
    el2 = machine(profile)
    assert el2.reading(Conduit(conduit), imm) == (kind, count)
    call = el2.read((1, 2), Conduit(conduit), imm, vcpu=1)
    assert (type(call), call.x, call.vcpu) == (kind, (1, 2, *[0] * (count - 2)), 1)


def test_a_level_that_passes_an_instruction_down_leaves_its_reading_to_the_next(tmp_path):
    path = tmp_path / "two.toml"
    path.write_text(
        'extends = "kvm-6.12"\n[smc]\n0 = "down"\n5 = "down"\n'
        '[el3.smc]\n0 = "smccc"\n5 = "xen"\n[el3.services.xen_hypercalls]\n'
    )
    el2 = machine(str(path))
    assert el2.reading(Conduit.SMC, 5) == (Xen, 17)
    assert el2.reading(Conduit.SMC, 0) == (Call, 8)
    assert el2.answer(el2.read((*[0] * 16, 17), Conduit.SMC, 5)) == (0x4_0014,)
    steps = el2.route(17, Conduit.SMC, 5).steps
    assert steps[0] == "el2, two: SMC #0x5 is passed down"
    assert steps[-1] == "el3, service xen_hypercalls: xen_version"


# --- filter, then register, then service (abi/C §C1) -------------------------------------------


def test_filter_deny_and_forward():
    el2 = machine("kvm-6.4")
    el2.add_filter(VERSION)
    el2.add_filter(0xC600_0000, 16, "forward", "mine.py:answer")
    script(el2) << VERSION() >> NOT_SUPPORTED
    exit = el2.hypercall(0xC600_000F, 1, 2, vcpu=1)
    assert isinstance(exit, exits.Hypercall)
    assert (exit.vcpu, exit.forward_to, exit.ret) == (1, "mine.py:answer", DENIED)
    assert exit.call == Call((0xC600_000F, 1, 2, 0, 0, 0, 0, 0), Conduit.HVC, 0, 1)
    assert el2.hypercall(0xC600_0000).vcpu == 0
    assert "denies 0x84000000" in el2.route(VERSION).why
    assert "0xC6000000-0xC600000F" in el2.route(0xC600_0000).why
    assert "hypercalls.c" in el2.route(VERSION).source


def test_explicit_handle_is_no_way_round_a_register():
    el2 = machine("kvm-6.4")
    el2.add_filter(TRNG_VERSION, 1, Action.HANDLE)
    script(el2) << TRNG_VERSION() >> 0x1_0000
    el2.set_register("STD_BMAP", 0)
    script(el2) << TRNG_VERSION() >> NOT_SUPPORTED
    assert el2.route(TRNG_VERSION).why == "KVM_REG_ARM_STD_BMAP bit 0 is clear"


def test_filter_errors():
    for action in ("undef", "explode"):
        with pytest.raises(PolicyError) as caught:
            machine("kvm-6.4").add_filter(VERSION, 1, action)
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(PolicyError) as caught:
        machine("kvm-6.1").add_filter(VERSION)
    assert caught.value.errno == errno.ENXIO
    with pytest.raises(PolicyError) as caught:
        machine("kvm-6.4").add_filter(SMCCC_VERSION)
    assert caught.value.errno == errno.EEXIST


# --- features ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("profile", "withheld"), [("kvm-5.17", True), ("kvm-6.1", False)])
def test_switch_a_feature_off_and_on(profile, withheld):
    el2 = machine(profile)
    el2.switch_feature("ptp", on=False)
    script(el2) << PTP(0) >> NOT_SUPPORTED
    assert ("switched off" in el2.route(PTP).why) == withheld
    assert not el2.implements(PTP)
    assert not el2.implements(UNKNOWN)
    el2.switch_feature("ptp", on=True)
    assert el2.hypercall(PTP, 0).signed >= 0
    assert el2.implements(PTP)


def test_features_by_name():
    assert set(machine("kvm-6.12").features()) == {
        *("arch", "psci", "trng", "pvtime", "vendor", "ptp")
    }


@pytest.mark.parametrize(
    ("profile", "name", "says"),
    [
        ("kvm-4.15", "trng", "profile kvm-4.15 has no service trng; it has psci"),
        ("kvm-6.12", "hyperv", "unknown service hyperv; it has psci, arch"),
        ("none", "psci", "it has none"),
    ],
)
def test_unknown_feature(profile, name, says):
    with pytest.raises(PolicyError, match=says) as caught:
        machine(profile).switch_feature(name, on=False)
    assert caught.value.errno == errno.ENOENT


# --- routes ------------------------------------------------------------------------------------


def test_why_and_whence():
    el2 = machine("kvm-6.12")
    assert el2.route(VERSION).why == "service psci"
    assert el2.route(VERSION).function.name == "PSCI_VERSION"
    assert "psci.c" in el2.route(VERSION).source
    assert el2.route(UNKNOWN).why == "no service of kvm-6.12 has 0x86001234"
    assert el2.route(0x8400_0015).why == "psci does not offer SYSTEM_OFF2 here"
    assert machine("none").route(VERSION).why == "none: HVC #0x0 leads to undef"
    assert "compared whole" in machine("qemu-tcg").route(1 << 32).why


def test_declarations_are_found_whatever_the_policy():
    el2 = machine("kvm-6.1")
    el2.set_register("STD_BMAP", 0)
    service, function = el2.find(TRNG_VERSION)
    assert (service.name, function.name) == ("trng", "TRNG_VERSION")
    assert el2.find(UNKNOWN) is None


def test_routes_kept_stay_bounded(monkeypatch):
    monkeypatch.setattr(emu.world.monitor, "MAX_ROUTES", 8)
    el2 = machine()
    for fid in range(100):
        el2.hypercall(fid)
    assert len(el2._routes) <= 8


@settings(max_examples=30)
@given(st.integers(0, ONES), st.sampled_from(list(Conduit)), st.integers(0, 0xFFFF))
def test_routes_are_stable_and_follow_the_policy(x0, conduit, imm):
    el2 = machine("kvm-6.4")
    before = el2.route(x0, conduit, imm)
    assert el2.route(x0, conduit, imm) is before
    fid = x0 & 0xFFFF_FFFF
    if fid & 0xBFFF_0000 == 0x8000_0000 or el2.profile.interface(conduit, imm) != "smccc":
        return
    el2.add_filter(fid, 1, "forward")
    assert "forwards" in el2.route(x0, conduit, imm).why
    el2.policy = Policy()
    assert "forwards" not in el2.route(x0, conduit, imm).why


# --- services of one's own ---------------------------------------------------------------------


class Adder(Service):
    name = "adder"

    @fn(0xC600_0042)
    def add(self, call: Call) -> Ret:
        return Ret.success(call.arg(1) + call.arg(2))


class Claimant(Service):
    name = "claimant"

    @fn(0x8400_0000)
    def mine(self, call: Call) -> Ret:
        return Ret.success()


def test_a_service_of_ones_own():
    el2 = El2("kvm-6.12", FakeHost(), services=[Adder])
    script(el2) << Request(0xC600_0042, (2, 40)) >> (0, 42, 0, 0)
    assert el2.route(0xC600_0042).source == ""


def test_an_identifier_has_one_owner():
    with pytest.raises(ProfileError, match="0x84000000 is claimed by psci and by claimant"):
        El2("kvm-6.12", services=[Claimant])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[services.hyperv]\n", ":1: unknown service hyperv"),
        ("[services.psci]\n\nversoin = 2\n", ":1: service psci has no option versoin"),
        ('[services.psci]\nversion = "2"\n', ":1: option version of service psci"),
    ],
)
def test_a_bad_service_is_named_with_file_and_line(tmp_path, text, says):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=f"bad.toml{says}"):
        El2(str(path))


def test_with_services():
    profile = with_services(load_profile("none"), {"trng": {}})
    assert El2(profile).route(TRNG_VERSION).answer is not None
    profile = with_services(load_profile("kvm-4.15"), {"trng": {}})
    script(El2(profile)) << TRNG_VERSION() >> 0x1_0000


def test_source_is_the_profiles_or_else_the_services(tmp_path):
    path = tmp_path / "bare.toml"
    path.write_text('[hvc]\nother = "smccc"\n[services.psci]\n[services.trng]  # from trng.c\n')
    el2 = machine(str(path))
    assert el2.route(VERSION).source == "DEN0022; linux v6.17 arch/arm64/kvm/psci.c"
    assert el2.route(TRNG_VERSION).source == "from trng.c"


# --- without a machine -------------------------------------------------------------------------


# --- the promise -------------------------------------------------------------------------------

MACHINES = {name: El2(name, FakeHost(4)) for name in PROFILES}
NAMED = sorted({fid for el2 in MACHINES.values() for fid in el2.top.functions})
identifiers = st.integers(0, ONES) | st.sampled_from(NAMED) | st.builds(
    lambda fid, flip: fid ^ 1 << flip, st.sampled_from(NAMED), st.integers(0, 63)
)
registers = st.lists(st.integers(0, ONES) | st.integers(0, 3), min_size=7, max_size=7)


@settings(max_examples=400, deadline=None)
@given(
    identifiers,
    registers,
    st.sampled_from(list(Conduit)),
    st.integers(0, 0xFFFF) | st.just(0),
    st.integers(0, 3),
)
def test_any_call_has_an_answer(x0, args, conduit, imm, vcpu):
    for el2 in MACHINES.values():
        check_answer(el2.hypercall(x0, *args, conduit=conduit, imm=imm, vcpu=vcpu))


def test_the_way_without_a_profile_argument_is_pure():
    call = Call((int(VERSION), *[0] * 7))
    assert MACHINES["kvm-6.17"].answer(call) == MACHINES["kvm-6.17"].answer(call)
