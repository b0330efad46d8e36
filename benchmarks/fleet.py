"""A throw-away fleet for measurements: an authority in memory, and places in it written into the databases of nodes."""

from __future__ import annotations

import secrets
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import msgspec

from qedge.base.metrics import Metrics
from qedge.crypto.certificates import make_issuing, make_leaf, make_root
from qedge.crypto.keys import SigningKey, generate
from qedge.crypto.model import Role, Subject
from qedge.crypto.trust import Trust
from qedge.store.store import Store
from qedge.wire.commands import OperatorRole
from qedge.wire.trust import Anchor, Membership

ISSUING_DAYS = 700
NODE_DAYS = 30
LEVEL_3 = "ml-dsa-65"


class Fleet:
    """A root and an issuing key that live as long as this object."""

    def __init__(self, name: str = "bench") -> None:
        self.name = name
        self._utc_ns = time.time_ns()
        root_key = generate("ml-dsa-87", secrets.token_bytes)
        self._key = generate(LEVEL_3, secrets.token_bytes)
        root = make_root(name, root_key, self._utc_ns, secrets.token_bytes, 3650)
        self._issuing = make_issuing(
            name, self._key.public_key, root, root_key, self._utc_ns, secrets.token_bytes, ISSUING_DAYS
        )
        self.anchor = Anchor(name, root)

    def trust(self) -> Trust:
        """Return what a member believes."""
        return Trust(self.anchor, self.name)

    def member(self, node: str) -> tuple[SigningKey, tuple[bytes, ...]]:
        """Certify a new key for `node` and return it with its chain."""
        key = generate(LEVEL_3, secrets.token_bytes)
        subject = Subject(self.name, Role.NODE, node)
        leaf = make_leaf(
            subject, key.public_key, self._issuing, self._key, self._utc_ns, NODE_DAYS, secrets.token_bytes
        )
        return key, (leaf, self._issuing)

    def operator(self, name: str, *roles: OperatorRole) -> tuple[SigningKey, tuple[bytes, ...]]:
        """Certify a new key for an operator and return it with its chain."""
        key = generate(LEVEL_3, secrets.token_bytes)
        subject = Subject(self.name, Role.OPERATOR, name)
        leaf = make_leaf(
            subject, key.public_key, self._issuing, self._key, self._utc_ns, NODE_DAYS, secrets.token_bytes, roles=roles
        )
        return key, (leaf, self._issuing)

    def enrol(self, home: Path, node: str) -> None:
        """Give the daemon that will run below `home` its place, as if it had joined."""
        key, chain = self.member(node)
        home.mkdir(parents=True, exist_ok=True)
        path = home / "qedge.sqlite3"
        Store(path, metrics=Metrics()).close()
        membership = msgspec.msgpack.encode(Membership(self.anchor, chain))
        row = ("current", self.name, node, False, key.algorithm, key.seed, membership)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT OR REPLACE INTO identities VALUES (?, ?, ?, ?, ?, ?, ?)", row)
