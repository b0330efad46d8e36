"""What both engines have in common: epochs, messages, work that is done elsewhere, blocks under way.

An engine has no clock, thread or socket: it is told what happens and answers with effects, to be done in their order.
Whenever one end hears what it cannot understand, or a block makes no progress, both begin a new epoch and what was
under way is lost; keys that were handed over, and stocks for authentication, stay.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, cast

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.qkd.authentication.stock import BlockPads, KeyStocks, stock_bytes
from qedge.qkd.authentication.tags import Transcript, forgery_bound
from qedge.qkd.distillation.accounts import LeakAccount
from qedge.qkd.distillation.conduit import Conduit
from qedge.qkd.distillation.model import (
    FRAME_BITS,
    PROTOCOL,
    BlockCounts,
    Deliver,
    Effect,
    EngineSettings,
    Halt,
    LinkTerms,
    ProtocolError,
    Report,
    Send,
    Work,
)
from qedge.qkd.distillation.ports import Kernels
from qedge.wire.qkd import BlockReport, Dropped, FinishedBlock, Provenance

T = TypeVar("T")
_ENCODE: Final = msgspec.msgpack.Encoder().encode
TAGS_OF_BLOCK: Final = 3
_DISAGREED: Final = 3
_MAX_AHEAD: Final = 1 << 32
"""Blocks that one end may have numbered since both began with the same one."""
MAX_OPEN: Final = 64
"""Blocks under way; an end that has more is not answered by the other one any more."""
RECEIPT_BOUND: Final = 2.0**-64
ANNOUNCED: Final = b"announced"
SEALED: Final = b"sealed"
ACCEPTED: Final = b"accepted"
FORGED: Final = "authentication failed"


@dataclass(slots=True, eq=False)
class OpenBlock:
    """What both ends keep of a block under way. `ours` and `theirs` are what was said in it after `Announced`."""

    number: int
    detections: int
    account: LeakAccount
    ours: Transcript
    theirs: Transcript
    touched_ns: int
    pads: BlockPads | None = None
    announced_bytes: int = 0
    code_bits: int = 0
    test_qber: float = -1.0
    gain: float = -1.0

    @property
    def wire_bits(self) -> int:
        """Bits that both ends said in the block."""
        return 8 * (self.announced_bytes + self.ours.num_bytes + self.theirs.num_bytes)


B = TypeVar("B", bound=OpenBlock)


class Engine(Generic[B]):
    """One end. Give its effects to whoever does them; call `tick` when `next_deadline` has come."""

    def __init__(
        self,
        settings: EngineSettings,
        kernels: Kernels,
        stocks: KeyStocks,
        *,
        random_bytes: RandomBytes,
        first_block: int = 0,
        conduit: Conduit | None = None,
    ) -> None:
        if settings.block_bits <= 0 or settings.block_bits % FRAME_BITS:
            raise ValueError(f"a block has a multiple of {FRAME_BITS} bits")
        self.settings = settings
        self.kernels = kernels
        self.stocks = stocks
        self.terms: LinkTerms | None = None
        self._random_bytes = random_bytes
        self._conduit = conduit or Conduit()
        self._next_block = first_block
        self._blocks: dict[int, B] = {}
        self._effects: list[Effect] = []
        self._tickets = itertools.count()
        self._waiting: dict[int, Callable[[object], None]] = {}
        self._said_terms = b""
        self._heard_terms = b""
        self._now_ns = 0
        self._disagreed = 0
        self.halted = ""
        """Why this end does nothing any more; empty while it does."""

    # What happens

    def start(self, now_ns: int) -> list[Effect]:
        """Say this end's terms."""
        return self._do(now_ns, self._say_terms)

    def take(self, frame: bytes, now_ns: int) -> list[Effect]:
        """Take a frame of the other end, whatever it is."""
        return self._do(now_ns, lambda: self._take(frame))

    def worked(self, ticket: int, result: object, now_ns: int) -> list[Effect]:
        """Take the result of a `Work`, or the exception that it raised."""
        return self._do(now_ns, lambda: self._worked(ticket, result))

    def tick(self, now_ns: int) -> list[Effect]:
        """Look at what should have happened by now."""
        return self._do(now_ns, self._look)

    def next_deadline(self) -> int | None:
        """Return when to call `tick`; None: not before something happens."""
        times = [block.touched_ns + self.settings.block_limit_ns for block in self._blocks.values()]
        conduit = self._conduit.next_deadline()
        return min([*times, conduit] if conduit is not None else times, default=None)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that the other end has not acknowledged."""
        return self._conduit.waiting_bytes

    @property
    def open_blocks(self) -> int:
        """Blocks that are full and not finished."""
        return len(self._blocks)

    # What the roles fill in

    def _make_terms(self) -> msgspec.Struct:
        raise NotImplementedError

    def _hear(self, body: bytes) -> None:
        """Decode and act; raises `ProtocolError`, `ValueError`, `QedgeError`."""
        raise NotImplementedError

    def _forget(self) -> None:
        """Forget what belongs to the epoch that is over."""
        raise NotImplementedError

    # What both do

    def _do(self, now_ns: int, act: Callable[[], None]) -> list[Effect]:
        self._now_ns = now_ns
        try:
            if not self.halted:
                act()
        except ProtocolError as fault:
            self._begin_anew(str(fault))
        except (ValueError, IndexError, msgspec.DecodeError) as error:
            self._begin_anew(f"a message makes no sense: {error}")
        except QedgeError as error:
            if error.code == "qkd.no_pads" and self.stocks.left == 0:
                self._halt(error.message)
            else:
                self._begin_anew(error.message)
        if not self.halted:
            self._effects += [Send(frame) for frame in self._conduit.due(now_ns)]
        effects, self._effects = self._effects, []
        return effects

    def _take(self, frame: bytes) -> None:
        turned, bodies = self._conduit.take(frame, self._now_ns)
        if turned:
            self._leave("the other end began anew")
        epoch = self._conduit.epoch
        for body in bodies:
            self._hear(body)
            if self._conduit.epoch != epoch or self.halted:
                return

    def _worked(self, ticket: int, result: object) -> None:
        then = self._waiting.pop(ticket, None)
        if then is None:
            return  # of an epoch or a block that is over
        if isinstance(result, Exception):
            raise ProtocolError(f"the kernels failed: {result}")
        then(result)

    def _look(self) -> None:
        for block in self._blocks.values():
            if self._now_ns - block.touched_ns >= self.settings.block_limit_ns:
                raise ProtocolError(f"block {block.number} makes no progress")
        if self._conduit.is_stalled(self._now_ns):
            raise ProtocolError("the other end does not acknowledge")

    def _later(self, run: Callable[[], T], then: Callable[[T], None]) -> None:
        ticket = next(self._tickets)
        self._waiting[ticket] = lambda result: then(cast("T", result))
        self._effects.append(Work(ticket, run))

    def _post(self, message: msgspec.Struct, block: OpenBlock | None = None) -> bytes:
        """Send a message; one that belongs to a block is noted in it, and covered by the next tag."""
        body = _ENCODE(message)
        self._conduit.post(body)
        if block is not None:
            block.ours.add(body)
        return body

    def _say_terms(self) -> None:
        self._said_terms = self._post(self._make_terms())

    def _begin_anew(self, reason: str) -> None:
        self._conduit.begin_anew()
        self._leave(reason)

    def _leave(self, reason: str) -> None:
        """Forget what was under way in the epoch that is over, and open the new one."""
        for block in list(self._blocks.values()):
            self._close(block, "reset", reason)
        self._blocks.clear()
        self._waiting.clear()
        self.terms = None
        self._heard_terms = b""
        self._forget()
        self._say_terms()

    def _halt(self, reason: str) -> None:
        self.halted = reason
        self._effects.append(Halt(reason))

    def _disagree(self, reason: str) -> None:
        """Take terms that do not fit: a bent message may be asked for again, what is said three times is so."""
        self._disagreed += 1
        if self._disagreed < _DISAGREED:
            raise ProtocolError(reason)
        self._halt(reason)

    def _go_on_from(self, next_block: int) -> None:
        """Take the first number that is free at the other end."""
        if next_block - self._next_block > _MAX_AHEAD:
            raise ProtocolError(f"the other end numbers blocks from {next_block}, far beyond those here")
        self._next_block = max(self._next_block, next_block)

    def _block(self, number: int) -> B:
        block = self._blocks.get(number)
        if block is None:
            raise ProtocolError(f"block {number} is not under way")
        block.touched_ns = self._now_ns
        return block

    def _open(self, number: int) -> bool:
        """Say whether a block is under way; what is said of a block that was dropped meanwhile has no effect."""
        if number >= self._next_block:
            raise ProtocolError(f"block {number} was not begun")
        return number in self._blocks

    def _transcripts(self, number: int, *, from_alice: bool) -> Transcript:
        terms = (self._said_terms, self._heard_terms)
        ordered = terms if self._is_alice else terms[::-1]
        speaker = b"alice" if from_alice else b"bob"
        fields = (b"qedge/v1 qkd", self.settings.link.encode(), speaker, number.to_bytes(8, "little"), *ordered)
        return Transcript(b"".join(len(field).to_bytes(4, "little") + field for field in fields))

    _is_alice = False

    def _drop(self, block: B, outcome: str, reason: str) -> None:
        """Give a block up, and tell the other end."""
        self._close(block, outcome, reason)
        self._blocks.pop(block.number, None)
        self._post(Dropped(block.number, reason[:200]))

    def _dropped(self, message: Dropped) -> None:
        block = self._blocks.pop(message.block, None)
        if block is not None:
            self._close(block, "dropped", message.reason)

    def _close(self, block: B, outcome: str, reason: str, *, qber: float = -1.0, key_bits: int = 0) -> None:
        """Report how a block ended."""
        self._report(block, outcome, reason, qber=qber, key_bits=key_bits)

    def _report(
        self,
        block: OpenBlock,
        outcome: str,
        reason: str = "",
        *,
        qber: float = -1.0,
        key_bits: int = 0,
        reserved: int = 0,
    ) -> None:
        sifted = block.account.frames * FRAME_BITS
        self._effects.append(
            Report(
                BlockReport(
                    block=block.number,
                    outcome=outcome,
                    reason=reason,
                    sifted_bits=sifted,
                    qber=qber,
                    test_qber=block.test_qber,
                    frames=block.account.frames,
                    dropped_frames=len(block.account.dropped),
                    leaked_bits=block.account.total,
                    efficiency=block.account.total / (block.account.frames * FRAME_BITS * entropy(qber))
                    if qber > 0
                    else 0.0,
                    key_bits=key_bits,
                    reserved_bits=reserved,
                    burnt_bits=self.stocks.burnt_bits,
                    wire_bits=block.wire_bits,
                    detections=block.detections,
                    quarantined=self.is_quarantined,
                    gain=block.gain,
                )
            )
        )

    @property
    def is_quarantined(self) -> bool:
        """Whether key is held back until blocks are clean again."""
        return False

    def _forgery_bound(self, block: OpenBlock) -> float:
        """Return the chance that any of the block's tags, or its receipt, was forged."""
        sizes = (block.announced_bytes, block.ours.num_bytes, block.theirs.num_bytes)
        return sum(forgery_bound(size) for size in sizes) + RECEIPT_BOUND

    def _finish(self, block: OpenBlock, counts: BlockCounts, output: bytes, refill: int) -> FinishedBlock:
        """Take the stock out of a block whose key both ends hold, and hand out the rest."""
        reserved = stock_bytes(refill) if refill else 0
        if refill:
            self.stocks.add(block.number, output[:reserved])
        epsilons = self.settings.epsilons
        eps_auth = max(epsilons.authentication, self._forgery_bound(block))
        provenance = Provenance(
            protocol=PROTOCOL,
            eps_cor=epsilons.correctness,
            eps_sec=epsilons.secrecy,
            eps_auth=eps_auth,
            eps_total=min(1.0, epsilons.correctness + epsilons.secrecy + eps_auth),
            simulated=self.settings.simulated,
            qber=counts.key_qber,
            sifted_bits=sum(counts.key_detections),
            leaked_bits=block.account.total,
        )
        finished = FinishedBlock(self.settings.link, block.number, output[reserved:], provenance)
        self._effects.append(Deliver(finished))
        self._report(block, "key", qber=counts.key_qber, key_bits=8 * len(finished.bits), reserved=8 * reserved)
        return finished


def pieces(number: int, size: int) -> Sequence[slice]:
    """Cut `number` things into pieces of at most `size`."""
    return [slice(begin, min(begin + size, number)) for begin in range(0, number, size)]


def entropy(share: float) -> float:
    """Return the binary entropy of a share in (0, 1), in bits."""
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)
