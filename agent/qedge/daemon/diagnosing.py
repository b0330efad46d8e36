"""What a look at a box has to know of its configuration."""

from __future__ import annotations

from collections.abc import Iterator

from qedge.bus.endpoint import external_endpoint
from qedge.config import AgentConfig, Verdict
from qedge.fleet.diagnostics.model import BoxSettings, Listener


def box_settings(verdict: Verdict) -> BoxSettings:
    """Take from a configuration, faults and all, what a look at the box needs."""
    config = verdict.sound
    endpoint = external_endpoint(config.broker)
    fleet = config.fleet
    accesses = (config.broker, config.uplink, fleet.thin_edge, fleet.home_assistant, fleet.sparkplug)
    return BoxSettings(
        node=config.node.name,
        state_dir=config.node.state_dir,
        runtime_dir=config.node.runtime_dir,
        files=verdict.files,
        faults=tuple(str(fault) for fault in verdict.faults),
        listeners=tuple(_listeners(config)),
        broker=None if endpoint is None else (endpoint.host, endpoint.port),
        broker_kind=config.broker.kind,
        max_devices=config.devices.sessions.max_devices if config.devices.enabled else 0,
        drivers=tuple((name, driver.driver) for name, driver in config.drivers.items()),
        secret_files=_named(
            *(path for access in accesses for path in (access.password_file, access.key_file)),
            config.qkd.keys.wrapping_key_file,
            config.qkd.delivery.private_key,
            config.devices.listener.key_file,
        ),
        certificate_files=_named(
            *(access.cert_file for access in accesses),
            config.qkd.delivery.certificate,
            config.devices.listener.cert_file,
        ),
    )


def _listeners(config: AgentConfig) -> Iterator[Listener]:
    if config.http.enabled:
        yield Listener("http.port", config.http.host, config.http.port)
    if config.qkd.delivery.enabled:
        yield Listener("qkd.delivery.port", config.qkd.delivery.host, config.qkd.delivery.port)
    if config.broker.listen and not config.broker.url:
        yield _listener("broker.listen", config.broker.listen)
    if config.mesh.listen not in ("auto", "off"):
        yield _listener("mesh.listen", config.mesh.listen)
    if config.devices.enabled:
        listener = config.devices.listener
        yield from (_listener("devices.listener.listen", each) for each in listener.listen)
        yield from (_listener("devices.listener.listen_tls", each) for each in listener.listen_tls)


def _listener(key: str, address: str) -> Listener:
    host, _, port = address.rpartition(":")
    return Listener(key, host.strip("[]"), int(port))


def _named(*paths: str) -> tuple[str, ...]:
    return tuple(path for path in paths if path)
