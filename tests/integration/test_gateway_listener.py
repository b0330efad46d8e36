"""The listener with ordinary clients, and with clients that are anything but."""

from __future__ import annotations

import asyncio
import gc
import random
import shutil
import socket
import threading
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from qedge.base.errors import QedgeError
from qedge.devices.ways_in.config import ListenerConfig
from qedge.devices.ways_in.dialogue import Dialogue
from qedge.devices.ways_in.hearing import Hearing
from qedge.devices.ways_in.line import Line
from qedge.security.model import Reason, Subject
from tests.integration.gateway_host import GatewayHost, RawClient, connect_packet, gateway, until
from tests.unit.devices.ways_in.clients import paho_connect, publish_311

VERSIONS = pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5])
MOSQUITTO_PUB, MOSQUITTO_SUB = shutil.which("mosquitto_pub"), shutil.which("mosquitto_sub")


class Paho:
    """An ordinary client of paho."""

    def __init__(
        self, port: int, name: str, password: str, protocol: int, *, will: tuple[str, bytes] | None = None
    ) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.granted: list[int] = []
        self.code: int | None = None
        self.ended = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=f"client-{name}", protocol=protocol)  # type: ignore[arg-type] # it is one of its constants
        self.client.username_pw_set(name, password)
        if will is not None:
            self.client.will_set(*will, qos=1)
        self.client.on_connect = lambda _c, _u, _f, code, _p: setattr(self, "code", int(code.value))
        self.client.on_message = lambda _c, _u, message: self.got.append((message.topic, message.payload))
        self.client.on_subscribe = lambda _c, _u, _m, codes, _p: self.granted.extend(int(code.value) for code in codes)
        self.client.on_disconnect = lambda *_: self.ended.set()
        self.client.reconnect_delay_set(60, 60)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@VERSIONS
async def test_paho_publishes_subscribes_and_gets_commands(protocol: int) -> None:
    async with gateway() as host:
        device = host.add("d")
        client = Paho(host.port, "d", "of d", protocol)
        await until(lambda: client.code == 0)
        client.client.subscribe([(device.down_topic, 1), (device.welcome_topic, 0)])
        await until(lambda: client.granted == [1, 0])
        sent = [client.client.publish(device.up_topic, device.seal("t", bytes([qos])), qos) for qos in (0, 1)]
        sent.append(client.client.publish(device.hello_topic, b"hi", 1))
        await until(lambda: all(each.is_published() for each in sent))
        await until(lambda: host.bodies == [b"\0", b"\1"])
        await until(lambda: client.got == [(device.welcome_topic, b"welcome hi")])
        now_ns = host.clock.now_ns()
        assert host.enforcement.down(host.doorman.subjects["d"], "d", "open", b"now", now_ns, 0) == "sent"
        await until(lambda: len(client.got) == 2)
        assert device.open(client.got[1][1]) == ("open", b"now")
        client.close()
        await until(lambda: host.closed("disconnect") == 1)


@VERSIONS
async def test_paho_is_told_that_it_is_not_let_in(protocol: int) -> None:
    async with gateway() as host:
        host.add("d")
        client = Paho(host.port, "d", "wrong", protocol)
        await until(lambda: client.code is not None)
        assert client.code == 135  # Not authorized; paho gives the codes of 3.1.1 as those of 5
        client.close()


@VERSIONS
async def test_the_will_of_paho_is_published_when_it_dies(protocol: int) -> None:
    async with gateway() as host:
        device = host.add("d")
        client = Paho(host.port, "d", "of d", protocol, will=(device.up_topic, device.seal("status", b"gone")))
        await until(lambda: client.code == 0)
        sock = client.client.socket()
        assert sock is not None
        sock.shutdown(socket.SHUT_RDWR)
        await until(lambda: host.bodies == [b"gone"])
        client.close()


@pytest.mark.skipif(not (MOSQUITTO_PUB and MOSQUITTO_SUB), reason="mosquitto-clients is not installed")
@pytest.mark.parametrize("version", ["311", "5"])
async def test_mosquittos_tools_publish_and_subscribe(version: str, tmp_path: Path) -> None:
    async with gateway() as host:
        device = host.add("d")
        frame = tmp_path / "frame"
        frame.write_bytes(device.seal("t", b"x"))
        common = ["-h", "127.0.0.1", "-p", str(host.port), "-V", version, "-u", "d", "-P", "of d", "-q", "1"]
        publish = await asyncio.create_subprocess_exec(
            str(MOSQUITTO_PUB), *common, "-t", device.up_topic, "-f", str(frame)
        )
        assert await publish.wait() == 0
        assert host.bodies == [b"x"]
        listen = await asyncio.create_subprocess_exec(
            str(MOSQUITTO_SUB), *common, "-t", device.down_topic, "-C", "1", "-N", stdout=asyncio.subprocess.PIPE
        )
        subject, now_ns = host.doorman.subjects["d"], host.clock.now_ns
        await until(lambda: host.enforcement.down(subject, "d", "open", b"y", now_ns(), 0) == "sent")
        out, _ = await listen.communicate()
        assert device.open(out) == ("open", b"y")


