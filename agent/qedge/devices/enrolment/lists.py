"""Lists of revoked devices between nodes: this node's own goes to all, those of peers are kept and enforced here.

A list is signed, retained and repeated; of each node only a newer one is taken. What the broker withholds shows in the
births, which name the newest serial, and is asked for inside a session. A list that names a device of this node by its
key shuts that device out in the same call, until a newer list names it no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.bus.model import Incoming
from qedge.devices.enrolment import rows
from qedge.devices.enrolment.ports import ListBus, ListPeers, Threads
from qedge.devices.enrolment.revocations import PeerDevices, Visitor
from qedge.devices.enrolment.revoking import Revoking
from qedge.devices.registry.model import DeviceRecord
from qedge.devices.registry.service import DeviceRegistry
from qedge.store.store import Store
from qedge.wire.envelope import Header, bad_message, decode, encode, purpose_of
from qedge.wire.gateway import DeviceCredentials, DeviceListAsk, DeviceRevocations, SignedByNode
from qedge.wire.topics import Channel, every_node, parse_topic, topic

_LOG: Final = get_logger("devices")
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_LOOK_S: Final = 0.5
_RETRY_S: Final = 2.0
_REPAIR_S: Final = 3.0
_ASK_AFTER_S: Final = 3.0
_ASK_AGAIN_S: Final = 30.0
_CALL_S: Final = 10.0
_LONGEST_S: Final = 6 * 3600.0


class DeviceLists:
    """Publishes and hears lists. `serial` is that of the own list which peers can have, 0 before the first.

    `told` hears of every device that is barred or let in again: its name, the node that says so, and whether it is
    barred. `announced` returns the serials that births of living peers name.
    """

    name = "device-lists"

    def __init__(
        self,
        fleet: str,
        node: str,
        *,
        peers: PeerDevices,
        revoking: Revoking,
        registry: DeviceRegistry,
        bar: Callable[[DeviceRecord, str], None],
        store: Store,
        bus: ListBus,
        sessions: ListPeers,
        thread: Threads,
        announced: Callable[[], Mapping[str, int]],
        told: Callable[[str, str, bool], None],
        renewed: Callable[[], None],
        max_age_s: float,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """`bar` shuts a device out, with no node lets it in again; `renewed` hears of every new list of this node."""
        self._fleet = fleet
        self._node = node
        self._peers = peers
        self._refused = revoking.refused
        self._revoking = revoking
        self._registry = registry
        self._bar = bar
        self._store = store
        self._bus = bus
        self._sessions = sessions
        self._thread = thread
        self._announced = announced
        self._told = told
        self._renewed = renewed
        self._period_s = min(_LONGEST_S, max_age_s / 4)
        self._clock = clock
        self._metrics = metrics
        self.serial = 0
        self._signed: SignedByNode | None = None
        self._newest = 0
        self._message = b""
        self._sign_due = True
        self._send_due = True
        self._peers_changed = True
        self._wake = asyncio.Event()
        self._signed_ns = self._repaired_ns = self._asked_ns = clock.now_ns()
        revoking.changed = self._changed
        sessions.serve(DeviceListAsk, self._answer)
        bus.subscribe(every_node(fleet, Channel.DEVICES_REVOKED), self._hear, retained=True)
        bus.on_session(self._connected)

    async def open(self) -> None:
        """Enforce the lists of peers that were kept, and what this node has revoked; before any device can come."""
        utc_ns, now_ns = self._clock.utc_ns(), self._clock.now_ns()
        self._refused.add_own(*await self._store.read(rows.own_revoked))
        for message in await self._store.read(rows.load_peer_lists):
            try:
                signed = msgspec.msgpack.decode(message, type=SignedByNode)
                found = msgspec.msgpack.decode(signed.body, type=DeviceRevocations)
            except msgspec.DecodeError:
                continue
            # Its signature was checked when it came. It counts on though its node has left or was revoked since.
            is_peers = found.fleet == self._fleet and found.node != self._node
            if is_peers and self._peers.learn(found, utc_ns, now_ns):
                self._enforce(found)

    async def run(self, ready: Ready) -> None:
        """Sign, publish and ask for what is missing, until cancelled."""
        ready()
        # Apart from each other: a node that does not answer must not hold up what this node has to say.
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell())
            group.create_task(self._ask())

    async def _tell(self) -> None:
        while True:
            self._wake.clear()
            if self._peers_changed:
                self._peers_changed = False
                self._peers.expect(self._announced(), self._clock.now_ns())
            await self._look()
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _ask(self) -> None:
        while True:
            await self._ask_for_missing(self._clock.now_ns())
            await asyncio.sleep(_LOOK_S)

    def peers_changed(self) -> None:
        """Look soon what births say of lists."""
        self._peers_changed = True

    def require_fresh(self, node: str) -> None:
        """Raise `device.stale_revocations` where nothing privileged may be done for a node and its devices."""
        self._peers.require_fresh(node, self._clock.utc_ns(), self._clock.now_ns())

    async def take(self, signed: SignedByNode, node: str) -> bool:
        """Take a list of a node: enforced when this returns. Says whether it is new; raises `auth.*`."""
        utc_ns = self._clock.utc_ns()
        found = await self._thread.run(self._peers.check, signed, utc_ns, node)
        if found is None or not self._peers.learn(found, utc_ns, self._clock.now_ns()):
            self._metrics.add("qedge_device_lists_total", ("old",))
            return False
        self._enforce(found)
        self._metrics.add("qedge_device_lists_total", ("taken",))
        _LOG.info("device.list_taken", peer=node, serial=found.serial, keys=len(found.entries))
        try:
            write = partial(rows.write_peer_list, node=node, serial=found.serial, message=_ENCODE(signed))
            await self._store.write(write, accepted=True)
        except QedgeError as error:
            # It is in force; after a restart the broker or the node itself brings it again.
            _LOG.warning("device.list_not_kept", peer=node, code=error.code)
        return True

    async def check(self, credentials: DeviceCredentials) -> Visitor:
        """Check a device of another node; raises `auth.*` and `device.stale_revocations`."""
        utc_ns, now_ns = self._clock.utc_ns(), self._clock.now_ns()
        found = await self._thread.run(self._peers.verify, credentials, utc_ns, now_ns, privileged=True)
        self._refused.check(bytes.fromhex(found.public_key.key_id))
        return found

    def _enforce(self, found: DeviceRevocations) -> None:
        changed = self._refused.replace(found.node, (each.key_id for each in found.entries))
        if not changed:
            return
        for record in self._registry:
            if record.key_id not in changed:
                continue
            by = self._refused.elsewhere(record.key_id)
            if by != record.barred:
                self._bar(record, by)
                self._told(record.subject.id, by or found.node, bool(by))
        self._metrics.set("qedge_devices_barred", sum(bool(each.barred) for each in self._registry))

    # The own list

    def _changed(self) -> None:
        self._sign_due = True
        self._wake.set()

    async def _connected(self, _session_present: bool) -> None:
        # Even a broker that kept the session may have lost what it retained.
        self._send_due = True
        self._wake.set()

    async def _look(self) -> None:
        """Do what is due; what fails is tried again."""
        now_ns = self._clock.now_ns()
        try:
            if self._sign_due or now_ns - self._signed_ns >= self._period_s * 1e9:
                await self._sign()
            if self._send_due and self._signed is not None:
                await self._publish()
        except QedgeError as error:
            _LOG.debug("device.list_not_published", code=error.code)
            await asyncio.sleep(_RETRY_S)

    async def _sign(self) -> SignedByNode:
        self._sign_due = False
        try:
            signed = await self._revoking.signed_list()
        except QedgeError:
            self._sign_due = True
            raise
        said = msgspec.msgpack.decode(signed.body, type=DeviceRevocations)
        where = topic(self._fleet, self._node, Channel.DEVICES_REVOKED)
        header = Header(where, self._node, said.serial, purpose_of(SignedByNode), self._clock.utc_ns())
        self._signed, self._message, self._signed_ns = signed, encode(header, signed), self._clock.now_ns()
        self._newest, self._send_due = said.serial, True
        if not said.complete:
            _LOG.error("device.list_incomplete", keys=len(said.entries))
        return signed

    async def _publish(self) -> None:
        where = topic(self._fleet, self._node, Channel.DEVICES_REVOKED)
        self._send_due = False
        try:
            await self._bus.publish(where, self._message, qos=1, retain=True)
        except QedgeError:
            self._send_due = True
            raise
        if self._newest != self.serial:
            self.serial = self._newest
            self._renewed()  # the birth may speak of it now

    async def _answer(self, _peer: str, _ask: DeviceListAsk) -> SignedByNode:
        return self._signed if self._signed is not None else await self._sign()

    # Lists of peers

    async def _hear(self, message: Incoming) -> None:
        parsed = parse_topic(message.topic)
        if parsed is None:
            raise bad_message("its topic is none of ours")
        node = parsed[1]
        if node == self._node:
            self._hear_own(message.payload)
            return
        if not message.payload:
            raise bad_message("nobody can delete a list of revoked devices")
        _, signed = decode(message.payload, message.topic, SignedByNode, self._clock.utc_ns())
        try:
            await self.take(signed, node)
        except QedgeError:
            self._metrics.add("qedge_device_lists_total", ("refused",))
            raise

    def _hear_own(self, payload: bytes) -> None:
        """Where somebody has put something else in the place of the own list, publish it again."""
        now_ns = self._clock.now_ns()
        if self._message and payload != self._message and now_ns - self._repaired_ns >= _REPAIR_S * 1e9:
            self._repaired_ns = now_ns
            self._send_due = True

    async def _ask_for_missing(self, now_ns: int) -> None:
        missing = self._peers.missing(now_ns, _ASK_AFTER_S)
        if not missing or now_ns - self._asked_ns < _ASK_AGAIN_S * 1e9:
            return
        self._asked_ns = now_ns
        async with asyncio.TaskGroup() as group:
            for node in missing:
                group.create_task(self._ask_for(node))

    async def _ask_for(self, node: str) -> None:
        _LOG.warning("device.list_missing", peer=node)
        try:
            signed = await self._sessions.call(node, DeviceListAsk(), SignedByNode, deadline_s=_CALL_S)
            await self.take(signed, node)
        except QedgeError as error:
            _LOG.warning("device.list_withheld", peer=node, code=error.code)
