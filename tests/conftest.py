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


FIRST = ("integration", "world", "properties", "attacks", "conformance")
"""Folders whose files take long come first: where the last file takes long, one process has nothing to do meanwhile."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long; within a folder the random order stays, and files stay together."""
    root = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(root).parts[0] if item.path.is_relative_to(root) else ""
        return FIRST.index(folder) if folder in FIRST else len(FIRST)

    items.sort(key=rank)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Prepare for tests with threads, as the daemon does."""
    build_struct_tables()
