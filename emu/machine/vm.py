"""A virtual machine: a guest image on vCPUs, memory and devices, below a hypervisor or firmware.

`run()` comes back with an `Exit`, as KVM_RUN does, and can be called again. What a machine is made
of are parts of their own: the engine runs guest code, `scheduler` says whose turn it is, `traps`
is told of calls and exceptions, `monitor` answers the calls, `board` has the devices, and `vmm` the
exit that waits for an answer. Users need `Vm`; the rest of this package knows the parts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

from emu.arm.cores import DEFAULT_CORE
from emu.arm.timers import NEVER
from emu.base import exits
from emu.base.bus import FLASH
from emu.base.clock import DEFAULT_HZ, Clock
from emu.base.console import Console
from emu.base.entropy import Splitmix
from emu.base.errors import BootError, EmuError, SnapshotError
from emu.base.exits import Exit
from emu.base.pages import PAGE, find_runs
from emu.base.smccc import Conduit
from emu.cycles.model import SIXTEENTHS
from emu.cycles.tolls import Tolls, open_tolls
from emu.engine.engine import Engine
from emu.images.boot import Parts, default_memory, load_image
from emu.images.image import Image, ImageKind, Ram
from emu.images.symbols import Symbols
from emu.machine.board import Board
from emu.machine.device import BoardDevice
from emu.machine.devices.gic import check_version
from emu.machine.instrument import Instrument
from emu.machine.loader import Extras, place
from emu.machine.scheduler import Scheduler
from emu.machine.semihosting import Semihosting
from emu.machine.timing import (
    Timing,
    block_costs_of,
    choose_timing,
    hierarchy_of,
    misprediction_of,
)
from emu.machine.traps import TrapHandler
from emu.machine.vcpus import Machine, Start
from emu.machine.vmm import Vmm
from emu.world.monitor import Monitor
from emu.world.policy import Action, Policy
from emu.world.profile import DEFAULT_PROFILE, Profile, load_profile
from emu.world.service import MpState, Service

if TYPE_CHECKING:  # imported by who calls a function or looks at a vCPU: most runs do not
    from emu.machine.blocks import Block
    from emu.machine.function import Answerer, Bench, PythonStub, Returned, Stub
    from emu.machine.registers import Cpu

MIB = 1 << 20
MAX_CPUS = 123
"""As many as have a GICv3 redistributor in the virt map (qemu v7.2 hw/arm/virt.c)."""
MAX_MEMORY = 64 << 30
CALL_CYCLES = 10_000_000
"""How long `call` lets a function run: 10 ms of the machine's time, 2 s of the Python half's."""


class Stats(NamedTuple):
    """What a run has cost so far."""

    instructions: int
    cycles: int
    calls: int


class Vm:
    """A guest image on a machine below one profile.

    `image` is an ELF, an arm64 Linux Image, or raw code with `load` (and `entry`). `memory` is
    in bytes: 64 MiB, or 512 for a Linux Image. `core` is whose identification registers it reads
    (cpu.py) and whose cycles it takes (cores/), `timing` how closely (timing.py), `freq` the cycles
    in a second, `trap_costs` what a trap costs (trap_prices.py; the profile's own where cycles are
    modelled, else nothing). `gic` is 2 or 3. Raw code with `load` below 0x4000000 lies in the
    flash. `conduit` overrides what the device tree says about /psci; `dtb` replaces the generated
    tree; `kaslr` lets Linux choose its addresses by a seed there, which follows from `seed`.
    `services` and `devices` add some of one's own, `modes` chooses rows of modes.py. `native`
    chooses the engine's half. Without an image nothing is loaded and no vCPU runs: that is the
    bare machine below emu/kvm.

    An image may also be an object file (.o), linked with those in `libraries`: it has functions
    to `call` and does not `run`. `stubs` replaces or supplies functions of an ELF or an object
    by name: a Python function, which gets x0 onward and whose value goes into x0, a number to
    return, or bytes for data.
    """

    def __init__(
        self,
        image: str | os.PathLike[str] | None = None,
        *,
        profile: str | Profile = DEFAULT_PROFILE,
        cpus: int = 1,
        memory: int | None = None,
        core: str = DEFAULT_CORE,
        timing: str | None = None,
        freq: int = DEFAULT_HZ,
        trap_costs: str | None = None,
        gic: int = 3,
        seed: int = 0,
        append: str = "",
        initrd: str | os.PathLike[str] | None = None,
        kaslr: bool = False,
        dtb: str | os.PathLike[str] | None = None,
        load: int | None = None,
        entry: int | None = None,
        conduit: Conduit | str | None = None,
        console: Console | None = None,
        services: Iterable[type[Service]] = (),
        devices: Iterable[type[BoardDevice]] = (),
        modes: Mapping[str, Any] | None = None,
        instruments: Iterable[Instrument] = (),
        native: bool | None = None,
        stubs: Mapping[str, Stub] | None = None,
        libraries: Iterable[str | os.PathLike[str]] = (),
    ) -> None:
        self.firmware = load is not None and load in FLASH[0]
        if memory is None:
            memory = 64 * MIB if image is None else default_memory(image, in_flash=self.firmware)
        _check_size(cpus, memory, bare=image is None)
        check_version(gic, cpus)
        found = load_profile(profile) if isinstance(profile, str) else profile
        self.profile = found.with_modes(modes or {})
        self.ram = Ram(size=memory)
        self.image = self._read_image(image, load, entry, stubs, libraries)
        self.console = console or Console()
        self.engine = Engine(core=core, native=native)
        self.clock = Clock(self.engine.hooks, hz=freq)
        self.timing = self._choose_timing(core, timing)
        tolls = self._open_tolls(trap_costs)
        hierarchy = (
            hierarchy_of(core, freq, self.ram.base) if self.timing is Timing.CACHE else None
        )
        self.machine = Machine(
            cpus, self.clock, seed, memory=self.engine.memory, registers=self.engine.arguments,
            predictors=self.timing.predicts, hierarchy=hierarchy,
        )  # fmt: skip
        self.board = Board(
            self.engine, self.machine, self.console, gic, tolls, tuple(devices)
        )
        self.scheduler = Scheduler(self.engine, self.machine, self.board)
        self.instruments = list(instruments)
        self.traps = TrapHandler(
            self.engine, self.machine, self.scheduler, self.board,
            Monitor(self.profile, self.machine, services),
            Semihosting(self.engine, self.console, self.clock), self.instruments,
        )  # fmt: skip
        self.vmm = Vmm(self.engine, self.machine, self.scheduler, self.traps, self.board)
        self.bench: Bench | None = None
        self.stubs: dict[int, PythonStub] = {}
        self.dtb = 0
        """Where the device tree lies; 0 without an image."""
        self._listen()
        if image is not None:
            kaslr_seed = Splitmix(seed).bits(64) if kaslr else None
            self._extras = Extras(
                append, initrd, dtb, conduit, core, gic, kaslr_seed, self.board.kinds
            )
            self._boot(stubs)

    def __enter__(self) -> Vm:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to do: everything is freed with the last reference."""

    # -- setting up ---------------------------------------------------------------------------

    def _read_image(
        self,
        image: str | os.PathLike[str] | None,
        load: int | None,
        entry: int | None,
        stubs: Mapping[str, Stub] | None,
        libraries: Iterable[str | os.PathLike[str]],
    ) -> Image:
        if image is None:
            return NO_IMAGE
        parts = Parts(tuple(os.fspath(path) for path in libraries), _stub_sizes(stubs))
        ram = Ram(*FLASH[0][1:]) if self.firmware else self.ram
        return load_image(image, ram=ram, load=load, entry=entry, parts=parts)

    def _choose_timing(self, core: str, name: str | None) -> Timing:
        timing = choose_timing(core, name)
        if timing is not Timing.FLAT:
            self.engine.account(block_costs_of(core, timing))
        if timing.predicts:
            self.engine.misprediction = misprediction_of(core)
        return timing

    def _open_tolls(self, name: str | None) -> Tolls | None:
        """Who charges traps; None where they cost nothing."""
        place = "--trap-costs"
        if name is None:
            place = self.profile.place("trap_costs")
            name = "zero" if self.timing is Timing.FLAT else self.profile.trap_costs
        if name == "zero":
            return None
        try:
            tolls = open_tolls(name, self.engine.hooks)
        except EmuError as error:
            raise EmuError(f"{place}: {error}") from None
        self.engine.hooks.exception_cost = tolls.costs.exception.cycles * SIXTEENTHS
        return tolls

    def _boot(self, stubs: Mapping[str, Stub] | None) -> None:
        """Memory, devices and what lies in RAM, as a boot loader leaves them."""
        self.engine.map_ram(self.ram.base, self.ram.size)
        if self.firmware:
            self.engine.map_ram(FLASH[0].base, FLASH[0].size)
        self._map_regions()
        self.board.make_console()
        self.board.identify()
        self._place()
        if stubs:
            from emu.machine.function import place_stubs, server

            self.stubs = place_stubs(self.image, self.engine, stubs)
            self.traps.serve_halt = server(self)
        self._start_boot_cpu()

    def _map_regions(self) -> None:
        """Memory that services have of their own."""
        for region in self.machine.regions:
            if not self.engine.has_ram(region.base, region.size):
                self.engine.map_ram(region.base, region.size)

    def _place(self) -> None:
        """Fill RAM, as a boot loader does."""
        self.dtb = place(
            self.image, self.ram, self.engine.write, self.profile, self.machine.mpidrs(),
            self._extras,
        )  # fmt: skip

    def _listen(self) -> None:
        """Let the parts know who answers calls: at first, and below another hypervisor."""
        self.scheduler.listeners = self.monitor.listeners
        for vcpu in self.machine.vcpus[1:]:  # whom CPU_ON may start (modes.py: cpu_on.policy)
            vcpu.admitted = self.profile.modes["cpu_on.policy"] == "allow"

    def _start_boot_cpu(self) -> None:
        boot = self.machine.vcpus[0]
        boot.start = Start(self.image.entry, self.dtb)
        if self.image.kind is not ImageKind.OBJECT:
            boot.state = MpState.RUNNABLE
        self.scheduler.enter(boot)

    # -- running ----------------------------------------------------------------------------------

    def run(self, cycles: int | None = None, *, vcpu: int | None = None) -> Exit:
        """Run until something leaves the machine, or for that many cycles.

        With `vcpu` only that one runs, as KVM_RUN does; `exits.Wfi` means it would block.
        """
        if self.image.kind is ImageKind.OBJECT:
            raise BootError(
                f"{self.image.path}: is an object file (.o), not a program: call() its functions, "
                "or link it first"
            )
        self.vmm.settle(vcpu)
        self.scheduler.only = None if vcpu is None else self.machine.vcpus[vcpu]
        until = NEVER if cycles is None else min(self.clock.cycles + cycles, NEVER)
        exit = self.vmm.pending = self.scheduler.run_until(until, self.traps)
        for instrument in self.instruments:
            instrument.on_exit(exit)
        return exit

    def exits(self) -> Iterator[Exit]:
        """Every exit up to and including the one that ends the machine."""
        while True:
            exit = self.run()
            yield exit
            if not isinstance(exit, exits.Hypercall):
                return

    @property
    def pending(self) -> Exit | None:
        """The last exit until the machine runs on: of a saved `Hypercall`, set `ret` here."""
        return self.vmm.pending

    def reset(self) -> None:
        """Start the machine again, as after SYSTEM_RESET: all but the clock and the console.

        EmuError for a machine that came from a file: its image is not in there.
        """
        if not self.image.segments:
            raise EmuError("a saved machine cannot be reset: its image is not in the file")
        self.vmm.pending = self.traps.forwarded = self.traps.exit = None
        self.vmm.waiting.clear()
        self.scheduler.only = None
        for _, block, host in self.engine.ram():
            for first, count in find_runs(block, host):
                block[first * PAGE : (first + count) * PAGE] = bytes(count * PAGE)
        self.engine.forget_code()
        self.machine.reset()
        for service in self.monitor.services.values():
            service.reset()
        self.board.restore({})
        self._place()
        self._start_boot_cpu()

    # -- what the guest is below ------------------------------------------------------------------

    @property
    def monitor(self) -> Monitor:
        """What answers the guest's calls: its levels, services and policy."""
        return self.traps.monitor

    @property
    def el2(self) -> Monitor:
        """The same, by the name it has had since there was one level."""
        return self.traps.monitor

    def filter(
        self, base: int, count: int = 1, action: Action | str = Action.DENY, target: str = ""
    ) -> None:
        """Install an SMCCC filter range."""
        self.monitor.add_filter(base, count, action, target)

    def move_to(self, profile: Profile, policy: Policy) -> None:
        """Go on below another hypervisor, as after a migration: all else stays."""
        before, self.profile = self.monitor, profile
        self.traps.monitor = Monitor(profile, self.machine, before.own_classes)
        self.monitor.policy = policy
        self.monitor.take_over(before)
        self.scheduler.listeners = self.monitor.listeners
        self._map_regions()

    def begin_below(self, profile: Profile) -> None:
        """Go on below another hypervisor as if there had never been one; before the first call.

        The device tree and services of one's own stay what they were.
        """
        if self.traps.calls:
            raise EmuError(
                f"this guest has made {self.traps.calls:,} calls below {self.profile.name}"
            )
        self.profile = profile
        self.traps.monitor = Monitor(profile, self.machine, self.monitor.own_classes)
        self._listen()
        self._map_regions()

    # -- what it did, and what it is in -----------------------------------------------------------

    def stats(self) -> Stats:
        """Instructions retired, cycles passed and calls made so far."""
        return Stats(self.engine.instructions, self.clock.cycles, self.traps.calls)

    def cpu(self, index: int = 0) -> Cpu:
        """A vCPU's registers, to read and to write between two runs."""
        from emu.machine.registers import Cpu

        return Cpu(self, index)

    @property
    def current(self) -> int:
        """The vCPU that has the engine."""
        return self.scheduler.current.index

    def memory(self, address: SupportsIndex, size: int = 0) -> Block:
        """Guest-physical memory, such as behind a pointer that a stub was given."""
        from emu.machine.blocks import Block

        return Block(self.engine, address.__index__(), size)

    @property
    def trap_costs(self) -> str:
        """The name of the profile by which traps are charged."""
        return self.tolls.costs.name if self.tolls else "zero"

    @property
    def tolls(self) -> Tolls | None:
        """What traps have cost so far; None where nobody counts it."""
        return self.board.tolls

    def follow(self) -> None:
        """Keep from now on which function has cost what (`hvcemu run --stats`)."""
        if self.engine.block_costs is None:
            self.engine.account(block_costs_of(DEFAULT_CORE))
        self.engine.hooks.follow()
        # What costs nothing is counted as well.
        self.traps.tolls = self.board.tolls = self.tolls or open_tolls("zero", self.engine.hooks)

    # -- one function of the guest's (function.py) ----------------------------------------------

    def call(
        self,
        name: str | SupportsIndex,
        *args: object,
        max_cycles: int = CALL_CYCLES,
        result: SupportsIndex | None = None,
        on_forward: Answerer | None = None,
    ) -> Returned:
        """Run one function, by name or address, under the C ABI, on the boot CPU, from reset.

        An argument is a number, a `Block`, or bytes, bytearray or str, which are passed by
        pointer (a bytearray gets what the function wrote, a str ends with NUL). `result` is where
        a structure larger than 16 bytes is returned. `on_forward` answers calls that a filter
        forwards; without it the first of them ends the call. Memory stays as the function leaves
        it, for the next call too; this vCPU's registers come back as they were.
        """
        from emu.machine.function import call

        return call(self, name, args, max_cycles=max_cycles, result=result, on_forward=on_forward)

    def buffer(self, content: int | bytes) -> Block:
        """Memory for calls to work on: so many zero bytes, or these."""
        from emu.machine.function import buffer

        return buffer(self, content)

    def symbol(self, name: str) -> Block:
        """The memory that a symbol of the image names."""
        from emu.machine.function import symbol

        return symbol(self, name)

    # -- a machine in a file (snapshot.py) --------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the machine to a file, at any exit; SnapshotError when it fails."""
        if self.stubs or self.image.kind is ImageKind.OBJECT:
            raise SnapshotError(f"{path}: cannot be saved: objects and stubs do not go into a file")
        from emu.machine.snapshot import save  # most runs need none of it

        save(self, path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        console: Console | None = None,
        services: Iterable[type[Service]] = (),
        devices: Iterable[type[BoardDevice]] = (),
        instruments: Iterable[Instrument] = (),
        native: bool | None = None,
    ) -> Vm:
        """The machine in a file, to go on where it was saved; SnapshotError when it is not right.

        `services` and `devices` are those of one's own that it was saved with, and `console` gets
        the input that was not read before its own.
        """
        from emu.machine.snapshot import load

        return load(
            cls, path, console=console, services=services, devices=devices,
            instruments=instruments, native=native,
        )  # fmt: skip


NO_IMAGE = Image("", ImageKind.RAW, 0, (), Symbols())


def _stub_sizes(stubs: Mapping[str, Stub] | None) -> dict[str, int]:
    if not stubs:
        return {}
    from emu.machine.function import stub_sizes

    return stub_sizes(stubs)


def _check_size(cpus: int, memory: int, *, bare: bool) -> None:
    if not (0 if bare else 1) <= cpus <= MAX_CPUS:
        raise BootError(f"--cpus {cpus}: this machine has 1 to {MAX_CPUS} CPUs")
    if not MIB <= memory <= MAX_MEMORY or memory % MIB:
        raise BootError(f"--mem {memory // MIB}M: this machine has 1M to {MAX_MEMORY >> 30}G")
