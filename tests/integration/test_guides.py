"""What a guide tells to type works as it stands."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from qedge.cli import submit
from tests.integration.daemon_process import DaemonProcess

pytestmark = pytest.mark.integration

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "run-circuits.md"
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> Iterator[tuple[dict[str, str], list[str]]]:
    """Yield the files so far and the next command."""
    files: dict[str, str] = {}
    for language, name, text in BLOCK.findall(GUIDE.read_text()):
        if language in ("qasm", "json"):
            files[name] = text
        elif language == "sh":
            yield dict(files), shlex.split(text.strip())


async def test_every_command_of_the_guide_to_circuits_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outputs = []
    daemon = DaemonProcess(tmp_path / "home", '[drivers.qpu]\ndriver = "sim_qpu"\n')
    daemon.start()
    try:
        await daemon.wait_up()
        for files, command in commands():
            for name, text in files.items():
                (tmp_path / name).write_text(text)
            assert command[:2] == ["qedge", "submit"]
            parser = argparse.ArgumentParser()
            submit.add_arguments(parser)
            args = parser.parse_args(command[2:])
            args.socket = str(daemon.socket)
            assert await asyncio.to_thread(submit.run, args) == 0
            outputs.append(capsys.readouterr().out)
    finally:
        daemon.stop()
    bell, price, rotate, teleport, values, ring, memory, chain = outputs
    assert re.search(r"^ *00 █.*\n *11 █", bell, re.MULTILINE)
    assert "2 qubits" in price
    assert sum(json.loads(rotate)["result"]["counts"].values()) == 1000
    outcomes = re.findall(r"^ *([01]{3}) ", teleport, re.MULTILINE)
    assert len(outcomes) == 4
    assert all(outcome[0] == "0" for outcome in outcomes)
    assert len(re.findall(r"^\d +[01] +[+-][01]\.\d{6} +exact$", values, re.MULTILINE)) == 10
    assert "optimum -6" in ring
    assert "windows of 10 rounds, 5 committed" in memory
    assert json.loads(chain)["result"]["metadata"]["fidelity_bound"] == 1
