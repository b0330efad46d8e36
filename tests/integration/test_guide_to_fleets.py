"""What the guide to operating a fleet tells to type works as it stands, with real daemons."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from qedge.base.metrics import Metrics
from qedge.cli.main import main
from qedge.client.fleet_tool.operator_folder import OperatorFolder
from qedge.crypto.authority import Authority, found
from qedge.crypto.authority_files import AuthorityFolder
from qedge.crypto.certificates import make_request
from qedge.crypto.keys import generate
from qedge.crypto.model import Role, Subject
from qedge.crypto.operator_files import write_operator
from qedge.crypto.sealed_file import Cost
from qedge.store.store import Store
from qedge.wire.trust import SigningRequest
from tests.integration.bus_site import MOSQUITTO
from tests.integration.daemon_process import DaemonProcess
from tests.integration.fleet_of_fakes import PASSPHRASE, open_broker

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "operate-a-fleet.md"
BLOCK = re.compile(r"^```(\w+)(?: part)?(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONFIG = """
[node]
labels = ["edge", "graz"]
[broker]
url = "mqtt://127.0.0.1:{port}"
reconnect_cap_s = 1.0
[http]
enabled = false
[mesh]
listen = "off"
[drivers.qrng]
driver = "sim_qrng"
[fleet.commands]
synchronised_clock = false
"""


def enrol(authority: Authority, home: Path, node: str) -> None:
    """Give the daemon that will run below `home` its place, as if it had joined."""
    key = generate("ml-dsa-65", os.urandom)
    request = SigningRequest("home", node, make_request(Subject("home", Role.NODE, node), key))
    membership = authority.certify(request, utc_ns=time.time_ns(), random_bytes=os.urandom)
    home.mkdir(parents=True)
    Store(home / "qedge.sqlite3", metrics=Metrics()).close()
    row = ("current", "home", node, False, key.algorithm, key.seed, msgspec.msgpack.encode(membership))
    with sqlite3.connect(home / "qedge.sqlite3") as connection:
        connection.execute("INSERT OR REPLACE INTO identities VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    connection.close()


def commands() -> Iterator[list[str]]:
    """Give every command of the guide in its order."""
    for language, _, text in BLOCK.findall(GUIDE.read_text()):
        if language == "sh":
            yield from (shlex.split(line) for line in text.strip().splitlines())


@pytest.mark.timeout(300)
@pytest.mark.long
async def test_every_command_of_the_guide_to_fleets_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(write_operator, "__defaults__", (Cost(10),))
    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE + "\n")
    folder = AuthorityFolder(tmp_path / "authority")
    ledger, root, seed = found("home", level=3, utc_ns=time.time_ns(), random_bytes=os.urandom)
    folder.create(ledger, root, seed, PASSPHRASE, os.urandom, Cost(10))
    authority = folder.open(PASSPHRASE)
    monkeypatch.setenv("QEDGE_OPERATOR_FOLDER", str(tmp_path / "ann"))
    monkeypatch.setenv("QEDGE_OPERATOR_PASSPHRASE_FILE", str(secret))
    daemons = []
    outputs: list[str] = []
    with open_broker(tmp_path) as port:
        for node in ("alpha", "beta"):
            enrol(authority, tmp_path / node, node)
            daemons.append(DaemonProcess(tmp_path / node, CONFIG.format(port=port)))
        folder.save(authority.ledger)
        for daemon in daemons:
            daemon.start()
        try:
            for daemon in daemons:
                await daemon.wait_status(lambda status: status.ready and status.bus.connected)
            for words in commands():
                if words[1] == "operator":
                    words += ["--folder", str(folder.path)]
                    if words[2] == "new":
                        words += ["--passphrase-file", str(secret), "--operator-passphrase-file", str(secret)]
                elif not (tmp_path / "ann" / "broker.toml").exists():
                    (tmp_path / "ann" / "broker.toml").write_text(f'url = "mqtt://127.0.0.1:{port}"\n')
                if "ROLLOUT" in words:
                    words[words.index("ROLLOUT")] = OperatorFolder(tmp_path / "ann").rollouts()[-1]
                code = await asyncio.to_thread(main, words[1:])
                captured = capsys.readouterr()
                assert code == 0, (words, captured)
                outputs.append(captured.out)
        finally:
            for daemon in daemons:
                daemon.stop()
    _, _, operators, inventory, chosen, tests, _, logs, sent, *_ = outputs
    assert "bob" in operators
    assert re.search(r"^alpha +up .*edge, graz", inventory, re.MULTILINE)
    assert [node["name"] for node in json.loads(chosen)["nodes"]] == ["alpha", "beta"]
    assert tests.count("successful") == 2
    assert all(each["result"]["type"] == "log-lines/1" for each in json.loads(logs)["commands"])
    assert [line.split()[0] for line in sent.splitlines()] == ["alpha", "beta"]
    whole = json.loads(outputs[-1])
    assert whole["whole"]
    assert {line["entry"]["act"] for line in whole["lines"]} == {"sent", "ended", "rollout begun", "rollout ended"}
    assert "healthy" in outputs[-3]
