"""The simulated QKD link: closed forms within five sigma, and only light crosses the fibre."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qedge_driver_api import (
    BadSettingsError,
    DetectionBlock,
    DriverContext,
    DriverKind,
    FatalError,
    OperatingState,
    Preparations,
    QkdTransceiver,
    Reconfigurable,
    RetriableError,
    settings_from_mapping,
)
from qedge_drivers.sim_qkd import SimQkd, fibre
from qedge_drivers.sim_qkd import physics as model
from qedge_drivers.sim_qkd.drbg import CtrDrbg
from qedge_drivers.sim_qkd.ledger import MAX_PULSES, Ledger
from qedge_drivers.sim_qkd.settings import SimQkdSettings
from qedge_drivers.sim_qkd.source import Odds, Receiving, Source

SIGMAS = 5.0
MEANS = (0.5, 0.1, 0.0)
SOURCE = Source(MEANS, (0.8, 0.15, 0.05), 0.9, 10**-0.5)
Counts = NDArray[np.int64]


def settings(**values: object) -> SimQkdSettings:
    made: SimQkdSettings = settings_from_mapping(SimQkdSettings, {"seed": 7, **values})
    return made


class Bench:
    """Both ends on one box, as the host opens them, with seeded stand-ins for the node's random pool."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drivers: list[SimQkd] = []

    def context(self, instance: str, seed: int) -> DriverContext:
        state_dir = self.folder / instance
        state_dir.mkdir(exist_ok=True)
        return DriverContext(instance, str(state_dir), random.Random(seed).randbytes, lambda: False)

    def open(self, role: str, **values: object) -> SimQkd:
        driver = SimQkd(settings(role=role, **values))
        self.drivers.append(driver)
        driver.open(self.context(role, len(self.drivers)))
        return driver

    def both(
        self, alice: dict[str, object] | None = None, bob: dict[str, object] | None = None
    ) -> tuple[SimQkd, SimQkd]:
        return self.open("alice", **(alice or {})), self.open("bob", **({"dead_time_ns": 0.0} | (bob or {})))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for driver in made.drivers:
        driver.close()


def next_block(bob: SimQkd) -> DetectionBlock:
    block = bob.read_block(10.0)
    assert block is not None
    return block


class Tally:
    """Clicks, slots and errors by intensity; sifted where bases are equal."""

    def __init__(self) -> None:
        self.slots = 0
        self.doubles = 0
        self.clicks: Counts = np.zeros(8, np.int64)
        self.sifted: Counts = np.zeros(8, np.int64)
        self.errors: Counts = np.zeros(8, np.int64)
        self.unequal = self.unequal_errors = 0

    def add(self, block: DetectionBlock, made: Preparations) -> None:
        one = [np.frombuffer(part, np.uint8) for part in (block.bases, block.bits)]
        other = [np.frombuffer(part, np.uint8) for part in (made.bases, made.bits, made.intensities)]
        equal, wrong = one[0] == other[0], one[1] != other[1]
        self.slots += block.num_slots
        self.doubles += block.double_clicks
        self.clicks += np.bincount(other[2], minlength=8)
        self.sifted += np.bincount(other[2][equal], minlength=8)
        self.errors += np.bincount(other[2][equal & wrong], minlength=8)
        self.unequal += int((~equal).sum())
        self.unequal_errors += int((~equal & wrong).sum())

    @property
    def qber(self) -> float:
        return float(self.errors.sum() / self.sifted.sum())


def measured(alice: SimQkd, bob: SimQkd, blocks: int = 6) -> Tally:
    tally = Tally()
    for _ in range(blocks):
        block = next_block(bob)
        tally.add(block, alice.preparations(block.slots))
        alice.release(block.first_slot + block.num_slots)
    return tally


def near(count: float, number: float, chance: float) -> bool:
    """Say whether a binomial count is within five sigma."""
    return abs(count - number * chance) <= SIGMAS * math.sqrt(number * chance * (1 - chance)) + 1


