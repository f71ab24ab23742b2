"""`hvcemu profiles` as a user meets it."""

import json

from command_kit import on_a_terminal
from emu.world.profile import profile_names


def test_each_has_a_line(hvcemu):
    status, out, _ = hvcemu("profiles")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["profile", *profile_names()]


def test_as_json(hvcemu):
    rows = json.loads(hvcemu("profiles", "--json")[1])
    assert len(rows) == len(profile_names())


def test_on_a_terminal():
    status, shown = on_a_terminal("profiles")
    assert status == 0
    assert "kvm-6.12" in shown
