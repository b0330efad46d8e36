"""One assessment of one QPU: the steps, one short call of a worker after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from qedge import __version__
from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.engine.assessment.ports import Host, MeasurableQpu
from qedge.engine.assessment.verdict import fit_decay, passes_volume
from qedge.wire.assessment import Assessment
from qedge.workers.model import Msg

_STEP_LIMIT_S: Final = 60.0
_WIDEST_VOLUME: Final = 10
_CIRCUITS: Final = 200
_PART: Final = 10
_GIVEN_UP_AFTER: Final = 2
_SHOTS: Final = 100
_DEPTHS: Final = (2, 8, 20, 40)
_CYCLE_CIRCUITS: Final = 20
_CYCLE_SHOTS: Final = 400
_TEMPLATES: Final = 20
_UPDATES: Final = 10
_WINDOWS: Final = 400
_LIMITS_NOTHING: Final = frozenset({"worker.crashed", "worker.unavailable", "worker.deadline", "driver.locked"})
"""Errors that end an assessment; any other one leaves out a figure."""


class _Answer(msgspec.Struct, frozen=True):
    qubits: int = 0
    heavy: list[float] = []
    layers: int = 0
    took_s: float = 0.0
    seen: list[float] = []
    ideal: list[float] = []
    times_us: list[float] = []


@dataclass(slots=True)
class Course:
    """The way through one assessment; `pause` lets others go first between two steps."""

    qpu: MeasurableQpu
    seed: int
    clock: Clock
    pause: Callable[[], Awaitable[None]]
    _drawn: int = 0
    _notes: list[str] = field(default_factory=list)

    async def run(self, memory_bytes: int, time_s: float, host: Host) -> Assessment:
        """Measure everything; raises `worker.*` and `driver.*` where the QPU goes away."""
        started_ns, utc_ns = self.clock.now_ns(), self.clock.utc_ns()
        found = Assessment(
            qpu=self.qpu.name,
            measured_utc_ns=utc_ns,
            took_s=0.0,
            seed=self.seed,
            version=__version__,
            cpu_model=host.cpu_model(),
            load=host.load(),
            simulated=self.qpu.simulated,
        )
        parts = (lambda: self._state(memory_bytes, time_s), self._cycles, self._decoding)
        for part in parts:
            found = msgspec.structs.replace(found, **await self._if_possible(part))
        found = msgspec.structs.replace(found, **await self._if_possible(lambda: self._volume(found.state_qubits)))
        width = max(2, found.log2_volume)
        found = msgspec.structs.replace(found, **await self._if_possible(lambda: self._layers(width)))
        return msgspec.structs.replace(
            found, took_s=(self.clock.now_ns() - started_ns) / 1e9, notes=tuple(dict.fromkeys(self._notes))
        )

    async def _if_possible(self, part: Callable[[], Awaitable[dict[str, float]]]) -> dict[str, float]:
        try:
            return await part()
        except QedgeError as error:
            if error.code in _LIMITS_NOTHING:
                raise
            self._notes.append(error.message)
            return {}

    async def _step(self, step: str, **args: Msg) -> _Answer:
        await self.pause()
        self._drawn += 1
        seeded: dict[str, Msg] = {"step": step, "seed": (self.seed + self._drawn) % (1 << 32), **args}
        answer = await self.qpu.call("assess", seeded, deadline_s=_STEP_LIMIT_S, light=True)
        try:
            return msgspec.convert(answer, _Answer)
        except msgspec.ValidationError as error:
            raise QedgeError("worker.bad_answer", f"A step of an assessment cannot be read: {error}.") from error

    @staticmethod
    def _advance(number: int) -> None:
        if number < 1:
            raise QedgeError("worker.bad_answer", "A step of an assessment measured nothing.")

    async def _state(self, memory_bytes: int, time_s: float) -> dict[str, float]:
        return {"state_qubits": (await self._step("state", memory_bytes=memory_bytes, time_s=time_s)).qubits}

    async def _volume(self, qubits: int) -> dict[str, float]:
        """Look for the widest circuits whose heavy outputs come often enough, from narrow to wide."""
        limit = min(qubits, _WIDEST_VOLUME)
        best: dict[str, float] = {"volume_limit": limit, "volume_circuits": _CIRCUITS}
        failed = 0
        for width in range(2, limit + 1):
            heavy: list[float] = []
            while len(heavy) < _CIRCUITS:
                part = await self._step("volume", width=width, circuits=_PART, shots=_SHOTS)
                self._advance(len(part.heavy))
                heavy += part.heavy
            if not passes_volume(heavy):
                failed += 1
                if failed == _GIVEN_UP_AFTER:
                    break
                continue
            failed = 0
            best |= {"log2_volume": width, "heavy_output": sum(heavy) / len(heavy)}
        return best

    async def _layers(self, width: int) -> dict[str, float]:
        layers, took_s = 0, 0.0
        for _ in range(_TEMPLATES):
            part = await self._step("layers", width=width, templates=1, updates=_UPDATES, shots=_SHOTS)
            layers, took_s = layers + part.layers, took_s + part.took_s
        return {"clops": layers / took_s if took_s > 0 else 0.0}

    async def _cycles(self) -> dict[str, float]:
        seen: list[list[float]] = [[] for _ in _DEPTHS]
        ideal: list[list[float]] = [[] for _ in _DEPTHS]
        for place, depth in enumerate(_DEPTHS):
            while (left := _CYCLE_CIRCUITS - len(seen[place])) > 0:
                part = await self._step("cycles", depth=depth, circuits=left, shots=_CYCLE_SHOTS)
                self._advance(len(part.seen))
                seen[place] += part.seen
                ideal[place] += part.ideal
        decay = fit_decay(_DEPTHS, seen, ideal)
        return {"cycle_fidelity": decay.fidelity, "cycle_fidelity_error": decay.error}

    async def _decoding(self) -> dict[str, float]:
        times = sorted((await self._step("decode", windows=_WINDOWS)).times_us)
        if not times:
            return {}
        return {"decode_p50_us": times[len(times) // 2], "decode_p99_us": times[int(0.99 * len(times))]}
