"""The figures of a Linux boot, for bench.py: Debian's unmodified kernel, whole processes.

The same kernel, initramfs and command line run here and in QEMU (TCG, one thread), turn by turn;
what counts is when a line of the console comes out of the process. `hvcemu.run=true` lets /init
power off, so the last figure is the whole boot.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
ROUNDS = 3
MARKS = {"discovery": b"PF_NETLINK", "init": b"Run /init", "off": b"Power down"}
"""Console lines: behind all early discovery, the start of user space, the end."""
APPEND = "console=ttyAMA0 earlycon=pl011,0x9000000 hvcemu.run=true"
MEMORY = "512M"


class Boot(NamedTuple):
    """Seconds from the start of the process to each mark, CPU seconds, and the console."""

    reached: dict[str, float]
    cpu: float
    console: bytes


def boot(command: list[str]) -> Boot:
    """Run a whole process and note when its console says what."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start, console, reached = time.perf_counter(), bytearray(), dict[str, float]()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        cwd=ROOT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), 1 << 16):
            console += data
            for name, text in MARKS.items():
                if name not in reached and text in console:
                    reached[name] = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Boot(reached, cpu, bytes(console))


def ours(image: Path, initrd: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "emu", "run", str(image), "--initrd", str(initrd), "--mem",
            MEMORY, "--append", APPEND, *more]  # fmt: skip


def qemus(image: Path, initrd: Path) -> list[str] | None:
    qemu = shutil.which("qemu-system-aarch64")
    if qemu is None:
        return None
    return [qemu, "-M", "virt,gic-version=3", "-cpu", "cortex-a72", "-nographic", "-m",
            MEMORY, "-accel", "tcg,thread=single", "-kernel", str(image), "-initrd",
            str(initrd), "-append", APPEND]  # fmt: skip


def figures(figure: Callable[..., Any], image: Path, initrd: Path) -> Iterator[Any]:
    """Every figure of a boot."""
    mine, theirs, four = [], [], []
    for _ in range(ROUNDS):
        mine.append(boot(ours(image, initrd)))
        four.append(boot(ours(image, initrd, "--cpus", "4")))
        if command := qemus(image, initrd):
            theirs.append(boot(command))
    for mark, goal in (("discovery", "≤ 1.2 s"), ("init", "≤ 4 s"), ("off", "")):
        yield figure(f"Linux, process start to {mark}", f"{middle(mine, mark):.2f} s",
                     against(mine, theirs, mark), goal)
    yield figure("four vCPUs, CPU time of the boot", f"{middle_cpu(four):.2f} s",
                 f"{middle_cpu(four) / middle_cpu(mine):.2f} × that of one", "≤ 1.5 ×")
    yield speed(figure, image, initrd)
    yield twice(figure, image, initrd)


def middle(boots: list[Boot], mark: str) -> float:
    return statistics.median(boot.reached[mark] for boot in boots)


def middle_cpu(boots: list[Boot]) -> float:
    return statistics.median(boot.cpu for boot in boots)


def against(mine: list[Boot], theirs: list[Boot], mark: str) -> str:
    if not theirs:
        return "QEMU is not installed"
    ratio = statistics.median(
        a.reached[mark] / b.reached[mark] for a, b in zip(mine, theirs, strict=True)
    )
    return f"{ratio:.2f} × QEMU's {middle(theirs, mark):.2f} s"


def speed(figure: Callable[..., Any], image: Path, initrd: Path) -> Any:
    """Instructions a second from reset to /init, without the start of Python."""
    from emu.base.console import Console
    from emu.machine.vm import Vm

    rates = []
    for _ in range(ROUNDS):
        vm = Vm(image, initrd=initrd, append=APPEND, console=Console())
        start = time.perf_counter()
        while MARKS["init"].decode() not in vm.console.text(2000):
            vm.run(20_000_000)
        rates.append(vm.engine.instructions / (time.perf_counter() - start) / 1e6)
    return figure("Linux boot, instructions a second", f"{statistics.median(rates):.0f} M", "",
                  "≥ 250 M")


def twice(figure: Callable[..., Any], image: Path, initrd: Path) -> Any:
    """Console, calls, exceptions with their cycles, instruction and cycle counts of two runs."""
    told = []
    with tempfile.TemporaryDirectory() as folder:
        for n in range(2):
            trace = Path(folder, str(n))
            run = boot(ours(image, initrd, "--cpus", "2", "--trace-file", str(trace)))
            told.append((run.console, trace.read_bytes()))
    same = told[0] == told[1]
    lines = told[0][1].count(b"\n")
    return figure("two runs on two vCPUs", "identical" if same else "DIFFERENT",
                  f"console and {lines:,} trace lines", "identical")
