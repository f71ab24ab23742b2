"""Compares the core models with real hardware, and writes the accuracy table of the README.

    python tools/accuracy.py --coremark PATH --interpreter LD
    python tools/accuracy.py --coremark PATH --interpreter LD --dhrystone PATH --write README.md

CoreMark must be the very binary whose results are compared: that of the freqbench project, which
measured it on phones (kdrag0n/freqbench, bin/coremark and its musl loader). Neither it nor
Dhrystone is part of this repository. Dhrystone takes the number of runs as its argument. The loops
of guests/latency_loops.c are compared with what Texas Instruments measured with lmbench, walks over
memory with what boards were measured to take (memory_accuracy.py).

A program runs twice on the engine of each core, with more and with fewer iterations; what the
longer run takes more is what is compared.
"""

from __future__ import annotations

import argparse
import ctypes
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from compare_mca import blocks_of, branch_target  # noqa: E402
from memory_accuracy import table as memory_table  # noqa: E402
from memory_accuracy import walks  # noqa: E402
from user_program import UserProgram  # noqa: E402

from emu.arm.a64 import Branch, decode  # noqa: E402
from emu.base.errors import EmuError  # noqa: E402
from emu.cycles.block_costs import BlockCosts  # noqa: E402
from emu.cycles.caches import Caches  # noqa: E402
from emu.cycles.cores import caches, core, names  # noqa: E402
from emu.cycles.cores.chains import is_chained  # noqa: E402
from emu.cycles.model import SIXTEENTHS  # noqa: E402
from emu.cycles.predictor import Predictor  # noqa: E402
from emu.engine.engine import Engine  # noqa: E402
from emu.images.elf import load_elf  # noqa: E402
from emu.images.image import Image, Ram, Wish  # noqa: E402
from emu.machine.timing import Timing, hierarchy_of, misprediction_of  # noqa: E402

COREMARK_PER_MHZ: Mapping[str, tuple[float, str]] = {
    # Medians over phones of freqbench's results, and what is to be said of them.
    "cortex-a53": (3.247, ""),
    "cortex-a55": (3.713, ""),
    "cortex-a76": (7.79, ""),
    "neoverse-v1": (9.29, "Cortex-X1, its sibling; not looked at while the model was made"),
}
COREMARK_ARGUMENTS = "0x0 0x0 0x66 {} 7 1 2000"
"""freqbench's own, but for the number of iterations."""
COREMARK_ITERATIONS = 30, 10
DMIPS_PER_MHZ: Mapping[str, tuple[float, float]] = {
    # Texas Instruments, Processor SDK Linux performance guides: lowest and highest
    "cortex-a53": (2.75, 2.91),
    "cortex-a72": (5.1, 5.7),
}
DHRYSTONES_OF_A_MIPS = 1757
"""A VAX 11/780's, which counts as one MIPS."""
DHRYSTONE_RUNS = 3_000, 1_000
LOOPS: Mapping[tuple[str, str], Mapping[str, float]] = {
    # The same guides: lat_ops and lat_mem_rd, as cycles. lat_ops counts its own loop, so that a
    # multiplication of 4 cycles reads 4.3.
    ("latency", "add"): {"cortex-a53": 1.0, "cortex-a72": 1.0},
    ("latency", "mul_32"): {"cortex-a53": 4.3, "cortex-a72": 3.0},
    ("latency", "mul_64"): {"cortex-a53": 5.0, "cortex-a72": 5.0},
    ("latency", "sdiv_32"): {"cortex-a53": 6.0, "cortex-a72": 8.0},
    ("latency", "sdiv_64"): {"cortex-a53": 9.5, "cortex-a72": 6.0},
    ("latency", "load"): {"cortex-a53": 3.0, "cortex-a72": 4.0},
    ("latency", "fadd_32"): {"cortex-a53": 4.0, "cortex-a72": 4.0},
    ("latency", "fadd_64"): {"cortex-a53": 4.0, "cortex-a72": 4.0},
    ("latency", "fmul_32"): {"cortex-a53": 4.0, "cortex-a72": 4.0},
    ("latency", "fmul_64"): {"cortex-a53": 4.0, "cortex-a72": 4.0},
    ("latency", "fdiv_32"): {"cortex-a53": 13.0, "cortex-a72": 11.0},
    ("latency", "fdiv_64"): {"cortex-a53": 22.0, "cortex-a72": 18.0},
}
HZ = 1_500_000_000
"""Cycles a second, where memory matters."""
OPERATIONS = 32
"""Of one turn of a loop in guests/latency_loops.c."""
MARKS = "<!-- accuracy: tools/accuracy.py -->", "<!-- accuracy ends -->"


