"""What others publish at the broker of Home Assistant costs the node little."""

from __future__ import annotations

import asyncio

from qedge.base.clock import ManualClock
from qedge.base.metrics import Metrics
from qedge.bus.model import Incoming
from qedge.fleet.connections import ToolConnection
from qedge.fleet.home_assistant.config import HomeAssistantConfig
from qedge.fleet.home_assistant.service import HomeAssistant
from qedge.fleet.telemetry.config import TelemetryConfig
from qedge.fleet.telemetry.service import Collector
from tests.unit.fleet.adapters.tool_site import well


async def test_however_often_home_assistant_says_that_it_started_one_announcement_waits() -> None:
    config, clock = HomeAssistantConfig(announce_delay_s=300), ManualClock()
    connection = ToolConnection(
        "home-assistant", config, client_id="box", clock=clock, metrics=Metrics(), uniform=lambda: 1.0
    )
    collector = Collector(TelemetryConfig(), well, clock=clock)
    device = HomeAssistant(config, connection, collector, fleet="home", node="box", uniform=lambda: 1.0)
    for _ in range(100):
        await device._heard_status(Incoming("homeassistant/status", b"online", 1, False))
    waiting = set(device._again)
    assert len(waiting) == 1
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
