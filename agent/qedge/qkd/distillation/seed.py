"""The seed of a link: from the secret that the peer session exports, and what both nodes drew for this opening."""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from qedge.wire.qkd import LinkOpen, LinkOpened

SEED_BYTES: Final = 32
_RUN_BYTES: Final = 16


def label_of(link: str) -> str:
    """Return the purpose for which a session's secret is exported."""
    return f"qkd link {link}"


def seed_of(exported: bytes, open_: LinkOpen, opened: LinkOpened) -> bytes:
    """Return the seed of one opening; it is never used for another, since both nodes draw a nonce."""
    info = b"qedge/v1 qkd seed " + open_.link.encode()
    return HKDF(SHA256(), SEED_BYTES, open_.nonce + opened.nonce, info).derive(exported)


def run_of(open_: LinkOpen, opened: LinkOpened) -> bytes:
    """Return the name of one opening, by which frames of another one are told apart; it is no secret."""
    return hashlib.sha256(b"qedge/v1 qkd run" + open_.session + open_.nonce + opened.nonce).digest()[:_RUN_BYTES]
