"""What a guest does with an answer: its next instructions, followed.

After a call the registers of its result are marked, and the marks are carried along for a few
dozen instructions: through moves and arithmetic, into memory and back. What is looked for is a use
that the convention does not allow:

    error-used-as-address   a negative result, not tested, is the base or index of an access
    error-used-as-count     a negative result is the bound that a small number is compared with
    result-read-as-64       the 32-bit result of an SMC32 call is tested with all 64 bits
    lost-registers          a register the call may have destroyed is computed with or tested

A result that was compared or tested has been looked at, and is not followed further. Only code
around the call is watched: behind the instruction, and where its function returns to. Other code
(a printf in between) ends it, so that what is reported has been seen, and much is not.

Instructions are told apart by decoding.py, and what it does not tell is not followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from emu.arm.arch import INSN_SIZE
from emu.arm.decoding import (
    COMPARES,
    NARROWING,
    SELECTS,
    SP,
    TESTS,
    Decoded,
    Operand,
    decode,
    is_move,
    looks_at_upper_half,
)
from emu.base.abi import Abi
from emu.base.smccc import MASK64, Ret, Retry
from emu.judge.discovery import ERROR_AS_ADDRESS, Verdict, place_of
from emu.judge.facts import Facts, name_of, returns_x0_alone, signed
from emu.judge.rules import declare
from emu.machine.instrument import CallRecord, Instrument

ERROR_AS_COUNT = declare(
    "error-used-as-count", "an error code used as a count",
    "DEN0028, return codes: negative values are errors",
    "for (i = 0; i < call_count(); i++), where the count is -1 as an unsigned number",
    "test the result as a signed number before it is used",
)
READ_AS_64 = declare(
    "result-read-as-64", "the 32-bit result of an SMC32 call tested with 64 bits",
    "DEN0028: SMC32 results are W0 to W3; TF-A PR 1270 returned 0x00000000FFFFFFFF",
    "x0 == (u64)-1, which a zero-extended NOT_SUPPORTED is not",
    "convert the result of an SMC32 call to a signed 32-bit number first",
)
LOST_REGISTERS = declare(
    "lost-registers", "relying on a register that the call may destroy",
    "DEN0028 1.0: x4–x17 are lost; any version: result registers a function does not define; "
    "u-boot 8dc2c66680, edk2 11b5093ce4",
    "a pointer kept in x1 or x9 across SMC #0, or SOC_ID's result taken from x1",
    "declare x0–x17 as clobbered, and read the registers that the function defines",
)
STEPS = 64
"""Instructions followed behind a call, and watched at each place; our choice."""
MAX_FOLLOWED = 2000
"""Our choice: answers followed in one run, for a guest that makes ever new calls."""
SMALL = 64
"""Our choice: what a loop counter has reached within the instructions followed, at most."""


class Mark(NamedTuple):
    """Where a value comes from: the result itself, or what a lost register held."""

    origin: int
    wide: bool = True
    lost: bool = False


@dataclass(slots=True)
class Trail:
    """One call that is being followed on its vCPU."""

    record: CallRecord
    x0: int
    steps: int = STEPS
    registers: dict[int, Mark] = field(default_factory=dict)
    memory: dict[int, Mark] = field(default_factory=dict)

    def look(self) -> None:
        """The result has been tested: only lost registers are of interest from here."""
        self.registers = {n: m for n, m in self.registers.items() if m.lost}
        self.memory = {a: m for a, m in self.memory.items() if m.lost}


class Followed(Protocol):
    """What of a `Vm` is needed."""

    image: Any
    engine: Any

    @property
    def current(self) -> int: ...


class Follower(Instrument):
    """Follows each answer, once for each function called from each place."""

    def __init__(self, vm: Followed) -> None:
        self._vm = vm
        self._facts = Facts()
        self._trail: Trail | None = None
        self._seen: set[tuple[int, int, int]] = set()
        self._watched: set[int] = set()
        self._handles: list[int] = []
        self._found: dict[tuple[str, int], Verdict] = {}

    def verdicts(self) -> tuple[Verdict, ...]:
        """What was found, in the order of the calls."""
        return tuple(self._found.values())

    def on_call(self, record: CallRecord) -> None:
        """Begin a trail, if the call has come back with registers."""
        answer, call = record.answer, record.call
        self._facts.learn(call, answer)
        self._end()
        caller = self._vm.engine.get("X30")
        key = (record.pc, caller, call.id)
        if not isinstance(answer, Ret) or isinstance(answer, Retry):
            return
        if not answer or key in self._seen:
            return
        if len(self._seen) >= MAX_FOLLOWED:
            return
        if isinstance(call, Abi):  # 64 bits wide, and with rules of its own
            return
        self._seen.add(key)
        trail = Trail(record, answer.x0)
        trail.registers[0] = Mark(0)
        for number in self._lost(record):
            trail.registers[number] = Mark(number, lost=True)
        self._trail = trail
        self._watch(record.pc + INSN_SIZE)
        self._watch(caller)

    def on_exception(self, record: object) -> None:
        """An exception leads elsewhere."""
        self._end()

    def _end(self) -> None:
        """Nothing is followed any more, and nothing watched: a loop there costs nothing."""
        self._trail = None
        self._watched.clear()
        while self._handles:
            self._vm.engine.unwatch(self._handles.pop())

    def _lost(self, record: CallRecord) -> Iterator[int]:
        if returns_x0_alone(record.call.fid):
            yield from range(1, 4)
        if not self._facts.has_smccc(1, 1):
            yield from range(4, 18)

    # -- watching ---------------------------------------------------------------------------------

    def _watch(self, start: int) -> None:
        """Hear of the next instructions from here on, as far as they are not watched yet."""
        new = [a for a in range(start, start + STEPS * INSN_SIZE, INSN_SIZE)
               if a not in self._watched]  # fmt: skip
        if new and start % INSN_SIZE == 0:
            self._watched.update(new)
            self._handles.append(self._vm.engine.watch_code(new[0], new[-1], self._step))

    def _step(self, address: int, _size: int) -> None:
        trail = self._trail
        if trail is None:
            return
        if self._vm.current != trail.record.call.vcpu:
            self._end()
            return
        word = self._vm.engine.read_virtual(address, INSN_SIZE)
        decoded = decode(int.from_bytes(word, "little")) if word else None
        trail.steps -= 1
        if decoded is None or not trail.steps or not (trail.registers or trail.memory):
            self._end()
            return
        self._uses(trail, decoded, address)
        if decoded.mnemonic == "ret":
            self._watch(self._vm.engine.get("X30"))
        elif decoded.mnemonic in ("bl", "blr"):
            self._end()
        if decoded.base is not None:
            self._transfer(trail, decoded)
        elif not decoded.branches:
            self._carry(trail, decoded)

    # -- judging ----------------------------------------------------------------------------------

    def _uses(self, trail: Trail, decoded: Decoded, address: int) -> None:
        """Hold one instruction against the rules."""
        registers = trail.registers
        for number in (decoded.base, decoded.scaled):
            mark = registers.get(number) if number is not None else None
            if mark is not None:
                self._address(trail, mark, address)
        if decoded.base is not None or decoded.mnemonic == "ret":
            return
        marked = [(o, registers[o.number]) for o in decoded.reads if o.number in registers]
        tests = decoded.mnemonic in COMPARES | TESTS | SELECTS
        for operand, mark in marked:
            if mark.lost and (tests or not is_move(decoded)):
                self._note(trail, LOST_REGISTERS, address, f"x{mark.origin} is used after "
                           f"{name_of(trail.record.call.fid)}, which does not define it")
            elif not mark.lost and tests:
                self._tested(trail, decoded, operand, mark, address)
        if tests and any(not mark.lost for _, mark in marked):
            trail.look()

    def _address(self, trail: Trail, mark: Mark, address: int) -> None:
        name = name_of(trail.record.call.fid)
        if mark.lost:
            self._note(trail, LOST_REGISTERS, address,
                       f"x{mark.origin} is an address after {name}, which may have lost it")
        elif signed(trail.x0) < 0:
            self._note(trail, ERROR_AS_ADDRESS, address,
                       f"{name} has answered {signed(trail.x0)}, and it is an address")

    def _tested(
        self, trail: Trail, decoded: Decoded, operand: Operand, mark: Mark, address: int
    ) -> None:
        call = trail.record.call
        wide = operand.wide and mark.wide and looks_at_upper_half(decoded)
        if wide and not call.fid.smc64 and returns_x0_alone(call.fid) and mark.origin == 0:
            self._note(trail, READ_AS_64, address,
                       f"{name_of(call.fid)} is an SMC32 call, and x0 is tested with 64 bits")
        others = [o for o in decoded.reads if o.number != operand.number]
        if signed(trail.x0) < 0 and decoded.mnemonic == "cmp" and others:
            bound = self._vm.engine.get(f"X{others[0].number}") & MASK64
            if bound < SMALL:
                self._note(trail, ERROR_AS_COUNT, address, f"{name_of(call.fid)} has answered "
                           f"{signed(trail.x0)}, and {bound} is compared with it")

    def _note(self, trail: Trail, rule: str, pc: int, text: str) -> None:
        call = trail.record.call
        place = place_of(self._vm, pc)
        self._found.setdefault(
            (rule, pc), Verdict(rule, trail.record.cycles, call.vcpu, pc, place, text)
        )

    # -- carrying marks ---------------------------------------------------------------------------

    def _carry(self, trail: Trail, decoded: Decoded) -> None:
        """Arithmetic: what is made of a marked value is marked."""
        registers = trail.registers
        marks = [(o, registers[o.number]) for o in decoded.reads if o.number in registers]
        narrow = decoded.mnemonic in NARROWING or any(not o.wide for o, _ in marks)
        for target in decoded.writes:
            registers.pop(target.number, None)
            if marks and decoded.mnemonic not in COMPARES:
                mark = marks[0][1]
                registers[target.number] = mark._replace(wide=mark.wide and not narrow)

    def _transfer(self, trail: Trail, decoded: Decoded) -> None:
        """Loads and stores: marks go into memory and come back."""
        address = self._effective(decoded)
        for n, operand in enumerate(decoded.transfers):
            place = address + n * (8 if operand.wide else 4)
            if decoded.loads:
                trail.registers.pop(operand.number, None)
                mark = trail.memory.get(place)
                if mark is not None:
                    wide = mark.wide and operand.wide
                    trail.registers[operand.number] = mark._replace(wide=wide)
            elif operand.number in trail.registers:
                mark = trail.registers[operand.number]
                trail.memory[place] = mark._replace(wide=mark.wide and operand.wide)
            else:
                trail.memory.pop(place, None)
        for operand in decoded.writes:
            if not decoded.loads or operand not in decoded.transfers:
                trail.registers.pop(operand.number, None)

    def _effective(self, decoded: Decoded) -> int:
        get = self._vm.engine.get
        base = get("SP") if decoded.base == SP else get(f"X{decoded.base}")
        scaled = 0 if decoded.scaled is None else get(f"X{decoded.scaled}") << decoded.shift
        return int(base + scaled + (0 if decoded.post else decoded.offset)) & MASK64
