"""Settings for all tests."""

import os

from hypothesis import HealthCheck, settings

# A shared machine may be slow at any moment: no example fails for taking long. In CI the same
# examples run every time, so that a red run is about the change; elsewhere new ones are tried.
settings.register_profile(
    "hvcemu",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("hvcemu")
