"""Alice's end: draws pulses when the fibre is asked for light, and remembers what she prepared."""

from __future__ import annotations

import time

import numpy as np

from qedge_driver_api import DriverContext, FatalError, Health, OperatingState, Preparations, QkdRole
from qedge_drivers.sim_qkd.fibre import MAX_BLOCK_PULSES, FibreEnd, Light, default_fibre
from qedge_drivers.sim_qkd.ledger import Ledger
from qedge_drivers.sim_qkd.physics import Source, emit, transmittance
from qedge_drivers.sim_qkd.settings import SimQkdSettings

_SEED_BYTES = 16
_MAX_ASKED_BYTES = 8 << 22


def generator(settings: SimQkdSettings, context: DriverContext) -> np.random.Generator:
    """Make the generator of the simulated physics, of which nothing secret is drawn."""
    seed = settings.seed or int.from_bytes(context.random_bytes(_SEED_BYTES), "little")
    # Equal seeds at both ends must not give equal dice.
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, settings.role == QkdRole.ALICE])))


class AliceEnd:
    """The open device; `settings` may be replaced at any time."""

    def __init__(self, settings: SimQkdSettings, context: DriverContext) -> None:
        self.settings = settings
        self._random_bytes = context.random_bytes
        self._physics = generator(settings, context)
        self._ledger = Ledger(context.random_bytes)
        # Each opening numbers its slots from a place of its own, so that no slot of an earlier one is taken for ours.
        self._next_slot = int.from_bytes(context.random_bytes(4), "little") >> 10 << 40
        self._last_light = -1.0
        self._fibre = FibreEnd(settings.fibre or default_fibre(context.state_dir, settings.link), self._shine)

    def close(self) -> None:
        """Go dark."""
        self._fibre.close()

    def health(self) -> Health:
        """Up while the fibre is served."""
        if not self._fibre.is_alive:
            return Health(OperatingState.DOWN, "the fibre is not served any more")
        age_s = time.monotonic() - self._last_light if self._last_light >= 0 else -1.0
        fault = self._fibre.fault
        return Health(OperatingState.DEGRADED if fault else OperatingState.UP, fault, age_s)

    def preparations(self, slots: bytes) -> Preparations:
        """Say what was prepared in these slots."""
        if len(slots) % 8 or len(slots) > _MAX_ASKED_BYTES:
            raise FatalError("Slots are 8 bytes each, at most 4,194,304 at once.")
        choices = self._ledger.choices(np.frombuffer(slots, "<u8"))
        return Preparations((choices >> 1 & 1).tobytes(), (choices & 1).tobytes(), (choices >> 2).tobytes())

    def release(self, before_slot: int) -> None:
        """Forget what was prepared before a slot."""
        self._ledger.release(before_slot)

    def _shine(self, num_slots: int) -> Light:
        settings = self.settings
        source = Source(
            settings.mean_photon_numbers,
            settings.intensity_probabilities,
            settings.z_basis_probability,
            transmittance(settings.length_km, settings.loss_db_per_km),
            settings.eve_fraction,
        )
        num_slots = min(num_slots, int(MAX_BLOCK_PULSES / 2 / max(source.light_probability(), 1e-12)))
        pulses, choices = emit(self._physics, self._random_bytes, source, num_slots)
        first_slot, self._next_slot = self._next_slot, self._next_slot + num_slots
        self._ledger.add(first_slot, num_slots, source, pulses.offsets, choices)
        self._last_light = time.monotonic()
        offsets = pulses.offsets.astype("<u4").tobytes()
        return Light(
            first_slot, num_slots, settings.clock_hz, offsets, pulses.photons.tobytes(), pulses.states.tobytes()
        )
