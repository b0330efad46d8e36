"""The service for applications: HTTPS with certificates on both sides, by ETSI GS QKD 014."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.qkd.delivery.desk import KeyDesk
from qedge.web.key_delivery.connection import KeyConnections
from qedge.web.key_delivery.routes import KeyRoutes
from qedge.web.key_delivery.tls import LoadedTls, TlsFiles, exchange_offered, load_tls
from qedge.web.sockets import open_tcp

_LOG: Final = get_logger("web")
_STOP_LIMIT_S: Final = 0.5
_LOOK_S: Final = 1.0
"""How often certificates and revocation lists are looked at."""


class KeyService:
    """Serves one desk over one TLS listener; `prepare` runs before its files are read."""

    name = "keys-https"

    def __init__(
        self,
        desk: KeyDesk,
        files: TlsFiles,
        *,
        clock: Clock,
        metrics: Metrics,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._desk = desk
        self._files = files
        self._prepare = prepare
        self._metrics = metrics
        self._tls: LoadedTls | None = None
        self._stamp: tuple[tuple[int, int, int], ...] = ()
        self._routes = KeyRoutes(desk, revoked=self._revoked, clock=clock, metrics=metrics)
        self._listener: socket.socket | None = None
        self._factory: KeyConnections | None = None
        self._server: asyncio.Server | None = None
        self._one_at_a_time = asyncio.Lock()
        self._address = ""

    @property
    def address(self) -> str:
        """Return `https://HOST:PORT`; empty while nothing listens."""
        return self._address

    async def run(self, ready: Ready) -> None:
        """Serve until cancelled."""
        config = self._desk.config
        if self._prepare is not None:
            await self._prepare()
        await self._load()
        handlers = web.Server(self._routes.handle, request_factory=self._make_request)
        self._factory = KeyConnections(
            handlers,
            metrics=self._metrics,
            max_connections=config.max_connections,
            handshake_limit_s=config.handshake_limit_s,
        )
        self._listener = open_tcp(config.host, config.port, "qkd.delivery.port")
        try:
            await self._listen()
            host, port = self._listener.getsockname()[:2]
            self._address = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
            _LOG.info("keys.listening", address=self._address, exchange=exchange_offered())
            ready()
            while True:
                await asyncio.sleep(_LOOK_S)
                await self.reload(only_changed=True)
        finally:
            self._address = ""
            if self._server is not None:
                self._server.close()
            open_now = [connection.transport for connection in handlers.connections]
            await handlers.shutdown(_STOP_LIMIT_S)
            for transport in open_now:
                if transport is not None:
                    transport.abort()  # else each would wait for the other side's end of TLS
            await asyncio.sleep(0)
            self._listener.close()
            self._listener = self._server = None

    async def reload(self, *, only_changed: bool = False) -> None:
        """Read certificates and revocation lists again; where they are no good the old ones stay."""
        async with self._one_at_a_time:
            if self._listener is None or (only_changed and self._files.stamp() == self._stamp):
                return
            try:
                await self._load()
            except QedgeError as error:
                self._stamp = self._files.stamp()
                _LOG.error("keys.tls_refused", error=str(error))
                return
            await self._listen()
            _LOG.info("keys.tls_renewed")

    async def _load(self) -> None:
        stamp = self._files.stamp()
        self._tls = await asyncio.to_thread(load_tls, self._files)
        self._stamp = stamp

    async def _listen(self) -> None:
        """Accept with the newest context; open connections stay, and their certificates are looked at again."""
        if self._listener is None or self._factory is None or self._tls is None:
            return
        limit_s = self._desk.config.handshake_limit_s
        # The server closes its socket when it ends, so each gets a copy of the one that is bound.
        server = await asyncio.get_running_loop().create_server(
            self._factory,
            sock=self._listener.dup(),
            ssl=self._tls.context,
            ssl_handshake_timeout=limit_s,
            ssl_shutdown_timeout=_STOP_LIMIT_S,
        )
        old, self._server = self._server, server
        if old is not None:
            old.close()

    def _revoked(self) -> frozenset[int]:
        return self._tls.revoked if self._tls is not None else frozenset()

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=self._desk.config.body_limit_bytes
        )
