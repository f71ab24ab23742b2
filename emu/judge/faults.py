"""Wrong answers, systematically: what a mutant of a run is.

A `Mutation` names one call of a guest (by function, by what a FEATURES call asks about, and by
its turn) and one thing done to its answer. `mutations()` lists them all for a trace, and an
`Injector` does one of them between the guest and EL2. Most are lies a guest must see through or
report; some (`NEUTRAL`) are within what the calling convention allows, and nothing a guest does
may depend on them: poison in x4–x17 before SMCCC 1.1 (x18 and up never), garbage in result
registers the function does not define, the unspecified upper half of a 32-bit result, and an
answer that takes long (DEN0028, register use in SMC and HVC calls).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from emu.arm.arch import MPIDR_AFFINITY
from emu.base.abi import Abi
from emu.base.exits import SystemEvent
from emu.base.smccc import (
    INVALID_PARAMETER,
    MASK32,
    MASK64,
    NOT_SUPPORTED,
    UNDEF,
    Call,
    Ret,
    Retry,
    uuid_words,
)
from emu.judge.facts import (
    ARCH_FEATURES,
    CPU_ON,
    NO_ENTROPY,
    PSCI_FEATURES,
    PV_TIME_FEATURES,
    PV_TIME_ST,
    SMC64,
    TRNG_RND,
    VENDOR_UID,
    Facts,
    name_of,
    returns_x0_alone,
    signed,
)
from emu.machine.instrument import CallRecord
from emu.world.describe import UID_OWNERS, meant, subject
from emu.world.service import Answer

FEATURES = (PSCI_FEATURES, ARCH_FEATURES, PV_TIME_FEATURES)
DENIED = -3
"""DEN0022."""
POISON = 0xDEAD_BEEF_0BAD_F00D
"""Our choice: no address, no code, no small number."""
LATE_CYCLES = 200_000
"""0.2 ms: our choice, long beside any call and short beside a guest's patience."""
BITS = (0, 1, 4, 8, 16, 30, 31, 63)
"""Bits of x0 that are flipped: low ones, those of version fields, the signs."""
EVERY = 0
"""In place of an identifier: every call, as on a machine without EL2 or without firmware."""
MAX_TURNS = 3
"""Of a call made over and over, the first so many are also mutated one by one."""
NEUTRAL = frozenset(("poison", "unused", "wide", "late"))
OTHER_UID = next(uid for uid, owner in UID_OWNERS.items() if owner == "Hyper-V")
"""Of a vendor no profile is of."""


class Mutation(NamedTuple):
    """`kind` done to a call: `about` is what a FEATURES call asks of, `turn` counts from 1 among
    such calls, 0 is all of them; `bit` says which one is flipped, in x0 upward."""

    kind: str
    fid: int
    about: int = 0
    turn: int = 0
    bit: int = 0

    @property
    def neutral(self) -> bool:
        """Whether the convention allows it, so that a guest must not notice."""
        return self.kind in NEUTRAL

    def __str__(self) -> str:
        what = "every call" if self.fid == EVERY else name_of(self.fid)
        what += f"({name_of(self.about)})" if self.about else ""
        how = f"flip x{self.bit // 64} bit {self.bit % 64}" if self.kind == "flip" else self.kind
        return f"{what} {how}" + (f" #{self.turn}" if self.turn else "")


def key_of(call: Call) -> tuple[int, int]:
    """Which call it is: its function, and what it asks about."""
    return call.id, call.arg32(1) if call.id in FEATURES else 0


# -- what is done to an answer ------------------------------------------------------------------

Ask = Callable[[Call], Answer]


def _invalid(call: Call) -> Ret:
    """The interface's own word for a bad argument."""
    codes = subject(call.id).codes
    return _value(call, next((c for c, n in codes.items() if "INVAL" in n), INVALID_PARAMETER))


def _value(call: Call, x0: int) -> Ret:
    """A reply of this value in as many registers as the call's ABI writes."""
    return Ret.only(x0) if isinstance(call, Abi) else Ret.value(x0)


def _unknown(call: Call) -> Ret:
    """What a function gets that nobody has."""
    return call.unknown if isinstance(call, Abi) else Ret.value(NOT_SUPPORTED)


def _ones(call: Call) -> Ret:
    return Ret.only(*(MASK64,) * (1 if isinstance(call, Abi) else 4))


REPLACED: dict[str, Callable[[Call], Answer]] = {
    "not-supported": _unknown,
    "invalid": _invalid,
    "zero": lambda call: _value(call, 0),
    "ones": _ones,
    "undefined": lambda call: UNDEF,
    "denied": lambda call: Ret.value(DENIED),
    "no-entropy": lambda call: Ret.value(NO_ENTROPY),
    "other-uid": lambda call: Ret.words(*uuid_words(OTHER_UID)),
}
"""Answers given without asking anybody: a call that is denied has no effect."""


