"""The examples that use quantum keys do what they say, with the true OpenSSL and a small key manager."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import signal
import socket
import ssl
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "quantum-keys"


class Authority:
    """Certifies the key manager and its applications, for the length of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        made = self._builder(self.name, self.key).add_extension(x509.BasicConstraints(True, None), True)
        self.pem = made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def member(self, name: str) -> Path:
        """Make a folder with the certificate and key of a member."""
        folder = self.folder / f"{name}-files"
        folder.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        places = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
        made = self._builder(subject, key).add_extension(x509.SubjectAlternativeName(places), False)
        (folder / "sae.crt").write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        (folder / "sae.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (folder / "kme-ca.crt").write_bytes(self.pem)
        return folder

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )


class SmallKeyManager:
    """Gives each key once to its master and once to its slave, whom their certificates name."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.keys: dict[tuple[str, str, str], bytes] = {}
        self.given: list[bytes] = []
        self.url = ""

    async def start(self) -> web.AppRunner:
        """Listen."""
        folder = self.authority.member("kme")
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "kme-ca.crt"))
        tls.load_cert_chain(folder / "sae.crt", folder / "sae.key")
        tls.verify_mode = ssl.CERT_REQUIRED
        app = web.Application()
        app.router.add_post("/api/v1/keys/{slave}/enc_keys", self._enc_keys)
        app.router.add_post("/api/v1/keys/{master}/dec_keys", self._dec_keys)
        runner = web.AppRunner(app)
        await runner.setup()
        port = _free_port()
        await web.TCPSite(runner, "localhost", port, ssl_context=tls).start()
        self.url = f"https://localhost:{port}"
        return runner

    async def _enc_keys(self, request: web.Request) -> web.Response:
        key_id, key = str(uuid.uuid4()), os.urandom(32)
        self.keys[_caller(request), request.match_info["slave"], key_id] = key
        self.given.append(key)
        return _container(key_id, key)

    async def _dec_keys(self, request: web.Request) -> web.Response:
        key_id = (await request.json())["key_IDs"][0]["key_ID"]
        key = self.keys.pop((request.match_info["master"], _caller(request), key_id), None)
        if key is None:
            return web.json_response({"message": "one or more keys specified are not found on KME"}, status=400)
        return _container(key_id, key)


def _caller(request: web.Request) -> str:
    assert request.transport is not None
    subject = dict(pair[0] for pair in request.transport.get_extra_info("peercert")["subject"])
    return str(subject["commonName"])


def _container(key_id: str, key: bytes) -> web.Response:
    return web.json_response({"keys": [{"key_ID": key_id, "key": base64.b64encode(key).decode()}]})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[SmallKeyManager]:
    """A running key manager."""
    made = SmallKeyManager(Authority(tmp_path))
    runner = await made.start()
    yield made
    await runner.cleanup()


async def _start(
    program: str, *options: object, path: str = "", stdin: bytes | None = None
) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / program),
        *map(str, options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PATH": path + os.environ["PATH"]},
        start_new_session=True,
    )
    assert process.stdin is not None
    if stdin is not None:
        process.stdin.write(stdin)
    return process


async def _listening(port: int) -> None:
    for _ in range(500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        await asyncio.sleep(0.02)
    raise AssertionError("nobody listens")


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # OpenSSL, which it started, too
    await process.wait()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
async def test_openssl_speaks_tls_under_a_quantum_key(manager: SmallKeyManager) -> None:
    alice, bob = manager.authority.member("alice"), manager.authority.member("bob")
    id_port, port = _free_port(), _free_port()
    where = ("--kme", manager.url, "--id-port", id_port, "--port", port)
    # Looking whether the port is open would count as the one who comes with an id, so the client tries until it is.
    server = await _start("tls_psk.py", "server", *where, "--sae", bob, "--master", "alice")
    client = None
    try:
        async with asyncio.timeout(60):
            heard = b""
            while b"under a quantum key" not in heard:
                if client is None or client.returncode is not None:
                    client = await _start(
                        "tls_psk.py", "client", *where, "--sae", alice, "--slave", "bob", stdin=b"under a quantum key\n"
                    )
                assert server.stdout is not None
                try:
                    heard += await asyncio.wait_for(server.stdout.read(1000), 1)
                except TimeoutError:
                    assert server.returncode is None, heard
    finally:
        await _end(server)
        if client is not None:
            await _end(client)
    assert manager.keys == {} or len(manager.given) > 1


async def test_a_wireguard_tunnel_gets_the_same_fresh_key_at_both_ends_again_and_again(
    manager: SmallKeyManager, tmp_path: Path
) -> None:
    alice, bob = manager.authority.member("alice"), manager.authority.member("bob")
    for name in ("lead", "follow"):
        (tmp_path / name).mkdir()
        tool = tmp_path / name / "wg"  # what the true one is told; a tunnel would need the kernel of this box
        tool.write_text(f'#!/bin/sh\necho "$1 $2 $3 $4 $5 $(cat "$6")" >> "{tmp_path}/{name}/told"\n')
        tool.chmod(0o755)
    id_port = _free_port()
    where = ("--kme", manager.url, "--id-port", id_port, "--interface", "wg0", "--peer")
    follower = await _start(
        "wireguard_psk.py", "follow", *where, "LEADER", "--sae", bob, "--master", "alice", path=f"{tmp_path}/follow:"
    )
    try:
        await _listening(id_port)
        more = ("--sae", alice, "--slave", "bob", "--period", "0.1", "--rounds", "3")
        leader = await _start("wireguard_psk.py", "lead", *where, "FOLLOWER", *more, path=f"{tmp_path}/lead:")
        output, _ = await asyncio.wait_for(leader.communicate(), 60)
    finally:
        await _end(follower)
    assert output.count(b"is set") == 3, output
    told = {name: (tmp_path / name / "told").read_text().splitlines() for name in ("lead", "follow")}
    keys = [base64.b64encode(key).decode() for key in manager.given]
    assert told["lead"] == [f"set wg0 peer FOLLOWER preshared-key {key}" for key in keys]
    assert told["follow"] == [f"set wg0 peer LEADER preshared-key {key}" for key in keys]
