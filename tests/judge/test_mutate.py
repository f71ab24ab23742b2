"""Mutants of whole guests: the judge's classes, and scores that do not move."""

from __future__ import annotations

import pytest

from emu.base.endings import Ending
from emu.base.errors import EmuError
from emu.judge.faults import Mutation, choose, mutations
from emu.judge.mutate import (
    COPED,
    Class,
    Observation,
    counts,
    judge,
    observe,
    prepare,
    run_mutant,
    score,
    survivors,
)
from emu.judge.trial import Setup, attempt
from engine_kit import halves
from places import GUESTS

VERSION, SYSTEM_OFF, CPU_ON = 0x8400_0000, 0x8400_0008, 0xC400_0003
PSCI_FEATURES, SMCCC_VERSION, UID = 0x8400_000A, 0x8000_0000, 0x8600_FF01
PV_TIME_ST = 0xC500_0021


def setup(guest: str, **options) -> Setup:
    return Setup(str(GUESTS / f"{guest}.elf"), **options)


@pytest.fixture(scope="module")
def discover():
    return prepare(setup("smccc_discover"))


def test_the_reference_is_the_guests_own_run(discover):
    own = attempt(setup("smccc_discover"))
    seen = discover.reference
    assert (seen.console, seen.ending, seen.cycles) == (own.console, own.ending, own.cycles)
    assert len(seen.calls) == own.total_calls
    assert observe(discover, None) == seen


def test_smccc_discover_copes_with_everything(discover):
    results = [run_mutant(discover, m) for m in mutations(discover.trace)]
    assert survivors(results) == []
    assert score(results) == 1.0
    assert sum(number for _, number in counts(results)) == len(results) > 300


def test_probe_blind_does_not():
    subject = prepare(setup("probe_blind"))
    results = {str(m): run_mutant(subject, m) for m in mutations(subject.trace)}
    assert len(subject.reference.verdicts) > 10, "its sins without any fault"
    lost = results["SMCCC_VERSION not-supported"]
    assert lost.verdict is Class.WRONG
    assert lost.why.startswith("error-used-as-version: ")
    assert 0.5 < score(list(results.values())) < 1.0


@pytest.mark.parametrize(
    ("guest", "cpus", "mutation", "verdict"),
    [
        ("smccc_discover", 1, Mutation("poison", VERSION), Class.UNAFFECTED),
        ("smccc_discover", 1, Mutation("late", VERSION), Class.UNAFFECTED),
        ("smccc_discover", 1, Mutation("zero", VERSION), Class.DEGRADED),
        ("smccc_discover", 1, Mutation("undefined", VERSION), Class.DEGRADED),
        ("smccc_discover", 1, Mutation("not-supported", SYSTEM_OFF), Class.DEGRADED),
        ("smccc_discover", 1, Mutation("other-uid", UID), Class.DEGRADED),
        ("smccc_discover", 1, Mutation("invalid", PSCI_FEATURES, SMCCC_VERSION), Class.DEGRADED),
        ("psci_cpu_on", 2, Mutation("zero", CPU_ON, turn=3), Class.HANG),
        ("psci_cpu_on", 2, Mutation("denied", CPU_ON, turn=2), Class.DEGRADED),
        ("psci_cpu_on", 2, Mutation("cpu-late", CPU_ON), Class.UNAFFECTED),
        ("stolen_time", 1, Mutation("flip", PV_TIME_ST, bit=63), Class.CRASH),
        ("stolen_time", 1, Mutation("revision", PV_TIME_ST), Class.WRONG),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_guest_makes_of_it(guest, cpus, mutation, verdict):
    subject = prepare(setup(guest, cpus=cpus))
    result = run_mutant(subject, mutation)
    assert (result.verdict, result.mutant) == (verdict, str(mutation)), result


@halves
def test_the_same_in_either_half_and_every_time(native, monkeypatch):
    monkeypatch.setenv("HVCEMU_NATIVE", str(int(native)))
    subject = prepare(setup("trng"))
    chosen = choose(mutations(subject.trace), 25, 3)
    first = [run_mutant(subject, mutation) for mutation in chosen]
    assert first == [run_mutant(subject, mutation) for mutation in chosen]
    monkeypatch.setenv("HVCEMU_NATIVE", "1")
    other = prepare(setup("trng"))
    assert first == [run_mutant(other, mutation) for mutation in chosen]


def test_a_guest_without_calls_cannot_be_mutated():
    with pytest.raises(EmuError, match=r"semihosting.elf makes no call under kvm-6.12"):
        prepare(setup("semihosting"))


SEEN = Observation(Ending.OFF, 0, "SHUTDOWN", "one\ntwo\n", (VERSION,),
                   frozenset((VERSION,)), frozenset(), False, (), 100)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "changes", "verdict", "why"),
    [
        ("zero", {}, Class.UNAFFECTED, ""),
        ("zero", {"console": "one\n"}, Class.DEGRADED, "no longer says 'two'"),
        ("zero", {"console": "one\nZwei\n"}, Class.DEGRADED, "says 'Zwei'"),
        ("poison", {"console": "one\nZwei\n"}, Class.WRONG, "says 'Zwei'"),
        ("late", {"console": "one\nZwei\n"}, Class.UNAFFECTED, ""),
        ("late", {"functions": frozenset()}, Class.WRONG, "calls differ in PSCI_VERSION"),
        ("zero", {"calls": ()}, Class.DEGRADED, "makes 0 calls, not 1"),
        ("zero", {"ending": Ending.IDLE, "status": 122, "detail": ""}, Class.HANG, "idle"),
        ("zero", {"ending": Ending.FLOOD, "status": 124}, Class.HANG, "flood SHUTDOWN"),
        ("zero", {"ending": Ending.FAULT, "status": 121, "detail": "storm"}, Class.CRASH,
         "fault storm"),
        ("zero", {"ending": Ending.EXIT, "status": 70, "detail": "70", "died": True},
         Class.CRASH, "exit 70"),
        ("undefined", {"ending": Ending.EXIT, "status": 70, "console": "UNDEF", "died": True},
         Class.DEGRADED, "reports the exception"),
        ("zero", {"ending": Ending.EXIT, "status": 1, "detail": "1"}, Class.DEGRADED,
         "ends with exit 1, status 1"),
        ("zero", {"console": "[    0.000001] one\ntwo\n"}, Class.DEGRADED, None),
    ],
)  # fmt: skip
def test_the_judge(kind, changes, verdict, why):
    found, reason = judge(Mutation(kind, VERSION), SEEN._replace(**changes), SEEN)
    assert found is verdict
    assert why is None or reason == why


def test_a_kernels_time_stamps_are_no_difference():
    kernel = SEEN._replace(console="[    0.000000] booting\n")
    late = SEEN._replace(console="[    0.000123] booting\n")
    assert judge(Mutation("zero", VERSION), late, kernel) == (Class.UNAFFECTED, "")


def test_scores():
    assert score([]) == 1.0
    assert set(COPED) == {Class.UNAFFECTED, Class.DEGRADED}
