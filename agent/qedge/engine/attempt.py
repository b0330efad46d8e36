"""One run of a job on a QPU, from its first moment to what came of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.engine.config import EngineConfig
from qedge.engine.keeper import WORTH_NOTING_S, Keeper
from qedge.engine.lanes import Lanes, Run
from qedge.engine.later import Later
from qedge.engine.model import JobEvent, cancelled, judge
from qedge.engine.roster import run_args, time_left_s
from qedge.workers.model import Msg


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: with the worker's `answer`, or with an `error`."""

    event: JobEvent
    error: QedgeError | None = None
    answer: Msg = None


async def attempt(run: Run, config: EngineConfig, keeper: Keeper, lanes: Lanes, clock: Clock) -> Outcome:
    """Run a job and give its slot back; cancelled by anybody but the job's client it raises that."""
    job, noted = run.job, None
    outcome = Outcome(JobEvent.CANCELLED, cancelled())
    try:
        if not job.cancel_wanted:
            if job.submission.once:
                await keeper.note_start(job)
            noted = Later(WORTH_NOTING_S, lambda: keeper.note_start(job))
            args, left_s = run_args(job, config, run.qpu), time_left_s(job, config, run.since_ns)
            rank = run.rank
            answer = await run.qpu.call("run", args, deadline_s=left_s, light=run.express, rank=rank)
            lanes.pace.learn(job.estimate, (clock.now_ns() - run.since_ns) / 1e9)
            outcome = Outcome(JobEvent.SUCCEEDED, answer=answer)
    except QedgeError as failure:
        outcome = Outcome(*judge(job, failure, clock.now_ns(), config.max_attempts))
    except asyncio.CancelledError:
        if not job.cancel_wanted:
            raise  # the daemon stops; the row says `running`, so the next daemon takes the job up
    finally:
        job.ending = True
        lanes.ended(job)  # others need not wait for a slow disk
        if noted is not None:
            await noted.settle()
    if outcome.event is JobEvent.RUNNER_DIED and job.cancel_wanted:
        return Outcome(JobEvent.CANCELLED, cancelled())
    return outcome
