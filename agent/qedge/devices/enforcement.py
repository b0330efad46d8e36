"""The policy enforcement point (NIST SP 800-207, §3): every message of a device, and to one, passes here.

Up: session → frame opened, replay window → channel → policy → consumers. Down: policy → frame sealed → the first way
that reaches the device. Everything is counted in plain integers; `flush` hands them to the metrics once in a while.

Whom a bad frame counts against depends on the way it came. The listener has authenticated the connection, so there it
is the device. On the broker anyone may have published it, so there it says nothing of the device: it counts against
the way, or else a stranger could have a sound device quarantined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.devices.model import GUEST_MARK, DeviceSession
from qedge.devices.ports import Consumer, SessionBook, Way, Witness
from qedge.security.model import Action, Decision, Evidence, Reason, Resource, ResourceKind, Subject
from qedge.security.ports import Judge
from qedge.security.tally import Tally
from qedge.wire.attached import MAX_CHANNEL_BYTES, pack_reading, unpack_reading
from qedge_device.frame import FrameError

_LOG: Final = get_logger("devices")
MAX_KNOWN_CHANNELS: Final = 8192
"""Resources kept ready; channels are named by devices, so their number has a bound."""

MAX_TALLIED_CHANNELS: Final = 64
"""Channels noted of a device in a window; who uses more is seen as well as who uses a thousand."""

_QUIET_NS: Final = 60 * 10**9
_NODE: Final = Resource(ResourceKind.NODE)
_NOBODY: Final = Decision(False, Reason.UNKNOWN)


_ANSWERED: Final = Decision(True, Reason.ALLOWED)
_NOT_ANSWERED: Final = {each: Decision(False, each) for each in (Reason.REVOKED, Reason.QUARANTINED, Reason.LEASE)}
OWN_MARK: Final = "_"
"""Begins the channels of the gateway's own talk with a device: answers to commands, questions for group keys."""


class Outcome(IntEnum):
    """What became of a message from a device."""

    TAKEN = 0
    NO_SESSION = 1
    EXPIRED = 2
    REPLAYED = 3
    DUPLICATE = 4
    UNOPENED = 5
    MALFORMED = 6
    DENIED = 7
    FAILED = 8
    THROTTLED = 9
    FOREIGN_TOPIC = 10


_LABELS: Final = tuple((each.name.lower(),) for each in Outcome)
_TAKEN: Final = int(Outcome.TAKEN)


