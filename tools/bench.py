"""Measures the emulator's figures, as ratios within one run.

    python tools/bench.py                 everything, about a minute
    python tools/bench.py hvc speed       only these; --hvc --speed is the same
    python tools/bench.py --json          one JSON object

Times on a shared machine drift, so each figure is the median of several rounds and stands beside
something measured in the same round: bare Unicorn without hooks for speed, QEMU (when it is
installed) for whole processes. A goal is a note in the table, never an assertion.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from emu.engine.engine import native_available  # noqa: E402
from emu.machine.vm import Vm  # noqa: E402

GUESTS = ROOT / "guests" / "bin"
ROUNDS = 5
MIB = 1 << 20


class Figure(NamedTuple):
    """One row: what was measured, its value, what it is compared with, and the goal."""

    name: str
    value: str
    against: str
    goal: str


def median(measure: Callable[[], float], rounds: int = ROUNDS) -> float:
    """The median of several measurements."""
    return statistics.median(measure() for _ in range(rounds))


def with_loops(name: str, loops: int, **options: Any) -> Vm:
    """A VM of a guest whose `loop_count` is set."""
    vm = Vm(GUESTS / f"{name}.elf", **options)
    address = vm.image.symbols.address("loop_count")
    assert address is not None
    vm.engine.write(address, struct.pack("<Q", loops))
    return vm


def timed_run(vm: Vm) -> float:
    """Seconds a VM takes to its end."""
    start = time.perf_counter()
    vm.run()
    return time.perf_counter() - start


def hvc() -> Iterator[Figure]:
    """HVCs answered by a Python service, trace off."""
    for native, loops, goal in ((True, 500_000, 500_000), (False, 100_000, 100_000)):
        if native and not native_available():
            continue
        half = "native" if native else "Python"

        def rate(native: bool = native, loops: int = loops) -> float:
            return loops / timed_run(with_loops("hvc_loop", loops, native=native))

        value = median(rate)
        yield Figure(
            f"PSCI_VERSION by HVC, {half} half",
            f"{value:,.0f} /s",
            f"{value / goal:.2f} × the goal",
            f"≥ {goal:,} /s",
        )


def el2() -> Iterator[Figure]:
    """`El2.hypercall` alone, no guest."""
    from emu.world.monitor import El2

    machine, count = El2("kvm-6.12"), 200_000

    def rate() -> float:
        start = time.perf_counter()
        for _ in range(count):
            machine.hypercall(0x8400_0000)
        return count / (time.perf_counter() - start)

    value = median(rate)
    yield Figure("El2.hypercall alone", f"{value:,.0f} /s", f"{value / 300_000:.2f} × the goal",
                 "≥ 300,000 /s")


def golden() -> Iterator[Figure]:
    """Every recording of a real kernel, replayed on one core."""
    sys.path.insert(0, str(ROOT / "tools"))
    from kvm_recorder.recording import read
    from kvm_recorder.replay import replay

    operations, start = 0, time.perf_counter()
    files = sorted((ROOT / "tests" / "golden").glob("*.jsonl.xz"))
    for path in files:
        recording = read(path)
        operations += len(recording)
        for difference in replay(recording, "-".join(path.name.split("-")[:2])):
            print(difference, file=sys.stderr)
    seconds = time.perf_counter() - start
    yield Figure(f"{len(files)} recordings replayed", f"{seconds:.1f} s",
                 f"{operations:,} operations, {operations / seconds:,.0f} /s", "< 30 s")


def bare_seconds(name: str, loops: int) -> float:
    """The same guest on Unicorn alone: no hooks but the UART's, ended by its HLT."""
    import unicorn
    from unicorn import arm64_const as a64

    vm = with_loops(name, loops)
    image, ram = vm.image, vm.ram
    uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    uc.mem_map(ram.base, ram.size)
    uc.mem_write(ram.base, vm.engine.read(ram.base, ram.size))
    uc.mmio_map(0x0900_0000, 0x1000, lambda *_: 0x90, None, lambda *_: None, None)
    uc.reg_write(a64.UC_ARM64_REG_X0, vm.engine.get("X0"))
    start = time.perf_counter()
    with contextlib.suppress(unicorn.UcError):  # the closing HLT
        uc.emu_start(image.entry, 1)
    return time.perf_counter() - start


def speed() -> Iterator[Figure]:
    """Integer guests, counting on, against bare Unicorn with no hooks."""
    for name, loops in (("spin", 60_000_000), ("coremarkish", 20_000)):
        ratios, mips = [], []
        for _ in range(ROUNDS):
            bare = bare_seconds(name, loops)
            vm = with_loops(name, loops)
            ours = timed_run(vm)
            ratios.append(ours / bare)
            mips.append(vm.stats().instructions / ours / 1e6)
        yield Figure(
            f"{name}, counting on",
            f"{statistics.median(mips):,.0f} MIPS",
            f"{statistics.median(ratios):.2f} × the time of bare Unicorn",
            "≤ 1.5 ×",
        )


