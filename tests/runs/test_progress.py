"""The line that says how far it is."""

import io

import pytest

from emu.runs import progress
from emu.runs.progress import Progress, progress_line, time_text, wants_colour


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1:00"), (185, "3:05"),
                          (7200, "2:00:00"), (3599.9, "1:00:00")],
)  # fmt: skip
def test_times(seconds, text):
    assert time_text(seconds) == text


def test_the_line():
    line = progress_line(250, 1000, 5.0, 0, "cells", "3 not good")
    assert line == "250/1,000 cells  50.0 cells/s  15 s left  3 not good"
    assert "waiting for the first" in progress_line(0, 1000, 5.0, 0, "cells", "")
    assert "10.0 mutants/s  1:15 left" in progress_line(250, 1000, 5.0, 200, "mutants", "")


def test_drawn_on_a_terminal_after_a_second(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Terminal()
    line = Progress(shown, 10)
    line.update(1, 0)
    line.clear()
    assert shown.getvalue() == ""
    now[0] += 1.1
    line.update(2, 0)
    line.update(3, 0)
    assert "2/10 cells" in shown.getvalue()
    assert "3/10 cells" not in shown.getvalue()
    line.clear()
    assert shown.getvalue().endswith("\r\x1b[K")


def test_not_in_a_pipe(monkeypatch):
    monkeypatch.setattr(progress, "AFTER", 0.0)
    shown = io.StringIO()
    Progress(shown, 10).update(5, 0)
    assert shown.getvalue() == ""


def test_colour(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())
