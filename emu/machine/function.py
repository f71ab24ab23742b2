"""One function of the guest, called from Python: `vm.call("smccc_discover", arg)`.

The call follows AAPCS64 (ARM-software/abi-aa, aapcs64.rst): integers and pointers in x0–x7 and
then on the stack (§6.8.2), the place for a large result in x8 (§6.9), the value back in x0, and
x19–x29, SP and the low halves of v8–v15 as they were (§6.1.1, §6.1.2), which is checked. The
function runs on the boot CPU from the state of a reset: EL1h, MMU off, floating point enabled;
no start code runs before it. It ends at a return address that traps, or with whatever exit comes
first: an exception, since its vectors trap too, the cycle limit, SYSTEM_OFF, a forwarded call.

The stack, the vectors and the buffers given to the function lie in memory of their own behind
the guest's RAM, with nothing below the stack: a recursion without end is a fault, not a guest
that has written over itself. A trap is an HLT with an immediate of ours, known by its address,
so either half of the engine takes it alike; everywhere else the instruction stays UNDEFINED.

Memory stays as a call leaves it, and so do the other vCPUs, which run in turn while a call does:
the next call finds what the one before has written. The boot CPU's own registers, and an exit
of `run()` that waits for its answer, are afterwards as they were.

Not known: floating-point arguments and values, structures passed by value, SVE.
"""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

from emu.arm import arch
from emu.arm.timers import NEVER
from emu.base import exits
from emu.base.errors import EmuError
from emu.base.exits import Exit, Fault
from emu.base.pages import PAGE
from emu.base.smccc import MASK32, MASK64, Call, Ret, Undef
from emu.engine.engine import Engine
from emu.images.image import MIB, Image, Ram, align_up
from emu.machine.blocks import Block, Watched, Write, inside
from emu.machine.faults import code_around, fault_of
from emu.machine.instrument import CallRecord, Instrument
from emu.machine.vcpus import Start
from emu.world.service import MpState

if TYPE_CHECKING:
    from emu.machine.vm import Vm

STACK = MIB
"""Bytes of stack; the Linux kernel gives 16 KiB, a thread of a C library usually 8 MiB."""
BUFFERS = 64 * MIB
"""Room for buffers and for arguments that are passed by pointer; it costs what is touched."""
BUFFER_ALIGN = 16
STACK_ALIGN = 16  # AAPCS64 §6.4.5.1
REGISTER_ARGUMENTS = 8  # AAPCS64 §6.8.2, stage A: x0–x7
SIGNED_LEAST = -(1 << 63)
CPACR_FPEN = 3 << 20
"""No trap of floating point and SIMD (DDI 0487, CPACR_EL1.FPEN)."""
_WORD = 8
Answerer = Callable[[Call], Any]
Stub = Callable[..., Any] | int | bytes
Function = str | SupportsIndex


# -- the result ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Returned:
    """What one call came to.

    `value` is x0 as an unsigned number and `x1` the other half of a 16-byte result: as the
    function left them, whether it returned or not. `exit` is None when it returned, otherwise
    why not. `calls` are the hypercalls answered meanwhile, `writes` the memory that differs
    afterwards, without the stack. `clobbered` names the registers that AAPCS64 has a function
    preserve and that it did not. Cycles and instructions are the machine's, other vCPUs included.
    """

    value: int
    x1: int
    exit: Exit | None
    calls: tuple[CallRecord, ...]
    writes: tuple[Write, ...]
    clobbered: tuple[str, ...]
    cycles: int
    instructions: int

    @property
    def ok(self) -> bool:
        """Whether it returned, and in the way AAPCS64 wants."""
        return self.exit is None and not self.clobbered

    @property
    def signed(self) -> int:
        """x0 as a C `long` or `int64_t`."""
        return self.value - (self.value >> 63 << 64)

    @property
    def w0(self) -> int:
        """w0 as a C `unsigned`, whose upper half AAPCS64 leaves undefined."""
        return self.value & MASK32

    @property
    def int32(self) -> int:
        """w0 as a C `int`."""
        return self.w0 - (self.w0 >> 31 << 32)

    def wrote(self, place: Block) -> tuple[Write, ...]:
        """The writes that touch a place, such as `vm.symbol("table")`."""
        end = place.address + place.size
        return tuple(
            w for w in self.writes if w.address < end and place.address < w.address + len(w.after)
        )


@dataclass(slots=True)
class _Back(Exit):
    """The return address was reached."""


# -- the machine it needs -----------------------------------------------------------------------




