"""When a node's certificate is to be renewed, and whether its list of revoked keys is too old. Pure."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from qedge.base.clock import Clock
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.crypto.model import Member
from qedge.crypto.trust import Trust

_LOG: Final = get_logger("mesh")
_DUE: Final = 2 / 3
_JITTER: Final = 1 / 10
"""Shares of a certificate's life: it is renewed after two thirds of it and a part of a tenth, its own for each node."""


def renewal_due_utc_ns(member: Member) -> int:
    """Return when a certificate is to be renewed, in nanoseconds since 1970 UTC.

    A third of its life is left then for an authority that is away, less at most a tenth, by which a thousand boxes that
    were enrolled in one hour come at different times. The same certificate always gives the same moment.
    """
    life_ns = member.not_after_utc_ns - member.not_before_utc_ns
    seed = sha256(f"{member.key_id} {member.not_after_utc_ns}".encode()).digest()
    share = int.from_bytes(seed[:8], "big") / 2**64
    return member.not_before_utc_ns + round(life_ns * (_DUE + _JITTER * share))


class CertificateWatch:
    """Looks at certificate and list, and tells of changes; `look` is to be called now and then."""

    def __init__(self, member: Member, trust: Trust, *, standalone: bool, clock: Clock, metrics: Metrics) -> None:
        self._member = member
        self._trust = trust
        self._standalone = standalone
        self._clock = clock
        self._metrics = metrics
        self._old = False
        self._due = False

    @property
    def old_list(self) -> bool:
        """Whether the list of revoked keys is too old now."""
        return not self._standalone and self._trust.list_is_old(self._clock.utc_ns())

    @property
    def due(self) -> bool:
        """Whether the certificate is to be renewed now; that of a fleet of one never is."""
        return not self._standalone and self._clock.utc_ns() >= renewal_due_utc_ns(self._member)

    def missing(self) -> tuple[str, ...]:
        """Name what keeps the node from being ready: an old list, where the node refuses somebody for it."""
        return ("a young list of revoked keys",) if self._trust.when_old != "tell" and self.old_list else ()

    def renewed(self, member: Member) -> None:
        """Watch the next certificate."""
        self._member = member
        self.look()

    def look(self) -> None:
        """Set the metrics, and tell what is new."""
        utc_ns, trust = self._clock.utc_ns(), self._trust
        left_s = max(0.0, (self._member.not_after_utc_ns - utc_ns) / 1e9)
        age_s = max(0.0, (utc_ns - trust.list_utc_ns) / 1e9) if trust.list_utc_ns else 0.0
        old, due = self.old_list, self.due
        self._metrics.set("qedge_certificate_left_seconds", left_s)
        self._metrics.set("qedge_certificate_renewal_due", int(due))
        self._metrics.set("qedge_revocations_age_seconds", age_s)
        self._metrics.set("qedge_revocations_old", int(old))
        if old and not self._old:
            _LOG.warning("trust.list_old", serial=trust.serial, age_s=round(age_s))
        elif self._old and not old:
            _LOG.info("trust.list_fresh", serial=trust.serial)
        if due and not self._due:
            _LOG.warning("trust.renewal_due", left_s=round(left_s))
        self._old, self._due = old, due
