"""Two daemons with a fibre between them and a real broker: key comes, stops for an eavesdropper, and comes again."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.cli.keys.watch import series_of
from qedge.client.kme import KeyContainer, KmeClient
from qedge.client.kme_link import Credentials
from qedge.wire.node import DriverChange, LinkView, NodeStatus
from tests.integration.fleet_world import FleetWorld

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

CONFIG = """
[drivers.qkd]
driver = "sim_qkd"
[drivers.qkd.settings]
role = "{role}"
link = "fibre"
preset = "plan"
fibre = "unix:{fibre}"
{more}
[qkd.links.fibre]
transceiver = "qkd"
peer = "{peer}"
block_bits = 1048576
"""
DELIVERY = """
[qkd.delivery]
enabled = true
port = 0
[qkd.saes.alice]
node = "{alice}"
permit = ["bob"]
[qkd.saes.bob]
node = "{bob}"
permit = ["alice"]
[qkd.saes.eve]
permit = ["alice"]
"""
ENDS = {"alpha": ("bob", "beta"), "beta": ("alice", "alpha")}


def link_of(status: NodeStatus) -> LinkView:
    """Return the only link of a node."""
    return status.links[0]


def worker_of(status: NodeStatus) -> int:
    """Return the process id of the link worker, 0 while there is none."""
    driver = next(driver for driver in status.drivers if driver.name == "qkd")
    return driver.workers[0].pid if driver.operating_state == "up" else 0


@asynccontextmanager
async def two_nodes(folder: Path, more: str = "", *, delivers: bool = False) -> AsyncIterator[FleetWorld]:
    async with FleetWorld(folder, "mosquitto") as world:
        for node, (role, peer) in ENDS.items():
            saes = DELIVERY.format(alice="" if node == "alpha" else "alpha", bob="" if node == "beta" else "beta")
            text = CONFIG.format(role=role, peer=peer, fibre=folder / "fibre.sock", more=more)
            world.start(node, text + (saes if delivers else ""))
        yield world


async def application(world: FleetWorld, node: str, name: str) -> KmeClient:
    """Return a client of a node's key manager with a certificate that the node's authority issued."""
    folder, daemon = world.folder / f"{node}-{name}", world.daemons[node]
    command = [sys.executable, "-m", "qedge", "keys", "sae", "issue", name, "--out", str(folder)]
    environ = {**os.environ, "QEDGE_SOCKET": str(daemon.socket)}
    done = await asyncio.to_thread(subprocess.run, command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    async with daemon.client() as client:
        overview = await client.keys.overview()
    files = Credentials(folder / f"{name}.crt", folder / f"{name}.key", folder / "ca.crt")
    return KmeClient(overview.url, files, kme_id=node)


async def wait_link(world: FleetWorld, node: str, holds: Callable[[LinkView], bool], limit_s: float = 120) -> LinkView:
    """Wait until a node says of its link what is wanted."""
    status = await world.daemons[node].wait_status(lambda status: holds(link_of(status)), limit_s)
    return link_of(status)


@pytest.mark.long
async def test_two_nodes_distil_key_over_a_broker_until_somebody_listens_or_a_worker_is_killed(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as world:
        for node in ENDS:
            view = await wait_link(world, node, lambda view: view.blocks >= 2)
            assert view.state == "running"
            assert 0 < view.qber < 0.01
            assert view.key_bits > 0
        async with world.daemons["beta"].client() as client:
            await client.change_driver("qkd", DriverChange(settings={"eve_fraction": 1.0}))
            await wait_link(world, "alpha", lambda view: view.state == "quarantined" and view.qber > 0.2)
            # Blinded detectors make no errors, and click more often than they have learned.
            await client.change_driver("qkd", DriverChange(settings={"eve_attack": "blind"}))
            view = await wait_link(world, "alpha", lambda view: view.reason.startswith("gain: "))
            assert view.state == "quarantined"
            assert view.qber < 0.001
            heard = link_of(await client.status()).key_bits
            await client.change_driver("qkd", DriverChange(settings={"eve_fraction": 0.0}))
        view = await wait_link(world, "alpha", lambda view: view.key_bits > heard and view.state == "running")
        status = await world.daemons["alpha"].wait_status(lambda status: bool(worker_of(status)))
        os.kill(worker_of(status), signal.SIGKILL)
        for node in ENDS:
            await wait_link(world, node, lambda now, before=view.blocks: now.blocks >= before + 2)  # type: ignore[misc] # - binds the number


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(2, id="short"),
        pytest.param(600, id="ten minutes", marks=[pytest.mark.long, pytest.mark.timeout(1200)]),
    ],
)
async def test_photons_become_equal_keys_that_two_applications_get_once_each(tmp_path: Path, seconds: int) -> None:
    async with two_nodes(tmp_path, delivers=True) as world:
        for node in ENDS:
            await wait_link(world, node, lambda view: view.blocks >= 3)
        alice, bob = await application(world, "alpha", "alice"), await application(world, "beta", "bob")
        eve = await application(world, "beta", "eve")
        async with alice, bob, eve:
            taken = await until_given(alice, "bob")
            ids = [key.key_ID for key in taken.keys]
            assert {len(key.secret) for key in taken.keys} == {32}
            assert taken.keys[0].key_extension["qedge_simulated"] is True
            with pytest.raises(QedgeError, match="401"):
                await eve.get_keys_with_ids("alice", ids)
            got = await bob.get_keys_with_ids("alice", ids)
            assert [key.secret for key in got.keys] == [key.secret for key in taken.keys]
            with pytest.raises(QedgeError, match="400"):
                await bob.get_keys_with_ids("alice", ids)
            back = await bob.get_keys("alice", size=1024)
            found = await alice.get_keys_with_ids("bob", [back.keys[0].key_ID])
            assert found.keys[0].secret == back.keys[0].secret
            assert len({key.secret for key in (*taken.keys, *back.keys)}) == 6
            given = await exchange_for(seconds, alice, bob)
        assert len(given) == len({secret for secret, _ in given}) == len({key_id for _, key_id in given})
        assert len(given) >= 10 * seconds
        for node in ENDS:
            async with world.daemons[node].client() as client:
                assert link_of(await client.status()).state in ("running", "full")
                outcomes = series_of(await client.metrics())["blocks_total"]
            assert "unequal" not in str(outcomes)
            assert "quarantined" not in str(outcomes)


async def exchange_for(seconds: float, alice: KmeClient, bob: KmeClient) -> list[tuple[bytes, str]]:
    """Take keys at either end in turn and collect them at the other for so long; they are equal. Returns them all."""
    given: list[tuple[bytes, str]] = []
    until = asyncio.get_running_loop().time() + seconds
    turns = itertools.cycle(((alice, bob, "alice", "bob"), (bob, alice, "bob", "alice")))
    while asyncio.get_running_loop().time() < until:
        master, slave, name, other = next(turns)
        taken = await until_given(master, other)
        got = await slave.get_keys_with_ids(name, [key.key_ID for key in taken.keys])
        assert [key.secret for key in got.keys] == [key.secret for key in taken.keys]
        given += [(key.secret, key.key_ID) for key in taken.keys]
        await asyncio.sleep(0.2)
    return given


async def until_given(master: KmeClient, slave: str) -> KeyContainer:
    """Ask until the stores of both ends have compared enough blocks."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await master.get_keys(slave, number=5)
            except QedgeError as error:
                assert "503" in error.message, error
            await asyncio.sleep(0.3)
