"""How long loads wait, against real boards: what `--timing cache` is worth, for accuracy.py.

guests/memory_walk.c runs on each core at each board's frequency. Measured: sbc-bench's tinymembench
and TI's lat_mem_rd, whose sources hierarchies.py and each core's file give. Boards its figures are
from are `fitted`; the others have the same core and mostly another memory: no figure is from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from emu.machine.timing import Timing
from emu.machine.vm import Vm

SIZES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""KiB."""
SHOWN = 128, 1024, 8192
"""Of these, what the table shows."""
MOST = 1 << 16
"""Bytes of the console that are kept."""


class Board(NamedTuple):
    """What was measured: nanoseconds by size, beyond the first level's for `random`."""

    core: str
    name: str
    mhz: int
    how: str
    fitted: bool
    nanoseconds: tuple[float, ...]


BOARDS = (
    Board("cortex-a53", "NanoPi NEO4, RK3399", 1509, "random", True,
          (4.6, 7.2, 8.8, 10.8, 78.5, 115.1, 133.8, 143.0)),
    Board("cortex-a53", "Flipper One, RK3576", 2089, "random", False,
          (3.4, 5.2, 6.5, 8.5, 72.6, 106.8, 124.4, 132.8)),
    Board("cortex-a53", "AM62x SK", 1400, "stride", True, (5.24, 5.56, 5.84, 17.40, 49.14)),
    Board("cortex-a53", "J722S EVM", 1400, "stride", False, (5.27, 5.61, 5.83, 10.30, 33.21)),
    Board("cortex-a55", "ROCK 5B, RK3588", 1797, "random", True,
          (1.6, 2.9, 8.4, 12.4, 15.3, 19.9, 45.7, 88.7)),
    Board("cortex-a55", "ROCK 5C, RK3588S", 1777, "random", False,
          (1.8, 2.9, 8.4, 12.4, 15.3, 18.7, 40.0, 80.9)),
    Board("cortex-a57", "Jetson Nano, Tegra X1", 1476, "random", True,
          (6.2, 9.4, 11.2, 12.6, 14.6, 27.6, 76.4, 106.9)),
    Board("cortex-a57", "Jetson Nano 2GB, Tegra X1", 1995, "random", False,
          (4.6, 6.9, 8.1, 8.9, 10.0, 26.3, 80.1, 104.2)),
    Board("cortex-a72", "NanoPi NEO4, RK3399", 2014, "random", True,
          (4.1, 6.2, 7.3, 8.2, 13.5, 86.8, 121.8, 138.6)),
    Board("cortex-a72", "Flipper One, RK3576", 2292, "random", False,
          (3.6, 5.4, 6.4, 7.2, 9.9, 78.2, 111.9, 127.5)),
    Board("cortex-a72", "J721E EVM", 2000, "stride", True, (5.34, 5.57, 5.57, 5.73, 11.48)),
    Board("cortex-a72", "AM68 SK", 2000, "stride", False, (5.12, 5.57, 5.57, 6.85, 12.45)),
    Board("cortex-a76", "ROCK 5B, RK3588", 2291, "random", True,
          (0.1, 1.3, 2.6, 3.6, 11.4, 17.1, 39.1, 83.0)),
    Board("cortex-a76", "ROCK 5C, RK3588S", 2251, "random", False,
          (0.1, 1.3, 2.6, 5.7, 11.5, 16.9, 37.3, 75.8)),
    Board("neoverse-n1", "Huaqin P6410, Altra", 2999, "random", True,
          (0.0, 1.2, 1.8, 2.1, 2.4, 15.1, 21.5, 24.8)),
    Board("neoverse-n1", "ADLINK AVA, Altra", 2598, "random", False,
          (0.0, 1.4, 2.2, 2.6, 4.3, 20.8, 29.7, 35.6)),
)  # fmt: skip
"""sbc-bench results 4pCK, Xd38a, 4qJr, 5pv8oh, 4rLX, 3Ufc, 4kiu, 4zkJ; TI's guides, sizes of 62k,
125k, 250k, 500k and 1000k."""


class Walk(NamedTuple):
    """Cycles of a load by size, as measured and by each timing."""

    board: Board
    measured: tuple[float, ...]
    found: dict[Timing, tuple[float, ...]]

    def error(self, timing: Timing) -> float:
        """Mean of the errors, in percent, whatever their sign."""
        pairs = list(zip(self.found[timing], self.measured, strict=True))
        return 100 * sum(abs(ours / truth - 1) for ours, truth in pairs) / len(pairs)


def readings(guest: Path, board: Board, timing: Timing) -> dict[tuple[str, int], float]:
    """What the guest prints: cycles by kind and KiB."""
    vm = Vm(guest, core=board.core, timing=timing, freq=board.mhz * 1_000_000)
    vm.run()
    lines = [line.split() for line in vm.console.text(MOST).splitlines()]
    return {(words[0], int(words[1])): float(words[3]) for words in lines if len(words) == 4}


def walks(guest: Path, wanted: Sequence[str]) -> Iterator[Walk]:
    """Every board of the wanted cores."""
    for board in BOARDS:
        if board.core not in wanted:
            continue
        sizes = SIZES[: len(board.nanoseconds)]
        found, first = {}, 0.0
        for timing in (Timing.BLOCK, Timing.CACHE):
            read = readings(guest, board, timing)
            first = read["stride", 16] if board.how == "random" else 0
            found[timing] = tuple(first + read[board.how, size] for size in sizes)
        measured = tuple(first + time * board.mhz / 1000 for time in board.nanoseconds)
        yield Walk(board, measured, found)


def table(found: Sequence[Walk]) -> str:
    """A line for each board: cycles of a load, measured and ours, and the mean error of all."""
    titles = (
        "cycles of a load from", "walk", *(f"{size} KiB, measured | model" for size in SHOWN),
        "mean error, `block`", "`cache`",
    )  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", "|---" * (len(titles) + len(SHOWN)) + "|"]
    for walk in found:
        board = walk.board
        unseen = "" if board.fitted else ", unseen"
        cells = [f"{board.core}, {board.name}, {board.mhz} MHz{unseen}", board.how]
        for size in SHOWN:
            at = SIZES.index(size)
            known = at < len(walk.measured)
            cells.append(_figure(walk.measured[at]) if known else "")
            cells.append(_figure(walk.found[Timing.CACHE][at]) if known else "")
        cells += [f"{walk.error(timing):.0f} %" for timing in walk.found]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _figure(cycles: float) -> str:
    return f"{cycles:.0f}" if cycles >= 100 else f"{cycles:.1f}"
