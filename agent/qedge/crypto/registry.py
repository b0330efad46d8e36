"""Suites (stub until the registry lands)."""
from __future__ import annotations
from dataclasses import dataclass
@dataclass(frozen=True, slots=True)
class Suite:
    number: int
    key_exchange: str
    group: str
    signature: str
    aead: str
    category: int
    alpn: bytes
SUITES = (
    Suite(1, "mlkem768-x25519", "X25519MLKEM768", "ml-dsa-65", "aes-256-gcm", 3, b"qedge/1"),
    Suite(3, "mlkem768-x25519", "X25519MLKEM768", "ml-dsa-65", "chacha20-poly1305", 3, b"qedge/3"),
    Suite(2, "mlkem1024-p384", "SecP384r1MLKEM1024", "ml-dsa-87", "aes-256-gcm", 5, b"qedge/2"),
)