async def test_a_second_connection_of_a_device_takes_over() -> None:
    async with gateway() as host:
        device = host.add("d")
        first = await RawClient.attach(host.port, device)
        second = await RawClient.attach(host.port, device)
        assert await first.ended()
        second.send(publish_311(device.up_topic, device.seal("t", b"x")))
        await until(lambda: host.bodies == [b"x"])
        assert host.closed("taken_over") == 1
        assert host.listener.view().connections == 1
        second.close()


async def test_a_cut_device_is_gone_at_once_even_while_it_sends() -> None:
    async with gateway() as host:
        device = host.add("d")
        client = await RawClient.attach(host.port, device)

        async def flood() -> None:
            while not client.writer.is_closing():
                client.send(publish_311(device.up_topic, device.seal("t", b"x")))
                await asyncio.sleep(0)

        flooding = asyncio.create_task(flood())
        await until(lambda: len(host.bodies) > 20)
        host.doorman.subjects["d"].quarantined = True
        assert host.listener.cut("d")
        num_taken = len(host.bodies)
        assert await client.ended()
        flooding.cancel()
        assert len(host.bodies) == num_taken
        assert not host.listener.cut("d")
        assert not host.listener.send("d", device.down_topic, b"x")
        again = await RawClient.dial(host.port)
        again.send(connect_packet(device))
        assert await again.read(4) == b"\x20\x02\x00\x05"
        assert await again.ended()
        client.close()
        again.close()


async def test_a_device_that_policy_does_not_let_connect_is_refused_and_a_changed_policy_cuts_it() -> None:
    async with gateway() as host:
        device = host.add("d")
        client = await RawClient.attach(host.port, device)
        host.judge.denied["d"] = Reason.FORBIDDEN
        host.listener.recheck("d")
        assert await client.ended()
        refused = await RawClient.dial(host.port)
        refused.send(connect_packet(device))
        assert await refused.read(4) == b"\x20\x02\x00\x05"
        refused.close()
        client.close()


async def test_a_half_open_connection_is_closed_after_one_and_a_half_keep_alives() -> None:
    async with gateway() as host:
        device = host.add("d")
        client = await RawClient.attach(host.port, device, keep_alive_s=1)
        assert await client.ended()
        assert host.closed("silent") == 1
        client.close()


async def test_pings_keep_a_connection_alive() -> None:
    async with gateway() as host:
        client = await RawClient.attach(host.port, host.add("d"), keep_alive_s=1)
        for _ in range(5):
            client.send(b"\xc0\x00")
            assert await client.read(2) == b"\xd0\x00"
            await asyncio.sleep(0.5)
        assert host.closed("silent") == 0
        client.close()


async def test_a_device_that_reads_nothing_is_closed() -> None:
    async with gateway(stall_timeout_s=0.5, queue_bytes=8192) as host:
        device = host.add("d")
        client = await RawClient.attach(host.port, device)
        client.listen(device.down_topic)
        await client.read(5)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport of TCP has it
        await until(lambda: not all(host.listener.send("d", device.down_topic, bytes(4000)) for _ in range(500)))
        await until(lambda: host.closed("reads_nothing") == 1)
        client.close()


