"""The probe finds what is wrong with key managers that are wrong in one way each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from qedge.client.probe.run import probe
from qedge.client.probe.verdict import Verdict
from qedge.qkd.delivery import desk as rules
from qedge.qkd.delivery.fake import FakeVault
from qedge.qkd.delivery.model import RefusalError
from qedge.qkd.delivery.ports import DeliverableKey, KeyOrder
from tests.conformance.test_kme import stand_of
from tests.integration.kme_site import Kmes, two_kmes

Collect = Callable[[FakeVault, str, str, tuple[str, ...]], Awaitable[tuple[DeliverableKey, ...]]]
collect: Collect = FakeVault.collect
reserve = FakeVault.reserve


async def forgiving(self: FakeVault, slave: str, master: str, key_ids: tuple[str, ...]) -> tuple[DeliverableKey, ...]:
    """Hand out keys to whoever knows their ids, as often as they like, and leave out what is not there."""
    kept = [(key_id, self.links.kept[key_id]) for key_id in key_ids if key_id in self.links.kept]
    return tuple(DeliverableKey(key_id, key.key, key.provenance) for key_id, key in kept)


async def backwards(self: FakeVault, slave: str, master: str, key_ids: tuple[str, ...]) -> tuple[DeliverableKey, ...]:
    """Hand out keys in another order."""
    return tuple(reversed(await collect(self, slave, master, key_ids)))


async def repeating(self: FakeVault, order: KeyOrder) -> tuple[DeliverableKey, ...]:
    """Give the same bytes under new ids."""
    return tuple(DeliverableKey(key.key_id, bytes(len(key.key)), key.provenance) for key in await reserve(self, order))


async def short(self: FakeVault, order: KeyOrder) -> tuple[DeliverableKey, ...]:
    """Give keys that are shorter than asked for."""
    return tuple(DeliverableKey(key.key_id, key.key[:-1], key.provenance) for key in await reserve(self, order))


async def found_wrong(folder: Path, number: int, prepare: Callable[[Kmes], None] = lambda _kmes: None) -> str:
    async with two_kmes(folder) as kmes:
        prepare(kmes)
        report = await probe(stand_of(kmes, folder), consume=True, only=[number])
        (result,) = report.cases
        assert result.verdict is Verdict.FAILED, result
        return result.reason


@pytest.mark.parametrize("number", [60, 62, 63, 64, 65])
async def test_keys_for_everybody_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(FakeVault, "collect", forgiving)
    assert await found_wrong(tmp_path, number)


async def test_another_order_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeVault, "collect", backwards)
    assert "order" in await found_wrong(tmp_path, 57)


@pytest.mark.parametrize("number", [38, 39, 37])
async def test_repeated_keys_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(FakeVault, "reserve", repeating)
    assert "came before" in await found_wrong(tmp_path, number)


@pytest.mark.parametrize("number", [24, 27, 32])
async def test_short_keys_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(FakeVault, "reserve", short)
    assert "bits" in await found_wrong(tmp_path, number)


async def test_another_wording_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "BAD_SIZE", "size must be a multiple of 8")
    assert "exactly" in await found_wrong(tmp_path, 34)


async def test_a_status_that_lies_is_found(tmp_path: Path) -> None:
    def text(kmes: Kmes) -> None:
        honest = kmes.a.desk.status

        async def status(*args: object) -> dict[str, object]:
            found = await honest(*args)  # type: ignore[arg-type]  # handed on as they came
            return found | {"stored_key_count": "7", "max_SAE_ID_count": True, "slave_SAE_ID": "mallory"}

        kmes.a.desk.status = status  # type: ignore[method-assign,assignment]  # a key manager that is wrong

    for number, told in ((14, "integer"), (16, "slave_SAE_ID")):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert told in await found_wrong(folder, number, text)


async def test_a_404_is_found(tmp_path: Path) -> None:
    def missing(kmes: Kmes) -> None:
        async def status(*_: object) -> dict[str, object]:
            raise RefusalError(404, "no such SAE")

        kmes.a.desk.status = status  # type: ignore[method-assign,assignment]  # as above

    assert "404" in await found_wrong(tmp_path, 21, missing)


async def test_an_open_door_is_found(tmp_path: Path) -> None:
    def anybody(kmes: Kmes) -> None:
        alice = kmes.a.desk.registry.named("alice")
        kmes.a.desk.identify = lambda *_: alice  # type: ignore[method-assign]  # as above

    for number in (8, 9):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert "got 200" in await found_wrong(folder, number, anybody)
