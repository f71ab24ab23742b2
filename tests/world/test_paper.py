"""A machine on paper."""

from emu.world.monitor import El2
from emu.world.paper import PaperHost
from emu.world.service import MpState
from kit import CPU_ON, Request, script

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
