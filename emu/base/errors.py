"""Errors that are the user's to mend.

The guest's own mistakes never appear here: they are a value in x0 or an exception inside
the guest. What the emulator cannot model is an `exits.Fault`. Whatever remains is a mistake
in what the user gave us (a file, a profile, an option), and each such mistake is one child
of `EmuError` whose text is one line that says what to do next. The command line prints that
line and exits with status 2.
"""

from __future__ import annotations


class EmuError(Exception):
    """Something the user can put right; `str()` is one line, ready to be shown."""


class BootError(EmuError):
    """The guest image, device tree or memory layout cannot be used."""


class ProfileError(EmuError):
    """A profile is unknown or malformed; names the file and the line where there is one."""


class KvmError(EmuError):
    """What a VMM asked for is refused; `errno` is what the ioctl would have returned."""

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno


class EngineError(EmuError):
    """Unicorn on this host does not behave as the engine needs (`hvcemu doctor` tells)."""


class PolicyError(KvmError):
    """A filter range, firmware register or service selection that the profile refuses."""


class OneRegError(KvmError):
    """A register that cannot be read or written through ONE_REG."""


class SnapshotError(EmuError):
    """A machine cannot be saved, or a saved one cannot be loaded; names the file."""


class StateError(ValueError):
    """A value in a saved machine is not what was declared; the text names its place (state.py)."""


class ResultsError(EmuError):
    """A file of results cannot be read or written; names the file."""


def one_line(text: str) -> str:
    """One line that does nothing to a terminal, whatever a file or a guest has in it."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
