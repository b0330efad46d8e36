"""The 82 conformance cases of ETSI GS QKD 014 against our own key manager, over real connections with certificates.

Most of them are the probe that `qedge qkd probe` is, run once over two key managers with every kind of certificate; the
others need a hand inside the key manager. 75 and 76 kill a process and belong to the key store.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import msgspec
import pytest
import uvloop

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.client.kme import path_of
from qedge.client.kme_link import KmeLink
from qedge.client.probe.case import CASES
from qedge.client.probe.run import MODULES, foreign_credentials, probe
from qedge.client.probe.stand import NOT_FOUND, Person, Stand, refused
from qedge.client.probe.verdict import CaseResult, ProbeReport, Verdict
from qedge.qkd.delivery.ports import Provenance
from tests.integration.kme_site import ODD_ID, SAES, Kmes, two_kmes

INSIDE = {19: "falls", 40: "small pool", 42: "no bytes in logs", 74: "two masters", 77: "clock jump", 78: "expired"}
"""Cases that need a hand inside (19 and 40 are also the probe's, where the pool is small enough to see)."""

KEY_STORE = {75, 76}
"""Killed processes: tests of the key store."""


def stand_of(kmes: Kmes, folder: Path) -> Stand:
    """Give the probe all it can use."""
    places = {"A": kmes.a.place, "B": kmes.b.place}
    at = {"alice": "A", "bob": "B", "carol": "B", "eve": "A"}
    people = {name: Person(name, kmes.people[name], places[node]) for name, node in at.items()}
    people[ODD_ID] = Person(ODD_ID, kmes.people["odd"], places["B"])
    return Stand(
        master="alice",
        slave="bob",
        people=people,
        additional=("carol", ODD_ID),
        stranger="eve",
        bad={
            "expired": kmes.people["expired"],
            "revoked": kmes.people["revoked"],
            "unregistered": kmes.people["nobody"],
            "two-names": kmes.people["two names"],
            "unknown-authority": foreign_credentials(folder, "alice", kmes.wallet.folder.authority_file),
        },
        kme_id="KME-A",
        slave_kme_id="KME-B",
    )


async def run_probe(folder: Path) -> tuple[ProbeReport, str]:
    """Run the probe once; returns its report and all that was written anywhere meanwhile."""
    told = io.StringIO()
    with redirect_stdout(told), redirect_stderr(told):
        async with two_kmes(folder) as kmes:
            kmes.links.bits = 20_000 * 256  # below max_key_count, so that the number of stored keys moves
            stand = stand_of(kmes, folder)
            report = await probe(stand, consume=True)
            keys = "".join(stand.seen.values())
    assert keys
    leaked = [key for key in stand.seen.values() if key in told.getvalue()]
    assert leaked == []
    return report, told.getvalue()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ProbeReport:
    # on the daemon's own loop; the tests below run on the standard one
    return uvloop.run(run_probe(tmp_path_factory.mktemp("kmes")))[0]


def result(report: ProbeReport, number: int) -> CaseResult:
    return next(case for case in report.cases if case.id == number)


@pytest.mark.parametrize("number", sorted(set(CASES) - {40}), ids=lambda number: f"case-{number}")
def test_our_key_manager_passes_the_probe(report: ProbeReport, number: int) -> None:
    found = result(report, number)
    assert found.verdict is Verdict.PASSED, f"{found.title}: {found.reason}"


def test_all_82_cases_have_a_place() -> None:
    assert MODULES
    assert set(CASES) | set(INSIDE) | KEY_STORE == set(range(1, 83))


async def test_without_consent_the_probe_takes_no_key(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes:
        before = kmes.links.pool("A", "B")
        stand = stand_of(kmes, tmp_path)
        stand.people = {"alice": stand.people["alice"]}
        stand.bad, stand.additional, stand.stranger = {}, (), ""
        done = await probe(stand, consume=False)
        assert kmes.links.pool("A", "B") == before
        assert done.count(Verdict.FAILED) == 0
        assert done.count(Verdict.PASSED) >= 20
        assert done.keys_consumed == 0


async def test_a_pool_too_small_is_503_and_keeps_what_it_has(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes:
        kmes.links.pools["A", "B"] = 5 * 256
        alice = kmes.kept("alice", "A")
        reply = await alice.request("POST", path_of("bob", "enc_keys"), b'{"number": 6}')
        assert "not enough keys" in refused(reply, 503)
        assert int(reply.headers["retry-after"]) >= 1
        assert kmes.links.pool("A", "B") == 5 * 256
        reply = await alice.request("POST", path_of("bob", "enc_keys"), b'{"number": 5}')
        assert reply.status == 200
        status = json.loads((await alice.request("GET", path_of("bob", "status"))).body)
        assert status["stored_key_count"] == 0


async def test_a_peer_that_cannot_be_reached_is_503(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes:
        kmes.links.cut.add("B")
        for path in (path_of("bob", "status"), path_of("bob", "enc_keys")):
            refused(await kmes.kept("alice", "A").request("GET", path), 503)


async def test_an_expired_key_is_400_with_the_exact_text_and_a_clock_jump_expires_none(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes:
        kmes.links.clock = clock = ManualClock()
        alice, bob = kmes.kept("alice", "A"), kmes.kept("bob", "B")

        async def fresh() -> str:
            return str(json.loads((await alice.request("GET", path_of("bob", "enc_keys"))).body)["keys"][0]["key_ID"])

        first, second = await fresh(), await fresh()
        clock.step_utc_s(10 * 365 * 86_400)
        assert (await bob.request("GET", path_of("alice", "dec_keys") + f"?key_ID={first}")).status == 200
        clock.step_utc_s(-20 * 365 * 86_400)
        clock.advance_s(kmes.links.lifetime_s + 1)
        reply = await bob.request("GET", path_of("alice", "dec_keys") + f"?key_ID={second}")
        assert refused(reply, 400) == NOT_FOUND


async def once(kmes: Kmes, name: str) -> int:
    """Ask for a status over a connection of its own."""
    async with kmes.link(name, "A") as link:
        return (await link.request("GET", path_of("bob", "status"))).status


async def hammer(link: KmeLink, slave: str, times: int) -> list[tuple[str, str]]:
    got = []
    for _ in range(times):
        reply = await link.request("GET", path_of(slave, "enc_keys"))
        assert reply.status == 200
        got += [(key["key_ID"], key["key"]) for key in json.loads(reply.body)["keys"]]
    return got


async def collect(link: KmeLink, master: str, keys: list[tuple[str, str]]) -> list[tuple[str, str]] | int:
    """Ask for keys by their ids; returns what came, or the status of the refusal."""
    body = json.dumps({"key_IDs": [{"key_ID": key_id} for key_id, _ in keys]}).encode()
    reply = await link.request("POST", path_of(master, "dec_keys"), body)
    if reply.status != 200:
        return reply.status
    return [(key["key_ID"], key["key"]) for key in json.loads(reply.body)["keys"]]


async def test_two_masters_never_get_the_same_key(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes:
        mine = [(kmes.kept("alice", "A"), "bob"), (kmes.kept("eve", "A"), "bob"), (kmes.kept("bob", "B"), "alice")]
        got = await asyncio.gather(*(hammer(link, slave, 150) for link, slave in mine))
        everything = [each for some in got for each in some]
        assert len({key_id for key_id, _ in everything}) == len(everything) == 450
        assert len({key for _, key in everything}) == 450


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_a_hundred_thousand_requests_of_many_get_as_many_keys_and_each_its_slave_alone(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes:
        who = [("alice", "A", "bob"), ("eve", "A", "bob"), ("bob", "B", "alice"), ("odd", "B", "alice")] * 4
        links = [(kmes.link(name, at), slave) for name, at, slave in who]
        got = await asyncio.gather(*(hammer(link, slave, 6250) for link, slave in links))
        everything = [each for some in got for each in some]
        assert len({key_id for key_id, _ in everything}) == len({key for _, key in everything}) == 100_000
        await asyncio.gather(*(link.close() for link, _ in links))
        for (master, _, slave), taken in zip(who, got, strict=True):
            at, stranger = ("B", "carol") if slave == "bob" else ("A", "eve")
            name = ODD_ID if master == "odd" else master
            assert await collect(kmes.kept(stranger, at), name, taken[:128]) == 401
            for place in range(0, len(taken), 128):
                part = taken[place : place + 128]
                assert await collect(kmes.kept(slave, at), name, part) == part
            assert await collect(kmes.kept(slave, at), name, taken[:1]) == 400


async def test_no_key_is_written_into_logs_not_even_by_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with two_kmes(tmp_path) as kmes:
        alice = kmes.kept("alice", "A")
        key = json.loads((await alice.request("GET", path_of("bob", "enc_keys"))).body)["keys"][0]["key"]
        secret = os.urandom(16).hex()

        def fault() -> None:
            raise RuntimeError(f"the key {secret} went wrong")

        kmes.a.vault.after_reserve = fault
        reply = await alice.request("GET", path_of("bob", "enc_keys"))
        refused(reply, 503)
        assert secret.encode() not in reply.body
        written = "".join(capsys.readouterr()) + caplog.text
        assert "keys.not_answered" in written
        assert secret not in written
        assert key not in written


async def test_a_wish_that_cannot_be_met_is_passed_over_and_a_demand_is_not(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes:
        kmes.links.provenance = Provenance(route="relayed", hops=3, age_s=5.0)
        alice = kmes.kept("alice", "A")
        for name, value in (("qedge_route_type", "direct"), ("qedge_max_hops", 2), ("qedge_max_age_s", 1.5)):
            wish = await alice.request(
                "POST", path_of("bob", "enc_keys"), json.dumps({"extension_optional": [{name: value}]}).encode()
            )
            assert wish.status == 200
            demand = await alice.request(
                "POST", path_of("bob", "enc_keys"), json.dumps({"extension_mandatory": [{name: value}]}).encode()
            )
            assert refused(demand, 400) == "not all extension_mandatory request options could be met"
        met = await alice.request(
            "POST", path_of("bob", "enc_keys"), b'{"extension_mandatory": [{"qedge_min_security": "its"}]}'
        )
        (key,) = json.loads(met.body)["keys"]
        assert key["key_extension"]["qedge_hops"] == 3
        assert key["key_extension"]["qedge_security"] == "its"


async def test_who_is_not_permitted_gets_401(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes:
        eve = kmes.kept("eve", "A")
        for call in ("status", "enc_keys"):
            refused(await eve.request("GET", path_of("carol", call)), 401)
        refused(await eve.request("POST", path_of("bob", "enc_keys"), b'{"additional_slave_SAE_IDs": ["carol"]}'), 401)
        assert (await eve.request("GET", path_of("bob", "enc_keys"))).status == 200
        assert (await eve.request("GET", path_of("eve", "enc_keys"))).status == 200, "with itself everybody may"


async def test_a_certificate_revoked_now_ends_open_connections_too(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes:
        alice = kmes.kept("alice", "A")
        assert (await alice.request("GET", path_of("bob", "status"))).status == 200
        utc_ns = kmes.links.clock.utc_ns()
        assert kmes.wallet.authority.revoke("alice", utc_ns=utc_ns) >= 1
        kmes.wallet.folder.keep(kmes.wallet.authority, utc_ns=utc_ns, revoked=True)
        await kmes.a.service.reload()
        refused(await alice.request("GET", path_of("bob", "status")), 401)
        with pytest.raises(QedgeError, match="No answer"):
            await once(kmes, "alice")
        assert (await once(kmes, "eve")) == 200


async def test_certificates_that_are_no_good_leave_the_old_ones_in_force(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes:
        kmes.a.files.certificate.write_text("nonsense")
        await kmes.a.service.reload()
        assert await once(kmes, "alice") == 200


async def test_an_application_has_its_own_limits(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes:
        limited = msgspec.structs.replace(SAES["alice"], max_keys_per_request=2, max_keys_per_s=0.5)
        kmes.a.desk.registry.reconfigure({**SAES, "alice": limited})
        alice = kmes.kept("alice", "A")
        status = json.loads((await alice.request("GET", path_of("bob", "status"))).body)
        assert status["max_key_per_request"] == 2
        refused(await alice.request("POST", path_of("bob", "enc_keys"), b'{"number": 3}'), 400)
        answers = [(await alice.request("GET", path_of("bob", "enc_keys"))) for _ in range(8)]
        assert [reply.status for reply in answers[:5]] == [200] * 5
        assert refused(answers[-1], 503)
        assert int(answers[-1].headers["retry-after"]) >= 1
