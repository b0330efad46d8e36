"""The shared state of real daemons: on one broker, over a bridge between two sites, and from the command line."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from benchmarks.bridge import BridgedBrokers, mosquitto
from qedge.base.errors import QedgeError
from qedge.wire.state import StateRow, StateRows
from tests.integration.fleet_world import FleetWorld

pytestmark = pytest.mark.integration
LIMIT_S = 40.0


async def wait_rows(world: FleetWorld, at: str, namespace: str, holds: Callable[[StateRows], bool]) -> StateRows:
    """Poll until what a node holds fulfils `holds`."""
    deadline = time.monotonic() + LIMIT_S
    async with world.daemons[at].client() as client:
        while True:
            found = await client.state.listing(namespace)
            if holds(found):
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)


def value_of(found: StateRows, key: str) -> bytes | None:
    return next((row.value for row in found.rows if row.key == key), None)


@pytest.mark.skipif(not mosquitto(), reason="mosquitto is not installed")
async def test_two_sites_share_what_is_of_the_fleet_and_nothing_else_and_catch_up_after_a_cut(tmp_path: Path) -> None:
    with BridgedBrokers(tmp_path / "brokers", "fleet") as brokers:
        async with FleetWorld(tmp_path, "mosquitto") as world:
            for node, site, port in (("a", "core", brokers.ports[0]), ("b", "edge", brokers.ports[1])):
                world.start(node, f'[state]\nsite = "{site}"\ncompare_s = 1.0\n', port=port)
            await world.wait_up("a", "b")
            async with world.daemons["a"].client() as client:
                await client.state.put("settings", "limit", b"7")
                with pytest.raises(QedgeError) as refused:
                    await client.state.put("capability", "node", b"")
                assert refused.value.code == "state.refused"
            await wait_rows(world, "b", "settings", lambda found: value_of(found, "limit") == b"7")
            await wait_rows(world, "b", "sites", lambda found: {row.key for row in found.rows} == {"core", "edge"})
            assert (await world.peer("b", "a")) is None
            own = await wait_rows(world, "b", "capability", lambda found: bool(found.rows))
            assert {row.writer for row in own.rows} == {"b"}
            # what was said while the line was down comes afterwards
            brokers.stop(1)
            async with world.daemons["a"].client() as client:
                await client.state.put("settings", "limit", b"8")
            await asyncio.sleep(0.5)
            brokers.start(1)
            await wait_rows(world, "b", "settings", lambda found: value_of(found, "limit") == b"8")
            # the gateways of two sites, which do not see each other's hearts, compare in a sealed session
            await world.wait_ping("a", "b")
            await same_roots(world, "a", "b")


async def same_roots(world: FleetWorld, *nodes: str) -> None:
    """Wait until all hold the same of the fleet."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        roots = set()
        for node in nodes:
            async with world.daemons[node].client() as client:
                roots.add((await client.state.listing()).root_fleet)
        if len(roots) == 1:
            return
        assert time.monotonic() < deadline, roots
        await asyncio.sleep(0.2)


async def test_the_command_line_puts_lists_watches_and_deletes(tmp_path: Path) -> None:
    async with FleetWorld(tmp_path, "mosquitto" if mosquitto() else "iotcore") as world:
        daemon = world.start("a")
        await world.wait_up("a")

        def qedge(*words: str) -> str:
            command = [sys.executable, "-m", "qedge", "--socket", str(daemon.socket), "state", *words]
            return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

        watching = asyncio.create_task(asyncio.to_thread(qedge, "watch", "settings", "--count", "2", "--json"))
        async with asyncio.timeout(LIMIT_S), daemon.client() as client:
            while 'qedge_http_requests_total{route="GET /v1/state"' not in await client.metrics():
                await asyncio.sleep(0.1)  # what comes after its first look it hears of
        assert "limit" in await asyncio.to_thread(qedge, "put", "settings", "limit", "7")
        assert "7" in await asyncio.to_thread(qedge, "get", "settings", "limit")
        assert "settings" in await asyncio.to_thread(qedge, "list")
        await asyncio.to_thread(qedge, "delete", "settings", "limit")
        rows = [msgspec.json.decode(line, type=StateRow) for line in (await watching).splitlines()]
        assert [(row.key, row.deleted) for row in rows] == [("limit", False), ("limit", True)]
