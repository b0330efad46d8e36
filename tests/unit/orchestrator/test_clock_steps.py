"""Wall clocks that step by hours under load: leases and deadlines run on another clock, and each job ends once."""

from __future__ import annotations

import asyncio
import random

import pytest

from qedge.engine.fake import FakeQpu
from qedge.wire.jobs import JobState
from tests.unit.orchestrator.peer_site import EngineSite
from tests.unit.orchestrator.test_ledger import four, hold, release, running, until

HOUR_NS = 3600 * 10**9


@pytest.mark.parametrize("step_ns", [-5 * HOUR_NS, 5 * HOUR_NS])
async def test_a_step_of_any_wall_clock_ends_no_lease_and_no_job(site: EngineSite, step_ns: int) -> None:
    a, b, c, d = await four(site)
    hold(b, c, d)
    job = await a.submit(node="any", deadline_s=3600.0)
    runner = await running(b, c, d)
    for node in (a, runner):
        node.clock.step_ns = step_ns
        await asyncio.sleep(0.6)  # longer than a lease
    assert site.runs() == 1
    release(b, c, d)
    ended = await a.end(job.id)
    assert (ended.state, ended.epoch, ended.node) == (JobState.DONE, 1, runner.name)


async def test_a_job_is_adopted_and_ends_once_where_the_clocks_of_its_holders_are_hours_apart(site: EngineSite) -> None:
    a, b, c, d = await four(site)
    hold(b, c, d)
    b.clock.step_ns, c.clock.step_ns, d.clock.step_ns = -7 * HOUR_NS, 3 * HOUR_NS, -HOUR_NS
    job = await a.submit(node="any")
    await running(b, c, d)
    await a.kill()
    await until(lambda: any(node.owns(job.id) for node in (b, c, d)))
    release(b, c, d)
    await a.start()
    ends = [await node.end(job.id) for node in (a, b, c, d)]
    assert {(each.state, each.epoch) for each in ends} == {(JobState.DONE, ends[0].epoch)}


@pytest.mark.parametrize("seed", range(3))
async def test_clocks_that_step_at_random_under_load_lose_no_job_and_run_none_twice(
    site: EngineSite, seed: int
) -> None:
    dice = random.Random(seed)
    nodes = [await site.node(name, FakeQpu(name)) for name in "abc"]
    ids = []
    for number in range(24):
        dice.choice(nodes).clock.step_ns = dice.randrange(-9 * HOUR_NS, 9 * HOUR_NS)
        ids.append((await dice.choice(nodes).submit(f"p{number}", node="any", seed=number)).id)
    for job_id in ids:
        assert (await nodes[0].end(job_id)).state is JobState.DONE
    assert site.runs() == len(ids)
