"""The examples for attached devices do what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from qedge.base.ids import is_name

FILE = Path(__file__).resolve().parents[2] / "examples" / "level-control" / "level_control.py"


async def test_the_level_stays_between_the_marks_by_commands_alone() -> None:
    spec = importlib.util.spec_from_file_location("level_control", FILE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    assert is_name(example.NAME)
    tank = await example.main(steps=120)
    # a valve that nobody commands would leave the tank empty or full
    assert min(tank.levels[20:]) > 3.0
    assert max(tank.levels[20:]) < 7.0
