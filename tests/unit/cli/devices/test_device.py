"""`qedge device` as a person uses it."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import re
import shlex
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.cli.devices import device
from qedge.web.devices.fake import LINE
from qedge.web.fake import FakeNode
from tests.integration.web_site import Site, serving


def parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", default="")
    device.add_arguments(parser)
    return parser.parse_args(argv)


async def told(capsys: pytest.CaptureFixture[str], site: Site, *argv: str) -> str:
    """Run a command in a thread, as its own event loop demands; returns what it printed."""
    run: Callable[[argparse.Namespace], int] = device.run
    capsys.readouterr()
    assert await asyncio.to_thread(run, parse("--socket", site.service.socket, *argv)) == 0
    return capsys.readouterr().out


async def test_a_device_is_added_and_shown_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path, enabled=False) as site:
        options = ("--class", "meter", "--segment", "hall", "--group", "north", "--attribute", "floor=2", "--safety")
        assert await told(capsys, site, "add", "m-1", *options) == f"{LINE}\n"
        shown = await told(capsys, site, "show", "m-1")
        for text in ("m-1", "invited", "meter", "hall", "north", "floor", "alarm"):
            assert text in shown
        listed = await told(capsys, site, "list")
        assert "m-1" in listed
        assert "1 invited" in listed
        assert json.loads(await told(capsys, site, "list", "--json"))["name"] == "m-1"
        assert "no devices" not in listed
        assert json.loads(await told(capsys, site, "show", "m-1", "--credentials"))["certificate"]
        (tmp_path / "m-1.json").write_text(await told(capsys, site, "show", "m-1", "--credentials"))
        assert (
            await told(capsys, site, "check", str(tmp_path / "m-1.json"))
            == "m-1 of box-2: good, ml-dsa-44, key 3e0e-0cba\n"
        )
        with pytest.raises(QedgeError, match="no credentials"):
            await told(capsys, site, "check", str(tmp_path / "none.json"))
        with pytest.raises(QedgeError, match="called m-1 already"):
            await told(capsys, site, "add", "m-1")
        with pytest.raises(QedgeError) as error:
            await told(capsys, site, "add", "m-2", "--class", "a b")
        assert error.value.code == "client.usage"


async def test_a_device_goes_through_its_life(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path, enabled=False) as site:
        await told(capsys, site, "add", "m-1")
        assert "enrolled" in await told(capsys, site, "approve", "m-1", "--fingerprint", "0000-1111")
        assert "noisy" in await told(capsys, site, "quarantine", "m-1", "--reason", "noisy")
        assert "enrolled" in await told(capsys, site, "release", "m-1")
        assert "1 devices" in await told(capsys, site, "rotate", "m-1")
        assert "1 devices" in await told(capsys, site, "rotate", "--all")
        assert json.loads(await told(capsys, site, "revoke", "m-1", "--json"))["state"] == "revoked"
        for argv in (("rotate",), ("rotate", "m-1", "--all")):
            with pytest.raises(QedgeError) as error:
                await told(capsys, site, *argv)
            assert error.value.code == "client.usage"
        with pytest.raises(QedgeError) as error:
            await told(capsys, site, "show", "nobody")
        assert error.value.code == "device.unknown"


async def test_every_command_of_the_guide_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (Path(__file__).resolve().parents[4] / "docs" / "guides" / "attach-a-device.md").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices.csv").write_text("name,class\nm-7,meter\n")
    lines = [line for line in guide.splitlines() if line.startswith("qedge device ")]
    async with serving(tmp_path, enabled=False) as site:
        for line in lines:
            await told(capsys, site, *shlex.split(line)[2:])
        for text in re.findall(r"`qedge device ([^`]+)`", guide):
            parse(*shlex.split(text))
    assert len(lines) == 8
    assert "m-7" in (tmp_path / "lines.txt").read_text()


async def test_invitations_are_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path, enabled=False) as site:
        assert await told(capsys, site, "invite", "--approval", "--uses", "5") == f"{LINE}\n"
        await told(capsys, site, "add", "m-1")
        assert json.loads(await told(capsys, site, "invite", "m-1", "--json"))["name"] == "m-1"
        with pytest.raises(QedgeError) as error:
            await told(capsys, site, "invite", "nobody")
        assert error.value.code == "device.unknown"


async def test_the_code_of_a_label_comes_from_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, enabled=False) as site:
        monkeypatch.setattr(sys, "stdin", io.StringIO("AB-12\n"))
        await told(capsys, site, "add", "t-1", "--claim")
        assert isinstance(site.node, FakeNode)
        assert site.node.devices.views["t-1"].tier == "constrained"


async def test_a_file_of_devices_is_imported_and_may_be_imported_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path, enabled=False) as site:
        file, out = tmp_path / "devices.csv", tmp_path / "lines.txt"
        file.write_text("name,class\n" + "".join(f"d-{n},meter\n" for n in range(450)))
        await told(capsys, site, "import", str(file), "--out", str(out))
        assert len(out.read_text().splitlines()) == 450
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        with pytest.raises(QedgeError, match="exists"):
            await told(capsys, site, "import", str(file), "--out", str(out))
        again = json.loads((await told(capsys, site, "import", str(file), "--json")).splitlines()[-1])
        assert (again["devices"], again["added"]) == (450, 0)
        for name, text in (("devices.txt", "x"), ("bad.csv", "x\ny\n"), ("missing.csv", None)):
            if text is not None:
                (tmp_path / name).write_text(text)
            with pytest.raises(QedgeError):
                await told(capsys, site, "import", str(tmp_path / name))
