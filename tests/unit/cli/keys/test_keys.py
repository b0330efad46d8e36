"""`qedge keys` and `qedge qkd probe` as a person uses them."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.cli.keys import keys, qkd, watch
from qedge.cli.keys.watch import History, note, series_of, spark
from qedge.cli.terminal import Terminal
from tests.integration.kme_site import two_kmes
from tests.integration.web_site import serving


def parse(module: object, *argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", default="")
    module.add_arguments(parser)  # type: ignore[attr-defined]  # a command module
    return parser.parse_args(argv)


async def told(capsys: pytest.CaptureFixture[str], module: object, *argv: str, code: int = 0) -> str:
    """Run a command in a thread, as its own event loop demands; returns what it printed."""
    run: Callable[[argparse.Namespace], int] = module.run  # type: ignore[attr-defined]  # a command module
    capsys.readouterr()
    assert await asyncio.to_thread(run, parse(module, *argv)) == code
    return capsys.readouterr().out


async def test_keys_are_taken_and_collected_at_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path, enabled=False) as site:
        socket = ("--socket", site.service.socket)
        assert "beta" in await told(capsys, keys, *socket, "status")
        taken = json.loads(await told(capsys, keys, *socket, "get", "--as", "alpha", "--with", "alpha", "--json"))
        (key,) = taken["keys"]
        shown = await told(
            capsys, keys, *socket, "get", "--as", "alpha", "--with", "alpha", "--id", key["key_id"], "--hex"
        )
        assert shown.split()[0] == key["key_id"]
        assert len(bytes.fromhex(shown.split()[1])) == 32
        with pytest.raises(QedgeError, match="not found on KME"):
            await told(capsys, keys, *socket, "get", "--as", "alpha", "--with", "alpha", "--id", key["key_id"])


async def test_applications_are_managed_at_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path, enabled=False) as site:
        socket = ("--socket", site.service.socket)
        assert "gamma" in await told(capsys, keys, *socket, "sae", "add", "gamma", "--permit", "beta")
        assert "alpha" in await told(capsys, keys, *socket, "sae", "permit", "gamma", "alpha")
        assert await told(capsys, keys, *socket, "sae", "list")
        assert json.loads(site.node.kept_saes[-1])["gamma"]["permit"] == ["beta", "alpha"]
        with pytest.raises(QedgeError, match="makes no certificates"):
            await told(capsys, keys, *socket, "sae", "issue", "gamma", "--out", str(tmp_path / "out"))
        assert "removed" in await told(capsys, keys, *socket, "sae", "remove", "gamma")


async def test_watching_draws_what_the_node_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path, enabled=False) as site:
        socket = ("--socket", site.service.socket)
        out = await told(capsys, keys, *socket, "watch", "--count", "2", "--interval", "0.1")
        assert "error rate" in out
        assert "alpha → beta" in out
        assert json.loads((await told(capsys, keys, *socket, "watch", "--count", "1", "--json")).splitlines()[0])


def test_a_rate_is_the_growth_of_a_counter() -> None:
    text = (
        'qedge_qkd_key_bits_total{link="l"} %d\nqedge_other{link="l"} 1\n'
        'qedge_qkd_key_bits{link="l",place="own"} 2\nqedge_qkd_key_bits{link="l",place="theirs"} 3\n'
        'qedge_qkd_key_bits{link="l",place="delivered"} 9\n'
    )
    history = History()
    for now_s, bits in ((0.0, 100), (2.0, 2100), (3.0, 50), (4.0, 1050)):
        note(history, series_of(text % bits), "l", 0.02, now_s)
    assert list(history.rate) == [1000.0, 1000.0], "a counter that fell began anew"
    assert watch.latest(history) == {"secret_bit_s": 1000.0, "qber": 0.02, "stored_bits": 5.0}
    assert spark([0, 1, 8], Terminal()) == " ▁█"
    assert spark([0, 0], Terminal(unicode=False)) == ".."


async def test_the_probe_tells_how_a_key_manager_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with two_kmes(tmp_path) as kmes:
        alice, bob = kmes.people["alice"], kmes.people["bob"]
        files = ("--cert", str(alice.certificate), "--key", str(alice.private_key), "--ca", str(alice.authorities))
        url = kmes.a.service.address
        out = await told(capsys, qkd, "probe", url, *files, "--slave", "bob", "--kme-id", "KME-A")
        assert "0 failed" in out
        assert "0 keys taken" in out
        person = ("--sae", "bob", str(bob.certificate), str(bob.private_key), kmes.b.service.address)
        numbers = ("--case", "56", "--case", "60")
        out = await told(capsys, qkd, "probe", url, *files, "--slave", "bob", *person, *numbers, "--consume", "--json")
        assert [case["verdict"] for case in json.loads(out)["cases"]] == ["passed", "passed"]
        wrong = await told(
            capsys, qkd, "probe", url, *files, "--slave", "bob", "--kme-id", "KME-X", "--case", "12", code=1
        )
        assert "source_KME_ID" in wrong
        with pytest.raises(QedgeError, match="no such kind"):
            await told(capsys, qkd, "probe", url, *files, "--slave", "bob", "--bad", "x", "a", "b")


async def test_a_fleet_has_one_authority_where_its_operator_wants_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse battery\n")
    where = ("--folder", str(tmp_path / "fleet"), "--passphrase-file", str(passphrase))
    with pytest.raises(QedgeError, match="no web authority"):
        await told(capsys, keys, "authority", "sae", "alice", "--out", str(tmp_path / "a"), *where)
    await told(capsys, keys, "authority", "init", *where)
    await told(capsys, keys, "authority", "sae", "alice", "--out", str(tmp_path / "a"), *where)
    await told(capsys, keys, "authority", "kme", "KME A", "--host", "localhost", "--out", str(tmp_path / "k"), *where)
    assert {file.name for file in (tmp_path / "k").iterdir()} == {"KME_A.key", "KME_A.crt", "ca.crt", "revoked.pem"}
    out = await told(capsys, keys, "authority", "revoke", "alice", "--out", str(tmp_path / "k"), *where)
    assert out.startswith("1 certificates revoked")
