"""Both daemons of a link are killed at random instants while it distils and applications take and collect keys."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.client.kme import KmeClient
from qedge.client.kme_link import Credentials
from qedge.qkd.keys.accounts import Accounts
from qedge.qkd.keys.model import Account
from tests.integration.fleet_world import FleetWorld
from tests.integration.link_site import ENDS, credentials, delivery_config, link_config

pytestmark = pytest.mark.integration

BLOCK_BITS = 1 << 20
NO_ANSWER = ("client.no_daemon", "client.timeout", "client.data")
MASTERS = 3
"""Applications' connections that ask at once, of each of the two masters."""


@dataclass
class Application:
    """An application at one node: its name, and every key it was given, as master or as slave, in order."""

    name: str
    node: str
    port: int
    files: Credentials
    taken: list[tuple[str, bytes]] = field(default_factory=list)
    collected: list[tuple[str, bytes]] = field(default_factory=list)
    refused: int = 0
    lost: set[str] = field(default_factory=set)
    """Ids of keys that it asked for and got no answer about: such an answer may have held the key."""

    def client(self) -> KmeClient:
        """Make a connection of its own."""
        return KmeClient(f"https://127.0.0.1:{self.port}", self.files, kme_id=self.node, timeout_s=15)

    async def take_for_ever(self, slave: Application) -> None:
        """Ask for fresh keys again and again; whatever is not answered is not asked for again."""
        dice = random.Random(self.name)
        async with self.client() as kme:
            while True:
                try:
                    given = await kme.get_keys(slave.name, number=dice.choice((1, 1, 2, 5)))
                except QedgeError as error:
                    self.note(error)
                    await asyncio.sleep(0.02)
                else:
                    self.taken += [(key.key_ID, key.secret) for key in given.keys]
                    await asyncio.sleep(0.005)

    async def collect_for_ever(self, master: Application) -> None:
        """Collect each key that the master was given."""
        place = 0
        async with self.client() as kme:
            while True:
                while place < len(master.taken):
                    place += await self.collect(kme, master, master.taken[place][0])
                await asyncio.sleep(0.005)

    async def collect(self, kme: KmeClient, master: Application, key_id: str) -> bool:
        """Ask for one key; returns whether there was an answer of any kind."""
        known = key_id in self.lost
        self.lost.add(key_id)  # until there is an answer, whatever ends this
        try:
            got = await kme.get_keys_with_ids(master.name, [key_id])
        except QedgeError as error:
            self.note(error)
            if error.code not in NO_ANSWER and not known:
                self.lost.discard(key_id)
            if error.code in NO_ANSWER or "503" in error.message:
                await asyncio.sleep(0.05)
                return False
            return True
        self.lost.discard(key_id)
        self.collected += [(key.key_ID, key.secret) for key in got.keys]
        return True

    def note(self, error: QedgeError) -> None:
        """See that an error is one that a daemon under fire may give."""
        assert error.code in (*NO_ANSWER, "keys.refused"), error
        self.refused += error.code == "keys.refused"


