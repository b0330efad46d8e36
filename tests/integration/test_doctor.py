"""`qedge doctor` finds what is broken, and no secret that was planted anywhere is in a bundle of `qedge diag`."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sqlite3
import tarfile
from pathlib import Path

import pytest

from qedge.base.errors import Exit
from qedge.cli.main import main
from tests.integration.daemon_process import DaemonProcess, submit_many

pytestmark = pytest.mark.integration

SECRETS = {
    "broker": "correct-horse+battery/staple",
    "token": "tok_9f8e7d6c5b4a",
    "url": "pa55phrase",
    "invitation": "qedge1:QmFzZTY0SXNBTG9uZ1NlY3JldFRoYXROb2JvZHlTaG91bGRTZWU",
    "pem": "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7",
    "bearer": "eyJhbGciOiJub25lIn0.e30.abcdefgh",
}


def doctor(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Run `qedge doctor --json`; returns the exit code and the report."""
    capsys.readouterr()
    code = main(["doctor", "--json", *words])
    report: dict[str, list[dict[str, str]]] = json.loads(capsys.readouterr().out)
    return code, report


def broken(report: dict[str, list[dict[str, str]]]) -> set[str]:
    """Return the subjects that are broken."""
    return {check["subject"] for check in report["checks"] if check["verdict"] == "failed"}


def test_a_bundle_has_what_helps_and_none_of_the_planted_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    password = tmp_path / "broker.password"
    password.write_text(SECRETS["broker"] + "\n")
    password.chmod(0o600)
    config = f'[broker]\npassword_file = "{password}"\n[drivers.qpu]\ndriver = "sim_qpu"\n'
    daemon = DaemonProcess(tmp_path / "n", config)
    daemon.home.chmod(0o700)
    daemon.start()
    places = ("--config", str(daemon.config_path), "--state-dir", str(daemon.home))
    try:
        asyncio.run(_work(daemon))
        code, report = doctor(capsys, *places)
        assert broken(report) == set()
        assert code == Exit.OK
        log = tmp_path / "log.jsonl"
        log.write_text(daemon.log() + "\n".join(_lines_with_secrets(daemon.home)))
        target = tmp_path / "bundle.tar.gz"
        assert main(["diag", "collect", *places, "--output", str(target), "--log", str(log), "--json"]) == 0
        summary = json.loads(capsys.readouterr().out)
        assert summary["redactions"] >= len(SECRETS)
    finally:
        daemon.stop()
    assert target.stat().st_mode & 0o077 == 0
    with tarfile.open(target) as archive:
        members = {member.name.partition("/")[2]: archive.extractfile(member) for member in archive.getmembers()}
        texts = {name: opened.read().decode() for name, opened in members.items() if opened is not None}
    expected = {"doctor.json", "status.json", "identity.json", "peers.json", "jobs.json", "metrics.txt", "system.json"}
    assert {*expected, "configuration/agent.toml", "log.jsonl"} == set(texts)
    assert "daemon.starting" in texts["log.jsonl"]
    whole = "\n".join(texts.values())
    seeds = _seeds(daemon.home)
    assert seeds
    keys = [form for seed in seeds for form in (seed.hex(), base64.b64encode(seed).decode())]
    assert [secret for secret in (*SECRETS.values(), *keys) if secret in whole] == []
    # a second bundle never overwrites the first
    assert main(["diag", "collect", *places, "--output", str(target)]) == Exit.CANT_CREATE


async def _work(daemon: DaemonProcess) -> None:
    """Have the daemon do something that it can tell of."""
    await daemon.wait_up()
    async with daemon.client() as client:
        await submit_many(client, 2)


def _lines_with_secrets(home: Path) -> list[str]:
    """Write log lines as no part of the program should, with every planted secret and the keys of the node."""
    encoded = base64.b64encode(SECRETS["broker"].encode()).decode()
    return [
        f"password is {SECRETS['broker']}",
        f'{{"event": "x", "note": "{encoded}"}}',
        f'{{"access_token": "{SECRETS["token"]}"}}',
        f"connecting to mqtts://box:{SECRETS['url']}@example:8883",
        f"joining with {SECRETS['invitation']}",
        f"-----BEGIN PRIVATE KEY-----\n{SECRETS['pem']}\n-----END PRIVATE KEY-----",
        f"Authorization: Bearer {SECRETS['bearer']}",
        *(f"seed {base64.b64encode(seed).decode()} and seed={seed.hex()}" for seed in _seeds(home)),
    ]


def _seeds(home: Path) -> list[bytes]:
    with sqlite3.connect(f"file:{home / 'qedge.sqlite3'}?mode=ro", uri=True) as connection:
        return [bytes(seed) for (seed,) in connection.execute("SELECT seed FROM identities")]


def test_what_is_broken_is_named_with_its_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "n"
    home.mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    (home / "qedge.sqlite3").write_bytes(b"SQLite format 3\0" + os.urandom(4096))
    config = tmp_path / "agent.toml"
    config.write_text('[broker]\nurl = "mqtt://127.0.0.1:1"\n[drivers.qpu]\ndriver = "no_such_driver"\n')
    places = ("--config", str(config), "--state-dir", str(home))
    code, report = doctor(capsys, *places)
    assert code == Exit.FAILED
    assert {"database", "broker", "driver"} <= broken(report)
    config.write_text("[broker]\nno_such_key = 1\n")
    _, report = doctor(capsys, *places)
    assert "configuration" in broken(report)
    assert main(["doctor", *places]) == Exit.FAILED
    told = capsys.readouterr().out
    assert "no_such_key" in told
    assert "fix:" in told
