"""`qedge update` says what is here and refuses what it must."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from qedge.cli.main import main
from qedge.fleet.update.fake import install
from qedge.fleet.update.model import Journal
from qedge.wire.update import Outcome, UpdateReport
from tests.unit.fleet.update.bundles import Site, make, make_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Make a box with one version."""
    return make_site(tmp_path)


def _status(site: Site, *more: str) -> int:
    layout = site.disk.layout
    return main(["update", "status", "--root", str(layout.root), "--state", str(layout.state), *more])


def test_a_fresh_box_has_one_version(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert _status(site, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"current": "0.1.0", "before": "", "slot": "a", "under_way": "", "last": None}


def test_everything_about_updates_is_said(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    install(site.disk.layout.slot("b"), "0.0.9")
    site.disk.write_journal(Journal("x", "taken.qup", "", "a", "b", version="0.2.0"))
    report = UpdateReport("x", Outcome.ROLLED_BACK, "0.1.5", "0.1.0", 1, "update.rolled_back", "It\x1b[31m hung.")
    site.disk.write_report(report)
    assert _status(site) == 0
    said = capsys.readouterr().out
    assert "0.0.9" in said
    assert "0.2.0 requested" in said
    assert "0.1.5 rolled-back It [31m hung." in said


def test_a_box_without_slots_is_told_how_to_get_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["update", "status", "--root", str(tmp_path)]) == 78
    assert "update.no_slots" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["apply", "x.qup"], ["back"]])
def test_only_root_changes_the_program(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["update", *words]) == 77
    assert "sudo" in capsys.readouterr().err


def test_a_bundle_is_checked_with_the_second_signature_too(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make(site.work, site.secret)  # its second signature is the tests' fake
    assert main(["update", "check", str(bundle), "--keys", str(site.disk.layout.keys)]) == 77
    assert "SLH-DSA" in capsys.readouterr().err


def test_a_key_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "release.sealed"
    secret.write_text("the only one")
    assert main(["update", "key", str(secret), str(tmp_path / "release.json")]) == 64
    assert secret.read_text() == "the only one"
    assert "there already" in capsys.readouterr().err
