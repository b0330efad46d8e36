"""Many simulated devices in one process, for the demo: `python -m qedge.cli.demo.swarm HOST PORT LINES-FILE`.

Every device is a half of `qedge_device` behind a connection of its own (MQTT 5). Standard input takes orders, one a
line: `attack NAME` turns a device hostile, `quiet` ends all readings. The end of standard input ends the process.
Standard output has one `SwarmReport` a line, four a second.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import mqtt5
import msgspec

from qedge_device import ConstrainedDevice, DeviceError
from qedge_device.rich import RichDevice

READINGS_HZ: Final = 400.0
"""Readings in a second, of all devices together."""

_CONNECTING: Final = 64
_TICK_S: Final = 0.05
_REPORT_S: Final = 0.25
_KEEP_ALIVE_S: Final = 600
_HOSTILE_AT_ONCE: Final = 20


class SwarmReport(msgspec.Struct, frozen=True):
    """How the devices are: `said` and `acknowledged` count readings of those that are not hostile.

    `hostile_out`: the hostile one is not let in any more.
    """

    devices: int
    ready: int = 0
    lost: int = 0
    said: int = 0
    acknowledged: int = 0
    hostile_sent: int = 0
    hostile_out: bool = False


class SimulatedDevice(asyncio.Protocol):
    """One device: connects, opens its session, and says what it is told to."""

    def __init__(self, swarm: Swarm, name: str, half: ConstrainedDevice | RichDevice) -> None:
        self._swarm = swarm
        self.name = name
        self.half = half
        self.ready = asyncio.Event()
        self.cut = False
        self.refused = False
        self.said = 0
        self.acknowledged = 0
        self._rest = b""
        self._number = 0
        self._closing = False
        self._transport: asyncio.WriteTransport | None = None

    @property
    def needs_session(self) -> bool:
        """Whether it has to say hello."""
        half = self.half
        return half.needs_session if isinstance(half, ConstrainedDevice) else half.needs_session(time.monotonic())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who it is."""
        if not isinstance(transport, asyncio.WriteTransport):
            raise TypeError("a connection can be written to")
        self._transport, self._rest, self.cut = transport, b"", False
        client_id = f"sim-{self.name}"
        password = self.half.password(client_id).encode()
        self._send(
            mqtt5.ConnectPacket(
                client_id,
                username=self.half.username,
                password=password,
                clean_start=True,
                keep_alive=_KEEP_ALIVE_S,
            )
        )

    def data_received(self, data: bytes) -> None:
        """Take what the node says."""
        self._rest += data
        while self._rest:
            try:
                packet, size = mqtt5.read(memoryview(self._rest))
            except IndexError:
                return
            self._rest = self._rest[size:]
            self._take(packet)

    def connection_lost(self, error: Exception | None) -> None:
        """Note it; a device that only changed its name comes back."""
        self.cut, closing, self._closing = not self._closing, self._closing, False
        if closing or self._swarm.is_hostile(self):
            self._swarm.come_back(self)

    def say(self, body: bytes) -> None:
        """Send a reading and have it acknowledged."""
        self.said += 1
        self._publish(self.half.up_topic, self.seal(body), qos=1)

    def seal(self, body: bytes) -> bytes:
        """Seal a reading."""
        half = self.half
        if isinstance(half, ConstrainedDevice):
            return half.seal("temperature", body)
        return half.seal("temperature", body, time.monotonic())

    def misbehave(self) -> int:
        """Flood, repeat what was said, and speak on the topic of another; returns the number of messages."""
        parts = self.half.up_topic.split("/")
        foreign = "/".join([*parts[:5], self._swarm.victim, parts[6]])
        frame = self.seal(b"99.9")
        for _ in range(_HOSTILE_AT_ONCE):
            self._publish(self.half.up_topic, self.seal(b"99.9"))
        for topic in (self.half.up_topic, self.half.up_topic, foreign):
            self._publish(topic, frame)
        return _HOSTILE_AT_ONCE + 3

    def close(self) -> None:
        """Disconnect."""
        if self._transport is not None:
            self._transport.close()

    def _take(self, packet: mqtt5.Packet) -> None:
        if isinstance(packet, mqtt5.ConnAckPacket):
            self.refused = packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS
            if self.refused:
                return
            topics = [mqtt5.TopicFilter(each) for each in (self.half.welcome_topic, self.half.down_topic)]
            self._send(mqtt5.SubscribePacket(1, topics))
        elif isinstance(packet, mqtt5.SubAckPacket):
            self._hello()
        elif isinstance(packet, mqtt5.PubAckPacket):
            self.acknowledged += packet.reason_code == mqtt5.PubAckReasonCode.SUCCESS
        elif isinstance(packet, mqtt5.PublishPacket) and packet.topic == self.half.welcome_topic:
            self._welcome(packet.payload)

    def _hello(self) -> None:
        if self._transport is not None and not self._transport.is_closing() and self.needs_session:
            self._publish(self.half.hello_topic, self.half.hello())

    def _welcome(self, payload: bytes) -> None:
        who, answer = self.half.username, None
        try:
            if isinstance(self.half, ConstrainedDevice):
                self.half.receive(payload)
            else:
                answer = self.half.receive(payload, time.monotonic())
        except DeviceError as error:
            if error.reason != "refused":
                return  # it answers an earlier hello
            asyncio.get_running_loop().call_later(max(0.5, self.half.retry_s), self._hello)
            return
        if answer is not None:
            self._publish(self.half.hello_topic, answer)
        elif self.half.username != who:
            self._closing = True  # it is enrolled, and connects under its own name
            self.close()
        elif not self.needs_session:
            self.ready.set()

    def _publish(self, topic: str, payload: bytes, *, qos: int = 0) -> None:
        number = None
        if qos:
            number = self._number = self._number % 65_535 + 1
        self._send(mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS(qos), packet_id=number))

    def _send(self, packet: mqtt5.Packet) -> None:
        if self._transport is not None:
            self._transport.write(packet.write())


