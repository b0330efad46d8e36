"""The HTTP service: a unix socket that carries everything, and a loopback listener for what is public and the page."""

from __future__ import annotations

import asyncio
import grp
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.base.clock import Clock
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.web.access import Door, Rules, host_names
from qedge.web.config import WebConfig, socket_mode
from qedge.web.connection import ConnectionFactory
from qedge.web.events.hub import EventHub
from qedge.web.events.routes import HUB
from qedge.web.guard import Guard
from qedge.web.page.assets import Asset, load_assets
from qedge.web.page.routes import ASSETS
from qedge.web.routes import add_routes
from qedge.web.sockets import open_tcp, open_unix, remove_unix
from qedge.web.state import STATE, WebState
from qedge.web.tokens import PageTokens

if TYPE_CHECKING:
    from qedge.web.ports import NodePort

_LOG: Final = get_logger("web")
_STOP_LIMIT_S: Final = 0.5


class WebService:
    """Serves one node over HTTP."""

    name = "web"

    def __init__(
        self,
        config: WebConfig,
        node: NodePort,
        *,
        socket_path: Path,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
    ) -> None:
        self._config = config
        self._node = node
        self._socket_path = socket_path
        self._clock = clock
        self._metrics = metrics
        self._tokens = PageTokens(
            clock=clock, random_bytes=random_bytes, link_s=config.page_link_s, session_s=config.page_session_s
        )
        self._address = ""
        self.hub = EventHub(
            node,
            metrics,
            clock=clock,
            interval_s=config.status_interval_s,
            max_streams=config.max_streams,
            buffer_limit=config.stream_buffer,
        )

    @property
    def socket(self) -> str:
        """Return the path of the unix socket."""
        return str(self._socket_path)

    @property
    def address(self) -> str:
        """Return `http://127.0.0.1:PORT` of the loopback listener; empty while there is none."""
        return self._address

    async def run(self, ready: Ready) -> None:
        """Serve until cancelled."""
        assets = await asyncio.to_thread(load_assets)
        mode, group = socket_mode(self._config), self._config.socket_group
        unix = await asyncio.to_thread(open_unix, self._socket_path, mode, group)  # asks whoever is there already
        inode = self._socket_path.lstat().st_ino
        tcp: socket.socket | None = None
        doors = []
        try:
            if self._config.enabled:
                tcp = open_tcp(self._config.host, self._config.port)
                self._address = _address_of(tcp)
            for door, listener in ((Door.UNIX, unix), (Door.TCP, tcp)):
                if listener is not None:
                    state = self._state(door)
                    doors.append(await _OpenDoor.open(self._app(state, assets), state, listener))
            _LOG.info("http.listening", address=f"unix:{self._socket_path} {self._address}".rstrip())
            ready()
            await self.hub.run()
        finally:
            self.hub.close()
            await asyncio.gather(*(door.close() for door in doors))
            self._address = ""
            for listener in (unix, tcp):
                if listener is not None:
                    listener.close()
            remove_unix(self._socket_path, inode)

    def _app(self, state: WebState, assets: Mapping[str, Asset]) -> web.Application:
        guard = Guard(self._clock).middleware()
        app = web.Application(middlewares=[guard], client_max_size=self._config.body_limit_bytes)
        app[STATE] = state
        app[HUB] = self.hub
        app[ASSETS] = assets
        add_routes(app, self._node)
        return app

    def _state(self, door: Door) -> WebState:
        gids = set(self._config.allowed_gids)
        if self._config.socket_group:
            gids.add(grp.getgrnam(self._config.socket_group).gr_gid)
        host, _, port = self._address.removeprefix("http://").rpartition(":")
        return WebState(
            door=door,
            config=self._config,
            rules=Rules(
                daemon_uid=os.getuid(),
                uids=frozenset(self._config.allowed_uids),
                gids=frozenset(gids),
                apps=_users_of(self._config.apps),
                hosts=host_names(host.strip("[]"), int(port)) if port else frozenset(),
            ),
            tokens=self._tokens,
            metrics=self._metrics,
            address=self._address,
        )


def _users_of(apps: Mapping[str, tuple[int, ...]]) -> dict[int, frozenset[str]]:
    """Turn users by app into apps by user."""
    uids = {uid for users in apps.values() for uid in users}
    return {uid: frozenset(app for app, users in apps.items() if uid in users) for uid in uids}


class _OpenDoor:
    """One listener with its aiohttp application."""

    def __init__(self, runner: web.AppRunner, server: asyncio.Server) -> None:
        self._runner = runner
        self._server = server

    @classmethod
    async def open(cls, app: web.Application, state: WebState, listener: socket.socket) -> _OpenDoor:
        """Begin to accept connections."""
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_STOP_LIMIT_S)
        await runner.setup()
        handlers = runner.server
        if handlers is None:
            raise RuntimeError("aiohttp made no server")
        factory = ConnectionFactory(
            handlers,
            metrics=state.metrics,
            door=state.door,
            max_connections=state.config.max_connections,
            head_limit_s=state.config.head_limit_s,
        )
        loop = asyncio.get_running_loop()
        if state.door is Door.UNIX:
            return cls(runner, await loop.create_unix_server(factory, sock=listener))
        return cls(runner, await loop.create_server(factory, sock=listener))

    async def close(self) -> None:
        """Stop accepting, let requests end for a moment, then drop them."""
        self._server.close()
        if self._runner.server is not None:
            await self._runner.server.shutdown(_STOP_LIMIT_S)
        await self._runner.cleanup()


def _address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
