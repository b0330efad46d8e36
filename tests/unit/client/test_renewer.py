"""The program beside the issuing key: what it writes down, and what it does when others change its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.bus.config import BusConfig
from qedge.client.fleet_tool.operator_folder import OperatorFolder
from qedge.client.fleet_tool.renewer import Renewer
from qedge.client.fleet_tool.trail import Act
from qedge.crypto.authority import Authority
from qedge.crypto.authority_files import AuthorityFolder
from qedge.crypto.sealed_file import Cost
from tests.unit.crypto.renewal_site import DAY_NS, Box, RenewalSite

PASSPHRASE = "correct horse battery"
CHEAP = Cost(4, 1, 1)


class Desk:
    """A folder with an authority, a program that has it open, and boxes that ask."""

    def __init__(self, path: Path) -> None:
        self.site = RenewalSite()
        self.boxes = [Box(self.site, name) for name in ("one", "two")]
        self.folder = AuthorityFolder(path)
        seed = self.site.seed
        self.folder.create(self.site.authority.ledger, self.site.root, seed, PASSPHRASE, os.urandom, CHEAP)
        self.clock = ManualClock(utc_ns=self.site.utc_ns + 65 * DAY_NS)
        self.opened = 0
        self.renewer = self.start()

    def start(self) -> Renewer:
        return Renewer(
            self.folder,
            self._open,
            BusConfig(url="mqtt://127.0.0.1:1"),
            clock=self.clock,
            random_bytes=os.urandom,
            uniform=lambda: 0.5,
            tell=lambda _node, _words: None,
        )

    def _open(self) -> Authority:
        self.opened += 1
        return self.folder.open(PASSPHRASE)

    def renew(self, box: Box) -> str:
        """Have a box ask and take what it is given; returns the code of a refusal."""
        self.clock.advance_s(10)
        where, message = box.asks(self.clock.utc_ns())
        answered = self.renewer.answer(message, where)
        if not answered.code:
            box.takes(answered, self.clock.utc_ns())
        return answered.code

    def trail(self) -> list[tuple[Act, str, str]]:
        lines, fault = OperatorFolder(self.folder.path).trail()
        assert fault == ""
        return [(line.entry.act, line.entry.node, line.entry.outcome) for line in lines]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "fleet")


def test_what_is_made_is_in_the_ledger_kept_and_in_the_trail(desk: Desk) -> None:
    one = desk.boxes[0]
    assert desk.renew(one) == ""
    assert [each.node for each in desk.folder.ledger().issued] == ["one", "two", "one"]
    assert desk.folder.kept("one") == one.member.chain
    assert desk.trail() == [(Act.RENEWED, "one", "renewed")]


def test_a_program_that_was_killed_after_it_made_a_certificate_gives_the_same_one(desk: Desk) -> None:
    one = desk.boxes[0]
    where, message = one.asks(desk.clock.utc_ns())
    desk.renewer.answer(message, where)
    desk.renewer = desk.start()
    assert desk.renew(one) == ""
    assert one.member.chain == desk.folder.kept("one")
    assert len(desk.folder.ledger().issued) == 3
    assert [outcome for _, _, outcome in desk.trail()] == ["renewed", "given again"]


def test_a_revocation_by_another_program_counts_at_once_and_is_not_undone(desk: Desk) -> None:
    one, two = desk.boxes
    other = desk.folder.open(PASSPHRASE)
    with desk.folder.turn(other):
        other.revoke("one", "stolen", desk.clock.utc_ns())
    assert desk.renew(one) == "auth.revoked"
    with pytest.raises(QedgeError) as error:
        desk.renew(one)
    assert error.value.code == "auth.revoked"
    assert desk.renew(two) == ""
    revoked = [each.node for each in desk.folder.ledger().issued if each.revoked_utc_ns]
    assert revoked == ["one"]


def test_a_new_issuing_key_is_taken_up_while_the_program_runs(desk: Desk) -> None:
    one, two = desk.boxes
    assert desk.renew(one) == ""
    before = one.member.chain[1]
    desk.folder.reissue(PASSPHRASE, desk.clock.utc_ns(), os.urandom, CHEAP)
    assert desk.renew(two) == ""
    assert desk.opened == 2
    assert two.member.chain[1] != before


def test_a_refusal_is_noted_once_an_hour(desk: Desk) -> None:
    one = desk.boxes[0]
    assert desk.renew(one) == ""
    for _ in range(5):
        assert desk.renew(one) == "fleet.not_due"
    desk.clock.advance_s(3600)
    assert desk.renew(one) == "fleet.not_due"
    assert [act for act, _, _ in desk.trail()] == [Act.RENEWED, Act.RENEWAL_REFUSED, Act.RENEWAL_REFUSED]


def test_what_a_flood_brings_never_gets_to_the_folder(desk: Desk) -> None:
    where, message = desk.boxes[0].asks(desk.clock.utc_ns())
    (desk.folder.path / "ledger.qedge").rename(desk.folder.path / "elsewhere")
    for junk in (b"", b"QE junk", message[:-1] + bytes([message[-1] ^ 1])):
        with pytest.raises(QedgeError) as error:
            desk.renewer.answer(junk, where)
        assert error.value.code in ("bus.bad_message", "auth.bad_signature")
    with pytest.raises(QedgeError) as error:
        desk.renewer.answer(message, where)
    assert error.value.code == "fleet.none"
