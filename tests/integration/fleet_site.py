"""A throw-away fleet: an authority in memory, and places in it written straight into the databases of nodes."""

from __future__ import annotations

import secrets
import sqlite3
import time
from pathlib import Path

import msgspec

from qedge.base.metrics import Metrics
from qedge.crypto.certificates import make_issuing, make_leaf, make_root, read_request
from qedge.crypto.keys import PublicKey, SigningKey, generate
from qedge.crypto.model import Role, Subject
from qedge.crypto.trust import Trust, sign_revocations
from qedge.store.store import Store
from qedge.wire.commands import OperatorRole
from qedge.wire.trust import Anchor, Membership, Revocations, Revoked, SigningRequest

DAY_NS = 86_400 * 1_000_000_000
LEVELS = {3: "ml-dsa-65", 5: "ml-dsa-87"}


class ThrowAwayFleet:
    """A root, an issuing key, and whatever certificates a test wants, also wrong ones."""

    def __init__(self, name: str = "fleet", level: int = 3, utc_ns: int = 0) -> None:
        self.name = name
        self.utc_ns = utc_ns or time.time_ns()
        self.algorithm = LEVELS[level]
        self.root_key = generate("ml-dsa-87", secrets.token_bytes)
        self.issuing_key = generate(self.algorithm, secrets.token_bytes)
        self.root = make_root(name, self.root_key, self.utc_ns, secrets.token_bytes, 3650)
        self.issuing = make_issuing(
            name, self.issuing_key.public_key, self.root, self.root_key, self.utc_ns, secrets.token_bytes, 700
        )
        self.anchor = Anchor(name, self.root)
        self.serial = 0

    def trust(self) -> Trust:
        """What a member believes."""
        return Trust(self.anchor, self.name)

    def member(
        self, node: str, *, key: SigningKey | None = None, days: int = 30, role: Role = Role.NODE, fleet: str = ""
    ) -> tuple[SigningKey, tuple[bytes, ...]]:
        """Certify a new key, or `key`, and return it with its chain."""
        key = key or generate(self.algorithm, secrets.token_bytes)
        return key, self.certify(node, key.public_key, days=days, role=role, fleet=fleet)

    def certify(
        self, node: str, public_key: PublicKey, *, days: int = 30, role: Role = Role.NODE, fleet: str = ""
    ) -> tuple[bytes, ...]:
        """Certify a key of which nothing but the public part is known, and return its chain."""
        subject = Subject(fleet or self.name, role, node)
        leaf = make_leaf(subject, public_key, self.issuing, self.issuing_key, self.utc_ns, days, secrets.token_bytes)
        return leaf, self.issuing

    def certify_request(self, request: SigningRequest, *, days: int = 60) -> tuple[bytes, ...]:
        """Certify what a box asks for, and return its chain."""
        subject, public_key = read_request(request.request)
        return self.certify(subject.name, public_key, days=days)

    def operator(
        self, name: str = "olga", *roles: OperatorRole, days: int = 30, role: Role = Role.OPERATOR, fleet: str = ""
    ) -> tuple[SigningKey, tuple[bytes, ...]]:
        """Certify a new operator with `roles` (default: all) and return the key with its chain."""
        key = generate(self.algorithm, secrets.token_bytes)
        leaf = make_leaf(
            Subject(fleet or self.name, role, name),
            key.public_key,
            self.issuing,
            self.issuing_key,
            self.utc_ns,
            days,
            secrets.token_bytes,
            roles=roles or tuple(OperatorRole),
        )
        return key, (leaf, self.issuing)

    def revoke(self, *key_ids: str) -> bytes:
        """Sign a newer list of revoked keys."""
        self.serial += 1
        entries = tuple(Revoked("node", key_id, self.utc_ns) for key_id in key_ids)
        revocations = Revocations(self.name, self.serial, self.utc_ns, entries)
        return sign_revocations(revocations, self.issuing_key, self.issuing)

    def enrol(self, home: Path, node: str, *, days: int = 30) -> SigningKey:
        """Give the daemon that will run below `home` its place, as if it had joined."""
        key, chain = self.member(node, days=days)
        home.mkdir(parents=True, exist_ok=True)
        path = home / "qedge.sqlite3"
        Store(path, metrics=Metrics()).close()
        row = (
            "current",
            self.name,
            node,
            False,
            key.algorithm,
            key.seed,
            msgspec.msgpack.encode(Membership(self.anchor, chain)),
        )
        with sqlite3.connect(path) as connection:
            connection.execute("INSERT OR REPLACE INTO identities VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.close()
        return key
