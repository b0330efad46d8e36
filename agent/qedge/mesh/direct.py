"""The direct channel: a TCP stream between two nodes that can reach each other, beside MQTT, for all sizes of messages.

Nothing but frames goes over it: `length (4, big-endian) | frame`, sealed with the session's keys for this channel. Who
dials sends a first frame that proves it has them; a connection that does not within seconds is closed. Addresses are
told inside the handshake only. The client of the session dials; where it cannot, the server does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable
from typing import Final

from qedge.base.backoff import Backoff
from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.mesh.peer_session import DIRECT, PeerSession
from qedge.wire.envelope import MAX_BYTES
from qedge_device.frame import OVERHEAD_BYTES, FrameError, parse_header

_LOG: Final = get_logger("mesh")
PART_BYTES: Final = MAX_BYTES - 4096
"""Of a message in one frame; what is left of an envelope's bound holds its header and the part's own fields."""

_MAX_FRAME_BYTES: Final = MAX_BYTES + OVERHEAD_BYTES
_FIRST_FRAME_BYTES: Final = 256
_KNOCK: Final = b"qedge direct"
_KNOCK_LIMIT_S: Final = 3.0
_DIAL_LIMIT_S: Final = 2.0
_SERVER_WAITS_S: Final = 1.5
_KEEPALIVE_S: Final = 5.0
_SILENCE_S: Final = 16.0
SEND_LIMIT_S: Final = 10.0
_MAX_STRANGERS: Final = 32
_BUFFER_BYTES: Final = 4 * 2**20

Find = Callable[[int], PeerSession | None]
Lost = Callable[[PeerSession], None]
Take = Callable[[PeerSession, bytes, str], None]


class DirectStream:
    """One connection that belongs to a session."""

    part_bytes = PART_BYTES

    def __init__(
        self, session: PeerSession, me: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clock: Clock
    ) -> None:
        self.session = session
        self.topic_out = f"direct/{me}/{session.peer}"
        self.topic_in = f"direct/{session.peer}/{me}"
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self.heard_ns = clock.now_ns()

    async def send(self, data: bytes) -> None:
        """Seal and send; waits for a while where the other side does not keep up.

        Raises `OSError` where the connection is gone, or given up: who reads nothing would have all answers pile up.
        """
        if self._writer.is_closing():
            raise ConnectionResetError("the direct channel is closed")
        frame = self.session.seal(DIRECT, data, self.topic_out, self._clock.now_ns())
        self._writer.writelines((len(frame).to_bytes(4, "big"), frame))
        try:
            async with asyncio.timeout(SEND_LIMIT_S):
                await self._writer.drain()
        except TimeoutError:
            self._writer.transport.abort()  # closing would wait until the other side has read what is there
            raise

    async def receive(self, limit_bytes: int = _MAX_FRAME_BYTES) -> bytes:
        """Return what the next frame holds; raises `OSError`, `EOFError`, or `session.*` for one that is not good."""
        size = int.from_bytes(await self._reader.readexactly(4), "big")
        if not OVERHEAD_BYTES <= size <= limit_bytes:
            raise QedgeError("session.bad_frame", "A frame on the direct channel has no possible length.")
        frame = await self._reader.readexactly(size)
        data = self.session.open(DIRECT, frame, self.topic_in)
        self.heard_ns = self._clock.now_ns()
        return data

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


class DirectChannel:
    """Listens, dials and keeps one stream for each session that can have one.

    `listen` is `off`, `auto` or `HOST:PORT`; `near_host` names the own address on the way to the broker, for `auto`.
    """

    def __init__(self, me: str, listen: str, *, near_host: Callable[[], str], clock: Clock, metrics: Metrics) -> None:
        self._me = me
        self._listen = listen
        self._near_host = near_host
        self._clock = clock
        self._metrics = metrics
        self._find: Find = lambda _key_id: None
        self._take: Take = lambda _session, _data, _where: None
        self._lost: Lost = lambda _session: None
        self._group: asyncio.TaskGroup | None = None
        self._streams: dict[bytes, DirectStream] = {}
        self._kept: set[bytes] = set()
        self._strangers = 0
        self.addresses: tuple[str, ...] = ()
        """Where this node listens, as `host:port`; empty where it does not."""

    def bind(self, find: Find, take: Take, lost: Lost) -> None:
        """Say how to find the session of a key id, who takes what a frame holds, and who hears of a lost stream."""
        self._find, self._take, self._lost = find, take, lost

    def stream(self, session: PeerSession) -> DirectStream | None:
        """Return the stream of a session, if it has one."""
        return self._streams.get(session.id)

    def close(self, session: PeerSession) -> None:
        """Close the stream of a session that is over or whose stream failed."""
        self._kept.discard(session.id)
        stream = self._streams.pop(session.id, None)
        if stream is not None:
            stream.close()
        self._gauge()

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Listen, within the life of `group`; a port that is taken is reported and the node does without."""
        self._group = group
        self._streams.clear()
        self._kept.clear()
        if self._listen == "off":
            return
        host, _, port = self._listen.rpartition(":") if self._listen != "auto" else (self._near_host(), "", "0")
        try:
            server = await asyncio.start_server(self._greet, host.strip("[]"), int(port), limit=_BUFFER_BYTES)
        except (OSError, ValueError) as error:
            _LOG.warning("direct.not_listening", address=self._listen, reason=str(error))
            return
        self.addresses = tuple(_shown(each.getsockname()) for each in server.sockets)
        _LOG.info("direct.listening", address=", ".join(self.addresses))
        group.create_task(self._serve(server))

    def keep(self, session: PeerSession) -> None:
        """Have a stream for `session` as long as it lives, where one side can reach the other."""
        if self._group is not None and session.theirs.direct and self._listen != "off":
            self._kept.add(session.id)
            self._group.create_task(self._keep(session))

    async def _serve(self, server: asyncio.Server) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.addresses = ()
            server.close()
            for stream in list(self._streams.values()):
                stream.close()

    async def _keep(self, session: PeerSession) -> None:
        backoff, attempt = Backoff(2.0, 120.0), 0
        if not session.is_client:
            await asyncio.sleep(_SERVER_WAITS_S)
        while session.id in self._kept:
            if session.id not in self._streams:
                attempt = 0 if await self._dial(session) else attempt + 1
            await asyncio.sleep(max(_KEEPALIVE_S, backoff.delay_s(attempt, 1.0)))
            stream = self._streams.get(session.id)
            if stream is None:
                continue
            if (self._clock.now_ns() - stream.heard_ns) / 1e9 > _SILENCE_S:
                self._drop(stream)
                continue
            with contextlib.suppress(OSError, QedgeError):
                await stream.send(b"")

    async def _dial(self, session: PeerSession) -> bool:
        for address in session.theirs.direct:
            try:
                host, port = _literal(address)
                async with asyncio.timeout(_DIAL_LIMIT_S):
                    reader, writer = await asyncio.open_connection(host, port, limit=_BUFFER_BYTES)
            except (OSError, ValueError, TimeoutError):
                continue
            stream = DirectStream(session, self._me, reader, writer, self._clock)
            try:
                async with asyncio.timeout(_KNOCK_LIMIT_S):
                    await stream.send(_KNOCK)
                    if await stream.receive(_FIRST_FRAME_BYTES) != _KNOCK:
                        raise QedgeError("session.bad_frame", "The other side of a direct channel did not answer.")
            except (OSError, EOFError, QedgeError, TimeoutError):
                stream.close()
                continue
            self._attach(stream)
            return True
        return False

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection whose first frame is of a session; close any other within seconds."""
        if self._strangers >= _MAX_STRANGERS:
            writer.close()
            return
        self._strangers += 1
        try:
            async with asyncio.timeout(_KNOCK_LIMIT_S):
                stream = await self._identify(reader, writer)
                await stream.send(_KNOCK)
        except (OSError, EOFError, QedgeError, FrameError, TimeoutError):
            self._metrics.add("qedge_direct_refused_total")
            writer.close()
            return
        finally:
            self._strangers -= 1
        self._attach(stream)

    async def _identify(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> DirectStream:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if not OVERHEAD_BYTES <= size <= _FIRST_FRAME_BYTES:
            raise QedgeError("session.bad_frame", "The first frame of a direct channel has no possible length.")
        frame = await reader.readexactly(size)
        session = self._find(parse_header(frame).key_id)
        if session is None:
            raise QedgeError("session.unknown", "A direct channel was opened for no session.")
        stream = DirectStream(session, self._me, reader, writer, self._clock)
        if session.open(DIRECT, frame, stream.topic_in) != _KNOCK:
            raise QedgeError("session.bad_frame", "The first frame of a direct channel says something else.")
        return stream

    def _attach(self, stream: DirectStream) -> None:
        before = self._streams.get(stream.session.id)
        if before is not None:
            before.close()
        if self._group is None:
            stream.close()
            return
        self._streams[stream.session.id] = stream
        self._gauge()
        _LOG.info("direct.open", peer=stream.session.peer)
        self._group.create_task(self._listen_to(stream))

    async def _listen_to(self, stream: DirectStream) -> None:
        reason = "closed"
        try:
            while True:
                data = await stream.receive()
                if data:
                    self._take(stream.session, data, stream.topic_in)
        except (OSError, EOFError) as error:
            reason = str(error) or type(error).__name__
        except QedgeError as error:
            # A frame that is not good on a stream means that the stream itself was tampered with.
            reason = error.message
            self._metrics.add("qedge_direct_refused_total")
        finally:
            self._drop(stream)
            _LOG.info("direct.closed", peer=stream.session.peer, reason=reason)

    def _drop(self, stream: DirectStream) -> None:
        stream.close()
        if self._streams.get(stream.session.id) is stream:
            del self._streams[stream.session.id]
            self._lost(stream.session)
        self._gauge()

    def _gauge(self) -> None:
        self._metrics.set("qedge_direct_open", len(self._streams))


def _literal(address: str) -> tuple[str, int]:
    """Read `host:port`; names are refused, so that a peer cannot make this node ask a name server."""
    host, _, port = address.rpartition(":")
    return str(ipaddress.ip_address(host.strip("[]"))), int(port)


def _shown(address: tuple[object, ...]) -> str:
    host, port = str(address[0]), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_towards(host: str) -> str:
    """Return the own address from which `host` would be reached, without sending anything; loopback where unknown."""
    try:
        family = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0][0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"
