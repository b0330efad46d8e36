"""Assessments of the node's QPUs: after the start, now and then, and when somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.engine.assessment.course import Course
from qedge.engine.assessment.ports import Host, MeasurableQpu
from qedge.engine.assessment.verdict import best_of, worse_in
from qedge.engine.config import EngineConfig
from qedge.store.store import Store
from qedge.wire.assessment import Assessment
from qedge.wire.device import DeviceView
from qedge.wire.node import Fact

_LOG: Final = get_logger("engine")
_LOOK_S: Final = 5.0
_PAUSE_S: Final = 0.02
_DEVICE_LIMIT_S: Final = 10.0
_LOADED: Final = 1.5

Note = Callable[[str, Mapping[str, Fact]], None]
"""Takes what is to be told of a QPU: its name and facts."""


class AssessmentService:
    """Measures QPUs in short steps and tells what it found; `busy` says that jobs wait or run, which come first."""

    name = "assessment"

    def __init__(
        self,
        config: EngineConfig,
        store: Store,
        *,
        qpus: Callable[[], Sequence[MeasurableQpu]],
        host: Host,
        busy: Callable[[], bool],
        note: Note,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
    ) -> None:
        self._config = config
        self._store = store
        self._qpus = qpus
        self._host = host
        self._busy = busy
        self._note = note
        self._clock = clock
        self._metrics = metrics
        self._random_bytes = random_bytes
        self._turn = asyncio.Lock()
        self._tried_ns: dict[str, int] = {}

    async def run(self, ready: Ready) -> None:
        """Assess every simulated QPU some time after it came up, then now and then, until cancelled."""
        ready()
        seen_ns: dict[str, int] = {}
        while True:
            await asyncio.sleep(_LOOK_S)
            now_ns = self._clock.now_ns()
            for qpu in self._qpus() if self._config.assess_every_s else ():
                if not qpu.is_ready or (not qpu.simulated and not self._config.assess_devices):
                    continue
                up_s = (now_ns - seen_ns.setdefault(qpu.name, now_ns)) / 1e9
                tried_ns = self._tried_ns.get(qpu.name)
                due = tried_ns is None or (now_ns - tried_ns) / 1e9 >= self._config.assess_every_s
                if due and up_s >= self._config.assess_after_s and not self._busy():
                    try:
                        await self._assess(qpu, patient=True)
                    except QedgeError as error:
                        _LOG.warning("qpu.not_assessed", qpu=qpu.name, code=error.code, error=str(error))

    async def device(self, name: str) -> DeviceView:
        """Ask a QPU what it is like now; raises `driver.not_found`, `job.no_qpu`, `worker.bad_answer`."""
        answer = await self._find(name).call("qpu_properties", {}, deadline_s=_DEVICE_LIMIT_S, light=True)
        try:
            return msgspec.convert(answer, DeviceView, strict=False)
        except msgspec.ValidationError as error:
            raise QedgeError("worker.bad_answer", f"The device cannot be read: {error}.") from error

    async def assess(self, name: str) -> Assessment:
        """Assess a QPU now; raises `driver.not_found`, `job.no_qpu`."""
        return await self._assess(self._find(name), patient=False)

    def _find(self, name: str) -> MeasurableQpu:
        qpu = next((qpu for qpu in self._qpus() if qpu.name == name), None)
        if qpu is None:
            raise QedgeError(
                "driver.not_found", f"No driver is named {name!r}.", fix="`qedge drivers list` shows them."
            )
        if not qpu.is_ready:
            raise QedgeError("job.no_qpu", f"{name} is no QPU that is up.", fix="`qedge drivers list` shows why.")
        return qpu

    async def _assess(self, qpu: MeasurableQpu, *, patient: bool) -> Assessment:
        async with self._turn:
            self._tried_ns[qpu.name] = self._clock.now_ns()
            seed = int.from_bytes(self._random_bytes(4), "big")
            course = Course(qpu, seed, self._clock, pause=self._wait if patient else _go_on)
            memory_bytes = int(self._config.memory_share * self._host.available_bytes())
            found = await course.run(memory_bytes, self._config.run_deadline_s, self._host)
            key = f"assessed/{qpu.name}"
            best = _read(await self._store.get_meta(key))
            loaded = found.load > _LOADED * self._host.cores()
            degraded = worse_in(best, found, loaded=loaded)
            found = msgspec.structs.replace(found, degraded=degraded)
            await self._store.set_meta(key, msgspec.json.encode(best_of(best, found)).decode())
            self._tell(found)
            return found

    def _tell(self, found: Assessment) -> None:
        figures: dict[str, float] = {
            "state_qubits": found.state_qubits,
            "log2_volume": found.log2_volume,
            "clops": round(found.clops),
            "cycle_fidelity": round(found.cycle_fidelity, 5),
            "decode_p99_us": round(found.decode_p99_us, 1),
        }
        facts: dict[str, Fact] = {f"assessed_{name}": value for name, value in figures.items() if value}
        facts |= {"assessed_utc_s": found.measured_utc_ns // 10**9, "degraded": "; ".join(found.degraded)}
        self._note(found.qpu, facts)
        for name, value in figures.items():
            self._metrics.set("qedge_qpu_assessed", value, (found.qpu, name))
        self._metrics.set("qedge_qpu_degraded", len(found.degraded), (found.qpu,))
        if found.degraded:
            _LOG.warning("qpu.degraded", qpu=found.qpu, reason="; ".join(found.degraded))
        else:
            _LOG.info("qpu.assessed", qpu=found.qpu, took_s=round(found.took_s, 2), **figures)

    async def _wait(self) -> None:
        """Let jobs go first, but not for ever."""
        for _ in range(100):
            await asyncio.sleep(_PAUSE_S)
            if not self._busy():
                return


async def _go_on() -> None:
    await asyncio.sleep(0)


def _read(text: str) -> Assessment | None:
    try:
        return msgspec.json.decode(text, type=Assessment) if text else None
    except msgspec.DecodeError:
        return None  # of another version: what was best then is not known now
