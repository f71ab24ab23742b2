"""Each core's caches: sizes of one chip that has it, and times that were measured there.

Times of a load beyond the first level's are from tinymembench (random reads, each waiting for the
one before; it gives the time beyond the first level's), as sbc-bench ran it:
github.com/ThomasKaiser/sbc-bench, results/<name>.txt at 53f79517, in huge pages where there are
any. A row says for buffers of 2, 4, 8 … times a cache what a read took in the mean; where a part
m of them misses, the level behind takes (row - the others' part) / m. Sizes are the chip's, ways
the core's (its Technical Reference Manual, or the DSU's).

cortex-a53, NanoPi NEO4 (RK3399, 1509 MHz, 4pCK): 6.9, 10.9, 13.3 cycles at 64, 128 and 256 KiB,
  so 13.8, 14.5 and 15.2 a miss: 14 from the second level; Hennessy and Patterson (6th ed., 2.6)
  have 13. Memory 151 ns at 64 MiB.
cortex-a72, the same board (2014 MHz): 8.3, 12.5, 14.7: 16.6, 16.7, 16.8 a miss. Memory 155 ns.
cortex-a57, Jetson Nano (Tegra X1, 1476 MHz, 4rLX): 6.2, 9.4, 11.2 ns: 18.3, 18.5, 18.9 cycles.
  Memory 133.5 ns.
cortex-a55, ROCK 5B (RK3588, 1797 MHz, 4qJr, small pages): 2.9 and 5.2 cycles at 64 and 128 KiB,
  so 6 a miss; 22.3 at 512 KiB is 28 from the third level; 159 at 8 MiB is 133 ns from memory.
cortex-a76, the same board (2291 MHz): 3.0 at 128 KiB, so 6; 26.1 at 1 MiB is 47; 190 at 8 MiB is
  122 ns.
neoverse-n1, Ampere Altra (2999 MHz, 4kiu): 3.6, 5.4, 6.3 at 128, 256 and 512 KiB: 7.2 a miss;
  64.5 at 4 MiB is 84 from the system's cache; 245 at 64 MiB is 135 ns from memory.

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

from emu.cycles.caches import Hierarchy, Shape
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
CACHES = {
    "cortex-a53": Caches(
        "Rockchip RK3399", Level(32, 4), Level(32, 2), NO_LEVEL, Level(512, 16, 140, 48),
        1510, 470,
    ),
    "cortex-a55": Caches(
        "Rockchip RK3588", Level(32, 4), Level(32, 4), Level(128, 4, 60, 60),
        Level(3072, 12, 280, 185), 1330, 103,
    ),
    "cortex-a57": Caches(
        "NVIDIA Tegra X1", Level(32, 2), Level(48, 3), NO_LEVEL, Level(2048, 16, 185, 73),
        1335, 136, width=3,
    ),
    "cortex-a72": Caches(
        "Rockchip RK3399", Level(32, 2), Level(48, 3), NO_LEVEL, Level(1024, 16, 167, 73),
        1550, 104, width=3,
    ),
    "cortex-a76": Caches(
        "Rockchip RK3588", Level(64, 4), Level(64, 4), Level(512, 8, 60, 60),
        Level(3072, 12, 470, 87), 1220, 38, width=4,
    ),
    "neoverse-n1": Caches(
        "Ampere Altra", Level(64, 4), Level(64, 4), Level(1024, 8, 72, 72),
        Level(32768, 16, 840, 145), 1350, 48, width=4,
    ),
}  # fmt: skip
"""By core, with the chip that was measured."""


def hierarchy(name: str, hz: int, base: int = 0) -> Hierarchy:
    """A core's caches at so many cycles a second; memory begins at `base`."""
    core = CACHES[name]
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
