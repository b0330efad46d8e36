"""`qedge update`: make and check bundles of software, put one onto this box, go back to the version before."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qedge.base.errors import Exit, QedgeError
from qedge.cli.asking import print_json
from qedge.cli.terminal import clean, table_lines, terminal_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from qedge.fleet.update.model import Layout
    from qedge.fleet.update.signing import ReleaseSecret
    from qedge.wire.update import Manifest, UpdateReport

NAME: Final = "update"
SUMMARY: Final = "Make and check software updates, put one onto this box, or go back."
_KEYS: Final = "/etc/qedge/release-keys"
_MIB: Final = 2**20
_MAX_KEY_FILE: Final = 64 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    key = actions.add_parser("key", help="make a release key: a sealed secret half, and a public half for the boxes")
    key.add_argument("secret", metavar="SECRET", help="file for the secret half, sealed by a passphrase")
    key.add_argument("public", metavar="PUBLIC", help="file for the public half (JSON)")
    key.add_argument("--name", default="", metavar="TEXT", help="what to call it (default: the name of the file)")
    bundle = actions.add_parser("bundle", help="make a signed bundle of a folder of wheels")
    bundle.add_argument("file", metavar="FILE", help="the bundle to write")
    bundle.add_argument("--wheels", required=True, metavar="DIR", help="wheels of qedge and of all that it needs")
    bundle.add_argument("--key", required=True, metavar="SECRET", help="secret half of the release key")
    bundle.add_argument(
        "--minimum-previous", default="0.0", metavar="VERSION", help="oldest version that can go to it (default: any)"
    )
    bundle.add_argument("--python", default="", metavar="3.N", help="Python of the boxes (default: that of this one)")
    bundle.add_argument("--platform", default="", metavar="NAME", help="for instance linux-aarch64 (default: this one)")
    check = actions.add_parser("check", help="check signatures and every file of a bundle, and show what it is")
    check.add_argument("file", metavar="FILE", help="the bundle")
    check.add_argument("--keys", default=_KEYS, metavar="PATH", help=f"public key or folder of them (default: {_KEYS})")
    apply = actions.add_parser("apply", help="put a bundle onto this box, as root; undone if it does not work")
    apply.add_argument("file", metavar="FILE", help="the bundle")
    back = actions.add_parser("back", help="go back to the version before, as root")
    status = actions.add_parser("status", help="say which versions are here and how the last update ended")
    for action in (key, bundle):
        action.add_argument(
            "--passphrase-file", default="", metavar="FILE", help="read the passphrase from a file's first line"
        )
    for action in (apply, back, status):
        action.add_argument("--root", default="/opt/qedge", metavar="DIR", help="folder of the two environments")
        action.add_argument("--state", default="/var/lib/qedge", metavar="DIR", help="state folder of the service")
    for action in (key, bundle, check, apply, back, status):
        action.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do what `action` says."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "key": _key,
        "bundle": _bundle,
        "check": _check,
        "apply": _apply,
        "back": _back,
        "status": _status,
    }
    return actions[args.action](args)


def _key(args: argparse.Namespace) -> int:
    import msgspec

    from qedge.cli.fleet.authority_desk import SecondFamily, read_passphrase
    from qedge.crypto.durable_file import write_durably
    from qedge.crypto.sealed_file import seal_secret
    from qedge.fleet.update.signing import key_id, make_key

    secret_path, public_path = Path(args.secret), Path(args.public)
    for path in (secret_path, public_path):
        if path.exists():
            raise QedgeError("client.usage", f"{path} is there already.", fix="Name another file.")
    passphrase = read_passphrase(args, new=True)
    _say("Making an ML-DSA and an SLH-DSA key ...")
    with SecondFamily() as second:
        secret = make_key(args.name or public_path.stem, secrets.token_bytes, second)
    sealed = seal_secret(msgspec.msgpack.encode(secret), passphrase, secrets.token_bytes)
    public = msgspec.json.format(msgspec.json.encode(secret.key), indent=1) + b"\n"
    for path, data, mode in ((secret_path, sealed, 0o600), (public_path, public, 0o644)):
        try:
            write_durably(path, data, mode)
        except OSError as error:
            raise _unusable(path, error) from error
    identity = key_id(secret.key)
    if args.json:
        print_json({"key": identity, "secret": args.secret, "public": args.public})
    else:
        print(f"release key {identity}")
    _say(f"Copy {public_path} to {_KEYS} on every box; keep {secret_path} where releases are made.")
    return 0


def _open_secret(args: argparse.Namespace) -> ReleaseSecret:
    import msgspec

    from qedge.cli.fleet.authority_desk import read_passphrase
    from qedge.crypto.sealed_file import open_secret
    from qedge.fleet.update.signing import ReleaseSecret

    try:
        with Path(args.key).open("rb") as file:
            sealed = file.read(_MAX_KEY_FILE)
    except OSError as error:
        raise _unusable(Path(args.key), error) from error
    try:
        return msgspec.msgpack.decode(open_secret(sealed, read_passphrase(args)), type=ReleaseSecret)
    except msgspec.DecodeError as error:
        raise QedgeError("client.data", f"{args.key} is no release key.", fix="See `qedge update key`.") from error


def _bundle(args: argparse.Namespace) -> int:
    from qedge.cli.fleet.authority_desk import SecondFamily
    from qedge.fleet.update.machine import platform_name, python_version
    from qedge.fleet.update.making import Plan, hash_of, make_bundle

    plan = Plan(
        Path(args.wheels),
        args.minimum_previous,
        args.python or python_version(),
        args.platform or platform_name(),
        time.time_ns(),
    )
    secret, target = _open_secret(args), Path(args.file)
    try:
        with SecondFamily() as second:
            manifest = make_bundle(plan, target, secret, second)
        digest, size = hash_of(target), target.stat().st_size
    except OSError as error:
        raise _unusable(target, error) from error
    if args.json:
        print_json({"file": args.file, "sha256": digest, "size": size, "version": manifest.version})
    else:
        print(f"{args.file}: qedge {manifest.version}, {len(manifest.files)} files, {size / _MIB:.1f} MiB")
        print(f"sha256 {digest}")
        print(f"size   {size}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from qedge.fleet.update.bundle import check_files, open_bundle, verify_bundle
    from qedge.fleet.update.disk import read_release_key, read_release_keys
    from qedge.fleet.update.machine import verify_second
    from qedge.fleet.update.making import hash_of
    from qedge.fleet.update.signing import key_id

    path, named = Path(args.file), Path(args.keys)
    keys = read_release_keys(named) if named.is_dir() else [read_release_key(named)]
    try:
        with path.open("rb") as file:
            opened = open_bundle(file)
            signer = verify_bundle(opened, keys, verify_second)
            check_files(opened)
        digest, size = hash_of(path), path.stat().st_size
    except OSError as error:
        raise _unusable(path, error) from error
    if args.json:
        told = {"ok": True, "sha256": digest, "size": size, "key": key_id(signer), "manifest": opened.manifest}
        print_json(told)
    else:
        print("\n".join([*_lines(opened.manifest), f"signed by         {clean(signer.name)} ({key_id(signer)})"]))
        print(f"sha256            {digest}")
        print(f"size              {size}")
    return 0


def _lines(manifest: Manifest) -> list[str]:
    wheels = [each for each in manifest.files if each.kind.value == "wheel"]
    made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest.made_utc_ns / 1e9))
    return [
        f"version           {manifest.version}",
        f"minimum previous  {manifest.minimum_previous}",
        f"python            {manifest.python}",
        f"platform          {manifest.platform}",
        f"made              {made}",
        f"files             {len(wheels)} wheels and {len(manifest.files) - len(wheels)} bills of materials, as signed",
    ]


def _layout(args: argparse.Namespace) -> Layout:
    from qedge.fleet.update.model import Layout

    return Layout(Path(args.root), Path(args.state))


def _require_root() -> None:
    if os.geteuid() != 0:
        raise QedgeError("start.no_permission", "Only root may change the program of this box.", fix="Use sudo.")


def _apply(args: argparse.Namespace) -> int:
    from qedge.fleet.update.updater import alone, make_course

    _require_root()
    layout = _layout(args)
    course = make_course(layout, _say)
    try:
        with Path(args.file).open("rb") as file, alone(layout):
            course.run()  # what was begun before comes first
            report = course.run_local(f"local-{secrets.token_hex(8)}", file)
    except OSError as error:
        raise _unusable(Path(args.file), error) from error
    return _tell(args, report)


def _back(args: argparse.Namespace) -> int:
    from qedge.fleet.update.updater import alone, make_course

    _require_root()
    layout = _layout(args)
    course = make_course(layout, _say)
    with alone(layout):
        course.run()
        report = course.run_local(f"local-{secrets.token_hex(8)}", None)
    return _tell(args, report)


def _tell(args: argparse.Namespace, report: UpdateReport) -> int:
    from qedge.wire.update import Outcome

    if args.json:
        print_json(report)
    elif report.outcome is Outcome.KEPT:
        print(f"qedge {report.version} runs, found well after {report.gate_s:.1f} s; {report.previous} is kept.")
    else:
        print(f"{report.outcome}: {clean(report.reason)} [{report.code}]")
        print(f"qedge {report.previous} runs.")
    return int(Exit.OK if report.outcome is Outcome.KEPT else Exit.FAILED)


def _status(args: argparse.Namespace) -> int:
    from qedge.fleet.update.course import other
    from qedge.fleet.update.disk import NO_VERSION, Disk

    disk = Disk(_layout(args))
    current = disk.current_slot()
    before = disk.version_of(other(current))
    report, journal = disk.read_report(), disk.read_journal()
    versions = {"current": disk.version_of(current), "before": "" if before == NO_VERSION else before}
    if args.json:
        print_json({**versions, "slot": current, "under_way": journal.step if journal else "", "last": report})
        return 0
    rows = [("current", versions["current"]), ("before", versions["before"] or "-")]
    rows.append(("under way", f"{journal.version} {journal.step}" if journal else "-"))
    if report is not None:
        rows.append(("last update", f"{report.version} {report.outcome} {clean(report.reason)}".strip()))
    print("\n".join(table_lines(("WHAT", "STANDING"), rows, terminal=terminal_of())))
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _unusable(path: Path, error: OSError) -> QedgeError:
    return QedgeError("client.file", f"{path} cannot be used: {error.strerror or error}.", fix="Name another file.")