@pytest.mark.parametrize(
    ("seed", "kills"),
    [
        pytest.param(1, 2, id="short", marks=pytest.mark.timeout(400)),
        pytest.param(2, 200, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
async def test_no_key_is_given_twice_lost_or_unequal_whichever_daemon_is_killed(
    tmp_path: Path, seed: int, kills: int
) -> None:
    ports = dict(zip(ENDS, free_ports(len(ENDS)), strict=True))
    async with FleetWorld(tmp_path, "mosquitto") as world:
        for node in ENDS:
            world.start(node, link_config(tmp_path, node, BLOCK_BITS) + delivery_config(node, ports[node]))
        people = {
            node: Application(name, node, ports[node], await issued(world, node, name))
            for node, name in (("alpha", "alice"), ("beta", "bob"))
        }
        await first_key(world)
        loads = [
            asyncio.create_task(work)
            for one, other in (("alpha", "beta"), ("beta", "alpha"))
            for work in (
                *(people[one].take_for_ever(people[other]) for _ in range(MASTERS)),
                people[one].collect_for_ever(people[other]),
            )
        ]
        dice = random.Random(seed)
        seen, distilling = newest_blocks(tmp_path), 0
        for _ in range(kills):
            struck = dice.sample(list(ENDS), dice.choice((1, 1, 1, 2)))
            # Some blows fall while a daemon starts, some when it finds its peer, and some while the link distils.
            await asyncio.sleep(dice.choice((dice.uniform(0.0, 1.0), dice.uniform(0.5, 5.0), 0.0)))
            if dice.random() < 0.4:
                await fresh_block(tmp_path, seen)
                await asyncio.sleep(dice.uniform(0.0, 1.0))
            seen, before = newest_blocks(tmp_path), seen
            distilling += seen != before
            for node in struck:
                world.daemons[node].kill()
            for node in struck:
                world.daemons[node].start()
        await up_again(world)
        for load in loads:
            if load.done():
                load.result()
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
        # Without its link a node distils nothing, and its store goes on: it must agree with the other about every bit.
        for node, daemon in world.daemons.items():
            daemon.kill()
            daemon.write_config(daemon.config_path.read_text().replace(link_config(tmp_path, node, BLOCK_BITS), ""))
            daemon.start()
        await up_again(world)
        await collect_the_rest(people["alpha"], people["beta"])
        await collect_the_rest(people["beta"], people["alpha"])
        await agreed(tmp_path)
        judge(people.values())
    taken = sum(len(each.taken) for each in people.values())
    unanswered = sum(len(each.lost) for each in people.values())
    print(f"{kills} kills, {distilling} of them after a fresh block; {taken} keys, {unanswered} unanswered")
    assert taken > 4 * kills
    assert distilling >= kills // 5


def judge(people: Iterable[Application]) -> None:
    """Compare what the applications of both ends were given."""
    one, other = people
    everything = [*one.taken, *other.taken]
    assert len({key_id for key_id, _ in everything}) == len(everything)
    assert len({key for _, key in everything}) == len(everything), "two masters had the same bits"
    for master, slave in ((one, other), (other, one)):
        ids = [key_id for key_id, _ in slave.collected]
        assert len(set(ids)) == len(ids), "a slave had a key twice"
        assert set(slave.collected) <= set(master.taken), "keys differ at the two ends"
        missing = {key_id for key_id, _ in master.taken} - set(ids)
        assert missing <= slave.lost, "a key was lost whose answer was not"


async def issued(world: FleetWorld, node: str, name: str) -> Credentials:
    """Wait until a node hands out certificates, and have one made."""
    async with asyncio.timeout(90), world.daemons[node].client() as client:
        while True:
            with contextlib.suppress(QedgeError):
                if (await client.keys.overview()).url:
                    return await credentials(world, node, name)
            await asyncio.sleep(0.05)


async def first_key(world: FleetWorld) -> None:
    """Wait until the link distils, so that the kernels are compiled and the first blow falls on a working link."""
    for node in ENDS:
        await world.daemons[node].wait_status(lambda status: status.links[0].key_bits > 0, 200)


async def fresh_block(folder: Path, seen: tuple[int, ...]) -> None:
    """Wait until both stores have taken a block that is newer than those seen."""
    async with asyncio.timeout(180):
        while not all(now > before for now, before in zip(newest_blocks(folder), seen, strict=True)):
            await asyncio.sleep(0.02)


async def up_again(world: FleetWorld) -> None:
    """Wait until both daemons run and see each other."""
    for daemon in world.daemons.values():
        await daemon.wait_status(lambda status: status.ready and status.bus.connected, 60)
    await world.wait_together(*ENDS)


async def collect_the_rest(slave: Application, master: Application) -> None:
    """Ask for every key that was taken and not collected; each must be there unless an answer was lost."""
    had = {key_id for key_id, _ in slave.collected}
    async with slave.client() as kme:
        for key_id, _ in master.taken:
            if key_id in had:
                continue
            async with asyncio.timeout(60):
                while not await slave.collect(kme, master, key_id):
                    pass


async def agreed(folder: Path) -> None:
    """Wait until both stores say the same of every bit."""
    said: tuple[Account, Account] | None = None
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        one, other = said = (account(folder / "alpha"), account(folder / "beta"))
        assert one.balanced
        assert other.balanced
        # A block that only one end has is destroyed there, at once or, where it might still come, after a while.
        if (one.own, one.theirs, one.delivered) == (other.theirs, other.own, other.delivered) and not (
            one.in_flight or other.in_flight or (one.waiting and other.waiting)
        ):
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"the stores do not agree: {said}")


def account(home: Path) -> Account:
    """Read the account of the link from the database of a store."""
    with contextlib.closing(sqlite3.connect(home / "keys.sqlite3", timeout=10)) as connection:
        return Accounts(connection).all_links()[0].account


def newest_blocks(folder: Path) -> tuple[int, ...]:
    """Read the numbers of the newest blocks in the databases of both stores, −1 where there is none."""
    newest = []
    for node in ENDS:
        with contextlib.closing(sqlite3.connect(folder / node / "keys.sqlite3", timeout=10)) as connection:
            newest.append(max((row.highest for row in Accounts(connection).all_links()), default=-1))
    return tuple(newest)


def free_ports(number: int) -> list[int]:
    """Return ports that nobody listens at."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
