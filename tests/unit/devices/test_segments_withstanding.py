"""Peers that lie or were revoked, clocks that step and slow disks: what segments and commands make of them."""

from __future__ import annotations

import asyncio
import math
import sqlite3

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.daemon.gateway.adapters import RevokedPeers
from qedge.devices.onward import spool
from qedge.devices.segments.model import FOREVER
from qedge.devices.segments.ports import KnownCommand
from qedge.security.model import Action, Subject, SubjectKind
from qedge.store.spool_schemas import SPOOL_SCHEMA
from qedge.wire.mesh import PeerState
from qedge.wire.segments import CommandAsk, SegmentAsk, SegmentGranted
from qedge_device.group import GroupError
from tests.unit.devices.segment_site import NODE, Site, segments


def visit(site: Site) -> None:
    """Let box-2 read the segment `plant`."""
    site.subjects.known[SubjectKind.PEER, "box-2"] = Subject("box-2", SubjectKind.PEER, lease_until_ns=FOREVER)
    site.judge.permits |= {("box-2", Action.SUBSCRIBE, each) for each in ("level", "flow")}


@pytest.mark.parametrize("lease_s", [math.inf, -math.inf, math.nan, 1e300, -1.0, 0.0])
async def test_a_peer_that_grants_for_no_time_that_there_is_ends_no_service(lease_s: float) -> None:
    site = Site()
    asked = 0

    async def grant(_peer: str, ask: SegmentAsk) -> msgspec.Struct:
        nonlocal asked
        asked += 1
        return SegmentGranted(ask.channels, (), lease_s)

    async with segments(site):
        site.host._peers.serve(SegmentAsk, grant)
        await site.visitor.open_feed(NODE, "plant", ("level",))
        (visit_,) = site.visitor._visits.values()
        assert 0 < visit_.until_ns - site.clock.now_ns() <= 86_400 * 10**9
        site.clock.advance_s(86_400)
        await site.visitor._look_after(visit_)
        assert asked == 2


async def test_a_peer_whose_key_is_revoked_reads_no_segment_from_then_on() -> None:
    async with segments() as site:
        visit(site)
        feed = await site.visitor.open_feed(NODE, "plant", ("level",))
        await site.settle()
        states = {"box-2": PeerState.ALIVE}
        revoked = RevokedPeers(site.service, lambda: states)
        revoked.look()
        assert len(site.service.detail("plant").members) == 1
        states["box-2"] = PeerState.REVOKED
        revoked.look()
        assert site.service.detail("plant").members == ()
        (reader,) = [each.reader for each in site.visitor._visits.values()]
        site.device("tank")
        site.device("other").ask()
        await site.settle()
        site.say("tank", "level", b"42")
        await site.settle()
        for topic, frame in site.bus.posted:
            with pytest.raises(GroupError):
                reader.open(topic.rpartition("/")[2], frame)
        assert site.bus.posted
        assert feed is not None


def test_a_key_of_a_command_is_remembered_though_the_clock_was_ahead_for_all_before_it() -> None:
    connection = sqlite3.connect(":memory:")
    for migration in SPOOL_SCHEMA.migrations:
        for statement in migration:
            connection.execute(statement)
    ahead = 2 * 10**18
    rows = [("control", f"k{number}", b"", b"", "", "", ahead + number) for number in range(spool.KEPT_COMMANDS)]
    connection.executemany("INSERT INTO commands VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    assert spool.begin_command(connection, "control", "new", b"d", b"request1", 10**18) is None
    known = spool.begin_command(connection, "control", "new", b"d", b"request2", 10**18)
    assert known == KnownCommand(b"request1", b"d")
    assert connection.execute("SELECT count(*) FROM commands").fetchone() == (spool.KEPT_COMMANDS,)


async def test_a_command_that_waited_for_the_disk_is_decided_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    site.device("valve")
    app = Subject("control", SubjectKind.APP, lease_until_ns=FOREVER)
    site.judge.permits.add(("control", Action.COMMAND, "open"))
    begin = site.keep.begin

    async def slow(client: str, key: str, digest: bytes, request: bytes, utc_ns: int) -> KnownCommand | None:
        await asyncio.sleep(0)
        site.judge.permits.clear()
        site.desk.policy_changed()
        return await begin(client, key, digest, request, utc_ns)

    monkeypatch.setattr(site.keep, "begin", slow)
    with pytest.raises(QedgeError, match="Policy does not let"):
        await site.desk.command(app, CommandAsk("valve", "open", key="k", deadline_s=0.01), client="control")
    assert site.downlink.sent == []


async def test_a_visit_that_ends_while_it_is_asked_for_again_leaves_no_feed_behind_that_nobody_fills() -> None:
    site = Site()
    ends: list[str] = []

    async def grant(_peer: str, ask: SegmentAsk) -> msgspec.Struct:
        for visit_ in list(site.visitor._visits.values()):
            site.visitor._end(visit_, "left")
            ends.append(visit_.segment)
        return SegmentGranted(ask.channels, (), 3600.0)

    async with segments(site):
        site.host._peers.serve(SegmentAsk, grant)
        feed = await site.visitor.open_feed(NODE, "plant", ("level",))
        assert ends == ["plant"]
        (visit_,) = site.visitor._visits.values()
        assert [each for each, _ in visit_.feeds] == [feed]
