"""Clients that are slow, silent or too many cost the key manager nothing that others need."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.client.kme import path_of
from qedge.qkd.delivery.config import DeliveryConfig
from tests.integration.kme_site import two_kmes

QUICK = DeliveryConfig(enabled=True, max_connections=8, request_limit_s=1.0, handshake_limit_s=0.5)


async def test_one_connection_too_many_is_told_so_in_json(tmp_path: Path) -> None:
    async with two_kmes(tmp_path, QUICK) as kmes, AsyncExitStack() as stack:
        for _ in range(8):
            link = await stack.enter_async_context(kmes.link("alice", "A"))
            assert (await link.request("GET", path_of("bob", "status"))).status == 200
        extra = await stack.enter_async_context(kmes.link("eve", "A"))
        reply = await extra.request("GET", path_of("bob", "status"))
        assert reply.status == 503
        assert "connections" in json.loads(reply.body)["message"]
        assert reply.headers["retry-after"] == "1"
        await link.close()
        async with asyncio.timeout(30):
            while (await extra.request("GET", path_of("bob", "status"))).status != 200:
                await asyncio.sleep(0.05)


async def test_a_body_that_does_not_come_ends_in_503_and_a_silent_connection_is_closed(tmp_path: Path) -> None:
    async with two_kmes(tmp_path, QUICK) as kmes, kmes.link("alice", "A") as slow, kmes.link("alice", "A") as silent:
        head = f"POST {path_of('bob', 'enc_keys')} HTTP/1.1\r\nHost: kme\r\nContent-Length: 10\r\n\r\n{{"
        await slow.send(head.encode())
        await silent.open()
        reply = await slow.answer()
        assert reply.status == 503
        assert "longer than its limit" in json.loads(reply.body)["message"]
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await silent.answer()
        refused = kmes.a.metrics.values("qedge_keys_connections_refused_total")
        assert refused[("silent",)] == 1


async def test_handshakes_that_never_end_do_not_lock_others_out(tmp_path: Path) -> None:
    async with two_kmes(tmp_path, QUICK) as kmes:
        place = kmes.a.place
        held = [await asyncio.open_connection(place.host, place.port) for _ in range(8)]
        try:
            async with asyncio.timeout(20):
                while True:
                    async with kmes.link("alice", "A") as link:
                        try:
                            if (await link.request("GET", path_of("bob", "status"))).status == 200:
                                break
                        except QedgeError:
                            pass
                    await asyncio.sleep(0.1)
        finally:
            for _, writer in held:
                writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_garbage_is_answered_in_json_and_counted(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes, kmes.link("alice", "A") as link:
        await link.send(b"\x00\x01 nonsense\r\n\r\n")
        reply = await link.answer()
        assert reply.status == 400
        assert json.loads(reply.body)["message"]
        assert kmes.a.metrics.value("qedge_keys_connections_refused_total", ("no HTTP",)) == 1
        ((tls, exchange),) = kmes.a.metrics.values("qedge_keys_connections_total")
        assert (tls, exchange) in (("TLSv1.3", "classical"), ("TLSv1.3", "unknown"), ("TLSv1.3", "hybrid"))


async def test_a_client_that_asks_before_it_sends_its_body_is_told_to(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes, kmes.link("alice", "A") as link:
        head = f"POST {path_of('bob', 'enc_keys')} HTTP/1.1\r\nHost: kme\r\nContent-Length: 2\r\n"
        await link.send((head + "Expect: 100-continue\r\n\r\n").encode())
        reader, _ = await link._streams()
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await link.send(b"{}")
        assert (await link.answer()).status == 200
