"""The edge node against servers that break, fall silent, refuse and come back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from qedge.fleet.sparkplug.model import DataType, Metric
from tests.conformance.sparkplug.edge_site import (
    RULES,
    FakeReadings,
    MemoryBdSeq,
    MemorySpool,
    command,
    make_site,
    rebirth,
    running,
)
from tests.conformance.sparkplug.protobuf_text import read
from tests.conformance.sparkplug.scripted_server import ScriptedServer, Trace, verb_of

NCMD = "spBv1.0/plant/NCMD/box-1"


def _readings() -> FakeReadings:
    found = FakeReadings()
    found.set("Jobs/Done", 0, 1)
    found.set("State/Restarts", 0, 1, device="qpu")
    return found


def _bd_seqs(trace: Trace) -> list[object]:
    return [read(each.payload).metrics[0].value for each in trace.connects()]


async def test_every_connect_has_the_next_number_and_its_birth_the_same_through_a_storm_and_past_255() -> None:
    trace = Trace()
    async with ScriptedServer(trace) as server:
        site = make_site((server.port,), bd_seq=MemoryBdSeq(250), readings=_readings())
        async with running(site):
            for number in range(10):
                await trace.until(lambda number=number: trace.count("DBIRTH") == number + 1)
                server.cut()
            await trace.until(lambda: trace.count("DBIRTH") == 11)
    assert _bd_seqs(trace) == [250, 251, 252, 253, 254, 255, 0, 1, 2, 3, 4]
    births = [read(each.payload).metric("bdSeq").value for each in trace.published("NBIRTH")]
    assert births == _bd_seqs(trace)
    # what the server says for the node is what the node said when it connected, however late it comes
    assert [read(payload).metrics[0].value for _, payload in server.wills] == births[:-1]
    assert [read(each.payload).metrics[0].value for each in trace.published("NDEATH")] == [4]


async def test_attempts_that_write_no_connect_use_no_number() -> None:
    trace = Trace()
    server = ScriptedServer(trace)
    await server.open()
    await server.shut()
    site = make_site((server.port,), readings=_readings())
    async with running(site):
        await asyncio.sleep(0.1)
        await server.open()
        await trace.until(lambda: trace.count("NBIRTH") == 1)
    await server.shut()
    assert _bd_seqs(trace) == [0]


async def test_a_refused_connect_used_its_number() -> None:
    trace = Trace()
    async with ScriptedServer(trace) as server:
        server.accept = 5
        site = make_site((server.port,), readings=_readings())
        async with running(site):
            await trace.until(lambda: len(trace.connects()) == 3)
            server.accept = 0
            await trace.until(lambda: trace.count("NBIRTH") == 1)
    assert _bd_seqs(trace) == list(range(len(trace.connects())))
    (birth,) = trace.published("NBIRTH")
    assert read(birth.payload).metric("bdSeq").value == len(trace.connects()) - 1


async def test_a_refused_subscription_is_a_failed_connection() -> None:
    trace = Trace()
    async with ScriptedServer(trace) as server:
        server.suback = 0x80
        site = make_site((server.port,), readings=_readings())
        async with running(site):
            await trace.until(lambda: len(trace.connects()) == 2)
            assert trace.published() == []


async def test_a_server_that_answers_no_pings_is_left_for_a_new_connection() -> None:
    trace = Trace()
    async with ScriptedServer(trace) as server:
        server.mute_pings = True
        site = make_site((server.port,), replace(RULES, keepalive_s=0.2), readings=_readings())
        async with running(site):
            await trace.until(lambda: len(trace.connects()) == 2)


async def test_a_server_that_takes_no_ndeath_does_not_hold_the_node_up() -> None:
    trace = Trace()
    async with ScriptedServer(trace) as server:
        server.mute_pubacks = True
        site = make_site((server.port,), readings=_readings())
        async with running(site):
            await trace.until(lambda: trace.count("DBIRTH") == 1)
        kinds = [each.kind for each in trace.events]
        assert "disconnect" in kinds[-2:]
        assert trace.verbs()[-1] == "NDEATH"


async def test_a_storm_of_rebirths_gives_few_births_and_none_of_the_data_between_them() -> None:
    trace = Trace()
    async with ScriptedServer(trace) as server:
        rules = replace(RULES, rebirth_gap_s=0.2)
        readings = _readings()
        for number in range(20):
            readings.set("State/Restarts", 0, 1, device=f"d{number}")
        site = make_site((server.port,), rules, readings=readings, sample_s=0.005)
        async with running(site):
            await trace.until(lambda: trace.count("DBIRTH") == 21)
            for number in range(200):
                server.send(NCMD, rebirth())
                readings.set("Jobs/Done", number + 1, number + 2)
                await asyncio.sleep(0.002)
            readings.set("Jobs/Done", 1000, 1000)
            await trace.until(lambda: trace.count("NBIRTH") > 1 and site.service.view().state == "online")
            readings.set("Jobs/Done", 1001, 1001)
            await trace.until(lambda: trace.count("NDATA") > 0)
            count = trace.count("NBIRTH")
    assert 2 <= count <= 12
    verbs = trace.verbs()
    for at, verb in enumerate(verbs):
        if verb == "NBIRTH":
            assert verbs[at + 1 : at + 22] == ["DBIRTH"] * 21
    assert len(set(_bd_seqs(trace))) == 1


async def test_a_retained_command_and_a_command_of_nonsense_have_no_effect() -> None:
    trace = Trace()
    async with ScriptedServer(trace) as server:
        site = make_site((server.port,), readings=_readings())
        async with running(site):
            await trace.until(lambda: trace.count("DBIRTH") == 1)
            server.send(NCMD, rebirth(), retain=True)
            server.send(NCMD, b"\xff\xff\xff")
            server.send(NCMD, rebirth(False))
            server.send(NCMD, command(Metric("Jobs/Done", DataType.INT64, 9, 1)))
            server.send("spBv1.0/plant/NCMD/box-2", rebirth())
            outcomes = site.metrics.values
            await trace.until(lambda: sum(outcomes("qedge_sparkplug_commands_total").values()) == 5)
            assert outcomes("qedge_sparkplug_commands_total") == {
                ("retained",): 1.0,
                ("malformed",): 1.0,
                ("refused",): 2.0,
                ("foreign",): 1.0,
            }
            assert trace.count("NBIRTH") == 1
            assert site.controls.writes == []


async def test_what_changes_while_no_server_is_there_comes_later_as_past_and_in_order() -> None:
    trace = Trace()
    server = ScriptedServer(trace)
    await server.open()
    spool = MemorySpool()
    site = make_site((server.port,), spool=spool, readings=_readings(), sample_s=0.002)
    async with running(site):
        await trace.until(lambda: trace.count("DBIRTH") == 1)
        await server.shut()
        for number in range(1, 21):
            site.readings.set("Jobs/Done", number, 1000 + number)
            await trace.until(lambda number=number: len(spool.rows) >= number)
        site.readings.set("Jobs/Done", 0, 2000)
        await trace.until(lambda: len(spool.rows) >= 21)
        await server.open()
        await trace.until(lambda: not spool.rows, 20)
    await server.shut()
    past = [
        (metric.value, metric.timestamp)
        for each in trace.published("NDATA")
        for metric in read(each.payload).metrics
        if metric.historical
    ]
    assert past == [*((number, 1000 + number) for number in range(1, 21)), (0, 2000)]


async def test_what_was_sent_into_a_dead_connection_is_sent_again_as_past() -> None:
    trace = Trace()
    async with ScriptedServer(trace) as server:
        server.mute_pings = True
        spool = MemorySpool()
        site = make_site((server.port,), spool=spool, readings=_readings())
        async with running(site):
            await trace.until(lambda: trace.count("DBIRTH") == 1)
            site.readings.set("Jobs/Done", 5, 50)
            await trace.until(lambda: trace.count("NDATA") == 1)
            server.mute_pings = False
            server.cut()
            await trace.until(lambda: trace.count("NDATA") == 2)
            again = read(trace.published("NDATA")[1].payload).metric("Jobs/Done")
            assert (again.value, again.timestamp, again.historical) == (5, 50, True)


async def test_a_full_disk_costs_neither_the_connection_nor_what_waits() -> None:
    trace = Trace()
    server = ScriptedServer(trace)
    await server.open()
    await server.shut()
    spool = MemorySpool()
    spool.full = True
    site = make_site((server.port,), spool=spool, readings=_readings(), sample_s=0.002)
    async with running(site):
        await asyncio.sleep(0.05)
        site.readings.set("Jobs/Done", 1, 10)
        await asyncio.sleep(0.05)
        spool.full = False
        await trace.until(lambda: len(spool.rows) == 2)
        await server.open()
        await trace.until(lambda: trace.count("NBIRTH") == 1)
    await server.shut()
    assert [row.past.reading.value for row in spool.rows] in ([0, 1], [])


async def test_a_host_can_send_the_node_to_the_next_server_and_change_its_scan_rate() -> None:
    trace = Trace()
    async with ScriptedServer(trace, 0) as first, ScriptedServer(trace, 1) as second:
        rules = replace(RULES, writable=frozenset({"Node Control/Next Server", "Node Control/Scan Rate"}))
        site = make_site((first.port, second.port), rules, readings=_readings())
        async with running(site):
            await trace.until(lambda: trace.count("DBIRTH") == 1)
            first.send(NCMD, command(Metric("Node Control/Scan Rate", None, 200, 1)))
            first.send(NCMD, command(Metric("Node Control/Scan Rate", None, 1, 1)))
            await trace.until(lambda: site.metrics.value("qedge_sparkplug_writes_total", ("failed",)) == 1)
            first.send(NCMD, command(Metric("Node Control/Next Server", DataType.BOOLEAN, True, 1)))
            await trace.until(lambda: trace.count("DBIRTH") == 2)
    birth = read(trace.published("NBIRTH")[1].payload)
    assert birth.metric("Node Control/Scan Rate").value == 200
    assert birth.metric("Node Control/Last Command").value == "Node Control/Next Server: done"
    assert [each.place for each in trace.connects()] == [0, 1]
    told = [
        str(metric.value)
        for each in trace.published("NDATA")
        for metric in read(each.payload).metrics
        if metric.name == "Node Control/Last Command"
    ]
    assert "Node Control/Scan Rate: sparkplug.bad_value" in told


async def test_a_node_that_is_cut_off_again_and_again_comes_back_every_time() -> None:
    trace = Trace()
    async with ScriptedServer(trace) as server:
        site = make_site((server.port,), readings=_readings())
        async with running(site):
            for number in range(5):
                await trace.until(lambda number=number: trace.count("NBIRTH") == number + 1)
                server.cut()
            await trace.until(lambda: len(trace.connects()) == 6)
    assert verb_of(trace.published()[0]) == "NBIRTH"
