"""The edge node against the requirements of Sparkplug 3.0.0, one verdict for each id that applies to an edge node."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import replace

import pytest

from tests.conformance.sparkplug.requirements import NotApplicable
from tests.conformance.sparkplug.scripted_server import Trace, verb_of
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
    assert Counter(verdicts.values()) == {"PASS": 162, "NA": 64}


@pytest.mark.parametrize("name", BEYOND)
def test_beyond_the_requirements(name: str, story: Story) -> None:
    BEYOND[name](story)


def _cited() -> set[str]:
    """Return the ids in the code; `{a,b}` in an id stands for two of them."""
    found: set[str] = set()
    for source in SOURCES:
        for text in re.findall(r"tck-id-(?:[A-Za-z0-9-]|\{[^}\n]*\})+", source.read_text("utf-8")):
            parts = [part.strip("{}").split(",") for part in re.split(r"(\{[^}]*\})", text.rstrip("-"))]
            found |= {"".join(each) for each in itertools.product(*parts)}
    return found


def test_the_code_cites_every_requirement_that_it_meets_and_no_other() -> None:
    met = {name for name, check in REQUIREMENTS.items() if not isinstance(check, NotApplicable)}
    assert sorted(met - _cited()) == []
    of_hosts = {"tck-id-operational-behavior-host-application-multi-server-timestamp"}
    assert sorted(_cited() - set(REQUIREMENTS) - of_hosts) == []


def _spoilt(story: Story, kind: str, verb: str, **changes: object) -> Story:
    """Return the story with the first event of a kind and verb changed."""
    events = list(story.trace.events)
    at = next(
        place for place, each in enumerate(events) if each.kind == kind and (kind != "publish" or verb_of(each) == verb)
    )
    events[at] = replace(events[at], **changes)  # type: ignore[arg-type] # the test names fields
    return replace(story, trace=Trace(events))


@pytest.mark.parametrize(
    ("name", "kind", "verb", "changes"),
    [
        ("tck-id-payloads-ndeath-will-message-qos", "connect", "", {"qos": 0}),
        ("tck-id-principles-persistence-clean-session-311", "connect", "", {"clean": False}),
        ("tck-id-topics-nbirth-mqtt", "publish", "NBIRTH", {"retain": True}),
        ("tck-id-topics-nbirth-seq-num", "publish", "NBIRTH", {"payload": b"\x08\x01"}),
        ("tck-id-topics-ndeath-seq", "publish", "NDEATH", {"payload": b"\x18\x00"}),
        ("tck-id-payloads-sequence-num-incrementing", "publish", "DBIRTH", {"payload": b"\x08\x01\x18\x07"}),
        ("tck-id-topics-dbirth-topic", "publish", "DBIRTH", {"topic": "spBv1.0/plant/DBIRTH/box-1"}),
        ("tck-id-payloads-dbirth-order", "publish", "DBIRTH", {"topic": "spBv1.0/plant/NDATA/box-1"}),
        ("tck-id-message-flow-edge-node-ncmd-subscribe", "subscribe", "", {"filters": (("a", 0),)}),
        ("tck-id-payloads-metric-datatype-not-req", "publish", "NDATA", {"payload": b"\x12\x05\x0a\x01a\x20\x04"}),
        ("tck-id-payloads-ndeath-will-message-publisher", "publish", "NDEATH", {"topic": "a/b/NDATA/c"}),
    ],
)
def test_a_check_sees_what_it_is_for(name: str, kind: str, verb: str, changes: dict[str, object], story: Story) -> None:
    check = REQUIREMENTS[name]
    assert not isinstance(check, NotApplicable)
    with pytest.raises((AssertionError, KeyError)):
        check(_spoilt(story, kind, verb, **changes))
