"""The device tree that the guest finds in x0: QEMU's `virt` machine, reduced to what we have.

Node names, properties and their values are those of QEMU hw/arm/virt.c (`create_fdt` and the
functions it calls), since guests know that machine; the bindings are the kernel's
(Documentation/devicetree/bindings: arm/psci.yaml, arm/cpus.yaml, arm,gic-v3.yaml,
arm,arch_timer.yaml, serial/pl011.yaml) and the format is the Devicetree Specification v0.4,
chapter 5. Where we differ from QEMU: a CPU's unit address is its affinity, as cpus.yaml asks; the
redistributor region ends with the last CPU; flash is there only where firmware runs from it, PCI
and virtio nowhere; and /hypervisor appears where a profile has one.

The same `Board` gives the same bytes. The library `fdt` writes them; it is imported at the first
call (4 ms beside unicorn's import, 8 ms alone). A two-CPU tree takes 0.4 ms and leaves cyclic
garbage behind, so trees are kept: a test matrix boots the same board a thousand times. Its `FDT()`
shares one list of memory reservations among all instances, hence `entries=[]`. Checking a user's
file is done here and not by `fdt.parse_dtb`: that one refuses FDT_NOP, which is valid, and needs
time in the square of a hostile file's size.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from emu.base.errors import BootError

CPUS_MAX = 0xF6_0000 // 0x2_0000  # 123: base_memmap[VIRT_GIC_REDIST].size, 128 KiB a CPU
CLOCK_PHANDLE, GIC_PHANDLE = 0x8000, 0x8002  # as QEMU's dumpdtb shows them; any would do
SPI, PPI, LEVEL_HIGH = 0, 1, 4  # bindings interrupt-controller/arm,gic-v3.yaml, irq.h
PMU_PPI = 7  # QEMU VIRTUAL_PMU_IRQ: INTID 23
TIMER_PPIS = (13, 14, 11, 10)  # QEMU: secure, non-secure, virtual, hypervisor (INTID 16 + n)
AFFINITY = 0xFF_00FF_FFFF  # MPIDR_EL1 Aff3, Aff2, Aff1, Aff0 (Arm ARM D24.2); cpus.yaml `reg`
PSCI_CELLS = ("cpu_suspend", "cpu_off", "cpu_on", "migrate")  # psci.yaml
DTB_MAX = 2 << 20  # Documentation/arch/arm64/booting.rst


# What `fdt` takes: None is an empty property, a list is cells or strings, bytes are bytes.
Properties = dict[str, Any]
Node = tuple[str, Properties]
"""A path and what stands there."""


@dataclass(frozen=True, slots=True)
class PsciNode:
    """/psci. `cells` are the function ids of PSCI 0.1, by the names in PSCI_CELLS."""

    method: str
    compatible: tuple[str, ...]
    cells: tuple[tuple[str, int], ...] = ()


class Described(Protocol):
    """What may have nodes in the tree: a class of devices (machine/device.py)."""

    console_path: ClassVar[str]
    interrupts: ClassVar[bool]

    @classmethod
    def nodes(cls, tree: Board) -> Iterator[Node]: ...


@dataclass(frozen=True, slots=True)
class Board:
    """All that the tree depends on. `initrd` is (first address, address behind the last).

    `devices` describe themselves, the interrupt controller among them, in this order.
    """

    ram_base: int
    ram_size: int
    mpidrs: tuple[int, ...]
    cpu_compatible: str = "arm,cortex-a72"
    psci: PsciNode | None = None
    hypervisor: tuple[str, ...] = ()
    bootargs: str = ""
    initrd: tuple[int, int] | None = None
    gic: int = 3
    flash: bool = False
    kaslr_seed: int | None = None
    rng_seed: bytes = b""
    devices: tuple[type[Described], ...] = ()


@functools.lru_cache(maxsize=64)
def device_tree(board: Board) -> bytes:
    """The flattened tree, version 17."""
    import fdt

    _check(board)
    tree = fdt.FDT(entries=[])
    tree.header.version = 17  # Devicetree Specification v0.4 §5.2
    for path, properties in _nodes(board):
        for name, value in properties.items():
            tree.set_property(name, value, path)
    blob: bytes = tree.to_dtb()
    return blob


# --- the nodes --------------------------------------------------------------------------------



def pair(value: int) -> list[int]:
    """Two cells, as #address-cells and #size-cells say."""
    return [value >> 32, value & 0xFFFF_FFFF]


def reg(start: int, size: int) -> list[int]:
    """An address and a size."""
    return [*pair(start), *pair(size)]


def spi(number: int) -> list[int]:
    """The specifier of a level-sensitive SPI (bindings interrupt-controller/arm,gic-v3.yaml)."""
    return [SPI, number, LEVEL_HIGH]