def test_it_is_a_transceiver_and_describes_itself_without_numpy() -> None:
    info = SimQkd.describe()
    assert info.kind is DriverKind.QKD
    assert info.simulated
    driver = SimQkd(settings(role="bob"))
    assert isinstance(driver, QkdTransceiver)
    assert isinstance(driver, Reconfigurable)
    driver.probe()
    code = "import sys; from qedge_drivers.sim_qkd import SimQkd; SimQkd.describe(); assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(("dark", "length_km", "efficiency"), [(1e-6, 25.0, 0.2), (1e-3, 50.0, 0.1), (1e-5, 5.0, 0.9)])
def test_gains_and_error_rates_follow_the_closed_forms(
    bench: Bench, dark: float, length_km: float, efficiency: float
) -> None:
    alice, bob = bench.both(
        {"length_km": length_km}, {"dark_count_probability": dark, "detector_efficiency": efficiency}
    )
    tally = measured(alice, bob)
    eta = efficiency * model.transmittance(length_km * 0.2)
    assert eta == pytest.approx(efficiency * 10 ** (-length_km / 50))
    for index, (mean, share) in enumerate(zip(MEANS, (0.8, 0.15, 0.05), strict=True)):
        gain = model.gain(mean, eta, dark)
        assert near(float(tally.clicks[index]), tally.slots * share, gain)
        error = model.error_rate(mean, eta, dark, 0.01)
        assert near(float(tally.errors[index]), float(tally.sifted[index]), error)
    assert near(float(tally.sifted.sum()), float(tally.clicks.sum()), 0.9**2 + 0.1**2)
    assert near(tally.unequal_errors, tally.unequal, 0.5)


def test_the_closed_form_of_errors_is_that_of_ma_for_weak_light() -> None:
    for mean, eta, dark in ((0.5, 0.01, 1e-6), (0.1, 0.05, 1e-5), (0.48, 1e-3, 1e-6)):
        background = 1 - (1 - dark) ** 2
        joint = background / 2 + 0.01 * (1 - math.exp(-eta * mean))
        assert model.error_rate(mean, eta, dark, 0.01) * model.gain(mean, eta, dark) == pytest.approx(joint, rel=0.02)


def test_no_light_leaves_dark_counts_that_know_nothing(bench: Bench) -> None:
    alice, bob = bench.both({"mean_photon_numbers": [0.0, 0.0, 0.0]}, {"dark_count_probability": 1e-3})
    tally = measured(alice, bob)
    assert near(float(tally.clicks.sum()), tally.slots, model.gain(0.0, 0.0, 1e-3))
    assert near(float(tally.errors.sum()), float(tally.sifted.sum()), 0.5)


@pytest.mark.parametrize(("fraction", "qber"), [(0.0, 0.01), (0.5, 0.1325), (1.0, 0.255)])
def test_an_eavesdropper_shows_in_the_error_rate(bench: Bench, fraction: float, qber: float) -> None:
    alice, bob = bench.both({"eve_fraction": fraction}, {"z_basis_probability": 0.5})
    tally = measured(alice, bob)
    # Bright pulses in the wrong basis click twice, so the single-photon forms hold to a few per mille only.
    assert abs(tally.qber - qber) < 0.003 + SIGMAS * math.sqrt(qber / tally.sifted.sum())


def test_the_eavesdropper_comes_and_goes_while_the_link_runs(bench: Bench) -> None:
    alice, bob = bench.both()
    assert measured(alice, bob).qber < 0.02
    alice.reconfigure(settings(role="alice", eve_fraction=1.0))
    assert alice.properties()["eve_fraction"] == 1.0
    assert measured(alice, bob).qber > 0.2
    alice.reconfigure(settings(role="alice"))
    assert measured(alice, bob).qber < 0.02


