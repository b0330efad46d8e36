"""Physics of the simulated QKD link against closed forms: every claim with seeded dice, within five sigma."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from qedge_driver_api import settings_from_mapping
from qedge_drivers.sim_qkd import physics
from qedge_drivers.sim_qkd.detectors import Detectors, Incoming, Receiver
from qedge_drivers.sim_qkd.drbg import CtrDrbg
from qedge_drivers.sim_qkd.drift import Wander, misaligned
from qedge_drivers.sim_qkd.ledger import Ledger
from qedge_drivers.sim_qkd.philox import Philox
from qedge_drivers.sim_qkd.presets import PRESETS
from qedge_drivers.sim_qkd.settings import SimQkdSettings, figures
from qedge_drivers.sim_qkd.source import BLIND, SPLIT, Emitter, Odds, Receiving, Source

SIGMAS = 5.0
SIGNAL_AND_DECOYS = Source((0.5, 0.15, 2e-4), (0.6, 0.25, 0.15), 0.8, 0.3)
QUIET = Receiver(0.7)


def near(count: float, number: float, chance: float) -> bool:
    """Say whether a binomial count is within five sigma."""
    return abs(count - number * chance) <= SIGMAS * math.sqrt(number * chance * (1 - chance)) + 1


@dataclass
class Seen:
    """Detections of a run beside Alice's choices, joined over its blocks."""

    slots_sent: int
    slots: NDArray[np.int64]
    alice_bases: NDArray[np.uint8]
    alice_bits: NDArray[np.uint8]
    intensities: NDArray[np.uint8]
    bases: NDArray[np.uint8]
    bits: NDArray[np.uint8]
    double_clicks: int
    blocks: list[int] = field(default_factory=list)
    live_slots: int = 0

    @property
    def number(self) -> int:
        return len(self.bits)

    def count(self, intensity: int, basis: int) -> tuple[int, int]:
        """Count sifted bits and errors of one intensity in one basis."""
        chosen = (self.intensities == intensity) & (self.alice_bases == basis) & (self.bases == basis)
        return int(chosen.sum()), int((chosen & (self.bits != self.alice_bits)).sum())

    @property
    def qber(self) -> float:
        same = self.alice_bases == self.bases
        return float((self.bits != self.alice_bits)[same].mean())


def run(
    source: Source, receiver: Receiver, receiving: Receiving, slots: int, blocks: int = 4, most: int = 1 << 20
) -> Seen:
    """Send light through both ends, without the fibre's socket."""
    pool = random.Random(2026).randbytes
    emitter, ledger = Emitter(Philox((20, 26), 0), CtrDrbg(pool)), Ledger(CtrDrbg(pool))
    detectors = Detectors(Philox((1, 2), 0), np.random.Generator(np.random.Philox(5)), CtrDrbg(pool))
    odds = Odds(source, receiving)
    columns: list[list[NDArray[np.uint8]]] = [[] for _ in range(5)]
    places: list[NDArray[np.int64]] = []
    doubles, live, sizes = 0, 0, []
    for block in range(blocks):
        first = block * slots
        words, offsets, choices = emitter.emit(odds, slots)
        ledger.add(first, slots, odds.dark_borders, offsets, choices)
        for part in detectors.measure(receiver, Incoming(first, slots, words, odds.blinds, receiving.duty), most):
            made = ledger.choices(part.slots.astype(np.uint64))
            for column, values in zip(
                columns, (made.bases, made.bits, made.intensities, part.bases, part.bits), strict=True
            ):
                column.append(values)
            places.append(part.slots.copy())
            doubles += part.double_clicks
            live += part.live_slots
            sizes.append(len(part.bits))
    return Seen(
        slots * blocks, np.concatenate(places), *(np.concatenate(each) for each in columns), doubles, sizes, live
    )


def biased(probability: float, basis: int) -> float:
    return 1 - probability if basis else probability


