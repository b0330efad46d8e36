"""One-time page links and page sessions.

A link carries a token in its fragment, which browsers never send by themselves; the page trades it for a session. A
session is two secrets: a cookie that scripts cannot read, and a proof that only the page's own origin can read and
sends as a header. Cookies alone would not do: browsers send them to every port of a host, so another user's server on
the same box could collect them.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import Final

from qedge.base.clock import Clock
from qedge.base.ids import RandomBytes

COOKIE_PREFIX: Final = "qedge_page_"
PROOF_HEADER: Final = "Qedge-Proof"
SECRET_BYTES: Final = 32
MAX_LINKS: Final = 16
MAX_SESSIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Session:
    """The two secrets of a page session, as given out once."""

    cookie: str
    proof: str


@dataclass(frozen=True, slots=True)
class _Kept:
    digest: bytes
    until_ns: int


class PageTokens:
    """Links and sessions that are valid now; keeps only digests, and the newest few of each."""

    def __init__(self, *, clock: Clock, random_bytes: RandomBytes, link_s: float, session_s: float) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._link_ns = round(link_s * 1e9)
        self._session_ns = round(session_s * 1e9)
        self._links: list[_Kept] = []
        self._sessions: list[_Kept] = []

    def new_link(self) -> str:
        """Make the token of a link that works once."""
        token = self._secret()
        self._links = self._keep(self._links, _digest(token), self._link_ns, MAX_LINKS)
        return token

    def redeem(self, token: str) -> Session | None:
        """Trade the token of a link for a session; None where it is unknown, used or expired."""
        found = self._find(self._links, _digest(token))
        if found is None:
            return None
        self._links = [link for link in self._links if link is not found]
        session = Session(self._secret(), self._secret())
        digest = _digest(session.cookie, session.proof)
        self._sessions = self._keep(self._sessions, digest, self._session_ns, MAX_SESSIONS)
        return session

    def is_session(self, cookie: str, proof: str) -> bool:
        """Say whether the two secrets belong to one session that has not expired."""
        return self._find(self._sessions, _digest(cookie, proof)) is not None

    def forget(self, cookie: str, proof: str) -> None:
        """End a session."""
        found = self._find(self._sessions, _digest(cookie, proof))
        self._sessions = [session for session in self._sessions if session is not found]

    def _secret(self) -> str:
        return urlsafe_b64encode(self._random_bytes(SECRET_BYTES)).rstrip(b"=").decode()

    def _keep(self, kept: list[_Kept], digest: bytes, life_ns: int, limit: int) -> list[_Kept]:
        now_ns = self._clock.now_ns()
        alive = [entry for entry in kept if entry.until_ns > now_ns]
        return [*alive, _Kept(digest, now_ns + life_ns)][-limit:]

    def _find(self, kept: list[_Kept], digest: bytes) -> _Kept | None:
        now_ns = self._clock.now_ns()
        found = None
        for entry in kept:  # never stops early: the time taken does not tell which entry matched
            if hmac.compare_digest(entry.digest, digest) and entry.until_ns > now_ns:
                found = entry
        return found


def _digest(*secrets: str) -> bytes:
    return hashlib.sha256("\0".join(secrets).encode("utf-8", "surrogatepass")).digest()
