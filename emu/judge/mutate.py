"""A guest under wrong answers: each mutant is run from just before the first call and judged.

    unaffected    same output, same calls
    degraded      it does without, or says so
    wrong belief  it uses a service that is not there, or depends on what nobody promised
    crash         it ends in an exception or a fault
    hang          it waits for ever, or prints for ever

The judge is the guest's run without a fault: a mutant breaks no rule that the guest keeps
(discovery.py), and what the convention leaves open (faults.py:NEUTRAL) must change nothing. The
score is the share of the first two; the rest are the survivors, the faults the guest did not cope
with. Runs start from a checkpoint, so a thousand take seconds, and are the same on every host.
"""

from __future__ import annotations

import enum
import itertools
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from emu.base import exits
from emu.base.endings import STATUS_LIMIT, Ending, ending_of
from emu.base.errors import EmuError
from emu.judge.discovery import Inspector, Verdict
from emu.judge.facts import name_of
from emu.judge.faults import LATE_CYCLES, Injector, Mutation
from emu.judge.trial import MAX_OUTPUT, CallLog, Setup, build, run_to_first_call, run_within
from emu.machine.checkpoint import Checkpoint
from emu.machine.instrument import CallRecord
from emu.machine.vm import Vm
from emu.watch.trace import exit_detail

PATIENCE, PATIENCE_FACTOR = 20_000_000, 4
"""Cycles a mutant may take beyond so many times the guest's own: 20 ms, our choice."""
TALKATIVE = 50_000
"""Calls after which a mutant is taken to poll for ever; our choice."""
STUCK = (Ending.IDLE, Ending.LIMIT, Ending.FLOOD)


class Class(enum.StrEnum):
    """What a mutant came to."""

    UNAFFECTED = "unaffected"
    DEGRADED = "degraded"
    WRONG = "wrong belief"
    CRASH = "crash"
    HANG = "hang"


COPED = (Class.UNAFFECTED, Class.DEGRADED)


class Observation(NamedTuple):
    """What is seen of a run, as far as it is compared."""

    ending: Ending
    status: int
    detail: str
    console: str
    calls: tuple[int, ...]
    functions: frozenset[int]
    broken: frozenset[tuple[str, int, str]]
    died: bool
    verdicts: tuple[Verdict, ...]
    cycles: int


class Result(NamedTuple):
    """One mutant's."""

    mutant: str
    verdict: Class
    ending: Ending
    status: int
    why: str
    cycles: int


@dataclass(slots=True)
class Subject:
    """A guest at its first call, ready to be run again and again."""

    vm: Vm
    checkpoint: Checkpoint
    inspector: Inspector
    trace: Sequence[CallRecord]
    reference: Observation
    seconds: float
    limit: int


def prepare(setup: Setup, *, limit: int | None = None) -> Subject:
    """Run a guest once, and stop another just before its first call; EmuError if it makes none."""
    vm, log = build(setup), CallLog()
    vm.instruments.append(log)
    run_within(vm, setup.seconds, setup.cycles)
    if not log.records:
        raise EmuError(f"{setup.image} makes no call under {setup.profile}: nothing to mutate")
    vm, inspector = _stop_before_first(setup)
    subject = Subject(
        vm, Checkpoint(vm), inspector, log.records, _NOTHING, setup.seconds,
        setup.cycles or vm.clock.cycles + (1 << 40),
    )  # fmt: skip
    subject.reference = observe(subject, None)
    own = subject.reference.cycles
    subject.limit = limit or own * PATIENCE_FACTOR + PATIENCE
    return subject


def _stop_before_first(setup: Setup) -> tuple[Vm, Inspector]:
    vm = build(setup)
    inspector = Inspector(vm)
    vm.instruments.append(inspector)
    run_to_first_call(vm, setup.seconds, setup.cycles)
    return vm, inspector


def observe(subject: Subject, mutation: Mutation | None) -> Observation:
    """One run from the checkpoint."""
    vm = subject.checkpoint.restore()
    log, inspector = CallLog(), subject.inspector.again(vm)
    vm.instruments[:] = (log, inspector)
    injector = vm.traps.interposer = None if mutation is None else Injector(mutation, vm)
    exit, flooded = _run(vm, subject, injector, log)
    ending, status = (Ending.FLOOD, STATUS_LIMIT) if flooded else ending_of(exit)
    verdicts = inspector.verdicts(ending)
    return Observation(
        ending, status, exit_detail(exit), vm.console.text(MAX_OUTPUT),
        tuple(record.call.id for record in log.records), frozenset(log.functions),
        frozenset(map(_mark, verdicts)),
        inspector.died, verdicts, vm.clock.cycles,
    )  # fmt: skip


_NOTHING = Observation(Ending.LOST, 0, "", "", (), frozenset(), frozenset(), False, (), 0)


