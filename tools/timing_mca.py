"""Questions to llvm-mca: a core's instruction tables, and when an instruction issues.

Everything is asked in bulk, because a process costs more than thousands of instructions. What
llvm-mca prints for `-instruction-tables=full` and as JSON for `-timeline` is taken as facts.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from timing_words import FEATURES

BATCH = 4000
"""Regions in one process: bounds the memory, 70 µs each."""


class McaError(RuntimeError):
    """llvm-mca is missing or does not answer as expected."""


class Resource(NamedTuple):
    name: str
    units: int
    members: tuple[str, ...]
    """Of a group: the resources that it may use."""


class Entry(NamedTuple):
    """A line of the instruction tables."""

    uops: int
    latency: int
    throughput: float
    ports: tuple[tuple[str, int], ...]
    opcode: str


class Mca:
    """llvm-mca for one core."""

    def __init__(self, program: str, core: str) -> None:
        self.program, self.core = program, core

    def run(self, source: str, *options: str) -> str:
        done = subprocess.run(
            [self.program, "-mtriple=aarch64", f"-mcpu={self.core}", f"-mattr={FEATURES}",
             "-skip-unsupported-instructions=any", "-call-latency=1", *options],
            input=source, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise McaError(f"{self.program} {self.core}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def width(self) -> int:
        """The dispatch (or issue) width."""
        found = re.search(r"Dispatch Width:\s*(\d+)", self.run("nop\n", "-iterations=1"))
        assert found
        return int(found[1])

    def resources(self) -> list[Resource]:
        text = self.run("nop\n", "-instruction-tables=full").partition("Resources:")[2]
        found = []
        for line in text.partition("\n\n\n")[0].splitlines():
            if match := re.match(r"\[\d+\]\s+- (\w+):(\d+)\s*(.*)$", line):
                members = tuple(m.strip() for m in match[3].split(",") if m.strip())
                found.append(Resource(match[1], int(match[2]), members))
        return found

    def tables(self, lines: Sequence[str]) -> list[Entry | None]:
        """The table's entry for each line; None where the core has no timing."""
        source = "".join(f"# LLVM-MCA-BEGIN r{i}\n{s}\n# LLVM-MCA-END\n"
                         for i, s in enumerate(lines))  # fmt: skip
        text = self.run(source, "-instruction-tables=full", "-resource-pressure=0")
        found: list[Entry | None] = [None] * len(lines)
        for region in re.split(r"^\[\d+\] Code Region - r", text, flags=re.M)[1:]:
            number, _, rest = region.partition("\n")
            body = rest.partition("Instructions:\n")[2].strip("\n")
            if body:
                found[int(number)] = _entry(body.splitlines()[0])
        return found

    def issues(self, regions: Sequence[Sequence[str]]) -> list[list[int] | None]:
        """The cycle in which each instruction of each region issues; None where one is unknown."""
        found: list[list[int] | None] = []
        for start in range(0, len(regions), BATCH):
            found += self._issues(regions[start : start + BATCH])
        return found

    def _issues(self, regions: Sequence[Sequence[str]]) -> list[list[int] | None]:
        source = "".join(
            f"# LLVM-MCA-BEGIN r{i}\n" + "\n".join(lines) + "\n# LLVM-MCA-END\n"
            for i, lines in enumerate(regions)
        )
        text = self.run(source, "-iterations=1", "-timeline", "-timeline-max-cycles=0",
                        "-instruction-info=0", "-resource-pressure=0", "-json")  # fmt: skip
        found: list[list[int] | None] = [None] * len(regions)
        for region in json.loads(text)["CodeRegions"]:
            number = int(region["Name"][1:])
            when = [line["CycleIssued"] for line in region["TimelineView"]["TimelineInfo"]]
            if len(when) == len(regions[number]):
                found[number] = when
        return found


_NUMBERS = re.compile(r"\s*(\d+)\s+(\d+)\s+([\d.]+)\s+(?:\*\s+)?(?:\*\s+)?(?:U\s+)?\d+\s+")


def _entry(line: str) -> Entry:
    """`uops latency throughput [load] [store] [effects] bypass [ports] opcode instruction`."""
    match = _NUMBERS.match(line)
    if match is None:
        raise McaError(f"llvm-mca: cannot read {line!r}")
    # the instruction is mnemonic, tab, operands: what stands before is ports and opcode
    words = line[match.end() :].partition("\t")[0].split()[:-1]
    ports = []
    for part in re.split(r",(?![^\[]*\])", words[0]) if len(words) > 1 else ():
        name, _, cycles = part.rstrip("]").partition("[")
        ports.append((name, int(cycles.rpartition(",")[2] or 1)))
    return Entry(int(match[1]), int(match[2]), float(match[3]), tuple(ports), words[-1])
