"""A device that has no room for public keys: everything comes from 32 bytes that it shares with its node.

Sans I/O: bytes and seconds go in, bytes come out. Needs AES-256-CCM and HMAC-SHA-256 alone.

    device = ConstrainedDevice.from_invitation(line, random_bytes=os.urandom)
    publish(device.hello_topic, device.hello())
    device.receive(message_from_welcome_topic)
    publish(device.up_topic, device.seal("temperature", b"21.5"))
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from qedge_device import reading, schedule
from qedge_device.enrolling import ROOT_BYTES, Invitation
from qedge_device.kept import Counter, Kept, write
from qedge_device.messages import (
    JOIN_MAC_BYTES,
    JOIN_NONCE_BYTES,
    Join,
    Joined,
    MessageError,
    MessageType,
    Refusal,
    Refused,
)
from qedge_device.reading import DeviceError
from qedge_device.short import EPOCHS, ShortOpener, ShortSealer

MAX_MESSAGES = 2**20
"""Messages of a session before the next JOIN; the node allows the same."""


class ConstrainedDevice:
    """One device at one node. Save `state()` whenever `changed` is true, before you send anything."""

    def __init__(
        self, fleet: str, node: str, device: str, root: bytes, random_bytes: Callable[[int], bytes], counter: int = 0
    ) -> None:
        if len(root) != ROOT_BYTES or not all(map(reading.is_name, (fleet, node, device))):
            raise DeviceError("state")
        self.fleet, self.node, self.device = fleet, node, device
        self.changed = True
        self.retry_s = 0
        self._root = root
        self._random_bytes = random_bytes
        self._counter = Counter(counter)
        self._who = schedule.who(fleet, node, device)
        self._join: Join | None = None
        self._sealer: ShortSealer | None = None
        self._openers: list[ShortOpener] = []

    @classmethod
    def from_invitation(cls, line: str, *, random_bytes: Callable[[int], bytes]) -> ConstrainedDevice:
        """Take the line that `qedge device add` printed; raises `DeviceError` (`invitation`)."""
        try:
            invitation = Invitation.read(line)
        except MessageError:
            raise DeviceError("invitation") from None
        if not invitation.root:
            raise DeviceError("invitation")
        return cls(invitation.fleet, invitation.node, invitation.device, invitation.root, random_bytes)

    @classmethod
    def load(cls, data: bytes, *, random_bytes: Callable[[int], bytes]) -> ConstrainedDevice:
        """Take what `state` gave; raises `DeviceError` (`state`)."""
        kept = Kept(data)
        names = (kept.text("fleet"), kept.text("node"), kept.text("device"))
        made = cls(*names, kept.bytes("root"), random_bytes, kept.number("counter"))
        made.changed = False
        return made

    def state(self) -> bytes:
        """Return what has to be kept, a secret."""
        self.changed = False
        return write(
            {
                "fleet": self.fleet,
                "node": self.node,
                "device": self.device,
                "root": self._root,
                "counter": self._counter.kept,
            }
        )

    @property
    def username(self) -> str:
        """The user name of MQTT."""
        return self.device

    def password(self, client_id: str) -> str:
        """Return the password of MQTT for one CONNECT; each is good once."""
        return schedule.connect_password(self._root, self._who, client_id, self._take())

    @property
    def hello_topic(self) -> str:
        """Where `hello` is sent."""
        return self._topic("hello")

    @property
    def welcome_topic(self) -> str:
        """Where what `receive` takes comes from."""
        return self._topic("welcome")

    @property
    def up_topic(self) -> str:
        """Where what `seal` makes is sent."""
        return self._topic("up")

    @property
    def down_topic(self) -> str:
        """Where what `open` takes comes from."""
        return self._topic("down")

    @property
    def needs_session(self) -> bool:
        """Say whether `hello` is due before the next message."""
        return self._sealer is None or self._sealer.sealed >= MAX_MESSAGES

    def end_session(self) -> None:
        """Make `hello` due; to be called where a connection was lost, since a node that started anew has no session."""
        self._sealer = None

    def hello(self) -> bytes:
        """Begin a session: return what goes to `hello_topic`."""
        join = Join(self._take(), self._random_bytes(JOIN_NONCE_BYTES))
        self._join = Join(
            join.counter, join.nonce, schedule.hello_mac(self._root, self._who, join.body(), JOIN_MAC_BYTES)
        )
        return self._join.pack()

    def receive(self, welcome: bytes) -> None:
        """Take a message from `welcome_topic`; raises `DeviceError` and changes nothing where it is not good."""
        if welcome[:1] == bytes([MessageType.REFUSED]):
            try:
                refused = Refused.read(welcome)
            except MessageError:
                raise DeviceError("message") from None
            self.retry_s = refused.retry_s
            if refused.refusal == Refusal.START_ANEW:
                self.end_session()
            raise DeviceError("refused")
        if self._join is None:
            raise DeviceError("unexpected")
        try:
            joined = Joined.read(welcome)
        except MessageError:
            raise DeviceError("message") from None
        prk = schedule.extract(self._root)
        digest = schedule.transcript(self._who, self._join.pack(), joined.body())
        if joined.epoch >= EPOCHS or not hmac.compare_digest(
            joined.mac, schedule.confirmation(prk, digest, JOIN_MAC_BYTES)
        ):
            raise DeviceError("proof")
        up, down = schedule.short_up(prk, digest), schedule.short_down(prk, digest)
        self._join = None
        self._sealer = ShortSealer(up.key, up.iv, joined.epoch, MAX_MESSAGES)
        self._openers = [ShortOpener(down.key, down.iv, joined.epoch, limit=MAX_MESSAGES), *self._openers[:1]]

    def seal(self, channel: str, body: bytes) -> bytes:
        """Seal a reading for `up_topic`; raises `DeviceError` (`session`) where `hello` is due."""
        if self._sealer is None or self.needs_session:
            raise DeviceError("session")
        return self._sealer.seal(reading.pack(channel, body), self.up_topic)

    def open(self, frame: bytes) -> tuple[str, bytes]:
        """Open what came on `down_topic`: a command and its body; raises `DeviceError` or `FrameError`."""
        for opener in self._openers:
            if frame[:1] and frame[0] & (EPOCHS - 1) == opener.epoch:
                return reading.unpack(opener.open(frame, self.down_topic))
        raise DeviceError("session")

    def _topic(self, leaf: str) -> str:
        return reading.topic(self.fleet, self.node, self.device, leaf)

    def _take(self) -> int:
        kept = self._counter.kept
        number = self._counter.take()
        self.changed = self.changed or self._counter.kept != kept
        return number
