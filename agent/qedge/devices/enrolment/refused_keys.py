"""Keys of devices that count no more at any node of the fleet: those revoked here, and those on lists of peers. Pure.

A device is known by its key, not by its name, which may be another at each node: the 16 bytes of a key id are those of
an ML-DSA key, or of the root of a constrained device (`registry.model.root_id`).
"""

from __future__ import annotations

from collections.abc import Iterable

from qedge.base.errors import QedgeError


class RefusedKeys:
    """Says of a key who has revoked it. What peers say is replaced list by list, what this node says only grows."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._own: set[bytes] = set()
        self._of_peer: dict[str, frozenset[bytes]] = {}

    def add_own(self, *key_ids: bytes) -> None:
        """Note keys that this node has revoked."""
        self._own.update(key_ids)

    def replace(self, peer: str, key_ids: Iterable[bytes]) -> frozenset[bytes]:
        """Take the newest list of a peer; returns the keys of which it says something else than before."""
        before, now = self._of_peer.get(peer, frozenset()), frozenset(key_ids)
        self._of_peer[peer] = now
        return before ^ now

    def elsewhere(self, key_id: bytes) -> str:
        """Return a peer that has revoked a key; empty where none has."""
        return next((peer for peer, keys in self._of_peer.items() if key_id in keys), "") if key_id else ""

    def check(self, *key_ids: bytes) -> None:
        """Raise `auth.revoked` where one of the keys was revoked, at whatever node."""
        for key_id in key_ids:
            by = self._node if key_id in self._own else self.elsewhere(key_id)
            if by:
                raise QedgeError(
                    "auth.revoked",
                    f"The key of a device was revoked at {by}.",
                    fix="Give the device a new key; the old one never counts again.",
                    node=by,
                )
