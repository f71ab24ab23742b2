"""Mutations: which there are, and what each does to an answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.exits import SystemEvent
from emu.base.smccc import MASK64, UNDEF, Call, Ret, uuid_text
from emu.judge.faults import (
    EVERY,
    LATE_CYCLES,
    NEUTRAL,
    OTHER_UID,
    POISON,
    REPLACED,
    Injector,
    Mutation,
    choose,
    mutations,
)
from emu.machine.instrument import CallRecord
from emu.world.monitor import El2
from kit import (
    ARCH_FEATURES,
    CPU_ON,
    FEATURES,
    PV_ST,
    RND64,
    SMCCC_VERSION,
    SYSTEM_OFF,
    VENDOR_UID,
    VERSION,
    WORKAROUND_1,
    FakeHost,
    Request,
)

LIFE = (
    VERSION(), FEATURES(SMCCC_VERSION), SMCCC_VERSION(), ARCH_FEATURES(WORKAROUND_1), VERSION(),
    VENDOR_UID(), RND64(64), PV_ST(), CPU_ON(1, 0x4000_0000, 7), SYSTEM_OFF(),
)  # fmt: skip
ONES = MASK64


def made(request: Request) -> Call:
    return Call((request.fid, *request.args, *(0,) * (7 - len(request.args))))


def trace(*life: Request) -> list[CallRecord]:
    el2 = El2("kvm-6.17", FakeHost(2))
    return [CallRecord(0, 0, 0, call, el2.answer(call), "", "") for call in map(made, life)]


def answered(mutation: Mutation, *life: Request, vm: object = None) -> list[object]:
    """What a guest gets back, call by call."""
    el2 = El2("kvm-6.17", FakeHost(2))
    injector = Injector(mutation, vm)
    return [injector(made(request), el2.answer) for request in life]


def test_every_kind_has_its_place():
    found = mutations(trace(*LIFE))
    assert len(found) == len(set(found))
    kinds = {mutation.kind for mutation in found}
    assert kinds == {*REPLACED, *NEUTRAL, "flip", "cpu-late", "revision"}
    names = [str(mutation) for mutation in found]
    assert len(names) == len(set(names))
    for name in (
        "PSCI_VERSION not-supported", "PSCI_VERSION not-supported #2", "PSCI_VERSION poison",
        "PSCI_FEATURES(SMCCC_VERSION) flip x0 bit 31", "SYSTEM_OFF zero", "CPU_ON denied",
        "CPU_ON cpu-late", "VENDOR_HYP_CALL_UID other-uid", "PV_TIME_ST revision",
        "TRNG_RND64 no-entropy", "every call undefined", "every call not-supported",
    ):  # fmt: skip
        assert name in names
    # What would be a lie within the convention, or none at all.
    for name in (
        "SMCCC_ARCH_FEATURES(SMCCC_ARCH_WORKAROUND_1) poison", "TRNG_RND64 unused",
        "TRNG_RND64 wide", "VENDOR_HYP_CALL_UID wide", "CPU_ON wide", "SYSTEM_OFF late",
        "SMCCC_VERSION not-supported #1",
    ):  # fmt: skip
        assert name not in names


@pytest.mark.parametrize(
    ("kind", "bit", "answer"),
    [
        ("not-supported", 0, (ONES, 0, 0, 0)), ("invalid", 0, (ONES - 1, 0, 0, 0)),
        ("zero", 0, (0, 0, 0, 0)), ("ones", 0, (ONES,) * 4), ("undefined", 0, UNDEF),
        ("flip", 4, (0x1_0013, 0, 0, 0)), ("flip", 63, (1 << 63 | 0x1_0003, 0, 0, 0)),
        ("flip", 64, (0x1_0003, 1, 0, 0)), ("flip", 3 * 64 + 1, (0x1_0003, 0, 0, 2)),
        ("wide", 0, (POISON >> 32 << 32 | 0x1_0003, 0, 0, 0)),
        ("unused", 0, (0x1_0003, POISON + 1, POISON + 2, POISON + 3)),
        ("poison", 0, (0x1_0003, 0, 0, 0, *(POISON + n for n in range(4, 18)))),
    ],
)  # fmt: skip
def test_what_is_done_to_an_answer(kind, bit, answer):
    plain, first, second = answered(
        Mutation(kind, VERSION, turn=1, bit=bit), SMCCC_VERSION(), VERSION(), VERSION()
    )
    assert first == answer
    assert plain == Ret.value(0x1_0001)
    assert second == Ret.value(0x1_0003), "only the turn it was asked for"
    every = answered(Mutation(kind, VERSION, bit=bit), VERSION(), VERSION())
    assert every == [answer, answer]


def test_a_negative_answer_is_widened_by_zeros():
    (answer,) = answered(Mutation("wide", FEATURES, about=0x8400_0033), FEATURES(0x8400_0033))
    assert answer == (0xFFFF_FFFF, 0, 0, 0)


def test_what_a_features_call_asks_about_counts():
    life = FEATURES(SMCCC_VERSION), FEATURES(CPU_ON)
    assert answered(Mutation("ones", FEATURES, about=CPU_ON), *life) == [
        Ret.value(0), (ONES,) * 4
    ]  # fmt: skip


def test_nobody_there_at_all():
    for kind, answer in (("undefined", UNDEF), ("not-supported", Ret.value(-1))):
        assert answered(Mutation(kind, EVERY), *LIFE) == [answer] * len(LIFE)


def test_a_refused_call_has_no_effect():
    host = FakeHost(2)
    el2 = El2("kvm-6.17", host)
    injector = Injector(Mutation("denied", CPU_ON), None)
    assert injector(made(CPU_ON(1, 0x4000_0000, 0)), el2.answer) == Ret.value(-3)
    assert host.done == []
    injector = Injector(Mutation("not-supported", SYSTEM_OFF), None)
    assert injector(made(SYSTEM_OFF()), el2.answer) == Ret.value(-1)
    assert isinstance(el2.answer(made(SYSTEM_OFF())), SystemEvent)


def test_another_vendor():
    (answer,) = answered(Mutation("other-uid", VENDOR_UID), VENDOR_UID())
    assert uuid_text(answer) == OTHER_UID


def test_late_takes_time_and_a_record_another_revision():
    host = FakeHost(2)
    writes: list[tuple[int, bytes]] = []
    vm = SimpleNamespace(
        clock=host.clock,
        engine=SimpleNamespace(write_data=lambda at, data: writes.append((at, data))),
    )
    late = Injector(Mutation("late", VERSION), vm)
    el2 = El2("kvm-6.17", host)
    assert late(made(VERSION()), el2.answer) == Ret.value(0x1_0003)
    assert host.clock.cycles == LATE_CYCLES == late.delay
    revision = Injector(Mutation("revision", PV_ST), vm)
    answer = revision(made(PV_ST()), el2.answer)
    assert writes == [(answer.x0, b"\1\0\0\0")]


@given(budget=st.integers(1, 400), seed=st.integers(0, 5))
def test_a_budget_is_kept_and_a_seed_decides(budget, seed):
    everything = mutations(trace(*LIFE))
    chosen = choose(everything, budget, seed)
    assert len(chosen) == budget == len(set(chosen))
    assert chosen == choose(everything, budget, seed)
    if budget >= len(everything):
        assert chosen[: len(everything)] == everything
    assert choose(everything, None, seed) == everything


def test_nothing_to_flip_gives_no_more():
    only = [Mutation("undefined", VERSION)]
    assert choose(only, 5, 0) == only
