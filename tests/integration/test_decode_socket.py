"""The WebSocket of decode streams over a fake decoder: who is let in, what is refused, what a slow reader costs."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.wire.decode import Answer, DecodeFailed, DecodeOpen, MemoryModel
from qedge.wire.problem import Problem
from tests.integration.web_site import Site, serving

pytestmark = pytest.mark.integration

OPEN = msgspec.json.encode(DecodeOpen(MemoryModel())).decode()


@asynccontextmanager
async def connected(site: Site) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    connector = aiohttp.UnixConnector(site.service.socket)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.ws_connect("http://localhost/v1/decode", max_msg_size=0) as stream,
    ):
        yield stream


async def refusal(stream: aiohttp.ClientWebSocketResponse) -> str:
    """Return the code with which the node ended the stream, and see it close the connection."""
    answer = msgspec.json.decode((await stream.receive()).data, type=Answer)
    assert isinstance(answer, DecodeFailed)
    assert (await stream.receive()).type is aiohttp.WSMsgType.CLOSE
    return answer.problem.code


async def log_in(site: Site, session: aiohttp.ClientSession) -> str:
    """Trade a page link for a session and return its proof."""
    async with site.client() as node:
        token = (await node.page_link()).url.partition("#link=")[2]
    login = {"type": "page-login/1", "token": token}
    async with session.post(f"{site.url}/v1/page-session", json=login) as answer:
        return str((await answer.json())["proof"])


async def test_messages_go_both_ways_until_the_stream_ends(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, connected(site) as stream:
        await stream.send_str(OPEN)
        assert (await stream.receive()).data == OPEN
        for number in range(100):
            await stream.send_bytes(bytes([number]))
        assert [(await stream.receive()).data for _ in range(100)] == [bytes([number]) for number in range(100)]
        await stream.send_str("end")
        assert (await stream.receive()).data == "end"
        assert (await stream.receive()).type is aiohttp.WSMsgType.CLOSE
        assert stream.close_code == 1000
    assert site.node.decoder.links[0].taken[-1] == "end"


async def test_a_request_that_is_no_websocket_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, site.client() as node:
        with pytest.raises(QedgeError) as caught:
            await node.ask("GET", "/v1/decode", Problem)
    assert caught.value.code == "http.bad_request"
    assert site.node.decoder.open == 0


async def test_loopback_without_a_session_and_other_sites_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, aiohttp.ClientSession() as session:
        for headers, status in (({}, 401), ({"Origin": "http://evil.example"}, 403)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(f"{site.url}/v1/decode", headers=headers)
            assert caught.value.status == status
    assert site.node.decoder.links == []


async def test_a_page_session_opens_a_stream_over_tcp(tmp_path: Path) -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    async with serving(tmp_path) as site, aiohttp.ClientSession(cookie_jar=jar) as session:
        headers = {"Qedge-Proof": await log_in(site, session)}
        async with session.ws_connect(f"{site.url}/v1/decode", headers=headers) as stream:
            await stream.send_str(OPEN)
            assert (await stream.receive()).data == OPEN


async def test_a_session_that_ends_takes_its_stream_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qedge.web.decode.routes._ACCESS_CHECK_S", 0.05)
    jar = aiohttp.CookieJar(unsafe=True)
    async with serving(tmp_path) as site, aiohttp.ClientSession(cookie_jar=jar) as session:
        headers = {"Qedge-Proof": await log_in(site, session)}
        async with session.ws_connect(f"{site.url}/v1/decode", headers=headers) as stream:
            await stream.send_str(OPEN)
            assert (await stream.receive()).data == OPEN
            async with session.delete(f"{site.url}/v1/page-session", headers=headers) as answer:
                assert answer.status < 300
            assert await refusal(stream) == "access.no_session"


async def test_too_many_streams_are_refused_before_the_upgrade_with_the_reason(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, connected(site), site.client() as node:
        site.node.decoder.limit = 1
        with pytest.raises(QedgeError) as caught:
            async with node.decode(MemoryModel()):
                raise AssertionError("the stream opened")
        assert caught.value.code == "decode.too_many_streams"
        site.node.decoder.limit = 2
        async with connected(site) as stream:
            await stream.send_str(OPEN)
            assert (await stream.receive()).data == OPEN


@pytest.mark.parametrize(("first", "code"), [(b"\x01", "decode.bad_open"), ("", "decode.bad_open")])
async def test_a_first_message_that_opens_nothing_ends_the_stream(
    tmp_path: Path, first: bytes | str, code: str
) -> None:
    async with serving(tmp_path) as site, connected(site) as stream:
        await (stream.send_bytes(first) if isinstance(first, bytes) else stream.send_str(first))
        assert await refusal(stream) == code
        assert stream.close_code == 1008


async def test_a_message_larger_than_the_limit_ends_the_stream(tmp_path: Path) -> None:
    async with serving(tmp_path, body_limit_bytes=4096) as site, connected(site) as stream:
        await stream.send_str(OPEN)
        await stream.receive()
        await stream.send_bytes(b"\0" * 200_000)
        kinds = [(await stream.receive()).type for _ in range(2)]
        assert aiohttp.WSMsgType.CLOSE in kinds or aiohttp.WSMsgType.CLOSED in kinds
    await _until_left(site)


async def test_bytes_that_are_no_websocket_frame_end_the_stream(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        with socket.socket(socket.AF_UNIX) as raw:
            raw.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(raw, site.service.socket)
            key = base64.b64encode(os.urandom(16))
            await loop.sock_sendall(
                raw,
                b"GET /v1/decode HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n",
            )
            assert b"101" in await loop.sock_recv(raw, 4096)
            await loop.sock_sendall(raw, b"\xff" * 4096)
            async with asyncio.timeout(20):
                while await loop.sock_recv(raw, 4096):
                    continue
        await _until_left(site)
        async with site.client() as node:
            await node.live()


async def test_what_breaks_a_stream_reaches_the_caller(tmp_path: Path) -> None:
    async with serving(tmp_path) as site, connected(site) as stream:
        await stream.send_str(OPEN)
        await stream.receive()
        site.node.decoder.links[0].broken(QedgeError("decode.worker_lost", "Gone.", committed=12))
        answer = msgspec.json.decode((await stream.receive()).data, type=DecodeFailed)
        assert answer.problem.details == {"committed": 12}
        assert (await stream.receive()).type is aiohttp.WSMsgType.CLOSE
        assert stream.close_code == 1011


async def test_a_reader_that_goes_away_leaves_its_place(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        async with connected(site) as stream:
            await stream.send_str(OPEN)
            await stream.receive()
            assert site.node.decoder.open == 1
        await _until_left(site)


async def test_a_slow_reader_holds_up_only_its_own_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qedge.web.decode.routes.WRITE_LIMIT_S", 0.3)
    async with serving(tmp_path) as site, site.client() as node:
        reader, writer = await asyncio.open_unix_connection(site.service.socket, limit=1024)
        writer.write(
            b"GET /v1/decode HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(os.urandom(16)) + b"\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        text = OPEN.encode()
        writer.write(b"\x81" + bytes([0x80 | 126]) + len(text).to_bytes(2, "big") + b"\0\0\0\0" + text)
        await reader.readexactly(4)
        link = site.node.decoder.links[0]
        for _ in range(200):
            link.take(b"\0" * 65_536)
        await node.live()
        await _until_left(site)
        writer.close()


async def _until_left(site: Site) -> None:
    async with asyncio.timeout(20):
        while site.node.decoder.open:
            await asyncio.sleep(0.02)
