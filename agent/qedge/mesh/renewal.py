"""When a session is made anew for the sake of a fresh extra key. Pure."""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

from qedge.mesh.peer_session import PeerSession

SECRECY: Final = ("hybrid", "post-quantum", "restricted")
"""Kinds of sessions: with an extra key, without one, and without one although policy wants one."""

_TRY_NS: Final = 2_000_000_000
"""Time between two looks for a key for a session that has none."""


def secrecy(session: PeerSession) -> str:
    """Say of which kind a session is."""
    return "hybrid" if session.has_extra else "restricted" if session.restricted else "post-quantum"


class Renewal:
    """The client of a session renews it: every `period_s` where it has an extra key (0: never), at once where not."""

    def __init__(self, period_s: float) -> None:
        self._period_ns = round(period_s * 1e9)
        self._tried_ns: WeakKeyDictionary[PeerSession, int] = WeakKeyDictionary()

    def is_due(self, session: PeerSession, now_ns: int) -> bool:
        """Say whether to look for a fresh key now; notes that it was said."""
        if not session.is_client or now_ns - self._tried_ns.get(session, session.opened_ns) < _TRY_NS:
            return False
        if session.has_extra and (not self._period_ns or now_ns - session.opened_ns < self._period_ns):
            return False
        self._tried_ns[session] = now_ns
        return True
