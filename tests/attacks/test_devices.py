"""Attacks on the ways by which devices come in, one test each, under the number they have in the docs."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from pathlib import Path

import pytest
from OpenSSL import SSL

from qedge.security.model import Evidence
from tests.integration.gateway_host import GatewayHost, RawClient, connect_packet, gateway, until
from tests.unit.devices.ways_in.clients import paho_subscribe, publish_311
from tests.unit.devices.ways_in.tls_files import write_certificate


async def ticks(seconds: float) -> list[float]:
    """Return in milliseconds how late a timer was, again and again: what anything else on the loop waits."""
    late: list[float] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        started = time.monotonic()
        await asyncio.sleep(0.002)
        late.append((time.monotonic() - started - 0.002) * 1e3)
    return late


async def still_works(host: GatewayHost, name: str = "sound") -> None:
    """Send one reading of a device that has nothing to do with the attack."""
    device = host.add(name)
    client = await RawClient.attach(host.port, device, source="127.0.0.7")
    client.send(publish_311(device.up_topic, device.seal("t", b"sound"), qos=1, packet_id=1))
    assert await client.read(4) == b"\x40\x02\x00\x01"
    assert host.bodies[-1] == b"sound"
    client.abort()


# A12, A13: topics of others


@pytest.mark.parametrize(
    "pattern", ["#", "$SYS/#", "+/+/keys", "qedge/v1/f/n/dev/+/down", "qedge/v1/f/n/dev/other/down"]
)
async def test_a12_a_device_cannot_listen_to_what_is_not_its_own(pattern: str) -> None:
    async with gateway() as host:
        spy, other = host.add("spy"), host.add("other")
        client = await RawClient.attach(host.port, spy)
        client.send(paho_subscribe([(pattern, 1)]))
        assert (await client.read(5))[-1] == 0x80
        assert not host.listener.send("spy", other.down_topic, b"x")
        assert ("spy", Evidence.TOPIC_SPREAD) in host.witness.oddities


@pytest.mark.parametrize(
    "group", ["$share/g/qedge/v1/f/n/dev/other/down", "$share/g/#", "$share/g/qedge/v1/f/n/dev/thief/down"]
)
async def test_a14_nobody_takes_a_share_of_what_is_for_another(group: str) -> None:
    async with gateway() as host:
        thief = host.add("thief")
        client = await RawClient.attach(host.port, thief)
        client.send(paho_subscribe([(group, 1)]))
        assert (await client.read(5))[-1] == 0x80


async def test_a13_a_device_cannot_speak_on_the_topic_of_another() -> None:
    async with gateway() as host:
        thief, other = host.add("thief"), host.add("other")
        client = await RawClient.attach(host.port, thief)
        stolen = other.seal("t", b"stolen")
        client.send(publish_311(other.up_topic, stolen, qos=1, packet_id=1))
        client.send(publish_311(thief.up_topic, stolen, qos=1, packet_id=2))
        await client.read(4)
        assert host.bodies == []
        assert host.enforcement.tallies["other"].denied if "other" in host.enforcement.tallies else True
        assert host.enforcement.tallies["thief"].denied == 1
        await still_works(host)


@pytest.mark.parametrize(
    "topic", ["qedge/v1/f/n/dev/../up", "a\0b", "qedge/\ufeff", "a/" * 9 + "a", "x" * 65, "x" * 65_000, ""]
)
async def test_a13_impossible_topics_end_the_connection_and_nothing_else(topic: str) -> None:
    async with gateway() as host:
        client = await RawClient.attach(host.port, host.add("bad"))
        client.send(publish_311(topic, b"x"))
        assert await client.ended()
        assert host.bodies == []
        await still_works(host)


# A15: oversize


@pytest.mark.parametrize("claimed", [1_048_577, 200_000_000, 268_435_455])
async def test_a15_a_packet_that_is_too_large_is_closed_before_anything_is_allocated(claimed: int) -> None:
    async with gateway() as host:
        client = await RawClient.attach(host.port, host.add("bad"))
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        size = bytearray()
        while True:
            claimed, byte = claimed >> 7, claimed & 0x7F
            size.append(byte | (0x80 if claimed else 0))
            if not claimed:
                break
        client.send(b"\x30" + bytes(size) + b"x" * 50_000)
        assert await client.ended()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 4096
        assert host.closed("too_large") == 1
        await still_works(host)


async def test_a15_before_it_is_known_who_it_is_a_packet_may_be_much_smaller() -> None:
    async with gateway() as host:
        client = await RawClient.dial(host.port)
        client.send(b"\x10\xff\xff\x03" + b"\x00\x04MQTT\x04\x02\x00\x3c\xff\xff")
        assert await client.ended()
        assert host.closed("too_large") == 1


# A28: connections without end, clients that say nothing


async def test_a28_who_says_nothing_is_closed_after_the_time_for_connect() -> None:
    async with gateway(connect_timeout_s=0.3) as host:
        silent = await RawClient.dial(host.port)
        slow = await RawClient.dial(host.port)
        started = time.monotonic()

        async def trickle() -> None:
            for byte in connect_packet(host.add("d")):
                slow.send(bytes([byte]))
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        assert await silent.ended()
        assert await slow.ended()
        trickling.cancel()
        assert time.monotonic() - started > 0.2
        assert host.closed("no_connect") == 2
        await still_works(host)


async def test_a28_one_address_has_so_many_connections_and_others_are_served() -> None:
    async with gateway(max_connections_per_address=20) as host:
        clients = [await RawClient.dial(host.port) for _ in range(60)]
        await until(lambda: host.metrics.value("qedge_device_connects_total", ("too_many_of_address",)) == 40)
        assert host.listener.view().connections == 20
        await still_works(host)
        del clients


async def test_a28_of_those_who_prove_nothing_the_oldest_gives_way() -> None:
    async with gateway(max_unauthenticated=10, connect_timeout_s=60) as host:
        oldest = await RawClient.dial(host.port)
        for _ in range(15):
            await RawClient.dial(host.port)
        assert await oldest.ended()
        await until(lambda: host.closed("crowded") == 6)
        await still_works(host)


async def test_a28_a_full_listener_pauses_and_goes_on_when_there_is_room() -> None:
    async with gateway(max_connections=8, connect_timeout_s=60) as host:
        clients = [await RawClient.dial(host.port) for _ in range(20)]
        await until(lambda: host.listener.view().paused == "full")
        assert host.listener.view().connections == 8
        for client in clients:
            client.abort()
        await until(lambda: host.listener.view().connections == 0 and not host.listener.view().paused)
        await still_works(host)


async def test_a28_passwords_that_are_guessed_cost_ever_longer_waits_and_never_the_device() -> None:
    async with gateway() as host:
        device = host.add("d")
        victim = await RawClient.attach(host.port, device, source="127.0.0.3")
        for _ in range(6):
            guesser = await RawClient.dial(host.port, "127.0.0.2")
            guesser.send(connect_packet(device, password=b"guess"))
            assert await guesser.ended()
        late = await RawClient.dial(host.port, "127.0.0.2")
        assert await late.ended()
        assert host.metrics.value("qedge_device_connects_total", ("waiting_after_failures",)) == 1
        assert host.listener.address_tallies["127.0.0.2"].failed == 6
        assert host.enforcement.tallies["d"].failed == 0
        victim.send(publish_311(device.up_topic, device.seal("t", b"x")))
        await until(lambda: host.bodies == [b"x"])


# A29: everybody at once


async def _storm(num_devices: int, per_s: float) -> list[float]:
    async with gateway(connects_per_s=per_s, address_connects_burst=10**6, max_connections_per_address=10**6) as host:
        devices = [host.add(f"d{number}") for number in range(num_devices)]

        async def come(number: int) -> None:
            client = await RawClient.dial(host.port, f"127.0.0.{2 + number % 20}")
            client.send(connect_packet(devices[number]))
            async with asyncio.timeout(100):
                await client.reader.readexactly(4)

        watching = asyncio.create_task(ticks(num_devices / per_s))
        await asyncio.gather(*(come(number) for number in range(num_devices)))
        late = await watching
        assert host.listener.view().connections == num_devices
        return late


async def test_a29_a_storm_is_let_in_at_a_pace_and_everybody_gets_in() -> None:
    late = await _storm(200, 200.0)
    assert len(late) > 20  # the loop was never away for long: it took its turn again and again


@pytest.mark.long
async def test_a29_a_storm_of_two_thousand_leaves_the_loop_to_the_control_plane() -> None:
    late = await _storm(2000, 400.0)
    assert len(late) > 500


# A30: handshakes of TLS


async def test_a30_a_flood_of_tls_handshakes_leaves_the_listener_to_others(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path)
    settings = {"listen_tls": ["127.0.0.1:0"], "cert_file": cert, "key_file": key, "max_unauthenticated": 40}
    async with gateway(connect_timeout_s=1.0, **settings) as host:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        hellos = []
        for _ in range(120):
            connection = SSL.Connection(context, None)
            connection.set_connect_state()
            with contextlib.suppress(SSL.WantReadError):
                connection.do_handshake()
            hellos.append(connection.bio_read(65_536))
        for hello in hellos:
            client = await RawClient.dial(host.ports[1])
            client.send(hello)
        assert len(host.listener._strangers) <= 40
        await still_works(host)
        await until(lambda: host.listener.view().connections == 0)
        assert host.closed("crowded") > 0
        assert host.closed("no_handshake") + host.closed("crowded") == 120


async def test_a30_garbage_instead_of_a_handshake_is_closed_at_once(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path)
    async with gateway(listen_tls=["127.0.0.1:0"], cert_file=cert, key_file=key) as host:
        client = await RawClient.dial(host.ports[1])
        client.send(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00" * 10)
        assert await client.ended()
        await until(lambda: host.listener.view().connections == 0)
        await still_works(host)
