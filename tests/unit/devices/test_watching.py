"""Apps in programs of their own follow segments of this node and of others through policy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from qedge.base.errors import QedgeError
from qedge.devices.segments.model import FOREVER
from qedge.devices.segments.watching import MAX_FEEDS, WatchDesk
from qedge.security.model import Action, Subject, SubjectKind
from qedge.wire.segments import AppReading, ReadingsEnded, ReadingsLost, SegmentNews
from tests.unit.devices.segment_site import NODE, Site, segments

APP = "dashboard"


def desk_at(site: Site, node: str = NODE) -> WatchDesk:
    """Make the desk of the node, or of the other one, which visits it."""
    site.subjects.known[SubjectKind.APP, APP] = Subject(APP, SubjectKind.APP, lease_until_ns=FOREVER)
    return WatchDesk(node, site.service, site.visitor, site.subjects, site.judge, clock=site.clock, denied=site._denied)


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[Site, WatchDesk]]:
    """Run a node whose device d1 speaks, with a desk."""
    async with segments() as site:
        site.device("d1")
        yield site, desk_at(site)


async def next_of(news: AsyncIterator[tuple[SegmentNews, ...]]) -> tuple[SegmentNews, ...]:
    return await asyncio.wait_for(anext(news), 10)


async def test_an_app_gets_the_readings_that_policy_lets_it_read() -> None:
    async with watched() as (site, desk):
        site.judge.permits.add((APP, Action.SUBSCRIBE, "level"))
        async with desk.follow(APP, "plant", ()) as news:
            site.say("d1", "flow", b"1")
            site.say("d1", "level", b"2")
            [reading] = await next_of(news)
            assert isinstance(reading, AppReading)
            assert (reading.device, reading.channel, reading.body, reading.node) == ("d1", "level", b"2", "")
        await site.settle()
        assert site.service.detail("plant").segment.feeds == 0
        assert (APP, Action.SUBSCRIBE, "flow") in site.denials


async def test_no_rule_no_place_in_apps_or_no_such_app_no_readings() -> None:
    async with watched() as (site, desk):
        site.judge.permits.add(("other", Action.SUBSCRIBE, "*"))
        site.subjects.known[SubjectKind.APP, "other"] = Subject("other", SubjectKind.APP, lease_until_ns=FOREVER)
        for app in (APP, "other", "nobody"):
            with pytest.raises(QedgeError) as refused:
                async with desk.follow(app, "plant", ()):
                    pass
            assert refused.value.code == "segment.refused"
        with pytest.raises(QedgeError) as unknown:
            async with desk.follow(APP, "nowhere", ()):
                pass
        assert unknown.value.code == "segment.not_found"


async def test_a_change_of_policy_ends_what_it_permits_no_more_and_says_why() -> None:
    async with watched() as (site, desk):
        site.judge.permits.add((APP, Action.SUBSCRIBE, "*"))
        async with desk.follow(APP, "plant", ()) as news:
            site.say("d1", "level", b"1")
            site.judge.permits.clear()
            site.service.policy_changed()
            site.say("d1", "level", b"2")
            assert await next_of(news) == (ReadingsEnded("no_rule"),)  # what waited is not given any more


async def test_a_slow_app_hears_how_much_it_lost_and_feeds_are_bounded() -> None:
    async with watched() as (site, desk):
        site.judge.permits.add((APP, Action.SUBSCRIBE, "*"))
        async with desk.follow(APP, "plant", ()) as news:
            for number in range(site.service.config.feed_readings + 9):
                site.say("d1", "level", number.to_bytes(4, "big"))
            assert (await next_of(news))[0] == ReadingsLost(9)
        async with asyncio.TaskGroup() as group:
            done = asyncio.Event()

            async def hold() -> None:
                async with desk.follow(APP, "plant", ()):
                    await done.wait()

            for _ in range(MAX_FEEDS):
                group.create_task(hold())
            await asyncio.sleep(0)
            with pytest.raises(QedgeError) as busy:
                async with desk.follow(APP, "plant", ()):
                    pass
            assert busy.value.code == "http.busy"
            done.set()
        async with desk.follow(APP, "plant", ()):
            pass


async def test_a_segment_of_another_node_needs_the_policies_of_both() -> None:
    async with segments() as site:
        site.device("d1")
        desk = desk_at(site, "box-2")
        site.subjects.known[SubjectKind.PEER, "box-2"] = Subject("box-2", SubjectKind.PEER, lease_until_ns=FOREVER)
        app, peer = (APP, Action.SUBSCRIBE, "level"), ("box-2", Action.SUBSCRIBE, "level")
        for permits in ((), (app,), (peer,)):
            site.judge.permits = set(permits)
            with pytest.raises(QedgeError) as refused:
                async with desk.follow(APP, "plant", ("level", "flow"), NODE):
                    pass
            assert refused.value.code == "segment.refused"
        site.judge.permits = {app, peer}
        async with desk.follow(APP, "plant", ("level", "flow"), NODE) as news:
            await site.settle()
            site.say("d1", "level", b"7")
            site.say("d1", "flow", b"8")
            await site.settle()
            await site.bus.deliver()
            [reading] = await next_of(news)
            assert isinstance(reading, AppReading)
            assert (reading.node, reading.channel, reading.body) == (NODE, "level", b"7")
            site.judge.permits = {peer}
            desk.policy_changed()
            assert await next_of(news) == (ReadingsEnded("no_rule"),)
