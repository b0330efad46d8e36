"""Heartbeats that cost a receiver one hash: a chain of SHA-256 values whose end the signed birth commits to.

Elements are numbered 1…count; `element(i − 1) = SHA-256(binding ‖ element(i))` and element 0 is the *anchor* that
stands in the birth. Showing element `i` proves that the one who signed the birth has reached heartbeat `i`: nobody
else can find a value that leads to the anchor in `i` steps. The binding names the purpose, the node, its epoch and its
instance, so that no element is of use anywhere else. (Lamport, *Password authentication with insecure communication*,
1981; used for streams in TESLA, RFC 4082.)
"""

from __future__ import annotations

from hashlib import sha256
from math import isqrt
from typing import Final

from qedge.wire.mesh import Birth, Pulse

DOMAIN: Final = b"qedge/v1 pulse"
ELEMENT_BYTES: Final = 32
PULSE_COUNT: Final = 1024
"""Elements of a node's chain. Walking all of it takes as long as verifying two or three births, so that a receiver may
do it: however many heartbeats it missed, it can take the next one."""
MAX_GAP: Final = 1024
"""Hashes that one message can cost a receiver at most."""
DRIFT_PPM: Final = 200
"""How much slower than the receiver's a sender's clock may run without seeming to fall behind."""


def pulse_binding(node: str, epoch: int, instance: bytes) -> bytes:
    """Return what every hash of a chain starts with; lengths come first, so that no two bindings are alike."""
    name = node.encode()
    return b"".join(
        (DOMAIN, bytes((len(name),)), name, epoch.to_bytes(8, "big"), bytes((len(instance) & 0xFF,)), instance)
    )


def previous(binding: bytes, element: bytes) -> bytes:
    """Return element i − 1, given element i."""
    return sha256(binding + element).digest()


class PulseChain:
    """The sender's side. `seed` (32 secret bytes) is the last element; what is not shown yet must stay secret.

    Keeps every √count-th element and the block between two of them: about 2·√count elements of memory, one hash an
    element when the chain is made and one more when its block is entered.
    """

    __slots__ = ("_binding", "_block", "_block_start", "_marks", "_step", "anchor", "count")

    def __init__(self, seed: bytes, count: int, binding: bytes) -> None:
        if len(seed) != ELEMENT_BYTES or count < 1:
            raise ValueError("a chain has a seed of 32 bytes and at least one element")
        self.count = count
        self._binding = binding
        self._step = max(1, isqrt(count))
        # marks[k] is element min((k + 1)·step, count): where the walk down to element k·step + 1 starts.
        marks = []
        element = seed
        for index in range(count, 0, -1):
            if index == count or index % self._step == 0:
                marks.append(element)
            element = previous(binding, element)
        marks.reverse()
        self._marks = marks
        self.anchor = element
        self._block: list[bytes] = []
        self._block_start = 0

    def __repr__(self) -> str:
        return f"PulseChain(count={self.count})"

    @property
    def held(self) -> int:
        """Return how many elements are in memory."""
        return len(self._marks) + len(self._block)

    def element(self, index: int) -> bytes:
        """Return element `index`, 1 ≤ index ≤ count; cheapest when asked for in rising order."""
        if not 1 <= index <= self.count:
            raise ValueError(f"the chain has no element {index}")
        block = (index - 1) // self._step
        start = block * self._step + 1
        if start != self._block_start:
            last = min(start + self._step - 1, self.count)
            element = self._marks[block]
            elements = [element]
            for _ in range(last - start):
                element = previous(self._binding, element)
                elements.append(element)
            elements.reverse()
            self._block, self._block_start = elements, start
        return self._block[index - start]


class PulseCheck:
    """The receiver's side: the newest element that was shown, and when by the receiver's clock it was sent.

    An element proves that the node lived `index` periods after its birth, not when the message travelled: a broker may
    hold heartbeats back and let them go after the node has died. The receiver therefore keeps the smallest difference
    `receipt − index · period` it has seen, which is the time of the birth by its own clock plus the shortest delay,
    and counts element `index` as sent at `that + index · period`. A heartbeat that comes late counts for when it was
    due, so letting it go late does not prolong a life. (A broker that delays everything by the same time from the very
    first message can show a death that much later; where that matters a peer is asked with a nonce.)
    """

    __slots__ = ("_base_ns", "_binding", "_element", "_seen_ns", "count", "index", "period_ns")

    def __init__(self, anchor: bytes, count: int, binding: bytes, period_ns: int) -> None:
        self._element = anchor
        self._binding = binding
        self.count = count
        self.period_ns = period_ns
        self.index = 0
        self._base_ns = -1
        self._seen_ns = -1

    def accept(self, index: int, element: bytes, max_gap: int = MAX_GAP) -> bool:
        """Say whether `element` is number `index` of the chain and newer than any before; at most `max_gap` hashes."""
        gap = index - self.index
        if gap < 1 or gap > max_gap or index > self.count:
            return False
        binding = self._binding
        value = element
        for _ in range(gap):
            value = sha256(binding + value).digest()
        if value != self._element:
            return False
        self.index = index
        self._element = element
        return True

    def sent_ns(self, now_ns: int) -> int:
        """Return when the newest element was sent at the latest, after one came in at `now_ns`."""
        due_ns = self.index * self.period_ns
        base_ns = now_ns - due_ns
        if self._seen_ns >= 0:
            # The clocks of two boxes differ by some ppm; the smallest difference may rise that much with time.
            base_ns = min(base_ns, self._base_ns + (now_ns - self._seen_ns) * DRIFT_PPM // 1_000_000)
        self._base_ns = base_ns
        self._seen_ns = now_ns
        return base_ns + due_ns

    def explained_gap(self, now_ns: int, slack: int) -> int:
        """Return by how many elements the sender can have gone on since the newest, plus `slack`."""
        if self._seen_ns < 0:
            return slack
        return (now_ns - self._seen_ns) // self.period_ns + slack


class Heart:
    """Sends a node's own heartbeats: which element is due when. Element k is due k periods after `born_ns`.

    `born_ns` has to be a time before the birth is published: receivers take its receipt for heartbeat 0, and if the
    node counted from a later time, all its heartbeats would look that late. The index follows the clock, not the
    number of messages, so that a stalled or suspended node leaves elements out.
    """

    __slots__ = ("_birth", "_born_ns", "_chain", "_index", "_period_ns")

    def __init__(self, chain: PulseChain, birth: Birth, born_ns: int) -> None:
        self._chain = chain
        self._birth = birth
        self._born_ns = born_ns
        self._period_ns = birth.pulse_ms * 1_000_000
        self._index = 0

    @property
    def due_ns(self) -> int:
        """Return when the next heartbeat is due."""
        return self._born_ns + (self._index + 1) * self._period_ns

    @property
    def exhausted(self) -> bool:
        """Say that no element is left: the node has to announce a new chain."""
        return self._index >= self._chain.count

    def beat(self, now_ns: int) -> Pulse | None:
        """Return the heartbeat that is due by `now_ns`; None: none is, or the chain has run out."""
        index = min((now_ns - self._born_ns) // self._period_ns, self._chain.count)
        if index <= self._index:
            return None
        self._index = index
        return Pulse(self._birth.epoch, self._birth.instance, index, self._chain.element(index))
