"""Telemetry is killed at random instants; what was on the disk arrives, in order, under numbers of its own."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pytest

from tests.integration.test_spool_crash import crash, lines

pytestmark = pytest.mark.integration
PROGRAM = "tests.integration.telemetry_process"


def check(folder: Path) -> None:
    accepted: defaultdict[str, list[int]] = defaultdict(list)
    for kind, number in lines(folder / "accepted"):
        accepted[kind].append(int(number))
    assert set(accepted) == {"reading", "event"}
    got: defaultdict[str, dict[int, int]] = defaultdict(dict)
    old: defaultdict[str, list[int]] = defaultdict(list)
    for kind, sequence, number, historical in lines(folder / "got"):
        # what comes twice is the same under the same number
        assert got[kind].setdefault(int(sequence), int(number)) == int(number)
        if historical == "1" and int(sequence) not in old[kind]:
            old[kind].append(int(sequence))
    for kind, numbers in accepted.items():
        assert sorted(got[kind]) == list(range(1, len(got[kind]) + 1)), "a number was left out"
        assert set(numbers) <= set(got[kind].values()), "an accepted item is lost"
        in_order = [got[kind][sequence] for sequence in sorted(got[kind])]
        assert in_order == sorted(set(in_order)), "items changed places or came under two numbers"
        assert old[kind] == sorted(old[kind]), "what waited came out of order"


def test_nothing_accepted_is_lost_when_the_node_is_killed(tmp_path: Path) -> None:
    crash(tmp_path, 3, random.Random(1), PROGRAM)
    check(tmp_path)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_nothing_accepted_is_lost_over_many_kills(tmp_path: Path) -> None:
    crash(tmp_path, 25, random.Random(), PROGRAM)
    check(tmp_path)
