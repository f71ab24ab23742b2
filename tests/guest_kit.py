"""Guests of a few instructions: machine code at LOAD, raw or as an ELF file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from emu.engine.engine import native_available
from emu.machine.vm import Vm
from engine_kit import NOP, WFI, code, hvc, mov, movz
from image_kit import elf, phdr
from kit import Watch

LOAD = 0x4008_0000
SECOND = LOAD + 0x400
"""Where the second CPU's code is, in what `two` makes."""
CONTEXT = 0xC0DE_5EED_1234_5678
CPU_ON, CPU_OFF, CPU_SUSPEND = 0xC400_0003, 0x8400_0002, 0xC400_0001
FAST = native_available()
"""Where the halves are not compared, the quick one will do."""
Words = int | list[int]


def flat(words: tuple[Words, ...]) -> bytes:
    """Words and lists of words as one piece of code."""
    return code(*[w for word in words for w in (word if isinstance(word, list) else [word])])


def vm_of(path: Path, *words: Words, **options: object) -> Vm:
    """A machine around code, which is written to `path`."""
    path.write_bytes(flat(words))
    options.setdefault("native", FAST)
    return Vm(path, load=LOAD, **options)  # type: ignore[arg-type]


def elf_of(folder: Path, *words: Words) -> str:
    """An ELF around code, where there is no load address to give."""
    body = flat(words)
    path = folder / "guest.elf"
    path.write_bytes(elf(phdr(offset=0x1000, vaddr=LOAD, filesz=len(body)), entry=LOAD, body=body))
    return str(path)


def call(fid: int, *args: int) -> list[int]:
    """Load x0 onward and HVC #0."""
    words = [word for n, value in enumerate((fid, *args)) for word in mov(n, value)]
    return [*words, hvc()]


def two(first: list[int], second: list[int]) -> list[int]:
    """CPU 0 switches CPU 1 on, then each has its own code."""
    head = [*call(CPU_ON, 1, SECOND, CONTEXT), *first]
    assert len(head) <= 0x100
    return [*head, *[NOP] * (0x100 - len(head)), *second]


FORWARDED = 0xC600_0042


def forwarding(build: Callable[..., Vm], conduit: Callable[[], int] = hvc, **options: Any) -> Vm:
    """A guest whose call leaves for the VMM, with all of x1 to x17 told apart."""
    values = [word for n in range(1, 18) for word in mov(n, 0x1000 + n)]
    vm = build(values, *mov(0, FORWARDED), conduit(), movz(20, 9), WFI, **options)
    vm.filter(FORWARDED, action="forward", target="me")
    return vm


def summary(vm: Vm, watch: Watch) -> tuple[object, ...]:
    """What two runs of the same machine must have in common."""
    stolen = [(vcpu.stolen, vcpu.state, vcpu.waiting) for vcpu in vm.machine.vcpus]
    return vm.stats(), str(vm.console), watch.calls, watch.exceptions, stolen
