"""Builds the Debian package of the daemon from a folder of wheels, without root: `make deb`.

The package carries the wheels and makes an environment of them when it is configured, in the slot that the service
does not run (`/opt/qedge/a` or `/opt/qedge/b`). So an upgrade never changes a program that runs, and a package and the
updates of a fleet share one layout.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).resolve().parent
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
SCRIPTS: Final = ("preinst", "postinst", "prerm", "postrm")
CONFFILES: Final = ("/etc/qedge/agent.toml",)
COPIES: Final[Mapping[str, tuple[str, int]]] = {
    "systemd/qedge.service": ("usr/lib/systemd/system/qedge.service", 0o644),
    "systemd/qedge-update.service": ("usr/lib/systemd/system/qedge-update.service", 0o644),
    "systemd/qedge-update.path": ("usr/lib/systemd/system/qedge-update.path", 0o644),
    "systemd/qedge.sysusers": ("usr/lib/sysusers.d/qedge.conf", 0o644),
    "systemd/qedge.tmpfiles": ("usr/lib/tmpfiles.d/qedge.conf", 0o644),
    "systemd/70-qedge.rules": ("usr/lib/udev/rules.d/70-qedge.rules", 0o644),
    "configs/agent.toml": ("etc/qedge/agent.toml", 0o640),
    "packaging/deb/copyright": ("usr/share/doc/qedge/copyright", 0o644),
}
"""File of the source tree → path in the package and its mode."""


def debian_version(version: str) -> str:
    """Write a version of Python's so that candidates sort before the release, as dpkg sorts."""
    return re.sub(r"(a|b|rc)(\d+)", r"~\1\2", version).replace(".dev", "~~dev")


def own_version(wheels: Path) -> str:
    """Return the version of the one wheel of qedge in a folder."""
    found = sorted(wheels.glob("qedge-*.whl"))
    if len(found) != 1:
        raise SystemExit(f"{wheels} holds {len(found)} wheels of qedge instead of one; run `make wheels` first")
    return found[0].name.split("-")[1]


def stage(tree: Path, wheels: Path) -> None:
    """Lay out the files of the package and its control files below `tree`."""
    version = own_version(wheels)
    for source, (target, mode) in COPIES.items():
        _copy(ROOT / source, tree / target, mode)
    for wheel in sorted(wheels.glob("*.whl")):
        _copy(wheel, tree / "usr/share/qedge/wheels" / wheel.name, 0o644)
    program = tree / "usr/bin/qedge"
    _folder(program.parent)
    program.symlink_to("/opt/qedge/current/bin/qedge")
    kilobytes = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()) // 1024
    told = {
        "@VERSION@": version,
        "@DEBIAN_VERSION@": debian_version(version),
        "@ARCHITECTURE@": ARCHITECTURES[platform.machine()],
        "@PYTHON@": f"{sys.version_info.major}.{sys.version_info.minor}",
        "@NEXT_PYTHON@": f"{sys.version_info.major}.{sys.version_info.minor + 1}",
        "@SIZE@": str(kilobytes),
    }
    control = tree / "DEBIAN"
    _folder(control)
    _write(control / "control", _fill((HERE / "control").read_text("utf-8"), told), 0o644)
    _write(control / "conffiles", "".join(f"{path}\n" for path in CONFFILES), 0o644)
    for name in SCRIPTS:
        _write(control / name, _fill((HERE / name).read_text("utf-8"), told), 0o755)


def _fill(text: str, told: Mapping[str, str]) -> str:
    for mark, value in told.items():
        text = text.replace(mark, value)
    return text


def _folder(path: Path) -> None:
    for folder in reversed([each for each in (path, *path.parents) if not each.exists()]):
        folder.mkdir()
        folder.chmod(0o755)


def _copy(source: Path, target: Path, mode: int) -> None:
    _folder(target.parent)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _write(path: Path, text: str, mode: int) -> None:
    path.write_text(text, "utf-8")
    path.chmod(mode)


def build(wheels: Path, folder: Path) -> Path:
    """Build the package into `folder` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        tree = Path(work) / "tree"
        _folder(tree)
        stage(tree, wheels)
        name = f"qedge_{debian_version(own_version(wheels))}_{ARCHITECTURES[platform.machine()]}.deb"
        # Wheels are compressed already; the owner of everything is root, whoever builds.
        command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(folder / name)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - a fixed program, no shell
    return folder / name


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description="Build the Debian package of the daemon.")
    parser.add_argument("--wheels", type=Path, default=ROOT / "dist" / "wheels", help="folder of the wheels")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the package")
    args = parser.parse_args()
    print(build(args.wheels, args.out))


if __name__ == "__main__":
    main()
