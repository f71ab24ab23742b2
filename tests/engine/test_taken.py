"""The last exceptions, and the one that repeats for ever."""

from __future__ import annotations

import pytest

from emu.engine.taken import ExceptionLog, Taken

ESR, SVC = 0x9600_0010, 0x5600_0001
HERE = Taken(8, ESR, None)


def test_keeps_the_last_and_the_one_that_was_different():
    log = ExceptionLog()
    assert (log.last, log.earlier) == (None, None)
    first, second = Taken(4, ESR, 0x1234), Taken(8, SVC, None)
    for taken in (first, second, second):
        log.note(taken, 0)
    assert (log.last, log.earlier) == (second, first)


def test_storm_is_the_same_exception_without_progress():
    log = ExceptionLog()
    hits = [log.note(HERE, 8) for _ in range(log.LIMIT + 1)]
    assert hits == [False] * log.LIMIT + [True]


@pytest.mark.parametrize("other", [
    (Taken(8, ESR + 1, None), 8), (Taken(8, ESR, 1), 8), (HERE, 12), (Taken(12, ESR, None), 8),
])  # fmt: skip
def test_anything_else_starts_the_count_again(other):
    log = ExceptionLog()
    for _ in range(log.LIMIT):
        log.note(HERE, 8)
    assert not log.note(*other)
    assert not log.note(HERE, 8)


def test_a_loop_around_svc_is_no_storm():
    log = ExceptionLog()
    assert not any(log.note(Taken(8, SVC, None), 8) for _ in range(2 * log.LIMIT))


def test_state_goes_out_and_in():
    log, other = ExceptionLog(), ExceptionLog()
    log.note(Taken(4, ESR, 0), 0)
    log.note(HERE, 0)
    log.note(HERE, 8)
    other.state = log.state
    assert other.state == log.state == (HERE, Taken(4, ESR, 0), 1)
    assert bytes(other) == bytes(log)
