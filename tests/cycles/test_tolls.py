"""Time above EL1: what is charged, in which parts, and under whose name."""

from __future__ import annotations

import pytest

from emu.base.errors import EmuError
from emu.base.smccc import Call, Conduit
from emu.cycles.model import SIXTEENTHS
from emu.cycles.tolls import SMC_KEY, CallCost, Event, Tolls, open_tolls
from emu.cycles.trap_prices import PROFILES, trap_prices

VERSION = 0x8400_0000
every_profile = pytest.mark.parametrize("name", PROFILES)


class Clock:
    """The engine's side: what it was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, bool]] = []

    def trap(self, key: int, sixteenths: int, begins: bool) -> None:
        self.told.append((key, sixteenths, begins))


def call(fid: int = VERSION, conduit: Conduit = Conduit.HVC) -> Call:
    return Call((fid, *[0] * 7), conduit, 0, 0)


def accounts(name: str) -> tuple[Tolls, Clock]:
    clock = Clock()
    return open_tolls(name, clock), clock


@every_profile
@pytest.mark.parametrize("conduit", Conduit)
def test_a_call_is_charged_its_entry_first_and_the_rest_when_it_is_answered(name, conduit):
    made, clock = accounts(name)
    costs = trap_prices(name)
    entry, handler, back = (
        (costs.hvc_entry, costs.hvc_handler, costs.hvc_return) if conduit is Conduit.HVC
        else (costs.smc_entry, costs.smc_handler, costs.smc_return)
    )  # fmt: skip
    key = VERSION | (SMC_KEY if conduit is Conduit.SMC else 0)
    made.enter(call(conduit=conduit))
    assert clock.told == [(key, entry.cycles * SIXTEENTHS, True)]
    made.leave(call(conduit=conduit))
    assert clock.told[1:] == [(key, (handler.cycles + back.cycles) * SIXTEENTHS, False)]
    assert made.calls == {key: CallCost(1, entry.cycles, handler.cycles, back.cycles)}
    assert made.calls[key].total == (costs.hvc if conduit is Conduit.HVC else costs.smc)


@every_profile
def test_the_vmm_is_paid_in_the_handlers_place(name):
    made, clock = accounts(name)
    costs = trap_prices(name)
    made.enter(call())
    made.leave(call(), by_vmm=True)
    assert made.calls[VERSION].handler == costs.vmm.cycles
    assert sum(sixteenths for _, sixteenths, _ in clock.told) == SIXTEENTHS * (
        costs.hvc_entry.cycles + costs.vmm.cycles + costs.hvc_return.cycles
    )


def test_calls_add_up_by_function_and_conduit():
    made, clock = accounts("kvm-vhe")
    for fid, conduit in (
        (VERSION, Conduit.HVC), (VERSION, Conduit.SMC), (VERSION + 1, Conduit.HVC),
        (VERSION, Conduit.HVC),
    ):  # fmt: skip
        made.enter(call(fid, conduit))
        made.leave(call(fid, conduit))
    assert {key: cost.calls for key, cost in made.calls.items()} == {
        VERSION: 2, VERSION | SMC_KEY: 1, VERSION + 1: 1
    }  # fmt: skip
    assert made.calls[VERSION].total == 2 * trap_prices("kvm-vhe").hvc
    told = sum(sixteenths for _, sixteenths, _ in clock.told)
    assert told == SIXTEENTHS * sum(cost.total for cost in made.calls.values())


def test_a_function_is_told_by_w0():
    """The upper half of x0 is no part of an identifier (DEN0028)."""
    made, _ = accounts("kvm-vhe")
    made.enter(call(0xFFFF_FFFF_8400_0000))
    assert list(made.calls) == [VERSION]


@every_profile
@pytest.mark.parametrize("event", Event)
def test_an_event_costs_its_price_under_its_own_key(name, event):
    made, clock = accounts(name)
    costs = trap_prices(name)
    cycles = {
        Event.INTERRUPT: costs.interrupt.cycles, Event.IPI: costs.ipi.cycles,
        Event.WAKE: costs.wake.cycles, Event.CPU_ON: costs.cpu_on.cycles,
        Event.MMIO: costs.hvc_entry.cycles + costs.vmm.cycles + costs.hvc_return.cycles,
        Event.GIC: costs.hvc,
    }[event]  # fmt: skip
    made.event(event)
    assert clock.told == [(event, cycles * SIXTEENTHS, True)]
    assert made.price(event) == (event, cycles * SIXTEENTHS)
    assert made.calls == {}


def test_no_event_has_the_key_of_a_call():
    assert min(Event) > 0xFFFF_FFFF | SMC_KEY
    assert len({*Event}) == len(Event)


def test_accounts_nobody_has():
    with pytest.raises(EmuError, match="no trap costs 'kvm'"):
        open_tolls("kvm", Clock())
