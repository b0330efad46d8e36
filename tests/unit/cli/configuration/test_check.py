"""Claims about `qedge check`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from qedge.cli.configuration import check


def _run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    return check.run(parser.parse_args(["--no-drivers", *words]))


def test_a_sound_file_is_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("[log]\nlevel = 'debug'\n")
    assert _run(str(file)) == 0
    assert capsys.readouterr().out == f"ok ({file})\n"


def test_faults_are_listed_one_a_line_with_their_place_and_end_in_exit_code_78(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("[log]\nlevel = 'loud'\n\n[http]\nport = 'x'\nprot = 1\n")
    assert _run(str(file)) == 78
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[:2] for line in lines[:3]] == [
        [f"{file}:2", "log.level"],
        [f"{file}:5", "http.port"],
        [f"{file}:6", "http.prot"],
    ]
    assert lines[3] == "3 faults"


def test_json_carries_the_same_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("[http]\nport = 70000\n")
    assert _run(str(file), "--json") == 78
    answer = json.loads(capsys.readouterr().out)
    assert answer == {
        "ok": False,
        "files": [str(file)],
        "faults": [
            {
                "file": str(file),
                "line": 2,
                "column": 0,
                "key": "http.port",
                "problem": "is 70000",
                "expected": "a whole number, 0 to 65535",
            }
        ],
    }


def test_no_configuration_at_all_is_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(tmp_path)) == 0
    assert "all defaults" in capsys.readouterr().out
