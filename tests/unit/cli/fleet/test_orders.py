"""What the command line says of operators and of what they ordered."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from qedge.cli import main
from qedge.cli.fleet.orders import show_lines
from qedge.crypto.authority import newest
from qedge.crypto.authority_files import AuthorityFolder
from qedge.crypto.model import Role
from qedge.crypto.operator_files import read_operator
from qedge.crypto.trust import Trust
from qedge.web.orders.fake import ENDED
from qedge.wire.commands import OperatorRole
from tests.unit.crypto.test_authority import CHEAP, PASSPHRASE, make


def test_a_command_is_shown_with_who_ordered_it_when_and_why_it_failed() -> None:
    text = "\n".join(show_lines(ENDED))
    assert "drain  successful" in text
    assert "olga" in text
    assert "serial 7" in text
    failed = msgspec.structs.replace(
        ENDED, state="failed", code="order.role", reason="No.\x1b[31m", approvals=("sue",), note="why"
    )
    text = "\n".join(show_lines(failed))
    assert "[order.role]" in text
    assert "approved by sue" in text
    assert "note: why" in text
    assert "\x1b" not in text
    running = msgspec.structs.replace(ENDED, state="executing", step="2 jobs left", progress=0.5, ended_utc_ns=0)
    assert "  2 jobs left (50%)" in show_lines(running)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    made = make()
    folder = AuthorityFolder(tmp_path / "authority")
    import os

    from qedge.crypto.authority import RootSecret

    folder.create(made.ledger, RootSecret(b"x" * 32), made._key.seed, PASSPHRASE, os.urandom, CHEAP)
    (tmp_path / "words").write_text(PASSPHRASE)
    return folder.path


def call(authority: Path, *words: str) -> int:
    asked = ["--folder", str(authority), "--passphrase-file", str(authority.parent / "words")]
    return main.main(["operator", *words, *asked])


def test_an_operator_gets_a_sealed_file_is_listed_and_can_be_revoked(
    authority: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = authority.parent / "words"
    file = authority.parent / "olga.operator"
    new = ("new", "olga", "--role", "security", "--role", "viewer", "--days", "30", "--out", str(file))
    assert call(authority, *new, "--operator-passphrase-file", str(words), "--json") == 0
    assert json.loads(capsys.readouterr().out)["roles"] == ["security", "viewer"]
    identity = read_operator(file, PASSPHRASE)
    trust = Trust(identity.anchor, "fleet")
    member = trust.read(identity.chain)
    assert member.roles == {OperatorRole.SECURITY, OperatorRole.VIEWER}
    assert member.key_id == identity.key.key_id
    # neither the file nor the name is given away twice
    assert call(authority, *new, "--operator-passphrase-file", str(words)) == 73
    assert call(authority, "new", "olga", "--out", f"{file}2", "--operator-passphrase-file", str(words)) != 0
    capsys.readouterr()
    assert call(authority, "list") == 0
    out = capsys.readouterr().out
    assert "olga" in out
    assert "security viewer" in out
    taken: list[bytes] = []
    monkeypatch.setattr("qedge.cli.fleet.operators._hand_over", lambda _args, signed: taken.append(signed))
    assert call(authority, "revoke", "olga", "--reason", "left") == 0
    trust.take_revocations(taken[0], 1)
    assert trust.is_revoked(identity.key.key_id)
    assert newest(AuthorityFolder(authority).ledger(), Role.OPERATOR)[0].reason == "left"
    assert call(authority, "list") == 0
    assert "revoked left" in capsys.readouterr().out
