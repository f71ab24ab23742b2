"""What a command does before it starts processes that run guests for it."""

from __future__ import annotations

import gc

from emu.engine.calibrate import calibrate


def prepare_workers() -> None:
    """What is here before workers are forked they need not load: Unicorn, profiles, our modules."""
    calibrate()
    gc.collect()
    gc.freeze()
    gc.enable()
