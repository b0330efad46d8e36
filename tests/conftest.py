"""Settings of all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from qedge.base.struct_tables import build_struct_tables
from qedge.qkd.simd.cpu import prepare_numba

# No test asserts on time, property tests included; a loaded machine must not make them fail.
settings.register_profile("qedge", deadline=None)
settings.load_profile("qedge")

# Before any test imports numba: stale code of kernels that were changed since would be loaded otherwise.
prepare_numba(Path(__file__).parent.parent / ".pytest_cache" / "kernels")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Prepare for tests with threads, as the daemon does."""
    build_struct_tables()
