"""A device with post-quantum keys of its own: enrols once, then opens sessions with its node.

Sans I/O: bytes and seconds go in, bytes come out. Needs `cryptography` 50 or newer.

    device = RichDevice.from_invitation(line, random_bytes=os.urandom)
    publish(device.hello_topic, device.hello())
    reply = device.receive(message_from_welcome_topic, now_s)     # publish it on the hello topic where there is one

Not enrolled yet, the device connects as a guest; enrolled, it connects again under its own name. `now_s` is any clock
that never goes back.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from qedge_device import agreement, reading, schedule
from qedge_device.enrolling import Enrolled, Invitation, KemStatement, guest_of, kem_id_of, open_guest_id, pin_of
from qedge_device.frame import FrameError, Opener, Sealer, Suite, parse_header
from qedge_device.joining import Maker, answer_secret, make_enrol
from qedge_device.kept import Counter, Kept, write
from qedge_device.messages import (
    MAC_BYTES,
    NONCE_BYTES,
    Ask,
    Challenge,
    MessageError,
    MessageType,
    Opened,
    Pending,
    Prove,
    Refusal,
    Refused,
    Resume,
    Resumed,
)
from qedge_device.reading import DeviceError
from qedge_device.rich_state import RichState

WINDOW = 256
MAX_MESSAGES = 2**32
SUITES = bytes([Suite.AES_256_GCM, Suite.CHACHA20_POLY1305])


class RichDevice:
    """One device at one node. Save `state()` whenever `changed` is true, before you send anything."""

    def __init__(
        self,
        state: RichState,
        random_bytes: Callable[[int], bytes],
        *,
        suites: bytes = SUITES,
        maker: Maker | None = None,
    ) -> None:
        self.kept = state
        self.changed = True
        self.retry_s = 0
        self._random_bytes = random_bytes
        self._suites = suites
        self._maker = maker
        self._key = agreement.DeviceKey(state.parameter, state.seed)
        self._counter = Counter(state.counter)
        self._hello: bytes = b""
        self._ephemeral: agreement.XWingKey | None = None
        self._half = b""
        self._sealer: Sealer | None = None
        self._openers: list[tuple[int, Opener]] = []
        self._until_s = 0.0

    @classmethod
    def from_invitation(
        cls,
        line: str,
        *,
        random_bytes: Callable[[int], bytes],
        name: str = "",
        parameter: int = 44,
        maker: Maker | None = None,
    ) -> RichDevice:
        """Make a key and take the line that the operator gave; raises `DeviceError` (`invitation`).

        `name` is wanted where the invitation names no device; `maker` proves who made the device; `parameter` is that
        of ML-DSA: 44 or 65.
        """
        try:
            invitation = Invitation.read(line)
        except MessageError:
            raise DeviceError("invitation") from None
        if invitation.root or not reading.is_name(invitation.device or name):
            raise DeviceError("invitation")
        seed = random_bytes(agreement.SIGNATURE_SEED_BYTES)
        state = RichState.invited(invitation, invitation.device or name, parameter, seed)
        return cls(state, random_bytes, maker=maker)

    @classmethod
    def load(cls, data: bytes, *, random_bytes: Callable[[int], bytes], maker: Maker | None = None) -> RichDevice:
        """Take what `state` gave; raises `DeviceError` (`state`)."""
        made = cls(RichState.read(Kept(data)), random_bytes, maker=maker)
        made.changed = False
        return made

    def state(self) -> bytes:
        """Return what has to be kept, a secret."""
        self.changed = False
        self.kept.counter = self._counter.kept
        return write(self.kept.values())

    @property
    def public_key(self) -> bytes:
        """The raw ML-DSA public key; `enrolling.fingerprint_of` makes of it what an operator compares."""
        return self._key.public_key

    @property
    def is_enrolled(self) -> bool:
        """Say whether the node knows the device."""
        return bool(self.kept.node_key)

    @property
    def username(self) -> str:
        """The user name of MQTT: a guest's before enrolment."""
        if self.is_enrolled:
            return self.kept.device
        return guest_of(self.kept.guest, self.public_key) if self.kept.guest else open_guest_id(self.public_key)

    def password(self, client_id: str) -> str:
        """Return the password of MQTT for one CONNECT; each is good once. Empty without an invitation's token."""
        secret = self.kept.secret if self.is_enrolled else self.kept.token
        if not secret:
            return ""
        return schedule.connect_password(secret, self._who(), client_id, self._take())

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

    def needs_session(self, now_s: float) -> bool:
        """Say whether `hello` is due before the next message."""
        return self._sealer is None or now_s >= self._until_s or self._sealer.sealed >= MAX_MESSAGES

    def use_extra_key(self, extra_id: str, extra: bytes) -> None:
        """Mix a key of another source (QKD) into the sessions from now on; the node has it under the same id."""
        self.kept.extra_id, self.kept.extra = extra_id, extra
        self.changed = True

    def forget_session(self) -> None:
        """Make the next `hello` begin a full session; to be called where a resumption stays without an answer."""
        self.kept.resumption = b""

    def end_session(self) -> None:
        """Make `hello` due; to be called where a connection was lost, since a node that started anew has no session."""
        self._sealer = None
        self._forget_handshake()

    def hello(self) -> bytes:
        """Return what goes to `hello_topic` now: to enrol, to resume a session, or to begin a full one."""
        if not self.is_enrolled:
            self._ephemeral = agreement.XWingKey(self._random_bytes(agreement.XWING_SEED_BYTES))
            nonce = self._random_bytes(NONCE_BYTES)
            self._hello = make_enrol(
                self.kept, self._key, self._who(), nonce, self._ephemeral.public_key, self._maker
            ).pack()
        elif self.kept.resumption:
            bare = Resume(
                self._take(),
                schedule.ticket_of(self.kept.resumption),
                self.kept.suite,
                self._random_bytes(NONCE_BYTES),
                self.kept.extra_id.encode(),
            )
            mac = schedule.hello_mac(self.kept.resumption, self._who(), bare.body(), MAC_BYTES)
            self._hello = bare.body() + mac
        else:
            kem_id = kem_id_of(self._statement().public_key)
            self._hello = Ask(self._suites, kem_id, self._random_bytes(NONCE_BYTES)).pack()
        return self._hello

    def receive(self, welcome: bytes, now_s: float) -> bytes | None:
        """Take a message from `welcome_topic`; returns what goes to `hello_topic` next, None for nothing.

        Raises `DeviceError` and changes nothing where the message is not good: `message`, `unexpected`, `proof`,
        `node` (another node than the invitation's), `suite`, `refused` and `pending` (both: see `retry_s`).
        """
        pairs = {
            MessageType.ENROL: (MessageType.ENROLLED, self._take_enrolled),
            MessageType.ASK: (MessageType.CHALLENGE, self._take_challenge),
            MessageType.PROVE: (MessageType.OPENED, self._take_opened),
            MessageType.RESUME: (MessageType.RESUMED, self._take_resumed),
        }
        try:
            self._take_refusal(welcome)
            if not self._hello or not welcome:
                raise DeviceError("unexpected")
            expected, take = pairs[MessageType(self._hello[0])]
            if welcome[0] != expected:
                raise DeviceError("unexpected")
            return take(welcome, now_s)
        except MessageError:
            raise DeviceError("message") from None
        except agreement.AgreementError:
            raise DeviceError("proof") from None

    def seal(self, channel: str, body: bytes, now_s: float) -> bytes:
        """Seal a reading for `up_topic`; raises `DeviceError` (`session`) where `hello` is due."""
        if self._sealer is None or self.needs_session(now_s):
            raise DeviceError("session")
        return self._sealer.seal(reading.pack(channel, body), self.up_topic)

    def open(self, frame: bytes) -> tuple[str, bytes]:
        """Open what came on `down_topic`: a command and its body; raises `DeviceError` or `FrameError`."""
        key_id = parse_header(frame).key_id
        for known, opener in self._openers:
            if known == key_id:
                return reading.unpack(opener.open(frame, self.down_topic))
        raise FrameError("key")

    def _take_refusal(self, welcome: bytes) -> None:
        if welcome[:1] == bytes([MessageType.PENDING]):
            self.retry_s = Pending.read(welcome).retry_s
            raise DeviceError("pending")
        if welcome[:1] == bytes([MessageType.REFUSED]):
            refused = Refused.read(welcome)
            self.retry_s = refused.retry_s
            if refused.refusal == Refusal.START_ANEW:
                self.forget_session()
                self._sealer = None
            raise DeviceError("refused")

    def _take_enrolled(self, welcome: bytes, _now_s: float) -> None:
        enrolled = Enrolled.read(welcome)
        pin = self.kept.pin
        if pin and not hmac.compare_digest(pin_of(enrolled.node_key), pin):
            raise DeviceError("node")
        if self._ephemeral is None or not reading.is_name(enrolled.device):
            raise DeviceError("unexpected")
        secret = answer_secret(self.kept, self._who(), self._hello, enrolled, self._ephemeral)
        statement = KemStatement.read(enrolled.kem)
        self._check(statement, enrolled.parameter, enrolled.node_key)
        self.kept.enrol(enrolled, secret)
        self._forget_handshake()
        self.changed = True

    def _take_challenge(self, welcome: bytes, _now_s: float) -> bytes:
        challenge = Challenge.read(welcome)
        if challenge.suite not in self._suites:
            raise DeviceError("suite")
        if challenge.kem:
            self._renew_statement(challenge.kem)
        statement = self._statement()
        ephemeral = agreement.XWingKey(self._random_bytes(agreement.XWING_SEED_BYTES))
        half = self._random_bytes(agreement.HALF_BYTES)
        bare = Prove(
            hashlib.sha256(self._hello).digest(),
            challenge.nonce,
            challenge.boot,
            challenge.suite,
            kem_id_of(statement.public_key),
            ephemeral.public_key,
            self.kept.extra_id.encode(),
            b"",
        )
        sealed = agreement.seal_half(half, statement.public_key, agreement.prove_info(self._who(), bare))
        body = bare.bound() + len(sealed).to_bytes(2, "big") + sealed
        unsigned = Prove.read(body + bytes(2))
        signature = self._key.sign(agreement.prove_message(self._who(), unsigned), agreement.SESSION_CONTEXT)
        self._ephemeral, self._half = ephemeral, half
        self._hello = body + len(signature).to_bytes(2, "big") + signature
        return self._hello

    def _take_opened(self, welcome: bytes, now_s: float) -> None:
        opened = Opened.read(welcome)
        if self._ephemeral is None:
            raise DeviceError("unexpected")
        info = agreement.open_info(self._who(), hashlib.sha256(self._hello).digest())
        secret = agreement.opened_secret(self._half, opened, self._ephemeral, info)
        prk = schedule.extract(secret, self.kept.extra)
        digest = schedule.transcript(self._who(), self._hello, opened.body())
        if not hmac.compare_digest(opened.mac, schedule.confirmation(prk, digest)):
            raise DeviceError("proof")
        suite = Suite(Prove.read(self._hello).suite)
        if opened.kem:
            self._renew_statement(opened.kem)
        self.kept.certificate = opened.certificate or self.kept.certificate
        self.kept.resumption, self.kept.suite = schedule.next_secret(prk, digest), suite
        self.changed = True
        self._open(prk, digest, opened.key_id, suite, now_s + opened.lifetime_s)

    def _take_resumed(self, welcome: bytes, now_s: float) -> None:
        resumed = Resumed.read(welcome)
        prk = schedule.extract(self.kept.resumption, self.kept.extra)
        digest = schedule.transcript(self._who(), self._hello, resumed.body())
        if not hmac.compare_digest(resumed.mac, schedule.confirmation(prk, digest)):
            raise DeviceError("proof")
        self._open(prk, digest, resumed.key_id, Suite(self.kept.suite), now_s + resumed.lifetime_s)

    def _open(self, prk: bytes, digest: bytes, key_id: int, suite: Suite, until_s: float) -> None:
        up, down = schedule.rich_up(prk, digest), schedule.rich_down(prk, digest)
        self._sealer = Sealer(suite, up.key, up.iv, key_id, MAX_MESSAGES)
        self._openers = [(key_id, Opener(suite, down.key, down.iv, key_id, WINDOW)), *self._openers[:1]]
        self._until_s = until_s
        self._forget_handshake()

    def _forget_handshake(self) -> None:
        self._hello, self._half, self._ephemeral = b"", b"", None

    def _statement(self) -> KemStatement:
        return KemStatement.read(self.kept.kem)

    def _renew_statement(self, data: bytes) -> None:
        statement = KemStatement.read(data)
        self._check(statement, self.kept.node_parameter, self.kept.node_key)
        if statement.serial < self._statement().serial:
            raise DeviceError("proof")
        self.kept.kem = data
        self.changed = True

    def _check(self, statement: KemStatement, parameter: int, node_key: bytes) -> None:
        if (statement.fleet, statement.node) != (self.kept.fleet, self.kept.node):
            raise DeviceError("node")
        agreement.verify_statement(statement, parameter, node_key)

    def _who(self) -> bytes:
        return schedule.who(self.kept.fleet, self.kept.node, self.username)

    def _topic(self, leaf: str) -> str:
        return reading.topic(self.kept.fleet, self.kept.node, self.username, leaf)

    def _take(self) -> int:
        kept = self._counter.kept
        number = self._counter.take()
        self.changed = self.changed or self._counter.kept != kept
        return number
