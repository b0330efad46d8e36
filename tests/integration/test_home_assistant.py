"""The node as a device of Home Assistant, on a broker with a scripted Home Assistant."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.fleet.home_assistant.config import HomeAssistantConfig
from qedge.fleet.home_assistant.ports import Software, SoftwareView
from qedge.fleet.home_assistant.service import HomeAssistant
from tests.unit.fleet.adapters.test_home_assistant_words import check
from tests.unit.fleet.adapters.tool_site import MOSQUITTO, Box, ToolBroker, Watcher, ill, running, until, watching, well

pytestmark = [pytest.mark.integration, pytest.mark.skipif(not MOSQUITTO, reason="mosquitto is not installed")]
CONFIG = "homeassistant/device/qedge-f-box-1/config"
STATE, AVAILABILITY = "qedge/f-box-1/state", "qedge/f-box-1/availability"


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[ToolBroker]:
    found = ToolBroker(tmp_path)
    found.start()
    try:
        yield found
    finally:
        found.stop()


@asynccontextmanager
async def node(
    broker: ToolBroker,
    *,
    remove: bool = False,
    change: Callable[[Box], None] | None = None,
    install: bool = False,
    software: Software | None = None,
) -> AsyncIterator[Box]:
    config = HomeAssistantConfig(
        enabled=True,
        url=f"mqtt://127.0.0.1:{broker.port}",
        remove=remove,
        announce_delay_s=0.2,
        period_s=1,
        install=install,
    )
    box = Box(config, "home-assistant")
    if change is not None:
        change(box)
    adapter = HomeAssistant(
        config,
        box.connection,
        box.collector,
        fleet="f",
        node="box-1",
        uniform=lambda: 0.5,
        software=software,
        settle_s=0.1,
    )
    box.collector.add(adapter.take)
    async with running(box, adapter.run):
        yield box


async def test_the_device_is_announced_retained_with_its_state_and_availability(broker: ToolBroker) -> None:
    async with watching(broker.port) as home:
        async with node(broker):
            await until(lambda: home.stands.get(AVAILABILITY) == b"online" and STATE in home.stands)
            found = home.json(CONFIG)
            assert isinstance(found, dict)
            check(found)
            assert (found["state_topic"], found["availability_topic"]) == (STATE, AVAILABILITY)
        await until(lambda: home.stands[AVAILABILITY] == b"offline")
        async with watching(broker.port) as late:
            await until(lambda: CONFIG in late.stands and late.stands.get(AVAILABILITY) == b"offline")
            assert all(retained for topic, _, retained in late.came if topic in (CONFIG, STATE, AVAILABILITY))


async def test_the_will_says_offline_where_the_connection_breaks(broker: ToolBroker) -> None:
    async with watching(broker.port) as home, node(broker) as box:
        await until(lambda: home.stands.get(AVAILABILITY) == b"online")
        client = box.connection._client
        assert client is not None
        client._client.socket().shutdown(socket.SHUT_RDWR)  # as when the process is killed
        await until(lambda: b"offline" in home.on(AVAILABILITY))
        await until(lambda: home.stands[AVAILABILITY] == b"online")


async def test_a_home_assistant_that_starts_is_told_again_after_a_while(broker: ToolBroker) -> None:
    async with watching(broker.port) as home, node(broker):
        await until(lambda: STATE in home.stands)
        announced, said = len(home.on(CONFIG)), len(home.on(STATE))
        assert announced == 1
        await home.say("homeassistant/status", b"offline")
        await home.say("homeassistant/status", b"online")
        await until(lambda: len(home.on(CONFIG)) == announced + 1)
        await until(lambda: len(home.on(STATE)) > said)


async def test_a_device_that_stands_there_as_it_is_is_not_announced_again(broker: ToolBroker) -> None:
    async with watching(broker.port) as home:
        for _ in range(2):
            async with node(broker):
                await until(lambda: home.stands.get(AVAILABILITY) == b"online")
            await until(lambda: home.stands[AVAILABILITY] == b"offline")
        assert len(home.on(CONFIG)) == 1


async def test_a_driver_that_is_gone_is_taken_out(broker: ToolBroker) -> None:
    def without_first(box: Box) -> None:
        box.status = msgspec.structs.replace(well(), drivers=well().drivers[1:])

    name = f"driver-{well().drivers[0].name}"
    async with watching(broker.port) as home:
        async with node(broker):
            await until(lambda: home.stands.get(AVAILABILITY) == b"online")
        async with node(broker, change=without_first):
            await until(lambda: len(home.on(CONFIG)) == 3)
        documents = [msgspec.json.decode(each)["cmps"] for each in home.on(CONFIG)]
        assert len(documents[0][name]) > 1
        assert documents[1][name] == {"p": "binary_sensor"}
        assert name not in documents[2]


async def test_a_driver_that_comes_while_the_node_runs_is_announced(broker: ToolBroker) -> None:
    def without_first(box: Box) -> None:
        box.status = msgspec.structs.replace(well(), drivers=well().drivers[1:])

    async with watching(broker.port) as home, node(broker, change=without_first) as box:
        await until(lambda: home.stands.get(AVAILABILITY) == b"online")
        box.status = well()
        box.collector.look()
        await until(lambda: len(home.on(CONFIG)) == 2)
        assert f"driver-{well().drivers[0].name}" in msgspec.json.decode(home.on(CONFIG)[-1])["cmps"]


async def test_what_changes_is_told_soon(broker: ToolBroker) -> None:
    async with watching(broker.port) as home, node(broker) as box:
        await until(lambda: STATE in home.stands)
        box.status = ill(well())
        box.collector.look()
        await until(lambda: b'"problem":"ON"' in home.stands[STATE])


async def test_a_device_that_is_to_be_removed_leaves_nothing_behind(broker: ToolBroker) -> None:
    async with watching(broker.port) as home:
        async with node(broker):
            await until(lambda: home.stands.get(AVAILABILITY) == b"online" and STATE in home.stands)
        await until(lambda: home.stands[AVAILABILITY] == b"offline")
        async with node(broker, remove=True):
            await until(lambda: not any(home.stands[each] for each in (CONFIG, STATE, AVAILABILITY)))
        async with watching(broker.port) as late:
            await late.say("end", b"1")
            await until(lambda: "end" in late.stands)
            assert set(late.stands) == {"end"}


INSTALL = "qedge/f-box-1/update/install"


class Program:
    """A program of which a newer version is offered, until it is installed."""

    def __init__(self) -> None:
        self.view = SoftwareView("1.0.0", "1.1.0")
        self.installs = 0
        self.go = asyncio.Event()
        self.error = ""

    async def look(self) -> SoftwareView:
        return self.view

    async def install(self) -> None:
        self.installs += 1
        self.view = SoftwareView("1.0.0", "1.1.0", in_progress=True)
        await self.go.wait()
        self.view = SoftwareView("1.0.0" if self.error else "1.1.0", "1.1.0")
        if self.error:
            raise QedgeError("update.rolled_back", self.error)


def update_of(watcher: Watcher) -> object:
    found = watcher.json(STATE) if STATE in watcher.stands else {}
    return found.get("update") if isinstance(found, dict) else None


async def test_home_assistant_starts_the_update_that_is_offered_once(broker: ToolBroker) -> None:
    program = Program()
    waits = {"installed_version": "1.0.0", "latest_version": "1.1.0", "in_progress": False}
    async with watching(broker.port) as home, node(broker, install=True, software=program):
        await until(lambda: update_of(home) == waits)
        for _ in range(3):
            await home.say(INSTALL, b"INSTALL")
        await home.say(INSTALL, b"something else")
        await until(lambda: update_of(home) == {**waits, "in_progress": True})
        program.go.set()
        await until(lambda: update_of(home) == {**waits, "installed_version": "1.1.0"})
    assert program.installs == 1


async def test_where_it_may_not_nothing_is_started_and_what_is_retained_starts_nothing(broker: ToolBroker) -> None:
    program = Program()
    async with watching(broker.port) as home:
        await home.say(INSTALL, b"INSTALL", retain=True)
        async with node(broker, software=program):
            await until(lambda: update_of(home) is not None)
            await home.say(INSTALL, b"INSTALL")
            components = msgspec.json.decode(home.on(CONFIG)[-1])["cmps"]
            assert "command_topic" not in components["update"]
        async with node(broker, install=True, software=program):
            await until(lambda: len(home.on(CONFIG)) == 2)
    assert program.installs == 0