def test_dead_time_lowers_the_rate_of_clicks(bench: Bench) -> None:
    alice, bob = bench.both(bob={"dead_time_ns": 100.0, "detector_efficiency": 0.5})
    tally = measured(alice, bob)
    rate = sum(
        share * model.gain(mean, 0.5 * model.transmittance(5.0), 1e-7)
        for mean, share in zip(MEANS, (0.8, 0.15, 0.05), strict=True)
    )
    # Clicks of a receiver with dead time are less scattered than binomial ones, so five sigma is generous.
    assert near(float(tally.clicks.sum()), tally.slots, rate / (1 + rate * 100))


def test_clicks_are_never_closer_than_the_dead_time_across_blocks(bench: Bench) -> None:
    _, bob = bench.both({"length_km": 0.0}, {"dead_time_ns": 50.0, "detector_efficiency": 1.0})
    slots = np.concatenate([np.frombuffer(next_block(bob).slots, "<u8") for _ in range(4)])
    assert int(np.diff(slots.astype(np.int64)).min()) > 50


def test_double_clicks_are_counted(bench: Bench) -> None:
    alice, bob = bench.both({"mean_photon_numbers": [10.0, 1.0, 0.0], "length_km": 0.0}, {"detector_efficiency": 0.9})
    tally = measured(alice, bob, 2)
    assert tally.doubles > tally.unequal * 0.5


def test_blocks_follow_each_other_without_a_gap_and_stay_short(bench: Bench) -> None:
    alice, bob = bench.both({"mean_photon_numbers": [10.0, 1.0, 0.0], "length_km": 0.0}, {"detector_efficiency": 1.0})
    blocks = [next_block(bob) for _ in range(8)]
    assert max(len(block.bits) for block in blocks) == 1 << 15  # the first light was asked for in ignorance
    for before, after in itertools.pairwise(blocks):
        assert before.first_slot + before.num_slots == after.first_slot
    for block in blocks:
        slots = np.frombuffer(block.slots, "<u8")
        assert np.all(slots[1:] > slots[:-1])
        assert block.first_slot <= int(slots[0])
        assert int(slots[-1]) < block.first_slot + block.num_slots
        assert not block.bits.translate(None, b"\0\1")
        assert len(alice.preparations(block.slots).bits) == len(block.bits)


def test_long_fibres_are_measured_in_longer_blocks(bench: Bench) -> None:
    _, bob = bench.both({"length_km": 200.0})
    slots = [next_block(bob).num_slots for _ in range(4)]
    assert slots[-1] == 1 << 26


def test_slots_without_light_have_preparations_too(bench: Bench) -> None:
    alice, bob = bench.both()
    block = next_block(bob)
    every = np.arange(block.first_slot, block.first_slot + block.num_slots, dtype="<u8").tobytes()
    first, again = alice.preparations(every), alice.preparations(every)
    assert first == again
    counts = np.bincount(np.frombuffer(first.intensities, np.uint8), minlength=3)
    for count, share in zip(counts.tolist(), (0.8, 0.15, 0.05), strict=True):
        assert near(count, block.num_slots, share)
    assert near(sum(first.bits), block.num_slots, 0.5)
    assert near(sum(first.bases), block.num_slots, 0.1)


