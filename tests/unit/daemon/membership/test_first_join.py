"""Claims about a factory-new box: the invitation on its image is used until it is a member, and once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from qedge.base.backoff import Backoff
from qedge.base.errors import QedgeError
from qedge.daemon.membership.first_join import FirstJoin, token_file


class Fleet:
    """Refuses with the given codes, then lets in."""

    def __init__(self, *codes: str) -> None:
        self.codes = list(codes)
        self.lines: list[str] = []

    async def join(self, line: str) -> None:
        self.lines.append(line)
        if self.codes:
            raise QedgeError(self.codes.pop(0), "not yet")


def service(file: Path | None, fleet: Fleet, *, standalone: bool = True) -> FirstJoin:
    return FirstJoin(
        file, fleet.join, standalone=standalone, uniform=lambda: 0.0, pause=Backoff(0.0, 0.0), slow_s=0.001
    )


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "join.token"
    file.write_text("qedge1:abc\n")
    return file


async def test_a_box_asks_until_it_is_a_member_and_removes_its_token(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qedge.daemon.membership.first_join._LEAST_S", 0.001)
    fleet = Fleet("bus.unavailable", "bus.timeout", "fleet.expired", "fleet.bad_invitation")
    await service(token, fleet).run(lambda: None)
    assert fleet.lines == ["qedge1:abc"] * 5
    assert not token.exists()


async def test_a_member_takes_no_invitation_and_removes_a_token_that_is_left(token: Path) -> None:
    fleet = Fleet()
    await service(token, fleet, standalone=False).run(lambda: None)
    assert fleet.lines == []
    assert not token.exists()


async def test_a_token_that_cannot_be_removed_does_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "a" / "file"
    await service(folder, Fleet(), standalone=False).run(lambda: None)
    fleet = Fleet()
    await service(folder, fleet).run(lambda: None)
    assert fleet.lines == []


async def test_a_token_that_is_taken_away_ends_the_asking(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qedge.daemon.membership.first_join._LEAST_S", 0.001)
    fleet = Fleet(*["bus.unavailable"] * 10_000)
    running = asyncio.create_task(service(token, fleet).run(lambda: None))
    while len(fleet.lines) < 3:
        await asyncio.sleep(0)
    token.unlink()
    await running


def test_the_token_is_where_the_configuration_or_systemd_says(token: Path) -> None:
    assert token_file(str(token), {}) == token
    assert token_file("", {"CREDENTIALS_DIRECTORY": str(token.parent)}) == token
    assert token_file(str(token.parent / "none"), {"CREDENTIALS_DIRECTORY": str(token.parent)}) is None
