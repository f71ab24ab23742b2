"""Judges a run: which rules of discovery a guest broke, where, and what exactly it did.

`Inspector` watches a machine, learns what the guest has been told (facts.py) and holds every
call against the rules. What no single call shows is judged here: a call before /psci was read, an
UNDEFINED call nobody was prepared for, error codes used as addresses or arguments, waiting for
what was refused. Verdicts stand on the trace, on the exceptions and on a watch over two places
in memory; the same run gives the same verdicts.

It does not know: a conduit learnt from ACPI, or built into an image for one board (that is what
`conduit-unknown` is about), and what was in a machine before it was saved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from emu.arm.arch import EC_SVC64, INSN_SIZE, VECTOR_TABLE, exception_class
from emu.base.abi import Abi
from emu.base.endings import Ending
from emu.base.exits import Exit
from emu.base.smccc import MASK32, UNDEF, Call, Ret, Retry
from emu.images.devicetree import find_property
from emu.images.image import Ram
from emu.judge.facts import (
    CPU_ON,
    NO_ENTROPY,
    PV_TIME_ST,
    SMC64,
    SYSTEM_OFF,
    SYSTEM_RESET,
    TRNG_RND,
    Facts,
    name_of,
    signed,
)
from emu.judge.rules import RULES, Rule, broken, declare
from emu.machine.instrument import CallRecord, ExceptionRecord, Instrument
from emu.world.describe import arguments, subject_of

__all__ = ["RULES", "Facts", "Inspector", "Rule", "Verdict", "Watched"]

CONDUIT_UNKNOWN = declare(
    "conduit-unknown", "a call before the guest has read which conduit there is",
    "linux Documentation/devicetree/bindings/arm/psci.yaml; linux psci.c:get_set_conduit_method",
    "HVC as the first thing an image does: without a hypervisor it is UNDEFINED",
    "read /psci method first (ACPI: FADT ARM_BOOT_ARCH); without either, make no call",
)
CALL_UNDEFINED = declare(
    "call-undefined", "a call that is UNDEFINED here, with nobody prepared for it",
    "DDI 0487: HVC without EL2, SMC without EL3; edk2 c98f7f7550, unikraft PR 297",
    "HVC on a machine without EL2 ends in the guest's default vector",
    "take the conduit from the device tree, or catch the exception and skip the instruction",
)
ERROR_AS_ADDRESS = declare(
    "error-used-as-address", "an error code used as an address",
    "DEN0057, PV_TIME_ST: NOT_SUPPORTED is -1; u-boot 1da4d327d4",
    "the record of stolen time read at 0xFFFFFFFFFFFFFFFF",
    "test the result as a signed number before it is used",
)
ERROR_AS_ARGUMENT = declare(
    "error-used-as-argument", "an error code handed on as an argument",
    "DEN0028, return codes",
    "CPU_ON(target_affinity = MIGRATE_INFO_UP_CPU() = -1)",
    "test the result as a signed number before it is used",
)
REFUSED_WAIT = declare(
    "cpu-on-refused-wait", "waiting for a CPU whose CPU_ON was refused",
    "DEN0022, CPU_ON return codes",
    "CPU_ON answers DENIED, and the boot CPU spins until the other reports",
    "look at CPU_ON's result, and go on without the CPU",
)
NO_ENTROPY_SPIN = declare(
    "no-entropy-spin", "asking for entropy over and over without a pause",
    "DEN0098, TRNG_RND: NO_ENTROPY; linux drivers/char/hw_random/arm_smccc_trng.c",
    "while (rnd() == NO_ENTROPY) ;",
    "give up after a few tries, or wait between them",
)
OFF_RETURNED = declare(
    "power-off-returned", "going on after SYSTEM_OFF or SYSTEM_RESET came back",
    "DEN0022, SYSTEM_OFF: an implementation may refuse; libkrun PR 196",
    "SYSTEM_OFF answers NOT_SUPPORTED and the code behind it is something else",
    "stop for good behind the call: for (;;) wfi",
)
UNPREPARED = declare(
    "secondary-unprepared", "a secondary CPU took an exception without vectors",
    "DEN0022, state at CPU_ON: VBAR_EL1 is not that of the caller; kvm-unit-tests e14e6ba5",
    "an entry point in C, with SP and VBAR_EL1 at their reset values",
    "set SP and VBAR_EL1 in the first instructions of the entry point",
)
STOLEN_REVISION = declare(
    "stolen-time-revision", "stolen time read from a record of unknown revision",
    "DEN0057: revision and attributes must be 0; linux paravirt.c:stolen_time_cpu_online",
    "the time at offset 8, whatever offset 0 says",
    "compare revision and attributes with 0 before the record is used",
)
HANG = declare(
    "hang-after-refusal", "nothing more happens after a call was refused",
    "DEN0028, NOT_SUPPORTED is an answer; edk2 93629f2c7c (BZ 4150)",
    "PSCI_VERSION answers -1 and the guest loops",
    "treat every refusal as an answer: say so, and do without",
)
CRASH = declare(
    "crash-after-refusal", "the guest dies of an exception after a call was refused",
    "DEN0028, NOT_SUPPORTED is an answer; u-boot 1da4d327d4",
    "no TRNG, hence no driver, and its pointer is used all the same",
    "treat every refusal as an answer: say so, and do without",
)
OFF = (SYSTEM_OFF, SYSTEM_RESET)
SPIN_LIMIT = 1000
"""Our choice: refusals in a row that are no longer retries."""
MAX_KEPT = 500
"""Our choice: verdicts, UNDEFINED places and refused CPUs kept, for a guest that never ends."""
MAX_JUDGED = 1000
"""Our choice: how many forms of calls are kept, for a guest that makes ever new ones."""
LOOK = 2_000_000
"""Cycles between two looks at the console, where trial.py stops as well."""
PATIENCE = 4
"""Our choice: who has printed for a while after its last call may be silent for so much longer."""
NEAR = 4096
"""How far from an error code an address may lie to have been made of it: a structure's size."""
STOLEN_OFFSET, STOLEN_LAST = 8, 15
"""Where the stolen time lies in its record (DEN0057)."""
METHOD_READS = 7
"""Bytes before the property's value at which a wide read still covers it."""