def timing() -> Iterator[Figure]:
    """The same guests with a core's cycles counted, and where they went kept."""
    for name, loops in (("spin", 60_000_000), ("coremarkish", 20_000)):
        for how, goal in TIMINGS.items():
            ratios, mips = [], []
            for _ in range(ROUNDS):
                bare = bare_seconds(name, loops)
                vm = with_loops(name, loops, core="cortex-a53", timing=how.split()[0])
                if how.endswith("--stats"):
                    vm.follow()
                ours = timed_run(vm)
                ratios.append(ours / bare)
                mips.append(vm.stats().instructions / ours / 1e6)
            yield Figure(
                f"{name}, --timing {how}",
                f"{statistics.median(mips):,.0f} MIPS",
                f"{statistics.median(ratios):.2f} × the time of bare Unicorn",
                goal,
            )


TIMINGS = {
    "block": "≤ 1.4 ×, ≥ 200 MIPS",
    "branch": "≤ 1.6 ×, ≥ 200 MIPS",
    "cache": "≤ 4 ×",
    "block --stats": "no goal",
}


# add x0, x0, #1; add x1, x1, #1; subs x9, x9, #1; b.ne back; wfi
TIGHT_LOOP = (0x9100_0400, 0x9100_0421, 0xF100_0529, 0x54FF_FFA1, 0xD503_207F)
TIGHT_TURNS = 50_000_000


def tight_seconds(hook: bool) -> float:
    """A four-instruction loop on Unicorn alone, with our hooks or with none."""
    import unicorn
    from unicorn import arm64_const as a64

    from emu.arm.timers import NEVER
    from emu.cli.doctor import Listener
    from emu.engine.engine import Engine

    code = struct.pack(f"<{len(TIGHT_LOOP)}I", *TIGHT_LOOP)
    if hook:
        engine = Engine()
        engine.map_ram(0x4000_0000, MIB)
        engine.write(0x4000_0000, code)
        engine.set("X9", TIGHT_TURNS)
        engine.set("PC", 0x4000_0000)
        start = time.perf_counter()
        engine.run(NEVER, Listener())
        return time.perf_counter() - start
    uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    uc.mem_map(0x4000_0000, MIB)
    uc.mem_write(0x4000_0000, code)
    uc.reg_write(a64.UC_ARM64_REG_X9, TIGHT_TURNS)
    start = time.perf_counter()
    uc.emu_start(0x4000_0000, 1)
    return time.perf_counter() - start


def tight() -> Iterator[Figure]:
    """The worst case: a block of four instructions, where even an empty C hook costs 1.8 ×."""
    if not native_available():
        return
    tight_seconds(True)
    ratio = median(lambda: tight_seconds(True) / tight_seconds(False))
    yield Figure(
        "a four-instruction loop (worst case)", "", f"{ratio:.2f} × the time of bare Unicorn",
        "no goal",
    )


def process_seconds(*command: str) -> float:
    """Wall time of a whole process, its modules compiled before as an installation has them.

    No time limit: with one, `subprocess` looks only every so often, up to 50 ms late.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        check=False, env=environment, cwd=ROOT,
    )  # fmt: skip
    return time.perf_counter() - start


def start() -> Iterator[Figure]:
    """A whole process that runs hello, warm."""
    guest = str(GUESTS / "hello.elf")
    ours = (sys.executable, "-m", "emu", "run", guest)
    qemu = shutil.which("qemu-system-aarch64")
    process_seconds(*ours)
    mine, theirs = [], []
    for _ in range(9):
        mine.append(process_seconds(*ours))
        if qemu:
            theirs.append(
                process_seconds(
                    qemu, "-M", "virt", "-cpu", "cortex-a72", "-nographic", "-semihosting",
                    "-kernel", guest,
                )
            )  # fmt: skip
    value = statistics.median(mine)
    against = "QEMU is not installed"
    if theirs:
        pairs = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
        against = f"{pairs:.2f} × QEMU's {statistics.median(theirs) * 1000:.0f} ms"
    yield Figure("hvcemu run hello.elf, whole process", f"{value * 1000:.0f} ms", against,
                 "< 150 ms")


def memory_kib(key: str) -> int:
    """A line of /proc/self/status, in KiB; 0 where there is no such file."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(text.partition(f"{key}:")[2].split()[0])


