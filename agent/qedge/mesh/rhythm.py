"""How often a node's heart beats: slower in a larger fleet, so that what each node receives stays bounded."""

from __future__ import annotations

from typing import Final

from qedge.mesh.model import Rebirth
from qedge.wire.mesh import Birth

MAX_STEP: Final = 6
GROW_ABOVE: Final = 50
"""Members, times 2^step, above which the period doubles: at 0.4 s a node then receives at most 125 heartbeats/s."""
SHRINK_BELOW: Final = 20
"""Members, times 2^step, below which it halves. Less than half of the other, so that a change does not undo itself."""
ASK_AGAIN_NS: Final = 1_000_000_000


def next_step(step: int, members: int) -> int:
    """Return the step that `members` nodes (this one included) call for, coming from `step`; 0 ≤ step ≤ MAX_STEP."""
    while step < MAX_STEP and members > GROW_ABOVE << step:
        step += 1
    while step > 0 and members < SHRINK_BELOW << step:
        step -= 1
    return step


class Rhythm:
    """The period of this node's own heartbeats, and when to announce a new one or a new chain.

    Growth waits for a quarter of the present period after the last announcement, so that a fleet that starts at once
    announces few times; shrinking waits until the smaller number has lasted `patience` periods, so that a short
    partition changes nothing.
    """

    def __init__(self, smallest_s: float, patience: float) -> None:
        self._smallest_s = smallest_s
        self._patience = patience
        self._step = 0
        self._announced_ms = 0
        self._announced_ns = -1
        self._chain_end_ns = 0
        self._small_since_ns = -1
        self._asked_ns = -1

    @property
    def period_s(self) -> float:
        """Return the period that the next birth should state."""
        return self._smallest_s * (1 << self._step)

    def announced(self, birth: Birth, now_ns: int) -> None:
        """Take note that the node announced itself."""
        self._announced_ns = now_ns
        self._announced_ms = birth.pulse_ms
        self._chain_end_ns = now_ns + max(birth.pulse_count - 2, 1) * birth.pulse_ms * 1_000_000
        self._asked_ns = -1

    def look(self, members: int, now_ns: int) -> bool:
        """Fit the period to the number of members; True: the node has to announce itself anew."""
        step = next_step(self._step, members)
        if self._announced_ns < 0:
            self._step = step
            return False
        period_ns = self.period_s * 1e9
        if step > self._step:
            if now_ns >= self._announced_ns + max(self._smallest_s * 1e9, period_ns / 4):
                self._step = step
        elif step == self._step:
            self._small_since_ns = -1
        elif self._small_since_ns < 0:
            self._small_since_ns = now_ns
        elif now_ns - self._small_since_ns >= self._patience * period_ns:
            self._step = step
            self._small_since_ns = -1
        if round(self.period_s * 1000) == self._announced_ms and now_ns < self._chain_end_ns:
            return False
        # One that was asked for is awaited.
        if self._asked_ns >= 0 and now_ns < self._asked_ns + ASK_AGAIN_NS:
            return False
        self._asked_ns = now_ns
        return True

    def rebirth(self, epoch: int) -> Rebirth:
        """Return the request to announce anew."""
        return Rebirth(self.period_s, epoch)
