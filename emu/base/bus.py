"""What a device is, and which devices this machine knows without having them."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol

Line = Callable[[bool], None]
"""An interrupt line, called with its new level whenever that changes."""


def ignore(level: bool) -> None:
    """The line of a device whose interrupt is not wired."""


class Device(Protocol):
    """Something behind memory-mapped registers; offsets count from its base."""

    def read(self, offset: int, width: int) -> int: ...

    def write(self, offset: int, width: int, value: int) -> None: ...


class StreamDevice(Device, Protocol):
    """A device that bytes are written to one by one: the engine may gather them.

    `DATA` is the register they go to, `STATUS` the one that is read before each.
    """

    STATUS: ClassVar[int]
    DATA: ClassVar[int]

    def fixed_status(self) -> int | None:
        """What STATUS reads as until the run ends; None where that may change."""

    def hears_each_byte(self) -> bool:
        """Whether a byte may change what the guest sees by itself, such as an interrupt."""

    def write_bytes(self, data: bytes) -> None:
        """Take bytes written to DATA, in order."""


class Place(NamedTuple):
    """A range of guest-physical addresses and what belongs there."""

    name: str
    base: int
    size: int

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and self.base <= address < self.base + self.size

    def overlaps(self, other: Place) -> bool:
        """Whether the two share an address."""
        return self.base < other.base + other.size and other.base < self.base + self.size


FIRST_SPI = 32
"""IHI 0069: INTIDs below it are each vCPU's own."""
# Memory in the address map of QEMU's virt machine (qemu v7.2 hw/arm/virt.c: base_memmap); where
# devices lie stands beside them.
FLASH = (Place("flash", 0, 0x0400_0000), Place("flash", 0x0400_0000, 0x0400_0000))
RAM_BASE = 0x4000_0000
ABSENT = (
    Place("GICv2m frame", 0x0802_0000, 0x1000),
    Place("GIC interrupt translation service", 0x0808_0000, 0x2_0000),
    Place("fw_cfg", 0x0902_0000, 0x18),
    Place("SMMU", 0x0905_0000, 0x2_0000),
    Place("PCIe window", 0x1000_0000, 0x2EFF_0000),
    Place("PCIe configuration space", 0x3F00_0000, 0x100_0000),
)


def absent_device(address: int) -> str | None:
    """The device a guest expects at this address and this machine has not got."""
    return next((place.name for place in ABSENT if address in place), None)
