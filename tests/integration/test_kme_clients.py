"""Two clients that others wrote work with our key manager over mutual TLS; their quirks stand where they matter."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kme_site import Kmes, two_kmes


async def test_the_doctor_of_qkdsec_finds_nothing_wrong(tmp_path: Path) -> None:
    client = pytest.importorskip("qkdsec.client")
    doctor = pytest.importorskip("qkdsec.doctor")
    async with two_kmes(tmp_path) as kmes:

        def examine(slave: str) -> dict[str, str]:
            person = kmes.people["alice"]
            kme = client.ETSI014Client(
                kmes.a.service.address,
                client_cert=(str(person.certificate), str(person.private_key)),
                verify=str(person.authorities),
            )
            try:
                report = doctor.run_all(kme, slave_sae_id=slave)
            finally:
                kme._session.close()
            return {probe.name: probe.status.value for probe in report.results}

        # Its round trip collects as the master, which the standard makes 401; with itself as slave it passes.
        found = await asyncio.to_thread(examine, "alice")
        assert sorted(found.values()) == ["pass"] * 9 + ["warn"], found
        # It wants 404 for an unknown SAE; the interface has no 404.
        assert [name for name, verdict in found.items() if verdict == "warn"] == ["error_contract_404"]
        strict = await asyncio.to_thread(examine, "bob")
        assert [name for name, verdict in strict.items() if verdict == "fail"] == ["dec_keys_roundtrip"]


async def test_etsi_qkd_014_client_takes_and_collects_keys(tmp_path: Path) -> None:
    module = pytest.importorskip("etsi_qkd_014_client")
    async with two_kmes(tmp_path) as kmes:
        await asyncio.to_thread(_take_and_collect, module, kmes)


def _take_and_collect(module: Any, kmes: Kmes) -> None:
    def client(name: str, at: str) -> Any:
        person, kme = kmes.people[name], kmes.a if at == "A" else kmes.b
        files = (str(person.certificate), str(person.private_key), str(person.authorities))
        return module.QKD014Client(kme.place.authority, *files)

    alice, bob = client("alice", "A"), client("bob", "B")
    code, status = alice.get_status("bob")
    assert code == 200
    assert status.source_kme_id == "KME-A"
    code, container = alice.get_key("bob", number=3, size=512, extension_optional=[{"abc_x": 1}])
    assert code == 200
    assert [len(base64.b64decode(key.key)) for key in container.keys] == [64] * 3
    ids = [key.key_id for key in container.keys]
    code, same = bob.get_key_with_key_IDs("alice", ids)
    assert code == 200
    assert [key.key for key in same.keys] == [key.key for key in container.keys]
    code, error = bob.get_key_with_key_IDs("alice", ids)
    assert code == 400
    assert error.message == "one or more keys specified are not found on KME"
    code, error = alice.get_key("bob", size=257)
    assert (code, error.message) == (400, "size shall be a multiple of 8")
    # An empty body of 401 would crash it.
    code, error = client("eve", "A").get_key_with_key_IDs("alice", ids)
    assert code == 401
    assert error.message
