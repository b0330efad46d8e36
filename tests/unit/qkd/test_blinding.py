"""What a link learns of its counts, judged by the simulated link: blinded detectors are seen, honest ones are not."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from qedge.qkd.distillation.baseline import LEARNED_BLOCKS, Expected, Watch
from qedge.qkd.distillation.model import AliceSide, BlockCounts, LinkTerms
from qedge.qkd.finite_key.limits import Seen, check_statistics
from qedge.qkd.finite_key.model import BasisCounts, Counts, DecoyProtocol
from qedge_drivers.sim_qkd.detectors import Detectors, Incoming, Receiver
from qedge_drivers.sim_qkd.drbg import CtrDrbg
from qedge_drivers.sim_qkd.drift import Wander, misaligned
from qedge_drivers.sim_qkd.ledger import Ledger
from qedge_drivers.sim_qkd.philox import Philox
from qedge_drivers.sim_qkd.physics import transmittance
from qedge_drivers.sim_qkd.presets import Figures, preset_of
from qedge_drivers.sim_qkd.source import BLIND, Emitter, Odds, Receiving, Source

CLICKS = 1 << 20


@dataclass
class Link:
    """The halves of a simulated link, without a fibre between: counts of block after block."""

    figures: Figures
    seed: int
    loss_drift_db: float = 0.0
    drift_deg: float = 0.0

    def __post_init__(self) -> None:
        dice = random.Random(self.seed)
        low, high = dice.randrange(1 << 32), dice.randrange(1 << 32)
        self._emitter = Emitter(Philox((low, high), 0), CtrDrbg(dice.randbytes))
        self._ledger = Ledger(CtrDrbg(dice.randbytes))
        darks = np.random.Generator(np.random.Philox(self.seed))
        self._detectors = Detectors(Philox((high, low), 0), darks, CtrDrbg(dice.randbytes))
        self._wander = [Wander(np.random.Generator(np.random.Philox(self.seed + turn))) for turn in (1, 2)]
        self._slot = 0

    @property
    def terms(self) -> LinkTerms:
        """What both ends agreed on."""
        source, receiver = self.figures.source, self.figures.receiver
        side = AliceSide(source.mean_photon_numbers, source.intensity_probabilities, source.z_basis_probability)
        return LinkTerms(side, receiver.z_basis_probability)

    def block(self, blind: float = 0.0) -> tuple[BlockCounts, Seen]:
        """Send light until there are about `CLICKS`; `blind` is the share of the pulses that Eve steers with."""
        source, receiver = self.figures.source, self.figures.receiver
        loss_db, angle = (
            wander.step(1.0, deviation, 5.0)
            for wander, deviation in zip(self._wander, (self.loss_drift_db, self.drift_deg), strict=True)
        )
        fibre = transmittance(max(0.0, source.length_km * source.loss_db_per_km + loss_db))
        means, chances = source.mean_photon_numbers, source.intensity_probabilities
        sent = Source(means, chances, source.z_basis_probability, fibre, BLIND, blind)
        efficiency = receiver.efficiency * transmittance(receiver.loss_db)
        rate = Odds(sent, Receiving(efficiency)).light * self.figures.clock_hz
        limit = receiver.max_count_rate_hz
        duty = min(1.0, limit / rate) if limit else 1.0
        odds = Odds(sent, Receiving(efficiency, duty))
        seen = Receiver(
            receiver.z_basis_probability,
            receiver.dark_count_probability,
            misaligned(receiver.misalignment, angle),
            round(receiver.dead_time_ns * 1e-9 * self.figures.clock_hz),
            receiver.after_pulse_probability,
            max(receiver.after_pulse_time_ns * 1e-9 * self.figures.clock_hz, 1e-3),
        )
        slots = round(CLICKS / odds.light * (1 + odds.light * seen.dead_slots))
        words, offsets, made = self._emitter.emit(odds, slots)
        self._ledger.add(self._slot, slots, odds.dark_borders, offsets, made)
        light = Incoming(self._slot, slots, words, odds.blinds, duty)
        self._slot += slots
        (clicks,) = self._detectors.measure(seen, light, 2 * CLICKS)
        alice = self._ledger.choices(clicks.slots.astype(np.uint64))
        self._ledger.release(self._slot)
        same, wrong = alice.bases == clicks.bases, alice.bits != clicks.bits
        numbers = [
            tuple(
                int((chosen & (alice.intensities == level) & (alice.bases == basis)).sum())
                for level in range(len(means))
            )
            for basis in (0, 1)
            for chosen in (same, same & wrong)
        ]
        return BlockCounts(*numbers), Seen(clicks.live_slots, len(clicks.bits), clicks.double_clicks)

    def blocks(self, number: int, blind: float = 0.0) -> Iterator[tuple[BlockCounts, Seen]]:
        """Send the light of so many blocks."""
        return (self.block(blind) for _ in range(number))


def verdict(watch: Watch, terms: LinkTerms, counts: BlockCounts, seen: Seen) -> str:
    """Judge a block as the kernels do."""
    side = terms.alice
    bases = (side.z_probability, terms.bob_z_probability)
    protocol = DecoyProtocol(side.mean_photon_numbers, side.intensity_probabilities, *bases)
    key, test = (counts.key_detections, counts.key_errors), (counts.test_detections, counts.test_errors)
    reason = check_statistics(protocol, Counts(BasisCounts(*key), BasisCounts(*test)), watch.limits(terms), seen)
    return "" if reason is None else reason.code.value


def commissioned(link: Link) -> Watch:
    """Let a link learn."""
    watch = Watch(Expected())
    for counts, seen in link.blocks(LEARNED_BLOCKS):
        assert verdict(watch, link.terms, counts, seen) == ""
        watch.learn(link.terms, counts, seen)
    return watch


def unnoticed(figures: Figures) -> float:
    """Return the share of the pulses with which who blinds detectors makes as many signals click as the fibre would."""
    source, receiver = figures.source, figures.receiver
    mean = source.mean_photon_numbers[0]
    loss_db = source.length_km * source.loss_db_per_km + receiver.loss_db
    right = -math.expm1(-receiver.efficiency * transmittance(loss_db) * mean)
    return min(1.0, 2 * right / -math.expm1(-mean))


@pytest.mark.parametrize("preset", ["plan", "lab", "ingaas", "yuan2018"])
def test_blinded_detectors_are_seen_in_the_first_block_even_where_the_signal_clicks_as_often_as_it_should(
    preset: str,
) -> None:
    link = Link(preset_of(preset), 11)
    watch = commissioned(link)
    assert verdict(watch, link.terms, *link.block(blind=1.0)) == "gain"
    assert verdict(watch, link.terms, *link.block(blind=unnoticed(link.figures))) in ("gain", "double-clicks")
    assert verdict(watch, link.terms, *link.block()) == ""


def test_a_configured_loss_needs_nothing_learned() -> None:
    link = Link(preset_of("plan"), 12)
    watch = Watch(Expected(loss_db=25 * 0.2 + 1.5 - 10 * math.log10(0.7)))
    assert verdict(watch, link.terms, *link.block()) == ""
    assert verdict(watch, link.terms, *link.block(blind=1.0)) == "gain"


@pytest.mark.parametrize("number", [6, pytest.param(60, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("preset", "seed", "drift"),
    [("plan", 21, False), ("plan", 22, True), ("ingaas", 24, True), ("yuan2018", 25, True)],
)
def test_an_honest_link_raises_no_alarm_while_its_loss_and_polarisation_drift(
    preset: str, seed: int, drift: bool, number: int
) -> None:
    link = Link(preset_of(preset), seed)
    watch = commissioned(link)
    link.loss_drift_db, link.drift_deg = (0.25, 4.0) if drift else (0.0, 0.0)
    verdicts = [verdict(watch, link.terms, *block) for block in link.blocks(number)]
    assert verdicts == [""] * number


def test_what_was_learned_stays_and_is_learned_anew_after_work_on_the_link() -> None:
    link = Link(preset_of("plan"), 31)
    watch = commissioned(link)
    kept = watch.baseline
    assert kept is not None
    assert kept.blocks == LEARNED_BLOCKS
    assert watch.learn(link.terms, *link.block()) is None  # it does not follow what comes later
    shorter = Link(replace(link.figures, source=replace(link.figures.source, length_km=10.0)), 32)
    counts, seen = shorter.block()
    for expected, said in ((Expected(baseline=kept), "gain"), (Expected(commissioning=1, baseline=kept), "")):
        assert verdict(Watch(expected), link.terms, counts, seen) == said
    again = Watch(Expected(commissioning=1, baseline=kept))
    learned = again.learn(link.terms, counts, seen)
    assert learned is not None
    assert learned.blocks == 1
