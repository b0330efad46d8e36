"""The accounts of links and consumers in the database, within one transaction."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict, dataclass
from typing import Final, Literal

import msgspec

from qedge.base.errors import QedgeError
from qedge.qkd.keys.model import Account, Usage

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_ACCOUNT: Final = msgspec.msgpack.Decoder(dict[str, int])

Bucket = Literal[
    "checks", "waiting", "own", "theirs", "in_flight", "delivered", "voided", "discarded", "expired", "quarantined"
]


@dataclass(slots=True)
class LinkRow:
    """A link as the transaction sees it."""

    name: str
    peer: str
    highest: int
    counters: dict[str, int]
    changed: bool = False

    @property
    def account(self) -> Account:
        """Return the counters as they are now."""
        return Account(**self.counters)

    @property
    def held_bits(self) -> int:
        """Return what the link's blocks hold here."""
        return self.counters["waiting"] + self.counters["own"] + self.counters["theirs"]


class Accounts:
    """All links of the node, for the length of one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._links: dict[str, LinkRow] = {}
        for name, peer, highest, account in connection.execute("SELECT name, peer, highest, account FROM links"):
            self._links[name] = LinkRow(name, peer, highest, asdict(Account()) | _ACCOUNT.decode(account))
        self._usage: dict[tuple[str, str, str], tuple[int, int]] = {}

    def open(self, name: str, peer: str) -> LinkRow:
        """Return a link, made where it is new; raises `qkd.bad_block` where the name belongs to another peer."""
        row = self._links.get(name)
        if row is None:
            self._connection.execute(
                "INSERT INTO links (name, peer, highest, account) VALUES (?, ?, -1, ?)", (name, peer, _ENCODE({}))
            )
            row = self._links[name] = LinkRow(name, peer, -1, asdict(Account()))
        if row.peer != peer:
            raise QedgeError(
                "qkd.bad_block",
                f"The link {name} led to {row.peer} and now leads to {peer}.",
                fix="Give the new link another name.",
            )
        return row

    def find(self, name: str) -> LinkRow | None:
        """Return a link that exists."""
        return self._links.get(name)

    def of_peer(self, peer: str, name: str) -> LinkRow:
        """Return the link that a peer speaks of; raises `qkd.no_link`."""
        row = self._links.get(name)
        if row is None or row.peer != peer:
            raise no_link(peer)
        return row

    def towards(self, peer: str) -> list[LinkRow]:
        """Return the links to a peer."""
        return [row for row in self._links.values() if row.peer == peer]

    def all_links(self) -> list[LinkRow]:
        """Return all links."""
        return list(self._links.values())

    def add(self, row: LinkRow, usable_bits: int, check_bits: int) -> None:
        """Book a new block."""
        row.counters["added"] += usable_bits + check_bits
        row.counters["checks"] += check_bits
        row.counters["waiting"] += usable_bits
        row.changed = True

    def move(self, row: LinkRow, source: Bucket, target: Bucket, bits: int) -> None:
        """Book bits from one place to another."""
        if row.counters[source] < bits:
            raise QedgeError("internal.unexpected", f"The account of {row.name} would go below zero in {source}.")
        row.counters[source] -= bits
        row.counters[target] += bits
        row.changed = True

    def use(self, link: str, consumer: str, role: str, keys: int, bits: int) -> None:
        """Meter what a consumer gets."""
        had = self._usage.get((link, consumer, role), (0, 0))
        self._usage[link, consumer, role] = (had[0] + keys, had[1] + bits)

    def usages(self) -> list[Usage]:
        """Return what every consumer had so far."""
        rows = self._connection.execute("SELECT link, consumer, role, keys, bits FROM usage ORDER BY 1, 2, 3")
        return [Usage(*row) for row in rows]

    def flush(self) -> None:
        """Write what was changed."""
        for row in self._links.values():
            if row.changed:
                self._connection.execute(
                    "UPDATE links SET highest = ?, account = ? WHERE name = ?",
                    (row.highest, _ENCODE(row.counters), row.name),
                )
        self._connection.executemany(
            "INSERT INTO usage (link, consumer, role, keys, bits) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " keys = keys + excluded.keys, bits = bits + excluded.bits",
            [(*who, *amount) for who, amount in self._usage.items()],
        )
        self._usage.clear()


def no_link(peer: str) -> QedgeError:
    """Make the error for a node to which no link leads."""
    return QedgeError(
        "qkd.no_link", f"No QKD link leads from this node to {peer}.", fix="`qedge link list` shows the links."
    )
