"""The MQTT servers of the configuration: where they are, and how this node is let in."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from typing import Final

from qedge.base.errors import QedgeError
from qedge.bus.config import BusConfig
from qedge.bus.credentials import read_password, tls_context
from qedge.bus.endpoint import external_endpoint
from qedge.bus.model import Endpoint
from qedge.fleet.sparkplug.config import SparkplugConfig

_FIX: Final = "Correct [fleet.sparkplug]."


@dataclass(frozen=True, slots=True)
class Server:
    """One server; `tls` says how to check it, None: without TLS."""

    endpoint: Endpoint
    tls: ssl.SSLContext | None = None


def read_servers(config: SparkplugConfig) -> tuple[Server, ...]:
    """Read passwords and certificates; raises `config.invalid`, `bus.refused`."""
    try:
        password = read_password(config.password_file)
        return tuple(_server(config, url, password) for url in config.servers)
    except QedgeError as error:
        raise QedgeError(error.code, error.message, fix=_FIX) from error


def _server(config: SparkplugConfig, url: str, password: str) -> Server:
    bus = BusConfig(url=url, ca_file=config.ca_file, cert_file=config.cert_file, key_file=config.key_file)
    endpoint = external_endpoint(bus)
    if endpoint is None:
        raise QedgeError("config.invalid", "A server has no address.", fix=_FIX)
    return Server(replace(endpoint, username=config.username, password=password), tls_context(bus))
