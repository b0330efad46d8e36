"""The node as a service of thin-edge.io, on a broker as the device has it, with a scripted mapper."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.fleet.thin_edge.commands import LocalCommand
from qedge.fleet.thin_edge.config import ThinEdgeConfig
from qedge.fleet.thin_edge.journal import StoredCommands
from qedge.fleet.thin_edge.mapping import Json
from qedge.fleet.thin_edge.service import ThinEdge
from qedge.store.spool_schemas import TELEMETRY_SCHEMA
from qedge.store.store import Store
from tests.unit.fleet.adapters.tool_site import MOSQUITTO, Box, ToolBroker, Watcher, ill, running, until, watching, well

pytestmark = [pytest.mark.integration, pytest.mark.skipif(not MOSQUITTO, reason="mosquitto is not installed")]
BASE = "te/device/main/service/qedge"
HEALTH = f"{BASE}/status/health"


class Operation:
    """Carries out commands as a test says, and counts."""

    time_limit_s = 20.0

    def __init__(self, kind: str, *, recovers: bool = False) -> None:
        self.kind = kind
        self.about: Mapping[str, Json] = {"types": ["agent.toml"]}
        self.ran: list[str] = []
        self.recovered: list[str] = []
        self.error = ""
        self.go = asyncio.Event()
        self.go.set()
        self._recovers = recovers

    async def run(self, command: LocalCommand) -> Mapping[str, Json]:
        self.ran.append(command.id)
        await self.go.wait()
        if self.error:
            raise QedgeError("job.bad_request", self.error)
        return {"tedgeUrl": "http://127.0.0.1:8000/x"}

    async def recover(self, command: LocalCommand) -> Mapping[str, Json] | None:
        self.recovered.append(command.id)
        return {} if self._recovers else None


class Site:
    """One device: its broker, the node as its service, a mapper, and the node's database."""

    def __init__(self, folder: Path, broker: ToolBroker) -> None:
        self.folder = folder
        self.broker = broker
        self.operations = {kind: Operation(kind) for kind in ("restart", "config_snapshot")}
        self.box: Box | None = None
        self.store: Store | None = None

    @asynccontextmanager
    async def node(self, *commands: str, version: str = "3.1.1") -> AsyncIterator[Box]:
        config = ThinEdgeConfig(
            enabled=True,
            url=f"mqtt://127.0.0.1:{self.broker.port}",
            version=version,  # type: ignore[arg-type] # one of the two
            commands=commands,  # type: ignore[arg-type] # some of them
        )
        box = Box(config, "thin-edge")
        store = Store(self.folder / "telemetry.sqlite3", metrics=Metrics(), schema=TELEMETRY_SCHEMA)
        adapter = ThinEdge(
            config,
            box.connection,
            box.collector,
            self.operations,
            StoredCommands(store),
            settings={"node": {"name": "box-1"}},
            pid=4711,
            clock=box.clock,
            settle_s=0.1,
        )
        box.collector.add(adapter.take)
        try:
            async with running(box, adapter.run):
                yield box
        finally:
            store.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    broker = ToolBroker(tmp_path)
    broker.start()
    try:
        yield Site(tmp_path, broker)
    finally:
        broker.stop()


def status(watcher: Watcher, topic: str) -> str:
    found = watcher.stands.get(topic, b"")
    return str(json.loads(found).get("status", "init")) if found else ""


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_a_service_registers_says_its_health_and_leaves_its_will(site: Site, version: str) -> None:
    async with watching(site.broker.port) as mapper:
        async with site.node(version=version) as box:
            await until(lambda: BASE in mapper.stands and f"{BASE}/twin/drivers" in mapper.stands)
            assert mapper.json(BASE) == {
                "@type": "service",
                "@parent": "device/main//",
                "name": "qedge",
                "type": "systemd",
            }
            health = mapper.json(HEALTH)
            assert isinstance(health, dict)
            assert (health["pid"], health["status"]) == (4711, "up")
            assert mapper.json(f"{BASE}/config") == {"node": {"name": "box-1"}}
            assert box.metrics.value("qedge_adapter_connected", ("thin-edge",)) == 1
            before = len(mapper.on(HEALTH))
            for topic in (f"{BASE}/cmd/health/check", "te/device/main///cmd/health/check"):
                await mapper.say(topic, {})
            await until(lambda: len(mapper.on(HEALTH)) == before + 2)
        await until(lambda: status(mapper, HEALTH) == "down")


async def test_the_broker_says_down_where_the_connection_breaks(site: Site) -> None:
    async with watching(site.broker.port) as mapper, site.node() as box:
        await until(lambda: status(mapper, HEALTH) == "up")
        client = box.connection._client
        assert client is not None
        client._client.socket().shutdown(socket.SHUT_RDWR)  # as when the process is killed
        await until(lambda: b'"time"' not in mapper.on(HEALTH)[-1])
        assert json.loads(mapper.on(HEALTH)[-1]) == {"pid": 4711, "status": "down"}


