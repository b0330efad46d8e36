"""Roll-outs over real daemons: restarts in waves, and a command that fails everywhere."""

from __future__ import annotations

import json
from asyncio import to_thread
from pathlib import Path

import pytest

from qedge.cli.main import main
from qedge.crypto.operator_files import OperatorIdentity, write_operator
from qedge.crypto.sealed_file import Cost
from tests.integration.bus_site import MOSQUITTO
from tests.integration.fleet_of_fakes import PASSPHRASE
from tests.integration.fleet_world import FleetWorld

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(300)]

KIND = "mosquitto" if MOSQUITTO else "iotcore"
OPEN = "[fleet.commands]\nsynchronised_clock = false\n[http]\nenabled = false\n"


async def test_real_daemons_restart_wave_by_wave_and_a_failure_reaches_the_first_wave_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FleetWorld(tmp_path, KIND) as world:
        daemons = [world.start(name, OPEN) for name in ("alpha", "beta", "gamma")]
        for daemon in daemons:
            await daemon.wait_status(lambda status: status.ready and status.bus.connected, 60)
        key, chain = world.fleet.operator("ann")
        identity = OperatorIdentity(world.fleet.name, "ann", key.algorithm, key.seed, chain, world.fleet.anchor)
        folder = tmp_path / "ann"
        write_operator(folder / "ann.operator", identity, PASSPHRASE, bytes, Cost(10))
        (folder / "passphrase").write_text(PASSPHRASE)
        (folder / "broker.toml").write_text(f'url = "mqtt://127.0.0.1:{world.broker.port}"\n')

        async def roll_out(*words: str) -> tuple[int, dict[str, object]]:
            common = ["--operator-folder", str(folder), "--passphrase-file", str(folder / "passphrase"), "--json"]
            code = await to_thread(main, ["fleet", "rollout", "start", *words, *common])
            last: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
            return code, last

        waves = ("--to", "all", "--waves", "1,100%", "--soak", "4")
        code, view = await roll_out("restart-agent", *waves)
        assert (code, view["phase"], view["reached"]) == (0, "done", 3), view
        code, view = await roll_out("restart-worker", "driver=none", *waves)
        assert (code, view["phase"], view["reached"]) == (1, "stopped", 1), view
        assert "none" in str(view["faults"])