def test_what_is_released_is_forgotten(bench: Bench) -> None:
    alice, bob = bench.both()
    first, second = next_block(bob), next_block(bob)
    half = np.frombuffer(second.slots, "<u8")[len(second.bits) // 2 :]
    before = alice.preparations(half.tobytes())
    alice.release(int(half[0]))
    for slots in (first.slots, second.slots):
        with pytest.raises(RetriableError):
            alice.preparations(slots)
    assert alice.preparations(half.tobytes()) == before
    with pytest.raises(FatalError):
        alice.preparations(half[::-1].tobytes())
    with pytest.raises(FatalError):
        alice.preparations(b"123")


def test_a_ledger_that_is_never_released_stays_bounded() -> None:
    ledger = Ledger(CtrDrbg(os.urandom))
    borders = Odds(SOURCE, Receiving()).dark_borders
    number = MAX_PULSES // 4
    slots, choices = np.arange(number, dtype=np.uint32), np.zeros(number, np.uint8)
    for block in range(6):
        ledger.add(block * number, number, borders, slots, choices)
    assert ledger.pulses == MAX_PULSES
    with pytest.raises(RetriableError, match="1 of these slots were never sent, are released, or are forgotten"):
        ledger.choices(np.array([0], np.uint64))


def test_only_light_crosses_the_fibre(bench: Bench) -> None:
    """What is on the socket besides the clock: slots, photon numbers and states, and no slot without a photon."""
    alice = bench.open("alice")
    with fibre.connect(fibre.default_fibre(str(bench.folder / "alice"), "local"), 5.0) as end:
        light = fibre.ask(end, fibre.Question(1 << 18), 5.0)
    words = np.frombuffer(light.words, "<i4")
    slots, photons, states = np.cumsum(words >> 8) - 1, words >> 2 & 63, words & 3
    assert photons.min() >= 1
    assert near(len(words), light.num_slots, Odds(SOURCE, Receiving()).light)
    made = alice.preparations((slots.astype("<u8") + np.uint64(light.first_slot)).tobytes())
    # Without an eavesdropper the state is what Alice prepared …
    assert (states >> 1).astype(np.uint8).tobytes() == made.bases
    assert (states & 1).astype(np.uint8).tobytes() == made.bits
    intensities = np.frombuffer(made.intensities, np.uint8)
    assert set(intensities[photons == 1].tolist()) == {0, 1}  # … and its intensity does not show


def test_bob_draws_bases_that_alice_cannot_know(bench: Bench) -> None:
    """Equal seeds of the physics and another pool: the light is the same, Bob's bases are not."""
    bases: list[bytes] = []
    for pool in (1, 1, 2):
        alice = bench.open("alice")
        alice.open(bench.context("alice", 5))
        bob = SimQkd(settings(role="bob", dead_time_ns=0.0, dark_count_probability=0.0))
        bench.drivers.append(bob)
        bob.open(bench.context("bob", pool))
        bases.append(next_block(bob).bases)
        bob.close()
        alice.close()
    assert bases[0] == bases[1] != bases[2]
    both = np.frombuffer(bases[0], np.uint8) == np.frombuffer(bases[2], np.uint8)
    assert near(int(both.sum()), len(both), 0.82)


def test_each_end_refuses_the_work_of_the_other(bench: Bench) -> None:
    alice, bob = bench.both()
    with pytest.raises(FatalError):
        alice.read_block(0.1)
    with pytest.raises(FatalError):
        bob.preparations(b"")
    with pytest.raises(FatalError):
        bob.release(0)


def test_bob_opens_in_the_dark_and_sees_light_when_alice_comes(bench: Bench) -> None:
    bob = bench.open("bob")
    assert bob.health().state is OperatingState.DEGRADED
    with pytest.raises(RetriableError):
        bob.read_block(0.1)
    alice = bench.open("alice")
    assert alice.health().state is OperatingState.UP
    assert bob.health().state is OperatingState.UP
    assert len(next_block(bob).bits) > 0


def test_a_new_alice_is_found_and_does_not_know_old_slots(bench: Bench) -> None:
    alice, bob = bench.both()
    old = next_block(bob)
    alice.close()
    alice.open(bench.context("alice", 99))
    new = next_block(bob)
    assert new.first_slot != old.first_slot + old.num_slots
    assert len(alice.preparations(new.slots).bits) == len(new.bits)
    with pytest.raises(RetriableError):
        alice.preparations(old.slots)


def test_a_new_bob_goes_on_with_the_same_alice(bench: Bench) -> None:
    alice, bob = bench.both()
    next_block(bob)
    bob.close()
    other = bench.open("bob")
    block = next_block(other)
    assert len(alice.preparations(block.slots).bits) == len(block.bits)


def test_the_end_that_was_killed_leaves_no_hindrance(bench: Bench) -> None:
    code = (
        "import os, sys\nfrom qedge_driver_api import DriverContext, settings_from_mapping\n"
        "from qedge_drivers.sim_qkd import SimQkd, SimQkdSettings\n"
        "driver = SimQkd(settings_from_mapping(SimQkdSettings, {'role': 'alice'}))\n"
        "driver.open(DriverContext('alice', sys.argv[1], os.urandom, lambda: False))\n"
        "print('open', flush=True)\nsys.stdin.read()\n"
    )
    (bench.folder / "alice").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", code, str(bench.folder / "alice")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        bob = bench.open("bob")
        next_block(bob)
        child.kill()
    with pytest.raises(RetriableError):
        bob.read_block(1.0)
    bench.open("alice")
    next_block(bob)


def test_closing_is_legal_at_any_time(bench: Bench) -> None:
    never = SimQkd(settings(role="alice"))
    never.close()
    assert never.health().state is OperatingState.DOWN
    alice, bob = bench.both()
    for driver in (alice, bob):
        driver.close()
        driver.close()
        assert driver.health().state is OperatingState.DOWN
    with pytest.raises(RetriableError):
        bob.read_block(0.1)
    with pytest.raises(RetriableError):
        alice.preparations(b"")
    assert not list(bench.folder.glob("*.sock"))
    assert all(thread.name != "fibre" for thread in threading.enumerate())


def test_a_fibre_may_have_a_long_path_or_run_over_tcp(bench: Bench) -> None:
    folder = bench.folder / ("deep" * 30)
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for place in (f"unix:{folder}/fibre", f"tcp:127.0.0.1:{port}"):
        alice, bob = bench.both({"fibre": place}, {"fibre": place})
        block = next_block(bob)
        assert len(alice.preparations(block.slots).bits) == len(block.bits)
        alice.close()


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\n\r\n", struct.pack("<4sHxxQdd", b"QFIB", 2, 2**60, 1.0, 1.0), b"\0" * 16]
)
def test_nonsense_on_the_fibre_does_not_reach_alice(bench: Bench, noise: bytes) -> None:
    _, bob = bench.both()
    with fibre.connect(fibre.default_fibre(str(bench.folder / "alice"), "local"), 5.0) as end:
        end.sendall(noise)
        end.settimeout(5.0)
        with contextlib.suppress(ConnectionResetError):
            assert end.recv(1) == b""
    next_block(bob)


