"""Two engines back to back: made-up light, kernels that cheat, and a channel that does what a test wants."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from qedge.base.errors import QedgeError
from qedge.qkd.authentication.stock import KeyStocks
from qedge.qkd.distillation.alice import AliceEngine
from qedge.qkd.distillation.bob import BobEngine
from qedge.qkd.distillation.conduit import Conduit
from qedge.qkd.distillation.engine import Engine, entropy
from qedge.qkd.distillation.model import (
    FRAME_BITS,
    AliceSide,
    BlockCounts,
    Deliver,
    Effect,
    EngineSettings,
    Epsilons,
    Halt,
    Learned,
    Length,
    LinkTerms,
    Report,
    Send,
    Work,
)
from qedge.qkd.distillation.ports import Bytes, CodeInfo, FrameToDecode, PerIntensity, SiftedBits, Words
from qedge.qkd.finite_key.limits import Seen, StatisticsLimits, check_statistics
from qedge.qkd.finite_key.model import BasisCounts, Counts, DecoyProtocol
from qedge.qkd.sifting import reference
from qedge.wire.qkd import Baseline, BlockReport, FinishedBlock

MS = 1_000_000
SIDE = AliceSide((0.5, 0.1, 0.002), (0.8, 0.15, 0.05), 0.9)
SEED = bytes(range(32))
SYNDROME_BYTES = 2688
ROW_BYTES = 256


@dataclass(frozen=True)
class ToyCode:
    """A code by name only."""

    name: str = "toy"
    syndrome_bits: int = 8 * SYNDROME_BYTES


@dataclass
class ToyKernels:
    """Codings without any coding, and a decoder that looks the answer up where the other end left it.

    `fails` says which frames are not decoded (by their place among those asked for, and rows so far); `lies` likewise
    which are decoded to something wrong.
    """

    known: dict[bytes, Bytes]
    fails: Callable[[int, int], bool] = lambda _place, _rows: False
    lies: Callable[[int, int], bool] = lambda _place, _rows: False
    decoded: int = 0
    judges: bool = False
    """Whether counts are looked at: the light of these tests is none that a source gives."""

    def encode_slots(self, slots: Words, first_slot: int) -> bytes:
        return (slots - np.uint64(first_slot)).astype("<u4").tobytes()

    def decode_slots(self, data: bytes, first_slot: int, count: int, end_slot: int) -> Words:
        slots = np.frombuffer(data, "<u4").astype(np.uint64) + np.uint64(first_slot)
        if len(slots) != count or np.any(slots[1:] <= slots[:-1]) or (count and int(slots[-1]) >= end_slot):
            raise ValueError("no slots")
        return slots

    def encode_bits(self, bits: Bytes, count: int) -> bytes:
        assert len(bits) == -(-count // 8)
        return bits.tobytes()

    def decode_bits(self, data: bytes, count: int) -> Bytes:
        if len(data) != -(-count // 8):
            raise ValueError("no bits")
        return np.frombuffer(data, np.uint8)

    def encode_levels(self, levels: Bytes, count: int) -> bytes:
        assert levels.shape == (2, -(-count // 8))
        return levels.tobytes()

    def decode_levels(self, data: bytes, count: int) -> Bytes:
        if len(data) != 2 * -(-count // 8):
            raise ValueError("no symbols")
        return np.frombuffer(data, np.uint8).reshape(2, -1)

    def sift(self, here: Bytes, there: Bytes, bits: Bytes, count: int, levels: Bytes | None) -> SiftedBits:
        made = reference.sift(
            here, there, bits, count, np.zeros((2, len(bits)), np.uint8) if levels is None else levels
        )
        return SiftedBits(made.key, made.num_key, made.key_levels, made.test, made.num_test, made.test_levels)

    def count(self, one: Bytes, other: Bytes, levels: Bytes, count: int, number: int) -> PerIntensity:
        detections, errors = reference.count_errors(one, other, levels, count)
        if detections[number:].any():
            raise ValueError("no intensities")
        return tuple(detections[:number].tolist()), tuple(errors[:number].tolist())

    def seed_bytes(self, key_bits: int, bits: int) -> int:
        return (key_bits + bits) // 8

    def choose_code(self, qber: float) -> ToyCode | None:
        return ToyCode() if qber < 0.11 else None

    def code(self, name: str) -> ToyCode | None:
        return ToyCode() if name == "toy" else None

    def syndrome(self, code: CodeInfo, frame: Bytes) -> bytes:
        digest = hashlib.sha256(frame.tobytes()).digest()
        self.known[digest] = frame.copy()
        return digest + bytes(code.syndrome_bits // 8 - len(digest))

    def rows(self, code: CodeInfo, frame: Bytes, step: int) -> bytes:
        return bytes([step]) * ROW_BYTES

    def decode(self, code: CodeInfo, frames: Sequence[FrameToDecode], qber: float) -> list[Bytes | None]:
        found: list[Bytes | None] = []
        for frame in frames:
            place, self.decoded = self.decoded, self.decoded + 1
            answer = self.known.get(frame.syndrome[:32])
            if answer is not None and self.lies(place, len(frame.rows)):
                answer = answer ^ np.eye(1, len(answer), place % len(answer), dtype=np.uint8)[0]
            found.append(None if self.fails(place, len(frame.rows)) else answer)
        return found

    def amplify(self, key: Bytes, seed: bytes, bits: int) -> bytes:
        return hashlib.shake_256(key.tobytes() + seed).digest(bits // 8)

    def key_length(self, terms: LinkTerms, counts: BlockCounts, leaked_bits: int, epsilons: Epsilons) -> Length:
        sifted = sum(counts.key_detections)
        phase = min(0.5, counts.test_qber + 4 / math.sqrt(max(1, sum(counts.test_detections))))
        bits = int(0.6 * sifted * (1 - entropy(max(phase, 1e-9)))) - leaked_bits - 200
        return Length(max(0, bits), "" if bits > 0 else "too many phase errors")

    def alarm(self, terms: LinkTerms, counts: BlockCounts, seen: Seen, limits: StatisticsLimits) -> str:
        if not self.judges:
            return ""
        side = terms.alice
        bases = (side.z_probability, terms.bob_z_probability)
        protocol = DecoyProtocol(side.mean_photon_numbers, side.intensity_probabilities, *bases)
        key = BasisCounts(counts.key_detections, counts.key_errors)
        test = BasisCounts(counts.test_detections, counts.test_errors)
        reason = check_statistics(protocol, Counts(key, test), limits, seen)
        return "" if reason is None else f"{reason.code}: {reason.sentence}"


@dataclass
class Light:
    """Where detections come from, and what Alice prepared for them."""

    random: np.random.Generator
    error: float = 0.02
    bias: float = 0.9
    slot: int = 1 << 40
    gap: int = 30
    sent: dict[int, tuple[Bytes, Bytes, Bytes]] = field(default_factory=dict)
    asked: int = 0

    def detect(self, number: int) -> tuple[int, int, Words, Bytes, Bytes]:
        """Make `number` detections: first slot, end slot, slots, Bob's bases and bits, a byte each."""
        first = self.slot
        slots = first + np.cumsum(self.random.integers(1, self.gap, number, dtype=np.uint64)).astype(np.uint64)
        self.slot = int(slots[-1]) + 5
        bases = (self.random.random((2, number)) >= self.bias).astype(np.uint8)
        bits = self.random.integers(0, 2, (2, number), dtype=np.uint8)
        wrong = (self.random.random(number) < self.error).astype(np.uint8)
        bob = np.where(bases[0] == bases[1], bits[0] ^ wrong, bits[1])
        intensities = self.random.choice(3, number, p=SIDE.intensity_probabilities).astype(np.uint8)
        self.sent[first] = (slots.astype(np.uint64), np.stack([bases[0], bits[0], intensities]), bob)
        return first, self.slot, slots.astype(np.uint64), bases[1], bob

    def preparations(self, slots: Words) -> tuple[Bytes, Bytes, Bytes]:
        """Say what was sent."""
        self.asked += len(slots)
        answer = np.zeros((3, len(slots)), np.uint8)
        known = np.zeros(len(slots), np.bool_)
        for sent_slots, sent, _ in self.sent.values():
            places = np.searchsorted(sent_slots, slots)
            hit = (places < len(sent_slots)) & (sent_slots[np.minimum(places, len(sent_slots) - 1)] == slots)
            answer[:, hit] = sent[:, places[hit]]
            known |= hit
        if not known.all():
            raise QedgeError("driver.retriable", "Some of these slots were never sent.")
        return (*(np.packbits(each, bitorder="little") for each in answer[:2]), reference.planes_of(answer[2]))

    def release(self, before_slot: int) -> None:
        """Forget."""
        for first in [first for first, (slots, _, _) in self.sent.items() if int(slots[-1]) < before_slot]:
            del self.sent[first]


