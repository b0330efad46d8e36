"""`qedge demo`: a real daemon on this box, shown at work and under faults."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from qedge import __version__
from qedge.base.errors import QedgeError
from qedge.cli.demo_scenes import SCENES, SceneReceipt, play

if TYPE_CHECKING:
    from qedge.client.node import NodeClient
    from qedge.wire.node import NodeStatus

NAME: Final = "demo"
SUMMARY: Final = "Show a node at work: circuits, random numbers, a QKD link, faults and recovery."
START_LIMIT_S: Final = 20.0
WARM_LIMIT_S: Final = 30.0
SCENE_LIMIT_S: Final = 45.0
STOP_LIMIT_S: Final = 8.0


class Receipt(msgspec.Struct, frozen=True, tag_field="type", tag="demo-receipt/1"):
    """The outcome of a demo: `ok` only where every scene kept its promise; `seconds` from the first process on."""

    ok: bool
    version: str
    seconds: float
    ready_s: float
    scenes: tuple[SceneReceipt, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--keep", action="store_true", help="leave the node running and print commands to try")
    parser.add_argument("--headless", action="store_true", help="do not open the page in a browser")
    parser.add_argument("--json", action="store_true", help="print only the receipt, as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Play all scenes; exit code 1 where one failed."""
    show = _Show(quiet=args.json)
    home = Path(tempfile.mkdtemp(prefix="qedge-demo-"))
    daemon = _start_daemon(home)
    kept = False
    try:
        receipt = asyncio.run(_perform(home, show, daemon, open_page=not (args.headless or args.json)))
        kept = args.keep and daemon.poll() is None
    finally:
        if not kept:
            _stop_daemon(daemon)
            shutil.rmtree(home, ignore_errors=True)
    if args.json:
        print(msgspec.json.encode(receipt).decode())
    elif receipt.ok:
        show.say(f"All {len(receipt.scenes)} scenes kept their promise in {receipt.seconds:.1f} s.")
    if kept:
        _print_commands(home, daemon.pid)
    return 0 if receipt.ok else 1


def _start_daemon(home: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "qedge", "run", "--state-dir", str(home), "--quiet"]
    environ = {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
    with (home / "daemon.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, start_new_session=True
        )


def _stop_daemon(daemon: subprocess.Popen[bytes]) -> None:
    if daemon.poll() is None:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


async def _perform(home: Path, show: _Show, daemon: subprocess.Popen[bytes], *, open_page: bool) -> Receipt:
    from qedge.client.node import NodeClient

    started = time.monotonic()
    show.title("Starting a node")
    async with NodeClient(home / "run" / "qedge.sock") as client:
        await _wait_for_daemon(client, home, daemon)
        ready_s = time.monotonic() - started
        status = await _wait_for_drivers(client, show)
        show.say(f"node {status.node} of fleet {status.fleet}, broker {status.bus.kind}, ready in {ready_s:.2f} s")
        link = await client.page_link()
        show.say(f"watch it live: {link.url}")
        if open_page and sys.stdout.isatty():
            from qedge.cli.open_page import open_in_browser

            await asyncio.to_thread(open_in_browser, link.url)
        receipts: list[SceneReceipt] = []
        for name, title, scene in SCENES:
            show.title(title)
            receipts.append(await play(name, scene, client, show, SCENE_LIMIT_S))
    return Receipt(
        ok=all(receipt.ok for receipt in receipts),
        version=__version__,
        seconds=round(time.monotonic() - started, 3),
        ready_s=round(ready_s, 3),
        scenes=tuple(receipts),
    )


async def _wait_for_daemon(client: NodeClient, home: Path, daemon: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            if (await client.status()).ready:
                return
        except QedgeError as error:
            if error.code not in ("client.no_daemon", "client.timeout"):
                raise
        if daemon.poll() is not None or time.monotonic() > deadline:
            log = (home / "daemon.log").read_text("utf-8", "replace").strip().splitlines()
            raise QedgeError(
                "client.no_daemon",
                "The daemon of the demo did not start: " + " | ".join(log[-3:]),
                fix="Run `qedge run` to see its messages.",
            )
        await asyncio.sleep(0.05)


async def _wait_for_drivers(client: NodeClient, show: _Show) -> NodeStatus:
    """Show how the workers warm up; go on when all are up or time is over: a scene then says what is missing."""
    deadline = time.monotonic() + WARM_LIMIT_S
    told: set[str] = set()
    while True:
        status = await client.status()
        for driver in status.drivers:
            if driver.operating_state != "down" and driver.name not in told:
                told.add(driver.name)
                label = "simulated" if driver.simulated else "hardware"
                show.say(f"[{len(told)}/{len(status.drivers)}] {driver.name}: {driver.kind} up, {label}")
        if len(told) == len(status.drivers) or time.monotonic() > deadline:
            return status
        await asyncio.sleep(0.05)


def _print_commands(home: Path, pid: int) -> None:
    program = "qedge" if shutil.which("qedge") else f"{sys.executable} -m qedge"
    socket = home / "run" / "qedge.sock"
    circuits = Path(__file__).parent / "circuits"
    print(f"\nThe node goes on (process {pid}, state in {home}). Try:\n")
    for command in ("status", f"submit {circuits / 'ghz.qasm'} --shots 1000", "random 32 --hex", "open"):
        print(f"  {program} --socket {socket} {command}")
    print(f"\nStop it with:  kill {pid}")


class _Show:
    """Tells the scenes to a person at a terminal, or to nobody."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._scene = 0

    def title(self, text: str) -> None:
        """Begin a scene."""
        self._scene += 1
        if not self._quiet:
            print(f"\n[{self._scene}/{len(SCENES) + 1}] {text}", flush=True)

    def say(self, line: str) -> None:
        """Print one line of the scene."""
        if not self._quiet:
            print(f"    {line}", flush=True)

    def histogram(self, counts: dict[str, int]) -> None:
        """Draw the most frequent outcomes."""
        from qedge.cli.terminal import histogram_lines

        for line in histogram_lines(counts):
            self.say(line)
