"""A machine put back to where it was, in this process, a thousand times: `Checkpoint`.

What snapshot.py writes into a file is kept here in memory, in the engine's own form: it costs
microseconds, is never shown to anybody, and is good for this machine only. A run from a checkpoint
is the run that would have followed, to the cycle and the byte.

On Linux memory becomes a private mapping of a file in memory (memfd_create): what the guest
writes are copies, and dropping the copies (MADV_DONTNEED) is the way back, whatever the size of
the machine. Elsewhere the pages in use are kept and written back where they differ.

Translated code is kept where it must still be right: the MMU is off, and what the ELF marks
executable has not changed. A guest that builds code elsewhere and changes it behind the
checkpoint pays with a translation for each way back, as every kernel does.

Not in it: instruments, console input that was typed, forwarded calls waiting for an answer.
"""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import mmap
import os
from collections.abc import Iterator
from typing import Any

from emu.arm import arch
from emu.base.errors import EmuError
from emu.base.pages import PAGE, back_by_file, find_runs
from emu.machine.vm import Vm
from emu.machine.vmm import Waiting
from emu.world.policy import Policy

_MAP_FIXED, _MAP_FAILED = 0x10, (1 << 64) - 1
"""MAP_FIXED and MAP_FAILED (linux v6.17 include/uapi/asm-generic/mman-common.h)."""


class _Mapped:
    """Memory whose way back is to forget the guest's copies. Linux."""

    def __init__(self, block: mmap.mmap, address: int) -> None:
        self._block = block
        fd = os.memfd_create("guest", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, len(block))
            for first, count in find_runs(block, address):
                os.pwrite(fd, block[first * PAGE : (first + count) * PAGE], first * PAGE)
            libc = ctypes.CDLL(None, use_errno=True)
            libc.mmap.restype = ctypes.c_uint64
            libc.mmap.argtypes = (
                ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                ctypes.c_long,
            )  # fmt: skip
            mapped = libc.mmap(
                address, len(block), mmap.PROT_READ | mmap.PROT_WRITE,
                mmap.MAP_PRIVATE | _MAP_FIXED, fd, 0,
            )  # fmt: skip
            if mapped == _MAP_FAILED:
                raise EmuError(f"a checkpoint: {os.strerror(ctypes.get_errno())}")
            back_by_file(block)
        finally:
            os.close(fd)

    def restore(self) -> None:
        self._block.madvise(mmap.MADV_DONTNEED)


