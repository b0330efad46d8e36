"""A node as it describes itself to operators, programs and peers."""

from __future__ import annotations

import msgspec

from qedge.wire.configuration import ConfigurationView

Fact = str | int | float | bool


class ServiceView(msgspec.Struct, frozen=True):
    """One service of the supervisor: `state` is `starting`, `ready`, `backoff`, `finished` or `stopped`."""

    name: str
    state: str
    restarts: int = 0
    error: str = ""


class WorkerView(msgspec.Struct, frozen=True):
    """One worker process: `state` is `starting`, `ready`, `busy`, `backoff` or `stopped`; `pid` 0: none."""

    name: str
    state: str
    pid: int = 0
    restarts: int = 0
    spare: bool = False


class DriverView(msgspec.Struct, frozen=True):
    """One configured driver: what the operator wants (`admin_state`), how it is (`operating_state`) and why."""

    name: str
    driver: str
    kind: str
    version: str
    simulated: bool
    admin_state: str
    operating_state: str
    reason: str = ""
    workers: tuple[WorkerView, ...] = ()
    properties: dict[str, Fact | list[Fact]] = {}


class LinkView(msgspec.Struct, frozen=True):
    """A QKD link: sifted detections and raw error rate of the last window; `qber` is −1 before the first.

    `alice` and `bob` are driver instances, one of them empty where that end is at the node `peer`. A link that distils
    has a `state`: `waiting`, `running`, `quarantined` or `stopped`, and `reason` says why no key comes; its window is
    the last block. `key_bits` came since the node was started, `key_bit_s` is the rate over the last blocks.
    """

    name: str
    alice: str
    bob: str
    sifted: int = 0
    errors: int = 0
    qber: float = -1.0
    gain: float = 0.0
    verdict: str = ""
    peer: str = ""
    state: str = ""
    reason: str = ""
    blocks: int = 0
    blocks_dropped: int = 0
    key_bits: int = 0
    key_bit_s: float = 0.0
    last_block: int = -1
    leaked_bits: int = 0
    efficiency: float = 0.0
    authentication_bits: int = 0
    distilled_pads: bool = False
    wire_bits_per_sifted: float = 0.0
    stages_s: dict[str, float] = {}


class HostView(msgspec.Struct, frozen=True):
    """The host: shares are 0 … 1, sizes bytes; temperature and power are 0 where the host does not tell."""

    cpu_ratio: float = 0.0
    memory_available_bytes: int = 0
    memory_total_bytes: int = 0
    disk_free_bytes: int = 0
    temperature_celsius: float = 0.0
    power_watts: float = 0.0
    clock_steps: int = 0
    verdict: str = "unknown"
    unwell: tuple[str, ...] = ()
    """What is not well and how bad it is, as in `temperature degraded`."""


class BusView(msgspec.Struct, frozen=True):
    """The MQTT connection: `broker` is its address without credentials, `kind` `external`, `mosquitto` or `iotcore`;
    `error` says why it is not connected."""

    connected: bool
    broker: str
    kind: str
    session_present: bool = False
    reconnects: int = 0
    error: str = ""


class EntropyView(msgspec.Struct, frozen=True):
    """The random pool: `source` is the QRNG driver instance (empty: none), `healthy`: counts as quantum now."""

    source: str
    healthy: bool
    simulated: bool
    reason: str = ""
    raw_bits: int = 0
    failures: int = 0


class GatewayView(msgspec.Struct, frozen=True):
    """The gateway for attached devices: `states` counts devices by state, `tls` is that of the listener at best.

    `tls` is `none`, `classical` or `x25519mlkem768`; frames are sealed in any case. `taken` and `refused` count
    messages since the start; of those that were refused, policy denied `denied`.
    """

    devices: int = 0
    states: dict[str, int] = {}
    sessions: int = 0
    connections: int = 0
    addresses: tuple[str, ...] = ()
    tls: str = "none"
    paused: str = ""
    through_broker: bool = False
    taken: int = 0
    denied: int = 0
    incidents: int = 0
    policy_rules: int = 0
    policy_source: str = "none"
    segments: tuple[str, ...] = ()
    refused: int = 0


class SparkplugView(msgspec.Struct, frozen=True):
    """The Sparkplug edge node: `state` is `connecting`, `waiting` (for its primary host), `births` or `online`.

    `bd_seq` is the number of the newest CONNECT, −1: none yet; `problem` says why the last connection ended.
    """

    node: str
    state: str
    server: str = ""
    bd_seq: int = -1
    problem: str = ""


class NodeStatus(msgspec.Struct, frozen=True, tag_field="type", tag="node-status/1"):
    """Everything `qedge status` and the page show."""

    node: str
    fleet: str
    version: str
    standalone: bool
    boot_id: str
    uptime_s: float
    utc_ns: int
    ready: bool
    services: tuple[ServiceView, ...]
    drivers: tuple[DriverView, ...]
    bus: BusView
    entropy: EntropyView
    host: HostView
    links: tuple[LinkView, ...] = ()
    jobs_queued: int = 0
    jobs_running: int = 0
    jobs_done: int = 0
    jobs_failed: int = 0
    socket: str = ""
    http: str = ""
    not_ready: tuple[str, ...] = ()
    gateway: GatewayView | None = None
    configuration: ConfigurationView | None = None
    sparkplug: SparkplugView | None = None


class RandomRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="random-request/1"):
    """Ask for `bytes` random bytes (1 … 65,536); with `require_quantum` nothing is given while the source is ill."""

    bytes: int = 32
    require_quantum: bool = False


class RandomView(msgspec.Struct, frozen=True, tag_field="type", tag="random/1"):
    """Random bytes in hex; `quantum`: a healthy quantum source took part, `simulated`: it was no real one."""

    hex: str
    quantum: bool
    simulated: bool
    source: str


class PingRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="ping-request/1"):
    """Measure the way to `node` inside the sealed session with it: `count` questions, `parallel` (1 … 16) under way.

    `size_bytes` (0 … 1 MiB) go along with each question; the answer is always small.
    """

    node: str
    count: int = 1
    timeout_s: float = 5.0
    size_bytes: int = 0
    parallel: int = 1


class PingView(msgspec.Struct, frozen=True, tag_field="type", tag="ping/1"):
    """Round-trip times in milliseconds, in order of the answers, and the time of all together.

    `path` is the way that the last question went: `mqtt` or `direct`, empty where it is not known.
    """

    node: str
    rtt_ms: tuple[float, ...]
    size_bytes: int = 0
    elapsed_s: float = 0.0
    path: str = ""


class DriverList(msgspec.Struct, frozen=True, tag_field="type", tag="driver-list/1"):
    """All configured drivers."""

    drivers: tuple[DriverView, ...]


class DriverChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="driver-change/1"):
    """Change a driver at run time: its lock, or some of its settings (until the next start of the daemon)."""

    admin_state: str = ""
    settings: dict[str, Fact | list[Fact]] = {}


class LinkMeasure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="link-measure/1"):
    """Take one window of about `sifted` sifted detections on a link."""

    sifted: int = 20_000


class PageLink(msgspec.Struct, frozen=True, tag_field="type", tag="page-link/1"):
    """A link that opens the page once, within `expires_s` seconds."""

    url: str
    expires_s: float


class DrainView(msgspec.Struct, frozen=True, tag_field="type", tag="drain/1"):
    """Whether a node takes jobs (`open`), gives them away (`draining`) or has none left (`empty`)."""

    state: str
    waiting: int
    running: int


class DrainChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="drain-change/1"):
    """Drain the node, or `undo` that."""

    undo: bool = False
