"""The call trace: one aligned line per call while the guest runs, or one JSON object per line.

The text is for reading, the JSON for programs. Both say the same: when, which vCPU, by which
conduit, what was called with which arguments, what came back, who answered and why. Schema of
a JSON line (`"schema": 1` in the first one); all register values are hexadecimal strings:

    {"type": "start", "schema": 1, "profile": str, "image": str}
    {"type": "call", "cycles": int, "instructions": int, "vcpu": int, "pc": hex,
     "conduit": "hvc"|"smc", "imm": int, "abi": str, "fid": hex, "name": str,
     "x": [hex × 8 to 31],
     "args": {name: hex}, "answer": "ret"|"undef"|"exit", "ret": [hex × 0–18], "result": str,
     "why": str, "source": str}
    {"type": "exception", "cycles": int, "instructions": int, "vcpu": int, "pc": hex,
     "vector": hex, "esr": hex, "far": hex|null, "what": str}
    {"type": "exit", "kind": str, "cycles": int, "vcpu": int, "detail": str}

`cycles` counts from power-on and is the same on every host and in either half of the engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from emu.arm.arch import describe_esr
from emu.base import exits
from emu.base.abi import Abi, apart
from emu.base.smccc import UNDEF, Ret
from emu.machine.instrument import CallRecord, ExceptionRecord, Instrument
from emu.world.describe import Subject, answer_text, arguments, by_text, call_text, subject_of
from emu.world.monitor import El2

SCHEMA = 1
CALL_WIDTH = 45
RESULT_WIDTH = 28
TITLE = (
    f"{'cycles':>12} cpu {'by':<8} {'call':<{CALL_WIDTH}} {'result':<{RESULT_WIDTH}} answered by"
)

Write = Callable[[str], None]

_DIM, _RED, _GREEN, _YELLOW, _CYAN, _OFF = (
    "\x1b[2m",
    "\x1b[31m",
    "\x1b[32m",
    "\x1b[33m",
    "\x1b[36m",
    "\x1b[0m",
)


def colour_of(answer: object) -> str:
    """Green for a good answer, yellow for a refusal, red for UNDEF, cyan for an exit."""
    if answer is UNDEF:
        return _RED
    if isinstance(answer, exits.Exit):
        return _CYAN
    return _YELLOW if isinstance(answer, Ret) and answer and answer.signed < 0 else _GREEN


class TextTrace(Instrument):
    """Lines for people, to `write`; with colour when it is a terminal."""

    def __init__(
        self,
        el2: El2,
        write: Write,
        *,
        calls: bool,
        exceptions: bool,
        colour: bool,
        steps: bool = False,
    ) -> None:
        self.el2, self.write, self.steps = el2, write, steps
        self.calls, self.exceptions, self.colour = calls, exceptions, colour
        if calls:
            self.write(self._paint(_DIM, TITLE))

    def on_call(self, record: CallRecord) -> None:
        if not self.calls:
            return
        call = record.call
        what = subject_of(call, self.el2)
        result = f"{answer_text(record.answer, what):<{RESULT_WIDTH}}"
        self.write(
            f"{record.cycles:>12,} {call.vcpu:>3} {by_text(call):<8} "
            f"{call_text(call, what):<{CALL_WIDTH}} "
            f"{self._paint(colour_of(record.answer), result)} {self._paint(_DIM, record.why)}"
        )
        for number, step in enumerate(self.el2.route_of(call).steps if self.steps else (), 1):
            self.write(self._paint(_DIM, f"{'':<17}{number}. {step}"))

    def on_exception(self, record: ExceptionRecord) -> None:
        if not self.exceptions:
            return
        far = "" if record.far is None else f" FAR {record.far:#x}"
        self.write(
            f"{record.cycles:>12,} {record.vcpu:>3} "
            f"{self._paint(_RED, 'exception')} {describe_esr(record.esr)} at {record.pc:#x}{far} "
            f"{self._paint(_DIM, f'ESR {record.esr:#x}, vector {record.vector:#x}')}"
        )

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_OFF}" if self.colour else text


class JsonTrace(Instrument):
    """The same as JSON lines, to `write`."""

    def __init__(self, el2: El2, write: Write, image: str) -> None:
        self.el2, self._write = el2, write
        self._emit("start", schema=SCHEMA, profile=el2.profile.name, image=image)

    def _emit(self, type_: str, **fields: Any) -> None:
        self._write(json.dumps({"type": type_, **fields}, separators=(",", ":")))

    def on_call(self, record: CallRecord) -> None:
        call, answer = record.call, record.answer
        what: Subject = subject_of(call, self.el2)
        kind = "undef" if answer is UNDEF else "ret" if isinstance(answer, Ret) else "exit"
        self._emit(
            "call",
            cycles=record.cycles,
            instructions=record.instructions,
            vcpu=call.vcpu,
            pc=hex(record.pc),
            conduit=str(call.conduit),
            imm=call.imm,
            abi=apart(call.id)[0],
            fid=f"{call.number:#x}" if isinstance(call, Abi) else str(call.fid),
            name=what.name,
            x=[hex(value) for value in call.x],
            args={name: hex(value) for name, value in arguments(call, what.function).items()},
            answer=kind,
            ret=[hex(value) for value in answer] if isinstance(answer, Ret) else [],
            result=answer_text(answer, what),
            why=record.why,
            source=record.source,
        )

    def on_exception(self, record: ExceptionRecord) -> None:
        self._emit(
            "exception",
            cycles=record.cycles,
            instructions=record.instructions,
            vcpu=record.vcpu,
            pc=hex(record.pc),
            vector=hex(record.vector),
            esr=hex(record.esr),
            far=None if record.far is None else hex(record.far),
            what=describe_esr(record.esr),
        )

    def on_exit(self, exit: exits.Exit) -> None:
        if isinstance(exit, exits.Hypercall | exits.Deadline):
            return
        kind = type(exit).__name__.lower()
        self._emit(
            "exit", kind=kind, cycles=exit.cycles, vcpu=exit.vcpu, detail=exit_detail(exit)
        )


def exit_detail(exit: exits.Exit) -> str:
    """What an exit says besides its kind."""
    match exit:
        case exits.SystemEvent():
            return exit.kind.name
        case exits.Semihosting():
            return str(exit.code)
        case exits.Fault():
            return exit.reason
        case _:
            return ""
