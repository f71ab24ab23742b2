"""Running a guest for a person: time limits, Ctrl-C, a status line, and the exit status.

The guest runs in stretches short enough that the host can look up between them; where a stretch
ends changes nothing a guest can see. Exit statuses stand in endings.py.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from emu.base import exits
from emu.base.console import Descriptor
from emu.base.endings import STATUS_INTERRUPTED, Ending, ending_of
from emu.base.errors import EmuError
from emu.base.smccc import Call, Ret
from emu.machine.moment import Moment, Waiting
from emu.machine.vm import Vm
from emu.runs.progress import LastRow

STRETCH_SECONDS = 0.05
FIRST_STRETCH = 200_000


class StatusLine(LastRow):
    """How far a run is, and how fast."""

    def update(self, vm: Vm, started: float) -> None:
        """Draw it, if it is time."""
        if not self.due():
            return
        stats, seconds = vm.stats(), time.monotonic() - started
        self.draw(
            f"{seconds:6.1f} s  {stats.instructions / 1e6:,.0f} M instructions"
            f"  {stats.instructions / seconds / 1e6:,.0f} MIPS  {stats.calls:,} calls"
        )


@dataclass
class Limits:
    """When to stop a guest that does not: host seconds, and cycles from power-on."""

    seconds: float | None = None
    cycles: int | None = None


@dataclass
class Saving:
    """Where the machine is saved: at a moment, running on, or where the run is stopped."""

    path: str
    moment: Moment | None = None
    done: bool = False
    waiting: Waiting | None = None


@dataclass
class Runner:
    """One run. `say` prints a line for the user, `source` is the guest's input, if any.

    `targets` are the functions that may answer forwarded calls, None for any (a saved machine
    names some, and a file must not choose what is executed).
    """

    vm: Vm
    limits: Limits
    say: Callable[[str], None]
    status: StatusLine
    source: Descriptor | None = None
    saving: Saving | None = None
    targets: frozenset[str] | None = None
    reboot: bool = False
    """Whether SYSTEM_RESET starts the machine again."""
    interrupted: bool = field(default=False, init=False)
    ending: Ending = field(default=Ending.LOST, init=False)
    """How it ended, once it has."""

    def run(self) -> int:
        """Run to the end; returns the exit status."""
        if not gc.isenabled():  # switched off while the modules loaded, which stay (main.py:entry)
            gc.freeze()
            gc.enable()
        started = time.monotonic()
        if self.source and self.source.is_terminal():
            self.vm.scheduler.pace = self._pace
        with self._catch_interrupt(), self.source.raw() if self.source else nullcontext():
            exit = self._run_until_over(started)
        self.status.clear()
        self.ending, _ = ending_of(exit)
        status = self._conclude(exit, time.monotonic() - started)
        if self.saving and not self.saving.done:
            self._save_at_end(exit, self.saving)
        return status

    def _save_at_end(self, exit: exits.Exit, saving: Saving) -> None:
        if saving.moment is None and isinstance(exit, exits.Deadline):
            self._save(saving)
        else:
            self.say(f"not saved: the run ended before {saving.moment or 'it was stopped'}")

    def _save(self, saving: Saving) -> None:
        self.vm.save(saving.path)
        saving.done = True
        self.say(f"saved to {saving.path} at cycle {self.vm.clock.cycles:,}")

    def _save_on_the_way(self) -> None:
        saving = self.saving
        if saving and saving.waiting and not saving.done and saving.waiting.has_come():
            self._save(saving)

    @contextmanager
    def _catch_interrupt(self) -> Iterator[None]:
        def note(*_: object) -> None:
            self.interrupted = True
            if self.source:
                self.source.cancel()

        previous = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def _run_until_over(self, started: float) -> exits.Exit:
        stretch = FIRST_STRETCH
        if self.saving and self.saving.moment:
            self.saving.waiting = Waiting(self.saving.moment, self.vm)
        while True:
            before = time.monotonic()
            exit = self.vm.run(self._clip(stretch))
            now = time.monotonic()
            if isinstance(exit, exits.Hypercall):
                self._check_target(exit.forward_to)
                exit.ret = answer_forwarded(exit)
            elif not isinstance(exit, exits.Deadline) and not self._goes_on(exit):
                return exit
            self._save_on_the_way()
            if self._over(now - started):  # whatever the guest does: call, reset or wait
                return exits.Deadline(vcpu=exit.vcpu, cycles=exit.cycles)
            self._look_for_input()
            self.status.update(self.vm, started)
            # Twice as long or half as long, so that a stretch takes about STRETCH_SECONDS.
            if now - before < STRETCH_SECONDS / 2:
                stretch *= 2
            elif now - before > STRETCH_SECONDS * 2:
                stretch = max(stretch // 2, FIRST_STRETCH // 64)

    def _goes_on(self, exit: exits.Exit) -> bool:
        """Do what a VMM does for its guest; False where the run is over."""
        match exit:
            case exits.SystemEvent(kind=exits.EventKind.RESET) if (
                self.reboot and self.vm.image.segments
            ):
                self.vm.reset()
                return True
            case exits.SystemEvent(kind=exits.EventKind.SUSPEND):
                return self.vm.vmm.resume_later(exit)
            case exits.Wfi() if self.source:
                self.source.pause(STRETCH_SECONDS)
                return self.interrupted or (self.vm.board.listens() and not self.source.over)
        return False

    def _pace(self, cycles: int) -> int:
        """Let a person's time pass while the guest idles; returns how much of it has."""
        assert self.source is not None
        before = time.monotonic()
        self.source.pause(min(cycles / self.vm.clock.hz, STRETCH_SECONDS))
        return min(int((time.monotonic() - before) * self.vm.clock.hz), cycles)

    def _look_for_input(self) -> None:
        if self.source:
            self.source.look()
        self.vm.board.poll_input()

    def _clip(self, stretch: int) -> int:
        ends = [self.limits.cycles]
        if self.saving and self.saving.waiting and not self.saving.done:
            ends.append(self.saving.waiting.look)
        now = self.vm.clock.cycles
        return min(stretch, *(max(end - now, 0) for end in ends if end is not None), stretch)

    def _check_target(self, target: str) -> None:
        if target and self.targets is not None and target not in self.targets:
            raise EmuError(
                f"this saved machine forwards calls to {target}: to have it run, "
                f"give --forward ID={target} again"
            )

    def _over(self, seconds: float) -> bool:
        if self.interrupted:
            return True
        if self.limits.seconds is not None and seconds >= self.limits.seconds:
            return True
        return self.limits.cycles is not None and self.vm.clock.cycles >= self.limits.cycles

    def _conclude(self, exit: exits.Exit, seconds: float) -> int:
        """Say how it ended, unless that is what a guest is for, and give the exit status."""
        _, status = ending_of(exit)
        if isinstance(exit, exits.Semihosting | exits.SystemEvent):
            if status and isinstance(exit, exits.SystemEvent):
                kind = exit.kind.name.lower()
                self.say(f"the guest asked for {kind} at cycle {exit.cycles:,}")
            return status
        from emu.watch.report import fault_lines, place  # not on the way of a run that ends well

        symbols = self.vm.image.symbols
        if isinstance(exit, exits.Fault):
            for line in fault_lines(exit, symbols):
                self.say(line)
            return status
        where = f"{place(symbols, self.vm.engine.get('PC'))}, cycle {exit.cycles:,}"
        if isinstance(exit, exits.Wfi):
            self.say(f"dead idle: every vCPU waits and nothing is due, pc {where}")
            return status
        self.say(f"{'interrupted' if self.interrupted else 'limit reached'} "
                 f"after {seconds:.1f} s at {where}")
        return STATUS_INTERRUPTED if self.interrupted else status


