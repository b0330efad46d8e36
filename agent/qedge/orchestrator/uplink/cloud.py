"""The cloud's side: keeps the results that nodes send up, so that every client there finds them by id.

Who sent them is told once they are on the disk, or that they could not be written down: until then it keeps them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.bus.model import Incoming
from qedge.bus.service import Bus
from qedge.crypto.signed import open_signed
from qedge.mesh.crypto_thread import CryptoThread
from qedge.orchestrator.ledger import rows
from qedge.orchestrator.ledger.epochs import owner_of
from qedge.orchestrator.uplink.config import UplinkConfig
from qedge.orchestrator.uplink.model import UplinkIdentity
from qedge.store.store import Store
from qedge.wire.ledger import JobRecord
from qedge.wire.topics import Channel, every_node
from qedge.wire.uplink import ResultReports, ResultsHeard

_LOG: Final = get_logger("uplink")
_SAID_LAST_S: Final = 1.0
_SENDER: Final = "uplink:"
"""No name of a node begins like this."""


class CloudService:
    """Listens on the topic of results. A record counts where the node that signed it owned the job in the end."""

    name: Final = "results from below"

    def __init__(
        self,
        config: UplinkConfig,
        identity: UplinkIdentity,
        bus: Bus,
        store: Store,
        thread: CryptoThread,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._identity = identity
        self._bus = bus
        self._store = store
        self._thread = thread
        self._clock = clock
        self._metrics = metrics
        self._sequence = itertools.count(1)
        self._problem = ""
        bus.subscribe(every_node(identity.fleet, Channel.RESULTS), self._hear)

    async def run(self, ready: Ready) -> None:
        """Do nothing until cancelled: messages are handled as they come."""
        ready()
        await asyncio.Event().wait()

    async def _hear(self, message: Incoming) -> None:
        """Keep what a node tells of jobs that it owned; raises `bus.bad_message`, `auth.*`, and `store.*`."""
        utc_ns = self._clock.utc_ns()
        header, reports, _ = await self._thread.run(
            open_signed, message.payload, message.topic, ResultReports, self._identity.trust, utc_ns
        )
        good = [record for record in reports.records if _is_told_by(record, header.sender)]
        try:
            kept = await self._store.write(lambda connection: self._keep(connection, header.sender, good))
        except QedgeError as error:
            self._not_kept(error.code, header.sender, len(reports.records))
            await self._answer(message, code=error.code)
            raise
        if self._problem:
            self._problem = ""
            _LOG.info("results.kept_again")
        refused = len(reports.records) - kept
        self._metrics.add("qedge_uplink_messages_total", ("kept",), kept)
        self._metrics.add("qedge_uplink_messages_total", ("refused",), refused)
        await self._answer(message, refused=refused)

    def _not_kept(self, code: str, sender: str, records: int) -> None:
        self._metrics.add("qedge_uplink_messages_total", ("not_kept",), records)
        if code != self._problem:
            _LOG.error("results.not_kept", code=code, peer=sender, records=records)
        self._problem = code

    async def _answer(self, message: Incoming, *, refused: int = 0, code: str = "") -> None:
        if not message.response_topic:
            return
        heard = ResultsHeard(hashlib.sha3_256(message.payload).digest(), refused, code)
        sign, where = self._identity.sign, message.response_topic
        payload = await self._thread.run(sign, where, heard, next(self._sequence), self._clock.utc_ns())
        if code:  # another node of the cloud may have room, and the first answer counts
            asyncio.get_running_loop().call_later(_SAID_LAST_S, self._respond, message, payload)
        else:
            self._respond(message, payload)

    def _respond(self, message: Incoming, payload: bytes) -> None:
        with contextlib.suppress(QedgeError):  # what was not answered comes again
            self._bus.respond(message, payload)

    def _keep(self, connection: sqlite3.Connection, node: str, records: Sequence[JobRecord]) -> int:
        """Write down results of a node, and forget older ones of it where there are too many; returns how many stand.

        All of them have ended, so there is always one to forget. Records that this node holds for jobs of a peer are
        another sender's, though that peer may be the same box, and have a bound of their own.
        """
        sender, records = f"{_SENDER}{node}", records[-self._config.keep_of_one :]
        held = rows.copies_of(connection, sender)
        while held + len(records) > self._config.keep_of_one and (gone := rows.make_room(connection, sender)):
            held -= gone
        return sum(_is_kept(connection, sender, record) for record in records)


def _is_kept(connection: sqlite3.Connection, sender: str, record: JobRecord) -> bool:
    """Write a record down; says whether it, or a newer one of its job, is there."""
    kept = rows.keep(connection, sender, record)
    if kept.before is not None and kept.before.id != record.id:
        # clients of two boxes may have one name and one key; their jobs have ended and are two all the same
        bare = msgspec.structs.replace(record, submission=msgspec.structs.replace(record.submission, client_key=""))
        kept = rows.keep(connection, sender, bare)
    return not kept.refused


def _is_told_by(record: JobRecord, sender: str) -> bool:
    ended = record.view.ended_utc_ns > 0 and record.view.id == record.id
    return ended and owner_of(record.epoch, record.holders) == sender
