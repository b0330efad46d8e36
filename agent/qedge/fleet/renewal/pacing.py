"""When a node asks for its next certificate. Pure.

A node is due at a moment of its own (`renewal_due_utc_ns`: two thirds of the certificate's life and up to a tenth
more). From then on it asks, after a random wait within a window, and again with growing pauses, each of them random
between a half and one and a half times of what it is nominally. A thousand boxes that were all switched on in one
second, or that all wait for an authority that comes back, therefore never ask at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from qedge.crypto.model import Member
from qedge.fleet.renewal.config import RenewalConfig
from qedge.mesh.certificate_watch import renewal_due_utc_ns

WARN_SHARE: Final = 1 / 4
"""Share of a certificate's life that is left when a node that got no answer warns."""

_LIFE_SHARE: Final = 1 / 100
"""Longest window and pause, as a share of the certificate's life: those of an hour ask every half a minute."""

_MAX_DOUBLINGS: Final = 40


class Pacing:
    """Decides, again and again, whether to ask now."""

    def __init__(self, config: RenewalConfig, uniform: Callable[[], float]) -> None:
        self._config = config
        self._uniform = uniform
        self._due = False
        self._hold_ns = 0
        self._told = False
        self.asked = 0
        """Requests since the certificate became due."""

    @property
    def held_until_ns(self) -> int:
        """Until when the next request waits, once the certificate is due (boot-time clock)."""
        return self._hold_ns

    def wants(self, member: Member, now_ns: int, utc_ns: int) -> bool:
        """Say whether to ask now; who is told so asks, and calls `has_asked`. `now_ns` is the boot-time clock."""
        if utc_ns < renewal_due_utc_ns(member):
            self._due = False
            return False
        if not self._due:
            self._due, self.asked, self._told = True, 0, False
            self._hold_ns = now_ns + self._wait_ns(self._config.window_s, member, self._uniform())
        return now_ns >= self._hold_ns

    def has_asked(self, member: Member, now_ns: int) -> None:
        """Take note of a request, also of one that could not be sent."""
        nominal_s = self._config.retry_s * 2.0 ** min(self.asked, _MAX_DOUBLINGS)
        self.asked += 1
        pause_s = min(nominal_s, self._config.retry_cap_s)
        self._hold_ns = now_ns + self._wait_ns(pause_s, member, 0.5 + self._uniform())

    def renewed(self) -> None:
        """Take note of the next certificate."""
        self._due, self.asked = False, 0

    def warns(self, member: Member, utc_ns: int) -> bool:
        """Say once, for each certificate, that too little of its life is left; not before it has been asked for.

        Some are due only when less than a quarter is left.
        """
        life_ns = member.not_after_utc_ns - member.not_before_utc_ns
        late = self._due and self.asked > 0 and member.not_after_utc_ns - utc_ns < life_ns * WARN_SHARE
        if late and not self._told:
            self._told = True
            return True
        return False

    def _wait_ns(self, nominal_s: float, member: Member, share: float) -> int:
        life_ns = member.not_after_utc_ns - member.not_before_utc_ns
        return round(min(nominal_s * 1e9, life_ns * _LIFE_SHARE) * share)
