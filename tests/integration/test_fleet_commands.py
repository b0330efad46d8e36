"""The commands of fleets against a real server: founding, inviting, joining, enrolling by files, renewing, revoking."""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.cli.fleet import enrol, fleet, join
from qedge.cli.peers import peers
from qedge.crypto.authority_files import AuthorityFolder
from qedge.crypto.certificates import make_request as make_signing_request
from qedge.crypto.joining import Invitation, check_answer, make_request, read_invitation, write_invitation
from qedge.crypto.keys import generate
from qedge.crypto.model import Role, Subject
from qedge.crypto.sealed_file import Cost
from qedge.crypto.trust import Trust
from qedge.security.policy.bundle import check_bundle, read_bundle
from qedge.wire.trust import (
    BrokerAddress,
    JoinAnswer,
    JoinCommand,
    Membership,
    PendingJoin,
    SigningRequest,
)
from tests.integration.test_commands import invoke
from tests.integration.web_site import Site, serving

pytestmark = pytest.mark.integration

PASSPHRASE = "correct horse battery staple"


class Operator:
    """Somebody with an authority in a folder, and where commands find it."""

    def __init__(self, tmp_path: Path) -> None:
        from qedge.crypto.authority import found

        self.socket = tmp_path / "qedge.sock"
        self.passphrase = tmp_path / "passphrase"
        self.passphrase.write_text(PASSPHRASE + "\n")
        self.folder = AuthorityFolder(tmp_path / "home")
        ledger, root, seed = found("home", level=3, utc_ns=time.time_ns(), random_bytes=os.urandom)
        self.folder.create(ledger, root, seed, PASSPHRASE, os.urandom, Cost(10))

    @property
    def at(self) -> tuple[str, ...]:
        return ("--folder", str(self.folder.path), "--passphrase-file", str(self.passphrase))

    def member(self, node: str) -> None:
        """Certify a node, as if it had enrolled."""
        authority = self.folder.open(PASSPHRASE)
        authority.certify(request_of(node), utc_ns=time.time_ns(), random_bytes=os.urandom)
        self.folder.save(authority.ledger)

    def names(self) -> list[str]:
        return [each.node for each in self.folder.ledger().issued]


def request_of(node: str, home: str = "home") -> SigningRequest:
    return SigningRequest(home, node, pkcs10(node, home))


def pkcs10(node: str, home: str = "home") -> bytes:
    return make_signing_request(Subject(home, Role.NODE, node), generate("ml-dsa-65", os.urandom))


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


async def printed(capsys: pytest.CaptureFixture[str], start: str) -> str:
    """Wait for a line on standard output."""
    seen = ""
    async with asyncio.timeout(20):
        while True:
            seen += capsys.readouterr().out
            for line in seen.splitlines():
                if line.startswith(start):
                    return line
            await asyncio.sleep(0.02)


async def answered(site: Site, request_id: str) -> JoinAnswer:
    """Wait for the answer to a box."""
    async with asyncio.timeout(20):
        while True:
            for told in site.node.fleet.told:
                if isinstance(told, tuple) and told[0] == request_id:
                    return told[1]
            await asyncio.sleep(0.02)


