"""The order of rounds and the credit of one stream: what the daemon checks of a message before it hands it on."""

from __future__ import annotations

from qedge.base.errors import QedgeError
from qedge.wire.decode import Rounds, read_rounds


class Flow:
    """Counts rounds: `received` from the control system, `committed` of which the commits were sent to it.

    Never more than `credit` rounds of `round_bytes` bytes are between the two, which is what bounds the memory that a
    stream takes in the daemon and in its worker.
    """

    def __init__(self, round_bytes: int, credit: int) -> None:
        self._round_bytes = round_bytes
        self._credit = credit
        self.received = 0
        self.committed = 0
        self.closed = False

    def take(self, message: bytes) -> Rounds:
        """Check a message of rounds and count it; raises `decode.bad_frame`, `.out_of_order`, `.overrun`, `.closed`."""
        self.check_open()
        rounds = read_rounds(message, self._round_bytes)
        if rounds.first != self.received:
            what = "came before" if rounds.first < self.received else f"came, and round {self.received} did not"
            raise QedgeError(
                "decode.out_of_order",
                f"Round {rounds.first} {what}.",
                fix="Send every round once, in order; open a new stream after a loss.",
                expected=self.received,
                got=rounds.first,
            )
        end = rounds.first + rounds.number
        if end - self.committed > self._credit:
            raise QedgeError(
                "decode.overrun",
                f"{end - self.committed} rounds are under way, and the credit is {self._credit}.",
                fix="Wait for commits before sending more; decode smaller windows where the decoder cannot keep up.",
                credit=self._credit,
            )
        self.received = end
        self.closed = rounds.closing
        return rounds

    def check_open(self) -> None:
        """Raise `decode.closed` where the control system has closed the stream."""
        if self.closed:
            raise QedgeError("decode.closed", "The stream was closed, and takes nothing more.", fix="Open another one.")

    def close(self) -> None:
        """Take nothing more."""
        self.check_open()
        self.closed = True

    def hand_out(self, committed: int) -> None:
        """Count a commit that goes to the control system."""
        self.committed = max(self.committed, committed)
