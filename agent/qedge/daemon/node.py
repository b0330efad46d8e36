"""The node as HTTP and the mesh see it: one object that answers from the services."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qedge import __version__
from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.bus.service import Bus
from qedge.daemon.fleet_desk import FleetDesk
from qedge.daemon.managed import ManagedNode
from qedge.daemon.shared_state import StateDesk
from qedge.engine.assessment.service import AssessmentService
from qedge.engine.decoding.service import DecodeService
from qedge.engine.service import EngineService
from qedge.entropy.service import EntropyService
from qedge.mesh.birth import NodeIdentity
from qedge.mesh.service import MeshService
from qedge.orchestrator.placement.service import PlacementService
from qedge.orchestrator.service import JobDesk
from qedge.qkd.delivery.office import KeyOffice
from qedge.qkd.ports import Link
from qedge.store.store import Store
from qedge.supervisor import Supervisor
from qedge.web.device_ports import DevicesPort
from qedge.web.ports import DecodeLink, Pulse
from qedge.web.results_ports import ResultsPort
from qedge.wire.assessment import Assessment
from qedge.wire.device import DeviceView
from qedge.wire.jobs import JobEstimate, JobList, JobState, JobSubmission, JobView, TemplateView
from qedge.wire.mesh import PeerList
from qedge.wire.node import (
    DrainChange,
    DrainView,
    DriverChange,
    DriverView,
    GatewayView,
    HostView,
    LinkMeasure,
    LinkView,
    NodeStatus,
    PingRequest,
    PingView,
    RandomRequest,
    RandomView,
)
from qedge.workers.driver_service import DriverService

if TYPE_CHECKING:  # loaded where the node takes devices
    from qedge.devices.segments.office import SegmentOffice
    from qedge.security.desk import SecurityDesk
    from qedge.security.policy.service import PolicyService

MAX_RANDOM_BYTES: Final = 65_536
MAX_PINGS: Final = 10_000
MAX_PING_BYTES: Final = 2**20
MAX_PARALLEL: Final = 16
PUMP_LIMIT_S: Final = 15.0
HOST_LIMIT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class GatewayDesks:
    """What serves the operator's programs where the node takes devices."""

    devices: DevicesPort
    policy: PolicyService
    security: SecurityDesk
    segments: SegmentOffice
    view: Callable[[], GatewayView]


