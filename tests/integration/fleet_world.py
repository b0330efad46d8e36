"""A fleet of real daemons around one broker that a test can kill and start again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import aiomqtt

from benchmarks.broker import Broker
from qedge.base.errors import QedgeError
from qedge.wire.mesh import PeerState, PeerView
from qedge.wire.node import PingRequest, PingView
from tests.integration.daemon_process import DaemonProcess
from tests.integration.fleet_site import ThrowAwayFleet

LIMIT_S = 90.0
CONFIG = """
[log]
level = "debug"
[broker]
url = "mqtt://{host}:{port}"
reconnect_cap_s = 1.0
[drivers.qrng]
driver = "sim_qrng"
"""
QPU = """
[drivers.qpu]
driver = "sim_qpu"
"""
MQTT_ONLY = """
[mesh]
listen = "off"
"""


class MortalBroker(Broker):
    """A broker without storage that can be killed and started again on its port: it then knows nothing."""

    def kill(self) -> None:
        """Kill -9."""
        self.__exit__()

    def start(self) -> None:
        """Start, and wait until it listens."""
        self.__enter__()


class FleetWorld:
    """Daemons below `folder`, members of one fleet unless said otherwise."""

    def __init__(self, folder: Path, kind: str, host: str = "127.0.0.1") -> None:
        self.folder = folder
        self.fleet = ThrowAwayFleet()
        self.broker = MortalBroker(kind, folder / "broker", host)
        self.daemons: dict[str, DaemonProcess] = {}

    async def __aenter__(self) -> FleetWorld:
        self.broker.start()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(asyncio.to_thread(d.stop) for d in self.daemons.values() if d.process is not None))
        self.broker.kill()

    def start(
        self,
        node: str,
        extra: str = "",
        *,
        fleet: ThrowAwayFleet | None = None,
        port: int = 0,
        within: tuple[str, ...] = (),
    ) -> DaemonProcess:
        """Enrol a node, in `fleet` where that is given, and start its daemon; `port` where the broker is for it.

        `within` is a command that starts another one, in a network namespace for example.
        """
        home = self.folder / node
        (fleet or self.fleet).enrol(home, node)
        return self.start_stranger(node, extra, port=port, within=within)

    def start_stranger(
        self, node: str, extra: str = "", *, port: int = 0, within: tuple[str, ...] = ()
    ) -> DaemonProcess:
        """Start a daemon with whatever place its folder gives it."""
        config = CONFIG.format(host=self.broker.host, port=port or self.broker.port)
        daemon = DaemonProcess(self.folder / node, config + extra, within=within)
        daemon.start()
        self.daemons[node] = daemon
        return daemon

    async def wait_up(self, *nodes: str) -> None:
        """Wait until these daemons are connected to the broker."""
        await asyncio.gather(
            *(self.daemons[node].wait_status(lambda status: status.bus.connected, LIMIT_S) for node in nodes)
        )

    async def wait_together(self, *nodes: str) -> None:
        """Wait until each of these nodes sees all the others alive."""

        def all_alive(at: str) -> Callable[[tuple[PeerView, ...]], bool]:
            others = set(nodes) - {at}
            return lambda peers: others <= {peer.node for peer in peers if peer.state is PeerState.ALIVE}

        await asyncio.gather(*(self._wait_peers(at, all_alive(at)) for at in nodes))

    async def peer(self, at: str, of: str) -> PeerView | None:
        """Return what node `at` holds of node `of`."""
        async with self.daemons[at].client() as client:
            return next((peer for peer in (await client.peers()).peers if peer.node == of), None)

    async def wait_peer(self, at: str, of: str, holds: Callable[[PeerView], bool]) -> PeerView:
        """Poll until what `at` holds of `of` fulfils `holds`."""
        found = await self._wait_peers(at, lambda peers: any(peer.node == of and holds(peer) for peer in peers))
        return next(peer for peer in found if peer.node == of)

    async def _wait_peers(self, at: str, holds: Callable[[tuple[PeerView, ...]], bool]) -> tuple[PeerView, ...]:
        """Poll until what `at` says of its peers fulfils `holds`."""
        deadline = time.monotonic() + LIMIT_S
        last: object = None
        async with self.daemons[at].client() as client:
            while time.monotonic() < deadline:
                try:
                    last = peers = (await client.peers()).peers
                    if holds(peers):
                        return peers
                except QedgeError as error:
                    assert error.code in ("client.no_daemon", "client.timeout", "internal.stopping"), error
                    last = error
                await asyncio.sleep(0.1)
        raise AssertionError(f"{at} never held it of its peers; last: {last}; log: {self.daemons[at].log()[-3000:]}")

    async def wait_state(self, at: str, of: str, state: PeerState) -> PeerView:
        """Poll until `at` holds `of` to be in `state`."""
        return await self.wait_peer(at, of, lambda peer: peer.state is state)

    async def ping(self, at: str, to: str, count: int = 1, *, timeout_s: float = 5.0) -> PingView:
        """Ping `to` from `at`."""
        async with self.daemons[at].client() as client:
            return await client.ping(PingRequest(node=to, count=count, timeout_s=timeout_s))

    async def wait_ping(self, at: str, to: str) -> PingView:
        """Ping until it is answered."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                return await self.ping(at, to)
            except QedgeError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def metric(self, at: str, name: str) -> float:
        """Sum a metric of a node over its labels."""
        async with self.daemons[at].client() as client:
            return total(await client.metrics(), name)

    def stranger(self) -> aiomqtt.Client:
        """Make a plain MQTT client of the broker."""
        return aiomqtt.Client(
            "127.0.0.1", self.broker.port, protocol=aiomqtt.ProtocolVersion.V5, clean_start=True, timeout=10
        )

    def events(self, node: str, event: str) -> list[str]:
        """Return the lines of a node's log with this event."""
        lines = (line for line in self.daemons[node].log().splitlines() if f'"{event}"' in line or f" {event} " in line)
        return list(lines)


def total(text: str, name: str) -> float:
    """Sum a metric in the text format over its labels."""
    lines = (line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
    return sum(float(line.rpartition(" ")[2]) for line in lines)
