"""The cloud's side: keeps the results that nodes send up, so that every client there finds them by id."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Final

from qedge.base.clock import Clock
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.bus.model import Incoming
from qedge.bus.service import Bus
from qedge.crypto.signed import open_signed
from qedge.crypto.trust import Trust
from qedge.mesh.crypto_thread import CryptoThread
from qedge.orchestrator.ledger import rows
from qedge.orchestrator.ledger.epochs import owner_of
from qedge.orchestrator.uplink.config import UplinkConfig
from qedge.store.store import Store
from qedge.wire.ledger import JobRecord
from qedge.wire.topics import Channel, every_node
from qedge.wire.uplink import ResultReports


class CloudService:
    """Listens on the topic of results. A record counts where the node that signed it owned the job in the end."""

    name: Final = "results from below"

    def __init__(
        self,
        config: UplinkConfig,
        trust: Trust,
        bus: Bus,
        store: Store,
        thread: CryptoThread,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._trust = trust
        self._store = store
        self._thread = thread
        self._clock = clock
        self._metrics = metrics
        bus.subscribe(every_node(trust.fleet, Channel.RESULTS), self._hear)

    async def run(self, ready: Ready) -> None:
        """Do nothing until cancelled: messages are handled as they come."""
        ready()
        await asyncio.Event().wait()

    async def _hear(self, message: Incoming) -> None:
        """Keep what a node tells of jobs that it owned; raises `bus.bad_message`, `auth.*`, and `store.*`."""
        utc_ns = self._clock.utc_ns()
        header, reports, _ = await self._thread.run(
            open_signed, message.payload, message.topic, ResultReports, self._trust, utc_ns
        )
        good = [record for record in reports.records if _is_told_by(record, header.sender)]
        kept = await self._store.write(lambda connection: self._keep(connection, header.sender, good, utc_ns))
        self._metrics.add("qedge_uplink_messages_total", ("kept",), kept)
        self._metrics.add("qedge_uplink_messages_total", ("refused",), len(reports.records) - kept)

    def _keep(self, connection: sqlite3.Connection, sender: str, records: Sequence[JobRecord], utc_ns: int) -> int:
        held, records = rows.copies_by_sender(connection).get(sender, 0), records[-self._config.keep_of_one :]
        while held + len(records) > self._config.keep_of_one:
            gone = rows.make_room(connection, sender)
            if not gone:
                return 0
            held -= gone
        return sum(not rows.keep(connection, sender, record, utc_ns).refused for record in records)


def _is_told_by(record: JobRecord, sender: str) -> bool:
    ended = record.view.ended_utc_ns > 0 and record.view.id == record.id
    return ended and owner_of(record.epoch, record.holders) == sender