class _Copied:
    """Memory whose way back is a comparison with what it was."""

    def __init__(self, block: mmap.mmap, address: int) -> None:
        self._block, self._address = block, address
        self._pages = {
            page: block[page * PAGE : (page + 1) * PAGE]
            for first, count in find_runs(block, address)
            for page in range(first, first + count)
        }

    def restore(self) -> None:
        block = self._block
        for first, count in find_runs(block, self._address):
            for page in range(first, first + count):
                if page not in self._pages:
                    block[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
        for page, data in self._pages.items():
            if block[page * PAGE : (page + 1) * PAGE] != data:
                block[page * PAGE : (page + 1) * PAGE] = data


_Memory = _Mapped if hasattr(os, "memfd_create") else _Copied


class Checkpoint:
    """A machine as it is now, between two runs; `restore()` brings it back."""

    def __init__(self, vm: Vm) -> None:
        if vm.engine.running:
            raise EmuError("a checkpoint is taken between two runs")
        self._vm = vm
        engine = vm.engine
        self._registers = engine.context_bytes()
        self._contexts = [
            None if vcpu.context is None else engine.context_bytes(vcpu.context)
            for vcpu in vm.machine.vcpus
        ]
        self._vcpus = [_fields(vcpu) for vcpu in vm.machine.vcpus]
        hooks = engine.hooks
        self._counts = hooks.cycles, hooks.fraction, hooks.instructions
        self._exceptions = engine.exceptions.state
        self._profile = vm.profile
        self._parts = [(part, {name: getattr(part, name) for name in names})
                       for part, names in _parts(vm)]
        self._exit = copy.copy(vm.pending)
        self._waiting = _copies(vm.vmm.waiting)
        self._machine = vm.machine.entropy.state, vm.machine.changed
        self._last_level = bytes(vm.machine.last_level or b"")
        self._el2, self._policies = vm.el2, [level.policy for level in vm.el2.levels]
        self._own: dict[int, Policy] = vm.el2.own_policies()
        self._services = {n: copy.deepcopy(s.state) for n, s in vm.el2.services.items()}
        self._devices = copy.deepcopy(vm.board.states())
        self._console = vm.console.state(), vm.console.printed
        self._code = self._read_code()
        self._memory = [_Memory(block, host) for _, block, host in engine.ram()]

    def _read_code(self) -> tuple[bytes, ...]:
        """What the ELF marks executable, as it lies in memory."""
        vm = self._vm
        return tuple(
            vm.engine.read(segment.address, segment.size)
            for segment in vm.image.segments if segment.executable
        )

    def restore(self) -> Vm:
        """Bring the machine back; returns it."""
        vm, engine = self._vm, self._vm.engine
        stale = not self._code or bool(engine.get("SCTLR_EL1") & arch.SCTLR_M)
        if stale or self._read_code() != self._code:
            engine.forget_code()
        engine.unwatch_all()
        for memory in self._memory:
            memory.restore()
        for vcpu, fields, context in zip(
            vm.machine.vcpus, self._vcpus, self._contexts, strict=True
        ):
            _set_fields(vcpu, fields)
            if context is not None:
                engine.set_context_bytes(context, vcpu.context)
        engine.set_context_bytes(self._registers)
        hooks = engine.hooks
        hooks.cycles, hooks.fraction, hooks.instructions = self._counts
        engine.exceptions.state = self._exceptions
        vm.profile = self._profile
        for part, values in self._parts:
            for name, value in values.items():
                setattr(part, name, value)
        vm.vmm.pending = copy.copy(self._exit)
        vm.vmm.waiting = _copies(self._waiting)
        vm.machine.entropy.state, vm.machine.changed = self._machine
        if vm.machine.last_level is not None:
            ctypes.memmove(vm.machine.last_level, self._last_level, len(self._last_level))
        self._restore_el2()
        vm.board.switch_to(vm.scheduler.current)
        vm.board.restore(copy.deepcopy(self._devices))
        console, vm.console.printed = self._console
        vm.console.restore(console)
        return vm

    def _restore_el2(self) -> None:
        el2 = self._vm.traps.monitor = self._el2
        self._vm.scheduler.listeners = el2.listeners
        for level, policy in zip(el2.levels, self._policies, strict=True):
            if level.policy is not policy:
                level.policy = policy
        for vcpu, policy in self._own.items():
            el2.set_policy_of(vcpu, policy)
        for name, service in el2.services.items():
            service.state = copy.deepcopy(self._services[name])


def _parts(vm: Vm) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """The parts of a machine that remember something of the run, and what."""
    yield vm.scheduler, ("current", "only", "slice_end")
    yield vm.traps, (
        "forwarded", "calls", "last_call", "exit", "stops_before_call", "takes_mmio",
    )  # fmt: skip


def _copies(waiting: dict[int, Waiting]) -> dict[int, Waiting]:
    """Exits that wait, their answers apart from those that a VMM fills in."""
    return {n: its._replace(exit=copy.copy(its.exit)) for n, its in waiting.items()}


def _fields(vcpu: Any) -> dict[str, Any]:
    """A vCPU's values; its context and its timers stay, and are filled again."""
    values = {field.name: getattr(vcpu, field.name) for field in dataclasses.fields(vcpu)}
    predictor = vcpu.predictor.state if vcpu.predictor is not None else None
    caches = vcpu.caches.state if vcpu.caches is not None else None
    return values | {
        "timers": vcpu.timers.state, "pmu": copy.deepcopy(vcpu.pmu.state), "predictor": predictor,
        "caches": caches,
    }  # fmt: skip


def _set_fields(vcpu: Any, fields: dict[str, Any]) -> None:
    timers, pmu, predictor, caches = vcpu.timers, vcpu.pmu, vcpu.predictor, vcpu.caches
    for name, value in fields.items():
        setattr(vcpu, name, value)
    vcpu.timers, timers.state = timers, fields["timers"]
    vcpu.pmu, pmu.state = pmu, copy.deepcopy(fields["pmu"])
    vcpu.predictor, vcpu.caches = predictor, caches
    if predictor is not None:
        predictor.state = fields["predictor"]
    if caches is not None:
        caches.state = fields["caches"]
