"""Which server is next, and after what wait. Pure."""

from __future__ import annotations

from qedge.base.backoff import Backoff


class Walk:
    """Goes round a list of servers; `at` is the place of the one to try now.

    tck-id-operational-behavior-primary-application-state-with-multiple-servers-walk,
    tck-id-operational-behavior-edge-node-termination-host-offline-reconnect: a server without the primary host is left
    for the next at once, until all were tried. A session that lasted less than `steady_s` seconds counts as a failure:
    two programs with one client id end each other's sessions, and that must become rare.
    """

    def __init__(self, servers: int, backoff: Backoff, steady_s: float) -> None:
        self._servers = servers
        self._backoff = backoff
        self._steady_s = steady_s
        self._tried = 0
        self.at = 0

    def ended(self, *, walk: bool, spoke: bool, lasted_s: float, uniform: float) -> float:
        """Take note of an attempt, and return the seconds to wait.

        `walk`: the session left by itself for another server; `spoke`: it came to an NBIRTH. A server whose line broke
        is tried again before the others.
        """
        if spoke and lasted_s >= self._steady_s:
            self._tried = 0
        if walk or not spoke:
            self.at = (self.at + 1) % self._servers
        at_once = walk and self._tried < self._servers
        delay_s = 0.0 if at_once else self._backoff.delay_s(self._tried // self._servers, uniform)
        self._tried += 1
        return delay_s
