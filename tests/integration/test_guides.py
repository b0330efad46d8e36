"""What a guide tells to type works as it stands."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qedge.cli import decode
from tests.integration.daemon_process import DaemonProcess

pytestmark = pytest.mark.integration

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
BLOCK = re.compile(r"^```(\w+)(?: part)?(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(guide: str) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Yield the files so far and the next command; a program is run where it stands."""
    files: dict[str, str] = {}
    for language, name, text in BLOCK.findall((GUIDES / guide).read_text()):
        if language == "python":
            yield {**files, name: text}, ["python", name]
        elif language in ("qasm", "json") and name:
            files[name] = text
        elif language == "sh":
            yield dict(files), shlex.split(text.strip())


async def test_every_command_of_the_guide_to_circuits_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outputs = []
    daemon = DaemonProcess(tmp_path / "home", '[drivers.qpu]\ndriver = "sim_qpu"\n')
    daemon.start()
    try:
        await daemon.wait_up()
        for files, command in commands("run-circuits.md"):
            for name, text in files.items():
                (tmp_path / name).write_text(text)
            outputs.append(await asyncio.to_thread(_run, command, daemon))
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


async def test_every_command_of_the_guide_to_decoding_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("stim")
    monkeypatch.chdir(tmp_path)
    outputs = []
    daemon = DaemonProcess(tmp_path / "home", '[drivers.qpu]\ndriver = "sim_qpu"\n')
    daemon.start()
    try:
        await daemon.wait_up()
        for files, command in commands("decode-syndromes.md"):
            for name, text in files.items():
                (tmp_path / name).write_text(text)
            if command[0] == "qedge":
                assert command[1] == "decode"
                parser = argparse.ArgumentParser()
                decode.add_arguments(parser)
                args = parser.parse_args(command[2:])
                args.socket = str(daemon.socket)
                assert await asyncio.to_thread(decode.run, args) == 0
                outputs.append(capsys.readouterr().out)
            else:
                outputs.append(await asyncio.to_thread(_run, command, daemon))
    finally:
        daemon.stop()
    _made, _sampled, lines, _again, stored, _model, uploaded, fed = outputs
    ends = re.findall(r"^shot (\d) ended: 61 of 61 rounds in 11 windows, frame ([01]),", lines, re.MULTILINE)
    assert [shot for shot, _ in ends] == ["0", "1", "2"]
    assert sum(json.loads(line).get("flushed", False) for line in stored.splitlines()) == 3
    assert re.findall(r"^shot (\d) ended: 61 of 61 rounds in 11 windows, frame ([01]),", uploaded, re.MULTILINE) == ends
    assert "201 rounds are decided" in fed


def _run(command: list[str], daemon: DaemonProcess) -> str:
    program = sys.executable if command[0] == "python" else str(Path(sys.executable).parent / command[0])
    environ = {**os.environ, "QEDGE_SOCKET": str(daemon.socket)}
    done = subprocess.run([program, *command[1:]], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
