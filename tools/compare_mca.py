"""Compares the core models with llvm-mca on real blocks.

    python tools/compare_mca.py --core cortex-a53 /usr/aarch64-linux-gnu/lib/libc.so.6
    python tools/compare_mca.py --blocks 4000 guests/bin/*.elf ...

Blocks are cut out of the executable sections of the given ELF files as Unicorn would run them:
up to and including a branch, or up to where another branch leads. Both sides run each block in a
loop to its steady state: llvm-mca for twice as many turns less as many, our model in compatible
mode, which has LLVM's numbers and none of our corrections. What comes out is the mean absolute
percentage error, which says whether our implementation of the scoreboard and the bounds is right;
it says nothing about hardware (tools/accuracy.py does).

llvm-mca runs once for many blocks, each in a region of its own. Calls take 0 cycles
(-call-latency=0); by default it charges 100.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from emu.arm.a64 import Branch, Flag, decode  # noqa: E402
from emu.cycles.model import SIXTEENTHS, CostModel  # noqa: E402

TURNS = 64
LONGEST = 64
"""Instructions of a block; longer ones are unrolled copies of one thing."""
_FEATURES = "-mattr=+v8.2a,+crypto,+fullfp16,+dotprod,+fp16fml,+rcpc"


class Compared(NamedTuple):
    """One block: cycles a turn by llvm-mca and by the model."""

    code: bytes
    mca: float
    ours: float

    @property
    def error(self) -> float:
        return abs(self.ours - self.mca) / self.mca


class McaError(Exception):
    """llvm-mca is missing or fails; the text says what to do."""


def tool(name: str) -> str:
    """The newest of these tools on the path."""
    for version in ("-22", "-21", "-20", "-19", ""):
        if found := shutil.which(name + version):
            return found
    raise McaError(f"{name} is missing: install Debian's llvm, 19 or later")


# -- blocks ---------------------------------------------------------------------------------------


def code_sections(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Address and bytes of an ELF's executable sections (gABI chapter 4)."""
    (shoff,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    for number in range(count):
        header = struct.unpack_from("<IIQQQQ", data, shoff + number * size)
        kind, flags, address, offset, length = header[1:]
        if kind == 1 and flags & 4:  # SHT_PROGBITS, SHF_EXECINSTR
            yield address, data[offset : offset + length // 4 * 4]


def branch_target(word: int, branch: Branch) -> int | None:
    """Where a direct branch leads, from itself (DDI 0487 C4.1.93)."""
    if branch not in (Branch.B, Branch.CALL, Branch.COND):
        return None
    if branch is not Branch.COND:
        width, low = 26, 0
    else:  # TBZ has fourteen bits, the others nineteen
        width, low = (14, 5) if word >> 25 & 0x3F == 0b011011 else (19, 5)
    value = word >> low & (1 << width) - 1
    return 4 * (value - (value >> width - 1 << width))


def blocks_of(address: int, code: bytes) -> Iterator[bytes]:
    """The blocks of a section, in order."""
    words = struct.unpack(f"<{len(code) // 4}I", code)
    starts, branches = set(), set()
    for n, word in enumerate(words):
        branch = decode(word).branch
        if branch is not Branch.NONE:
            branches.add(n)
            if (target := branch_target(word, branch)) is not None:
                starts.add(n + target // 4)
    begin = 0
    for n in range(len(words)):
        if n in starts and n > begin:
            yield code[4 * begin : 4 * n]
            begin = n
        if n in branches:
            yield code[4 * begin : 4 * n + 4]
            begin = n + 1


def comparable(code: bytes) -> bool:
    """Known instructions only, and none that LLVM has no numbers for."""
    insns = [decode(word) for word in struct.unpack(f"<{len(code) // 4}I", code)]
    return 0 < len(insns) <= LONGEST and all(
        i.key and not i.flags & (Flag.SYSTEM | Flag.BARRIER) and i.branch is not Branch.EXCEPTION
        for i in insns
    )


def collect(paths: Iterable[Path], count: int, seed: int = 1) -> list[bytes]:
    """So many distinct blocks of these files, chosen by lot."""
    found: dict[bytes, None] = {}
    for path in paths:
        for address, code in code_sections(path.read_bytes()):
            found.update(dict.fromkeys(filter(comparable, blocks_of(address, code))))
    blocks = list(found)
    random.Random(seed).shuffle(blocks)
    return blocks[:count]


# -- llvm-mca --------------------------------------------------------------------------------------


def assembly(words: Iterable[int]) -> dict[int, str]:
    """Each word in LLVM's own syntax; words it does not know are left out."""
    ordered = sorted(set(words))
    text = "\n".join(" ".join(f"{b:#04x}" for b in struct.pack("<I", w)) for w in ordered)
    command = [
        tool("llvm-mc"), "--disassemble", "-triple=aarch64", "-mattr=+all", "--show-encoding",
    ]  # fmt: skip
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    found = {}
    for line in done.stdout.splitlines():
        if match := re.match(r"\s*(.*?)\s*// encoding: \[((?:0x[0-9a-f]{2},?){4})\]", line):
            (word,) = struct.unpack("<I", bytes(int(b, 16) for b in match[2].split(",")))
            found[word] = match[1]
    return found


def run_mca(regions: Sequence[str], mcpu: str, turns: int) -> list[int]:
    """Total cycles of each region; regions that LLVM refuses make the whole run fail."""
    text = "".join(
        f"# LLVM-MCA-BEGIN r{n}\n{region}\n# LLVM-MCA-END\n" for n, region in enumerate(regions)
    )
    command = [
        tool("llvm-mca"), "-mtriple=aarch64", f"-mcpu={mcpu}", _FEATURES, "-call-latency=0",
        f"-iterations={turns}", "-all-views=false", "-summary-view",
    ]  # fmt: skip
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise McaError(f"llvm-mca: {done.stderr.strip()[:200]}")
    return [int(cycles) for cycles in re.findall(r"^Total Cycles:\s+(\d+)", done.stdout, re.M)]


def mca_cycles(blocks: Sequence[bytes], mcpu: str, batch: int = 200) -> dict[bytes, float]:
    """Cycles a turn of each block that LLVM knows all instructions of."""
    text = assembly(w for code in blocks for w in struct.unpack(f"<{len(code) // 4}I", code))
    regions = {}
    for code in blocks:
        words = struct.unpack(f"<{len(code) // 4}I", code)
        if all(word in text for word in words):
            regions[code] = "\n".join(text[word] for word in words)
    found: dict[bytes, float] = {}
    codes = list(regions)
    for start in range(0, len(codes), batch):
        found.update(_measure(codes[start : start + batch], regions, mcpu))
    return found


def _measure(codes: list[bytes], regions: dict[bytes, str], mcpu: str) -> dict[bytes, float]:
    """A batch; where LLVM refuses it, its halves, down to the block that is refused."""
    texts = [regions[code] for code in codes]
    try:
        once, twice = (run_mca(texts, mcpu, turns) for turns in (TURNS, 2 * TURNS))
    except McaError:
        if len(codes) == 1:
            return {}
        middle = len(codes) // 2
        first = _measure(codes[:middle], regions, mcpu)
        return first | _measure(codes[middle:], regions, mcpu)
    return {c: (b - a) / TURNS for c, a, b in zip(codes, once, twice, strict=True)}


def compare(model: CostModel, blocks: Sequence[bytes], mcpu: str) -> list[Compared]:
    """Every block that both know."""
    return [
        Compared(code, cycles, model.block(code).total / SIXTEENTHS)
        for code, cycles in mca_cycles(blocks, mcpu).items()
        if cycles
    ]


def mape(compared: Sequence[Compared]) -> float:
    """Mean absolute percentage error."""
    return 100 * sum(c.error for c in compared) / len(compared)


def main(arguments: list[str] | None = None) -> int:
    from emu.arm.cores import BORROWED
    from emu.cycles.cores import core

    parser = argparse.ArgumentParser(prog="compare_mca.py", description=__doc__.split("\n")[0])
    parser.add_argument("--core", action="append", help="default: all that LLVM has a model of")
    parser.add_argument("--blocks", type=int, default=4000)
    parser.add_argument("--worst", type=int, default=0, help="show so many of the worst blocks")
    parser.add_argument("elf", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    cores = options.core or ["cortex-a53", "cortex-a55", "cortex-a57", "neoverse-n1"]
    try:
        blocks = collect(options.elf, options.blocks)
        for name in cores:
            found = compare(core(name, compatible=True), blocks, BORROWED.get(name, name))
            print(f"{name:<12} {len(found):>6} blocks, MAPE {mape(found):5.2f} %")
            show_worst(found, options.worst)
    except McaError as error:
        print(f"compare_mca: {error}", file=sys.stderr)
        return 1
    return 0


def show_worst(found: Sequence[Compared], count: int) -> None:
    for one in sorted(found, key=lambda c: -c.error)[:count]:
        print(f"  mca {one.mca:.2f}, ours {one.ours:.2f}")
        words = struct.unpack(f"<{len(one.code) // 4}I", one.code)
        text = assembly(words)
        for word in words:
            print(f"    {word:08x}  {text[word]:<40} {decode(word).key}")


if __name__ == "__main__":
    sys.exit(main())
