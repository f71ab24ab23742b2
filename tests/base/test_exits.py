"""Exits carry KVM's numbers (abi/B §B5), and a hypercall starts as NOT_SUPPORTED."""

from __future__ import annotations

import inspect

import pytest

from emu.base import exits
from emu.base.exits import EventKind, Exit, Hypercall, SystemEvent
from emu.base.smccc import Call, Ret


@pytest.mark.parametrize(
    ("kind", "number"),
    [("SHUTDOWN", 1), ("RESET", 2), ("CRASH", 3), ("WAKEUP", 4), ("SUSPEND", 5)],
)
def test_event_numbers(kind, number):
    assert EventKind[kind] == number


def test_event_flags():
    assert (exits.FLAG_PSCI_RESET2, exits.FLAG_PSCI_OFF2) == (1, 1)


def test_unanswered_hypercall_is_not_supported():
    one, other = Hypercall(Call((0xC600_0000,))), Hypercall(Call((0xC600_0001,)))
    assert one.ret == other.ret == Ret.not_supported()
    one.ret = Ret.success(1)
    assert other.ret == Ret.not_supported()


def test_system_event_leaves_registers_alone():
    event = SystemEvent(EventKind.SUSPEND, vcpu=1, cycles=7)
    assert (event.ret, event.flags, event.vcpu, event.cycles) == (Ret.untouched(), 0, 1, 7)


def test_every_exit_matches_by_pattern():
    kinds = [c for _, c in inspect.getmembers(exits, inspect.isclass) if issubclass(c, Exit)]
    assert len(kinds) > 5
    for kind in kinds:
        required = [p for p in inspect.signature(kind).parameters.values() if p.default is p.empty]
        exit = kind(*range(len(required)))
        assert isinstance(exit, Exit)
        assert (exit.vcpu, exit.cycles) == (0, 0)
        assert not hasattr(exit, "__dict__")
