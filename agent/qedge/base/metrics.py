"""Metric names in one place, and the registry that holds their values.

Names follow Prometheus: prefix `qedge_`, base units (seconds, bytes), counters end in `_total`. Labels are few and
bounded: never a job id, a client or anything an outsider chooses.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """The Prometheus type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """`labels` are the label names in order; `buckets` are upper bounds in the metric's unit (histograms only)."""

    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_LATENCY_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_DECODE_S: Final = (5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 1.0)

METRICS: Final[dict[str, MetricSpec]] = {
    "qedge_build_info": MetricSpec(Kind.GAUGE, "1, labelled with version and Python.", ("version", "python")),
    "qedge_start_time_seconds": MetricSpec(Kind.GAUGE, "Wall time at which the daemon started, seconds since 1970."),
    "qedge_configuration_serial": MetricSpec(Kind.GAUGE, "Serial of the fleet's configuration in force; 0: none."),
    "qedge_configuration_drift": MetricSpec(
        Kind.GAUGE, "Sections that differ from what stood when the fleet last applied a configuration."
    ),
    "qedge_configuration_trial": MetricSpec(Kind.GAUGE, "1 while a new configuration is tried or undone."),
    "qedge_certificate_left_seconds": MetricSpec(Kind.GAUGE, "Time until the node's certificate ends; 0: it has."),
    "qedge_certificate_renewal_due": MetricSpec(Kind.GAUGE, "1 where the node's certificate should be renewed."),
    "qedge_renewals_total": MetricSpec(
        Kind.COUNTER, "Requests of the node for its next certificate, by what became of them.", ("outcome",)
    ),
    "qedge_revocations_age_seconds": MetricSpec(Kind.GAUGE, "Age of the list of revoked keys; 0: there is none."),
    "qedge_revocations_old": MetricSpec(Kind.GAUGE, "1 while the list of revoked keys is older than it may be."),
    "qedge_loop_lag_seconds": MetricSpec(
        Kind.HISTOGRAM, "How late the event loop ran a timer.", (), (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)
    ),
    "qedge_service_up": MetricSpec(Kind.GAUGE, "1 while the service is ready.", ("service",)),
    "qedge_service_restarts_total": MetricSpec(Kind.COUNTER, "Restarts of a service.", ("service",)),
    "qedge_worker_up": MetricSpec(Kind.GAUGE, "1 while the worker answers.", ("worker",)),
    "qedge_worker_restarts_total": MetricSpec(
        Kind.COUNTER, "Times a worker process was replaced.", ("worker", "reason")
    ),
    "qedge_worker_calls_total": MetricSpec(Kind.COUNTER, "Calls to workers.", ("worker", "outcome")),
    "qedge_worker_memory_bytes": MetricSpec(Kind.GAUGE, "Resident memory of the worker process.", ("worker",)),
    "qedge_driver_up": MetricSpec(Kind.GAUGE, "1 while the driver is unlocked and up.", ("driver", "kind")),
    "qedge_jobs_submitted_total": MetricSpec(Kind.COUNTER, "Job submissions.", ("outcome",)),
    "qedge_jobs_ended_total": MetricSpec(Kind.COUNTER, "Jobs that ended.", ("state",)),
    "qedge_jobs_forwarded_total": MetricSpec(Kind.COUNTER, "Jobs given to other nodes.", ("outcome",)),
    "qedge_uplink_connected": MetricSpec(Kind.GAUGE, "1 while the broker of the cloud is connected."),
    "qedge_uplink_waiting": MetricSpec(Kind.GAUGE, "Results and entries of the shared state that wait for the uplink."),
    "qedge_uplink_messages_total": MetricSpec(
        Kind.COUNTER,
        "Uplink; outcome `sent`, `not_kept` (to be sent again), `heard` or `given_up`; of records `kept` or `not_kept` "
        "in the cloud, and `refused`.",
        ("outcome",),
    ),
    "qedge_uplink_comparisons_total": MetricSpec(
        Kind.COUNTER, "Comparisons of what the fleet shares with a node of the cloud.", ("outcome",)
    ),
    "qedge_receipts_total": MetricSpec(
        Kind.COUNTER,
        "Receipts of results; outcome `signed` or `dropped` here, or `kept` or `refused` of a runner.",
        ("outcome",),
    ),
    "qedge_results_checked_total": MetricSpec(
        Kind.COUNTER, "Results of other nodes that were looked at.", ("outcome",)
    ),
    "qedge_nodes_barred": MetricSpec(Kind.GAUGE, "Nodes that get no jobs from here, since a result was false."),
    "qedge_placements_total": MetricSpec(Kind.COUNTER, "Jobs for any node, by where they were placed.", ("outcome",)),
    "qedge_placement_seconds": MetricSpec(
        Kind.HISTOGRAM, "Time to decide where a job runs.", (), (0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.005)
    ),
    "qedge_loads_told_total": MetricSpec(Kind.COUNTER, "Loads exchanged with other nodes.", ("outcome",)),
    "qedge_node_factor": MetricSpec(Kind.GAUGE, "Share of its usual work that the node wants now, by its health."),
    "qedge_job_leases_total": MetricSpec(Kind.COUNTER, "Leases of jobs, by what became of them.", ("outcome",)),
    "qedge_job_copies_total": MetricSpec(Kind.COUNTER, "Records of jobs sent to other nodes.", ("outcome",)),
    "qedge_jobs_duplicate_total": MetricSpec(
        Kind.COUNTER, "Jobs of this node whose client's key stands for another job too, since the mesh was cut in two."
    ),
    "qedge_job_records_total": MetricSpec(
        Kind.COUNTER,
        "Records of jobs of other nodes; outcome `refused` since there are too many of that node, or `aged` unended.",
        ("outcome",),
    ),
    "qedge_jobs_adopted_total": MetricSpec(Kind.COUNTER, "Jobs taken over from owners that were gone."),
    "qedge_node_draining": MetricSpec(Kind.GAUGE, "Whether the node gives its jobs away."),
    "qedge_jobs_queued": MetricSpec(Kind.GAUGE, "Jobs that wait."),
    "qedge_jobs_running": MetricSpec(Kind.GAUGE, "Jobs that run."),
    "qedge_qpu_assessed": MetricSpec(Kind.GAUGE, "Figures of the last assessment of a QPU.", ("qpu", "figure")),
    "qedge_qpu_degraded": MetricSpec(Kind.GAUGE, "In how many ways a QPU is worse than at its best.", ("qpu",)),
    "qedge_job_seconds": MetricSpec(Kind.HISTOGRAM, "Time of a job by stage.", ("stage",), _LATENCY_S),
    "qedge_decode_streams": MetricSpec(Kind.GAUGE, "Decode streams that are open."),
    "qedge_decode_streams_ended_total": MetricSpec(Kind.COUNTER, "Decode streams that ended.", ("outcome",)),
    "qedge_decode_rounds_total": MetricSpec(Kind.COUNTER, "Rounds of detection events taken by decode streams."),
    "qedge_decode_seconds": MetricSpec(
        Kind.HISTOGRAM, "Time in the worker from the last round of a window to its commit.", (), _DECODE_S
    ),
    "qedge_orders_total": MetricSpec(
        Kind.COUNTER, "Commands of fleet operators, by what became of them.", ("kind", "outcome")
    ),
    "qedge_orders_waiting": MetricSpec(Kind.GAUGE, "Commands of fleet operators that wait."),
    "qedge_orders_running": MetricSpec(Kind.GAUGE, "Commands of fleet operators that run."),
    "qedge_random_bytes_total": MetricSpec(Kind.COUNTER, "Random bytes given out.", ("source",)),
    "qedge_entropy_healthy": MetricSpec(Kind.GAUGE, "1 while the source passes its health tests.", ("source",)),
    "qedge_entropy_raw_bits_total": MetricSpec(Kind.COUNTER, "Raw bits read from the source.", ("source",)),
    "qedge_entropy_failures_total": MetricSpec(Kind.COUNTER, "Failed health tests.", ("source", "test")),
    "qedge_bus_connected": MetricSpec(Kind.GAUGE, "1 while connected to the MQTT broker."),
    "qedge_bus_reconnects_total": MetricSpec(Kind.COUNTER, "Connections made to the MQTT broker."),
    "qedge_bus_messages_total": MetricSpec(Kind.COUNTER, "MQTT messages.", ("direction",)),
    "qedge_bus_rejected_total": MetricSpec(Kind.COUNTER, "MQTT messages that had no effect.", ("reason",)),
    "qedge_bus_queue_messages": MetricSpec(Kind.GAUGE, "MQTT messages that wait to be handled."),
    "qedge_peers": MetricSpec(Kind.GAUGE, "Peers by what this node holds of them.", ("state",)),
    "qedge_state_entries": MetricSpec(Kind.GAUGE, "Entries of the shared state that are held.", ("scope",)),
    "qedge_state_entries_total": MetricSpec(Kind.COUNTER, "Entries of the shared state by what became.", ("outcome",)),
    "qedge_state_comparisons_total": MetricSpec(Kind.COUNTER, "Comparisons of the map with a peer.", ("outcome",)),
    "qedge_duplicate_identity_total": MetricSpec(Kind.COUNTER, "Times another box spoke under this node's name."),
    "qedge_sessions_open": MetricSpec(Kind.GAUGE, "Sealed sessions with peers."),
    "qedge_sessions_by_secrecy": MetricSpec(
        Kind.GAUGE, "Sealed sessions: hybrid (an extra key is in them), post-quantum, restricted.", ("secrecy",)
    ),
    "qedge_sessions_opened_total": MetricSpec(Kind.COUNTER, "Sealed sessions opened.", ("suite", "extra_key")),
    "qedge_sessions_failed_total": MetricSpec(Kind.COUNTER, "Sessions wanted here and not had.", ("reason",)),
    "qedge_session_setup_seconds": MetricSpec(Kind.HISTOGRAM, "Time of a handshake.", (), _LATENCY_S),
    "qedge_handshakes_failed_total": MetricSpec(
        Kind.COUNTER, "Handshakes that failed, also those of others.", ("reason",)
    ),
    "qedge_direct_open": MetricSpec(Kind.GAUGE, "Direct channels to peers."),
    "qedge_policy_rules": MetricSpec(Kind.GAUGE, "Rules of the policy in force."),
    "qedge_policy_serial": MetricSpec(Kind.GAUGE, "Serial of the fleet's policy; 0: the fleet has none."),
    "qedge_policy_changes_total": MetricSpec(Kind.COUNTER, "Policies put in force.", ("source",)),
    "qedge_policy_refused_total": MetricSpec(Kind.COUNTER, "Policies that were not taken.", ("reason",)),
    "qedge_direct_refused_total": MetricSpec(Kind.COUNTER, "Connections to the direct channel that had no session."),
    "qedge_store_write_seconds": MetricSpec(Kind.HISTOGRAM, "Time of a database write.", (), _LATENCY_S),
    "qedge_store_failures_total": MetricSpec(Kind.COUNTER, "Database writes that failed.", ("reason",)),
    "qedge_http_requests_total": MetricSpec(Kind.COUNTER, "HTTP requests.", ("route", "status")),
    "qedge_http_request_seconds": MetricSpec(Kind.HISTOGRAM, "Time of an HTTP request.", ("route",), _LATENCY_S),
    "qedge_http_connections": MetricSpec(Kind.GAUGE, "Open HTTP connections.", ("door",)),
    "qedge_http_refused_total": MetricSpec(Kind.COUNTER, "HTTP connections and requests refused.", ("reason",)),
    "qedge_http_streams": MetricSpec(Kind.GAUGE, "Event streams that are open."),
    "qedge_http_events_dropped_total": MetricSpec(Kind.COUNTER, "Events not sent because a reader was too slow."),
    "qedge_keys_requests_total": MetricSpec(Kind.COUNTER, "Requests for keys by ETSI 014.", ("call", "status")),
    "qedge_keys_request_seconds": MetricSpec(Kind.HISTOGRAM, "Time of a request for keys.", ("call",), _LATENCY_S),
    "qedge_keys_handed_total": MetricSpec(Kind.COUNTER, "Keys handed to applications.", ("call",)),
    "qedge_keys_connections": MetricSpec(Kind.GAUGE, "Open connections of applications."),
    "qedge_keys_connections_total": MetricSpec(
        Kind.COUNTER, "Connections of applications; exchange is classical, hybrid or unknown.", ("tls", "exchange")
    ),
    "qedge_keys_connections_refused_total": MetricSpec(Kind.COUNTER, "Connections refused.", ("reason",)),
    "qedge_device_messages_total": MetricSpec(Kind.COUNTER, "Messages of devices, as they ended.", ("outcome",)),
    "qedge_device_denials_total": MetricSpec(Kind.COUNTER, "Decisions that did not permit.", ("reason",)),
    "qedge_device_commands_total": MetricSpec(Kind.COUNTER, "Commands to devices, as they ended.", ("outcome",)),
    "qedge_device_connections": MetricSpec(Kind.GAUGE, "Open connections of devices to the listener."),
    "qedge_device_connects_total": MetricSpec(Kind.COUNTER, "Connections of devices, as they began.", ("outcome",)),
    "qedge_device_closed_total": MetricSpec(Kind.COUNTER, "Connections of devices that ended.", ("reason",)),
    "qedge_device_greetings_total": MetricSpec(Kind.COUNTER, "Steps of handshakes of devices.", ("outcome",)),
    "qedge_device_tls_total": MetricSpec(Kind.COUNTER, "TLS connections of devices by key exchange.", ("group",)),
    "qedge_device_broker_connected": MetricSpec(Kind.GAUGE, "1 while devices are heard through the broker."),
    "qedge_host_cpu_ratio": MetricSpec(Kind.GAUGE, "Busy share of all cores, 0 to 1."),
    "qedge_host_memory_available_bytes": MetricSpec(Kind.GAUGE, "Memory that can be used without swapping."),
    "qedge_host_memory_total_bytes": MetricSpec(Kind.GAUGE, "Memory of the host."),
    "qedge_host_disk_free_bytes": MetricSpec(Kind.GAUGE, "Free space of the state directory."),
    "qedge_host_temperature_celsius": MetricSpec(Kind.GAUGE, "Temperature of a sensor.", ("sensor",)),
    "qedge_host_power_watts": MetricSpec(Kind.GAUGE, "Power drawn, where the host reports it.", ("source",)),
    "qedge_host_clock_steps_total": MetricSpec(Kind.COUNTER, "Steps of the wall clock against the boot-time clock."),
    "qedge_process_memory_bytes": MetricSpec(Kind.GAUGE, "Proportional set size of the daemon process."),
    "qedge_devices": MetricSpec(Kind.GAUGE, "Attached devices by state.", ("state",)),
    "qedge_device_sessions": MetricSpec(Kind.GAUGE, "Devices with an open session.", ("tier",)),
    "qedge_device_handshakes_total": MetricSpec(
        Kind.COUNTER, "Steps of handshakes with devices; busy: told to come back later.", ("step", "outcome")
    ),
    "qedge_device_enrolments_total": MetricSpec(Kind.COUNTER, "Enrolments of devices.", ("outcome",)),
    "qedge_qkd_detections_total": MetricSpec(Kind.COUNTER, "Detections reported by a transceiver.", ("link",)),
    "qedge_qkd_qber_ratio": MetricSpec(Kind.GAUGE, "Raw error rate of the last window, 0 to 1.", ("link",)),
    "qedge_qkd_gain_ratio": MetricSpec(
        Kind.GAUGE, "Detections per pulse of the last block, while the receiver could detect.", ("link",)
    ),
    "qedge_qkd_key_bits": MetricSpec(Kind.GAUGE, "Where all bits of a link's finished key are.", ("link", "place")),
    "qedge_qkd_blocks_total": MetricSpec(Kind.COUNTER, "Blocks of a link, as they ended.", ("link", "outcome")),
    "qedge_qkd_key_bits_total": MetricSpec(Kind.COUNTER, "Key handed to the key store, in bits.", ("link",)),
    "qedge_qkd_sifted_bits_total": MetricSpec(Kind.COUNTER, "Sifted bits of the blocks that gave key.", ("link",)),
    "qedge_qkd_leaked_bits_total": MetricSpec(Kind.COUNTER, "Bits disclosed for the blocks that gave key.", ("link",)),
    "qedge_qkd_wire_bits_total": MetricSpec(Kind.COUNTER, "Bits said for the blocks that gave key.", ("link",)),
    "qedge_qkd_authentication_bits_total": MetricSpec(Kind.COUNTER, "Key burnt by authentication, in bits.", ("link",)),
    "qedge_qkd_reserved_bits_total": MetricSpec(Kind.COUNTER, "Key kept back for authentication, in bits.", ("link",)),
    "qedge_qkd_efficiency_ratio": MetricSpec(
        Kind.GAUGE, "Bits leaked by the last block over the least that error correction needs.", ("link",)
    ),
    "qedge_qkd_quarantined": MetricSpec(Kind.GAUGE, "1 while key is held back after an alarm.", ("link",)),
    "qedge_devices_watched": MetricSpec(Kind.GAUGE, "Attached devices that detection watches."),
    "qedge_devices_barred": MetricSpec(Kind.GAUGE, "Attached devices whose key another node has revoked."),
    "qedge_device_lists_total": MetricSpec(
        Kind.COUNTER, "Lists of revoked devices of other nodes: taken, old or refused.", ("outcome",)
    ),
    "qedge_devices_touched": MetricSpec(
        Kind.GAUGE, "Devices that automatic responses have touched in the last 10 minutes."
    ),
    "qedge_findings_total": MetricSpec(Kind.COUNTER, "What detection found, good or bad.", ("evidence",)),
    "qedge_incidents_open": MetricSpec(Kind.GAUGE, "Incidents that are not resolved."),
    "qedge_incidents_total": MetricSpec(Kind.COUNTER, "Incidents opened.", ("evidence",)),
    "qedge_responses_total": MetricSpec(Kind.COUNTER, "Automatic responses.", ("response", "outcome")),
    "qedge_audit_rows_total": MetricSpec(Kind.COUNTER, "Rows written to the audit log.", ("trail",)),
    "qedge_audit_lost_total": MetricSpec(
        Kind.COUNTER, "Rows of the audit log that were only counted, because they came too fast.", ("trail",)
    ),
    "qedge_qkd_stage_seconds_total": MetricSpec(
        Kind.COUNTER, "Processor time of the link worker by stage.", ("link", "stage")
    ),
    "qedge_segment_members": MetricSpec(Kind.GAUGE, "Members that read a segment over the bus.", ("segment",)),
    "qedge_segment_epoch": MetricSpec(Kind.GAUGE, "Number of the epoch of a segment's key.", ("segment",)),
    "qedge_segment_readings_total": MetricSpec(
        Kind.COUNTER, "Readings of a segment: taken, and dropped on the way to the bus.", ("segment", "outcome")
    ),
    "qedge_segment_strays_total": MetricSpec(Kind.COUNTER, "Readings on channels that their segment does not have."),
    "qedge_segment_handovers_total": MetricSpec(Kind.COUNTER, "Group keys handed to devices.", ("outcome",)),
    "qedge_commands_total": MetricSpec(Kind.COUNTER, "Commands to devices.", ("outcome",)),
    "qedge_sparkplug_online": MetricSpec(Kind.GAUGE, "1 while all births are published to a Sparkplug server."),
    "qedge_sparkplug_connects_total": MetricSpec(Kind.COUNTER, "CONNECT packets to Sparkplug servers."),
    "qedge_sparkplug_births_total": MetricSpec(
        Kind.COUNTER, "NBIRTHs, the first of a session and those again in it.", ("which",)
    ),
    "qedge_sparkplug_messages_total": MetricSpec(Kind.COUNTER, "Sparkplug messages published.", ("verb",)),
    "qedge_sparkplug_commands_total": MetricSpec(Kind.COUNTER, "Commands of hosts, as they were taken.", ("outcome",)),
    "qedge_sparkplug_writes_total": MetricSpec(Kind.COUNTER, "Writes of hosts, as they ended.", ("outcome",)),
    "qedge_sparkplug_history_total": MetricSpec(
        Kind.COUNTER, "Readings that were not sent in their time: kept, sent, dropped or strange.", ("outcome",)
    ),
    "qedge_onward_rows": MetricSpec(Kind.GAUGE, "Readings that wait for the upstream.", ("class",)),
    "qedge_onward_bytes": MetricSpec(Kind.GAUGE, "Bytes of readings that wait for the upstream.", ("class",)),
    "qedge_onward_sent_total": MetricSpec(Kind.COUNTER, "Readings that the upstream has acknowledged.", ("kind",)),
    "qedge_onward_denied_total": MetricSpec(Kind.COUNTER, "Decisions that let a reading not go upstream.", ("reason",)),
    "qedge_onward_dropped_total": MetricSpec(
        Kind.COUNTER, "Readings for the upstream that gave way.", ("class", "reason")
    ),
    "qedge_telemetry_rows": MetricSpec(Kind.GAUGE, "Items of telemetry that wait.", ("class",)),
    "qedge_telemetry_sent_total": MetricSpec(
        Kind.COUNTER, "Items of telemetry that the broker has acknowledged.", ("class", "kind")
    ),
    "qedge_telemetry_dropped_total": MetricSpec(Kind.COUNTER, "Items of telemetry that gave way.", ("class", "reason")),
    "qedge_adapter_connected": MetricSpec(
        Kind.GAUGE, "1 while the adapter is connected to the broker of its tool.", ("adapter",)
    ),
    "qedge_adapter_messages_total": MetricSpec(
        Kind.COUNTER, "Messages of adapters to other tools, by what became of them.", ("adapter", "outcome")
    ),
}

