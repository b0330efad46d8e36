"""The files of the key store: its database, and the wrapping key under which everything in it is encrypted."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from qedge.base.metrics import Metrics
from qedge.config import AgentConfig
from qedge.daemon.adapters import PeerStores
from qedge.daemon.peers import Tools
from qedge.qkd.keys.service import KeyStore
from qedge.qkd.keys.vault import Vault
from qedge.qkd.keys.wrapping import open_vault
from qedge.store.schema import KEY_SCHEMA
from qedge.store.store import Store


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """An open key database and its vault, as long as the daemon runs."""

    store: Store
    vault: Vault

    def close(self) -> None:
        """Let go of the database."""
        self.store.close()


def open_key_files(config: AgentConfig, metrics: Metrics) -> KeyFiles:
    """Open both, made where they are new; raises `store.*`, `qkd.wrong_wrapping_key`."""
    folder, named = Path(config.node.state_dir), config.qkd.keys.wrapping_key_file
    store = Store(folder / "keys.sqlite3", metrics=metrics, schema=KEY_SCHEMA)
    try:
        vault = open_vault(Path(named) if named else folder / "keys.wrap", secrets.token_bytes, make=not named)
    except BaseException:
        store.close()
        raise
    return KeyFiles(store, vault)


def make_key_store(tools: Tools, files: KeyFiles, stores: PeerStores) -> KeyStore:
    """Make the key store of this node."""
    return KeyStore(
        tools.me.node,
        files.store,
        files.vault,
        tools.config.qkd.keys,
        stores,
        boot_id=tools.me.boot_id,
        clock=tools.clock,
        metrics=tools.metrics,
        random_bytes=tools.random_bytes,
    )
