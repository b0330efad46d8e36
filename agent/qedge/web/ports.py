"""What the HTTP interface needs from the node; `daemon.py` fills it in, `fake.py` is the one for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from qedge.web.configuration_ports import ConfigurationPort
from qedge.web.device_ports import DevicesPort
from qedge.web.key_ports import KeysPort
from qedge.web.order_ports import OrdersPort
from qedge.web.policy_ports import PolicyPort
from qedge.web.results_ports import ResultsPort
from qedge.web.security_ports import SecurityPort
from qedge.web.segment_ports import SegmentsPort
from qedge.web.state_ports import StatePort
from qedge.wire.assessment import Assessment
from qedge.wire.device import DeviceView
from qedge.wire.jobs import JobEstimate, JobList, JobSubmission, JobView, TemplateView
from qedge.wire.mesh import PeerList
from qedge.wire.node import (
    DrainChange,
    DrainView,
    DriverChange,
    DriverView,
    LinkMeasure,
    LinkView,
    NodeStatus,
    PingRequest,
    PingView,
    RandomRequest,
    RandomView,
)
from qedge.wire.telemetry import TelemetryView
from qedge.wire.trust import (
    BrokerAddress,
    IdentityView,
    JoinAnswer,
    JoinCommand,
    Membership,
    NewIdentity,
    PendingJoins,
    Renewals,
    SigningRequest,
)


@dataclass(frozen=True, slots=True)
class Pulse:
    """A sign of life: `age_s` seconds since it last moved (−1: never), at most `limit_s` in a ready node."""

    name: str
    age_s: float
    limit_s: float


class FleetPort(Protocol):
    """The node's place in a fleet, for the operator's programs."""

    def identity(self) -> IdentityView:
        """Describe who the node is."""
        ...

    async def new_identity(self, wanted: NewIdentity) -> SigningRequest:
        """Make a key for a place in a fleet and return its signing request."""
        ...

    async def adopt(self, membership: Membership) -> IdentityView:
        """Take a place in a fleet; the services start anew right after the answer."""
        ...

    async def join(self, command: JoinCommand) -> IdentityView:
        """Become a member by an invitation; the services start anew right after the answer."""
        ...

    async def pending_joins(self, wait_s: float) -> PendingJoins:
        """Return the requests of boxes that want to join, or the first that comes within `wait_s` seconds."""
        ...

    async def answer_join(self, request_id: str, answer: JoinAnswer) -> None:
        """Answer a box that wants to join."""
        ...

    async def broker(self, *, this_box: bool = False) -> BrokerAddress:
        """Return where other boxes meet this one; raises `fleet.loopback_broker`."""
        ...

    async def take_revocations(self, signed: bytes) -> None:
        """Take the authority's newest list and tell all peers."""
        ...

    async def renewals(self, *, due_only: bool = False) -> Renewals:
        """Collect signing requests of all members that are there, or of those only whose renewal is due."""
        ...

    async def renew(self, node: str, membership: Membership) -> None:
        """Hand a member its next certificate."""
        ...


class DecodeLink(Protocol):
    """One decode stream. Messages are those of `qedge.wire.decode`, as they stand on the WebSocket."""

    async def open(self, message: str) -> str:
        """Hand on the first message and return the answer; raises `decode.*` and what a worker raises."""
        ...

    def take(self, message: bytes | str) -> None:
        """Hand on a message of the control system; raises `decode.*`."""
        ...

    async def next(self) -> bytes | str | None:
        """Return the next message for the control system, None after the last; raises why the stream broke."""
        ...