def _nodes(board: Board) -> list[Node]:
    """Every node, in QEMU's order of creation where we share it."""
    nodes: list[Node] = [("/", _root()), ("/chosen", _chosen(board))]
    if board.psci is not None:
        nodes.append(("/psci", _psci(board.psci)))
    if board.hypervisor:
        nodes.append(("/hypervisor", {"compatible": list(board.hypervisor)}))
    memory = {"device_type": "memory", "reg": reg(board.ram_base, board.ram_size)}
    nodes.append((f"/memory@{board.ram_base:x}", memory))
    nodes += _cpus(board)
    private = LEVEL_HIGH if board.gic == 3 else LEVEL_HIGH | (1 << len(board.mpidrs)) - 1 << 8
    nodes.append(("/timer", _timer(private)))
    nodes += [node for kind in board.devices if kind.interrupts for node in kind.nodes(board)]
    pmu = {"compatible": "arm,armv8-pmuv3", "interrupts": [PPI, PMU_PPI, private]}
    nodes += [("/pmu", pmu), ("/apb-pclk", _clock())]
    nodes += [node for kind in board.devices if not kind.interrupts for node in kind.nodes(board)]
    return nodes


def _root() -> Properties:
    return {
        "interrupt-parent": GIC_PHANDLE,
        "model": "linux,dummy-virt",
        "#size-cells": 2,
        "#address-cells": 2,
        "compatible": "linux,dummy-virt",
    }


def _chosen(board: Board) -> Properties:
    paths = [kind.console_path for kind in board.devices if kind.console_path]
    chosen: Properties = {"stdout-path": paths[0]} if paths else {}
    if board.bootargs:
        chosen["bootargs"] = board.bootargs
    if board.initrd is not None:
        chosen["linux,initrd-start"] = pair(board.initrd[0])
        chosen["linux,initrd-end"] = pair(board.initrd[1])
    if board.kaslr_seed is not None:
        chosen["kaslr-seed"] = pair(board.kaslr_seed % 2**64)
    if board.rng_seed:
        chosen["rng-seed"] = board.rng_seed
    return chosen


def _psci(psci: PsciNode) -> Properties:
    return {"compatible": list(psci.compatible), "method": psci.method, **dict(psci.cells)}


def _cpus(board: Board) -> list[tuple[str, Properties]]:
    """cpus.yaml: `reg` is the affinity, in two cells where any CPU has an Aff3."""
    affinities = [mpidr & AFFINITY for mpidr in board.mpidrs]
    wide = any(affinity >> 32 for affinity in affinities)
    nodes: list[tuple[str, Properties]]
    nodes = [("/cpus", {"#size-cells": 0, "#address-cells": 2 if wide else 1})]
    for affinity in affinities:
        cpu: Properties = {"device_type": "cpu", "compatible": board.cpu_compatible}
        # QEMU names the method only where there is a second CPU to start.
        if board.psci is not None and len(affinities) > 1:
            cpu["enable-method"] = "psci"
        cpu["reg"] = pair(affinity) if wide else affinity
        nodes.append((f"/cpus/cpu@{affinity:x}", cpu))
    return nodes


def _timer(flags: int) -> Properties:
    cells = [cell for ppi in TIMER_PPIS for cell in (PPI, ppi, flags)]
    compatible = ["arm,armv8-timer", "arm,armv7-timer"]
    return {"compatible": compatible, "always-on": None, "interrupts": cells}


def _clock() -> Properties:
    return {
        "phandle": CLOCK_PHANDLE,
        "compatible": "fixed-clock",
        "#clock-cells": 0,
        "clock-frequency": 24_000_000,  # QEMU hw/arm/virt.c create_fdt
        "clock-output-names": "clk24mhz",
    }


# --- what cannot be described -----------------------------------------------------------------


def _check(board: Board) -> None:
    affinities = {mpidr & AFFINITY for mpidr in board.mpidrs}
    if not 1 <= len(board.mpidrs) <= CPUS_MAX:
        raise BootError(f"{len(board.mpidrs)} CPUs: the machine has room for 1 to {CPUS_MAX}")
    if len(affinities) < len(board.mpidrs):
        raise BootError("two CPUs have the same affinity; give each its own MPIDR")
    for span in ((board.ram_base, board.ram_size), board.initrd or (0, 0)):
        if any(not 0 <= value < 2**64 for value in span):
            raise BootError(f"{span}: an address or a size of the device tree exceeds 64 bits")
    _check_text("the kernel command line", board.bootargs, may_be_empty=True)
    _check_text("the CPU's compatible string", board.cpu_compatible)
    for text in board.hypervisor:
        _check_text("/hypervisor compatible", text)
    if board.psci is not None:
        _check_psci(board.psci)


def _check_text(what: str, text: str, *, may_be_empty: bool = False) -> None:
    if not (text or may_be_empty) or any(not " " <= character <= "~" for character in text):
        raise BootError(f"{what} {text!r} must be printable ASCII on one line")


def _check_psci(psci: PsciNode) -> None:
    """psci.yaml, which also says that PSCI 0.1 alone needs cpu_on and cpu_off."""
    if psci.method not in ("hvc", "smc"):
        raise BootError(f"/psci method {psci.method!r} must be hvc or smc")
    if not psci.compatible:
        raise BootError('/psci needs a compatible string such as "arm,psci-1.0"')
    for text in psci.compatible:
        _check_text("/psci compatible", text)
    cells = dict(psci.cells)
    for name, value in cells.items():
        if name not in PSCI_CELLS or not 0 <= value < 2**32:
            raise BootError(f"/psci {name} = {value:#x}: 32-bit ids of {', '.join(PSCI_CELLS)}")
    if psci.compatible == ("arm,psci",) and not {"cpu_on", "cpu_off"} <= cells.keys():
        raise BootError('/psci "arm,psci" (0.1) needs the ids cpu_on and cpu_off')


