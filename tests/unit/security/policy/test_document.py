"""Claims about reading policies."""

from __future__ import annotations

import pytest

from qedge.base.errors import QedgeError
from qedge.security.policy.document import MAX_DOCUMENT_BYTES, parse_document, read_document
from qedge.security.policy.model import MAX_RULES
from tests.unit.security.policy.policy_site import HEAD, REPORT, rule

ANY = 'subjects = { kinds = ["device"] }\n'


def faults(text: str) -> list[tuple[int, str, str]]:
    """Return line, key and the whole sentence of every fault."""
    return [(each.line, each.key, str(each)) for each in read_document(text.encode(), "p.toml").faults]


def one(text: str) -> tuple[int, str, str]:
    """Return the only fault."""
    (found,) = faults(text)
    return found


def test_a_policy_without_faults_is_read_as_a_whole() -> None:
    document = parse_document((HEAD + REPORT).encode())
    assert list(document.rules) == ["report"]
    assert document.segments["hall"].channels == ("temp", "power")


@pytest.mark.parametrize(
    ("rest", "key", "words"),
    [
        ("allow = true", "rules.r.allow", "unknown key"),
        ('effect = "allow"', "", "every rule, segment and key once"),
        ('when = { trust = "40" }', "rules.r.when.trust", "a whole number, 1 to 100"),
        ("when = { trust = 0 }", "rules.r.when.trust", "1 to 100"),
        ("when = { trust = 101 }", "rules.r.when.trust", "1 to 100"),
        ("when = { qkd = 1 }", "rules.r.when.qkd", "true or false"),
        ('when = { zone = "UTC" }', "rules.r.when.zone", "says a zone and no time"),
        ('when = { time = [{ from = "6:00" }] }', "rules.r.when.time[0].from", '"HH:MM"'),
        ('when = { time = [{ from = "08:00", until = "08:00" }] }', "rules.r.when.time[0]", "is no time"),
        ('when = { time = [{ days = ["monday"] }] }', "rules.r.when.time[0].days[0]", '"mon"'),
        ('when = { time = [{}], zone = "Mars/Base" }', "rules.r.when.zone", "knows no zone"),
        ('when = { locations = ["a", "a"] }', "rules.r.when.locations[1]", "stands twice"),
        ("unless = { trust = 40 }", "rules.r.unless", "a permit has no unless"),
        ("rate = { per_second = 0 }", "rules.r.rate.per_second", "a number, 0.0001 to 1000000"),
        ("rate = { burst = 3 }", "rules.r.rate.per_second", "missing key"),
        ("rate = { per_second = 1, burst = 2.5 }", "rules.r.rate.burst", "a whole number"),
        ('crossing = "yes"', "rules.r.crossing", "true or false"),
    ],
)
def test_every_fault_of_a_rule_has_line_key_and_what_was_expected(rest: str, key: str, words: str) -> None:
    line, where, told = one(HEAD + rule("r", rest=rest))
    assert line == 10
    assert where == key
    assert words in told
    assert told.startswith("p.toml:10:")


@pytest.mark.parametrize(
    ("changed", "key", "words"),
    [
        ("subjects = { kinds = [] }\n", "rules.r.subjects.kinds", "1 to 4 items"),
        ('subjects = { classes = ["meter"] }\n', "rules.r.subjects.kinds", "missing key"),
        ('subjects = { kinds = ["robot"] }\n', "rules.r.subjects.kinds[0]", '"device"'),
        (
            'subjects = { kinds = ["device"], segments = ["hal"] }\n',
            "rules.r.subjects.segments[0]",
            "'hall', the nearest",
        ),
        ('subjects = { kinds = ["device"], ids = [] }\n', "rules.r.subjects.ids", "1 to 1000 items"),
        ('subjects = { kinds = ["device"], ids = ["a b"] }\n', "rules.r.subjects.ids[0]", "letters, digits"),
        (
            'subjects = { kinds = ["device"], attributes = { floor = 2 } }\n',
            "rules.r.subjects.attributes.floor",
            "text",
        ),
    ],
)
def test_subjects_are_strict(changed: str, key: str, words: str) -> None:
    text = HEAD + rule("r").replace('subjects = { kinds = ["device"], classes = ["meter"] }\n', changed)
    _, where, told = one(text)
    assert where == key
    assert words in told


