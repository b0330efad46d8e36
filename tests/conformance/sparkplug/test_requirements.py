"""The edge node against the requirements of Sparkplug 3.0.0, one verdict for each id that applies to an edge node."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.conformance.sparkplug.requirements import NotApplicable
from tests.conformance.sparkplug.story import Story, play
from tests.conformance.sparkplug.table import BEYOND, REQUIREMENTS
from tests.house.source_tree import ROOT

SOURCES = sorted((ROOT / "agent" / "qedge" / "fleet" / "sparkplug").glob("*.py"))


@pytest.fixture(scope="module")
def story() -> Story:
    return play()


def test_every_requirement_of_an_edge_node_has_a_verdict(story: Story) -> None:
    verdicts: dict[str, str] = {}
    for name, check in REQUIREMENTS.items():
        if isinstance(check, NotApplicable):
            assert check.reason
            verdicts[name] = "NA"
            continue
        try:
            check(story)
            verdicts[name] = "PASS"
        except AssertionError as error:
            verdicts[name] = f"FAIL: {error}"
    assert {name: verdict for name, verdict in verdicts.items() if verdict.startswith("FAIL")} == {}
    assert Counter(verdicts.values()) == {"PASS": 135, "NA": 62}


@pytest.mark.parametrize("name", BEYOND)
def test_beyond_the_requirements(name: str, story: Story) -> None:
    BEYOND[name](story)


def test_ids_that_the_code_cites_are_requirements() -> None:
    cited = {
        name.rstrip("-.,")
        for source in SOURCES
        for name in re.findall(r"tck-id-[A-Za-z0-9-]+", source.read_text("utf-8"))
    }
    of_hosts = {"tck-id-operational-behavior-host-application-multi-server-timestamp"}
    assert cited - set(REQUIREMENTS) - of_hosts == set()
