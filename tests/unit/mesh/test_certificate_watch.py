"""Claims about certificates that end and lists that grow old."""

from __future__ import annotations

import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.crypto.config import WhenOld
from qedge.crypto.model import Role
from qedge.crypto.trust import Trust
from qedge.mesh.certificate_watch import CertificateWatch, renewal_due_utc_ns
from tests.integration.fleet_site import DAY_NS, ThrowAwayFleet

START = 1_800_000_000_000_000_000
HOUR_NS = 3_600 * 1_000_000_000


@pytest.fixture(scope="module")
def fleet() -> ThrowAwayFleet:
    return ThrowAwayFleet(utc_ns=START)


def watch(
    fleet: ThrowAwayFleet, trust: Trust, clock: ManualClock, metrics: Metrics, *, alone: bool = False
) -> CertificateWatch:
    member = trust.read(fleet.member("b", days=90)[1])
    return CertificateWatch(member, trust, standalone=alone, clock=clock, metrics=metrics)


def test_renewal_is_due_after_two_thirds_and_each_node_has_its_own_moment(fleet: ThrowAwayFleet) -> None:
    moments = []
    for number in range(12):
        member = fleet.trust().read(fleet.member(f"n{number}", days=90)[1])
        life_ns = member.not_after_utc_ns - member.not_before_utc_ns
        due = renewal_due_utc_ns(member)
        assert renewal_due_utc_ns(member) == due
        moments.append((due - member.not_before_utc_ns) / life_ns)
    assert all(2 / 3 - 1e-9 <= share <= 2 / 3 + 0.1 for share in moments)
    assert len(set(moments)) == len(moments)
    assert max(moments) - min(moments) > 0.02


def test_a_certificate_that_is_due_is_told_and_one_of_a_fleet_of_one_never_is(fleet: ThrowAwayFleet) -> None:
    clock, metrics = ManualClock(utc_ns=START), Metrics()
    watched = watch(fleet, fleet.trust(), clock, metrics)
    watched.look()
    assert metrics.value("qedge_certificate_renewal_due") == 0
    assert metrics.value("qedge_certificate_left_seconds") > 89 * 86_400
    clock.advance_s(80 * 86_400)
    watched.look()
    assert metrics.value("qedge_certificate_renewal_due") == 1
    assert not watch(fleet, fleet.trust(), clock, metrics, alone=True).due
    clock.advance_s(20 * 86_400)
    watched.look()
    assert metrics.value("qedge_certificate_left_seconds") == 0


def listed(fleet: ThrowAwayFleet, utc_ns: int) -> bytes:
    fleet.utc_ns, before = utc_ns, fleet.utc_ns
    try:
        return fleet.revoke()
    finally:
        fleet.utc_ns = before


@pytest.mark.parametrize(
    ("when_old", "peers", "operators"),
    [("tell", True, True), ("refuse-commands", True, False), ("refuse-peers", False, False)],
)
def test_what_an_old_list_leads_to_is_for_the_configuration_to_say(
    fleet: ThrowAwayFleet, when_old: WhenOld, peers: bool, operators: bool
) -> None:
    trust = fleet.trust()
    trust.max_age_ns, trust.when_old = HOUR_NS, when_old
    chain = fleet.member("b")[1]
    gateway = fleet.member("b", role=Role.AUTHORITY)[1]  # stands for any role that is no node's

    def believed(chain: tuple[bytes, ...], role: Role, utc_ns: int) -> bool:
        try:
            trust.verify(chain, utc_ns, role=role)
        except QedgeError as error:
            assert error.code == "auth.list_too_old"
            return False
        return True

    assert believed(chain, Role.NODE, START + 1) is peers, "a list that never came is old"
    assert trust.take_revocations(listed(fleet, START), START)
    assert believed(chain, Role.NODE, START + HOUR_NS)
    assert believed(gateway, Role.AUTHORITY, START + HOUR_NS)
    late = START + 2 * HOUR_NS
    assert believed(chain, Role.NODE, late) is peers
    assert believed(gateway, Role.AUTHORITY, late) is operators
    # a young list is taken while the old one keeps everybody out
    assert trust.take_revocations(listed(fleet, late), late)
    assert believed(chain, Role.NODE, late)


def test_health_says_that_a_list_is_old_where_somebody_is_refused_for_it(fleet: ThrowAwayFleet) -> None:
    trust, clock, metrics = fleet.trust(), ManualClock(utc_ns=START), Metrics()
    watched = watch(fleet, trust, clock, metrics)
    trust.take_revocations(listed(fleet, START), START)
    trust.max_age_ns = HOUR_NS
    clock.advance_s(7200)
    watched.look()
    assert metrics.value("qedge_revocations_old") == 1
    assert metrics.value("qedge_revocations_age_seconds") == 7200
    assert watched.missing() == ()
    trust.when_old = "refuse-peers"
    assert watched.missing() == ("a young list of revoked keys",)
    trust.take_revocations(listed(fleet, clock.utc_ns()), clock.utc_ns())
    watched.look()
    assert watched.missing() == ()
    assert metrics.value("qedge_revocations_old") == 0


def test_without_a_limit_no_list_is_old(fleet: ThrowAwayFleet) -> None:
    trust = fleet.trust()
    assert not trust.list_is_old(START + 1000 * DAY_NS)
