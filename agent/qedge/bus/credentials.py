"""What the configuration names to be let in at a broker: password file, certificates."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from qedge.base.errors import QedgeError
from qedge.bus.config import BusConfig

_MAX_PASSWORD_BYTES: Final = 65_535


def read_password(path: str) -> str:
    """Return the first line of a file, empty where none is named; raises `bus.refused`."""
    if not path:
        return ""
    try:
        with Path(path).open("rb") as file:
            return file.read(_MAX_PASSWORD_BYTES).decode("utf-8").splitlines()[0]
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise QedgeError(
            "bus.refused", f"The password file {path} cannot be read.", fix="Correct broker.password_file."
        ) from error


def tls_context(config: BusConfig) -> ssl.SSLContext | None:
    """Return how to check the broker and to show ourselves, None for a broker without TLS; raises `bus.refused`."""
    if not config.url.startswith("mqtts://"):
        return None
    try:
        context = ssl.create_default_context(cafile=config.ca_file or None)
        if config.cert_file:
            context.load_cert_chain(config.cert_file, config.key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise QedgeError(
            "bus.refused", f"The certificates for the broker cannot be used: {error}.", fix="Correct [broker]."
        ) from error
    return context
