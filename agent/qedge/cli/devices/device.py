"""`qedge device`: adds, invites, approves, shows, contains and revokes attached devices."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.cli.asking import ask, print_json
from qedge.cli.devices import importing, segment
from qedge.cli.devices.profile import add_profile_arguments, profile_of
from qedge.cli.terminal import clean, paint_state, table_lines, terminal_of

if TYPE_CHECKING:
    from qedge.wire.gateway import AttachedDevice, AttachedDevices, DeviceInvited

NAME: Final = "device"
SUMMARY: Final = "Attach devices, and say what becomes of them."
_ALL_AT_ONCE: Final = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="add a device and print the line that invites it")
    add.add_argument("name", metavar="NAME", help="its name: letters, digits, - and _")
    add.add_argument("--constrained", action="store_true", help="it has no room for public keys")
    add.add_argument("--root-from-keys", action="store_true", help="take its root from the key store (QKD)")
    add.add_argument("--extra-key", action="store_true", help="give it a key of the key store (QKD) for its sessions")
    add.add_argument("--claim", action="store_true", help="its root was imported; ask for the code on its label")
    invite = actions.add_parser("invite", help="invite devices that choose their names, or one to bring a new key")
    invite.add_argument("name", metavar="NAME", nargs="?", default="", help="a device that is to bring a new key")
    invite.add_argument("--uses", type=int, default=1, metavar="N", help="how many devices may use it (default: 1)")
    invite.add_argument("--approval", action="store_true", help="every device that uses it waits for `approve`")
    for action in (add, invite):
        action.add_argument("--minutes", type=float, default=0.0, help="how long it is good (default: the node's)")
        add_profile_arguments(action)
    approve = actions.add_parser("approve", help="let in a device that waits")
    approve.add_argument("name", metavar="NAME")
    approve.add_argument("--fingerprint", default="", metavar="F", help="what the device shows as its fingerprint")
    listing = actions.add_parser("list", help="list devices")
    listing.add_argument("--state", default="", help="invited, pending, enrolled, quarantined or revoked")
    show = actions.add_parser("show", help="describe one device and the history of the trust in it")
    show.add_argument("name", metavar="NAME")
    show.add_argument("--credentials", action="store_true", help="print certificate and delegation as JSON")
    check = actions.add_parser("check", help="check a device of another node by the credentials that one printed")
    check.add_argument("file", metavar="FILE", help="output of `qedge device show NAME --credentials` there; - : stdin")
    quarantine = actions.add_parser("quarantine", help="deny everything to a device, at once")
    release = actions.add_parser("release", help="lift a quarantine")
    revoke = actions.add_parser("revoke", help="let a device never come back under its key")
    for action in (quarantine, release, revoke):
        action.add_argument("name", metavar="NAME")
    for action in (quarantine, revoke):
        action.add_argument("--reason", default="", help="why; it stands in the record")
    rotate = actions.add_parser("rotate", help="replace the keys of sessions")
    rotate.add_argument("names", metavar="NAME", nargs="*", help="devices; none: give --all")
    rotate.add_argument("--all", action="store_true", help="all devices, and the node's own key for them")
    importing.add_arguments(actions)
    segment.add_command_arguments(actions.add_parser("command", help="command a device and wait for its answer"))
    for action in (add, invite, approve, listing, show, check, quarantine, release, revoke, rotate):
        action.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    if args.action == "import":
        return importing.run(args)
    if args.action == "command":
        return segment.run_command(args)
    if args.action == "list":
        return _list(args)
    if args.action in ("add", "invite"):
        return _invited(args, _add(args) if args.action == "add" else _invite(args))
    if args.action == "check":
        return _check(args)
    if args.action == "rotate":
        return _rotate(args)
    if args.action == "show" and args.credentials:
        print_json(ask(args, lambda node: node.devices.credentials(args.name)))
        return 0
    return _show(args, _one(args))


def _add(args: argparse.Namespace) -> DeviceInvited:
    from qedge.wire.gateway import DeviceAdd

    code = _read_code() if args.claim else ""
    wanted = DeviceAdd(
        name=args.name,
        tier="constrained" if args.constrained or args.claim or args.root_from_keys else "rich",
        profile=profile_of(args),
        root="claimed" if args.claim else "keys" if args.root_from_keys else "drawn",
        claim_code=code,
        extra_key=args.extra_key,
        expires_s=args.minutes * 60,
    )
    return ask(args, lambda node: node.devices.add(wanted))


def _read_code() -> str:
    """Read the code of a label; not an argument, because those stand in the list of processes."""
    if sys.stdin.isatty():
        return getpass.getpass("Code on the label of the device: ")
    return sys.stdin.readline().strip()


def _invite(args: argparse.Namespace) -> DeviceInvited:
    from qedge.wire.gateway import DeviceInvite

    wanted = DeviceInvite(args.name, args.uses, args.approval, profile_of(args), args.minutes * 60)
    return ask(args, lambda node: node.devices.invite(wanted))


def _invited(args: argparse.Namespace, invited: DeviceInvited) -> int:
    if args.json:
        print_json(invited)
    elif invited.line:
        print(invited.line)
    else:
        print(f"{invited.name} is enrolled; it has its root from its maker")
    return 0


def _one(args: argparse.Namespace) -> AttachedDevice:
    from qedge.wire.gateway import DeviceApproval

    name = args.name
    if args.action == "approve":
        return ask(args, lambda node: node.devices.approve(name, DeviceApproval(args.fingerprint)))
    if args.action == "quarantine":
        return ask(args, lambda node: node.devices.quarantine(name, args.reason))
    if args.action == "release":
        return ask(args, lambda node: node.devices.release(name))
    if args.action == "revoke":
        return ask(args, lambda node: node.devices.revoke(name, args.reason))
    return ask(args, lambda node: node.devices.show(name))


def _check(args: argparse.Namespace) -> int:
    import msgspec

    from qedge.wire.gateway import DeviceCredentials

    try:
        text = sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()
        credentials = msgspec.json.decode(text, type=DeviceCredentials)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QedgeError("client.file", f"{args.file} has no credentials of a device: {error}.") from error
    found = ask(args, lambda node: node.devices.check(credentials))
    if args.json:
        print_json(found)
    else:
        print(f"{found.device} of {found.node}: good, {found.algorithm}, key {found.fingerprint}")
    return 0


def _rotate(args: argparse.Namespace) -> int:
    if bool(args.names) == args.all:
        raise QedgeError("client.usage", "Name devices, or give --all.", fix="`qedge device rotate --help` shows how.")
    rotated = ask(args, lambda node: node.devices.rotate(tuple(args.names)))
    if args.json:
        print_json(rotated)
    else:
        print(f"{rotated.devices} devices open new sessions")
    return 0


def _list(args: argparse.Namespace) -> int:
    terminal = terminal_of()
    rows: list[tuple[str, ...]] = []
    after, states, sessions = "", {}, 0
    while True:
        page = _page(args, after)
        states, sessions = page.states, page.sessions
        if args.json:
            for device in page.devices:
                print_json(device)
        rows += [_row(device) for device in page.devices]
        if len(page.devices) < _ALL_AT_ONCE:
            break
        after = page.devices[-1].name
    if not args.json:
        if rows:
            header = ("NAME", "TIER", "STATE", "CLASS", "SEGMENT", "TRUST", "SESSION")
            print("\n".join(table_lines(header, rows, terminal=terminal)))
        counts = ", ".join(f"{count} {state}" for state, count in states.items() if count)
        print(f"{counts or 'no devices'}; {sessions} with a session")
    return 0


def _page(args: argparse.Namespace, after: str) -> AttachedDevices:
    return ask(args, lambda node: node.devices.listing(args.state, after, _ALL_AT_ONCE))


def _row(device: AttachedDevice) -> tuple[str, ...]:
    session = f"{device.session.expires_in_s / 3600:.1f} h left" if device.session is not None else "-"
    profile = device.profile
    return (
        device.name,
        device.tier,
        f"revoked at {device.revoked_at}" if device.revoked_at else device.state,
        profile.device_class or "-",
        profile.segment or "-",
        str(device.trust),
        session,
    )


def _show(args: argparse.Namespace, device: AttachedDevice) -> int:
    if args.json:
        print_json(device)
    else:
        print("\n".join(device_lines(device)))
    return 0


def device_lines(device: AttachedDevice) -> list[str]:
    """Describe one device."""
    terminal = terminal_of()
    profile, session = device.profile, device.session
    labels = {
        "class": profile.device_class,
        "segment": profile.segment,
        "location": profile.location,
        "groups": " ".join(profile.groups),
        "posture": " ".join(profile.posture),
        **profile.attributes,
    }
    lines = [
        f"{terminal.bold(device.name)}  {device.tier}  {paint_state(device.state, terminal)}  trust {device.trust}"
    ]
    if device.revoked_at:
        lines.append(f"  revoked at   {clean(device.revoked_at)}: its key counts at no node any more")
    if device.reason:
        lines.append(f"  reason       {clean(device.reason)}")
    lines += [f"  {name:<12} {clean(value)}" for name, value in labels.items() if value]
    if profile.safety:
        lines.append("  safety       detectors only raise an alarm over it")
    if device.fingerprint:
        lines.append(f"  key          {device.algorithm}  {device.fingerprint}")
    if session is not None:
        backed = ", QKD-backed" if session.qkd_backed else ""
        lines.append(f"  session      {session.key_id:08x}, {session.expires_in_s / 3600:.1f} h left{backed}")
    return lines + [f"  {clean(line)}" for line in device.history]
