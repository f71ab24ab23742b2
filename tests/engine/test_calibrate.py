"""Finding what Unicorn keeps to itself."""

import pytest

from emu.base.errors import EngineError
from emu.engine import calibrate
from emu.engine.calibrate import _only, _Probe


@pytest.fixture(autouse=True)
def _fresh():
    calibrate.calibrate.cache_clear()
    yield
    calibrate.calibrate.cache_clear()


def test_the_layout_is_found_and_lies_inside_the_context():
    layout = calibrate.calibrate()
    for offset in layout[1:]:
        assert 0 < offset < layout.size
    assert layout.fault_address == layout.syndrome + 8
    assert f"syndrome at {layout.syndrome}" in str(layout)


@pytest.mark.parametrize(
    ("probe", "what"),
    [("hvc", "syndrome"), ("exclusive", "exclusive monitor"), ("fetch_fault", "fault address")],
)
def test_what_is_not_found_is_refused_with_what_to_do(monkeypatch, probe, what):
    monkeypatch.setattr(_Probe, probe, lambda self: bytes(self.size))
    with pytest.raises(EngineError, match=f"cannot find the {what} .*pip install"):
        calibrate.calibrate()


def test_what_is_found_twice_is_refused():
    assert _only(b"..ab..", b"ab", "x") == 2
    with pytest.raises(EngineError, match="cannot find the x"):
        _only(b"abab", b"ab", "x")


def test_an_hvc_that_does_not_trap_is_refused(monkeypatch):
    monkeypatch.setattr(_Probe, "_run", lambda self, *words: None)
    with pytest.raises(EngineError, match="HVC does not trap"):
        calibrate.calibrate()
