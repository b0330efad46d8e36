"""Jobs for other nodes while broker, runner, origin or the network between them fail: each ends done, and once."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from benchmarks.cable import Cable
from qedge.base.errors import QedgeError
from qedge.cli.demo.scenes import heavy_program
from qedge.wire.jobs import JobState, JobSubmission
from qedge.wire.mesh import PeerState
from qedge.wire.topics import Channel, every_node, parse_topic
from tests.integration.bus_site import MOSQUITTO
from tests.integration.daemon_process import wait_ended
from tests.integration.fleet_world import MQTT_ONLY, QPU, FleetWorld

pytestmark = pytest.mark.integration

SOME_KIND = "mosquitto" if MOSQUITTO else "iotcore"
PROGRAM = heavy_program(12, 8)
GAP_S = 0.1
ENOUGH = 12
TRANSIENT = ("client.no_daemon", "client.timeout", "internal.stopping", "job.no_node")
Trouble = Callable[[FleetWorld], Awaitable[None]]


# where there is mosquitto, the bundled broker has its turn in the long run
@pytest.fixture(params=["mosquitto", pytest.param("iotcore", marks=[pytest.mark.long] if MOSQUITTO else [])])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "mosquitto" and MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    return str(request.param)


@contextlib.asynccontextmanager
async def two_runners(folder: Path, kind: str, *, cable: bool = False) -> AsyncIterator[tuple[FleetWorld, Cable]]:
    """Start origin `a`, which has no QPU, and runners `b` and `c`; `b` hangs on a cable where one is wanted."""
    async with FleetWorld(folder, kind) as world, Cable(world.broker.port) as line:
        world.start("a")
        world.start("b", QPU + (MQTT_ONLY if cable else ""), port=line.port if cable else 0)
        world.start("c", QPU)
        await world.wait_together("a", "b", "c")
        for runner in "bc":
            await world.wait_peer("a", runner, lambda peer: any(each.kind == "qpu" for each in peer.capabilities))
        yield world, line


async def _broker_dies_twice(world: FleetWorld) -> None:
    for _ in range(2):
        world.broker.kill()
        await asyncio.sleep(1.5)
        world.broker.start()
        await world.wait_up("a", "b", "c")
        await asyncio.sleep(0.5)


async def _runner_dies(world: FleetWorld) -> None:
    world.daemons["b"].kill()
    await asyncio.sleep(0.7)
    world.daemons["b"].start()
    await world.wait_state("a", "b", PeerState.ALIVE)


async def _origin_dies(world: FleetWorld) -> None:
    world.daemons["a"].kill()
    await asyncio.sleep(0.7)
    world.daemons["a"].start()
    await world.wait_up("a")


@pytest.mark.long
async def test_jobs_away_end_once_though_the_broker_dies_twice(tmp_path: Path, kind: str) -> None:
    async with two_runners(tmp_path, kind) as (world, _):
        await _check_through(world, _broker_dies_twice)


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(_runner_dies, id="runner", marks=pytest.mark.long),
        pytest.param(_origin_dies, id="origin", marks=pytest.mark.long),
    ],
)
async def test_jobs_away_end_once_though_a_node_dies(tmp_path: Path, trouble: Trouble) -> None:
    async with two_runners(tmp_path, SOME_KIND) as (world, _):
        await _check_through(world, trouble)


@pytest.mark.parametrize(
    "outage_s",
    [
        pytest.param(8, id="short", marks=pytest.mark.long),
        pytest.param(30, id="long", marks=[pytest.mark.long, pytest.mark.timeout(300)]),
    ],
)
async def test_jobs_away_end_once_when_the_network_to_their_runner_fails(tmp_path: Path, outage_s: float) -> None:
    async with two_runners(tmp_path, SOME_KIND, cable=True) as (world, line):

        async def partition(world: FleetWorld) -> None:
            line.freeze()
            await world.wait_state("a", "b", PeerState.DEAD)
            await asyncio.sleep(outage_s)
            line.mend()
            await world.wait_state("a", "b", PeerState.ALIVE)

        await _check_through(world, partition)


@pytest.mark.long
async def test_messages_that_are_delivered_again_have_no_effect(tmp_path: Path) -> None:
    async with FleetWorld(tmp_path, SOME_KIND) as world, world.stranger() as stranger:
        recorded: list[tuple[str, bytes, int]] = []
        for channel in (Channel.HELLO, Channel.SEALED, Channel.BIRTH, Channel.PULSE):
            await stranger.subscribe(every_node("fleet", channel), qos=1)
        recording = asyncio.create_task(_record(stranger.messages, recorded))
        world.start("a", MQTT_ONLY)
        world.start("b", MQTT_ONLY + QPU)
        await world.wait_together("a", "b")
        await world.wait_peer("a", "b", lambda peer: any(each.kind == "qpu" for each in peer.capabilities))
        accepted = dict([await _submit(world, number, "b") for number in range(5)])
        await wait_ended(world.daemons["a"], list(accepted.values()))
        await asyncio.sleep(1.0)
        recording.cancel()
        heard = {parsed[2] for where, _, _ in recorded if (parsed := parse_topic(where))}
        assert heard == {Channel.HELLO, Channel.SEALED, Channel.BIRTH, Channel.PULSE}
        before = {at: await world.peer(at, of) for at, of in (("a", "b"), ("b", "a"))}
        ran = _runs(world, "b")

        for _ in range(3):
            for where, payload, qos in recorded:
                await stranger.publish(where, payload, qos=qos)
        assert (await world.wait_ping("a", "b")).rtt_ms
        assert (await world.wait_ping("b", "a")).rtt_ms
        await world.wait_together("a", "b")
        for at, known in before.items():
            after = await world.peer(at, "b" if at == "a" else "a")
            assert known is not None
            assert after is not None
            assert (after.epoch, after.key_id) == (known.epoch, known.key_id)
            assert after.session.opened_utc_ns == known.session.opened_utc_ns
        assert _runs(world, "b") == ran == Counter(dict.fromkeys(accepted.values(), 1))
        assert not world.events("a", "peer.duplicate") + world.events("b", "mesh.duplicate_identity")


async def _record(messages: object, recorded: list[tuple[str, bytes, int]]) -> None:
    async for message in messages:  # type: ignore[attr-defined] # aiomqtt exports no name for the type
        recorded.append((str(message.topic), bytes(message.payload), int(message.qos)))  # noqa: PERF401 - it never ends


async def _check_through(world: FleetWorld, trouble: Trouble) -> None:
    """Submit jobs for `b` and for any node without pause through the trouble, and check what became of them."""
    accepted: dict[str, str] = {}
    submitting = asyncio.create_task(_submit_for_ever(world, accepted))
    await asyncio.sleep(0.6)
    await trouble(world)
    await asyncio.sleep(0.3)
    async with asyncio.timeout(60):
        while len(accepted) < ENOUGH:
            await asyncio.sleep(0.1)
    submitting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await submitting
    jobs = await wait_ended(world.daemons["a"], list(accepted.values()), 90)
    wrong = [(job.id, job.node, job.error) for job in jobs if job.state is not JobState.DONE]
    assert not wrong
    assert {job.node for job in jobs} == {"b", "c"}
    rows = _rows(world, "a", "SELECT id, client_key, state FROM jobs")
    assert Counter(key for _, key, _ in rows if key in accepted) == Counter(dict.fromkeys(accepted, 1))
    # what waits for `b` runs once; what any node may run runs again where its lease ended
    bound = {job_id for key, job_id in accepted.items() if int(key.removeprefix("job-")) % 2}
    runs = _runs(world, "b")
    assert {job_id: runs[job_id] for job_id in bound} == dict.fromkeys(bound, 1)
    assert set(runs + _runs(world, "c")) >= set(accepted.values())


def _rows(world: FleetWorld, node: str, query: str) -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(world.folder / node / "qedge.sqlite3", timeout=10)) as connection:
        return connection.execute(query).fetchall()


def _runs(world: FleetWorld, runner: str) -> Counter[str]:
    """Count, by their ids, the jobs that a runner has run with success: for others, or after it had adopted them."""
    lent = "SELECT client_key FROM jobs WHERE client LIKE 'node:%' AND client_key <> '' AND state = 'done'"
    own = f"SELECT id FROM jobs WHERE client NOT LIKE 'node:%' AND runner = '{runner}' AND state = 'done'"  # noqa: S608 - constant
    rows = _rows(world, runner, f"{lent} UNION ALL {own}")
    return Counter(key for (key,) in rows)


async def _submit(world: FleetWorld, number: int, node: str) -> tuple[str, str]:
    """Submit one job; one whose answer was lost is submitted again with the same key."""
    key = f"job-{number}"
    submission = JobSubmission(program=PROGRAM, shots=100, seed=number, client_key=key, node=node)
    while True:
        try:
            async with world.daemons["a"].client() as client:
                return key, (await client.submit(submission)).id
        except QedgeError as error:
            assert error.code in TRANSIENT, error
            await asyncio.sleep(0.1)


async def _submit_for_ever(world: FleetWorld, accepted: dict[str, str]) -> None:
    number = 0
    while True:
        key, job_id = await _submit(world, number, "b" if number % 2 else "any")
        accepted[key] = job_id
        number += 1
        await asyncio.sleep(GAP_S)
