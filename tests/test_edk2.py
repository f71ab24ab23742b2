"""EDK2 as Debian builds it (qemu-efi-aarch64), from flash to its shell and off."""

from __future__ import annotations

from pathlib import Path

import pytest

from emu.base import exits
from emu.base.console import Console, Dialogue
from emu.base.exits import EventKind
from emu.engine.engine import native_available
from emu.machine.vm import Vm
from kit import Watch

FIRMWARE = Path("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd")
GUID = "11111111-2222-3333-4444-555555555555"
LIMIT = 12_000_000_000
pytestmark = [
    pytest.mark.skipif(not FIRMWARE.exists(), reason="apt-get install qemu-efi-aarch64"),
    pytest.mark.skipif(not native_available(), reason="the Python half would take minutes"),
]


def test_shell_variables_and_power_off():
    """The variable goes through the flash driver; `reset -s` is PSCI's SYSTEM_OFF."""
    typed = [
        (b"any other key", b"\r"),
        (b"Shell> ", f"setvar hvcemu -guid {GUID} -bs -rt -nv =0011\r".encode()),
        (b"Shell> ", f"setvar hvcemu -guid {GUID}\r".encode()),
        (b"Shell> ", b"reset -s\r"),
    ]
    watch = Watch()
    console = Console(Dialogue(typed))
    vm = Vm(FIRMWARE, load=0, console=console, instruments=[watch])
    exit = vm.run(LIMIT)
    assert isinstance(exit, exits.SystemEvent), str(console)[-2000:]
    assert exit.kind is EventKind.SHUTDOWN
    assert f"{GUID} - hvcemu - 0002 Bytes" in str(console)
    assert [record.call.fid for record in watch.calls][-1] == 0x8400_0008
    erased = b"\xff" * (256 << 10)
    assert any(sector != erased for sector in vm.board.devices["flash"].saved().sectors.values())