@pytest.mark.parametrize(
    "packet",
    [
        b"\x10\x10\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x02ab",
        b"\x10\x0d\x00\x04MQTT\x09\x02\x00\x3c\x00\x00\x00",
        b"\x10\xff\xff\xff\x7f",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_no_mqtt_that_is_spoken_here_is_closed_at_once(packet: bytes) -> None:
    async with gateway() as host:
        client = await RawClient.dial(host.port)
        client.send(packet)
        assert await client.ended()
        assert host.listener.view().connections == 0
        client.close()


async def test_a_fuzzing_device_never_affects_another_device() -> None:
    async with gateway(address_connects_per_s=10_000, address_connects_burst=10_000) as host:
        sound, bad = host.add("sound"), host.add("bad")
        client = await RawClient.attach(host.port, sound)
        rng = random.Random(7)

        async def fuzz() -> None:
            while True:
                fuzzing = await RawClient.attach(host.port, bad, source="127.0.0.2")
                whole = publish_311(bad.up_topic, bad.seal("t", b"bad"), qos=1, packet_id=1)
                for _ in range(rng.randrange(1, 6)):
                    altered = bytearray(whole)
                    for _ in range(rng.randrange(1, 4)):
                        altered[rng.randrange(len(altered))] = rng.randrange(256)
                    fuzzing.send(bytes(altered) if rng.random() < 0.5 else rng.randbytes(rng.randrange(1, 500)))
                await asyncio.sleep(0.001)
                fuzzing.abort()

        fuzzing = asyncio.create_task(fuzz())
        for number in range(100):
            client.send(publish_311(sound.up_topic, sound.seal("t", bytes([number])), qos=1, packet_id=number + 1))
            assert await client.read(4) == b"\x40\x02" + (number + 1).to_bytes(2, "big")
        fuzzing.cancel()
        assert [body for name, _, body in host.consumer.taken if name == "sound"] == [bytes([n]) for n in range(100)]
        tally = host.enforcement.tallies["sound"]
        assert (tally.malformed, tally.failed, tally.denied, tally.replayed) == (0, 0, 0, 0)
        client.close()


async def test_several_addresses_are_listened_at_and_a_taken_port_is_told() -> None:
    async with gateway(listen=["127.0.0.1:0", "127.0.0.9:0", "[::1]:0"]) as host:
        device = host.add("d")
        assert len(host.ports) == 3
        _, writer = await asyncio.open_connection("127.0.0.9", host.ports[1])
        writer.write(paho_connect("c", "d", device.password.decode()))
        await until(lambda: host.listener.view().unauthenticated == 0 and host.listener.view().connections == 1)
        writer.close()
        with pytest.raises(QedgeError) as error:
            await GatewayHost(ListenerConfig(listen=(f"127.0.0.1:{host.port}",))).listener.run(lambda: None)
        assert error.value.code == "start.port_taken"


async def test_a_safety_device_goes_on_while_a_burst_of_others_is_dealt_with() -> None:
    async with gateway(messages_per_s=100_000) as host:
        urgent, busy = host.add("urgent", safety=True), host.add("busy")
        fast, slow = await RawClient.attach(host.port, urgent), await RawClient.attach(host.port, busy)
        order: list[str] = []
        host.consumer.taken = _Order(order)  # type: ignore[assignment] # a list of names is enough here
        slow.send(b"".join(publish_311(busy.up_topic, busy.seal("t", b"x" * 60)) for _ in range(3000)))
        await asyncio.sleep(0)
        fast.send(publish_311(urgent.up_topic, urgent.seal("t", b"x")))
        await until(lambda: len(order) == 3001)
        assert order.index("urgent") < 2000
        fast.close()
        slow.close()


class _Order(list[tuple[str, str, bytes]]):
    def __init__(self, order: list[str]) -> None:
        super().__init__()
        self._order = order

    def append(self, entry: tuple[str, str, bytes]) -> None:
        self._order.append(entry[0])


async def test_a_closed_connection_leaves_nothing_for_the_garbage_collector() -> None:
    def connections() -> int:
        return sum(type(each) in (Line, Dialogue, Hearing) for each in gc.get_objects())

    async with gateway() as host:
        device = host.add("d")
        await asyncio.sleep(0.05)
        gc.collect()
        before = connections()
        gc.disable()
        try:
            for _ in range(3):
                client = await RawClient.attach(host.port, device)
                client.listen(device.down_topic)
                assert await client.read(5) == b"\x90\x03\x00\x01\x00"
                client.close()
            await until(lambda: host.listener.view().connections == 0)
            await asyncio.sleep(0.05)
            assert connections() == before
        finally:
            gc.enable()


async def test_late_connects_of_sound_devices_do_not_lock_out_others_behind_their_address() -> None:
    async with gateway() as host:
        late, sound = host.add("late"), host.add("sound")
        check = host.doorman.check

        async def used_before(client_id: str, username: str, password: bytes) -> Subject | None:
            if username == "late":
                raise QedgeError("device.refused", "late proves again what it has proved.")
            return await check(client_id, username, password)

        host.doorman.check = used_before  # type: ignore[method-assign]  # for this test
        for _ in range(30):
            client = await RawClient.dial(host.port)
            client.send(connect_packet(late))
            assert await client.read(4) == b"\x20\x02\x00\x05"
        await RawClient.attach(host.port, sound)
        assert host.listener.address_tallies["127.0.0.1"].failed == 0
        assert host.metrics.value("qedge_device_connects_total", ("repeated",)) == 30
