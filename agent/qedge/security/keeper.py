"""What outlives the daemon, and what peers are told: incidents, boards, trust, checkpoints of the audit log."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.security import ledger
from qedge.security.audit.database import CHECKPOINT_ENTRY
from qedge.security.audit.log import AuditLog
from qedge.security.config import SecurityConfig
from qedge.security.incidents.book import CROWDED, PEER, IncidentBook
from qedge.security.incidents.model import IncidentState
from qedge.security.ports import Herald
from qedge.security.trust.account import Account
from qedge.security.trust.book import TrustBook
from qedge.store.store import Store
from qedge.wire.audit import AuditTrail, Checkpoint
from qedge.wire.incidents import BoardEntry, IncidentBoard, IncidentView

_LOG: Final = get_logger("security")
_SAVE_S: Final = 0.5
_PUBLISH_NS: Final = 1_000_000_000
_ACCOUNTS_NS: Final = 600_000_000_000
_MAX_OVERRULED: Final = 4096


class Parts(Protocol):
    """What the keeper writes down."""

    audit: AuditLog
    trust: TrustBook
    incidents: IncidentBook


class Keeper:
    """Writes twice a second what has changed, and publishes the board at most once a second.

    `waiting` are incidents that are not in the database as they are now; `overruled` are incidents of peers that an
    operator ended here, and that are not enforced again.
    """

    def __init__(
        self, node: str, config: SecurityConfig, *, store: Store, herald: Herald, clock: Clock, parts: Parts
    ) -> None:
        self._node = node
        self._config = config
        self._store = store
        self._herald = herald
        self._clock = clock
        self._parts = parts
        self.waiting: dict[str, IncidentView] = {}
        self._serials: dict[str, int] = {}
        self._new_serials: dict[str, int] = {}
        self._checkpoints: dict[AuditTrail, Checkpoint] = {}
        self._failing: set[str] = set()
        self._board: tuple[BoardEntry, ...] | None = None
        self._published_ns = -_PUBLISH_NS
        self._accounts_ns = clock.now_ns()
        self.overruled: OrderedDict[str, None] = OrderedDict()

    def take(self, view: IncidentView) -> None:
        """Write an incident down soon."""
        there = self.waiting.get(view.id)
        if there is not None and there.node != view.node:
            return  # a peer has given an incident of its own the id of another node's
        self.waiting[view.id] = view
        if view.state == IncidentState.RESOLVED and view.node != self._node and view.ended_by not in (PEER, CROWDED):
            self._overrule(view.id)

    def take_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint of the audit log down soon."""
        self._checkpoints[checkpoint.trail] = checkpoint

    def is_newer(self, node: str, serial: int) -> bool:
        """Say whether a board is newer than all before it of its node, and remember it."""
        if serial <= self._serials.get(node, 0):
            return False
        self._serials[node] = self._new_serials[node] = serial
        return True

    def publish_again(self) -> None:
        """Publish the board soon although it is as before: the broker may have lost it."""
        self._board = None

    async def open(self) -> None:
        """Read what was written down, and open the audit log."""
        now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
        for trail in AuditTrail:
            if kept := await self._store.get_meta(CHECKPOINT_ENTRY + trail):
                self._parts.audit.kept[trail] = msgspec.json.decode(kept, type=Checkpoint)
        await self._parts.audit.open()
        self._serials = await self._store.read(ledger.read_serials)
        for view in await self._store.read(ledger.read_open):
            self._parts.incidents.restore(view, now_ns)
        for view in await self._store.read(partial(ledger.read_newest, limit=_MAX_OVERRULED)):
            if view.state == IncidentState.RESOLVED and view.node != self._node and view.ended_by != PEER:
                self._overrule(view.id)
        allowance = self._config.trust.gain_per_hour / 2
        for device, written_utc_ns, data in await self._store.read(ledger.read_accounts):
            try:
                account = Account.unpack(data, max(0, utc_ns - written_utc_ns), now_ns, allowance)
            except ValueError:
                continue
            self._parts.trust.restore(device, account)

    async def run(self) -> None:
        """Save and publish until cancelled."""
        while True:
            await asyncio.sleep(_SAVE_S)
            await self.once()

    async def once(self) -> None:
        """Save and publish what is new, each whatever becomes of the other; what fails is tried again the next time."""
        await self.save()
        await self._try("publish", self._publish)

    async def save(self) -> None:
        """Save now, since somebody is about to be told that it is done; what fails is tried again soon."""
        await self._try("save", self._save)

    async def _try(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do one thing, and say it once where it begins to fail: it is tried twice a second."""
        try:
            await work()
            self._failing.discard(name)
        except QedgeError as error:
            if name not in self._failing:
                self._failing.add(name)
                _LOG.warning("security.not_kept", code=error.code, error=error.message)

    async def close(self) -> None:
        """Save what is left, and close the audit log."""
        await self._parts.audit.close()
        try:
            await self._save()
            await self._save_accounts(whole=True)
        except QedgeError as error:
            _LOG.warning("security.not_kept", code=error.code, error=error.message)

    async def _save(self) -> None:
        serials, self._new_serials = self._new_serials, {}
        checkpoints, self._checkpoints = self._checkpoints, {}
        try:
            if written := dict(self.waiting):
                views = tuple(written.values())
                write = partial(ledger.write_incidents, views=views, most=self._config.incidents.max_kept)
                await self._store.write(write, accepted=True)
                self.waiting = {name: view for name, view in self.waiting.items() if view is not written.get(name)}
            for node, serial in serials.items():
                await self._store.write(partial(ledger.write_serial, node=node, serial=serial), accepted=True)
            for trail, checkpoint in checkpoints.items():
                text = msgspec.json.encode(checkpoint).decode()
                await self._store.set_meta(CHECKPOINT_ENTRY + trail, text, accepted=True)
        except QedgeError:
            self._new_serials = serials | self._new_serials
            self._checkpoints = checkpoints | self._checkpoints
            raise
        if self._clock.now_ns() - self._accounts_ns >= _ACCOUNTS_NS:
            await self._save_accounts(whole=False)

    async def _save_accounts(self, *, whole: bool) -> None:
        """Write trust down; between starts and stops only what counts against devices, which is seldom much."""
        now_ns = self._accounts_ns = self._clock.now_ns()
        accounts = {
            device: account.pack(now_ns)
            for device, account in self._parts.trust.accounts()
            if whole or account.sums(now_ns).bad
        }
        write = partial(ledger.write_accounts, accounts=accounts, utc_ns=self._clock.utc_ns(), whole=whole)
        await self._store.write(write)

    async def _publish(self) -> None:
        """Tell the fleet where there is something new to tell; an empty board only where there was another."""
        entries = self._parts.incidents.board()
        now_ns = self._clock.now_ns()
        if entries == (self._board or ()) and (self._board is not None or not self._serials.get(self._node)):
            return
        if now_ns - self._published_ns < _PUBLISH_NS:
            return
        self._published_ns = now_ns
        serial = max(self._clock.utc_ns(), self._serials.get(self._node, 0) + 1)
        # On a full disk too: peers have to hear of a quarantine, and the row is there already but for the first time.
        await self._store.write(partial(ledger.write_serial, node=self._node, serial=serial), accepted=True)
        self._serials[self._node] = serial
        await self._herald.publish(IncidentBoard(self._node, serial, entries))
        self._board = entries

    def _overrule(self, incident_id: str) -> None:
        self.overruled[incident_id] = None
        while len(self.overruled) > _MAX_OVERRULED:
            self.overruled.popitem(last=False)
