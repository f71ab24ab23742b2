"""Run the arm64 flats of kvm-unit-tests, and say of each that does not pass why.

    python tools/kvm_unit_tests.py ~/kvm-unit-tests/arm
    python tools/kvm_unit_tests.py DIR --config ~/kvm-unit-tests/arm/unittests.cfg --only gic

docs/guests.md says how the flats are built. What is run and how is read from upstream's list
(arm/unittests.cfg, the format of kvm-unit-tests docs/unittests.rst, and the older one with
`extra_params`); flats that the list leaves out are added (`EXTRA`). A flat ends with the line
`EXIT: STATUS=n` on its console: 1 is a pass, 77 all skipped, 3 a failure, 127 an abort
(lib/arm/io.c:exit, lib/abort.c). Its environment, one line in the initial RAM disk, lets it run
what it otherwise keeps from old kernels (lib/errata.h); nothing is migrated, but who asks for the
key that says so gets it.

A test that cannot pass here is in `CANNOT` with the reason. Exit status 1 when another does not
pass, 2 when there is nothing to run.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

LOAD = 0x4008_0000
"""Raw code lies here (qemu v7.2 hw/arm/boot.c: KERNEL64_LOAD_ADDR)."""
MEMORY = 256
"""MiB, which selftest-setup counts."""
MAX_SMP = 4
"""What $MAX_SMP stands for."""
LIMIT = 600
"""Seconds; micro-bench takes 100 of a machine with nothing else to do."""
ENVIRONMENT = "ERRATA_FORCE=y\n"
KEY = r"VM=>\n"
"""After "Now migrate the VM, then press a key" and "Skipped VM migration" (lib/migrate.c)."""
VERDICTS = {1: "PASS", 77: "SKIP"}

NO_ITS = "this machine's GICv3 has no interrupt translation service"
NO_WATCHPOINTS = "Unicorn has none: cpu_check_watchpoint is empty (unicorn 2.1.4 qemu/exec.c)"
NO_MEM_ACCESS = "the monitor has no event MEM_ACCESS (0x13): loads and stores are not counted"
CANNOT = {
    r"its-.*": NO_ITS,
    r"pci-test": "this machine has no PCI",
    r"pmu-(mem-access.*|chain-promotion|overflow-interrupt)": NO_MEM_ACCESS,
    r"mte-.*": "no core here has the memory tagging extension",
    r"debug-wp.*": NO_WATCHPOINTS,
}


class Trial(NamedTuple):
    """One entry of the list."""

    name: str
    file: str
    cpus: int = 1
    append: str = ""
    memory: int = MEMORY
    gic: int = 3


class Result(NamedTuple):
    """How one ended."""

    name: str
    verdict: str
    seconds: float
    reason: str = ""


EXTRA = (
    Trial("spinlock-test", "spinlock-test.flat", cpus=MAX_SMP),
    Trial("pl031", "pl031.flat"),
    Trial("sieve", "sieve.flat"),
)
"""Flats which upstream builds and does not list."""


class NothingToRun(Exception):
    """What is missing, in one line."""


# -- the list ------------------------------------------------------------------------------------


def entries(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Sections of unittests.cfg and what they set."""
    name, values = "", dict[str, str]()
    for line in map(str.strip, text.splitlines()):
        if found := re.fullmatch(r"\[([^]]+)\]", line):
            if name:
                yield name, values
            name, values = found[1], {}
        elif found := re.fullmatch(r"(\w+)\s*=\s*(.*)", line):
            values[found[1]] = found[2]
    if name:
        yield name, values


def cpus(text: str) -> int:
    """A number, $MAX_SMP, or $((($MAX_SMP < 8)?$MAX_SMP:8))."""
    if text.isdigit():
        return int(text)
    bound = re.search(r"<\s*(\d+)", text)
    return min(MAX_SMP, int(bound[1])) if bound else MAX_SMP


def plain(text: str) -> str:
    """A value without the quotes around it."""
    return " ".join(shlex.split(text))


def test_of(name: str, values: dict[str, str]) -> Trial:
    """What hvcemu is to be given for an entry."""
    words = shlex.split(values.get("qemu_params") or values.get("extra_params", ""))
    options = dict(itertools.pairwise(words))
    version = re.search(r"gic-version=(\d)", options.get("-machine", ""))
    return Trial(
        name,
        values["file"],
        cpus(values.get("smp", "1")),
        plain(values.get("test_args", "")) or options.get("-append", ""),
        int(options.get("-m", MEMORY)),
        int(version[1]) if version else 3,
    )


def read_list(text: str) -> list[Trial]:
    """The tests for arm64."""
    found = [(name, values) for name, values in entries(text) if "file" in values]
    return [
        test_of(name, values) for name, values in found
        if "arm64" in values.get("arch", "arm64").split()
    ]


