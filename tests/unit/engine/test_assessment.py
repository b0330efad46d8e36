"""Assessments: circuits that are as random as they say, figures that agree with what was set, verdicts that hold."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.engine.assessment.circuits import cycle_circuit, haar_pair, volume_circuit
from qedge.engine.assessment.course import Course
from qedge.engine.assessment.service import AssessmentService
from qedge.engine.assessment.verdict import best_of, fit_decay, passes_volume, worse_in
from qedge.engine.config import EngineConfig
from qedge.store.store import Store
from qedge.wire.assessment import Assessment
from qedge.wire.node import Fact
from qedge.workers.model import Msg
from qedge_driver_api import DriverContext, QpuTask
from qedge_drivers.sim_qpu import SimQpu
from tests.unit.engine.test_circuit_host import host

GOOD = Assessment("qpu", 1, 1.0, 1, "1", "cpu", 0.1, True, 30, 10, 10, 100, 0.85, 1e6, 0.999, 1e-4, 10.0, 30.0)


def test_gates_on_pairs_have_the_moments_of_the_haar_measure() -> None:
    rng = np.random.default_rng(5)
    traces = np.abs([np.trace(haar_pair((0, 1), rng)[1]) for _ in range(4000)])
    for power, moment, spread in ((2, 1, 1.0), (4, 2, 4.5), (6, 6, 27.0)):
        assert float(np.mean(traces**power)) == pytest.approx(moment, abs=5 * spread / math.sqrt(len(traces)))


@pytest.mark.parametrize("width", [2, 3, 5])
def test_circuits_give_the_probabilities_that_come_with_them(width: int) -> None:
    rng = np.random.default_rng(width)
    made = SimQpu(SimQpu.Settings())
    made.open(DriverContext("qpu", "", bytes, lambda: False))
    for known in (volume_circuit(width, rng), cycle_circuit(width, rng)):
        counts = made.result(made.submit(QpuTask(known.circuit, 200_000, 3))).counts
        seen = np.array([counts.get(value, 0) / 200_000 for value in range(len(known.probabilities))])
        assert float(np.sum(known.probabilities)) == pytest.approx(1)
        assert float(np.abs(seen - known.probabilities).max()) < 6 * 0.5 / math.sqrt(200_000)


class InProcessQpu:
    """Fills `MeasurableQpu` with a circuit host in this process."""

    name = "qpu"
    is_ready = True
    simulated = True

    def __init__(self, **settings: object) -> None:
        self._host = host(**settings)
        self.slow_s = 0.0
        self.steps: list[str] = []

    async def call(self, method: str, args: Mapping[str, Msg], *, deadline_s: float, light: bool = False) -> Msg:
        """Do it here and now."""
        assert method == "assess"
        assert light
        assert deadline_s > 0
        self.steps.append(str(args["step"]))
        return self._host.handle(method, args)


class Host:
    """A machine without load."""

    def available_bytes(self) -> int:
        return 2**30

    def cores(self) -> int:
        return 2

    def load(self) -> float:
        return 0.1

    def cpu_model(self) -> str:
        return "cpu"


async def no_pause() -> None:
    await asyncio.sleep(0)


async def assessed(**settings: object) -> Assessment:
    course = Course(InProcessQpu(**settings), 11, ManualClock(now_ns=1), pause=no_pause)
    return await course.run(2**30, 300.0, Host())


@pytest.mark.long
async def test_an_ideal_simulator_is_found_ideal() -> None:
    found = await assessed()
    assert (found.log2_volume, found.volume_limit, found.notes) == (10, 10, ())
    # the mean share of heavy outputs of wide random circuits is (1 + ln 2) / 2
    assert found.heavy_output == pytest.approx((1 + math.log(2)) / 2, abs=0.02)
    assert abs(1 - found.cycle_fidelity) < 5 * found.cycle_fidelity_error + 1e-6
    assert found.clops > 0
    assert 0 < found.decode_p50_us <= found.decode_p99_us
    assert 20 <= found.state_qubits <= 27, "a gigabyte holds a state of 27 qubits"


@pytest.mark.long
async def test_a_noisy_device_is_found_as_noisy_as_it_was_set() -> None:
    found = await assessed(preset="custom", qubits=4, fidelity_2q=0.99)
    assert found.cycle_fidelity == pytest.approx(0.99, abs=5 * found.cycle_fidelity_error)
    assert found.cycle_fidelity_error < 0.002
    worse = await assessed(preset="custom", qubits=4, fidelity_2q=0.75)
    assert worse.log2_volume < found.log2_volume <= found.volume_limit == 4


def test_heavy_outputs_pass_only_by_two_standard_errors() -> None:
    assert passes_volume([0.84] * 100)
    assert not passes_volume([0.70] * 100)
    assert not passes_volume([0.84] * 4), "too few circuits to be sure"


def test_a_fit_gives_back_the_decay_it_was_made_of() -> None:
    depths, kept = (2, 8, 20, 40), 0.98
    rng = np.random.default_rng(1)
    ideal = [[float(x) for x in rng.random(50) + 0.5] for _ in depths]
    seen = [
        [0.9 * kept**depth * best + float(rng.normal(0, 0.01)) for best in row]
        for depth, row in zip(depths, ideal, strict=True)
    ]
    decay = fit_decay(depths, seen, ideal)
    assert decay.fidelity == pytest.approx(1 - (1 - kept) * 0.75, abs=4 * decay.error)
    assert fit_decay(depths, [[0.0] * 50] * 4, ideal).fidelity == 0


@pytest.mark.parametrize(
    ("change", "loaded", "degraded"),
    [
        ({}, False, False),
        ({"clops": 4e5}, False, True),
        ({"clops": 4e5}, True, False),
        ({"clops": 0.0}, False, False),
        ({"log2_volume": 9}, False, False),
        ({"log2_volume": 7}, False, True),
        ({"cycle_fidelity": 0.9985}, False, False),
        ({"cycle_fidelity": 0.99}, False, True),
        ({"decode_p99_us": 200.0}, False, True),
        ({"state_qubits": 27}, True, True),
    ],
)
def test_a_qpu_is_degraded_where_it_is_clearly_worse_than_at_its_best(
    change: Mapping[str, float], *, loaded: bool, degraded: bool
) -> None:
    assert bool(worse_in(GOOD, msgspec.structs.replace(GOOD, **change), loaded=loaded)) is degraded
    assert worse_in(None, GOOD, loaded=False) == ()


def test_the_best_is_kept_figure_by_figure() -> None:
    later = msgspec.structs.replace(GOOD, clops=2e6, log2_volume=8, cycle_fidelity=0.0, decode_p99_us=0.0)
    best = best_of(GOOD, later)
    assert (best.clops, best.log2_volume, best.cycle_fidelity, best.decode_p99_us) == (2e6, 10, 0.999, 30.0)


class FakeQpu:
    """Answers the steps of an assessment at once; `speed` is in layers a second."""

    name = "qpu"
    is_ready = True
    simulated = True
    speed = 1e6
    error: QedgeError | None = None
    failing = ""

    async def call(self, method: str, args: Mapping[str, Msg], *, deadline_s: float, light: bool = False) -> Msg:
        """Answer a step."""
        assert (method, light, deadline_s > 0) == ("assess", True, True)
        if self.error is not None and args["step"] == self.failing:
            raise self.error
        return {
            "qubits": 4,
            "heavy": [0.85] * 5,
            "layers": 1000,
            "took_s": 1000 / self.speed,
            "seen": [1.0] * 20,
            "ideal": [1.0] * 20,
            "times_us": [10.0] * 10,
        }


def service(tmp_path: Path, qpus: Sequence[FakeQpu], told: list[Mapping[str, Fact]]) -> AssessmentService:
    return AssessmentService(
        EngineConfig(),
        Store(tmp_path / "node.sqlite3", metrics=Metrics()),
        qpus=lambda: qpus,
        host=Host(),
        busy=lambda: False,
        note=lambda name, facts: told.append({"name": name, **facts}),
        clock=ManualClock(now_ns=10**9),
        metrics=Metrics(),
        random_bytes=os.urandom,
    )


async def test_what_was_found_is_told_and_a_slower_qpu_is_degraded_until_it_is_fast_again(
    tmp_path: Path,
) -> None:
    qpu, told = FakeQpu(), list[Mapping[str, Fact]]()
    made = service(tmp_path, [qpu], told)
    first = await made.assess("qpu")
    assert (first.log2_volume, first.clops, first.degraded) == (4, pytest.approx(1e6), ())
    assert told[-1]["assessed_log2_volume"] == 4
    assert told[-1]["degraded"] == ""
    qpu.speed = 1e5
    assert (await made.assess("qpu")).degraded
    assert "layers a second" in str(told[-1]["degraded"])
    assert (await made.assess("qpu")).degraded, "the best is not forgotten by being slow twice"
    qpu.speed = 1e6
    assert (await made.assess("qpu")).degraded == ()


async def test_a_figure_that_cannot_be_measured_is_left_out_with_its_reason(tmp_path: Path) -> None:
    qpu = FakeQpu()
    qpu.failing, qpu.error = "decode", QedgeError("job.bad_option", "No decoder here.")
    found = await service(tmp_path, [qpu], []).assess("qpu")
    assert (found.decode_p99_us, found.notes) == (0.0, ("No decoder here.",))
    assert found.clops > 0


async def test_a_worker_that_dies_ends_the_assessment_and_an_unknown_qpu_is_said_so(tmp_path: Path) -> None:
    qpu = FakeQpu()
    qpu.failing, qpu.error = "volume", QedgeError("worker.crashed", "It died.")
    made = service(tmp_path, [qpu], [])
    for name, code in (("qpu", "worker.crashed"), ("nobody", "driver.not_found")):
        with pytest.raises(QedgeError) as caught:
            await made.assess(name)
        assert caught.value.code == code
    qpu.is_ready = False
    with pytest.raises(QedgeError) as caught:
        await made.assess("qpu")
    assert caught.value.code == "job.no_qpu"