def fresh() -> Iterator[Figure]:
    """A new Vm in a process that has made one before, and what it takes of memory."""
    guest = GUESTS / "hello.elf"

    def new() -> float:
        start = time.perf_counter()
        vm = Vm(guest)
        seconds = time.perf_counter() - start
        del vm
        return seconds

    new()
    value = median(new, 25)
    yield Figure("a new Vm", f"{value * 1000:.2f} ms", f"{value / 0.005:.2f} × the goal", "≤ 5 ms")
    before = memory_kib("VmSize")
    vm = Vm(guest)
    vm.run()
    used = (memory_kib("VmSize") - before) * 1024 - vm.ram.size
    yield Figure("its address space beyond guest RAM", f"{used / MIB:.0f} MiB", "", "≤ 64 MiB")


def flat() -> Iterator[Figure]:
    """1,000 hello runs in one process, without help from the garbage collector."""
    guest = GUESTS / "hello.elf"

    def runs(count: int) -> None:
        for _ in range(count):
            Vm(guest).run()

    runs(50)
    gc.collect()
    gc.disable()
    before = memory_kib("VmRSS")
    start = time.perf_counter()
    runs(1000)
    seconds = time.perf_counter() - start
    gc.enable()
    grown = memory_kib("VmRSS") - before
    yield Figure(
        "memory after 1,000 hello runs", f"{grown:+,} KiB", f"{seconds:.1f} s for all", "flat"
    )


def debian_kernels() -> list[Path]:
    """What tools/fetch_linux.py has fetched."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return sorted((cache / "hvcemu" / "linux").glob("linux-image-*/boot/vmlinu[xz]-*"))


def snapshot_figures(vm: Vm, what: str) -> Iterator[Figure]:
    """What it takes to save a machine and to load it, and the file beside its memory."""
    import tempfile
    import zlib

    page = 4096
    memory = vm.engine.read(vm.ram.base, vm.ram.size)
    used = b"".join(
        piece for n in range(0, len(memory), page) if any(piece := memory[n : n + page])
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "snapshot")

        def timed(work: Callable[[], object]) -> float:
            start = time.perf_counter()
            work()
            return time.perf_counter() - start

        for name, work in (("saved", lambda: vm.save(file)), ("loaded", lambda: Vm.load(file))):
            value = median(lambda work=work: timed(work), 9)  # type: ignore[misc]
            yield Figure(
                f"{what} {name}", f"{value * 1000:.0f} ms", f"{value / 0.1:.2f} × the goal",
                "< 100 ms",
            )
        ratio = file.stat().st_size / len(zlib.compress(used))
        yield Figure(
            "  its file", f"{file.stat().st_size / MIB:.1f} MiB",
            f"{ratio:.2f} × its {len(used) / MIB:.0f} MiB of memory by zlib -6", "≤ 2 ×",
        )


def snapshot() -> Iterator[Figure]:
    """A 64 MiB guest with 8 MiB in use, and Debian's kernel after its first steps."""
    kernels = debian_kernels()
    vm = Vm(GUESTS / "hello.elf")
    used = 8 * MIB
    # Words of which half are random, as tables and code are neither noise nor zero.
    words = random.Random(1).choices(range(1 << 12), k=used // 4)
    vm.engine.write(vm.ram.base + 8 * MIB, struct.pack(f"<{len(words)}I", *words))
    yield from snapshot_figures(vm, "64 MiB, 8 in use,")
    if kernels:
        vm = Vm(kernels[-1], append="earlycon=pl011,0x9000000", memory=64 * MIB)
        vm.run(80_000_000)  # before its interrupt controller
        yield from snapshot_figures(vm, "Debian's kernel in 64 MiB")


MATRIX_RUNS, MATRIX_PROFILES, QEMU_RUNS = 1000, 10, 20


def matrix() -> Iterator[Figure]:
    """1,000 runs of hello in one matrix, as a whole process that keeps their results."""
    import tempfile

    from emu.world.profile import profile_names

    names = profile_names()[:MATRIX_PROFILES]
    each = -(-MATRIX_RUNS // len(names))
    seeds = ",".join(map(str, range(each)))
    with tempfile.TemporaryDirectory() as folder:
        for jobs, goal in ((1, 2.5), (2, 1.4)):
            value = median(
                lambda jobs=jobs: process_seconds(  # type: ignore[misc]
                    sys.executable, "-m", "emu", "matrix", "hello", "--profile", ",".join(names),
                    "--seed", seeds, "--jobs", str(jobs), "--db", f"{folder}/results",
                ),
                3,
            )  # fmt: skip
            count = each * len(names)
            value *= MATRIX_RUNS / count
            against = f"{value / goal:.2f} × the goal"
            theirs = qemu_seconds(QEMU_RUNS, jobs) * MATRIX_RUNS
            if theirs:
                against += f", {theirs / value:.0f} × as fast as QEMU's {theirs:.0f} s"
            yield Figure(
                f"1,000 runs of hello, {len(names)} profiles, {jobs} core{'s' * (jobs > 1)}",
                f"{value:.2f} s", against, f"≤ {goal} s",
            )


def qemu_seconds(runs: int, jobs: int) -> float:
    """What QEMU takes for one hello with so many at work at once; 0 where it is not installed."""
    from concurrent.futures import ThreadPoolExecutor

    qemu = shutil.which("qemu-system-aarch64")
    if not qemu:
        return 0.0
    command = (qemu, "-M", "virt", "-cpu", "cortex-a72", "-nographic", "-semihosting", "-kernel",
               str(GUESTS / "hello.elf"))  # fmt: skip
    process_seconds(*command)
    start = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda _: process_seconds(*command), range(runs)))
    return (time.perf_counter() - start) / runs


