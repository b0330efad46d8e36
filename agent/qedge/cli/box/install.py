"""`qedge install --systemd`: make the daemon a hardened service of this box.

The files are those of the folder `systemd` of the source, shipped in the wheel as `qedge/cli/box/units`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qedge.base.errors import QedgeError

NAME: Final = "install"
SUMMARY: Final = "Make the daemon a service of this box (systemd)."

UNIT_PATH: Final = "etc/systemd/system/qedge.service"
DEVICES_PATH: Final = "etc/systemd/system/qedge.service.d/50-devices.conf"
CONFIG_PATH: Final = "etc/qedge/agent.toml"
_WANTED_PATHS: Final = tuple(
    f"etc/systemd/system/multi-user.target.wants/{name}"
    for name in ("qedge.service", "qedge-update.path", "qedge-restart-host.path")
)
_UDEV_PATH: Final = "etc/udev/rules.d/70-qedge.rules"
_SHIPPED: Final = {
    "qedge.sysusers": "etc/sysusers.d/qedge.conf",
    "qedge.tmpfiles": "etc/tmpfiles.d/qedge.conf",
    "70-qedge.rules": _UDEV_PATH,
    "qedge-restart-host.path": "etc/systemd/system/qedge-restart-host.path",
    "qedge-restart-host.service": "etc/systemd/system/qedge-restart-host.service",
}
"""Name in the folder of units → path below the root, for the files that are copied as they are."""

DEFAULT_PROGRAM: Final = "/opt/qedge/current/bin/qedge"
_UPDATER_PATHS: Final = {
    "qedge-update.service": "etc/systemd/system/qedge-update.service",
    "qedge-update.path": "etc/systemd/system/qedge-update.path",
}
_CURRENT_PROGRAM: Final = "/current/bin/qedge"
_SLOTS: Final = ("a", "b")
_LINKS: Final = ("current", "kept")
"""Environments side by side, and the links to the one that runs and to the one that was last found well."""

_HIDDEN_FOLDERS: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev")  # noqa: S108 - refused, not used
"""What `ProtectHome=`, `PrivateTmp=` and `PrivateDevices=` hide from the service."""

_PLAIN_PATH: Final = re.compile(r"(/[A-Za-z0-9._+@:-]+)+\Z")
"""Paths that a unit file takes without quoting."""


@dataclass(frozen=True, slots=True)
class Target:
    """One file to install: `path` is relative to the root; `keep` leaves a file alone that is there already."""

    path: str
    text: str
    mode: int = 0o644
    keep: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--systemd", action="store_true", help="install the unit and what belongs to it")
    parser.add_argument("--print", action="store_true", dest="show", help="show the files and write nothing")
    parser.add_argument("--root", default="", metavar="DIR", help="write below DIR, for instance the tree of an image")
    parser.add_argument(
        "--exec", default="", dest="program", metavar="PATH", help="the qedge that the service runs (default: this one)"
    )
    parser.add_argument(
        "--device",
        action="append",
        default=[],
        dest="devices",
        metavar="PATH",
        help="let the daemon open this device file of a quantum card; may be given several times",
    )
    parser.add_argument("--uninstall", action="store_true", help="remove the files; configuration and state stay")


def run(args: argparse.Namespace) -> int:
    """Write, show or remove the files."""
    if not args.systemd:
        raise QedgeError("client.usage", "What to install is missing.", fix="Say `qedge install --systemd`.")
    root = Path(args.root or "/")
    if args.uninstall:
        return _uninstall(root)
    program = choose_program(args.program, args.root)
    targets = make_targets(program, args.devices)
    if args.show:
        print("\n".join(f"# ----- /{target.path}\n{target.text}" for target in targets), end="")
        return 0
    if not args.root:
        link_slots(Path(sys.prefix))
        _require_program(args.program)
    for target in targets:
        path = root / target.path
        print(f"{write(path, target):>9}  {path}")
    _tell("To start it:", _start_commands(bool(args.devices), program.endswith(_CURRENT_PROGRAM)), args.root)
    return 0


def units_folder() -> Path:
    """Return the folder of the unit files: the one in the wheel, or the one of the source tree."""
    shipped = Path(__file__).parent / "units"
    return shipped if shipped.is_dir() else Path(__file__).parents[4] / "systemd"


def _default_config() -> Path:
    shipped = units_folder() / "agent.toml"
    return shipped if shipped.is_file() else Path(__file__).parents[4] / "configs" / "agent.toml"


def make_targets(program: str, devices: Sequence[str] = ()) -> tuple[Target, ...]:
    """Return the files of a service that runs `program` and may open `devices`."""
    folder = units_folder()
    unit = (folder / "qedge.service").read_text("utf-8").replace(DEFAULT_PROGRAM, program)
    copied = [Target(path, (folder / name).read_text("utf-8")) for name, path in _SHIPPED.items()]
    drop_in = [Target(DEVICES_PATH, device_drop_in(devices))] if devices else []
    if program.endswith(_CURRENT_PROGRAM):
        place = program.removesuffix(_CURRENT_PROGRAM)
        for name, path in _UPDATER_PATHS.items():
            text = (folder / name).read_text("utf-8")
            copied.append(Target(path, text.replace(DEFAULT_PROGRAM.removesuffix(_CURRENT_PROGRAM), place)))
    config = Target(CONFIG_PATH, _default_config().read_text("utf-8"), mode=0o640, keep=True)
    return (Target(UNIT_PATH, unit), *drop_in, *copied, config)


def device_drop_in(devices: Sequence[str]) -> str:
    """Return the drop-in that opens `devices`, and no others, to the service."""
    for device in devices:
        if not device.startswith("/dev/") or not _is_plain(device):
            raise QedgeError(
                "client.usage",
                f"{device!r} is not a device file.",
                fix="Name one below /dev, for instance --device /dev/qrandom0.",
            )
    allowed = "".join(f"DeviceAllow={device} rw\n" for device in dict.fromkeys(devices))
    return (
        "# Written by `qedge install --systemd --device ...`; the next one replaces it.\n"
        f"[Service]\nPrivateDevices=no\n{allowed}"
    )


def choose_program(wanted: str, root: str) -> str:
    """Return the path of the `qedge` that the unit runs. Raises `client.usage` where the service could not see it."""
    here = Path(sys.prefix) / "bin" / "qedge"
    lasting = Path(sys.prefix).parent / "current" / "bin" / "qedge" if is_slot(Path(sys.prefix)) else here
    program = wanted or (DEFAULT_PROGRAM if root or not here.is_file() else str(lasting))
    hidden = any(Path(program).is_relative_to(folder) for folder in _HIDDEN_FOLDERS)
    if hidden or not _is_plain(program):
        reason = "is hidden from the service" if hidden else "is not an absolute path of plain characters"
        raise QedgeError(
            "client.usage",
            f"The program {program} {reason}.",
            fix="Install qedge into /opt/qedge/a (python3 -m venv /opt/qedge/a) and run the qedge there, or name it "
            f"with --exec {DEFAULT_PROGRAM}.",
        )
    return program


def is_slot(prefix: Path) -> bool:
    """Say whether an environment is one of two side by side: `a` or `b` of a folder that is no environment itself."""
    return prefix.name in _SLOTS and not (prefix.parent / "pyvenv.cfg").exists()


def link_slots(prefix: Path) -> None:
    """Let the service and the updater run from this environment where they run from none yet."""
    if not is_slot(prefix):
        return
    for name in _LINKS:
        link = prefix.parent / name
        try:
            if not link.is_symlink():
                link.symlink_to(prefix.name)
        except OSError as error:
            raise _denied(link, "made", error) from error


def _is_plain(path: str) -> bool:
    return _PLAIN_PATH.match(path) is not None and os.path.normpath(path) == path


def _require_program(wanted: str) -> None:
    program = choose_program(wanted, "")
    if not os.access(program, os.X_OK):
        raise QedgeError(
            "client.file",
            f"There is no program {program}.",
            fix="Install qedge there first (python3 -m venv /opt/qedge/a, then pip install qedge), or name another "
            "one with --exec.",
        )


def write(path: Path, target: Target) -> str:
    """Bring one file to its content, at once or not at all; returns what was done in a word."""
    try:
        if path.exists() and (target.keep or path.read_text("utf-8") == target.text):
            return "kept" if target.keep else "unchanged"
        # Folders of the system are open to all whatever the caller's umask; the configuration's is made tight later.
        for folder in reversed([each for each in path.parents if not each.exists()]):
            folder.mkdir()
            folder.chmod(0o755)
        draft = path.with_name(f".{path.name}.new")
        draft.write_text(target.text, "utf-8")
        draft.chmod(target.mode)
        draft.replace(path)
    except OSError as error:
        raise _denied(path, "written", error) from error
    return "written"


def _uninstall(root: Path) -> int:
    updater = " qedge-update.path" if any((root / path).exists() for path in _UPDATER_PATHS.values()) else ""
    for path in _installed(root):
        try:
            path.unlink(missing_ok=True)
            if (
                path.parent.name.endswith(".d")
                and path.parent.name.startswith("qedge")
                and not any(path.parent.iterdir())
            ):
                path.parent.rmdir()
        except OSError as error:
            raise _denied(path, "removed", error) from error
        print(f"  removed  {path}")
    _tell(
        "To end what still runs:",
        [f"systemctl stop qedge{updater}", "systemctl daemon-reload", "udevadm control --reload"],
        "" if root == Path("/") else str(root),
    )
    print("The configuration (/etc/qedge), the state (/var/lib/qedge) and the user qedge were left.")
    return 0


def _installed(root: Path) -> Iterator[Path]:
    for relative in (*_WANTED_PATHS, UNIT_PATH, DEVICES_PATH, *_UPDATER_PATHS.values(), *_SHIPPED.values()):
        path = root / relative
        if path.exists() or path.is_symlink():
            yield path


def _start_commands(devices: bool, updater: bool) -> list[str]:
    cards = ["udevadm control --reload", "udevadm trigger"] if devices else []
    updates = ["systemctl enable --now qedge-update.path"] if updater else []
    return [
        "systemd-sysusers qedge.conf",
        "systemd-tmpfiles --create qedge.conf",
        *cards,
        "systemctl daemon-reload",
        "systemctl enable --now qedge",
        *updates,
        "systemctl status qedge",
    ]


def _tell(heading: str, commands: Sequence[str], root: str) -> None:
    print(f"\n{heading}" if not root else f"\n{heading[:-1]}, on the box that {root} becomes:")
    for command in commands:
        print(f"  {command}")


def _denied(path: Path, what: str, error: OSError) -> QedgeError:
    return QedgeError(
        "start.no_permission",
        f"{path} cannot be {what}: {error.strerror or error}.",
        fix="Run it as root (sudo), or look at the files first: `qedge install --systemd --print`.",
        path=str(path),
    )