def test_peers_that_say_nothing_do_not_keep_bob_from_the_light(bench: Bench) -> None:
    _, bob = bench.both()
    place = fibre.default_fibre(str(bench.folder / "alice"), "local")
    silent = [fibre.connect(place, 5.0) for _ in range(6)]
    next_block(bob)
    for end in silent:
        end.close()


def reply(first: int = 0, slots: int = 8, clock: float = 1e9, number: int = 0, body: bytes = b"") -> bytes:
    return struct.pack("<4sHHQQdQ", b"QFIB", 2, 0, first, slots, clock, number) + body


def word(gap: int, photons: int = 1, state: int = 0) -> bytes:
    return struct.pack("<i", gap << 8 | photons << 2 | state)


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff" * 64,
        reply(number=2**40),
        reply(slots=2**40),
        reply(first=2**63),
        reply(clock=math.nan),
        reply(clock=0.0),
        reply(number=1, body=word(9)),
        reply(number=1, body=word(0)),
        reply(number=1, body=word(-1)),
        reply(number=2, body=word(8) + word(1)),
        reply(number=2, body=word(3) + word(0)),
    ],
)
def test_bob_believes_no_impossible_light(bench: Bench, answer: bytes) -> None:
    bob = bench.open("bob")
    with answering(bench.folder / "fibre-local.sock", lambda end: end.sendall(answer)), pytest.raises(RetriableError):
        bob.read_block(5.0)
    bench.open("alice")
    next_block(bob)


def test_light_that_does_not_come_in_time_is_none(bench: Bench) -> None:
    bob = bench.open("bob")
    with answering(bench.folder / "fibre-local.sock", lambda end: end.sendall(reply(number=4)[:20])):
        assert bob.read_block(0.05) is None


