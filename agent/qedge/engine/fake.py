"""The QPU that tests put in place of a real one: it answers, hangs, crashes or lies as it is told."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Mapping

from qedge.base.errors import QedgeError
from qedge.workers.model import Msg


class FakeQpu:
    """Fills `QpuPort`. Runs wait for `release` while `held`, but for those on spare workers.

    `crashes` runs die; `lie` spoils the counts;

    `at_once`: whether it runs a job in the call that looks at it, where it may.
    """

    def __init__(self, name: str = "fake", *, capacity: int = 1, spares: int = 0) -> None:
        self.name = name
        self.capacity = capacity
        self.spares = spares
        self.is_ready = True
        self.held = False
        self.release = asyncio.Event()
        self.crashes = 0
        self.lie = False
        self.at_once = False
        self.runs: list[str] = []
        self.memory_bytes = 1000
        self.time_s = 0.001

    async def call(
        self, method: str, args: Mapping[str, Msg], *, deadline_s: float, light: bool = False, rank: int = 1
    ) -> Msg:
        """Answer `prepare` and `run` as a circuit worker does."""
        if method in ("prepare", "inspect"):
            if not self.at_once or "at_once" not in args:
                return self._estimate()
            self.runs.append(str(args["program"]))
            return {**self._estimate(), "answer": self._answer(args), "perform_s": 0.001}
        self.runs.append(str(args["program"]))
        if self.held and not light:
            try:
                async with asyncio.timeout(deadline_s):
                    await self.release.wait()
            except TimeoutError:
                raise QedgeError("worker.deadline", "It took too long.") from None
        if self.crashes > 0:
            self.crashes -= 1
            raise QedgeError("worker.crashed", "It died.")
        return self._answer(args)

    def _answer(self, args: Mapping[str, Msg]) -> Msg:
        wanted = args["shots"]
        shots = wanted if isinstance(wanted, int) else 0
        return {
            "counts": {"keys": b"\x00\x03", "values": array("Q", [shots - 1, 2 if self.lie else 1]).tobytes()},
            "clbits": 2,
            "registers": [["c", 2, 0]],
            "timings_s": {"run": 0.001},
            "metadata": {"method": "fake", "simulated": True},
        }

    def _estimate(self) -> dict[str, Msg]:
        return {
            "qubits": 2,
            "clbits": 2,
            "operations": 3,
            "memory_bytes": self.memory_bytes,
            "time_s": self.time_s,
            "result_bytes": 100,
            "method": "fake",
            "registers": [["c", 2, 0]],
            "parse_s": 0.0001,
        }
