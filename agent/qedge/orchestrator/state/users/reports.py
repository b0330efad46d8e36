"""What a node says of itself: what it can run, what it measured of its QPUs, and now and then of its site."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.service import Ready
from qedge.orchestrator.state.namespaces import NAMESPACES
from qedge.orchestrator.state.ports import StatePeers
from qedge.orchestrator.state.service import StateService
from qedge.orchestrator.state.sites import Herald, encode, encode_facts, read, summary_of
from qedge.wire.node import DriverView, Fact
from qedge.wire.state import NodeSummary

_LOG: Final = get_logger("state")
_LOOK_S: Final = 1.0
_OWN_KEY: Final = "node"
_MEASURED: Final = "assessed_"


class NodeReports:
    """Puts `capability`, `calibration` and `sites` into the shared state, each when it says something new."""

    name = "shared-reports"

    def __init__(
        self, state: StateService, peers: StatePeers, drivers: Callable[[], Sequence[DriverView]], clock: Clock
    ) -> None:
        self._state = state
        self._peers = peers
        self._drivers = drivers
        self._clock = clock
        self._herald = Herald(state.node, round(state.config.summary_s * 1e9))
        self._said: dict[tuple[str, str], bytes] = {}

    async def run(self, ready: Ready) -> None:
        """Look again and again, until cancelled."""
        ready()
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Say what has changed since the last look."""
        qpus = [driver for driver in self._drivers() if driver.kind == "qpu" and driver.operating_state != "down"]
        await self._say("capability", _OWN_KEY, encode(node_summary(qpus)))
        for qpu in qpus:
            facts = calibration_of(qpu)
            if facts:
                await self._say("calibration", qpu.name, encode_facts(facts))
        names = (self._state.node, *self._peers.alive())
        said = (read(entry.said.value, NodeSummary) for entry in self._state.under("capability", _OWN_KEY))
        now = summary_of(self._state.config.site, names, [each for each in said if each is not None])
        summary = self._herald.look(now, self._clock.now_ns())
        if summary is not None:
            await self._say("sites", summary.site, encode(summary))

    async def _say(self, namespace: str, key: str, value: bytes) -> None:
        if self._said.get((namespace, key)) == value or len(value) > NAMESPACES[namespace].value_bytes:
            return
        try:
            await self._state.put(namespace, key, value)
        except QedgeError as error:
            _LOG.warning("state.not_said", namespace=namespace, key=key, code=error.code)
        else:
            self._said[namespace, key] = value


def node_summary(qpus: Sequence[DriverView]) -> NodeSummary:
    """Sum up what QPUs that are up can run."""
    return NodeSummary(
        len(qpus),
        max((_number(qpu, "assessed_state_qubits") or _number(qpu, "num_qubits") for qpu in qpus), default=0),
        sum(_number(qpu, "assessed_clops") for qpu in qpus),
        all(qpu.simulated for qpu in qpus),
    )


def calibration_of(qpu: DriverView) -> Mapping[str, Fact]:
    """Return what was measured of a QPU, without the time of it: that alone is no news."""
    return {
        name: value
        for name, value in qpu.properties.items()
        if (name.startswith(_MEASURED) and name != "assessed_utc_s") or name == "degraded"
        if not isinstance(value, list)
    }


def _number(qpu: DriverView, name: str) -> int:
    value = qpu.properties.get(name)
    return round(value) if isinstance(value, (int, float)) else 0
