"""The uplink: shared state goes both ways, results go up, and days without the cloud's broker cost nothing but time."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import msgspec
import pytest
from structlog.testing import capture_logs

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.bus.model import Incoming
from qedge.bus.service import Bus
from qedge.engine import ledger
from qedge.engine.changes import Changes
from qedge.engine.ledger_row import new_job
from qedge.engine.model import view_of
from qedge.mesh.crypto_thread import CryptoThread
from qedge.orchestrator.ledger import rows
from qedge.orchestrator.state.proof import peek
from qedge.orchestrator.uplink import spool
from qedge.orchestrator.uplink.answering import CloudMap
from qedge.orchestrator.uplink.cloud import CloudService
from qedge.orchestrator.uplink.config import UplinkConfig
from qedge.orchestrator.uplink.model import UplinkIdentity
from qedge.orchestrator.uplink.service import UplinkService
from qedge.wire.jobs import JobEstimate, JobResult, JobState, JobSubmission, JobView
from qedge.wire.ledger import JobRecord
from qedge.wire.topics import Channel, topic
from qedge.wire.uplink import ResultReports, ResultsHeard
from tests.unit.mesh.mesh_site import FLEET, MemoryBus
from tests.unit.orchestrator.state_site import StateNode, StateSite

ESTIMATE = JobEstimate(2, 2, 3, 10, 1000, 0.01, 100, "state_vector")
CONFIG = UplinkConfig(url="mqtt://cloud:1883", spool_entries=20)


class UpSite:
    """Node a with an uplink and node b at a site; node k in the cloud."""

    def __init__(self, folder: Path, *, compare_s: float = 900.0) -> None:
        self.config = msgspec.structs.replace(CONFIG, compare_s=compare_s)
        self.site, self.sky = StateSite(folder), StateSite(folder)
        self.sky.fleet = self.site.fleet
        self.changes = Changes()
        self.threads = [CryptoThread(), CryptoThread()]
        self.tasks: list[asyncio.Task[None]] = []
        self.metrics = Metrics()

    async def start(self) -> None:
        self.a, self.b = await self.site.node("a"), await self.site.node("b")
        await self.start_cloud()
        self.up = MemoryBus(self.sky.broker)
        self.up.reply_topic, self.up.patience_s = topic(FLEET, "a", Channel.REPLY), 2.0
        self.uplink = UplinkService(
            self.config,
            UplinkIdentity(FLEET, "a", self.a.key, self.a.chain, self.a.trust),
            cast(Bus, self.up),
            cast(Bus, self.a.bus),
            self.a.state,
            self.changes,
            self.a.store,
            self.threads[1],
            clock=self.a.clock,
            metrics=self.metrics,
        )
        ready = asyncio.Event()
        self.tasks = [asyncio.create_task(self.up.pump()), asyncio.create_task(self.uplink.run(ready.set))]
        await ready.wait()

    async def start_cloud(self) -> None:
        """Start node k, again after it was killed."""
        self.k = await self.sky.node("k")
        identity = UplinkIdentity(FLEET, "k", self.k.key, self.k.chain, self.k.trust)
        self.cloud = CloudService(
            UplinkConfig(node_class="cloud", keep_of_one=10),
            identity,
            cast(Bus, self.k.bus),
            self.k.store,
            self.threads[0],
            clock=self.k.clock,
            metrics=self.metrics,
        )
        self.desk = CloudMap(identity, cast(Bus, self.k.bus), self.k.state, self.threads[0], clock=self.k.clock)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.site.close()
        await self.sky.close()
        for thread in self.threads:
            thread.close()

    async def job(self, seed: int, *, client: str = "me", values: int = 2, key: str = "") -> str:
        """End a job at node a."""
        utc_ns = self.a.clock.utc_ns()
        counts = {format(number, "017b"): 5 for number in range(values)}
        submission = JobSubmission("p", shots=5 * values, seed=seed, client_key=key)
        job = new_job(f"job-{seed}", submission, client, ESTIMATE, seed, 0, utc_ns)
        result = JobResult(counts, 5 * values, seed, (), {"run": 0.1}, {"simulated": True})

        def work(connection: sqlite3.Connection) -> None:
            ledger.insert(connection, job)
            ledger.end(connection, job, JobState.DONE, utc_ns, msgspec.msgpack.encode(result), None)

        await self.a.store.write(work)
        self.changes.ended(msgspec.structs.replace(view_of(job), state=JobState.DONE, ended_utc_ns=utc_ns))
        return job.id

    async def above(self, job_id: str) -> JobRecord | None:
        return await self.k.store.read(lambda connection: rows.copy(connection, job_id))

    async def waiting(self) -> int:
        return await self.a.store.read(spool.waiting)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[UpSite]:
    made = UpSite(tmp_path)
    await made.start()
    yield made
    await made.close()


async def until(holds: Callable[[], bool], limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.01)


async def reached(site: UpSite, job_id: str, limit_s: float = 30.0) -> JobRecord:
    async with asyncio.timeout(limit_s):
        while (found := await site.above(job_id)) is None:
            await asyncio.sleep(0.02)
    return found


async def waits_for(site: UpSite, number: int) -> None:
    async with asyncio.timeout(30):
        while await site.waiting() != number:
            await asyncio.sleep(0.02)


def holds(node: StateNode, key: str, value: bytes) -> Callable[[], bool]:
    return lambda: node.value("settings", key) == value


async def test_shared_state_goes_up_and_down_and_each_entry_once(site: UpSite) -> None:
    await site.up.connect()
    await site.b.state.put("settings", "from-below", b"1")
    await site.k.state.put("settings", "from-above", b"2")
    await until(holds(site.k, "from-below", b"1"))
    await until(holds(site.b, "from-above", b"2"))
    assert site.a.value("settings", "from-above") == b"2"
    await until(lambda: all(len(each.broker.of(Channel.SHARED)) >= 2 for each in (site.sky, site.site)))
    await asyncio.sleep(1.0)
    assert len(site.sky.broker.of(Channel.SHARED)) == 2
    assert len(site.site.broker.of(Channel.SHARED)) == 2
    assert await site.waiting() == 0


async def test_entries_of_the_site_alone_stay_there(site: UpSite) -> None:
    await site.up.connect()
    await site.b.state.put("capability", "qpu", b"1")
    await asyncio.sleep(1.0)
    assert site.sky.broker.of(Channel.STATE) == site.sky.broker.of(Channel.SHARED) == []


async def test_without_the_uplink_everything_waits_in_the_database_and_goes_up_later_the_newest_word_only(
    site: UpSite,
) -> None:
    for value in (b"1", b"2", b"3"):
        await site.b.state.put("settings", "x", value)
        await asyncio.sleep(0.4)
    job_id = await site.job(1)
    async with asyncio.timeout(30):
        while await site.waiting() != 2:
            await asyncio.sleep(0.02)
    await site.up.connect()
    await until(holds(site.k, "x", b"3"))
    record = await reached(site, job_id)
    assert record.view.result is not None
    assert record.view.result.counts == {"0" * 17: 5, "0" * 16 + "1": 5}
    assert len(site.sky.broker.of(Channel.SHARED)) == 1


async def test_results_for_peers_and_second_runs_do_not_go_up(site: UpSite) -> None:
    await site.up.connect()
    for seed, client in enumerate(("node:b", "check")):
        await site.job(seed, client=client)
    job_id = await site.job(7)
    await reached(site, job_id)
    assert await site.above("job-0") is None
    assert await site.above("job-1") is None


async def test_a_full_spool_gives_up_the_oldest_results_and_no_shared_state(site: UpSite) -> None:
    await site.b.state.put("settings", "x", b"1")
    for seed in range(30):
        await site.job(seed)
    await until(lambda: site.metrics.value("qedge_uplink_messages_total", ("given_up",)) == 11)
    await site.up.connect()
    await reached(site, "job-29")
    await until(holds(site.k, "x", b"1"))
    assert await site.above("job-10") is None


async def test_a_result_that_is_too_large_for_a_message_is_left_out_and_its_job_told(site: UpSite) -> None:
    await site.up.connect()
    job_id = await site.job(1, values=20_000)
    record = await reached(site, job_id)
    assert (record.view.state, record.view.result) == (JobState.DONE, None)


async def test_the_cloud_keeps_no_result_that_its_owner_did_not_sign_and_not_too_many_of_one(site: UpSite) -> None:
    await site.up.connect()
    for seed in range(12):
        await site.job(seed)
    record = await reached(site, "job-11")
    held = await site.k.store.read(rows.copies_by_sender)
    assert held["uplink:a"] <= 10
    stolen = msgspec.structs.replace(record, id="job-x", view=msgspec.structs.replace(record.view, id="job-x"))
    where = topic(FLEET, "b", Channel.RESULTS)
    other = UplinkService(
        CONFIG,
        UplinkIdentity(FLEET, "b", site.b.key, site.b.chain, site.b.trust),
        cast(Bus, MemoryBus(site.sky.broker)),
        cast(Bus, site.b.bus),
        site.b.state,
        Changes(),
        site.b.store,
        site.threads[1],
        clock=site.b.clock,
        metrics=Metrics(),
    )
    signed = other._identity.sign(where, ResultReports((stolen,)), 1, other._clock.utc_ns())
    await site.cloud._hear(Incoming(where, signed, 1, False))
    assert await site.above("job-x") is None
    forged = signed[:-8] + secrets.token_bytes(8)
    with pytest.raises(Exception, match="ignature"):
        await site.cloud._hear(Incoming(where, forged, 1, False))


def fill_disk(site: UpSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk of the cloud's node have no room, until the monkey patch is undone."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rows, "keep", full)
    monkeypatch.setattr("qedge.store.store.os.posix_fallocate", full)
    site.k.store.give_up_reserve()


async def test_what_the_cloud_s_full_disk_did_not_take_stays_below_and_comes_when_there_is_room(
    site: UpSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(site, monkeypatch)
    await site.up.connect()
    job_id = await site.job(1)
    await until(lambda: site.uplink._problem == "store.disk_full")
    assert site.cloud._problem == "store.disk_full"
    assert site.k.store.disk_full
    assert await site.waiting() == 1
    monkeypatch.undo()
    await reached(site, job_id)
    await waits_for(site, 0)
    assert (site.uplink._problem, site.cloud._problem) == ("", "")
    assert not site.k.store.disk_full


async def test_results_stay_below_while_no_node_of_the_cloud_listens_though_its_broker_takes_them(site: UpSite) -> None:
    site.k.bus.connected = False
    await site.up.connect()
    job_id = await site.job(1)
    await until(lambda: site.uplink._problem == "bus.timeout")
    assert await site.waiting() == 1
    await site.b.state.put("settings", "x", b"1")  # goes up meanwhile
    await waits_for(site, 1)
    await site.k.bus.connect()
    await reached(site, job_id)
    await waits_for(site, 0)


async def test_nobody_but_a_member_says_that_results_are_kept_and_only_of_the_message_that_was_sent(
    site: UpSite,
) -> None:
    site.k.bus.connected = False
    await site.up.connect()
    job_id = await site.job(1)
    await until(lambda: bool(site.sky.broker.of(Channel.RESULTS)))
    asked = site.sky.broker.of(Channel.RESULTS)[0]
    other = site.cloud._identity.sign(asked.response_topic, ResultsHeard(bytes(32)), 7, site.cloud._clock.utc_ns())
    site.sky.broker.publish(asked.response_topic, other, correlation=asked.correlation)
    await until(lambda: site.uplink._problem == "bus.bad_message")
    await until(lambda: len(site.sky.broker.of(Channel.RESULTS)) > 1)
    asked = site.sky.broker.of(Channel.RESULTS)[-1]
    forged = site.cloud._identity.sign(
        asked.response_topic, ResultsHeard(hashlib.sha3_256(asked.payload).digest()), 8, site.cloud._clock.utc_ns()
    )
    site.sky.broker.publish(asked.response_topic, forged[:-8] + bytes(8), correlation=asked.correlation)
    await until(lambda: site.uplink._problem == "auth.bad_signature")
    assert await site.waiting() == 1
    await site.k.bus.connect()
    await reached(site, job_id)


def refusing(site: UpSite, most_bytes: int) -> None:
    """Have the cloud's broker take small messages alone, as its operator may have set it."""
    publish, request = site.up.publish, site.up.request

    async def small(where: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int = 0) -> None:
        if len(payload) > most_bytes:
            raise QedgeError("bus.too_large", "A message is over the limit.")
        await publish(where, payload, qos=qos, retain=retain, expiry_s=expiry_s)

    async def small_question(where: str, payload: bytes, *, deadline_s: float) -> Incoming:
        if len(payload) > most_bytes:
            raise QedgeError("bus.too_large", "A message is over the limit.")
        return await request(where, payload, deadline_s=deadline_s)

    site.up.publish = small  # type: ignore[method-assign] # a broker with a limit of its own
    site.up.request = small_question  # type: ignore[method-assign] # as above


