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

import msgspec
import pytest

from qedge.cli.jobs import decode
from qedge.cli.main import main
from qedge.security.policy.model import (
    Conditions,
    PolicyDocument,
    Rate,
    Resources,
    Rule,
    Segment,
    Subjects,
    Window,
)
from qedge.wire.node import DriverChange
from tests.integration.daemon_process import DaemonProcess
from tests.unit.fleet.update.bundles import make_wheel

pytestmark = pytest.mark.integration

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
BLOCK = re.compile(r"^```(\w+)(?: part)?(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(guide: str) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Yield the files so far and the next command; a program is run where it stands."""
    files: dict[str, str] = {}
    for language, name, text in BLOCK.findall((GUIDES / guide).read_text()):
        if language == "python":
            yield {**files, name: text}, ["python", name]
        elif language in ("qasm", "json", "toml") and name:
            files[name] = text
        elif language == "sh":
            yield dict(files), shlex.split(text.strip())


@pytest.mark.timeout(300)
@pytest.mark.long
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
            if command[1:3] == ["drivers", "assess"]:  # few qubits are assessed soon
                async with daemon.client() as client:
                    await client.change_driver("qpu", DriverChange(settings={"qubits": 4}))
            outputs.append(await asyncio.to_thread(_run, command, daemon))
    finally:
        daemon.stop()
    bell, price, rotate, teleport, _made, phase, values, ring, memory, chain, assessed = outputs
    assert re.search(r"^ *00 █.*\n *11 █", bell, re.MULTILINE)
    assert "2 qubits" in price
    assert sum(json.loads(rotate)["result"]["counts"].values()) == 1000
    outcomes = re.findall(r"^ *([01]{3}) ", teleport, re.MULTILINE)
    assert len(outcomes) == 4
    assert all(outcome[0] == "0" for outcome in outcomes)
    outcomes = json.loads(phase)["result"]["counts"]
    # the first qubit is measured twice, and then decides what the second one is
    assert {outcome.replace(" ", "") for outcome in outcomes} == {"000", "111"}
    assert len(re.findall(r"^\d +[01] +[+-][01]\.\d{6} +exact$", values, re.MULTILINE)) == 10
    assert "optimum -6" in ring
    assert "windows of 10 rounds, 5 committed" in memory
    assert json.loads(chain)["result"]["metadata"]["fidelity_bound"] == 1
    assert "quantum volume" in assessed


@pytest.mark.long
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


async def test_every_command_of_the_guide_to_policies_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outputs = []
    for files, command in commands("write-a-policy.md"):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        assert main(command[1:]) == 0, command
        outputs.append(capsys.readouterr().out)
    checked, explained, tested, simulated = outputs
    assert checked == "ok (policy.toml: 5 rules, 2 segments)\n"
    assert tested == "7 of 7 expectations met\n"
    blocks = BLOCK.findall((GUIDES / "write-a-policy.md").read_text())
    shown = [text for language, _, text in blocks if language == "console"]
    assert [_words(text) for text in shown] == [_words(explained), _words(simulated)]


def test_the_guide_to_policies_names_every_key() -> None:
    text = (GUIDES / "write-a-policy.md").read_text()
    for struct in (PolicyDocument, Segment, Subjects, Resources, Conditions, Window, Rate, Rule):
        keys = {field.encode_name for field in msgspec.structs.fields(struct)} - {"description"}
        assert {key for key in keys if not re.search(rf"\b{key}\b", text)} == set(), struct


async def test_every_command_of_the_guide_to_updates_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "passphrase.txt").write_text("correct horse battery staple\n")
    make_wheel(tmp_path / "dist" / "wheels", "qedge", "0.2.0", "License-Expression: Apache-2.0")
    outputs = []
    for _files, command in commands("update-and-roll-back.md"):
        if command[0] == "qedge":
            assert await asyncio.to_thread(main, command[1:]) == 0, command
            outputs.append(capsys.readouterr().out)
        else:
            done = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, timeout=30)
            outputs.append(done.stdout)
    key, made, checked, listed = outputs
    assert key.split()[-1] in checked
    assert re.search(r"^minimum previous  0\.1\.0$", checked, re.MULTILINE)
    assert made.splitlines()[1].split() == checked.splitlines()[-2].split()
    assert all(name in listed for name in ("manifest.json", "sbom.cdx.json", "cbom.cdx.json"))
    assert main(["update", "check", "qedge.qup", "--keys", "dist"]) == 78


def _words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def _run(command: list[str], daemon: DaemonProcess) -> str:
    program = sys.executable if command[0] == "python" else str(Path(sys.executable).parent / command[0])
    environ = {**os.environ, "QEDGE_SOCKET": str(daemon.socket)}
    done = subprocess.run([program, *command[1:]], env=environ, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(300)
@pytest.mark.long
async def test_every_command_of_the_guide_to_configuration_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outputs = []
    settings = "[fleet.configuration]\nhealth_limit_s = 120\nhealth_hold_s = 0.2\n"
    daemon = DaemonProcess(tmp_path / "home", f'[drivers.qrng]\ndriver = "sim_qrng"\n{settings}')
    daemon.start()
    try:
        await daemon.wait_status(lambda status: status.ready and status.bus.connected)
        for files, command in commands("configure-from-afar.md"):
            for name, text in files.items():
                (tmp_path / name).write_text(text)
            outputs.append(await asyncio.to_thread(_run, command, daemon))
    finally:
        daemon.stop()
    shown, staged, applied, told, gone = outputs
    assert re.search(r'drivers.qrng.driver +\S*agent.toml:2 +"sim', shown)
    assert "changes log, engine; the daemon restarts for engine" in staged
    assert "serial 1 good" in applied
    assert "in force  serial 1" in told
    assert "no layer of the fleet" in gone
