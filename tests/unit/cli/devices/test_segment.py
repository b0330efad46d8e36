"""`qedge segment` as a person uses it, over HTTP to a fake node."""

from __future__ import annotations

import argparse
import asyncio
import json
import stat
from pathlib import Path

import pytest

from qedge.base.errors import Exit, QedgeError
from qedge.cli.devices import segment
from qedge.devices.onward.sealing import OnwardOpener, read_recipient
from tests.integration.web_site import serving


def parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", default="")
    segment.add_arguments(parser)
    return parser.parse_args(argv)


async def told(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    """Run the command in a thread; returns what it printed."""
    capsys.readouterr()
    assert await asyncio.to_thread(segment.run, parse(*argv)) == code
    return capsys.readouterr().out


async def test_segments_are_listed_shown_and_rekeyed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path, enabled=False) as site:
        socket = ("--socket", site.service.socket)
        listed = await told(capsys, *socket, "list")
        assert "plant" in listed
        assert "none" in next(line for line in listed.splitlines() if "office" in line)
        assert "upstream: down, 900 sent, 12 waiting" in listed
        assert "4 bulk.space" in listed
        shown = await told(capsys, *socket, "show", "plant")
        assert "pump-1" in shown
        assert "2 left" in shown
        assert "epoch 8" in await told(capsys, *socket, "rekey", "plant")
        assert json.loads(await told(capsys, *socket, "show", "plant", "--json"))["segment"]["epoch"] == 8
        for action in ("show", "rekey"):
            with pytest.raises(QedgeError) as unknown:
                await told(capsys, *socket, action, "nowhere")
            assert unknown.value.code == "segment.not_found"


async def test_a_device_is_commanded_and_the_exit_code_tells_how_it_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path, enabled=False) as site:
        command = ("--socket", site.service.socket, "command", "valve-1")
        assert "valve-1 open: done: 90 %" in await told(capsys, *command, "open", "90", "--key", "shift-7")
        await told(capsys, *command, "melt", code=Exit.FAILED)
        await told(capsys, *command, "sleep", "--json", code=Exit.TEMPORARY)
        await told(capsys, *command, "open", "00ff", "--hex")
        orders = [order for _, _, order in site.node.segments.commands]
        assert (orders[0].argument, orders[0].key) == (b"90", "shift-7")
        assert orders[-1].argument == b"\x00\xff"
        assert site.node.segments.commands[0][0].startswith("uid:")
        for wrong in (("open", "xyz", "--hex"), ("open", "--timeout", "0"), ("open", "--timeout", "31")):
            with pytest.raises(QedgeError) as usage:
                await told(capsys, *command, *wrong)
            assert usage.value.code == "client.usage"
        with pytest.raises(QedgeError) as unknown:
            await told(capsys, "--socket", site.service.socket, "command", "valve-2", "open")
        assert unknown.value.code == "command.no_device"


async def test_the_keys_of_the_upstream_are_made_once_and_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "keys"
    await told(capsys, "upstream-key", "--out", str(out))
    assert stat.S_IMODE((out / "upstream.key").stat().st_mode) == 0o600
    assert OnwardOpener((out / "upstream.key").read_text()).id == read_recipient((out / "upstream.pub").read_text()).id
    with pytest.raises(QedgeError, match="already"):
        await told(capsys, "upstream-key", "--out", str(out))


async def test_a_segment_is_watched_as_lines_or_as_json_until_policy_ends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path, enabled=False) as site:
        watch = ("--socket", site.service.socket, "watch", "plant")
        line = await told(capsys, *watch, "--count", "1", "--app", "dashboard", "--channel", "level", "--node", "box-2")
        assert line.endswith("  pump-1  level  3.25\n")
        assert site.node.segments.followed == [("dashboard", "plant", ("level",), "box-2")]
        with pytest.raises(QedgeError) as ended:
            await told(capsys, *watch)
        out, err = capsys.readouterr()
        assert out.splitlines()[-1].endswith("  pump-1  level  0xff00")
        assert "7 readings were lost" in err
        assert (ended.value.code, ended.value.details["reason"]) == ("segment.refused", "no_rule")
        [first] = (await told(capsys, *watch, "--json", "--count", "1")).splitlines()
        assert json.loads(first)["type"] == "app-reading/1"
        for words, code in ((("--app", "stranger"), "segment.refused"), (("--channel", "a b"), "http.bad_request")):
            with pytest.raises(QedgeError) as refused:
                await told(capsys, *watch, *words)
            assert refused.value.code == code