async def test_what_stands_there_already_is_not_sent_again_and_what_is_stale_is_taken_away(site: Site) -> None:
    async with watching(site.broker.port) as mapper:
        async with site.node("restart"):
            await until(lambda: f"{BASE}/cmd/restart" in mapper.stands)
        await mapper.say(f"{BASE}/a/driver-down_gone", {"text": "old", "severity": "major"}, retain=True)
        await until(lambda: f"{BASE}/a/driver-down_gone" in mapper.stands)
        mapper.came.clear()
        async with site.node():
            await until(lambda: not mapper.stands[f"{BASE}/cmd/restart"])
            await until(lambda: not mapper.stands[f"{BASE}/a/driver-down_gone"])
            assert {topic for topic, _, _ in mapper.came} == {
                HEALTH,
                f"{BASE}/cmd/restart",
                f"{BASE}/a/driver-down_gone",
            }


async def test_measurements_events_and_alarms_go_out_and_alarms_are_cleared(site: Site) -> None:
    async with watching(site.broker.port) as mapper, site.node() as box:
        await until(lambda: f"{BASE}/twin/drivers" in mapper.stands)
        box.collector.look()
        box.collector.measure()
        await until(lambda: f"{BASE}/m/host" in mapper.stands and f"{BASE}/m/driver" in mapper.stands)
        box.status = ill(well())
        box.collector.look()
        alarm = f"{BASE}/a/driver-down_{box.status.drivers[0].name}"
        await until(lambda: mapper.stands.get(alarm))
        assert "no answer" in mapper.stands[alarm].decode()
        await until(lambda: f"{BASE}/e/driver_state" in mapper.stands)
        box.status = well()
        box.collector.look()
        await until(lambda: mapper.stands[alarm] == b"")


async def test_alarms_that_changed_while_the_broker_was_away_are_right_after_it(site: Site) -> None:
    async with site.node() as box:
        box.status = ill(well())
        box.collector.look()
        site.broker.stop()
        await until(lambda: not box.connection.connected)
        site.broker.start()
        async with watching(site.broker.port) as mapper:
            alarm = f"{BASE}/a/driver-down_{box.status.drivers[0].name}"
            await until(lambda: mapper.stands.get(alarm))
            assert mapper.stands[BASE]


async def test_a_command_goes_through_its_states_and_carries_unknown_fields(site: Site) -> None:
    topic = f"{BASE}/cmd/config_snapshot/c8y-mapper-17"
    async with watching(site.broker.port) as mapper, site.node("config_snapshot"):
        await until(lambda: mapper.stands.get(f"{BASE}/cmd/config_snapshot"))
        assert mapper.json(f"{BASE}/cmd/config_snapshot") == {"types": ["agent.toml"]}
        assert f"{BASE}/cmd/restart" not in mapper.stands
        await mapper.say(topic, {"status": "init", "type": "agent.toml", "extra": [1]}, retain=True)
        await until(lambda: status(mapper, topic) == "successful")
        states = [json.loads(each) for each in mapper.on(topic)]
        assert [each["status"] for each in states] == ["init", "executing", "successful"]
        assert all(each["type"] == "agent.toml" and each["extra"] == [1] for each in states)
        assert states[-1]["tedgeUrl"].startswith("http://")
        await mapper.say(topic, b"", retain=True)
        await until(lambda: mapper.stands[topic] == b"")
        await mapper.say(topic, {"status": "init"}, retain=True)  # an id is used once
        await mapper.say(f"{BASE}/cmd/config_snapshot/2", {}, retain=True)
        await until(lambda: status(mapper, f"{BASE}/cmd/config_snapshot/2") == "successful")
    assert site.operations["config_snapshot"].ran == ["c8y-mapper-17", "2"]


async def test_by_default_no_command_is_carried_out(site: Site) -> None:
    topic = f"{BASE}/cmd/restart/1"
    async with watching(site.broker.port) as mapper, site.node():
        await mapper.say(topic, {"status": "init"}, retain=True)
        await until(lambda: status(mapper, topic) == "failed")
        assert "fleet.thin_edge.commands" in mapper.stands[topic].decode()
    assert site.operations["restart"].ran == []


async def test_the_same_command_twice_is_done_once_and_a_failure_has_its_reason(site: Site) -> None:
    topic, operation = f"{BASE}/cmd/restart/1", site.operations["restart"]
    operation.error = "The valve is stuck."
    async with watching(site.broker.port) as mapper, site.node("restart"):
        for _ in range(3):
            await mapper.say(topic, {"status": "init"}, retain=True)
        await until(lambda: status(mapper, topic) == "failed")
        assert "The valve is stuck." in mapper.stands[topic].decode()
        await mapper.say(topic, {"status": "init"}, retain=True)
        await until(lambda: status(mapper, topic) == "failed" and len(mapper.on(topic)) > 4)
    assert operation.ran == ["1"]


