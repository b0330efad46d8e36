"""What the cloud has of the shared state is compared over the uplink: what the broker took and dropped is found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.bus.model import Incoming
from qedge.crypto.signed import join_signed, split_signed
from qedge.orchestrator.state.exchange import pack
from qedge.wire.state import BUCKETS
from qedge.wire.topics import Channel, topic
from qedge.wire.uplink import SharedAsk, SharedTold
from tests.unit.mesh.mesh_site import FLEET
from tests.unit.orchestrator.test_uplink import UpSite, holds, refusing, until, waits_for


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[UpSite]:
    made = UpSite(tmp_path, compare_s=1.0)
    await made.start()
    yield made
    await made.close()


async def sent_in_vain(site: UpSite, key: str, value: bytes) -> None:
    """Say something that the cloud's broker takes and no node of the cloud gets."""
    site.k.bus.connected = False
    sent = len(site.sky.broker.of(Channel.SHARED))
    await site.b.state.put("settings", key, value)
    await until(lambda: len(site.sky.broker.of(Channel.SHARED)) > sent)
    await waits_for(site, 0)


def outcomes(site: UpSite, outcome: str) -> float:
    return site.metrics.value("qedge_uplink_comparisons_total", (outcome,))


async def test_what_the_broker_dropped_while_the_cloud_s_node_was_away_for_too_long_comes_by_comparing(
    site: UpSite,
) -> None:
    await site.up.connect()
    await sent_in_vain(site, "x", b"1")
    assert site.k.value("settings", "x") is None
    await site.k.bus.connect()
    await until(holds(site.k, "x", b"1"))
    await until(lambda: outcomes(site, "alike") > 0)
    assert outcomes(site, "differed") >= 1


async def test_what_the_cloud_s_node_could_not_write_before_it_was_killed_comes_by_comparing(
    site: UpSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise QedgeError("store.disk_full", "There is no room on the disk.")

    monkeypatch.setattr(site.k.store, "write", full)
    await site.up.connect()
    await site.a.state.put("settings", "x", b"1")
    await until(holds(site.k, "x", b"1"))
    await site.k.kill()
    monkeypatch.undo()
    await site.start_cloud()
    assert site.k.value("settings", "x") is None
    await until(holds(site.k, "x", b"1"))


async def test_what_came_from_above_in_vain_comes_by_comparing_and_is_told_at_the_site(site: UpSite) -> None:
    await site.k.state.put("models", "m", bytes(9_000))  # nobody of the site is connected
    await site.up.connect()
    await until(lambda: site.b.value("models", "m") == bytes(9_000))
    assert site.a.value("models", "m") == bytes(9_000)
    assert await site.waiting() == 0


async def test_a_node_of_the_cloud_that_lost_its_database_gets_its_own_words_back(site: UpSite, tmp_path: Path) -> None:
    await site.up.connect()
    await site.k.state.put("settings", "mine", b"1")
    await until(holds(site.a, "mine", b"1"))
    await site.k.kill()
    for path in tmp_path.glob("k.sqlite3*"):
        path.unlink()
    await site.start_cloud()
    await until(holds(site.k, "mine", b"1"))


async def test_an_older_node_of_the_cloud_that_does_not_answer_costs_nothing_but_a_question_now_and_then(
    site: UpSite,
) -> None:
    site.up.patience_s = 0.05
    site.sky.broker.drop = lambda message: message.topic.endswith("/compare")
    await site.up.connect()
    await until(lambda: outcomes(site, "failed") >= 2)
    await site.a.state.put("settings", "x", b"1")
    await until(holds(site.k, "x", b"1"))


async def test_many_entries_come_by_comparing_though_the_broker_takes_small_messages_alone(site: UpSite) -> None:
    await site.up.connect()
    site.k.bus.connected = False
    for number in range(12):
        await site.b.state.put("settings", f"key-{number}", bytes(3_000))
    await until(lambda: len(site.sky.broker.of(Channel.SHARED)) == 12)
    refusing(site, 48 * 1024)
    await site.k.bus.connect()
    await until(lambda: all(site.k.value("settings", f"key-{number}") for number in range(12)))


async def test_nobody_but_a_member_compares_and_an_answer_is_to_the_question_that_was_asked(site: UpSite) -> None:
    where = topic(FLEET, "a", Channel.COMPARE)
    signed = site.uplink._identity.sign(where, SharedAsk(), 1, site.a.clock.utc_ns())
    covered, chain, signature = split_signed(signed)
    forged = join_signed(covered, chain, bytes(len(signature)))
    answers = len(site.sky.broker.of(Channel.REPLY))
    handler = site.desk._hear
    with pytest.raises(QedgeError, match="ignature"):
        await handler(Incoming(where, forged, 1, False, topic(FLEET, "a", Channel.REPLY), b"1"))
    assert len(site.sky.broker.of(Channel.REPLY)) == answers
    other = SharedTold(bytes(32), (bytes(16),) * BUCKETS)

    async def replay(_where: str, _payload: bytes, *, deadline_s: float) -> Incoming:
        assert deadline_s > 0
        back = topic(FLEET, "a", Channel.REPLY)
        return Incoming(back, site.cloud._identity.sign(back, other, 9, site.k.clock.utc_ns()), 1, False)

    site.up.request = replay  # type: ignore[method-assign] # somebody who has recorded another answer
    with pytest.raises(QedgeError, match="another"):
        await site.uplink.comparison.compare()


async def test_an_entry_of_the_site_alone_does_not_come_in_by_comparing_with_the_cloud(site: UpSite) -> None:
    await site.a.state.put("capability", "qpu", b"1")
    where, load = topic(FLEET, "a", Channel.COMPARE), pack(site.a.state.under("capability"))
    ask = site.uplink._identity.sign(where, SharedAsk(load=load), 1, site.a.clock.utc_ns())
    await site.desk._hear(Incoming(where, ask, 1, False, topic(FLEET, "a", Channel.REPLY), b"1"))
    assert site.k.value("capability", "qpu", "a") is None