def test_light_that_comes_late_is_waited_for_and_not_asked_for_again(bench: Bench) -> None:
    bob, slow = bench.open("bob"), threading.Event()

    def late(end: socket.socket) -> None:
        slow.wait(10)
        end.sendall(reply(number=1, body=word(3)))

    with answering(bench.folder / "fibre-local.sock", late):  # it takes one connection, and one question
        for _ in range(3):
            assert bob.read_block(0.01) is None
        slow.set()
        next_block(bob)


@pytest.mark.parametrize("clock_hz", [1e-300, 1.0, 0.0, float("nan"), float("inf")])
def test_light_that_would_take_years_to_come_is_no_light(tmp_path: Path, clock_hz: float) -> None:
    """Bob waits for as long as a block takes: one odd answer must not keep him from every later block."""
    place = f"unix:{tmp_path}/fibre"
    alice = fibre.FibreEnd(place, lambda asked: fibre.Light(0, asked.num_slots, clock_hz, memoryview(b"")))
    with fibre.connect(place, 5.0) as end, pytest.raises(RetriableError, match="no light"):
        fibre.ask(end, fibre.Question(1 << 18), 5.0)
    alice.close()


def test_no_light_is_made_for_who_has_left(tmp_path: Path) -> None:
    asked, go = list[int](), threading.Event()

    def shine(question: fibre.Question) -> fibre.Light:
        asked.append(question.num_slots)
        go.wait(10)
        return fibre.Light(0, question.num_slots, 1e9, memoryview(b""))

    place = f"unix:{tmp_path}/fibre"
    alice = fibre.FibreEnd(place, shine)
    ends = []
    for slots in (1, *(2 for _ in range(20))):
        ends.append(fibre.connect(place, 5.0))
        ends[-1].sendall(struct.pack("<4sHxxQdd", b"QFIB", 2, slots, 1.0, 1.0))
        while not asked:
            time.sleep(0.001)
    for end in ends[1:]:
        end.close()
    go.set()
    with fibre.connect(place, 5.0) as last:
        assert fibre.ask(last, fibre.Question(8), 5.0).num_slots == 8
    ends[0].close()
    alice.close()
    assert asked == [1, 8]


class answering:  # noqa: N801 - a context manager that reads as a verb
    """A peer at Alice's place that answers one request, then waits for the end of the test."""

    def __init__(self, path: Path, answer: Callable[[socket.socket], None]) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._answer = answer
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        end, _ = self._listener.accept()
        with end:
            end.recv(64)
            self._answer(end)
            self._done.wait(30)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._listener.close()


def test_a_pool_that_fails_shows_in_health_and_passes(bench: Bench) -> None:
    alice, bob = bench.both()
    broken = True
    pool = random.Random(1).randbytes

    def random_bytes(number: int) -> bytes:
        if broken and threading.current_thread().name == "fibre":
            raise RuntimeError("no pool")
        return pool(number)

    alice.open(DriverContext("alice", str(bench.folder / "alice"), random_bytes, lambda: False))
    with pytest.raises(RetriableError):
        bob.read_block(5.0)
    assert alice.health().state is OperatingState.DEGRADED
    broken = False
    next_block(bob)
    assert alice.health().state is OperatingState.UP


@pytest.mark.parametrize(
    "values",
    [
        {"mean_photon_numbers": [0.1, 0.5], "intensity_probabilities": [0.5, 0.5]},
        {"mean_photon_numbers": [0.5, 0.1]},
        {"intensity_probabilities": [0.5, 0.4, 0.05]},
        {"link": "../up"},
        {"fibre": "serial:/dev/tty"},
        {"fibre": "tcp:host:high"},
        {"eve_fraction": 1.5},
        {"role": "eve"},
    ],
)
def test_settings_that_cannot_work_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(BadSettingsError):
        SimQkd(settings(**{"role": "alice", **values}))


def test_an_idle_link_costs_no_processor_time(bench: Bench) -> None:
    bench.both()
    before = time.process_time()
    threading.Event().wait(0.2)
    assert time.process_time() - before < 0.1
