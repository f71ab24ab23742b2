"""What a terminal gets and a pipe does not: colour, and a last row for how far a matrix is."""

from __future__ import annotations

import os
import time
from typing import IO, Any

AFTER = 1.0
EVERY = 0.2


def wants_colour(stream: IO[str]) -> bool:
    """Whether it is a terminal of somebody who likes colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


class LastRow:
    """A line on a terminal's last row while something lasts longer than a second; it makes way
    for everything else. A stream that is no terminal never sees it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._enabled = stream.isatty()
        self._shown = False
        self._next = time.monotonic() + AFTER

    def due(self) -> bool:
        """Whether it is time to draw it."""
        return self._enabled and time.monotonic() >= self._next

    def draw(self, line: str) -> None:
        """Show a line in the place of the one before."""
        self._next = time.monotonic() + EVERY
        self._stream.write(f"\r\x1b[K\x1b[2m{line}  Ctrl-C stops\x1b[0m")
        self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Take it away before something else is written."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False


class Progress(LastRow):
    """How many of a known number are done."""

    def __init__(
        self, stream: Any, total: int, *, done: int = 0, what: str = "cells", bad: str = "not good"
    ) -> None:
        super().__init__(stream)
        self._total, self._before, self._what, self._bad = total, done, what, bad
        self._started = time.monotonic()

    def update(self, done: int, bad: int) -> None:
        """Draw it, if it is time."""
        if self.due():
            seconds, text = time.monotonic() - self._started, f"{bad:,} {self._bad}"
            self.draw(
                progress_line(done, self._total, seconds, self._before, self._what, text)
            )


def progress_line(
    done: int, total: int, seconds: float, before: int, what: str, bad: str
) -> str:
    """How far, how fast, how long it will take yet, and what is bad so far.

    `before` were done when it began.
    """
    rate = (done - before) / seconds if seconds else 0.0
    left = f"{time_text((total - done) / rate)} left" if rate else "waiting for the first"
    return f"{done:,}/{total:,} {what}  {rate:,.1f} {what}/s  {left}  {bad}"


def time_text(seconds: float) -> str:
    """A time as 42 s, 3:05 or 2:00:00."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
