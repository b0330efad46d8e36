"""The page about growth is fresh, and the profiles are what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qedge.config import check_config
from qedge.wire.topics import TOPICS, Channel

ROOT = Path(__file__).parents[3]
BRIDGE = ROOT / "configs" / "brokers" / "mosquitto-site-bridge.conf"


def test_the_tables_of_growth_are_fresh() -> None:
    done = subprocess.run([sys.executable, "docs/growth.py", "--check"], cwd=ROOT, timeout=100)
    assert done.returncode == 0, "run python docs/growth.py"


@pytest.mark.parametrize("name", ["city", "factory", "road"])
def test_profiles_pass_the_check_and_have_their_latency_classes(name: str) -> None:
    verdict = check_config(str(ROOT / "configs" / "profiles" / f"{name}.toml"))
    assert verdict.faults == ()
    assert verdict.loaded is not None
    config = verdict.loaded.config
    assert config.node.fleet == name
    assert config.devices.enabled
    retentions = {segment.retention for segment in config.devices.segments.values()}
    assert {"critical", "telemetry"} <= retentions


@pytest.mark.parametrize("name", ["city", "factory", "road"])
def test_every_section_with_numbers_has_its_reasons_beside_it(name: str) -> None:
    text = (ROOT / "configs" / "profiles" / f"{name}.toml").read_text("utf-8")
    for part in text.split("\n[")[1:]:
        lines = part.splitlines()
        if any(line.split("=")[1].strip()[:1].isdigit() for line in lines if "=" in line and not line.startswith("#")):
            assert any(line.startswith("#") for line in lines), part


def test_the_bridge_names_every_topic_of_nodes_or_says_that_it_stays() -> None:
    lines = BRIDGE.read_text("utf-8").splitlines()
    carried = {line.split()[1].split("/")[4] for line in lines if line.startswith("topic ")}
    stays = {word.strip(",.:") for word in next(line for line in lines if "Never over" in line).split()}
    channels = {str(channel) for channel in Channel}
    assert carried <= channels | {"telemetry"}
    assert channels <= carried | stays
    assert not carried & stays
    assert {str(row.channel) for row in TOPICS if row.channel} == channels
