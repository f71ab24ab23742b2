"""How a run ended, in one word, and the exit status a shell sees for it.

Statuses are chosen apart from each other and from what shells use:

    0–255  the guest's own, by semihosting SYS_EXIT (0–255) or SYSTEM_OFF (0)
    2      the user's mistake: nothing was run
    120    the guest asked for a reset
    121    a fault: the guest crashed, or needs what the machine lacks
    122    dead idle: every vCPU waits and nothing will wake it
    123    the guest asked to be suspended
    124    the time, cycle or output limit was reached
    130    interrupted by Ctrl-C
"""

from __future__ import annotations

import enum

from emu.base import exits

STATUS_USER = 2
STATUS_RESET, STATUS_FAULT, STATUS_IDLE, STATUS_SUSPEND, STATUS_LIMIT = 120, 121, 122, 123, 124
STATUS_INTERRUPTED = 130


class Ending(enum.StrEnum):
    """What became of a guest."""

    OFF = "off"
    EXIT = "exit"
    RESET = "reset"
    SUSPEND = "suspend"
    FAULT = "fault"
    IDLE = "idle"
    LIMIT = "limit"
    FLOOD = "flood"
    LOST = "lost"
    """The process that ran it died or did not answer; the guest's doing or the host's."""
    REFUSED = "refused"
    """It was never started: the user's mistake."""


_EVENTS = {
    exits.EventKind.SHUTDOWN: (Ending.OFF, 0),
    exits.EventKind.RESET: (Ending.RESET, STATUS_RESET),
}


def ending_of(exit: exits.Exit) -> tuple[Ending, int]:
    """The word and the status for the exit that ended a run."""
    match exit:
        case exits.Semihosting():
            return Ending.EXIT, exit.code
        case exits.SystemEvent():
            return _EVENTS.get(exit.kind, (Ending.SUSPEND, STATUS_SUSPEND))
        case exits.Fault():
            return Ending.FAULT, STATUS_FAULT
        case exits.Wfi():
            return Ending.IDLE, STATUS_IDLE
        case _:
            return Ending.LIMIT, STATUS_LIMIT
