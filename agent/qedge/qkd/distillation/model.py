"""Nouns of the engines: what they are told, what they ask for, and what both ends must agree on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from qedge.wire.qkd import Baseline, BlockReport, FinishedBlock

FRAME_BITS: Final = 131_072
FRAME_BYTES: Final = FRAME_BITS // 8
KEY_BASIS: Final = 0
TEST_BASIS: Final = 1
PROTOCOL: Final = "bb84-decoy"


@dataclass(frozen=True, slots=True)
class Epsilons:
    """Chances of failure that one block is made for; they add up to what its key claims."""

    secrecy: float = 0.98e-10
    correctness: float = 0.01e-10
    authentication: float = 0.01e-10

    @property
    def total(self) -> float:
        """Return the sum."""
        return self.secrecy + self.correctness + self.authentication


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What one end is told. `block_bits` is a multiple of the frame of 131,072 bits; Alice's holds.

    `refill_blocks`: for how many blocks a stock taken out of a block lasts; another one is taken when fewer than half
    of them are left.
    """

    link: str
    block_bits: int = 1 << 20
    epsilons: Epsilons = Epsilons()
    max_qber: float = 0.11
    clean_blocks: int = 2
    refill_blocks: int = 32
    max_steps: int = 6
    max_open_blocks: int = 3
    block_limit_ns: int = 120_000_000_000
    simulated: bool = True


@dataclass(frozen=True, slots=True)
class AliceSide:
    """What Alice's device says of itself; the chance of the key basis among it."""

    mean_photon_numbers: tuple[float, ...]
    intensity_probabilities: tuple[float, ...]
    z_probability: float


@dataclass(frozen=True, slots=True)
class LinkTerms:
    """What both ends know of the devices once both have said their terms."""

    alice: AliceSide
    bob_z_probability: float

    def detections(self, key_bits: int) -> int:
        """Return about how many detections give so many bits in the key basis, with a margin for small numbers."""
        return round(key_bits / max(self.alice.z_probability * self.bob_z_probability, 1e-3)) + (1 << 18)


@dataclass(frozen=True, slots=True)
class BlockCounts:
    """Detections and errors of one block per intensity, largest first: key basis, then test basis."""

    key_detections: tuple[int, ...]
    key_errors: tuple[int, ...]
    test_detections: tuple[int, ...]
    test_errors: tuple[int, ...]

    @property
    def key_qber(self) -> float:
        """Return the error rate of the key basis; 0 without detections."""
        return sum(self.key_errors) / max(1, sum(self.key_detections))

    @property
    def test_qber(self) -> float:
        """Return the error rate of the test basis; 0 without detections."""
        return sum(self.test_errors) / max(1, sum(self.test_detections))


@dataclass(frozen=True, slots=True)
class Length:
    """How long the key of a block may be, and why not longer where it is 0."""

    bits: int
    why_zero: str = ""


# Effects


@dataclass(frozen=True, slots=True)
class Send:
    """Give this frame to the other end."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Work:
    """Run `run()` where it delays nobody and bring what it returns to `Engine.worked` with this `ticket`."""

    ticket: int
    run: Callable[[], object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand a finished block to the key store."""

    block: FinishedBlock


@dataclass(frozen=True, slots=True)
class Report:
    """Tell how a block went."""

    report: BlockReport


@dataclass(frozen=True, slots=True)
class Learned:
    """Keep what the link's counts are when nothing disturbs it."""

    baseline: Baseline


@dataclass(frozen=True, slots=True)
class Halt:
    """Nothing can go on until somebody changes something: the reason."""

    reason: str


Effect = Send | Work | Deliver | Report | Learned | Halt


class ProtocolError(Exception):
    """The other end said what it never says in this place; both begin anew."""
