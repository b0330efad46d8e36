"""Every requirement of Sparkplug 3.0.0 that speaks to an edge node, by its id, with the check that decides it.

Written from the meaning of the requirements; a check raises `AssertionError`, a reason says why one does not apply.
Requirements of host applications and of servers are not listed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.conformance.sparkplug.protobuf_text import WirePayload, read
from tests.conformance.sparkplug.scripted_server import Event, verb_of
from tests.conformance.sparkplug.story import DATA_VERBS, DCMD, EDGE_VERBS, HOST, NCMD, Story

Check = Callable[[Story], None]
ROOT = "spBv1.0/plant"


@dataclass(frozen=True)
class NotApplicable:
    """Why a requirement does not apply to this edge node."""

    reason: str


def topic(verb: str) -> Check:
    def check(story: Story) -> None:
        found = [event.topic for event, _ in story.published(verb)]
        if verb == "NDEATH":
            found += [life.connect.topic for life in story.lives]
        assert found
        device = verb.startswith("D")
        for topic in found:
            levels = topic.split("/")
            assert levels[:4] == ["spBv1.0", "plant", verb, "box-1"]
            assert len(levels) == 4 + device
            assert not device or levels[4] in ("qpu", "qrng")

    return check


def qos_0(verb: str) -> Check:
    def check(story: Story) -> None:
        found = story.published(verb)
        assert found
        assert {(event.qos, event.retain) for event, _ in found} == {(0, False)}

    return check


def has_timestamp(verb: str) -> Check:
    def check(story: Story) -> None:
        found = story.published(verb)
        assert found
        for _, payload in found:
            assert 1 in payload.present
            assert payload.timestamp > 1_700_000_000_000

    return check


def seq_goes_on(story: Story) -> None:
    wrapped = False
    for life in story.lives:
        expected = 0
        for event, payload in life.published(*EDGE_VERBS):
            if verb_of(event) == "NBIRTH":
                expected = 0
            assert payload.present.count(3) == 1
            assert payload.seq == expected, (event.topic, payload.seq, expected)
            wrapped = wrapped or expected == 255
            expected = (expected + 1) % 256
    assert wrapped


def nbirth_seq_0(story: Story) -> None:
    found = story.published("NBIRTH")
    assert found
    for _, payload in found:
        assert 3 in payload.present
        assert payload.seq == 0


def no_seq(story: Story) -> None:
    deaths = [payload for _, payload in story.published("NDEATH")] + [life.will for life in story.lives]
    assert deaths
    assert all(3 not in payload.present for payload in deaths)


def births_hold_all(story: Story) -> None:
    """Whatever a session publishes of an owner was in the newest birth of that owner."""
    for life in story.lives:
        known: dict[str, set[str]] = {}
        for event, payload in life.published(*EDGE_VERBS):
            owner = event.topic.split("/")[4:][0] if len(event.topic.split("/")) > 4 else ""
            if verb_of(event) == "NBIRTH":
                known = {"": set(payload.names())}
            elif verb_of(event) == "DBIRTH":
                known[owner] = set(payload.names())
            elif verb_of(event) in DATA_VERBS:
                assert set(payload.names()) <= known[owner]


def metrics_of_births(verb: str) -> Check:
    def check(story: Story) -> None:
        found = story.published(verb)
        assert found
        nulls = 0
        for _, payload in found:
            assert len(payload.names()) == len(set(payload.names()))
            for metric in payload.metrics:
                assert metric.name
                assert 1 <= metric.datatype <= 34
                assert bool(metric.value_field) != metric.null, metric.name
                nulls += metric.null
        assert verb == "DBIRTH" or nulls

    return check


def zeros_are_there(story: Story) -> None:
    _, payload = story.published("NBIRTH")[0]
    found = {name: payload.metric(name) for name in ("Jobs/Done", "Host/CPU Ratio", "Node/Ready", "Properties/Version")}
    assert {each.value_field for each in found.values()} == {"long", "double", "boolean", "string"}
    assert not any(each.value for each in found.values())


def bd_seq_in_births(story: Story) -> None:
    for life in story.lives:
        (metric,) = life.will.metrics
        for _, payload in life.published("NBIRTH"):
            said = payload.metric("bdSeq")
            assert (said.datatype, said.value_field, said.value) == (4, "long", metric.value)


def bd_seq_counts(story: Story) -> None:
    assert [life.will.metrics[0].value for life in story.lives] == list(range(len(story.lives)))
    assert len(story.lives) >= 4


def rebirth_metric(story: Story) -> None:
    for _, payload in story.published("NBIRTH"):
        metric = payload.metric("Node Control/Rebirth")
        assert (metric.datatype, metric.value_field, metric.value) == (11, "boolean", False)
        assert 2 not in metric.present  # an alias


def only_bd_seq(story: Story) -> None:
    for payload in [life.will for life in story.lives] + [payload for _, payload in story.published("NDEATH")]:
        assert payload.names() == ["bdSeq"]
        assert payload.metrics[0].datatype == 4
        assert 0 <= int(str(payload.metrics[0].value)) <= 255


def will(story: Story) -> None:
    assert story.lives
    for life in story.lives:
        assert life.connect.topic == f"{ROOT}/NDEATH/box-1"
        assert life.connect.qos == 1
        assert not life.connect.retain


def clean(story: Story) -> None:
    assert all(life.connect.clean and life.connect.version == 4 for life in story.lives)


def subscribes_first(story: Story) -> None:
    for life in story.lives:
        kinds = life.kinds()
        assert kinds[:2] == ["connect", "subscribe"]
        filters = dict(life.events[1].filters)
        assert filters[f"{ROOT}/NCMD/box-1"] == 1
        assert filters[f"{ROOT}/DCMD/box-1/+"] == 1
        assert filters[f"spBv1.0/STATE/{HOST}"] == 1


def nbirth_first(story: Story) -> None:
    first = [life.published()[0][0] for life in story.lives if life.published()]
    verbs = [verb_of(each) for each in first]
    # the session on the server without a host says nothing but its NDEATH
    assert verbs[0] == "NDEATH"
    assert set(verbs[1:]) == {"NBIRTH"}


def dbirths_before_data(story: Story) -> None:
    for life in story.lives:
        verbs = [verb_of(event) for event, _ in life.published()]
        for at, verb in enumerate(verbs):
            if verb == "NBIRTH":
                assert verbs[at + 1 : at + 3] == ["DBIRTH", "DBIRTH"]


def waits_for_host(story: Story) -> None:
    offline, online = story.lives[:2]
    assert offline.connect.place == 0
    assert [verb_of(event) for event, _ in offline.published()] == ["NDEATH"]
    assert online.connect.place == 1
    assert online.published("NBIRTH")


def ignores_stale(story: Story) -> None:
    between = story.trace.events[story.marks.stale_offline : story.marks.after_stale]
    verbs = [verb_of(each) for each in between if each.kind == "publish"]
    assert "NDATA" in verbs
    assert "NDEATH" not in verbs


def walks(story: Story) -> None:
    second, third = story.lives[1:3]
    assert second.kinds()[-3:] == ["NDEATH", "disconnect", "closed"]
    assert (second.connect.place, third.connect.place) == (1, 0)
    assert third.published("NBIRTH")


def one_at_a_time(story: Story) -> None:
    open_links: set[int] = set()
    for event in story.trace.events:
        if event.kind == "connect":
            assert not open_links
            open_links.add(event.link)
        elif event.kind in ("disconnect", "closed"):
            open_links.discard(event.link)


def ndeath_then_disconnect(story: Story) -> None:
    left = [life for life in story.lives if "disconnect" in life.kinds()]
    assert len(left) >= 3
    for life in left:
        kinds = life.kinds()
        assert kinds[kinds.index("disconnect") - 1] == "NDEATH"
        (event, payload) = life.published("NDEATH")[0]
        assert payload.metrics[0].value == life.will.metrics[0].value
        assert event.topic == life.connect.topic


def lost_leaves_will(story: Story) -> None:
    (will,) = story.wills
    broken = [life for life in story.lives if "disconnect" not in life.kinds()]
    assert [(life.connect.topic, life.connect.payload) for life in broken] == [will]


def rebirth(story: Story) -> None:
    """No data from the request to the end of the births, the same bdSeq, neither NDEATH nor another connection."""
    after = story.trace.events[story.marks.rebirth_asked :]
    verbs = [verb_of(each) for each in after if each.kind == "publish"]
    at = verbs.index("NBIRTH")
    assert verbs[at : at + 3] == ["NBIRTH", "DBIRTH", "DBIRTH"]
    assert "connect" not in [each.kind for each in after[: after.index(nth(after, "NBIRTH"))]]
    bd_seq_in_births(story)


def nth(events: list[Event], verb: str) -> Event:
    return next(each for each in events if each.kind == "publish" and verb_of(each) == verb)


def by_exception(story: Story) -> None:
    """No message repeats a value that hosts have: each of a metric differs from the one before it in the session."""
    for life in story.lives:
        said: dict[tuple[str, str], object] = {}
        for event, payload in life.published(*EDGE_VERBS):
            owner = "/".join(event.topic.split("/")[4:])
            birth = verb_of(event).endswith("BIRTH")
            for metric in payload.metrics:
                if metric.historical:
                    continue
                now = (metric.value, metric.null, str(metric.properties))
                assert birth or said[owner, metric.name] != now, metric.name
                said[owner, metric.name] = now


def changes_are_told(story: Story) -> None:
    values = [
        metric.value
        for _, payload in story.published("NDATA")
        for metric in payload.metrics
        if metric.name == "Jobs/Done" and not metric.historical
    ]
    assert values == [1, 2, *range(100, 360)]
    assert any("State/Restarts" in payload.names() for _, payload in story.published("DDATA"))


def in_order_of_time(story: Story) -> None:
    for _, payload in story.published("NBIRTH", "DBIRTH", "NDATA", "DDATA"):
        times = [metric.timestamp for metric in payload.metrics if not metric.historical]
        assert times == sorted(times)


def metric_timestamps(story: Story) -> None:
    for _, payload in story.published("NBIRTH", "DBIRTH", "NDATA", "DDATA"):
        assert all(3 in metric.present for metric in payload.metrics)


def no_types_in_data(story: Story) -> None:
    found = story.published(*DATA_VERBS)
    assert found
    assert all(4 not in metric.present for _, payload in found for metric in payload.metrics)


def names_no_aliases(story: Story) -> None:
    for _, payload in story.published():
        assert all(metric.name and 2 not in metric.present for metric in payload.metrics)


def quality(story: Story) -> None:
    found = [metric for _, payload in story.published("NBIRTH") for metric in payload.metrics if metric.properties]
    assert found
    for metric in found:
        assert metric.property_counts == (1, 1)
        ((key, value),) = metric.properties
        fields = {number: inner for number, _, inner in value}
        assert (key, fields[1], fields[3]) == ("Quality", 3, 0)
    good = story.published("NBIRTH")[0][1].metric("Jobs/Done")
    assert not good.properties


def device_dies_and_returns(story: Story) -> None:
    verbs = [(verb_of(event), event.topic.split("/")[-1]) for event, _ in story.lives[1].published("DDEATH", "DBIRTH")]
    at = verbs.index(("DDEATH", "qrng"))
    assert verbs[at + 1] == ("DBIRTH", "qrng")


def decodes(story: Story) -> None:
    payloads: list[WirePayload] = [payload for _, payload in story.published()] + [life.will for life in story.lives]
    assert len(payloads) > 250


def writes(story: Story) -> None:
    assert story.site.controls.writes == [("qpu", "Device Control/Locked", True)]
    assert NCMD.split("/")[2:3] + DCMD.split("/")[2:3] == ["NCMD", "DCMD"]


def dbirth_beside_nbirth(story: Story) -> None:
    for life in story.lives:
        for event, _ in life.published("DBIRTH"):
            birth = life.published("NBIRTH")[0][0]
            assert event.topic.replace("/DBIRTH/", "/NBIRTH/").startswith(birth.topic + "/")


def no_strange_ids(story: Story) -> None:
    for event in [*(event for event, _ in story.published()), *(life.connect for life in story.lives)]:
        assert event.topic.encode().decode() == event.topic
        assert not set(event.topic) & set("+#")


def distinct_by_case(story: Story) -> None:
    for _, payload in story.published("NBIRTH", "DBIRTH"):
        assert len({name.lower() for name in payload.names()}) == len(payload.names())


def past_is_told_as_past(story: Story) -> None:
    """In order, with the times of reading, in the place of the node or device, and erased only after a PINGRESP."""
    found = [
        (event.topic.split("/", 3)[3], metric.name, metric.value, metric.timestamp)
        for event, payload in story.published(*DATA_VERBS)
        for metric in payload.metrics
        if metric.historical
    ]
    jobs = [("box-1", "Jobs/Done", number, 10 + number) for number in range(3)]
    # the last is what was sent into the connection that broke, and may not have arrived
    assert found[:4] == [*jobs, ("box-1/qpu", "State/Restarts", 7, 21)]
    events = story.lives[1].events
    last = max(at for at, each in enumerate(events) if each.kind == "publish" and is_past(each))
    assert "ping" in [each.kind for each in events[last:]]


def is_past(event: Event) -> bool:
    """Say whether a message holds readings of the past."""
    return any(metric.historical for metric in read(event.payload).metrics)


ALIASES = NotApplicable("aliases are not used: metrics go by their names")
DATA_SETS = NotApplicable("data sets are not used: metrics are scalars")
TEMPLATES = NotApplicable("templates are not used: metrics are scalars")
MQTT_5 = NotApplicable("the connection is one of MQTT 3.1.1")
OPERATOR = NotApplicable(
    "uniqueness in the infrastructure is up to whoever gives names; by default the fleet's are used"
)
HOSTS = NotApplicable("the host keeps it; what breaks it has no effect on this node (tests of commands)")
