"""A mesh that was cut in two may have two jobs for one key of a client: whoever meets the other one says so."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from qedge.engine.fake import FakeQpu
from tests.unit.orchestrator.peer_site import EngineNode, EngineSite
from tests.unit.orchestrator.test_ledger import until


def cut(site: EngineSite, one: str, other: str) -> None:
    site.network.cut = {frozenset((left, right)) for left in one for right in other}
    site.network.tell_all()


def heal(site: EngineSite) -> None:
    site.network.cut.clear()
    site.network.silent_cuts = False
    site.network.tell_all()


def duplicates(*nodes: EngineNode) -> float:
    return sum(node.metrics.value("qedge_jobs_duplicate_total") for node in nodes)


@pytest.mark.parametrize(("one", "other"), [("ab", "cd"), ("a", "bcd")])
async def test_a_key_that_became_two_jobs_while_the_mesh_was_cut_is_told_when_it_is_whole_again(
    site: EngineSite, one: str, other: str
) -> None:
    nodes = [await site.node(name, FakeQpu(name)) for name in "abcd"]
    a, _, c, _ = nodes
    cut(site, one, other)
    await asyncio.sleep(1.1)  # the first look, at nodes that are new, is over
    first, second = await a.submit(node="any", client_key="nightly"), await c.submit(node="any", client_key="nightly")
    assert first.id != second.id
    await a.end(first.id)
    await c.end(second.id)
    with capture_logs() as logs:
        heal(site)
        await until(lambda: duplicates(*nodes) > 0, 5.0)
    told = next(entry for entry in logs if entry["event"] == "job.duplicate")
    assert {told["job"], told["other"]} == {first.id, second.id}
    assert (told["client"], told["peer"] in "ac") == ("me", True)


async def test_a_holder_that_was_out_of_reach_unnoticed_tells_of_the_other_job_when_it_hears_of_this_one(
    site: EngineSite,
) -> None:
    a, b = [await site.node(name, FakeQpu(name)) for name in "ab"]
    site.network.silent_cuts = True
    cut(site, "a", "b")
    first, second = await a.submit(node="any", client_key="k"), await b.submit(node="any", client_key="k")
    assert first.id != second.id
    heal(site)
    await until(lambda: duplicates(a, b) > 0, 8.0)


async def test_a_request_that_comes_to_several_nodes_of_a_whole_mesh_is_no_duplicate(site: EngineSite) -> None:
    nodes = [await site.node(name, FakeQpu(name)) for name in "abc"]
    jobs = await asyncio.gather(*(node.submit(node="any", client_key="k") for node in nodes), return_exceptions=True)
    assert len({job.id for job in jobs if not isinstance(job, BaseException)}) == 1
    await asyncio.sleep(2.2)
    assert duplicates(*nodes) == 0
