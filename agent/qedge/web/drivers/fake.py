"""Drivers of the node that tests use."""

from __future__ import annotations

from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.wire.assessment import Assessment
from qedge.wire.device import DeviceOperation, DeviceSite, DeviceView
from qedge.wire.node import DriverChange, DriverView, Fact, WorkerView


def _up(
    name: str, driver: str, kind: str, workers: tuple[WorkerView, ...], properties: dict[str, Fact | list[Fact]]
) -> DriverView:
    return DriverView(name, driver, kind, "0.1.0", True, "unlocked", "up", workers=workers, properties=properties)


DRIVERS: Final = (
    _up(
        "qpu",
        "sim_qpu",
        "qpu",
        (WorkerView("qpu-0", "busy", 4021), WorkerView("qpu-1", "ready", 4022, 1, spare=True)),
        {"qubits": 64, "two_qubit_fidelity": 0.999},
    ),
    _up("rng", "sim_qrng", "qrng", (WorkerView("rng-0", "ready", 4030),), {"rate_bits_per_s": 1_000_000}),
    _up(
        "alice",
        "sim_qkd",
        "qkd",
        (WorkerView("alice-0", "ready", 4040),),
        {"role": "alice", "eve_fraction": 0.0, "fibre_km": 25.0},
    ),
    _up("bob", "sim_qkd", "qkd", (WorkerView("bob-0", "ready", 4041),), {"role": "bob", "fibre_km": 25.0}),
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


class FakeDrivers:
    """Drivers that take every change; `eve` is whether one of them listens on the link."""

    def __init__(self) -> None:
        self._drivers = {view.name: view for view in DRIVERS}
        self.eve = False

    def drivers(self) -> tuple[DriverView, ...]:
        """Return the drivers."""
        return tuple(self._drivers.values())

    async def change_driver(self, name: str, change: DriverChange) -> DriverView:
        """Take over the lock and the settings."""
        view = self._drivers.get(name)
        if view is None:
            raise QedgeError("driver.not_found", f"No driver is called {name}.")
        self.eve = bool(change.settings.get("eve_fraction", self.eve))
        changed = msgspec.structs.replace(
            view,
            admin_state=change.admin_state or view.admin_state,
            properties={**view.properties, **change.settings},
        )
        self._drivers[name] = changed
        return changed

    async def assess(self, name: str) -> Assessment:
        """Make up an assessment."""
        if name not in self._drivers:
            raise QedgeError("driver.not_found", f"No driver is called {name}.")
        return Assessment(name, 1, 2.5, 7, "0", "fake", 0.1, simulated=True, log2_volume=5, volume_limit=10)

    async def device(self, name: str) -> DeviceView:
        """Make up a device of two qubits."""
        if name not in self._drivers:
            raise QedgeError("driver.not_found", f"No driver is called {name}.")
        operations = (DeviceOperation("cz", 2, fidelity=0.995), DeviceOperation("rz", 1, 1, fidelity=1.0))
        sites = (DeviceSite(0, "QB1", 42.0, 21.0, 0.01), DeviceSite(1, "QB2", 40.0, 20.0, 0.02))
        return DeviceView(name, 2, "idle", ("flat",), 3, 1000, 0.0, ((0, 1),), operations, sites)
