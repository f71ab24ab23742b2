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

    def __init__(
        self, stream: Any, total: int, *, done: int = 0, what: str = "cells", bad: str = "not good"
    ) -> None:
        self._stream, self._total, self._before = stream, total, done
        self._what, self._bad = what, bad
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
        line = progress_line(
            done, self._total, now - self._started, self._before, self._what,
            f"{bad:,} {self._bad}",
        )  # fmt: skip
        self._stream.write(f"\r\x1b[K\x1b[2m{line}  Ctrl-C stops\x1b[0m")
        self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Take it away before something else is written."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False


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
