"""The way through a broker, with mosquitto where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import mqtt5
import pytest

from benchmarks.broker import Broker
from qedge.bus.model import Endpoint
from qedge.security.model import Evidence
from tests.integration.bus_site import MOSQUITTO
from tests.integration.gateway_host import GatewayHost, gateway, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


class BrokerClient:
    """A device, or anybody else, at the broker: MQTT 5 by the `mqtt5` codec."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._data = b""

    @classmethod
    @contextlib.asynccontextmanager
    async def dial(cls, port: int, name: str) -> AsyncIterator[BrokerClient]:
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        try:
            client.send(mqtt5.ConnectPacket(name, clean_start=True))
            assert isinstance(await client.packet(), mqtt5.ConnAckPacket)
            yield client
        finally:
            client._writer.close()
            with contextlib.suppress(ConnectionError):
                await client._writer.wait_closed()

    def send(self, packet: mqtt5.Packet) -> None:
        self._writer.write(packet.write())

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, packet_id: int | None = None) -> None:
        self.send(mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS(qos), packet_id=packet_id))

    async def packet(self) -> mqtt5.Packet:
        async with asyncio.timeout(30):
            while True:
                try:
                    packet, size = mqtt5.read(memoryview(self._data))
                except IndexError:
                    self._data += await self._reader.read(65_536)
                    continue
                self._data = self._data[size:]
                return packet


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    with Broker("mosquitto", tmp_path_factory.mktemp("broker")) as broker:
        yield broker.port  # type: ignore[misc] # a plain fixture, whose type pytest takes as it is


def endpoint(port: int) -> Endpoint:
    return Endpoint("127.0.0.1", port, "test")


async def heard(host: GatewayHost) -> None:
    await until(lambda: host.intake.connected)


async def test_readings_commands_and_handshakes_go_through_a_broker(port: int) -> None:
    async with gateway(endpoint(port)) as host:
        device = host.add("d")
        async with BrokerClient.dial(port, "device-d") as client:
            topics = [mqtt5.TopicFilter(each) for each in (device.down_topic, device.welcome_topic)]
            client.send(mqtt5.SubscribePacket(1, topics))
            assert isinstance(await client.packet(), mqtt5.SubAckPacket)
            client.publish(device.hello_topic, b"hi")
            answer = await client.packet()
            assert isinstance(answer, mqtt5.PublishPacket)
            assert (answer.topic, answer.payload) == (device.welcome_topic, b"welcome hi")
            client.publish(device.up_topic, device.seal("t", b"0"))
            client.publish(device.up_topic, device.seal("t", b"1"), qos=1, packet_id=2)
            assert isinstance(await client.packet(), mqtt5.PubAckPacket)
            await until(lambda: host.bodies == [b"0", b"1"])
            subject = host.doorman.subjects["d"]
            assert host.enforcement.down(subject, "d", "open", b"x", host.clock.now_ns(), 0) == "sent"
            command = await client.packet()
            assert isinstance(command, mqtt5.PublishPacket)
            assert device.open(command.payload) == ("open", b"x")


async def test_a_device_that_was_not_heard_through_the_broker_is_not_reached_through_it(port: int) -> None:
    async with gateway(endpoint(port)) as host:
        host.add("d")
        subject = host.doorman.subjects["d"]
        assert host.enforcement.down(subject, "d", "open", b"x", host.clock.now_ns(), 0) == "unreachable"


async def test_garbage_in_a_devices_name_changes_nothing_for_the_device(port: int) -> None:
    async with gateway(endpoint(port)) as host:
        device = host.add("d")
        async with BrokerClient.dial(port, "somebody") as client:
            for payload in (b"", b"\x00" * 10, b"\x01" * 40, b"\x01\x00\x00\x00\x01" + b"\x00" * 40):
                client.publish(device.up_topic, payload)
            client.publish("qedge/v1/f/n/dev/x/up", b"\x01" * 40)
            client.publish(device.up_topic, device.seal("t", b"sound"))
            await until(lambda: host.bodies == [b"sound"])
        assert [each for each in host.witness.oddities if each[1] is not Evidence.WELL_BEHAVED] == []
        assert set(host.enforcement.tallies) == {"d"}


async def test_a_throttled_device_is_taken_no_more_often_than_it_may(port: int) -> None:
    async with gateway(endpoint(port)) as host:
        device = host.add("d")
        host.listener.limit("d", 1)
        async with BrokerClient.dial(port, "device-d") as client:
            for _ in range(20):
                client.publish(device.up_topic, device.seal("t", b"x"))
            await until(lambda: host.enforcement.strangers.throttled >= 15)
        assert len(host.bodies) <= 5


async def test_qos_1_messages_wait_at_the_broker_while_the_intake_is_away(port: int) -> None:
    async with gateway(endpoint(port)) as host:
        device = host.add("d")
        host.tasks[-1].cancel()
        await until(lambda: not host.intake.connected)
        async with BrokerClient.dial(port, "device-d") as client:
            client.publish(device.up_topic, device.seal("t", b"late"), qos=1, packet_id=1)
            assert isinstance(await client.packet(), mqtt5.PubAckPacket)
        assert host.bodies == []
        host.tasks.append(asyncio.create_task(host.intake.run(lambda: None)))
        await until(lambda: host.bodies == [b"late"])


async def test_the_intake_comes_back_with_the_broker(tmp_path: Path) -> None:
    with Broker("mosquitto", tmp_path) as broker:
        async with gateway(endpoint(broker.port)) as host:
            await heard(host)
            broker.__exit__()
            await until(lambda: not host.intake.connected)
            assert host.metrics.value("qedge_device_broker_connected") == 0
            await asyncio.to_thread(broker.__enter__)
            await heard(host)
