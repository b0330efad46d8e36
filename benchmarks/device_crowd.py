"""Processes with thousands of devices of `qedge_device` on MQTT 3.1.1 connections: one epoll set, no threads.

A member of the crowd does what the examples of `examples/devices` do: it enrols where it has to, connects under its own
name, opens a session, and sends one reading in it. Whatever goes wrong, it waits a little and goes on from there.
"""

from __future__ import annotations

import contextlib
import heapq
import multiprocessing
import os
import random
import resource
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Final

from benchmarks.bystander import LOAD_NICE
from qedge_device import DeviceError
from qedge_device.constrained import ConstrainedDevice
from qedge_device.enrolling import Invitation
from qedge_device.rich import RichDevice

ADDRESSES: Final = 20
"""Loopback addresses that connections come from; one has too few ports for some thousand."""

_CONNACK: Final = b"\x20\x02\x00\x00"
_RETRY_S: Final = 1.0
_SILENCE_S: Final = 20.0


def packet(first: int, body: bytes) -> bytes:
    """Write an MQTT packet."""
    size, length = len(body), bytearray()
    while True:
        size, digit = size >> 7, size & 0x7F
        length.append(digit | (0x80 if size else 0))
        if not size:
            return bytes([first]) + bytes(length) + body


def packets(data: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take whole packets from the front of what was read."""
    while len(data) >= 2:
        at, size, shift = 1, 0, 0
        while at < len(data):
            size |= (data[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 0x80:
                break
        else:
            return
        if len(data) < at + size:
            return
        first, body = data[0], bytes(data[at : at + size])
        del data[: at + size]
        yield first, body


def _field(text: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text


class Member:
    """One device with its socket."""

    def __init__(self, line: str, source: str) -> None:
        invitation = Invitation.read(line)
        self.rich = None if invitation.root else RichDevice.from_invitation(line, random_bytes=os.urandom)
        self.plain = ConstrainedDevice.from_invitation(line, random_bytes=os.urandom) if invitation.root else None
        self.source = source
        self.sock: socket.socket | None = None
        self.read = bytearray()
        self.heard_s = 0.0
        self.done = False

    @property
    def device(self) -> RichDevice | ConstrainedDevice:
        """The device's half of everything."""
        found = self.rich or self.plain
        assert found is not None
        return found

    def dial(self, port: int) -> socket.socket:
        """Begin to connect."""
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.bind((self.source, 0))
        self.read.clear()
        with contextlib.suppress(BlockingIOError):
            self.sock.connect(("127.0.0.1", port))
        return self.sock

    def greet(self) -> None:
        """Send CONNECT, SUBSCRIBE and the first hello in one piece; none waits for an answer to the one before."""
        device = self.device
        name, who = device.username, device.username.encode()
        password = device.password(name).encode()
        connect = b"\x00\x04MQTT\x04\xc2\x04\xb0" + _field(who) + _field(who) + _field(password)
        topics = (device.welcome_topic, device.down_topic)
        subscribe = b"\x00\x01" + b"".join(_field(topic.encode()) + b"\x00" for topic in topics)
        self.send(packet(0x10, connect) + packet(0x82, subscribe) + self.publish(device.hello_topic, device.hello()))

    def publish(self, topic: str, payload: bytes) -> bytes:
        """Write a PUBLISH at QoS 0."""
        return packet(0x30, _field(topic.encode()) + payload)

    def send(self, data: bytes) -> None:
        """Send; what does not fit into the socket is as good as a broken connection."""
        assert self.sock is not None
        if self.sock.send(data) < len(data):
            raise OSError("the socket takes no more")

    def take(self, first: int, body: bytes) -> bool:
        """Take a packet; says whether a session is open now. Raises `DeviceError`, or `OSError` to connect anew."""
        if first == _CONNACK[0] and body != _CONNACK[2:]:
            raise OSError("turned away")
        if first >> 4 != 3:
            return False
        topic_end = 2 + struct.unpack_from(">H", body)[0]
        device = self.device
        if body[2:topic_end] != device.welcome_topic.encode():
            return False
        welcome, now_s = body[topic_end:], time.monotonic()
        if self.rich is None:
            assert self.plain is not None
            self.plain.receive(welcome)
            frame = self.plain.seal("t", b"\x00" * 64)
        else:
            guest = not self.rich.is_enrolled
            further = self.rich.receive(welcome, now_s)
            if further is not None:
                self.send(self.publish(self.rich.hello_topic, further))
                return False
            if guest:
                raise OSError("enrolled: from now on under its own name")
            frame = self.rich.seal("t", b"\x00" * 64, now_s)
        self.send(self.publish(device.up_topic, frame))
        return True

    def close(self) -> None:
        """Let the connection go."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None


@dataclass(frozen=True)
class Wave:
    """What came of bringing all members to a session: how long it took, and of how many retries."""

    seconds: float
    retries: int
    open: int
    enrolled_s: float


class Crowd:
    """All members of one process. At most `at_once` are on their way to a session at a time."""

    def __init__(self, lines: list[str], port: int, first: int) -> None:
        self._port = port
        self.members = [Member(line, f"127.0.0.{2 + number % ADDRESSES}") for number, line in enumerate(lines, first)]
        self._by_fd: dict[int, Member] = {}
        self._epoll = select.epoll()
        self._later: list[tuple[float, int, Member]] = []
        self._retries = 0
        self._under_way = 0
        self._enrolled_s = 0.0
        self._keep = len(lines)

    def connect(self, at_once: int, limit_s: float, keep: int) -> Wave:
        """Give each member a new connection and a session; those after the first `keep` go offline with it for good."""
        for member in self.members:
            self._drop(member)
            member.done = False
        self._keep = keep
        wave = self._run([*reversed(self.members)], at_once, limit_s)
        self.members = [member for member in self.members if member.sock is not None or not member.done]
        return wave

    def renew(self, limit_s: float) -> Wave:
        """Wait until the node has told each member to begin anew, and each has done so."""
        for member in self.members:
            member.done = False
            member.heard_s = time.monotonic()
        self._under_way = len(self.members)
        return self._run([], len(self.members), limit_s)

    def _run(self, waiting: list[Member], at_once: int, limit_s: float) -> Wave:
        begun, self._retries, self._enrolled_s = time.monotonic(), 0, 0.0
        self._under_way = 0 if waiting else len(self.members)
        left = len(self.members)
        looked = begun
        while left and (now := time.monotonic()) - begun < limit_s:
            while waiting and self._under_way < at_once:
                self._under_way += 1
                self._dial(waiting.pop())
            while self._later and self._later[0][0] <= now:
                self._try_again(heapq.heappop(self._later)[2])
            for fd, events in self._epoll.poll(0.02):
                member = self._by_fd.get(fd)
                if member is not None and self._serve(member, events, begun):
                    left -= 1
                    self._under_way -= 1
                    if len(self.members) - left > self._keep:
                        self._drop(member)
            if now - looked > 1.0:
                looked = now
                for member in self.members:
                    if not member.done and member.sock is not None and now - member.heard_s > _SILENCE_S:
                        self._fail(member, _RETRY_S)
        done = sum(each.done for each in self.members)
        return Wave(time.monotonic() - begun, self._retries, done, self._enrolled_s)

    def _dial(self, member: Member) -> None:
        sock = member.dial(self._port)
        member.heard_s = time.monotonic()
        self._by_fd[sock.fileno()] = member
        self._epoll.register(sock.fileno(), select.EPOLLOUT)

    def _drop(self, member: Member) -> None:
        if member.sock is not None:
            fd = member.sock.fileno()
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)
            self._by_fd.pop(fd, None)
            member.close()

    def _fail(self, member: Member, wait_s: float) -> None:
        """Try again after a while, on a new connection."""
        self._retries += 1
        self._drop(member)
        self._wait(member, wait_s)

    def _wait(self, member: Member, wait_s: float) -> None:
        heapq.heappush(self._later, (time.monotonic() + wait_s * random.uniform(1.0, 1.5), id(member), member))

    def _try_again(self, member: Member) -> None:
        if member.done:
            return
        if member.sock is None:
            self._dial(member)
            return
        with contextlib.suppress(OSError):
            member.heard_s = time.monotonic()
            member.send(member.publish(member.device.hello_topic, member.device.hello()))

    def _serve(self, member: Member, events: int, begun: float) -> bool:
        """Go on with a member; says whether it has just got its session."""
        sock = member.sock
        assert sock is not None
        was_guest = member.rich is not None and not member.rich.is_enrolled
        try:
            if events & select.EPOLLOUT:
                self._epoll.modify(sock.fileno(), select.EPOLLIN)
                member.greet()
                return False
            data = sock.recv(65_536)
            if not data:
                raise OSError("closed")
            member.heard_s = time.monotonic()
            member.read += data
            for first, body in packets(member.read):
                if member.take(first, body) and not member.done:
                    member.done = True
                    return True
        except DeviceError as error:
            if error.reason in ("refused", "pending"):
                self._retries += 1
                if member.done:
                    return False
                self._wait(member, max(member.device.retry_s, 0.01))
            else:
                self._fail(member, _RETRY_S)
        except OSError:
            if was_guest and member.rich is not None and member.rich.is_enrolled:
                self._enrolled_s = time.monotonic() - begun
                self._drop(member)
                self._dial(member)
            elif member.done:
                self._drop(member)
            else:
                self._fail(member, _RETRY_S)
        return False


def run(port: int, first: int, pipe: Connection) -> None:
    """Serve questions of the pipe: lines of invitations, then names of methods with their arguments."""
    os.nice(LOAD_NICE)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = Crowd(pipe.recv(), port, first)
    pipe.send(None)
    with contextlib.suppress(EOFError):
        while True:
            name, *arguments = pipe.recv()
            pipe.send(getattr(crowd, name)(*arguments))


class CrowdProcess:
    """The process of a crowd; its members get addresses from `first` on."""

    def __init__(self, lines: list[str], port: int, first: int) -> None:
        self._lines = lines
        self._arguments = (port, first)
        self._process: BaseProcess | None = None

    def __enter__(self) -> CrowdProcess:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=run, args=(*self._arguments, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.send(self._lines)
        self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        if self._process is not None:
            self._process.join(5)
            if self._process.exitcode is None:
                self._process.kill()

    def begin(self, name: str, *arguments: float) -> None:
        """Have the crowd do something."""
        self._pipe.send((name, *arguments))

    @property
    def is_done(self) -> bool:
        """Say whether `end` would not wait."""
        return self._pipe.poll()

    def end(self) -> Wave:
        """Wait for what came of it."""
        wave: Wave = self._pipe.recv()
        return wave
