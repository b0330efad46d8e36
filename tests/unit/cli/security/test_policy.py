"""`qedge policy` as a person uses it."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import sys
import time
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.cli.security import policy as command
from qedge.security.policy.table import PolicyTable
from qedge.wire.policy import PolicyView, RecordedRequest, RecordedRequests
from tests.integration.fleet_site import DAY_NS
from tests.integration.web_site import serving
from tests.unit.security.policy.policy_site import HEAD, REPORT, policy, rule
from tests.unit.security.policy.test_policy_service import signed
from tests.unit.security.policy.test_replay import line, meter

EXPECT = """policy = "policy.toml"
[subjects.m]
class = "meter"
segment = "hall"
[[expect]]
subject = "m"
action = "publish"
resource = "segment:hall/temp"
reason = "allowed"
[[expect]]
subject = "m"
action = "publish"
resource = "segment:doors/x"
reason = "segment"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(HEAD + REPORT)
    return path


def parse(*words: str, socket: str = "") -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(words)
    args.socket = socket
    return args


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Run a command; returns what it printed."""
    capsys.readouterr()
    assert command.run(parse(*words)) == code
    return capsys.readouterr().out


def test_check_says_what_it_read(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "check", str(file)) == f"ok ({file}: 1 rule, 2 segments)\n"
    assert json.loads(told(capsys, "check", str(file), "--json")) == {"ok": True, "files": [str(file)], "faults": []}


def test_check_lists_every_fault_and_ends_with_78(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(HEAD + REPORT + 'allow = "true"\nwhen = { trust = 200 }\n')
    lines = told(capsys, "check", str(file), code=78).splitlines()
    assert [each.split(": ")[0] for each in lines[:2]] == [f"{file}:10", f"{file}:11"]
    assert lines[2] == "2 faults"
    faults = json.loads(told(capsys, "check", str(file), "--json", code=78))["faults"]
    assert [each["key"] for each in faults] == ["rules.report.allow", "rules.report.when.trust"]


def test_a_file_that_is_not_there_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    with pytest.raises(QedgeError) as error:
        command.run(parse("check", str(tmp_path / "none.toml")))
    assert error.value.code == "client.file"
    assert error.value.fix


def test_explain_names_the_decision_and_what_each_near_rule_lacks(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict, forbid = rule("strict", rest="when = { trust = 70 }"), rule("no", "forbid", "when.qkd = true")
    file.write_text(HEAD + REPORT + strict + forbid)
    asked = ["explain", str(file), "--subject", "m1", "--class", "meter", "--action", "publish"]
    out = told(capsys, *asked, "--segment", "hall", "--resource", "segment:hall/temp")
    assert out.startswith("allowed by rule report\n")
    assert "trust is 50, wanted at least 70" in out
    assert "not QKD-backed" in out
    out = told(capsys, *asked, "--segment", "doors", "--resource", "segment:hall/temp")
    assert out.startswith("denied (segment) by rule report")
    out = told(capsys, *asked, "--segment", "hall", "--resource", "segment:hall/temp", "--qkd")
    assert out.startswith("denied (forbidden) by rule no")
    out = told(capsys, *asked, "--resource", "node")
    assert out.splitlines() == ["denied (no_rule)", "3 other rules are about other subjects, actions or resources"]
    answer = json.loads(told(capsys, *asked, "--segment", "hall", "--resource", "segment:hall/temp", "--json"))
    assert answer["decision"] == {"allowed": True, "reason": "allowed", "rule": "report"}
    assert len(answer["findings"]) == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--resource", "hall"), "no resource"),
        (("--resource", "node", "--trust", "101"), "no such subject"),
        (("--resource", "node", "--attribute", "floor"), "no such subject"),
        (("--resource", "node", "--at", "noon"), "no moment"),
    ],
)
def test_explain_says_what_is_wrong_with_a_question(file: Path, words: tuple[str, ...], says: str) -> None:
    with pytest.raises(QedgeError, match=says) as error:
        command.run(parse("explain", str(file), "--subject", "m", "--action", "connect", *words))
    assert error.value.fix
    assert int(error.value.spec.exit_code) == 64


def test_expectations_are_compared_and_the_first_that_fails_is_named_by_its_line(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expectations = file.with_name("expect.toml")
    expectations.write_text(EXPECT)
    assert told(capsys, "test", str(expectations)) == "2 of 2 expectations met\n"
    other = file.with_name("other.toml")
    other.write_text(HEAD + REPORT + "crossing = true\n")
    out = told(capsys, "test", str(expectations), "--policy", str(other), code=1)
    assert out.splitlines() == [
        f"{expectations}:10: m publish segment:doors/x: is allowed by report; expected segment",
        "1 of 2 expectations met",
    ]
    answer = json.loads(told(capsys, "test", str(expectations), "--policy", str(other), "--json", code=1))
    assert [each["met"] for each in answer["outcomes"]] == [True, False]


def test_simulate_shows_what_would_change(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = file.with_name("log.jsonl")
    table = PolicyTable(policy(REPORT))
    log.write_bytes(b"\n".join(line(table, meter(trust=trust)) for trust in (10, 20, 90)))
    assert "3 requests, 0 decided otherwise" in told(capsys, "simulate", str(file), "--log", str(log), "--exit-code")
    file.write_text(HEAD + rule("strict", rest="when = { trust = 50 }"))
    out = told(capsys, "simulate", str(file), "--log", str(log))
    assert out.splitlines() == [
        "2 requests: allowed by report, would be trust by strict",
        "  for instance m1 publish segment:hall/temp",
        "3 requests, 2 decided otherwise: 2 newly denied, 0 newly allowed",
    ]
    told(capsys, "simulate", str(file), "--log", str(log), "--exit-code", code=1)
    answer = json.loads(told(capsys, "simulate", str(file), "--log", str(log), "--json"))
    assert (answer["newly_denied"], answer["changes"][0]["count"]) == (2, 2)


def test_simulate_reads_its_input_too(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.TextIOWrapper(io.BytesIO(line(PolicyTable(policy(REPORT)), meter())))
    monkeypatch.setattr(sys, "stdin", log)
    assert "1 request, 0 decided" in told(capsys, "simulate", str(file), "--log", "-")


async def test_the_node_is_asked_for_its_policy_and_told_of_new_ones(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path, enabled=False) as site:

        async def run(*words: str) -> str:
            capsys.readouterr()
            assert await asyncio.to_thread(command.run, parse(*words, socket=site.service.socket)) == 0
            return capsys.readouterr().out

        assert "everything is denied" in await run("show")
        site.node.policy.file = file
        assert json.loads(await run("reload", "--json"))["rules"] == 1
        file.write_text("version = 2")
        with pytest.raises(QedgeError) as error:
            await run("reload")
        assert error.value.code == "policy.invalid"
        bundle = tmp_path / "policy.signed"
        bundle.write_bytes(signed(4))
        assert "policy of the fleet, serial 4: 1 rule," in await run("take", str(bundle))
        with pytest.raises(QedgeError) as error:
            await run("take", str(bundle))
        assert error.value.code == "policy.old"
        asked = line(PolicyTable(policy(REPORT)), meter())
        site.node.policy.recorded = RecordedRequests((msgspec.json.decode(asked, type=RecordedRequest),) * 3)
        assert (await run("record", "--count", "2", "--seconds", "1")).encode().splitlines() == [asked, asked]


def test_a_view_tells_when_the_policy_ends_and_what_was_refused() -> None:
    soon = time.time_ns() + 5 * DAY_NS + DAY_NS // 2
    view = PolicyView("fleet", 3, 2, "ab" * 32, 7, soon, 0, "/etc/p.toml", "p.toml:3: it is no policy")
    assert command.view_lines(view) == [
        "policy of the fleet, serial 7: 3 rules, 2 segments, sha256 abababababababab",
        "it expires in 5 days",
        "/etc/p.toml is not used while the fleet has a policy",
        "not taken: p.toml:3: it is no policy",
    ]
    assert "has expired" in command.view_lines(PolicyView("none", 0, 0, expires_utc_ns=1))[1]


@pytest.mark.parametrize("words", [("--count", "0"), ("--count", "2001"), ("--seconds", "21")])
def test_no_more_is_recorded_than_a_node_gives(words: tuple[str, str]) -> None:
    with pytest.raises(QedgeError) as error:
        command.run(parse("record", *words))
    assert error.value.code == "client.usage"
