"""One Sparkplug session, from a CONNECT to its end: told what was heard and observed, it says what to write. Pure.

Whoever holds the connection has one writer, which asks `next` again and again and writes what it is told; `seq` is
given out there and nowhere else, so the order of numbers is that of the wire
(tck-id-payloads-sequence-num-incrementing).
The order in a session: SUBSCRIBE, STATE of the primary host where there is one, NBIRTH, all DBIRTHs, then data
(tck-id-principles-birth-certificates-order, tck-id-payloads-{dbirth,ndata,ddata}-order,
tck-id-message-flow-edge-node-birth-publish-connect, tck-id-message-flow-device-birth-publish-nbirth-wait).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from qedge.base.errors import QedgeError
from qedge.fleet.sparkplug.births import MAX_MESSAGE_BYTES, Births, admissible, distinct, size_of
from qedge.fleet.sparkplug.certificates import birth, data, death_of_device, death_of_node
from qedge.fleet.sparkplug.commands import Commands, Heard
from qedge.fleet.sparkplug.in_flight import InFlight
from qedge.fleet.sparkplug.model import (
    COUNTER,
    Broken,
    Leave,
    Parting,
    Past,
    Ping,
    Reading,
    Rest,
    Send,
    Snapshot,
    Step,
    Verb,
    Will,
)
from qedge.fleet.sparkplug.pace import Pace
from qedge.fleet.sparkplug.ports import Spooled
from qedge.fleet.sparkplug.primary_host import HostSays, PrimaryHost
from qedge.fleet.sparkplug.replay import PATIENCE_NS, Replay
from qedge.fleet.sparkplug.topics import Topics, is_id, state_topic

NODE: Final = ""
BIRTH_BURST: Final = 50
DATA_ROWS: Final = 500
"""Most metrics of one NDATA or DDATA."""

_PROBE_ROWS: Final = 1000
_FOREVER_NS: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every session of a node; times in seconds, rates in messages or readings a second."""

    topics: Topics
    primary_host: str = ""
    writable: frozenset[str] = frozenset()
    servers: int = 1
    keepalive_s: float = 30.0
    state_timeout_s: float = 30.0
    births_per_s: float = 200.0
    rebirth_gap_s: float = 1.0
    replay_per_s: float = 1000.0
    deadband_ratio: float = 0.01


