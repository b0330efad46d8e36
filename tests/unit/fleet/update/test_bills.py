"""Bills of materials are valid CycloneDX and name everything."""

from __future__ import annotations

import email.parser
from typing import Any

import msgspec
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from qedge.crypto.registry import ALGORITHMS, Status
from qedge.fleet.update.bills import Component, Json, component_of, crypto_bill, software_bill
from tests.unit.fleet.update.bundles import MADE_NS


def _require_valid(bill: Json) -> dict[str, Any]:
    text = msgspec.json.encode(bill).decode()
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert fault is None, fault
    read: dict[str, Any] = msgspec.json.decode(text)
    return read


def _components() -> list[Component]:
    return [
        Component("qedge", "0.2.0", "0" * 64, "Apache-2.0", ("some-thing", "not-there")),
        Component("Some.Thing", "1.5", "1" * 64),
    ]


def test_the_bill_of_software_is_valid_and_complete() -> None:
    bill = _require_valid(software_bill("0.2.0", MADE_NS, _components()))
    assert bill["metadata"]["component"]["purl"] == "pkg:pypi/qedge@0.2.0"
    assert [each["purl"] for each in bill["components"]] == ["pkg:pypi/some-thing@1.5"]
    assert bill["dependencies"][0] == {"ref": "pkg:pypi/qedge@0.2.0", "dependsOn": ["pkg:pypi/some-thing@1.5"]}


def test_the_bill_of_cryptography_is_valid_and_names_every_algorithm_that_may_be_used() -> None:
    bill = _require_valid(crypto_bill("0.2.0", MADE_NS, ALGORITHMS.values()))
    usable = {row.name for row in ALGORITHMS.values() if row.status in (Status.ALLOWED, Status.EXPERIMENTAL)}
    assert {each["name"] for each in bill["components"]} == usable
    (row,) = (each for each in bill["components"] if each["name"] == "ml-dsa-87")
    properties = row["cryptoProperties"]["algorithmProperties"]
    assert (properties["primitive"], properties["nistQuantumSecurityLevel"]) == ("signature", 5)


def test_a_wheel_says_what_it_needs_but_not_what_its_extras_need() -> None:
    text = (
        "Name: Some.Thing\nVersion: 1.5\nLicense-Expression: MIT\nRequires-Dist: A_b>=1; python_version > '3'\n"
        "Requires-Dist: c[d] (>=2)\nRequires-Dist: e; extra == 'x'\n\n"
    )
    component = component_of(email.parser.HeaderParser().parsestr(text), "0" * 64)
    assert component == Component("Some.Thing", "1.5", "0" * 64, "MIT", ("a-b", "c"))


def test_the_same_release_has_the_same_serial_number() -> None:
    one, two = (software_bill("0.2.0", MADE_NS, _components()) for _ in range(2))
    assert one == two
    assert one["serialNumber"] != software_bill("0.2.1", MADE_NS, _components())["serialNumber"]
