"""Modes as data: abi/D §D5."""

import pytest

from emu.base.errors import ProfileError
from emu.world.modes import DEFAULTS, MODES, flatten, mode_problem, parse_modes
from emu.world.profile import load_profile


def test_the_rows_of_the_sheet_are_there():
    # abi/D §D5, first column; the exit's arguments are part of exit.layout.
    assert set(MODES) == {
        "fwreg.scope", "fwreg.first_write", "fwreg.after_run", "fwreg.default", "fwreg.width",
        "fwreg.cap", "unknown.hvc", "hvc.imm", "psci.owner", "psci.to_user.requires_hvc",
        "suspend", "cpu_on.policy", "exit.layout", "exit.boundary", "regs.visibility",
        "discovery.static", "smc", "asyncpf",
    }  # fmt: skip
    assert all(len(values) == len(set(values)) >= 2 for values in MODES.values())


def test_nothing_chosen_is_merged_kvm():
    assert parse_modes({}) == DEFAULTS


def test_toml_may_nest_or_quote():
    nested = {"psci": {"owner": "user", "to_user": {"requires_hvc": False}}, "smc": "undef"}
    assert dict(flatten(nested)) == {
        "psci.owner": "user", "psci.to_user.requires_hvc": False, "smc": "undef",
    }  # fmt: skip
    modes = parse_modes(nested)
    assert (modes["psci.owner"], modes["psci.to_user.requires_hvc"]) == ("user", "false")
    assert parse_modes({"fwreg.width": 128})["fwreg.width"] == "128"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [("nothing", "x", "unknown mode nothing"), ("smc", "maybe", "mode smc is one of profile")],
)
def test_a_wrong_mode_is_refused(key, value, text):
    assert text in mode_problem(key, value)
    with pytest.raises(ProfileError, match=text):
        parse_modes({key: value})


def test_a_profile_may_choose_modes(tmp_path):
    path = tmp_path / "rfc.toml"
    path.write_text(
        'extends = "kvm-5.17"\n[modes]\npsci.owner = "user"\n"exit.layout" = "rfc2021"\n'
    )
    modes = load_profile(str(path)).modes
    assert (modes["psci.owner"], modes["exit.layout"], modes["smc"]) == (
        "user", "rfc2021", "profile",
    )  # fmt: skip


def test_a_wrong_mode_in_a_profile_names_file_and_line(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('title = "x"\n[modes]\nsmc = "maybe"\n')
    with pytest.raises(ProfileError, match=r"bad\.toml:3: mode smc is one of"):
        load_profile(str(path))
