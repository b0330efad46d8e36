"""What the authority's unattended side gives, what it refuses, and what a node believes of its answers."""

from __future__ import annotations

import os

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.crypto.authority import Authority, found, renew_issuing
from qedge.crypto.keys import generate
from qedge.crypto.operators import enrol_operator
from qedge.crypto.renewing import read_verdict
from qedge.crypto.trust import SignedRevocations
from qedge.wire.commands import OperatorRole
from qedge.wire.renewal import RenewalAnswer
from qedge.wire.topics import Channel, topic
from tests.unit.crypto.renewal_site import DAY_NS, Box, RenewalSite, crafted


@pytest.fixture
def site() -> RenewalSite:
    return RenewalSite()


@pytest.fixture
def box(site: RenewalSite) -> Box:
    """A box whose certificate is due."""
    box = site.box()
    site.later(65)
    return box


def refused(site: RenewalSite, message: tuple[str, bytes]) -> str:
    """Return the code with which a request is refused or ignored."""
    try:
        answered = site.answer(*message)
    except QedgeError as error:
        return f"ignored {error.code}"
    return answered.code


def test_a_node_that_is_due_gets_the_next_certificate_of_its_key(site: RenewalSite, box: Box) -> None:
    before = box.member
    after = box.renews()
    assert (after.key_id, after.subject) == (before.key_id, before.subject)
    assert after.not_after_utc_ns == site.utc_ns + 90 * DAY_NS
    assert len(site.authority.ledger.issued) == 2


def test_an_answer_that_was_lost_is_given_again_and_nothing_new_is_made(site: RenewalSite, box: Box) -> None:
    first = site.answer(*box.asks())
    site.later(1)
    second = site.answer(*box.asks())
    assert (first.anew, second.anew) == (True, False)
    assert len(site.authority.ledger.issued) == 2
    assert box.takes(second).chain == site.shelf.chains["box"]


def test_a_node_gets_one_certificate_in_a_period_also_where_the_last_one_is_lost(site: RenewalSite, box: Box) -> None:
    site.answer(*box.asks())
    site.shelf.chains.clear()
    site.later(1)
    assert refused(site, box.asks()) == "fleet.not_due"
    site.later(9)
    box.renews()
    assert len(site.authority.ledger.issued) == 3


def test_a_node_that_is_not_due_gets_nothing(site: RenewalSite) -> None:
    young = site.box("young")
    site.later(30)
    assert refused(site, young.asks()) == "fleet.not_due"


def test_a_certificate_never_lasts_longer_than_the_fleets(site: RenewalSite, box: Box) -> None:
    short = RenewalSite(node_days=7)
    node = short.box()
    short.later(5)
    assert node.renews().not_after_utc_ns == short.utc_ns + 7 * DAY_NS


def test_a_revoked_node_gets_nothing(site: RenewalSite, box: Box) -> None:
    site.authority.revoke("box", "stolen", site.utc_ns)
    assert refused(site, box.asks()) == "ignored auth.revoked"
    assert site.shelf.chains == {}


def test_a_node_whose_name_went_to_another_box_gets_nothing(site: RenewalSite, box: Box) -> None:
    ledger = site.authority.ledger
    other = msgspec.structs.replace(ledger.issued[-1], key_id=generate("ml-dsa-65", os.urandom).key_id)
    site.authority.ledger = msgspec.structs.replace(ledger, issued=(*ledger.issued, other))
    assert refused(site, box.asks()) == "auth.revoked"


def test_a_node_that_the_ledger_does_not_know_gets_nothing(site: RenewalSite, box: Box) -> None:
    site.authority.ledger = msgspec.structs.replace(site.authority.ledger, issued=())
    assert refused(site, box.asks()) == "fleet.no_member"


def test_a_certificate_that_has_ended_opens_nothing(site: RenewalSite, box: Box) -> None:
    site.later(30)
    assert refused(site, box.asks()) == "ignored auth.untrusted"


def test_a_node_cannot_ask_for_another_ones_name(site: RenewalSite, box: Box) -> None:
    site.box("victim")
    assert refused(site, crafted(box, named="victim")) == "auth.bad_request"
    victims = topic("fleet", "victim", Channel.RENEWAL)
    assert refused(site, crafted(box, where=victims)) == "ignored bus.bad_message"
    _, message = box.asks()
    assert refused(site, (victims, message)) == "ignored bus.bad_message"


def test_a_node_cannot_have_another_key_certified(site: RenewalSite, box: Box) -> None:
    assert refused(site, crafted(box, asking=generate("ml-dsa-65", os.urandom))) == "auth.bad_request"


def test_a_request_counts_once_and_not_for_long(site: RenewalSite, box: Box) -> None:
    message = box.asks()
    assert refused(site, message) == ""
    assert refused(site, message) == "ignored bus.bad_message"
    late = box.asks()
    site.later(0.1)
    assert refused(site, late) == "ignored bus.bad_message"
    assert refused(site, crafted(box, lasts_ns=30 * DAY_NS)) == "ignored bus.bad_message"