class Program(NamedTuple):
    """A program and what loads it."""

    path: Path
    interpreter: Path | None


class Row(NamedTuple):
    """One line of the table: what was measured, and what the timings say (timing.py)."""

    what: str
    core: str
    measured: str
    truth: float
    """What errors are relative to; 0 where nothing was measured."""
    block: float
    branch: float = 0
    cache: float = 0
    note: str = ""


def timed(name: str, timing: Timing) -> tuple[Engine, list[Any]]:
    """An engine that counts a core's cycles, and the memory it uses for that."""
    engine = Engine()
    kept: list[Any] = []
    cached = timing is Timing.CACHE
    engine.account(BlockCosts(core(name), chains=is_chained if cached else None))
    if timing.predicts:
        kept.append(Predictor())
        engine.hooks.predict(ctypes.addressof(kept[0]), misprediction_of(name))
    if cached:
        shape = hierarchy_of(name, HZ)
        parts = Caches(), shape, shape.last_level_type()()
        kept += parts
        engine.hooks.cache(*map(ctypes.addressof, parts))
    return engine, kept


def run(program: Program, arguments: str, name: str, timing: Timing) -> int:
    """Cycles of one run."""
    engine, _kept = timed(name, timing)
    words = arguments.split()
    return UserProgram(
        program.path, words, interpreter=program.interpreter, engine=engine
    ).run().cycles  # fmt: skip


def difference(
    program: Program, arguments: str, counts: tuple[int, int], name: str, timing: Timing
) -> float:
    """Cycles of one iteration on a core: a run of many less one of few, over what they differ."""
    more, less = (run(program, arguments.format(count), name, timing) for count in counts)
    return (more - less) / (counts[0] - counts[1])


def each(
    program: Program, arguments: str, counts: tuple[int, int], name: str
) -> tuple[float, float, float]:
    """Cycles of one iteration: the blocks alone, with a branch predictor, with caches too."""

    def found(timing: Timing) -> float:
        return difference(program, arguments, counts, name, timing)

    cache = found(Timing.CACHE) if caches(name) else 0
    return found(Timing.BLOCK), found(Timing.BRANCH), cache


def coremark(program: Program, wanted: Sequence[str]) -> Iterator[Row]:
    """Cycles an iteration."""
    for name in wanted:
        found = each(program, COREMARK_ARGUMENTS, COREMARK_ITERATIONS, name)
        score, note = COREMARK_PER_MHZ.get(name, (0.0, ""))
        truth = 1_000_000 / score if score else 0
        yield Row("CoreMark, cycles", name, f"{truth:,.0f}" if score else "-", truth,
                  *found, note)  # fmt: skip


def dhrystone(program: Program, wanted: Sequence[str]) -> Iterator[Row]:
    """Dhrystone MIPS per MHz."""
    for name in wanted:
        block, branch, cache = (
            1e6 / cycles / DHRYSTONES_OF_A_MIPS if cycles else 0
            for cycles in each(program, "{}", DHRYSTONE_RUNS, name)
        )
        low, high = DMIPS_PER_MHZ.get(name, (0, 0))
        yield Row("Dhrystone, DMIPS/MHz", name, f"{low} to {high}" if high else "-",
                  (low + high) / 2, block, branch, cache,
                  "another compiler and libc" if high else "")  # fmt: skip


def loop_code(image: Image, symbol: str) -> list[bytes]:
    """The blocks of the one loop in a function of guests/latency_loops.c."""
    found = image.symbols.find(symbol)
    if found is None:
        raise EmuError(f"{image.path}: there is no symbol {symbol}")
    for segment in image.segments:
        at = found.address - segment.address
        if 0 <= at < len(segment.data):
            code = segment.data[at : at + found.size]
            break
    words = struct.unpack(f"<{len(code) // 4}I", code)
    for n in reversed(range(len(words))):
        branch = decode(words[n]).branch
        target = branch_target(words[n], branch) if branch is Branch.COND else None
        if target is not None and target < 0:
            return list(blocks_of(0, code[4 * n + target : 4 * n + 4]))
    raise EmuError(f"{image.path}: no loop in {symbol}")


