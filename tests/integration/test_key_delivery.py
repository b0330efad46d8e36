"""Key delivery of a real daemon: switched on, asked with certificates that it made, reloaded, started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.client.kme import path_of
from qedge.client.kme_link import Credentials, KmeLink, place_of
from qedge.client.node import NodeClient
from qedge.crypto.web_authority import make_request, new_key
from qedge.wire.delivery import SaeChange, SaePermit
from tests.integration.daemon_process import DaemonProcess

pytestmark = pytest.mark.integration

CONFIG = """
[node]
name = "box-a"
[drivers.qrng]
driver = "sim_qrng"
[qkd.delivery]
enabled = true
port = 0
[qkd.saes.alice]
permit = ["bob"]
[qkd.saes.bob]
node = "box-b"
"""


async def listening(daemon: DaemonProcess) -> str:
    """Wait until applications can connect; returns where."""
    async with asyncio.timeout(30), NodeClient(daemon.socket) as node:
        while True:
            with contextlib.suppress(QedgeError):
                if url := (await node.keys.overview()).url:
                    return url
            assert daemon.is_alive()
            await asyncio.sleep(0.05)


async def credentials(node: NodeClient, name: str, folder: Path) -> tuple[Credentials, str]:
    """Have a certificate made; returns it and where to use it."""
    key = new_key(os.urandom)
    made = await node.keys.certify(name, make_request(key, name))
    files = Credentials(folder / f"{name}.crt", folder / f"{name}.key", folder / "ca.crt")
    files.certificate.write_text(made.certificate)
    files.private_key.write_text(key)
    files.authorities.write_text(made.authority)
    assert made.kme_id == "box-a"
    return files, made.url


async def ask(files: Credentials, url: str, slave: str) -> tuple[int, bytes]:
    """Ask for a status over a connection of its own."""
    async with KmeLink(place_of(url), files.context()) as link:
        reply = await link.request("GET", path_of(slave, "status"))
        assert link.server_uris == ("box-a",) or reply.headers.get("connection") == "close"
        return reply.status, reply.body


async def until(files: Credentials, url: str, slave: str, wanted: tuple[int, ...]) -> None:
    """Ask until one of these answers comes."""
    async with asyncio.timeout(20):
        while (await ask(files, url, slave))[0] not in wanted:
            await asyncio.sleep(0.05)


async def test_applications_are_let_in_by_command_by_reload_and_after_a_restart(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path / "home", CONFIG)
    daemon.start()
    known = (200, 503)  # 503 where no key store has keys with box-b
    try:
        await listening(daemon)
        async with NodeClient(daemon.socket) as node:
            alice, url = await credentials(node, "alice", tmp_path)
            assert (await ask(alice, url, "bob"))[0] in known
            assert (await ask(alice, url, "carol"))[0] == 400
            daemon.write_config(CONFIG.replace('["bob"]', '["*"]') + '[qkd.saes.carol]\nnode = "box-b"\n')
            daemon.signal(signal.SIGHUP)
            await until(alice, url, "carol", known)
            await node.keys.put_sae("dave", SaeChange())
            dave, _ = await credentials(node, "dave", tmp_path)
            assert (await ask(dave, url, "bob"))[0] == 401
            await node.keys.permit("dave", SaePermit(("bob",)))
            assert (await ask(dave, url, "bob"))[0] in known
        daemon.kill()
        daemon.start()
        url = await listening(daemon)
        async with NodeClient(daemon.socket) as node:
            assert (await ask(dave, url, "bob"))[0] in known
            async with KmeLink(place_of(url), dave.context()) as kept:
                assert (await kept.request("GET", path_of("bob", "status"))).status in known
                assert (await node.keys.remove_sae("dave")).number == 1
                assert (await kept.request("GET", path_of("bob", "status"))).status == 401
    finally:
        assert daemon.stop() == 0
