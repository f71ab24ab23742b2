"""`hvcemu doctor`."""

import pytest

from emu.base.errors import EmuError
from emu.cli import doctor
from emu.engine import engine


def test_everything_vital_works_here():
    found = {check.name: check for check in doctor.checks()}
    assert all(check.good for check in found.values() if check.vital)
    assert "syndrome at" in found["Unicorn"].text


def test_a_failed_contract_is_reported_and_not_raised(monkeypatch):
    monkeypatch.setattr(doctor, "EXPECTED", (0, [], 0))
    bad = [check for check in doctor.checks() if check.name.startswith("contract, Python")]
    assert not bad[0].good
    assert "unicorn" in bad[0].text


def test_without_the_native_half_it_tells_how_to_get_it(monkeypatch):
    monkeypatch.setattr(engine, "_native", None)
    check = next(c for c in doctor.checks() if c.name == "contract, native half")
    assert (check.good, check.vital) == (False, False)
    assert "C compiler" in check.text


@pytest.mark.skipif(not engine.native_available(), reason="the native half was not built")
def test_a_switched_off_native_half_is_mentioned(monkeypatch):
    monkeypatch.setenv("HVCEMU_NATIVE", "0")
    check = next(c for c in doctor.checks() if c.name == "contract, native half")
    assert "HVCEMU_NATIVE" in check.text


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    check = next(c for c in doctor.checks() if c.name == "capstone")
    assert not check.good
    assert "reinstall" in check.text


def test_broken_profiles_are_one_bad_line(monkeypatch):
    def broken(name):
        raise EmuError("bad.toml:3: unknown key")

    monkeypatch.setattr(doctor, "load_profile", broken)
    check = next(c for c in doctor.checks() if c.name == "profiles")
    assert (check.good, check.text) == (False, "bad.toml:3: unknown key")
