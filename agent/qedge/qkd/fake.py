"""A pair of transceivers for tests: as quiet or as disturbed as the test says, without a fibre or a worker."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping

from qedge.base.errors import QedgeError
from qedge.workers.model import Msg


class FakeFibre:
    """What both ends share. Every slot is a detection; `uniform` gives numbers from 0 to 1.

    `error_z` and `error_x` are the chances of a wrong bit in each basis, `bias` that an end chooses Z; `failure` is
    raised by the next call of either end.
    """

    def __init__(self, uniform: Callable[[], float], *, block: int = 4096) -> None:
        self.uniform = uniform
        self.block = block
        self.bias = 0.5
        self.error_z = 0.01
        self.error_x = 0.01
        self.dark = False
        self.failure: QedgeError | None = None
        self.next_slot = 1000
        self.released = 0
        self.sent: dict[int, tuple[int, int]] = {}

    def bit(self, chance: float) -> int:
        """Return 1 with `chance`."""
        return int(self.uniform() < chance)


class FakeTransceiver:
    """Implements `TransceiverPort` for one end."""

    def __init__(self, name: str, fibre: FakeFibre) -> None:
        self.name = name
        self.fibre = fibre
        self.is_up = True
        self.answers: dict[str, Msg] = {}
        """Answers that a test puts in place of the true ones, by method."""

    async def call(self, method: str, args: Mapping[str, Msg], *, deadline_s: float) -> Msg:
        """Answer as a worker would."""
        if self.fibre.failure is not None:
            failure, self.fibre.failure = self.fibre.failure, None
            raise failure
        if method in self.answers:
            return self.answers[method]
        if method == "read_block":
            return self._block()
        if method == "preparations":
            return self._preparations(args)
        before = args["before_slot"]
        self.fibre.released = before if isinstance(before, int) else 0
        return None

    def _block(self) -> Msg:
        fibre, first = self.fibre, self.fibre.next_slot
        fibre.next_slot += 10 * fibre.block
        slots = array("Q", range(first, first if fibre.dark else fibre.next_slot, 10))
        bases, bits = bytearray(), bytearray()
        for slot in slots:
            alice_x, alice_bit, bob_x = fibre.bit(1 - fibre.bias), fibre.bit(0.5), fibre.bit(1 - fibre.bias)
            fibre.sent[slot] = (alice_x, alice_bit)
            wrong = fibre.bit(fibre.error_x if bob_x else fibre.error_z)
            bits.append(alice_bit ^ wrong if alice_x == bob_x else fibre.bit(0.5))
            bases.append(bob_x)
        return {
            "first_slot": first,
            "num_slots": fibre.next_slot - first,
            "slots": slots.tobytes(),
            "bases": bytes(bases),
            "bits": bytes(bits),
            "double_clicks": 0,
        }

    def _preparations(self, args: Mapping[str, Msg]) -> Msg:
        raw = args["slots"]
        sent = [self.fibre.sent[slot] for slot in array("Q", raw if isinstance(raw, bytes) else b"")]
        return {
            "bases": bytes(basis for basis, _ in sent),
            "bits": bytes(bit for _, bit in sent),
            "intensities": bytes(len(sent)),
        }
