"""`qedge top`: nodes, jobs, links, devices and incidents, live in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.cli.asking import print_json
from qedge.cli.terminal import Terminal, terminal_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qedge.cli.top.look import Look
    from qedge.cli.top.view import Screen
    from qedge.client.node import NodeClient
    from qedge.wire.incidents import IncidentView

NAME: Final = "top"
SUMMARY: Final = "Watch nodes, jobs, links, devices and incidents in the terminal."
_JOBS: Final = 200
_INCIDENTS: Final = 50
_GONE: Final = frozenset({"client.no_daemon", "client.timeout", "internal.stopping", "http.busy"})
_SMALL_SECOND: Final = 0.2

# DEC private modes: alternate screen, cursor, and synchronized output, which terminals that lack it ignore
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_BEGIN: Final = "\x1b[?2026h\x1b[H"
_END: Final = "\x1b[J\x1b[?2026l"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--interval", type=float, default=1.0, metavar="S", help="seconds between looks (default: 1)")
    parser.add_argument("--once", action="store_true", help="print one look and end")
    parser.add_argument("--json", action="store_true", help="print one JSON object a look")


def run(args: argparse.Namespace) -> int:
    """Look until told to stop; exit code 1 with --once where the node is not ready."""
    from qedge.client.node import NodeClient

    if not 0.1 <= args.interval <= 3600:
        raise QedgeError("client.usage", "--interval is 0.1 to 3600.", fix="Correct it.")

    async def watch() -> int:
        async with NodeClient(args.socket, timeout_s=max(5.0, args.interval)) as node:
            if args.once:
                # two looks, because rates need a time between them
                first = await look_at(node, None)
                if first.devices is not None:
                    await asyncio.sleep(_SMALL_SECOND)
                    first = await look_at(node, first)
                _print(first, as_json=args.json)
                return 0 if first.ready else 1
            if args.json or not (sys.stdout.isatty() and sys.stdin.isatty()):
                await _stream(node, args)
            else:
                await _live(node, args.interval)
            return 0

    return asyncio.run(watch())


async def look_at(node: NodeClient, before: Look | None) -> Look:
    """Ask the node for everything at once."""
    from qedge.cli.keys.watch import series_of
    from qedge.cli.top.look import look_of

    status, peers, jobs = await asyncio.gather(node.status(), node.peers(), node.jobs(_JOBS))
    stored: dict[str, float] = {}
    if any(link.state for link in status.links):
        stored = series_of(await node.metrics()).get("key_bits", {})
    incidents: tuple[IncidentView, ...] = ()
    if status.gateway is not None:
        with contextlib.suppress(QedgeError):  # nobody may watch there
            incidents = (await node.security.incidents(_INCIDENTS)).incidents
    return look_of(status, peers, jobs, stored_bits=stored, incidents=incidents, before=before)


def _print(look: Look, *, as_json: bool) -> None:
    if as_json:
        print_json(look)
        return
    from qedge.cli.top.view import plain_lines

    print("\n".join(plain_lines(look, terminal_of())), flush=True)


async def _stream(node: NodeClient, args: argparse.Namespace) -> None:
    """Print look after look; where the daemon is away say so once, and go on when it is back."""
    look: Look | None = None
    away = False
    while True:
        try:
            look = await look_at(node, look)
        except QedgeError as error:
            if error.code not in _GONE:
                raise
            if not away:
                print(f"qedge: {error.message} Asking again …", file=sys.stderr, flush=True)
            away = True
        else:
            away = False
            _print(look, as_json=args.json)
            if not args.json:
                print(flush=True)
        await asyncio.sleep(args.interval)


async def _live(node: NodeClient, interval_s: float) -> None:
    from qedge.cli.top.view import Screen

    screen, redraw = Screen(), asyncio.Event()
    board = _Board(screen)
    with _taken_over(screen, redraw) as ended:
        looking = asyncio.create_task(_keep_looking(node, board, interval_s, redraw))
        try:
            while not ended.is_set() and not looking.done():
                board.draw()
                redraw.clear()
                await redraw.wait()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
    if looking.done() and not looking.cancelled():
        looking.result()


class _Board:
    """The newest look and what is wrong, drawn as one write."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.look: Look | None = None
        self.lost_s = 0.0

    def draw(self) -> None:
        """Draw everything anew; the terminal shows it at once or not at all."""
        from qedge.cli.top.view import screen_lines

        columns, rows = shutil.get_terminal_size()
        told = terminal_of()
        terminal = Terminal(color=told.color, unicode=told.unicode, width=max(20, columns))
        trouble = ""
        if self.lost_s:
            trouble = f"the daemon has not answered for {time.monotonic() - self.lost_s:.0f} s, asking again"
        lines = screen_lines(self.look, self._screen, terminal, max(4, rows), trouble)
        sys.stdout.write(_BEGIN + "\r\n".join(f"{line}\x1b[K" for line in lines) + _END)
        sys.stdout.flush()


async def _keep_looking(node: NodeClient, board: _Board, interval_s: float, redraw: asyncio.Event) -> None:
    try:
        while True:
            try:
                board.look, board.lost_s = await look_at(node, board.look), 0.0
            except QedgeError as error:
                if error.code not in _GONE:
                    raise
                board.lost_s = board.lost_s or time.monotonic()
            redraw.set()
            await asyncio.sleep(interval_s)
    finally:
        redraw.set()


@contextlib.contextmanager
def _taken_over(screen: Screen, redraw: asyncio.Event) -> Iterator[asyncio.Event]:
    """Take the terminal: keys one by one, the other screen, no cursor; give it back whatever happens."""
    import termios
    import tty

    loop, keyboard, ended = asyncio.get_running_loop(), sys.stdin.fileno(), asyncio.Event()
    before = termios.tcgetattr(keyboard)

    def pressed() -> None:
        typed = os.read(keyboard, 64).decode("utf-8", "replace")
        if not typed or not all(screen.press(key) for key in keys_in(typed)):
            ended.set()
        redraw.set()

    def stop() -> None:
        ended.set()
        redraw.set()

    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, pressed)
    loop.add_signal_handler(signal.SIGWINCH, redraw.set)
    loop.add_signal_handler(signal.SIGTERM, stop)
    sys.stdout.write(_ENTER)
    try:
        yield ended
    finally:
        loop.remove_reader(keyboard)
        loop.remove_signal_handler(signal.SIGWINCH)
        loop.remove_signal_handler(signal.SIGTERM)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def keys_in(typed: str) -> list[str]:
    """Cut what a terminal sent into keys: single characters, and sequences of arrows (`ESC [ A`)."""
    keys: list[str] = []
    while typed:
        size = 3 if typed.startswith(("\x1b[", "\x1bO")) and len(typed) >= 3 else 1
        keys.append(typed[:size].replace("\x1bO", "\x1b["))
        typed = typed[size:]
    return keys
