"""Whose turn it is: slices, sleep and stolen time, and that a run is the same however it is cut."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emu.arm.timers import VIRTUAL
from emu.base import exits
from emu.machine.scheduler import SLICE
from emu.machine.vm import Vm
from emu.world.service import MpState, Service
from emu.world.services.pvtime import RECORDS
from engine_kit import (
    NE,
    NOP,
    WFI,
    add,
    b,
    b_if,
    halves,
    mov,
    movz,
    subs,
)
from guest_kit import (
    CONTEXT,
    CPU_OFF,
    CPU_ON,
    CPU_SUSPEND,
    FAST,
    SECOND,
    call,
    summary,
    two,
)
from kit import Watch
from places import GUESTS

PV_TIME_ST, SYSTEM_OFF = 0xC500_0021, 0x8400_0008

# -- one vCPU ------------------------------------------------------------------------------------


def test_dead_idle_stays_dead(build):
    vm = build(NOP, WFI)
    assert isinstance(vm.run(), exits.Wfi)
    assert isinstance(vm.run(), exits.Wfi)
    assert isinstance(vm.run(0), exits.Wfi)
    assert vm.stats().instructions == 2


@pytest.mark.parametrize("fid", [CPU_OFF, CPU_SUSPEND])
def test_last_cpu_goes(build, fid):
    vm = build(call(fid), movz(5, 1), WFI)
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.get("X5") == 0


def test_cpu_suspend_comes_back_with_success(build):
    vm = build(call(CPU_SUSPEND), movz(5, 1), WFI)
    vm.run()
    vm.machine.vcpus[0].waiting = False
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.arguments(1) == (0,)
    assert vm.engine.get("X5") == 1


def test_deadline_exits(build):
    vm = build(NOP, NOP, NOP, b(-3))
    for cycles in (0, 1, 4, 1000, 3):
        before = vm.stats().cycles
        exit = vm.run(cycles)
        assert isinstance(exit, exits.Deadline)
        assert exit.cycles == vm.stats().cycles
        assert 0 <= exit.cycles - before - cycles < 4
    assert isinstance(vm.run(-5), exits.Deadline)


def test_limit_beyond_all_time(build):
    assert isinstance(build(NOP, WFI).run(1 << 64), exits.Wfi)


# -- several vCPUs ----------------------------------------------------------------------------

@halves
def test_cpu_on_resets_the_other(build, native):
    vm = build(two([WFI], [WFI]), cpus=2, native=native)
    exit = vm.run()
    assert isinstance(exit, exits.Wfi)
    assert exit.vcpu == 1
    assert vm.engine.arguments(31) == (CONTEXT, *[0] * 30)
    assert vm.engine.get("PC") == SECOND + 4
    assert vm.engine.get("PSTATE") & 0x3DF == 0x3C5
    assert vm.engine.get("SCTLR_EL1") == 0x00C5_0838
    assert vm.engine.get("VMPIDR_EL2") == 0x8000_0001
    assert vm.engine.get("VBAR_EL1") == vm.engine.get("SP") == 0


def test_cpu_that_was_off_starts_afresh(build):
    """On, off, on: the second life knows nothing of the first."""
    wait = [*mov(9, 40_000), subs(9, 9, 1), b_if(NE, -1)]
    first = [*wait, *call(CPU_ON, 1, SECOND + 8, 7), WFI]
    second = [movz(7, 1), b(2), WFI, *call(CPU_OFF), WFI]
    vm = build(two(first, second), cpus=2)
    exit = vm.run()
    assert isinstance(exit, exits.Wfi)
    assert exit.vcpu == 1
    assert vm.engine.get("PC") == SECOND + 12
    assert vm.engine.get("X0") == 7
    assert vm.engine.get("X7") == 0


def test_all_off(build):
    vm = build(two(call(CPU_OFF), call(CPU_OFF)), cpus=2)
    assert isinstance(vm.run(), exits.Wfi)
    assert {vcpu.state for vcpu in vm.machine.vcpus} == {MpState.STOPPED}


SPIN = [add(5, 5, 1), NOP, NOP, b(-3)]


def test_turns_are_slices(build):
    vm = build(two(SPIN, SPIN), cpus=2)
    turns = []
    enter = vm.scheduler.enter

    def noted(vcpu):
        turns.append((vm.stats().cycles, vcpu.index))
        enter(vcpu)

    vm.scheduler.enter = noted
    vm.run(20 * SLICE)
    assert [index for _, index in turns[:6]] == [1, 0, 1, 0, 1, 0]
    gaps = [later - sooner for (sooner, _), (later, _) in itertools.pairwise(turns)]
    assert len(turns) > 15
    assert all(SLICE <= gap < SLICE + 4 for gap in gaps)


def test_stolen_time_is_what_the_others_ran(build):
    first = [*call(PV_TIME_ST), *SPIN]
    second = [*call(PV_TIME_ST), *SPIN]
    vm = build(two(first, second), cpus=2)
    vm.run(20 * SLICE)
    zero, one = vm.machine.vcpus
    assert zero.stolen + one.stolen == pytest.approx(vm.stats().cycles, abs=2 * SLICE)
    assert abs(zero.stolen - one.stolen) <= 2 * SLICE
    starts = vm.el2.services["pvtime"].state.starts
    for vcpu in (zero, one):
        record = vm.engine.read(RECORDS.base + 64 * vcpu.index, 64)
        published = struct.unpack_from("<Q", record, 8)[0]
        assert record[:8] == bytes(8)
        assert 0 < published <= vcpu.stolen - starts[vcpu.index]


def test_a_sleeper_is_not_robbed(build):
    vm = build(two(SPIN, [WFI]), cpus=2)
    vm.run(10 * SLICE)
    assert vm.machine.vcpus[1].stolen < 2 * SLICE
    assert vm.machine.vcpus[0].stolen < SLICE


def test_a_machine_runs_the_same_again():
    def once():
        watch = Watch()
        vm = Vm(GUESTS / "psci_cpu_on.elf", cpus=4, seed=3, instruments=[watch], native=FAST)
        exit = vm.run()
        return exit, summary(vm, watch)

    assert once() == once()


def alone_then_two() -> list[int]:
    """Alone for several slices, then two, then alone again: every kind of turn."""
    count = [*mov(9, 12_345), subs(9, 9, 1), b_if(NE, -1)]
    second = [*call(PV_TIME_ST), *count, *call(CPU_OFF)]
    head = [*count, *call(CPU_ON, 1, SECOND, 0), *call(PV_TIME_ST), *count, *count, *count,
            *call(SYSTEM_OFF)]  # fmt: skip
    return [*head, *[NOP] * (0x100 - len(head)), *second]


def cut_run(make, cuts: list[int]):
    watch = Watch()
    vm = make(watch)
    ends = [exit for cycles in cuts if not isinstance(exit := vm.run(cycles), exits.Deadline)]
    exit = ends[0] if ends else vm.run()
    return exit, summary(vm, watch)


CUTS = st.lists(
    st.one_of(st.integers(0, 30_000), st.integers(9_990, 10_010)), min_size=1, max_size=12
)
many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@many
@given(cuts=CUTS)
def test_cuts_change_nothing_for_two(build, cuts):
    def make(watch):
        return build(alone_then_two(), cpus=2, instruments=[watch])

    if not hasattr(build, "uncut"):
        build.uncut = cut_run(make, [])
    assert isinstance(build.uncut[0], exits.SystemEvent)
    found = cut_run_until_over(make, cuts)
    assert found == build.uncut


def cut_run_until_over(make, cuts: list[int]):
    """Like cut_run, but stops cutting when the machine is over."""
    watch = Watch()
    vm = make(watch)
    for cycles in cuts:
        exit = vm.run(cycles)
        if not isinstance(exit, exits.Deadline):
            return exit, summary(vm, watch)
    return vm.run(), summary(vm, watch)


def four(watch: Watch) -> Vm:
    return Vm(GUESTS / "psci_cpu_on.elf", cpus=4, instruments=[watch], native=FAST)


_uncut_four: list[object] = []


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 60_000), min_size=1, max_size=12))
def test_cuts_change_nothing_for_four(cuts):
    if not _uncut_four:
        _uncut_four.append(cut_run_until_over(four, []))
    assert cut_run_until_over(four, cuts) == _uncut_four[0]


@pytest.mark.parametrize("stretch", [777, 10_000])
def test_regular_cuts_change_nothing(stretch):
    assert cut_run_until_over(four, [stretch] * 2000) == cut_run_until_over(four, [])


# -- who may run, and who hears of it ------------------------------------------------------------


def test_one_vcpu_may_be_run_alone(build):
    """As KVM_RUN runs one: the other stands still, and its time is not stolen by it."""
    vm = build(two(SPIN, SPIN), cpus=2)
    vm.run(5 * SLICE)
    before = vm.cpu(0).x[5]
    count = vm.cpu(1).x[5]
    exit = vm.run(5 * SLICE, vcpu=1)
    assert isinstance(exit, exits.Deadline)
    assert exit.vcpu == vm.current == 1
    assert vm.cpu(0).x[5] == before
    assert vm.cpu(1).x[5] >= count + 5 * SLICE // 4 - 1
    vm.run(5 * SLICE)
    assert vm.cpu(0).x[5] > before, "and then both again"


@pytest.mark.parametrize("state", ["waiting", "off"])
def test_one_that_cannot_run_blocks(build, state):
    vm = build(two(SPIN, [WFI]) if state == "waiting" else SPIN, cpus=2)
    vm.run(5 * SLICE)
    before = vm.cpu(0).x[5]
    exit = vm.run(5 * SLICE, vcpu=1)
    assert isinstance(exit, exits.Wfi)
    assert vm.cpu(0).x[5] == before


class Ear(Service):
    """Hears which vCPU is about to run."""

    name = "ear"

    def __init__(self, *given):
        super().__init__(*given)
        self.heard = []

    def entered(self, vcpu):
        self.heard.append(vcpu)


def test_services_hear_who_is_about_to_run(build):
    vm = build(two(SPIN, SPIN), cpus=2, services=[Ear])
    vm.run(6 * SLICE)
    heard = vm.monitor.services["ear"].heard
    turns = [vcpu for vcpu, _ in itertools.groupby(heard)]
    assert turns[:6] == [0, 1, 0, 1, 0, 1]
    assert vm.current == heard[-1]


@halves
def test_idle_time_passes_at_the_pace_of_the_host(build, native):
    """`pace` is asked how much of it to let pass now; without it, all of it at once."""
    vm = build(WFI, WFI, native=native)
    timers = vm.machine.vcpus[0].timers
    timers.cval[VIRTUAL], timers.ctl[VIRTUAL] = 5_000, 1
    vm.engine.use_timers(timers)
    due, asked = timers.expiry(0), []

    def pace(cycles: int) -> int:
        asked.append(cycles)
        return min(cycles, 30_000)

    vm.scheduler.pace = pace
    vm.run()
    assert asked[0] == due - 1, "the WFI took one cycle"
    assert [more - less for more, less in itertools.pairwise(asked)] == [30_000] * (len(asked) - 1)
    assert sum(min(cycles, 30_000) for cycles in asked) == due - 1
    assert vm.clock.cycles == due


@halves
def test_idle_time_ends_with_the_callers_time(build, native):
    """Nobody runs, and something is due: time passes, no further than the caller said."""
    vm = build(WFI, WFI, native=native)
    timers = vm.machine.vcpus[0].timers
    timers.cval[VIRTUAL], timers.ctl[VIRTUAL] = 5_000, 1
    vm.engine.use_timers(timers)
    due = timers.expiry(0)
    for _ in range(3):
        before = vm.clock.cycles
        assert isinstance(vm.run(1_000), exits.Deadline)
        assert vm.clock.cycles - before == 1_000
    assert isinstance(vm.run(), exits.Wfi), "nothing more is due, and no interrupt controller"
    assert vm.clock.cycles == due
    assert vm.stats().instructions == 1
