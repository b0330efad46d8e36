"""What Alice remembers of the pulses she sent, until it is released."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qedge_driver_api import FatalError, RetriableError
from qedge_drivers.sim_qkd import lookup
from qedge_drivers.sim_qkd.compiled import seen
from qedge_drivers.sim_qkd.drbg import CtrDrbg
from qedge_drivers.sim_qkd.physics import Bytes
from qedge_drivers.sim_qkd.source import choices_in_the_dark

MAX_PULSES: Final = 1 << 24
"""Pulses remembered in all, 5 bytes each; beyond it the oldest blocks are forgotten."""

MAX_DARK_SLOTS: Final = 1 << 22
"""Slots without light for which choices were asked, remembered in all."""


@dataclass(frozen=True)
class Choices:
    """What Alice chose, one entry a slot."""

    bases: Bytes
    bits: Bytes
    intensities: Bytes

    def part(self, begin: int, end: int) -> Choices:
        """A view of some of them."""
        return Choices(self.bases[begin:end], self.bits[begin:end], self.intensities[begin:end])


@dataclass
class _Block:
    """`offsets` count from `base_slot`, `dark_offsets` from `first_slot`, which a release moves on."""

    first_slot: int
    num_slots: int
    dark_borders: NDArray[np.int64] | None
    offsets: NDArray[np.uint32]
    choices: Bytes
    base_slot: int
    dark_offsets: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    dark_choices: Bytes = field(default_factory=lambda: np.empty(0, np.uint8))


class Ledger:
    """Alice's choices by slot. Safe to use from the thread that sends and the one that is asked."""

    def __init__(self, secret: CtrDrbg) -> None:
        self._secret = secret
        self._blocks: deque[_Block] = deque()
        self._lock = threading.Lock()
        self._pulses = 0

    @property
    def pulses(self) -> int:
        """How many pulses with light are remembered."""
        return self._pulses

    def add(
        self,
        first_slot: int,
        num_slots: int,
        dark_borders: NDArray[np.int64] | None,
        offsets: NDArray[np.uint32],
        choices: Bytes,
    ) -> None:
        """Remember a block (arrays are kept, not copied); forgets the oldest ones where there are too many.

        `dark_borders` (see `source.Odds`) say how Alice chose where it was dark; None: nobody knows.
        """
        with self._lock:
            self._blocks.append(_Block(first_slot, num_slots, dark_borders, offsets, choices, first_slot))
            self._pulses += len(choices)
            while self._pulses > MAX_PULSES and len(self._blocks) > 1:
                self._pulses -= len(self._blocks.popleft().choices)

    def choices(self, slots: NDArray[np.uint64]) -> Choices:
        """Return Alice's choices for increasing slots.

        A slot that left Bob's detectors dark has a choice too: it is drawn when it is first asked for, with the chance
        each intensity has given that no light came, and remembered.
        """
        answer = Choices(*(np.empty(len(slots), np.uint8) for _ in range(3)))
        asked = slots.view(np.int64)
        done = 0
        with self._lock:
            for block in self._blocks:
                edges = np.array([0, block.num_slots]) + block.first_slot
                begin, end = np.searchsorted(asked, edges).tolist()
                if end > begin:
                    self._of_block(block, asked[begin:end], answer.part(begin, end))
                    done += end - begin
        if done != len(slots):
            raise RetriableError(
                f"{len(slots) - done} of these slots were never sent, are released, or are forgotten since more than "
                f"{MAX_PULSES} pulses came after them."
            )
        return answer

    def release(self, before_slot: int) -> None:
        """Forget whole blocks that end before a slot, and of the one that holds it what is before."""
        with self._lock:
            while self._blocks and self._blocks[0].first_slot + self._blocks[0].num_slots <= before_slot:
                self._pulses -= len(self._blocks.popleft().choices)
            if self._blocks and self._blocks[0].first_slot < before_slot:
                self._cut(self._blocks[0], before_slot)

    def _cut(self, block: _Block, before_slot: int) -> None:
        begin = int(np.searchsorted(block.offsets, np.uint32(before_slot - block.base_slot)))
        self._pulses -= begin
        block.choices[:begin] = 0
        block.offsets, block.choices = block.offsets[begin:], block.choices[begin:]
        shift = before_slot - block.first_slot
        late = block.dark_offsets >= shift
        block.dark_offsets, block.dark_choices = block.dark_offsets[late] - shift, block.dark_choices[late]
        block.first_slot, block.num_slots = before_slot, block.num_slots - shift

    def _of_block(self, block: _Block, asked: NDArray[np.int64], answer: Choices) -> None:
        known = seen(block.offsets), seen(block.choices), seen(asked), block.base_slot
        missing = lookup.look_up(*known, seen(answer.bases), seen(answer.bits), seen(answer.intensities))
        if missing < 0:
            raise FatalError("Slots are asked for in increasing order, each once.")
        if missing:
            dark = answer.intensities == lookup.NO_LIGHT
            chosen = self._of_the_dark(block, asked[dark] - block.first_slot)
            answer.bases[dark], answer.bits[dark], answer.intensities[dark] = chosen >> 1 & 1, chosen & 1, chosen >> 2

    def _of_the_dark(self, block: _Block, asked: NDArray[np.int64]) -> Bytes:
        if block.dark_borders is None:
            raise FatalError("The recording does not know all of these slots.")
        new = asked[~np.isin(asked, block.dark_offsets, assume_unique=True)]
        if len(new):
            if sum(len(each.dark_offsets) for each in self._blocks) + len(new) > MAX_DARK_SLOTS:
                raise RetriableError("Too many dark slots were asked for without a release.")
            drawn = choices_in_the_dark(self._secret, block.dark_borders, len(new))
            offsets = np.concatenate((block.dark_offsets, new))
            order = np.argsort(offsets, kind="stable")
            block.dark_offsets = offsets[order]
            block.dark_choices = np.concatenate((block.dark_choices, drawn))[order]
        return block.dark_choices[np.searchsorted(block.dark_offsets, asked)]
