"""The first start, the stop, the second start, and everybody else on the box, with a real daemon."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from qedge.wire.jobs import JobSubmission
from qedge.wire.node import DriverChange
from tests.integration.daemon_process import BELL, DaemonProcess, submit_many, wait_ended

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

NOBODY = 65534
CIRCUITS = '[drivers.qpu]\ndriver = "sim_qpu"\n'


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One node with a QPU; tests stop it and start it again."""
    made = DaemonProcess(tmp_path_factory.mktemp("node") / "n", CIRCUITS)
    yield made
    made.stop()


@pytest.fixture
def daemon(node: DaemonProcess) -> DaemonProcess:
    """The node, started, whatever the last test left."""
    if not node.is_alive():
        node.start()
    return node


def _qedge(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qedge", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environ,
    )


def test_a_node_without_configuration_says_where_it_listens_and_what_to_try(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": "", "XDG_STATE_HOME": "", "PYTHONUNBUFFERED": "1"}
    environ = {name: value for name, value in (os.environ | home).items() if value}
    node = subprocess.Popen(
        [sys.executable, "-m", "qedge", "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environ,
    )
    try:
        assert node.stdout is not None
        lines = []
        for line in node.stdout:
            lines.append(line)
            if "All drivers are up" in line:
                break
        text = "".join(lines)
        for promised in (
            "qedge status",
            "qedge random 32 --hex",
            "qedge open",
            "qedge.sock",
            "http://127.0.0.1:",
            "[4/4]",
        ):
            assert promised in text
        status = json.loads(_qedge("status", "--json", **home).stdout)
        assert (status["fleet"], status["standalone"], status["ready"]) == ("local", True, True)
        assert {driver["kind"] for driver in status["drivers"]} == {"qpu", "qkd", "qrng"}
        assert len(_qedge("random", "32", "--hex", **home).stdout.strip()) == 64
        assert _qedge("open", "--print", **home).stdout.startswith("http://127.0.0.1:")
    finally:
        node.send_signal(signal.SIGINT)
        assert node.wait(15) == 0
        if node.stdout is not None:
            node.stdout.close()


async def test_a_second_daemon_on_the_same_state_is_refused_with_its_fix(daemon: DaemonProcess) -> None:
    await daemon.wait_up()
    second = await asyncio.to_thread(_qedge, "run", "--state-dir", str(daemon.home))
    assert second.returncode == 69
    assert "start.already_running" in second.stderr
    assert "fix:" in second.stderr
    assert daemon.is_alive()


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = _qedge("run", "--state-dir", str(tmp_path / "file" / "x"))
    assert refused.returncode == 77
    assert "start.no_permission" in refused.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = tmp_path / "agent.toml"
        config.write_text(f"[http]\nport = {taken.getsockname()[1]}\n")
        refused = _qedge("run", "--config", str(config), "--state-dir", str(tmp_path / "s"))
    assert "start.port_taken" in refused.stderr
    config.write_text("[engine]\nno_such_key = 1\n")
    refused = _qedge("run", "--config", str(config), "--state-dir", str(tmp_path / "s"))
    assert refused.returncode == 78
    assert "no_such_key" in refused.stderr


async def test_sigterm_ends_everything_in_order_and_a_restart_takes_up_the_queue(daemon: DaemonProcess) -> None:
    await daemon.wait_up()
    children = psutil.Process(daemon.pid).children(recursive=True)
    assert children
    async with daemon.client() as client:
        ids = await submit_many(client, 50)
    assert daemon.stop() == 0
    _gone, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    assert not daemon.socket.exists()
    assert '"daemon.stopped"' in daemon.log()
    assert "service.stop_timeout" not in daemon.log()
    daemon.start()
    jobs = await wait_ended(daemon, ids)
    assert {job.state.value for job in jobs} == {"done"}


async def test_a_locked_driver_stays_locked_after_a_restart(daemon: DaemonProcess) -> None:
    await daemon.wait_up()
    async with daemon.client() as client:
        await client.change_driver("qpu", DriverChange(admin_state="locked"))
    daemon.stop()
    daemon.start()
    try:
        status = await daemon.wait_status(lambda status: status.drivers[0].admin_state == "locked")
        assert status.drivers[0].admin_state == "locked"
    finally:
        async with daemon.client() as client:
            await client.change_driver("qpu", DriverChange(admin_state="unlocked"))


INTRUDER = """
import encodings.idna, os, socket, sys  # the codec cannot be loaded any more once the rights are gone
os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
found = []
for path in {paths}:
    try:
        open(path, "rb").read(1)
        found.append(path)
    except OSError:
        pass
try:
    with socket.socket(socket.AF_UNIX) as way:
        way.connect({sock!r})
        way.sendall(b"GET /v1/status HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
        answer = way.recv(100)
        if b" 403 " not in answer: found.append(answer)
except OSError:
    pass
for path, method in (("/v1/status", "GET"), ("/v1/jobs", "POST"), ("/v1/random", "POST"), ("/v1/drivers/qpu", "PATCH")):
    with socket.create_connection(("127.0.0.1", {http})) as way:
        head = method + " " + path + " HTTP/1.1\\r\\nHost: 127.0.0.1:{http}\\r\\nContent-Length: 2\\r\\n\\r\\n"
        way.sendall(head.encode() + b"{{}}")
        answer = way.recv(100).split(b"\\r\\n")[0]
        if answer.split(b" ")[1] not in (b"401", b"403", b"404"): found.append((path, answer))
with socket.create_connection(("127.0.0.1", {broker})) as way:
    # MQTT 5 CONNECT without credentials
    way.sendall(bytes([16, 15, 0, 4]) + b"MQTT" + bytes([5, 2, 0, 60, 0, 0, 2]) + b"ab")
    way.settimeout(5)
    answer = way.recv(16)
    if answer[:1] == bytes([32]) and answer[3:4] == bytes([0]): found.append("broker let us in")
print(found)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
async def test_another_user_of_the_box_can_neither_read_submit_draw_nor_use_the_broker(daemon: DaemonProcess) -> None:
    status = await daemon.wait_up()
    files = [str(path) for path in daemon.home.rglob("*") if path.is_file() and path != daemon.log_path]
    code = INTRUDER.format(
        nobody=NOBODY,
        paths=[path for path in files if not path.endswith("agent.toml")],
        sock=str(daemon.socket),
        http=status.http.rpartition(":")[2],
        broker=status.bus.broker.rpartition(":")[2],
    )
    # The interpreter starts as root and becomes nobody inside, because nobody may not even read it.
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "[]"
    for folder in (daemon.home / "run", *(daemon.home / "drivers").iterdir()):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0, folder
    async with daemon.client() as client:
        assert (await client.submit(JobSubmission(program=BELL, shots=10))).id
