"""How soon a fleet sees a node come and go: daemons without quantum processors on one broker, and a model in the large.

`membership.visible_s`: from READY=1 of a new node until its peers, asked over HTTP, show it alive, the slowest of all
peers and newcomers; its birth is verified by then. `membership.dead_s`: from `kill -9` of a daemon until its peers have
called it dead, the slowest of all peers, in a fleet of three and in one of up to twenty (`membership.dead_small_s` is
that of three alone). `membership.world_*`: a thousand nodes in virtual time, from the first start to all seeing all,
and from the end of a partition to the same; the bounds are those of the tests of that world.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.broker import Broker
from benchmarks.fleet import Fleet
from benchmarks.membership_world import converge
from benchmarks.node import Node
from benchmarks.report import Figure
from qedge.client.node import NodeClient
from qedge.wire.mesh import PeerState

SMALL, LARGE = 3, 20
NODE_MIB = 100
NEWCOMERS = 5
KILLS = 3
STEP_S = 0.02
SETTLE_S = 2.0
LIMIT_S = 30.0
WORLD_NODES = 1000
WORLD_CONVERGE_S = 3.0
"""One second in which all start, and two until they agree."""
WORLD_HEAL_S = 25.6
"""Two periods of the heart in a fleet of that size."""

CONFIG = """
[node]
name = "{name}"
[broker]
url = "mqtt://127.0.0.1:{port}"
[drivers.qrng]
driver = "sim_qrng"
"""


class Site:
    """A broker and nodes of one fleet, by name."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self._fleet = Fleet()
        self._names = iter(range(10_000))

    def make(self) -> tuple[str, Node]:
        """Return a member that was never started."""
        name = f"n{next(self._names)}"
        self._fleet.enrol(self._folder / name, name)
        return name, Node(self._folder / name, CONFIG.format(name=name, port=self._port))

    @contextmanager
    def running(self, count: int) -> Iterator[dict[str, Node]]:
        """Run `count` new nodes until all see all."""
        with ExitStack() as stack:
            nodes = dict(self.make() for _ in range(count))
            for node in nodes.values():
                stack.enter_context(node)
            for name in nodes:
                asyncio.run(reach(others(nodes, name), name, PeerState.ALIVE))
            time.sleep(SETTLE_S)
            yield nodes


def others(nodes: dict[str, Node], name: str) -> list[Node]:
    """Return all nodes but one."""
    return [node for other, node in nodes.items() if other != name]


async def reach(watchers: Sequence[Node], name: str, state: PeerState) -> float:
    """Wait until all watchers hold `name` for `state`; returns the time, UTC in seconds, when the last began to."""

    async def watch(node: Node) -> float:
        async with NodeClient(node.socket) as client, asyncio.timeout(LIMIT_S):
            while True:
                for peer in (await client.peers()).peers:
                    if peer.node == name and peer.state is state:
                        return peer.since_utc_ns / 1e9
                await asyncio.sleep(STEP_S * max(1, len(watchers) // 2))

    return max(await asyncio.gather(*(watch(node) for node in watchers)))


def measure_visible(site: Site, nodes: dict[str, Node]) -> float:
    """Start newcomers one after the other; returns seconds of the slowest, as somebody who asks over HTTP sees it."""
    slowest_s = 0.0
    for _ in range(NEWCOMERS):
        name, node = site.make()
        with node:
            ready = time.perf_counter()
            asyncio.run(reach(list(nodes.values()), name, PeerState.ALIVE))
            slowest_s = max(slowest_s, time.perf_counter() - ready)
    return slowest_s


def measure_dead(nodes: dict[str, Node], kills: int) -> float:
    """Kill the first `kills` nodes, one after the other, and drop them from `nodes`; returns seconds of the slowest."""
    slowest_s = 0.0
    for name in list(nodes)[:kills]:
        killed_s = nodes[name].kill() / 1e9
        slowest_s = max(slowest_s, asyncio.run(reach(others(nodes, name), name, PeerState.DEAD)) - killed_s)
        del nodes[name]
    return slowest_s


def room_for() -> int:
    """Return how many nodes this box takes, up to `LARGE`."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return max(SMALL, min(LARGE, int(line.split()[1]) // 1024 // 2 // NODE_MIB))
    return SMALL


def measure_small(kind: str, folder: Path) -> tuple[float, float]:
    """Return how long until newcomers are seen and until the dead are called so, in fleets of three."""
    visible_s, dead_s = 0.0, 0.0
    for turn in range(KILLS):
        with Broker(kind, folder / f"broker-{turn}") as broker:
            site = Site(folder / f"small-{turn}", broker.port)
            with site.running(SMALL) as nodes:
                if not turn:
                    visible_s = measure_visible(site, nodes)
                dead_s = max(dead_s, measure_dead(nodes, 1))
    return visible_s, dead_s


def run() -> list[Figure]:
    """Measure; each fleet has a broker of its own, so that nothing is left of the one before."""
    kind = "mosquitto" if shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists() else "iotcore"
    count = room_for()
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as name:
        folder = Path(name)
        visible_s, small_s = measure_small(kind, folder)
        with Broker(kind, folder / "broker") as broker, Site(folder / "large", broker.port).running(count) as nodes:
            large_s = measure_dead(nodes, KILLS)
    world = converge(WORLD_NODES, 1)
    return [
        Figure("membership.visible_s", visible_s, "s", NEWCOMERS * SMALL, 1),
        Figure("membership.dead_small_s", small_s, "s", KILLS * (SMALL - 1), 2),
        Figure("membership.dead_s", max(large_s, small_s), "s", KILLS * (count - 2), 2),
        Figure("membership.world_converge_s", world.converged_s, "s", world.nodes, WORLD_CONVERGE_S),
        Figure("membership.world_heal_s", world.healed_s, "s", world.nodes, WORLD_HEAL_S),
    ]
