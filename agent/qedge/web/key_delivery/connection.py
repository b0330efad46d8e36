"""One connection of an application: as those of the other listeners, but for the bodies of its errors."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from aiohttp import web

from qedge.base.metrics import Metrics
from qedge.qkd.delivery.model import RefusalError
from qedge.web.connection import Connection, TurnedAway
from qedge.web.key_delivery.tls import Peer, exchange_of, peer_of

_BUSY: Final = b'{"message":"the KME has as many connections as it takes"}'
_BUSY_HEADERS: Final = b"Content-Type: application/json\r\nCache-Control: no-store\r\n"
_HEADERS: Final = {"Cache-Control": "no-store", "Server": "qedge", "X-Content-Type-Options": "nosniff"}


def key_answer(value: object, status: int = 200) -> web.Response:
    """Answer with JSON that nobody keeps."""
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json", headers=_HEADERS
    )


def refusal_answer(refusal: RefusalError) -> web.Response:
    """Answer with the Error body of the standard."""
    body: dict[str, object] = {"message": refusal.message}
    if refusal.details:
        body["details"] = list(refusal.details)
    answer = key_answer(body, refusal.status)
    if refusal.retry_s:
        answer.headers["Retry-After"] = str(refusal.retry_s)
    return answer


class KeyConnection(Connection):
    """A connection whose garbage is answered with the Error body of the standard."""

    __slots__ = ("_counts", "_pending", "peer")

    def __init__(
        self,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        pending: set[KeyConnection],
    ) -> None:
        super().__init__(server, loop=loop, metrics=metrics)
        self._counts = metrics
        self.peer: Peer | None = None
        self._pending = pending
        pending.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note whose connection it is, and how it is protected."""
        self._pending.discard(self)
        super().connection_made(transport)
        certificate = transport.get_extra_info("peercert")
        self.peer = peer_of(certificate) if certificate else None
        tls = transport.get_extra_info("ssl_object")
        version = tls.version() if tls is not None else None
        self._counts.add("qedge_keys_connections_total", (version or "none", exchange_of(tls)))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP, or is too large."""
        status = status if status in (400, 413) else 503
        self._counts.add("qedge_keys_connections_refused_total", ("no HTTP",))
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        answer = refusal_answer(RefusalError(status, "the request is not valid HTTP, or is too large"))
        answer.force_close()
        return answer


class KeyConnections:
    """Makes the protocol of each new connection, before its handshake."""

    def __init__(self, server: web.Server, *, metrics: Metrics, max_connections: int, handshake_limit_s: float) -> None:
        self._server = server
        self._metrics = metrics
        self._max_connections = max_connections
        self._handshake_limit_s = handshake_limit_s
        self._pending: set[KeyConnection] = set()
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> asyncio.Protocol:
        """Make one, or one that says no."""
        num_open = len(self._server.connections) + len(self._pending)
        self._metrics.set("qedge_keys_connections", num_open)
        if num_open >= self._max_connections:
            self._metrics.add("qedge_keys_connections_refused_total", ("too many",))
            return TurnedAway(_BUSY_HEADERS, _BUSY)
        connection = KeyConnection(self._server, loop=self._loop, metrics=self._metrics, pending=self._pending)
        # A handshake that fails tells nobody; asyncio has ended it by then.
        self._loop.call_later(self._handshake_limit_s + 1.0, self._pending.discard, connection)
        self._loop.call_later(2 * self._handshake_limit_s, self._close_if_silent, connection)
        return connection

    def _close_if_silent(self, connection: KeyConnection) -> None:
        if connection.is_silent and connection.transport is not None:
            self._metrics.add("qedge_keys_connections_refused_total", ("silent",))
            connection.transport.abort()