@pytest.mark.parametrize(
    ("actions", "resources", "key", "words"),
    [
        ('["publish"]', '{ segments = ["attic"], channels = ["*"] }', "resources.segments[0]", "no segment is called"),
        ('["publish"]', '{ segments = ["hall"], channels = ["tmp"] }', "resources.channels[0]", "'temp', the nearest"),
        ('["publish"]', '{ segments = ["hall"] }', "resources", "names nothing"),
        ('["publish"]', '{ channels = ["temp"] }', "resources.channels", "channels of no segment"),
        ('["command"]', '{ commands = ["open"] }', "resources.commands", "commands of no device"),
        ('["command"]', '{ devices = ["d"], apps = ["a"] }', "resources.devices", "devices and nothing of them"),
        ('["publish"]', '{ segments = ["*", "hall"], channels = ["*"] }', "resources.segments", "beside names"),
        ('["connect"]', '{ segments = ["hall"], channels = ["*"] }', "actions[0]", "node there"),
        ('["connect", "publish"]', "{ node = true }", "actions[1]", "channels or apps there"),
        ('["publish"]', '{ node = true, apps = ["a"] }', "resources.node", "none of the actions"),
        ('["publish", "publish"]', '{ apps = ["a"] }', "actions[1]", "stands twice"),
        ("[]", '{ apps = ["a"] }', "actions", "1 to 4 items"),
        ('["publish"]', "{}", "resources", "names nothing"),
    ],
)
def test_actions_and_resources_have_to_fit(actions: str, resources: str, key: str, words: str) -> None:
    text = HEAD + f'[rules.r]\neffect = "permit"\n{ANY}actions = {actions}\nresources = {resources}\n'
    found = faults(text)
    assert f"rules.r.{key}" in [where for _, where, _ in found]
    assert any(words in told for _, _, told in found)


@pytest.mark.parametrize(("rest", "key"), [("crossing = true", "crossing"), ("rate = { per_second = 1 }", "rate")])
def test_a_forbid_has_neither_rate_nor_crossing(rest: str, key: str) -> None:
    assert one(HEAD + rule("r", "forbid", rest))[1] == f"rules.r.{key}"


def test_a_channel_of_a_segment_that_names_none_is_any() -> None:
    assert faults(HEAD + rule("r").replace('["hall"], channels = ["*"]', '["doors"], channels = ["whatever"]')) == []


def test_two_rules_of_one_name_are_a_fault_with_its_place() -> None:
    line, _, told = one(HEAD + rule("r") + rule("r"))
    assert line == 11
    assert "under a name of its own" in told


def test_the_version_is_said_and_known() -> None:
    assert one("")[1] == "version"
    assert one("version = 2")[1] == "version"


def test_all_faults_come_at_once_in_the_order_of_the_text() -> None:
    found = faults(HEAD + rule("a", rest="when = { trust = 0 }") + rule("b", rest="rate = { per_second = 0 }"))
    assert [line for line, _, _ in found] == [10, 16]


def test_what_is_no_toml_has_a_line_and_a_column() -> None:
    (fault,) = read_document(b"version = 1\n[rules.", "p.toml").faults
    assert (fault.line, fault.column) == (2, 8)


def test_a_policy_that_is_too_large_is_not_parsed() -> None:
    (fault,) = read_document(b"#" * (MAX_DOCUMENT_BYTES + 1), "p.toml").faults
    assert "too large" in fault.problem


def test_bytes_that_are_no_text_have_the_line_of_the_first() -> None:
    (fault,) = read_document(b"version = 1\n\xff", "p.toml").faults
    assert (fault.problem, fault.line) == ("is not UTF-8", 2)


def test_more_rules_than_the_limit_are_a_fault() -> None:
    short = "[rules.r{}]\neffect='permit'\nactions=['connect']\nsubjects.kinds=['device']\nresources.node=true\n"
    text = "version = 1\n" + "".join(short.format(number) for number in range(MAX_RULES + 1))
    (fault,) = read_document(text.encode(), "p.toml").faults
    assert fault.key == "rules"
    assert f"at most {MAX_RULES}" in fault.expected


def test_of_a_hostile_file_the_first_thousand_faults_are_told() -> None:
    many = ", ".join(f'"s{number}"' for number in range(990))
    known = "".join(f"[segments.t{number}]\n" for number in range(60))
    rules = "".join(rule(f"r{number}").replace('segments = ["hall"]', f"segments = [{many}]") for number in range(22))
    text = (HEAD + known + rules).encode()
    assert len(text) <= MAX_DOCUMENT_BYTES
    assert len(read_document(text, "p.toml").faults) == 1000


def test_the_error_names_the_first_fault_and_how_many_more() -> None:
    with pytest.raises(QedgeError, match=r"p\.toml:10: rules\.a\.when\.trust: .* \(and 1 more\)") as error:
        parse_document((HEAD + rule("a", rest="when = { trust = 0, qkd = 2 }")).encode(), "p.toml")
    assert error.value.code == "policy.invalid"
    assert error.value.details["line"] == 10
