"""`qedge keys watch`: secret key rate, error rate and stored keys of every link, drawn as they change."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.cli.asking import print_json
from qedge.cli.terminal import Terminal, clean, terminal_of
from qedge.wire.delivery import KeyOverview

if TYPE_CHECKING:
    from qedge.client.node import NodeClient

_LEVELS: Final = " ▁▂▃▄▅▆▇█"
_PLAIN: Final = " .:-=+*#%"
_SERIES: Final = re.compile(
    r'^qedge_qkd_([a-z_]+)\{[^}]*link="([^"]*)"(?:,place="([^"]*)")?[^}]*\} (\S+)$', re.MULTILINE
)
_DISTILLED: Final = "key_bits_total"
_QBER: Final = "qber_ratio"
_STORED: Final = "key_bits"
_KEPT: Final = frozenset({"waiting", "own", "theirs"})
"""Where key is that nobody had yet."""
_UNITS: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass
class History:
    """The last values of one link: secret bits a second, error rate, stored bits; None where nothing is known."""

    rate: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    qber: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    stored: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    last_secret: float = -1.0
    last_s: float = 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--interval", type=float, default=1.0, metavar="S", help="seconds between looks (default: 1)")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="end after N looks (default: until Ctrl-C)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a look")


def run(args: argparse.Namespace) -> int:
    """Draw until told to stop."""
    from qedge.client.node import NodeClient

    if not 0.1 <= args.interval <= 3600 or args.count < 0:
        raise QedgeError("client.usage", "--interval is 0.1 to 3600, --count at least 0.", fix="Correct it.")

    async def follow() -> None:
        async with NodeClient(args.socket) as node:
            await _follow(node, args)

    asyncio.run(follow())
    return 0


async def _follow(node: NodeClient, args: argparse.Namespace) -> None:
    histories: dict[str, History] = {}
    terminal, drawn, looks = terminal_of(), 0, 0
    while True:
        series, overview = series_of(await node.metrics()), await _overview(node)
        for link in await node.links():
            note(histories.setdefault(link.name, History()), series, link.name, link.qber, time.monotonic())
        if args.json:
            print_json({name: latest(history) for name, history in histories.items()})
        else:
            lines = draw(histories, overview, terminal)
            if drawn and sys.stdout.isatty():
                print(f"\x1b[{drawn}A\x1b[J", end="")
            print("\n".join(lines), flush=True)
            drawn = len(lines)
        looks += 1
        if args.count and looks >= args.count:
            return
        await asyncio.sleep(args.interval)


async def _overview(node: NodeClient) -> KeyOverview | None:
    try:
        return await node.keys.overview()
    except QedgeError:
        return None  # without a key store links can be watched all the same


def series_of(text: str) -> dict[str, dict[str, float]]:
    """Return metrics of links from Prometheus text: name without `qedge_qkd_` → link → value.

    Of the places where a link's key is, those count where it is still kept, together.
    """
    found: dict[str, dict[str, float]] = {}
    for name, link, place, value in _SERIES.findall(text):
        if not place or place in _KEPT:
            of_links = found.setdefault(name, {})
            of_links[link] = of_links.get(link, 0.0) + float(value) if place else float(value)
    return found


def note(history: History, series: Mapping[str, Mapping[str, float]], link: str, qber: float, now_s: float) -> None:
    """Add one look to a link's history; what the node does not tell is left out, `qber` stands in for a metric."""
    secret = series.get(_DISTILLED, {}).get(link, -1.0)
    if secret >= 0:
        if 0 <= history.last_secret <= secret and now_s > history.last_s:
            history.rate.append((secret - history.last_secret) / (now_s - history.last_s))
        history.last_secret, history.last_s = secret, now_s
    qber = series.get(_QBER, {}).get(link, qber)
    if qber >= 0:
        history.qber.append(qber)
    stored = series.get(_STORED, {}).get(link, -1.0)
    if stored >= 0:
        history.stored.append(stored)


def latest(history: History) -> dict[str, float]:
    """Return the newest values that are known."""
    values = {"secret_bit_s": history.rate, "qber": history.qber, "stored_bits": history.stored}
    return {name: kept[-1] for name, kept in values.items() if kept}


def draw(histories: Mapping[str, History], overview: KeyOverview | None, terminal: Terminal) -> list[str]:
    """Draw all links and pairs."""
    lines: list[str] = []
    room = max(10, terminal.width - 30)
    for name, history in histories.items():
        lines.append(terminal.bold(clean(name)))
        for title, values, unit in (
            ("secret key", history.rate, "bit/s"),
            ("error rate", history.qber, "%"),
            ("stored", history.stored, "bit"),
        ):
            shown = "-" if not values else f"{values[-1]:.2%}" if unit == "%" else _amount(values[-1], unit)
            lines.append(f"  {title:<11}{shown:>13}  {terminal.accent(spark(list(values)[-room:], terminal))}".rstrip())
    if not histories:
        lines.append("no links are configured")
    for pair in overview.pairs[:8] if overview is not None else ():
        told = pair.error or f"{pair.stored_keys} keys"
        lines.append(clean(f"{pair.master} → {pair.slave}: {told}"))
    return lines


def spark(values: Sequence[float], terminal: Terminal) -> str:
    """Draw values as one line of blocks from 0 to the largest."""
    top, levels = max(values, default=0.0), _LEVELS if terminal.unicode else _PLAIN
    if top <= 0:
        return levels[1] * len(values) if terminal.unicode else "." * len(values)
    return "".join(levels[max(1, round(value / top * 8)) if value > 0 else 0] for value in values)


def _amount(value: float, unit: str) -> str:
    scale, prefix = next(((scale, prefix) for scale, prefix in _UNITS if value >= scale), (1.0, ""))
    return f"{value / scale:.3g} {prefix}{unit}"
