"""What the guides to fleet tools tell to write works at a daemon with a broker of the tools."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from pathlib import Path

import pytest

from qedge.cli.main import main
from qedge.web.config import WebConfig
from qedge.wire.envelope import take_apart
from tests.integration.daemon_process import DaemonProcess
from tests.integration.test_guides import BLOCK, GUIDES
from tests.unit.fleet.adapters.test_home_assistant_words import check
from tests.unit.fleet.adapters.tool_site import MOSQUITTO, ToolBroker, until, watching

pytestmark = [pytest.mark.integration, pytest.mark.skipif(not MOSQUITTO, reason="mosquitto is not installed")]
SERVICE = "te/device/main/service/qedge"


def block(guide: str, file: str) -> str:
    """Return a file of a guide."""
    [text] = [text for _, name, text in BLOCK.findall((GUIDES / guide).read_text()) if name == file]
    return text


@pytest.mark.timeout(120)
async def test_a_daemon_with_the_settings_of_the_guides_tells_all_tools(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = ToolBroker(tmp_path)
    broker.start()
    settings = [
        f'[node]\nname = "box-1"\n[broker]\nurl = "mqtt://127.0.0.1:{broker.port}"',
        '[drivers.rng]\ndriver = "sim_qrng"',
        block("watch-a-fleet.md", "telemetry.toml").replace("period_s = 30", "period_s = 0.5"),
        block("connect-thin-edge.md", "thin-edge.toml"),
        block("connect-home-assistant.md", "home-assistant.toml"),
    ]
    config = "\n".join(settings).replace("127.0.0.1:1883", f"127.0.0.1:{broker.port}")
    daemon = DaemonProcess(tmp_path / "home", config)
    try:
        async with watching(broker.port) as tool:
            daemon.start()
            readings = "qedge/v1/local/box-1/telemetry/reading"
            await until(lambda: readings in tool.stands and f"{SERVICE}/m/host" in tool.stands, 60)
            await until(lambda: f"{SERVICE}/twin/drivers" in tool.stands, 60)
            assert take_apart(tool.stands[readings]).header.sender == "box-1"
            assert "cpu_ratio" in json.loads(tool.stands[f"{SERVICE}/m/host"])
            health = json.loads(tool.stands[f"{SERVICE}/status/health"])
            assert (health["pid"], health["status"]) == (daemon.pid, "up")
            await until(lambda: tool.stands.get("qedge/local-box-1/availability") == b"online", 60)
            check(json.loads(tool.stands["homeassistant/device/qedge-local-box-1/config"]))
            shown = await asyncio.to_thread(typed, daemon, capsys)
            assert re.search(r"^telemetry connected, spool [0-9a-f]{16}$", shown, re.MULTILINE)
            assert re.search(r"^reading +\d+ +\d+ +\d+ +[1-9]\d* +-$", shown, re.MULTILINE)
            assert "adapter home-assistant: connected" in shown
            assert "adapter thin-edge: connected" in shown
            daemon.kill()
            await until(lambda: tool.stands["qedge/local-box-1/availability"] == b"offline", 60)
            await until(lambda: json.loads(tool.stands[f"{SERVICE}/status/health"])["status"] == "down", 60)
    finally:
        daemon.stop()
        broker.stop()


def typed(daemon: DaemonProcess, capsys: pytest.CaptureFixture[str]) -> str:
    """Type `qedge telemetry`."""
    assert main(["--socket", str(daemon.socket), "telemetry"]) == 0
    return capsys.readouterr().out


def test_the_other_settings_of_the_guides_have_no_faults(tmp_path: Path) -> None:
    from qedge.config import check_config

    for guide, file in (
        ("connect-thin-edge.md", "thin-edge-commands.toml"),
        ("connect-home-assistant.md", "home-assistant-install.toml"),
        ("connect-home-assistant.md", "home-assistant-remove.toml"),
        ("connect-grafana.md", "metrics.toml"),
    ):
        (tmp_path / file).write_text(block(guide, file))
        assert check_config(str(tmp_path / file)).faults == ()


def test_the_address_in_the_guide_to_grafana_is_the_one_that_a_node_has() -> None:
    text = (GUIDES / "connect-grafana.md").read_text()
    port = tomllib.loads(block("connect-grafana.md", "metrics.toml"))["http"]["port"]
    assert f'targets: ["{WebConfig().host}:{port}"]' in text
