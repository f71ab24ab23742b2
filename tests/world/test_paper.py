"""A machine on paper: all that a service may ask of a host, with no guest."""

from __future__ import annotations

import pytest

from emu.base.bus import RAM_BASE, Place
from emu.base.errors import EmuError
from emu.base.smccc import Call, Ret
from emu.world.monitor import El2
from emu.world.paper import PaperHost
from emu.world.service import MpState, NoMemory, Service, fn
from kit import CPU_ON, ONES, Request, script

SUCCESS, VERSION = 0, 0x8400_0000


def test_paper_host():
    assert PaperHost().mpidrs() == [0x8000_0000]
    host = PaperHost(cpus=2, seed=1)
    el2 = El2("kvm-6.12", host)
    script(el2) << CPU_ON(1, 0x1000) >> SUCCESS
    assert host.states == [MpState.RUNNABLE] * 2
    script(el2) << Request(0xC400_0001) >> SUCCESS << Request(0x8400_0002, vcpu=1) >> SUCCESS
    assert host.states[1] is MpState.STOPPED
    script(el2) << Request(0xC500_0021, vcpu=1) >> 0x090A_0040
    script(el2) << Request(0xC500_0020, (0xC500_0021,)) >> SUCCESS
    assert El2().hypercall(VERSION).x0 == 0x1_0001


# -- what a service asks -------------------------------------------------------------------------

END = RAM_BASE + (64 << 20)


class Reader(Service):
    """Doubles the word at x1, asks for x17, and rings."""

    name = "reader"
    no_memory = Ret.only(-14)

    @fn(0xC600_0042, reads=18)
    def read(self, call: Call) -> Ret:
        place = self.host.memory(call.arg(1), 8, align=4)
        place.write(place.read(size=4) * 2)
        self.host.interrupt(call.vcpu, 31, True)
        return Ret.only(call.x[17], place.address, place.size)


class Rude(Reader):
    name = "rude"
    no_memory = None


def test_a_service_sees_registers_memory_and_interrupts():
    host = PaperHost(cpus=2)
    host.written.update(enumerate(b"ab\0\0", RAM_BASE + 8))
    el2 = El2("kvm-6.12", host, services=[Reader])
    call = Call((0xC600_0042, RAM_BASE + 8, *[0] * 15, 17), vcpu=1)
    assert el2.answer(call) == (17, RAM_BASE + 8, 8)
    assert host.memory(RAM_BASE + 8, 8).read() == b"ab\0\0ab\0\0"
    assert host.memory(RAM_BASE + 8, 8).read(1, 2) == b"b\0"
    assert host.interrupts == [(1, 31, True)]
    assert el2.hypercall(0xC600_0042, RAM_BASE) == (0, RAM_BASE, 8), "what is missing is zero"


NOWHERE = [
    (RAM_BASE - 4, 4, 1, "is outside RAM"), (END, 1, 1, "is outside RAM"),
    (END - 2, 4, 1, "is outside RAM"), (0, 4, 4, "is outside RAM"), (ONES, 1, 1, "is outside RAM"),
    (RAM_BASE, -1, 1, "is outside RAM"), (RAM_BASE + 2, 4, 4, "is not aligned to 4"),
    (2, 4, 4, "is not aligned to 4"),
]  # fmt: skip


@pytest.mark.parametrize(("address", "size", "align", "why"), NOWHERE)
def test_memory_that_is_not_there(address, size, align, why):
    with pytest.raises(NoMemory) as caught:
        PaperHost().memory(address, size, align)
    assert str(caught.value) == f"guest memory {address:#x}..{address + size:#x} {why}"
    assert (caught.value.address, caught.value.size) == (address, size)


def test_memory_of_a_services_own():
    host = PaperHost()
    host.map(Place("records", 0x090A_0000, 0x1000))
    assert host.memory(0x090A_0FF8, 8).read() == bytes(8)
    with pytest.raises(NoMemory):
        host.memory(0x090A_0FF8, 16)


@pytest.mark.parametrize(("address", "why"), [(0, "is outside RAM"), (2, "is not aligned to 4")])
def test_the_interfaces_own_error_or_the_name_of_who_has_none(address, why):
    call = Call((0xC600_0042, address, *[0] * 16))
    assert El2("kvm-6.12", services=[Reader]).answer(call) == Ret.only(-14)
    with pytest.raises(EmuError) as caught:
        El2("kvm-6.12", services=[Rude]).answer(call)
    assert str(caught.value) == (
        f"{__name__}.Rude: READ asks for guest memory {address:#x}..{address + 8:#x} {why}; "
        "its no_memory may name the reply to such a call"
    )


@pytest.mark.parametrize("intid", [-1, 0, 15, 1020, 8192])
def test_interrupts_that_are_no_lines(intid):
    with pytest.raises(EmuError, match=f"INTID {intid} is no line: PPIs are 16 to 31, SPIs 32 to"):
        PaperHost().interrupt(0, intid, True)


@pytest.mark.parametrize(("offset", "size"), [(-8, 4), (0, 9), (8, 1), (0, -1), (9, 0)])
def test_a_run_of_memory_has_ends(offset, size):
    window = PaperHost().memory(RAM_BASE, 8)
    with pytest.raises(NoMemory, match=r"is outside 0x40000000\.\.0x40000008"):
        window.read(offset, size)
    with pytest.raises(NoMemory, match="is outside"):
        window.write(b"x" * 9)
    assert window.read(8, 0) == b""


def test_there_is_no_such_vcpu():
    with pytest.raises(EmuError, match="no vCPU 2 to interrupt: there are 2"):
        PaperHost(cpus=2).interrupt(2, 31, True)
