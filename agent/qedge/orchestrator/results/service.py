"""Runs some jobs of other nodes a second time, and gives no more work to a node whose results are false.

What a true result always satisfies is checked when it comes (`witness`); a second run is made afterwards, when the
client has its answer. Where two runs differ a third decides; where there is no third node, this node believes itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.engine import ledger
from qedge.engine.changes import Changes
from qedge.engine.ledger_row import Stored
from qedge.engine.model import FINAL_STATES
from qedge.engine.ports import PARTS, PeerNode
from qedge.orchestrator.results.comparing import Likeness, compare
from qedge.orchestrator.results.config import ResultsConfig
from qedge.orchestrator.results.standing import confirmed, convicted, pardoned, share, suspected
from qedge.store.store import Store
from qedge.wire.jobs import JobResult, JobState, JobSubmission, JobView
from qedge.wire.standing import Standing

CLIENT: Final = "check"
"""Who second runs are made for; they are not checked themselves."""
_LOG: Final = get_logger("engine")
_TICK_S: Final = 0.25
_SAVE_S: Final = 5.0
_AT_ONCE: Final = 4
_WAITING: Final = 256
_LIMIT_S: Final = 60.0
_DECODE: Final = msgspec.msgpack.Decoder(Standing).decode
_ENCODE: Final = msgspec.msgpack.Encoder().encode


class Jobs(Protocol):
    """The job service of this node."""

    async def submit(self, submission: JobSubmission, client: str) -> JobView:
        """Accept a job."""
        ...

    async def job(self, job_id: str) -> JobView:
        """Return a job with its result."""
        ...

    async def wait(self, job_id: str, timeout_s: float) -> JobView:
        """Return a job once it has ended, or as it is after a time."""
        ...

    @property
    def changes(self) -> Changes:
        """What tells of changes."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the checks must know: other nodes, whether this one has a QPU, and whether it has something else to do."""

    node: str
    nodes: Callable[[], tuple[PeerNode, ...]]
    has_qpu: Callable[[], bool]
    is_busy: Callable[[], bool]
    uniform: Callable[[], float]


