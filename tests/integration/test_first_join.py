"""Claims about unattended enrolment with real daemons: token on the image, kill -9 on the way, one use."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.daemon_process import DaemonProcess

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

HOST = '[node]\nname = "host"\n[broker]\nlisten = "127.0.0.1:{port}"\n[drivers.qrng]\ndriver = "sim_qrng"\n'
NEW = '[node]\nname = "{name}"\n[mesh]\njoin_file = "{token}"\n[drivers.qrng]\ndriver = "sim_qrng"\n'


@pytest.fixture
def boxes(tmp_path: Path) -> Iterator[list[DaemonProcess]]:
    made: list[DaemonProcess] = []
    yield made
    for daemon in made:
        if daemon.process is not None:
            daemon.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _invite(host: DaemonProcess, home: Path) -> tuple[asyncio.subprocess.Process, str]:
    """Begin to invite two boxes; returns the program that waits for them, and the first line."""
    passphrase = home / "passphrase"
    passphrase.write_text("correct horse battery staple\n")
    inviting = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "qedge", "--socket", str(host.socket), "fleet", "invite",
        "--this-box", "--count", "2", "--json",
        "--folder", str(home / "authority"), "--passphrase-file", str(passphrase),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert inviting.stdout is not None
    first = json.loads(await inviting.stdout.readline())
    return inviting, first["invitation"]


async def test_a_factory_new_box_joins_by_the_token_on_its_image_once(
    tmp_path: Path, boxes: list[DaemonProcess]
) -> None:
    host = DaemonProcess(tmp_path / "host", HOST.format(port=_free_port()))
    boxes.append(host)
    host.start()
    await host.wait_status(lambda status: status.ready and status.bus.connected)
    inviting, line = await _invite(host, tmp_path)
    token = tmp_path / "join.token"
    token.write_text(line + "\n")
    new = DaemonProcess(tmp_path / "new", NEW.format(name="new", token=token))
    boxes.append(new)
    new.start()
    # Power fails while it asks; what it asked for counts once, so it has to ask for the same again.
    await new.wait_status(lambda status: status.standalone or status.fleet != "local")
    os.kill(new.pid, 9)
    new.kill()
    new.start()
    await new.wait_status(lambda status: status.ready and not status.standalone and status.bus.connected, 60)
    async with asyncio.timeout(30):
        while token.exists():
            await asyncio.sleep(0.05)
    async with new.client() as client, asyncio.timeout(30):
        while not any(peer.node == "host" and peer.state == "alive" for peer in (await client.peers()).peers):
            await asyncio.sleep(0.1)
    # The same token on another box opens nothing.
    token.write_text(line + "\n")
    thief = DaemonProcess(tmp_path / "thief", NEW.format(name="thief", token=token))
    boxes.append(thief)
    thief.start()
    async with asyncio.timeout(90):
        while "daemon.not_joined" not in thief.log():
            await asyncio.sleep(0.2)
    assert "fleet.expired" in thief.log()
    assert (await thief.wait_status(lambda _status: True)).standalone
    inviting.terminate()
    await inviting.wait()
