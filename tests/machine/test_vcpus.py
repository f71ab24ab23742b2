"""The machine as services see it, without an engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arm.arch import mpidr
from emu.base.bus import STOLEN_TIME, STOLEN_TIME_RECORD
from emu.base.clock import Clock
from emu.base.entropy import Splitmix
from emu.base.smccc import Ret
from emu.machine.vcpus import Machine, Start
from emu.world.el2 import El2
from emu.world.service import MpState


class Cycles:
    cycles = 0


def make(cpus: int = 4, *, seed: int = 0, stolen_time: bool = True) -> Machine:
    return Machine(cpus, Clock(Cycles()), seed, stolen_time=stolen_time)


def test_at_first_everything_is_off():
    machine = make()
    assert {vcpu.state for vcpu in machine.vcpus} == {MpState.STOPPED}
    assert machine.next_ready(0) is None
    assert not machine.changed


@pytest.mark.parametrize("cpus", [1, 16, 17, 123])
def test_affinities_are_those_of_kvm(cpus):
    assert list(make(cpus).mpidrs()) == [mpidr(n) for n in range(cpus)]
    assert make(17).mpidrs()[16] & 0xFFFF == 0x100


def test_power_on():
    machine = make()
    machine.clock.jump(77)
    machine.power_on(2, 0x4000_0000, 0xC0DE)
    target = machine.vcpus[2]
    assert machine.mp_state(2) is MpState.RUNNABLE
    assert target.start == Start(0x4000_0000, 0xC0DE)
    assert target.ready_since == 77
    assert target.ready
    assert machine.changed
    assert machine.next_ready(0) is target


def test_power_on_ends_waiting():
    machine = make()
    machine.power_on(1, 0, 0)
    machine.wait(1)
    machine.power_off(1)
    machine.power_on(1, 0, 0)
    assert machine.vcpus[1].ready


def test_wait_and_power_off():
    machine = make()
    machine.power_on(1, 0, 0)
    machine.changed = False
    machine.wait(1)
    assert machine.mp_state(1) is MpState.RUNNABLE  # as KVM's MP state while in WFI
    assert not machine.vcpus[1].ready
    assert machine.changed
    machine.changed = False
    machine.power_off(1)
    assert machine.mp_state(1) is MpState.STOPPED
    assert machine.vcpus[1].ready_since is None
    assert machine.changed


@given(ready=st.sets(st.integers(0, 6)), after=st.integers(0, 6))
def test_turns_go_round(ready, after):
    """From behind `after` upward, round, and to itself last."""
    machine = make(7)
    for vcpu in ready:
        machine.power_on(vcpu, 0, 0)
    order = [(after + step) % 7 for step in range(1, 8)]
    expected = next((vcpu for vcpu in order if vcpu in ready), None)
    found = machine.next_ready(after)
    assert (None if found is None else found.index) == expected


def test_random_is_seeded():
    assert make(seed=1).random(64) == make(seed=1).random(64) == Splitmix(1).word()
    assert make(seed=1).random(64) != make(seed=2).random(64)


@given(bits=st.integers(1, 192), seed=st.integers(0, 2**64 - 1))
def test_random_keeps_to_its_bits(bits, seed):
    assert 0 <= make(seed=seed).random(bits) < 1 << bits


def test_no_stolen_time():
    machine = make(stolen_time=False)
    assert not machine.has_stolen_time(0)
    assert machine.start_stolen_time(0) is None
    assert machine.stolen_time_bytes(machine.vcpus[0]) is None
    assert not machine.changed


def test_stolen_time_record():
    """DEN0057: revision 0, attributes 0, then nanoseconds; it starts from zero when asked for."""
    machine = make()
    vcpu = machine.vcpus[3]
    vcpu.stolen = 1000
    assert machine.has_stolen_time(3)
    assert machine.stolen_time_bytes(vcpu) is None
    address = machine.start_stolen_time(3)
    assert address == STOLEN_TIME.base + 3 * STOLEN_TIME_RECORD
    assert address % 64 == 0
    assert machine.changed
    assert machine.stolen_time_bytes(vcpu) == bytes(64)
    vcpu.stolen += 0x1234
    record = machine.stolen_time_bytes(vcpu)
    assert record is not None
    assert len(record) == STOLEN_TIME_RECORD
    assert record == bytes(8) + (0x1234).to_bytes(8, "little") + bytes(48)
    machine.start_stolen_time(3)
    assert machine.stolen_time_bytes(vcpu) == bytes(64)


def test_it_is_a_host():
    """El2 takes it as one."""
    machine = make()
    el2 = El2("kvm-6.12", machine)
    machine.vcpus[0].state = MpState.RUNNABLE
    assert el2.hypercall(0xC400_0003, 1, 0x4000_0000, 5) == Ret.success()
    assert machine.vcpus[1].start == Start(0x4000_0000, 5)
