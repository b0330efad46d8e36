"""Fills the ports of the rooms with drivers, looked up by name so that a reload may replace them."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from qedge.base.errors import QedgeError
from qedge.engine.ports import PeerNode
from qedge.mesh.host import available_memory_bytes
from qedge.mesh.service import MeshService
from qedge.mesh.sessions import SessionService
from qedge.store.store import Store
from qedge.wire.mesh import PeerList, PeerState
from qedge.workers.driver_service import DriverService
from qedge.workers.model import Msg
from qedge_driver_api import AdminState, RawSamples

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)
Drivers = Mapping[str, DriverService]
_MEMORY_AGE_S: Final = 0.25


class NamedDriver:
    """A driver instance that may come and go; fills `TransceiverPort` of the QKD room and `QpuPort` of the engine."""

    def __init__(self, name: str, drivers: Drivers) -> None:
        self._name = name
        self._drivers = drivers

    @property
    def name(self) -> str:
        """Name of the instance."""
        return self._name

    @property
    def is_up(self) -> bool:
        """Whether it may be called now."""
        driver = self._drivers.get(self._name)
        return driver is not None and driver.is_up

    @property
    def is_ready(self) -> bool:
        """Whether it is a QPU that may be called now."""
        return self.is_up and self._drivers[self._name].kind == "qpu"

    @property
    def simulated(self) -> bool:
        """Whether no hardware is behind it."""
        driver = self._drivers.get(self._name)
        return driver is not None and driver.simulated

    @property
    def capacity(self) -> int:
        """How many calls it takes at once."""
        driver = self._drivers.get(self._name)
        return driver.config.workers if driver is not None else 1

    @property
    def spares(self) -> int:
        """How many further workers stand ready."""
        driver = self._drivers.get(self._name)
        return driver.config.spares if driver is not None else 0

    async def call(
        self, method: str, args: Mapping[str, Msg], *, deadline_s: float, light: bool = False, rank: int = 1
    ) -> Msg:
        """Call the driver; raises `driver.not_found` where it is gone."""
        driver = self._drivers.get(self._name)
        if driver is None:
            raise QedgeError("driver.not_found", f"The driver {self._name} is not configured any more.")
        return await driver.call(method, args, deadline_s=deadline_s, light=light, rank=rank)


class QrngSource(NamedDriver):
    """Fills `RawSource` of the entropy room."""

    @property
    def is_ready(self) -> bool:
        """Whether it is a QRNG that may be read now."""
        return self.is_up and self._drivers[self._name].kind == "qrng"

    async def read(self, num_bytes: int, deadline_s: float) -> RawSamples:
        """Read raw samples; the worker has checked them against the driver's own claims."""
        answer = await self.call("read", {"num_bytes": num_bytes}, deadline_s=deadline_s)
        raw = answer if isinstance(answer, dict) else {}
        data, bits, entropy = raw.get("data"), raw.get("bits_per_sample"), raw.get("min_entropy_per_sample")
        if not (isinstance(data, bytes) and len(data) == num_bytes and isinstance(bits, int)):
            raise QedgeError("worker.bad_answer", "The worker of the random source gave something else than samples.")
        if not isinstance(entropy, (int, float)) or not 0 < entropy <= bits:
            raise QedgeError("driver.lied", "The random source claims an entropy that cannot be.")
        return RawSamples(data, bits, float(entropy))


class PeerStores:
    """Fills `PeerKeyStore` of the key store with sessions, which exist only after it: an extra key may lead to them.

    What key stores say to each other leads to the keys that sessions want, so it may be said before there is one.
    """

    def __init__(self) -> None:
        self._sessions: SessionService | None = None
        self._served: list[Callable[[SessionService], None]] = []

    def attach(self, sessions: SessionService) -> None:
        """Say where the sessions are."""
        self._sessions = sessions
        for serve in self._served:
            serve(sessions)

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask the store of a node."""
        if self._sessions is None:
            raise QedgeError("peer.unreachable", "The node is starting.", fix="Try again soon.")
        return await self._sessions.call(node, body, answer, deadline_s=deadline_s)

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer the stores of other nodes."""
        self._served.append(lambda sessions: sessions.serve(request, serve, bootstrap=True))


class MeshPeers:
    """Fills `Peers` of the engine and `Fleet` of placement from the mesh and its sessions."""

    def __init__(self, mesh: MeshService, sessions: SessionService) -> None:
        self._mesh = mesh
        self._sessions = sessions
        self._nodes: tuple[PeerNode, ...] | None = None
        mesh.on_peers(self._forget)

    def nodes(self) -> Sequence[PeerNode]:
        """Describe all peers; made anew only after a change."""
        if self._nodes is None:
            self._nodes = tuple(
                PeerNode(
                    view.node,
                    view.state in (PeerState.ALIVE, PeerState.SUSPECT),
                    any(each.kind == "qpu" for each in view.capabilities),
                    view.epoch,
                    view.state is PeerState.LEFT,
                )
                for view in self._mesh.peers().peers
                if not view.own and view.state not in (PeerState.REVOKED, PeerState.DUPLICATE)
            )
        return self._nodes

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask a node inside a session."""
        return await self._sessions.call(node, body, answer, deadline_s=deadline_s)

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer questions of peers."""
        self._sessions.serve(request, serve)

    def peers(self) -> PeerList:
        """Describe all members, this node included."""
        return self._mesh.peers()

    def on_change(self, hook: Callable[[], None]) -> None:
        """Hear of changes."""
        self._mesh.on_peers(hook)

    def _forget(self) -> None:
        self._nodes = None


class KeptAdminStates:
    """Fills `AdminStates` of the workers room from the database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, instance: str) -> str:
        """Return what the operator last wanted of a driver."""
        return await self._store.get_meta(f"driver.{instance}.admin_state", AdminState.UNLOCKED.value)

    async def set(self, instance: str, state: str) -> None:
        """Keep what the operator wants of a driver."""
        await self._store.set_meta(f"driver.{instance}.admin_state", state)


class ThisHost:
    """Fills `Memory` of the engine and `Host` of its assessments."""

    def __init__(self) -> None:
        self._looked_s = -math.inf
        self._available = 0

    def available_bytes(self) -> int:
        """Bytes that jobs can find now; looked up again after a moment, since that takes as long as a small circuit."""
        now_s = time.monotonic()
        if now_s - self._looked_s > _MEMORY_AGE_S:
            self._looked_s, self._available = now_s, available_memory_bytes()
        return self._available

    def cores(self) -> int:
        """Processors that this process may use."""
        return len(os.sched_getaffinity(0))

    def load(self) -> float:
        """Processes that ran or wanted to run, average of a minute."""
        return os.getloadavg()[0]

    def cpu_model(self) -> str:
        """Name of the processor; empty where the host does not tell."""
        with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()[:100]
        return ""
