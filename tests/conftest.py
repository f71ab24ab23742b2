"""Settings for all tests."""

import os
import signal

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
