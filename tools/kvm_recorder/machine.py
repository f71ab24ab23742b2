"""From an Image to the VMM's results: build the VMM, pack the initramfs, boot QEMU, read the file.

QEMU runs without KVM of its own (TCG), with EL2 for the guest. `-icount` makes its time a
function of the instructions executed, and a wait cost nothing: a recording is a matter of
seconds, and the same each time. Results come out through semihosting (out.c).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent
QEMU = "qemu-system-aarch64"
CORES = {"cortex-a72": "cortex-a72", "max": "max,pauth-impdef=on"}
"""What QEMU calls them. cortex-a72 has no VHE; max has, and all else that QEMU can do. The
architected pointer-authentication algorithm is slow to emulate and nothing here shows it."""
TARGET = "aarch64-linux-musl"
TIMEOUT = 900.0
MACHINE = ("-M", "virt,virtualization=on,gic-version=3", "-m", "1G", "-nodefaults",
           "-display", "none", "-no-reboot", "-serial", "file:console",
           "-semihosting-config", "enable=on,userspace=on,target=native",
           "-icount", "shift=0,sleep=off", "-rtc", "base=2024-01-01,clock=vm", "-seed", "1")
COMMAND_LINE = "console=ttyAMA0 panic=-1 loglevel=7"


class MachineError(Exception):
    """What is missing or went wrong, and what to do about it, in one line."""


@dataclass(frozen=True, slots=True)
class Results:
    """What the VMM wrote: the kernel's names, KVM's mode, and a line per operation."""

    release: str
    version: str
    mode: str
    lines: Sequence[str]
    seconds: float


def qemu_version() -> str:
    """QEMU's version, or a complaint that it is missing or too old for semihosting at EL0."""
    if shutil.which(QEMU) is None:
        raise MachineError(f"{QEMU} is not installed (Debian: qemu-system-arm)")
    done = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\d+)\.(\d+)(\.\d+)?", done.stdout)
    if found is None or (int(found[1]), int(found[2])) < (7, 2):
        raise MachineError(f"{QEMU} must be 7.2 or newer: semihosting for programs came with it")
    return found[0].removeprefix("version ")


def build_vmm(target: Path) -> None:
    """Compile the VMM, static, with the compiler that builds the guests."""
    sources = sorted(str(path) for path in SOURCES.glob("*.c"))
    command = [sys.executable, "-m", "ziglang", "cc", "-target", TARGET, "-static", "-s", "-O2"]
    done = subprocess.run([*command, "-o", str(target), *sources], capture_output=True, text=True,
                          check=False)
    if done.returncode == 0:
        return
    if "No module named" in done.stderr:
        raise MachineError("ziglang is not installed: pip install 'hvcemu[tools]'")
    raise MachineError(f"the VMM does not compile: {first_line(done.stderr)}")


def first_line(text: str) -> str:
    return next((line for line in text.splitlines() if "error" in line), text.strip() or "?")


def cpio(files: Sequence[tuple[str, int, bytes]]) -> bytes:
    """An initramfs of (name, mode, content) (linux Documentation/driver-api/early-userspace/
    buffer-format.rst: newc)."""
    out = bytearray()
    for inode, (name, mode, data) in enumerate([*files, ("TRAILER!!!", 0, b"")], start=1):
        path = name.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + path
        out += bytes(-len(out) % 4)
        out += data
        out += bytes(-len(out) % 4)
    return bytes(out)


def carry_out(image: Path, core: str, lines: Sequence[str], scratch: Path) -> Results:
    """Boot the kernel and have the VMM carry out the plan's lines."""
    build_vmm(scratch / "init")
    plan = "".join(line + "\n" for line in lines).encode()
    init = (scratch / "init").read_bytes()
    initrd = cpio([("dev", 0o040755, b""), ("init", 0o100755, init), ("plan", 0o100644, plan)])
    (scratch / "initrd").write_bytes(initrd)
    start = time.monotonic()
    boot(image, core, scratch)
    seconds = time.monotonic() - start
    return collect(scratch, len(lines), seconds)


def boot(image: Path, core: str, scratch: Path) -> None:
    """Run QEMU until the VMM ends it."""
    command = [QEMU, *MACHINE, "-cpu", CORES[core], "-kernel", str(image.absolute()),
               "-initrd", "initrd", "-append", COMMAND_LINE]
    try:
        done = subprocess.run(command, cwd=scratch, timeout=TIMEOUT, capture_output=True,
                              text=True, check=False)
    except subprocess.TimeoutExpired:
        raise MachineError(f"QEMU did not end in {TIMEOUT:.0f} s; {last_words(scratch)}") from None
    if not (scratch / "results").is_file():
        why = done.stderr.strip().splitlines()
        raise MachineError(f"QEMU left no results: {why[0] if why else last_words(scratch)}")


def last_words(scratch: Path) -> str:
    """The last line of the kernel's console."""
    console = scratch / "console"
    text = console.read_text(errors="replace") if console.is_file() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return f"the kernel's last words: {lines[-1].strip()}" if lines else "the kernel said nothing"


def kvm_mode(scratch: Path) -> str:
    """What KVM said when it started, such as `VHE mode initialized successfully`."""
    text = (scratch / "console").read_text(errors="replace")
    found = re.search(r"kvm \[1\]: (.*mode initialized.*)", text)
    return found[1].strip() if found else "unknown"


def collect(scratch: Path, count: int, seconds: float) -> Results:
    """The VMM's file; one that is cut short is refused."""
    text = (scratch / "results").read_text()
    lines = text.splitlines()
    head = dict(line.split("=", 1) for line in lines[:3] if "=" in line)
    if "kvm" not in head:
        raise MachineError(f"the VMM wrote nothing; {last_words(scratch)}")
    if head["kvm"] != "0":
        raise MachineError(f"this kernel has no /dev/kvm (errno {head['kvm']}): "
                           "it needs CONFIG_KVM=y, and QEMU virtualization=on")
    if lines[-1] != "end" or len(lines) != count + 4:
        raise MachineError(f"the recording is cut short after {len(lines) - 3} of {count} "
                           f"operations; {last_words(scratch)}")
    return Results(head["release"], head["version"], kvm_mode(scratch), lines[3:-1], seconds)
