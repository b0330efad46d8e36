"""What the guide to Sparkplug tells to type works as it stands, and a daemon keeps its count through kill -9."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from qedge.base.settings import document, toml_value
from qedge.fleet.sparkplug.config import SparkplugConfig
from qedge.fleet.sparkplug.model import NEXT_SERVER, DataType, Metric
from qedge.fleet.sparkplug.node_metrics import DEVICE_METRICS, DRAIN, LOCKED, NODE_METRICS
from qedge.wire.node import DriverChange
from tests.conformance.sparkplug.table import REQUIREMENTS
from tests.integration.bus_site import MOSQUITTO
from tests.integration.daemon_process import DaemonProcess
from tests.integration.sparkplug_host import SparkplugHost, mosquitto
from tests.integration.test_guides import BLOCK, GUIDES

TEXT = (GUIDES / "connect-sparkplug.md").read_text()
QRNG = '[drivers.qrng]\ndriver = "sim_qrng"\n'


@pytest.mark.long
@pytest.mark.integration
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
async def test_every_command_of_the_guide_to_sparkplug_works(tmp_path: Path) -> None:
    blocks = {name: text for _, name, text in BLOCK.findall(TEXT) if name}
    status, command = [text for language, _, text in BLOCK.findall(TEXT) if language == "sh"]
    host = SparkplugHost("plant")
    async with mosquitto(tmp_path / "broker") as port, host.listening(port):
        config = blocks["agent.toml"].replace(":1883", f":{port}") + f'writable = ["{LOCKED}", "{DRAIN}"]\n' + QRNG
        daemon = DaemonProcess(tmp_path / "home", config)
        daemon.start()
        try:
            await host.until(lambda: host.count("DBIRTH"), 60)
            await daemon.wait_status(lambda status: status.sparkplug is not None and status.sparkplug.state == "online")
            told = await _run(["-m", *status.split()], tmp_path, QEDGE_SOCKET=str(daemon.socket))
            (tmp_path / "look.py").write_text(blocks["look.py"])
            words = command.replace("1883", str(port)).split()[1:]
            looked = await _run(words, tmp_path)
            await host.command("DCMD", "box-1", "qrng", Metric(LOCKED, DataType.BOOLEAN, True, 1))
            await host.until(lambda: _last(host, "DDATA", LOCKED) is True)
        finally:
            daemon.stop()
        await host.until(lambda: host.count("NDEATH") == 1)
    assert f"sparkplug plant/box-1 online at mqtt://localhost:{port}" in told
    assert re.search(r"^NBIRTH box-1$", looked, re.MULTILINE)
    assert re.search(r"^DBIRTH box-1 qrng$", looked, re.MULTILINE)
    assert "  Node/Ready = True" in looked
    assert [said.bd_seq for said in host.said if said.verb == "NDEATH"] == [0]
    first = next(said for said in host.said if said.verb == "NBIRTH").payload.names()
    plain = {each.name for each in NODE_METRICS if "NAME" not in each.name and not each.name.startswith("Gateway/")}
    assert plain <= set(first)


@pytest.mark.integration
@pytest.mark.long
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
async def test_a_daemon_pairs_its_births_and_deaths_through_kill_9(tmp_path: Path) -> None:
    host = SparkplugHost("plant")
    async with mosquitto(tmp_path / "broker") as port, host.listening(port):
        config = f'[fleet.sparkplug]\nenabled = true\ngroup = "plant"\nservers = ["mqtt://127.0.0.1:{port}"]\n'
        daemon = DaemonProcess(tmp_path / "home", config + QRNG)
        try:
            for number in range(4):
                daemon.start()
                await host.until(lambda number=number: host.count("DBIRTH") > number, 60)
                daemon.kill()
                await host.until(lambda number=number: host.count("NDEATH") == number + 1)
            daemon.start()
            await host.until(lambda: host.count("DBIRTH") > 4, 60)
        finally:
            daemon.stop()
        await host.until(lambda: host.count("NDEATH") == 5)
    pairs = [(said.verb, said.bd_seq) for said in host.said if said.verb in ("NBIRTH", "NDEATH")]
    assert list(dict.fromkeys(pairs)) == [(verb, number) for number in range(5) for verb in ("NBIRTH", "NDEATH")]


@pytest.mark.integration
@pytest.mark.long
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
async def test_a_daemon_tells_later_what_happened_while_no_server_was_there(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    settings = f'[fleet.sparkplug]\nenabled = true\nservers = ["mqtt://127.0.0.1:{port}"]\ngroup = "plant"\n'
    daemon = DaemonProcess(tmp_path / "home", settings + "sample_s = 0.1\nreconnect_cap_s = 0.2\n" + QRNG)
    host = SparkplugHost("plant")
    daemon.start()
    try:
        await daemon.wait_status(lambda status: any(each.operating_state == "up" for each in status.drivers), 60)
        async with daemon.client() as client:
            for state in ("locked", "unlocked") * 2:
                await client.change_driver("qrng", DriverChange(state))
                await asyncio.sleep(0.5)
        daemon.kill()  # what is in the database stays there
        daemon.start()
        async with mosquitto(tmp_path / "broker", port=port), host.listening(port):
            await host.until(lambda: len(_told_later(host, "State/Admin")) >= 4, 90)
    finally:
        daemon.stop()
    # what the driver was before it was locked for the first time comes before that, where it was looked at by then
    assert _told_later(host, "State/Admin")[-4:] == ["locked", "unlocked", "locked", "unlocked"]


def _told_later(host: SparkplugHost, name: str) -> list[object]:
    return [
        metric.value
        for said in host.said
        if said.verb == "DDATA"
        for metric in said.payload.metrics
        if metric.name == name and metric.historical
    ]


async def _run(words: list[str], folder: Path, **environ: str) -> str:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environ,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _last(host: SparkplugHost, verb: str, name: str) -> object:
    found = [
        metric.value
        for said in host.said
        if said.verb == verb
        for metric in said.payload.metrics
        if metric.name == name
    ]
    return found[-1] if found else None


def test_the_tables_of_the_guide_to_sparkplug_are_those_of_the_program() -> None:
    for row in document(SparkplugConfig):
        assert f"| `{row.path[-1]}` | `{toml_value(row.default)}` | {row.description} |" in TEXT
    for metric in (*NODE_METRICS, *DEVICE_METRICS):
        assert f"| `{metric.name}` | {metric.datatype.name.title()} | {metric.words} |" in TEXT
    for name in (NEXT_SERVER, DRAIN, LOCKED):
        assert f"| `{name}` | " in TEXT
    assert f"of {len(REQUIREMENTS)} that speak to an edge" in TEXT
