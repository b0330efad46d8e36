"""The driver of vendors' key managers, against our own two over real connections."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from qedge_driver_api import BadSettingsError, DriverContext, FatalError, OperatingState, RetriableError
from qedge_driver_api.conformance import run
from qedge_drivers.etsi014 import Etsi014
from qedge_drivers.etsi014.answers import keys_of, status_of
from qedge_drivers.etsi014.https import Kme, Reply
from qedge_drivers.etsi014.settings import Etsi014Settings
from tests.integration.kme_site import Kmes, two_kmes

CONTEXT = DriverContext("vendor", "/nonexistent", bytes, lambda: False)


def settings_of(kmes: Kmes, name: str, peer: str, at: str, **more: Any) -> Etsi014Settings:
    person = kmes.people[name]
    files = {
        "certificate": str(person.certificate),
        "private_key": str(person.private_key),
        "authorities": str(person.authorities),
    }
    kme = kmes.a if at == "A" else kmes.b
    return Etsi014Settings(**{"url": kme.service.address, "peer_sae": peer, "timeout_s": 3.0, **files, **more})


def opened(settings: Etsi014Settings) -> Etsi014:
    driver = Etsi014(settings)
    driver.open(CONTEXT)
    return driver


async def test_both_ends_get_the_same_keys_in_order(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes:

        def use() -> None:
            alice = opened(settings_of(kmes, "alice", "bob", "A", sae_id="alice", kme_id="KME-A"))
            bob = opened(settings_of(kmes, "bob", "alice", "B", sae_id="bob", kme_id="KME-B"))
            taken = alice.take(300, 256)
            assert len({key.key for key in taken}) == 300
            wanted = tuple(key.key_id for key in reversed(taken))
            assert bob.take_by_id(wanted) == tuple(reversed(taken))
            with pytest.raises(RetriableError, match="not yet"):
                bob.take_by_id(wanted[:1])
            assert alice.health().state is OperatingState.UP
            assert alice.properties()["kme_id"] == "KME-A"
            assert str(alice.properties()["tls"]).startswith("TLSv1.")
            for driver in (alice, bob):
                driver.close()

        await asyncio.to_thread(use)


async def test_another_key_manager_or_name_stops_the_driver(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes:

        def use() -> None:
            with pytest.raises(FatalError, match="not that of KME KME-B"):
                opened(settings_of(kmes, "alice", "bob", "A", kme_id="KME-B"))
            with pytest.raises(FatalError, match="takes us for alice"):
                opened(settings_of(kmes, "alice", "bob", "A", sae_id="bob"))
            with pytest.raises(FatalError, match="does not let us"):
                opened(settings_of(kmes, "nobody", "bob", "A"))
            with pytest.raises(RetriableError, match="cannot be reached"):
                opened(settings_of(kmes, "unknown authority", "bob", "A"))
            with pytest.raises(FatalError, match="refused with 400"):
                opened(settings_of(kmes, "alice", "whoever", "A"))
            with pytest.raises(FatalError, match="cannot be used"):
                opened(settings_of(kmes, "alice", "bob", "A", private_key="/nonexistent"))

        await asyncio.to_thread(use)


async def test_an_empty_key_manager_is_degraded_and_taking_may_be_tried_again(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes:
        kmes.links.pools["A", "B"] = 200 * 256

        def use() -> None:
            alice = opened(settings_of(kmes, "alice", "bob", "A"))
            with pytest.raises(RetriableError, match="not enough keys"):
                alice.take(250, 256)
            kmes.links.pools["A", "B"] = 122 * 256
            assert len(alice.take(250, 256)) == 250, "128 of them were taken by the request that failed"
            alice._asked_s = -1e9
            assert alice.health().state is OperatingState.DEGRADED
            with pytest.raises(FatalError, match="whole bytes"):
                alice.take(1, 257)
            alice.close()
            assert alice.health().state is OperatingState.DOWN

        await asyncio.to_thread(use)


async def test_the_driver_passes_the_kit_against_our_key_manager(tmp_path: Path) -> None:
    async with two_kmes(tmp_path) as kmes:
        settings = settings_of(kmes, "alice", "bob", "A")
        values = {
            key: getattr(settings, key) for key in ("url", "peer_sae", "certificate", "private_key", "authorities")
        }
        report = await asyncio.to_thread(run, Etsi014, values, limit_s=30.0, cycles=3)
        assert report.failed == (), report.text()


@pytest.mark.parametrize(
    "wrong",
    [{"url": "http://kme"}, {"url": "https://kme:x"}, {"certificate": "kme.crt"}, {"peer_sae": ""}],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, str]) -> None:
    good = {
        "url": "https://kme:1",
        "peer_sae": "bob",
        "certificate": "/a",
        "private_key": "/b",
        "authorities": "/c",
    }
    Etsi014(Etsi014Settings(**good))
    with pytest.raises(BadSettingsError):
        Etsi014(Etsi014Settings(**good | wrong))


ID = str(uuid.UUID(int=5, version=4))


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"keys": []},
        {"keys": [{"key_ID": ID}]},
        {"keys": [{"key_ID": "x", "key": "AAAA"}]},
        {"keys": [{"key_ID": ID, "key": "AA?A"}]},
        {"keys": [{"key_ID": ID, "key": "AAAA"}]},
        {"keys": [{"key_ID": ID, "key": "AAAAAAAAAAA="}] * 2},
    ],
    ids=str,
)
def test_an_answer_that_cannot_be_true_is_refused(value: object) -> None:
    with pytest.raises(FatalError):
        keys_of(Reply(200, value, ""), 1, 64)


def test_a_status_with_counters_as_text_is_refused() -> None:
    names = ("source_KME_ID", "target_KME_ID", "master_SAE_ID")
    numbers = ("key_size", "stored_key_count", "max_key_per_request", "min_key_size", "max_key_size")
    good: dict[str, object] = dict.fromkeys(names, "x") | dict.fromkeys(numbers, 8)
    settings = Etsi014Settings("https://kme:1", "bob", "/a", "/b", "/c")
    assert status_of(Reply(200, good, ""), settings).key_size == 8
    for wrong in ("8", True, -1, None):
        with pytest.raises(FatalError):
            status_of(Reply(200, good | {"key_size": wrong}, ""), settings)


class OddKme:
    """A key manager that gives the same keys whatever it is asked."""

    def __init__(self) -> None:
        entries = [{"key_ID": str(uuid.UUID(int=place)), "key": "A" * 43 + "="} for place in range(2)]
        self.reply = Reply(200, {"keys": entries}, "")

    def get(self, _sae: str, _call: str) -> Reply:
        numbers = {"key_size": 256, "stored_key_count": 9, "max_key_per_request": 2, "min_key_size": 64}
        names = dict.fromkeys(("source_KME_ID", "target_KME_ID", "master_SAE_ID"), "x")
        return Reply(200, {**numbers, **names, "max_key_size": 1024}, "")

    def post(self, _sae: str, _call: str, _value: object) -> Reply:
        return self.reply


def test_a_key_that_comes_twice_in_two_answers_is_refused_and_foreign_ones_are_not_kept() -> None:
    files = dict.fromkeys(("certificate", "private_key", "authorities"), "/none")
    driver = Etsi014(Etsi014Settings(url="https://kme", peer_sae="bob", **files))
    driver._kme = OddKme()  # type: ignore[assignment]  # speaks as one
    assert len(driver.take(2, 256)) == 2
    with pytest.raises(FatalError, match="given before"):
        driver.take(2, 256)
    for place in range(3):
        with pytest.raises(FatalError, match="other keys"):
            driver.take_by_id((str(uuid.UUID(int=10 + 2 * place)), str(uuid.UUID(int=11 + 2 * place))))
    assert not driver._collected


class DrippingAnswer:
    """Is connection and answer in one; the body comes byte by byte."""

    status = 200
    pieces = 0

    def request(self, *_args: object) -> None:
        """Send nothing."""

    def getresponse(self) -> DrippingAnswer:
        """Be the answer."""
        return self

    def close(self) -> None:
        """Nothing is open."""

    def read1(self, _number: int) -> bytes:
        """Give another byte."""
        self.pieces += 1
        time.sleep(0.01)
        return b" " if self.pieces < 500 else b""

    def read(self, _number: int) -> bytes:
        """Give bytes until there are no more."""
        return b"".join(iter(lambda: self.read1(1), b""))


def test_an_answer_that_comes_byte_by_byte_has_to_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qedge_drivers.etsi014.https._context", lambda _settings: None)
    files = dict.fromkeys(("certificate", "private_key", "authorities"), "/none")
    kme, answer = Kme(Etsi014Settings(url="https://kme", peer_sae="bob", timeout_s=0.1, **files)), DrippingAnswer()
    monkeypatch.setattr(kme, "_connect", lambda: answer)
    with pytest.raises(RetriableError, match="longer than"):
        kme.get("bob", "status")
    assert answer.pieces < 500
