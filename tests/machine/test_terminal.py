"""The user's terminal: its mode on every way in and out, the escape, and lines for semihosting."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import termios

import pytest

from emu.machine import terminal
from emu.machine.terminal import Keyboard
from places import ROOT

CHANGED = termios.ECHO | termios.ICANON | termios.IEXTEN
FOR_EVER = bytes.fromhex("00000014")  # b .
ECHO = [  # for ever: what DR gives goes back to DR
    0xD2A1_2001,  # MOVZ x1, #0x900, LSL #16
    0xB940_0022,  # LDR w2, [x1]
    0x34FF_FFE2,  # CBZ w2, -4
    0xB900_0022,  # STR w2, [x1]
    0x17FF_FFFD,  # B -12
]


@pytest.fixture
def tty():
    """(our end, the program's end) of a pseudo-terminal."""
    pair = os.openpty()
    yield pair
    for fd in pair:
        with contextlib.suppress(OSError):
            os.close(fd)


def keyboard(fd: int) -> tuple[Keyboard, list[str]]:
    said: list[str] = []
    return Keyboard(fd, said.append), said


def flags(fd: int) -> int:
    return termios.tcgetattr(fd)[3]


def read_all(keys: Keyboard) -> bytes:
    taken = bytearray()
    while keys.pause(0.2 if not taken else 0):
        taken.append(keys.poll() or 0)
    return bytes(taken)


def test_the_mode_and_back(tty):
    ours, program = tty
    before = termios.tcgetattr(program)
    keys, _ = keyboard(program)
    with keys.raw():
        mode = termios.tcgetattr(program)
        assert mode[3] & CHANGED == 0
        assert mode[3] & termios.ISIG
        assert mode[0] & (termios.ICRNL | termios.INLCR | termios.IGNCR | termios.IXON) == 0
        assert mode[1] == before[1]
        assert [mode[6][c] for c in (termios.VINTR, termios.VSUSP)] == [b"\x03", b"\0"]
        os.write(ours, b"a\r\x1a\x1c")
        assert read_all(keys) == b"a\r\x1a\x1c"
    assert termios.tcgetattr(program) == before


def test_back_after_an_exception(tty):
    keys, _ = keyboard(tty[1])
    before = termios.tcgetattr(tty[1])
    with pytest.raises(ZeroDivisionError), keys.raw():
        raise ZeroDivisionError
    assert termios.tcgetattr(tty[1]) == before


def test_a_pipe_is_left_alone():
    reader, writer = os.pipe()
    keys, _ = keyboard(reader)
    with keys.raw():
        os.write(writer, b"\x01c")
        keys.look()
        assert select.select([reader], [], [], 0)[0]
        assert read_all(keys) == b"\x01c"
    os.close(reader)
    os.close(writer)


def test_without_termios_nothing_happens(tty, monkeypatch):
    monkeypatch.setattr(terminal, "termios", None)
    before = termios.tcgetattr(tty[1])
    with keyboard(tty[1])[0].raw():
        assert termios.tcgetattr(tty[1]) == before


def test_in_the_background_nothing_happens(tty, monkeypatch):
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp() + 1)
    before = termios.tcgetattr(tty[1])
    with keyboard(tty[1])[0].raw():
        assert termios.tcgetattr(tty[1]) == before


def test_a_terminal_that_goes_away_is_no_error(tty):
    keys, _ = keyboard(tty[1])
    with keys.raw():
        os.close(tty[1])


@pytest.mark.parametrize(("typed", "taken", "help_lines"), [
    (b"\x01a", b"\x01", 0), (b"\x01\x01", b"\x01", 0), (b"\x01c", b"\x03", 0),
    (b"x\x01hy", b"xy", 2), (b"\x01?", b"", 2), (b"\x01", b"", 0),
])
def test_the_escape(tty, typed, taken, help_lines):
    keys, said = keyboard(tty[1])
    with keys.raw():
        os.write(tty[0], typed)
        assert read_all(keys) == taken
    assert len(said) == help_lines


def test_the_escape_may_be_cut(tty):
    keys, _ = keyboard(tty[1])
    with keys.raw():
        os.write(tty[0], b"\x01")
        assert read_all(keys) == b""
        os.write(tty[0], b"c")
        assert read_all(keys) == b"\x03"


def test_the_escape_stops_a_guest_that_does_not_listen(tty):
    keys, _ = keyboard(tty[1])
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        with keys.raw():
            os.write(tty[0], b"ab\x01x")
            select.select([tty[1]], [], [], 60)
            keys.look()
    finally:
        signal.signal(signal.SIGINT, before)
    assert caught == [signal.SIGINT]


def test_semihosting_gets_lines_from_the_terminal_as_it_was(tty):
    ours, program = tty
    keys, _ = keyboard(program)
    before = termios.tcgetattr(program)
    seen = []
    real = keys._ready

    def ready(patience: float = 0) -> bool:
        seen.append(termios.tcgetattr(program))
        return real(patience)

    keys._ready = ready  # type: ignore[method-assign]
    with keys.raw():
        raw = termios.tcgetattr(program)
        os.write(ours, b"ahead\r")
        select.select([program], [], [], 60)
        keys.look()
        assert bytes(keys.wait() or 0 for _ in range(6)) == b"ahead\n"
        seen.clear()
        os.write(ours, b"\x01x\n")
        assert bytes(keys.wait() or 0 for _ in range(3)) == b"\x01x\n"
        assert seen[0] == before
        assert termios.tcgetattr(program) == raw
    assert termios.tcgetattr(program) == before


def test_no_more_is_taken_ahead_than_is_reasonable(tty, monkeypatch):
    monkeypatch.setattr(Keyboard, "AHEAD", 2)
    keys, _ = keyboard(tty[1])
    with keys.raw():
        for piece in (b"ab", b"cd"):
            os.write(tty[0], piece)
            select.select([tty[1]], [], [], 60)
            keys.look()
        assert keys.unread() == b"ab"


@contextlib.contextmanager
def hvcemu(code: bytes, tty, tmp_path):
    """`hvcemu run` of an endless guest on a terminal."""
    guest = tmp_path / "guest.bin"
    guest.write_bytes(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "emu", "run", str(guest), "--load", "0x40080000", "--quiet"],
        stdin=tty[1], stdout=subprocess.PIPE, env=environment, start_new_session=True,
    )
    try:
        while flags(tty[1]) & termios.ECHO:
            assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def running(tty, tmp_path):
    """(process, our end of its terminal)"""
    with hvcemu(FOR_EVER, tty, tmp_path) as process:
        yield process, tty[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_leave_the_terminal_as_it_was(running, tty, number):
    process, _ = running
    process.send_signal(number)
    assert process.wait(60) == (130 if number == signal.SIGINT else -number)
    assert flags(tty[1]) & CHANGED == CHANGED


def test_the_escape_ends_a_run(running, tty):
    process, ours = running
    os.write(ours, b"\x01x")
    assert process.wait(60) == 130
    assert flags(tty[1]) & CHANGED == CHANGED


def test_keys_reach_the_guest_as_they_are(tty, tmp_path):
    code = b"".join(word.to_bytes(4, "little") for word in ECHO)
    with hvcemu(code, tty, tmp_path) as process:
        os.write(tty[0], b"a\r\x1a\x04\x01c\x01a.")
        assert process.stdout is not None
        assert process.stdout.read(7) == b"a\r\x1a\x04\x03\x01."
        os.write(tty[0], b"\x01x")
        assert process.wait(60) == 130
