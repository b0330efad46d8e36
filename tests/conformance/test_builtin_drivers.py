"""Every installed driver passes the kit with the settings that a fresh box has, and with others."""

from __future__ import annotations

from importlib import metadata

import pytest

from qedge_driver_api import ENTRY_POINT_GROUP
from qedge_driver_api.conformance import Outcome, run

INSTALLED = sorted(
    {entry.name for entry in metadata.entry_points(group=ENTRY_POINT_GROUP) if entry.value.startswith("qedge_drivers.")}
)
SETTINGS: dict[str, list[dict[str, object]]] = {
    # A character device that every box has stands for one that few have.
    "hwrng": [{"path": "/dev/urandom"}, {"path": "/dev/urandom", "bits_per_sample": 1, "min_entropy_per_sample": 0.9}],
    "sim_qrng": [{}, {"bias": 0.1, "correlation": 0.1, "min_entropy": 0.5}],
    "sim_qkd": [
        {"role": "alice"},
        {"role": "bob", "dead_time_ns": 0.0, "eve_fraction": 0.2},
        {"role": "bob", "preset": "plan"},
    ],
    "sim_qpu": [{}, {"preset": "plan"}],
    "qdmi": [{}, {"format": "qasm3"}],
}
EXTRAS = {"qdmi": ("mqt.core.qdmi", "qdmi")}
NEEDS_A_KEY_MANAGER = {"etsi014"}
"""Tried by the kit against our own key manager, in `tests/unit/drivers/test_etsi014.py`."""

CASES = [(name, values) for name in INSTALLED if name not in NEEDS_A_KEY_MANAGER for values in SETTINGS.get(name, [{}])]


@pytest.mark.parametrize(("name", "values"), CASES, ids=lambda value: value if isinstance(value, str) else str(value))
def test_an_installed_driver_passes_the_kit(name: str, values: dict[str, object]) -> None:
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name][0], reason=f"the extra qedge[{EXTRAS[name][1]}] is not installed")
    (entry,) = metadata.entry_points(group=ENTRY_POINT_GROUP, name=name)
    report = run(entry.load(), values, limit_s=60.0, cycles=5)
    assert report.failed == (), report.text()
    passed = [result.name for result in report.results if result.outcome is Outcome.PASSED]
    assert "open" in passed, report.text()


def test_there_is_a_driver_of_each_kind() -> None:
    assert {"cirq_sampler", "hwrng", "sim_qkd", "sim_qpu", "sim_qrng"} <= set(INSTALLED)
