"""The rules of key delivery without a connection: reading, permissions, limits, the operator's side."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.config import check_config
from qedge.crypto.web_authority import make_request, names_of, new_key, revoked_serials
from qedge.crypto.web_files import WebFolder
from qedge.qkd.delivery.config import DeliveryConfig, SaeConfig
from qedge.qkd.delivery.desk import KeyDesk
from qedge.qkd.delivery.extensions import demands, wishes
from qedge.qkd.delivery.fake import FakeLinks, FakeVault
from qedge.qkd.delivery.model import Extension, KeyRequest, RefusalError
from qedge.qkd.delivery.office import KeyOffice
from qedge.qkd.delivery.ports import Constraints
from qedge.qkd.delivery.registry import Registry, id_of, uri_of
from qedge.qkd.delivery.requests import key_ids_of_body, key_request_of_body, key_request_of_query
from qedge.wire.delivery import KeyCollect, KeyTake, SaeChange, SaePermit

SAES = {"alice": SaeConfig(permit=("bob",)), "bob": SaeConfig(node="B", id="bob@b")}


def office_of(folder: Path, kept: list[str]) -> KeyOffice:
    clock = ManualClock()
    desk = KeyDesk(DeliveryConfig(), Registry("A", SAES), FakeVault("A", FakeLinks(clock, os.urandom)), clock=clock)

    async def load() -> str:
        return kept[-1] if kept else ""

    async def keep(text: str) -> None:
        kept.append(text)

    return KeyOffice(
        desk,
        load=load,
        keep=keep,
        folder=WebFolder(folder / "web"),
        names=("localhost", "127.0.0.1"),
        exchange="classical",
        clock=clock,
        random_bytes=os.urandom,
    )


@given(st.binary(max_size=200))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    for read in (key_request_of_body, lambda data: key_ids_of_body(data, 4)):
        try:
            read(body)
        except RefusalError as refusal:
            assert refusal.status == 400
            assert refusal.message.isascii()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ("number", "size", "additional_slave_SAE_IDs", "extension_mandatory", "extension_optional")


@given(st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=4))
def test_what_is_read_has_the_types_it_says(members: dict[str, object]) -> None:
    try:
        wanted = key_request_of_body(json.dumps(members).encode())
    except RefusalError as refusal:
        assert refusal.status == 400
        return
    assert type(wanted.number) is int
    assert wanted.number >= 1
    assert type(wanted.size) is int
    assert wanted.size >= ("size" in members)
    assert all(isinstance(sae, str) for sae in wanted.additional)


@pytest.mark.parametrize("query", [[("number", "0")], [("number", "²")], [("number", "1e3")], [("x", "1")]])
def test_queries_are_read_strictly(query: list[tuple[str, str]]) -> None:
    with pytest.raises(RefusalError):
        key_request_of_query(query)


@given(st.text(min_size=1, max_size=40).filter(str.isprintable))
def test_an_id_comes_back_from_its_uri(sae_id: str) -> None:
    uri = uri_of(sae_id)
    assert uri.isascii()
    assert id_of(uri) == sae_id


def test_demands_narrow_each_other_and_wishes_never_contradict_them() -> None:
    its = Extension("qedge_min_security", "its")
    demanded = demands([its, Extension("qedge_max_hops", 3), Extension("qedge_max_hops", 2)])
    assert demanded == Constraints(frozenset({"direct", "relayed"}), max_hops=2)
    assert wishes(demanded, [Extension("qedge_route_type", "hybrid")]) == demanded
    assert wishes(demanded, [Extension("qedge_route_type", "direct")]).routes == {"direct"}
    assert wishes(Constraints(), [Extension("abc_x", 1), Extension("qedge_max_age_s", "soon")]) == Constraints()
    for value in (True, 0, "2", None, 256, 1.5):
        with pytest.raises(RefusalError, match="could be met"):
            demands([Extension("qedge_max_hops", value)])


def desk_of(saes: dict[str, SaeConfig], config: DeliveryConfig | None = None) -> KeyDesk:
    clock = ManualClock()
    vault = FakeVault("A", FakeLinks(clock, os.urandom))
    return KeyDesk(config or DeliveryConfig(), Registry("A", saes), vault, clock=clock)


def test_a_certificate_names_exactly_one_application_of_this_node() -> None:
    desk = desk_of(SAES)
    assert desk.identify([uri_of("alice")]).name == "alice"
    for uris, name in (
        ([], "alice"),
        ([uri_of("alice"), uri_of("bob@b")], ""),
        ([uri_of("alice")] * 2, ""),
        ([uri_of("bob@b")], ""),  # of another node
        ([uri_of("eve")], "alice"),
    ):
        with pytest.raises(RefusalError) as refused:
            desk.identify(uris, name)
        assert refused.value.status == 401
    by_name = desk_of(SAES, DeliveryConfig(common_name=True))
    assert by_name.identify([], "alice").name == "alice"
    with pytest.raises(RefusalError):
        by_name.identify([uri_of("bob@b")], "alice")


async def test_keys_are_shared_with_none_but_all_whom_the_master_may_ask_with() -> None:
    desk = desk_of({**SAES, "carol": SaeConfig(node="B"), "dave": SaeConfig(permit=("*",))})
    alice, dave = desk.registry.named("alice"), desk.registry.named("dave")
    for slave, others in (("carol", ()), ("bob@b", ("carol",)), ("carol", ("bob@b",)), ("dave", ())):
        with pytest.raises(RefusalError) as refused:
            await desk.get_keys(alice, slave, KeyRequest(additional=others))
        assert refused.value.status == 401
    with pytest.raises(RefusalError):
        await desk.status(alice, "carol")
    made = await desk.get_keys(dave, "bob@b", KeyRequest(additional=("carol",)))
    assert len(made["keys"]) == 1  # type: ignore[arg-type] # a list


async def test_an_allowance_fills_up_again() -> None:
    clock = ManualClock()
    saes = {**SAES, "alice": SaeConfig(permit=("bob",), max_keys_per_s=2.0)}
    desk = KeyDesk(DeliveryConfig(), Registry("A", saes), FakeVault("A", FakeLinks(clock, os.urandom)), clock=clock)
    alice = desk.registry.named("alice")
    await desk.get_keys(alice, "bob@b", KeyRequest(number=20))
    with pytest.raises(RefusalError) as refused:
        await desk.get_keys(alice, "bob@b", KeyRequest(number=2))
    assert (refused.value.status, refused.value.retry_s) == (503, 2)
    clock.advance_s(1.0)
    await desk.get_keys(alice, "bob@b", KeyRequest(number=2))


def test_configuration_names_what_is_wrong_with_applications(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        '[qkd.saes.alice]\npermit = ["bob", "nobody"]\n[qkd.saes.bob]\nid = "alice"\ncolour = 1\n'
        "[qkd.delivery]\nkey_size_bits = 32\nkme = 1\n[qkd.saes.carol]\nid = 'alice'\n"
    )
    faults = {fault.key: fault for fault in check_config(str(file)).faults}
    assert set(faults) >= {"qkd.saes.bob.colour", "qkd.delivery.kme"}
    file.write_text(
        '[qkd.saes.alice]\npermit = ["nobody"]\n[qkd.saes.carol]\nid = "alice"\n[qkd.delivery]\ncertificate = "/a"\n'
    )
    verdict = check_config(str(file))
    assert [fault.key for fault in verdict.faults] == ["qkd.delivery"]
    file.write_text('[qkd.saes.alice]\npermit = ["nobody"]\n[qkd.saes.carol]\nid = "alice"\n')
    assert {fault.key for fault in check_config(str(file)).faults} == {"qkd.saes.alice.permit[0]", "qkd.saes.carol.id"}


async def test_applications_come_and_go_and_are_back_after_a_restart(tmp_path: Path) -> None:
    kept: list[str] = []
    office = office_of(tmp_path, kept)
    await office.prepare()
    await office.put_sae("carol", SaeChange(id="c a/r", permit=("bob",)))
    view = await office.permit("carol", SaePermit(("alice",)))
    assert view.permit == ("bob", "alice")
    assert (await office.permit("carol", SaePermit(("bob",), withdraw=True))).permit == ("alice",)
    for wrong, code in (
        (office.put_sae("alice", SaeChange()), "keys.sae_configured"),
        (office.put_sae("dave", SaeChange(id="bob@b")), "keys.sae_taken"),
        (office.put_sae("dave", SaeChange(permit=("nobody",))), "keys.no_sae"),
        (office.put_sae("d ave", SaeChange()), "keys.bad_sae"),
        (office.put_sae("dave", SaeChange(id="x\ny")), "keys.bad_sae"),
        (office.put_sae("dave", SaeChange(node="box b")), "keys.bad_sae"),
        (office.permit("bob", SaePermit(("alice",))), "keys.sae_configured"),
        (office.remove_sae("nobody"), "keys.no_sae"),
        (office.certify("bob", b"x"), "keys.bad_sae"),
    ):
        with pytest.raises(QedgeError) as refused:
            await wrong
        assert refused.value.code == code
    again = office_of(tmp_path, kept)
    assert [sae.name for sae in (await again.saes()).saes] == ["alice", "bob", "carol"]
    assert again.desk.registry.local("c a/r") is not None
    again.desk.registry.reconfigure({**SAES, "carol": SaeConfig(node="B")})
    assert again.desk.registry.local("c a/r") is None, "the configuration goes before what was added"


async def test_a_certificate_names_one_application_and_is_revoked_with_it(tmp_path: Path) -> None:
    office = office_of(tmp_path, [])
    await office.prepare()
    await office.put_sae("carol", SaeChange(id="c a/r"))
    key = new_key(os.urandom)
    made = await office.certify("carol", make_request(key, "whoever"))
    assert names_of(made.certificate) == (frozenset(), ("c%20a/r",))
    assert (await office.saes()).saes[-1].certificates == 1
    with pytest.raises(QedgeError) as bad:
        await office.certify("carol", b"nonsense")
    assert bad.value.code == "web.bad_request"
    lists = WebFolder(tmp_path / "web").revocations_file
    assert revoked_serials(lists.read_text()) == frozenset()
    assert (await office.remove_sae("carol")).number == 1
    assert len(revoked_serials(lists.read_text())) == 1
    assert (tmp_path / "web" / "authority.key").stat().st_mode & 0o777 == 0o600
    hosts, uris = names_of((tmp_path / "web" / "server.pem").read_text())
    assert hosts == {"localhost", "127.0.0.1"}
    assert uris == ("A",)


async def test_the_operator_takes_and_collects_as_a_local_application(tmp_path: Path) -> None:
    office = office_of(tmp_path, [])
    handed = await office.take(KeyTake("alice", "alice", number=2))
    ids = tuple(key.key_id for key in handed.keys)
    assert await office.collect(KeyCollect("alice", "alice", ids)) == handed
    with pytest.raises(QedgeError, match="not found on KME") as gone:
        await office.collect(KeyCollect("alice", "alice", ids))
    assert gone.value.code == "keys.refused"
    with pytest.raises(QedgeError) as foreign:
        await office.take(KeyTake("bob@b", "alice"))
    assert foreign.value.code == "keys.no_sae"
    (pair,) = (await office.overview()).pairs
    assert (pair.master, pair.slave, pair.node) == ("alice", "bob@b", "B")
    assert repr(handed.keys[0].key) not in repr(handed)


def test_a_sealed_authority_opens_with_its_passphrase_only(tmp_path: Path) -> None:
    from qedge.crypto.sealed_file import Cost

    folder, clock = WebFolder(tmp_path / "web"), ManualClock()
    folder.found(
        "fleet", utc_ns=clock.utc_ns(), random_bytes=os.urandom, passphrase="correct horse", cost=Cost(log_n=10)
    )
    assert folder.is_sealed
    assert not (folder.path / "authority.key").exists()
    assert folder.open("correct horse").ledger.issued == ()
    with pytest.raises(QedgeError) as wrong:
        folder.open("wrong horse")
    assert wrong.value.code == "fleet.bad_passphrase"
