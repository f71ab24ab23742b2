"""What a device is to a board, and a user's own beside the others."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest

from emu.base import exits
from emu.base.bus import FIRST_SPI, Place
from emu.base.errors import EmuError, SnapshotError
from emu.images.devicetree import find_property, reg, spi
from emu.machine.device import BoardDevice
from emu.machine.devices import device_classes, with_own
from emu.machine.vm import Vm
from engine_kit import WFI, code, halves, ldr_w, mov, str_w

PLACE, SPI, LOAD = Place("echo", 0x0B00_0000, 0x1000), 40, 0x4008_0000


@dataclass(slots=True)
class State:
    last: int = 7


class Echo(BoardDevice):
    """Keeps what was written last, and raises its line while that is odd."""

    name = "echo"
    places = (PLACE,)
    State = State

    @classmethod
    def plug(cls, socket):
        made = cls()
        made.line = socket.line(FIRST_SPI + SPI)
        return made

    @classmethod
    def nodes(cls, tree):
        yield f"/echo@{PLACE.base:x}", {
            "compatible": "mine,echo", "reg": reg(*PLACE[1:]), "interrupts": spi(SPI),
        }  # fmt: skip

    def read(self, offset, width):
        return self.state.last + offset

    def write(self, offset, width, value):
        self.state.last = value
        self.line(bool(value & 1))


def guest(tmp_path, *words, **options):
    path = tmp_path / "code.bin"
    path.write_bytes(code(*words))
    return Vm(path, load=LOAD, devices=[Echo], **options)


TOUCH = (*mov(1, PLACE.base), ldr_w(2, 1), *mov(3, 0x55), str_w(3, 1), ldr_w(4, 1), WFI)


@halves
def test_a_device_of_ones_own(tmp_path, native):
    vm = guest(tmp_path, *TOUCH, native=native)
    assert "echo" not in vm.board.devices, "nobody has reached for it"
    assert isinstance(vm.run(), exits.Wfi)
    assert (vm.cpu().x[2], vm.cpu().x[4]) == (7, 0x55)
    pending = vm.board.gic.distributor.read(0x208, 4)  # GICD_ISPENDR2 (IHI 0069)
    assert pending >> (FIRST_SPI + SPI - 64) & 1


def test_the_device_tree_has_it(tmp_path):
    vm = guest(tmp_path, WFI)
    size = int.from_bytes(vm.engine.read(vm.dtb + 4, 4), "big")
    found = find_property(vm.engine.read(vm.dtb, size), f"echo@{PLACE.base:x}", "compatible")
    assert found is not None
    assert found[1] == b"mine,echo\0"


def test_it_is_saved_and_reset(tmp_path):
    vm = guest(tmp_path, *TOUCH)
    vm.run()
    vm.save(tmp_path / "file")
    assert Vm.load(tmp_path / "file", devices=[Echo]).board.devices["echo"].state.last == 0x55
    with pytest.raises(SnapshotError, match="give the same devices="):
        Vm.load(tmp_path / "file")
    vm.reset()
    assert vm.board.devices["echo"].state.last == 7


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": ""}, "Mine: give it a name and places"),
        ({"places": ()}, "Mine: give it a name and places"),
        ({"name": "pl011"}, "Mine: there is a device pl011"),
        ({"places": (Place("mine", 0x0900_0800, 4),)}, "mine at 0x9000800 lies over the PL011"),
    ],
)
def test_a_device_at_odds_with_others(changes, says):
    mine = type("Mine", (Echo,), {"name": "mine", "places": (PLACE,), **changes})
    with pytest.raises(EmuError, match=says):
        with_own((mine,))
    with pytest.raises(EmuError, match="there is a device echo"):
        with_own((Echo, Echo))


def test_what_a_subclass_need_not_say():
    class Nothing(BoardDevice):
        name = "nothing"
        places = (PLACE,)

    device = Nothing.plug(None)
    assert (device.read(0, 4), device.state, device.next_event()) == (0, None, None)
    device.write(0, 4, 1)
    device.restore(None)
    assert [front.place for front in device.fronts()] == [PLACE]
    assert list(Nothing.nodes(None)) == []


def test_the_boards_own_lie_apart_below_ram():
    places = sorted((p for kind in device_classes() for p in kind.places), key=lambda p: p.base)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(places, 2))
    assert places[-1].base + places[-1].size <= 0x4000_0000
