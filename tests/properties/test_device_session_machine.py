"""Whatever the network does between a device and its node, nothing is taken twice, altered, or under old keys."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from qedge.devices.model import DeviceSession
from qedge.devices.registry.model import new_subject
from qedge.devices.sessions.book import DeviceSessions
from qedge.devices.sessions.places import Place
from qedge.devices.sessions.symmetric import check_join, join_session
from qedge_device.constrained import ConstrainedDevice
from qedge_device.frame import FrameError
from qedge_device.messages import Join
from qedge_device.reading import DeviceError

ROOT = bytes(range(32))


class Gateway(RuleBasedStateMachine):
    """A constrained device, a node, and a network that loses, repeats, reorders and alters."""

    def __init__(self) -> None:
        super().__init__()
        source = random.Random(1)
        self.device = ConstrainedDevice("lab", "box-1", "tag-1", ROOT, source.randbytes)
        self.source = source
        self.book = DeviceSessions()
        self.subject = new_subject("tag-1")
        self.hellos: list[bytes] = []
        self.welcomes: list[bytes] = []
        self.frames: list[bytes] = []
        self.taken: list[bytes] = []
        self.sent = 0
        self.counter = 0
        self.epoch = 0
        self.now_ns = 0
        self.place = Place("lab", "box-1", bytes(16))

    @initialize()
    def join_once(self) -> None:
        """Begin with an open session."""
        self.hello()
        self.answer(0)
        self.welcome(0)

    @rule()
    def hello(self) -> None:
        """The device begins a session."""
        self.hellos.append(self.device.hello())

    @rule(index=st.integers(0, 50))
    def answer(self, index: int) -> None:
        """The network brings the node a hello, perhaps an old one."""
        if not self.hellos:
            return
        join = Join.read(self.hellos[index % len(self.hellos)])
        check_join(self.place, "tag-1", ROOT, join)
        if join.counter <= self.counter:
            return
        self.counter = join.counter
        self.epoch = next(each for each in range(64) if each not in self.book.epochs("tag-1"))
        opened = join_session(
            self.place, self.subject, ROOT, join, self.epoch, self.source.randbytes(8), self.now_ns, 60
        )
        self.book.add(opened.session)
        self.welcomes.append(opened.message)

    @rule(index=st.integers(0, 50))
    def welcome(self, index: int) -> None:
        """The network brings the device a welcome, perhaps an old one."""
        if self.welcomes:
            try:
                self.device.receive(self.welcomes[index % len(self.welcomes)])
            except DeviceError as error:
                assert error.reason in ("proof", "unexpected")

    @rule()
    def send(self) -> None:
        """The device sends a reading that no other is like."""
        if not self.device.needs_session:
            self.sent += 1
            self.frames.append(self.device.seal("t", str(self.sent).encode()))

    @rule(index=st.integers(0, 200), bit=st.integers(0, 400) | st.none())
    def deliver(self, index: int, bit: int | None) -> None:
        """The network brings a frame, perhaps an old one, perhaps altered."""
        if not self.frames:
            return
        frame = bytearray(self.frames[index % len(self.frames)])
        if bit is not None:
            frame[bit // 8 % len(frame)] ^= 1 << bit % 8
        session = self.book.find("tag-1", bytes(frame))
        if session is None:
            return
        try:
            inside = session.opener.open(bytes(frame), session.up_topic)
        except FrameError:
            return
        assert bit is None, "an altered frame opened"
        self.taken.append(inside)

    @rule()
    def command(self) -> None:
        """The node says something in the session that counts; the device opens it if it has that session."""
        session = self.book.current("tag-1")
        if session is None:
            return
        frame = session.sealer.seal(b"\x03ledon", session.down_topic)
        try:
            assert self.device.open(frame) == ("led", b"on")
        except (DeviceError, FrameError):
            return

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.now_ns += seconds * 1_000_000_000
        self.book.sweep(self.now_ns, self._ended)

    def _ended(self, session: DeviceSession) -> None:
        assert session.expires_ns <= self.now_ns

    @invariant()
    def nothing_is_taken_twice(self) -> None:
        """Each reading has effect at most once, and is one that the device sent."""
        assert len(self.taken) == len(set(self.taken))
        assert set(self.taken) <= {b"\x01t" + str(n).encode() for n in range(1, self.sent + 1)}


TestGateway = Gateway.TestCase
TestGateway.settings = settings(max_examples=25, stateful_step_count=40, suppress_health_check=list(HealthCheck))
