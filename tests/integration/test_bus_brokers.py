"""The bus behaves alike on both private brokers, mosquitto and the one of the iotcore wheel."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import psutil
import pytest
import uvloop

from qedge.base.errors import QedgeError
from qedge.bus.model import MAX_MESSAGE_BYTES, Incoming
from qedge.crypto.signed import open_signed
from qedge.wire.envelope import decode
from qedge.wire.mesh import Birth, Lost
from qedge.wire.topics import Channel, listened, topic
from tests.integration.bus_site import FLEET, MOSQUITTO, Site, running_site, until

pytestmark = pytest.mark.integration

BIRTH_OF_A = topic(FLEET, "a", Channel.BIRTH)
WORK = "qedge/v1/f/a/work"


@pytest.fixture(params=["mosquitto", pytest.param("iotcore", marks=[pytest.mark.long] if MOSQUITTO else [])])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "mosquitto" and MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    return str(request.param)


@pytest.fixture
async def site(kind: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with running_site(kind, tmp_path) as made:
        yield made


async def read_birth(site: Site, *, state: str) -> Birth:
    """Wait for a retained birth of node a that says `state`, as a newcomer would see it."""
    async with asyncio.timeout(20):
        while True:
            async with site.stranger() as newcomer:
                await newcomer.subscribe(BIRTH_OF_A, qos=1)
                try:
                    async with asyncio.timeout(0.5):
                        message = await anext(aiter(newcomer.messages))
                except TimeoutError:
                    continue
                birth = open_signed(bytes(message.payload), BIRTH_OF_A, Birth, site.fleet.trust(), time.time_ns())[1]
                if birth.state == state and message.retain:
                    return birth
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_two_nodes_talk_lose_their_broker_and_talk_again_on_either_loop(
    kind: str, loop: object, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_site(kind, tmp_path) as site:
            first, second = await site.node("a"), await site.node("b")
            for _ in range(2):
                assert len((await first.ping("b", 20, timeout_s=10)).rtt_ms) == 20
                assert len((await second.ping("a", 20, timeout_s=10)).rtt_ms) == 20
                os.kill(site.broker.pid, signal.SIGKILL)
                await until(lambda: not first.bus.connected and not second.bus.connected)
                await until(lambda: first.bus.connected and second.bus.connected)
            assert first.bus.view().reconnects == 2
            assert first.bus.view().kind == kind

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type] # parametrised
        runner.run(story())


async def test_a_node_nobody_knows_does_not_answer(site: Site) -> None:
    node = await site.node("a")
    with pytest.raises(QedgeError) as error:
        await node.mesh.ping("nobody", 1, timeout_s=0.1)
    assert error.value.code == "peer.unknown"


async def test_the_birth_outlives_its_broker_and_says_when_the_node_leaves(site: Site) -> None:
    node = await site.node("a")
    await read_birth(site, state="up")
    os.kill(site.broker.pid, signal.SIGKILL)
    await until(lambda: not node.bus.connected)
    await until(lambda: node.bus.connected)
    await read_birth(site, state="up")
    await node.stop()
    await read_birth(site, state="leaving")


async def test_a_node_that_dies_is_told_lost_by_its_will(site: Site) -> None:
    endpoint = site.broker.endpoint()
    assert endpoint is not None
    program = f"""
import asyncio, pathlib
from qedge.bus.config import BusConfig
from qedge.bus.model import Endpoint
from tests.integration.bus_site import FLEET, SiteNode
from tests.integration.fleet_site import ThrowAwayFleet