class Delivery(StrEnum):
    """What became of a command to a device."""

    SENT = "sent"
    DENIED = "denied"
    NO_SESSION = "no_session"
    UNREACHABLE = "unreachable"
    BAD_NAME = "bad_name"


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading that was opened and not yet decided about: a will waits so for the end of its connection."""

    subject: Subject
    channel: str
    body: bytes


class Enforcement:
    """The one place where messages of devices become readings, and commands become messages to devices.

    `tallies` holds one count for each device that had a session; `strangers` what came unproven over the broker.
    Nothing here raises or waits.
    """

    def __init__(
        self,
        book: SessionBook,
        judge: Judge,
        *,
        consumers: Sequence[Consumer],
        witness: Witness,
        metrics: Metrics,
    ) -> None:
        self._find = book.find
        self._current = book.current
        self._decide = judge.decide
        self._takes = tuple(consumer.take for consumer in consumers)
        self._witness = witness
        self._metrics = metrics
        self._ways: tuple[Way, ...] = ()
        self._heads: dict[tuple[str, bytes], tuple[bytes, str, Resource]] = {}
        self._counts = [0] * len(Outcome)
        self._denials: dict[Reason, int] = {}
        self._commands: dict[Delivery, int] = {}
        self._quiet_until_ns = 0
        self.tallies: dict[str, Tally] = {}
        self.strangers = Tally()

    def connect(self, ways: Sequence[Way]) -> None:
        """Say by which ways devices can be reached, the quickest first."""
        self._ways = tuple(ways)

    def admit(self, subject: Subject | None, now_ns: int, utc_ns: int) -> bool:
        """Decide whether who has proved its identity may be connected.

        A lease that ran out keeps nobody away: it is renewed over this very connection, and until then every message
        is refused for it. Policy knows nothing of guests, who have no session and can only ask to be enrolled.
        """
        if subject is None:
            return False
        if subject.id.startswith(GUEST_MARK):
            return True
        decision = self._decide(subject, Action.CONNECT, _NODE, now_ns, utc_ns)
        if decision.allowed or decision.reason is Reason.LEASE:
            return True
        self._note_denied(subject, Action.CONNECT, _NODE, decision, now_ns, utc_ns)
        return False

    def up(
        self,
        device_id: str,
        topic: str,
        frame: bytes,
        now_ns: int,
        utc_ns: int,
        again: bool = False,
        proven: bool = True,
    ) -> int:
        """Take one frame of a device and return its `Outcome`.

        `again`: the way says that it may have delivered it before (DUP of MQTT), so a repeat is nobody's fault.
        `proven`: only the device itself can have sent it, as on a connection that was authenticated.
        """
        try:
            session = self._find(device_id, frame)
            if session is None:
                return self._no_session(device_id, now_ns, utc_ns, proven)
            if session.expires_ns <= now_ns:
                return self._count(Outcome.EXPIRED)
            tally = session.tally or self._tally_of(session, device_id)
            try:
                inside = session.opener.open(frame, topic)
            except FrameError as error:
                return self._unopened(device_id, error.reason, now_ns, utc_ns, again, proven)
            size = len(frame)
            tally.messages += 1
            tally.bytes_in += size
            tally.squared_bytes += size * size
            tally.last_ns = now_ns
            subject, said = session.subject, session.said
            if said is None or not inside.startswith(said[0]) or said[2].segment != subject.segment:
                said = session.said = self._hear(subject.segment, inside)
                if said is None:
                    return self.malformed(device_id, now_ns, utc_ns)
            head, channel, resource = said
            if channel is not tally.channel:
                tally.channel = channel
                if len(tally.channels) < MAX_TALLIED_CHANNELS:
                    tally.channels.add(channel)
            own = channel[0] == OWN_MARK
            decision = _own(subject, now_ns) if own else self._decide(subject, Action.PUBLISH, resource, now_ns, utc_ns)
            if not decision.allowed:
                tally.denied += 1
                self._note_denied(subject, Action.PUBLISH, resource, decision, now_ns, utc_ns)
                return self._count(Outcome.DENIED)
            body = inside[len(head) :]
            outcome = _TAKEN
            for take in self._takes:
                try:
                    take(subject, channel, body, now_ns)
                except Exception as error:  # noqa: BLE001 - what one consumer cannot take, the others still get
                    outcome = self._failed(error, now_ns)
        except Exception as error:  # noqa: BLE001 - a fault in one reading must not end the way of all others
            return self._failed(error, now_ns)
        if outcome == _TAKEN:
            self._counts[_TAKEN] += 1
        return outcome

    def open(self, device_id: str, topic: str, frame: bytes, now_ns: int) -> Reading | None:
        """Open a frame whose reading is to be decided about later; None where it is not good."""
        try:
            session = self._find(device_id, frame)
            if session is None or session.expires_ns <= now_ns:
                return None
            channel, body = unpack_reading(session.opener.open(frame, topic))
        except (FrameError, ValueError):
            return None
        except Exception as error:  # noqa: BLE001 - as in `up`
            self._failed(error, now_ns)
            return None
        return Reading(session.subject, channel, body)

    def publish(self, reading: Reading, now_ns: int, utc_ns: int) -> int:
        """Decide about a reading that was opened before and hand it on; returns its `Outcome`."""
        try:
            subject = reading.subject
            resource = Resource(ResourceKind.SEGMENT, reading.channel, subject.segment)
            decision = self._decide(subject, Action.PUBLISH, resource, now_ns, utc_ns)
            if not decision.allowed:
                self._note_denied(subject, Action.PUBLISH, resource, decision, now_ns, utc_ns)
                return self._count(Outcome.DENIED)
            for take in self._takes:
                take(subject, reading.channel, reading.body, now_ns)
        except Exception as error:  # noqa: BLE001 - as in `up`
            return self._failed(error, now_ns)
        return self._count(Outcome.TAKEN)

    def down(
        self, asker: Subject | None, device_id: str, command: str, body: bytes, now_ns: int, utc_ns: int
    ) -> Delivery:
        """Send a command to a device on behalf of `asker`: an app, a peer, an operator or another device."""
        try:
            session = self._current(device_id)
            segment = session.subject.segment if session is not None else ""
            resource = Resource(ResourceKind.DEVICE, command, segment, device_id)
            decision = _NOBODY if asker is None else self._decide(asker, Action.COMMAND, resource, now_ns, utc_ns)
            if not decision.allowed:
                self._note_denied(asker, Action.COMMAND, resource, decision, now_ns, utc_ns)
                return self._told(Delivery.DENIED)
            if session is None or session.expires_ns <= now_ns:
                return self._told(Delivery.NO_SESSION)
            return self._told(self._send(session, device_id, command, body))
        except Exception as error:  # noqa: BLE001 - as in `up`
            self._failed(error, now_ns)
            return self._told(Delivery.UNREACHABLE)

    def hand(self, device_id: str, command: str, body: bytes, now_ns: int) -> bool:
        """Send what the node itself decided: a command that `CommandDesk` has let through, or the key of a segment."""
        try:
            session = self._current(device_id)
            if session is None or session.expires_ns <= now_ns:
                return self._told(Delivery.NO_SESSION) is Delivery.SENT
            return self._told(self._send(session, device_id, command, body)) is Delivery.SENT
        except Exception as error:  # noqa: BLE001 - as in `up`
            self._failed(error, now_ns)
            return False

    def refuse(self, device_id: str, outcome: Outcome, now_ns: int, utc_ns: int, proven: bool) -> int:
        """Count a message that a way refused without opening it: too many, or on a topic of somebody else."""
        tally = self.tallies.get(device_id, self.strangers) if proven else self.strangers
        if outcome is Outcome.THROTTLED:
            tally.throttled += 1
        else:
            tally.denied += 1
            if proven:
                self._witness.odd(device_id, Evidence.TOPIC_SPREAD, now_ns, utc_ns)
        return self._count(outcome)

    def note_connect(self, device_id: str, now_ns: int) -> None:
        """Count that a device has connected and proved who it is; guests come and go, and nothing is kept of them."""
        if device_id.startswith(GUEST_MARK):
            return
        tally = self._tally(device_id)
        tally.connects += 1
        tally.last_ns = now_ns

    def malformed(self, device_id: str, now_ns: int, utc_ns: int) -> int:
        """Note that a device that has proved who it is sends what cannot be read; returns the `Outcome`."""
        self.tallies.get(device_id, self.strangers).malformed += 1
        self._witness.odd(device_id, Evidence.MALFORMED, now_ns, utc_ns)
        return self._count(Outcome.MALFORMED)

    def forget(self, device_id: str) -> None:
        """Drop the count of a device that is no longer one of this node."""
        self.tallies.pop(device_id, None)

    def flush(self) -> None:
        """Hand what was counted since the last time to the metrics."""
        for outcome, amount in enumerate(self._counts):
            if amount:
                self._metrics.add("qedge_device_messages_total", _LABELS[outcome], amount)
                self._counts[outcome] = 0
        denials, self._denials = self._denials, {}
        for reason, amount in denials.items():
            self._metrics.add("qedge_device_denials_total", (reason.value,), amount)
        commands, self._commands = self._commands, {}
        for delivery, amount in commands.items():
            self._metrics.add("qedge_device_commands_total", (delivery.value,), amount)

    def _send(self, session: DeviceSession, device_id: str, command: str, body: bytes) -> Delivery:
        subject = session.subject
        if subject.quarantined or subject.revoked:
            return Delivery.UNREACHABLE
        try:
            inside = pack_reading(command, body)
        except ValueError:
            return Delivery.BAD_NAME
        try:
            frame = session.sealer.seal(inside, session.down_topic)
        except FrameError:
            return Delivery.NO_SESSION
        for way in self._ways:
            if way.send(device_id, session.down_topic, frame):
                return Delivery.SENT
        return Delivery.UNREACHABLE

    def _hear(self, segment: str, inside: bytes) -> tuple[bytes, str, Resource] | None:
        """Return the head of a reading with its channel and the resource of that; None where it has none."""
        head = inside[: 1 + inside[0]] if inside else b""
        known = self._heads.get((segment, head))
        if known is not None:
            return known
        try:
            channel, _body = unpack_reading(inside)
        except ValueError:
            return None
        known = (head, channel, Resource(ResourceKind.SEGMENT, channel, segment))
        if len(self._heads) < MAX_KNOWN_CHANNELS and len(channel) <= MAX_CHANNEL_BYTES:
            self._heads[segment, head] = known
        return known

    def _tally(self, device_id: str) -> Tally:
        return self.tallies.get(device_id) or self.tallies.setdefault(device_id, Tally())

    def _tally_of(self, session: DeviceSession, device_id: str) -> Tally:
        tally = session.tally = self._tally(device_id)
        return tally

    def _no_session(self, device_id: str, now_ns: int, utc_ns: int, proven: bool) -> int:
        """Blame a device that has a session and sends frames of none; one without may not know yet that it ended."""
        if not proven:
            self.strangers.failed += 1
        elif self._current(device_id) is not None:
            self._tally(device_id).failed += 1
            self._witness.odd(device_id, Evidence.AUTHENTICATION_FAILED, now_ns, utc_ns)
            return self._count(Outcome.UNOPENED)
        return self._count(Outcome.NO_SESSION)

    def _unopened(self, device_id: str, reason: str, now_ns: int, utc_ns: int, again: bool, proven: bool) -> int:
        if reason == "replay" and again:
            return self._count(Outcome.DUPLICATE)
        tally = self._tally(device_id) if proven else self.strangers
        if reason == "replay":
            tally.replayed += 1
            outcome, evidence = Outcome.REPLAYED, Evidence.REPLAYED
        elif reason in ("short", "version"):
            tally.malformed += 1
            outcome, evidence = Outcome.MALFORMED, Evidence.MALFORMED
        elif reason == "key":
            tally.failed += 1
            return self._count(Outcome.NO_SESSION)
        else:
            tally.failed += 1
            outcome, evidence = Outcome.UNOPENED, Evidence.AUTHENTICATION_FAILED
        if proven:
            self._witness.odd(device_id, evidence, now_ns, utc_ns)
        return self._count(outcome)

    def _note_denied(
        self, subject: Subject | None, action: Action, resource: Resource, decision: Decision, now_ns: int, utc_ns: int
    ) -> None:
        self._denials[decision.reason] = self._denials.get(decision.reason, 0) + 1
        self._witness.denied(subject, action, resource, decision, now_ns, utc_ns)

    def _failed(self, error: Exception, now_ns: int) -> int:
        if now_ns >= self._quiet_until_ns:
            self._quiet_until_ns = now_ns + _QUIET_NS
            _LOG.error("devices.failed", error=f"{type(error).__name__}: {error}")
        return self._count(Outcome.FAILED)

    def _count(self, outcome: Outcome) -> int:
        self._counts[outcome] += 1
        return int(outcome)

    def _told(self, delivery: Delivery) -> Delivery:
        self._commands[delivery] = self._commands.get(delivery, 0) + 1
        return delivery


def _own(subject: Subject, now_ns: int) -> Decision:
    """Decide about the gateway's own channels, which no rule names: whoever is in good standing may use them."""
    if subject.revoked:
        return _NOT_ANSWERED[Reason.REVOKED]
    if subject.quarantined:
        return _NOT_ANSWERED[Reason.QUARANTINED]
    return _ANSWERED if subject.lease_until_ns >= now_ns else _NOT_ANSWERED[Reason.LEASE]
