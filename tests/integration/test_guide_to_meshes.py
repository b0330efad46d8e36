"""What the guide to meshes tells to type works as it stands, and the numbers in it are those of the program."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from pathlib import Path

import pytest

from qedge.cli.main import main
from qedge.engine.config import EngineConfig
from qedge.mesh.config import MeshConfig
from qedge.orchestrator.ledger.config import LedgerConfig
from qedge.web.config import WebConfig
from qedge.web.events.hub import HISTORY
from qedge.web.jobs.routes import MAX_LISTED
from tests.integration.bus_site import MOSQUITTO
from tests.integration.fleet_world import QPU, FleetWorld
from tests.integration.test_guides import BLOCK, GUIDES

TEXT = (GUIDES / "run-a-mesh.md").read_text()


@pytest.mark.integration
@pytest.mark.long
async def test_every_command_of_the_guide_to_meshes_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    outputs: list[str] = []
    async with FleetWorld(tmp_path, "mosquitto" if MOSQUITTO else "iotcore") as world:
        world.start("alpha")
        world.start("beta")
        world.start("gamma", QPU)
        await world.wait_together("alpha", "beta", "gamma")
        await world.wait_peer("alpha", "gamma", lambda peer: any(each.kind == "qpu" for each in peer.capabilities))
        monkeypatch.setenv("QEDGE_SOCKET", str(world.daemons["alpha"].socket))
        for language, name, text in BLOCK.findall(TEXT):
            if name:
                (tmp_path / name).write_text(text)
            elif language == "sh":
                capsys.readouterr()
                assert await asyncio.to_thread(main, shlex.split(text.strip())[1:]) == 0, text
                outputs.append(capsys.readouterr().out)
    peers, anywhere, explained, parts, standing, gamma, once, look, listed, found, told = outputs
    assert "fleet: 3 of 3 alive" in peers
    for counts in (anywhere, gamma):
        assert set(re.findall(r"^ *([01]+) █", counts, re.MULTILINE)) == {"00", "11"}
        assert "on node gamma" in counts
    assert "gamma" in explained
    assert "in parts on gamma (4)" in parts
    assert "gamma" in standing or "No result" in standing
    for words in ("alpha *", "gamma", "no link is configured", "this node takes no devices"):
        assert words in once
    assert {(row["node"], row["state"]) for row in json.loads(look)["nodes"]} == {
        ("alpha", "alive"),
        ("beta", "alive"),
        ("gamma", "alive"),
    }
    assert len(re.findall(r"^\S{36} +done ", listed, re.MULTILINE)) >= 2
    assert [job["tags"] for job in json.loads(found)["jobs"]] == [["first"]]
    assert re.search(r"session\.opened +peer=(beta|gamma)", told)
    assert "bus.connected" not in told


def test_the_limits_in_the_guide_to_meshes_are_those_of_the_program() -> None:
    engine, mesh, web, ledger = EngineConfig(), MeshConfig(), WebConfig(), LedgerConfig()
    silence_s = mesh.dead_periods * mesh.pulse_s + mesh.margin_s
    for words in (
        f"{mesh.max_peers:,} | `mesh.max_peers`",
        f"every {mesh.pulse_s:g} s in a small fleet",
        f"asked after {mesh.suspect_periods:g} heartbeats, and is dead to its peers after {mesh.dead_periods:g}",
        f"({silence_s:.1f} s in a small fleet)",
        f"{engine.queue_limit:,}, of one client {engine.client_queue_limit:,}",
        f"{engine.keep_jobs:,}, for {engine.keep_s / 86_400:g} days",
        f"the newest {MAX_LISTED:,}; filters",
        f"{web.max_streams} | `http.max_streams`",
        f"the newest {HISTORY}, and {HISTORY} changes",
        f"{web.stream_buffer}; of a job",
        f"`engine.runner_lost_s` ({engine.runner_lost_s:g} s)",
        f"`ledger.lease_s` ({ledger.lease_s:g} s)",
        f"`ledger.adopt_after_s` ({ledger.adopt_after_s:g} s)",
        f"`ledger.drain_stop_s` ({ledger.drain_stop_s:g} s)",
        f"`engine.max_attempts` ({engine.max_attempts})",
    ):
        assert words in TEXT, words