def _mark(verdict: Verdict) -> tuple[str, int, str]:
    """What makes two verdicts the same in two runs: the rule, the place, and which call."""
    return verdict.rule, verdict.pc, verdict.text.partition(" ")[0]


def _run(
    vm: Vm, subject: Subject, injector: Injector | None, log: CallLog
) -> tuple[exits.Exit, bool]:
    """To the end, waking late vCPUs on the way; what the fault itself took is not counted."""
    ends = time.monotonic() + subject.seconds

    def limit() -> int:
        return subject.limit + (injector.delay if injector else 0)

    def over() -> bool:
        late = vm.clock.cycles >= limit() or time.monotonic() >= ends
        return late or log.total > TALKATIVE

    while True:
        sleeping = injector.sleeping if injector else []
        # A vCPU that is switched on late goes to sleep at any time: look often enough.
        look = vm.clock.cycles + LATE_CYCLES if injector and injector.sleeps else limit()
        due = min((cycle for cycle, _ in sleeping), default=look)
        until = max(due, vm.clock.cycles + 1)
        exit, flooded = run_within(vm, ends - time.monotonic(), until, over)
        if sleeping and isinstance(exit, exits.Wfi):
            vm.clock.jump(max(due - vm.clock.cycles, 0))
        elif flooded or over() or not isinstance(exit, exits.Deadline):
            return exit, flooded
        _wake(vm, sleeping)


def _wake(vm: Vm, sleeping: list[tuple[int, int]]) -> None:
    for entry in [entry for entry in sleeping if entry[0] <= vm.clock.cycles]:
        sleeping.remove(entry)
        vm.machine.vcpus[entry[1]].waiting = False


# -- judging ------------------------------------------------------------------------------------


def judge(mutation: Mutation, seen: Observation, reference: Observation) -> tuple[Class, str]:
    """The class of a mutant, and why."""
    same_end = (seen.ending, seen.status, seen.detail) == (
        reference.ending, reference.status, reference.detail,
    )  # fmt: skip
    if seen.ending in STUCK and reference.ending not in STUCK:
        return Class.HANG, _end_text(seen)
    said = seen.console != reference.console and seen.ending is Ending.EXIT
    if mutation.kind == "undefined" and said and seen.died:
        return Class.DEGRADED, "reports the exception"
    if (seen.ending is Ending.FAULT or seen.died) and not same_end:
        return Class.CRASH, _end_text(seen)
    new = seen.broken - reference.broken
    if new:
        verdict = next(v for v in seen.verdicts if _mark(v) in new)
        return Class.WRONG, f"{verdict.rule}: {verdict.text}"
    changed = _difference(seen, reference, timed=mutation.kind in ("late", "cpu-late"))
    if not changed:
        return Class.UNAFFECTED, ""
    return (Class.WRONG if mutation.neutral else Class.DEGRADED), changed


def _end_text(seen: Observation) -> str:
    return f"{seen.ending} {seen.detail}".strip()


def _difference(seen: Observation, reference: Observation, *, timed: bool) -> str:
    """What differs first, in a line; of a run that was held up, how it ends and what it calls."""
    if (seen.ending, seen.status) != (reference.ending, reference.status):
        return f"ends with {_end_text(seen)}, status {seen.status}"
    if timed:
        more = seen.functions ^ reference.functions
        return f"calls differ in {', '.join(map(name_of, sorted(more)))}" if more else ""
    line = _first_difference(_lines(seen.console), _lines(reference.console))
    if line or seen.calls == reference.calls:
        return line
    return f"makes {len(seen.calls)} calls, not {len(reference.calls)}"


def _first_difference(lines: Sequence[str], were: Sequence[str]) -> str:
    for line, was in itertools.zip_longest(lines, were):
        if line != was:
            return f"no longer says {was.strip()!r}" if line is None else f"says {line.strip()!r}"
    return ""


def _lines(console: str) -> list[str]:
    """Lines without a kernel's time stamps, which move with every call."""
    return [re.sub(r"^\[ *\d+\.\d+\]", "", line) for line in console.splitlines()]


def run_mutant(subject: Subject, mutation: Mutation) -> Result:
    """Run one mutant and judge it."""
    seen = observe(subject, mutation)
    verdict, why = judge(mutation, seen, subject.reference)
    return Result(str(mutation), verdict, seen.ending, seen.status, why, seen.cycles)


# -- the report ---------------------------------------------------------------------------------


def score(results: Sequence[Result]) -> float:
    """The share of mutants the guest coped with, 0 to 1."""
    return sum(r.verdict in COPED for r in results) / len(results) if results else 1.0


def counts(results: Iterable[Result]) -> list[tuple[str, int]]:
    """How many of each class."""
    found = Counter(result.verdict for result in results)
    return [(str(kind), found[kind]) for kind in Class]


def survivors(results: Iterable[Result]) -> list[Result]:
    """The mutants the guest did not cope with."""
    return [result for result in results if result.verdict not in COPED]