async def main() -> None:
    where = Endpoint({endpoint.host!r}, {endpoint.port}, "x", False, {endpoint.username!r}, {endpoint.password!r})
    node = SiteNode("a", lambda: where, BusConfig(), pathlib.Path("/tmp"), ThrowAwayFleet(FLEET))
    await node.start()
    print("up", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
    where = topic(FLEET, "a", Channel.LOST)
    async with site.stranger() as peer:
        await peer.subscribe(where, qos=1)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(20):
                while await process.stdout.readline() != b"up\n":
                    continue
        finally:
            process.kill()
            await process.communicate()
        message = await asyncio.wait_for(anext(aiter(peer.messages)), 20)
    assert decode(bytes(message.payload), where, Lost, 0)[1].epoch == 1
    assert not message.retain


async def test_a_slow_handler_loses_none_of_two_hundred_messages_and_never_holds_more_than_its_queue(
    site: Site,
) -> None:
    sender, receiver = await site.node("b"), await site.node("a", receive_maximum=5, queue_limit=20)
    got: list[int] = []
    longest = 0

    async def handle(message: Incoming) -> None:
        nonlocal longest
        await asyncio.sleep(0.002)
        longest = max(longest, sum(each.mid > 0 for each in receiver.bus._inbox._waiting))
        got.append(int(message.payload))

    receiver.bus.subscribe(WORK, handle)
    await receiver.ping("a", 1, timeout_s=10)  # its subscription is older than this answer
    await asyncio.gather(*(sender.bus.publish(WORK, b"%d" % number, qos=1, deadline_s=60) for number in range(200)))
    await until(lambda: len(got) >= 200)
    assert sorted(got) == list(range(200))
    assert longest <= 20


async def test_messages_for_a_node_that_is_away_wait_for_it(site: Site) -> None:
    sender, receiver = await site.node("b"), await site.node("a")
    got: list[bytes] = []

    async def handle(message: Incoming) -> None:
        got.append(message.payload)

    receiver.bus.subscribe(WORK, handle)
    await receiver.ping("a", 1, timeout_s=10)
    await receiver.stop()
    for number in range(30):
        await sender.bus.publish(WORK, b"%d" % number, qos=1)
    await receiver.start()
    await until(lambda: len(got) >= 30)
    assert got == [b"%d" % number for number in range(30)]
    assert receiver.bus.view().session_present


async def test_what_a_node_received_is_handled_although_its_broker_was_killed(site: Site) -> None:
    sender, receiver = await site.node("b"), await site.node("a")
    gate, got = asyncio.Event(), []

    async def handle(message: Incoming) -> None:
        await gate.wait()
        got.append(int(message.payload))

    receiver.bus.subscribe(WORK, handle)
    await receiver.ping("a", 1, timeout_s=10)
    for number in range(50):
        await sender.bus.publish(WORK, b"%d" % number, qos=1)
    await until(lambda: len(receiver.bus._inbox._waiting) >= 49)
    os.kill(site.broker.pid, signal.SIGKILL)
    await until(lambda: not receiver.bus.connected)
    await until(lambda: receiver.bus.connected and sender.bus.connected)
    gate.set()
    await until(lambda: len(got) >= 50)
    assert got == list(range(50))


async def test_no_publication_is_lost_while_brokers_die_under_it(site: Site) -> None:
    sender, receiver = await site.node("b"), await site.node("a")
    got: set[int] = set()

    async def handle(message: Incoming) -> None:
        number = int(message.payload)
        got.add(number)
        await receiver.bus.publish("qedge/v1/f/b/done", message.payload, qos=1)

    done: set[int] = set()

    async def note(message: Incoming) -> None:
        done.add(int(message.payload))

    receiver.bus.subscribe(WORK, handle)
    sender.bus.subscribe("qedge/v1/f/b/done", note)
    await receiver.ping("b", 1, timeout_s=10)
    await sender.ping("a", 1, timeout_s=10)
    # A broker without storage takes what it acknowledged with it: whoever must not lose a request asks until answered.
    killed = 0
    async with asyncio.timeout(60):
        while len(done) < 100:
            for number in sorted(set(range(100)) - done)[:20]:
                try:
                    await sender.bus.publish(WORK, b"%d" % number, qos=1, deadline_s=2)
                except QedgeError as error:
                    assert error.code in ("bus.unavailable", "bus.timeout")
                    await asyncio.sleep(0.02)
                if number == 15 * (killed + 1) and killed < 3:
                    killed += 1
                    os.kill(site.broker.pid, signal.SIGKILL)
            await asyncio.sleep(0.05)
    assert killed == 3
    assert got == set(range(100))


@pytest.mark.parametrize("number", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
async def test_garbage_and_oversize_messages_leave_the_node_alive(site: Site, number: int) -> None:
    node, peer = await site.node("a"), await site.node("b")
    noise = random.Random(4)
    topics = (*listened(FLEET, "a"), BIRTH_OF_A)
    sizes = [0, 1, 9, 10, 11, 64, 1000]
    async with site.stranger(max_inflight_messages=100) as attacker:
        for start in range(0, number, 250):
            await asyncio.gather(
                *(
                    attacker.publish(topics[index % 3], noise.randbytes(sizes[index % 7]), qos=index % 2, timeout=60)
                    for index in range(start, start + 250)
                )
            )
    for size in (MAX_MESSAGE_BYTES + 1, MAX_MESSAGE_BYTES + 2_000, 2_000_000):
        try:
            async with site.stranger(timeout=3) as attacker:
                await attacker.publish(topics[0], bytes(size), qos=1)
                await attacker.publish(topics[0], b"", qos=1)
        except aiomqtt.MqttError:
            continue  # the broker itself refuses such a packet
    assert len((await peer.ping("a", 10, timeout_s=20)).rtt_ms) == 10
    await until(lambda: node.rejected() >= number // 5)  # all of QoS 1 on the two topics it listens to, at least
    assert node.bus.view().reconnects == 0
    assert node.metrics.value("qedge_bus_rejected_total", ("handler_failed",)) == 0
    await node.stop()


async def test_who_does_not_know_the_password_gets_nothing(site: Site, tmp_path: Path) -> None:
    for changes in ({"username": None, "password": None}, {"password": "guess"}, {"username": "other"}):
        with pytest.raises(aiomqtt.MqttError):
            async with site.stranger(timeout=1, **changes):
                pytest.fail("let in")
    files = list((tmp_path / "run").iterdir())
    assert files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    endpoint = site.broker.endpoint()
    assert endpoint is not None
    process = psutil.Process(site.broker.pid)
    assert endpoint.password not in " ".join([*process.cmdline(), *process.environ().values()])
    listening = [each for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN]
    assert {each.laddr.ip for each in listening} == {"127.0.0.1"}


async def test_a_broker_that_comes_back_has_another_password(site: Site) -> None:
    before = site.broker.endpoint()
    os.kill(site.broker.pid, signal.SIGKILL)
    await until(lambda: site.broker.endpoint() is None)
    await until(lambda: site.broker.endpoint() is not None)
    after = site.broker.endpoint()
    assert before is not None
    assert after is not None
    assert before.password != after.password


async def test_a_stopped_broker_leaves_nothing_behind(kind: str, tmp_path: Path) -> None:
    async with running_site(kind, tmp_path) as site:
        pid = site.broker.pid
        await site.node("a")
    assert not psutil.pid_exists(pid)
    assert list((tmp_path / "run").iterdir()) == []


async def test_the_broker_ends_with_a_daemon_that_is_killed(kind: str, tmp_path: Path) -> None:
    program = f"""
import asyncio, pathlib
from tests.integration.bus_site import Site

async def main() -> None:
    site = Site({kind!r}, pathlib.Path({str(tmp_path)!r}))
    await site.start()
    print(site.broker.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            while not (line := await process.stdout.readline()).strip().isdigit():
                assert line, "it ended"
    finally:
        process.kill()
        await process.wait()
    pid = int(line)
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_two_nodes_of_one_name_end_their_fight_for_the_session_with_an_error(site: Site) -> None:
    nodes = [await site.node("a"), await site.node("a")]
    await until(lambda: any("same name" in node.bus.view().error for node in nodes), 60)
    (holder,) = [node for node in nodes if "same name" not in node.bus.view().error]
    await until(lambda: holder.bus.connected)
    before = holder.bus.view().reconnects
    other = await site.node("b")
    for _ in range(20):
        await other.ping("a", 5, timeout_s=10)
        await asyncio.sleep(0.02)
    assert holder.bus.view().reconnects == before


async def test_a_broker_has_no_way_to_speak_to_the_service_manager(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    async with running_site(kind, tmp_path) as made:
        given = psutil.Process(made.broker.pid).environ()
    assert not [name for name in given if name.startswith(("NOTIFY_", "WATCHDOG_"))]
