"""The call trace, as text and as JSON lines."""

import json

import pytest

from emu.base import exits
from emu.base.smccc import UNDEF, Conduit, Ret
from emu.machine.instrument import CallRecord, ExceptionRecord
from emu.watch.explain import make_call
from emu.watch.trace import CALL_WIDTH, SCHEMA, TITLE, JsonTrace, TextTrace, exit_detail
from emu.world.monitor import El2


def record(answer, *call, conduit=Conduit.HVC, imm=0):
    made = make_call(*call, conduit=conduit, imm=imm)
    return CallRecord(12_345, 12_000, 0x4008_0000, made, answer, "because", "source")


FAULT = ExceptionRecord(99, 98, 1, 0x4008_0000, 0x4008_0A00, 0x9600_0050, 0xF00)


def text_of(*records, calls=True, exceptions=True, colour=False):
    lines = []
    trace = TextTrace(
        El2("kvm-6.12"), lines.append, calls=calls, exceptions=exceptions, colour=colour
    )
    for item in records:
        (trace.on_exception if isinstance(item, ExceptionRecord) else trace.on_call)(item)
    return lines


def test_one_aligned_line_per_call():
    title, first, second = text_of(
        record(Ret.value(0x1_0001), 0x8400_0000),
        record(Ret.value(-1), 0x8400_000A, 0xC400_000E, conduit=Conduit.SMC, imm=0x12),
    )
    assert title == TITLE
    assert first.split() == [
        "12,345", "0", "hvc", "PSCI_VERSION()", "0x10001", "(version", "1.1)", "because",
    ]  # fmt: skip
    assert "smc#12" in second
    assert first.index("0x10001") == second.index("NOT_SUPPORTED") == title.index("result")
    assert first.index("PSCI_VERSION") + CALL_WIDTH + 1 == title.index("result")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Ret.value(0), "32"), (Ret.value(-1), "33"), (UNDEF, "31"),
        (exits.SystemEvent(kind=exits.EventKind.RESET), "36"),
    ],
)  # fmt: skip
def test_colour_tells_good_from_refused(answer, code):
    assert f"\x1b[{code}m" in text_of(record(answer, 0x8400_0000), colour=True)[1]


def test_no_colour_in_a_pipe():
    assert not any("\x1b" in line for line in text_of(record(UNDEF, 1), FAULT))


def test_exceptions_only_when_asked_for():
    assert "data abort, external abort on a write at 0x40080000 FAR 0xf00" in text_of(FAULT)[1]
    assert text_of(FAULT, exceptions=False) == [TITLE]
    assert text_of(record(UNDEF, 1), calls=False) == []


def test_json_lines_follow_the_schema():
    lines = []
    trace = JsonTrace(El2("kvm-6.12"), lines.append, "hello.elf")
    trace.on_call(record(Ret.value(0), 0xC400_0003, 1, 0x4008_0000, 7))
    trace.on_call(record(UNDEF, 0x8400_0000))
    trace.on_exception(FAULT)
    trace.on_exit(exits.Deadline())
    trace.on_exit(exits.Fault(reason="why", cycles=7))
    start, call, undefined, exception, end = map(json.loads, lines)
    assert start == {
        "type": "start", "schema": SCHEMA, "profile": "kvm-6.12", "image": "hello.elf",
    }  # fmt: skip
    assert call["args"] == {
        "target_affinity": "0x1", "entry_point": "0x40080000", "context_id": "0x7",
    }  # fmt: skip
    assert (call["fid"], call["name"], call["answer"]) == ("0xC4000003", "CPU_ON", "ret")
    assert call["ret"] == ["0x0"] * 4
    assert len(call["x"]) == 8
    assert (call["cycles"], call["instructions"], call["pc"]) == (12_345, 12_000, "0x40080000")
    assert (undefined["answer"], undefined["ret"]) == ("undef", [])
    assert (exception["esr"], exception["far"]) == ("0x96000050", "0xf00")
    assert end == {"type": "exit", "kind": "fault", "cycles": 7, "vcpu": 0, "detail": "why"}


def test_what_each_exit_adds():
    assert exit_detail(exits.SystemEvent(kind=exits.EventKind.RESET)) == "RESET"
    assert exit_detail(exits.Semihosting(code=3)) == "3"
    assert exit_detail(exits.Wfi()) == ""
