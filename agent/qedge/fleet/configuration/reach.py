"""How far the fleet's layer reaches: what it may set, what it may only make stricter, and what only the box says. Pure.

A layer takes the role operator, so nothing in it may let its author decide on trust: whom the node believes, who may
order or ask for keys, where it listens, which files it reads as secrets, what it checks and what it writes down.
Decision 0117 has the rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

from qedge.base.settings import KeyPath


class Reach(StrEnum):
    """What the fleet may do with a setting, beside repeating what the box says. Files of the box may do everything."""

    FREE = "free"
    """It may set it."""

    BOX = "box"
    """Nothing."""

    RAISE = "raise"
    """It may make the number larger."""

    LOWER = "lower"
    """It may make the number smaller."""

    SHORTEN = "shorten"
    """It may make the time shorter; 0 is the longest, since it means never."""

    ON = "on"
    """It may switch it on."""

    OFF = "off"
    """It may switch it off."""

    ADD = "add"
    """It may add to the list."""

    TIGHTEN = "tighten"
    """It may choose what stands further on in `ORDERS`."""


FREE_SECTIONS: Final[frozenset[str]] = frozenset(
    {
        "log",
        "engine",
        "placement",
        "ledger",
        "decode",
        "host",
        "state",
        "workers",
        "drivers.NAME",
        "devices.broker",
        "fleet.configuration",
        "fleet.telemetry",
        "fleet.renewal",
    }
)
"""Sections in which every setting is free: how much, how often, how long, and with which devices."""

_MIXED: Final[Mapping[str, Mapping[Reach, str]]] = {
    "node": {Reach.FREE: "labels", Reach.BOX: "name fleet state_dir runtime_dir"},
    "http": {
        Reach.FREE: "enabled host port page body_limit_bytes request_limit_s head_limit_s max_connections max_streams "
        "stream_buffer status_interval_s",
        Reach.BOX: "socket socket_group allowed_uids allowed_gids apps",
        Reach.LOWER: "page_link_s page_session_s",
    },
    "broker": {
        Reach.FREE: "url username kind keepalive_s session_expiry_s connect_timeout_s reconnect_cap_s receive_maximum "
        "queue_limit",
        Reach.BOX: "password_file ca_file cert_file key_file listen",
    },
    "crypto": {
        Reach.BOX: "key_exchange signatures ciphers extra_key_peers extra_key_period_s",
        Reach.RAISE: "floor",
        Reach.OFF: "experimental",
        Reach.TIGHTEN: "extra_key revocations_when_old",
        Reach.SHORTEN: "revocations_max_age_s",
    },
    "results": {Reach.RAISE: "check_share check_longest_s", Reach.ON: "check_idle"},
    "entropy": {
        Reach.FREE: "source pool_bytes refill_bytes read_deadline_s",
        Reach.LOWER: "alpha_exponent check_interval_s",
    },
    "mesh": {
        Reach.FREE: "pulse_s suspect_periods dead_periods margin_s forget_s max_peers",
        Reach.BOX: "join_file listen",
    },
    "uplink": {
        Reach.FREE: "url username node_class session_expiry_s reconnect_cap_s results spool_entries keep_of_one "
        "compare_s",
        Reach.BOX: "password_file ca_file cert_file key_file",
    },
    "qkd.links.NAME": {
        Reach.FREE: "alice bob transceiver peer distil block_bits commissioning block_timeout_s measure_deadline_s",
        Reach.BOX: "expected_loss_db",
        Reach.LOWER: "epsilon max_qber gain_tolerance",
        Reach.RAISE: "clean_blocks",
    },
    "qkd.keys": {
        Reach.FREE: "max_stored_mbit reserve_kbit block_wait_s peer_deadline_s max_tombstones",
        Reach.BOX: "wrapping_key_file",
        Reach.LOWER: "block_max_age_s key_max_age_s max_hops",
        Reach.RAISE: "tombstone_s",
        Reach.OFF: "relay",
    },
    "qkd.delivery": {
        Reach.FREE: "port names kme_ids key_size_bits max_key_size_bits max_keys_per_request max_key_count "
        "max_additional_saes body_limit_bytes request_limit_s handshake_limit_s max_connections",
        Reach.BOX: "host certificate private_key authorities revocations",
        Reach.OFF: "enabled common_name",
        Reach.RAISE: "min_key_size_bits",
    },
    "qkd.saes.NAME": {Reach.BOX: "id node permit max_keys_per_request max_keys_per_s"},
    "devices": {Reach.FREE: "enabled"},
    "devices.enrolment": {
        Reach.FREE: "max_pending",
        Reach.BOX: "open_to manufacturer_files approve_manufactured manufactured_class manufactured_segment",
        Reach.LOWER: "token_s certificate_s revocations_max_age_s",
    },
    "devices.sessions": {
        Reach.FREE: "max_devices full_handshakes_per_s resumptions_per_s enrolments_per_s waiting threads",
        Reach.LOWER: "full_s constrained_s kem_key_s",
    },
    "devices.listener": {
        Reach.FREE: "max_connections max_unauthenticated max_connections_per_address connects_per_s "
        "address_connects_per_s address_connects_burst connect_timeout_s max_keepalive_s max_message_bytes "
        "messages_per_s queue_messages queue_bytes stall_timeout_s",
        Reach.BOX: "listen listen_tls cert_file key_file",
        Reach.ON: "require_hybrid",
    },
    "devices.segments.NAME": {Reach.FREE: "channels retention bus upstream", Reach.BOX: "apps"},
    "devices.group_keys": {
        Reach.FREE: "join_window_ms handovers_per_s batch_ms feed_readings",
        Reach.LOWER: "max_age_s leave_window_ms subscription_s",
        Reach.ON: "rekey_on_join",
    },
    "devices.onward": {
        Reach.FREE: "batch_readings replay_per_s queue_readings critical.max_mib critical.max_age_s critical.drop "
        "telemetry.max_mib telemetry.max_age_s telemetry.drop bulk.max_mib bulk.max_age_s bulk.drop",
        Reach.BOX: "recipient",
    },
    "security.policy": {Reach.BOX: "file"},
    "security.trust": {
        Reach.BOX: "hysteresis",
        Reach.LOWER: "base gain_per_hour",
        Reach.RAISE: "quarantine_below",
        Reach.SHORTEN: "review_s",
    },
    "security.detection": {
        Reach.BOX: "learn_windows",
        Reach.LOWER: "messages connects malformed replayed denied channels failures deviation",
        Reach.RAISE: "failures_half_life_s max_addresses",
        Reach.SHORTEN: "silent_s",
        Reach.TIGHTEN: "mode",
    },
    "security.incidents": {
        Reach.BOX: "blast_ratio blast_least",
        Reach.LOWER: "severity throttle_hz",
        Reach.RAISE: "block_s demand quiet_s max_open max_kept",
    },
    "security.audit": {Reach.RAISE: "file_mib files queue", Reach.LOWER: "commit_ms checkpoint_s"},
    "fleet.commands": {
        Reach.FREE: "max_waiting max_kept keep_days checks_per_s",
        Reach.ADD: "two_persons",
        Reach.ON: "enabled synchronised_clock",
        Reach.LOWER: "clock_skew_s",
    },
    "fleet.thin_edge": {
        Reach.FREE: "enabled url username version keepalive_s root device service",
        Reach.BOX: "password_file ca_file cert_file key_file files commands",
    },
    "fleet.home_assistant": {
        Reach.FREE: "enabled url username version keepalive_s discovery_prefix state_prefix period_s announce_delay_s "
        "release_url remove",
        Reach.BOX: "password_file ca_file cert_file key_file",
        Reach.OFF: "install",
    },
    "fleet.sparkplug": {
        Reach.FREE: "enabled servers group node primary_host client_id username sample_s deadband_ratio keepalive_s "
        "connect_timeout_s reconnect_cap_s state_timeout_s births_per_s rebirth_gap_s replay_per_s history_rows "
        "history_s",
        Reach.BOX: "password_file ca_file cert_file key_file writable",
    },
}

REACHES: Final[Mapping[KeyPath, Reach]] = {
    (*section.split("."), *name.split(".")): reach
    for section, names in _MIXED.items()
    for reach, words in names.items()
    for name in words.split()
}
"""What holds for a setting outside the free sections; `NAME` stands for any name."""

ORDERS: Final[Mapping[KeyPath, tuple[str, ...]]] = {
    ("crypto", "extra_key"): ("off", "prefer", "require"),
    ("crypto", "revocations_when_old"): ("tell", "refuse-commands", "refuse-peers"),
    ("security", "detection", "mode"): ("observe", "enforce"),
}
"""Choices of settings that may be tightened, from loose to strict."""

_FREE: Final = frozenset(tuple(section.split(".")) for section in FREE_SECTIONS)
_NAMED: Final = frozenset(path[: path.index("NAME")] for path in {*REACHES, *_FREE} if "NAME" in path)


def pattern_of(path: KeyPath) -> KeyPath:
    """Return a path with `NAME` for the name of a table that has one."""
    table = next((path[:length] for length in range(1, len(path)) if path[:length] in _NAMED), None)
    return path if table is None else (*table, "NAME", *path[len(table) + 1 :])


def is_free(pattern: KeyPath) -> bool:
    """Say whether a setting lies in a section in which everything is free."""
    return any(pattern[:length] in _FREE for length in range(1, len(pattern) + 1))


def bounded_settings(values: Mapping[str, object], above: KeyPath = ()) -> Iterator[tuple[KeyPath, Reach, object]]:
    """Give the settings of a layer that are not free, with their values. What nobody knows is not among them."""
    for key, value in values.items():
        path = (*above, key)
        pattern = pattern_of(path)
        reach = REACHES.get(pattern)
        if reach is not None:
            if reach is not Reach.FREE:
                yield path, reach, value
        elif isinstance(value, Mapping) and not is_free(pattern):
            yield from bounded_settings(value, path)


def may_set(path: KeyPath, reach: Reach, box: object, value: object) -> bool:
    """Say whether the fleet may set what the box sets to `box`. Whether it is of the right type others look at."""
    box, value = _plain(box), _plain(value)
    if box == value and type(box) is type(value):
        return True
    if reach is Reach.ADD:
        # what always takes two persons need not be named
        return isinstance(value, list) and isinstance(box, list) and _words(box) - {"wipe"} <= _words(value)
    if reach is Reach.ON or reach is Reach.OFF:
        return value is (reach is Reach.ON)
    if reach is Reach.TIGHTEN:
        order = ORDERS[tuple(path)]
        return value in order and (box not in order or order.index(str(value)) >= order.index(str(box)))
    if reach is Reach.BOX or not isinstance(box, float) or not isinstance(value, float):
        return reach is Reach.FREE
    return _is_stricter(reach, box, value)


def _is_stricter(reach: Reach, box: float, value: float) -> bool:
    if reach is Reach.SHORTEN:
        box, value = (each or float("inf") for each in (box, value))
    return value >= box if reach is Reach.RAISE else value <= box


def expectation(reach: Reach, shown: str) -> str:
    """Say what the fleet may do with a setting that the box sets to `shown`."""
    return {
        Reach.RAISE: f"at least {shown}, as the box says, or less in a file of the box",
        Reach.LOWER: f"at most {shown}, as the box says, or more in a file of the box",
        Reach.SHORTEN: f"at most {shown}, as the box says (0 is never), or more in a file of the box",
        Reach.ON: "false in a file of the box",
        Reach.OFF: "true in a file of the box",
        Reach.ADD: f"all of {shown}, as the box says, and perhaps more",
        Reach.TIGHTEN: f"{shown}, as the box says, or something stricter",
    }.get(reach, "this key in a file of the box")


def _words(items: list[object]) -> set[str]:
    return {str(each) for each in items}


def _plain(value: object) -> object:
    """Return tuples as the lists that TOML has, and all numbers as floats."""
    if isinstance(value, tuple):
        return list(value)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
