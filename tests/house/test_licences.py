"""What the daemon needs at run time has a permissive licence or MPL-2.0, by the metadata of what is installed."""

from __future__ import annotations

import re
from importlib.metadata import metadata

import pytest

from tests.house.source_tree import ROOT

ALLOWED = {
    "0BSD",
    "APACHE 2",
    "APACHE 2.0",
    "APACHE SOFTWARE LICENSE",
    "APACHE-2.0",
    "APACHE-2.0 WITH LLVM-EXCEPTION",  # the exception allows more, nothing less
    "BSD",
    "BSD LICENSE",
    "BSD-2-CLAUSE",
    "BSD-3-CLAUSE",
    "CC0-1.0",
    "ISC",
    "ISC LICENSE (ISCL)",
    "MIT",
    "MIT LICENSE",
    "MIT-0",
    "MIT-CMU",
    "MOZILLA PUBLIC LICENSE 2.0 (MPL 2.0)",
    "MPL-2.0",
    "PSF-2.0",
    "PYTHON SOFTWARE FOUNDATION LICENSE",
    "ZLIB",
}


def is_allowed(expression: str) -> bool:
    """Judge an SPDX expression: each part joined by AND must be allowed, of parts joined by OR one is enough."""
    parts = re.split(
        r"\s+AND\s+", expression.replace("(", " ").replace(")", " ") if " OR " in expression else expression
    )
    return all(any(each.strip().upper() in ALLOWED for each in re.split(r"\s+OR\s+", part)) for part in parts)


def licences_of(package: str) -> list[str]:
    """Return what a package says: its SPDX expression, else its classifiers, else its licence line."""
    found = metadata(package)
    if expressions := found.get_all("License-Expression"):
        return expressions
    classifiers = [line.split("::")[-1].strip() for line in found.get_all("Classifier") or [] if "License ::" in line]
    return classifiers or found.get_all("License") or []


def run_time_packages() -> list[str]:
    """Return the packages of the lock file of the daemon."""
    lines = (ROOT / "locks" / "run.txt").read_text("utf-8").splitlines()
    return [line.split("==")[0] for line in lines if "==" in line]


@pytest.mark.parametrize("package", run_time_packages())
def test_a_run_time_package_has_a_permissive_licence(package: str) -> None:
    licences = licences_of(package)
    assert licences
    assert [licence for licence in licences if not is_allowed(licence)] == []


@pytest.mark.parametrize("expression", ["GPL-3.0-only", "MIT AND LGPL-2.1-or-later", "AGPL-3.0", "", "Proprietary"])
def test_the_rule_refuses_other_licences(expression: str) -> None:
    assert not is_allowed(expression)


@pytest.mark.parametrize("expression", ["MIT", "EPL-2.0 OR BSD-3-Clause", "Apache-2.0 AND MIT"])
def test_the_rule_accepts_a_choice_that_has_a_permissive_side(expression: str) -> None:
    assert is_allowed(expression)


def test_our_own_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
