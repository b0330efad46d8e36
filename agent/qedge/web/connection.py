"""One HTTP connection: bounded in number, and closed when it sends nothing useful."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.web.answers import problem_answer, set_headers

KEEPALIVE_S: Final = 60.0
LINGER_S: Final = 1.0
_MAX_HEADERS: Final = 64

SILENT: Final = logging.getLogger("qedge.http")
"""aiohttp logs through this; what is worth knowing is in our metrics, and garbage must not fill the journal."""
SILENT.setLevel(logging.CRITICAL + 1)
SILENT.propagate = False


class Connection(web.RequestHandler):
    """aiohttp's connection, with our error body also for what is no HTTP at all."""

    __slots__ = ("_metrics",)

    def __init__(self, server: web.Server, *, loop: asyncio.AbstractEventLoop, metrics: Metrics) -> None:
        super().__init__(
            server,
            loop=loop,
            logger=SILENT,
            access_log=SILENT,
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            max_headers=_MAX_HEADERS,
            auto_decompress=False,  # a few bytes must not become many in our memory
        )
        self._metrics = metrics

    @property
    def is_silent(self) -> bool:
        """Say whether no whole request has come yet."""
        return self._request_count == 0

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP with a problem, and count it instead of logging it."""
        code = {413: "http.too_large", 500: "internal.unexpected"}.get(status, "http.bad_request")
        self._metrics.add("qedge_http_refused_total", (code,))
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        answer = problem_answer(QedgeError(code, "The request is not valid HTTP."), status)
        set_headers(answer.headers)
        answer.force_close()
        return answer


class TurnedAway(asyncio.Protocol):
    """Answers 503 at once, with these headers and this body: there are too many connections."""

    def __init__(self, headers: bytes = b"", body: bytes = b"") -> None:
        self._answer = (
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n%bContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (headers, len(body), body)
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer and hang up."""
        if isinstance(transport, asyncio.Transport):
            transport.write(self._answer)
            transport.close()


class ConnectionFactory:
    """Makes the protocol of each new connection of one listener."""

    def __init__(
        self, server: web.Server, *, metrics: Metrics, door: str, max_connections: int, head_limit_s: float
    ) -> None:
        self._server = server
        self._metrics = metrics
        self._door = door
        self._max_connections = max_connections
        self._head_limit_s = head_limit_s
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> asyncio.Protocol:
        """Make one, or one that says no."""
        num_open = len(self._server.connections)
        self._metrics.set("qedge_http_connections", num_open, (self._door,))
        if num_open >= self._max_connections:
            self._metrics.add("qedge_http_refused_total", ("http.busy",))
            return TurnedAway()
        connection = Connection(self._server, loop=self._loop, metrics=self._metrics)
        self._loop.call_later(self._head_limit_s, self._close_if_silent, connection)
        return connection

    def _close_if_silent(self, connection: Connection) -> None:
        if connection.is_silent and connection.transport is not None:
            self._metrics.add("qedge_http_refused_total", ("http.timeout",))
            connection.transport.abort()
