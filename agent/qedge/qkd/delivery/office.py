"""Key delivery for the operator: applications come and go, get certificates and lose them, and pools are looked at.

Everything here changes what `desk` answers at once. Applications that were added are written down before they count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes, is_name
from qedge.crypto.web_authority import WebAuthority
from qedge.crypto.web_files import WebFolder
from qedge.qkd.delivery.config import SaeConfig
from qedge.qkd.delivery.desk import KeyDesk
from qedge.qkd.delivery.model import KeyRequest, RefusalError, Sae
from qedge.qkd.delivery.ports import Holder
from qedge.qkd.delivery.registry import Registry, uri_of
from qedge.wire.delivery import (
    HandedKey,
    HandedKeys,
    KeyCollect,
    KeyOverview,
    KeyPair,
    KeyTake,
    SaeCertificate,
    SaeChange,
    SaeList,
    SaePermit,
    SaeRevoked,
    SaeView,
)

MAX_PAIRS: Final = 256


class KeyOffice:
    """The operator's side of one node's key delivery.

    `load` and `keep` hold the applications that were added, as text; `folder` is the node's web authority, None where
    certificates come from elsewhere; `address` tells where the interface listens; `renewed` makes a new revocation list
    count. `random_bytes` is called in a thread.
    """

    def __init__(
        self,
        desk: KeyDesk,
        *,
        load: Callable[[], Awaitable[str]],
        keep: Callable[[str], Awaitable[None]],
        folder: WebFolder | None,
        names: tuple[str, ...],
        exchange: str,
        clock: Clock,
        random_bytes: RandomBytes,
    ) -> None:
        self._desk = desk
        self._load = load
        self._keep = keep
        self._folder = folder
        self._names = names
        self._exchange = exchange
        self._clock = clock
        self._random_bytes = random_bytes
        self._authority: WebAuthority | None = None
        self._brought_back = False
        self._one_at_a_time = asyncio.Lock()
        self.address: Callable[[], str] = lambda: ""
        self.renewed: Callable[[], Awaitable[None]] = _nothing

    @property
    def desk(self) -> KeyDesk:
        """What answers applications."""
        return self._desk

    @property
    def _registry(self) -> Registry:
        return self._desk.registry

    async def prepare(self) -> None:
        """Bring back what was added, and make authority and server certificate where they are missing or end soon."""
        async with self._one_at_a_time:
            await self._bring_back()
            if self._folder is not None:
                self._authority = await asyncio.to_thread(self._open_authority, self._folder)

    async def saes(self) -> SaeList:
        """List the applications."""
        async with self._one_at_a_time:
            await self._bring_back()
        return SaeList(tuple(self._view(sae) for sae in self._registry.all()))

    async def put_sae(self, name: str, change: SaeChange) -> SaeView:
        """Add an application, or change one that was added."""
        if not is_name(name):
            raise QedgeError("keys.bad_sae", f"{name!r} can be no name.", fix="Use letters, digits, - and _.")
        config = SaeConfig(
            id=change.id,
            node=change.node,
            permit=change.permit,
            max_keys_per_request=change.max_keys_per_request,
            max_keys_per_s=change.max_keys_per_s,
        )
        return await self._change(lambda trial: trial.add(name, config))

    async def permit(self, name: str, permit: SaePermit) -> SaeView:
        """Let an application ask keys with others, or no more."""
        return await self._change(lambda trial: trial.permit(name, permit.slaves, withdraw=permit.withdraw))

    async def remove_sae(self, name: str) -> SaeRevoked:
        """Remove an application that was added, and revoke its certificates."""
        await self.saes()
        sae = self._registry.named(name)
        await self._change(lambda trial: trial.remove(name))
        return await self._revoke(sae)

    async def certify(self, name: str, request: bytes) -> SaeCertificate:
        """Make a certificate for an application of this node."""
        sae = self._registry.named(name)
        if sae.node != self._registry.node:
            raise QedgeError(
                "keys.bad_sae", f"{name} is attached to {sae.node}.", fix=f"Have {sae.node} issue its certificate."
            )
        authority = self._open()
        utc_ns = self._clock.utc_ns()
        async with self._one_at_a_time:
            certificate = authority.issue_client(
                request, uri_of(sae.id), utc_ns=utc_ns, random_bytes=self._random_bytes
            )
            await asyncio.to_thread(self._write, authority, utc_ns)
        return SaeCertificate(certificate, authority.ledger.authority, sae.id, self._desk.kme_id, self.address())

    async def revoke(self, name: str) -> SaeRevoked:
        """Revoke all certificates of an application that this node made."""
        self._open()
        return await self._revoke(self._registry.named(name))

    async def overview(self) -> KeyOverview:
        """Tell what every pair of a local application and one it may ask with could have now."""
        await self.saes()
        pairs = [
            (master, slave)
            for master in self._registry.all()
            if master.node == self._registry.node
            for slave in self._registry.all()
            if slave.name != master.name and self._registry.permits(master, slave)
        ]
        shown = [await self._pair(master, slave) for master, slave in pairs[:MAX_PAIRS]]
        return KeyOverview(
            kme_id=self._desk.kme_id,
            url=self.address(),
            exchange=self._exchange,
            key_size=self._desk.config.key_size_bits,
            pairs=tuple(shown),
            total=len(pairs),
        )

    async def take(self, wanted: KeyTake) -> HandedKeys:
        """Take fresh keys as an application of this node."""
        request = KeyRequest(number=wanted.number, size=wanted.size_bits, additional=wanted.additional)
        try:
            return _handed(await self._desk.get_keys(self._local(wanted.master), wanted.slave, request))
        except RefusalError as refusal:
            raise _refused(refusal) from refusal

    async def collect(self, wanted: KeyCollect) -> HandedKeys:
        """Collect keys as an application of this node."""
        ids = tuple(dict.fromkeys(key_id.lower() for key_id in wanted.key_ids))
        try:
            return _handed(await self._desk.get_keys_with_ids(self._local(wanted.slave), wanted.master, ids))
        except RefusalError as refusal:
            raise _refused(refusal) from refusal

    def _local(self, sae_id: str) -> Sae:
        sae = self._registry.local(sae_id)
        if sae is None:
            raise QedgeError(
                "keys.no_sae", f"No application of this node has the id {sae_id!r}.", fix="`qedge keys sae list`."
            )
        return sae

    async def _pair(self, master: Sae, slave: Sae) -> KeyPair:
        try:
            stored = await self._desk.stored(master.id, Holder(slave.id, slave.node))
        except QedgeError as error:
            return KeyPair(master.id, slave.id, slave.node, error=error.message)
        size = self._desk.config.key_size_bits
        return KeyPair(master.id, slave.id, slave.node, stored.bits // size, stored.bits, stored.simulated)

    async def _change(self, change: Callable[[Registry], Sae]) -> SaeView:
        """Try a change on a copy, write it down, and only then let it count."""
        async with self._one_at_a_time:
            await self._bring_back()
            trial = self._registry.copy()
            sae = change(trial)
            await self._keep(msgspec.json.encode(trial.configs_added()).decode())
            self._registry.take_over(trial)
        return self._view(sae)

    async def _bring_back(self) -> None:
        if not self._brought_back:
            for name, config in msgspec.json.decode(await self._load() or "{}", type=dict[str, SaeConfig]).items():
                self._registry.bring_back(name, config)
            self._brought_back = True

    async def _revoke(self, sae: Sae) -> SaeRevoked:
        if self._authority is None:
            return SaeRevoked(0)
        async with self._one_at_a_time:
            utc_ns = self._clock.utc_ns()
            number = self._authority.revoke(uri_of(sae.id), utc_ns=utc_ns)
            await asyncio.to_thread(self._write, self._authority, utc_ns, revoked=True)
        await self.renewed()
        return SaeRevoked(number)

    def _view(self, sae: Sae) -> SaeView:
        issued = self._authority.ledger.issued if self._authority is not None else ()
        now_ns, uri = self._clock.utc_ns(), uri_of(sae.id)
        good = sum(
            not each.server and not each.revoked_utc_ns and each.uri == uri and each.until_utc_ns > now_ns
            for each in issued
        )
        return SaeView(
            name=sae.name,
            id=sae.id,
            node=sae.node,
            local=sae.node == self._registry.node,
            configured=sae.configured,
            permit=sae.permit,
            max_keys_per_request=sae.max_keys_per_request,
            max_keys_per_s=sae.max_keys_per_s,
            certificates=good,
        )

    def _open(self) -> WebAuthority:
        if self._authority is None:
            raise QedgeError(
                "keys.off",
                "This node makes no certificates.",
                fix="Ask the authority that qkd.delivery.authorities names, or set qkd.delivery.enabled.",
            )
        return self._authority

    def _open_authority(self, folder: WebFolder) -> WebAuthority:
        utc_ns, name = self._clock.utc_ns(), self._registry.node
        if folder.exists:
            authority = folder.open()
            folder.keep(authority, utc_ns=utc_ns, revoked=True)  # a stop between ledger and list left them apart
        else:
            authority = folder.found(name, utc_ns=utc_ns, random_bytes=self._random_bytes)
        folder.ensure_server(
            authority, uri_of(self._desk.kme_id), self._names, utc_ns=utc_ns, random_bytes=self._random_bytes
        )
        return authority

    def _write(self, authority: WebAuthority, utc_ns: int, *, revoked: bool = False) -> None:
        if self._folder is not None:
            self._folder.keep(authority, utc_ns=utc_ns, revoked=revoked)


def _handed(container: dict[str, object]) -> HandedKeys:
    listed = container["keys"]
    entries = listed if isinstance(listed, list) else []
    return HandedKeys(tuple(HandedKey(each["key_ID"], each["key"], each["key_extension"]) for each in entries))


def _refused(refusal: RefusalError) -> QedgeError:
    return QedgeError("keys.refused", f"{refusal.message[:1].upper()}{refusal.message[1:]}.", status=refusal.status)


async def _nothing() -> None:
    return
