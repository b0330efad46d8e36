"""Bills of materials of a bundle, as CycloneDX 1.6 JSON: one of software, one of cryptography. Pure.

CycloneDX is ECMA-424; the fields are those of `bom-1.6.schema.json`. Written by hand because it is a few dictionaries;
the tests hold them against the schema that cyclonedx-python-lib carries.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from typing import Final

from qedge.crypto.registry import Algorithm, Kind, Status

Json = dict[str, object]

_NAMESPACE: Final = uuid.UUID("6d1f7c0e-3f6b-5d0a-9c53-0b6f6f6a1c11")
_PRIMITIVES: Final[Mapping[Kind, str]] = {
    Kind.KEM: "kem",
    Kind.SIGNATURE: "signature",
    Kind.AEAD: "ae",
    Kind.HASH: "hash",
    Kind.KDF: "kdf",
    Kind.GROUP: "key-agree",
}
_FUNCTIONS: Final[Mapping[Kind, Sequence[str]]] = {
    Kind.KEM: ("keygen", "encapsulate", "decapsulate"),
    Kind.SIGNATURE: ("keygen", "sign", "verify"),
    Kind.AEAD: ("encrypt", "decrypt"),
    Kind.HASH: ("digest",),
    Kind.KDF: ("keyderive",),
    Kind.GROUP: ("keygen", "keyderive"),
}
_MAC: Final = "hmac"
_WORD: Final = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Component:
    """One wheel: what its metadata say and the SHA-256 of the file. `needs` are normalised names."""

    name: str
    version: str
    sha256: str
    licence: str = ""
    needs: tuple[str, ...] = ()

    @property
    def purl(self) -> str:
        """The package URL, which is also its name within the bill."""
        return f"pkg:pypi/{normal(self.name)}@{self.version}"


def normal(name: str) -> str:
    """Return a project's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def component_of(metadata: Message, sha256: str) -> Component:
    """Read a wheel's METADATA; dependencies of extras are left out."""
    needs = []
    for line in metadata.get_all("Requires-Dist") or []:
        requirement, _, marker = line.partition(";")
        found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement.strip())
        if found and "extra" not in marker:
            needs.append(normal(found.group()))
    licence = metadata.get("License-Expression") or ""
    return Component(metadata["Name"], metadata["Version"], sha256, licence, tuple(dict.fromkeys(needs)))


def software_bill(version: str, utc_ns: int, components: Iterable[Component]) -> Json:
    """Return the bill of software of qedge `version`: every wheel with licence, hash and what it needs."""
    rows = sorted(components, key=lambda each: normal(each.name))
    known = {normal(each.name): each.purl for each in rows}
    root = next((each for each in rows if normal(each.name) == "qedge"), None)
    listed = [_software(each) for each in rows if each is not root]
    edges = [
        {"ref": each.purl, "dependsOn": sorted({known[name] for name in each.needs if name in known})} for each in rows
    ]
    bill = _bill("sbom", version, utc_ns, listed)
    if root is not None:
        bill["metadata"] = {**_metadata(utc_ns), "component": _software(root)}
        bill["dependencies"] = edges
    return bill


def crypto_bill(version: str, utc_ns: int, algorithms: Iterable[Algorithm]) -> Json:
    """Return the bill of cryptography: each algorithm that qedge `version` may use, with level and provider."""
    rows = [row for row in algorithms if row.status in (Status.ALLOWED, Status.EXPERIMENTAL)]
    return _bill("cbom", version, utc_ns, [_algorithm(row) for row in rows])


def _metadata(utc_ns: int) -> Json:
    return {
        "timestamp": datetime.fromtimestamp(utc_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "tools": {"components": [{"type": "application", "name": "qedge update bundle"}]},
    }


def _bill(kind: str, version: str, utc_ns: int, components: Sequence[Json]) -> Json:
    serial = uuid.uuid5(_NAMESPACE, f"{kind} {version} {utc_ns}")
    root: Json = {"type": "application", "bom-ref": "qedge", "name": "qedge", "version": version}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {**_metadata(utc_ns), "component": root},
        "components": list(components),
    }


def _software(each: Component) -> Json:
    row: Json = {
        "type": "application" if normal(each.name) == "qedge" else "library",
        "bom-ref": each.purl,
        "name": each.name,
        "version": each.version,
        "purl": each.purl,
        "hashes": [{"alg": "SHA-256", "content": each.sha256}],
    }
    if each.licence:
        row["licenses"] = [{"expression": each.licence}]
    return row


def _algorithm(row: Algorithm) -> Json:
    properties: Json = {
        "primitive": "mac" if row.name == _MAC else _PRIMITIVES[row.kind],
        "executionEnvironment": "software-plain-ram",
        "cryptoFunctions": ["tag"] if row.name == _MAC else list(_FUNCTIONS[row.kind]),
        "nistQuantumSecurityLevel": row.category,
    }
    told = [
        {"name": f"qedge:{name}", "value": value}
        for name, value in (
            ("status", row.status.value),
            ("provider", row.provider),
            ("standard", row.standard),
            ("note", row.reason),
            *((f"bytes:{part}", str(size)) for part, size in row.sizes.items()),
        )
        if value
    ]
    return {
        "type": "cryptographic-asset",
        "bom-ref": f"crypto/{_WORD.sub('-', row.name)}",
        "name": row.name,
        "cryptoProperties": {"assetType": "algorithm", "algorithmProperties": properties},
        "properties": told,
    }
