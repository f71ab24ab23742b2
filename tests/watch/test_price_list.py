"""`hvcemu explain --costs`: every figure with who measured it."""

from __future__ import annotations

import json

import pytest

from emu.arm.cores import TIMED
from emu.base.errors import EmuError
from emu.cycles.trap_prices import PROFILES
from emu.watch import price_list as costs_report
from emu.watch.price_list import SUMMARY, TITLES, about, as_json, figures, rows, summary

EVERY = [*PROFILES, *TIMED]


def test_the_summary_has_a_row_for_each_profile():
    found = {row[0]: dict(zip(SUMMARY, row, strict=True)) for row in summary()}
    assert list(found) == list(PROFILES)
    for name, row in found.items():
        costs = PROFILES[name]
        assert row["HVC"] == f"{costs.hvc:,}"
        assert row["SMC"] == f"{costs.smc:,}"
        assert row["interrupt"] == f"{costs.interrupt.cycles:,}"
        assert row["what it stands for"] == costs.about
    assert found["kvm-nvhe"]["exit to the VMM"] == "10,012", "ATC'17, table 2"


@pytest.mark.parametrize("name", EVERY)
def test_every_figure_is_printed_with_its_source_and_doubt(name):
    made = {row[0]: dict(zip(TITLES, row, strict=True)) for row in rows(name)}
    assert len(made) == len(figures(name)) > 5
    for row, cost in zip(made.values(), figures(name).values(), strict=True):
        assert row["cycles"] == f"{cost.cycles:,}"
        assert row["source"] == cost.source != ""
        if cost.core:
            assert row["±"] == f"{cost.uncertainty} %"
            assert cost.uncertainty > 0, "no measurement is exact"
    assert about(name).startswith(f"{name}: ")


def test_system_instructions_are_named_as_people_do():
    assert not any(row[0].startswith("sys") or "_" in row[0] for row in rows("cortex-a53"))


@pytest.mark.parametrize("name", ["kvm", "cortex-a99", ""])
def test_a_name_that_is_neither(name):
    with pytest.raises(EmuError, match=f"nothing has the costs {name!r}; there are kvm-nvhe"):
        figures(name)


def test_as_json_holds_all_of_it():
    found = json.loads(json.dumps(as_json()))
    assert list(found) == EVERY
    for name in EVERY:
        assert {key: tuple(cost.values()) for key, cost in found[name].items()} == {
            key: tuple(cost) for key, cost in figures(name).items()
        }


def test_figures_are_a_copy():
    figures("cortex-a53").clear()
    assert costs_report.figures("cortex-a53")
