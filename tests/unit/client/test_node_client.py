from __future__ import annotations

import socket
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.client.node import NodeClient


async def test_no_socket_means_no_daemon_and_says_how_to_start_one(tmp_path: Path) -> None:
    async with NodeClient(tmp_path / "none.sock") as node:
        with pytest.raises(QedgeError) as missing:
            await node.status()
        assert missing.value.code == "client.no_daemon"
        assert "qedge run" in missing.value.fix
        with pytest.raises(QedgeError) as stream:
            await anext(node.events())
        assert stream.value.code == "client.no_daemon"


async def test_a_dead_socket_means_no_daemon(tmp_path: Path) -> None:
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with NodeClient(path) as node:
        with pytest.raises(QedgeError) as missing:
            await node.status()
    assert missing.value.code == "client.no_daemon"


async def test_a_daemon_that_accepts_and_says_nothing_times_out(tmp_path: Path) -> None:
    path = tmp_path / "mute.sock"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        async with NodeClient(path, timeout_s=0.1) as node:
            with pytest.raises(QedgeError) as silent:
                await node.status()
    assert silent.value.code == "client.timeout"
