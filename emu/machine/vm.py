"""A virtual machine: one engine, its vCPUs in turn, and EL2 above them.

`run()` comes back with an `Exit`, as KVM_RUN does, and can be called again. vCPUs take turns on
the one engine, `SLICE` cycles each while more than one is ready, so that a run is the same on
every host. A handled call is answered inside the trap; only what leaves the machine stops it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

from emu.arm.arch import INSN_SIZE, PSTATE_F, VECTOR_FIQ, VECTOR_IRQ, SysReg
from emu.arm.timers import NEVER
from emu.base import exits
from emu.base.bus import FLASH, absent_device
from emu.base.clock import DEFAULT_HZ, Clock
from emu.base.console import Console
from emu.base.entropy import Splitmix
from emu.base.errors import BootError, EmuError, SnapshotError
from emu.base.exits import Exit, Fault, Mmio
from emu.base.pages import PAGE, find_runs
from emu.base.smccc import MASK32, MASK64, UNDEF, Call, Conduit, Ret, Retry, Undef
from emu.cycles.model import SIXTEENTHS
from emu.cycles.tolls import Event, Tolls, open_tolls
from emu.engine.cpu import DEFAULT_CORE
from emu.engine.engine import Access, Engine, Stop
from emu.engine.taken import Taken
from emu.images.boot import Parts, default_memory, load_image
from emu.images.image import Image, ImageKind, Ram
from emu.images.symbols import Symbols
from emu.machine.board import GIC_VERSIONS, GICV2_CPUS, Board
from emu.machine.instrument import CallRecord, ExceptionRecord, Instrument
from emu.machine.loader import Extras, place
from emu.machine.semihosting import Semihosting
from emu.machine.timing import Timing, block_costs_of, choose_timing, hierarchy_of, misprediction_of
from emu.machine.vcpus import Machine, Start, Vcpu
from emu.world.describe import meant
from emu.world.monitor import El2
from emu.world.policy import Action, Policy
from emu.world.profile import DEFAULT_PROFILE, Profile, load_profile
from emu.world.routing import Route
from emu.world.service import Answer, MpState, Service

if TYPE_CHECKING:  # function.py itself is imported by who calls one: most runs do not
    from emu.machine.blocks import Block
    from emu.machine.function import Answerer, Bench, PythonStub, Returned, Stub

SLICE = 10_000
"""Cycles a vCPU runs before the next ready one has its turn: 10 µs, short beside a scheduler
tick, long beside the cost of a switch."""
MIB = 1 << 20
MAX_CPUS = 123
"""As many as have a GICv3 redistributor in the virt map (qemu v7.2 hw/arm/virt.c)."""
MAX_MEMORY = 64 << 30
CALL_REGISTERS = 18
CALL_CYCLES = 10_000_000
"""How long `call` lets a function run: 10 ms of the machine's time, 2 s of the Python half's."""
AROUND = 4
"""Instructions shown on each side of a fault."""


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
    `services` adds services of one's own, `modes` chooses rows of modes.py. `native` chooses the
    engine's half. Without an image nothing is loaded and no vCPU runs: that is the bare machine
    below ioctls.py.

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
        modes: Mapping[str, Any] | None = None,
        instruments: Iterable[Instrument] = (),
        native: bool | None = None,
        stubs: Mapping[str, Stub] | None = None,
        libraries: Iterable[str | os.PathLike[str]] = (),
    ) -> None:
        self.firmware = load is not None and load in FLASH[0]
        """Whether the image is executed in place, in the flash at address 0."""
        if memory is None:
            memory = 64 * MIB if image is None else default_memory(image, in_flash=self.firmware)
        _check_size(cpus, memory, bare=image is None)
        _check_gic(gic, cpus)
        found = load_profile(profile) if isinstance(profile, str) else profile
        self.profile = found.with_modes(modes or {})
        self.ram = Ram(size=memory)
        parts = Parts(tuple(os.fspath(path) for path in libraries), _stub_sizes(stubs))
        self.image = (
            NO_IMAGE if image is None
            else load_image(
                image, ram=Ram(*FLASH[0][1:]) if self.firmware else self.ram, load=load,
                entry=entry, parts=parts,
            )
        )
        self.console = console or Console()
        self.instruments = list(instruments)
        self.engine = Engine(core=core, native=native)
        self.clock = Clock(self.engine.hooks, hz=freq)
        self.timing = choose_timing(core, timing)
        if self.timing is not Timing.FLAT:
            self.engine.account(block_costs_of(core, self.timing))
        if self.timing.predicts:
            self.engine.misprediction = misprediction_of(core)
        self.tolls = self._open_tolls(trap_costs)
        hierarchy = (
            hierarchy_of(core, freq, self.ram.base) if self.timing is Timing.CACHE else None
        )
        self.machine = Machine(
            cpus, self.clock, seed, memory=self.engine.memory, registers=self.engine.arguments,
            predictors=self.timing.predicts, hierarchy=hierarchy,
        )  # fmt: skip
        self.el2 = El2(self.profile, self.machine, services)
        self.semihosting_host = Semihosting(self.engine, self.console, self.clock)
        self.board = Board(self.engine, self.machine, self.console, gic, self.tolls)
        self.devices = self.board.devices
        self._vcpu = self.machine.vcpus[0] if cpus else Vcpu(-1, 0)
        self._only: Vcpu | None = None
        self._slice_end = 0
        self._exit: Exit | None = None
        self._forwarded: tuple[Call, Route] | None = None
        self._calls = 0
        self._last_call: Call | None = None
        self.interposer: Callable[[Call, Callable[[Call], Answer]], Answer] | None = None
        """Stands between the guest and EL2: given a call and who would answer it (faults.py)."""
        self._bench: Bench | None = None
        self._stubs: dict[int, PythonStub] = {}
        self.dtb = 0
        """Where the device tree lies; 0 without an image."""
        self.pace: Callable[[int], int] | None = None
        """Asked when the machine idles for so many cycles: how many of them to let pass now."""
        self.takes_mmio = False
        """Whether an access nobody claims is an exit for the caller, as KVM makes it."""
        self.stops_before_call = False
        """Whether the next HVC or SMC is a `Deadline` with PC on it; false once it was."""
        self._admit()
        if image is not None:
            self._map()
            self.board.identify()
            kaslr_seed = Splitmix(seed).bits(64) if kaslr else None
            self._extras = Extras(append, initrd, dtb, conduit, core, gic, kaslr_seed)
            self._place()
            if stubs:
                self._place_stubs(stubs)
            self._start_boot_cpu()

    def __enter__(self) -> Vm:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to do: everything is freed with the last reference."""

    # -- setting up ---------------------------------------------------------------------------

    def _map(self) -> None:
        self.engine.map_ram(self.ram.base, self.ram.size)
        if self.firmware:
            self.engine.map_ram(FLASH[0].base, FLASH[0].size)
        self._map_regions()
        self.board.make("pl011")

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

    def _place_stubs(self, stubs: Mapping[str, Stub]) -> None:
        from emu.machine.function import place_stubs

        self._stubs = place_stubs(self.image, self.engine, stubs)

    def _admit(self) -> None:
        """Whom CPU_ON may start (modes.py: cpu_on.policy)."""
        for vcpu in self.machine.vcpus[1:]:
            vcpu.admitted = self.profile.modes["cpu_on.policy"] == "allow"

    def _start_boot_cpu(self) -> None:
        boot = self.machine.vcpus[0]
        boot.start = Start(self.image.entry, self.dtb)
        if self.image.kind is not ImageKind.OBJECT:
            boot.state = MpState.RUNNABLE
        self._enter(boot)

    # -- time above EL1, and where time goes ---------------------------------------------------

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

    @property
    def trap_costs(self) -> str:
        """The name of the profile by which traps are charged."""
        return self.tolls.costs.name if self.tolls else "zero"

    def follow(self) -> None:
        """Keep from now on which function has cost what (`hvcemu run --stats`)."""
        if self.engine.block_costs is None:
            self.engine.account(block_costs_of(DEFAULT_CORE))
        self.engine.hooks.follow()
        self.tolls = self.tolls or open_tolls("zero", self.engine.hooks)
        self.board.tolls = self.tolls  # what costs nothing is counted as well

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

    def memory(self, address: SupportsIndex, size: int = 0) -> Block:
        """Guest-physical memory, such as behind a pointer that a stub was given."""
        from emu.machine.blocks import Block

        return Block(self.engine, address.__index__(), size)

    # -- what a machine does by itself ------------------------------------------------------------

    def reset(self) -> None:
        """Start the machine again, as after SYSTEM_RESET: all but the clock and the console.

        EmuError for a machine that came from a file: its image is not in there.
        """
        if not self.image.segments:
            raise EmuError("a saved machine cannot be reset: its image is not in the file")
        self._exit = self._forwarded = None
        self._only = None
        for _, block, host in self.engine.ram():
            for first, count in find_runs(block, host):
                block[first * PAGE : (first + count) * PAGE] = bytes(count * PAGE)
        self.engine.forget_code()
        for vcpu in self.machine.vcpus:
            vcpu.state, vcpu.waiting, vcpu.start = MpState.STOPPED, False, None
            vcpu.ready_since = None
            vcpu.quieten()
            vcpu.lines = 0
        self.machine.forget_memory()
        for service in self.el2.services.values():
            service.reset()
        self.board.restore({})
        self._place()
        self._start_boot_cpu()

    def listens(self) -> bool:
        """Whether an interrupt could wake the machine, such as the console's."""
        return self.board.gic is not None

    def resume_later(self, exit: exits.SystemEvent) -> bool:
        """Honour SYSTEM_SUSPEND: this vCPU sleeps until an interrupt, then starts anew.

        False where no interrupt could wake it. The entry point and the context are still in x1
        and x2 (linux v6.17 Documentation/virt/kvm/api.rst, KVM_SYSTEM_EVENT_SUSPEND; DEN0022
        §5.1.19).
        """
        if not self.listens():
            return False
        _, entry, context = self.engine.arguments(3)
        vcpu = self.machine.vcpus[exit.vcpu]
        vcpu.state, vcpu.waiting = MpState.SUSPENDED, False
        vcpu.start = Start(entry, context)
        self._exit = None
        return True

    def poll_input(self, *, idle: bool = False) -> None:
        """Look whether console input has come; between two runs."""
        if uart := self.devices.get("pl011"):
            uart.poll(idle=idle)

    # -- the VMM's side -------------------------------------------------------------------------

    def move_to(self, profile: Profile, policy: Policy) -> None:
        """Go on below another hypervisor, as after a migration: all else stays."""
        self.profile = profile
        self.el2 = El2(profile, self.machine)
        self.el2.policy = policy

    def begin_below(self, profile: Profile) -> None:
        """Go on below another hypervisor as if there had never been one; before the first call.

        The device tree and services of one's own stay what they were.
        """
        if self._calls:
            raise EmuError(f"this guest has made {self._calls:,} calls below {self.profile.name}")
        self.profile = profile
        self.el2 = El2(profile, self.machine, self.el2.own_classes)
        self._admit()
        self._map_regions()

    def focus(self, vcpu: int) -> None:
        """Load a vCPU's registers into the engine, to look at them or to change them."""
        target = self.machine.vcpus[vcpu]
        if target is not self._vcpu or target.start is not None:
            self._switch(target, self.clock.cycles)

    def filter(
        self, base: int, count: int = 1, action: Action | str = Action.DENY, target: str = ""
    ) -> None:
        """Install an SMCCC filter range."""
        self.el2.add_filter(base, count, action, target)

    def stats(self) -> Stats:
        """Instructions retired, cycles passed and calls made so far."""
        return Stats(self.engine.instructions, self.clock.cycles, self._calls)

    @property
    def current(self) -> int:
        """The vCPU that has the engine."""
        return self._vcpu.index

    @property
    def pending(self) -> Exit | None:
        """The last exit until the machine runs on: of a saved `Hypercall`, set `ret` here."""
        return self._exit

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the machine to a file, at any exit (snapshot.py); SnapshotError when it fails."""
        if self._stubs or self.image.kind is ImageKind.OBJECT:
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
        instruments: Iterable[Instrument] = (),
        native: bool | None = None,
    ) -> Vm:
        """The machine in a file, to go on where it was saved; SnapshotError when it is not right.

        `services` are those of one's own that it was saved with, and `console` gets the input
        that was not read before its own.
        """
        from emu.machine.snapshot import load

        return load(
            cls, path, console=console, services=services, instruments=instruments, native=native
        )

    def exits(self) -> Iterator[Exit]:
        """Every exit up to and including the one that ends the machine."""
        while True:
            exit = self.run()
            yield exit
            if not isinstance(exit, exits.Hypercall):
                return

    def run(self, cycles: int | None = None, *, vcpu: int | None = None) -> Exit:
        """Run until something leaves the machine, or for that many cycles.

        With `vcpu` only that one runs, as KVM_RUN does; `exits.Wfi` means it would block.
        """
        if self.image.kind is ImageKind.OBJECT:
            raise BootError(
                f"{self.image.path}: is an object file (.o), not a program: call() its functions, "
                "or link it first"
            )
        self.settle()
        self._only = None if vcpu is None else self.machine.vcpus[vcpu]
        exit = self._run_until(NEVER if cycles is None else min(self.clock.cycles + cycles, NEVER))
        for instrument in self.instruments:
            instrument.on_exit(exit)
        return exit

    def _run_until(self, deadline: int) -> Exit:
        """The next exit, which waits to be settled."""
        while True:
            exit = self._run_slice(deadline)
            if exit is not None:
                exit.cycles = self.clock.cycles
                self._exit = exit
                return exit

    def _run_slice(self, deadline: int) -> Exit | None:
        """One vCPU's turn, or what is left of it."""
        self.board.advance()
        self.board.wake()
        now = self.clock.cycles
        current = self._vcpu
        turn_is_over = (
            now >= self._slice_end or not current.ready or current.start is not None
            or self._only not in (None, current)
        )
        vcpu = self._next_ready(current) if turn_is_over else current
        if vcpu is None:
            return self._idle(deadline)
        if now >= deadline:
            return exits.Deadline(vcpu=vcpu.index)
        if turn_is_over:
            if vcpu.start is not None:
                self.board.charge(Event.CPU_ON)
            self._enter(vcpu)
        alone = self._next_ready(vcpu) is vcpu
        self._interrupt(vcpu)
        until = min(deadline, self.board.next_event())
        stop = self.engine.run(until if alone else min(until, self._slice_end), self)
        if alone:
            self._renew_slice()
        return self._after(stop, vcpu)

    def _idle(self, deadline: int) -> Exit | None:
        """Nobody can run: time passes until something is due."""
        self.poll_input(idle=True)
        self.board.wake()
        if self._next_ready(self._vcpu) is not None:
            return None
        due = self.board.next_event()
        if due == NEVER:
            return exits.Wfi(vcpu=self._vcpu.index)
        cycles = max(min(due, deadline) - self.clock.cycles, 0)
        self.board.jump(self.pace(cycles) if self.pace else cycles)
        over = self.clock.cycles >= deadline
        return exits.Deadline(vcpu=self._vcpu.index) if over else None

    def _interrupt(self, vcpu: Vcpu) -> None:
        """Let the vCPU that is about to run take an interrupt, or watch for it to unmask it."""
        pending = self.board.pending(vcpu)
        if pending:
            self.board.sync(vcpu)  # the line may be low again by now
            pending = self.board.pending(vcpu)
        unmasked = pending & ~self.engine.get("PSTATE") if pending else 0
        if unmasked:
            self.board.charge(Event.INTERRUPT)
            self.engine.take_interrupt(VECTOR_FIQ if unmasked & PSTATE_F else VECTOR_IRQ)
        self.engine.hooks.interrupts = pending

    def _next_ready(self, after: Vcpu) -> Vcpu | None:
        """Who runs next: the one the caller wants, or the next in turn."""
        if self._only is not None:
            return self._only if self._only.ready else None
        return self.machine.next_ready(after.index)

    def _renew_slice(self) -> None:
        """A vCPU alone begins one slice after another, wherever the caller's deadlines fall."""
        over = self.clock.cycles - self._slice_end
        if over >= 0:
            self._slice_end += (over // SLICE + 1) * SLICE

    def _after(self, stop: Stop, vcpu: Vcpu) -> Exit | None:
        if stop is Stop.FAULT:
            return self._fault(self.engine.fault)
        if stop is Stop.WFI:
            vcpu.waiting = True
        left, self._exit = self._exit, None
        return left

    def _enter(self, vcpu: Vcpu) -> None:
        """Give a vCPU the engine: its registers, a new slice; services hear of it."""
        now = self.clock.cycles
        self._slice_end = now + SLICE
        if vcpu is not self._vcpu or vcpu.start is not None:
            self._switch(vcpu, now)
        vcpu.ready_since = None
        for entered in self.el2.listeners:
            entered(vcpu.index)

    def _switch(self, vcpu: Vcpu, now: int) -> None:
        leaving = self._vcpu
        if leaving is not vcpu:
            leaving.context = leaving.context or self.engine.new_context()
            self.engine.save(leaving.context)
            self.board.leave(leaving)
            leaving.ready_since = now if leaving.ready else None
        if vcpu.ready_since is not None:
            vcpu.stolen += now - vcpu.ready_since
        start, vcpu.start = vcpu.start, None
        if start is not None:
            self._reset(vcpu, start)
        else:
            self.engine.restore(vcpu.context)
        self._vcpu = vcpu
        self.board.switch_to(vcpu)
        if start is not None:
            self.engine.hooks.reset_vcpu()

    def _reset(self, vcpu: Vcpu, start: Start) -> None:
        """The state of abi/B §B4: EL1h, MMU off, DAIF masked, x0 given and the rest zero."""
        self.engine.restore(self.engine.reset_context)
        self.engine.set("VMPIDR_EL2", vcpu.mpidr)
        self.engine.set("X0", start.x0)
        self.engine.set("PC", start.entry)
        vcpu.quieten()

    def settle(self) -> None:
        """Write the reply to the exit the caller has just dealt with."""
        exit, self._exit = self._exit, None
        if isinstance(exit, exits.SystemEvent):
            self.engine.write_reply(exit.ret)
        if isinstance(exit, exits.Mmio):
            self._complete(exit)
        if not isinstance(exit, exits.Hypercall) or self._forwarded is None:
            return
        call, route = self._forwarded
        self._forwarded = None
        if self.tolls:
            self.tolls.leave(call, by_vmm=True)
        reply = Ret.value(exit.ret) if isinstance(exit.ret, int) else exit.ret
        if isinstance(reply, Undef):
            self.engine.inject_undefined(self)
        else:
            self.engine.write_reply(reply)
        if self.instruments:
            self._record(call, reply, route)

    def _complete(self, access: Mmio) -> None:
        """Finish a load or store the VMM has carried out: its register, and PC behind it."""
        self.board.charge(Event.MMIO)
        pc = self.engine.get("PC")
        word = int.from_bytes(self.engine.read_virtual(pc, INSN_SIZE) or bytes(4), "little")
        if not access.is_write and (target := word & 0x1F) != ZERO_REGISTER:
            self.engine.set(f"X{target}", load_result(word, access.data, access.size))
        self.engine.set("PC", pc + INSN_SIZE)

    # -- traps (`engine.Traps`) -----------------------------------------------------------------

    def hypercall(self, conduit: Conduit, imm: int, x: tuple[int, ...]) -> tuple[int, ...] | None:
        """Answer one HVC or SMC."""
        if self.stops_before_call:
            self.stops_before_call = False
            self.engine.unmake_call()
            self._exit = exits.Deadline(vcpu=self._vcpu.index)
            return None
        kind, count = self.el2.reading(conduit, imm)
        if count > len(x):
            x = self.engine.arguments(count)
        call = _new_call(kind, (x, conduit, imm, self._vcpu.index))
        self._calls += 1
        self._last_call = call
        if self.tolls:
            self.tolls.enter(call)
        interposer = self.interposer
        answer = interposer(call, self.el2.answer) if interposer else self.el2.answer(call)
        if self.tolls and not isinstance(answer, Exit):
            self.tolls.leave(call)
        if self.instruments:
            self.engine.hand_on()
            self._watch(call, answer)
        if isinstance(answer, Ret):
            if self.machine.changed:
                self._after_change()
            if type(answer) is Retry:
                self.engine.make_call_again()
            return answer
        if answer is UNDEF:
            self.engine.inject_undefined(self)
            return ()
        assert isinstance(answer, Exit)
        if isinstance(answer, exits.Hypercall):
            answer.call = call._replace(x=self.engine.arguments(CALL_REGISTERS))
            self._forwarded = answer.call, self.el2.route_of(call)
        self._exit = answer
        return None

    def _after_change(self) -> None:
        """A service changed a vCPU: publish, and let the scheduler look again."""
        self.machine.changed = False
        for entered in self.el2.listeners:
            entered(self._vcpu.index)
        self.engine.stop()

    def _watch(self, call: Call, answer: object) -> None:
        if not isinstance(answer, exits.Hypercall):
            self._record(call, answer, self.el2.route_of(call))

    def _record(self, call: Call, answer: object, route: Route) -> None:
        record = CallRecord(
            cycles=self.clock.cycles,
            instructions=self.engine.instructions,
            pc=self.engine.get("PC") - INSN_SIZE,
            call=meant(call) if call.imm else call,
            answer=answer,
            why=route.why,
            source=route.source,
        )
        for instrument in self.instruments:
            instrument.on_call(record)

    def semihosting(self) -> bool:
        """Serve HLT #0xF000."""
        operation, parameter = self.engine.arguments(2)
        self.engine.set("X0", self.semihosting_host.call(operation, parameter))
        code = self.semihosting_host.exit_code
        if code is not None:
            self.semihosting_host.exit_code = None
            self._exit = exits.Semihosting(vcpu=self._vcpu.index, code=code)
            self.engine.stop()
        return True

    def trap(self, pc: int) -> bool:
        """Serve an HLT that a call has put somewhere."""
        if self._bench is None and not self._stubs:
            return False
        from emu.machine.function import serve_trap

        return serve_trap(self, pc)

    @property
    def watches_exceptions(self) -> bool:
        """Whether an instrument wants to hear of them: it costs each of them a call of Python."""
        deaf = Instrument.on_exception
        return any(getattr(type(i), "on_exception", deaf) is not deaf for i in self.instruments)

    def took_exception(self, taken: Taken, vector: int) -> None:
        """Tell those who watch."""
        pc, esr, far = taken
        record = ExceptionRecord(
            self.clock.cycles, self.engine.instructions, self._vcpu.index, pc, vector, esr, far
        )
        for instrument in self.instruments:
            instrument.on_exception(record)

    def system_register(self, reg: SysReg, is_write: bool, value: int) -> int | None:
        """A register of the interrupt controller or of the performance monitor."""
        if is_write and reg in ICC_SGI:
            self.board.charge(Event.IPI)
        return self.board.system_register(reg, is_write, value)

    def attach(self, address: int) -> bool:
        """A device is made when the guest first reaches for it."""
        return not self.takes_mmio and self.board.attach(address)

    def absent(self, address: int) -> str | None:
        """Devices a guest may expect and this machine has not got."""
        return absent_device(address)

    def unclaimed(self, access: Access) -> bool:
        """An access nobody claims: an exit where the caller wants to see it."""
        if self.takes_mmio:
            self._exit = exits.Mmio(
                vcpu=self._vcpu.index,
                address=access.address,
                size=access.size,
                is_write=access.is_write,
                data=access.value if access.is_write else 0,
            )
        return self.takes_mmio

    def _fault(self, reason: str) -> Fault:
        last, earlier = self.engine.exceptions.last, self.engine.exceptions.earlier
        pc = self.engine.get("PC")
        return Fault(
            vcpu=self._vcpu.index,
            reason=reason,
            pc=pc,
            esr=last.esr if last else None,
            far=last.far if last else None,
            origin=(earlier.pc, earlier.esr) if earlier else None,
            last_call=self._last_call,
            instructions=self._code_around(pc) or self._code_around(earlier.pc if earlier else pc),
        )

    def _code_around(self, pc: int) -> tuple[tuple[int, int], ...]:
        """The words on both sides of an address, as far as they are mapped."""
        words = []
        for address in range(pc - AROUND * INSN_SIZE, pc + (AROUND + 1) * INSN_SIZE, INSN_SIZE):
            word = self.engine.read_virtual(address, INSN_SIZE) if address >= 0 else None
            if word is not None:
                words.append((address, int.from_bytes(word, "little")))
        return tuple(words)


_new_call: Any = tuple.__new__
"""Makes a call of any class from its fields; the class's own way takes twice as long."""
ZERO_REGISTER = 31
ICC_SGI = tuple(SysReg(3, 0, 12, 11, op2) for op2 in (5, 6, 7))
"""ICC_SGI1R_EL1, ICC_ASGI1R_EL1, ICC_SGI0R_EL1: a write sends an interrupt (IHI 0069)."""
NO_IMAGE = Image("", ImageKind.RAW, 0, (), Symbols())


def load_result(word: int, data: int, size: int) -> int:
    """What a load leaves in its register: zero- or sign-extended as opc (bits 23:22) says.

    LDR and LDRB, LDRH zero-extend (opc 01); LDRSB, LDRSH, LDRSW sign-extend to 64 bits (10) or
    to 32 (11) (DDI 0487, C4: loads and stores, register).
    """
    data &= (1 << 8 * size) - 1
    opc = word >> 22 & 3
    if opc >= 2 and data >> (8 * size - 1):
        data |= -1 << 8 * size
    return data & (MASK64 if opc != 3 else MASK32)


def _stub_sizes(stubs: Mapping[str, Stub] | None) -> dict[str, int]:
    if not stubs:
        return {}
    from emu.machine.function import stub_sizes

    return stub_sizes(stubs)


def _check_gic(version: int, cpus: int) -> None:
    if version not in GIC_VERSIONS:
        raise BootError(f"--gic {version}: this machine has a GICv2 or a GICv3")
    if version == 2 and cpus > GICV2_CPUS:
        raise BootError(f"--cpus {cpus}: a GICv2 has room for {GICV2_CPUS}; use --gic 3")


def _check_size(cpus: int, memory: int, *, bare: bool) -> None:
    if not (0 if bare else 1) <= cpus <= MAX_CPUS:
        raise BootError(f"--cpus {cpus}: this machine has 1 to {MAX_CPUS} CPUs")
    if not MIB <= memory <= MAX_MEMORY or memory % MIB:
        raise BootError(f"--mem {memory // MIB}M: this machine has 1M to {MAX_MEMORY >> 30}G")
