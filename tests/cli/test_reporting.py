"""How results are told: the table, the reasons, the files, and a comparison's status."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from emu.base.endings import Ending
from emu.base.errors import EmuError
from emu.cli.reporting import export, show, show_comparison
from emu.runs.exports import Origin
from matrix_kit import BROKEN, outcome, result

ORIGIN = Origin("0.1.0", "hvcemu matrix hello", "2026-01-02T03:04:05+00:00")
GOOD = result()
EXITS = result("trng", made=outcome(Ending.EXIT, 3, detail="3"))
JUDGED = result("ptp", made=outcome(verdicts=(BROKEN,)))


def options(**given: object) -> SimpleNamespace:
    settings = {"allow_exit": (), "json": None, "junit": None, "html": None, "tolerance": 0.0}
    return SimpleNamespace(**(settings | given))


# -- on the terminal -----------------------------------------------------------------------------


def test_the_table_the_reasons_and_a_closing_line(capsys):
    show([GOOD, EXITS, JUDGED], options(), quiet=False)
    assert capsys.readouterr().out.splitlines() == [
        "       kvm-6.12",
        "hello  ok",
        "trng   exit 3",
        "ptp    1 rule",
        "",
        "ptp kvm-6.12: 1 rule: made-up-rule",
        "3 cells: 1 good, 2 not",
    ]


def test_quiet_is_what_is_not_good(capsys):
    show([GOOD, EXITS, JUDGED], options(), quiet=True)
    assert capsys.readouterr().out.splitlines() == [
        "trng kvm-6.12: exit 3", "ptp kvm-6.12: 1 rule: made-up-rule", "3 cells: 1 good, 2 not",
    ]  # fmt: skip


def test_an_exit_that_is_allowed_is_good(capsys):
    show([GOOD, EXITS], options(allow_exit=(3,)), quiet=True)
    assert capsys.readouterr().out == "2 cells: 2 good, 0 not\n"


def test_standard_output_that_is_anothers(capsys):
    show([GOOD], options(json="-"), quiet=False)
    assert capsys.readouterr().out == ""


# -- files ---------------------------------------------------------------------------------------


def test_json_on_standard_output(capsys):
    export([GOOD, EXITS], ORIGIN, options(json="-"))
    told = json.loads(capsys.readouterr().out)
    assert (told["command"], [cell["good"] for cell in told["cells"]]) == (
        ORIGIN.command, [True, False]
    )  # fmt: skip


def test_the_files_that_were_asked_for(tmp_path, capsys):
    names = {"json": "a.json", "junit": "a.xml", "html": "a.html"}
    paths = {kind: str(tmp_path / name) for kind, name in names.items()}
    export([EXITS], ORIGIN, options(allow_exit=(3,), **paths))
    assert {path.name for path in tmp_path.iterdir()} == set(names.values())
    assert json.loads((tmp_path / "a.json").read_text())["cells"][0]["good"]
    assert 'failures="0"' in (tmp_path / "a.xml").read_text()
    assert (tmp_path / "a.html").read_text().startswith("<!")
    assert capsys.readouterr().out == ""


def test_no_file_without_a_wish(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    export([GOOD], ORIGIN, options())
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written(tmp_path):
    path = str(tmp_path / "gone" / "a.xml")
    with pytest.raises(OSError, match="No such file") as caught:
        export([GOOD], ORIGIN, options(junit=path))
    assert caught.value.filename == path


# -- a comparison --------------------------------------------------------------------------------

SLOWER = result(made=outcome(cycles=1010))


@pytest.mark.parametrize(
    ("old", "new", "tolerance", "status", "says"),
    [
        ([GOOD], [GOOD], 0.0, 0, "1 cell as before, 0 changed, 0 new, 0 missing"),
        ([GOOD], [SLOWER], 0.0, 1, "0 cells as before, 1 changed, 0 new, 0 missing"),
        ([GOOD], [SLOWER], 1.0, 0, "1 cell as before, 0 changed, 0 new, 0 missing"),
        ([GOOD, EXITS], [GOOD], 0.0, 0, "1 cell as before, 0 changed, 0 new, 1 missing"),
        ([GOOD], [GOOD, EXITS], 0.0, 0, "1 cell as before, 0 changed, 1 new, 0 missing"),
        ([], [GOOD], 0.0, 0, "0 cells as before, 0 changed, 1 new, 0 missing"),
        ([GOOD], [], 0.0, 0, "0 cells as before, 0 changed, 0 new, 1 missing"),
    ],
)
def test_a_change_is_a_status(capsys, old, new, tolerance, status, says):
    """What only one of the runs has is told, and no change."""
    assert show_comparison(old, new, options(tolerance=tolerance)) == status
    assert capsys.readouterr().out.splitlines()[-1] == says


def test_a_comparison_beside_json_is_its_status(capsys):
    assert show_comparison([GOOD], [SLOWER], options(json="-")) == 1
    assert capsys.readouterr().out == ""


def test_runs_of_nothing_in_common():
    with pytest.raises(EmuError, match="the two runs have no cell in common"):
        show_comparison([GOOD], [EXITS], options())