class Verdict(NamedTuple):
    """A rule that was broken: when first, by which vCPU, where, and what exactly happened."""

    rule: str
    cycles: int
    vcpu: int
    pc: int
    place: str
    text: str


class Watched(Protocol):
    """What of a `Vm` is watched; it lies below this module only by name."""

    ram: Ram
    image: Any
    engine: Any
    console: Any
    clock: Any
    dtb: int


@dataclass(slots=True)
class _Refusal:
    """An answer that was an error code."""

    record: CallRecord
    x0: int


@dataclass(slots=True)
class _Life:
    """Whether a guest goes on printing; looked at every `LOOK` cycles, where a run comes back.

    `heard` and `quiet` are where the last such stretch with output begins and ends.
    """

    looked: int
    printed: int
    now: int = 0
    heard: int = 0
    quiet: int = 0

    def look(self, now: int, printed: int, every: int = LOOK) -> None:
        """Take notice of the console."""
        self.now = now
        if now - self.looked < every:
            return
        if printed != self.printed:
            self.heard, self.quiet = self.looked, now
        self.looked, self.printed = now, printed

    def goes_on(self, since: int) -> bool:
        """Whether it has printed long enough to be believed in its silence now."""
        return self.now - self.quiet < PATIENCE * (self.heard - since)


@dataclass(slots=True)
class _Memory:
    """What the inspector remembers besides the facts."""

    facts: Facts
    judged: set[tuple[tuple[int, ...], str, int]] = field(default_factory=set)
    """Calls in every form that was held against the rules since something was learnt."""
    found: dict[tuple[str, int, str], Verdict] = field(default_factory=dict)
    undefined: dict[int, CallRecord] = field(default_factory=dict)
    blind: CallRecord | None = None
    guarded: set[int] = field(default_factory=set)
    refusals: dict[int, _Refusal] = field(default_factory=dict)
    cpus_refused: dict[int, CallRecord] = field(default_factory=dict)
    spins: dict[int, int] = field(default_factory=dict)
    off: CallRecord | None = None
    last: CallRecord | None = None
    died: bool = False


