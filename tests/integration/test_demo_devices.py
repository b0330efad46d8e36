"""The demo's scene with attached devices, with fewer of them, at a daemon of its own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from qedge.cli.demo.device_scene import RICH, contained
from qedge.cli.demo.gateway import gateway_config
from tests.integration.daemon_process import DaemonProcess

pytestmark = pytest.mark.integration

DEVICES = 40


class Listening:
    """A narrator that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def histogram(self, counts: dict[str, int]) -> None:
        raise AssertionError(counts)


async def test_a_hostile_device_among_many_is_shut_out_and_no_reading_of_others_is_lost(tmp_path: Path) -> None:
    config = '[node]\nname = "alpha"\n[drivers.qrng]\ndriver = "sim_qrng"\n' + gateway_config(tmp_path)
    daemon = DaemonProcess(tmp_path / "alpha", config)
    daemon.start()
    try:
        await daemon.wait_status(lambda status: status.gateway is not None and bool(status.gateway.addresses))
        narrator = Listening()
        async with daemon.client() as client:
            first = SimpleNamespace(client=client, socket=daemon.socket)
            stage = SimpleNamespace(first=first, home=tmp_path)
            facts = await contained(stage, narrator, DEVICES)  # type: ignore[arg-type] # all that the scene asks of it
            status = await client.status()
    finally:
        daemon.stop()
    assert (facts["devices"], facts["rich"], facts["hostile"]) == (DEVICES, RICH, f"meter-{DEVICES - 1:04}")
    assert (facts["readings_lost"], facts["others_disconnected"], facts["audit_ok"]) == (0, 0, True)
    assert "quarantine" in str(facts["responses"])
    assert status.gateway is not None
    assert status.gateway.states["quarantined"] == 1
    assert any("turns hostile" in line for line in narrator.said)
    assert any("its trust fell" in line for line in narrator.said)
