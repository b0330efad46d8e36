"""Keys for the sessions with peers: some are always ready at both ends, and each goes into one session.

The lower name of two, which begins their handshakes, has them cut for the internal consumer `@session` at both nodes:
no node keeps a key as its master, both collect it as slaves, each once, in the moment in which the handshake ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final

from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.service import Ready
from qedge.qkd.keys import upkeep
from qedge.qkd.keys.ledger import id_bytes, id_text
from qedge.qkd.keys.model import SESSION_SAE
from qedge.qkd.keys.service import KeyStore

_LOG: Final = get_logger("keys")
KEY_BITS: Final = 256
READY_KEYS: Final = 4
"""Keys that lie ready for each peer; a handshake offers all of them."""
_MAX_OFFERED: Final = 16
_LOOK_S: Final = 1.0


class SessionKeys:
    """Fills the mesh's port for extra keys. `policy` gives `off`, `prefer` or `require` for a peer."""

    name = "session-keys"

    def __init__(self, keys: KeyStore, policy: Callable[[str], str]) -> None:
        self._keys = keys
        self._policy = policy

    async def run(self, ready: Ready) -> None:
        """Keep keys ready until cancelled."""
        ready()
        while True:
            for peer in {status.peer for status in self._keys.links()}:
                with contextlib.suppress(QedgeError):  # too few bits, or the peer is away: it is tried again
                    await self.provide(peer)
            await asyncio.sleep(_LOOK_S)

    async def provide(self, peer: str) -> int:
        """Have keys cut for sessions with a peer where few are ready; returns how many. Raises as `reserve` does."""
        if self._policy(peer) == "off" or self._keys.node > peer:
            return 0
        missing = READY_KEYS - len(await self.offered(peer))
        if missing > 0:
            here = {self._keys.node: [SESSION_SAE]}
            await self._keys.reserve(peer, SESSION_SAE, [SESSION_SAE], missing, KEY_BITS, elsewhere=here)
        return max(0, missing)

    async def offered(self, peer: str) -> tuple[str, ...]:
        """Return the ids of keys that this node shares with `peer`, newest first; empty where policy wants none."""
        if self._policy(peer) == "off" or self._keys.status(peer) is None:
            return ()
        ids = await self._keys.do(lambda ledger: ledger.book.waiting_for_sessions(peer, _MAX_OFFERED))
        return tuple(id_text(key_id) for key_id in ids)

    async def take(self, peer: str, key_id: str) -> bytes:
        """Return a key for good: its use is on disk before this returns. Raises `session.extra_key_missing`."""
        try:
            keys = await self._keys.collect(SESSION_SAE, SESSION_SAE, [key_id])
        except QedgeError as error:
            raise QedgeError(
                "session.extra_key_missing", f"The extra key shared with {peer} cannot be had: {error.message}"
            ) from error
        return keys[0].key

    async def declined(self, peer: str, key_ids: tuple[str, ...]) -> None:
        """Destroy keys that a peer does not have any more: a handshake failed after it had taken them."""
        _LOG.info("keys.declined", peer=peer, keys=len(key_ids))
        await self._keys.do(partial(upkeep.spoil, key_ids=tuple(id_bytes(each) for each in key_ids)))

    def required(self, peer: str) -> bool:
        """Say whether a session with `peer` without such a key is restricted."""
        return self._policy(peer) == "require"
