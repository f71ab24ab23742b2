"""Puts an image, its initrd and its device tree into RAM, as a boot loader does.

The device tree is generated from what the profile promises (abi/E §E10), unless the user gives
one. Nothing here knows the engine: memory is written through one function.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from emu.arm.cores import CORES, DEFAULT_CORE
from emu.base.errors import BootError
from emu.base.smccc import Conduit
from emu.images.boot import place_dtb
from emu.images.devicetree import (
    Board,
    Described,
    PsciNode,
    check_dtb,
    device_tree,
    memory_of,
)
from emu.images.image import Image, Ram
from emu.world.profile import DeviceTreePromise, Profile

INITRD_ALIGN = 0x1000
FilePath = str | os.PathLike[str]


class Extras(NamedTuple):
    """What else goes into RAM beside the image; `conduit` overrides /psci's method."""

    append: str = ""
    initrd: FilePath | None = None
    dtb: FilePath | None = None
    conduit: Conduit | str | None = None
    core: str = DEFAULT_CORE
    gic: int = 3
    kaslr_seed: int | None = None
    devices: tuple[type[Described], ...] = ()


def place(
    image: Image,
    ram: Ram,
    write: Callable[[int, bytes], None],
    profile: Profile,
    mpidrs: Sequence[int],
    extras: Extras,
) -> int:
    """Fill RAM; returns the device tree's address, which the boot CPU finds in x0."""
    for segment in image.segments:
        write(segment.address, segment.data)
    initrd = _place_initrd(image, ram, write, extras.initrd)
    blob = _read_dtb(extras.dtb, ram) if extras.dtb is not None else device_tree(
        _board(ram, profile, mpidrs, extras, initrd, flash=image.entry < ram.base)
    )
    address = place_dtb(image, ram, len(blob))
    if initrd and address + len(blob) > initrd[0]:
        raise BootError("the initrd and the device tree do not both fit: give more --mem")
    write(address, blob)
    return address


def _place_initrd(
    image: Image, ram: Ram, write: Callable[[int, bytes], None], path: FilePath | None
) -> tuple[int, int] | None:
    """At the top of RAM, out of everybody's way; first address and the one behind the last."""
    if path is None:
        return None
    data = _read_file(path)
    start = (ram.end - len(data)) & ~(INITRD_ALIGN - 1)
    if start < max(ram.base, *(segment.end for segment in image.segments)):
        raise BootError(f"{path}: {len(data)} bytes do not fit above the image: more --mem")
    write(start, data)
    return start, start + len(data)


def _read_dtb(path: FilePath, ram: Ram) -> bytes:
    blob = _read_file(path)
    try:
        check_dtb(blob)
    except BootError as error:
        raise BootError(f"{path}: {error}") from None
    for start, size in memory_of(blob):
        if start < ram.base or start + size > ram.end:
            raise BootError(
                f"{path}: its /memory has {start:#x}..{start + size:#x}, this machine "
                f"{ram.base:#x}..{ram.end:#x}: correct it, or give another --mem"
            )
    return blob


def _board(
    ram: Ram,
    profile: Profile,
    mpidrs: Sequence[int],
    extras: Extras,
    initrd: tuple[int, int] | None,
    *,
    flash: bool,
) -> Board:
    """What the generated tree depends on."""
    promise = profile.promise
    if profile.modes["discovery.static"] == "absent":
        promise = DeviceTreePromise()
    method = str(extras.conduit or promise.method)
    return Board(
        flash=flash,
        ram_base=ram.base,
        ram_size=ram.size,
        mpidrs=tuple(mpidrs),
        psci=PsciNode(method, promise.compatible, promise.cells) if promise.method else None,
        hypervisor=promise.hypervisor,
        bootargs=extras.append,
        initrd=initrd,
        gic=extras.gic,
        kaslr_seed=extras.kaslr_seed,
        cpu_compatible=CORES[extras.core].compatible,
        devices=extras.devices,
    )


def _read_file(path: FilePath) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise BootError(f"{path}: {error.strerror}") from None
