"""Services and host of the node that tests use."""

from __future__ import annotations

from qedge.wire.node import DriverView, HostView, ServiceView, WorkerView

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

DRIVERS = (
    DriverView(
        name="qpu",
        driver="sim_qpu",
        kind="qpu",
        version="0.1.0",
        simulated=True,
        admin_state="unlocked",
        operating_state="up",
        workers=(WorkerView("qpu-0", "busy", 4021), WorkerView("qpu-1", "ready", 4022, 1, spare=True)),
        properties={"qubits": 64, "two_qubit_fidelity": 0.999},
    ),
    DriverView(
        name="rng",
        driver="sim_qrng",
        kind="qrng",
        version="0.1.0",
        simulated=True,
        admin_state="unlocked",
        operating_state="up",
        workers=(WorkerView("rng-0", "ready", 4030),),
        properties={"rate_bits_per_s": 1_000_000},
    ),
    DriverView(
        name="alice",
        driver="sim_qkd",
        kind="qkd",
        version="0.1.0",
        simulated=True,
        admin_state="unlocked",
        operating_state="up",
        workers=(WorkerView("alice-0", "ready", 4040),),
        properties={"role": "alice", "eve_fraction": 0.0, "fibre_km": 25.0},
    ),
    DriverView(
        name="bob",
        driver="sim_qkd",
        kind="qkd",
        version="0.1.0",
        simulated=True,
        admin_state="unlocked",
        operating_state="up",
        workers=(WorkerView("bob-0", "ready", 4041),),
        properties={"role": "bob", "fibre_km": 25.0},
    ),
    DriverView(
        name="card",
        driver="hwrng",
        kind="qrng",
        version="0.1.0",
        simulated=False,
        admin_state="locked",
        operating_state="down",
        reason="/dev/qrandom0 is not there",
        workers=(WorkerView("card-0", "backoff", 0, 4),),
    ),
)
