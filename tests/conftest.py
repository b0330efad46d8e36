"""Settings of all tests."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from hypothesis import settings

from qedge.base.struct_tables import build_struct_tables
from qedge.qkd.simd.cpu import prepare_numba

# Nothing of what modules and the list of tests are made of is garbage; looking for it takes a third of that time.
gc.disable()

# No test asserts on time, property tests included; a loaded machine must not make them fail.
settings.register_profile("qedge", deadline=None)
settings.load_profile("qedge")

# Before any test imports numba: stale code of kernels that were changed since would be loaded otherwise.
prepare_numba(Path(__file__).parent.parent / ".pytest_cache" / "kernels")


FIRST = ("integration", "world", "properties", "attacks", "conformance")
"""Folders whose files take long come first: where the last file takes long, one process has nothing to do meanwhile."""
NEXT = {
    "unit/cli/links": ("plan",),
    "unit/drivers": ("adapters", "cirq_sampler", "sim_qpu", "sim_qpu_wide"),
    "unit/engine": ("circuit_host", "cirq_json", "decode_session", "mapping", "qec"),
    "unit/fleet": ("command_crashes", "commands"),
    "unit/orchestrator": ("forwarding", "placement_service", "uplink"),
    "unit/qkd": ("amplification", "blinding", "distillation", "reconciliation", "remote_link"),
}
"""Files of other folders that take more than three seconds, without `test_`: those come then."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long; within a folder the random order stays, and files stay together."""
    root = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(root) if item.path.is_relative_to(root) else Path("elsewhere")
        if path.parts[0] in FIRST:
            return FIRST.index(path.parts[0])
        return len(FIRST) + (path.stem.removeprefix("test_") not in NEXT.get(path.parent.as_posix(), ()))

    items.sort(key=rank)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Prepare for tests with threads, as the daemon does, and collect garbage from here on."""
    build_struct_tables()
    gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look for garbage once: pytest is to find nothing in the five times that it looks at its end."""
    gc.collect()
    gc.freeze()
