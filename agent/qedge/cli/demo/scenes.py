"""What `qedge demo` shows: each scene drives the real daemon through its public interface and judges what came back."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from qedge.base.errors import QedgeError
from qedge.wire.jobs import JobState, JobSubmission, JobView
from qedge.wire.node import DriverChange, DriverView, LinkMeasure, NodeStatus, RandomRequest

if TYPE_CHECKING:
    from qedge.client.node import NodeClient

SHOTS: Final = 2000
KILL_QUBITS: Final = 23
_KILLS: Final = 3
"""Wide enough that the job runs for about a second, so that its worker can be killed under it."""

Fact = str | int | float | bool
Facts = dict[str, Fact]


class Narrator(Protocol):
    """Where a scene tells what it sees; silent for `--json`."""

    def say(self, line: str) -> None:
        """Print one line."""
        ...

    def histogram(self, counts: dict[str, int]) -> None:
        """Draw the outcome of a job."""
        ...


class SceneReceipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a scene found: `facts` are the figures a reader may check, `error` says why it failed."""

    name: str
    ok: bool
    seconds: float
    facts: Facts = {}
    error: str = ""


class SceneFailedError(Exception):
    """Something the demo promised did not happen."""


def require(condition: bool, sentence: str) -> None:
    """Fail the scene with `sentence` where the condition does not hold."""
    if not condition:
        raise SceneFailedError(sentence)


def circuit(name: str) -> str:
    """Return the OpenQASM text of one of the demo's circuits."""
    return resources.files("qedge.cli.demo").joinpath("circuits", f"{name}.qasm").read_text("utf-8")