class Inspector(Instrument):
    """Watches a machine from before its first instruction, and judges its run."""

    def __init__(self, vm: Watched) -> None:
        self._vm, self._method = vm, _method(vm)
        told = "" if vm.dtb else None
        self._m = _Memory(
            Facts(self._method[1] if self._method else told, ram=range(vm.ram.base, vm.ram.end))
        )
        self._life = _Life(vm.clock.cycles, vm.console.printed)
        self._watch_method()

    def again(self, vm: Watched) -> Inspector:
        """Another, for a machine put back to before its first call: it knows what this one knew.

        A method that was read stays read; what is not yet known is watched for again.
        """
        other = Inspector.__new__(Inspector)
        other._vm, other._method = vm, self._method
        other._m = _Memory(self._m.facts.copy())
        other._life = _Life(vm.clock.cycles, vm.console.printed)
        if not other._m.facts.read_method:
            other._watch_method()
        return other

    @property
    def died(self) -> bool:
        """Whether the guest made no further call after an exception."""
        return self._m.died

    # -- what is watched in memory ----------------------------------------------------------------

    def _watch_method(self) -> None:
        if self._method is None:
            return
        address, value = self._method
        facts, engine = self._m.facts, self._vm.engine
        facts.read_method = False
        handles: list[int] = []

        def read(_address: int, _size: int) -> None:
            facts.read_method = True
            engine.unwatch(handles.pop()) if handles else None

        handles.append(engine.watch_reads(address - METHOD_READS, address + len(value), read))

    # -- instrument -------------------------------------------------------------------------------

    def on_call(self, record: CallRecord) -> None:
        """Hold one call against the rules, then learn from its answer."""
        memory, call = self._m, record.call
        if isinstance(call, Abi):
            # Another device tree node announces it, and its answer is no status of SMCCC's.
            if record.answer is UNDEF:
                self._undefined(record)
            return
        if memory.last is None:
            self._first(record)
        # A guest that polls makes the same call a million times: it is judged once.
        form = (call.x, call.conduit, call.imm)
        if form not in memory.judged:
            memory.judged.add(form)
            for rule, text in broken(memory.facts, call):
                self._add(rule, record, text)
        self._argument(record)
        self._after_off(record)
        memory.last = record
        memory.died = False
        if record.answer is UNDEF:
            self._undefined(record)
        self._answered(record)
        if memory.facts.learn(call, record.answer) or len(memory.judged) > MAX_JUDGED:
            memory.judged.clear()

    def on_exit(self, exit: Exit) -> None:
        """Look whether it prints."""
        self._life.look(exit.cycles, self._vm.console.printed)

    def on_exception(self, record: ExceptionRecord) -> None:
        """Look whether an exception comes of an answer."""
        memory = self._m
        if exception_class(record.esr) != EC_SVC64:
            memory.died = True
        if record.vcpu and record.vector < VECTOR_TABLE:  # the table at 0
            self._note(UNPREPARED, record.cycles, record.vcpu, record.pc,
                       f"vCPU {record.vcpu} took an exception to {record.vector:#x}")
        refusal = memory.refusals.get(record.vcpu)
        if refusal is None or record.far is None:
            return
        for code in (refusal.x0, refusal.x0 & MASK32):
            if abs(record.far - code) <= NEAR:
                call = name_of(refusal.record.call.id)
                self._note(ERROR_AS_ADDRESS, record.cycles, record.vcpu, record.pc,
                           f"{call} has answered {signed(refusal.x0)}, and {record.far:#x} "
                           "is accessed")

    # -- checks -----------------------------------------------------------------------------------

    def _first(self, record: CallRecord) -> None:
        """The first call of all: may the guest know the conduit?"""
        facts = self._m.facts
        if facts.method is None or (facts.read_method and facts.method):
            return
        how = record.call.conduit.upper()
        if facts.method:
            self._add(CONDUIT_UNKNOWN, record,
                      f"{name_of(record.call.id)} by {how} before /psci method was read")
        elif record.answer is UNDEF:
            self._m.blind = record
        elif not self._vm.engine.get("VBAR_EL1"):
            self._add(CONDUIT_UNKNOWN, record,
                      f"{name_of(record.call.id)} by {how}, and there is no /psci")

    def _undefined(self, record: CallRecord) -> None:
        """Nobody answered: a guest that is prepared arrives behind the instruction."""
        memory, behind = self._m, record.pc + INSN_SIZE
        known = record.pc in memory.undefined or record.pc in memory.guarded
        if known or len(memory.undefined) >= MAX_KEPT:
            return
        memory.undefined[record.pc] = record
        self._vm.engine.watch_code(
            behind, behind, lambda address, _size: memory.guarded.add(address - INSN_SIZE)
        )

    def _argument(self, record: CallRecord) -> None:
        refusal = self._m.refusals.get(record.call.vcpu)
        if refusal is None or not {refusal.x0, refusal.x0 & MASK32} & set(record.call.x[1:]):
            return
        for name, value in _arguments(record.call):
            if value in (refusal.x0, refusal.x0 & MASK32):
                self._add(ERROR_AS_ARGUMENT, record,
                          f"{name_of(record.call.id)} with {name} = {value:#x}, which is what "
                          f"{name_of(refusal.record.call.id)} has answered")

    def _after_off(self, record: CallRecord) -> None:
        off = self._m.off
        if off is not None and record.call.id not in OFF:
            self._add(OFF_RETURNED, record, f"{name_of(record.call.id)} after "
                      f"{name_of(off.call.id)} came back with {signed(off.answer.x0)}")

    def _answered(self, record: CallRecord) -> None:
        answer, call, memory = record.answer, record.call, self._m
        if not isinstance(answer, Ret) or isinstance(answer, Retry) or not answer:
            return
        refused = signed(answer.x0) < 0
        memory.refusals.pop(call.vcpu, None)
        if refused:
            memory.refusals[call.vcpu] = _Refusal(record, answer.x0)
        if call.id & ~SMC64 == CPU_ON:
            memory.cpus_refused.pop(call.arg(1), None)
            if refused and len(memory.cpus_refused) < MAX_KEPT:
                memory.cpus_refused[call.arg(1)] = record
        if call.id in OFF:
            memory.off = record
        if call.id == PV_TIME_ST and not refused:
            self._watch_record(record, answer.x0)
        self._entropy(record)

    def _entropy(self, record: CallRecord) -> None:
        spins, vcpu = self._m.spins, record.call.vcpu
        empty = record.call.id in TRNG_RND and signed(record.answer.x0) == NO_ENTROPY
        spins[vcpu] = spins.get(vcpu, 0) + 1 if empty else 0
        if spins[vcpu] == SPIN_LIMIT:
            self._add(NO_ENTROPY_SPIN, record, f"{SPIN_LIMIT} times NO_ENTROPY in a row")

    def _watch_record(self, record: CallRecord, address: int) -> None:
        """A record whose revision is not 0 must not be read further."""
        engine = self._vm.engine
        if not engine.has_ram(address, STOLEN_LAST + 1) or not any(engine.read(address, 8)):
            return
        revision = int.from_bytes(engine.read(address, 4), "little")
        engine.watch_reads(
            address + STOLEN_OFFSET, address + STOLEN_LAST,
            lambda _address, _size: self._add(
                STOLEN_REVISION, record, f"stolen time read, and the record has revision {revision}"
            ),
        )  # fmt: skip

    # -- the end ----------------------------------------------------------------------------------

    def verdicts(self, ending: Ending) -> tuple[Verdict, ...]:
        """Every rule that was broken, in the order of the first time."""
        memory = self._m
        for pc, record in memory.undefined.items():
            if pc not in memory.guarded:
                self._add(CALL_UNDEFINED, record, f"{subject_of(record.call).name} by "
                          f"{record.call.conduit.upper()} is UNDEFINED here")
                if record is memory.blind:
                    self._add(CONDUIT_UNKNOWN, record, "there is no /psci in the device tree")
        if memory.last is not None:
            self._judge_end(memory.last, ending)
        return tuple(sorted(memory.found.values(), key=lambda verdict: verdict.cycles))

    def _judge_end(self, last: CallRecord, ending: Ending) -> None:
        stuck = ending in (Ending.IDLE, Ending.LIMIT, Ending.FLOOD)
        refused = isinstance(last.answer, Ret) and last.answer and signed(last.answer.x0) < 0
        waits = [cpu for cpu in self._m.cpus_refused if _is_about(last.call, cpu)]
        if stuck and waits:
            record = self._m.cpus_refused[waits[0]]
            self._add(REFUSED_WAIT, record, f"CPU_ON of {waits[0]:#x} has answered "
                      f"{signed(record.answer.x0)}, and nothing was called since")
        elif stuck and refused and last.call.id not in OFF:
            self._life.look(self._life.now, self._vm.console.printed, every=0)
            if ending is not Ending.FLOOD and self._life.goes_on(last.cycles):
                return
            self._add(HANG, last, f"{name_of(last.call.id)} has answered "
                      f"{signed(last.answer.x0)}, and that was the last call")
        elif refused and self._m.died and ending in (Ending.FAULT, Ending.EXIT):
            self._crashed(last)

    def _crashed(self, last: CallRecord) -> None:
        known = {verdict.rule for verdict in self._m.found.values()}
        off = last.call.id in OFF
        if not known & {ERROR_AS_ADDRESS, UNPREPARED}:
            self._add(OFF_RETURNED if off else CRASH, last, f"{name_of(last.call.id)} has "
                      f"answered {signed(last.answer.x0)}, and an exception ended the guest")

    # -- keeping ----------------------------------------------------------------------------------

    def _add(self, rule: str, record: CallRecord, text: str) -> None:
        self._note(rule, record.cycles, record.call.vcpu, record.pc, text)

    def _note(self, rule: str, cycles: int, vcpu: int, pc: int, text: str) -> None:
        """Keep the first verdict of each rule at each place, in each form."""
        found, key = self._m.found, (rule, pc, text)
        if key not in found and len(found) < MAX_KEPT:
            found[key] = Verdict(rule, cycles, vcpu, pc, place_of(self._vm, pc), text)


def place_of(vm: Any, pc: int) -> str:
    """The function, and who called it where it is a mere wrapper that has not returned."""
    symbols = vm.image.symbols
    here = symbols.name(pc) or ""
    caller = symbols.name(vm.engine.get("X30")) or ""
    same = here.partition("+")[0] == caller.partition("+")[0]
    return here if same or not caller else f"{here} < {caller}"


def _method(vm: Watched) -> tuple[int, str] | None:
    """Where the device tree says /psci method, and what; None where it says nothing."""
    if not vm.dtb:
        return None
    size = int.from_bytes(vm.engine.read(vm.dtb + 4, 4), "big")
    blob = vm.engine.read(vm.dtb, size)
    found = find_property(blob, "psci", "method")
    if found is None:
        return None
    offset, value = found
    return vm.dtb + offset, value.rstrip(b"\0").decode("ascii", "replace")


def _arguments(call: Call) -> list[tuple[str, int]]:
    function = subject_of(call).function
    return list(arguments(call, function).items()) if function else []


def _is_about(call: Call, cpu: int) -> bool:
    """Whether a call is CPU_ON or AFFINITY_INFO of that CPU."""
    return call.id & ~SMC64 in (CPU_ON, CPU_ON + 1) and call.arg(1) == cpu