DISCOVERED = 110_000_000
"""A cycle behind all early discovery of Debian's kernel (its line PF_NETLINK)."""


def mutants() -> Iterator[Figure]:
    """Mutants from a checkpoint: of a tiny guest, and of Debian's kernel."""
    from emu.judge.faults import choose, mutations
    from emu.judge.mutate import prepare, run_mutant
    from emu.judge.trial import Setup

    def seconds(setup: Setup, count: int) -> float:
        start = time.perf_counter()
        subject = prepare(setup)
        chosen = choose(mutations(subject.trace), count, 0)
        for mutation in chosen:
            run_mutant(subject, mutation)
        return time.perf_counter() - start

    tiny = Setup(str(GUESTS / "smccc_discover.elf"))
    value = median(lambda: seconds(tiny, 1000), 3)
    yield Figure("1,000 mutants of smccc_discover", f"{value:.2f} s",
                 f"{value / 2:.2f} × the goal, one core", "≤ 2 s")
    kernels = debian_kernels()
    if kernels:
        linux = Setup(str(kernels[-1]), append="earlycon=pl011,0x9000000", memory=256 * MIB,
                      cycles=DISCOVERED)  # fmt: skip
        value = 40 / seconds(linux, 40) * 60
        yield Figure("mutants of Linux's discovery", f"{value:.0f} /min",
                     f"{value / 40:.2f} × the goal, one core", "≥ 40 /min")


def endless() -> Iterator[Figure]:
    """100,000 trials in one process: what is left behind."""
    from emu.judge.trial import Setup, attempt

    setup, runs = Setup(str(GUESTS / "hello.elf")), 100_000
    for _ in range(200):
        attempt(setup)
    before, start = memory_kib("VmRSS"), time.perf_counter()
    for _ in range(runs):
        attempt(setup)
    seconds = time.perf_counter() - start
    yield Figure(f"memory after {runs:,} trials", f"{memory_kib('VmRSS') - before:+,} KiB",
                 f"{seconds:.0f} s for all, {seconds / runs * 1000:.2f} ms each", "flat")


def linux() -> Iterator[Figure]:
    """Debian's kernel to a user space."""
    import bench_linux
    import fetch_linux

    images, initrd = debian_kernels(), fetch_linux.default_cache() / fetch_linux.INITRAMFS
    if not images or not initrd.exists():
        yield Figure("Linux", "not measured", "python tools/fetch_linux.py --initrd", "")
        return
    yield from bench_linux.figures(Figure, images[-1], initrd)


BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    "hvc": hvc,
    "el2": el2,
    "speed": speed,
    "timing": timing,
    "tight": tight,
    "start": start,
    "vm": fresh,
    "memory": flat,
    "golden": golden,
    "snapshot": snapshot,
    "matrix": matrix,
    "mutants": mutants,
    "endless": endless,
    "linux": linux,
}
ALSO = {"matrix": ("mutants", "endless")}
"""Asked for by a flag, `--matrix` means everything that has to do with many runs."""


def main() -> int:
    """Run the benchmarks that were asked for and print their table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("which", nargs="*", metavar="WHICH", help=", ".join(BENCHES))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for name in BENCHES:
        parser.add_argument(
            f"--{name}", dest="flags", action="append_const", const=name, help=argparse.SUPPRESS
        )
    options = parser.parse_args()
    which = list(options.which)
    for name in options.flags or ():
        which += [name, *ALSO.get(name, ())]
    if unknown := set(which) - set(BENCHES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there is {', '.join(BENCHES)}")
    figures = []
    for name in which or BENCHES:
        for figure in BENCHES[name]():
            figures.append(figure)
            if not options.json:
                print(f"{figure.name:<38} {figure.value:>16}  {figure.goal:<16} {figure.against}",
                      flush=True)
    if options.json:
        print(json.dumps([figure._asdict() for figure in figures], indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
