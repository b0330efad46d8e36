"""The parts of one daemon that keep keys and hand them on: the store, sessions, the operator's side, HTTPS."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from qedge.crypto.web_files import WebFolder
from qedge.daemon.adapters import PeerStores
from qedge.daemon.keys.files import KeyFiles, make_key_store
from qedge.daemon.keys.vault import StoreVault
from qedge.daemon.peers import Tools
from qedge.qkd.delivery.config import DeliveryConfig
from qedge.qkd.delivery.desk import KeyDesk
from qedge.qkd.delivery.office import KeyOffice
from qedge.qkd.delivery.ports import KeyVault
from qedge.qkd.delivery.registry import Registry
from qedge.qkd.keys.service import KeyStore
from qedge.qkd.keys.session_keys import SessionKeys
from qedge.store.store import Store
from qedge.web.key_delivery.service import KeyService
from qedge.web.key_delivery.tls import TlsFiles, exchange_offered

_ADDED = "saes"
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound


@dataclass(frozen=True, slots=True)
class KeyParts:
    """The key store, how it speaks to the stores of peers, what sessions take from it, and what applications do."""

    store: KeyStore
    stores: PeerStores
    for_sessions: SessionKeys
    office: KeyOffice
    service: KeyService


class KeptSaes:
    """The applications that were added by command, in the database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load(self) -> str:
        """Return what was kept."""
        return await self._store.get_meta(_ADDED)

    async def keep(self, text: str) -> None:
        """Keep it."""
        await self._store.set_meta(_ADDED, text)


def make_keys(tools: Tools, files: KeyFiles) -> KeyParts:
    """Make the store and all that hands keys on; `service` is for the supervisor where `qkd.delivery.enabled`."""
    stores = PeerStores()
    store = make_key_store(tools, files, stores)
    for_sessions = SessionKeys(store, tools.config.crypto.extra_key_policy)
    return KeyParts(store, stores, for_sessions, *_make_delivery(tools, StoreVault(store, tools.clock)))


def _make_delivery(tools: Tools, vault: KeyVault) -> tuple[KeyOffice, KeyService]:
    config, node = tools.config.qkd.delivery, tools.me.node
    own = WebFolder(Path(tools.config.node.state_dir) / "web")
    desk = KeyDesk(
        config, Registry(node, tools.config.qkd.saes), vault, clock=tools.clock, transport=exchange_offered()
    )
    kept = KeptSaes(tools.store)
    office = KeyOffice(
        desk,
        load=kept.load,
        keep=kept.keep,
        folder=own if _needs_own(config) else None,
        names=server_names(config),
        exchange=exchange_offered(),
        clock=tools.clock,
        random_bytes=secrets.token_bytes,  # in a thread, where the pool may not be asked
    )
    service = KeyService(desk, tls_files(config, own), clock=tools.clock, metrics=tools.metrics, prepare=office.prepare)
    office.address = lambda: service.address
    office.renewed = service.reload
    return office, service


def tls_files(config: DeliveryConfig, own: WebFolder) -> TlsFiles:
    """Return where the certificates are: the configured ones, or those of the node's own authority."""
    certificate, key = own.server_files
    revocations = Path(config.revocations) if config.revocations else None
    return TlsFiles(
        Path(config.certificate) if config.certificate else certificate,
        Path(config.private_key) if config.private_key else key,
        Path(config.authorities) if config.authorities else own.authority_file,
        revocations if config.authorities or revocations else own.revocations_file,
    )


def server_names(config: DeliveryConfig) -> tuple[str, ...]:
    """Return the names and addresses of the certificate that the node makes itself."""
    bound = () if config.host in _EVERYWHERE else (config.host,)
    host = os.uname().nodename.rstrip(".")
    return tuple(dict.fromkeys(("localhost", "127.0.0.1", "::1", host, *bound, *config.names)))


def _needs_own(config: DeliveryConfig) -> bool:
    return config.enabled and not (config.certificate and config.authorities)
