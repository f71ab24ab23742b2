"""One guest in one world: the same setup gives the same outcome, whatever the guest does."""

from __future__ import annotations

import pickle

import pytest

from emu.base.endings import Ending
from emu.base.errors import EmuError
from emu.judge import trial
from emu.judge.trial import MAX_CALLS, MAX_OUTPUT, Setup, attempt, build
from engine_kit import WFI, b, hlt, hvc, mov, str_w
from guest_kit import elf_of
from kit import PROFILES
from places import GUESTS

UART, VERSION = 0x0900_0000, 0x8400_0000


def setup(guest: str, **options) -> Setup:
    return Setup(str(GUESTS / f"{guest}.elf"), **options)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_same_setup_gives_the_same_outcome(profile):
    world = setup("smccc_discover", profile=profile, cpus=2)
    first, second = attempt(world), attempt(pickle.loads(pickle.dumps(world)))
    assert first._replace(seconds=0) == second._replace(seconds=0)
    assert pickle.loads(pickle.dumps(first)) == first
    assert first.total_calls == len(first.calls)
    assert first.healthy == (profile != "none")


def test_a_setup_is_what_run_would_take():
    world = setup(
        "smccc_discover", services=(("trng", False),), registers=(("PSCI_VERSION", 0x1_0000),),
        deny=((0x8600_FF01, 1),), memory=32 << 20, core="cortex-a53", append="quiet",
    )  # fmt: skip
    vm = build(world)
    assert (vm.ram.size, vm.engine.core) == (32 << 20, "cortex-a53")
    outcome = attempt(world)
    results = {line.call: line.result for line in outcome.calls}
    assert results["PSCI_VERSION()"] == "0x10000 (version 1.0)"
    assert results["TRNG_VERSION()"] == "NOT_SUPPORTED (-1)"
    assert results["VENDOR_HYP_CALL_UID()"] == "NOT_SUPPORTED (-1)"


def test_conduit_overrides_the_profile():
    outcome = attempt(setup("hello", conduit="smc"))
    assert [line.by for line in outcome.calls] == ["smc"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"profile": "kvm-9.9"}, "kvm-9.9"),
        ({"core": "cortex-m0"}, "no core 'cortex-m0'"),
        ({"services": (("trng", True), ("nothing", True))}, "nothing"),
        ({"cpus": 0}, "--cpus 0"),
        ({"registers": (("NO_SUCH", 1),)}, "NO_SUCH"),
    ],
)
def test_the_users_mistake_is_an_error(options, says):
    with pytest.raises(EmuError, match=says):
        attempt(setup("hello", **options))


@pytest.mark.parametrize(
    ("words", "ending", "status"),
    [
        ([b(0)], Ending.LIMIT, 124),
        ([WFI, b(-1)], Ending.IDLE, 122),
        ([hlt(1)], Ending.FAULT, 121),
        ([*mov(1, UART), *mov(0, ord("x")), str_w(0, 1), b(-1)], Ending.FLOOD, 124),
    ],
)
def test_a_bad_guest_costs_its_own_trial(tmp_path, words, ending, status):
    world = Setup(elf_of(tmp_path, *words), cycles=20_000_000)
    outcome = attempt(world)
    assert (outcome.ending, outcome.status) == (ending, status)
    assert not outcome.healthy
    assert len(outcome.console) <= MAX_OUTPUT
    again = attempt(world)
    assert again._replace(seconds=0) == outcome._replace(seconds=0)


def test_host_time_is_a_limit(tmp_path):
    outcome = attempt(Setup(elf_of(tmp_path, b(0)), cycles=None, seconds=0.05))
    assert outcome.ending is Ending.LIMIT


def test_a_guest_that_calls_for_ever_costs_no_memory(tmp_path):
    words = [*mov(5, VERSION), 0xAA05_03E0, hvc(), b(-2)]  # mov x0, x5
    outcome = attempt(Setup(elf_of(tmp_path, *words), cycles=60_000))
    assert len(outcome.calls) == MAX_CALLS < outcome.total_calls
    assert outcome.calls[0].call == "PSCI_VERSION()"


def test_a_forwarded_call_nobody_answers(tmp_path):
    words = [*mov(0, VERSION), hvc(), 0xD45E_0000]
    vm = build(Setup(elf_of(tmp_path, *words)))
    vm.filter(VERSION, action="forward")
    exit, flooded = trial.run_within(vm, 60, 100)
    assert not flooded
    assert vm.stats().calls == 1
    assert exit is not None
    assert vm.engine.get("X0") != VERSION


def test_enough_is_enough(tmp_path):
    vm = build(Setup(elf_of(tmp_path, b(0))))
    exit, _ = trial.run_within(vm, 60, None, lambda: vm.clock.cycles > 5_000_000)
    assert 5_000_000 < exit.cycles < 10_000_000
