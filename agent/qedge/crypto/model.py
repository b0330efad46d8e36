"""Nouns of identity: who can be certified, and what a verified certificate says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from qedge.wire.commands import OperatorRole

if TYPE_CHECKING:
    from qedge.crypto.keys import PublicKey

_URI: Final = re.compile(r"qedge://([A-Za-z0-9_-]{1,36})/([a-z]{1,16})/([A-Za-z0-9_-]{1,36})")


class Role(StrEnum):
    """What a certificate is for; it stands in the URI."""

    NODE = "node"
    AUTHORITY = "authority"
    OPERATOR = "operator"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate speaks of: `qedge://{fleet}/{role}/{name}` is its one URI."""

    fleet: str
    role: Role
    name: str

    @property
    def uri(self) -> str:
        """The URI of the subject alternative name."""
        return f"qedge://{self.fleet}/{self.role}/{self.name}"


_ROLES: Final = frozenset(role.value for role in Role)


def parse_subject(uri: str) -> Subject | None:
    """Read the URI of a certificate; None for anything that is not exactly one of ours."""
    match = _URI.fullmatch(uri)
    if match is None or match[2] not in _ROLES:
        return None
    return Subject(match[1], Role(match[2]), match[3])


@dataclass(frozen=True, slots=True)
class Member:
    """What a certificate that was verified says. `chain` is DER, leaf first; times are nanoseconds since 1970 UTC.

    `roles` are what an operator may order; nobody else has any.
    """

    subject: Subject
    key_id: str
    public_key: PublicKey
    algorithm: str
    not_before_utc_ns: int
    not_after_utc_ns: int
    chain: tuple[bytes, ...]
    roles: frozenset[OperatorRole] = frozenset()
