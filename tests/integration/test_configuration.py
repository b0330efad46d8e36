"""Claims about configurations that the fleet gives a real daemon: under load, with bad ones among them, and kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.wire.configuration import ConfigurationApply, ConfigurationRollback, ConfigurationView, SettingList
from qedge.wire.jobs import JobState, JobSubmission
from tests.integration.daemon_process import BELL, DaemonProcess, wait_ended

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]

BASE = """
[node]
name = "box"
[drivers.qpu]
driver = "sim_qpu"
[fleet.configuration]
health_limit_s = {limit}
health_hold_s = {hold}
drift_interval_s = 0.2
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., DaemonProcess]]:
    made: list[DaemonProcess] = []

    def start(limit: float = 6.0, hold: float = 0.3) -> DaemonProcess:
        daemon = DaemonProcess(tmp_path / f"n{len(made)}", BASE.format(limit=limit, hold=hold))
        made.append(daemon)
        daemon.start()
        return daemon

    yield start
    for daemon in made:
        if daemon.process is not None:
            daemon.stop()


class Load:
    """Submits jobs again and again and remembers those that were accepted."""

    def __init__(self, daemon: DaemonProcess, pause_s: float = 0.1) -> None:
        self._daemon = daemon
        self._pause_s = pause_s
        self.accepted: list[str] = []

    async def run(self) -> None:
        number = 0
        while True:
            async with self._daemon.client() as client:
                with contextlib.suppress(QedgeError):
                    while True:
                        number += 1
                        job = await client.submit(JobSubmission(program=BELL, shots=50, seed=number))
                        self.accepted.append(job.id)
                        await asyncio.sleep(self._pause_s)
            await asyncio.sleep(self._pause_s)

    @contextlib.asynccontextmanager
    async def on(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def check(self) -> None:
        """Every accepted job has been done."""
        assert self.accepted
        jobs = await wait_ended(self._daemon, self.accepted, 300)
        assert {job.state for job in jobs} == {JobState.DONE}


async def view_of(
    daemon: DaemonProcess, until: Callable[[ConfigurationView], bool], limit_s: float = 150.0
) -> ConfigurationView:
    """Ask until the view is as wanted, over restarts of the daemon."""
    end = time.monotonic() + limit_s
    last: object = None
    while time.monotonic() < end:
        with contextlib.suppress(QedgeError):
            async with daemon.client() as client:
                while time.monotonic() < end:
                    last = view = await client.configuration.show()
                    if until(view):
                        return view
                    await asyncio.sleep(0.02)
        assert daemon.is_alive(), daemon.log()[-3000:]
        await asyncio.sleep(0.02)
    raise AssertionError(f"never: {last}; {daemon.log()[-3000:]}")


def over(serial: int) -> Callable[[ConfigurationView], bool]:
    return lambda view: not view.state and view.last is not None and view.last.asked == serial


async def stage_and_apply(daemon: DaemonProcess, serial: int, text: str) -> None:
    """Apply a layer; one that is well may take its time on a busy machine, one that breaks is given little."""
    async with daemon.client() as client:
        await client.configuration.stage(serial, text)
        limit_s = 0.0 if text in BREAKING else 120.0
        await client.configuration.apply(ConfigurationApply(serial, health_limit_s=limit_s))


FAULTY = (
    "[engine]\nno_such_key = 1\n",
    '[engine]\nqueue_limit = "many"\n',
    "[broken\n",
    '[drivers.x]\ndriver = "no_such_driver"\n',
    "[drivers.qpu.settings]\nno_such_setting = 1\n",
    '[node]\nstate_dir = "/tmp/elsewhere"\n',
)
BREAKING = (
    '[broker]\nurl = "mqtt://127.0.0.1:1"\n',
    '[drivers.vendor]\ndriver = "etsi014"\n[drivers.vendor.settings]\nurl = "https://127.0.0.1:1"\n'
    'sae_id = "a"\npeer_sae = "b"\ncertificate = "/nowhere/a"\nprivate_key = "/nowhere/b"\n'
    'authorities = "/nowhere/c"\n',
)


def good(number: int) -> str:
    """Return a layer that is well: most take effect at once, some with a restart."""
    text = f'[log]\nlevel = "{("info", "debug")[number % 2]}"\n'
    if number % 3 == 1:
        text += '[drivers.second]\ndriver = "sim_qrng"\n'
    if number % 4 == 2:
        text += f"[engine]\nqueue_limit = {1000 + number}\n"
    return text


def tell_progress(capsys: pytest.CaptureFixture[str], number: int, of: int, more: str) -> None:
    """Tell whoever waits for a long run how far it is."""
    if of >= 100 and number % 10 == 0:
        with capsys.disabled():
            print(f"\r{number} of {of}, {more}", end="\n" if number == of else "", flush=True)


@pytest.mark.long
@pytest.mark.parametrize("number", [3, 200])
async def test_of_many_configurations_under_load_bad_ones_undo_themselves_and_no_job_is_lost(
    make: Callable[..., DaemonProcess], number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = make(limit=2.0)
    await daemon.wait_up()
    load, dice = Load(daemon), random.Random(8)
    in_force = 0
    async with load.on():
        for serial in range(1, number + 1):
            tell_progress(capsys, serial, number, f"{len(load.accepted)} jobs accepted")
            kind = serial % 4
            if kind == 1:
                with pytest.raises(QedgeError) as refused:
                    await stage_and_apply(daemon, serial, dice.choice(FAULTY))
                assert refused.value.code == "configuration.rejected"
                continue
            text = BREAKING[serial // 4 % len(BREAKING)] if kind == 3 else good(serial)
            await stage_and_apply(daemon, serial, text)
            ended = await view_of(daemon, over(serial))
            assert ended.last is not None
            assert ended.last.state == ("rolled-back" if kind == 3 else "good"), ended
            in_force = serial if kind != 3 else in_force
            assert ended.serial == in_force
    await load.check()
    await daemon.wait_up()
    async with daemon.client() as client:
        with pytest.raises(QedgeError) as stale:
            await client.configuration.stage(in_force, good(1))
        assert stale.value.code == "configuration.stale"
    assert daemon.stop() == 0


@pytest.mark.parametrize("number", [15, pytest.param(1000, marks=pytest.mark.long)])
async def test_many_reloads_under_load_lose_no_job(
    make: Callable[..., DaemonProcess], number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = make()
    await daemon.wait_up()
    load = Load(daemon)
    base = BASE.format(limit=6.0, hold=0.3)
    async with load.on():
        for turn in range(number):
            tell_progress(capsys, turn + 1, number, f"{len(load.accepted)} jobs accepted")
            more = ("", '[drivers.more]\ndriver = "sim_qrng"\n', "[broken\n", "[drivers.qpu.settings]\nseed = 1\n")[
                turn % 4
            ]
            seen = daemon.log().count("daemon.reload")
            daemon.write_config(base + more)
            daemon.signal(signal.SIGHUP)
            while daemon.log().count("daemon.reload") == seen:
                assert daemon.is_alive()
                await asyncio.sleep(0.02)
    daemon.write_config(base)
    daemon.signal(signal.SIGHUP)
    await load.check()
    await daemon.wait_up()
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    "step",
    [pytest.param("writing", marks=pytest.mark.long), "trial", pytest.param("restoring", marks=pytest.mark.long)],
)
async def test_a_daemon_killed_at_any_step_ends_what_it_began(make: Callable[..., DaemonProcess], step: str) -> None:
    daemon = make(limit=3.0, hold=0.5 if step == "trial" else 0.2)
    await daemon.wait_up()
    load = Load(daemon)
    bad = step == "restoring"
    async with load.on():
        await stage_and_apply(daemon, 1, BREAKING[0] if bad else good(2))
        # `writing` may be over before anybody sees it; what comes first then is its trial
        with contextlib.suppress(AssertionError):
            await view_of(daemon, lambda view: view.state in (step, "trial" if step == "writing" else step), 20)
        daemon.kill()
        daemon.start()
        ended = await view_of(daemon, over(1))
    assert ended.last is not None
    assert ended.last.state == ("rolled-back" if bad else "good")
    assert ended.serial == (0 if bad else 1)
    await daemon.wait_up()
    await load.check()


@pytest.mark.long
async def test_a_first_configuration_with_which_no_start_succeeds_is_undone(make: Callable[..., DaemonProcess]) -> None:
    daemon = make()
    await daemon.wait_up()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        await stage_and_apply(daemon, 1, f"[http]\nport = {port}\n")
        ended = await view_of(daemon, over(1))
    assert ended.last is not None
    assert (ended.last.state, ended.last.code, ended.serial) == ("rolled-back", "start.port_taken", 0)
    await daemon.wait_up()


@pytest.mark.long
async def test_a_daemon_that_never_gets_well_is_undone_after_its_starts(make: Callable[..., DaemonProcess]) -> None:
    daemon = make(limit=60.0)
    await daemon.wait_up()
    await stage_and_apply(daemon, 1, BREAKING[0])
    starts = 0
    while "configuration.rolled_back" not in daemon.log():
        await view_of(daemon, lambda view: view.state == "trial" or not view.state)
        daemon.kill()
        starts += 1
        assert starts < 8
        daemon.start()
        await asyncio.sleep(1.5)
    ended = await view_of(daemon, over(1))
    assert ended.last is not None
    assert (ended.last.code, ended.serial) == ("configuration.no_start", 0)
    await daemon.wait_up()


@pytest.mark.long
async def test_a_layer_that_a_start_cannot_read_does_not_keep_the_box_down(make: Callable[..., DaemonProcess]) -> None:
    daemon = make()
    await daemon.wait_up()
    await stage_and_apply(daemon, 1, good(1))
    await view_of(daemon, over(1))
    daemon.kill()
    (daemon.home / "conf.d" / "90-fleet.toml").write_text("[no_such_section]\n")
    daemon.start()
    await daemon.wait_up()
    view = await view_of(daemon, lambda view: "layer" in view.drift)
    assert view.serial == 1
    assert "configuration.set_aside" in daemon.log()


@pytest.mark.long
async def test_drift_rollback_and_origin_as_an_operator_sees_them(make: Callable[..., DaemonProcess]) -> None:
    daemon = make()
    await daemon.wait_up()
    await stage_and_apply(daemon, 1, '[log]\nlevel = "debug"\n')
    await view_of(daemon, over(1))
    daemon.write_config(BASE.format(limit=6.0, hold=0.3) + '[drivers.by_hand]\ndriver = "sim_qrng"\n')
    daemon.signal(signal.SIGHUP)
    drifted = await view_of(daemon, lambda view: bool(view.drift))
    assert drifted.drift == ("drivers",)
    assert (await daemon.wait_status(lambda status: status.configuration is not None)).configuration == drifted
    shown = subprocess.run(
        [
            sys.executable,
            "-m",
            "qedge",
            "config",
            "show",
            str(daemon.config_path),
            "--state-dir",
            str(daemon.home),
            "--json",
        ],
        capture_output=True,
        check=True,
    )
    listed = msgspec.json.decode(shown.stdout, type=SettingList)
    places = {row.key: f"{Path(row.file).name}:{row.line}" for row in listed.settings if row.file}
    assert places["log.level"] == "90-fleet.toml:2"
    assert places["node.name"] == "agent.toml:3"
    async with daemon.client() as client:
        await client.configuration.rollback(ConfigurationRollback(1))
    ended = await view_of(daemon, over(1))
    await view_of(daemon, lambda view: not view.drift)
    assert (ended.serial, ended.undo) == (0, 0)
