"""`qedge check` asks real drivers, each in a worker of its own, what settings they take."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from qedge.cli.configuration import check

pytestmark = pytest.mark.integration


def test_settings_are_checked_by_the_driver_s_own_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        '[drivers.a]\ndriver = "sim_qpu"\n[drivers.a.settings]\nno_such_setting = 1\n'
        '[drivers.b]\ndriver = "nobody_made_this"\n'
    )
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    assert check.run(parser.parse_args([str(file)])) == 78
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{file}:4: drivers.a.settings.no_such_setting: unknown key")
    assert lines[1].startswith(f'{file}:6: drivers.b.driver: is "nobody_made_this"')
