"""What the guide to incidents tells to type works as it stands, and its table is that of the program."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from qedge.security.incidents.model import RESPONSES
from qedge.security.trust.evidence import EVIDENCE
from tests.integration.test_guides import BLOCK, GUIDES
from tests.integration.web_site import serving

GUIDE = "respond-to-an-incident.md"


@pytest.mark.integration
async def test_every_command_of_the_guide_to_incidents_works(tmp_path: Path) -> None:
    outputs = []
    async with serving(tmp_path, enabled=False) as site:
        for language, _name, text in BLOCK.findall((GUIDES / GUIDE).read_text()):
            if language == "sh":
                outputs.append(await asyncio.to_thread(_run, shlex.split(text.strip()), site.service.socket))
    listed, shown, acknowledged, resolved, rows, _denials, verified = outputs
    assert "pump-7" in listed
    assert "6000 messages within 5 s" in shown
    assert "note: on my way to pump 7" in acknowledged
    assert "note: firmware replaced" in resolved
    assert "quarantine" in rows
    assert "nothing was changed" in verified


def _run(command: list[str], socket: str) -> str:
    program = str(Path(sys.executable).parent / command[0])
    environ = {**os.environ, "QEDGE_SOCKET": socket}
    done = subprocess.run([program, *command[1:]], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_table_of_evidence_in_the_guide_is_that_of_the_program() -> None:
    text = (GUIDES / GUIDE).read_text()
    for evidence, row in EVIDENCE.items():
        hours = row.half_life_s / 3600
        half_life = f"{hours:g} h" if hours < 24 else f"{hours / 24:g} d"
        response = f"`{RESPONSES[evidence]}`" if evidence in RESPONSES else "–"
        cells = (f"`{evidence}`", f"{row.weight:+g}", half_life, f"{row.cap:g}", response, row.meaning)
        assert f"| {' | '.join(cells)} |" in text
