"""Each core's caches: sizes of one chip that has it, and times that were measured there.

Times of a load beyond the first level's are from tinymembench (random reads, each waiting for the
one before; it gives the time beyond the first level's), as sbc-bench ran it:
github.com/ThomasKaiser/sbc-bench, results/<name>.txt at 53f79517, in huge pages where there are
any. A row says for buffers of 2, 4, 8 … times a cache what a read took in the mean; where a part
m of them misses, the level behind takes (row - the others' part) / m. Sizes are the chip's, ways
the core's (its Technical Reference Manual, or the DSU's).

Each core's file has the rows of its board.

Boards of one chip differ by 10 % in memory, chips by half: --freq says how many cycles it is.

What a line of a stream takes, by the second level: TI's lat_mem_rd with a stride of 128 bytes
(Processor SDK guides: AM62x, 1.4 GHz, SDK 12.01, 125k: 5.56 ns, 7.8 cycles; J721E, Cortex-A72 at
2 GHz, SDK 11.00, 125k: 5.65 ns, 11.3 cycles); by memory, AM62x 1000k: 49 ns; J721E, bw_mem-rd of
16 MB: 5166 MB/s, 64 bytes in 12.4 ns. The others: loads of sbc-bench (6197 MB/s Cortex-A55,
16,880 MB/s Cortex-A76; half of what memcpy moves, 13,254 MB/s on the Altra and 4099 MB/s on the
Tegra, is an upper bound that is used as it is), and carried over: a line does not take longer from
the third level than from memory, nor longer in a stream than alone. Cortex-A57: as Cortex-A72.

An out-of-order core's window is 128 instructions (LLVM's MicroOpBufferSize of its Cortex-A57 and
Neoverse N1), which take 128 / 3 or 128 / 4 cycles to execute at its width.

Neoverse V1 and N2: nobody whom we can cite has measured them this way, so there is no `cache`.
"""

from __future__ import annotations

from typing import NamedTuple

from emu.base.errors import EmuError
from emu.cycles.caches import Hierarchy, Shape
from emu.cycles.cores import caches
from emu.cycles.model import SIXTEENTHS

KIB, LINE, NANO = 1 << 10, 64, 10**9
WINDOW = 128


class Level(NamedTuple):
    """A cache: KiB and ways; a load's time beyond the first level and a line's in a stream."""

    kib: int
    ways: int
    latency: int = 0
    transfer: int = 0
    """Both in tenths of a cycle."""

    @property
    def shape(self) -> Shape:
        """As the engine has it."""
        return Shape(self.kib * KIB // LINE // self.ways if self.ways else 1, self.ways)


class Caches(NamedTuple):
    """A core's; memory in tenths of a nanosecond."""

    chip: str
    data: Level
    code: Level
    own: Level
    shared: Level
    latency: int
    transfer: int
    width: int = 0
    """Instructions of the window that are executed a cycle; 0 in order."""


NO_LEVEL = Level(0, 0)


def hierarchy(name: str, hz: int, base: int = 0) -> Hierarchy:
    """A core's caches at so many cycles a second; memory begins at `base`."""
    core = caches(name)
    if core is None:
        raise EmuError(f"nobody we can cite has measured the caches of {name}")
    made = Hierarchy(base, core.data.shape, core.code.shape, core.own.shape, core.shared.shape)
    made.latency[:] = (
        _cycles(core.own.latency), _cycles(core.shared.latency), _nanoseconds(core.latency, hz)
    )  # fmt: skip
    made.transfer[:] = (
        _cycles(core.own.transfer), _cycles(core.shared.transfer), _nanoseconds(core.transfer, hz)
    )  # fmt: skip
    if core.width:
        made.window, made.hidden = WINDOW, WINDOW * SIXTEENTHS // core.width
    return made


def _cycles(tenths: int) -> int:
    return tenths * SIXTEENTHS // 10


def _nanoseconds(tenths: int, hz: int) -> int:
    return min(tenths * hz * SIXTEENTHS // (10 * NANO), (1 << 32) - 1)
