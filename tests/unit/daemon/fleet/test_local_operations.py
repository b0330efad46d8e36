"""What a daemon lets local tools do, and what of itself it hands over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.config import load
from qedge.daemon.fleet.doors import LogKeeper
from qedge.daemon.fleet.local_operations import OfferedUpdate, make_operations
from qedge.fleet.thin_edge.commands import LocalCommand, Status
from qedge.fleet.thin_edge.config import Kind, ThinEdgeConfig
from qedge.fleet.thin_edge.mapping import Json
from qedge.fleet.thin_edge.ports import LocalOperation
from qedge.fleet.update.model import Layout

CONFIG = """
[node]
name = "box-1"
[broker]
username = "box"
password_file = "/etc/qedge/broker-password"
[drivers.qrng]
driver = "sim_qrng"
settings = { token = "a secret word" }
"""


def operations(
    folder: Path, *kinds: Kind, files: str = "http://127.0.0.1:8000"
) -> tuple[dict[str, LocalOperation], list[object]]:
    path = folder / "agent.toml"
    path.write_text(CONFIG)
    loaded = load(str(path), environ={}, state_dir=str(folder))
    running = SimpleNamespace(loaded=lambda: loaded, restart=lambda: None)
    update = OfferedUpdate(
        Layout(folder / "opt", folder), "f", "box-1", clock=ManualClock(), stopping=lambda: False, version="1.0.0"
    )
    config = ThinEdgeConfig(commands=kinds, files=files)
    made, services = make_operations(config, running, update)  # type: ignore[arg-type] # what it needs of them
    return {each.kind: each for each in made}, list(services)


def command(kind: str, **fields: Json) -> LocalCommand:
    where = f"te/device/main/service/qedge/cmd/{kind}/c1"
    return LocalCommand(where, kind, "c1", Status.EXECUTING, fields)


async def uploaded(
    folder: Path, kind: Kind, fields: Mapping[str, Json], lines: tuple[Mapping[str, object], ...] = ()
) -> bytes:
    """Carry out an upload against a file transfer service, and return what came there."""
    came: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        came.append(await request.read())
        return web.Response(status=201)

    app = web.Application()
    app.router.add_put("/{name:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        host, port = runner.addresses[0][:2]
        made, services = operations(folder, kind, files=f"http://{host}:{port}")
        for service in services:
            assert isinstance(service, LogKeeper)
            for line in lines:
                service.buffer.hear(line)
        await made[kind].run(command(kind, **fields))
    finally:
        await runner.cleanup()
    return came[0]


def test_only_what_is_permitted_is_there(tmp_path: Path) -> None:
    assert operations(tmp_path) == ({}, [])
    made, services = operations(tmp_path, "restart", "software_list", "config_update")
    assert set(made) == {"restart", "software_list"}
    assert services == []


async def test_settings_go_out_without_secrets(tmp_path: Path) -> None:
    data = await uploaded(tmp_path, "config_snapshot", {})
    found = {each["key"]: each["value"] for each in json.loads(data)["settings"]}
    assert found["node.name"] == '"box-1"'
    assert b"a secret word" not in data


async def test_the_newest_lines_of_the_log_go_out_that_have_a_text(tmp_path: Path) -> None:
    lines = tuple({"event": f"peer.up {number}", "level": "info"} for number in range(5))
    data = await uploaded(tmp_path, "log_upload", {"searchText": "peer.up", "lines": 2}, lines)
    assert [json.loads(line)["event"] for line in data.splitlines()] == ["peer.up 3", "peer.up 4"]


async def test_an_update_on_a_box_without_anything_offered_fails_with_what_to_do(tmp_path: Path) -> None:
    made, _ = operations(tmp_path, "software_update")
    fields: dict[str, Json] = {"updateList": [{"type": "qedge", "modules": [{"name": "qedge", "version": "2.0.0"}]}]}
    with pytest.raises(QedgeError, match=str(tmp_path / "offered")) as error:
        await made["software_update"].run(command("software_update", **fields))
    assert error.value.code == "update.not_offered"
