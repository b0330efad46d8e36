"""One Sparkplug session, told the time and what comes, asked what to write."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from qedge.fleet.sparkplug.model import (
    Broken,
    DataType,
    Leave,
    Metric,
    Parting,
    Past,
    Payload,
    Ping,
    Quality,
    Reading,
    Rest,
    Send,
    Snapshot,
    Step,
    Value,
    Write,
)
from qedge.fleet.sparkplug.payload import encode_payload
from qedge.fleet.sparkplug.ports import Spooled
from qedge.fleet.sparkplug.session import Rules, Session
from qedge.fleet.sparkplug.topics import Topics
from tests.conformance.sparkplug.protobuf_text import WirePayload, read

RULES = Rules(Topics("g", "n"), deadband_ratio=0.0, rebirth_gap_s=0.0)
S = 1_000_000_000
UTC = 1_800_000_000_000
NCMD, DCMD = "spBv1.0/g/NCMD/n", "spBv1.0/g/DCMD/n/d"


def whole(value: Value | None, utc_ms: int = UTC, kind: DataType = DataType.INT64) -> Reading:
    return Reading(kind, value, utc_ms)


class Talk:
    """A session with a clock; `said` holds (verb, payload) of all messages."""

    def __init__(self, rules: Rules = RULES, bd_seq: int = 7) -> None:
        self.now_ns = 0
        self.session = Session(rules, bd_seq, 0)
        self.node: dict[str, Reading] = {"a": whole(0)}
        self.devices: dict[str, dict[str, Reading]] = {"d": {"b": whole(0)}}
        self.said: list[tuple[str, WirePayload]] = []

    def look(self) -> None:
        self.session.observe(Snapshot(dict(self.node), {name: dict(each) for name, each in self.devices.items()}), UTC)

    def step(self) -> Step:
        step = self.session.next(self.now_ns, UTC)
        if isinstance(step, Send):
            self.said.append((step.verb.value, read(step.payload)))
        return step

    def drain(self) -> Step:
        """Take steps until there is nothing to write."""
        for _ in range(5000):
            step = self.step()
            if isinstance(step, Ping):
                self.session.ponged()
            elif not isinstance(step, Send):
                return step
        raise AssertionError("it never rests")

    def begin(self) -> Talk:
        self.look()
        self.session.subscribed(self.now_ns)
        self.drain()
        return self

    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.said]

    def command(self, topic: str, *metrics: Metric, retain: bool = False) -> None:
        self.heard = self.session.heard(topic, encode_payload(Payload(UTC, metrics)), retain=retain)

    def ask_rebirth(self) -> None:
        self.command(NCMD, Metric("Node Control/Rebirth", None, True))

    def state(self, online: bool, at_ms: int) -> None:
        payload = json.dumps({"online": online, "timestamp": at_ms}).encode()
        self.session.heard("spBv1.0/STATE/h", payload, retain=True)


def test_nothing_is_said_before_the_subscription_stands() -> None:
    talk = Talk()
    talk.look()
    assert isinstance(talk.drain(), Rest)
    assert talk.said == []


def test_births_then_data_by_exception() -> None:
    talk = Talk().begin()
    talk.look()
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH"]
    talk.node["a"] = whole(1)
    talk.look()
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH", "NDATA"]
    assert talk.said[-1][1].names() == ["a"]
    assert [payload.seq for _, payload in talk.said] == [0, 1, 2]


def test_seq_wraps_after_255_over_node_and_devices() -> None:
    talk = Talk().begin()
    for number in range(300):
        (talk.node if number % 2 else talk.devices["d"])["a" if number % 2 else "b"] = whole(number + 1)
        talk.look()
        talk.drain()
    assert [payload.seq for _, payload in talk.said] == [number % 256 for number in range(302)]


def test_births_of_more_than_256_devices_keep_counting() -> None:
    talk = Talk(replace(RULES, births_per_s=1e6))
    talk.devices = {f"d{number}": {"b": whole(0)} for number in range(600)}
    talk.look()
    talk.session.subscribed(0)
    while len(talk.said) < 601:
        talk.now_ns += S // 1000
        talk.drain()
    assert [payload.seq for _, payload in talk.said] == [number % 256 for number in range(601)]


def test_births_are_paced_and_data_waits_for_the_last() -> None:
    talk = Talk(replace(RULES, births_per_s=10.0))
    talk.devices = {f"d{number}": {"b": whole(0)} for number in range(60)}
    talk.begin()
    assert len(talk.said) == 50  # the first burst
    talk.node["a"] = whole(1)
    for _ in range(10):
        talk.now_ns += S // 10
        talk.look()
        talk.drain()
    assert talk.verbs().count("DBIRTH") == 59
    assert "NDATA" not in talk.verbs()
    talk.now_ns += S // 10
    talk.drain()
    assert talk.verbs()[-2:] == ["DBIRTH", "NDATA"]


def test_a_rebirth_keeps_bd_seq_begins_at_seq_0_and_stops_data() -> None:
    talk = Talk().begin()
    talk.node["a"] = whole(5)
    talk.look()
    talk.ask_rebirth()
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH", "NBIRTH", "DBIRTH"]
    birth = talk.said[2][1]
    assert (birth.seq, birth.metric("bdSeq").value, birth.metric("a").value) == (0, 7, 5)
    assert talk.said[3][1].seq == 1


def test_requests_during_a_rebirth_give_one_more() -> None:
    talk = Talk()
    talk.devices = {f"d{number}": {"b": whole(0)} for number in range(3)}
    talk.begin()
    talk.ask_rebirth()
    talk.step()  # the NBIRTH
    for _ in range(3):
        talk.ask_rebirth()
        talk.ask_rebirth()
        if talk.verbs()[-1] == "NBIRTH":
            talk.step()
    talk.drain()
    assert talk.verbs() == ["NBIRTH", *["DBIRTH"] * 3] * 3


def test_requests_before_a_rebirth_has_begun_give_one() -> None:
    talk = Talk().begin()
    for _ in range(10):
        talk.ask_rebirth()
    talk.drain()
    assert talk.verbs().count("NBIRTH") == 2


def test_rebirths_keep_a_distance_in_which_no_data_goes_out() -> None:
    talk = Talk(replace(RULES, rebirth_gap_s=2.0)).begin()
    talk.ask_rebirth()
    talk.node["a"] = whole(1)
    talk.look()
    rest = talk.drain()
    assert isinstance(rest, Rest)
    assert rest.until_ns == 2 * S
    assert talk.verbs() == ["NBIRTH", "DBIRTH"]
    talk.now_ns = 2 * S
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH"] * 2


def test_a_new_metric_of_the_node_is_a_new_birth_of_all() -> None:
    talk = Talk().begin()
    talk.node["c"] = whole(1)
    talk.look()
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH"] * 2


def test_a_new_metric_of_a_device_is_a_birth_of_the_device() -> None:
    talk = Talk().begin()
    talk.devices["d"]["c"] = whole(1)
    talk.look()
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH", "DBIRTH"]


def test_a_metric_of_another_type_is_a_new_birth() -> None:
    talk = Talk().begin()
    talk.devices["d"]["b"] = whole("text", kind=DataType.STRING)
    talk.look()
    talk.drain()
    assert talk.said[-1][0] == "DBIRTH"
    assert talk.said[-1][1].metric("b").datatype == 12


def test_a_metric_that_is_gone_becomes_null_and_stale_once() -> None:
    talk = Talk().begin()
    del talk.node["a"]
    for _ in range(3):
        talk.look()
        talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH", "NDATA"]
    metric = talk.said[-1][1].metric("a")
    assert metric.null
    assert dict(metric.properties)["Quality"][1][2] == Quality.STALE


def test_a_device_that_is_lost_dies_and_is_born_again() -> None:
    talk = Talk().begin()
    device = talk.devices.pop("d")
    talk.look()
    talk.drain()
    talk.devices["d"] = device
    talk.look()
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH", "DDEATH", "DBIRTH"]
    assert talk.said[2][1].present == [1, 3]


def test_a_device_lost_before_its_birth_has_neither_birth_nor_death() -> None:
    talk = Talk()
    talk.devices["e"] = {"b": whole(0)}
    talk.look()
    talk.session.subscribed(0)
    talk.step()
    del talk.devices["d"]
    talk.look()
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH"]


def test_a_device_lost_and_back_between_two_messages_dies_first() -> None:
    talk = Talk().begin()
    device = talk.devices.pop("d")
    talk.look()
    talk.devices["d"] = device
    talk.look()
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH", "DDEATH", "DBIRTH"]


def test_a_rebirth_asked_for_while_a_device_dies_ends_well() -> None:
    talk = Talk().begin()
    talk.devices = {}
    talk.look()
    talk.ask_rebirth()
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH", "DDEATH", "NBIRTH"]


def test_many_changes_are_cut_into_messages_in_order_of_time() -> None:
    talk = Talk()
    talk.node = {f"m{number}": whole(0) for number in range(1200)}
    talk.begin()
    talk.node = {f"m{number}": whole(1, UTC + 1200 - number) for number in range(1200)}
    talk.look()
    talk.drain()
    data = [payload for verb, payload in talk.said if verb == "NDATA"]
    assert [len(payload.metrics) for payload in data] == [500, 500, 200]
    times = [metric.timestamp for payload in data for metric in payload.metrics]
    assert times == sorted(times)


def test_data_of_long_texts_is_cut_by_its_size() -> None:
    talk = Talk()
    talk.node = {f"m{number}": whole("", kind=DataType.STRING) for number in range(300)}
    talk.begin()
    talk.node = {name: whole("x" * 1000, kind=DataType.STRING) for name in talk.node}
    talk.look()
    talk.drain()
    data = [payload for verb, payload in talk.said if verb == "NDATA"]
    assert len(data) >= 2
    assert all(sum(len(str(metric.value)) for metric in payload.metrics) < 120_000 for payload in data)


def test_small_moves_of_real_numbers_are_no_change_but_do_not_add_up_unseen() -> None:
    talk = Talk(replace(RULES, deadband_ratio=0.1))
    talk.node = {"t": whole(100.0, kind=DataType.DOUBLE)}
    talk.begin()
    for value in (105.0, 109.0, 112.0):
        talk.node = {"t": whole(value, kind=DataType.DOUBLE)}
        talk.look()
        talk.drain()
    assert [payload.metric("t").value for verb, payload in talk.said if verb == "NDATA"] == [112.0]


def test_numbers_that_are_none_and_values_that_do_not_fit_are_null() -> None:
    talk = Talk()
    talk.node = {"nan": whole(float("nan"), kind=DataType.DOUBLE), "big": whole(2**70)}
    talk.begin()
    assert all(talk.said[0][1].metric(name).null for name in ("nan", "big"))


def test_names_that_differ_by_case_alone_stand_once() -> None:
    talk = Talk()
    talk.node = {"Temp": whole(1), "temp": whole(2), "bdSeq": whole(3), "Node Control/Rebirth": whole(4)}
    talk.devices = {"D": {}, "d": {}, "a/b": {}}
    talk.begin()
    assert talk.said[0][1].names() == ["bdSeq", "Node Control/Rebirth", "Temp"]
    assert talk.verbs() == ["NBIRTH", "DBIRTH"]


# The primary host


def waiting(servers: int = 2) -> Talk:
    talk = Talk(replace(RULES, primary_host="h", servers=servers, state_timeout_s=30.0))
    talk.look()
    talk.session.subscribed(0)
    return talk


def test_births_wait_for_the_primary_host() -> None:
    talk = waiting()
    talk.drain()
    assert talk.said == []
    talk.state(True, 5)
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH"]


def test_the_state_of_another_host_counts_for_nothing() -> None:
    talk = waiting()
    heard = talk.session.heard("spBv1.0/STATE/other", b'{"online": true, "timestamp": 1}', retain=True)
    assert heard.outcome == "foreign"
    talk.drain()
    assert talk.said == []


@pytest.mark.parametrize(
    "payload", [b"", b"ONLINE", b"{}", b'{"online":1,"timestamp":2}', b'{"online":true}', b"[" * 4000]
)
def test_a_state_that_is_none_counts_for_nothing(payload: bytes) -> None:
    talk = waiting()
    talk.session.heard("spBv1.0/STATE/h", payload, retain=True)
    talk.drain()
    assert talk.said == []


def test_an_offline_host_is_left_with_an_ndeath() -> None:
    talk = waiting()
    talk.state(True, 5)
    talk.drain()
    talk.state(False, 5)
    assert talk.drain() == Leave(Parting.HOST_OFFLINE, walk=True)
    assert talk.verbs()[-1] == "NDEATH"
    assert isinstance(talk.step(), Rest)


def test_a_late_will_of_the_host_counts_for_nothing() -> None:
    talk = waiting()
    talk.state(True, 5)
    talk.state(False, 4)
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH"]
    talk.state(True, 9)
    talk.state(False, 8)
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH"]


def test_a_host_that_is_offline_at_once_is_left_for_the_next_server() -> None:
    talk = waiting()
    talk.state(False, 5)
    assert talk.drain() == Leave(Parting.HOST_OFFLINE, walk=True)
    assert talk.verbs() == ["NDEATH"]


def test_with_one_server_alone_the_node_waits_there() -> None:
    talk = waiting(servers=1)
    talk.state(False, 5)
    talk.now_ns = 14 * S
    assert isinstance(talk.drain(), Rest)
    assert talk.said == []
    talk.state(True, 6)
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH"]


def test_no_state_for_a_while_leads_to_the_next_server() -> None:
    talk = waiting()
    rest = talk.drain()
    assert isinstance(rest, Rest)
    talk.now_ns = 30 * S
    assert talk.drain() == Leave(Parting.NO_HOST, walk=True)
    assert talk.verbs() == ["NDEATH"]


def test_a_rebirth_is_not_given_before_the_host_is_there() -> None:
    talk = waiting()
    talk.ask_rebirth()
    talk.drain()
    assert talk.said == []


# Commands

WRITABLE = replace(RULES, writable=frozenset({"a", "b", "Device Control/Rebirth"}))


def test_nothing_but_a_rebirth_has_an_effect_by_default() -> None:
    talk = Talk().begin()
    talk.command(NCMD, Metric("a", DataType.INT64, 1))
    assert (talk.heard.outcome, talk.heard.refused, talk.heard.writes) == ("refused", 1, ())


def test_what_the_configuration_names_may_be_written_with_its_type() -> None:
    talk = Talk(WRITABLE).begin()
    talk.command(NCMD, Metric("a", None, 5), Metric("x", None, 5), Metric("a", DataType.STRING, "five"))
    assert talk.heard.writes == (Write("", "a", 5),)
    assert talk.heard.refused == 2
    talk.command(DCMD, Metric("b", DataType.INT64, -1), Metric("a", None, 1))
    assert talk.heard.writes == (Write("d", "b", -1),)


def test_a_device_can_be_asked_for_its_birth() -> None:
    talk = Talk(WRITABLE)
    talk.devices["d"]["Device Control/Rebirth"] = whole(False, kind=DataType.BOOLEAN)
    talk.begin()
    talk.command(DCMD, Metric("Device Control/Rebirth", None, True))
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH", "DBIRTH"]


def test_a_huge_command_has_no_effect() -> None:
    talk = Talk().begin()
    talk.command(NCMD, Metric("Node Control/Rebirth", None, True), *[Metric("x" * 100, None, 1)] * 400)
    assert talk.heard.outcome == "malformed"


def test_historical_and_retained_commands_have_no_effect() -> None:
    talk = Talk(WRITABLE).begin()
    talk.command(NCMD, Metric("a", None, 5, is_historical=True))
    assert talk.heard.writes == ()
    talk.command(NCMD, Metric("Node Control/Rebirth", None, True), retain=True)
    assert talk.heard.outcome == "retained"
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "DBIRTH"]


# The past


def spooled(*rows: tuple[str, str, int]) -> list[Spooled]:
    return [Spooled(number, Past(owner, name, whole(value, 9))) for number, (owner, name, value) in enumerate(rows, 1)]


def test_the_past_is_marked_and_erased_only_after_a_pong_to_a_later_ping() -> None:
    talk = Talk().begin()
    assert talk.session.wants_history(0)
    talk.session.give_history(spooled(("", "a", 1), ("", "a", 2), ("d", "b", 3), ("", "gone", 4)), 0)
    assert not talk.session.wants_history(0)
    steps = [talk.step() for _ in range(3)]
    assert [type(step) for step in steps] == [Send, Send, Ping]
    assert talk.verbs()[2:] == ["NDATA", "DDATA"]
    assert [metric.value for metric in talk.said[2][1].metrics] == [1, 2]
    assert all(metric.historical and metric.timestamp == 9 for metric in talk.said[2][1].metrics)
    assert talk.session.strangers == 1
    assert talk.session.ponged() == 4
    assert talk.session.wants_history(0)


def test_a_pong_to_an_earlier_ping_proves_nothing() -> None:
    talk = Talk(replace(RULES, keepalive_s=10.0)).begin()
    talk.now_ns = 5 * S
    assert isinstance(talk.step(), Ping)
    talk.session.give_history(spooled(("", "a", 1)), talk.now_ns)
    assert isinstance(talk.step(), Send)
    assert isinstance(talk.step(), Ping)
    assert talk.session.ponged() == 0
    assert talk.session.ponged() == 1


def test_the_past_of_a_driver_that_is_still_opening_waits_for_its_birth() -> None:
    talk = Talk()
    device = talk.devices.pop("d")
    talk.begin()
    talk.session.give_history(spooled(("", "a", 1), ("d", "b", 2), ("", "a", 3)), 0)
    rest = talk.drain()
    assert isinstance(rest, Rest)
    assert rest.until_ns > 0
    assert talk.verbs() == ["NBIRTH", "NDATA"]
    talk.now_ns = 20 * S
    talk.devices["d"] = device
    talk.look()
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "NDATA", "DBIRTH", "DDATA", "NDATA"]
    assert talk.session.strangers == 0


def test_the_past_of_a_driver_that_does_not_come_is_given_up() -> None:
    talk = Talk()
    talk.devices = {}
    talk.begin()
    talk.session.give_history(spooled(("gone", "b", 2), ("", "a", 3)), 0)
    talk.drain()
    talk.now_ns = 60 * S
    talk.drain()
    assert talk.verbs() == ["NBIRTH", "NDATA"]
    assert talk.session.strangers == 1


def test_live_data_goes_before_the_past_and_the_past_is_paced() -> None:
    talk = Talk(replace(RULES, replay_per_s=100.0)).begin()
    talk.session.give_history(spooled(*[("", "a", number) for number in range(300)]), 0)
    talk.node["a"] = whole(77)
    talk.look()
    rest = talk.drain()
    assert isinstance(rest, Rest)
    live, past = talk.said[2][1], talk.said[3][1]
    assert not live.metrics[0].historical
    assert len(past.metrics) == 100
    assert rest.until_ns == pytest.approx(S / 100, rel=0.01)
    talk.now_ns = S
    talk.drain()
    assert sum(len(payload.metrics) for _, payload in talk.said[3:]) == 200


def test_an_empty_spool_is_not_asked_all_the_time() -> None:
    talk = Talk().begin()
    talk.session.give_history([], 0)
    assert not talk.session.wants_history(4 * S)
    assert talk.session.wants_history(5 * S)


def test_what_no_pong_confirms_is_given_back() -> None:
    talk = Talk(replace(RULES, keepalive_s=10.0)).begin()
    talk.node["a"] = whole(1)
    talk.look()
    talk.step()
    talk.now_ns = 5 * S
    assert isinstance(talk.step(), Ping)
    talk.node["a"] = whole(2)
    talk.look()
    talk.step()
    assert [past.reading.value for past in talk.session.unconfirmed()] == [1, 2]
    talk.session.ponged()
    assert [past.reading.value for past in talk.session.unconfirmed()] == [2]
    talk.session.all_read()
    assert talk.session.unconfirmed() == ()


def test_a_ping_without_its_pong_means_that_the_connection_is_gone() -> None:
    talk = Talk(replace(RULES, keepalive_s=10.0)).begin()
    talk.now_ns = 5 * S
    assert isinstance(talk.step(), Ping)
    talk.now_ns = 15 * S + 1
    assert isinstance(talk.step(), Broken)


def test_a_rebirth_in_the_middle_of_the_past_loses_none_of_it() -> None:
    talk = Talk(replace(RULES, replay_per_s=100.0)).begin()
    talk.session.give_history(spooled(*[("", "a", number) for number in range(250)]), 0)
    talk.drain()
    talk.ask_rebirth()
    for _ in range(5):
        talk.now_ns += S
        talk.drain()
    past = [metric.value for _, payload in talk.said for metric in payload.metrics if metric.historical]
    assert past == list(range(250))


def test_leaving_says_ndeath_with_the_number_of_the_will_and_nothing_after() -> None:
    talk = Talk().begin()
    will = read(talk.session.will(UTC).payload)
    talk.node["a"] = whole(1)
    talk.look()
    talk.session.leave(Parting.STOPPED)
    talk.session.leave(Parting.HOST_OFFLINE, walk=True)
    assert talk.drain() == Leave(Parting.STOPPED, walk=False)
    assert talk.verbs() == ["NBIRTH", "DBIRTH", "NDEATH"]
    death = talk.said[-1][1]
    assert death.present == [1, 2]
    assert death.metric("bdSeq").value == will.metric("bdSeq").value == 7


def test_no_step_rests_in_the_past() -> None:
    """Or the writer would spin: from any state with nothing to write the next look is later than now."""
    talk = Talk(replace(RULES, births_per_s=3.0, replay_per_s=3.0))
    talk.devices = {f"d{number}": {"b": whole(0)} for number in range(80)}
    talk.begin()
    talk.session.give_history(spooled(*[("", "a", number) for number in range(300)]), 0)
    for _ in range(400):
        rest = talk.drain()
        assert isinstance(rest, Rest)
        assert rest.until_ns > talk.now_ns
        talk.now_ns = rest.until_ns
        if talk.session.wants_history(talk.now_ns):
            break
    assert talk.verbs().count("DBIRTH") == 80
