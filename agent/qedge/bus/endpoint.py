"""Where the configured broker is."""

from __future__ import annotations

from qedge.base.errors import QedgeError
from qedge.bus.config import BusConfig
from qedge.bus.model import Endpoint


def external_endpoint(config: BusConfig) -> Endpoint | None:
    """Return the configured broker, or None where the node has a private one; raises `config.invalid`."""
    if not config.url:
        return None
    scheme, _, rest = config.url.partition("://")
    host, _, port = rest.rpartition(":") if ":" in rest.rpartition("]")[2] else (rest, "", "")
    tls = scheme == "mqtts"
    if port and not (port.isdecimal() and 0 < int(port) < 65_536):
        raise QedgeError("config.invalid", f"broker.url has no valid port: {port!r}.", fix="Use 1 to 65535.")
    return Endpoint(host.strip("[]"), int(port) if port else (8883 if tls else 1883), "external", tls)