async def play(name: str, scene: Awaitable[Facts], narrator: Narrator, limit_s: float) -> SceneReceipt:
    """Run one scene within `limit_s` seconds and write its receipt."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(limit_s):
            facts = await scene
    except TimeoutError:
        error = f"took longer than {limit_s:.0f} s"
    except (SceneFailedError, QedgeError) as failure:
        error = str(failure)
    else:
        return SceneReceipt(name, True, round(time.monotonic() - started, 3), facts)
    narrator.say(f"FAILED: {error}")
    return SceneReceipt(name, False, round(time.monotonic() - started, 3), error=error)


async def _run(client: NodeClient, program: str, shots: int = SHOTS) -> JobView:
    job = await client.submit(JobSubmission(program=program, shots=shots, seed=7))
    while job.state in (JobState.QUEUED, JobState.RUNNING):
        job = await client.job(job.id, wait_s=10.0)
    reason = job.error.title if job.error else ""
    require(job.state is JobState.DONE and job.result is not None, f"the job ended as {job.state}: {reason}")
    return job


def _counts(job: JobView) -> dict[str, int]:
    require(job.result is not None, "the job has no result")
    return job.result.counts if job.result else {}


async def ghz(client: NodeClient, narrator: Narrator) -> Facts:
    """Twelve qubits that agree: all 0 or all 1, about half and half."""
    job = await _run(client, circuit("ghz"))
    counts = _counts(job)
    narrator.histogram(counts)
    ends = counts.get("0" * 12, 0) + counts.get("1" * 12, 0)
    require(ends == SHOTS, f"{SHOTS - ends} shots are neither all 0 nor all 1")
    spread = abs(counts.get("0" * 12, 0) - SHOTS / 2) / math.sqrt(SHOTS / 4)
    require(spread < 5, f"the two outcomes are {spread:.1f} sigma from half and half")
    result = job.result
    timings = {f"{stage}_ms": round(value * 1e3, 3) for stage, value in (result.timings_s if result else {}).items()}
    narrator.say("  ".join(f"{name} {value}" for name, value in timings.items()))
    return {"qubits": 12, "shots": SHOTS, **timings}


async def real_circuits(client: NodeClient, narrator: Narrator) -> Facts:
    """Four textbook programs whose answers are known."""
    facts: Facts = {}
    for name, expected in (("bernstein_vazirani", "1011001"), ("phase_estimation", "001")):
        counts = _counts(await _run(client, circuit(name)))
        require(counts == {expected: SHOTS}, f"{name} should give {expected} always, gave {counts}")
        narrator.say(f"{name}: {expected} in every shot")
        facts[name] = expected
    for name, bit, probability in (("grover", "101", 0.9453), ("teleport", "1", math.sin(0.5) ** 2)):
        counts = _counts(await _run(client, circuit(name)))
        hits = sum(number for bits, number in counts.items() if bits.startswith(bit))
        sigma = math.sqrt(SHOTS * probability * (1 - probability))
        require(abs(hits - SHOTS * probability) < 5 * sigma, f"{name}: {hits} of {SHOTS}, expected {probability:.4f}")
        narrator.say(f"{name}: {bit} in {hits / SHOTS:.1%} of the shots (theory {probability:.1%})")
        facts[name] = round(hits / SHOTS, 4)
    return facts


async def _driver(client: NodeClient, kind: str, role: str = "") -> DriverView:
    for driver in (await client.status()).drivers:
        if driver.kind == kind and (not role or driver.properties.get("role") == role):
            return driver
    raise SceneFailedError(f"no {role} {kind} driver on this node")


async def _until(client: NodeClient, condition: Callable[[NodeStatus], bool], sentence: str, limit_s: float) -> float:
    started = time.monotonic()
    while not condition(await client.status()):
        require(time.monotonic() - started < limit_s, sentence)
        await asyncio.sleep(0.05)
    return time.monotonic() - started


async def random_numbers(client: NodeClient, narrator: Narrator) -> Facts:
    """Quantum random numbers; then the source sticks, is caught, and recovers."""
    await _until(client, lambda status: status.entropy.healthy, "the random source never became healthy", 15)
    drawn = await client.random(RandomRequest(bytes=32, require_quantum=True))
    label = "simulated quantum source" if drawn.simulated else "quantum source"
    narrator.say(f"32 bytes, {label} XOR operating system: {drawn.hex}")
    source = (await client.status()).entropy.source
    await client.change_driver(source, DriverChange(settings={"stuck": True}))
    caught_s = await _until(client, lambda status: not status.entropy.healthy, "a stuck source was not caught", 15)
    try:
        await client.random(RandomRequest(bytes=32, require_quantum=True))
    except QedgeError as refusal:
        require(refusal.code == "entropy.no_quantum", f"refused for another reason: {refusal}")
    else:
        raise SceneFailedError("quantum random numbers were given out although the source is stuck")
    fallback = await client.random(RandomRequest(bytes=32))
    require(not fallback.quantum, "bytes without the source were labelled as quantum")
    narrator.say(
        f"the source sticks: caught within {max(caught_s, 0.01):.2f} s; quantum requests refused, others labelled"
    )
    await client.change_driver(source, DriverChange(settings={"stuck": False}))
    healed_s = await _until(client, lambda status: status.entropy.healthy, "the source did not recover", 20)
    narrator.say(f"the source is repaired: start-up test passed after {healed_s:.2f} s")
    return {"simulated": drawn.simulated, "caught_s": round(caught_s, 3), "recovered_s": round(healed_s, 3)}


async def eavesdropper(client: NodeClient, narrator: Narrator) -> Facts:
    """A simulated fibre: about 1 % of raw errors; with an eavesdropper about 25 %."""
    await _until(
        client,
        lambda status: all(driver.operating_state == "up" for driver in status.drivers if driver.kind == "qkd"),
        "the ends of the simulated link did not open",
        15,
    )
    alice = await _driver(client, "qkd", "alice")
    link = next((link.name for link in (await client.status()).links if link.alice == alice.name), "")
    require(bool(link), "no link is configured between the two ends")
    facts: Facts = {}
    for label, fraction, low, high in (("quiet", 0.0, 0.0, 0.03), ("eve", 1.0, 0.20, 0.30), ("after", 0.0, 0.0, 0.03)):
        await client.change_driver(alice.name, DriverChange(settings={"eve_fraction": fraction}))
        view = await client.measure_link(link, LinkMeasure(sifted=20_000))
        state = "on " if fraction else "off"
        narrator.say(f"eavesdropper {state}: {view.qber:6.2%} errors in {view.sifted} bits: {view.verdict}")
        require(low <= view.qber <= high, f"{label}: error rate {view.qber:.2%} is not within {low:.0%} … {high:.0%}")
        facts[f"qber_{label}"] = round(view.qber, 4)
    return facts


def heavy_program(num_qubits: int = KILL_QUBITS, layers: int = 20) -> str:
    """Return a program of `layers` layers of rotations and CZ gates that keeps a worker busy for about a second."""
    lines = ["OPENQASM 2.0;", 'include "qelib1.inc";', f"qreg q[{num_qubits}];", f"creg c[{num_qubits}];"]
    for layer in range(layers):
        lines += [f"ry({0.1 + 0.37 * qubit + 0.11 * layer}) q[{qubit}];" for qubit in range(num_qubits)]
        lines += [f"cz q[{qubit}],q[{qubit + 1}];" for qubit in range(layer % 2, num_qubits - 1, 2)]
    lines.append("measure q -> c;")
    return "\n".join(lines)


async def _busy_worker(client: NodeClient, job_id: str) -> int:
    while (job := await client.job(job_id)).state in (JobState.QUEUED, JobState.RUNNING):
        if job.state is JobState.RUNNING:
            for driver in (await client.status()).drivers:
                for worker in driver.workers:
                    if driver.kind == "qpu" and worker.state == "busy" and worker.pid:
                        return worker.pid
        await asyncio.sleep(0.01)
    raise SceneFailedError(f"the job ended as {job.state} before its worker could be killed")


async def worker_killed(client: NodeClient, narrator: Narrator) -> Facts:
    """A worker is killed with signal 9 under a running job; the job runs again elsewhere and ends."""
    for _ in range(_KILLS):
        job = await client.submit(JobSubmission(program=heavy_program(), shots=SHOTS, seed=7))
        pid = await _busy_worker(client, job.id)
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        narrator.say(f"job {job.id[-12:]} runs in process {pid}: killed with signal 9")
        while job.state in (JobState.QUEUED, JobState.RUNNING):
            job = await client.job(job.id, wait_s=10.0)
        recovered_s = time.monotonic() - killed
        require(job.state is JobState.DONE, f"the job ended as {job.state}")
        if job.attempts == 2:
            break
        # the worker that was killed measured the device at that moment, and the job ran in another one
    require(job.attempts == 2, f"the job took {job.attempts} attempts instead of 2")
    narrator.say(f"the job was done {recovered_s:.2f} s later by another worker; the daemon lived on")
    return {"killed_pid": pid, "attempts": job.attempts, "recovered_s": round(recovered_s, 3)}