async def test_what_is_too_large_for_the_cloud_s_broker_holds_up_nothing_behind_it(site: UpSite) -> None:
    refusing(site, 24 * 1024)
    large = await site.job(1, values=2_000)
    last = [await site.job(seed) for seed in range(2, 8)]
    await site.up.connect()
    for job_id in last:
        await reached(site, job_id)
    record = await reached(site, large)
    assert record.view.result is None
    await waits_for(site, 0)


async def test_an_entry_that_no_message_has_room_for_is_given_up_and_told(site: UpSite) -> None:
    await site.b.state.put("settings", "large", bytes(4_000))
    (message,) = site.site.broker.of(Channel.SHARED)
    refusing(site, len(message.payload) - 2_000)
    async with asyncio.timeout(5):
        while await site.waiting() != 1:
            await asyncio.sleep(0.02)
    await site.b.state.put("settings", "small", b"1")
    await site.up.connect()
    await until(holds(site.k, "small", b"1"))
    assert site.metrics.value("qedge_uplink_messages_total", ("given_up",)) == 1


async def test_a_result_that_ended_right_before_a_kill_goes_up_after_the_next_start(site: UpSite) -> None:
    await site.job(1)
    async with asyncio.timeout(5):
        while await site.waiting() != 1:
            await asyncio.sleep(0.02)
    for task in site.tasks:
        task.cancel()
    await asyncio.gather(*site.tasks, return_exceptions=True)
    lost = await site.job(2)  # nobody follows
    await site.job(3, client="node:b")
    ready = asyncio.Event()
    site.tasks = [asyncio.create_task(site.up.pump()), asyncio.create_task(site.uplink.run(ready.set))]
    await ready.wait()
    await site.up.connect()
    await reached(site, lost)
    assert await site.above("job-3") is None


