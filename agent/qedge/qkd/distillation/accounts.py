"""What Eve has heard of the bits of one block, to the bit.

Syndromes and further rows of every frame count in full, a check of the block 128 bits, checks of frames 128 bits for
each frame that stays. What Bob says of his success depends on the bits as well: each list of frames counts one bit for
each frame, each number of errors ⌈log2(n + 1)⌉ bits (Tupkary and Lütkenhaus, arXiv:2307.00576: count both directions).
A frame that was given up is disclosed: exactly its length counts for it, and no syndrome, since whatever was said of it
before follows from its bits. The frames that stay have at least the min-entropy of the whole block less that length, so
the length of the key is computed for the whole block, whichever frames failed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from qedge.qkd.distillation.model import FRAME_BITS

CHECK_BITS: Final = 128


@dataclass(slots=True)
class LeakAccount:
    """Both ends keep one and come to the same sum. `frames` is how many frames the block has.

    `checks` of the block, whether frames were checked too, `lists` of frames and `numbers` of errors that Bob said.
    """

    frames: int
    of_frame: list[int] = field(default_factory=list)
    dropped: set[int] = field(default_factory=set)
    checks: int = 0
    frame_checks: bool = False
    lists: int = 0
    numbers: int = 0

    def __post_init__(self) -> None:
        self.of_frame = [0] * self.frames

    def disclose(self, frame: int, bits: int) -> None:
        """Count syndrome or further rows of a frame."""
        self.of_frame[frame] += bits

    def drop(self, frame: int) -> None:
        """Count a frame as known to everybody."""
        self.dropped.add(frame)

    @property
    def kept(self) -> tuple[int, ...]:
        """Return the frames that stay, in order."""
        return tuple(frame for frame in range(self.frames) if frame not in self.dropped)

    @property
    def total(self) -> int:
        """Return all leaked bits."""
        checks = CHECK_BITS * (self.checks + (len(self.kept) if self.frame_checks else 0))
        said = self.lists * self.frames + self.numbers * (self.frames * FRAME_BITS).bit_length()
        return sum(self.of_frame[frame] for frame in self.kept) + FRAME_BITS * len(self.dropped) + checks + said
