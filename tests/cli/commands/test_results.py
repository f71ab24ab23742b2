"""`hvcemu results` as a user meets it."""

import json
import re

import pytest

from command_kit import check_mistake
from places import ROOT


def test_runs_are_listed_shown_and_compared(hvcemu, tmp_path):
    db = tmp_path / "r.sqlite"

    def matrix(*more):
        words = ("trng", "--profile", "kvm-6.1,kvm-6.12", "--db", db, "--jobs", 1)
        return hvcemu("matrix", *words, *more)[1]

    def results(*words):
        status, out, _ = hvcemu("results", db, *words)
        return status, out

    shown = matrix()
    matrix()
    matrix("--append", "other")
    matrix("--services=-trng")
    status, out = results()
    lines = out.splitlines()
    assert status == 0
    assert len(lines) == 4
    assert re.match(r" +1  20..-..-..T.*\+00:00  0.1.0  2 cells +hvcemu matrix trng", lines[0])
    assert results(1) == (0, shown)
    assert results(1, 2) == (0, "2 cells as before, 0 changed, 0 new, 0 missing\n")
    check_mistake(hvcemu("results", db, 1, 3), "no cell in common")
    status, out = results(1, "--json", "-")
    assert len(json.loads(out)["cells"]) == 2
    check_mistake(hvcemu("results", db, 9), "has no run 9; it has 1, 2, 3, 4")
    check_mistake(hvcemu("results", db, 1, 2, 3), "give no run to list them, one to show it, or")
    check_mistake(hvcemu("results", db, "--json", "-"), "say which RUN is to be written")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "required: FILE"),
        (("README.md",), "no file of results"),
        (("README.md", "x"), "is not a number"),
    ],
)
def test_a_mistake_is_one_line(words, says, hvcemu, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_mistake(hvcemu("results", *words), says)
