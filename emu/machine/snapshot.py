"""A machine in a file: `vm.save(path)` at any exit, `Vm.load(path)` in another process.

What is saved is what decides how the run goes on, and no more: the registers of every vCPU by
their architectural names (cpu.py:STATE) with the exclusive monitor of the one that runs, power
states and who is next, clock, entropy, devices, services, the policy in force, the console and
what is typed but not yet read, the exit that waits for its answer, and the pages of memory that
hold something. So either half of the engine continues what the other began, with the same calls,
exceptions, counts and output; saving what was loaded gives the same file, byte for byte.

The profile is in the file too, whole and resolved, as one table such as a TOML file holds
(profile.py): a profile that changes on the disk does not change a machine that was saved.

Not in it: instruments; services of one's own (`services=` must name the same classes again, only
their state is saved); what ioctls.py keeps for a VMM; symbols, which are read again where the image
still is what it was. Nothing is looked up or executed by a name from a file.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from emu.arm.cores import CORES
from emu.arm.pmu import COUNTERS
from emu.arm.pmu import State as PmuState
from emu.base import exits, savefile
from emu.base.console import ConsoleState
from emu.base.errors import EmuError, SnapshotError, StateError
from emu.base.exits import Exit
from emu.base.pages import PAGE, Packing, PagesError, check_runs, unpack
from emu.base.savefile import SaveFile
from emu.base.smccc import Call, Ret
from emu.base.state import U32, U128, Count, Cycles, from_state, to_state
from emu.cycles.caches import Caches
from emu.cycles.model import SIXTEENTHS
from emu.cycles.predictor import Predictor
from emu.engine.cpu import STATE, VECTORS
from emu.engine.engine import MONITOR, Engine
from emu.engine.taken import Taken
from emu.images.boot import load_image
from emu.images.image import Image, ImageKind, Ram, image_digest
from emu.images.symbols import Symbols
from emu.machine.board import Board
from emu.machine.devices.gic import VERSIONS
from emu.machine.timing import Timing, choose_timing
from emu.machine.vcpus import Machine, Start, Vcpu
from emu.machine.vmm import Waiting
from emu.world.monitor import El2
from emu.world.policy import FilterRange, FwReg, Policy
from emu.world.profile import Profile, profile_of
from emu.world.routing import Route
from emu.world.service import MpState

if TYPE_CHECKING:
    from emu.machine.vm import Vm

MIB = 1 << 20
MAX_MEMORIES, MAX_MEMORY = 64, 65 << 30
"""The 64 GiB of vm.py, stolen-time records and what ioctls.py maps besides."""
ADDRESSES = 1 << 44
"""Physical addresses of a Cortex-A72 (DDI 0487, ID_AA64MMFR0_EL1.PARange)."""
REGISTER_BITS = {"PSTATE": 32, "FPCR": 32, "FPSR": 32}
TIMER_VALUES = 7
"""timers.py:Timers.state."""
PSTATE_MODE = 0x1F
EXECUTION_STATES = (0b00000, 0b00100, 0b00101)
"""M[4:0] of EL0t, EL1t and EL1h: AArch64 below EL2 (DDI 0487, SPSR_EL1)."""
REGISTERS = frozenset((*STATE, *(f"Q{n}" for n in range(VECTORS))))
EXITS = {
    kind.__name__: kind
    for kind in (
        exits.Hypercall, exits.SystemEvent, exits.Mmio, exits.Semihosting, exits.Wfi,
        exits.Deadline, exits.Fault,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _ProfileState:
    name: str
    lineage: tuple[str, ...]
    tables: Any
    sources: dict[str, str]
    places: dict[str, str]


@dataclass(frozen=True, slots=True)
class _PolicyState:
    filterable: bool
    definitions: dict[str, FwReg]
    values: dict[str, int]
    ranges: tuple[FilterRange, ...]
    withheld: tuple[str, ...]
    written: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _ImageState:
    path: str
    kind: ImageKind
    entry: int
    digest: str


@dataclass(frozen=True, slots=True)
class _VcpuState:
    mpidr: U32
    state: MpState
    waiting: bool
    admitted: bool
    start: Start | None
    stolen: Cycles
    ready_since: Cycles | None
    timers: tuple[int, ...]
    pmu: PmuState
    predictor: bytes
    caches: bytes
    lines: U32
    registers: dict[str, U128] | None


@dataclass(frozen=True, slots=True)
class _MemoryState:
    base: int
    size: int
    runs: tuple[tuple[U32, U32], ...]
    chunks: tuple[U32, ...]


@dataclass(frozen=True, slots=True)
class _ExitState:
    kind: str
    fields: Any


@dataclass(frozen=True, slots=True)
class _WaitingState:
    exit: _ExitState
    forwarded: Call | None


@dataclass(frozen=True, slots=True)
class _State:
    """The header of the file; everything but the contents of memory."""

    profile: _ProfileState
    policy: _PolicyState
    below: tuple[_PolicyState, ...]
    own_policies: dict[int, _PolicyState]
    overrides: dict[int, dict[str, int]]
    image: _ImageState
    ram: int
    core: str
    timing: str
    hz: Count
    trap_costs: str
    gic: U32
    cycles: Cycles
    fraction: U32
    last_cost: U32
    instructions: Count
    epoch_ns: int
    entropy: int
    vcpus: tuple[_VcpuState, ...]
    last_level: bytes
    running: U32
    slice_end: Cycles
    changed: bool
    takes_mmio: bool
    calls: Count
    last_call: Call | None
    exceptions: tuple[Taken | None, Taken | None, Count]
    exit: _ExitState | None
    forwarded: Call | None
    waiting: dict[int, _WaitingState]
    console: ConsoleState
    devices: dict[str, Any]
    services: dict[str, Any]
    own_services: tuple[str, ...]
    memory: tuple[_MemoryState, ...]


_Vm = TypeVar("_Vm", bound="Vm")


def save(vm: Vm, path: str | os.PathLike[str]) -> None:
    """Save a machine between two runs; whatever goes wrong, an older file stays whole."""
    if vm.engine.running:
        raise SnapshotError(f"{path}: cannot be saved: the machine is running")
    if vm.scheduler.current not in vm.machine.vcpus:
        raise SnapshotError(f"{path}: cannot be saved: no vCPU was set up yet")
    packings = [Packing(base, block, host) for base, block, host in vm.engine.ram()]
    try:
        state = _capture(vm)
        savefile.write(path, _data(packings), lambda: state | {"memory": _memory(packings)})
    except StateError as error:
        raise SnapshotError(f"{path}: cannot be saved: {error}") from None


def load(vm: Callable[..., _Vm], path: str | os.PathLike[str], **options: Any) -> _Vm:
    """The machine that was saved, made by `vm` with these `options` of its own.

    SnapshotError when the file is not right, whatever is wrong with it.
    """
    with savefile.reading(path) as file:
        try:
            state = from_state(_State, file.header)
            _check(state)
            made = vm(
                profile=_profile(state.profile), cpus=len(state.vcpus), memory=state.ram,
                core=state.core, timing=state.timing, freq=state.hz, trap_costs=state.trap_costs,
                gic=state.gic, **options,
            )  # fmt: skip
            _restore(made, state, file)
        except (StateError, PagesError) as error:
            file.refuse(str(error))
        except SnapshotError:
            raise
        except EmuError as error:
            file.refuse(f"its machine cannot be built: {error}")
    return made


# -- saving -------------------------------------------------------------------------------------


def _data(packings: list[Packing]) -> Iterator[bytes]:
    for packing in packings:
        yield from packing


def _memory(packings: list[Packing]) -> Any:
    return [to_state(_MemoryState(p.base, p.size, p.runs, tuple(p.lengths))) for p in packings]


def _capture(vm: Vm) -> dict[str, Any]:
    el2, machine = vm.el2, vm.machine
    forwarded = vm.traps.forwarded[0] if vm.traps.forwarded else None
    state = _State(
        profile=_capture_profile(el2),
        policy=_capture_policy(el2.policy),
        below=tuple(_capture_policy(level.policy) for level in el2.levels[1:]),
        own_policies={n: _capture_policy(p) for n, p in el2.own_policies().items()},
        overrides=el2.overrides(),
        image=_ImageState(vm.image.path, vm.image.kind, vm.image.entry, image_digest(vm.image)),
        ram=vm.ram.size,
        core=vm.engine.core,
        timing=vm.timing,
        hz=vm.clock.hz,
        trap_costs=vm.trap_costs,
        gic=vm.board.gic_version,
        cycles=vm.clock.cycles,
        fraction=vm.engine.hooks.fraction,
        last_cost=vm.engine.hooks.last_cost(),
        instructions=vm.engine.instructions,
        epoch_ns=vm.clock.epoch_ns,
        entropy=machine.entropy.state,
        vcpus=tuple(_capture_vcpu(vm, vcpu) for vcpu in machine.vcpus),
        last_level=zlib.compress(machine.last_level) if machine.last_level is not None else b"",
        running=vm.current,
        slice_end=vm.scheduler.slice_end,
        changed=machine.changed,
        takes_mmio=vm.traps.takes_mmio,
        calls=vm.traps.calls,
        last_call=vm.traps.last_call,
        exceptions=vm.engine.exceptions.state,
        exit=_capture_exit(vm.pending) if vm.pending else None,
        forwarded=forwarded,
        waiting={
            n: _WaitingState(_capture_exit(exit), its[0] if its else None)
            for n, (exit, its) in sorted(vm.vmm.waiting.items())
        },
        console=vm.console.state(),
        devices=vm.board.states(),
        services={name: s.state for name, s in el2.services.items() if s.state is not None},
        own_services=el2.own_services,
        memory=(),
    )
    document: dict[str, Any] = to_state(state)
    _check(from_state(_State, document))  # what could not be loaded is not saved
    return document


def _capture_profile(el2: El2) -> _ProfileState:
    """The profile with the options and modes that are in force."""
    found: Profile | None = None
    for level in reversed(el2.levels):
        options = {
            name: _options(service.options) for name, service in level.services.items()
            if name in level.profile.services
        }  # fmt: skip
        found = dataclasses.replace(level.profile, services=options, below=found)
    assert found is not None
    profile, tables = el2.profile, found.tables()
    return _ProfileState(
        profile.name, profile.lineage, tables, dict(profile.sources), dict(profile.places)
    )


def _options(options: Any) -> dict[str, Any]:
    return {} if options is None else dict(to_state(options))


def _capture_policy(policy: Policy) -> _PolicyState:
    return _PolicyState(
        policy.filterable, dict(policy.definitions), dict(policy.values), policy.ranges,
        tuple(sorted(policy.withheld)), tuple(sorted(policy.written)),
    )  # fmt: skip


def _capture_vcpu(vm: Vm, vcpu: Vcpu) -> _VcpuState:
    registers = None
    if vcpu is vm.scheduler.current or vcpu.context is not None:
        registers = vm.engine.read_vcpu(None if vcpu is vm.scheduler.current else vcpu.context)
    return _VcpuState(
        vcpu.mpidr, vcpu.state, vcpu.waiting, vcpu.admitted, vcpu.start, vcpu.stolen,
        vcpu.ready_since, vcpu.timers.state,
        vcpu.pmu.state, b"" if vcpu.predictor is None else zlib.compress(vcpu.predictor.state),
        b"" if vcpu.caches is None else zlib.compress(vcpu.caches.state), vcpu.lines, registers,
    )  # fmt: skip


def _capture_exit(exit: Exit) -> _ExitState:
    if isinstance(exit, exits.Hypercall) and isinstance(exit.ret, int):
        exit = dataclasses.replace(exit, ret=Ret.value(exit.ret))
    return _ExitState(type(exit).__name__, to_state(exit))


# -- checking -----------------------------------------------------------------------------------


def _check(state: _State) -> None:
    """What must agree in a state beyond the type of each value."""
    _demand(state.vcpus != (), "it has no vCPU")
    _demand(state.ram > 0 and state.ram % MIB == 0, "its memory is not in MiB")
    _demand(state.gic in VERSIONS, "it has an interrupt controller that does not exist")
    _demand(state.core in CORES, "it has a core that does not exist")
    _demand(state.fraction < SIXTEENTHS, "its fraction of a cycle is a whole one")
    _demand(state.running < len(state.vcpus), "running is no vCPU")
    _demand(state.vcpus[state.running].registers is not None, "the running vCPU has no registers")
    _demand(len({vcpu.mpidr for vcpu in state.vcpus}) == len(state.vcpus), "two vCPUs are one")
    for n, vcpu in enumerate(state.vcpus):
        _check_vcpu(f"vcpus[{n}]", vcpu, state)
    waiting = [one.forwarded for one in state.waiting.values()]
    for call in (state.last_call, state.forwarded, *waiting):
        if call is not None:
            _check_call(call, state)
    own = state.own_policies.keys() | state.overrides.keys()
    _demand(all(n < len(state.vcpus) for n in own), "a policy has no vCPU")


def _check_vcpu(place: str, vcpu: _VcpuState, state: _State) -> None:
    _demand((vcpu.ready_since or 0) <= state.cycles, f"{place}.ready_since lies in the future")
    _demand(len(vcpu.timers) == TIMER_VALUES and max(*vcpu.timers[:2], vcpu.timers[6]) <= 3
            and vcpu.lines <= 7, f"{place} has no such timers")
    timing = choose_timing(state.core, state.timing)
    _demand(bool(vcpu.predictor) == timing.predicts
            and _unpacked(vcpu.predictor, Predictor) is not None, f"{place} has no such predictor")
    _demand(bool(vcpu.caches) == (timing is Timing.CACHE)
            and _unpacked(vcpu.caches, Caches) is not None, f"{place} has no such caches")
    _demand(len(vcpu.pmu.types) == len(vcpu.pmu.counts) == COUNTERS,
            f"{place} has no such counters")
    known = vcpu.registers is not None or vcpu.start is not None
    _demand(known or vcpu.state is not MpState.RUNNABLE, f"{place} was not set up")
    if vcpu.registers is not None:
        _check_registers(f"{place}.registers", vcpu.registers)


def _unpacked(packed: bytes, kind: Any) -> bytes | None:
    """The state of a predictor or of caches; None where it cannot be one."""
    size = ctypes.sizeof(kind)
    try:
        state = zlib.decompressobj().decompress(packed, size + 1) if packed else bytes(size)
    except zlib.error:
        return None
    return state if len(state) == size else None


def _check_registers(place: str, registers: dict[str, int]) -> None:
    known = REGISTERS | MONITOR.keys() if MONITOR.keys() <= registers.keys() else REGISTERS
    unknown = min(registers.keys() ^ known, default="")
    _demand(not unknown, f"{place}.{unknown} is missing, or unknown")
    for name, value in registers.items():
        bits = 128 if name.startswith("Q") else REGISTER_BITS.get(name, 64)
        _demand(value.bit_length() <= bits, f"{place}.{name} does not fit into {bits} bits")
    mode = registers["PSTATE"] & PSTATE_MODE
    _demand(mode in EXECUTION_STATES, f"{place}.PSTATE is not of EL0 or EL1 in AArch64")


def _check_call(call: Call, state: _State) -> None:
    _demand(8 <= len(call.x) <= 31, "a call has 8 to 31 registers")
    _demand(call.imm <= 0xFFFF and call.vcpu < len(state.vcpus), "a call has no vCPU, or no HVC")


def _demand(condition: bool, otherwise: str) -> None:
    if not condition:
        raise StateError(otherwise)


# -- loading ------------------------------------------------------------------------------------


def _profile(state: _ProfileState) -> Profile:
    return profile_of(state.name, state.lineage, state.tables, state.sources, state.places)


def _restore(vm: Vm, state: _State, file: SaveFile) -> None:
    _restore_policy(vm.el2, state)
    _restore_parts(vm, state)
    _restore_memory(vm.engine, state, file)
    for vcpu, saved in zip(vm.machine.vcpus, state.vcpus, strict=True):
        _restore_vcpu(vcpu, saved)
    hooks = vm.engine.hooks
    hooks.cycles, hooks.instructions = state.cycles, state.instructions
    hooks.fraction, hooks.kept_cost = state.fraction, state.last_cost
    _restore_registers(vm, state)
    _restore_devices(vm.board, state)
    vm.image = _restore_image(state.image, vm.ram)
    vm.clock.epoch_ns = state.epoch_ns
    vm.engine.exceptions.state = state.exceptions
    vm.machine.entropy.state, vm.machine.changed = state.entropy, state.changed
    _restore_last_level(vm.machine, state.last_level)
    vm.scheduler.slice_end = state.slice_end
    vm.traps.takes_mmio, vm.traps.calls = state.takes_mmio, state.calls
    vm.traps.last_call = vm.monitor.read(*state.last_call) if state.last_call else None
    vm.vmm.pending = _restore_exit(state.exit, state.forwarded, state)
    vm.traps.forwarded = _restore_forwarded(vm, state.forwarded)
    for n, its in state.waiting.items():
        exit = _restore_exit(its.exit, its.forwarded, state)
        if exit is None or exit.vcpu != n:
            raise StateError(f"waiting.{n} is no exit of this vCPU")
        vm.vmm.waiting[n] = Waiting(exit, _restore_forwarded(vm, its.forwarded))


def _restore_policy(el2: El2, state: _State) -> None:
    el2.policy = _policy(state.policy)
    _demand(len(state.below) == len(el2.levels) - 1, "its levels are not its profile's")
    for level, policy in zip(el2.levels[1:], state.below, strict=True):
        level.policy = _policy(policy)
    _demand(not state.own_policies or el2.profile.modes["fwreg.scope"] == "vcpu-asymmetric",
            "own_policies need mode fwreg.scope = vcpu-asymmetric")
    for vcpu, policy in state.own_policies.items():
        el2.set_policy_of(vcpu, _policy(policy))
    for vcpu, values in state.overrides.items():
        _demand(values.keys() <= el2.policy.values.keys(), "overrides name no register")
        el2.override(vcpu, values)


def _policy(state: _PolicyState) -> Policy:
    definitions = state.definitions
    _demand(all(name == register.name for name, register in definitions.items())
            and state.values.keys() == definitions.keys(), "a policy's registers do not agree")
    _demand(definitions.keys() >= {*state.written}, "written names no register")
    policy = Policy(
        state.filterable, definitions, state.values, (),
        frozenset(state.withheld), frozenset(state.written),
    )  # fmt: skip
    for found in state.ranges:
        policy = policy.with_range(found)
    return policy


def _restore_parts(vm: Vm, state: _State) -> None:
    """Console, devices and services."""
    own = vm.el2.own_services
    _demand(own == state.own_services,
            f"it was saved with services {', '.join(state.own_services) or 'none'} of one's own, "
            f"and is loaded with {', '.join(own) or 'none'}: give the same services=")
    vm.console.restore(state.console)
    stateful = {name: s for name, s in vm.el2.services.items() if s.state is not None}
    _demand(state.services.keys() == stateful.keys(), "its services are not this machine's")
    for name, service in stateful.items():
        place = f"services.{name}"
        service.state = from_state(type(service.state), state.services[name], place)


def _restore_devices(board: Board, state: _State) -> None:
    known = {kind.name for kind in board.kinds}
    _demand(state.devices.keys() <= known, "it has a device that does not exist, or is one's own: "
            "give the same devices=")
    for name in state.devices:
        board.device(name)
    kinds = {name: type(device.state) for name, device in board.devices.items()}
    board.restore({
        name: from_state(kinds[name], value, f"devices.{name}")
        for name, value in state.devices.items()
    })
    board.identify()


def _restore_memory(engine: Engine, state: _State, file: SaveFile) -> None:
    _demand(sum(sum(memory.chunks) for memory in state.memory) == file.size,
            "its memory is not as long as its data")
    whole = sum(memory.size for memory in state.memory)
    _demand(len(state.memory) <= MAX_MEMORIES and whole <= MAX_MEMORY, "its memory is too large")
    for memory in state.memory:
        _demand(memory.base % PAGE == memory.size % PAGE == 0 and memory.size > 0
                and memory.base + memory.size <= ADDRESSES, "its memory is not in pages")
        chunks = check_runs(memory.runs, memory.size)
        _demand(len(memory.chunks) == chunks, "its memory has too many or too few chunks")
    for memory in state.memory:
        engine.map_ram(memory.base, memory.size)
    for (_, block, _), memory in zip(engine.ram(), state.memory, strict=True):
        unpack(block, memory.runs, memory.chunks, file.read)


def _restore_vcpu(vcpu: Vcpu, saved: _VcpuState) -> None:
    vcpu.mpidr, vcpu.state, vcpu.waiting = saved.mpidr, saved.state, saved.waiting
    vcpu.admitted, vcpu.start, vcpu.stolen = saved.admitted, saved.start, saved.stolen
    vcpu.ready_since = saved.ready_since
    vcpu.timers.state, vcpu.pmu.state, vcpu.lines = saved.timers, saved.pmu, saved.lines
    if vcpu.predictor is not None:
        vcpu.predictor.state = _unpacked(saved.predictor, Predictor) or b""
    if vcpu.caches is not None:
        vcpu.caches.state = _unpacked(saved.caches, Caches) or b""


def _restore_last_level(machine: Machine, packed: bytes) -> None:
    last = machine.last_level
    _demand(bool(packed) == (last is not None), "its vCPUs share no such cache")
    if last is not None:
        data = _unpacked(packed, type(last))
        _demand(data is not None, "its vCPUs share no such cache")
        ctypes.memmove(last, data or b"", ctypes.sizeof(last))


def _restore_registers(vm: Vm, state: _State) -> None:
    """Of every vCPU, that of the running one last: it stays in the engine."""
    running = vm.machine.vcpus[state.running]
    for vcpu in sorted(vm.machine.vcpus, key=lambda vcpu: vcpu is running):
        registers = state.vcpus[vcpu.index].registers
        if registers is None:
            continue
        vm.engine.write_vcpu(registers)
        vm.engine.set("VMPIDR_EL2", vcpu.mpidr)
        if vcpu is not running:
            vcpu.context = vm.engine.new_context()
            vm.engine.save(vcpu.context)
    vm.scheduler.current = running
    vm.board.switch_to(running)


def _restore_image(state: _ImageState, ram: Ram) -> Image:
    """Path and name for reports; symbols where the same image is still there."""
    symbols = Symbols()
    if state.digest:
        try:
            found = load_image(state.path, ram=ram)
            if image_digest(found) == state.digest:
                symbols = found.symbols
        except EmuError:
            pass
    return Image(state.path, state.kind, state.entry, (), symbols, state.digest)


def _restore_forwarded(vm: Vm, call: Call | None) -> tuple[Call, Route] | None:
    if call is None:
        return None
    read = vm.monitor.read(*call)
    return read, vm.monitor.route_of(read)


def _restore_exit(
    saved: _ExitState | None, forwarded: Call | None, state: _State
) -> Exit | None:
    if saved is None:
        _demand(forwarded is None, "a forwarded call has no exit")
        return None
    kind = EXITS.get(saved.kind)
    if kind is None:
        raise StateError(f"exit.kind {saved.kind!r} does not exist")
    found: Exit = from_state(kind, saved.fields, "exit")
    _demand(found.vcpu < len(state.vcpus), "exit.vcpu is no vCPU")
    _demand(isinstance(found, exits.Hypercall) or forwarded is None,
            "a forwarded call has no exit")
    if isinstance(found, exits.Mmio):
        _demand(found.size in (1, 2, 4, 8, 16), "exit.size is no access")
    for call in (getattr(found, "call", None), getattr(found, "last_call", None)):
        if call is not None:
            _check_call(call, state)
    return found
