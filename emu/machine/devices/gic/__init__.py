"""The interrupt controller of the board: a GICv3, or a GICv2 as the older virt machines have.

Addresses and nodes are those of qemu v7.2 hw/arm/virt.c (base_memmap, fdt_add_gic_node).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from emu.base.bus import Device, Place
from emu.base.errors import BootError
from emu.cycles.tolls import Event
from emu.images.devicetree import GIC_PHANDLE, Board, Node, reg
from emu.machine.device import BoardDevice, Front, Socket

if TYPE_CHECKING:
    from emu.arm.arbiter import Controller

DISTRIBUTOR = Place("GICv3 distributor", 0x0800_0000, 0x1_0000)
REDISTRIBUTOR = Place("GICv3 redistributor", 0x080A_0000, 0x00F6_0000)
CPU_INTERFACE = Place("GICv2 CPU interface", 0x0801_0000, 0x1_0000)
FRAMES = 0x2_0000
"""Bytes of a vCPU's redistributor: two frames of 64 KiB (IHI 0069)."""
VERSIONS = (2, 3)
GICV2_CPUS = 8
"""As many as a GICv2 has room for (IHI 0048, GICD_TYPER.CPUNumber)."""


def check_version(version: int, cpus: int) -> None:
    """Refuse a controller that does not exist, or has no room for so many vCPUs."""
    if version not in VERSIONS:
        raise BootError(f"--gic {version}: this machine has a GICv2 or a GICv3")
    if version == 2 and cpus > GICV2_CPUS:
        raise BootError(f"--cpus {cpus}: a GICv2 has room for {GICV2_CPUS}; use --gic 3")


class Gic(BoardDevice):
    """`controller` is the GIC of the version ordered."""

    name = "gic"
    places = (DISTRIBUTOR, REDISTRIBUTOR, CPU_INTERFACE)
    order = 0
    interrupts = True

    def __init__(self, controller: Controller, fronts: tuple[Front, ...]) -> None:
        self.controller, self._fronts = controller, fronts

    @classmethod
    def plug(cls, socket: Socket) -> Gic:
        return _gicv2(socket) if socket.gic_version == 2 else _gicv3(socket)

    @classmethod
    def nodes(cls, tree: Board) -> Iterator[Node]:
        about = (
            ("compatible", "arm,gic-v3"),
            ("#redistributor-regions", 1),
            ("reg", [*_reg(DISTRIBUTOR), *reg(REDISTRIBUTOR.base, FRAMES * len(tree.mpidrs))]),
        ) if tree.gic == 3 else (
            ("compatible", "arm,cortex-a15-gic"),
            ("reg", [*_reg(DISTRIBUTOR), *_reg(CPU_INTERFACE)]),
        )  # fmt: skip
        yield f"/intc@{DISTRIBUTOR.base:x}", {
            "phandle": GIC_PHANDLE,
            "#interrupt-cells": 3,
            "interrupt-controller": None,
            "#address-cells": 2,
            "#size-cells": 2,
            "ranges": None,
            **dict(about),
        }

    def fronts(self) -> Iterator[Front]:
        return iter(self._fronts)

    @property
    def state(self) -> Any:
        """All that a guest can change in it."""
        return self.controller.state  # type: ignore[attr-defined]

    def restore(self, state: Any) -> None:
        self.controller.restore(state)  # type: ignore[attr-defined]


def _reg(place: Place) -> list[int]:
    return reg(place.base, place.size)


def _gicv3(socket: Socket) -> Gic:
    from emu.machine.devices.gic.gicv3 import GicV3

    gic = GicV3(socket.mpidrs, socket.signalled)
    frames = REDISTRIBUTOR._replace(size=FRAMES * len(socket.mpidrs))
    return Gic(gic, (
        Front(DISTRIBUTOR, _Synchronised(socket, gic.distributor), Event.GIC),
        Front(frames, _Synchronised(socket, gic.redistributors), Event.GIC),
    ))  # fmt: skip


def _gicv2(socket: Socket) -> Gic:
    from emu.machine.devices.gic.gicv2 import GICD_SGIR, GicV2

    gic = GicV2(len(socket.mpidrs), socket.signalled)
    return Gic(gic, (
        Front(DISTRIBUTOR, _Sending(socket, gic.distributor, GICD_SGIR), Event.GIC),
        Front(CPU_INTERFACE, _Synchronised(socket, gic.cpu_interface), None),
    ))  # fmt: skip


class _Synchronised:
    """Registers that see the timers' lines as they are now: these are levels, and go down too."""

    def __init__(self, socket: Socket, device: Device) -> None:
        self._socket, self._device = socket, device

    def read(self, offset: int, width: int) -> int:
        self._socket.synchronise()
        return self._device.read(offset, width)

    def write(self, offset: int, width: int, value: int) -> None:
        self._socket.synchronise()
        self._device.write(offset, width, value)


class _Sending(_Synchronised):
    """The distributor of a GICv2: a write to GICD_SGIR, `place`, sends an interrupt to a vCPU."""

    def __init__(self, socket: Socket, device: Device, place: int) -> None:
        super().__init__(socket, device)
        self._place = place

    def write(self, offset: int, width: int, value: int) -> None:
        if offset == self._place:
            self._socket.charge(Event.IPI)
        super().write(offset, width, value)
