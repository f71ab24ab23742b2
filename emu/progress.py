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


class Progress:
    """Drawn on a terminal only, and only where it lasts longer than a second."""

    def __init__(self, stream: Any, total: int) -> None:
        self._stream, self._total = stream, total
        self._enabled = stream.isatty()
        self._started = time.monotonic()
        self._next = self._started + AFTER
        self._shown = False

    def update(self, done: int, bad: int) -> None:
        """Draw it, if it is time."""
        now = time.monotonic()
        if not self._enabled or now < self._next:
            return
        self._next = now + EVERY
        line = progress_line(done, self._total, bad, now - self._started)
        self._stream.write(f"\r\x1b[K\x1b[2m{line}  Ctrl-C stops\x1b[0m")
        self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Take it away before something else is written."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False


def progress_line(done: int, total: int, bad: int, seconds: float) -> str:
    """How far, how fast, how long it will take yet, and what is bad so far."""
    rate = done / seconds if seconds else 0.0
    left = f"{time_text((total - done) / rate)} left" if rate else "waiting for the first"
    return f"{done:,}/{total:,} cells  {rate:,.1f} cells/s  {left}  {bad:,} not good"


def time_text(seconds: float) -> str:
    """A time as 42 s, 3:05 or 2:00:00."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
