"""A node as a Python object: every route of its unix socket as a typed method.

async with NodeClient() as node:
    job = await node.submit(JobSubmission(program=text, shots=1000), wait_s=30)
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from qedge.base.errors import QedgeError
from qedge.client.answers import decode, error_in, timed_out
from qedge.client.configuration import ConfigurationClient
from qedge.client.decoding import DecodeStream, open_stream
from qedge.client.devices import DevicesClient
from qedge.client.endless import read_endless
from qedge.client.fleet import FleetClient
from qedge.client.keys import KeysClient
from qedge.client.news import News, read_news
from qedge.client.paths import find_socket
from qedge.client.policy import PolicyClient
from qedge.client.security import SecurityClient
from qedge.client.segments import SegmentsClient
from qedge.client.sse import ServerEvent
from qedge.client.state import StateClient
from qedge.wire.assessment import Assessment
from qedge.wire.decode import DecodeOpen, MemoryModel, StimModel
from qedge.wire.device import DeviceView
from qedge.wire.http import LinkList, Readiness
from qedge.wire.jobs import (
    BatchEntry,
    BatchView,
    JobBatch,
    JobEstimate,
    JobList,
    JobState,
    JobSubmission,
    JobView,
    TemplateText,
    TemplateView,
)
from qedge.wire.mesh import PeerList
from qedge.wire.node import (
    DriverChange,
    DriverList,
    DriverView,
    LinkMeasure,
    LinkView,
    NodeStatus,
    PageLink,
    PingRequest,
    PingView,
    RandomRequest,
    RandomView,
)

T = TypeVar("T")

MAX_WAIT_S: Final = 30.0
"""Longest wait that the node allows in one request; `wait` asks again."""

ENDED: Final = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})

_SLACK_S: Final = 5.0
_WHOLE_BYTES: Final = 1 << 19
_ASSESS_LIMIT_S: Final = 600.0
_COMPILE_S: Final = 90.0
"""The node compiles an error model within a minute unless it is configured otherwise."""


class NodeClient:
    """Speaks to one node over its unix socket; every method raises `QedgeError`.

    `socket_path` empty looks for the daemon of this box (`qedge.client.paths`); `timeout_s` limits each request.
    """

    def __init__(self, socket_path: Path | str = "", *, timeout_s: float = 60.0) -> None:
        self._path = Path(socket_path) if str(socket_path) else find_socket(os.environ)
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    @property
    def socket_path(self) -> Path:
        """Return the socket this client speaks to."""
        return self._path

    async def __aenter__(self) -> NodeClient:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._path), limit=64), base_url="http://localhost", trust_env=False
        )
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def status(self) -> NodeStatus:
        """Describe the node."""
        return await self._call("GET", "/v1/status", NodeStatus)

    async def live(self) -> None:
        """Return if the node's event loop runs."""
        await self._request("GET", "/health/live")

    async def ready(self) -> Readiness:
        """Tell whether the node does its work now, and why not."""
        status, body = await self._exchange("GET", "/health/ready", None, self._timeout_s)
        if status in (200, 503):
            try:
                return msgspec.json.decode(body, type=Readiness)
            except msgspec.DecodeError:
                pass  # a 503 may also be a problem
        raise error_in(status, body)

    async def metrics(self) -> str:
        """Return the node's metrics as Prometheus text."""
        return (await self._request("GET", "/metrics")).decode()

    async def submit(self, submission: JobSubmission, *, wait_s: float = 0.0) -> JobView:
        """Hand a job over; it is accepted when this returns. With `wait_s` (≤ 30) its end is waited for that long."""
        wait_s = min(wait_s, MAX_WAIT_S)
        return await self._call(
            "POST",
            f"/v1/jobs?wait_s={wait_s}" if wait_s > 0 else "/v1/jobs",
            JobView,
            body=msgspec.structs.replace(submission, dry_run=False),
            timeout_s=max(self._timeout_s, wait_s + _SLACK_S),
        )

    async def submit_batch(self, submissions: Sequence[JobSubmission]) -> tuple[BatchEntry, ...]:
        """Hand over up to 256 jobs at once; each is accepted or refused by itself."""
        batch = JobBatch(tuple(submissions))
        return (await self._call("POST", "/v1/batches", BatchView, body=batch)).entries

    async def add_template(self, program: str) -> TemplateView:
        """Have a program kept, to be run by its hash."""
        return await self._call("POST", "/v1/templates", TemplateView, body=TemplateText(program))

    async def template(self, name: str) -> TemplateView:
        """Return a program that the node keeps."""
        return await self._call("GET", f"/v1/templates/{quote(name, safe='')}", TemplateView)

    async def estimate(self, submission: JobSubmission) -> JobEstimate:
        """Have a job parsed and estimated, no more."""
        return await self._call("POST", "/v1/jobs", JobEstimate, body=msgspec.structs.replace(submission, dry_run=True))

    async def job(self, job_id: str, *, wait_s: float = 0.0) -> JobView:
        """Return a job; with `wait_s` (≤ 30) once it has ended, or as it is after that time."""
        wait_s = min(wait_s, MAX_WAIT_S)
        query = f"?wait_s={wait_s}" if wait_s > 0 else ""
        return await self._call(
            "GET",
            f"/v1/jobs/{quote(job_id, safe='')}{query}",
            JobView,
            timeout_s=max(self._timeout_s, wait_s + _SLACK_S),
        )

    async def wait(self, job_id: str, *, timeout_s: float) -> JobView:
        """Return the job once it has ended; raises `client.timeout` where it has not within `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = deadline - time.monotonic()
            job = await self.job(job_id, wait_s=max(0.0, min(left_s, MAX_WAIT_S)))
            if job.state in ENDED:
                return job
            if left_s <= 0:
                raise QedgeError(
                    "client.timeout",
                    f"The job is still {job.state} after {timeout_s:g} s.",
                    fix=f"It goes on; ask with `qedge jobs show {job_id}`.",
                )

    async def jobs(self, limit: int = 50) -> tuple[JobView, ...]:
        """Return the newest jobs, without results."""
        return (await self._call("GET", f"/v1/jobs?limit={limit}", JobList)).jobs

    async def cancel(self, job_id: str) -> JobView:
        """Cancel a job."""
        return await self._call("DELETE", f"/v1/jobs/{quote(job_id, safe='')}", JobView)

    async def random(self, request: RandomRequest) -> RandomView:
        """Draw random bytes."""
        return await self._call("POST", "/v1/random", RandomView, body=request)

    async def peers(self) -> PeerList:
        """Return all members of the fleet that the node knows, itself included."""
        return await self._call("GET", "/v1/peers", PeerList)

    async def drivers(self) -> tuple[DriverView, ...]:
        """Return all configured drivers."""
        return (await self._call("GET", "/v1/drivers", DriverList)).drivers

    async def change_driver(self, name: str, change: DriverChange) -> DriverView:
        """Lock, unlock or reconfigure a driver."""
        return await self._call("PATCH", f"/v1/drivers/{quote(name, safe='')}", DriverView, body=change)

    async def assess(self, name: str) -> Assessment:
        """Have the node measure one of its QPUs, which takes some seconds."""
        path = f"/v1/drivers/{quote(name, safe='')}/assess"
        return await self._call("POST", path, Assessment, timeout_s=_ASSESS_LIMIT_S)

    async def device(self, name: str) -> DeviceView:
        """Return what a QPU is like now."""
        return await self._call("GET", f"/v1/drivers/{quote(name, safe='')}/device", DeviceView)

    async def links(self) -> tuple[LinkView, ...]:
        """Return all QKD links."""
        return (await self._call("GET", "/v1/links", LinkList)).links

    async def measure_link(self, name: str, request: LinkMeasure) -> LinkView:
        """Take one window on a link."""
        return await self._call("POST", f"/v1/links/{quote(name, safe='')}/measure", LinkView, body=request)

    async def ping(self, request: PingRequest) -> PingView:
        """Measure the way to a peer."""
        limit_s = request.count * request.timeout_s + _SLACK_S
        return await self._call("POST", "/v1/ping", PingView, body=request, timeout_s=max(self._timeout_s, limit_s))

    async def page_link(self) -> PageLink:
        """Make a link that opens the live page once."""
        return await self._call("POST", "/v1/page-link", PageLink)

    async def events(self) -> AsyncGenerator[NodeStatus | JobView, None]:
        """Follow the node: its status about once a second, each job when it changes (without its result).

        Ends when the daemon stops; raises `client.no_daemon` where it is gone, `client.timeout` where it falls silent.
        """
        async with aclosing(self.news()) as stream:
            async for news in stream:
                if isinstance(news.what, (NodeStatus, JobView)):
                    yield news.what

    def news(self, after: str = "") -> AsyncGenerator[News, None]:
        """Read the node's stream with its events too; see `qedge.client.news`, also for `follow`, which reconnects."""
        return read_news(self._open_session(), self._no_daemon, after)

    def stream(self, path: str) -> AsyncGenerator[ServerEvent, None]:
        """Follow any endless answer of the node, as `events`."""
        return read_endless(self._open_session(), path, self._no_daemon)

    @asynccontextmanager
    async def decode(
        self, model: MemoryModel | StimModel, *, window: int = 0, commit: int = 0, credit: int = 0
    ) -> AsyncIterator[DecodeStream]:
        """Open a decode stream; see `DecodeOpen` for the numbers and `DecodeStream` for what to do with it."""
        wanted = DecodeOpen(model, window, commit, credit)
        socket = await self._connect("/v1/decode")
        try:
            try:
                async with asyncio.timeout(max(self._timeout_s, _COMPILE_S)):
                    stream = await open_stream(socket, wanted)
            except TimeoutError as error:
                raise timed_out(max(self._timeout_s, _COMPILE_S)) from error
            reading = asyncio.create_task(stream.read())
            try:
                yield stream
            finally:
                # in this order: a reader that is cancelled leaves the node's own end of the stream unread
                await socket.close()
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        finally:
            await socket.close()

    async def _connect(self, path: str) -> aiohttp.ClientWebSocketResponse:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._open_session().ws_connect(path, max_msg_size=0)
        except aiohttp.WSServerHandshakeError as refused:
            raise await self._why_refused(path, refused.status) from None
        except TimeoutError as error:
            raise timed_out(self._timeout_s) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._no_daemon(error) from error

    async def _why_refused(self, path: str, status: int) -> QedgeError:
        """Return why a handshake failed: its answer is hidden, so the same is asked without it."""
        try:
            await self._request("GET", path)
        except QedgeError as error:
            if error.code != "http.bad_request" or status != 503:
                return error
        return QedgeError("http.busy", f"The node answered with HTTP status {status}.", fix="Try again.")

    @property
    def fleet(self) -> FleetClient:
        """The node's place in a fleet."""
        return FleetClient(self)

    @property
    def security(self) -> SecurityClient:
        """Incidents, trust and the audit log."""
        return SecurityClient(self)

    @property
    def keys(self) -> KeysClient:
        """Keys and the applications that get them."""
        return KeysClient(self)

    @property
    def devices(self) -> DevicesClient:
        """Attached devices."""
        return DevicesClient(self)

    @property
    def configuration(self) -> ConfigurationClient:
        """The fleet's configuration of the node."""
        return ConfigurationClient(self)

    @property
    def policy(self) -> PolicyClient:
        """The node's policy."""
        return PolicyClient(self)

    @property
    def segments(self) -> SegmentsClient:
        """Segments of attached devices, and commands to devices."""
        return SegmentsClient(self)

    @property
    def state(self) -> StateClient:
        """The state that nodes share."""
        return StateClient(self)

    async def ask(
        self, method: str, path: str, kind: type[T], *, body: msgspec.Struct | None = None, timeout_s: float = 0.0
    ) -> T:
        """Ask any route of the node and decode its answer."""
        return await self._call(method, path, kind, body=body, timeout_s=timeout_s)

    async def tell(self, method: str, path: str, body: msgspec.Struct, timeout_s: float = 0.0) -> None:
        """Ask any route of the node whose answer is empty."""
        await self._request(method, path, body, timeout_s)

    async def _call(
        self, method: str, path: str, kind: type[T], *, body: msgspec.Struct | None = None, timeout_s: float = 0.0
    ) -> T:
        return decode(await self._request(method, path, body, timeout_s), kind)

    async def _request(
        self, method: str, path: str, body: msgspec.Struct | None = None, timeout_s: float = 0.0
    ) -> bytes:
        status, answer = await self._exchange(method, path, body, timeout_s or self._timeout_s)
        if status >= 400:
            raise error_in(status, answer)
        return answer

    async def _exchange(
        self, method: str, path: str, body: msgspec.Struct | None, timeout_s: float
    ) -> tuple[int, bytes]:
        encoded = msgspec.json.encode(body) if body is not None else None
        # aiohttp warns of large bodies in one piece, and reads streams in a thread
        data = io.BytesIO(encoded) if encoded is not None and len(encoded) > _WHOLE_BYTES else encoded
        headers = {"Content-Type": "application/json"} if encoded else {}
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._open_session().request(
                method, path, data=data, headers=headers, timeout=timeout
            ) as answer:
                return answer.status, await answer.read()
        except TimeoutError as error:
            raise timed_out(timeout_s) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._no_daemon(error) from error

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use the client as `async with NodeClient() as node:`")
        return self._session

    def _no_daemon(self, error: Exception) -> QedgeError:
        if isinstance(error, PermissionError) or isinstance(getattr(error, "os_error", None), PermissionError):
            return QedgeError(
                "access.denied",
                f"You may not use the socket {self._path}.",
                fix="Run the command as the daemon's user or root, or have yourself added to http.socket_group.",
            )
        return QedgeError(
            "client.no_daemon",
            f"No daemon answers at {self._path}.",
            fix="Start one with `qedge run`, or name its socket with --socket or QEDGE_SOCKET.",
        )
