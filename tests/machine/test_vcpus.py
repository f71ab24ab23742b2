"""The machine as services see it, without an engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arm.arch import mpidr
from emu.base.bus import Place
from emu.base.clock import Clock
from emu.base.entropy import Splitmix
from emu.base.errors import EmuError
from emu.base.smccc import Ret
from emu.machine.vcpus import Machine, Start
from emu.world.monitor import El2
from emu.world.paper import PaperHost
from emu.world.service import MpState, NoMemory


class Cycles:
    cycles = 0


class Page:
    """RAM of one page at 0x4000_0000."""

    def __init__(self) -> None:
        self.block = bytearray(0x1000)

    def has(self, address: int, size: int) -> bool:
        return address >= 0x4000_0000 and address + size <= 0x4000_1000

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.block[address - 0x4000_0000 :][:size])

    def write(self, address: int, data: bytes) -> None:
        offset = address - 0x4000_0000
        self.block[offset : offset + len(data)] = data


def make(cpus: int = 4, *, seed: int = 0) -> Machine:
    return Machine(
        cpus, Clock(Cycles()), seed, memory=Page(), registers=lambda count: tuple(range(count))
    )


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


def test_guest_memory_is_ram_alone():
    machine = make()
    window = machine.memory(0x4000_0FF0, 16, 8)
    window.write(b"\1\2", 14)
    assert window.read(12, 4) == b"\0\0\1\2"
    assert machine.memory(0x4000_0FFE, 2).read() == b"\1\2"


@pytest.mark.parametrize(("address", "size", "align", "says"), [
    (0x3FFF_FFFF, 1, 1, "outside RAM"), (0x4000_0FF1, 16, 1, "outside RAM"),
    (0, 1, 1, "outside RAM"), ((1 << 64) - 1, 16, 1, "outside RAM"),
    (0x4000_0001, 8, 8, "not aligned to 8"), (0x4000_0000, -1, 1, "outside RAM"),
])  # fmt: skip
def test_guest_memory_that_is_not_there(address, size, align, says):
    with pytest.raises(NoMemory, match=says) as caught:
        make().memory(address, size, align)
    assert (caught.value.address, caught.value.size) == (address, size)


@given(
    st.integers(0x3FFF_FFF0, 0x4000_0010) | st.integers(0x4000_0FF0, 0x4000_1010),
    st.integers(-2, 32) | st.just(0x1000), st.sampled_from([1, 2, 8]),
)  # fmt: skip
def test_guest_memory_is_where_it_is_on_paper(address, size, align):
    """A service tried without a guest finds the same as below one."""
    hosts = make(), PaperHost(places=[Place("RAM", 0x4000_0000, 0x1000)])
    found = []
    for host in hosts:
        try:
            place = host.memory(address, size, align)
        except NoMemory as error:
            found.append((str(error), error.address, error.size))
        else:
            place.write(bytes(range(size % 256)))
            found.append((place.address, place.size, place.read(), place.read(size // 2)))
    assert found[0] == found[1]


def test_interrupt_lines():
    machine, driven = make(), []
    machine.interrupt(1, 31, True)  # nobody listens yet
    machine.drive = lambda *line: driven.append(line)
    machine.interrupt(1, 31, True)
    machine.interrupt(0, 1019, False)
    assert driven == [(1, 31, True), (0, 1019, False)]
    for intid in (0, 15, 1020):
        with pytest.raises(EmuError, match=f"INTID {intid} is no line"):
            machine.interrupt(0, intid, True)


def test_stolen_cycles():
    machine = make()
    machine.vcpus[1].stolen = 7
    assert (machine.stolen(0), machine.stolen(1)) == (0, 7)


def test_it_is_a_host():
    """El2 takes it as one."""
    machine = make()
    el2 = El2("kvm-6.12", machine)
    machine.vcpus[0].state = MpState.RUNNABLE
    assert el2.hypercall(0xC400_0003, 1, 0x4000_0000, 5) == Ret.success()
    assert machine.vcpus[1].start == Start(0x4000_0000, 5)
