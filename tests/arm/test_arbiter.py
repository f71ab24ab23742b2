"""The arbiter by itself: routes, offers, who is told, and caches that follow the state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arm.arbiter import Arbiter, Pending, State, Vcpu, nothing
from emu.arm.interrupts import ALL, LINES, SPURIOUS, Bank, Interface
from emu.base.errors import StateError
from emu.base.state import from_state, to_state

SPI, OTHER = 40, 41
BOTH = 3


def make(vcpus: int = 2, **shared: int) -> Arbiter:
    """Everything enabled, all SPIs in group 1 and routed to vCPU 0."""
    state = State(groups=BOTH)
    state.shared = [Bank(enabled=ALL, group=ALL, **shared) for _ in state.shared]
    for _ in range(vcpus):
        private = Bank(enabled=ALL, group=ALL)
        state.vcpus.append(Vcpu(private, Interface(groups=BOTH, mask=0xF8), asleep=False))
    return follow(state)


def follow(state: State) -> Arbiter:
    arbiter = Arbiter(state, len(state.vcpus))
    for intid in range(32, LINES):
        arbiter.route(intid, 0)
    arbiter.refresh_shared()
    return arbiter


@pytest.mark.parametrize("intid", [16, 31, 32, 287])
def test_every_line_reaches_its_vcpu(intid):
    arbiter = make()
    arbiter.set_level(intid, True)
    assert arbiter.best == [Pending(0, intid, 1), None]
    assert (arbiter.asserted, arbiter.asserted_fiq) == (1, 0)
    assert arbiter.acknowledge(0, 2) == intid


@pytest.mark.parametrize("intid", [-1, 0, 15, 288])
def test_no_other_line_exists(intid):
    with pytest.raises(ValueError, match="16 to 287 have"):
        make().set_level(intid, True)


def test_group_0_is_irq_or_fiq():
    arbiter = make()
    arbiter.state.vcpus[0].private.group = 0
    arbiter.set_level(16, True)
    assert (arbiter.asserted, arbiter.asserted_fiq) == (0, 1)
    arbiter.state.vcpus[0].interface.group0_is_fiq = False
    arbiter.refresh((0,))
    assert (arbiter.asserted, arbiter.asserted_fiq) == (1, 0)
    assert arbiter.acknowledge(0, 2) == SPURIOUS
    assert arbiter.acknowledge(0, 3) == 16


def test_the_end_frees_the_vcpu_that_took_it_wherever_it_goes_now():
    arbiter = make()
    arbiter.set_level(SPI, True)
    arbiter.set_level(OTHER, True)
    assert arbiter.acknowledge(0, 2) == SPI
    arbiter.route(SPI, 1)
    arbiter.refresh_shared()
    assert arbiter.asserted == 0
    arbiter.end(0, 2, SPI)
    assert arbiter.asserted == 0b11
    assert [best and best.intid for best in arbiter.best] == [OTHER, SPI]


def test_one_of_n_of_several():
    arbiter = make(3)
    for intid in (SPI, OTHER):
        arbiter.route(intid, None, one_of_n=True)
        arbiter.set_level(intid, True)
    assert arbiter.state.offers == {SPI: 0, OTHER: 0}
    assert arbiter.acknowledge(0, 2) == SPI
    assert arbiter.state.offers == {OTHER: 0}  # it stays, though vCPU 0 is busy
    arbiter.state.vcpus[0].interface.groups = 1
    arbiter.refresh((0,))
    assert arbiter.state.offers == {OTHER: 1}
    arbiter.end(0, 2, SPI)
    assert arbiter.state.offers == {OTHER: 1, SPI: 1}
    arbiter.route(SPI, 2)
    arbiter.route(OTHER, None)
    arbiter.refresh_shared()
    assert (arbiter.state.offers, arbiter.asserted) == ({}, 0b100)


def test_one_of_n_waits_for_somebody():
    arbiter = make(1)
    arbiter.route(SPI, None, one_of_n=True)
    arbiter.state.vcpus[0].asleep = True
    arbiter.set_level(SPI, True)
    assert (arbiter.state.offers, arbiter.asserted) == ({}, 0)
    arbiter.state.vcpus[0].asleep = False
    arbiter.refresh((0,))
    assert arbiter.asserted == 1


def test_it_tells_when_a_line_to_a_vcpu_changes_and_only_then():
    arbiter, told = make(), []
    arbiter.changed = lambda: told.append(arbiter.asserted)
    arbiter.set_level(SPI, True)
    arbiter.set_level(SPI, True)
    arbiter.set_level(OTHER, True)
    arbiter.acknowledge(0, 2)
    arbiter.acknowledge(0, 2)
    assert told == [1, 0]


def test_nobody_is_told_by_default():
    assert make().changed is nothing
    assert nothing() is None


@given(st.lists(st.tuples(st.sampled_from([16, 31, SPI, OTHER, 287]), st.booleans()), max_size=20))
def test_the_caches_follow_from_the_state(steps):
    arbiter = make(1)
    for intid, level in steps:
        arbiter.set_level(intid, level)
        if intid == OTHER:
            arbiter.acknowledge(0, 2)
        again = follow(from_state(State, to_state(arbiter.state)))
        assert (again.best, again.asserted) == (arbiter.best, arbiter.asserted)


def broken(change) -> State:
    state = make(2).state
    change(state)
    return state


BROKEN = {
    "vCPUs": lambda state: state.vcpus.append(Vcpu()),
    "number of interrupts": lambda state: state.shared.pop(),
    "offers": lambda state: state.offers.update({SPI: 2}),
    "does not exist": lambda state: state.offers.update({LINES: 0}),
}


@pytest.mark.parametrize("says", BROKEN)
def test_a_state_of_another_machine_is_refused(says):
    with pytest.raises(StateError, match=says):
        Arbiter(broken(BROKEN[says]), 2)