class SpotChecks:
    """Keeps the standing of every node whose results came here."""

    name = "spot-checks"

    def __init__(
        self,
        config: ResultsConfig,
        jobs: Jobs,
        store: Store,
        around: Surroundings,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._jobs = jobs
        self._store = store
        self._around = around
        self._clock = clock
        self._metrics = metrics
        self._standings: dict[str, Standing] = {}
        self._unsaved: set[str] = set()
        self._barred: frozenset[str] = frozenset()
        self._chosen: deque[tuple[str, str]] = deque(maxlen=_WAITING)
        self._idle: deque[tuple[str, str]] = deque(maxlen=_WAITING)
        self._work = asyncio.Event()

    @property
    def barred(self) -> frozenset[str]:
        """Nodes that get no jobs from here."""
        return self._barred

    def standings(self) -> tuple[Standing, ...]:
        """Return what is known of every node, by name."""
        return tuple(self._standings[node] for node in sorted(self._standings))

    def convict(self, node: str, job_id: str, why: str) -> None:
        """Note that a result of `node` was false."""
        self._note(convicted(self._standing(node), self._clock.utc_ns(), why))
        self._metrics.add("qedge_results_checked_total", ("false",))
        _LOG.error("node.barred", peer=node, job=job_id, why=why)

    def pardon(self, node: str) -> Standing:
        """Give a node jobs again; raises `job.no_node` where nothing is known of it."""
        if node not in self._standings:
            raise QedgeError("job.no_node", f"No result of {node!r} ever came here.", fix="`qedge standing` lists all.")
        self._note(pardoned(self._standings[node]))
        _LOG.warning("node.pardoned", peer=node)
        return self._standings[node]

    async def run(self, ready: Ready) -> None:
        """Look at what ends, until cancelled."""
        await self._load()
        ready()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._save_now_and_then())
            for _ in range(_AT_ONCE):
                group.create_task(self._check_one_by_one())
            with self._jobs.changes.heard_by(self._hear_change):
                await asyncio.Event().wait()

    # What is to be checked

    def _hear_change(self, view: JobView) -> None:
        runner = view.node
        away = runner not in ("", self._around.node, PARTS)
        if view.state is not JobState.DONE or not away or view.client == CLIENT or runner in self._barred:
            return
        if view.estimate is None or view.estimate.time_s > self._config.check_longest_s:
            self._metrics.add("qedge_results_checked_total", ("unchecked",))
        elif self._around.uniform() < share(self._standing(runner), self._config.check_share):
            self._chosen.append((view.id, runner))
            self._work.set()
        elif self._config.check_idle:
            self._idle.append((view.id, runner))
            if len(self._idle) == 1:
                self._work.set()  # from now on it looks now and then

    def _next(self) -> tuple[str, str] | None:
        if self._chosen:
            return self._chosen.popleft()
        return self._idle.popleft() if self._idle and not self._around.is_busy() else None

    async def _check_one_by_one(self) -> None:
        while True:
            found = self._next()
            if found is None:
                self._work.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_S if self._idle else _SAVE_S):
                        await self._work.wait()
            elif found[1] not in self._barred:
                try:
                    await self._check(*found)
                except QedgeError as error:
                    _LOG.debug("job.refused", code=error.code, client=CLIENT)

    # One check

    async def _check(self, job_id: str, runner: str) -> None:
        checkers = self._checkers(runner)
        found = None
        if checkers:
            found = await self._store.read(lambda connection: ledger.ended_result(connection, job_id))
        first = await asyncio.to_thread(ledger.read_result, found[1]) if found is not None else None
        if found is None or first is None or not _can_be_repeated(first):
            self._metrics.add("qedge_results_checked_total", ("unchecked",))
            return
        row = found[0]
        for checker in checkers:
            second = await self._run_again(row, first, checker)
            likeness = Likeness.UNKNOWN if second is None else await asyncio.to_thread(compare, first, second)
            if second is not None and likeness is not Likeness.UNKNOWN:
                await self._judge(row, first, second, likeness, runner, checker)
                return
        self._metrics.add("qedge_results_checked_total", ("unchecked",))

    def _checkers(self, *but: str) -> list[str]:
        """Return who could run a job again, in the order to be asked: this node first, others by chance."""
        around = self._around
        others = [each.name for each in around.nodes() if each.alive and each.has_qpu and each.name not in self._barred]
        others.sort(key=lambda _: around.uniform())
        return [name for name in [*([around.node] if around.has_qpu() else []), *others] if name not in but]

    async def _judge(
        self, row: Stored, first: JobResult, second: JobResult, likeness: Likeness, runner: str, checker: str
    ) -> None:
        if likeness is not Likeness.DIFFERENT:
            odd = likeness is Likeness.ALIKE and _is_repeatable(first, second)
            self._note(confirmed(self._standing(runner), same=not odd))
            self._metrics.add("qedge_results_checked_total", (likeness.value,))
            return
        for third in self._checkers(runner, checker):
            result = await self._run_again(row, first, third)
            if result is None:
                continue
            with_runner, with_checker = compare(first, result), compare(second, result)
            if with_runner is Likeness.DIFFERENT and with_checker in (Likeness.SAME, Likeness.ALIKE):
                self.convict(runner, row.id, f"{checker} and {third} agree on another result of job {row.id}")
                return
            if with_checker is Likeness.DIFFERENT and with_runner in (Likeness.SAME, Likeness.ALIKE):
                self._note(confirmed(self._standing(runner), same=True))
                self.convict(checker, row.id, f"{runner} and {third} agree on another result of job {row.id}")
                return
        if checker == self._around.node:
            self.convict(runner, row.id, f"this node itself has another result of job {row.id}")
            return
        self._note(suspected(self._standing(runner)))
        self._metrics.add("qedge_results_checked_total", ("contradicted",))
        _LOG.warning("result.contradicted", job=row.id, peer=runner, other=checker)

    async def _run_again(self, row: Stored, first: JobResult, where: str) -> JobResult | None:
        """Run a job on another node with the same seed; None where that cannot be."""
        again = msgspec.structs.replace(
            row.submission,
            node="" if where == self._around.node else where,
            seed=first.seed,
            qpu="",
            client_key="",
            tags=("check", row.id),
            priority=0,
            deadline_s=_LIMIT_S,
            fresh=True,
            parts=0,
        )
        try:
            view = await self._jobs.submit(again, CLIENT)
            if view.state not in FINAL_STATES:
                view = await self._jobs.wait(view.id, _LIMIT_S)
            result = (await self._jobs.job(view.id)).result
        except QedgeError:
            return None
        if result is None or not _can_be_repeated(result):
            return None
        same_method = result.metadata.get("method") == first.metadata.get("method")
        return (
            result
            if same_method or "mps" not in (first.metadata.get("method"), result.metadata.get("method"))
            else None
        )

    # What is known

    def _standing(self, node: str) -> Standing:
        return self._standings.get(node) or Standing(node)

    def _note(self, standing: Standing) -> None:
        self._standings[standing.node] = standing
        self._unsaved.add(standing.node)
        barred = frozenset(each.node for each in self._standings.values() if each.barred_utc_ns)
        if barred != self._barred:
            self._barred = barred
            self._metrics.set("qedge_nodes_barred", len(barred))
            self._work.set()

    async def _load(self) -> None:
        def query(connection: sqlite3.Connection) -> list[bytes]:
            return [bytes(row[0]) for row in connection.execute("SELECT record FROM standings")]

        for record in await self._store.read(query):
            self._note(_DECODE(record))
        self._unsaved.clear()

    async def _save_now_and_then(self) -> None:
        """Write down what changed; a verdict at once, and what is left when the daemon ends."""
        try:
            while True:
                barred = self._barred
                for _ in range(round(_SAVE_S / _TICK_S)):
                    await asyncio.sleep(_TICK_S)
                    if self._barred != barred:
                        break
                await self._save_all()
        finally:
            await self._save_all()

    async def _save_all(self) -> None:
        nodes, self._unsaved = self._unsaved, set()
        if not nodes:
            return
        try:
            await self._store.write(partial(_save, rows=[(node, _ENCODE(self._standings[node])) for node in nodes]))
        except BaseException as error:
            self._unsaved |= nodes  # with the next change, or a moment later: no verdict is forgotten
            if not isinstance(error, QedgeError):  # the store said so already
                raise


def _save(connection: sqlite3.Connection, rows: list[tuple[str, bytes]]) -> None:
    connection.executemany(
        "INSERT INTO standings (node, record) VALUES (?, ?) ON CONFLICT (node) DO UPDATE SET record = excluded.record",
        rows,
    )


def _can_be_repeated(result: JobResult) -> bool:
    """Say whether a run elsewhere should give the like: noise is different everywhere."""
    return result.metadata.get("simulated") is True and result.metadata.get("noisy") is not True


def _is_repeatable(one: JobResult, other: JobResult) -> bool:
    """Say whether two runs should be equal to the letter."""
    names = ("driver", "method", "version")
    return one.seed == other.seed and all(one.metadata.get(name) == other.metadata.get(name) for name in names)
