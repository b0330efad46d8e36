"""From a finding to what is done about it: responses, the cap, safety devices, peers, operators, and restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.security.fake import FakeFleet
from qedge.security.incidents.model import INCIDENT_STATES, RESPONSES, IncidentState
from qedge.security.model import Action, Decision, Evidence, Reason, Resource, ResourceKind
from qedge.security.tally import Tally
from qedge.wire.incidents import MAX_EVIDENCE, BoardEntry, IncidentBoard, IncidentChange
from tests.unit.security.security_site import Site, device, serving


def misbehave(site: Site, name: str, evidence: Evidence = Evidence.MALFORMED, times: int = 3) -> None:
    subject = site.subjects.known[name]
    for _ in range(times):
        site.service.observe(subject, evidence, 1.0, site.clock.now_ns(), "on purpose")


def test_every_evidence_against_a_device_has_a_response() -> None:
    assert set(Evidence) - set(RESPONSES) == {Evidence.ATTESTED, Evidence.WELL_BEHAVED}
    assert INCIDENT_STATES.final == {IncidentState.RESOLVED}


async def test_a_flood_is_throttled_and_a_device_that_goes_on_is_quarantined(tmp_path: Path) -> None:
    meter = device("meter")
    async with serving(tmp_path, meter) as site:
        tally = site.service.device_tally(meter)
        tally.messages = 5000
        site.step(0.5)
        assert site.contained.done == [("throttle", "meter")]
        assert site.incident("meter").state == "contained"
        for _ in range(3):
            tally.messages = 20_000
            site.step(5)
        assert site.contained.of("quarantine") == ["meter"]
        assert meter.quarantined
        incident = site.incident("meter")
        assert [(act.response, act.outcome) for act in incident.acts] == [("throttle", "done"), ("quarantine", "done")]
        assert incident.count >= 3
        assert incident.rows[0].evidence == "flooding"


async def test_guessing_blocks_the_address_and_touches_no_device(tmp_path: Path) -> None:
    async with serving(tmp_path, device("meter")) as site:
        for _ in range(15):
            site.service.address_tally("192.0.2.1").failed += 1
            site.step(1)
        assert site.contained.done == [("block", "192.0.2.1")]
        assert site.incident("192.0.2.1").subject_is == "address"
        await site.settle()
        assert site.herald._fleet.retained == {}  # an address means nothing to a peer


async def test_statistics_alone_only_alarm(tmp_path: Path) -> None:
    async with serving(tmp_path, device("meter")) as site:
        misbehave(site, "meter", Evidence.ODD_PAYLOADS, 100)
        assert site.contained.done == []
        assert site.incident("meter").state == "opened"


async def test_the_mode_observe_reports_and_does_nothing(tmp_path: Path) -> None:
    meter = device("meter")
    async with serving(tmp_path, meter, detection={"mode": "observe"}) as site:
        misbehave(site, "meter", times=5)
        assert site.contained.done == []
        assert (meter.trust, meter.quarantined, meter.epoch) == (50, False, 0)
        assert {act.outcome for act in site.incident("meter").acts} == {"observed"}


async def test_more_trust_is_demanded_of_who_asks_for_what_is_not_theirs(tmp_path: Path) -> None:
    meter = device("meter")
    async with serving(tmp_path, meter) as site:
        misbehave(site, "meter", Evidence.DENIED, 1)
        assert meter.trust == 30  # 50 − 10 of evidence − 10 demanded
        site.step(1)
        story = await site.desk.device_story("meter")
        assert (story.demanded, story.trust, round(story.score)) == (10, 30, 40)
        assert [row.evidence for row in story.rows] == ["denied", "demanded"]


async def test_a_fault_in_a_port_ends_nothing_but_the_response(tmp_path: Path) -> None:
    async with serving(tmp_path, device("meter"), device("other")) as site:
        site.contained.fails = True
        misbehave(site, "meter", Evidence.AUTHENTICATION_FAILED, 1)
        assert site.incident("meter").acts[0].outcome == "failed"
        site.contained.fails = False
        misbehave(site, "meter", Evidence.AUTHENTICATION_FAILED, 1)
        assert site.contained.of("rekey") == ["meter"]


async def test_an_incident_keeps_the_first_and_the_newest_of_its_evidence(tmp_path: Path) -> None:
    async with serving(tmp_path, device("meter")) as site:
        misbehave(site, "meter", Evidence.FLOODING, 1)
        misbehave(site, "meter", Evidence.ODD_PAYLOADS, 100)
        incident = site.incident("meter")
        assert len(incident.rows) == MAX_EVIDENCE
        assert incident.count == 101
        assert incident.rows[0].evidence == "flooding"


async def test_open_incidents_are_bounded_and_the_mildest_makes_room(tmp_path: Path) -> None:
    async with serving(tmp_path, *[device(f"d{n}") for n in range(40)], incidents={"max_open": 16}) as site:
        misbehave(site, "d0", times=3)
        for number in range(1, 40):
            misbehave(site, f"d{number}", Evidence.ODD_PAYLOADS, 3)
        assert len(site.service.incidents) == 16
        assert site.incident("d0").state == "contained"


async def test_what_is_quiet_for_long_is_resolved_but_no_quarantine(tmp_path: Path) -> None:
    flooder, hostile = device("flooder"), device("hostile")
    async with serving(tmp_path, flooder, hostile, incidents={"quiet_s": 60}, trust={"review_s": 0}) as site:
        misbehave(site, "flooder", Evidence.FLOODING, 1)
        misbehave(site, "hostile")
        site.clock.advance_s(61)
        site.step(1)
        assert [view.subject for view in site.service.incidents.views()] == ["hostile"]
        assert ("unthrottle", "flooder") in site.contained.done
        await site.settle()
        (ended,) = [each for each in (await site.desk.incidents(10, only_open=False)).incidents if each.ended_by]
        assert (ended.subject, ended.ended_by, ended.state) == ("flooder", "quiet", "resolved")


async def test_a_quarantine_is_reviewed_and_ends_with_its_incident(tmp_path: Path) -> None:
    meter = device("meter")
    async with serving(tmp_path, meter, trust={"review_s": 3600}) as site:
        misbehave(site, "meter")
        assert meter.quarantined
        for _ in range(40):
            site.clock.advance_s(3600)
            site.step(0.2)
        assert not meter.quarantined
        assert site.contained.of("release") == ["meter"]
        assert len(site.service.incidents) == 0


async def test_tallies_that_others_keep_are_followed(tmp_path: Path) -> None:
    meter = device("meter")
    async with serving(tmp_path, meter) as site:
        devices, addresses = {"meter": Tally(), "ghost": Tally()}, {"192.0.2.1": Tally()}
        site.service.follow(lambda: devices, lambda: addresses)
        site.step(1)
        assert len(site.service.tallies) == 1
        devices["meter"].throttled = 5000
        site.step(1)
        assert site.contained.done == [("throttle", "meter")]
        for _ in range(14):
            addresses["192.0.2.1"].failed += 1
            site.step(1)
        assert ("block", "192.0.2.1") in site.contained.done
        devices["meter"] = Tally()  # it was forgotten and came again
        site.step(6)
        devices["meter"].messages = 5000
        site.step(1)
        assert site.incident("meter").count == 2
        del devices["meter"]
        site.step(1)
        assert len(site.service.tallies) == 0


async def test_what_only_the_device_can_have_done_is_judged_once_a_tick(tmp_path: Path) -> None:
    meter = device("meter")
    async with serving(tmp_path, meter) as site:
        for _ in range(1000):
            site.service.odd("meter", Evidence.TOPIC_SPREAD, 0, 0)
            site.service.odd("meter", Evidence.MALFORMED, 0, 0)
        site.step(1)
        (row,) = [each for each in (await site.desk.device_story("meter")).rows if each.evidence == "topic_spread"]
        assert (row.points, row.count) == (-15, 1)
        assert site.incident("meter").rows[0].detail == "1000 times at once"


# Peers


async def test_a_peer_that_hears_of_a_quarantined_device_enforces_it_and_its_release(tmp_path: Path) -> None:
    fleet = FakeFleet()
    here, there = device("meter"), device("meter")
    async with (
        serving(tmp_path / "a", here, node="a", fleet=fleet) as a,
        serving(tmp_path / "b", there, node="b", fleet=fleet) as b,
    ):
        misbehave(a, "meter")
        await a.settle()
        assert b.contained.of("quarantine") == ["meter"]
        assert there.quarantined
        assert b.service.trust.score("meter", b.clock.now_ns()) == 0
        incident = b.incident("meter")
        assert (incident.node, incident.evidence) == ("a", "malformed")
        await b.settle()
        assert "b" not in fleet.retained  # what it heard of others it does not tell again
        await a.desk.release("meter", "repaired", "uid:0")
        await a.settle()
        assert not there.quarantined
        assert b.contained.of("release") == ["meter"]


async def test_a_device_that_comes_later_meets_what_peers_said_of_it(tmp_path: Path) -> None:
    fleet = FakeFleet()
    async with (
        serving(tmp_path / "a", device("rover"), node="a", fleet=fleet) as a,
        serving(tmp_path / "b", node="b", fleet=fleet) as b,
    ):
        misbehave(a, "rover")
        await a.settle()
        assert b.contained.done == []
        rover = b.add(device("rover"))
        assert rover.quarantined
        assert b.contained.of("quarantine") == ["rover"]


async def test_an_operator_overrules_a_peer_for_good(tmp_path: Path) -> None:
    fleet = FakeFleet()
    there = device("meter")
    async with serving(tmp_path / "a", device("meter"), device("other"), node="a", fleet=fleet) as a:
        async with serving(tmp_path / "b", there, node="b", fleet=fleet) as b:
            misbehave(a, "meter")
            await a.settle()
            await b.desk.release("meter", "needed", "uid:0")
            a.clock.advance_s(600)
            misbehave(a, "other")
            await a.settle()
            assert not there.quarantined
            await b.settle()
        again = device("meter")
        async with serving(tmp_path / "b", again, node="b", fleet=fleet) as b:
            a.clock.advance_s(600)
            misbehave(a, "other", Evidence.FLOODING)
            await a.settle()
            b.herald.reconnect()
            assert not again.quarantined


async def test_an_older_board_has_no_effect_not_even_after_a_restart(tmp_path: Path) -> None:
    entry = BoardEntry("01890000-0000-7000-8000-000000000001", "meter", "malformed", "contained", "quarantine", 1.0, 1)
    for _ in range(2):
        meter = device("meter")
        async with serving(tmp_path, meter) as site:
            site.service.heard(IncidentBoard("peer", 10, ()))
            site.service.heard(IncidentBoard("peer", 9, (entry,)))
            assert not meter.quarantined
            await site.settle()
    async with serving(tmp_path, meter) as site:
        site.service.heard(IncidentBoard("peer", 10, (entry,)))
        assert not meter.quarantined
        site.service.heard(IncidentBoard("peer", 11, (entry,)))
        assert meter.quarantined


async def test_a_peer_cannot_speak_of_another_nodes_incident(tmp_path: Path) -> None:
    meter = device("meter")
    async with serving(tmp_path, meter) as site:
        misbehave(site, "meter", Evidence.FLOODING, 1)
        mine = site.incident("meter")
        stolen = BoardEntry(mine.id, "meter", "flooding", "contained", "quarantine", 1.0, 1)
        site.service.heard(IncidentBoard("peer", 1, (stolen,)))
        site.service.heard(IncidentBoard("peer", 2, ()))
        assert site.incident("meter").node == "box-1"


async def test_a_board_that_cannot_be_published_is_published_later(tmp_path: Path) -> None:
    async with serving(tmp_path, device("meter")) as site:
        site.herald.connected = False
        misbehave(site, "meter")
        await site.settle()
        site.herald.connected = True
        await site.settle()
        (entry,) = site.herald._fleet.retained["box-1"].entries
        assert (entry.device, entry.response) == ("meter", "quarantine")


async def test_a_board_that_the_broker_lost_is_published_again(tmp_path: Path) -> None:
    async with serving(tmp_path, device("meter")) as site:
        misbehave(site, "meter")
        await site.settle()
        before = site.herald._fleet.retained.pop("box-1")
        await site.settle()
        assert site.herald._fleet.retained == {}
        site.herald.reconnect()
        await site.settle()
        again = site.herald._fleet.retained["box-1"]
        assert again.entries == before.entries
        assert again.serial > before.serial


# Operators, and what is kept


async def test_privileged_acts_are_in_the_audit_log_before_they_are_done(tmp_path: Path) -> None:
    meter = device("meter")
    async with serving(tmp_path, meter) as site:
        await site.desk.quarantine("meter", "smells of smoke", "uid:1000")
        assert meter.quarantined
        view = site.incident("meter")
        assert (view.evidence, view.acts[0].actor) == ("operator", "uid:1000")
        await site.desk.acknowledge(view.id, IncidentChange("on my way"), "uid:1000")
        ended = await site.desk.resolve(view.id, IncidentChange("a fan", release=True), "uid:1000")
        assert (ended.state, ended.ended_by, ended.acknowledged_by, ended.note) == (
            "resolved",
            "uid:1000",
            "uid:1000",
            "a fan",
        )
        assert not meter.quarantined
        acts = [(row["action"], row["actor"], row.get("rule")) for row in await site.rows() if row["kind"] == "act"]
        assert acts == [
            ("quarantine", "uid:1000", "smells of smoke"),
            ("acknowledge", "uid:1000", "on my way"),
            ("resolve and release", "uid:1000", "a fan"),
        ]
        with pytest.raises(QedgeError, match="resolved by uid:1000"):
            await site.desk.resolve(view.id, IncidentChange(), "uid:0")


async def test_where_the_audit_log_cannot_be_written_nothing_privileged_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = device("meter")
    async with serving(tmp_path, meter) as site:

        async def full(**_fields: object) -> None:
            raise QedgeError("audit.unavailable", "The audit log cannot be written.")

        with monkeypatch.context() as patched:
            patched.setattr(site.service.audit, "keep", full)
            for deed in (site.desk.quarantine, site.desk.release):
                with pytest.raises(QedgeError, match="cannot be written"):
                    await deed("meter", "why", "uid:0")
        assert not meter.quarantined
        misbehave(site, "meter")
        assert meter.quarantined  # but a threat is contained


async def test_every_automatic_act_has_its_row(tmp_path: Path) -> None:
    async with serving(tmp_path, device("meter")) as site:
        misbehave(site, "meter")
        rows = await site.rows()
        responses = [(row["action"], row["decision"], row["actor"]) for row in rows if row["kind"] == "response"]
        assert responses == [("cut_off", "done", "node"), ("quarantine", "done", "node")]
        assert next(row["decision"] for row in rows if row["kind"] == "incident") == "opened"


async def test_what_was_open_is_open_again_after_a_restart_and_trust_is_what_it_was(tmp_path: Path) -> None:
    async with serving(tmp_path, device("meter"), device("odd")) as site:
        misbehave(site, "meter")
        misbehave(site, "odd", Evidence.ODD_PAYLOADS, 2)
        await site.settle()
        before = site.service.trust.score("odd", site.clock.now_ns())
    meter, odd = device("meter"), device("odd")
    async with serving(tmp_path, meter, odd, clock=site.clock) as again:
        assert again.incident("meter").id == site.incident("meter").id
        assert meter.quarantined
        assert odd.trust == 30
        assert again.service.trust.score("odd", again.clock.now_ns()) == pytest.approx(before, abs=0.01)
        assert [row.evidence for row in (await again.desk.device_story("odd")).rows] == ["odd_payloads"]
        report = await again.desk.verify_audit()
        assert report.ok


async def test_resolved_incidents_are_kept_up_to_a_bound(tmp_path: Path) -> None:
    async with serving(tmp_path, device("meter"), incidents={"max_kept": 16}) as site:
        for number in range(30):
            misbehave(site, "meter", Evidence.ODD_PAYLOADS, 1)
            site.service.resolve(site.incident("meter").id, f"operator {number}")
            await site.settle()
        kept = (await site.desk.incidents(1000, only_open=False)).incidents
        assert [view.ended_by for view in kept] == [f"operator {number}" for number in range(29, 13, -1)]


async def test_who_asks_for_what_is_not_there_is_told_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        for asking, code in (
            (site.desk.incident("01890000-0000-7000-8000-000000000001"), "incident.not_found"),
            (site.desk.device_story("ghost"), "incident.no_device"),
            (site.desk.release("../x", "", "uid:0"), "incident.no_device"),
        ):
            with pytest.raises(QedgeError) as error:
                await asking
            assert error.value.code == code


async def test_the_running_service_watches_writes_and_stops_in_order(tmp_path: Path) -> None:
    meter = device("meter")
    async with serving(tmp_path, meter, running=True) as site:
        site.service.denied(
            meter, Action.PUBLISH, Resource(ResourceKind.SEGMENT, "heat"), Decision(False, Reason.NO_RULE), 0, 0
        )
        misbehave(site, "meter")
    lines = (tmp_path / "audit" / "acts-000000000001.jsonl").read_text().splitlines()
    assert '"action":"start"' in lines[0]
    assert '"action":"stop"' in lines[-2]
    assert '"kind":"checkpoint"' in lines[-1]
    assert (tmp_path / "audit" / "denials-000000000001.jsonl").read_text().count("no_rule") >= 1
