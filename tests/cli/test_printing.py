"""What commands print."""

import io
import os
import sys

import pytest

from emu.cli.printing import print_json, print_lines, print_table, terminal_columns


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_table_in_a_pipe_is_aligned_and_plain(capsys):
    print_table(("name", "value"), [("a", "1"), ("longer than it", "[2]")])
    assert capsys.readouterr().out.splitlines() == [
        "name            value",
        "a               1",
        "longer than it  [2]",
    ]


def test_a_table_without_rows_is_its_titles(capsys):
    print_table(("name", "value"), [])
    assert capsys.readouterr().out == "name  value\n"


def test_a_table_on_a_terminal_folds(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "20")
    print_table(("name", "value"), [("a", "[bold] stays, and this is long")])
    shown = sys.stdout.getvalue()
    assert "[bold] stays," in shown
    assert len(shown.splitlines()) == 4


def test_lines_and_json(capsys):
    print_lines(iter(("one", "two")))
    print_json({"a": [1]})
    assert capsys.readouterr().out == 'one\ntwo\n{\n  "a": [\n    1\n  ]\n}\n'


@pytest.mark.parametrize("width", [1, 132])
def test_how_wide_a_terminal_is(monkeypatch, width):
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((width, 24)))
    assert terminal_columns() == width


def test_what_is_no_terminal_has_no_width(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert terminal_columns() is None