@pytest.mark.parametrize(
    ("source", "receiver", "efficiency", "slots"),
    [
        (SIGNAL_AND_DECOYS, Receiver(0.7, 1e-6, 0.02), 0.5, 1 << 22),
        (replace(SIGNAL_AND_DECOYS, transmittance=0.9), Receiver(0.5, 1e-3, 0.1), 0.9, 1 << 19),
        (Source((0.5, 0.15), (0.7, 0.3), 0.9, 0.05), Receiver(0.9, 1e-5, 0.01), 0.2, 1 << 24),
        (Source((0.48, 0.05, 0.0), (0.8, 0.1, 0.1), 0.5, 0.01), Receiver(0.5, 1e-4, 0.033), 0.045, 1 << 25),
    ],
    ids=["two decoys", "bright and noisy", "one decoy", "long fibre"],
)
def test_gains_and_error_rates_follow_the_closed_forms_in_each_intensity_and_basis(
    source: Source, receiver: Receiver, efficiency: float, slots: int
) -> None:
    seen = run(source, receiver, Receiving(efficiency), slots)
    eta = efficiency * source.transmittance
    for index, (mean, share) in enumerate(zip(source.mean_photon_numbers, source.intensity_probabilities, strict=True)):
        gain = physics.gain(mean, eta, receiver.dark_count_probability)
        error = physics.error_rate(mean, eta, receiver.dark_count_probability, receiver.misalignment)
        for basis in (0, 1):
            both = biased(source.z_basis_probability, basis) * biased(receiver.z_basis_probability, basis)
            sifted, errors = seen.count(index, basis)
            assert near(sifted, seen.slots_sent, share * both * gain)
            assert near(errors, sifted, error)


def test_light_that_a_limited_receiver_does_not_look_at_is_thinned_evenly() -> None:
    full, half = (run(SIGNAL_AND_DECOYS, Receiver(0.7, 1e-4), Receiving(0.5, duty), 1 << 21) for duty in (1.0, 0.5))
    for index in range(3):
        for basis in (0, 1):
            one, other = full.count(index, basis)[0], half.count(index, basis)[0]
            assert abs(one / 2 - other) <= SIGMAS * math.sqrt(one / 4 + other)


@pytest.mark.parametrize(("dead", "duty"), [(0, 1.0), (40, 1.0), (0, 0.4), (40, 0.4)])
def test_clicks_per_slot_in_which_the_receiver_could_click_depend_on_the_light_alone(dead: int, duty: float) -> None:
    seen = run(SIGNAL_AND_DECOYS, replace(QUIET, dead_slots=dead), Receiving(0.5, duty), 1 << 20)
    chance = Odds(SIGNAL_AND_DECOYS, Receiving(0.5)).light
    assert near(seen.number, seen.live_slots, chance)


def test_dead_time_takes_the_share_that_a_non_paralysable_receiver_loses() -> None:
    dead = 40
    free = run(SIGNAL_AND_DECOYS, QUIET, Receiving(0.5), 1 << 21)
    seen = run(SIGNAL_AND_DECOYS, replace(QUIET, dead_slots=dead), Receiving(0.5), 1 << 21)
    rate = free.number / free.slots_sent
    expected = rate / (1 + rate * dead) * seen.slots_sent
    assert abs(seen.number - expected) < SIGMAS * math.sqrt(expected)
    assert int(np.diff(seen.slots).min()) > dead


def test_after_pulses_come_as_often_as_they_should_and_know_nothing() -> None:
    source = replace(SIGNAL_AND_DECOYS, transmittance=0.02)
    chance, mean_slots = 0.06, 30.0
    receiver = Receiver(0.7, 0.0, 0.0, 5, chance, mean_slots)
    free = run(source, replace(receiver, after_pulse_probability=0.0), Receiving(0.5), 1 << 23)
    seen = run(source, receiver, Receiving(0.5), 1 << 23)
    # Of each click come on average p after-pulses, and of these again: 1/(1−p) in all, next to no light comes between.
    extra = free.number / (1 - chance) - free.number
    assert abs(seen.number - free.number - extra) < SIGMAS * math.sqrt(2 * extra) + 0.02 * extra
    first_order = physics.gain(0.0, 0.0, 0.0) + chance / 2 * (1 - chance)
    assert seen.qber == pytest.approx(first_order + chance * chance / 2, abs=SIGMAS * math.sqrt(0.03 / seen.number))
    gaps = np.diff(seen.slots)
    early = int((gaps <= 5 + 30).sum())
    assert near(early, seen.number, chance * (1 - math.exp(-1)) + (1 - chance) * 30 * free.number / free.slots_sent)


