"""The commands of an authority that look after certificates, as a person types them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from qedge.base.errors import Exit
from qedge.cli.main import main
from qedge.crypto.authority import found
from qedge.crypto.authority_files import AuthorityFolder
from qedge.crypto.sealed_file import Cost

PASSPHRASE = "correct horse battery"


@pytest.fixture
def folder(tmp_path: Path) -> AuthorityFolder:
    ledger, root, seed = found("home", level=3, utc_ns=time.time_ns(), random_bytes=os.urandom)
    made = AuthorityFolder(tmp_path / "fleet")
    made.create(ledger, root, seed, PASSPHRASE, os.urandom, Cost(4, 1, 1))
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    return made


def typed(folder: AuthorityFolder, *words: str) -> int:
    where = ["--folder", str(folder.path), "--passphrase-file", str(folder.path.parent / "passphrase"), "--json"]
    return main(["fleet", *words, *where])


def test_a_new_issuing_key_is_made_with_the_root(folder: AuthorityFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before = folder.ledger().issuing
    assert typed(folder, "reissue") == 0
    assert json.loads(capsys.readouterr().out) == {"fleet": "home"}
    assert folder.ledger().issuing != before
    folder.open(PASSPHRASE)


def test_without_the_root_no_issuing_key_is_made(folder: AuthorityFolder) -> None:
    (folder.path / "root.sealed").unlink()
    before = folder.ledger().issuing
    assert typed(folder, "reissue") == Exit.IO
    assert folder.ledger().issuing == before


def test_a_renewer_that_does_not_know_the_broker_says_so(
    folder: AuthorityFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(folder, "renewer") == Exit.USAGE
    assert "broker.toml" in capsys.readouterr().err