# --- a tree that the user brings --------------------------------------------------------------

_HEADER = struct.Struct(">10I")  # Devicetree Specification v0.4 §5.2
_MAGIC, _VERSION, _OLDEST = 0xD00D_FEED, 17, 16  # ditto; 16 is what 17 is compatible with
_BEGIN_NODE, _END_NODE, _PROP, _NOP, _END = 1, 2, 3, 4, 9  # §5.4.1
_NAME_MAX = 255  # §2.2.4 says 31; libfdt sets no limit, and ours keeps the search short


def check_dtb(data: bytes) -> None:
    """BootError when `data` is no flattened device tree that Linux would take."""
    if len(data) > DTB_MAX:
        raise BootError(f"the device tree has {len(data)} bytes; Linux takes at most {DTB_MAX}")
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[0] != _MAGIC:
        raise BootError("the --dtb file is no flattened device tree; compile it with dtc")
    _, total, off_struct, off_strings, off_reserved, version, oldest, _, strings, size = (
        _HEADER.unpack_from(data)
    )
    if version < _OLDEST or oldest > _VERSION:
        raise BootError(f"the device tree has version {version}; write version 17 with dtc")
    if version < _VERSION:  # size_dt_struct came with 17
        size = max(0, total - off_struct)
    inside = off_struct + size <= total and off_strings + strings <= total
    if total > len(data) or not inside or off_reserved + 16 > total or off_struct % 4:
        raise BootError("the device tree is truncated or its header is broken; compile it again")
    _walk(data[off_struct : off_struct + size], data[off_strings : off_strings + strings])


def _walk(tokens: bytes, strings: bytes) -> None:
    """§5.4.2: one root node, properly nested, every name and value inside its block."""
    at, depth, roots = 0, 0, 0
    while True:
        token, at = _token(tokens, at), at + 4
        if token == _BEGIN_NODE:
            roots += depth == 0
            depth, at = depth + 1, _after_name(tokens, at)
        elif token == _END_NODE and depth:
            depth -= 1
        elif token == _PROP and depth:
            size, name = _token(tokens, at), _token(tokens, at + 4)
            _after_name(strings, name)
            at = -(-(at + 8 + size) // 4) * 4
        elif token == _END and depth == 0 and roots == 1:
            return
        elif token != _NOP:
            raise BootError(f"the device tree's structure breaks at {at - 4:#x}; compile it again")


def _token(block: bytes, at: int) -> int:
    if at + 4 > len(block):
        raise BootError("the device tree's structure ends too early; compile it again")
    return int.from_bytes(block[at : at + 4], "big")


def _after_name(block: bytes, at: int) -> int:
    """The aligned offset behind the NUL-terminated name at `at`."""
    end = block.find(b"\0", at, at + _NAME_MAX + 1)
    if end < 0:
        raise BootError("the device tree holds a name without an end; compile it again")
    return (end + 4) & ~3


def memory_of(data: bytes) -> list[tuple[int, int]]:
    """(address, size) of /memory, where it has two cells for each, as QEMU's tree has."""
    for node, name, value, _ in _properties(data):
        if len(node) == 1 and node[0].partition("@")[0] == "memory" and name == "reg":
            cells = struct.unpack(f">{len(value) // 16 * 2}Q", value[: len(value) // 16 * 16])
            return list(zip(cells[::2], cells[1::2], strict=True))
    return []


@functools.lru_cache(maxsize=32)
def find_property(data: bytes, node: str, name: str) -> tuple[int, bytes] | None:
    """Offset in the blob and value of a property of a node below the root; None without it.

    For a blob that `check_dtb` has passed, or that was generated here.
    """
    for path, found, value, at in _properties(data):
        if path == [node] and found == name:
            return at, value
    return None


def _properties(data: bytes) -> Iterator[tuple[list[str], str, bytes, int]]:
    """Every property: the path of its node without the root, name, value, offset of the value."""
    _, _, off_struct, off_strings, *_ = _HEADER.unpack_from(data)
    tokens, path = data[off_struct:], list[str]()
    at = 0
    while True:
        token, at = _token(tokens, at), at + 4
        if token == _BEGIN_NODE:
            end = _after_name(tokens, at)
            path.append(tokens[at:end].split(b"\0")[0].decode("ascii", "replace"))
            at = end
        elif token == _END_NODE:
            path.pop()
        elif token == _PROP:
            size, where = _token(tokens, at), off_strings + _token(tokens, at + 4)
            name = data[where : data.index(b"\0", where)].decode("ascii", "replace")
            yield path[1:], name, tokens[at + 8 : at + 8 + size], off_struct + at + 8
            at = -(-(at + 8 + size) // 4) * 4
        elif token == _END:
            return
