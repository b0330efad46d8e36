"""Carries the fleet's shared state and the results of this node over a second broker, now or when it can be reached."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from functools import partial
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import ERROR_CODES, QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.bus.model import MAX_MESSAGE_BYTES, Incoming
from qedge.bus.service import Bus
from qedge.engine.changes import Changes
from qedge.engine.model import FINAL_STATES
from qedge.mesh.crypto_thread import CryptoThread
from qedge.orchestrator.results.service import CLIENT as CHECKS
from qedge.orchestrator.state.model import Entry
from qedge.orchestrator.state.namespaces import NAMESPACES, Scope
from qedge.orchestrator.state.proof import message_of, peek
from qedge.orchestrator.uplink import spool
from qedge.orchestrator.uplink.asking import CloudQuestions
from qedge.orchestrator.uplink.comparing import CloudComparison
from qedge.orchestrator.uplink.config import UplinkConfig
from qedge.orchestrator.uplink.model import UplinkIdentity
from qedge.orchestrator.uplink.ports import SharedState
from qedge.store.store import Store
from qedge.wire.envelope import bad_message
from qedge.wire.ledger import JobRecord
from qedge.wire.topics import Channel, every_node, topic
from qedge.wire.uplink import ResultReports, ResultsHeard

_LOG: Final = get_logger("uplink")
_FLUSH_S: Final = 0.25
_RETRY_S: Final = 1.0
_LAST_RETRY_S: Final = 60.0
_AT_ONCE: Final = 32
_NEWS_LIFE_S: Final = 604_800
_MOST_BYTES: Final = MAX_MESSAGE_BYTES - 64 * 1024
"""Of the records in one message, so that signature and certificates find room beside them."""
_MOST_REMEMBERED: Final = 8192
_MOST_UNWRITTEN: Final = 10_000
_ENCODE: Final = msgspec.msgpack.Encoder().encode


class UplinkService:
    """Everything goes through the spool, so a message that was lost, or a restart, costs nothing but time. Results
    stay there until a node of the cloud says that it has them on its disk.

    An entry that came from above does not go up again, and what came from the site's own broker goes up once: which
    entries those are is remembered by their place and version.
    """

    name = "uplink"

    def __init__(
        self,
        config: UplinkConfig,
        identity: UplinkIdentity,
        uplink: Bus,
        site: Bus,
        state: SharedState,
        changes: Changes,
        store: Store,
        thread: CryptoThread,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._identity = identity
        self._uplink = uplink
        self._site = site
        self._state = state
        self._changes = changes
        self._store = store
        self._thread = thread
        self._clock = clock
        self._metrics = metrics
        self._unwritten: dict[tuple[str, str], bytes] = {}
        self._from_above: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()
        self._work = asyncio.Event()
        self._results = asyncio.Event()
        self._session = asyncio.Event()
        self._problem = ""
        self._questions = CloudQuestions(identity, uplink, thread, clock)
        self._most_bytes = _MOST_BYTES
        self._behind = False
        self._followed_ns = 0
        self.comparison = CloudComparison(
            identity.node,
            config.compare_s,
            state.shared,
            self._questions,
            self._take_in,
            self._may_compare,
            metrics,
        )
        uplink.subscribe(every_node(identity.fleet, Channel.SHARED), self._hear)
        uplink.on_session(self._connected)

    async def run(self, ready: Ready) -> None:
        """Carry until cancelled."""
        fleet = [name for name, rules in NAMESPACES.items() if rules.scope is Scope.FLEET]
        stops = [self._state.watch(name, self._changed) for name in fleet]
        for name in fleet:
            for entry in self._state.under(name):
                self._changed(entry)
        ready()
        try:
            async with asyncio.TaskGroup() as group:
                if self._config.results:
                    group.create_task(self._follow())
                    await self._catch_up()
                    group.create_task(self._send_all_results())
                group.create_task(self._write())
                group.create_task(self.comparison.run())
                await self._send_all_state()
        finally:
            for stop in stops:
                stop()

    # What is to go up

    def _changed(self, entry: Entry) -> None:
        if entry.proof is not None and (entry.ident, entry.version) not in self._from_above:
            self._put(spool.STATE, entry.ident.hex(), message_of(entry))

    async def _follow(self) -> None:
        async for view in self._changes.follow(self._missed):
            # jobs of peers are told by the nodes that own them
            if view.state in FINAL_STATES and not view.client.startswith("node:") and view.client != CHECKS:
                self._put(spool.RESULT, view.id, b"")

    def _missed(self) -> None:
        self._behind = True

    async def _catch_up(self) -> None:
        """Take what ended when nobody followed, or faster than one could: those who follow are told from memory."""
        utc_ns = self._clock.utc_ns()
        work = partial(spool.catch_up, most=self._config.spool_entries, utc_ns=utc_ns, but_of=CHECKS)
        try:
            self._gave_up(await self._store.write(work))
        except QedgeError:  # the store said so already
            self._behind = True
        else:
            self._followed_ns = utc_ns
            self._results.set()

    def _put(self, kind: str, key: str, payload: bytes) -> None:
        if len(self._unwritten) < _MOST_UNWRITTEN or (kind, key) in self._unwritten:
            self._unwritten[kind, key] = payload
        elif kind == spool.RESULT:
            self._behind = True  # the jobs have a table of their own
        else:
            self._gave_up(1)

    def _gave_up(self, number: int) -> None:
        if number:
            self._metrics.add("qedge_uplink_messages_total", ("given_up",), number)
            _LOG.warning("uplink.given_up", results=number)

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            # a clock that is set back would let what ends from now on look as if it had been followed already
            if self._behind or (self._config.results and self._clock.utc_ns() < self._followed_ns):
                self._behind = False
                await self._catch_up()
            if not self._unwritten:
                continue
            utc_ns = self._clock.utc_ns() if self._config.results else 0
            waiting, self._unwritten = self._unwritten, {}
            entries = [(kind, key, payload) for (kind, key), payload in waiting.items()]
            try:
                most = self._config.spool_entries
                gone = await self._store.write(partial(spool.put, entries=entries, most=most, utc_ns=utc_ns))
            except QedgeError:  # the store said so already
                self._unwritten = {**waiting, **self._unwritten}
                await asyncio.sleep(_RETRY_S)
                continue
            self._gave_up(gone)
            self._followed_ns = utc_ns
            self._work.set()
            self._results.set()

    # Sending

    async def _connected(self, _session_present: bool) -> None:
        self._most_bytes = _MOST_BYTES
        self._work.set()
        self._results.set()
        self._session.set()
        self.comparison.connected()

    async def _send_all_state(self) -> None:
        while True:
            self._work.clear()
            with contextlib.suppress(QedgeError):  # the broker is gone, or the disk; nothing was forgotten
                while self._uplink.connected and await self._send_state():
                    pass
                self._metrics.set("qedge_uplink_waiting", await self._store.read(spool.waiting))
            self._metrics.set("qedge_uplink_connected", int(self._uplink.connected))
            await _set_within(self._work, _RETRY_S)

    async def _send_all_results(self) -> None:
        retry_s = _RETRY_S
        while True:
            self._results.clear()
            self._session.clear()
            try:
                while self._uplink.connected and await self._send_results():
                    retry_s = _RETRY_S
            except QedgeError as error:  # nothing was forgotten
                self._not_kept(error.code)
                await _set_within(self._session, retry_s)
                retry_s = min(_LAST_RETRY_S, 2 * retry_s)
            else:
                await _set_within(self._results, _RETRY_S)

    def _not_kept(self, code: str) -> None:
        self._metrics.add("qedge_uplink_messages_total", ("not_kept",))
        if code != self._problem:
            _LOG.warning("uplink.not_kept", code=code)
        self._problem = code

    async def _send_state(self) -> bool:
        rows = await self._store.read(partial(spool.first, kind=spool.STATE, most=_AT_ONCE))
        for number, _, _, payload in rows:
            try:
                _, _, writer, _, _ = peek(payload, self._identity.fleet)
                await self._publish(topic(self._identity.fleet, writer, Channel.SHARED), payload)
            except QedgeError as error:
                if error.code not in ("bus.bad_message", "bus.too_large"):
                    raise
                self._gave_up(1)  # what cannot go must not hold up what follows
            await self._store.write(partial(spool.sent, numbers=[number]), accepted=True)
        return bool(rows)

    async def _send_results(self) -> bool:
        rows = await self._store.read(partial(spool.first, kind=spool.RESULT, most=_AT_ONCE))
        numbers: list[int] = []
        records: list[JobRecord] = []
        size = 0
        for number, _, job_id, _ in rows:
            found = await self._read(job_id)
            if found is not None:
                found, bytes_of_it = _that_fits(found, self._most_bytes)
                if records and size + bytes_of_it > self._most_bytes:
                    break
                records.append(found)
                size += bytes_of_it
            numbers.append(number)
        if records:
            try:
                await self._tell(ResultReports(tuple(records)))
            except QedgeError as error:
                if error.code != "bus.too_large":
                    raise
                if len(records) > 1 or records[0].view.result is not None:
                    # a broker may take less than the wire allows: go on with smaller messages rather than stand still
                    self._most_bytes = min(self._most_bytes, size) // 2
                    return True
                self._gave_up(1)
        if numbers:
            await self._store.write(partial(spool.sent, numbers=numbers), accepted=True)
        return bool(numbers)

    async def _read(self, job_id: str) -> JobRecord | None:
        """Return the record of a job that ended; None where it is forgotten by now, which is told."""
        try:
            found = await self._store.read(partial(spool.record, me=self._identity.node, job_id=job_id))
        except msgspec.DecodeError:  # of a version that is gone; what cannot go must not hold up what follows
            found = None
        if found is None:
            self._gave_up(1)
        return found

    async def _tell(self, reports: ResultReports) -> None:
        """Return once a node of the cloud has written results down; raises `bus.*`, `auth.*`, and what it says."""
        heard = await self._questions.ask(Channel.RESULTS, reports, ResultsHeard)
        if heard.code:
            known = heard.code.startswith("store.") and heard.code in ERROR_CODES
            code = heard.code if known else "internal.unexpected"
            raise QedgeError(code, "The cloud could not write results down.", fix="Look at its disk.")
        self._metrics.add("qedge_uplink_messages_total", ("sent",))
        if heard.refused:
            self._metrics.add("qedge_uplink_messages_total", ("refused",), heard.refused)
            _LOG.warning("uplink.refused", records=heard.refused)
        if self._problem:
            self._problem = ""
            _LOG.info("uplink.kept_again")

    async def _publish(self, where: str, payload: bytes) -> None:
        await self._uplink.publish(where, payload, qos=1, expiry_s=_NEWS_LIFE_S)
        self._metrics.add("qedge_uplink_messages_total", ("sent",))

    # From above

    async def _hear(self, message: Incoming) -> None:
        await self._take_in(message.payload, message.topic)

    async def _take_in(self, payload: bytes, where: str = "") -> bool:
        """Take an entry in that came from above, and let the other nodes of this site have it; says whether it was new.

        `where`: the topic on which it came. There nobody tells this node its own words, which come back by comparing.
        """
        fleet, me = self._identity.fleet, self._identity.node
        scope, _, writer, ident, version = peek(payload, fleet, where)
        if scope is not Scope.FLEET:
            raise bad_message("it is of a site alone")
        self._from_above[ident, version] = None
        if len(self._from_above) > _MOST_REMEMBERED:
            self._from_above.popitem(last=False)
        learned = False
        try:
            learned = (writer != me or not where) and await self._state.learn("uplink", payload)
        finally:
            if not learned:  # anybody can send what looks like it; the true one still has to go up
                self._from_above.pop((ident, version), None)
        if learned:
            self._metrics.add("qedge_uplink_messages_total", ("heard",))
            with contextlib.suppress(QedgeError):  # without the site's broker they hear of it when they compare
                self._site.post(topic(fleet, writer, Channel.SHARED), payload, expiry_s=60)
        return learned

    async def _may_compare(self) -> bool:
        """Say whether there is somebody to compare with, and nothing on its way up that would look lost."""
        if not self._uplink.connected or any(kind == spool.STATE for kind, _ in self._unwritten):
            return False
        try:
            return not await self._store.read(partial(spool.first, kind=spool.STATE, most=1))
        except QedgeError:
            return False


async def _set_within(event: asyncio.Event, limit_s: float) -> None:
    """Wait for an event, not longer than a time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await event.wait()


def _that_fits(record: JobRecord, most: int) -> tuple[JobRecord, int]:
    """Leave a result out that is too large for a message; returns the record and its size in bytes."""
    size = len(_ENCODE(record))
    if size <= most:
        return record, size
    bare = msgspec.structs.replace(record, view=msgspec.structs.replace(record.view, result=None))
    return bare, len(_ENCODE(bare))
