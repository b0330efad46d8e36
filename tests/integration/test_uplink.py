"""Two brokers and a real node at each: the cloud's broker is gone for a while, and everything comes when it is back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.client.node import NodeClient
from qedge.wire.jobs import JobState, JobSubmission, JobView
from tests.integration.daemon_process import BELL
from tests.integration.fleet_world import QPU, FleetWorld, MortalBroker
from tests.integration.test_ledger import KIND

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

LIMIT_S = 60.0


async def test_an_edge_node_works_on_without_its_uplink_and_the_cloud_learns_all_when_it_is_back(
    tmp_path: Path,
) -> None:
    sky = MortalBroker(KIND, tmp_path / "sky")
    sky.start()
    try:
        async with FleetWorld(tmp_path, KIND) as world:
            up = f'[uplink]\nurl = "mqtt://127.0.0.1:{sky.port}"\nreconnect_cap_s = 0.5\n[state]\nsite = "edge"\n'
            world.start("edge", f"{QPU}spares = 0\n{up}")
            world.start("cloud", '[uplink]\nnode_class = "cloud"\n[state]\nsite = "sky"\n', port=sky.port)
            await world.wait_up("edge", "cloud")
            async with world.daemons["edge"].client() as edge, world.daemons["cloud"].client() as cloud:
                first = await _run(edge)
                assert (await _found(cloud, first)).result is not None
                sky.kill()
                second = await _run(edge)
                await edge.state.put("settings", "limit", b"7")
                with pytest.raises(QedgeError):
                    await cloud.job(second)
                sky.start()
                view = await _found(cloud, second)
                assert (view.state, view.node) == (JobState.DONE, "")
                assert view.result is not None
                assert (await _state(cloud, "limit")) == b"7"
                await cloud.state.put("settings", "limit", b"8")
                async with asyncio.timeout(LIMIT_S):
                    while await _state(edge, "limit") != b"8":
                        await asyncio.sleep(0.05)
    finally:
        sky.kill()


@pytest.mark.long
async def test_what_the_broker_of_the_cloud_took_and_forgot_while_the_cloud_s_node_was_away_is_found_by_comparing(
    tmp_path: Path,
) -> None:
    sky = MortalBroker(KIND, tmp_path / "sky")
    sky.start()
    try:
        async with FleetWorld(tmp_path, KIND) as world:
            up = f'[uplink]\nurl = "mqtt://127.0.0.1:{sky.port}"\nreconnect_cap_s = 0.5\ncompare_s = 1.0\n'
            world.start("edge", f'{up}[state]\nsite = "edge"\n')
            world.start("cloud", '[uplink]\nnode_class = "cloud"\n[state]\nsite = "sky"\n', port=sky.port)
            await world.wait_up("edge", "cloud")
            async with world.daemons["edge"].client() as edge:
                await edge.state.put("settings", "first", b"1")
                async with world.daemons["cloud"].client() as cloud:
                    assert (await _state(cloud, "first")) == b"1"
                world.daemons["cloud"].kill()
                sent = await world.metric("edge", "qedge_uplink_messages_total")
                await edge.state.put("settings", "lost", b"2")
                async with asyncio.timeout(LIMIT_S):
                    while await world.metric("edge", "qedge_uplink_messages_total") == sent:
                        await asyncio.sleep(0.05)
                    while await world.metric("edge", "qedge_uplink_waiting"):
                        await asyncio.sleep(0.05)
                sky.kill()
                sky.start()
                world.daemons["cloud"].start()
                await world.wait_up("cloud")
                async with world.daemons["cloud"].client() as cloud:
                    assert (await _state(cloud, "lost")) == b"2"
                    await cloud.state.put("settings", "answer", b"3")
                assert (await _state(edge, "answer")) == b"3"
                assert world.events("edge", "uplink.compared")
    finally:
        sky.kill()


async def _run(node: NodeClient) -> str:
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                view = await node.submit(JobSubmission(program=BELL, shots=10), wait_s=20)
            except QedgeError as error:
                assert error.code == "job.no_qpu", error
                continue
            assert view.state is JobState.DONE, view
            return view.id


async def _found(node: NodeClient, job_id: str) -> JobView:
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                return await node.job(job_id)
            except QedgeError as error:
                assert error.code == "job.not_found", error
                await asyncio.sleep(0.05)


async def _state(node: NodeClient, key: str) -> bytes:
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                return (await node.state.get("settings", key)).rows[0].value
            except QedgeError as error:
                assert error.code == "state.not_found", error
                await asyncio.sleep(0.05)