CALLBACK_SECONDS = 10.0
"""How long a function of the user's may take over one call."""


def answer_forwarded(exit: exits.Hypercall, seconds: float = CALLBACK_SECONDS) -> Ret:
    """Ask the function a `--forward RANGE=FILE.py:FUNCTION` names; nobody: NOT_SUPPORTED.

    A function that raises, answers nonsense or takes too long is an EmuError that names the call;
    the exit keeps its NOT_SUPPORTED, and the machine can go on.
    """
    if not exit.forward_to:
        return Ret.not_supported()
    answer = _within(seconds, load_target(exit.forward_to), exit)
    if isinstance(answer, Ret):
        return answer
    if isinstance(answer, int) and -(1 << 63) <= answer < 1 << 64:
        return Ret.value(answer)
    raise EmuError(
        f"{exit.forward_to} answered {exit.call.fid} with {answer!r}: return a Ret or an int"
    )


def _within(seconds: float, function: Callable[[Call], object], exit: exits.Hypercall) -> object:
    """The function's answer, waited for in a thread that is left behind if it never comes."""
    answers: list[object] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(function(exit.call))
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not answers:
        raise EmuError(
            f"{exit.forward_to} has not answered {exit.call.fid} within {seconds:g} s"
        )
    return answers[0]


_targets: dict[str, Callable[[Call], object]] = {}


def load_target(target: str) -> Callable[[Call], object]:
    """The function behind `FILE.py:FUNCTION`."""
    if target not in _targets:
        path, _, name = target.rpartition(":")
        if not path or not os.path.isfile(path):
            raise EmuError(f"--forward {target}: give FILE.py:FUNCTION, the file must exist")
        _targets[target] = _guard(target, getattr(load_module(path), name, None))
    return _targets[target]


def load_module(path: str) -> Any:
    """A Python file of the user's; EmuError where it cannot be run."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(
        os.path.splitext(os.path.basename(path))[0], path
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise EmuError(f"{path}: {type(error).__name__}: {error}") from error
    return module


def _guard(target: str, function: Any) -> Callable[[Call], object]:
    if not callable(function):
        raise EmuError(f"--forward {target}: there is no such function in the file")

    def guarded(call: Call) -> object:
        try:
            return function(call)
        except Exception as error:
            raise EmuError(
                f"{target} failed on {call.fid}: {type(error).__name__}: {error}"
            ) from error

    return guarded


def report_to(stream: Any, status: StatusLine) -> Callable[[str], None]:
    """A `say` that keeps the status line out of the way."""

    def say(line: str) -> None:
        status.clear()
        print(line, file=stream, flush=True)

    return say


def stdout_sink(status: StatusLine) -> Callable[[bytes], None]:
    """The guest's console on standard output, at once and byte by byte."""

    def sink(data: bytes) -> None:
        status.clear()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    return sink
