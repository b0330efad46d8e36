"""A process with thousands of MQTT 3.1.1 connections that sends sealed readings at a pace, on raw sockets and epoll."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import select
import socket
import struct
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Final

from benchmarks.bystander import LOAD_NICE
from benchmarks.gateway_site import TIME, devices
from qedge.devices.fake import FakeDevice

ADDRESSES: Final = 20
"""Loopback addresses that connections come from; one has too few ports for some thousand."""

_CONNECTING: Final = 200
_STEP_S: Final = 0.002
_BURST: Final = 200
_SIZES: Final = (64, 96, 128, 192, 256)


def connect_packet(device: FakeDevice) -> bytes:
    """Write a CONNECT of MQTT 3.1.1."""
    name = device.name.encode()
    fields = b"".join(struct.pack(">H", len(each)) + each for each in (name, name, device.password))
    body = b"\x00\x04MQTT\x04\xc2\x04\xb0" + fields
    assert len(body) < 128
    return bytes([0x10, len(body)]) + body


def subscribe_packet(topic: str) -> bytes:
    """Write a SUBSCRIBE at QoS 0."""
    name = topic.encode()
    body = b"\x00\x01" + struct.pack(">H", len(name)) + name + b"\x00"
    assert len(body) < 128
    return bytes([0x82, len(body)]) + body


class Sensor:
    """A device with its socket, once it is connected; `head` is its topic as a PUBLISH has it."""

    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.sock = socket.socket()
        name = device.up_topic.encode()
        self.head = struct.pack(">H", len(name)) + name

    def dial(self, port: int, source: str) -> None:
        """Begin to connect."""
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.bind((source, 0))
        with contextlib.suppress(BlockingIOError):
            self.sock.connect(("127.0.0.1", port))

    def publish(self, channel: str, size: int) -> None:
        """Send one reading of `size` bytes, frame included; raises `BlockingIOError`."""
        body = TIME.pack(time.monotonic_ns()).ljust(size - 36, b"\x55")
        payload = self.head + self.device.seal(channel, body)
        length = len(payload)
        prefix = bytes([0x30, length]) if length < 128 else bytes([0x30, length & 0x7F | 0x80, length >> 7])
        self.sock.send(prefix + payload)


def connect_all(found: list[FakeDevice], port: int) -> list[Sensor]:
    """Connect devices, some hundred at a time, and wait until each was let in."""
    sensors = [Sensor(device) for device in found]
    epoll, waiting, begun, done = select.epoll(), {}, 0, 0
    deadline = time.monotonic() + 120
    while done < len(sensors):
        while begun < len(sensors) and len(waiting) < _CONNECTING:
            sensor = sensors[begun]
            sensor.dial(port, f"127.0.0.{2 + begun % ADDRESSES}")
            waiting[sensor.sock.fileno()] = sensor
            epoll.register(sensor.sock.fileno(), select.EPOLLOUT)
            begun += 1
        for fd, events in epoll.poll(0.1):
            sensor = waiting[fd]
            if events & select.EPOLLOUT:
                sensor.sock.send(connect_packet(sensor.device))
                epoll.modify(fd, select.EPOLLIN)
                continue
            answer = sensor.sock.recv(16)
            if answer != b"\x20\x02\x00\x00":
                raise RuntimeError(f"{sensor.device.name} was not let in: {answer.hex()}")
            epoll.unregister(fd)
            del waiting[fd]
            done += 1
        if time.monotonic() > deadline:
            raise RuntimeError(f"{done} of {len(sensors)} devices were let in")
    epoll.close()
    return sensors


@dataclass(frozen=True)
class Sent:
    """What was sent in a round, and how long it took; `cpu_s` of the load process."""

    messages: int
    seconds: float
    cpu_s: float


def send_paced(sensors: list[Sensor], per_s: float, seconds: float, stop: Connection | None = None) -> Sent:
    """Send at a pace, in bursts of what is due every two milliseconds; 0 a second: as fast as it is taken."""
    started, sent, blocked = time.monotonic(), 0, 0
    cpu_s = time.process_time()
    while (elapsed := time.monotonic() - started) < seconds and not (stop is not None and stop.poll()):
        due = min(round(elapsed * per_s) - sent, _BURST) if per_s else _BURST
        for _ in range(due):
            sensor = sensors[(sent + blocked) % len(sensors)]
            try:
                sensor.publish("t", _SIZES[sent % len(_SIZES)])
            except BlockingIOError:
                blocked += 1
                continue
            sent += 1
        if per_s:
            time.sleep(_STEP_S)
    return Sent(sent, time.monotonic() - started, time.process_time() - cpu_s)


def run(num_sensors: int, port: int, pipe: Connection) -> None:
    """Connect, then send each round that is asked for as (messages a second, seconds)."""
    os.nice(LOAD_NICE)
    sensors = connect_all(devices(num_sensors)[0], port)
    pipe.send(len(sensors))
    with contextlib.suppress(EOFError):
        while True:
            per_s, seconds = pipe.recv()
            pipe.send(send_paced(sensors, per_s, seconds, pipe))


class Load:
    """The load process."""

    def __init__(self, num_sensors: int, port: int) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._arguments = (num_sensors, port)
        self._process: BaseProcess | None = None

    def __enter__(self) -> Load:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=run, args=(*self._arguments, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.num_connected: int = self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        if self._process is not None:
            self._process.join(5)
            if self._process.exitcode is None:
                self._process.kill()

    def begin(self, per_s: float, seconds: float) -> None:
        """Begin a round."""
        self._pipe.send((per_s, seconds))

    @property
    def is_done(self) -> bool:
        """Say whether `end` would not wait."""
        return self._pipe.poll()

    def end(self) -> Sent:
        """Wait for the end of the round."""
        sent: Sent = self._pipe.recv()
        return sent

    def send(self, per_s: float, seconds: float) -> Sent:
        """Send one round."""
        self.begin(per_s, seconds)
        return self.end()
