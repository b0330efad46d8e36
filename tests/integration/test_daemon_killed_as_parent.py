"""Nothing that a daemon started outlives it, whenever it is killed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.integration import short_lived_daemon
from tests.integration.daemon_process import DaemonProcess
from tests.integration.descendants import Descendants

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

CONFIG = '[node]\nname = "young"\n[drivers.qrng]\ndriver = "sim_qrng"\n'
BROKER, WORKER = "broker.", "qedge.workers.host"


@pytest.mark.parametrize(
    ("child", "life"),
    [
        (BROKER, 1),
        pytest.param(WORKER, 1, marks=pytest.mark.long),
        pytest.param(BROKER, 2, marks=pytest.mark.long),
        pytest.param(WORKER, 2, marks=pytest.mark.long),
    ],
)
def test_a_daemon_killed_as_soon_as_it_has_a_child_leaves_none_behind(
    tmp_path: Path, descendants: Descendants, child: str, life: int
) -> None:
    launcher = (sys.executable, short_lived_daemon.__file__, child, str(life))
    daemon = DaemonProcess(tmp_path / "young", CONFIG, descendants.environ, within=launcher)
    daemon.start()
    assert daemon.process is not None
    assert daemon.process.wait(90) == -9, daemon.log()
    descendants.wait_none()
    assert daemon.log().count("daemon.starting") == life, daemon.log()
