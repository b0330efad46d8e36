from __future__ import annotations

import argparse
from pathlib import Path

import pytest

import qedge.config
from qedge.cli.box import doctor


def test_a_look_at_the_box_reads_the_configuration_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    check_config = qedge.config.check_config

    def counted(path: str, *, state_dir: str) -> qedge.config.Verdict:
        read.append(path)
        return check_config(path, state_dir=state_dir)

    monkeypatch.setattr("qedge.config.check_config", counted)
    file = tmp_path / "agent.toml"
    file.write_text("")
    looked = doctor.look(argparse.Namespace(socket="", config=str(file), state_dir=str(tmp_path)))
    assert read == [str(file)]
    assert looked.socket == str(tmp_path / "run" / "qedge.sock")
    assert not looked.report.running
