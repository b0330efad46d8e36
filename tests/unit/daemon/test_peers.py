"""What a daemon does about its broker when it is put together."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.bus.config import BusConfig
from qedge.daemon.peers import Tools, make_bus


def tools_of(folder: Path, url: str) -> Tools:
    """Return what the broker is made from, of a node that is in no fleet."""
    config = SimpleNamespace(broker=BusConfig(url=url), node=SimpleNamespace(runtime_dir=str(folder)))
    identity = SimpleNamespace(fleet="home", node="a", membership=SimpleNamespace(broker=None))
    return cast(
        Tools,
        SimpleNamespace(
            config=config,
            identity=identity,
            clock=SystemClock(),
            metrics=Metrics(),
            random_bytes=os.urandom,
        ),
    )


@pytest.mark.parametrize("url", ["mqtt://127.0.0.1:1883", "mqtts://broker.example:8883"])
async def test_what_the_private_broker_of_a_killed_node_was_told_goes_when_the_node_takes_another_broker(
    tmp_path: Path, url: str
) -> None:
    left = [tmp_path / name for name in ("broker.users", "broker.conf", "broker.toml")]
    for path in left:
        path.write_text("hush")
    child, _ = make_bus(tools_of(tmp_path, url), "")
    assert child is None
    assert not any(path.exists() for path in left)


async def test_a_node_with_a_private_broker_leaves_its_files_to_that(tmp_path: Path) -> None:
    child, _ = make_bus(tools_of(tmp_path, ""), "")
    assert child is not None
