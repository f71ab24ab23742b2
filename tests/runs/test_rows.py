"""A result becomes a row and the row that result again."""

import json
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.runs.rows import COLUMNS, INSERT, SELECT, from_row, read_setup, to_row
from matrix_kit import RICH, outcome, result


def through_a_table(given):
    """What SELECT gives of what INSERT took."""
    base = sqlite3.connect(":memory:")
    try:
        base.execute(f"CREATE TABLE cells ({', '.join(COLUMNS)}, UNIQUE (run, key))")
        base.execute(INSERT, to_row(1, 0, given))
        return from_row(base.execute(SELECT, (1,)).fetchone())
    finally:
        base.close()


@pytest.mark.parametrize("given", [RICH, result()], ids=["rich", "plain"])
def test_there_and_back(given):
    assert through_a_table(given) == given


@given(st.text(), st.integers(0, 2**63 - 1))
def test_any_console_and_count(text, cycles):
    kept = result(made=outcome(console=text, detail=text, cycles=cycles))
    assert through_a_table(kept) == kept


def test_setups_survive_json():
    setup = RICH.cell.setup
    assert read_setup(json.dumps(setup)) == setup
