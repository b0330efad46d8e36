"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# No test asserts on time, property tests included; a loaded machine must not make them fail.
settings.register_profile("qedge", deadline=None)
settings.load_profile("qedge")