class NodePort(Protocol):
    """One node. Every method raises `QedgeError` where it refuses; the web room gives each call a deadline."""

    @property
    def fleet(self) -> FleetPort:
        """The node's place in a fleet."""
        ...

    @property
    def keys(self) -> KeysPort:
        """Key delivery of the node; raises `keys.off` where there is none."""
        ...

    @property
    def devices(self) -> DevicesPort:
        """Attached devices; raises `device.off` where the node takes none."""
        ...

    @property
    def policy(self) -> PolicyPort:
        """The policy of the node; raises `policy.off` where it enforces none."""
        ...

    @property
    def security(self) -> SecurityPort:
        """Threats and what is done about them; raises `security.off` where nobody watches."""
        ...

    @property
    def segments(self) -> SegmentsPort:
        """Segments of attached devices; raises `segment.off` where there are none."""
        ...

    @property
    def results(self) -> ResultsPort:
        """What results of other nodes have been worth."""
        ...

    @property
    def orders(self) -> OrdersPort:
        """Commands of fleet operators; raises `order.off`."""
        ...

    @property
    def state(self) -> StatePort:
        """What the nodes share."""
        ...

    @property
    def configuration(self) -> ConfigurationPort:
        """Configuration that the fleet gives."""
        ...

    def status(self) -> NodeStatus:
        """Describe the whole node; cheap, called about once a second while someone watches."""
        ...

    def pulses(self) -> tuple[Pulse, ...]:
        """Return the signs of life on which readiness depends (message pump, host samples, …)."""
        ...

    async def submit(self, submission: JobSubmission, client: str) -> JobView:
        """Accept a job (it is in the database when this returns); `client` says who asked."""
        ...

    async def add_template(self, program: str, client: str) -> TemplateView:
        """Keep a program; raises what its parse raises."""
        ...

    async def template(self, name: str) -> TemplateView:
        """Return a program that is kept; raises `job.no_template`."""
        ...

    async def estimate(self, submission: JobSubmission) -> JobEstimate:
        """Parse and estimate only."""
        ...

    async def job(self, job_id: str) -> JobView:
        """Return one job with its result; raises `job.not_found`."""
        ...

    async def wait_job(self, job_id: str, timeout_s: float) -> JobView:
        """Return the job once it has ended, or as it is after `timeout_s` seconds."""
        ...

    async def jobs(self, limit: int) -> JobList:
        """Return the newest `limit` jobs, without their results."""
        ...

    async def cancel(self, job_id: str) -> JobView:
        """Cancel a job; raises `job.already_ended`."""
        ...

    def telemetry(self) -> TelemetryView:
        """Describe how telemetry stands."""
        ...

    def drain_view(self) -> DrainView:
        """Describe whether the node takes jobs."""
        ...

    async def drain(self, change: DrainChange) -> DrainView:
        """Give jobs away and take no new ones, or undo that."""
        ...

    async def random(self, request: RandomRequest) -> RandomView:
        """Draw from the pool."""
        ...

    def drivers(self) -> tuple[DriverView, ...]:
        """Describe all configured drivers."""
        ...

    async def change_driver(self, name: str, change: DriverChange) -> DriverView:
        """Lock, unlock or reconfigure a driver."""
        ...

    async def assess(self, name: str) -> Assessment:
        """Measure a QPU; raises `driver.not_found`, `job.no_qpu`."""
        ...

    async def device(self, name: str) -> DeviceView:
        """Ask a QPU what it is like; raises `driver.not_found`, `job.no_qpu`."""
        ...

    def links(self) -> tuple[LinkView, ...]:
        """Describe all configured QKD links."""
        ...

    async def measure_link(self, name: str, request: LinkMeasure) -> LinkView:
        """Take one window of detections."""
        ...

    async def ping(self, request: PingRequest) -> PingView:
        """Measure the way to a peer over the bus."""
        ...

    def peers(self) -> PeerList:
        """Describe all members of the fleet that this node knows, itself included."""
        ...

    def decode(self) -> AbstractAsyncContextManager[DecodeLink]:
        """Take a place for one decode stream; entering raises `decode.too_many_streams`."""
        ...

    def job_events(self) -> AsyncIterator[JobView]:
        """Follow every job whose state changes, from now on. The web room follows once, for all its readers."""
        ...
