"""What the configuration names to be let in at a broker: password file, certificates."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from qedge.base.errors import QedgeError
from qedge.base.file_stamps import FileStamps, file_stamps
from qedge.base.log import get_logger
from qedge.bus.config import BusConfig

_LOG: Final = get_logger("bus")
_MAX_PASSWORD_BYTES: Final = 65_535


class BrokerCredentials:
    """Certificates and password as their files say now: a new connection uses new ones without a restart."""

    def __init__(self, config: BusConfig) -> None:
        """Read them; raises `bus.refused`."""
        self._config = config
        self._stamps = self._look()
        self._tls, self._password = tls_context(config), read_password(config.password_file)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """How to check the broker and to show ourselves; None without TLS. Blocks where a file was changed."""
        self._renew()
        return self._tls

    @property
    def password(self) -> str:
        """The password; empty: none. Blocks where a file was changed."""
        self._renew()
        return self._password

    def _renew(self) -> None:
        """Read again what was changed; what is no good is told once, and the old stays."""
        stamps = self._look()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self._tls, self._password = tls_context(self._config), read_password(self._config.password_file)
        except QedgeError as error:
            _LOG.error("bus.credentials_refused", error=str(error))
            return
        _LOG.info("bus.credentials_renewed")

    def _look(self) -> FileStamps:
        config = self._config
        return file_stamps((config.ca_file, config.cert_file, config.key_file, config.password_file))


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
