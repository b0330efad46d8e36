"""Clients that repeat a request at the next node until one answers, while nodes die and the network fails."""

from __future__ import annotations

import asyncio
import random

import pytest

from qedge.base.errors import QedgeError
from qedge.engine.fake import FakeQpu
from qedge.wire.jobs import JobState
from tests.unit.orchestrator.peer_site import EngineNode, EngineSite

NAMES = "abc"
CLIENTS = 4
REQUESTS = 8
TRY_S = 0.5
LIMIT_S = 60.0
AGAIN = ("peer.", "internal.", "store.", "job.queue_full", "job.no_qpu", "job.draining")


class Client:
    """One client; `told` is what it heard last for each key, `slow` are requests that it waits for no more."""

    def __init__(self, site: EngineSite, number: int, chance: random.Random) -> None:
        self.nodes = [site.network.nodes[name] for name in NAMES]
        self.number = number
        self.chance = chance
        self.told: dict[str, str] = {}
        self.slow: list[asyncio.Task[str]] = []

    async def run(self) -> None:
        """Make all requests, one after the other."""
        for index in range(REQUESTS):
            key = f"{self.number}-{index}"
            at = self.number + index
            while key not in self.told:
                await self.ask(self.nodes[at % len(NAMES)], key)
                at += 1
                await asyncio.sleep(self.chance.random() * 0.05)

    async def ask(self, node: EngineNode, key: str) -> None:
        """Try one node. Half of the requests are cut off there where the client waits no more, the others go on."""
        if not node.running:
            return
        life = node.epoch
        request = asyncio.create_task(self.submit(node, key))
        await asyncio.wait({request}, timeout=self.chance.choice([0.01, TRY_S]))
        if not request.done():
            if self.chance.random() < 0.5:
                request.cancel()
            self.slow.append(request)
        elif (job_id := request.result()) and node.running and node.epoch == life:
            self.told[key] = job_id

    async def submit(self, node: EngineNode, key: str) -> str:
        """Return the id of the job, or nothing where the node says that it is to be tried again."""
        try:
            return (await node.submit(key, node="any", client_key=key)).id
        except QedgeError as error:
            assert error.code.startswith(AGAIN) or not node.running, error
            return ""


async def strike(site: EngineSite, chance: random.Random, ended: asyncio.Event) -> None:
    """Strike one part after the other; all is whole again between two blows, and at the end."""
    network = site.network
    while not ended.is_set():
        await asyncio.sleep(chance.random() * 0.2)
        name = chance.choice(NAMES)
        match chance.choice(["kill", "cut", "silent", "alone", "lossy"]):
            case "kill":
                await network.nodes[name].kill()
                await asyncio.sleep(chance.random() * 0.8)
                await network.nodes[name].start()
            case "lossy":
                network.lose_answer = network.deliver_twice = lambda *_: chance.random() < 0.3
                await asyncio.sleep(chance.random() * 0.6)
            case blow:
                cut = [frozenset((name, other)) for other in NAMES if other != name]
                network.cut.update(cut if blow == "alone" else cut[:1])
                network.silent_cuts = blow == "silent"
                network.tell_all()
                await asyncio.sleep(chance.random() * 0.8)
        heal(site)


def heal(site: EngineSite) -> None:
    """Mend the network."""
    site.network.cut.clear()
    site.network.silent_cuts = False
    site.network.lose_answer = site.network.deliver_twice = lambda *_: False
    site.network.tell_all()


@pytest.mark.parametrize("seed", [1, 2, *[pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 43)]])
async def test_what_a_client_was_told_ends_and_every_node_finds_it(site: EngineSite, seed: int) -> None:
    chance = random.Random(seed)
    for name in NAMES:
        await site.node(name, FakeQpu(name), copy_wait_s=0.1, runner_lost_s=30.0)
    clients = [Client(site, number, chance) for number in range(CLIENTS)]
    ended = asyncio.Event()
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        group.create_task(strike(site, chance, ended))
        await asyncio.gather(*(client.run() for client in clients))
        ended.set()
    await asyncio.gather(*(each for client in clients for each in client.slow), return_exceptions=True)
    for client in clients:
        assert len(client.told) == REQUESTS
        for job_id in client.told.values():
            for node in client.nodes:
                view = await node.end(job_id)
                assert view.state is JobState.DONE, (node.name, view)