Labels = tuple[str, ...]


@dataclass(slots=True)
class HistogramValue:
    """Cumulative-free counts per bucket (the last one is +Inf), their sum in the metric's unit, and the total."""

    counts: list[int]
    sum: float
    count: int


class Metrics:
    """Values of all metrics of one process. Not thread-safe: the event loop alone touches it."""

    def __init__(self) -> None:
        self._values: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, HistogramValue]] = {}

    def add(self, name: str, labels: Labels = (), amount: float = 1.0) -> None:
        """Increase a counter by `amount` ≥ 0."""
        self._check(name, labels, Kind.COUNTER)
        series = self._values.setdefault(name, {})
        series[labels] = series.get(labels, 0.0) + amount

    def set(self, name: str, value: float, labels: Labels = ()) -> None:
        """Set a gauge."""
        self._check(name, labels, Kind.GAUGE)
        self._values.setdefault(name, {})[labels] = value

    def observe(self, name: str, value: float, labels: Labels = ()) -> None:
        """Count `value` (in the metric's unit) in a histogram."""
        spec = self._check(name, labels, Kind.HISTOGRAM)
        series = self._histograms.setdefault(name, {})
        entry = series.get(labels)
        if entry is None:
            entry = series[labels] = HistogramValue([0] * (len(spec.buckets) + 1), 0.0, 0)
        entry.counts[bisect_left(spec.buckets, value)] += 1
        entry.sum += value
        entry.count += 1

    def forget(self, name: str, labels: Labels) -> None:
        """Drop one series of a gauge, when the thing it speaks of is gone."""
        self._values.get(name, {}).pop(labels, None)

    def value(self, name: str, labels: Labels = ()) -> float:
        """Return a counter or gauge, 0 where it was never touched."""
        return self._values.get(name, {}).get(labels, 0.0)

    def values(self, name: str) -> dict[Labels, float]:
        """Return all series of a counter or gauge."""
        return dict(self._values.get(name, {}))

    def histograms(self, name: str) -> dict[Labels, HistogramValue]:
        """Return all series of a histogram."""
        return dict(self._histograms.get(name, {}))

    @staticmethod
    def _check(name: str, labels: Labels, kind: Kind) -> MetricSpec:
        spec = METRICS[name]
        if spec.kind is not kind or len(labels) != len(spec.labels):
            raise ValueError(f"metric {name} is a {spec.kind} with labels {spec.labels}")
        return spec
