"""TLS of the listener: hybrid where the client can do it, classical for others, and never silently absent."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
from OpenSSL import SSL
from OpenSSL._util import lib as openssl

from qedge.base.errors import QedgeError
from qedge.devices.ways_in.config import ListenerConfig
from qedge.devices.ways_in.tls import HYBRID
from tests.integration.gateway_host import GatewayHost, connect_packet, gateway, until
from tests.unit.devices.ways_in.clients import publish_311
from tests.unit.devices.ways_in.tls_files import write_certificate


@pytest.fixture
def files(tmp_path: Path) -> dict[str, object]:
    cert, key = write_certificate(tmp_path)
    return {"listen": [], "listen_tls": ["127.0.0.1:0"], "cert_file": cert, "key_file": key}


def talk_hybrid(port: int, packets: list[bytes], groups: bytes = HYBRID.encode()) -> tuple[str, bytes]:
    """Say something over TLS of pyOpenSSL, from a thread; returns the group and the first answer."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    openssl.SSL_CTX_set1_curves_list(context._context, groups)
    with socket.create_connection(("127.0.0.1", port), 10) as raw:
        raw.settimeout(None)
        connection = SSL.Connection(context, raw)
        connection.set_connect_state()
        connection.do_handshake()
        for packet in packets:
            connection.sendall(packet)
        return connection.get_group_name() or "", connection.recv(4)


async def test_a_client_that_knows_the_hybrid_group_gets_it(files: dict[str, object]) -> None:
    async with gateway(**files) as host:
        assert host.listener.view().tls == HYBRID.lower()
        device = host.add("d")
        large = publish_311(device.up_topic, device.seal("t", b"x" * 50_000))
        group, answer = await asyncio.to_thread(talk_hybrid, host.port, [connect_packet(device), large])
        assert (group, answer) == (HYBRID, b"\x20\x02\x00\x00")
        await until(lambda: host.bodies == [b"x" * 50_000])
        assert host.metrics.value("qedge_device_tls_total", (HYBRID,)) == 1


async def test_a_client_of_the_platforms_tls_is_served_and_counted_as_what_it_is(files: dict[str, object]) -> None:
    async with gateway(**files) as host:
        device = host.add("d")
        context = ssl.create_default_context(cafile=str(files["cert_file"]))
        reader, writer = await asyncio.open_connection("127.0.0.1", host.port, ssl=context)
        writer.write(connect_packet(device) + publish_311(device.up_topic, device.seal("t", b"x"), qos=1, packet_id=5))
        assert await reader.readexactly(8) == b"\x20\x02\x00\x00\x40\x02\x00\x05"
        told = host.metrics.value("qedge_device_tls_total", ("classical",))
        assert told == (0 if ssl.OPENSSL_VERSION_INFO[:2] >= (3, 5) else 1)
        assert host.listener.cut("d")
        assert await reader.read() == b""
        writer.close()


async def test_a_listener_that_insists_on_the_hybrid_group_refuses_others(files: dict[str, object]) -> None:
    async with gateway(require_hybrid=True, **files) as host:
        device = host.add("d")
        with pytest.raises(SSL.Error):
            await asyncio.to_thread(talk_hybrid, host.port, [connect_packet(device)], b"X25519:P-256")
        group, _ = await asyncio.to_thread(talk_hybrid, host.port, [connect_packet(device)])
        assert group == HYBRID


async def test_a_certificate_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    config = ListenerConfig(listen_tls=("127.0.0.1:0",), cert_file=str(tmp_path / "none"), key_file="none")
    with pytest.raises(QedgeError) as error:
        await GatewayHost(config).listener.run(lambda: None)
    assert error.value.code == "devices.bad_certificate"


async def test_a_listener_without_tls_says_so() -> None:
    async with gateway() as host:
        assert host.listener.view().tls == "none"


def shown_certificate(port: int) -> bytes:
    """Shake hands and return the certificate that the listener shows."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 10) as raw, context.wrap_socket(raw) as secured:
        return secured.getpeercert(binary_form=True) or b""


async def test_a_changed_certificate_serves_new_connections_and_open_ones_stay(
    files: dict[str, object], tmp_path: Path
) -> None:
    async with gateway(**files) as host:
        device = host.add("d")
        context = ssl.create_default_context(cafile=str(files["cert_file"]))
        reader, writer = await asyncio.open_connection("127.0.0.1", host.port, ssl=context)
        writer.write(connect_packet(device))
        assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
        first = await asyncio.to_thread(shown_certificate, host.port)
        write_certificate(tmp_path)
        async with asyncio.timeout(30):
            while (second := await asyncio.to_thread(shown_certificate, host.port)) == first:
                await asyncio.sleep(0.05)
        (tmp_path / "key.pem").write_text("no key")
        await asyncio.sleep(1.5)  # long enough for the listener to look
        assert await asyncio.to_thread(shown_certificate, host.port) == second
        writer.write(publish_311(device.up_topic, device.seal("t", b"x"), qos=1, packet_id=5))
        assert await reader.readexactly(4) == b"\x40\x02\x00\x05"
        writer.close()