@dataclass
class Channel:
    """How the way between the ends is: chances of each mishap for one frame; delays in ms."""

    lost: float = 0.0
    doubled: float = 0.0
    bent: float = 0.0
    delay_ms: float = 1.0
    jitter_ms: float = 0.0
    alter: Callable[[str, bytes], bytes | None] = lambda _to, frame: frame
    """What the man in the middle makes of a frame on its way to `alice` or `bob`."""


class TwoEnds:
    """Both engines with virtual time; `run` until a number of blocks was reported, or time is up."""

    def __init__(
        self,
        *,
        seed: int = 1,
        frames: int = 1,
        error: float = 0.02,
        channel: Channel | None = None,
        settings: EngineSettings | None = None,
        secret: bytes = SEED,
    ) -> None:
        self.dice = random.Random(seed)
        self.channel = channel or Channel()
        self.light = Light(np.random.default_rng(seed), error)
        self.settings = settings or EngineSettings("l", FRAME_BITS * frames, block_limit_ns=30_000 * MS)
        self.settings = replace(self.settings, block_bits=FRAME_BITS * frames)
        known: dict[bytes, Bytes] = {}
        self.kernels = {"alice": ToyKernels(known), "bob": ToyKernels(known)}
        draw = self.dice.randbytes

        def conduit() -> Conduit:
            return Conduit(resend_ns=300 * MS, stall_ns=3_000 * MS)

        self.alice = AliceEngine(
            self.settings,
            SIDE,
            self.light,
            self.kernels["alice"],
            KeyStocks(secret, "l"),
            random_bytes=draw,
            conduit=conduit(),
        )
        self.bob = BobEngine(
            self.settings, 0.9, self.kernels["bob"], KeyStocks(secret, "l"), random_bytes=draw, conduit=conduit()
        )
        self.keys: dict[str, dict[int, FinishedBlock]] = {"alice": {}, "bob": {}}
        self.reports: dict[str, list[BlockReport]] = {"alice": [], "bob": []}
        self.halted: list[str] = []
        self.learned: list[Baseline] = []
        self.wire: list[tuple[str, bytes]] = []
        self.now_ns = 0
        self._order = itertools.count()
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._dark_until_ns = 0
        self.chunk = 60_000
        """Detections that come at once."""
        self.pace_ns = 20 * MS
        """Time between them."""

    def engine(self, name: str) -> Engine:  # type: ignore[type-arg] # - of either kind of block
        """Return an end by its name."""
        return self.alice if name == "alice" else self.bob

    def start(self) -> None:
        """Let both say their terms."""
        for name in ("alice", "bob"):
            self._do(name, self.engine(name).start(self.now_ns))

    def run(self, blocks: int, limit_s: float = 120.0) -> None:
        """Give light until Bob has reported `blocks` blocks, then only time until nothing is under way."""
        if not self.wire:
            self.start()
        end_ns = self.now_ns + round(limit_s * 1e9)
        while self.now_ns < end_ns and not self.halted:
            done = len(self.reports["bob"]) >= blocks
            if done and not self.alice.open_blocks and not self.bob.open_blocks and not self._busy():
                return
            if self.bob.wants_detections and not done and self.now_ns >= self._dark_until_ns:
                self._dark_until_ns = self.now_ns + self.pace_ns
                first, end, slots, *columns = self.light.detect(self.chunk)
                bases, bits = (np.packbits(column, bitorder="little") for column in columns)
                self._do(
                    "bob",
                    self.bob.detected((first, end), slots, bases, bits, Seen(end - first, len(slots)), self.now_ns),
                )
            self._step()

    def _busy(self) -> bool:
        return bool(self.alice.waiting_bytes or self.bob.waiting_bytes)

    def _step(self) -> None:
        """Go to what happens next, or on by 5 ms."""
        until = self.now_ns + 5 * MS
        if self._events and self._events[0][0] <= until:
            self.now_ns, _, act = heapq.heappop(self._events)
            act()
        else:
            self.now_ns = until
        for name in ("alice", "bob"):
            deadline = self.engine(name).next_deadline()
            if deadline is not None and deadline <= self.now_ns:
                self._do(name, self.engine(name).tick(self.now_ns))

    def at(self, delay_ns: int, act: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._events, (self.now_ns + delay_ns, next(self._order), act))

    def _do(self, name: str, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(frame):
                    self._carry("bob" if name == "alice" else "alice", frame)
                case Work():
                    self._work(name, effect)
                case Deliver(block):
                    assert block.block_id not in self.keys[name]
                    self.keys[name][block.block_id] = block
                case Report(report):
                    self.reports[name].append(report)
                case Learned(baseline):
                    self.learned.append(baseline)
                case Halt(reason):
                    self.halted.append(reason)

    def _work(self, name: str, work: Work) -> None:
        result = work.run()
        self.at(2 * MS, lambda: self._do(name, self.engine(name).worked(work.ticket, result, self.now_ns)))

    def _carry(self, to: str, frame: bytes) -> None:
        channel, chance = self.channel, self.dice.random
        self.wire.append((to, frame))
        altered = channel.alter(to, frame)
        if altered is None or chance() < channel.lost:
            return
        if chance() < channel.bent:
            place = self.dice.randrange(len(altered))
            altered = altered[:place] + bytes([altered[place] ^ 1 << self.dice.randrange(8)]) + altered[place + 1 :]
        for _ in range(1 + (chance() < channel.doubled)):
            delay_ns = round((channel.delay_ms + channel.jitter_ms * chance()) * MS)
            self.at(delay_ns, lambda: self._do(to, self.engine(to).take(altered, self.now_ns)))

    def check(self) -> list[int]:
        """Assert that no two keys of one block differ, and return the blocks that both ends have."""
        both = sorted(self.keys["alice"].keys() & self.keys["bob"].keys())
        for block in both:
            assert self.keys["alice"][block] == self.keys["bob"][block]
        assert not self.keys["bob"].keys() - self.keys["alice"].keys(), "Alice is the first to hand a block over"
        return both
