"""A runner whose words no database can hold, or nobody can reckon with, harms its own jobs alone."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import cast

import msgspec
import pytest

from qedge.engine.fake import FakeQpu
from qedge.wire.envelope import purpose_of
from qedge.wire.jobs import JobAsk, JobEstimate, JobNews, JobOffer, JobState, JobTidings, JobView
from tests.unit.orchestrator.peer_site import EngineNode, EngineSite

Spoil = Callable[[JobView], JobView]


def at(name: str, value: object) -> Spoil:
    return lambda view: msgspec.structs.replace(view, **{name: value})


def estimated(time_s: float) -> Spoil:
    return at("estimate", JobEstimate(2, 2, 3, 10, 1000, time_s, 100, "state_vector"))


def spoil_words(node: EngineNode, spoil: Spoil) -> None:
    """Let a runner say of every job what this makes of it."""

    def spoiled(news: JobNews) -> JobNews:
        return news if news.job is None else msgspec.structs.replace(news, job=spoil(news.job))

    for request in (JobOffer, JobAsk):
        kind, serve = node.peers.served[purpose_of(request)]

        async def answer(peer: str, asked: object, serve: Callable[..., Awaitable[object]] = serve) -> msgspec.Struct:
            said = await serve(peer, asked)
            if isinstance(said, JobTidings):
                return JobTidings(tuple(spoiled(each) for each in said.news))
            return spoiled(cast(JobNews, said))

        node.peers.served[purpose_of(request)] = (kind, answer)


@pytest.mark.parametrize(
    "spoil",
    [
        at("started_utc_ns", 2**64 - 1),
        at("started_utc_ns", -(2**63)),
        at("attempts", 2**64 - 1),
        estimated(math.nan),
        estimated(math.inf),
        estimated(-1.0),
    ],
    ids=["late", "early", "often", "nan", "inf", "negative"],
)
async def test_a_word_that_cannot_be_reckoned_with_is_no_answer_and_the_job_ends_elsewhere(
    site: EngineSite, spoil: Spoil
) -> None:
    a = await site.node("a", keep_s=3600.0)
    b, _ = [await site.node(name, FakeQpu(name)) for name in "bc"]
    spoil_words(b, spoil)
    jobs = [await a.submit(node="any", seed=seed, deadline_s=60.0, priority=3) for seed in range(4)]
    for job in jobs:
        ended = await a.end(job.id)
        assert (ended.state, ended.node) == (JobState.DONE, "c")
    assert not any(task.done() for task in a._tasks)
