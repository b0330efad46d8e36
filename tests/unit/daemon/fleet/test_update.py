"""The daemon offers software updates to fleet operators."""

from __future__ import annotations

from pathlib import Path

import msgspec

from qedge.base.clock import ManualClock
from qedge.config import AgentConfig
from qedge.daemon.fleet.update import make_update
from tests.unit.fleet.update.bundles import make_site


def test_one_kind_of_command_comes_of_it(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    config = AgentConfig()
    config = msgspec.structs.replace(config, node=msgspec.structs.replace(config.node, state_dir=str(tmp_path)))
    (executor,) = make_update(config, ManualClock(), lambda: True, site.disk.layout.root)
    assert executor.kind == "software-update"
