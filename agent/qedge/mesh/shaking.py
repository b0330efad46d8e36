"""Handshakes under way: how many, whose, and when to try again. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError

if TYPE_CHECKING:
    from qedge.crypto.handshake import Handshake

MAX_PENDING: Final = 128
MAX_PENDING_OF_ONE: Final = 4
MAX_EARLY: Final = 32
MAX_EARLY_BYTES: Final = 512 * 1024
MAX_REMEMBERED: Final = 4096
HANDSHAKE_LIMIT_NS: Final = 5_000_000_000
_STARTS_PER_S: Final = 100.0
_BURST: Final = 200.0


@dataclass(slots=True)
class Shake:
    """One handshake: with whom, which flight comes next, and frames that came before its end."""

    peer: str
    session: bytes
    handshake: Handshake
    begun_ns: int
    is_client: bool
    next_flight: int
    early: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=MAX_EARLY))
    busy: bool = False

    def hold(self, where: str, frame: bytes) -> None:
        """Keep a frame that came before its keys; the oldest make room. Who sends it has proven nothing yet."""
        self.early.append((where, frame))
        while sum(len(each) for _, each in self.early) > MAX_EARLY_BYTES:
            self.early.popleft()


class ShakeBook:
    """All handshakes of a node, bounded: whoever may publish may begin one, and none costs more than its share."""

    def __init__(self) -> None:
        self._shakes: dict[tuple[str, bytes], Shake] = {}
        self._begun: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._tokens = _BURST
        self._filled_ns = 0

    def __len__(self) -> int:
        return len(self._shakes)

    def admit(self, peer: str, session: bytes, now_ns: int) -> None:
        """Let a peer begin a handshake, once for each session id.

        Raises `session.unexpected` for a first flight that came before, `session.too_many` where too many come.
        """
        if (peer, session) in self._begun:
            raise QedgeError("session.unexpected", "The first flight of a handshake came again.")
        self._tokens = min(_BURST, self._tokens + (now_ns - self._filled_ns) / 1e9 * _STARTS_PER_S)
        self._filled_ns = now_ns
        if self._tokens < 1:
            raise QedgeError("session.too_many", "More handshakes begin than this node takes.", fix="Try again soon.")
        self._tokens -= 1
        self._begun[peer, session] = None
        if len(self._begun) > MAX_REMEMBERED:
            self._begun.popitem(last=False)

    def add(self, shake: Shake) -> None:
        """Note a handshake; the oldest ones of the same peer, and of all, make room."""
        same = [key for key, each in self._shakes.items() if each.peer == shake.peer and not each.is_client]
        for key in same[: max(0, len(same) - MAX_PENDING_OF_ONE + 1)] if not shake.is_client else ():
            del self._shakes[key]
        while len(self._shakes) >= MAX_PENDING:
            del self._shakes[next(iter(self._shakes))]
        self._shakes[shake.peer, shake.session] = shake

    def find(self, peer: str, session: bytes) -> Shake | None:
        """Return the handshake that a flight belongs to."""
        return self._shakes.get((peer, session))

    def of(self, peer: str) -> Shake | None:
        """Return the newest handshake with a peer."""
        return next((each for each in reversed(self._shakes.values()) if each.peer == peer), None)

    def remove(self, shake: Shake) -> None:
        """Forget a handshake that ended, well or not."""
        self._shakes.pop((shake.peer, shake.session), None)

    def expire(self, now_ns: int) -> list[Shake]:
        """Forget handshakes that take too long, and return them."""
        late = [each for each in self._shakes.values() if now_ns - each.begun_ns > HANDSHAKE_LIMIT_NS]
        for shake in late:
            self.remove(shake)
        return late