class Bench:
    """Stack, vectors, return address and buffers, in memory of their own."""

    def __init__(self, engine: Engine, ram: Ram) -> None:
        # As much empty space below the stack as it has itself, so that no large frame jumps it.
        self.base = align_up(ram.end, MIB) + STACK
        self.top = self.base + STACK
        self.vectors = self.top
        self.back = self.vectors + arch.VECTOR_TABLE
        self.buffers = self.vectors + PAGE
        self.used = 0
        self.calling = False
        size = self.buffers + BUFFERS - self.base
        if not engine.has_ram(self.base, size):  # a machine that was saved has it already
            engine.map_ram(self.base, size)
        trap = arch.WORD_HLT_TRAP.to_bytes(arch.INSN_SIZE, "little")
        engine.write(self.vectors, trap * (PAGE // arch.INSN_SIZE))

    def take(self, size: int) -> int:
        """Room for `size` bytes."""
        start = align_up(self.used, BUFFER_ALIGN)
        if start + size > BUFFERS:
            raise EmuError(f"a buffer of {size} bytes: there are {BUFFERS - start} bytes left")
        self.used = start + max(size, 1)
        return self.buffers + start

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """The traps are in force, and what is taken inside is given back at the end."""
        used, self.calling = self.used, True
        try:
            yield
        finally:
            self.used, self.calling = used, False


def bench_of(vm: Vm) -> Bench:
    """The machine's bench, made when it is first needed."""
    if not vm.machine.vcpus or not vm.engine.ram():
        raise EmuError("this machine has no CPU or no memory yet, so there is nothing to call")
    if vm.bench is None:
        vm.bench = Bench(vm.engine, vm.ram)
        vm.traps.serve_halt = server(vm)
    return vm.bench


def buffer(vm: Vm, content: int | bytes) -> Block:
    """A block of so many zeros, or with this content, that stays where it is."""
    data = bytes(content)
    address = bench_of(vm).take(len(data))
    vm.engine.write(address, data)
    return Block(vm.engine, address, len(data))


def symbol(vm: Vm, name: str) -> Block:
    """The block that a symbol names; EmuError with names like it when there is none."""
    found = vm.image.symbols.find(name)
    if found is None:
        raise EmuError(_unknown(vm.image, name))
    return Block(vm.engine, found.address, found.size)


def _unknown(image: Image, name: str) -> str:
    import difflib  # only who mistypes needs it

    near = difflib.get_close_matches(name, image.symbols.names(), 3)
    advice = f"did you mean {' or '.join(near)}?" if near else "see its symbols with nm"
    return f"{image.path or 'this machine'}: there is no symbol {name}; {advice}"


# -- stubs --------------------------------------------------------------------------------------


class PythonStub(NamedTuple):
    """A function of the guest's that Python answers, with so many of x0–x7."""

    name: str
    function: Callable[..., Any]
    arguments: int


def stub_sizes(stubs: Mapping[str, Stub]) -> dict[str, int]:
    """How many bytes each stub needs in memory; EmuError for what is none."""
    for name, stub in stubs.items():
        if not (callable(stub) or isinstance(stub, int | bytes)):
            raise EmuError(f"the stub for {name} is {stub!r}: give a function, a number or bytes")
    return {
        name: len(stub) if isinstance(stub, bytes) else arch.INSN_SIZE
        for name, stub in stubs.items()
    }


def place_stubs(
    image: Image, engine: Engine, stubs: Mapping[str, Stub]
) -> dict[int, PythonStub]:
    """Put stubs into memory, over what has their names; returns those that Python answers."""
    answered = {}
    for name, stub in stubs.items():
        found = image.symbols.find(name)
        if found is None:
            raise EmuError(f"stubs=: {_unknown(image, name)}")
        with inside(found.address, found.size):
            if isinstance(stub, bytes):
                if len(stub) > found.size:
                    raise EmuError(f"the stub for {name} is longer than its {found.size} bytes")
                engine.write(found.address, stub)
            else:
                engine.write(found.address, arch.WORD_HLT_TRAP.to_bytes(arch.INSN_SIZE, "little"))
                answered[found.address] = _python_stub(name, stub)
    return answered


def _python_stub(name: str, stub: Callable[..., Any] | int) -> PythonStub:
    if isinstance(stub, int):
        _register(f"the stub for {name} returns", stub)
        return PythonStub(name, lambda: stub, 0)
    try:
        parameters = list(inspect.signature(stub).parameters.values())
    except (TypeError, ValueError):  # a few of Python's own have no signature
        return PythonStub(name, stub, 1)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return PythonStub(name, stub, REGISTER_ARGUMENTS)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return PythonStub(name, stub, min(len(positional), REGISTER_ARGUMENTS))


def server(vm: Vm) -> Callable[[int], bool]:
    """Serves the HLTs of a machine's stubs and calls, without keeping it alive."""
    machine = weakref.ref(vm)

    def serve(pc: int) -> bool:
        found = machine()
        return found is not None and serve_trap(found, pc)

    return serve


def serve_trap(vm: Vm, pc: int) -> bool:
    """Serve the HLT at `pc`; False when it is not one of ours."""
    bench = vm.bench
    if bench is not None and bench.calling and bench.vectors <= pc <= bench.back:
        if pc != bench.back and vm.engine.exceptions.last is None:  # jumped to, not taken
            return False
        vm.traps.exit = _Back(vcpu=vm.current) if pc == bench.back else _fault(vm, bench)
        vm.engine.stop()
        return True
    if (stub := vm.stubs.get(pc)) is None:
        return False
    answer = stub.function(*vm.engine.arguments(stub.arguments))
    if answer is not None:
        vm.engine.set("X0", _register(f"the stub for {stub.name} returned", answer))
    vm.engine.set("PC", vm.engine.get("X30"))
    return True


def _fault(vm: Vm, bench: Bench) -> Fault:
    """The exception that the function has taken."""
    fault = fault_of(vm.engine, vm.current, "", vm.traps.last_call)
    taken = vm.engine.exceptions.last
    assert taken is not None
    place = vm.image.symbols.name(taken.pc) or f"{taken.pc:#x}"
    fault.reason = f"exception at {place}: {arch.describe_esr(taken.esr)}"
    if taken.far is not None:
        fault.reason += f", address {taken.far:#x}"
    if taken.far is not None and bench.base - STACK <= taken.far < bench.base:
        fault.reason += f", below the stack of {STACK // MIB} MiB: does the recursion end?"
    fault.pc, fault.instructions = taken.pc, code_around(vm.engine, taken.pc)
    return fault


def _register(what: str, value: object) -> int:
    """A number as a register has it."""
    if not isinstance(value, SupportsIndex):
        raise EmuError(f"{what} {value!r}: a number is needed")
    number = value.__index__()
    if not SIGNED_LEAST <= number <= MASK64:
        raise EmuError(f"{what} {number:#x}, which does not fit into 64 bits")
    return number & MASK64


# -- the call -----------------------------------------------------------------------------------


def call(
    vm: Vm,
    function: Function,
    args: Iterable[object],
    *,
    max_cycles: int,
    result: SupportsIndex | None,
    on_forward: Answerer | None,
) -> Returned:
    """Call a function and come back with what it did; EmuError for a call that cannot be made."""
    if vm.engine.running:
        raise EmuError("vm.call() inside a call: return from the stub or handler first")
    if max_cycles <= 0:
        raise EmuError(f"max_cycles={max_cycles}: a call needs at least one cycle")
    bench = bench_of(vm)
    address = _entry(vm, function)
    recorder = _Calls()
    with bench.in_use(), _borrowed(vm, recorder):
        arguments = _Arguments(vm.engine, bench, args)
        watched = Watched(
            vm.engine, (bench.base, *(region.base for region in vm.machine.regions)),
            bench.buffers, bench.used,
        )
        kept = _prepare(vm, bench, address, arguments, result)
        cycles, instructions = vm.clock.cycles, vm.engine.instructions
        exit = _run(vm, min(cycles + max_cycles, NEVER), on_forward)
        vm.scheduler.look_at(vm.machine.vcpus[0])
        arguments.read_back()
        x0, x1 = vm.engine.arguments(2)
        back = isinstance(exit, _Back)
        return Returned(
            value=x0,
            x1=x1,
            exit=None if back else exit,
            calls=tuple(recorder.records),
            writes=watched.changes(vm.image.symbols),
            clobbered=_clobbered(vm.engine, kept) if back else (),
            cycles=vm.clock.cycles - cycles,
            instructions=vm.engine.instructions - instructions,
        )


def _entry(vm: Vm, function: Function) -> int:
    address = symbol(vm, function).address if isinstance(function, str) else function.__index__()
    if address % arch.INSN_SIZE or not vm.engine.has_ram(address, arch.INSN_SIZE):
        raise EmuError(f"there is no code to call at {address:#x}: a function lies in RAM")
    return address


class _Calls(Instrument):
    def __init__(self) -> None:
        self.records: list[CallRecord] = []

    def on_call(self, record: CallRecord) -> None:
        self.records.append(record)


class _Arguments:
    """The arguments as registers and stack words; what is passed by pointer is in memory."""

    def __init__(self, engine: Engine, bench: Bench, args: Iterable[object]) -> None:
        self._engine, self._bench = engine, bench
        self._mutable: list[tuple[bytearray, int]] = []
        words = [self._word(number, value) for number, value in enumerate(args)]
        self.registers, self.stack = words[:REGISTER_ARGUMENTS], words[REGISTER_ARGUMENTS:]
        if len(self.stack) * _WORD > STACK // 2:
            raise EmuError(f"{len(words)} arguments do not fit on the stack")

    def _word(self, number: int, value: object) -> int:
        if isinstance(value, str):
            value = value.encode() + b"\0"
        if not isinstance(value, bytes | bytearray):
            return _register(f"argument {number} is", value)
        address = self._bench.take(len(value))
        self._engine.write_data(address, bytes(value))
        if isinstance(value, bytearray):
            self._mutable.append((value, address))
        return address

    def read_back(self) -> None:
        """What the function has written into the bytearrays it was given."""
        for value, address in self._mutable:
            value[:] = self._engine.read(address, len(value))


_PRESERVED = (*(f"X{n}" for n in range(19, 30)), "SP", *(f"V{n}" for n in range(8, 16)))


def _prepare(
    vm: Vm, bench: Bench, address: int, arguments: _Arguments, result: SupportsIndex | None
) -> dict[str, int]:
    """Registers and stack as a caller leaves them; returns what must come back the same."""
    engine, boot = vm.engine, vm.machine.vcpus[0]
    vm.scheduler.reset_vcpu(boot, Start(address, 0))
    boot.state, boot.waiting, boot.start = MpState.RUNNABLE, False, None
    engine.write_reply(tuple(arguments.registers))
    engine.set("X8", 0 if result is None else _register("result=", result))
    stack = b"".join(word.to_bytes(_WORD, "little") for word in arguments.stack)
    sp = (bench.top - len(stack)) & -STACK_ALIGN
    engine.write_data(sp, stack)
    # Values that no function would leave by chance, and x29 = 0: the outermost frame (§6.4.6).
    kept = {name: 0x5A5A_0000_0000_0000 | n for n, name in enumerate(_PRESERVED)}
    kept |= {"X29": 0, "SP": sp}
    for name, value in kept.items():
        engine.write_register(name, value)
    engine.set("X30", bench.back)
    engine.set("VBAR_EL1", bench.vectors)
    engine.set("CPACR_EL1", CPACR_FPEN)
    vm.scheduler.enter(boot)
    return kept


def _clobbered(engine: Engine, kept: Mapping[str, int]) -> tuple[str, ...]:
    """The registers that came back changed, by the names AAPCS64 uses."""
    changed = [name for name, v in kept.items() if engine.read_register(name) & MASK64 != v]
    return tuple(name.lower().replace("v", "d") for name in changed)


def _run(vm: Vm, deadline: int, on_forward: Answerer | None) -> Exit:
    while True:
        exit = vm.vmm.pending = vm.scheduler.run_until(deadline, vm.traps)
        if on_forward is None or not isinstance(exit, exits.Hypercall):
            return exit
        answer = on_forward(exit.call)
        if not isinstance(answer, Ret | Undef):
            answer = Ret.value(_register(f"on_forward answered {exit.call.fid} with", answer))
        exit.ret = answer
        vm.vmm.settle()


@contextlib.contextmanager
def _borrowed(vm: Vm, recorder: Instrument) -> Iterator[None]:
    """The boot CPU for a while: afterwards it, and what `run()` has left, are as before."""
    boot, previous = vm.machine.vcpus[0], vm.scheduler.current
    vm.scheduler.look_at(boot)
    own = vm.engine.new_context()
    vm.engine.save(own)
    traps, scheduler = vm.traps, vm.scheduler
    kept = scheduler.only, vm.vmm.pending, vm.vmm.waiting, traps.forwarded, traps.last_call
    rest_of_turn = vm.scheduler.slice_end - vm.clock.cycles
    state = replace(boot)
    exceptions = vm.engine.exceptions.state
    scheduler.only = vm.vmm.pending = traps.forwarded = traps.last_call = None
    vm.vmm.waiting = {}
    vm.engine.exceptions.state = None, None, 0
    vm.instruments.append(recorder)
    try:
        yield
    finally:
        vm.instruments.remove(recorder)
        vm.scheduler.look_at(boot)
        vm.engine.restore(own)
        boot.state, boot.waiting, boot.start = state.state, state.waiting, None
        vm.scheduler.look_at(previous)
        vm.scheduler.slice_end = vm.clock.cycles + rest_of_turn
        vm.engine.exceptions.state = exceptions
        (
            scheduler.only, vm.vmm.pending, vm.vmm.waiting, traps.forwarded, traps.last_call,
        ) = kept  # fmt: skip
