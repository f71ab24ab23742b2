"""Debian's U-Boot, unmodified, to its prompt and off again: it breaks no rule of discovery.

This machine has no flash yet; memory stands in for it, empty, as U-Boot then says itself.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from emu.console import Console, Typed
from emu.endings import Ending, ending_of
from emu.engine import native_available
from emu.trial import CallLog, Judge, call_lines, run_within
from emu.vm import MIB, Vm

UBOOT = Path("/usr/lib/u-boot/qemu_arm64/u-boot.bin")
LOAD = 0x4020_0000
"""Anywhere in RAM: it is built position-independent."""
FLASH = 0x0800_0000
"""Two banks from address 0 (qemu v7.2 hw/arm/virt.c: base_memmap[VIRT_FLASH])."""

pytestmark = [
    pytest.mark.skipif(
        not UBOOT.is_file(), reason="needs Debian's U-Boot: apt-get install u-boot-qemu"
    ),
    pytest.mark.skipif(
        not native_available(), reason="the native half was not built: it needs a C compiler"
    ),
]


@pytest.mark.parametrize("command", ["poweroff", "reset"])
@pytest.mark.parametrize("profile", ["kvm-4.15", "kvm-6.12", "kvm-7.2", "qemu-tcg"])
def test_no_false_alarm(profile, command):
    console = Console(Typed(f"\r\r{command}\r".encode()))
    vm = Vm(UBOOT, load=LOAD, memory=128 * MIB, profile=profile, console=console)
    vm.engine.map_ram(0, FLASH)
    log, judge = CallLog(), Judge(vm, follow=True)
    vm.instruments += (log, *judge.instruments)
    exit, _ = run_within(vm, 60, 1_000_000_000)
    ending, _ = ending_of(exit)
    assert ending is (Ending.OFF if command == "poweroff" else Ending.RESET)
    assert f"=> {command}" in str(console)
    names = [line.call.partition("(")[0] for line in call_lines(log.records, vm.el2)]
    assert names[-1] == ("SYSTEM_OFF" if command == "poweroff" else "SYSTEM_RESET")
    assert judge.verdicts(ending) == ()