class Swarm:
    """All devices of the demo."""

    def __init__(self, host: str, port: int, lines: Iterator[tuple[str, str]]) -> None:
        self._host, self._port = host, port
        self._devices = {name: SimulatedDevice(self, name, _half(line)) for name, line in lines}
        self.victim = next(iter(self._devices), "")
        self._hostile: SimulatedDevice | None = None
        self._hostile_sent = 0
        self._quiet = False
        self._tasks: set[asyncio.Task[None]] = set()

    def is_hostile(self, device: SimulatedDevice) -> bool:
        """Whether a device attacks, and comes again and again until it is not let in."""
        return device is self._hostile and not device.refused

    def come_back(self, device: SimulatedDevice) -> None:
        """Connect a device once more, for a session of its own."""
        device.half.end_session()
        task = asyncio.get_running_loop().create_task(self._connect(device))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        """Live until standard input ends."""
        orders = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        tasks = [loop.create_task(each) for each in (self._attach(), self._talk(), self._tell())]
        while line := await orders.readline():
            word, _, name = line.decode().strip().partition(" ")
            if word == "attack":
                self._hostile = self._devices.get(name)
            elif word == "quiet":
                self._quiet = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for device in self._devices.values():
            device.close()

    async def _attach(self) -> None:
        places = asyncio.Semaphore(_CONNECTING)

        async def attach(device: SimulatedDevice) -> None:
            async with places:
                await self._connect(device)
                await device.ready.wait()

        await asyncio.gather(*(attach(device) for device in self._devices.values()))

    async def _connect(self, device: SimulatedDevice) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.create_connection(lambda: device, self._host, self._port)
            except OSError:
                await asyncio.sleep(0.2)
            else:
                return

    async def _talk(self) -> None:
        """Let all devices speak in turn, and the hostile one whenever it can."""
        turn, owed = 0, 0.0
        ready: list[SimulatedDevice] = []
        while True:
            await asyncio.sleep(_TICK_S)
            if len(ready) < len(self._devices):
                ready = [each for each in self._devices.values() if each.ready.is_set()]
            share = READINGS_HZ * _TICK_S * len(ready) / max(1, len(self._devices))
            owed = 0.0 if self._quiet else owed + share
            while owed >= 1:
                owed -= 1
                turn += 1
                device = ready[turn % len(ready)]
                if device is not self._hostile and not device.cut:
                    device.say(b"21.5")
            hostile = self._hostile
            if hostile is not None and not (hostile.cut or hostile.needs_session or self._quiet):
                self._hostile_sent += hostile.misbehave()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_S)
            sound = [each for each in self._devices.values() if each is not self._hostile]
            report = SwarmReport(
                len(self._devices),
                sum(each.ready.is_set() for each in self._devices.values()),
                sum(each.cut for each in sound),
                sum(each.said for each in sound),
                sum(each.acknowledged for each in sound),
                self._hostile_sent,
                self._hostile is not None and self._hostile.refused,
            )
            print(msgspec.json.encode(report).decode(), flush=True)


def _half(line: str) -> ConstrainedDevice | RichDevice:
    try:
        return ConstrainedDevice.from_invitation(line, random_bytes=os.urandom)
    except DeviceError:
        return RichDevice.from_invitation(line, random_bytes=os.urandom)


def main(words: list[str]) -> None:
    """Attach the devices of a file that `qedge device import --out` wrote."""
    host, port, file = words
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lines = (line.split(" ", 1) for line in Path(file).read_text().splitlines())
    asyncio.run(Swarm(host, int(port), ((name, line) for name, line in lines)).run())


if __name__ == "__main__":
    main(sys.argv[1:])