async def test_a_command_that_hangs_blocks_no_other_kind_and_ends_at_its_limit(site: Site) -> None:
    slow, quick = site.operations["restart"], site.operations["config_snapshot"]
    slow.go.clear()
    slow.time_limit_s = 0.6
    async with watching(site.broker.port) as mapper, site.node("restart", "config_snapshot"):
        await mapper.say(f"{BASE}/cmd/restart/1", {}, retain=True)
        await until(lambda: slow.ran == ["1"])
        for number in range(50):
            await mapper.say(f"{BASE}/cmd/config_snapshot/{number}", {}, retain=True)
        await until(lambda: status(mapper, f"{BASE}/cmd/config_snapshot/49") == "successful")
        assert quick.ran == [str(number) for number in range(50)]
        await until(lambda: status(mapper, f"{BASE}/cmd/restart/1") == "failed")
        assert "longer than" in mapper.stands[f"{BASE}/cmd/restart/1"].decode()


@pytest.mark.parametrize(("recovers", "end"), [(True, "successful"), (False, "failed")])
async def test_what_was_begun_before_a_restart_is_told_to_its_end_and_not_done_again(
    site: Site, recovers: bool, end: str
) -> None:
    topic, operation = f"{BASE}/cmd/restart/1", site.operations["restart"]
    operation.go.clear()
    async with watching(site.broker.port) as mapper:
        async with site.node("restart"):
            await mapper.say(topic, {"status": "init", "by": "me"}, retain=True)
            await until(lambda: status(mapper, topic) == "executing")
        site.operations["restart"] = again = Operation("restart", recovers=recovers)
        async with site.node("restart"):
            await until(lambda: status(mapper, topic) == end)
            assert json.loads(mapper.stands[topic])["by"] == "me"
        assert (again.ran, again.recovered) == ([], ["1"])


async def test_a_command_that_ended_while_the_broker_was_away_is_told_after_it(site: Site) -> None:
    topic, operation = f"{BASE}/cmd/restart/1", site.operations["restart"]
    operation.go.clear()
    async with site.node("restart") as box:
        async with watching(site.broker.port) as mapper:
            await mapper.say(topic, {"status": "init"}, retain=True)
            await until(lambda: status(mapper, topic) == "executing")
        site.broker.stop()
        await until(lambda: not box.connection.connected)
        operation.go.set()
        await asyncio.sleep(0.05)
        site.broker.start()
        async with watching(site.broker.port) as mapper:
            await until(lambda: status(mapper, topic) == "successful")


async def test_a_state_that_this_node_knows_nothing_of_is_told_as_lost(site: Site) -> None:
    topic = f"{BASE}/cmd/restart/9"
    async with watching(site.broker.port) as mapper:
        await mapper.say(topic, {"status": "executing"}, retain=True)
        async with site.node("restart"):
            await until(lambda: status(mapper, topic) == "failed")
            assert "state lost" in mapper.stands[topic].decode()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [1000, pytest.param(10_000, marks=pytest.mark.long)])
async def test_a_burst_of_commands_and_checks_leaves_the_pump_alive(site: Site, number: int) -> None:
    async with watching(site.broker.port) as mapper, site.node("config_snapshot") as box:
        await until(lambda: status(mapper, HEALTH) == "up")
        checks = [mapper.say(f"{BASE}/cmd/health/check", {}) for _ in range(number)]
        orders = [mapper.say(f"{BASE}/cmd/config_snapshot/{each}", {}, retain=True) for each in range(20)]
        await asyncio.gather(*checks[:500], *orders, *checks[500:1000])
        for first in range(1000, number, 1000):  # as fast as the client that asks can
            await asyncio.gather(*checks[first : first + 1000])
        await until(lambda: len(mapper.on(HEALTH)) >= number, 120)
        await until(lambda: status(mapper, f"{BASE}/cmd/config_snapshot/19") == "successful")
        before_ns = box.connection.progress_ns
        await mapper.say(f"{BASE}/cmd/health/check", {})
        await until(lambda: box.connection.progress_ns > before_ns)
        assert box.metrics.value("qedge_adapter_messages_total", ("thin-edge", "dropped")) == 0


async def test_a_command_that_cannot_be_written_down_is_refused_and_not_begun(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise QedgeError("store.disk_full", "Full.")

    topic = f"{BASE}/cmd/restart/1"
    async with watching(site.broker.port) as mapper, site.node("restart"):
        await until(lambda: status(mapper, HEALTH) == "up")
        monkeypatch.setattr(StoredCommands, "keep", full)
        await mapper.say(topic, {"status": "init"}, retain=True)
        await until(lambda: status(mapper, topic) == "failed")
        assert msgspec.json.decode(mapper.stands[topic])["reason"] == "Full."
    assert site.operations["restart"].ran == []
