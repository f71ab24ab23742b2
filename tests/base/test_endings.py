"""How a run ended, in a word and a status."""

import pytest

from emu.base import exits
from emu.base.endings import Ending, ending_of
from emu.base.exits import EventKind


@pytest.mark.parametrize(
    ("exit", "ending", "status"),
    [
        (exits.Semihosting(code=42), Ending.EXIT, 42),
        (exits.SystemEvent(kind=EventKind.SHUTDOWN), Ending.OFF, 0),
        (exits.SystemEvent(kind=EventKind.RESET), Ending.RESET, 120),
        (exits.SystemEvent(kind=EventKind.SUSPEND), Ending.SUSPEND, 123),
        (exits.Fault(reason="wild"), Ending.FAULT, 121),
        (exits.Wfi(), Ending.IDLE, 122),
        (exits.Deadline(), Ending.LIMIT, 124),
    ],
)
def test_every_exit_has_a_word_and_a_status(exit, ending, status):
    assert ending_of(exit) == (ending, status)
