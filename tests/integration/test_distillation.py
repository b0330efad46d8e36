"""Two daemons with a fibre between them and a real broker: key comes, stops for an eavesdropper, and comes again."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

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
ENDS = {"alpha": ("bob", "beta"), "beta": ("alice", "alpha")}


def link_of(status: NodeStatus) -> LinkView:
    """Return the only link of a node."""
    return status.links[0]


def worker_of(status: NodeStatus) -> int:
    """Return the process id of the link worker, 0 while there is none."""
    driver = next(driver for driver in status.drivers if driver.name == "qkd")
    return driver.workers[0].pid if driver.operating_state == "up" else 0


@asynccontextmanager
async def two_nodes(folder: Path, more: str = "") -> AsyncIterator[FleetWorld]:
    async with FleetWorld(folder, "mosquitto") as world:
        for node, (role, peer) in ENDS.items():
            world.start(node, CONFIG.format(role=role, peer=peer, fibre=folder / "fibre.sock", more=more))
        yield world


async def wait_link(world: FleetWorld, node: str, holds: Callable[[LinkView], bool], limit_s: float = 120) -> LinkView:
    """Wait until a node says of its link what is wanted."""
    status = await world.daemons[node].wait_status(lambda status: holds(link_of(status)), limit_s)
    return link_of(status)


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
            heard = link_of(await client.status()).key_bits
            await client.change_driver("qkd", DriverChange(settings={"eve_fraction": 0.0}))
        view = await wait_link(world, "alpha", lambda view: view.key_bits > heard and view.state == "running")
        status = await world.daemons["alpha"].wait_status(lambda status: bool(worker_of(status)))
        os.kill(worker_of(status), signal.SIGKILL)
        for node in ENDS:
            await wait_link(world, node, lambda now, before=view.blocks: now.blocks >= before + 2)  # type: ignore[misc] # - binds the number
