"""A node that stands in for the real one in tests and while the page is being designed; nothing in it is measured."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes, uuid7
from qedge.web.fake_configuration import FakeConfiguration
from qedge.web.fake_decoder import FakeDecoder
from qedge.web.fake_devices import FakeDevices
from qedge.web.fake_fleet import FakeFleet
from qedge.web.fake_host import DRIVERS, HOST, SERVICES
from qedge.web.fake_keys import fake_keys
from qedge.web.fake_mesh import QPUS, fake_peers
from qedge.web.fake_orders import FakeOrders
from qedge.web.fake_policy import FakePolicy
from qedge.web.fake_results import FakeResults
from qedge.web.fake_security import FakeSecurity
from qedge.web.fake_segments import FakeSegments
from qedge.web.fake_state import FakeState
from qedge.web.ports import DecodeLink, Pulse
from qedge.wire.assessment import Assessment
from qedge.wire.device import DeviceOperation, DeviceSite, DeviceView
from qedge.wire.jobs import JobEstimate, JobList, JobResult, JobState, JobSubmission, JobView, Register, TemplateView
from qedge.wire.mesh import PeerList, PeerState, PeerView
from qedge.wire.node import (
    BusView,
    DrainChange,
    DrainView,
    DriverChange,
    DriverView,
    EntropyView,
    GatewayView,
    LinkMeasure,
    LinkView,
    NodeStatus,
    PingRequest,
    PingView,
    RandomRequest,
    RandomView,
)
from qedge.wire.problem import problem_of
from qedge.wire.telemetry import TelemetryView

_RUN_NS = 900_000
_ENDED = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})


class FakeNode:
    """A `NodePort` whose jobs end when the test says so (`finish`), or at once with `instant`."""

    def __init__(self, clock: Clock, random_bytes: RandomBytes, *, instant: bool = True) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._instant = instant
        self.fleet = FakeFleet()
        self.drained = False
        self.telemetry_view = TelemetryView(enabled=False)
        self.decoder = FakeDecoder()
        self.segments = FakeSegments()
        self.kept_saes: list[str] = []
        self.security = FakeSecurity(clock)
        self.state = FakeState(clock)
        self.orders = FakeOrders()
        self.keys = fake_keys(clock, random_bytes, self.kept_saes)
        self.devices = FakeDevices(clock)
        self.policy = FakePolicy()
        self.results = FakeResults()
        self.configuration = FakeConfiguration()
        self._booted_ns = clock.now_ns()
        self._jobs: dict[str, JobView] = {}
        self._changed = asyncio.Event()
        self._followers: list[asyncio.Queue[JobView]] = []
        self.missing: tuple[str, ...] = ()
        self.pulse_age_s = 0.1
        self.entropy_healthy = True
        self.submissions: list[JobSubmission] = []
        self._templates: dict[str, TemplateView] = {}
        self._drivers = {view.name: view for view in DRIVERS}
        self._links = {view.name: view for view in _LINKS}
        self.eve = False
        self.gateway: GatewayView | None = None
        self.others: tuple[PeerView, ...] = fake_peers(1, clock.utc_ns())

    def status(self) -> NodeStatus:
        """Describe the node as its fields say."""
        states = [job.state for job in self._jobs.values()]
        return NodeStatus(
            node="box-1",
            fleet=self.fleet.view.fleet,
            version="0.1.0",
            standalone=self.fleet.view.standalone,
            boot_id="00000000-0000-4000-8000-000000000000",
            uptime_s=(self._clock.now_ns() - self._booted_ns) / 1e9,
            utc_ns=self._clock.utc_ns(),
            ready=not self.missing,
            services=SERVICES,
            drivers=self.drivers(),
            bus=BusView(connected=True, broker="127.0.0.1:40011", kind="mosquitto"),
            entropy=EntropyView(
                source="rng",
                healthy=self.entropy_healthy,
                simulated=True,
                reason="" if self.entropy_healthy else "repetition count test",
                raw_bits=1_048_576,
                failures=0 if self.entropy_healthy else 3,
            ),
            host=HOST,
            links=self.links(),
            jobs_queued=states.count(JobState.QUEUED),
            jobs_running=states.count(JobState.RUNNING),
            jobs_done=states.count(JobState.DONE),
            jobs_failed=states.count(JobState.FAILED),
            not_ready=self.missing,
            gateway=self.gateway,
        )

    def pulses(self) -> tuple[Pulse, ...]:
        """Return one pulse of age `pulse_age_s`."""
        return (Pulse("message pump", self.pulse_age_s, 10.0),)

    async def submit(self, submission: JobSubmission, client: str) -> JobView:
        """Accept anything but a program that says `bad`."""
        if "bad" in submission.program:
            raise QedgeError("circuit.syntax", "Expected a statement.", fix="See line 1.", line=1, column=1)
        self.submissions.append(submission)
        job_id = uuid7(self._clock.utc_ns(), self._random_bytes)
        job = JobView(
            id=job_id,
            state=JobState.QUEUED,
            shots=submission.shots,
            submitted_utc_ns=self._clock.utc_ns(),
            client=client,
            qpu="qpu",
            priority=submission.priority,
            tags=submission.tags,
            estimate=JobEstimate(2, 2, 3, submission.shots, 4096, 0.001, 64, "state vector"),
        )
        self._set(job)
        if self._instant:
            self.finish(job_id)
        return job

    def finish(self, job_id: str, counts: dict[str, int] | None = None) -> None:
        """End a job with `counts`, by default half 00 and half 11."""
        job = self._jobs[job_id]
        half = job.shots // 2
        result = JobResult(
            counts=counts if counts is not None else {"00": job.shots - half, "11": half},
            shots=job.shots,
            seed=7,
            registers=(Register("c", 2, 0),),
            timings_s={"parse": 0.0002, "queue": 0.0001, "run": 0.0009},
            metadata={"method": "state vector", "driver": "qpu", "simulated": True},
        )
        now_ns = self._clock.utc_ns()
        self._set(
            msgspec.structs.replace(
                job,
                state=JobState.DONE,
                result=result,
                started_utc_ns=now_ns - _RUN_NS,
                ended_utc_ns=now_ns,
                attempts=1,
            )
        )

    def start(self, job_id: str, node: str = "") -> None:
        """Let a job run, here or on another node."""
        job = self._jobs[job_id]
        now_ns = self._clock.utc_ns()
        self._set(msgspec.structs.replace(job, state=JobState.RUNNING, node=node, started_utc_ns=now_ns, attempts=1))

    def fail(self, job_id: str, error: QedgeError) -> None:
        """End a job with an error."""
        job = self._jobs[job_id]
        self._set(
            msgspec.structs.replace(
                job, state=JobState.FAILED, error=problem_of(error), ended_utc_ns=self._clock.utc_ns(), attempts=2
            )
        )

    async def add_template(self, program: str, _client: str) -> TemplateView:
        """Keep any program."""
        view = TemplateView(hashlib.sha256(program.encode()).hexdigest(), program)
        self._templates[view.template] = view
        return view

    async def template(self, name: str) -> TemplateView:
        """Return what was kept."""
        if name not in self._templates:
            raise QedgeError("job.no_template", "This node keeps no such template.")
        return self._templates[name]

    async def estimate(self, submission: JobSubmission) -> JobEstimate:
        """Predict the same for every program."""
        return JobEstimate(2, 2, 3, submission.shots, 4096, 0.001, 64, "state vector")

    async def job(self, job_id: str) -> JobView:
        """Return a job."""
        if job_id not in self._jobs:
            raise QedgeError("job.not_found", "No job has this id on this node.")
        return self._jobs[job_id]

    async def wait_job(self, job_id: str, timeout_s: float) -> JobView:
        """Wait for the end of a job."""
        try:
            async with asyncio.timeout(timeout_s):
                while (await self.job(job_id)).state not in _ENDED:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        return await self.job(job_id)

    async def jobs(self, limit: int) -> JobList:
        """List jobs, newest first, without results."""
        newest = list(self._jobs.values())[::-1][:limit]
        return JobList(tuple(msgspec.structs.replace(job, result=None) for job in newest))

    async def cancel(self, job_id: str) -> JobView:
        """Cancel a job that has not ended."""
        job = await self.job(job_id)
        if job.state in _ENDED:
            raise QedgeError("job.already_ended", "The job has ended.")
        self._set(msgspec.structs.replace(job, state=JobState.CANCELLED))
        return await self.job(job_id)

    async def random(self, request: RandomRequest) -> RandomView:
        """Draw from the given random bytes."""
        if not 1 <= request.bytes <= 65_536:
            raise QedgeError("entropy.bad_length", "Ask for 1 … 65,536 bytes.")
        if request.require_quantum and not self.entropy_healthy:
            raise QedgeError("entropy.no_quantum", "The quantum source failed its health tests.")
        return RandomView(self._random_bytes(request.bytes).hex(), self.entropy_healthy, simulated=True, source="rng")

    def drivers(self) -> tuple[DriverView, ...]:
        """Return the drivers."""
        return tuple(self._drivers.values())

    async def change_driver(self, name: str, change: DriverChange) -> DriverView:
        """Take over the lock and the settings."""
        view = self._drivers.get(name)
        if view is None:
            raise QedgeError("driver.not_found", f"No driver is called {name}.")
        self.eve = bool(change.settings.get("eve_fraction", self.eve))
        changed = msgspec.structs.replace(
            view,
            admin_state=change.admin_state or view.admin_state,
            properties={**view.properties, **change.settings},
        )
        self._drivers[name] = changed
        return changed

    async def assess(self, name: str) -> Assessment:
        """Make up an assessment."""
        if name not in self._drivers:
            raise QedgeError("driver.not_found", f"No driver is called {name}.")
        return Assessment(name, 1, 2.5, 7, "0", "fake", 0.1, simulated=True, log2_volume=5, volume_limit=10)

    async def device(self, name: str) -> DeviceView:
        """Make up a device of two qubits."""
        if name not in self._drivers:
            raise QedgeError("driver.not_found", f"No driver is called {name}.")
        operations = (DeviceOperation("cz", 2, fidelity=0.995), DeviceOperation("rz", 1, 1, fidelity=1.0))
        sites = (DeviceSite(0, "QB1", 42.0, 21.0, 0.01), DeviceSite(1, "QB2", 40.0, 20.0, 0.02))
        return DeviceView(name, 2, "idle", ("flat",), 3, 1000, 0.0, ((0, 1),), operations, sites)

    def set_link(self, view: LinkView) -> None:
        """Put a link in the place of the one of its name, or beside the others."""
        self._links[view.name] = view

    def links(self) -> tuple[LinkView, ...]:
        """Return the links."""
        return tuple(self._links.values())

    async def measure_link(self, name: str, request: LinkMeasure) -> LinkView:
        """Report an error rate of 1 %, or 25 % with the eavesdropper."""
        view = self._links.get(name)
        if view is None:
            raise QedgeError("http.not_found", f"No link is called {name}.")
        errors = round(request.sifted * (0.25 if self.eve else 0.01))
        verdict = "error rate too high: someone listens, or the link is broken" if self.eve else "usable"
        measured = msgspec.structs.replace(
            view, sifted=request.sifted, errors=errors, qber=errors / request.sifted, gain=0.004, verdict=verdict
        )
        self._links[name] = measured
        return measured

    def peers(self) -> PeerList:
        """Return this node and the others, by default one with an open session."""
        return PeerList("local", (self.itself(), *self.others))

    def itself(self) -> PeerView:
        """Return this node as its own peer."""
        return PeerView("box-1", PeerState.ALIVE, own=True, version="0.1.0", epoch=1, capabilities=QPUS[:1])

    def telemetry(self) -> TelemetryView:
        """Return what the test has set."""
        return self.telemetry_view

    def drain_view(self) -> DrainView:
        """Describe whether it takes jobs."""
        return DrainView("empty" if self.drained else "open", 0, 0)

    async def drain(self, change: DrainChange) -> DrainView:
        """Be empty at once."""
        self.drained = not change.undo
        return self.drain_view()

    async def ping(self, request: PingRequest) -> PingView:
        """Report one millisecond each time."""
        return PingView(request.node, (1.0,) * request.count)

    def decode(self) -> AbstractAsyncContextManager[DecodeLink]:
        """Offer streams that commit every message as a round."""
        return self.decoder.stream()

    async def job_events(self) -> AsyncIterator[JobView]:
        """Follow job changes."""
        queue: asyncio.Queue[JobView] = asyncio.Queue(1000)
        self._followers.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._followers.remove(queue)

    def _set(self, job: JobView) -> None:
        self._jobs[job.id] = job
        self._changed.set()
        for queue in self._followers:
            if not queue.full():
                queue.put_nowait(job)


_LINKS = (LinkView(name="lab", alice="alice", bob="bob"),)