async def test_nobody_keeps_an_entry_of_the_site_from_going_up_by_sending_a_forged_one_first(site: UpSite) -> None:
    await site.b.state.put("settings", "x", b"1")
    (message,) = site.site.broker.of(Channel.SHARED)
    site.uplink._unwritten.clear()
    forged = message.payload[:-8] + secrets.token_bytes(8)
    await site.uplink._hear(Incoming(message.topic, forged, 1, False))
    _, _, _, ident, version = peek(message.payload, FLEET, message.topic)
    assert (ident, version) not in site.uplink._from_above


async def test_results_that_end_faster_than_they_are_followed_go_up_all_the_same(
    site: UpSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qedge.engine.changes.STREAM_LIMIT", 3)
    site.changes = site.uplink._changes = Changes()
    for task in site.tasks:
        task.cancel()
    await asyncio.gather(*site.tasks, return_exceptions=True)
    ready = asyncio.Event()
    site.tasks = [asyncio.create_task(site.up.pump()), asyncio.create_task(site.uplink.run(ready.set))]
    await ready.wait()
    await site.up.connect()
    await asyncio.sleep(0.1)
    ended: list[JobView] = []
    monkeypatch.setattr(site.changes, "ended", ended.append)
    jobs = [await site.job(seed) for seed in range(8)]
    monkeypatch.undo()
    for view in ended:
        site.changes.ended(view)
    for job_id in jobs:
        await reached(site, job_id)


async def test_results_of_two_boxes_whose_clients_have_one_name_and_key_are_both_kept(site: UpSite) -> None:
    await site.up.connect()
    first = await reached(site, await site.job(1, key="nightly"))
    other = msgspec.structs.replace(
        first, id="job-b", holders=("b",), digest=bytes(32), view=msgspec.structs.replace(first.view, id="job-b")
    )
    kept = await site.k.store.write(lambda connection: site.cloud._keep(connection, "b", [other]))
    assert kept == 1
    found = await site.above("job-b")
    assert found is not None
    assert found.view == other.view
    assert await site.above(first.id) == first


async def test_results_are_kept_though_the_records_of_a_box_that_never_ended_are_as_many_as_are_kept_of_one(
    site: UpSite,
) -> None:
    await site.up.connect()
    first = await reached(site, await site.job(1))

    def never_ended(connection: sqlite3.Connection) -> None:
        for number in range(12):
            view = msgspec.structs.replace(first.view, id=f"job-x{number}", ended_utc_ns=0, state=JobState.RUNNING)
            record = msgspec.structs.replace(first, id=view.id, holders=("a", "k"), view=view)
            assert rows.keep(connection, "a", record).new

    await site.k.store.write(never_ended)
    await reached(site, await site.job(2), limit_s=5.0)
    assert site.metrics.value("qedge_uplink_messages_total", ("refused",)) == 0
    assert (await site.k.store.read(rows.copies_by_sender))["a"] == 12


async def test_results_whose_jobs_were_forgotten_while_they_waited_are_counted_as_given_up(site: UpSite) -> None:
    gone, kept = await site.job(1), await site.job(2)
    await waits_for(site, 2)
    await site.a.store.write(lambda connection: ledger.prune(connection, passed_ns=0, keep_ns=10**18, keep=1))
    assert await site.a.store.read(lambda connection: ledger.view(connection, gone)) is None
    await site.up.connect()
    await reached(site, kept)
    await waits_for(site, 0)
    assert site.metrics.value("qedge_uplink_messages_total", ("given_up",)) == 1


async def test_a_result_that_can_be_read_no_more_holds_up_none_behind_it(site: UpSite) -> None:
    bad, good = await site.job(1), await site.job(2)
    await waits_for(site, 2)
    await site.a.store.write(
        lambda connection: connection.execute("UPDATE jobs SET result = x'c1' WHERE id = ?", (bad,))
    )
    await site.up.connect()
    await reached(site, good, limit_s=5.0)
    await waits_for(site, 0)
    assert site.metrics.value("qedge_uplink_messages_total", ("given_up",)) == 1


async def test_what_the_cloud_does_not_keep_is_told_below(site: UpSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qedge.orchestrator.uplink.cloud._is_told_by", lambda *_: False)
    await site.up.connect()
    with capture_logs() as logs:
        await site.job(1)
        await until(lambda: any(entry["event"] == "uplink.refused" for entry in logs))
    await waits_for(site, 0)


async def test_results_that_memory_has_no_room_for_are_taken_from_the_table_of_jobs(
    site: UpSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.job(0)
    await waits_for(site, 1)
    monkeypatch.setattr("qedge.orchestrator.uplink.service._MOST_UNWRITTEN", 2)
    jobs = [await site.job(seed) for seed in range(1, 7)]
    await waits_for(site, 7)
    assert site.metrics.value("qedge_uplink_messages_total", ("given_up",)) == 0
    await site.up.connect()
    for job_id in jobs:
        await reached(site, job_id)


async def test_a_result_goes_up_though_the_clock_was_set_back_and_the_node_killed_after_its_end(site: UpSite) -> None:
    await site.job(1)
    await waits_for(site, 1)
    site.a.clock.shift_ns = -3600 * 10**9
    async with asyncio.timeout(10):
        while int(await site.a.store.get_meta("uplink-followed")) > site.a.clock.utc_ns():
            await asyncio.sleep(0.02)
    for task in site.tasks:
        task.cancel()
    await asyncio.gather(*site.tasks, return_exceptions=True)
    lost = await site.job(2)  # nobody follows
    ready = asyncio.Event()
    site.tasks = [asyncio.create_task(site.up.pump()), asyncio.create_task(site.uplink.run(ready.set))]
    await ready.wait()
    await site.up.connect()
    await reached(site, lost)
