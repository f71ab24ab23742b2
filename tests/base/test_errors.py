"""Errors are the user's, all of one family."""

from __future__ import annotations

import errno

import pytest

from emu.base import errors


@pytest.mark.parametrize("name", ["BootError", "ProfileError", "PolicyError", "EngineError"])
def test_family(name):
    assert issubclass(getattr(errors, name), errors.EmuError)


def test_policy_error_has_linux_errno():
    error = errors.PolicyError("no", errno.EBUSY)
    assert (str(error), error.errno) == ("no", errno.EBUSY)
