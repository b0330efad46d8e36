"""Making a bundle of a folder of wheels."""

from __future__ import annotations

import email.parser
import hashlib
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.crypto.registry import ALGORITHMS
from qedge.fleet.update.bills import Component, component_of, crypto_bill, normal, software_bill
from qedge.fleet.update.bundle import MANIFEST, SIGNATURES
from qedge.fleet.update.signing import ReleaseSecret, SecondSigner, sign_manifest
from qedge.wire.update import BundleFile, FileKind, Manifest

SBOM: Final = "sbom.cdx.json"
CBOM: Final = "cbom.cdx.json"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""Every entry has the same date, so that the same wheels make the same archive but for the signatures."""

_WHEEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.whl")
_MAX_METADATA: Final = 2**20
_PIECE: Final = 2**20


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes into a bundle and for which boxes it is; as in `Manifest`."""

    wheels: Path
    minimum_previous: str
    python: str
    platform: str
    made_utc_ns: int


def make_bundle(plan: Plan, target: Path, secret: ReleaseSecret, second: SecondSigner) -> Manifest:
    """Write a signed bundle; raises `update.bad_bundle` for a folder without qedge or with two of its wheels.

    Draft first, then renamed: a bundle that is there is whole.
    """
    wheels = sorted(path for path in plan.wheels.glob("*.whl") if _WHEEL.fullmatch(path.name))
    components = [_component(path) for path in wheels]
    ours = [each for each in components if normal(each.name) == "qedge"]
    if len(ours) != 1:
        raise QedgeError(
            "update.bad_bundle",
            f"{plan.wheels} holds {len(ours)} wheels of qedge, and a bundle is of one.",
            fix="Gather the wheels with `make wheels`.",
        )
    version = ours[0].version
    bills = {
        SBOM: (FileKind.SBOM, software_bill(version, plan.made_utc_ns, components)),
        CBOM: (FileKind.CBOM, crypto_bill(version, plan.made_utc_ns, ALGORITHMS.values())),
    }
    written = {name: msgspec.json.format(msgspec.json.encode(bill), indent=1) for name, (_, bill) in bills.items()}
    files = [
        BundleFile(path.name, FileKind.WHEEL, each.sha256, path.stat().st_size)
        for path, each in zip(wheels, components, strict=True)
    ]
    files += [
        BundleFile(name, kind, hashlib.sha256(written[name]).hexdigest(), len(written[name]))
        for name, (kind, _) in bills.items()
    ]
    manifest = Manifest(version, plan.minimum_previous, plan.python, plan.platform, plan.made_utc_ns, tuple(files))
    try:
        # Through the decoder, which checks what constructors do not.
        manifest = msgspec.json.decode(signed := msgspec.json.encode(manifest), type=Manifest)
    except msgspec.DecodeError as error:
        raise QedgeError(
            "update.bad_bundle", f"Of this no bundle can be made: {error}.", fix="Build the wheels again."
        ) from error
    signatures = sign_manifest(signed, secret, second)
    _write(target, {MANIFEST: signed, SIGNATURES: msgspec.json.encode(signatures), **written}, wheels)
    return manifest


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _write(target: Path, small: dict[str, bytes], wheels: list[Path]) -> None:
    draft = target.with_name(f".{target.name}.new")
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
            for name, data in small.items():
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
            for path in wheels:
                entry = zipfile.ZipInfo(path.name, _EPOCH)
                entry.file_size = path.stat().st_size
                with path.open("rb") as source, archive.open(entry, "w") as copy:
                    while piece := source.read(_PIECE):
                        copy.write(piece)
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def _component(path: Path) -> Component:
    try:
        with zipfile.ZipFile(path) as wheel:
            (name,) = (each for each in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", each))
            with wheel.open(name) as file:
                text = file.read(_MAX_METADATA).decode("utf-8", "replace")
    except (zipfile.BadZipFile, ValueError, OSError, KeyError) as error:
        raise QedgeError(
            "update.bad_bundle", f"{path} is no wheel: {error}.", fix="Build it again, or leave it out."
        ) from error
    return component_of(email.parser.HeaderParser().parsestr(text), hash_of(path))
