"""An external broker: TLS with certificates on both sides, user name and password file, on either loop."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from qedge.bus.config import BusConfig
from qedge.bus.endpoint import external_endpoint
from tests.integration.bus_site import FLEET, MOSQUITTO, SiteNode, until
from tests.integration.fleet_site import ThrowAwayFleet

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]


@dataclass(frozen=True)
class Secured:
    """A mosquitto that wants TLS, a client certificate, and a password for the user `box`."""

    port: int
    folder: Path
    fleet: ThrowAwayFleet

    def config(self, **changes: str) -> BusConfig:
        settings = {
            "url": f"mqtts://127.0.0.1:{self.port}",
            "username": "box",
            "password_file": str(self.folder / "password"),
            "ca_file": str(self.folder / "ca.pem"),
            "cert_file": str(self.folder / "node.pem"),
            "key_file": str(self.folder / "node.key"),
        }
        return BusConfig(connect_timeout_s=5, **(settings | changes))  # type: ignore[arg-type] # text fields only

    def node(self, name: str, **changes: str) -> SiteNode:
        config = self.config(**changes)
        endpoint = external_endpoint(config)
        return SiteNode(name, lambda: endpoint, config, self.folder, self.fleet)


def write_certificates(folder: Path) -> None:
    """Write an authority, and a certificate for the broker and for the node each."""
    authority = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    begin = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)

    def make(name: x509.Name, key: ec.EllipticCurvePrivateKey, is_authority: bool) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        )
        return builder.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM)

    (folder / "ca.pem").write_bytes(make(issuer, authority, True))
    for name in ("broker", "node"):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        (folder / f"{name}.pem").write_bytes(make(subject, key, False))
        plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.key").write_bytes(plain)


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    write_certificates(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "password").write_text("hush hush\n")
    users = tmp_path / "users"
    users.write_text("box:hush hush\n")
    subprocess.run(["mosquitto_passwd", "-U", str(users)], check=True)
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous false",
        f"password_file {users}",
        f"cafile {tmp_path / 'ca.pem'}",
        f"certfile {tmp_path / 'broker.pem'}",
        f"keyfile {tmp_path / 'broker.key'}",
        "require_certificate true",
        *(["user root"] if os.geteuid() == 0 else []),
    ]
    (tmp_path / "mosquitto.conf").write_text("\n".join(lines) + "\n")
    assert MOSQUITTO is not None
    log = (tmp_path / "mosquitto.log").open("wb")
    process = subprocess.Popen([MOSQUITTO, "-c", str(tmp_path / "mosquitto.conf")], stdout=log, stderr=log)
    log.close()
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < deadline, (tmp_path / "mosquitto.log").read_text()
            time.sleep(0.02)
        yield Secured(port, tmp_path, ThrowAwayFleet(FLEET))
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_nodes_talk_over_tls_also_with_large_messages(secured: Secured, loop: object) -> None:
    async def story() -> None:
        first, second = secured.node("a"), secured.node("b")
        try:
            await first.start()
            await second.start()
            assert len((await first.ping("b", 50, timeout_s=10)).rtt_ms) == 50
            got: list[int] = []

            async def handle(message: object) -> None:
                got.append(len(message.payload))  # type: ignore[attr-defined] # an Incoming

            second.bus.subscribe("qedge/v1/f/b/work", handle)
            await second.ping("b", 1, timeout_s=10)
            for size in (1, 100_000, 256 * 1024):
                await first.bus.publish("qedge/v1/f/b/work", bytes(size), qos=1)
            await until(lambda: got == [1, 100_000, 256 * 1024])
            assert first.bus.view().broker == f"mqtts://127.0.0.1:{secured.port}"
        finally:
            await first.stop()
            await second.stop()

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type] # parametrised
        runner.run(story())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ca_file": ""}, "certificate verify failed"),
        ({"username": "other"}, "Not authorized"),
        ({"cert_file": "", "key_file": ""}, ""),
    ],
)
async def test_who_cannot_prove_itself_is_not_connected_and_says_why(
    secured: Secured, changes: dict[str, str], told: str
) -> None:
    node = secured.node("a", **changes)
    task = asyncio.create_task(node.bus.run(lambda: None))
    try:
        await until(lambda: node.bus.view().error)
        assert told.lower() in node.bus.view().error.lower()
        assert "hush" not in node.bus.view().error
        assert not node.bus.connected
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_nodes_find_each_other_again_after_their_broker_restarts_on_the_same_port(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert MOSQUITTO is not None
    command = [MOSQUITTO, "-p", str(port)]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    config = BusConfig(url=f"mqtt://127.0.0.1:{port}", reconnect_cap_s=0.5)
    endpoint = external_endpoint(config)
    fleet = ThrowAwayFleet(FLEET)
    nodes = [SiteNode(name, lambda: endpoint, config, tmp_path, fleet) for name in ("a", "b")]
    process = start()
    try:
        for node in nodes:
            await node.start()
        for _ in range(3):
            process.kill()
            process.wait()
            await until(lambda: not any(node.bus.connected for node in nodes))
            process = start()
            await until(lambda: all(node.bus.connected for node in nodes))
            await nodes[0].ping("b", 3, timeout_s=10)
    finally:
        for node in nodes:
            await node.stop()
        process.kill()
        process.wait()


async def test_certificates_that_are_put_right_are_used_without_a_restart(secured: Secured) -> None:
    right = (secured.folder / "ca.pem").read_bytes()
    (secured.folder / "node-ca.pem").write_bytes((secured.folder / "node.pem").read_bytes())
    node = secured.node("a", ca_file=str(secured.folder / "node-ca.pem"))
    try:
        await node.start(connected=False)
        await until(lambda: "certificate verify failed" in node.bus.view().error)
        (secured.folder / "node-ca.pem").write_bytes(right)
        await until(lambda: node.bus.connected)
    finally:
        await node.stop()
