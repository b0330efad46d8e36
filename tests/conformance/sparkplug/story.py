"""One life of an edge node with everything in it: what the checks of the requirements look at."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from qedge.fleet.sparkplug.model import DataType, Metric, Past, Quality, Reading
from tests.conformance.sparkplug.edge_site import RULES, EdgeSite, command, make_site, rebirth, running
from tests.conformance.sparkplug.protobuf_text import WirePayload, read
from tests.conformance.sparkplug.scripted_server import Event, ScriptedServer, Trace, verb_of

HOST = "scada"
WRITABLE = frozenset({"Node Control/Next Server", "Node Control/Scan Rate", "Device Control/Locked"})
NCMD = "spBv1.0/plant/NCMD/box-1"
DCMD = "spBv1.0/plant/DCMD/box-1/qpu"
DATA_VERBS = ("NDATA", "DDATA")
EDGE_VERBS = ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH")


@dataclass(frozen=True)
class Life:
    """One session: everything that one connection did."""

    connect: Event
    events: tuple[Event, ...]

    @property
    def will(self) -> WirePayload:
        """The NDEATH in the CONNECT."""
        return read(self.connect.payload)

    def published(self, *verbs: str) -> list[tuple[Event, WirePayload]]:
        """Return publications with what they hold."""
        found = [each for each in self.events if each.kind == "publish"]
        return [(each, read(each.payload)) for each in found if not verbs or verb_of(each) in verbs]

    def kinds(self) -> list[str]:
        """Return what happened, publications by their verbs."""
        return [verb_of(each) if each.kind == "publish" else each.kind for each in self.events]


@dataclass(frozen=True)
class Marks:
    """How many events there were at turns of the story."""

    stale_offline: int
    after_stale: int
    rebirth_asked: int


@dataclass(frozen=True)
class Story:
    """What was recorded, and what was done by the fakes."""

    trace: Trace
    marks: Marks
    site: EdgeSite
    wills: tuple[tuple[str, bytes], ...]

    @property
    def lives(self) -> list[Life]:
        """Return all sessions in order."""
        events = self.trace.events
        return [
            Life(each, tuple(event for event in events if event.link == each.link)) for each in self.trace.connects()
        ]

    def published(self, *verbs: str) -> list[tuple[Event, WirePayload]]:
        """Return publications of all sessions."""
        return [pair for life in self.lives for pair in life.published(*verbs)]


def play() -> Story:
    """Run the story; takes about two seconds."""
    return asyncio.run(_play())


async def _play() -> Story:
    trace = Trace()
    async with ScriptedServer(trace, 0) as first, ScriptedServer(trace, 1) as second:
        first.state(HOST, False, 100)
        second.state(HOST, True, 100)
        rules = replace(RULES, primary_host=HOST, writable=WRITABLE)
        site = make_site((first.port, second.port), rules, sample_s=0.005)
        _fill(site)
        await site.spool.keep(_past())
        async with running(site):
            marks = await _walk_and_talk(trace, second, site)
            await _lose_host(trace, first, second)
            await _break_and_wrap(trace, first, site)
    return Story(trace, marks, site, (*first.wills, *second.wills))


def _fill(site: EdgeSite) -> None:
    readings = site.readings
    readings.set("Jobs/Done", 0, 1_000)
    readings.set("Host/CPU Ratio", 0.0, 3_000, DataType.DOUBLE)
    readings.set("Node/Ready", False, 2_000, DataType.BOOLEAN)
    readings.set("Properties/Version", "", 1_000, DataType.STRING)
    readings.set("Host/Power Watts", None, 1_000, DataType.DOUBLE)
    readings.node["Links/a/State"] = Reading(DataType.STRING, "quarantined", 1_500, Quality.BAD)
    for device in ("qpu", "qrng"):
        readings.set("State/Restarts", 0, 1_000, device=device)
        readings.set("Device Control/Locked", False, 1_000, DataType.BOOLEAN, device)


def _past() -> list[Past]:
    rows = [Past("", "Jobs/Done", Reading(DataType.INT64, number, 10 + number)) for number in range(3)]
    rows.append(Past("", "Gone/Metric", Reading(DataType.INT64, 1, 20)))
    rows.append(Past("qpu", "State/Restarts", Reading(DataType.INT64, 7, 21)))
    return rows


async def _walk_and_talk(trace: Trace, server: ScriptedServer, site: EdgeSite) -> Marks:
    readings = site.readings
    await trace.until(lambda: trace.count("DBIRTH") == 2)
    await trace.until(lambda: not site.spool.rows)
    readings.set("Jobs/Done", 1, 4_000)
    readings.set("Host/CPU Ratio", 0.5, 3_900, DataType.DOUBLE)
    await trace.until(lambda: sum(not _historical(each) for each in trace.published("NDATA")) >= 1)
    readings.set("State/Restarts", 1, 4_000, device="qpu")
    await trace.until(lambda: sum(not _historical(each) for each in trace.published("DDATA")) >= 1)
    asked = len(trace.events)
    server.send(NCMD, rebirth())
    await trace.until(lambda: trace.count("NBIRTH") == 2 and trace.count("DBIRTH") == 4)
    server.send(DCMD, command(Metric("Device Control/Locked", DataType.BOOLEAN, True, 1)))
    await trace.until(lambda: site.controls.writes == [("qpu", "Device Control/Locked", True)])
    qrng = readings.devices.pop("qrng")
    await trace.until(lambda: trace.count("DDEATH") == 1)
    readings.devices["qrng"] = qrng
    await trace.until(lambda: trace.count("DBIRTH") == 5)
    readings.set("Facts/Qubits", 5, 5_000, device="qpu")
    await trace.until(lambda: trace.count("DBIRTH") == 6)
    readings.set("Jobs/Failed", 0, 5_000)
    await trace.until(lambda: trace.count("NBIRTH") == 3 and trace.count("DBIRTH") == 8)
    server.state(HOST, False, 50)
    stale = len(trace.events)
    readings.set("Jobs/Done", 2, 6_000)
    count = trace.count("NDATA")
    await trace.until(lambda: trace.count("NDATA") == count + 1)
    after = len(trace.events)
    server.state(HOST, True, 200)
    return Marks(stale, after, asked)


async def _lose_host(trace: Trace, first: ScriptedServer, second: ScriptedServer) -> None:
    first.state(HOST, True, 300)
    births = trace.count("DBIRTH")
    second.state(HOST, False, 250)
    await trace.until(lambda: trace.count("DBIRTH") == births + 2)


async def _break_and_wrap(trace: Trace, server: ScriptedServer, site: EdgeSite) -> None:
    births = trace.count("DBIRTH")
    server.cut()
    await trace.until(lambda: trace.count("DBIRTH") == births + 2)
    for number in range(260):
        count = trace.count("NDATA")
        site.readings.set("Jobs/Done", 100 + number, 10_000 + number)
        await trace.until(lambda count=count: trace.count("NDATA") > count)


def _historical(event: Event) -> bool:
    return any(each.historical for each in read(event.payload).metrics)
