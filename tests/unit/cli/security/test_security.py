"""`qedge incident` and `qedge audit` as a person uses them."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import Exit, QedgeError
from qedge.cli.security import audit, incident
from qedge.security.audit.files import TrailFiles
from qedge.security.audit.row import START
from qedge.web.security.fake import DEVICE, INCIDENT
from qedge.wire.audit import AuditKind, AuditRow, AuditTrail
from tests.integration.web_site import serving
from tests.unit.security.security_site import KEY


def parse(module: object, *argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", default="")
    module.add_arguments(parser)  # type: ignore[attr-defined]  # a command module
    return parser.parse_args(argv)


async def told(capsys: pytest.CaptureFixture[str], module: object, *argv: str, code: int = 0) -> str:
    """Run a command in a thread, as its own event loop demands; returns what it printed."""
    run: Callable[[argparse.Namespace], int] = module.run  # type: ignore[attr-defined]  # a command module
    capsys.readouterr()
    assert await asyncio.to_thread(run, parse(module, *argv)) == code
    return capsys.readouterr().out


async def test_incidents_are_listed_shown_acknowledged_and_resolved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path, enabled=False) as site:
        socket = ("--socket", site.service.socket)
        listed = await told(capsys, incident, *socket, "list")
        assert DEVICE in listed
        assert "1 open" in listed
        assert "throttle: done" in await told(capsys, incident, *socket, "show", INCIDENT[-6:])
        assert "acknowledged by uid:" in await told(
            capsys, incident, *socket, "acknowledge", INCIDENT, "--note", "seen"
        )
        ended = json.loads(
            await told(capsys, incident, *socket, "resolve", INCIDENT, "--note", "done", "--release", "--json")
        )
        assert (ended["state"], ended["note"]) == ("resolved", "done")
        assert "0 open" in await told(capsys, incident, *socket, "list")
        assert DEVICE in await told(capsys, incident, *socket, "list", "--all")
        for words, code in ((("show", "ffff"), "incident.not_found"), (("resolve", INCIDENT), "incident.resolved")):
            with pytest.raises(QedgeError) as error:
                await told(capsys, incident, *socket, *words)
            assert error.value.code == code


async def test_the_audit_log_is_shown_without_letting_it_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path, enabled=False) as site:
        socket = ("--socket", site.service.socket)
        shown = await told(capsys, audit, *socket, "show")
        assert "quarantine" in shown
        assert "\x1b" not in shown
        lines = (await told(capsys, audit, *socket, "show", "--limit", "1", "--json")).splitlines()
        assert [json.loads(line)["action"] for line in lines] == ["release"]
        assert "no rows" in await told(capsys, audit, *socket, "show", "--denials")
        assert "nothing was changed" in await told(capsys, audit, *socket, "verify")
        site.node.security.intact = False
        out = await told(capsys, audit, *socket, "verify", code=Exit.DATA)
        assert "was altered" in out
        assert "NOT as it was written" in out


async def test_the_story_of_a_device_and_what_does_not_exist_over_http(tmp_path: Path) -> None:
    async with serving(tmp_path, enabled=False) as site, site.client() as client:
        story = await client.security.device_story(DEVICE)
        assert (story.trust, story.rows[0].evidence) == (2, "flooding")
        with pytest.raises(QedgeError) as error:
            await client.security.device_story("ghost")
        assert error.value.code == "incident.no_device"
        for path in ("/v1/audit/other", "/v1/incidents/none", "/v1/trust/a%2Fb"):
            with pytest.raises(QedgeError) as error:
                await client.ask("GET", path, type(story))
            assert error.value.code == "http.not_found"


async def test_a_log_is_verified_without_a_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "audit"
    folder.mkdir()
    files = TrailFiles(folder, AuditTrail.ACTS, KEY, max_bytes=1 << 20, max_files=4, utc_ns=1)
    files.append([AuditRow(0, ManualClock().utc_ns(), AuditKind.ACT, START, action="release", actor="uid:0")])
    files.checkpoint(2)
    files.close()
    out = await told(capsys, audit, "verify", str(tmp_path))
    assert f"proven up to row 1 by key {KEY.key_id}" in out
    assert "was not looked at" in out
    report = json.loads(await told(capsys, audit, "verify", str(folder), "--key-id", KEY.key_id, "--json"))
    assert report["ok"]
    assert "not the node's" in await told(capsys, audit, "verify", str(tmp_path), "--key-id", "00" * 16, code=Exit.DATA)
    path = folder / "acts-000000000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b"uid:0", b"uid:7"))
    assert "was altered" in await told(capsys, audit, "verify", str(tmp_path), code=Exit.DATA)
    with pytest.raises(QedgeError, match="no audit log"):
        await told(capsys, audit, "verify", str(tmp_path / "nothing"))
