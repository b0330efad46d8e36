"""`qedge demo`: three real daemons on this box become a fleet, and are shown at work and under faults."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from qedge import __version__
from qedge.cli.demo import device_scene, fleet_scenes, key_scene, scenes
from qedge.cli.demo.scenes import Facts, Narrator, SceneReceipt, play

if TYPE_CHECKING:
    from qedge.cli.demo.stage import DemoNode, Stage

NAME: Final = "demo"
SUMMARY: Final = "Show three nodes at work: a fleet, circuits, a QKD link, attached devices, attacks and recovery."
WARM_LIMIT_S: Final = 45.0
SCENE_LIMIT_S: Final = 240.0

Scene = Callable[["Stage", Narrator], Awaitable[Facts]]

SCENES: Final[tuple[tuple[str, str, Scene], ...]] = (
    ("fleet", "Three boxes become a fleet", fleet_scenes.joining),
    ("everywhere", "A GHZ state on twelve qubits, on each of them", fleet_scenes.everywhere),
    ("ghz", "The same, looked at closely", lambda stage, show: scenes.ghz(stage.first.client, show)),
    ("circuits", "Four textbook programs", lambda stage, show: scenes.real_circuits(stage.first.client, show)),
    (
        "random",
        "Quantum random numbers, and a source that sticks",
        lambda stage, show: scenes.random_numbers(stage.first.client, show),
    ),
    (
        "devices",
        "A thousand devices, and one that turns hostile",
        device_scene.contained,
    ),
    (
        "recovery",
        "A worker is killed under a running job",
        lambda stage, show: scenes.worker_killed(stage.first.client, show),
    ),
    ("rejoin", "A node is killed while it holds a job", fleet_scenes.node_killed),
    ("link", "Quantum key between two of them, and an eavesdropper", key_scene.eavesdropper),
)
"""Name in the receipt, title, and the scene."""


class Receipt(msgspec.Struct, frozen=True, tag_field="type", tag="demo-receipt/1"):
    """The outcome of a demo: `ok` only where every scene kept its promise; `seconds` from the first process on."""

    ok: bool
    version: str
    seconds: float
    ready_s: float
    scenes: tuple[SceneReceipt, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--keep", action="store_true", help="leave the nodes running and print commands to try")
    parser.add_argument("--headless", action="store_true", help="do not open the page in a browser")
    parser.add_argument("--json", action="store_true", help="print only the receipt, as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Play all scenes; exit code 1 where one failed."""
    from qedge.cli.demo.folder import DemoFolder
    from qedge.cli.demo.stage import Stage

    show = _Show(quiet=args.json)
    home = DemoFolder(stays=args.keep)
    stage = Stage(home.path, stays=args.keep)
    kept = False
    try:
        stage.start()
        receipt = asyncio.run(_perform(stage, show, open_page=not (args.headless or args.json)))
        kept = args.keep and all(node.is_alive for node in stage.nodes)
    finally:
        if not kept:
            stage.stop()
            home.remove()
    if args.json:
        print(msgspec.json.encode(receipt).decode())
    elif receipt.ok:
        show.say(f"All {len(receipt.scenes)} scenes kept their promise in {receipt.seconds:.1f} s.")
    if kept:
        _print_commands(stage)
    return 0 if receipt.ok else 1


async def _perform(stage: Stage, show: _Show, *, open_page: bool) -> Receipt:
    started = time.monotonic()
    show.title("Starting three nodes")
    async with stage:
        await asyncio.gather(*(node.wait_ready() for node in stage.nodes))
        ready_s = time.monotonic() - started
        status = await stage.first.client.status()
        show.say(f"{', '.join(node.name for node in stage.nodes)}: ready in {ready_s:.2f} s, broker {status.bus.kind}")
        receipts: list[SceneReceipt] = []
        for name, title, scene in SCENES:
            show.title(title)
            if name == "everywhere":
                await _wait_for_drivers(stage.nodes, show)
                await _show_page(stage, show, open_page=open_page)
            receipts.append(await play(name, scene(stage, show), show, SCENE_LIMIT_S))
            if name == "fleet" and not receipts[-1].ok:
                break  # nothing that follows could show what it is for
    return Receipt(
        ok=all(receipt.ok for receipt in receipts) and len(receipts) == len(SCENES),
        version=__version__,
        seconds=round(time.monotonic() - started, 3),
        ready_s=round(ready_s, 3),
        scenes=tuple(receipts),
    )


async def _show_page(stage: Stage, show: _Show, *, open_page: bool) -> None:
    link = await stage.first.client.page_link()
    show.say(f"watch it live: {link.url}")
    if open_page and sys.stdout.isatty():
        from qedge.cli.node.open_page import open_in_browser

        await asyncio.to_thread(open_in_browser, link.url)


async def _wait_for_drivers(nodes: list[DemoNode], show: _Show) -> None:
    """Show how the workers warm up; go on when all are up or time is over: a scene then says what is missing."""
    deadline = time.monotonic() + WARM_LIMIT_S
    told: set[tuple[str, str]] = set()
    total = -1
    while len(told) != total and time.monotonic() < deadline:
        views = [(node.name, driver) for node in nodes for driver in (await node.client.status()).drivers]
        total = len(views)
        for name, driver in views:
            if driver.operating_state != "down" and (name, driver.name) not in told:
                told.add((name, driver.name))
                label = "simulated" if driver.simulated else "hardware"
                show.say(f"[{len(told)}/{total}] {name}/{driver.name}: {driver.kind} up, {label}")
        await asyncio.sleep(0.1)


def _print_commands(stage: Stage) -> None:
    program = "qedge" if shutil.which("qedge") else f"{sys.executable} -m qedge"
    circuits = Path(__file__).parent / "circuits"
    pids = " ".join(str(node.pid) for node in reversed(stage.nodes))
    print(f"\nThe nodes go on (state in {stage.home}). Try:\n")
    for command in (
        "peers --watch",
        f"submit {circuits / 'ghz.qasm'} --shots 1000 --node gamma",
        "ping beta",
        "status",
        "random 32 --hex",
        "incident list",
        "open",
    ):
        print(f"  {program} --socket {stage.first.socket} {command}")
    print(f"\nStop them with:  kill {pids}")


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
