"""Small bundles, signed by a key of the test, and the boxes that they go onto."""

from __future__ import annotations

import hashlib
import os
import random
import zipfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from qedge.fleet.update.disk import REQUEST, Disk
from qedge.fleet.update.fake import FakeSecond, install
from qedge.fleet.update.making import Plan, make_bundle
from qedge.fleet.update.model import Layout
from qedge.fleet.update.signing import ReleaseSecret, make_key
from qedge.wire.update import UpdateRequest

MADE_NS = 1_800_000_000_000_000_000


def make_wheel(folder: Path, name: str, version: str, *lines: str) -> Path:
    """Write a wheel that holds nothing but its metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    text = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *lines, "", ""])
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name.replace('-', '_')}-{version}.dist-info/METADATA", text)
    return path


def make_release_key(seed: int = 1) -> ReleaseSecret:
    """Make a release key whose second half is a fake."""
    return make_key(f"key {seed}", random.Random(seed).randbytes, FakeSecond())


def make(
    work: Path,
    secret: ReleaseSecret,
    version: str = "0.2.0",
    *,
    minimum_previous: str = "0.1",
    python: str = "3.11",
    platform: str = "linux-x86_64",
) -> Path:
    """Make a bundle of two wheels."""
    wheels, target = work / f"wheels-{version}", work / f"{version}.qup"
    make_wheel(wheels, "qedge", version, "License-Expression: Apache-2.0", "Requires-Dist: Some.Thing>=1")
    make_wheel(wheels, "some-thing", "1.5", "Requires-Dist: missing; extra == 'test'")
    make_bundle(Plan(wheels, minimum_previous, python, platform, MADE_NS), target, secret, FakeSecond())
    return target


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Site:
    """A box with version 0.1.0 in slot a, that trusts one release key."""

    disk: Disk
    secret: ReleaseSecret
    work: Path

    def ask(self, bundle: Path, order: str = "order-1", sha256: str = "") -> None:
        """Leave a request as the daemon does."""
        staged = self.disk.layout.staging / "staged.qup"
        staged.write_bytes(bundle.read_bytes())
        request = UpdateRequest(order, staged.name, sha256 or digest_of(bundle))
        (self.disk.layout.staging / REQUEST).write_bytes(msgspec.json.encode(request))


def make_site(folder: Path) -> Site:
    """Make the box below a folder."""
    layout = Layout(folder / "opt", folder / "state", folder / "keys", folder / "run" / "qedge.sock")
    for each in (layout.root, layout.staging, layout.keys):
        each.mkdir(parents=True)
    install(layout.slot("a"), "0.1.0")
    layout.current.symlink_to("a")
    layout.kept.symlink_to("a")
    secret = make_release_key()
    (layout.keys / "release.json").write_bytes(msgspec.json.encode(secret.key))
    disk = Disk(layout, owner=os.geteuid())
    disk.prepare()
    return Site(disk, secret, folder)