@pytest.mark.parametrize("fraction", [1.0, 0.3])
def test_intercept_and_resend_makes_errors_in_a_quarter_of_what_it_takes(fraction: float) -> None:
    source = replace(SIGNAL_AND_DECOYS, transmittance=0.02, eve_fraction=fraction)
    seen = run(source, Receiver(0.7, 0.0, 0.01), Receiving(0.5), 1 << 23)
    for basis in (0, 1):
        sifted, errors = (sum(seen.count(index, basis)[place] for index in range(3)) for place in (0, 1))
        # Half of her guesses are right and leave misalignment alone; pulses of two photons are rare here.
        assert near(errors, sifted, fraction / 2 * 0.5 + (1 - fraction / 2) * 0.01)


def single_photon_yield(seen: Seen, source: Source) -> float:
    """Lower bound of Ma et al. 2005 on the single-photon yield, from signal, decoy and vacuum counts."""
    shares, means = source.intensity_probabilities, source.mean_photon_numbers
    gains = [float((seen.intensities == k).sum()) / (seen.slots_sent * shares[k]) for k in range(3)]
    mu, nu = means[0], means[1]
    weights = gains[1] * math.exp(nu) - gains[0] * math.exp(mu) * nu**2 / mu**2 - (mu**2 - nu**2) / mu**2 * gains[2]
    return mu / (mu * nu - nu**2) * weights


def test_photon_number_splitting_leaves_the_signal_as_it_was_and_shows_in_the_decoys() -> None:
    source = replace(SIGNAL_AND_DECOYS, mean_photon_numbers=(0.5, 0.15, 0.0), transmittance=0.1)
    receiving, receiver = Receiving(0.5), Receiver(0.7, 1e-6, 0.01)
    honest = run(source, receiver, receiving, 1 << 22)
    attacked = run(replace(source, attack=SPLIT, eve_fraction=1.0), receiver, receiving, 1 << 22)
    signals = [int((seen.intensities == 0).sum()) for seen in (honest, attacked)]
    assert abs(signals[0] - signals[1]) < SIGMAS * math.sqrt(sum(signals))
    assert abs(honest.qber - attacked.qber) < SIGMAS * math.sqrt(0.02 / honest.number)
    eta = 0.1 * 0.5
    assert 0.8 * eta < single_photon_yield(honest, source) < 1.1 * eta
    assert single_photon_yield(attacked, source) < 0.5 * eta


def test_splitting_a_share_of_the_pulses_lies_between() -> None:
    source = replace(SIGNAL_AND_DECOYS, transmittance=0.1, attack=SPLIT)
    light = [Odds(replace(source, eve_fraction=share), Receiving(0.5)).light for share in (0.0, 0.5, 1.0)]
    assert light[1] == pytest.approx((light[0] + light[2]) / 2)


def test_splitting_of_bright_pulses_blocks_a_share_of_them() -> None:
    passed = physics.split(2.0, 0.01, 0.5)
    assert passed[0] == passed[1] == 0.0
    assert 0.0 < passed[2] == passed[40] < 0.05


def test_blinded_detectors_show_in_the_counts_and_not_in_the_errors() -> None:
    source = replace(SIGNAL_AND_DECOYS, mean_photon_numbers=(0.5, 0.15, 0.0))
    receiver = Receiver(0.7, 1e-4, 0.03, 0, 0.05, 20.0)
    honest = run(source, receiver, Receiving(0.5), 1 << 20)
    blinded = run(replace(source, attack=BLIND, eve_fraction=1.0), receiver, Receiving(0.5), 1 << 20)
    # Count anomaly: she sees every photon that Alice sends, and half of her guesses of the basis are Bob's.
    sent = zip(source.intensity_probabilities, source.mean_photon_numbers, strict=True)
    rate = sum(share * (1 - math.exp(-mean)) for share, mean in sent) / 2
    assert near(blinded.number, blinded.slots_sent, rate)
    assert blinded.number > 2.5 * honest.number
    # No double click, no dark count, no error: what a real receiver never shows.
    assert honest.double_clicks > 100 > blinded.double_clicks == 0
    assert int((honest.intensities == 2).sum()) > 100 > int((blinded.intensities == 2).sum()) == 0
    assert honest.qber > 0.03 > blinded.qber == 0.0


