"""`qedge status`: the node on one screen."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from qedge.cli.asking import ask, print_json
from qedge.cli.terminal import Terminal, clean, paint_state, table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.client.node import NodeClient
    from qedge.wire.configuration import ConfigurationView
    from qedge.wire.node import GatewayView, NodeStatus, SparkplugView

NAME: Final = "status"
SUMMARY: Final = "Show how the node is: services, drivers, broker, entropy, host, links, jobs and devices."

_CLEAR: Final = "\x1b[H\x1b[2J"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON (with --watch one object a line)")
    parser.add_argument("--watch", action="store_true", help="go on showing changes until Ctrl-C")


def run(args: argparse.Namespace) -> int:
    """Show the node; exit code 1 while it is not ready."""
    if args.watch:
        ask(args, lambda node: _watch(node, as_json=args.json))
        return 0
    status = ask(args, lambda node: node.status())
    if args.json:
        print_json(status)
    else:
        print("\n".join(status_lines(status, terminal_of())))
    return 0 if status.ready else 1


async def _watch(node: NodeClient, *, as_json: bool) -> None:
    from qedge.wire.node import NodeStatus

    terminal = terminal_of()
    async for event in node.events():
        if not isinstance(event, NodeStatus):
            continue
        if as_json:
            print_json(event)
        else:
            text = "\n".join(status_lines(event, terminal))
            print(f"{_CLEAR}{text}" if terminal.color else f"{text}\n", flush=True)


def status_lines(status: NodeStatus, terminal: Terminal) -> list[str]:
    """Draw the status."""
    lines = list(_head(status, terminal))
    services = [(view.name, view.state, str(view.restarts), view.error) for view in status.services]
    lines += ["", *table_lines(("SERVICE", "STATE", "RESTARTS", "ERROR"), services, terminal=terminal)]
    drivers = [
        (
            view.name,
            view.driver + (" (simulated)" if view.simulated else ""),
            view.admin_state if view.admin_state == "locked" else view.operating_state,
            f"{sum(worker.state in ('ready', 'busy') for worker in view.workers)}/{len(view.workers)}",
            view.reason,
        )
        for view in status.drivers
    ]
    if drivers:
        header = ("DRIVER", "KIND OF DRIVER", "STATE", "WORKERS", "REASON")
        lines += ["", *table_lines(header, drivers, terminal=terminal)]
    return lines


def _head(status: NodeStatus, terminal: Terminal) -> Iterator[str]:
    from qedge.base.units import format_bytes, format_duration

    state = terminal.good("ready") if status.ready else terminal.bad("not ready")
    alone = " (standalone)" if status.standalone else ""
    yield f"{terminal.bold(clean(status.node))} of fleet {clean(status.fleet)}{alone}: {state}"
    yield f"  qedge {clean(status.version)}, up {format_duration(status.uptime_s)}"
    for reason in status.not_ready:
        yield "  " + terminal.bad(f"waiting for {clean(reason)}")
    bus = "connected" if status.bus.connected else terminal.bad("not connected")
    why = f": {clean(status.bus.error)}" if status.bus.error and not status.bus.connected else ""
    yield f"broker   {bus}, {clean(status.bus.kind)} at {clean(status.bus.broker)}{why}"
    entropy = status.entropy
    health = paint_state("healthy" if entropy.healthy else "failed", terminal)
    label = f"{clean(entropy.source)} {health}{' (simulated)' if entropy.simulated else ''}"
    reason = f": {clean(entropy.reason)}" if entropy.reason else ""
    yield f"entropy  {label if entropy.source else 'operating system only'}{reason}"
    host = status.host
    memory = f"{format_bytes(host.memory_available_bytes)} of {format_bytes(host.memory_total_bytes)} free"
    yield (
        f"host     {clean(host.verdict)}: cpu {host.cpu_ratio:.0%}, memory {memory}, "
        f"disk {format_bytes(host.disk_free_bytes)} free"
        + (f", {host.temperature_celsius:.0f} °C" if host.temperature_celsius else "")
    )
    for link in status.links:
        rate = "not measured" if link.qber < 0 else f"{link.qber:.2%} errors in {link.sifted} bits"
        yield f"link     {clean(link.name)}: {rate}{': ' if link.verdict else ''}{clean(link.verdict)}"
    yield (
        f"jobs     {status.jobs_running} running, {status.jobs_queued} queued, "
        f"{status.jobs_done} done, {status.jobs_failed} failed"
    )
    if status.configuration is not None:
        yield from _configuration(status.configuration, terminal)
    if status.sparkplug is not None:
        yield _sparkplug(status.sparkplug, terminal)
    if status.gateway is not None:
        yield from _gateway(status.gateway, terminal)
    if status.http:
        yield f"http     {clean(status.http)}"


def _configuration(view: ConfigurationView, terminal: Terminal) -> Iterator[str]:
    """Draw what the fleet set; nothing where it never set anything."""
    if not (view.serial or view.state or view.drift):
        return
    drift = terminal.bad(f"; differs in {clean(', '.join(view.drift))}") if view.drift else ""
    under_way = f"; serial {view.changing} is {clean(view.state)}" if view.state else ""
    yield f"config   {f'fleet serial {view.serial}' if view.serial else 'nothing of the fleet'}{under_way}{drift}"


def _sparkplug(view: SparkplugView, terminal: Terminal) -> str:
    known = {
        "online": terminal.good("online"),
        "waiting": "waiting for the primary host",
        "births": "publishing births",
    }
    state = known.get(view.state) or terminal.bad("not connected")
    place = f" at {clean(view.server)}" if view.server else ""
    why = f": {clean(view.problem)}" if view.problem else ""
    return f"sparkplug {clean(view.node)} {state}{place}{why}"


def _gateway(view: GatewayView, terminal: Terminal) -> Iterator[str]:
    tls = {"none": "no TLS", "classical": "classical TLS", "x25519mlkem768": "post-quantum TLS"}.get(view.tls, view.tls)
    states = ", ".join(f"{count} {clean(state)}" for state, count in view.states.items() if count)
    yield f"devices  {states or 'none'}; {view.sessions} sessions, {view.connections} connections"
    ways = [*view.addresses, *(("the broker",) if view.through_broker else ())]
    paused = terminal.bad(f", no new ones: {clean(view.paused)}") if view.paused else ""
    yield f"         at {clean(', '.join(ways)) or 'no address'} ({clean(tls)}, frames sealed){paused}"
    none = view.policy_source == "none"
    policy = f"policy {clean(view.policy_source)}, {view.policy_rules} rules"
    yield (
        f"         {terminal.bad('no policy: everything is denied') if none else policy}; "
        f"{view.taken} messages taken, {view.refused} refused, {view.denied} of them by policy"
    )
    if view.incidents:
        yield "         " + terminal.bad(f"{view.incidents} open incidents") + ": qedge incident list"
