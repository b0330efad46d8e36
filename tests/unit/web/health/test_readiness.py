from __future__ import annotations

import math

import pytest

from qedge.web.health.ports import Pulse
from qedge.web.health.readiness import readiness


def test_a_node_without_complaints_is_ready() -> None:
    view = readiness((), (Pulse("pump", 0.5, 10.0),))
    assert view.ready
    assert view.ages_s == {"pump": 0.5}


@pytest.mark.parametrize("age_s", [-1.0, 10.1, math.nan, math.inf])
def test_a_pulse_that_is_missing_or_old_makes_the_node_unready(age_s: float) -> None:
    view = readiness((), (Pulse("pump", age_s, 10.0),))
    assert not view.ready
    assert view.reasons[0].startswith("pump")


def test_each_reason_is_told() -> None:
    assert len(readiness(("bus", "store"), (Pulse("pump", -1, 10.0),)).reasons) == 3