def loops(path: Path, wanted: Sequence[str]) -> Iterator[Row]:
    """Cycles an operation."""
    image = load_elf(path.read_bytes(), Wish(str(path), Ram(), None, None))
    for (kind, name), truths in LOOPS.items():
        code = loop_code(image, f"{kind}_{name}")
        for target, truth in truths.items():
            if target not in wanted:
                continue
            total = sum(core(target).block(block).total for block in code)
            found = total / SIXTEENTHS / OPERATIONS
            what = f"{kind} of {name.replace('_', ' ')}"
            yield Row(what, target, f"{truth:g}", truth, found)


def with_error(value: float, truth: float) -> str:
    """A figure and how far off it is."""
    if not value:
        return ""
    text = f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
    return f"{text} ({100 * (value / truth - 1):+.1f} %)" if truth else text


def table(rows: Sequence[Row]) -> str:
    """The programs as Markdown, and behind them the loops, a line for all cores."""
    programs = [row for row in rows if row.branch]
    timings = (f"`--timing {timing}`" for timing in ("block", "branch", "cache"))
    lines = [f"| what | core | measured | {' | '.join(timings)} |", "|---" * 6 + "|"]
    for row in programs:
        measured = f"{row.measured} ({row.note})" if row.note else row.measured
        found = (with_error(n, row.truth) for n in (row.block, row.branch, row.cache))
        lines.append(f"| {row.what} | {row.core} | {measured} | {' | '.join(found)} |")
    return "\n".join([*(lines if programs else []), "", *loop_table(rows)]).lstrip() + "\n"


def loop_table(rows: Sequence[Row]) -> Iterator[str]:
    """The loops: for each core what was measured, and what the model says."""
    loops = [row for row in rows if not row.branch]
    cores = list(dict.fromkeys(row.core for row in loops))
    yield "| cycles an operation |" + "".join(f" {core}, measured | model |" for core in cores)
    yield "|---" * (1 + 2 * len(cores)) + "|"
    for what in dict.fromkeys(row.what for row in loops):
        found = {row.core: row for row in loops if row.what == what}
        yield f"| {what} |" + "".join(
            f" {found[core].measured} | {found[core].block:g} |" if core in found else " | |"
            for core in cores
        )


def write(path: Path, text: str) -> None:
    """Put the table between its marks."""
    page = path.read_text(encoding="utf-8")
    begin, end = MARKS
    if page.count(begin) != 1 or page.count(end) != 1:
        raise EmuError(f"{path}: the marks {begin} and {end} must stand once each")
    head, rest = page.split(begin)
    tail = rest.split(end)[1]
    path.write_text(f"{head}{begin}\n{text}{end}{tail}", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="accuracy.py", description=__doc__.split("\n")[0])
    parser.add_argument("--coremark", type=Path)
    parser.add_argument("--dhrystone", type=Path)
    parser.add_argument("--interpreter", type=Path, help="the programs' dynamic linker")
    parser.add_argument("--core", action="append", help="default: all")
    parser.add_argument("--all", action="store_true", help="also what nobody has measured")
    parser.add_argument("--write", type=Path, help="a page that has the table's marks")
    options = parser.parse_args(arguments)
    wanted = options.core or [name for name in names() if name != "flat"]
    rows: list[Row] = []
    try:
        if options.coremark:
            rows += coremark(Program(options.coremark, options.interpreter), wanted)
        if options.dhrystone:
            rows += dhrystone(Program(options.dhrystone, options.interpreter), wanted)
        rows += loops(ROOT / "guests" / "bin" / "latency_loops.elf", wanted)
        text = table([row for row in rows if row.truth or options.all])
        found = list(walks(ROOT / "guests" / "bin" / "memory_walk.elf", wanted))
        text += f"\n{memory_table(found)}" if found else ""
        if options.write:
            write(options.write, text)
    except EmuError as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return 2
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
