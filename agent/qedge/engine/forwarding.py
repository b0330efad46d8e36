"""Jobs that run on another node: this node accepts them, gives them away, and answers for them until they end.

*Accepted* means the same as for any other job: it is in the database of the node that answered with an id. The runner
keeps it in its own database under the origin's id, so that an offer that is repeated runs once; it sends the outcome,
and the origin asks now and then in case that was lost. The first end that the origin writes counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes, uuid7
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.engine import ledger
from qedge.engine.changes import Changes
from qedge.engine.config import EngineConfig
from qedge.engine.errand import NO_ESTIMATE, Errand, errand_of
from qedge.engine.ledger_row import new_job
from qedge.engine.model import Job, cancelled, expired
from qedge.engine.ports import ANY, PeerNode, Peers
from qedge.store.store import Store
from qedge.wire.jobs import (
    JobAsk,
    JobEstimate,
    JobHeard,
    JobNews,
    JobOffer,
    JobState,
    JobStop,
    JobSubmission,
    JobTidings,
    JobView,
)
from qedge.wire.problem import error_of, problem_of

_LOG: Final = get_logger("engine")
_TICK_S: Final = 0.25
_ASK_S: Final = 3.0
_OFFER_LIMIT_S: Final = 15.0
_ASK_LIMIT_S: Final = 10.0
_STOP_LIMIT_S: Final = 5.0
_SHUN_S: Final = 5.0
_WRITE_RETRY_S: Final = 0.5
_MAX_ASKED: Final = 256
_AWAY: Final = ("peer.", "bus.", "session.")
_BUSY: Final = frozenset(
    {
        "job.queue_full",
        "job.quota_exceeded",
        "job.no_qpu",
        "internal.stopping",
        "store.disk_full",
        "worker.unavailable",
        "job.shed",
        "job.deadline_unreachable",
    }
)


class ForwardService:
    """Gives jobs away and sees them to their end."""

    name = "forwarding"

    def __init__(
        self,
        config: EngineConfig,
        store: Store,
        peers: Peers,
        changes: Changes,
        *,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
    ) -> None:
        self._config = config
        self._store = store
        self._peers = peers
        self._changes = changes
        self._clock = clock
        self._metrics = metrics
        self._random_bytes = random_bytes
        self._errands: dict[str, Errand] = {}
        self._ended: Counter[JobState] = Counter()
        self._shunned: dict[str, int] = {}
        self._orphans: list[tuple[str, str]] = []
        self._work = asyncio.Event()
        self._loaded = False
        self._turn = 0
        self.placer: Callable[[Job, frozenset[str]], str] | None = None
        self._group: asyncio.TaskGroup | None = None
        peers.serve(JobNews, self._hear)
        peers.on_change(self._work.set)

    def totals(self) -> Mapping[JobState, int]:
        """Count the jobs by state: those that are away, and those that ended since this daemon started."""
        return self._ended + Counter(errand.job.state for errand in self._errands.values())

    def knows(self, job_id: str) -> JobView | None:
        """Return a job that is away, as it is now."""
        errand = self._errands.get(job_id)
        return errand.view if errand is not None else None

    def place(self, job: Job) -> str:
        """Return a node for a job that may run anywhere, or nothing where none can run it now."""
        if self.placer is not None:
            return self.placer(job, frozenset(node.name for node in self._peers.nodes() if self._is_shunned(node)))
        able = [node.name for node in self._peers.nodes() if node.alive and node.has_qpu and not self._is_shunned(node)]
        load = Counter(errand.runner for errand in self._errands.values())
        self._turn += 1
        best = [name for name in able if load[name] == min(load[each] for each in able)]
        return best[self._turn % len(best)] if best else ""

    def check_node(self, wanted: str) -> None:
        """Raise `job.no_node` for a name that nobody in the fleet has."""
        names = sorted(node.name for node in self._peers.nodes())
        if wanted != ANY and wanted not in names:
            raise QedgeError(
                "job.no_node",
                f"No node of the fleet is named {wanted!r}.",
                fix=f"Known: {', '.join(names[:20]) or 'nobody but this node'}. `qedge peers` shows them.",
            )

    async def submit(self, submission: JobSubmission, client: str, *, estimate: JobEstimate | None = None) -> str:
        """Accept a job for another node and return its id; raises `job.no_node`, `job.conflict`, `job.queue_full`."""
        if not self._loaded:
            raise QedgeError("internal.stopping", "The job service is starting or stopping.", fix="Try again soon.")
        if submission.client_key:
            known = await self._store.read(lambda connection: ledger.find_by_key(connection, client, submission))
            if known:
                return known
        self.check_node(submission.node)
        self._check_room(submission)
        utc_ns, now_ns = self._clock.utc_ns(), self._clock.now_ns()
        seed = submission.seed if submission.seed is not None else int.from_bytes(self._random_bytes(4), "big")
        job_id = uuid7(utc_ns, self._random_bytes)
        job = new_job(job_id, submission, client, estimate or NO_ESTIMATE, seed, now_ns, utc_ns)
        # the first runner is written down with the job itself: one transaction less before the job can start
        runner = submission.node if submission.node != ANY else self.place(job)
        job.attempts = 1 if runner else 0
        accepted = await self._store.write(lambda connection: ledger.insert(connection, job, runner))
        if accepted == job.id:
            # What was accepted has its seed, so that another runner would give the same counts.
            job.submission = msgspec.structs.replace(submission, seed=seed)
            errand = self._errands[job.id] = Errand(job, submission.node, runner, waits_since_ns=now_ns)
            self._changes.publish(errand.view)
            self._begin(errand)  # at once: to wake the loop of `run` first takes longer
            self._work.set()
        return accepted

    async def cancel(self, job_id: str) -> None:
        """Ask the runner to stop; the job ends as cancelled unless it has ended before."""
        errand = self._errands.get(job_id)
        if errand is not None:
            errand.job.cancel_wanted = True
            self._work.set()
            await self._changes.wait_end(job_id, 10.0)

    async def run(self, ready: Ready) -> None:
        """Take up what an earlier daemon had given away, then see to all until cancelled."""
        await self._take_up()
        self._loaded = True
        ready()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._ask_now_and_then())
                while True:
                    self._work.clear()
                    for errand in list(self._errands.values()):
                        self._begin(errand)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_TICK_S if self._errands else 5.0):
                            await self._work.wait()
        finally:
            self._loaded = False
            self._group = None

    async def _take_up(self) -> None:
        self._errands.clear()
        now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
        for row in await self._store.read(lambda connection: ledger.unended(connection, elsewhere=True)):
            if not row.runner.startswith("/"):  # jobs in parts are not on one node
                self._errands[row.id] = errand_of(row, now_ns, utc_ns)

    def _begin(self, errand: Errand) -> None:
        if not errand.busy and self._group is not None:
            errand.busy = True
            self._group.create_task(self._advance(errand))

    async def _advance(self, errand: Errand) -> None:
        """Do what is due for one job; called again and again, one at a time for each."""
        try:
            if errand.ended:
                return
            now_ns = self._clock.now_ns()
            if errand.job.cancel_wanted:
                await self._give_up(errand, JobState.CANCELLED, cancelled())
            elif errand.job.deadline_ns and now_ns >= errand.job.deadline_ns:
                await self._give_up(errand, JobState.EXPIRED, expired())
            elif not errand.runner:
                await self._assign(errand)
            elif not errand.taken:
                await self._offer(errand)
            else:
                await self._look_after(errand)
        except QedgeError as error:
            _LOG.debug("job.refused", code=error.code, client=errand.job.client)
        finally:
            errand.busy = False

    async def _assign(self, errand: Errand) -> None:
        runner = errand.wanted if errand.wanted != ANY else self.place(errand.job)
        if not runner:
            if self._clock.now_ns() - errand.waits_since_ns > self._config.no_qpu_limit_s * 1e9:
                error = errand.last_refusal or QedgeError(
                    "job.no_qpu", "No node of the fleet could run the job in time.", fix="`qedge peers` shows them."
                )
                await self._end(errand, JobState.FAILED, error=error)
            return
        attempts = errand.job.attempts + 1
        await self._store.write(lambda connection: ledger.assign(connection, errand.job.id, runner, attempts))
        errand.runner, errand.job.attempts, errand.silent_ns = runner, attempts, 0
        await self._offer(errand)

    async def _offer(self, errand: Errand) -> None:
        """Offer the job to its runner; the same offer twice is one job there."""
        bare = msgspec.structs.replace(errand.job.submission, node="", client_key=errand.job.id)
        runner = errand.runner
        # an offer that is on its way when the network fails may still arrive after it
        errand.offered = errand.offered or any(node.alive for node in self._peers.nodes() if node.name == runner)
        try:
            news = await self._peers.call(runner, JobOffer(errand.job.id, bare), JobNews, deadline_s=_OFFER_LIMIT_S)
        except QedgeError as error:
            if errand.runner == runner and not errand.ended:
                await self._refused(errand, error)
            return
        if errand.runner == runner and not errand.ended and news.job is not None:
            errand.taken, errand.silent_ns = True, 0
            self._metrics.add("qedge_jobs_forwarded_total", ("taken",))
            _LOG.debug("job.forwarded", job=errand.job.id, peer=runner)
            await self._learn(errand, news.job)

    async def _refused(self, errand: Errand, error: QedgeError) -> None:
        if error.code.startswith(_AWAY):
            await self._runner_is_away(errand, error)
        elif error.code in _BUSY:
            errand.last_refusal = error
            if errand.wanted == ANY:
                self._shunned[errand.runner] = self._clock.now_ns() + round(_SHUN_S * 1e9)
                errand.forget_runner()
            elif self._clock.now_ns() - errand.waits_since_ns > self._config.runner_lost_s * 1e9:
                await self._end(errand, JobState.FAILED, error=error)
        else:
            self._metrics.add("qedge_jobs_forwarded_total", ("refused",))
            await self._end(errand, JobState.FAILED, error=error)

    async def _look_after(self, errand: Errand) -> None:
        if not any(node.alive for node in self._peers.nodes() if node.name == errand.runner):
            gone = QedgeError("peer.unreachable", f"{errand.runner} shows no sign of life.")
            await self._runner_is_away(errand, gone)
        else:
            errand.silent_ns = 0

    async def _runner_is_away(self, errand: Errand, error: QedgeError) -> None:
        """Wait for the runner, which has the job in its database; after its time is over, move the job or fail it."""
        now_ns = self._clock.now_ns()
        errand.silent_ns = errand.silent_ns or now_ns
        away_s = (now_ns - errand.silent_ns) / 1e9
        if errand.wanted != ANY:
            if away_s > self._config.runner_lost_s:
                lost = QedgeError(
                    "job.runner_lost",
                    f"{errand.runner} has been gone for {away_s:.0f} s ({error.message}).",
                    fix="Submit the job to another node, or to any.",
                )
                await self._end(errand, JobState.FAILED, error=lost)
        elif away_s > (self._config.rerun_after_s if errand.offered else min(1.0, self._config.rerun_after_s)):
            _LOG.warning("job.moved", job=errand.job.id, peer=errand.runner, away_s=round(away_s, 1))
            self._metrics.add("qedge_jobs_forwarded_total", ("moved",))
            self._orphans.append((errand.runner, errand.job.id))
            self._shunned[errand.runner] = now_ns + round(_SHUN_S * 1e9)
            errand.forget_runner()

    async def _give_up(self, errand: Errand, state: JobState, error: QedgeError) -> None:
        if errand.runner:
            self._orphans.append((errand.runner, errand.job.id))
        await self._end(errand, state, error=error)

    async def _learn(self, errand: Errand, view: JobView) -> None:
        """Take what the runner says of the job."""
        errand.job.qpu, errand.job.started_utc_ns = view.qpu, view.started_utc_ns
        if view.estimate is not None:
            errand.job.estimate = view.estimate
        if view.state in (JobState.QUEUED, JobState.RUNNING):
            if view.state is not errand.job.state:
                errand.job.state = view.state
                self._changes.publish(errand.view)
        elif view.state is JobState.DONE and view.result is None:
            self._work.set()  # the result comes with the answer to the next question
        else:
            error = error_of(view.error) if view.error is not None else None
            await self._end(errand, view.state, error=error, view=view)

    async def _end(
        self, errand: Errand, state: JobState, *, error: QedgeError | None = None, view: JobView | None = None
    ) -> None:
        """Write the end down once; where the disk is full, try until it is written."""
        if errand.ended:
            return
        errand.ended = True
        result = view.result if view is not None else None
        utc_ns = self._clock.utc_ns()
        while True:
            try:
                await self._store.write(
                    lambda connection: ledger.end(connection, errand.job, state, utc_ns, result, error),
                    accepted=True,
                )
                break
            except QedgeError:
                await asyncio.sleep(_WRITE_RETRY_S)
            except asyncio.CancelledError:
                # who brought the news is gone: the next question brings it again, and writing an end twice is once
                errand.ended = False
                raise
        self._errands.pop(errand.job.id, None)
        errand.job.state = state
        self._ended[state] += 1
        self._metrics.add("qedge_jobs_ended_total", (state.value,))
        _LOG.debug("job.ended", job=errand.job.id, state=state.value, code=error.code if error else "")
        problem = problem_of(error) if error is not None else None
        ended = msgspec.structs.replace(errand.view, ended_utc_ns=utc_ns, result=result, error=problem)
        self._changes.ended(ended)

    # News

    async def _hear(self, peer: str, news: JobNews) -> JobHeard:
        """Take the outcome of a job from its runner; from anybody else it has no effect."""
        errand = self._errands.get(news.id)
        if errand is None or errand.runner != peer:
            raise QedgeError("job.not_found", "No such job was given to this node.")
        if news.job is not None:
            errand.taken, errand.silent_ns = True, 0
            await self._learn(errand, news.job)
        return JobHeard()

    async def _ask_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_ASK_S)
            await self._stop_orphans()
            runners: dict[str, list[str]] = {}
            for errand in self._errands.values():
                if errand.taken and len(runners.setdefault(errand.runner, [])) < _MAX_ASKED:
                    runners[errand.runner].append(errand.job.id)
            alive = {node.name for node in self._peers.nodes() if node.alive}
            await asyncio.gather(*(self._ask(runner, ids) for runner, ids in runners.items() if runner in alive))

    async def _ask(self, runner: str, ids: list[str]) -> None:
        try:
            tidings = await self._peers.call(runner, JobAsk(tuple(ids)), JobTidings, deadline_s=_ASK_LIMIT_S)
        except QedgeError:
            return  # its absence is noticed elsewhere
        for news in tidings.news:
            errand = self._errands.get(news.id)
            if errand is None or errand.runner != runner or errand.ended:
                continue
            errand.silent_ns = 0
            if news.job is None:
                errand.taken = False  # its database was lost: offer the job again
                self._work.set()
            else:
                await self._learn(errand, news.job)

    async def _stop_orphans(self) -> None:
        """Tell runners that came back, or are still there, that nobody waits for their jobs any more."""
        alive = {node.name for node in self._peers.nodes() if node.alive}
        for orphan in [each for each in self._orphans if each[0] in alive]:
            with contextlib.suppress(QedgeError):
                await self._peers.call(orphan[0], JobStop(orphan[1]), JobHeard, deadline_s=_STOP_LIMIT_S)
                self._orphans.remove(orphan)

    def _is_shunned(self, node: PeerNode) -> bool:
        return self._shunned.get(node.name, 0) > self._clock.now_ns()

    def _check_room(self, submission: JobSubmission) -> None:
        if len(self._errands) >= self._config.queue_limit:
            raise QedgeError("job.queue_full", f"{len(self._errands)} jobs are away already.", fix="Try again later.")
        if not 1 <= submission.shots <= self._config.max_shots:
            code = "job.bad_shots" if submission.shots < 1 else "job.too_many_shots"
            raise QedgeError(code, f"{submission.shots} shots are out of range.", limit=self._config.max_shots)
