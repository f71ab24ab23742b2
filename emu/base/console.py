"""The guest's terminal: what it printed, and what is typed at it.

Both the PL011 and semihosting write here. Output is kept (the last `KEPT` bytes of it, so that
a guest that prints for ever costs no memory) and passed on at once to a sink if there is one.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, Protocol

KEPT = 4 << 20
_CHUNK = 4096
_PATIENCE = 0.1
"""Seconds between looks at `cancel` while waiting."""


class Source(Protocol):
    """Where input comes from.

    `live` is whether it comes when somebody outside likes, and not by what the guest does.
    """

    live: ClassVar[bool]

    @property
    def over(self) -> bool:
        """Whether nothing more can come."""

    def hear(self, data: bytes) -> None:
        """The guest has printed this."""

    def poll(self) -> int | None:
        """The next byte if one is there now, else None."""

    def wait(self) -> int | None:
        """The next byte, waited for; None at the end of input."""

    def unread(self) -> bytes:
        """What is here already and was not taken."""


class Typed:
    """Input given beforehand, as tests and scripts do."""

    live: ClassVar[bool] = False

    def __init__(self, data: bytes = b"") -> None:
        self._data = bytearray(data)

    def poll(self) -> int | None:
        return self._data.pop(0) if self._data else None

    wait = poll

    @property
    def over(self) -> bool:
        return not self._data

    def hear(self, data: bytes) -> None:
        pass

    def unread(self) -> bytes:
        return bytes(self._data)


class Dialogue(Typed):
    """Input that answers: a list of (WHEN, WHAT), each taken in its turn.

    As soon as the guest has printed WHEN since the step before, WHAT is typed; an empty WHEN
    waits for nothing. So what is typed depends on what the guest prints, and on nothing else.
    What a saved machine had still to be asked is not saved.
    """

    def __init__(self, steps: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__()
        self._steps = deque(steps)
        self._heard = b""
        self.hear(b"")

    @property
    def over(self) -> bool:
        return super().over and not self._steps

    def hear(self, data: bytes) -> None:
        self._heard += data
        while self._steps:
            when, what = self._steps[0]
            at = self._heard.find(when)
            if at < 0:
                break
            self._heard = self._heard[at + len(when) :]
            self._data += what
            self._steps.popleft()
        # Only what may be the beginning of the text waited for is of use later.
        keep = len(self._steps[0][0]) - 1 if self._steps else 0
        self._heard = self._heard[-keep:] if keep else b""


class Descriptor:
    """Input from a file descriptor such as standard input, read only when the guest asks."""

    live: ClassVar[bool] = True
    AHEAD = _CHUNK
    """How many bytes may lie here unread before no more are taken."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()
        self._ended = False

    def cancel(self) -> None:
        """End the input, so that a guest waiting for it goes on; safe in a signal handler."""
        self._ended = True

    @property
    def over(self) -> bool:
        return self._ended and not self._buffer

    def hear(self, data: bytes) -> None:
        pass

    def raw(self) -> AbstractContextManager[None]:
        """What surrounds a run; a keyboard (terminal.py) has something to do there."""
        return nullcontext()

    def look(self) -> None:
        """Called now and then while a guest runs; what nobody asks for is left alone."""

    def is_terminal(self) -> bool:
        """Whether a person types it."""
        try:
            return os.isatty(self._fd)
        except OSError:
            return False

    def pause(self, seconds: float) -> bool:
        """Let the host sleep until input is there, at most so long; returns whether it is."""
        if not self._buffer and not self._ended and self._ready(seconds):
            self._fill()
        return bool(self._buffer)

    def poll(self) -> int | None:
        if not self._buffer and not self._ended and self._ready():
            self._fill()
        return self._buffer.pop(0) if self._buffer else None

    def wait(self) -> int | None:
        while not self._buffer and not self._ended:
            if self._ready(_PATIENCE):
                self._fill()
        return self._buffer.pop(0) if self._buffer else None

    def unread(self) -> bytes:
        return bytes(self._buffer)

    def _ready(self, patience: float = 0) -> bool:
        try:
            return bool(select.select([self._fd], [], [], patience)[0])
        except (OSError, ValueError):
            self._ended = True
            return False

    def _fill(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except OSError:
            data = b""
        self._ended = self._ended or not data
        self._buffer += self._take(data)

    def _take(self, data: bytes) -> bytes:
        """What of the bytes read is for the guest."""
        return data


@dataclass(frozen=True, slots=True)
class ConsoleState:
    """What a snapshot keeps of a console: output kept, and input that came but was not read."""

    kept: bytes
    unread: bytes


class Console:
    """Output kept and passed on; input taken one byte at a time, with one byte of look-ahead."""

    def __init__(
        self, source: Source | None = None, sink: Callable[[bytes], None] | None = None
    ) -> None:
        self._source: Source = source or Typed()
        self._sink = sink
        self._kept = bytearray()
        self.printed = 0
        """Bytes printed in all, here and not before a snapshot."""
        self._next: int | None = None
        self._unread = bytearray()

    def state(self) -> ConsoleState:
        """For a snapshot."""
        ahead = b"" if self._next is None else bytes((self._next,))
        return ConsoleState(
            bytes(self._kept), ahead + bytes(self._unread) + self._source.unread()
        )

    def restore(self, state: ConsoleState) -> None:
        """Go on where another console was saved: its unread input comes before our own.

        What was printed then is kept, and not printed again.
        """
        self._kept[:] = state.kept
        self._unread[:] = state.unread

    def __str__(self) -> str:
        return self._kept.decode("utf-8", "replace")

    def text(self, limit: int) -> str:
        """The last `limit` bytes of what was printed."""
        return self.tail(limit).decode("utf-8", "replace")

    def tail(self, limit: int) -> bytes:
        """The same as bytes."""
        return bytes(self._kept[-limit:])

    def write(self, data: bytes) -> None:
        """Print."""
        self.printed += len(data)
        self._kept += data
        if len(self._kept) > 2 * KEPT:
            del self._kept[:-KEPT]
        self._source.hear(data)
        if self._sink:
            self._sink(data)

    @property
    def silent(self) -> bool:
        """Whether no input can ever come."""
        return self._source.over and self._next is None and not self._unread

    @property
    def live(self) -> bool:
        """Whether input comes when somebody outside likes, and not by what the guest does."""
        return self._source.live

    def has_input(self) -> bool:
        """Whether `read` would give a byte now."""
        if self._next is None:
            self._next = self._unread.pop(0) if self._unread else self._source.poll()
        return self._next is not None

    def read(self) -> int | None:
        """A byte if one is there now."""
        self.has_input()
        value, self._next = self._next, None
        return value

    def wait(self) -> int | None:
        """A byte, waited for; None at the end of input."""
        value, self._next = self._next, None
        if value is None and self._unread:
            return self._unread.pop(0)
        return self._source.wait() if value is None else value