def test_a_request_without_the_nodes_signature_is_ignored(site: RenewalSite, box: Box) -> None:
    where, message = box.asks()
    assert refused(site, (where, message[:-1] + bytes([message[-1] ^ 1]))) == "ignored auth.bad_signature"
    assert refused(site, (where, b"QE junk")) == "ignored bus.bad_message"


def test_an_operator_is_no_node(site: RenewalSite, box: Box) -> None:
    roles = [OperatorRole.SECURITY]
    box.key, chain = enrol_operator(site.authority, "box", roles, utc_ns=site.utc_ns, random_bytes=os.urandom)
    box.member = box.trust.read(chain)
    assert refused(site, box.asks()) == "ignored auth.untrusted"


def test_a_forged_answer_is_not_believed(site: RenewalSite, box: Box) -> None:
    honest = site.answer(*box.asks()).answer
    ledger, _, seed = found("fleet", level=3, utc_ns=site.utc_ns, random_bytes=os.urandom)
    stranger = Authority(ledger, seed)
    forgeries = (
        stranger.sign_renewal(honest.body),
        RenewalAnswer(honest.body, honest.signature, ledger.issuing),
        RenewalAnswer(honest.body[:-1] + b"x", honest.signature, honest.issuer),
        RenewalAnswer(b"junk", honest.signature, honest.issuer),
    )
    for forged in forgeries:
        with pytest.raises(QedgeError) as error:
            read_verdict(forged, box.member, box.nonce, box.trust)
        assert error.value.code in ("auth.untrusted", "auth.bad_signature")


def test_a_list_of_revoked_keys_is_no_verdict(site: RenewalSite, box: Box) -> None:
    box.asks()
    site.authority.revoke("box", "", site.utc_ns)
    signed = msgspec.msgpack.decode(site.authority.revocations(site.utc_ns), type=SignedRevocations)
    with pytest.raises(QedgeError) as error:
        read_verdict(RenewalAnswer(signed.body, signed.signature, signed.issuer), box.member, box.nonce, box.trust)
    assert error.value.code == "auth.bad_signature"


def test_an_answer_to_another_node_or_to_an_earlier_request_is_not_taken(site: RenewalSite) -> None:
    one, other = site.box("one"), site.box("other")
    site.later(65)
    to_one = site.answer(*one.asks())
    other.nonce = one.nonce
    with pytest.raises(QedgeError, match="another request"):
        other.takes(to_one)
    one.asks()
    with pytest.raises(QedgeError, match="another request"):
        one.takes(to_one)


def test_a_refusal_reaches_the_node_with_its_reason(site: RenewalSite) -> None:
    young = site.box("young")
    site.later(10)
    answered = site.answer(*young.asks())
    with pytest.raises(QedgeError) as error:
        young.takes(answered)
    assert error.value.code == "fleet.not_due"


def test_a_clock_of_the_authority_that_was_ahead_costs_nothing_but_a_retry(site: RenewalSite, box: Box) -> None:
    real = site.utc_ns
    site.later(20)
    early = site.answer(*box.asks(utc_ns=site.utc_ns))
    before = box.member
    with pytest.raises(QedgeError, match="not valid yet"):
        box.takes(early, utc_ns=real)
    assert box.member is before
    site.utc_ns = real + 60 * 10**9
    assert box.renews().not_after_utc_ns == site.utc_ns + 90 * DAY_NS


def test_a_node_whose_clock_is_ahead_is_told_so_and_one_that_is_behind_gets_nothing(
    site: RenewalSite, box: Box
) -> None:
    assert refused(site, box.asks(utc_ns=site.utc_ns + DAY_NS)) == "fleet.renewal_refused"
    assert refused(site, box.asks(utc_ns=site.utc_ns - DAY_NS)) == "ignored bus.bad_message"
    site.later(0.001)
    box.renews()


def test_a_node_that_floods_the_authority_is_answered_now_and_then(site: RenewalSite, box: Box) -> None:
    outcomes = []
    for _ in range(20):
        outcomes.append(refused(site, box.asks()))
        site.utc_ns += 10**9
    assert outcomes.count("") == 4
    assert outcomes.count("ignored bus.bad_message") == 16


def test_where_the_issuing_key_ends_the_authority_says_so_and_a_new_one_goes_on(site: RenewalSite) -> None:
    box = site.box()
    while True:
        member = box.member
        site.utc_ns = member.not_before_utc_ns + (member.not_after_utc_ns - member.not_before_utc_ns) * 7 // 10
        answered = site.answer(*box.asks())
        if answered.code:
            break
        box.takes(answered)
    assert answered.code == "fleet.issuing_ends"
    entries = len(site.authority.ledger.issued)
    ledger, seed = renew_issuing(site.authority.ledger, site.root, utc_ns=site.utc_ns, random_bytes=os.urandom)
    site.desk.authority = site.authority = Authority(ledger, seed)
    site.later(0.001)
    assert box.renews().not_after_utc_ns // 10**9 == (site.utc_ns + 90 * DAY_NS) // 10**9
    assert len(site.authority.ledger.issued) == entries + 1
