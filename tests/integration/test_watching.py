"""The commands that watch a node, against a real server that comes and goes."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from contextlib import aclosing
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.cli.jobs import jobs
from qedge.cli.node import events
from qedge.cli.top import top
from qedge.client.news import FROM_START, Away, follow
from qedge.web.peers.fake import fake_peers
from qedge.wire.events import EventGap, NodeEvent
from qedge.wire.jobs import JobSubmission
from qedge.wire.node import GatewayView, NodeStatus
from tests.integration.test_commands import invoke
from tests.integration.web_site import serving

pytestmark = pytest.mark.integration


async def test_top_prints_one_look_as_text_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path, instant=False) as site:
        path = tmp_path / "qedge.sock"
        site.node.others = fake_peers(2, 0)
        site.node.gateway = GatewayView(states={"enrolled": 3}, sessions=3)
        job = await site.node.submit(JobSubmission(program="x"), client="test")
        assert await invoke(path, top, "--once") == 0
        shown = capsys.readouterr().out
        for words in ("box-3", job.id[-12:], "lab", "3 enrolled", "pump-7"):
            assert words in shown
        site.node.missing = ("bus",)
        assert await invoke(path, top, "--once", "--json") == 1
        look = json.loads(capsys.readouterr().out)
        assert [row["node"] for row in look["nodes"]] == ["box-1", "box-2", "box-3"]
        assert look["taken_per_s"] == 0
    with pytest.raises(QedgeError) as gone:
        await invoke(path, top, "--once")
    assert gone.value.code == "client.no_daemon"
    with pytest.raises(QedgeError):
        await invoke(path, top, "--interval", "0")


async def test_jobs_are_listed_by_what_they_are_and_found_by_the_end_of_their_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path, instant=False) as site:
        path = tmp_path / "qedge.sock"
        blue = await site.node.submit(JobSubmission(program="x", tags=("blue",)), client="uid:7")
        away = await site.node.submit(JobSubmission(program="x"), client="page")
        site.node.start(away.id, "box-2")
        for options, found in (
            (("--tag", "blue"), [blue.id]),
            (("--client", "page"), [away.id]),
            (("--node", "box-2"), [away.id]),
            (("--node", "box-1"), [blue.id]),
            (("--state", "running", "--state", "queued", "--since", "1h"), [away.id, blue.id]),
            (("--state", "done"), []),
        ):
            await invoke(path, jobs, "list", "--json", *options)
            assert [job["id"] for job in json.loads(capsys.readouterr().out.splitlines()[-1])["jobs"]] == found
        assert await invoke(path, jobs, "show", away.id[-12:]) == 0
        assert "started: node box-2, QPU qpu" in capsys.readouterr().out
        for wrong in ("ffffffffffff", "xyz"):
            with pytest.raises(QedgeError) as missing:
                await invoke(path, jobs, "show", wrong)
            assert missing.value.code == "job.not_found"


async def test_events_are_printed_and_gone_on_from_where_one_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as site:
        path = tmp_path / "qedge.sock"
        for number in range(3):
            site.service.hub.tell(NodeEvent("peer.up", number, fields={"peer": f"box-{number}"}))
        site.service.hub.tell(NodeEvent("qkd.block", 9, fields={"link": "lab"}))
        await invoke(path, events, "--kind", "peer", "--json")
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[0] == "{"]
        assert [line["fields"]["peer"] for line in lines] == ["box-0", "box-1", "box-2"]
        await invoke(path, events, "--after", lines[1]["event_id"])
        shown = capsys.readouterr().out
        assert "peer=box-2" in shown
        assert "link=lab" in shown
        assert "box-1" not in shown


async def test_a_follower_goes_on_over_a_restart_and_hears_what_it_missed(tmp_path: Path) -> None:
    heard: list[object] = []
    async with asyncio.timeout(90):
        async with serving(tmp_path) as site, site.client() as node, aclosing(follow(node, FROM_START)) as stream:
            site.service.hub.tell(NodeEvent("peer.up", 1))
            heard.append(await anext(stream))
            heard.append(await anext(stream))
        async with site.client() as node, aclosing(follow(node, "deadbeef-7")) as stream:
            assert isinstance(await anext(stream), Away)
            async with serving(tmp_path) as again:
                again.service.hub.tell(NodeEvent("peer.dead", 2))
                told = [await anext(stream) for _ in range(3)]
    whats = [each.what for each in told if not isinstance(each, Away)]
    assert [type(what) for what in whats] == [EventGap, NodeEvent, NodeStatus]
    assert [type(each.what) for each in heard] == [NodeEvent, NodeStatus]  # type: ignore[attr-defined]  # News


async def test_top_lives_in_a_terminal_follows_its_size_and_leaves_it_as_it_was(tmp_path: Path) -> None:
    async with serving(tmp_path):
        keyboard, screen = pty.openpty()
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        before = termios.tcgetattr(screen)
        terminal = _Screen(keyboard)
        command = [sys.executable, "-m", "qedge", "--socket", str(tmp_path / "qedge.sock"), "top", "--interval", "0.1"]
        # these would go before the size of the terminal, and some that run tests set them
        rest = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        environ = {**rest, "TERM": "xterm", "LANG": "C.UTF-8", "PYTHONUTF8": "1"}
        program = subprocess.Popen(
            command, stdin=screen, stdout=screen, stderr=subprocess.DEVNULL, env=environ, start_new_session=True
        )
        try:
            async with asyncio.timeout(90):
                seen = await terminal.until("1-5 panel")
                assert "\x1b[?1049h" in seen
                await terminal.until("▸ Nodes")
                os.write(keyboard, b"\t")
                await terminal.until("▸ Jobs")
                fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
                program.send_signal(signal.SIGWINCH)
                await terminal.until("│   QKD links")
                os.write(keyboard, b"q")
                assert "\x1b[?25h" in await terminal.until("\x1b[?1049l")
                assert await asyncio.to_thread(program.wait) == 0
        finally:
            terminal.close()
            program.kill()
            program.wait()
        assert termios.tcgetattr(screen) == before
        os.close(keyboard)
        os.close(screen)


class _Screen:
    """What a program wrote to a terminal; `until` waits for words, and never beyond the patience of who waits."""

    def __init__(self, keyboard: int) -> None:
        self._keyboard = keyboard
        self._arrived = asyncio.Event()
        self.text = ""
        os.set_blocking(keyboard, False)
        asyncio.get_running_loop().add_reader(keyboard, self._read)

    def _read(self) -> None:
        self.text += os.read(self._keyboard, 65_536).decode("utf-8", "replace")
        self._arrived.set()

    async def until(self, words: str) -> str:
        """Return all that was written up to now, once `words` are in it."""
        while words not in _bare(self.text):
            self._arrived.clear()
            await self._arrived.wait()
        return self.text

    def close(self) -> None:
        """Listen no more."""
        asyncio.get_running_loop().remove_reader(self._keyboard)


def _bare(text: str) -> str:
    for code in ("0", "1", "2", "31", "32", "33", "36"):
        text = text.replace(f"\x1b[{code}m", "")
    return text
