"""HTTPS to one key manager over one connection that is kept, with the standard library."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from qedge_driver_api import FatalError, RetriableError
from qedge_drivers.etsi014.settings import Etsi014Settings

MAX_ANSWER: Final = 16 * 2**20
_PIECE_BYTES: Final = 1 << 18
IDLE_S: Final = 10.0
"""A connection idle for longer is not trusted: a key manager may close it just when a request is sent."""


@dataclass(frozen=True)
class Reply:
    """An answer: its JSON value, and the message where it is an error."""

    status: int
    value: object
    message: str

    def __repr__(self) -> str:
        return f"Reply({self.status})"  # the value may hold keys


class Kme:
    """Raises `RetriableError` where the key manager cannot be reached, `FatalError` where it is the wrong one."""

    def __init__(self, settings: Etsi014Settings) -> None:
        parts = urlsplit(settings.url)
        self._settings = settings
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._prefix = parts.path.rstrip("/") + "/api/v1/keys/"
        self._context = _context(settings)
        self._connection: http.client.HTTPSConnection | None = None
        self._used_s = 0.0
        self.tls_version = ""

    def get(self, sae: str, call: str) -> Reply:
        """GET."""
        return self._request("GET", sae, call, None)

    def post(self, sae: str, call: str, value: Mapping[str, object]) -> Reply:
        """POST a JSON object."""
        return self._request("POST", sae, call, json.dumps(value).encode())

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _request(self, method: str, sae: str, call: str, body: bytes | None) -> Reply:
        until_s = time.monotonic() + self._settings.timeout_s
        headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if body is not None else {})
        try:
            connection = self._connect()
            connection.request(method, f"{self._prefix}{quote(sae, safe='')}/{call}", body, headers)
            answer = connection.getresponse()
            data = self._read(answer, until_s)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise RetriableError(f"{self._host}:{self._port} cannot be reached: {_why(error)}.") from error
        self._used_s = time.monotonic()
        if len(data) > MAX_ANSWER:
            self.close()
            raise FatalError("The key manager's answer is too large.")
        return _reply(answer.status, data)

    def _read(self, answer: http.client.HTTPResponse, until_s: float) -> bytes:
        """Read a body: the socket's own limit is for each piece, so one that comes byte by byte would never end."""
        data = bytearray()
        while len(data) <= MAX_ANSWER and (piece := answer.read1(_PIECE_BYTES)):
            data += piece
            if time.monotonic() > until_s:
                raise TimeoutError(f"its answer takes longer than {self._settings.timeout_s:g} s")
        answer.close()  # else the connection waits for the rest of it, where `read1` alone was used
        return bytes(data)

    def _connect(self) -> http.client.HTTPSConnection:
        if self._connection is not None and time.monotonic() - self._used_s <= IDLE_S:
            return self._connection
        self.close()
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=self._settings.timeout_s, context=self._context
        )
        try:
            connection.connect()
            tls = connection.sock
            if isinstance(tls, ssl.SSLSocket):
                self.tls_version = tls.version() or ""
                self._check_identity(tls.getpeercert() or {})
        except (FatalError, OSError, http.client.HTTPException):
            connection.close()
            raise
        self._connection = connection
        return connection

    def _check_identity(self, certificate: Mapping[str, object]) -> None:
        """Stop before anything is sent where the certificate is of another key manager (clause 5.1)."""
        wanted = self._settings.kme_id
        if wanted and wanted not in names_of(certificate):
            raise FatalError(f"The certificate at {self._host}:{self._port} is not that of KME {wanted}.")


def names_of(certificate: Mapping[str, object]) -> frozenset[str]:
    """Return the URIs of a certificate as `ssl` tells them, or where it has none its common names."""
    alternatives = certificate.get("subjectAltName", ())
    uris = [unquote(value) for kind, value in _pairs(alternatives) if kind == "URI"]
    subject = certificate.get("subject", ())
    parts = subject if isinstance(subject, tuple) else ()
    common = [value for part in parts for kind, value in _pairs(part) if kind == "commonName"]
    return frozenset(uris or common)


def _pairs(value: object) -> list[tuple[str, str]]:
    items = value if isinstance(value, tuple) else ()
    return [(str(item[0]), str(item[1])) for item in items if isinstance(item, tuple) and len(item) == 2]


def _reply(status: int, data: bytes) -> Reply:
    try:
        value = json.loads(data) if data.strip() else None
    except (ValueError, RecursionError):
        value = None
    told = value.get("message") if isinstance(value, dict) else None
    return Reply(status, value, told if isinstance(told, str) else "")


def _context(settings: Etsi014Settings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    where = settings.authorities
    try:
        context.load_verify_locations(where)
        where = settings.certificate
        context.load_cert_chain(settings.certificate, settings.private_key, password=_no_password)
    except (OSError, ValueError) as error:
        raise FatalError(f"{where} cannot be used: {_why(error)}.") from error
    return context


def _no_password() -> str:
    raise ValueError("the private key is sealed by a password")


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error or type(error).__name__)