def test_a_cut_fibre_leaves_dark_counts_alone() -> None:
    source = replace(SIGNAL_AND_DECOYS, transmittance=0.0)
    assert run(source, QUIET, Receiving(0.5), 1 << 24).number == 0
    dark = run(source, replace(QUIET, dark_count_probability=1e-4), Receiving(0.5), 1 << 22)
    assert near(dark.number, dark.slots_sent, physics.gain(0.0, 0.0, 1e-4))
    assert abs(dark.qber - 0.5) < SIGMAS * math.sqrt(0.25 / (0.6 * dark.number))


def test_blocks_are_cut_where_they_are_as_long_as_they_may_be() -> None:
    whole = run(SIGNAL_AND_DECOYS, Receiver(0.7, 1e-4, 0.0, 3, 0.05, 9.0), Receiving(0.5), 1 << 20, 2)
    parts = run(SIGNAL_AND_DECOYS, Receiver(0.7, 1e-4, 0.0, 3, 0.05, 9.0), Receiving(0.5), 1 << 20, 2, 5000)
    assert max(parts.blocks) == 5000
    assert len(parts.blocks) == -(-whole.blocks[0] // 5000) + -(-whole.blocks[1] // 5000)
    assert abs(whole.number - parts.number) < SIGMAS * math.sqrt(2 * whole.number)
    assert np.all(np.diff(parts.slots) > 3)


def test_choices_of_both_ends_are_fair_and_independent() -> None:
    seen = run(SIGNAL_AND_DECOYS, QUIET, Receiving(0.5), 1 << 22)
    pairs = {"bits": seen.alice_bits, "bases": seen.alice_bases, "Bob's bases": seen.bases}
    chances = {"bits": 0.5, "bases": 0.2, "Bob's bases": 0.3}
    for name, values in pairs.items():
        assert near(int(values.sum()), seen.number, chances[name]), name
        for lag in (1, 2, 8):
            assert near(int((values[lag:] & values[:-lag]).sum()), seen.number - lag, chances[name] ** 2), (name, lag)
        for other, others in pairs.items():
            if other != name:
                assert near(int((values & others).sum()), seen.number, chances[name] * chances[other]), (name, other)
    unequal = seen.alice_bases != seen.bases
    assert near(int((seen.bits != seen.alice_bits)[unequal].sum()), int(unequal.sum()), 0.5)


def test_alice_chooses_as_often_in_the_dark_as_bayes_says() -> None:
    source = Source((0.5, 0.1, 0.01), (0.9998, 1.9e-4, 1e-5), 1 - 2e-5, 0.3)
    odds = Odds(source, Receiving())
    ledger = Ledger(CtrDrbg(random.Random(5).randbytes))
    number = 1 << 21
    ledger.add(0, number, odds.dark_borders, np.empty(0, np.uint32), np.empty(0, np.uint8))
    made = ledger.choices(np.arange(number, dtype=np.uint64))
    dark = np.asarray(source.intensity_probabilities) * np.exp(-0.3 * np.asarray(source.mean_photon_numbers))
    for index, chance in enumerate((dark / dark.sum()).tolist()):
        assert near(int((made.intensities == index).sum()), number, chance)
    assert near(int(made.bases.sum()), number, 2e-5)
    assert near(int(made.bits.sum()), number, 0.5)


def test_photon_numbers_of_a_source_add_up_for_every_attack() -> None:
    for attack in ("intercept", SPLIT, BLIND):
        for fraction in (0.0, 0.3, 1.0):
            source = replace(SIGNAL_AND_DECOYS, attack=attack, eve_fraction=fraction)
            chances = source.photons(0.4)
            assert chances.sum(axis=1) == pytest.approx(1.0)
            assert chances.min() >= 0.0


def test_drift_wanders_as_far_as_it_is_told_and_forgets_in_its_time() -> None:
    wander = Wander(np.random.Generator(np.random.Philox(3)))
    assert wander.step(1.0, 0.0, 10.0) == 0.0
    values = np.array([wander.step(1.0, 2.0, 10.0) for _ in range(40_000)])
    assert values.std() == pytest.approx(2.0, rel=0.1)
    assert np.corrcoef(values[:-10], values[10:])[0, 1] == pytest.approx(math.exp(-1), abs=0.05)
    assert misaligned(0.01, 0.0) == 0.01
    assert misaligned(0.0, 30.0) == pytest.approx(0.25)
    assert misaligned(0.01, 90.0) == pytest.approx(0.99)


def made(**values: object) -> SimQkdSettings:
    result: SimQkdSettings = settings_from_mapping(SimQkdSettings, {"role": "alice", **values})
    return result


def test_settings_that_are_given_come_before_those_of_the_preset() -> None:
    plan = PRESETS["plan"]
    assert figures(made(preset="plan")) == plan
    ours = figures(made(preset="plan", length_km=80.0, z_basis_probability=0.6, dead_time_ns=0.0))
    assert ours.source == replace(plan.source, length_km=80.0, z_basis_probability=0.6)
    assert ours.receiver == replace(plan.receiver, z_basis_probability=0.6)


def test_finite_extinction_leaks_into_the_weaker_intensities() -> None:
    source = figures(made(mean_photon_numbers=[0.5, 0.1, 0.0], extinction_db=30.0)).source
    assert source.mean_photon_numbers == pytest.approx((0.5, 0.1005, 0.0005))


def preset_run(name: str, slots: int) -> tuple[Seen, Source, Receiver, float]:
    """Run a preset at its own figures, without the limit of its receiver."""
    chosen = PRESETS[name]
    source = Source(
        chosen.source.mean_photon_numbers,
        chosen.source.intensity_probabilities,
        chosen.source.z_basis_probability,
        physics.transmittance(chosen.source.length_km * chosen.source.loss_db_per_km),
    )
    figures_ = chosen.receiver
    receiver = Receiver(
        figures_.z_basis_probability,
        figures_.dark_count_probability,
        figures_.misalignment,
        round(figures_.dead_time_ns * 1e-9 * chosen.clock_hz),
        figures_.after_pulse_probability,
        figures_.after_pulse_time_ns * 1e-9 * chosen.clock_hz,
    )
    efficiency = figures_.efficiency * physics.transmittance(figures_.loss_db)
    return run(source, receiver, Receiving(efficiency), slots), source, receiver, efficiency * source.transmittance


def test_sifting_and_background_of_lucamarini_2013_come_out() -> None:
    seen, source, receiver, eta = preset_run("lucamarini2013", 1 << 24)
    kept = float((seen.alice_bases == seen.bases).mean())
    assert kept == pytest.approx(0.8828, abs=SIGMAS * math.sqrt(0.8828 * 0.1172 / seen.number))
    background = 1 - (1 - receiver.dark_count_probability) ** 2
    shares = zip(source.intensity_probabilities, source.mean_photon_numbers, strict=True)
    clicks = sum(share * physics.gain(mean, eta, receiver.dark_count_probability) for share, mean in shares)
    modelled = background + receiver.after_pulse_probability * clicks
    assert modelled == pytest.approx(2.9465e-4, rel=0.01)
    # A pulse of intensity ω makes that background, and ω η of its own.
    weakest = int((seen.intensities == 2).sum()) / (source.intensity_probabilities[2] * seen.slots_sent)
    assert weakest == pytest.approx(modelled + 0.001 * eta, rel=0.15)


def test_the_background_of_gys_is_the_published_one() -> None:
    receiver = PRESETS["gys"].receiver
    assert 1 - (1 - receiver.dark_count_probability) ** 2 == pytest.approx(1.7e-6, rel=1e-3)
    assert asymptotic_rate("gys", 0.0) == pytest.approx(2.555e-3, rel=0.01)
    assert asymptotic_rate("gys", 40.0) == pytest.approx(3.631e-4, rel=0.01)
    assert asymptotic_rate("gys", 100.0) == pytest.approx(1.718e-5, rel=0.02)


def entropy(chance: float) -> float:
    return -chance * math.log2(chance) - (1 - chance) * math.log2(1 - chance)


def asymptotic_rate(name: str, length_km: float) -> float:
    """Key per pulse of Ma et al. 2005 with infinitely many decoys, unbiased bases, f = 1.22."""
    preset = PRESETS[name]
    mean, receiver = preset.source.mean_photon_numbers[0], preset.receiver
    loss_db = length_km * preset.source.loss_db_per_km + receiver.loss_db
    eta = receiver.efficiency * physics.transmittance(loss_db)
    gain = physics.gain(mean, eta, receiver.dark_count_probability)
    error = physics.error_rate(mean, eta, receiver.dark_count_probability, receiver.misalignment)
    background = physics.gain(0.0, eta, receiver.dark_count_probability)
    single = background + eta - background * eta
    single_error = (background / 2 + receiver.misalignment * eta) / single
    kept = single * mean * math.exp(-mean) * (1 - entropy(single_error))
    return 0.5 * (kept - 1.22 * gain * entropy(error))


def test_the_plan_has_less_than_one_percent_of_errors_and_megabits_of_key() -> None:
    seen, source, _, _ = preset_run("plan", 1 << 24)
    assert seen.qber < 0.01
    rate_hz = seen.number / seen.slots_sent * PRESETS["plan"].clock_hz
    assert rate_hz > PRESETS["plan"].receiver.max_count_rate_hz
    chosen = lim_key(seen, source, scale=4.0)
    assert chosen / (4 * seen.slots_sent) * 1e9 > 5e6


def lim_key(seen: Seen, source: Source, scale: float) -> float:
    """Key length of Lim et al. 2014 for `scale` times the counts of a run, f = 1.15, all epsilons 1e-10."""
    mu, shares = source.mean_photon_numbers, source.intensity_probabilities
    log_term, epsilon = math.log(21 / 1e-10), 1e-10

    def tau(number: int) -> float:
        terms = zip(shares, mu, strict=True)
        return sum(share * math.exp(-mean) * mean**number / math.factorial(number) for share, mean in terms)

    def bounds(counts: Sequence[float]) -> list[tuple[float, float]]:
        spread = math.sqrt(sum(counts) / 2 * log_term)
        rows = zip(shares, mu, counts, strict=True)
        return [(math.exp(k) / p * (n - spread), math.exp(k) / p * (n + spread)) for p, k, n in rows]

    def vacuum_and_single(counts: Sequence[float]) -> tuple[float, float]:
        edges = bounds(counts)
        vacuum = max(0.0, tau(0) * (mu[1] * edges[2][0] - mu[2] * edges[1][1]) / (mu[1] - mu[2]))
        several = (mu[1] ** 2 - mu[2] ** 2) / mu[0] ** 2 * (edges[0][1] - vacuum / tau(0))
        scale_ = tau(1) * mu[0] / (mu[0] * (mu[1] - mu[2]) - mu[1] ** 2 + mu[2] ** 2)
        return vacuum, scale_ * (edges[1][0] - edges[2][1] - several)

    z, x = ([[scale * n for n in seen.count(k, basis)] for k in range(3)] for basis in (0, 1))
    vacuum, single = vacuum_and_single([n for n, _ in z])
    _, test_single = vacuum_and_single([n for n, _ in x])
    edges = bounds([m for _, m in x])
    wrong = tau(1) * (edges[1][1] - edges[2][0]) / (mu[1] - mu[2]) / test_single
    spread = (single + test_single) * (1 - wrong) * wrong / (single * test_single * math.log(2))
    inner = (single + test_single) / (single * test_single * (1 - wrong) * wrong) * 21**2 / epsilon**2
    phase = wrong + math.sqrt(spread * math.log2(inner))
    errors, number = sum(m for _, m in z), sum(n for n, _ in z)
    cost = 1.15 * number * entropy(errors / number) + 6 * math.log2(21 / epsilon) + math.log2(2 / epsilon)
    return vacuum + single * (1 - entropy(phase)) - cost
