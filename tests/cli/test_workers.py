"""What a command does before it starts processes that run guests for it."""

from __future__ import annotations

import gc

import pytest

from emu.cli.workers import prepare_workers
from emu.engine.calibrate import calibrate


@pytest.fixture(autouse=True)
def _collector():
    """As it was."""
    enabled = gc.isenabled()
    yield
    gc.unfreeze()
    (gc.enable if enabled else gc.disable)()


@pytest.mark.parametrize("enabled", [True, False])
def test_what_is_there_before_a_fork_is_left_alone(enabled):
    """The collector would touch the pages that workers share; what they make, it collects."""
    (gc.enable if enabled else gc.disable)()
    prepare_workers()
    assert gc.get_freeze_count() > 10_000
    assert gc.isenabled()


def test_the_engine_is_measured_once(monkeypatch):
    prepare_workers()
    before = calibrate.cache_info()
    prepare_workers()
    after = calibrate.cache_info()
    assert (after.misses, after.hits) == (before.misses, before.hits + 1)
