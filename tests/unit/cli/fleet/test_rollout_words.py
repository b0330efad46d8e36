"""Words to roll-outs count in the order in which they were said, whoever carries the roll-out meanwhile."""

from __future__ import annotations

from pathlib import Path

from qedge.cli.main import main
from qedge.client.fleet_tool.operator_folder import OperatorFolder
from qedge.client.fleet_tool.rollout_file import RolloutFile, read_rollout
from qedge.client.fleet_tool.rollout_plan import Order, RolloutPlan, Said, Word

ID = "00000000-0000-7000-8000-000000000001"


def test_a_word_that_nobody_took_counts_before_a_later_one_and_not_after_it(tmp_path: Path) -> None:
    folder = OperatorFolder(tmp_path)
    path = folder.rollout_path(ID)
    RolloutFile.create(path, RolloutPlan(ID, "home", "ann", Order("update"), (("a",),), 1)).close()
    # said while a program carried it that ended before it looked
    folder.leave_word(ID, Said(2, Word.RESUME, "ann"))
    assert main(["fleet", "rollout", "pause", ID, "--operator-folder", str(tmp_path)]) == 0
    assert folder.take_word(ID) is None
    assert read_rollout(path).paused