# -- running -------------------------------------------------------------------------------------


def command(test: Trial, flats: Path, environment: Path, limit: int) -> list[str]:
    """The command line of one test."""
    words = [sys.executable, "-m", "emu", "run", str(flats / test.file), "--quiet"]
    words += ["--load", hex(LOAD), "--mem", f"{test.memory}M", "--gic", str(test.gic)]
    words += ["--cpus", str(test.cpus), "--initrd", str(environment)]
    words += ["--type", KEY, "--timeout", str(limit)]
    return [*words, "--append", test.append] if test.append else words


def reason_not(test: Trial) -> str:
    """Why a test cannot pass here; nothing where it should."""
    return next((why for name, why in CANNOT.items() if re.fullmatch(name, test.name)), "")


def judge(test: Trial, console: str, complaint: str = "") -> tuple[str, str]:
    """Verdict and reason from what a flat has printed, and hvcemu's last words."""
    status = re.search(r"^EXIT: STATUS=(\d+)", console, re.MULTILINE)
    verdict = VERDICTS.get(int(status[1]), "FAIL") if status else "FAIL"
    known = reason_not(test)
    if verdict == "PASS":
        return verdict, "passes after all: take it out of CANNOT" if known else ""
    if known:
        return "CANNOT", known
    said = re.findall(rf"^{verdict}: *(.*)", console, re.MULTILINE)
    last = [line for line in (*console.splitlines(), *complaint.splitlines()) if line.strip()]
    return verdict, (said or last[-1:] or ["it said nothing"])[0].strip()


def run(test: Trial, flats: Path, environment: Path, limit: int = LIMIT) -> Result:
    """Run one test to its end."""
    start = time.monotonic()
    done = subprocess.run(
        command(test, flats, environment, limit), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, errors="replace", check=False,
    )  # fmt: skip
    verdict, reason = judge(test, done.stdout, done.stderr)
    return Result(test.name, verdict, time.monotonic() - start, reason)


def results(tests: Sequence[Trial], flats: Path, jobs: int, limit: int) -> Iterator[Result]:
    """Of each test, in their order, as they end."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        environment = Path(folder, "environment")
        environment.write_text(ENVIRONMENT)
        yield from pool.map(lambda test: run(test, flats, environment, limit), tests)


# -- the command line ----------------------------------------------------------------------------


def find_list(flats: Path, config: Path | None) -> Path:
    """Upstream's list: beside the flats, or beside the folder they were built in."""
    places = [config] if config else [
        flats / "unittests.cfg", *sorted(flats.parent.parent.glob("*/arm/unittests.cfg")),
    ]  # fmt: skip
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise NothingToRun(f"no {places[0]}; name upstream's arm/unittests.cfg with --config")
    return found


def chosen(flats: Path, config: Path | None, only: str) -> list[Trial]:
    """The tests to run."""
    listed = read_list(find_list(flats, config).read_text())
    extra = [test for test in EXTRA if (flats / test.file).is_file()]
    tests = [test for test in (*listed, *extra) if only in test.name]
    if not any((flats / test.file).is_file() for test in tests):
        raise NothingToRun(f"{flats} holds no flats of such tests; docs/guests.md says how to "
                           "build them")
    return tests


def row(result: Result, width: int, *, markdown: bool) -> str:
    """One line of the table."""
    if markdown:
        return f"| {result.name} | {result.verdict} | {result.seconds:.1f} | {result.reason} |"
    line = f"{result.name:{width}}  {result.verdict:6}  {result.seconds:6.1f} s  {result.reason}"
    return line.rstrip()


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kvm_unit_tests", description=__doc__.splitlines()[0])
    parser.add_argument("flats", type=Path, metavar="DIR", help="where the *.flat are")
    parser.add_argument("--config", type=Path, metavar="FILE", help="upstream's arm/unittests.cfg")
    parser.add_argument("--only", default="", metavar="TEXT", help="tests with it in their name")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="at the same time (2)")
    parser.add_argument(
        "--limit", type=int, default=LIMIT, metavar="SECONDS", help=f"of a test ({LIMIT})"
    )
    parser.add_argument("--markdown", action="store_true", help="a table for a document")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    try:
        tests = chosen(options.flats, options.config, options.only)
    except (NothingToRun, OSError) as error:
        print(f"kvm_unit_tests: {error}", file=sys.stderr)
        return 2
    if options.markdown:
        print("| test | verdict | seconds | |\n|---|---|---|---|")
    width = max(len(test.name) for test in tests)
    failed = 0
    for result in results(tests, options.flats, max(options.jobs, 1), options.limit):
        print(row(result, width, markdown=options.markdown), flush=True)
        failed += result.verdict not in ("PASS", "CANNOT")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