class Session:
    """One session; `bd_seq` is that of its CONNECT, `now_ns` the boot clock when it was made."""

    def __init__(self, rules: Rules, bd_seq: int, now_ns: int) -> None:
        self.rules = rules
        self.bd_seq = bd_seq
        self.births = Births(rules.deadband_ratio)
        self.host = PrimaryHost()
        self.rebirths = 0
        self._commands = Commands(rules.topics, rules.writable)
        self._in_flight = InFlight()
        self._replay = Replay(rules.replay_per_s)
        self._pace = Pace(rules.births_per_s, BIRTH_BURST)
        self._snapshot = Snapshot()
        self._pending: dict[str, dict[str, Reading]] = {}
        self._due: deque[tuple[Verb, str]] = deque()
        self._again = False
        self._born = False
        self._born_ns = -_FOREVER_NS
        self._online_ns = 0
        self._seq = 0
        self._ping_ns = now_ns
        self._subscribed_ns = -1
        self._parting: Leave | None = None
        self._gone = 0

    def will(self, utc_ms: int) -> Will:
        """Return what goes into the CONNECT (tck-id-message-flow-edge-node-birth-publish-will-message)."""
        return Will(self.rules.topics.of(Verb.NDEATH), death_of_node(self.bd_seq, utc_ms))

    def filters(self) -> tuple[str, ...]:
        """Return what to subscribe to, all at QoS 1, before anything is published.

        tck-id-message-flow-edge-node-ncmd-subscribe, tck-id-message-flow-device-dcmd-subscribe,
        tck-id-operational-behavior-primary-application-state-with-multiple-servers-state-subs.
        """
        topics, rules = self.rules.topics, self.rules
        found = [topics.of(Verb.NCMD)]
        if rules.writable:
            found.append(topics.commands_of_devices)
        return (*found, state_topic(rules.primary_host)) if rules.primary_host else tuple(found)

    @property
    def has_begun(self) -> bool:
        """Whether the NBIRTH is published, so that what is observed goes to hosts now or later."""
        return self._born and self._parting is None

    @property
    def is_online(self) -> bool:
        """Whether all births are published, so that data may be."""
        return self.has_begun and not self._due

    # What is heard and observed

    def subscribed(self, now_ns: int) -> None:
        """Take note of the SUBACK."""
        self._subscribed_ns = now_ns
        self._maybe_begin()

    def observe(self, snapshot: Snapshot, utc_ms: int) -> None:
        """Take what is known now; births and deaths of devices and data follow from it."""
        devices = {each: admissible(snapshot.devices[each]) for each in distinct(snapshot.devices) if is_id(each)}
        self._snapshot = Snapshot(admissible(snapshot.node), devices)
        if not self._born or self._parting is not None:
            return
        if (Verb.NBIRTH, NODE) not in self._due and self.births.new(NODE, self._snapshot.node):
            self._rebirth()
        self._due = deque(each for each in self._due if each[0] is not Verb.DBIRTH or each[1] in devices)
        for device in self.births.owners:
            if device and device not in devices:
                # tck-id-operational-behavior-device-ddeath
                self._due.append((Verb.DDEATH, device))
                self.births.died(device)
                self._pending.pop(device, None)
        for device, readings in devices.items():
            if self.births.new(device, readings) or device not in self.births.owners:
                self._birth_due(device)
        for owner in self.births.owners:
            self._pending[owner] = self.births.changed(owner, self._snapshot.of(owner), utc_ms)
        self._end_births()

    def heard(self, topic: str, payload: bytes, *, retain: bool) -> Heard:
        """Take a message that came; returns what it was worth, and the writes that have to be carried out."""
        if self.rules.primary_host and topic == state_topic(self.rules.primary_host):
            # tck-id-message-flow-edge-node-birth-publish-phid-wait-id: no other topic counts
            self._hear_host(payload)
            return Heard("state")
        try:
            heard = self._commands.hear(topic, payload, retain=retain, datatype=self.births.datatype)
        except QedgeError:
            return Heard("malformed")
        if heard.rebirth and self._born:
            self._rebirth()
        for device in heard.devices:
            if device in self.births.owners:
                self._birth_due(device)
        return heard

    def ponged(self) -> int:
        """Take a PINGRESP; returns up to which id the spool may be erased, 0: nothing new."""
        return self._replay.answered(self._in_flight.answered())

    def all_read(self) -> None:
        """Take the PUBACK of the NDEATH: the server has read everything before it as well."""
        self._in_flight.all_read()

    def leave(self, reason: Parting, *, walk: bool = False) -> None:
        """Begin to leave: the NDEATH is the next and last message; the first reason stays."""
        if self._parting is None:
            self._parting = Leave(reason, walk)

    def wants_history(self, now_ns: int) -> bool:
        """Say whether a batch of the spool should be given."""
        return self.is_online and self._replay.wants(now_ns)

    def give_history(self, batch: Sequence[Spooled], now_ns: int) -> None:
        """Take a batch of the spool."""
        self._replay.give(batch, now_ns)

    @property
    def strangers(self) -> int:
        """Readings of the spool that no birth has."""
        return self._replay.strangers

    def unconfirmed(self) -> tuple[Past, ...]:
        """Return what was sent and may not have arrived, the oldest first."""
        return self._in_flight.unconfirmed()

    # What to write

    def next(self, now_ns: int, utc_ms: int) -> Step:
        """Return what to write now."""
        if self._parting is not None:
            return self._take_leave(self._parting, utc_ms)
        if self._in_flight.waiting_ns(now_ns) > self.rules.keepalive_s * 1e9:
            return Broken()
        if self._wants_ping(now_ns):
            self._ping_ns = now_ns
            number = self._in_flight.ask(now_ns)
            self._replay.asked(number)
            return Ping(number)
        if not self._born and not self._due:
            return self._wait_for_host(now_ns, utc_ms)
        if self._due:
            return self._next_birth(now_ns, utc_ms)
        return self._next_data(utc_ms) or self._next_past(now_ns, utc_ms)

    def _take_leave(self, parting: Leave, utc_ms: int) -> Step:
        """tck-id-operational-behavior-edge-node-intentional-disconnect-{ndeath,packet}.

        tck-id-payloads-ndeath-will-message-{publisher,publisher-disconnect-mqtt311}: NDEATH, then DISCONNECT. Nothing
        is said of its QoS: 1, as the will has, and the PUBACK shows that the server took it.
        """
        self._gone += 1
        if self._gone == 1:
            will = self.will(utc_ms)
            return Send(Verb.NDEATH, will.topic, will.payload, qos=1)
        return parting if self._gone == 2 else Rest(_FOREVER_NS)

    def _wait_for_host(self, now_ns: int, utc_ms: int) -> Step:
        """Keep silent until the host shows, for a while where there are other servers.

        tck-id-message-flow-edge-node-birth-publish-phid-wait,
        tck-id-operational-behavior-edge-node-birth-sequence-wait.
        """
        if self._subscribed_ns < 0 or self.rules.servers == 1:
            return Rest(self._ping_due_ns())
        until_ns = self._subscribed_ns + round(self.rules.state_timeout_s * 1e9)
        if now_ns < until_ns:
            return Rest(min(until_ns, self._ping_due_ns()))
        self.leave(Parting.NO_HOST, walk=True)
        return self.next(now_ns, utc_ms)

    def _next_birth(self, now_ns: int, utc_ms: int) -> Step:
        verb, owner = self._due[0]
        ready_ns = self._pace.ready_ns(now_ns)
        if verb is Verb.NBIRTH:
            ready_ns = max(ready_ns, self._born_ns + round(self.rules.rebirth_gap_s * 1e9))
        if ready_ns > now_ns:
            return Rest(min(ready_ns, self._ping_due_ns()))
        self._due.popleft()
        self._pace.take(now_ns)
        if verb is Verb.NBIRTH:
            return self._birth_of_node(now_ns, utc_ms)
        topic = self.rules.topics.of(verb, owner)
        if verb is Verb.DDEATH:
            sent = Send(verb, topic, death_of_device(utc_ms, self._take_seq()))
        else:
            readings = self._snapshot.of(owner)
            sent = Send(verb, topic, birth(readings, utc_ms, self._take_seq()))
            self._note_birth(owner)
        self._end_births()
        return sent

    def _birth_of_node(self, now_ns: int, utc_ms: int) -> Send:
        """Begin at `seq` 0 with the bdSeq of the will, and have all devices follow.

        tck-id-topics-nbirth-seq-num, tck-id-message-flow-edge-node-birth-publish-nbirth-payload-seq,
        tck-id-operational-behavior-data-commands-rebirth-action-{2,3}.
        """
        self.rebirths += self._born
        self._online_ns = self._online_ns if self._born else now_ns
        self._born, self._born_ns, self._seq = True, now_ns, 0
        self.births.clear()
        self._pending.clear()
        self._due.clear()
        self._due.extend((Verb.DBIRTH, device) for device in self._snapshot.devices)
        self._note_birth(NODE)
        payload = birth(self._snapshot.node, utc_ms, self._take_seq(), bd_seq=self.bd_seq)
        self._end_births()
        return Send(Verb.NBIRTH, self.rules.topics.of(Verb.NBIRTH), payload)

    def _note_birth(self, owner: str) -> None:
        self.births.born(owner, self._snapshot.of(owner))
        self._pending.pop(owner, None)

    def _end_births(self) -> None:
        """Begin once more where a rebirth was asked for while one was under way, however often."""
        if not self._due and self._again:
            self._again = False
            self._due.append((Verb.NBIRTH, NODE))

    def _next_data(self, utc_ms: int) -> Send | None:
        for owner, pending in self._pending.items():
            if not pending:
                continue
            # tck-id-operational-behavior-data-publish-{nbirth,dbirth}-order: by time
            rows, room = list[Past](), MAX_MESSAGE_BYTES
            for name, reading in sorted(pending.items(), key=lambda each: each[1].utc_ms)[:DATA_ROWS]:
                room -= size_of(name, reading)
                if room < 0:
                    break
                rows.append(Past(owner, name, reading))
                del pending[name]
            self.births.say(owner, {row.name: row.reading for row in rows})
            self._in_flight.add(rows)
            return self._data(owner, rows, utc_ms, historical=False)
        return None

    def _next_past(self, now_ns: int, utc_ms: int) -> Step:
        patient = now_ns < self._online_ns + PATIENCE_NS

        def waits(past: Past) -> bool:
            return patient and past.owner not in self.births.owners

        rows = self._replay.message(self._is_known, waits, now_ns)
        if rows:
            return self._data(rows[0].owner, rows, utc_ms, historical=True)
        if self._replay.wants_proof:
            return self.next(now_ns, utc_ms)
        ready_ns = self._replay.ready_ns(now_ns)
        held = ready_ns < 0 or ready_ns <= now_ns  # nothing waits, or a reading waits for the birth of its device
        return Rest(self._ping_due_ns() if held else min(ready_ns, self._ping_due_ns()))

    def _is_known(self, past: Past) -> bool:
        return self.births.datatype(past.owner, past.name) is past.reading.datatype

    def _data(self, owner: str, rows: list[Past], utc_ms: int, *, historical: bool) -> Send:
        verb = Verb.DDATA if owner else Verb.NDATA
        payload = data(rows, utc_ms, self._take_seq(), historical=historical)
        return Send(verb, self.rules.topics.of(verb, owner), payload, historical=len(rows) if historical else 0)

    # Within

    def _maybe_begin(self) -> None:
        ready = self._subscribed_ns >= 0 and (not self.rules.primary_host or self.host.online)
        if ready and not self._born and not self._due:
            self._due.append((Verb.NBIRTH, NODE))

    def _hear_host(self, payload: bytes) -> None:
        says = self.host.hear(payload)
        if says is HostSays.ONLINE:
            self._maybe_begin()
        elif says is HostSays.OFFLINE:
            self._lose_host()

    def _lose_host(self) -> None:
        """Leave: tck-id-operational-behavior-edge-node-termination-host-offline.

        tck-id-operational-behavior-primary-application-state-with-multiple-servers-walk. With one server alone there
        is none to walk to: a node that has not said anything yet waits where it is.
        """
        if self.rules.servers > 1 or self._born:
            self.leave(Parting.HOST_OFFLINE, walk=True)
        else:
            self._due.clear()

    def _rebirth(self) -> None:
        """tck-id-operational-behavior-data-commands-rebirth-action-1: no data goes out while births are due."""
        if not self._due:
            self._due.append((Verb.NBIRTH, NODE))
        elif (Verb.NBIRTH, NODE) not in self._due:
            self._again = True

    def _birth_due(self, device: str) -> None:
        if (Verb.DBIRTH, device) not in self._due and (Verb.NBIRTH, NODE) not in self._due:
            self._due.append((Verb.DBIRTH, device))

    def _wants_ping(self, now_ns: int) -> bool:
        if self._in_flight.unmarked > _PROBE_ROWS or self._replay.wants_proof:
            return True
        return now_ns >= self._ping_due_ns()

    def _ping_due_ns(self) -> int:
        return self._ping_ns + round(self.rules.keepalive_s * 0.5e9)

    def _take_seq(self) -> int:
        """One number for every message of node and devices but the NDEATH; after 255 comes 0.

        tck-id-payloads-sequence-num-always-included, tck-id-topics-{dbirth-seq,ndata-seq-num,ddata-seq-num},
        tck-id-topics-ddeath-seq-num, tck-id-payloads-{dbirth,ndata,ddata,ddeath}-seq-inc,
        tck-id-message-flow-device-birth-publish-dbirth-payload-seq.
        """
        seq = self._seq
        self._seq = (seq + 1) % COUNTER
        return seq
