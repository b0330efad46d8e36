"""The random source that tests put in place of a real one: fair, stuck, silent or bad for a while, as it is told."""

from __future__ import annotations

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge_driver_api import RawSamples


class FakeSource:
    """Fills `RawSource` with the bytes of `random_bytes`; `mode` is `fair`, `stuck`, `silent` or `biased`."""

    def __init__(self, random_bytes: RandomBytes, name: str = "fake") -> None:
        self.name = name
        self.simulated = True
        self.is_ready = True
        self.mode = "fair"
        self.bad_reads = 0
        self.reads = 0
        self._random_bytes = random_bytes

    async def read(self, num_bytes: int, deadline_s: float) -> RawSamples:
        """Give samples of one bit; the next `bad_reads` reads are biased whatever the mode."""
        self.reads += 1
        if self.mode == "silent":
            raise QedgeError("worker.deadline", "The source is silent.", deadline_s=deadline_s)
        if self.mode == "stuck":
            return RawSamples(bytes(num_bytes), 1, 0.9)
        fair = self._random_bytes(num_bytes)
        if self.mode == "biased" or self.bad_reads > 0:
            self.bad_reads = max(0, self.bad_reads - 1)
            biased = int.from_bytes(fair, "big") | int.from_bytes(self._random_bytes(num_bytes), "big")
            return RawSamples(biased.to_bytes(num_bytes, "big"), 1, 0.9)
        return RawSamples(fair, 1, 0.9)
