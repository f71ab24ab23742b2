"""The user's terminal as the guest's: keys reach the guest one by one, and nothing else reads them.

While a guest runs, the terminal does not echo, collects no lines and translates no keys, as a
serial line would not (termios(3): ECHO, ICANON, ICRNL and their like); output is left as it is.
Ctrl-C still stops the run. Ctrl-A is the escape, as in QEMU's multiplexed console: what follows
it is for us. A guest that reads through semihosting asks its host for a line, and gets one from
the terminal as the user had it, echo and editing included.

The mode is put back on every way out: at the end, with an exception, at exit, and when SIGTERM
or SIGHUP ends the process. A process in the background leaves the terminal alone. Where there is
no termios (Windows), nothing happens at all.
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from emu.base.console import Descriptor

try:
    import termios
except ImportError:  # not a POSIX system
    termios = None  # type: ignore[assignment]

ESCAPE = 0x01
"""Ctrl-A."""
TYPED = {ord("a"): b"\x01", ESCAPE: b"\x01", ord("c"): b"\x03"}
"""What a key behind the escape types."""
HELP = (
    "Ctrl-A x stops the run, as Ctrl-C does; Ctrl-A c types Ctrl-C, Ctrl-A a types Ctrl-A;",
    "Ctrl-A h prints this",
)
DEADLY = ("SIGTERM", "SIGHUP")
_IFLAG, _LFLAG, _CC = 0, 3, 6
"""Where termios.tcgetattr has them."""


class Keyboard(Descriptor):
    """Input from a terminal; `say` prints a line for the user."""

    def __init__(self, fd: int, say: Callable[[str], None]) -> None:
        super().__init__(fd)
        self._say = say
        self._saved: list[Any] | None = None
        self._escaped = False

    @contextmanager
    def raw(self) -> Iterator[None]:
        """The mode described above, for as long as a guest runs."""
        if not self._ours():
            yield
            return
        self._saved = termios.tcgetattr(self._fd)
        atexit.register(self._restore)
        try:
            with _before_death(self._restore):
                self._set(raw_mode(self._saved))
                yield
        finally:
            self._restore()
            atexit.unregister(self._restore)

    def look(self) -> None:
        """Take what was typed, so that Ctrl-A x works while the guest does not listen."""
        if self._saved and not self._ended and len(self._buffer) < self.AHEAD and self._ready():
            self._fill()

    def wait(self) -> int | None:
        if self._saved is None:
            return super().wait()
        if self._buffer:
            key = super().wait()  # typed ahead, without the terminal's ICRNL
            return ord("\n") if key == ord("\r") else key
        mode, self._saved = self._saved, None
        self._set(mode)
        try:
            return super().wait()
        finally:
            self._saved = mode
            self._set(raw_mode(mode))

    def _take(self, data: bytes) -> bytes:
        if self._saved is None:
            return data
        taken = bytearray()
        for key in data:
            if self._escaped:
                self._escaped = False
                taken += self._command(key)
            elif key == ESCAPE:
                self._escaped = True
            else:
                taken.append(key)
        return bytes(taken)

    def _command(self, key: int) -> bytes:
        """Do what the key behind the escape asks for; returns what it types."""
        if key == ord("x"):
            signal.raise_signal(signal.SIGINT)
        elif key not in TYPED:
            for line in HELP:
                self._say(line)
        return TYPED.get(key, b"")

    def _ours(self) -> bool:
        """Whether it is a terminal that this process may change (tcsetattr(3): SIGTTOU)."""
        if termios is None or not os.isatty(self._fd):
            return False
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # not the controlling terminal: nobody's job control is in the way
            return True

    def _restore(self) -> None:
        mode, self._saved = self._saved, None
        if mode:
            self._set(mode)

    def _set(self, mode: list[Any]) -> None:
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, mode)
        except (OSError, termios.error):
            return  # the terminal has gone


def raw_mode(mode: list[Any]) -> list[Any]:
    """A mode of termios.tcgetattr, changed as the module's head says."""
    raw = [*mode[:_CC], [*mode[_CC]]]
    raw[_IFLAG] &= ~(
        termios.ICRNL | termios.INLCR | termios.IGNCR | termios.IXON | termios.ISTRIP
    )
    raw[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
    raw[_LFLAG] |= termios.ISIG
    raw[_CC][termios.VMIN], raw[_CC][termios.VTIME] = 1, 0
    for key in (termios.VQUIT, termios.VSUSP):  # Ctrl-\ and Ctrl-Z are the guest's
        raw[_CC][key] = b"\0"  # _POSIX_VDISABLE of Linux
    return raw


@contextmanager
def _before_death(restore: Callable[[], None]) -> Iterator[None]:
    """Call `restore` before a signal ends the process, where it would."""

    def die(number: int, _: object) -> None:
        restore()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    numbers = [getattr(signal, name) for name in DEADLY]
    caught = [n for n in numbers if signal.getsignal(n) is signal.SIG_DFL]
    for number in caught:
        signal.signal(number, die)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)
