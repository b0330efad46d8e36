"""A simulated QKD link in a real daemon: both ends in processes of their own, joined by their fibre."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.client.node import NodeClient
from qedge.wire.node import DriverChange, LinkMeasure, LinkView, NodeStatus
from tests.integration.daemon_process import DaemonProcess

pytestmark = pytest.mark.integration
ENDS = ("qkd-alice", "qkd-bob")


def both_up(status: NodeStatus) -> bool:
    return sum(driver.operating_state == "up" for driver in status.drivers if driver.name in ENDS) == len(ENDS)


async def measured_again(client: NodeClient, sifted: int) -> LinkView:
    """Measure as soon as the link works; fails after twenty seconds."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await client.measure_link("local", LinkMeasure(sifted=sifted))
            except QedgeError:
                await asyncio.sleep(0.05)


async def test_the_link_shows_an_eavesdropper_and_survives_the_death_of_either_end(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path / "node")
    daemon.start()
    try:
        status = await daemon.wait_status(both_up)
        workers = {driver.name: driver.workers[0].pid for driver in status.drivers if driver.name in ENDS}
        async with daemon.client() as client:
            for fraction, low, high, verdict in (
                (0.0, 0.0, 0.03, "clear"),
                (1.0, 0.22, 0.28, "eavesdropper suspected"),
                (0.0, 0.0, 0.03, "clear"),
            ):
                await client.change_driver("qkd-alice", DriverChange(settings={"eve_fraction": fraction}))
                view = await client.measure_link("local", LinkMeasure(sifted=20_000))
                assert view.sifted >= 20_000
                assert low <= view.qber <= high
                assert view.verdict == verdict
            for name in ENDS:
                os.kill(workers[name], signal.SIGKILL)
                assert (await measured_again(client, 2_000)).verdict == "clear"
    finally:
        daemon.stop()
