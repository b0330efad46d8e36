"""The commands of the command line against a real server."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from types import ModuleType

import pytest

from qedge.base.errors import QedgeError
from qedge.cli.drivers import draw, drivers
from qedge.cli.fleet import orders
from qedge.cli.jobs import jobs, submit
from qedge.cli.links import links
from qedge.cli.node import open_page, status
from qedge.cli.peers import ping
from qedge.web.orders.fake import ENDED
from qedge.wire.jobs import JobSubmission
from qedge.wire.node import GatewayView
from tests.integration.web_site import serving

pytestmark = pytest.mark.integration

BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'


async def invoke(socket: Path, module: ModuleType, *argv: str) -> int:
    """Run one command in a thread of its own, as it has an event loop of its own."""
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    args = parser.parse_args(argv)
    args.socket = str(socket)
    code = await asyncio.to_thread(module.run, args)
    assert isinstance(code, int)
    return code


async def test_status_shows_the_node_and_says_by_its_exit_code_whether_it_is_ready(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as site:
        path = tmp_path / "qedge.sock"
        assert await invoke(path, status) == 0
        shown = capsys.readouterr().out
        for word in ("box-1", "mosquitto", "driver-card", "simulated", "GiB", "jobs"):
            assert word in shown
        assert "\x1b" not in shown
        assert "devices" not in shown
        site.node.gateway = GatewayView(
            states={"enrolled": 3, "quarantined": 1, "revoked": 0},
            sessions=2,
            connections=1,
            addresses=("10.0.0.1:1884",),
            tls="classical",
            through_broker=True,
            taken=7,
            refused=5,
            denied=2,
            incidents=1,
            policy_rules=4,
            policy_source="file",
        )
        await invoke(path, status)
        shown = capsys.readouterr().out
        for words in (
            "devices  3 enrolled, 1 quarantined; 2 sessions, 1 connections",
            "at 10.0.0.1:1884, the broker (classical TLS, frames sealed)",
            "policy file, 4 rules; 7 messages taken, 5 refused, 2 of them by policy",
            "1 open incidents: qedge incident list",
        ):
            assert words in shown
        site.node.gateway = GatewayView()
        await invoke(path, status)
        assert "no policy: everything is denied" in capsys.readouterr().out
        site.node.missing = ("bus",)
        assert await invoke(path, status, "--json") == 1
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["not_ready"] == ["bus"]


async def test_submit_prints_the_histogram_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "bell.qasm"
    program.write_text(BELL)
    async with serving(tmp_path) as site:
        path = tmp_path / "qedge.sock"
        told = ("--tag", "lab", "--tag", "x", "--priority", "7", "--key", "once")
        assert await invoke(path, submit, str(program), "--shots", "200", *told) == 0
        sent = site.node.submissions[-1]
        assert (sent.tags, sent.priority, sent.client_key) == (("lab", "x"), 7, "once")
        shown = capsys.readouterr().out
        assert "00 █" in shown
        assert "50.00%" in shown
        assert await invoke(path, submit, str(program), "--json") == 0
        assert json.loads(capsys.readouterr().out)["result"]["counts"] == {"00": 500, "11": 500}
        assert await invoke(path, submit, str(program), "--dry-run") == 0
        assert "2 qubits" in capsys.readouterr().out
        assert await invoke(path, submit, str(program), "--no-wait") == 0
        job_id = capsys.readouterr().out.strip()
        assert await invoke(path, jobs, "show", job_id) == 0
        assert "00 █" in capsys.readouterr().out
        assert await invoke(path, jobs, "list") == 0
        assert job_id in capsys.readouterr().out


async def test_device_shows_what_a_qpu_is_like(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path):
        path = tmp_path / "qedge.sock"
        assert await invoke(path, drivers, "device", "qpu") == 0
        shown = capsys.readouterr().out
        for word in ("2 qubits", "1 couplings", "cz", "0.995", "QB2", "40 µs", "2.00%", "3 jobs wait"):
            assert word in shown
        assert await invoke(path, drivers, "device", "qpu", "--json") == 0
        assert json.loads(capsys.readouterr().out)["sites"][0]["t1_us"] == 42.0


async def test_watch_tells_each_change_of_a_job_until_it_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path, instant=False) as site:
        path = tmp_path / "qedge.sock"
        view = await site.node.submit(JobSubmission(program=BELL, priority=7, tags=("lab",)), client="test")
        watching = asyncio.create_task(invoke(path, jobs, "watch", view.id, "--json"))
        while '"queued"' not in (told := capsys.readouterr().out):
            await asyncio.sleep(0.01)
        site.node.fail(view.id, QedgeError("worker.crashed", "The worker died."))
        assert await watching == 0
        states = [json.loads(line)["state"] for line in (told + capsys.readouterr().out).splitlines()]
        assert (states[0], states[-1]) == ("queued", "failed")


async def test_a_job_that_fails_ends_the_command_with_its_error(tmp_path: Path) -> None:
    program = tmp_path / "bell.qasm"
    program.write_text(BELL)
    async with serving(tmp_path, instant=False) as site:
        running = asyncio.create_task(invoke(tmp_path / "qedge.sock", submit, str(program)))
        while not site.node.submissions:
            await asyncio.sleep(0.01)
        (job,) = (await site.node.jobs(1)).jobs
        site.node.fail(job.id, QedgeError("worker.crashed", "The worker died."))
        with pytest.raises(QedgeError) as failed:
            await running
        assert failed.value.code == "worker.crashed"


async def test_a_command_outlives_a_restart_of_the_daemon(tmp_path: Path) -> None:
    program = tmp_path / "bell.qasm"
    program.write_text(BELL)
    async with serving(tmp_path, instant=False) as site:
        running = asyncio.create_task(invoke(tmp_path / "qedge.sock", submit, str(program)))
        while not site.node.submissions:
            await asyncio.sleep(0.01)
        (job,) = (await site.node.jobs(1)).jobs
        node = site.node
    assert not running.done()
    async with serving(tmp_path, node=node):
        node.finish(job.id)
        assert await running == 0


async def test_jobs_are_cancelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path, instant=False) as site:
        job = await site.node.submit(JobSubmission(program=BELL), "uid:0")
        assert await invoke(tmp_path / "qedge.sock", jobs, "cancel", job.id) == 0
        assert "cancelled" in capsys.readouterr().out


async def test_random_bytes_come_in_every_form(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    async with serving(tmp_path) as site:
        path = tmp_path / "qedge.sock"
        assert await invoke(path, draw, "16", "--hex") == 0
        assert len(bytes.fromhex(capfdbinary.readouterr().out.splitlines()[-1].decode())) == 16
        assert await invoke(path, draw, "48", "--raw") == 0
        assert len(capfdbinary.readouterr().out) == 48
        assert await invoke(path, draw, "3", "--base64") == 0
        assert len(capfdbinary.readouterr().out.strip()) == 4
        site.node.entropy_healthy = False
        with pytest.raises(QedgeError) as refused:
            await invoke(path, draw, "--require-quantum")
        assert refused.value.code == "entropy.no_quantum"


async def test_drivers_are_listed_locked_and_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path) as site:
        path = tmp_path / "qedge.sock"
        assert await invoke(path, drivers, "list") == 0
        assert "sim_qkd" in capsys.readouterr().out
        assert await invoke(path, drivers, "lock", "qpu") == 0
        assert "locked" in capsys.readouterr().out
        assert await invoke(path, drivers, "unlock", "qpu") == 0
        assert await invoke(path, drivers, "set", "alice", "eve_fraction=1.0", "--json") == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["properties"]["eve_fraction"] == 1.0
        assert site.node.eve
        with pytest.raises(QedgeError) as unknown:
            await invoke(path, drivers, "lock", "nothing")
        assert unknown.value.code == "driver.not_found"


async def test_links_ping_and_the_page_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path) as site:
        path = tmp_path / "qedge.sock"
        assert await invoke(path, links, "measure", "lab", "--sifted", "1000") == 0
        assert "1.00%" in capsys.readouterr().out
        assert await invoke(path, links, "list", "--json") == 0
        assert json.loads(capsys.readouterr().out)["links"][0]["name"] == "lab"
        assert await invoke(path, ping, "--count", "3") == 0
        assert "median 1.00 ms" in capsys.readouterr().out
        assert await invoke(path, open_page, "--print") == 0
        assert capsys.readouterr().out.startswith(site.url + "/#link=")


async def test_commands_of_fleet_operators_are_listed_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path):
        path = tmp_path / "qedge.sock"
        assert await invoke(path, orders, "list") == 0
        shown = capsys.readouterr().out
        assert ENDED.id in shown
        assert "olga" in shown
        assert await invoke(path, orders, "show", ENDED.id, "--json") == 0
        assert json.loads(capsys.readouterr().out)["kind"] == "drain"
        assert await invoke(path, orders, "show", ENDED.id) == 0
        assert "drain  successful" in capsys.readouterr().out
        for unknown in (ENDED.id.replace("0", "1", 1), "no-id"):
            with pytest.raises(QedgeError) as error:
                await invoke(path, orders, "show", unknown)
            assert error.value.code == "order.not_found"