class Node(ManagedNode):
    """Fills `qedge.web.ports.NodePort` from the services of one daemon."""

    def __init__(
        self,
        identity: NodeIdentity,
        *,
        clock: Clock,
        supervisor: Supervisor,
        store: Store,
        engine: EngineService,
        assessment: AssessmentService,
        decoder: DecodeService,
        entropy: EntropyService,
        keys: KeyOffice,
        bus: Bus,
        drivers: Mapping[str, DriverService],
        links: Mapping[str, Link],
    ) -> None:
        super().__init__()
        self._identity = identity
        self._clock = clock
        self._started_ns = clock.now_ns()
        self._supervisor = supervisor
        self._store = store
        self._engine = engine
        self._assessment = assessment
        self._decoder = decoder
        self._entropy = entropy
        self._mesh: MeshService | None = None
        self._fleet: FleetDesk | None = None
        self._gateway: GatewayDesks | None = None
        self._results: ResultsPort | None = None
        self._state: StateDesk | None = None
        self._jobs: JobDesk | None = None
        self._keys = keys
        self._bus = bus
        self._drivers = drivers
        self._links = links
        self.placement: PlacementService | None = None
        """Says where jobs run; the daemon sets it."""

        self.unfit: Callable[[], tuple[str, ...]] = tuple
        """What else keeps the node from being ready; the daemon sets it."""

        self.addresses: Callable[[], tuple[str, str]] = lambda: ("", "")
        """Unix socket path and HTTP address, set once the web service knows them."""

    def attach(self, mesh: MeshService, fleet: FleetDesk, jobs: JobDesk) -> None:
        """Take the mesh, which itself asks the node for its capabilities, and what needs the mesh."""
        self._mesh, self._fleet, self._jobs = mesh, fleet, jobs

    def attach_results(self, results: ResultsPort) -> None:
        """Take what keeps the standing of other nodes, and receipts."""
        self._results = results

    def attach_gateway(self, desks: GatewayDesks) -> None:
        """Take what serves attached devices, where the node takes any."""
        self._gateway = desks

    def attach_state(self, desk: StateDesk) -> None:
        """Take what serves the state that nodes share."""
        self._state = desk

    @property
    def state(self) -> StateDesk:
        """What programs do with the state that nodes share."""
        if self._state is None:
            raise QedgeError("internal.stopping", "The node is starting.", fix="Try again soon.")
        return self._state

    @property
    def keys(self) -> KeyOffice:
        """What the operator's programs do with keys and applications."""
        return self._keys

    @property
    def results(self) -> ResultsPort:
        """What results of other nodes have been worth."""
        if self._results is None:
            raise QedgeError("bus.unavailable", "The node is starting.", fix="Try again soon.")
        return self._results

    @property
    def devices(self) -> DevicesPort:
        """What the operator's programs do with attached devices; raises `device.off`."""
        return self._desks("device.off").devices

    @property
    def policy(self) -> PolicyService:
        """What the operator's programs do with this node's policy; raises `policy.off`."""
        return self._desks("policy.off").policy

    @property
    def security(self) -> SecurityDesk:
        """What the operator's programs do about threats; raises `security.off`."""
        return self._desks("security.off").security

    @property
    def segments(self) -> SegmentOffice:
        """What the operator's programs do with segments of attached devices; raises `segment.off`."""
        return self._desks("segment.off").segments

    async def reload_policy(self) -> None:
        """Read the file of the policy again; one with faults is reported, and the policy stays."""
        if self._gateway is not None:
            with contextlib.suppress(QedgeError):  # which the policy has told
                await self._gateway.policy.reload()

    def _desks(self, code: str) -> GatewayDesks:
        if self._gateway is None:
            raise QedgeError(code, "This node takes no devices.", fix="Set devices.enabled = true and restart it.")
        return self._gateway

    @property
    def fleet(self) -> FleetDesk:
        """What the operator's programs do with this node's place in a fleet."""
        if self._fleet is None:
            raise QedgeError("internal.stopping", "The node is starting.", fix="Try again soon.")
        return self._fleet

    def status(self) -> NodeStatus:
        """Describe the whole node."""
        socket, http = self.addresses()
        missing = self.missing()
        totals = self._engine.totals()
        return NodeStatus(
            node=self._identity.node,
            fleet=self._identity.fleet,
            version=__version__,
            standalone=self._identity.standalone,
            boot_id=self._identity.boot_id,
            uptime_s=(self._clock.now_ns() - self._started_ns) / 1e9,
            utc_ns=self._clock.utc_ns(),
            ready=not missing,
            services=self._supervisor.views(),
            drivers=self.drivers(),
            bus=self._bus.view(),
            entropy=self._entropy.view(),
            host=self._host(),
            links=self.links(),
            jobs_queued=totals[JobState.QUEUED],
            jobs_running=totals[JobState.RUNNING],
            jobs_done=totals[JobState.DONE],
            jobs_failed=totals[JobState.FAILED],
            socket=socket,
            http=http,
            not_ready=missing,
            gateway=self._gateway.view() if self._gateway is not None else None,
            configuration=self._configuration.view() if self._configuration is not None else None,
            sparkplug=self._sparkplug() if self._sparkplug is not None else None,
        )

    def missing(self) -> tuple[str, ...]:
        """Name what keeps this node from being ready."""
        disk = ("room on the disk",) if self._store.disk_full else ()
        host = ("a healthy host",) if self._host().verdict == "critical" else ()
        name = ("a name of its own (another box has this identity)",) if self._mesh and self._mesh.duplicate else ()
        return self._supervisor.not_ready() + disk + host + name + self.unfit()

    def _host(self) -> HostView:
        return self._mesh.host.view() if self._mesh is not None else HostView()

    def pulses(self) -> tuple[Pulse, ...]:
        """Return the signs of life on which readiness depends."""
        now_ns = self._clock.now_ns()
        return (
            Pulse("message pump", (now_ns - self._bus.progress_ns) / 1e9, PUMP_LIMIT_S),
            Pulse("host samples", (now_ns - self._mesh.host.sampled_ns) / 1e9 if self._mesh else -1.0, HOST_LIMIT_S),
        )

    async def submit(self, submission: JobSubmission, client: str) -> JobView:
        """Accept a job; it is in the database when this returns."""
        return await self.desk.submit(submission, client)

    async def add_template(self, program: str, client: str) -> TemplateView:
        """Keep a program that the node can read."""
        return await self._engine.reception.keep(program, client)

    async def template(self, name: str) -> TemplateView:
        """Return a program that the node keeps."""
        return TemplateView(name, await self._engine.reception.templates.program(name))

    async def estimate(self, submission: JobSubmission) -> JobEstimate:
        """Parse and estimate only, and say where it would run."""
        if self.placement is None:
            return await self._engine.estimate(submission)
        return await self.placement.explained(submission)

    async def job(self, job_id: str) -> JobView:
        """Return one job with its result."""
        return await self.desk.job(job_id)

    async def wait_job(self, job_id: str, timeout_s: float) -> JobView:
        """Return the job once it has ended, or as it is after `timeout_s` seconds."""
        return await self.desk.wait(job_id, timeout_s)

    async def jobs(self, limit: int) -> JobList:
        """Return the newest jobs."""
        return JobList(jobs=tuple(await self._engine.jobs(limit)))

    async def cancel(self, job_id: str) -> JobView:
        """Cancel a job."""
        return await self.desk.cancel(job_id)

    @property
    def desk(self) -> JobDesk:
        """Jobs of any node."""
        if self._jobs is None:
            raise QedgeError("internal.stopping", "The node is starting.", fix="Try again soon.")
        return self._jobs

    def drain_view(self) -> DrainView:
        """Describe how far a drain is."""
        return self.desk.drain.view()

    async def drain(self, change: DrainChange) -> DrainView:
        """Give jobs away and take no new ones, or undo that."""
        return await self.desk.drain.change(undo=change.undo)

    def decode(self) -> AbstractAsyncContextManager[DecodeLink]:
        """Take a place for one stream of syndromes."""
        return self._decoder.stream()

    def job_events(self) -> AsyncIterator[JobView]:
        """Follow every job whose state changes."""
        return self._engine.changes.follow()

    async def random(self, request: RandomRequest) -> RandomView:
        """Draw from the pool."""
        if not 1 <= request.bytes <= MAX_RANDOM_BYTES:
            raise QedgeError(
                "entropy.bad_length",
                f"Ask for 1 to {MAX_RANDOM_BYTES} bytes at a time, not {request.bytes}.",
                fix="Draw several times for more.",
                limit=MAX_RANDOM_BYTES,
            )
        output = self._entropy.get(request.bytes, require_quantum=request.require_quantum)
        return RandomView(
            hex=output.data.hex(), quantum=output.quantum, simulated=output.simulated, source=output.source
        )

    def drivers(self) -> tuple[DriverView, ...]:
        """Describe all configured drivers."""
        return tuple(driver.view() for driver in self._drivers.values())

    async def change_driver(self, name: str, change: DriverChange) -> DriverView:
        """Lock, unlock or reconfigure a driver."""
        driver = self._drivers.get(name)
        if driver is None:
            raise QedgeError(
                "driver.not_found",
                f"No driver instance is named {name!r}.",
                fix="`qedge drivers list` shows the configured ones.",
            )
        return await driver.change(change)

    async def assess(self, name: str) -> Assessment:
        """Measure a QPU now."""
        return await self._assessment.assess(name)

    async def device(self, name: str) -> DeviceView:
        """Ask a QPU what it is like now."""
        return await self._assessment.device(name)

    def links(self) -> tuple[LinkView, ...]:
        """Describe all configured QKD links."""
        return tuple(link.view() for link in self._links.values())

    async def measure_link(self, name: str, request: LinkMeasure) -> LinkView:
        """Take one window of detections."""
        link = self._links.get(name)
        if link is None:
            raise QedgeError(
                "driver.not_found", f"No link is named {name!r}.", fix="`qedge link list` shows the configured ones."
            )
        return await link.measure(request.sifted)

    def peers(self) -> PeerList:
        """Describe all members of the fleet that this node knows, itself included."""
        if self._mesh is None or self.placement is None:
            return PeerList(self._identity.fleet, ())
        return self.placement.with_loads(self._mesh.peers())

    async def ping(self, request: PingRequest) -> PingView:
        """Measure the way to a peer inside the sealed session with it."""
        if not 1 <= request.count <= MAX_PINGS:
            raise QedgeError("job.bad_request", f"Ask for 1 to {MAX_PINGS} pings.", limit=MAX_PINGS)
        if not 0 <= request.size_bytes <= MAX_PING_BYTES:
            raise QedgeError("job.bad_request", f"A ping carries 0 to {MAX_PING_BYTES} bytes.", limit=MAX_PING_BYTES)
        if not 1 <= request.parallel <= MAX_PARALLEL:
            raise QedgeError(
                "job.bad_request", f"1 to {MAX_PARALLEL} pings can be under way at once.", limit=MAX_PARALLEL
            )
        if self._mesh is None:
            raise QedgeError("bus.unavailable", "The node is starting.", fix="Try again soon.")
        return await self._mesh.ping(
            request.node,
            request.count,
            timeout_s=request.timeout_s,
            size_bytes=request.size_bytes,
            parallel=request.parallel,
        )
