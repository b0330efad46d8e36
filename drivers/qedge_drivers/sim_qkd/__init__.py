"""A simulated decoy-state BB84 link: two transceivers joined by a fibre that an eavesdropper can sit on."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from qedge_driver_api import (
    DetectionBlock,
    DriverContext,
    DriverInfo,
    DriverKind,
    FatalError,
    Health,
    OperatingState,
    Preparations,
    Property,
    QkdRole,
    RetriableError,
    settings_schema,
)
from qedge_drivers.sim_qkd.settings import SimQkdSettings, check, figures

if TYPE_CHECKING:
    from qedge_drivers.sim_qkd.alice import AliceEnd, RecordedAlice
    from qedge_drivers.sim_qkd.bob import BobEnd

_FIXED: Final = ("role", "link", "fibre", "replay", "seed")
"""Settings that open the device anew."""

__all__ = ["SimQkd", "SimQkdSettings"]


class SimQkd:
    """Implements `QkdTransceiver` and `Reconfigurable`; the setting `role` says which end of the link it is."""

    Settings = SimQkdSettings

    def __init__(self, settings: SimQkdSettings) -> None:
        check(settings)
        self._settings = settings
        self._context: DriverContext | None = None
        self._alice: AliceEnd | RecordedAlice | None = None
        self._bob: BobEnd | None = None

    @classmethod
    def describe(cls) -> DriverInfo:
        """Say what this driver is."""
        return DriverInfo(
            name="sim_qkd",
            kind=DriverKind.QKD,
            version="1.0",
            summary="Simulated decoy-state BB84 transceiver: weak pulses, lossy fibre, detectors, eavesdroppers.",
            settings=settings_schema(SimQkdSettings),
            abilities=("reconfigure",),
            simulated=True,
        )

    def probe(self) -> None:
        """A simulated transceiver is there wherever its library is."""
        if importlib.util.find_spec("numpy") is None:
            raise FatalError("The simulated transceiver needs numpy.")

    def open(self, context: DriverContext) -> None:
        """Lay or join the fibre; Bob also opens while nobody sends yet."""
        self.close()
        self._context = context
        if self._settings.role == QkdRole.ALICE:
            from qedge_drivers.sim_qkd.alice import AliceEnd, RecordedAlice

            end = RecordedAlice if self._settings.replay else AliceEnd
            self._alice = end(self._settings, context)
        else:
            from qedge_drivers.sim_qkd.bob import BobEnd

            self._bob = BobEnd(self._settings, context)

    def close(self) -> None:
        """Go dark, forget all preparations."""
        ends = self._alice, self._bob
        self._alice = self._bob = self._context = None
        for end in ends:
            if end is not None:
                end.close()

    def reconfigure(self, settings: SimQkdSettings) -> None:
        """Take new settings from the next block on; another role, fibre, recording or seed opens the device anew."""
        check(settings)
        before, self._settings = self._settings, settings
        if self._context is None:
            return
        if any(getattr(before, key) != getattr(settings, key) for key in _FIXED):
            self.open(self._context)
        for end in (self._alice, self._bob):
            if end is not None:
                end.settings = settings

    def health(self) -> Health:
        """Alice is up while she serves the fibre; Bob is degraded while it is dark."""
        if self._alice is not None:
            return self._alice.health()
        if self._bob is not None:
            return self._bob.health()
        return Health(OperatingState.DOWN, "not open")

    def properties(self) -> Mapping[str, Property]:
        """Facts about this end."""
        settings, now = self._settings, figures(self._settings)
        is_alice = settings.role == QkdRole.ALICE
        source, receiver = now.source, now.receiver
        facts: dict[str, Property] = {
            "role": settings.role,
            "link": settings.link,
            "preset": settings.preset,
            "clock_hz": now.clock_hz,
            "z_basis_probability": source.z_basis_probability if is_alice else receiver.z_basis_probability,
            "mean_photon_numbers": source.mean_photon_numbers,
            "intensity_probabilities": source.intensity_probabilities,
        }
        if is_alice:
            facts["length_km"] = source.length_km
            facts["loss_db"] = source.length_km * source.loss_db_per_km
            facts["eve_attack"] = settings.eve_attack
            facts["eve_fraction"] = settings.eve_fraction
            facts["fibre_cut"] = settings.fibre_cut
            return facts
        facts["detector_efficiency"] = receiver.efficiency
        facts["receiver_loss_db"] = receiver.loss_db
        facts["dark_count_probability"] = receiver.dark_count_probability
        facts["dead_time_ns"] = receiver.dead_time_ns
        facts["after_pulse_probability"] = receiver.after_pulse_probability
        facts["misalignment"] = receiver.misalignment
        facts["max_count_rate_hz"] = receiver.max_count_rate_hz
        facts["block_detections"] = settings.block_detections
        return facts | (self._bob.properties() if self._bob is not None else {})

    def read_block(self, timeout_s: float) -> DetectionBlock | None:
        """Bob: measure the next stretch of light."""
        if self._settings.role != QkdRole.BOB:
            raise FatalError("This end of the fibre has no detectors: it is Alice.")
        if self._bob is None:
            raise RetriableError("The transceiver is not open.")
        return self._bob.read_block(timeout_s)

    def preparations(self, slots: bytes) -> Preparations:
        """Alice: say what was prepared."""
        return self._sender().preparations(slots)

    def release(self, before_slot: int) -> None:
        """Alice: forget what was prepared before a slot."""
        self._sender().release(before_slot)

    def _sender(self) -> AliceEnd | RecordedAlice:
        if self._settings.role != QkdRole.ALICE:
            raise FatalError("This end of the fibre sends nothing: it is Bob.")
        if self._alice is None:
            raise RetriableError("The transceiver is not open.")
        return self._alice
