"""Properties of `qedge.wire.topics`: the map has an inverse, and matching agrees with a second way to say it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from qedge.wire.topics import Channel, matches, parse_topic, topic

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,36}", fullmatch=True)
LEVELS = st.lists(st.sampled_from(["", "a", "b", "$SYS", "+x"]), min_size=1, max_size=5)


@given(NAMES, NAMES, st.sampled_from(Channel))
def test_parsing_undoes_writing(fleet: str, node: str, channel: Channel) -> None:
    name = topic(fleet, node, channel)
    assert parse_topic(name) == (fleet, node, channel)
    assert len(name.encode()) <= 200


@given(st.text(max_size=100) | st.builds("qedge/v1/{}/{}/{}".format, st.text(), st.text(), st.sampled_from(Channel)))
def test_only_what_the_map_writes_is_parsed(text: str) -> None:
    parsed = parse_topic(text)
    assert parsed is None or topic(*parsed) == text


@given(st.lists(st.sampled_from(["", "a", "b", "+"]), min_size=1, max_size=4), st.booleans(), LEVELS)
def test_matching_agrees_with_a_regular_expression(wanted: list[str], tail: bool, levels: list[str]) -> None:
    pattern, text = "/".join([*wanted, "#"] if tail else wanted), "/".join(levels)
    expression = "/".join("[^/]*" if level == "+" else re.escape(level) for level in wanted)
    expected = re.fullmatch(expression + ("(/.*)?" if tail else ""), text) is not None
    if text.startswith("$") and wanted[0] == "+":
        expected = False
    assert matches(pattern, text) is expected