def _flip(ret: Ret, bit: int) -> Ret:
    values = [*ret, 0, 0, 0, 0][: max(len(ret), bit // 64 + 1)]
    values[bit // 64] ^= 1 << bit % 64
    return Ret.only(*values)


def _wide(ret: Ret) -> Ret:
    """The same w0 with another upper half: zero-extended, as TF-A's SMC_UNK was, or garbage."""
    low = ret.x0 & MASK32
    high = 0 if low >> 31 else POISON & ~MASK32
    return Ret.only(low | high, *ret[1:])


def _changed(mutation: Mutation, ret: Ret) -> Ret:
    four = [*ret, 0, 0, 0][:4]
    match mutation.kind:
        case "flip":
            return _flip(ret, mutation.bit)
        case "wide":
            return _wide(ret)
        case "unused":
            return Ret.only(ret.x0, *(POISON + n for n in range(1, 4)))
        case "poison":
            return Ret.only(*four, *(POISON + n for n in range(4, 18)))
        case _:
            return ret


class Injector:
    """Does one mutation. `vm` gives the clock, memory and vCPUs."""

    def __init__(self, mutation: Mutation, vm: Any) -> None:
        self.mutation, self._vm = mutation, vm
        self.sleeping: list[tuple[int, int]] = []
        """vCPUs switched on late: (cycle, index)."""
        self.delay = 0
        """Cycles that answers have taken longer."""
        self._turn = 0

    @property
    def sleeps(self) -> bool:
        """Whether vCPUs may be put to sleep at any time."""
        return self.mutation.kind == "cpu-late"

    def __call__(self, asked: Call, ask: Ask) -> Answer:
        mutation, call = self.mutation, meant(asked)
        if mutation.fid != EVERY and key_of(call) != (mutation.fid, mutation.about):
            return ask(asked)
        self._turn += 1
        if mutation.turn not in (0, self._turn):
            return ask(asked)
        if mutation.kind in REPLACED:
            return REPLACED[mutation.kind](call)
        answer = ask(asked)
        self._effects(call, answer)
        if not isinstance(answer, Ret) or isinstance(answer, Retry) or not answer:
            return answer
        return _changed(mutation, answer)

    def _effects(self, call: Call, answer: Answer) -> None:
        """What happens besides the registers."""
        kind, vm = self.mutation.kind, self._vm
        if kind == "late":
            vm.clock.jump(LATE_CYCLES)
            self.delay += LATE_CYCLES
        elif kind == "revision" and isinstance(answer, Ret):
            vm.engine.write_data(answer.x0, (1).to_bytes(4, "little"))
        elif kind == "cpu-late" and isinstance(answer, Ret) and answer.x0 == 0:
            for vcpu in vm.machine.vcpus:
                if vcpu.mpidr & MPIDR_AFFINITY == call.arg(1) and vcpu.start is not None:
                    vcpu.waiting = True
                    self.delay += LATE_CYCLES
                    self.sleeping.append((vm.clock.cycles + LATE_CYCLES, vcpu.index))


# -- which there are ----------------------------------------------------------------------------


def mutations(trace: Sequence[CallRecord]) -> list[Mutation]:
    """Every mutation that makes sense for the calls of a run, in the order of the calls."""
    counts = Counter(key_of(record.call) for record in trace)
    found = dict.fromkeys(Mutation(kind, EVERY) for kind in ("not-supported", "undefined", "late"))
    facts = Facts()
    for record in trace:
        key = key_of(record.call)
        turns = range(1, min(counts[key], MAX_TURNS) + 1) if counts[key] > 1 else ()
        for kind, bit in _kinds(record, facts):
            for turn in (0, *turns):
                found.setdefault(Mutation(kind, *key, turn, bit))
        facts.learn(record.call, record.answer)
    return list(found)


def _kinds(record: CallRecord, facts: Facts) -> Iterator[tuple[str, int]]:
    """(kind, bit) for one call with its true answer."""
    call, answer = record.call, record.answer
    fid = call.id
    yield "not-supported", 0
    yield "undefined", 0
    yield "zero", 0
    if isinstance(answer, SystemEvent):
        return
    yield "invalid", 0
    yield "ones", 0
    yield "late", 0
    if not isinstance(answer, Ret) or isinstance(answer, Retry) or not answer:
        return
    yield from (("flip", bit) for bit in BITS)
    if isinstance(call, Abi):  # its replies write what they say, and nothing is left open
        return
    yield from _allowed(call, answer, facts)
    if fid & ~SMC64 == CPU_ON:
        yield "denied", 0
        yield "cpu-late", 0
    if fid in TRNG_RND:
        yield "no-entropy", 0
        yield "flip", 3 * 64
    if fid == VENDOR_UID:
        yield "other-uid", 0
    if fid == PV_TIME_ST and signed(answer.x0) >= 0:
        yield "revision", 0


def _allowed(call: Call, answer: Ret, facts: Facts) -> Iterator[tuple[str, int]]:
    """What the convention leaves open, with what the guest knows by now."""
    if not facts.has_smccc(1, 1):
        yield "poison", 0
    if returns_x0_alone(call.fid):
        yield "unused", 0
        if not call.fid.smc64 and call.fid.fast:
            yield "wide", 0


def choose(all_of_them: Sequence[Mutation], budget: int | None, seed: int) -> list[Mutation]:
    """As many as the budget allows: a seeded choice of the systematic ones, or these and then
    seeded flips of any bit in x0 to x3."""
    chosen = list(all_of_them)
    dice = random.Random(seed)
    if budget is None or budget == len(chosen):
        return chosen
    if budget < len(chosen):
        kept = sorted(dice.sample(range(len(chosen)), budget))
        return [chosen[n] for n in kept]
    return [*chosen, *_more(chosen, budget - len(chosen), dice)]


def _more(chosen: Iterable[Mutation], count: int, dice: random.Random) -> list[Mutation]:
    flips = [m for m in chosen if m.kind == "flip"]
    seen, found = set(chosen), list[Mutation]()
    for _ in range(20 * count if flips else 0):
        one = dice.choice(flips)
        extra = one._replace(bit=dice.randrange(256 if one.fid <= MASK32 else 64))
        if extra not in seen:
            seen.add(extra)
            found.append(extra)
        if len(found) == count:
            break
    return found
