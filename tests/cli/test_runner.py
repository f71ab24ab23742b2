"""Running a guest for a person: limits, Ctrl-C, forwarded calls, exit statuses."""

import io
import os
import signal
import struct
import threading
import time

import pytest

from emu.base import exits
from emu.base.console import Console, Descriptor
from emu.base.errors import EmuError
from emu.base.smccc import Ret
from emu.cli.runner import (
    FIRST_STRETCH,
    Limits,
    Runner,
    StatusLine,
    answer_forwarded,
    load_target,
    report_to,
)
from emu.machine.board import Board
from emu.machine.vm import Vm
from emu.watch.explain import make_call

LOAD = 0x4008_0000
HVC, WFI, BRANCH_HERE, UDF = 0xD400_0002, 0xD503_207F, 0x1400_0000, 0


def mov(register, value):
    """MOVZ and MOVK of the two halves of a 32-bit constant."""
    return (
        0xD280_0000 | (value & 0xFFFF) << 5 | register,
        0xF2A0_0000 | (value >> 16) << 5 | register,
    )


@pytest.fixture
def run(tmp_path):
    """Run words as a guest; returns (status, lines said)."""

    def _run(*words, limits=None, **options):
        path = tmp_path / "guest.bin"
        path.write_bytes(struct.pack(f"<{len(words)}I", *words))
        said = []
        vm = Vm(path, load=LOAD, **options)
        status = StatusLine(io.StringIO())
        return Runner(vm, limits or Limits(), said.append, status).run(), said

    return _run


@pytest.mark.parametrize(
    ("fid", "status", "said"),
    [
        (0x8400_0008, 0, ""),  # SYSTEM_OFF
        (0x8400_0009, 120, "asked for reset"),  # SYSTEM_RESET
        (0x8400_0012, 120, "asked for reset"),  # SYSTEM_RESET2
    ],
)
def test_the_machine_is_left_with_its_status(run, fid, status, said):
    code = (*mov(0, fid), 0xD280_0001, HVC)
    assert run(*code)[0] == status
    assert said in " ".join(run(*code)[1])


def test_dead_idle(run):
    status, said = run(WFI)
    assert status == 122
    assert said[0].startswith("dead idle: every vCPU waits and nothing is due, pc 0x40080004")


def test_a_fault_is_reported_whole(run):
    status, said = run(UDF)
    assert status == 121
    assert said[0].startswith("fault: ")
    assert any("0x40080000" in line for line in said)


def test_a_cycle_limit_is_exact(run):
    status, said = run(BRANCH_HERE, limits=Limits(cycles=1000))
    assert status == 124
    assert "cycle 1,000" in said[0]


def test_a_time_limit(run):
    started = time.monotonic()
    status, said = run(BRANCH_HERE, limits=Limits(seconds=0.3))
    assert status == 124
    assert 0.3 <= time.monotonic() - started < 3
    assert said[0].startswith("limit reached after 0.")


@pytest.mark.parametrize("native", ["0", "1"])
def test_ctrl_c_stops_and_says_where(run, monkeypatch, native):
    monkeypatch.setenv("HVCEMU_NATIVE", native)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    status, said = run(BRANCH_HERE, limits=Limits(seconds=20))
    assert status == 130
    assert said[0].startswith("interrupted after ")
    assert "0x40080000" in said[0]


def test_the_status_line_shows_and_clears():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    line = StatusLine(terminal)
    line._next = 0.0

    class FakeVm:
        class Stats:
            instructions, cycles, calls = 5_000_000, 5_000_000, 1234

        @classmethod
        def stats(cls):
            return cls.Stats

    line.update(FakeVm, time.monotonic() - 2)
    assert "5 M instructions" in terminal.getvalue()
    assert "1,234 calls" in terminal.getvalue()
    said = io.StringIO()
    report_to(said, line)("a line")
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert said.getvalue() == "a line\n"


def test_no_status_line_in_a_pipe():
    pipe = io.StringIO()
    line = StatusLine(pipe)
    line._next = 0.0
    line.update(None, 0.0)
    line.clear()
    assert pipe.getvalue() == ""


def forwarded(target, *call):
    return exits.Hypercall(call=make_call(*call), forward_to=target)


