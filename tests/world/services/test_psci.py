"""PSCI as KVM has it, version by version (abi/B §B1–§B5), QEMU's and Xen's (abi/B §B7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base import exits
from emu.base.exits import EventKind
from emu.base.smccc import Ret
from emu.world.monitor import El2, with_services
from emu.world.profile import load_profile
from emu.world.service import MpState
from kit import (
    AFFINITY_INFO,
    AFFINITY_INFO_32,
    ALREADY_ON,
    CPU_OFF,
    CPU_ON,
    CPU_ON_32,
    CPU_SUSPEND,
    CPU_SUSPEND_32,
    DENIED,
    FEATURES,
    INTERNAL_FAILURE,
    INVALID_ADDRESS,
    INVALID_PARAMETERS,
    NOT_SUPPORTED,
    OFF,
    OFF2,
    OFF2_32,
    OFF_0_1,
    ON,
    ON_0_1,
    ONES,
    RESET2,
    RESET2_32,
    SUCCESS,
    SUSPEND_0_1,
    SYSTEM_OFF,
    SYSTEM_RESET,
    SYSTEM_SUSPEND,
    VERSION,
    FakeHost,
    Verb,
    ask,
    machine,
    script,
)

ENTRY, CONTEXT = 0x4010_0000, 0xC0FFEE
SHUTDOWN, RESET, SUSPEND = EventKind.SHUTDOWN, EventKind.RESET, EventKind.SUSPEND
V0_1, V0_2, V1_0, V1_1, V1_2, V1_3 = 0x1, 0x2, 0x1_0000, 0x1_0001, 0x1_0002, 0x1_0003
VERSIONS = (V0_1, V0_2, V1_0, V1_1, V1_2, V1_3)


def psci(version: int = V1_3, host: FakeHost | None = None, **options: object) -> El2:
    """KVM with this PSCI version; the rest of the profile is that of 6.17."""
    base = load_profile("kvm-6.17")
    profile = with_services(base, {"psci": {"version": version, **options}})
    el2 = El2(profile, host or FakeHost())
    values = {**el2.policy.values, "KVM_REG_ARM_PSCI_VERSION": version}
    el2.policy = type(el2.policy)(True, el2.policy.definitions, values)
    return el2


# --- which identifier answers in which version: the table of abi/B §B5 -------------------------

NO = NOT_SUPPORTED
FROM_0_2 = (NO, 0, 0, 0, 0, 0)
DISPATCH = [  # identifiers, answer in 0.1, 0.2, 1.0, 1.1, 1.2, 1.3
    ((0x95C1_BA5F,), (0, NO, NO, NO, NO, NO)),
    ((0x95C1_BA60,), (-2, NO, NO, NO, NO, NO)),
    ((0x95C1_BA5E, 0x95C1_BA61), (NO,) * 6),
    ((0x8400_0000,), (NO, V0_2, V1_0, V1_1, V1_2, V1_3)),
    ((0xC400_0000,), (NO,) * 6),
    ((0x8400_0001, 0xC400_0001), FROM_0_2),
    ((0x8400_0002,), FROM_0_2),
    ((0xC400_0002,), (NO,) * 6),
    ((0x8400_0003, 0xC400_0003), (NO, -4, -4, -4, -4, -4)),
    ((0x8400_0004, 0xC400_0004), FROM_0_2),
    ((0x8400_0005, 0xC400_0005), (NO,) * 6),
    ((0x8400_0006,), (NO, 2, 2, 2, 2, 2)),
    ((0x8400_0007, 0xC400_0007), (NO,) * 6),
    ((0x8400_0008,), (NO, *(SHUTDOWN,) * 5)),
    ((0x8400_0009,), (NO, *(RESET,) * 5)),
    ((0x8400_000A,), (NO, NO, NO, NO, NO, NO)),  # FEATURES(0): there, but 0 is no function
    ((0x8400_000E, 0xC400_000E), (NO,) * 6),  # without KVM_CAP_ARM_SYSTEM_SUSPEND
    ((0x8400_0012, 0xC400_0012), (NO, NO, NO, RESET, RESET, RESET)),
    ((0x8400_0015, 0xC400_0015), (NO, NO, NO, NO, NO, SHUTDOWN)),
    (tuple(0x8400_0000 | n for n in (0xB, 0xC, 0xD, 0xF, 0x10, 0x11, 0x13, 0x14)), (NO,) * 6),
    (tuple(0xC400_0000 | n for n in (0xC, 0xD, 0x10, 0x11, 0x14)), (NO,) * 6),
]


@pytest.mark.parametrize(
    ("fid", "version", "answer"),
    [
        (fid, version, answer)
        for fids, answers in DISPATCH
        for fid in fids
        for version, answer in zip(VERSIONS, answers, strict=True)
    ],
)
def test_dispatch(fid, version, answer):
    script(psci(version)) << Verb(fid)() >> answer


# --- PSCI_FEATURES (abi/B §B5) -----------------------------------------------------------------

ALWAYS = (
    *(0x8400_0000, 0x8400_0001, 0xC400_0001, 0x8400_0002, 0x8400_0003, 0xC400_0003),
    *(0x8400_0004, 0xC400_0004, 0x8400_0006, 0x8400_0008, 0x8400_0009, 0x8400_000A),
    0x8000_0000,
)


@pytest.mark.parametrize("version", [V1_0, V1_1, V1_2, V1_3])
def test_features(version):
    expected = dict.fromkeys(ALWAYS, 0)
    if version >= V1_1:
        expected |= {0x8400_0012: 0, 0xC400_0012: 0}
    if version >= V1_3:
        expected |= {0x8400_0015: 1, 0xC400_0015: 1}  # bit 0: HIBERNATE_OFF
    el2 = psci(version)
    numbers = [base | n for base in (0x8400_0000, 0xC400_0000) for n in range(0x20)]
    for fid in (*numbers, 0x8000_0000, 0x8000_0001, 0x95C1_BA5F, 0x8400_0050, 0x8600_FF01):
        script(el2) << FEATURES(fid) >> expected.get(fid, NO)


def test_features_takes_32_bits():
    script(psci()) << FEATURES(0xFFFF_FFFF_8400_0000) >> 0


def test_features_of_smccc_version_where_there_is_no_smccc():
    profile = with_services(load_profile("kvm-4.15"), {"psci": {"version": V1_0}})
    script(El2(profile)) << FEATURES(0x8000_0000) >> NO


def test_system_suspend_needs_the_capability():
    el2 = psci(system_suspend=True)
    script(el2) << FEATURES(0x8400_000E) >> 0 << FEATURES(0xC400_000E) >> 0
    answer = ask(el2, SYSTEM_SUSPEND(ENTRY, CONTEXT).on(1))
    assert (answer.kind, answer.vcpu, answer.flags) == (SUSPEND, 1, 0)
    # The registers stay, but SMC32's arguments are narrowed in place (recorded from linux 6.1).
    assert answer.ret[0] & 0xFFFF_FFFF == 0xC400_000E
    assert answer.ret[1:3] == (ENTRY, CONTEXT)
    script(psci(V0_2, system_suspend=True)) << SYSTEM_SUSPEND(ENTRY) >> NO


# --- CPU_ON (abi/B §B4) ------------------------------------------------------------------------


def test_cpu_on_once():
    host = FakeHost()
    el2 = psci(host=host)
    script(el2) << CPU_ON(1, ENTRY, CONTEXT) >> SUCCESS << CPU_ON(1, ENTRY) >> ALREADY_ON
    assert host.done == [("on", 1, ENTRY, CONTEXT)]


def test_cpu_on_all_racing_for_one():
    el2 = psci(host=FakeHost(8, running=7))
    answers = [ask(el2, CPU_ON(7, ENTRY).on(vcpu)).signed for vcpu in range(7)]
    assert answers == [SUCCESS] + [ALREADY_ON] * 6


@pytest.mark.parametrize("target", [2, 0x100, 1 << 24, 1 << 31, 1 << 40, (1 << 40) | 1, ONES])
def test_cpu_on_bad_target(target):
    script(psci()) << CPU_ON(target, ENTRY) >> INVALID_PARAMETERS


def test_cpu_on_itself():
    script(psci()) << CPU_ON(0, ENTRY) >> ALREADY_ON


def test_cpu_on_does_not_check_the_entry_point():
    script(psci()) << CPU_ON(1, 0x1) >> SUCCESS


def test_cpu_on_32_narrows_all_three():
    host = FakeHost()
    wide = 0xAAAA_AAAA_0000_0000
    script(psci(host=host)) << CPU_ON_32(wide | 1, wide | ENTRY, wide | CONTEXT) >> SUCCESS
    assert host.done == [("on", 1, ENTRY, CONTEXT)]


def test_cpu_on_by_affinity():
    host = FakeHost(mpidrs=[0x8000_0000, 0x8000_0100, 0x01_8000_0000])
    el2 = psci(host=host)
    script(el2) << CPU_ON(0x100, ENTRY) >> SUCCESS << CPU_ON(0x01_0000_0000, ENTRY) >> SUCCESS
    assert [vcpu for _, vcpu, *_ in host.done] == [1, 2]


def test_version_0_1():
    host = FakeHost(running=2)
    el2 = psci(V0_1, host)
    script(el2) << ON_0_1(1, ENTRY) >> INVALID_PARAMETERS << OFF_0_1().on(1) >> SUCCESS
    script(el2) << ON_0_1(1, ENTRY, ONES) >> SUCCESS
    assert host.done == [("off", 1), ("on", 1, ENTRY, ONES)]
    script(el2) << ON_0_1((1 << 32) | 1, ENTRY) >> INVALID_PARAMETERS


# --- the others --------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [CPU_SUSPEND, CPU_SUSPEND_32])
def test_cpu_suspend_waits_and_succeeds(verb):
    host = FakeHost()
    script(psci(host=host)) << verb(0x1_0000, ENTRY, CONTEXT).on(1) >> SUCCESS
    script(psci(host=host)) << verb(ONES) >> SUCCESS
    assert host.done == [("wait", 1), ("wait", 0)]


def test_cpu_off_stops_the_caller():
    host = FakeHost(running=2)
    script(psci(host=host)) << CPU_OFF(0x1_0000).on(1) >> SUCCESS
    assert host.states == [MpState.RUNNABLE, MpState.STOPPED]


AFFINITIES = [  # target, level, answer with CPUs 0.0 on, 0.1 off, 1.0 off, 1.1 off
    (0x000, 0, ON),
    (0x001, 0, OFF),
    (0x002, 0, INVALID_PARAMETERS),
    (0x000, 1, ON),
    (0x0FF, 1, ON),
    (0x100, 1, OFF),
    (0x200, 1, INVALID_PARAMETERS),
    (0x300, 2, ON),
    (0x1_0000, 2, INVALID_PARAMETERS),
    (0xFF_FFFF, 3, ON),
    (0x01_0000_0000, 3, INVALID_PARAMETERS),
    (0x000, 4, INVALID_PARAMETERS),
    (0x000, ONES, INVALID_PARAMETERS),
    (1 << 31, 0, INVALID_PARAMETERS),  # bits outside MPIDR_HWID_BITMASK
    (1 << 40, 3, INVALID_PARAMETERS),
]


@pytest.mark.parametrize(("target", "level", "answer"), AFFINITIES)
def test_affinity_info(target, level, answer):
    host = FakeHost(mpidrs=[0x8000_0000, 0x8000_0001, 0x8000_0100, 0x8000_0101])
    script(psci(host=host)) << AFFINITY_INFO(target, level) >> answer


def test_affinity_info_32_narrows():
    script(psci()) << AFFINITY_INFO_32((1 << 32) | 1, 1 << 32) >> OFF


@pytest.mark.parametrize("state", list(MpState))
def test_affinity_is_off_only_when_stopped(state):
    host = FakeHost()
    host.states[1] = state
    script(psci(host=host)) << AFFINITY_INFO(1, 0) >> (OFF if state is MpState.STOPPED else ON)


@pytest.mark.parametrize(
    ("request_", "kind", "flags", "ret"),
    [
        (SYSTEM_OFF(), SHUTDOWN, 0, Ret.value(INTERNAL_FAILURE)),
        (SYSTEM_RESET(), RESET, 0, Ret.value(INTERNAL_FAILURE)),
        (OFF2(0, 0), SHUTDOWN, 1, Ret.value(INTERNAL_FAILURE)),
        (OFF2(1, 0), SHUTDOWN, 1, Ret.value(INTERNAL_FAILURE)),
        (OFF2(1 << 32, 0), SHUTDOWN, 1, Ret.value(INTERNAL_FAILURE)),  # the type has 32 bits
        (RESET2(0, 7, 8), RESET, 1, Ret.only(INTERNAL_FAILURE, 0, 7, 8)),
        (RESET2(0x8000_0001), RESET, 1, Ret.only(INTERNAL_FAILURE, 0x8000_0001, 0, 0)),
        (RESET2_32(0, ONES), RESET, 1, Ret.only(INTERNAL_FAILURE, 0, 0xFFFF_FFFF, 0)),
    ],
)
def test_system_events(request_, kind, flags, ret):
    host = FakeHost(3, running=2)
    answer = ask(psci(host=host), request_.on(1))
    assert isinstance(answer, exits.SystemEvent)
    assert (answer.kind, answer.flags, answer.vcpu, answer.ret) == (kind, flags, 1, ret)
    assert set(host.states) == {MpState.STOPPED}, "no vCPU runs on"


@pytest.mark.parametrize(
    "request_",
    [RESET2(1), RESET2(0x7FFF_FFFF), OFF2(2), OFF2(0, 1), OFF2(1, 1 << 32), OFF2_32(2)],
)
def test_system_events_refused(request_):
    host = FakeHost()
    script(psci(host=host)) << request_ >> INVALID_PARAMETERS
    assert host.done == []


def test_off2_32_ignores_the_upper_half_of_the_cookie():
    script(psci()) << OFF2_32(1, 1 << 32) >> SHUTDOWN


# --- the kernels that ship ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "version"),
    [
        ("kvm-4.15", V0_2),
        ("kvm-5.17", V1_0),
        ("kvm-6.1", V1_1),
        ("kvm-6.4", V1_1),
        ("kvm-6.12", V1_1),
        ("kvm-6.17", V1_3),
    ],
)
def test_newest_version_of_a_kernel(profile, version):
    script(machine(profile)) << VERSION() >> version


def test_version_register():
    el2 = machine("kvm-6.17")
    el2.set_register("PSCI_VERSION", V0_2)
    script(el2) << VERSION() >> V0_2 << FEATURES(0x8400_0000) >> NO


# --- QEMU's own, abi/B §B7 ---------------------------------------------------------------------


def qemu(host: FakeHost | None = None) -> El2:
    return machine("qemu-tcg", host)


def test_qemu_has_the_old_identifiers_too():
    host = FakeHost()
    script(qemu(host)) << ON_0_1(1, ENTRY) >> SUCCESS << ON_0_1(1, ENTRY) >> ALREADY_ON
    script(qemu(host)) << SUSPEND_0_1(0) >> SUCCESS << OFF_0_1().on(1) >> SUCCESS
    assert host.done == [("on", 1, ENTRY, 0), ("wait", 0), ("off", 1)]


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (VERSION(), V1_1),
        (CPU_SUSPEND(0x1_FFFF), SUCCESS),
        (CPU_SUSPEND(0x2_0000), INVALID_PARAMETERS),
        (CPU_ON(1, 2), INVALID_PARAMETERS),  # alignment before target
        (CPU_ON(9, ENTRY), INVALID_PARAMETERS),
        (CPU_ON_32((1 << 32) | 1, ENTRY), INVALID_PARAMETERS),  # 64 bits in either width
        (AFFINITY_INFO(9, 1), ON),
        (AFFINITY_INFO(9, 0), INVALID_PARAMETERS),
        (AFFINITY_INFO(1, 0), OFF),
        (RESET2(0), NO),
        (FEATURES(0x8400_0012), NO),
        (FEATURES(0x8000_0000), NO),
        (FEATURES(0x95C1_BA5E), 0),
        (FEATURES(0x95C1_BA60), 0),
        (FEATURES(0x95C1_BA61), NO),
        (FEATURES(0x8400_0003), 0),
        (FEATURES((1 << 32) | 0x8400_0003), NO),
        (SYSTEM_OFF(), SHUTDOWN),
    ],
)
def test_qemu(request_, answer):
    script(qemu()) << request_ >> answer


# --- Xen's, vpsci.c of xen 4.22 ----------------------------------------------------------------

OFF_NUMBER, ON_NUMBER = Verb(1), Verb(2)  # include/public/arch-arm.h
XEN_FEATURES = (*ALWAYS, 0x8400_000E, 0xC400_000E)
HIGH = 0xAAAA_AAAA_0000_0000


def xen(host: FakeHost | None = None) -> El2:
    return machine("xen", host)


def test_xen_features():
    numbers = [base | n for base in (0, 0x8400_0000, 0xC400_0000) for n in range(0x20)]
    for fid in (*numbers, 0x8000_0000, 0x8000_0001, 0x95C1_BA5F, 0x8400_FF01, 0x8600_FF01):
        script(xen()) << FEATURES(fid) >> (0 if fid in XEN_FEATURES else NO)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (VERSION(), V1_1),
        (Verb(0xC400_0000)(), NO),
        (Verb(0x8400_0006)(), 2),
        (CPU_SUSPEND(0xFFFF_FFFF), SUCCESS),
        (CPU_ON(4, ENTRY), INVALID_PARAMETERS),
        (CPU_ON(4, 1), INVALID_PARAMETERS),  # the target before the entry point
        (CPU_ON(0, 1), INVALID_ADDRESS),  # the entry point before the state
        (CPU_ON(1, 2), SUCCESS),  # bit 0 alone: Thumb
        (CPU_ON(0, ENTRY), ALREADY_ON),
        (CPU_ON(0xFE_0000_0000, ENTRY), ALREADY_ON),  # Aff3 and Aff2 are not looked at
        (CPU_ON((1 << 63) | 0x7F_0001, ENTRY), SUCCESS),
        (CPU_ON_32(HIGH | 1, HIGH | ENTRY), SUCCESS),
        (CPU_ON(0x100, ENTRY), INVALID_PARAMETERS),  # Aff1 counts sixteens
        (RESET2(0), NO),
        (OFF2(0), NO),
        (ON_0_1(1, ENTRY), NO),
        (OFF_0_1(), NO),
        (SUSPEND_0_1(), NO),
        (Verb(0)(), NO),
        (Verb(3)(1), NO),
        (ON_NUMBER(1, ENTRY), SUCCESS),
        (ON_NUMBER(HIGH | 1, ENTRY), SUCCESS),  # 32 bits of the target
        (ON_NUMBER(0, ENTRY), INVALID_PARAMETERS),  # 0.1 has no ALREADY_ON
        (ON_NUMBER(1, 1), INVALID_PARAMETERS),  # and no INVALID_ADDRESS
        (ON_NUMBER(9, ENTRY), INVALID_PARAMETERS),
        (ON_NUMBER(3, ENTRY), DENIED),
        (OFF_NUMBER(), SUCCESS),
        (SYSTEM_OFF(), SHUTDOWN),
        (SYSTEM_RESET(), RESET),
    ],
)
def test_xen(request_, answer):
    script(xen(FakeHost(4, refused=(3,)))) << request_ >> answer


def test_xen_numbers_targets_by_sixteens():
    host = FakeHost(20)
    script(xen(host)) << CPU_ON(0x103, ENTRY, CONTEXT) >> SUCCESS << CPU_ON(0x12, ENTRY) >> SUCCESS
    assert host.done == [("on", 19, ENTRY, CONTEXT), ("on", 18, ENTRY, 0)]


def test_xen_0_1_takes_the_whole_entry_point_and_no_context():
    host = FakeHost()
    script(xen(host)) << ON_NUMBER(1, HIGH, CONTEXT) >> SUCCESS << OFF_NUMBER().on(1) >> SUCCESS
    assert host.done == [("on", 1, HIGH, 0), ("off", 1)]


XEN_AFFINITIES = {  # where it differs from AFFINITIES; no match, a stray bit, 32 bits of the level
    (0x002, 0): OFF,
    (0x200, 1): OFF,
    (0x1_0000, 2): OFF,
    (0x01_0000_0000, 3): OFF,
    (1 << 31, 0): ON,
    (1 << 40, 3): ON,
    (0x000, 1 << 32): ON,
}


@pytest.mark.parametrize(
    ("target", "level", "answer"),
    [
        *((target, level, answer) for (target, level), answer in XEN_AFFINITIES.items()),
        *(row for row in AFFINITIES if row[:2] not in XEN_AFFINITIES),
    ],
)
def test_xen_affinity_info(target, level, answer):
    host = FakeHost(mpidrs=[0x8000_0000, 0x8000_0001, 0x8000_0100, 0x8000_0101])
    script(xen(host)) << AFFINITY_INFO(target, level) >> answer


def test_xen_system_suspend():
    script(xen()) << SYSTEM_SUSPEND(ENTRY, CONTEXT) >> SUSPEND
    script(xen()) << SYSTEM_SUSPEND(ENTRY | 1) >> INVALID_ADDRESS
    both = xen(FakeHost(running=2))
    script(both) << SYSTEM_SUSPEND(ENTRY) >> DENIED << SYSTEM_SUSPEND(1) >> INVALID_ADDRESS
    script(both) << CPU_OFF().on(1) >> SUCCESS << SYSTEM_SUSPEND(ENTRY) >> SUSPEND


def test_xens_numbers_mean_nothing_elsewhere():
    for profile in ("kvm-4.15", "kvm-6.17", "qemu-tcg"):
        script(machine(profile)) << ON_NUMBER(1, ENTRY) >> NO << OFF_NUMBER() >> NO


# --- properties --------------------------------------------------------------------------------

wide = st.integers(0, ONES) | st.integers(0, 4)


@given(wide, wide, wide, st.sampled_from(VERSIONS))
def test_cpu_on_starts_at_most_the_target(target, entry, context, version):
    host = FakeHost(4)
    for verb in (CPU_ON, CPU_ON_32, ON_0_1):
        answer = ask(psci(version, host), verb(target, entry, context))
        assert answer[0] in {SUCCESS, *(ONES & -n for n in (1, 2, 4))}
    assert all(effect[0] == "on" for effect in host.done)
    assert len(host.done) <= 1
