"""The policy of a node: read from its file or taken from its fleet, kept across restarts, put in force as a whole."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.bus.model import Incoming
from qedge.crypto.trust import Trust
from qedge.security.model import Action, Decision, Resource, Subject
from qedge.security.policy.bundle import FILE, check_bundle, digest, read_bundle
from qedge.security.policy.config import PolicyConfig
from qedge.security.policy.document import MAX_DOCUMENT_BYTES, parse_document
from qedge.security.policy.engine import PolicyEngine
from qedge.security.policy.ports import PolicyBus, Shelf
from qedge.security.policy.replay import record
from qedge.security.policy.table import PolicyTable
from qedge.wire.envelope import Header, bad_message, decode, encode, purpose_of
from qedge.wire.policy import PolicyBundle, PolicyNotice, PolicyView, RecordCommand, RecordedRequest, RecordedRequests
from qedge.wire.topics import Channel, topic
from qedge.wire.trust import AUTHORITY

_LOG: Final = get_logger("policy")
_KEPT: Final = "policy.bundle"
_TICK_S: Final = 1.0
_REPEAT_AFTER_S: Final = 3.0
_FLEET: Final = "fleet"
_FILE: Final = "file"


@dataclass(frozen=True, slots=True)
class _Held:
    """The newest bundle of the fleet; `table` is None where this node cannot read the policy in it."""

    signed: bytes
    bundle: PolicyBundle
    table: PolicyTable | None


class PolicyService:
    """Keeps `engine` at the newest policy that counts.

    A policy that the fleet's authority signed comes before the file, whatever the file says. One that has expired, or
    that cannot be read here, does not give way to the file: everything is denied until the authority signs again.
    """

    name = "policy"

    def __init__(
        self,
        engine: PolicyEngine,
        trust: Trust,
        config: PolicyConfig,
        *,
        bus: PolicyBus,
        shelf: Shelf,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.engine = engine
        self._trust = trust
        self._file = config.file
        self._bus = bus
        self._shelf = shelf
        self._clock = clock
        self._metrics = metrics
        self._held: _Held | None = None
        self._in_force = PolicyView("none", 0, 0)
        self._refused = ""
        self._changing = asyncio.Lock()
        self._group: asyncio.TaskGroup | None = None
        self._repeating = False
        self.on_change: Callable[[], None] = lambda: None
        """Called when another policy is in force."""

        bus.subscribe(topic(trust.fleet, AUTHORITY, Channel.POLICY), self._hear, retained=True)
        bus.on_session(self._connected)

    async def open(self) -> None:
        """Put in force what counted before the restart, else the file; a policy with faults leaves none in force."""
        async with self._changing:
            held = await self._load()
            if held is not None:
                self._held = held
                self._enforce(held)
            elif self._file:
                with contextlib.suppress(QedgeError):  # which is told by then
                    await self._take_file()

    async def run(self, ready: Ready) -> None:
        """Watch over the end of the fleet's policy, and repeat it where the broker lost it, until cancelled."""
        ready()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                while True:
                    await asyncio.sleep(_TICK_S)
                    self.tick()
        finally:
            self._group = None
            self._repeating = False

    def tick(self) -> None:
        """Deny everything once the fleet's policy has expired."""
        held = self._held
        if held is not None and held.table is not None:
            expired = self._clock.utc_ns() >= held.bundle.expires_utc_ns
            if expired != (self._in_force.source != _FLEET):
                self._enforce(held)

    def view(self) -> PolicyView:
        """Describe the policy in force."""
        return msgspec.structs.replace(self._in_force, refused=self._refused)

    def newest(self) -> bytes:
        """Return the fleet's newest bundle as its authority signed it; empty where there is none."""
        return b"" if self._held is None else self._held.signed

    async def take(self, signed: bytes) -> PolicyView:
        """Take a policy that the fleet's authority signed, and pass it on.

        Raises `policy.old`, `policy.expired`, `policy.invalid`, `policy.bad_bundle`, `auth.*` and `store.*`, and then
        leaves everything as it was.
        """
        await self._learn(signed)
        await self._publish()
        return self.view()

    async def reload(self) -> PolicyView:
        """Read the file again, unless the fleet has a policy; raises `policy.unreadable`, `policy.invalid`."""
        async with self._changing:
            if self._held is None:
                await self._take_file()
        return self.view()

    async def record(self, command: RecordCommand) -> RecordedRequests:
        """Record the next requests, at most so many and for so long; raises `http.busy`."""
        found: list[RecordedRequest] = []
        enough = asyncio.Event()

        def heard(
            subject: Subject | None, action: Action, resource: Resource, now_ns: int, utc_ns: int, decision: Decision
        ) -> None:
            if len(found) < command.count:
                found.append(record(subject, action, resource, now_ns, utc_ns, decision))
            if len(found) == command.count:
                enough.set()

        try:
            stop = self.engine.listen(heard)
        except ValueError as error:
            raise QedgeError("http.busy", "Others record already.", fix="Try again in some seconds.") from error
        try:
            await asyncio.wait_for(enough.wait(), command.seconds)
        except TimeoutError:
            pass
        finally:
            stop()
        return RecordedRequests(tuple(found))

    # What counts

    @property
    def serial(self) -> int:
        """Serial of the fleet's policy that is in force; 0: none is."""
        return self._in_force.serial if self._in_force.source == _FLEET else 0

    def _serial(self) -> int:
        return 0 if self._held is None else self._held.bundle.serial

    def _check(self, signed: bytes, newer_than: int) -> _Held:
        bundle = read_bundle(signed, self._trust, newer_than)
        document = check_bundle(bundle, self._clock.utc_ns())
        return _Held(signed, bundle, self.engine.compile(document))

    async def _load(self) -> _Held | None:
        """Read the bundle that was kept; None where there is none of this fleet."""
        kept = await self._shelf.get_meta(_KEPT)
        if not kept:
            return None
        try:
            signed = base64.b64decode(kept, validate=True)
            bundle = await asyncio.to_thread(read_bundle, signed, self._trust)
        except (binascii.Error, QedgeError) as error:
            _LOG.warning("policy.refused", source=_FLEET, code=getattr(error, "code", ""), error=str(error))
            return None  # of a fleet that this node was in before
        try:
            return _Held(signed, bundle, await asyncio.to_thread(self._compile, bundle))
        except QedgeError as error:
            self._refuse(_FLEET, error)
            return _Held(signed, bundle, None)

    def _compile(self, bundle: PolicyBundle) -> PolicyTable:
        return self.engine.compile(parse_document(bundle.text, FILE))

    def _enforce(self, held: _Held) -> None:
        """Put the fleet's policy in force, or none where it counts no more."""
        bundle = held.bundle
        if held.table is None or self._clock.utc_ns() >= bundle.expires_utc_ns:
            _LOG.error("policy.expired", serial=bundle.serial)
            self._swap("none", PolicyTable(), b"", bundle)
        else:
            self._swap(_FLEET, held.table, bundle.text, bundle)

    async def _take_file(self) -> None:
        if not self._file:
            self._swap("none", PolicyTable(), b"", None)
            return
        try:
            text, table = await asyncio.to_thread(self._read_file)
        except QedgeError as error:
            self._refuse(_FILE, error)
            raise
        self._refused = ""
        self._swap(_FILE, table, text, None)

    def _read_file(self) -> tuple[bytes, PolicyTable]:
        text = read_policy_file(Path(self._file))
        return text, self.engine.compile(parse_document(text, self._file))

    def _swap(self, source: str, table: PolicyTable, text: bytes, bundle: PolicyBundle | None) -> None:
        self.engine.swap(table)
        document = table.document
        self._in_force = PolicyView(
            source=source,
            rules=len(document.rules),
            segments=len(document.segments),
            sha256=digest(text) if text else "",
            serial=0 if bundle is None else bundle.serial,
            expires_utc_ns=0 if bundle is None else bundle.expires_utc_ns,
            since_utc_ns=self._clock.utc_ns(),
            file=self._file,
        )
        view = self._in_force
        self._metrics.set("qedge_policy_rules", view.rules)
        self._metrics.set("qedge_policy_serial", view.serial)
        self._metrics.add("qedge_policy_changes_total", (source,))
        self.on_change()
        _LOG.info("policy.applied", source=source, serial=view.serial, rules=view.rules, sha256=view.sha256)

    def _refuse(self, source: str, error: QedgeError) -> None:
        self._refused = str(error)
        self._metrics.add("qedge_policy_refused_total", (error.code,))
        _LOG.error("policy.refused", source=source, code=error.code, error=str(error))

    # The fleet

    async def _hear(self, message: Incoming) -> None:
        if not message.payload:
            self._repeat_soon()
            if self._held is None:
                return
            raise bad_message("nobody can delete a fleet's policy")
        _, notice = decode(message.payload, message.topic, PolicyNotice, self._clock.utc_ns())
        if self._held is not None and notice.signed == self._held.signed:
            return
        try:
            await self._learn(notice.signed)
        except QedgeError as error:
            if error.code == "policy.old":
                self._repeat_soon()
            else:
                self._refuse(_FLEET, error)
            raise

    async def _learn(self, signed: bytes) -> None:
        async with self._changing:
            held = await asyncio.to_thread(self._check, signed, self._serial())
            # Written down first: a node that enforced it must not come back with an older one. And on a full disk too:
            # whoever can fill it would otherwise keep rights that the fleet has taken away.
            await self._shelf.set_meta(_KEPT, base64.b64encode(signed).decode(), accepted=True)
            self._held = held
            self._refused = ""
            self._enforce(held)

    async def _connected(self, _session_present: bool) -> None:
        self._repeat_soon()

    def _repeat_soon(self) -> None:
        """Publish the newest bundle in a while, once however often it is asked for meanwhile."""
        if self._held is not None and not self._repeating and self._group is not None:
            self._repeating = True
            self._later(self._repeat())

    async def _repeat(self) -> None:
        await asyncio.sleep(_REPEAT_AFTER_S)
        self._repeating = False
        _LOG.debug("policy.repeated", serial=self._serial())
        await self._publish()

    async def _publish(self) -> None:
        if self._held is None:
            return
        where = topic(self._trust.fleet, AUTHORITY, Channel.POLICY)
        header = Header(where, AUTHORITY, self._serial(), purpose_of(PolicyNotice), self._clock.utc_ns())
        try:
            await self._bus.publish(where, encode(header, PolicyNotice(self._held.signed)), qos=1, retain=True)
        except QedgeError as error:
            _LOG.debug("bus.rejected", topic=where, reason=str(error))

    def _later(self, work: Coroutine[None, None, None]) -> None:
        if self._group is not None:
            self._group.create_task(work)
        else:
            work.close()


def read_policy_file(path: Path) -> bytes:
    """Read a file, no further than a policy may be long; raises `policy.unreadable`."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise QedgeError(
            "policy.unreadable",
            f"The policy {path} cannot be read: {error.strerror or error}.",
            fix="Name a file that this user may read.",
            path=str(path),
        ) from error
