"""A node that stands in for the real one in tests and while the page is being designed; nothing in it is measured."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.web.configuration.fake import FakeConfiguration
from qedge.web.decode.fake import FakeDecoder
from qedge.web.decode.ports import DecodeLink
from qedge.web.devices.fake import FakeDevices
from qedge.web.drivers.fake import FakeDrivers
from qedge.web.fleet.fake import FakeFleet
from qedge.web.health.ports import Pulse
from qedge.web.jobs.fake import FakeJobs
from qedge.web.keys.fake import fake_keys
from qedge.web.links.fake import FakeLinks
from qedge.web.node.fake import HOST, SERVICES
from qedge.web.orders.fake import FakeOrders
from qedge.web.peers.fake import QPUS, fake_peers
from qedge.web.policy.fake import FakePolicy
from qedge.web.results.fake import FakeResults
from qedge.web.security.fake import FakeSecurity
from qedge.web.segments.fake import FakeSegments
from qedge.web.shared_state.fake import FakeState
from qedge.wire.jobs import JobState
from qedge.wire.mesh import PeerList, PeerState, PeerView
from qedge.wire.node import (
    BusView,
    DrainChange,
    DrainView,
    EntropyView,
    GatewayView,
    NodeStatus,
    PingRequest,
    PingView,
    RandomRequest,
    RandomView,
)
from qedge.wire.telemetry import TelemetryView


class FakeNode(FakeJobs, FakeDrivers, FakeLinks):
    """A `NodePort` whose jobs end when the test says so (`finish`), or at once with `instant`."""

    def __init__(self, clock: Clock, random_bytes: RandomBytes, *, instant: bool = True) -> None:
        FakeJobs.__init__(self, clock, random_bytes, instant=instant)
        FakeDrivers.__init__(self)
        FakeLinks.__init__(self)
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
        self.missing: tuple[str, ...] = ()
        self.pulse_age_s = 0.1
        self.entropy_healthy = True
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

    async def random(self, request: RandomRequest) -> RandomView:
        """Draw from the given random bytes."""
        if not 1 <= request.bytes <= 65_536:
            raise QedgeError("entropy.bad_length", "Ask for 1 … 65,536 bytes.")
        if request.require_quantum and not self.entropy_healthy:
            raise QedgeError("entropy.no_quantum", "The quantum source failed its health tests.")
        return RandomView(self._random_bytes(request.bytes).hex(), self.entropy_healthy, simulated=True, source="rng")

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
