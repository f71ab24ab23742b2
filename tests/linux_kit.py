"""Debian's kernel, where it has been fetched."""

import pytest

from emu.base.errors import EmuError
from emu.engine.engine import native_available
from emu.runs.linux_discovery import cached_kernel


def kernel() -> str | None:
    """The path of the newest; None where none is cached."""
    try:
        return cached_kernel()
    except EmuError:
        return None


needs_kernel = pytest.mark.skipif(
    kernel() is None or not native_available(),
    reason="needs Debian's kernel and the native half: python tools/fetch_linux.py",
)