@pytest.fixture
def handlers(tmp_path):
    path = tmp_path / "handlers.py"
    path.write_text(
        "from emu import Ret\n"
        "def add(call): return call.arg(1) + call.arg(2)\n"
        "def refuse(call): return -2\n"
        "def whole(call): return Ret.success(7)\n"
        "def nonsense(call): return 'x'\n"
        "def huge(call): return 1 << 64\n"
        "def broken(call): raise ValueError('no')\n"
        "value = 3\n"
        "def slow(call):\n    import time; time.sleep(5)\n"
    )
    return path


@pytest.mark.parametrize(
    ("name", "ret"),
    [("add", Ret.value(5)), ("refuse", Ret.value(-2)), ("whole", Ret.success(7))],
)
def test_a_function_of_ones_own_answers(handlers, name, ret):
    assert answer_forwarded(forwarded(f"{handlers}:{name}", 0xC600_0042, 2, 3)) == ret


def test_nobody_to_ask_means_not_supported():
    assert answer_forwarded(forwarded("", 0xC600_0042)) == Ret.not_supported()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nonsense", "answered 0xC6000042 with 'x'"),
        ("huge", "answered 0xC6000042"),
        ("broken", "failed on 0xC6000042: ValueError: no"),
        ("missing", "no such function"),
        ("value", "no such function"),
    ],
)
def test_a_bad_function_is_one_line(handlers, name, text):
    with pytest.raises(EmuError, match=text):
        answer_forwarded(forwarded(f"{handlers}:{name}", 0xC600_0042))


def test_a_function_that_never_returns_is_reported_and_the_machine_goes_on(tmp_path, handlers):
    path = tmp_path / "guest.bin"
    code = (*mov(0, 0xC600_0042), HVC, WFI)
    path.write_bytes(struct.pack(f"<{len(code)}I", *code))
    vm = Vm(path, load=LOAD)
    vm.filter(0xC600_0042, action="forward", target=f"{handlers}:slow")
    exit = vm.run()
    with pytest.raises(EmuError, match=r"has not answered 0xC6000042 within 0\.05 s"):
        answer_forwarded(exit, seconds=0.05)
    assert isinstance(vm.run(), exits.Wfi)
    assert vm.engine.get("X0") == (1 << 64) - 1


def test_a_bad_file_is_one_line(tmp_path):
    with pytest.raises(EmuError, match=r"FILE\.py:FUNCTION"):
        load_target("nowhere.py:f")
    (tmp_path / "bad.py").write_text("def (")
    with pytest.raises(EmuError, match="SyntaxError"):
        load_target(f"{tmp_path / 'bad.py'}:f")


def test_forwarded_calls_are_answered_while_the_guest_runs(tmp_path, handlers):
    path = tmp_path / "guest.bin"
    code = (*mov(0, 0xC600_0042), 0xD280_0041, 0xD280_0062, HVC, WFI)
    path.write_bytes(struct.pack(f"<{len(code)}I", *code))
    vm = Vm(path, load=LOAD, console=Console())
    vm.filter(0xC600_0042, action="forward", target=f"{handlers}:add")
    Runner(vm, Limits(), lambda _: None, StatusLine(io.StringIO())).run()
    assert vm.engine.get("X0") == 5


def test_between_stretches_the_input_is_looked_at(run, monkeypatch):
    looked = []
    monkeypatch.setattr(Board, "poll_input", lambda board, **_: looked.append(board))
    run(BRANCH_HERE, limits=Limits(cycles=8 * FIRST_STRETCH))  # 1 + 2 + 4 on a fast host
    assert len(looked) >= 2


@pytest.mark.parametrize("what", ["forwards", "resets", "waits"])
@pytest.mark.parametrize("how", ["time", "Ctrl-C"])
def test_a_guest_that_always_goes_on_can_be_stopped(tmp_path, what, how):
    """A forwarded call, a reset and a wait for input each end a stretch before its cycles do."""
    words = [*mov(0, 0xC600_0042 if what == "forwards" else 0x8400_0009), HVC, 0x17FF_FFFD]
    path = tmp_path / "guest.bin"
    path.write_bytes(struct.pack("<4I", *(words if what != "waits" else [WFI] * 4)))
    reader, writer = os.pipe()
    try:
        source = Descriptor(reader)
        vm = Vm(path, load=LOAD, console=Console(source))
        vm.filter(0xC600_0042, action="forward")
        vm.board.device("gic")
        limits = Limits(seconds=0.3 if how == "time" else 30)
        runner = Runner(vm, limits, lambda _: None, StatusLine(io.StringIO()), source, reboot=True)
        if how == "Ctrl-C":
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        assert runner.run() == (124 if how == "time" else 130)
    finally:
        os.close(reader)
        os.close(writer)
