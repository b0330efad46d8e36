"""Alice's end: draws pulses when the fibre is asked for light, and remembers what she prepared."""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from qedge_driver_api import DriverContext, FatalError, Health, OperatingState, Preparations, QkdRole
from qedge_drivers.sim_qkd.drbg import CtrDrbg
from qedge_drivers.sim_qkd.drift import Wander
from qedge_drivers.sim_qkd.fibre import MAX_BLOCK_WORDS, FibreEnd, Light, Question, default_fibre
from qedge_drivers.sim_qkd.ledger import Ledger
from qedge_drivers.sim_qkd.philox import Philox
from qedge_drivers.sim_qkd.physics import transmittance
from qedge_drivers.sim_qkd.recording import Recording
from qedge_drivers.sim_qkd.settings import SimQkdSettings, figures
from qedge_drivers.sim_qkd.source import Emitter, Odds, Receiving, Source

_SEED_BYTES: Final = 16
_MAX_ASKED_BYTES: Final = 8 << 22


class Dice:
    """Random numbers of the simulated physics, of which nothing secret is drawn; `philox` and `rare` never meet."""

    def __init__(self, settings: SimQkdSettings, context: DriverContext) -> None:
        seed = settings.seed or int.from_bytes(context.random_bytes(_SEED_BYTES), "little")
        # Equal seeds at both ends must not give equal dice.
        sequence = np.random.SeedSequence([seed, settings.role == QkdRole.ALICE])
        low, high = sequence.generate_state(2).tolist()
        rare, drift = sequence.spawn(2)
        self.philox = Philox((low, high), stream=0)
        self.rare = np.random.Generator(np.random.Philox(rare))
        self.drift = Wander(np.random.Generator(np.random.Philox(drift)))


def warm_up() -> None:
    """Have the inner loops of Alice's end compiled, or loaded, before light is asked for: seconds once, then 0.1 s."""
    nothing = CtrDrbg(bytes)
    odds = Odds(Source((1.0,), (1.0,), 0.5, 1.0), Receiving())
    _, offsets, choices = Emitter(Philox((0, 0), 0), nothing).emit(odds, 8)
    ledger = Ledger(nothing)
    ledger.add(0, 8, odds.dark_borders, offsets, choices)
    ledger.choices(np.arange(8, dtype=np.uint64))


class AliceEnd:
    """The open device; `settings` may be replaced at any time."""

    def __init__(self, settings: SimQkdSettings, context: DriverContext) -> None:
        self.settings = settings
        warm_up()
        dice = Dice(settings, context)
        # One generator for the thread that sends and one for the thread that is asked.
        self._emitter = Emitter(dice.philox, CtrDrbg(context.random_bytes))
        self._ledger = Ledger(CtrDrbg(context.random_bytes))
        self._drift = dice.drift
        # Each opening numbers its slots from a place of its own, so that no slot of an earlier one is taken for ours.
        self._next_slot = int.from_bytes(context.random_bytes(4), "little") >> 10 << 40
        self._last_light = -1.0
        self._odds: tuple[Source, Receiving, Odds] | None = None
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
        return prepared(self._ledger, slots)

    def release(self, before_slot: int) -> None:
        """Forget what was prepared before a slot."""
        self._ledger.release(before_slot)

    def _shine(self, question: Question) -> Light:
        settings = self.settings
        now = figures(settings)
        receiving = Receiving(question.efficiency, question.duty)
        odds = self._odds_of(settings, receiving, question.num_slots / now.clock_hz)
        num_slots = min(question.num_slots, int(MAX_BLOCK_WORDS / 2 / max(odds.light, 1e-12)))
        words, offsets, choices = self._emitter.emit(odds, num_slots)
        first_slot, self._next_slot = self._next_slot, self._next_slot + num_slots
        self._ledger.add(first_slot, num_slots, odds.dark_borders, offsets.copy(), choices.copy())
        self._last_light = time.monotonic()
        sent = words.astype("<i4", copy=False).data.cast("B")
        return Light(first_slot, num_slots, now.clock_hz, sent, odds.blinds)

    def _odds_of(self, settings: SimQkdSettings, receiving: Receiving, elapsed_s: float) -> Odds:
        now = figures(settings).source
        drift_db = self._drift.step(elapsed_s, settings.loss_drift_db, settings.drift_time_s)
        loss_db = max(0.0, now.length_km * now.loss_db_per_km + drift_db)
        source = Source(
            now.mean_photon_numbers,
            now.intensity_probabilities,
            now.z_basis_probability,
            0.0 if settings.fibre_cut else transmittance(loss_db),
            settings.eve_attack,
            settings.eve_fraction,
        )
        if self._odds is None or self._odds[:2] != (source, receiving):
            self._odds = source, receiving, Odds(source, receiving)
        return self._odds[2]


class RecordedAlice:
    """Alice's end of a recording: knows what was prepared in the slots that Bob's recording has."""

    def __init__(self, settings: SimQkdSettings, context: DriverContext) -> None:
        self.settings = settings
        self._ledger = Ledger(CtrDrbg(context.random_bytes))
        for block in Recording.read(settings.replay, QkdRole.ALICE).blocks():
            choices = block.intensities << np.uint8(2) | block.bases << np.uint8(1) | block.bits
            self._ledger.add(block.first_slot, block.num_slots, None, block.offsets, choices)

    def close(self) -> None:
        """Nothing is open."""

    def health(self) -> Health:
        """A recording is always there."""
        return Health(OperatingState.UP, "plays a recording")

    def preparations(self, slots: bytes) -> Preparations:
        """Say what was prepared in these slots."""
        return prepared(self._ledger, slots)

    def release(self, before_slot: int) -> None:
        """Forget what was prepared before a slot."""
        self._ledger.release(before_slot)


def prepared(ledger: Ledger, slots: bytes) -> Preparations:
    """Look increasing slots up, as u64 in bytes."""
    if len(slots) % 8 or len(slots) > _MAX_ASKED_BYTES:
        raise FatalError("Slots are 8 bytes each, at most 4,194,304 at once.")
    choices = ledger.choices(np.frombuffer(slots, "<u8"))
    return Preparations(choices.bases.tobytes(), choices.bits.tobytes(), choices.intensities.tobytes())
