"""Services and host of the node that tests use."""

from __future__ import annotations

from qedge.wire.node import HostView, ServiceView

SERVICES = tuple(
    ServiceView(name, state, restarts, error)
    for name, state, restarts, error in (
        ("store", "ready", 0, ""),
        ("bus", "ready", 0, ""),
        ("mesh", "ready", 0, ""),
        ("entropy", "ready", 0, ""),
        ("engine", "ready", 0, ""),
        ("driver-qpu", "ready", 0, ""),
        ("driver-rng", "ready", 1, ""),
        ("driver-card", "backoff", 4, "The card does not answer."),
        ("web", "ready", 0, ""),
    )
)

HOST = HostView(
    cpu_ratio=0.31,
    memory_available_bytes=5 * 2**30,
    memory_total_bytes=8 * 2**30,
    disk_free_bytes=48 * 2**30,
    temperature_celsius=51.5,
    power_watts=0.0,
    clock_steps=0,
    verdict="ok",
)
