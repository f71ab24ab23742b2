"""Settings for all tests."""

import os
import signal
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

# What blocks cost is worked out anew, and nobody's own cache is written to.
os.environ.setdefault("HVCEMU_CACHE", "0")

# Tests send signals to what they start. Who started the tests may have them ignored, which what
# they start would inherit: nohup does so with SIGHUP, a shell with SIGINT for its background jobs.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (getattr(signal, "SIGHUP", signal.SIGTERM), signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

# A shared machine may be slow at any moment: no example fails for taking long. In CI the same
# examples run every time, so that a red run is about the change; elsewhere new ones are tried.
settings.register_profile(
    "hvcemu",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("hvcemu")


@pytest.fixture
def hvcemu(capfd) -> Callable[..., tuple[int, str, str]]:
    """The command in this process: (status, output, errors)."""
    from emu.cli.main import main

    def run(*words: object) -> tuple[int, str, str]:
        try:
            status = main([str(word) for word in words])
        except SystemExit as exit:
            status = int(exit.code or 0)
        return (status, *capfd.readouterr())

    return run


@pytest.fixture
def own_abis():
    """ABIs that a test defines are forgotten behind it: they enter the list by being defined."""
    from emu.base.abi import ABIS

    before = dict(ABIS)
    yield
    ABIS.clear()
    ABIS.update(before)


@pytest.fixture
def build(tmp_path):
    """Makes a machine around machine code (guest_kit.py)."""
    from guest_kit import vm_of

    number = iter(range(1000))

    def make(*words, **options):
        return vm_of(tmp_path / f"{next(number)}.bin", *words, **options)

    return make
