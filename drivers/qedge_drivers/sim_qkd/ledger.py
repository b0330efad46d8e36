"""What Alice remembers of the pulses she sent, until it is released."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qedge_driver_api import FatalError, RetriableError
from qedge_drivers.sim_qkd.physics import Bytes, Offsets, RandomBytes, Source, prepare

MAX_PULSES = 1 << 23
"""Pulses remembered in all, 5 bytes each; beyond it the oldest blocks are forgotten."""

MAX_DARK_SLOTS = 1 << 20
"""Slots without light for which choices were asked, remembered in all."""


@dataclass
class _Block:
    first_slot: int
    num_slots: int
    source: Source
    offsets: NDArray[np.uint32]
    choices: Bytes
    dark: dict[int, int] = field(default_factory=dict)


class Ledger:
    """Alice's choices by slot. Safe to use from the thread that sends and the one that is asked."""

    def __init__(self, secret: RandomBytes) -> None:
        self._secret = secret
        self._blocks: deque[_Block] = deque()
        self._lock = threading.Lock()

    @property
    def pulses(self) -> int:
        """How many pulses with light are remembered."""
        with self._lock:
            return sum(len(block.choices) for block in self._blocks)

    def add(self, first_slot: int, num_slots: int, source: Source, offsets: Offsets, choices: Bytes) -> None:
        """Remember a block; forgets the oldest ones where there are too many."""
        with self._lock:
            self._blocks.append(_Block(first_slot, num_slots, source, offsets.astype(np.uint32), choices))
            held = sum(len(block.choices) for block in self._blocks)
            while held > MAX_PULSES:
                held -= len(self._blocks.popleft().choices)

    def choices(self, slots: NDArray[np.uint64]) -> Bytes:
        """Return the choices (see `physics.prepare`) for increasing slots.

        A slot that left the fibre dark has a choice too: it is drawn when it is first asked for, with the chance each
        intensity has given that no light came, and remembered.
        """
        if np.any(slots[1:] <= slots[:-1]):
            raise FatalError("Slots are asked for in increasing order, each once.")
        answer = np.empty(len(slots), np.uint8)
        done = 0
        with self._lock:
            for block in self._blocks:
                begin, end = np.searchsorted(
                    slots, np.array([0, block.num_slots], np.uint64) + np.uint64(block.first_slot)
                )
                if end > begin:
                    asked = (slots[begin:end] - np.uint64(block.first_slot)).astype(np.int64)
                    answer[begin:end] = self._of_block(block, asked)
                    done += int(end - begin)
        if done != len(slots):
            raise RetriableError("Some of these slots were never sent, or are released or forgotten.")
        return answer

    def release(self, before_slot: int) -> None:
        """Forget whole blocks that end before a slot, and what was asked of dark slots in them."""
        with self._lock:
            while self._blocks and self._blocks[0].first_slot + self._blocks[0].num_slots <= before_slot:
                self._blocks.popleft()
            if self._blocks and self._blocks[0].first_slot < before_slot:
                self._cut(self._blocks[0], before_slot)

    def _cut(self, block: _Block, before_slot: int) -> None:
        shift = before_slot - block.first_slot
        begin = int(np.searchsorted(block.offsets, shift))
        block.offsets = block.offsets[begin:] - np.uint32(shift)
        block.choices = block.choices[begin:].copy()
        block.dark = {offset - shift: choice for offset, choice in block.dark.items() if offset >= shift}
        block.first_slot, block.num_slots = before_slot, block.num_slots - shift

    def _of_block(self, block: _Block, asked: Offsets) -> Bytes:
        places = np.searchsorted(block.offsets, asked)
        lit = np.zeros(len(asked), np.bool_)
        inside = places < len(block.offsets)
        lit[inside] = block.offsets[places[inside]] == asked[inside]
        answer = np.empty(len(asked), np.uint8)
        answer[lit] = block.choices[places[lit]]
        dark = np.flatnonzero(~lit)
        new = [offset for offset in asked[dark].tolist() if offset not in block.dark]
        if new:
            if sum(len(each.dark) for each in self._blocks) + len(new) > MAX_DARK_SLOTS:
                raise RetriableError("Too many dark slots were asked for without a release.")
            drawn = prepare(self._secret, block.source, len(new), light=False)
            block.dark.update(zip(new, drawn.tolist(), strict=True))
        answer[dark] = [block.dark[offset] for offset in asked[dark].tolist()]
        return answer