async def test_a_fleet_is_founded_once_with_both_signatures(
    tmp_path: Path, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    at = ("--folder", str(folder), "--passphrase-file", str(operator.passphrase))
    assert await invoke(operator.socket, fleet, "init", "--fleet", "city", "--json", *at) == 0
    told = json.loads(capsys.readouterr().out)
    ledger = AuthorityFolder(folder).ledger()
    assert (told["fleet"], told["level"], len(told["pin"])) == ("city", 3, 64)
    assert ledger.anchor.second_algorithm == "slh-dsa-sha2-128s"
    assert len(ledger.anchor.second_signature) == 7856
    assert PASSPHRASE.encode() not in b"".join(path.read_bytes() for path in folder.iterdir())
    with pytest.raises(QedgeError) as again:
        await invoke(operator.socket, fleet, "init", *at)
    assert again.value.code == "fleet.exists"


async def test_a_passphrase_is_never_asked_for_without_a_terminal(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(QedgeError) as refused:
        await invoke(operator.socket, fleet, "revoke", "box-7", "--folder", str(operator.folder.path))
    assert refused.value.code == "client.usage"
    assert "--passphrase-file" in (refused.value.fix or "")


async def test_an_invitation_is_refused_before_the_passphrase_where_nobody_could_come(
    tmp_path: Path, operator: Operator
) -> None:
    async with serving(tmp_path) as site:
        site.node.fleet.reachable = False
        with pytest.raises(QedgeError) as refused:
            await invoke(operator.socket, fleet, "invite", "--folder", "/nowhere")
        assert refused.value.code == "fleet.loopback_broker"
        assert refused.value.fix


async def test_inviting_makes_the_box_a_member_and_certifies_who_proves_the_invitation(
    tmp_path: Path, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as site:
        desk = site.node.fleet
        desk.requests["box-1"] = pkcs10("box-1")
        running = asyncio.create_task(invoke(operator.socket, fleet, "invite", *operator.at))
        invitation = read_invitation(await printed(capsys, "qedge1:"))
        assert desk.view.fleet == "home"
        assert (invitation.inviter, invitation.broker.url) == ("box-1", "mqtt://192.0.2.1:1883")
        stranger = msgspec.structs.replace(invitation, secret=bytes(16))
        request = make_request(invitation, request_of("box-2"), os.urandom)
        desk.waiting = [
            PendingJoin("1", make_request(stranger, request_of("evil"), os.urandom)),
            PendingJoin("2", request),
        ]
        membership = check_answer(invitation, request, await answered(site, "2"))
        assert await running == 0
        assert membership.broker == invitation.broker
        assert operator.names() == ["box-1", "box-2"]
        assert not any(isinstance(told, tuple) and told[0] == "1" for told in desk.told)
    told = capsys.readouterr()
    assert "box-2 has joined" in told.err
    assert "evil" in told.err


async def test_a_box_whose_answer_was_lost_gets_the_same_again_and_another_box_nothing(
    tmp_path: Path, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as site:
        desk = site.node.fleet
        desk.requests["box-1"] = pkcs10("box-1")
        argv = ("invite", "--count", "2", "--minutes", "0.05", *operator.at)
        running = asyncio.create_task(invoke(operator.socket, fleet, *argv))
        invitation = read_invitation(await printed(capsys, "qedge1:"))
        request = make_request(invitation, request_of("box-2"), os.urandom)
        second = make_request(invitation, request_of("box-3"), os.urandom)
        desk.waiting = [PendingJoin("1", request), PendingJoin("2", request), PendingJoin("3", second)]
        first, again, refused = [await answered(site, number) for number in ("1", "2", "3")]
        assert await running == 1
    assert "1 of the invitations expired unused" in capsys.readouterr().err
    assert check_answer(invitation, request, first) == check_answer(invitation, request, again)
    with pytest.raises(QedgeError) as used:
        check_answer(invitation, second, refused)
    assert used.value.code == "fleet.expired"
    assert operator.names() == ["box-1", "box-2"]


async def test_a_member_of_another_fleet_does_not_invite(tmp_path: Path, operator: Operator) -> None:
    async with serving(tmp_path) as site:
        site.node.fleet.view = msgspec.structs.replace(site.node.fleet.view, fleet="else", standalone=False)
        for action in ("invite", "renew"):
            with pytest.raises(QedgeError) as refused:
                await invoke(operator.socket, fleet, action, *operator.at)
            assert refused.value.code == "fleet.not_member"


async def test_members_are_listed_and_revoked_and_the_node_gets_the_list(
    tmp_path: Path, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    operator.member("box-2")
    async with serving(tmp_path) as site:
        assert await invoke(operator.socket, fleet, "list", *operator.at) == 0
        assert "90 days left" in capsys.readouterr().out
        assert await invoke(operator.socket, fleet, "revoke", "box-2", "--reason", "stolen", *operator.at) == 0
        assert "list 1" in capsys.readouterr().out
        (signed,) = [told for told in site.node.fleet.told if isinstance(told, bytes)]
        trust = Trust(operator.folder.ledger().anchor, "home")
        assert trust.take_revocations(signed, time.time_ns())
        assert trust.is_revoked(operator.folder.ledger().issued[0].key_id)
        assert await invoke(operator.socket, fleet, "list", *operator.at) == 0
        assert "revoked stolen" in capsys.readouterr().out
        with pytest.raises(QedgeError) as nobody:
            await invoke(operator.socket, fleet, "revoke", "box-3", *operator.at)
        assert nobody.value.code == "fleet.no_member"


async def test_a_revocation_is_kept_where_no_node_runs(operator: Operator, capsys: pytest.CaptureFixture[str]) -> None:
    operator.member("box-2")
    with pytest.raises(QedgeError) as absent:
        await invoke(operator.socket, fleet, "revoke", "box-2", *operator.at)
    assert absent.value.code == "client.no_daemon"
    assert "safe to repeat" in capsys.readouterr().err
    assert operator.folder.ledger().revocation_serial == 1


async def test_members_are_renewed_the_own_node_last_and_the_absent_named(
    tmp_path: Path, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as site:
        desk = site.node.fleet
        desk.view = msgspec.structs.replace(desk.view, fleet="home", standalone=False)
        desk.requests = {"box-1": pkcs10("box-1"), "box-2": pkcs10("box-2")}
        assert await invoke(operator.socket, fleet, "renew", "--json", *operator.at) == 1
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert told == {"renewed": ["box-2", "box-1"], "failed": {"box-9": "it did not answer"}}
        assert [each[0] for each in desk.told if isinstance(each, tuple)] == ["box-2", "box-1"]


async def test_the_list_of_revoked_keys_is_signed_anew_before_it_grows_old(
    tmp_path: Path, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as site:
        for serial in (1, 2):
            assert await invoke(operator.socket, fleet, "relist", "--json", *operator.at) == 0
            assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"serial": serial}
        trust = Trust(operator.folder.ledger().anchor, "home")
        for told in site.node.fleet.told:
            assert isinstance(told, bytes)
            assert trust.take_revocations(told, time.time_ns())


async def test_joining_reads_the_line_from_standard_input_and_tells_whom_the_box_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = an_invitation()
    monkeypatch.setattr("sys.stdin", io.StringIO(line + "\n"))
    async with serving(tmp_path) as site:
        assert await invoke(tmp_path / "qedge.sock", join, "--name", "box-5") == 0
        assert site.node.fleet.told == [JoinCommand(line, "box-5")]
        told = capsys.readouterr()
        assert "member of fleet fleet; it sees box-2." in told.out
        assert line not in told.out + told.err
        with pytest.raises(QedgeError) as twice:
            await invoke(tmp_path / "qedge.sock", join, line)
        assert twice.value.code == "fleet.exists"


async def test_a_line_that_is_no_invitation_is_not_quoted(tmp_path: Path) -> None:
    for line in (an_invitation()[:-9], "hunter2", "qedge1:AAAA", "qedge1:" + "A" * 5000):
        with pytest.raises(QedgeError) as refused:
            await invoke(tmp_path / "qedge.sock", join, line)
        assert refused.value.code == "fleet.bad_invitation"
        assert line not in f"{refused.value} {refused.value.fix}"


async def test_a_box_is_enrolled_by_files(
    tmp_path: Path, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, given = str(tmp_path / "request.json"), str(tmp_path / "membership.json")
    async with serving(tmp_path) as site:
        site.node.fleet.requests["box-1"] = pkcs10("box-1")
        assert await invoke(operator.socket, enrol, "enrol", "request", "--fleet", "home", "-o", asked) == 0
        broker = ("--broker", "mqtt://192.0.2.3:1883")
        assert await invoke(operator.socket, enrol, "enrol", "accept", asked, "-o", given, *broker, *operator.at) == 0
        assert await invoke(operator.socket, enrol, "enrol", "install", given) == 0
        membership = site.node.fleet.told[-1]
        assert isinstance(membership, Membership)
        assert membership.broker == BrokerAddress("mqtt://192.0.2.3:1883")
        assert "box-1 is a member of fleet home" in capsys.readouterr().out
        with pytest.raises(QedgeError) as wrong:
            await invoke(operator.socket, enrol, "enrol", "install", asked)
        assert wrong.value.code == "client.file"
        with pytest.raises(QedgeError) as missing:
            await invoke(operator.socket, enrol, "enrol", "accept", str(tmp_path / "none"), *operator.at)
        assert missing.value.code == "client.file"
        assert await invoke(operator.socket, enrol, "show") == 0
        assert "fleet      home\n" in capsys.readouterr().out


async def test_peers_are_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path):
        assert await invoke(tmp_path / "qedge.sock", peers) == 0
        shown = capsys.readouterr().out
        assert "fleet local: 2 of 2 alive" in shown
        assert "box-1 *" in shown
        assert "suite 1 direct +key" in shown
        assert await invoke(tmp_path / "qedge.sock", peers, "--json") == 0
        assert json.loads(capsys.readouterr().out)["peers"][1]["session"]["group"] == "X25519MLKEM768"


def an_invitation() -> str:
    broker = BrokerAddress("mqtt://192.0.2.1:1883", "qedge", "secret")
    later = time.time_ns() + 60 * 10**9
    return write_invitation(Invitation("fleet", "box-2", 3, broker, bytes(32), bytes(8), bytes(16), later))


async def test_a_policy_is_signed_under_the_next_serial_and_the_node_gets_it(
    tmp_path: Path, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("version = 1\n")
    async with serving(tmp_path) as site:
        assert await invoke(operator.socket, fleet, "policy", str(file), "--days", "3", *operator.at) == 0
        assert "policy of the fleet, serial 1" in capsys.readouterr().out
        assert await invoke(operator.socket, fleet, "policy", str(file), *operator.at) == 0
        first, second = site.node.policy.taken
        assert (first.serial, second.serial, first.text) == (1, 2, b"version = 1\n")
        assert first.expires_utc_ns - first.utc_ns == 3 * 86_400 * 10**9
        assert operator.folder.ledger().policy_serial == 2
        file.write_text("version = 2\n")
        with pytest.raises(QedgeError) as refused:
            await invoke(operator.socket, fleet, "policy", str(file), *operator.at)
        assert refused.value.code == "policy.invalid"
        assert operator.folder.ledger().policy_serial == 2, "one with faults is not signed"


async def test_a_policy_is_written_to_a_file_that_every_member_believes(
    tmp_path: Path, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "policy.toml", tmp_path / "policy.signed"
    file.write_text("version = 1\n")
    assert await invoke(operator.socket, fleet, "policy", str(file), "--out", str(out), *operator.at) == 0
    assert f"qedge policy take {out}" in capsys.readouterr().err
    trust = Trust(operator.folder.ledger().anchor, "home")
    assert check_bundle(read_bundle(out.read_bytes(), trust), time.time_ns()).rules == {}


async def test_where_no_node_takes_a_policy_the_authority_says_what_to_do(
    tmp_path: Path, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("version = 1\n")
    with pytest.raises(QedgeError) as refused:
        await invoke(operator.socket, fleet, "policy", str(file), *operator.at)
    assert refused.value.code == "client.no_daemon"
    assert "Run the command again" in capsys.readouterr().err
