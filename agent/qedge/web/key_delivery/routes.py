"""From an HTTP request to the rules of key delivery and back; nothing here decides who may have what.

Paths are split before they are decoded, so that an SAE id may hold any letter, `/` included (percent-encoded).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.qkd.delivery.desk import KeyDesk, refusal_of
from qedge.qkd.delivery.model import RefusalError, Sae, bad
from qedge.qkd.delivery.requests import key_ids_of_body, key_ids_of_query, key_request_of_body, key_request_of_query
from qedge.web.key_delivery.connection import KeyConnection, key_answer, refusal_answer

_LOG: Final = get_logger("web")
ROOT: Final = ("api", "v1", "keys")
METHODS: Final = {"status": ("GET",), "enc_keys": ("GET", "POST"), "dec_keys": ("GET", "POST")}
_MAX_PARAMETERS: Final = 16
_DENIAL_LOG_NS: Final = 10_000_000_000

Answer = Callable[["KeyRoutes", web.BaseRequest, Sae, str], Awaitable[dict[str, object]]]


class KeyRoutes:
    """The handler of all requests; `revoked` gives the serial numbers of certificates that count no more."""

    def __init__(
        self,
        desk: KeyDesk,
        *,
        revoked: Callable[[], frozenset[int]],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._desk = desk
        self._revoked = revoked
        self._clock = clock
        self._metrics = metrics
        self._denial_logged_ns = -_DENIAL_LOG_NS

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, always with JSON."""
        started_ns = self._clock.now_ns()
        call, status = "other", 499
        try:
            call, answer = await self._answer(request)
            status = answer.status
        finally:
            self._metrics.add("qedge_keys_requests_total", (call, str(status)))
            self._metrics.observe("qedge_keys_request_seconds", (self._clock.now_ns() - started_ns) / 1e9, (call,))
        return answer

    async def _answer(self, request: web.BaseRequest) -> tuple[str, web.Response]:
        call = "other"
        try:
            sae_id, call = _parts(request.raw_path)
            sae = self._caller(request)
            if call not in METHODS:
                return "other", refusal_answer(RefusalError(404, "there is no such resource; see ETSI GS QKD 014"))
            if request.method not in METHODS[call]:
                answer = refusal_answer(RefusalError(405, f"{call} does not know this method"))
                answer.headers["Allow"] = ", ".join(METHODS[call])
                return call, answer
            async with asyncio.timeout(self._desk.config.request_limit_s):
                return call, key_answer(await _CALLS[call](self, request, sae, sae_id))
        except RefusalError as refusal:
            self._log_denial(refusal)
            answer = refusal_answer(refusal)
        except QedgeError as error:
            answer = refusal_answer(refusal_of(error))
        except web.HTTPRequestEntityTooLarge:
            answer = refusal_answer(RefusalError(413, "the request body is larger than the KME takes"))
            answer.force_close()
        except TimeoutError:
            answer = refusal_answer(RefusalError(503, "the request took longer than its limit", retry_s=1))
            answer.force_close()
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - a fault in one request must not show its inside or end the service
            # The type alone: the text of an error of this program might hold a part of a key.
            _LOG.error("keys.not_answered", call=call, error=type(error).__name__)
            answer = refusal_answer(RefusalError(503, "the KME cannot serve this request now", retry_s=1))
        return call, answer

    def _caller(self, request: web.BaseRequest) -> Sae:
        """Tell who asks, by the certificate of the connection and by nothing else."""
        connection = request.protocol
        peer = connection.peer if isinstance(connection, KeyConnection) else None
        if peer is None:
            raise RefusalError(401, "the connection has no certificate")
        if peer.serial in self._revoked():
            raise RefusalError(401, "the certificate was revoked")
        if peer.until_s <= self._clock.utc_ns() / 1e9:
            raise RefusalError(401, "the certificate has expired")
        return self._desk.identify(peer.uris, peer.common_name)

    def _log_denial(self, refusal: RefusalError) -> None:
        # One line in ten seconds: whoever is refused may ask as often as they like.
        now_ns = self._clock.now_ns()
        if refusal.status == 401 and now_ns - self._denial_logged_ns >= _DENIAL_LOG_NS:
            self._denial_logged_ns = now_ns
            _LOG.warning("keys.denied", status=refusal.status, reason=refusal.message)

    async def _status(self, request: web.BaseRequest, sae: Sae, other: str) -> dict[str, object]:
        return await self._desk.status(sae, other)

    async def _enc_keys(self, request: web.BaseRequest, sae: Sae, other: str) -> dict[str, object]:
        if request.method == "GET":
            wanted = key_request_of_query(_query(request.raw_path))
        else:
            wanted = key_request_of_body(await _body(request))
        answer = await self._desk.get_keys(sae, other, wanted)
        self._metrics.add("qedge_keys_handed_total", ("enc_keys",), wanted.number)
        return answer

    async def _dec_keys(self, request: web.BaseRequest, sae: Sae, other: str) -> dict[str, object]:
        if request.method == "GET":
            ids = key_ids_of_query(_query(request.raw_path))
        else:
            ids = key_ids_of_body(await _body(request), self._desk.max_key_ids(sae))
        answer = await self._desk.get_keys_with_ids(sae, other, ids)
        self._metrics.add("qedge_keys_handed_total", ("dec_keys",), len(ids))
        return answer


_CALLS: Final[dict[str, Answer]] = {
    "status": KeyRoutes._status,
    "enc_keys": KeyRoutes._enc_keys,
    "dec_keys": KeyRoutes._dec_keys,
}


def _parts(raw_path: str) -> tuple[str, str]:
    """Return SAE id and call of `/api/v1/keys/{SAE}/{call}`; an empty call where the path is another."""
    path = raw_path.partition("?")[0]
    if "://" in path.split("/api/", 1)[0]:  # absolute form, as for a proxy
        path = "/" + path.partition("://")[2].partition("/")[2]
    segments = path.split("/")[1:]
    if len(segments) != 5 or tuple(segments[:3]) != ROOT or not segments[3]:
        return "", ""
    try:
        return unquote(segments[3], errors="strict"), segments[4]
    except UnicodeDecodeError:
        raise bad("the SAE id in the URL is not percent-encoded UTF-8") from None


def _query(raw_path: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            raw_path.partition("?")[2], keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
        )
    except (UnicodeDecodeError, ValueError):
        raise bad("the query cannot be read") from None


async def _body(request: web.BaseRequest) -> bytes:
    if "?" in request.raw_path:
        raise bad("POST takes its parameters in the body, not in a query")
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind not in ("", "application/json", "application/octet-stream"):
        raise bad("the request body shall be application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise bad("the request body shall not be compressed")
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun
    return await request.read()
